/**
 * Random operations against a model that is written the slow way: after every step the interrupt
 * lines, the pending registers and the status registers must be what the visible state demands.
 */
import assert from "node:assert/strict";
import fc from "fast-check";
import { CpuLayout, LINE } from "../../../src/arm/arch/cpu_state.ts";
import { GICD, GICR_SGI, lrFields } from "../../../src/arm/arch/gic.ts";
import type { LrFields } from "../../../src/arm/arch/gic.ts";
import { R, type SysregName, SYSREGS } from "../../../src/arm/arch/sysregs.ts";
import type { InterruptView } from "../../../src/arm/gic/controller.ts";
import { Machine, SPURIOUS } from "./machine.ts";

const CPUS = 3;
const INTIDS = [0, 7, 15, 16, 25, 27, 31, 32, 33, 63, 64, 95];

/** What both interfaces decide by. */
interface Interface {
  readonly bpr: readonly [number, number];
  readonly cbpr: boolean;
  readonly pmr: number;
  readonly ap: number;
}

interface Candidate {
  readonly intid: number;
  readonly group: 0 | 1;
  readonly priority: number;
}

/** The running priority, by counting up from the highest. */
function running(ap: number): number {
  for (let level = 0; level < 32; level++) if ((ap >>> level) & 1) return 8 * level;
  return 256;
}

/** How many group priority levels a priority lies from the top, in units of its group's step. */
function level(i: Interface, group: 0 | 1, priority: number): number {
  const step = group === 0 || i.cbpr ? 2 ** (i.bpr[0] + 1) : 2 ** i.bpr[1];
  return Math.floor(priority / step);
}

function mayPreempt(i: Interface, c: Candidate): boolean {
  if (c.priority >= i.pmr) return false;
  const now = running(i.ap);
  return now === 256 || level(i, c.group, c.priority) < level(i, c.group, now);
}

/** First of the candidates by priority, then by position. */
function highest<T extends Candidate>(candidates: T[]): T | undefined {
  return candidates.reduce<T | undefined>(
    (best, c) => best && best.priority <= c.priority ? best : c,
    undefined,
  );
}

function physicalInterface(m: Machine, cpu: number): Interface {
  const read = (name: SysregName): number => m.icc(name, undefined, cpu);
  const ctlr = read("ICC_CTLR_EL1");
  const { state } = m.gic.cpuInterface(cpu);
  return {
    bpr: [state.bpr0, state.bpr1],
    cbpr: (ctlr & 1) !== 0,
    pmr: read("ICC_PMR_EL1"),
    ap: (read("ICC_AP0R0_EL1") | read("ICC_AP1R0_EL1")) >>> 0,
  };
}

function checkPhysical(m: Machine, cpu: number): void {
  const enabledGroups = m.d(GICD.CTLR) & (m.icc("ICC_IGRPEN0_EL1", undefined, cpu) |
    (m.icc("ICC_IGRPEN1_EL1", undefined, cpu) << 1));
  const awake = m.r(0x14, undefined, cpu) === 0;
  const candidates = INTIDS.map((intid) => m.gic.interrupt(cpu, intid))
    .filter((v): v is InterruptView => v !== undefined)
    .filter((v) => v.enabled && v.pending && !v.active && v.target === cpu)
    .filter((v) => awake && (enabledGroups >> v.group) & 1);
  const best = highest(candidates);
  const signalled = best && mayPreempt(physicalInterface(m, cpu), best) ? best : undefined;
  const expected = signalled ? (signalled.group === 1 ? LINE.IRQ : LINE.FIQ) : 0;
  assert.equal((m.cpus[cpu]?.irqLines ?? 0) & (LINE.IRQ | LINE.FIQ), expected, `CPU ${cpu} lines`);
  for (const group of [0, 1] as const) {
    const hppir = m.icc(`ICC_HPPIR${group}_EL1`, undefined, cpu);
    assert.equal(hppir, best?.group === group ? best.intid : SPURIOUS, `HPPIR${group}`);
  }
}

function listRegisters(m: Machine, cpu: number): LrFields[] {
  return Array.from({ length: m.gic.lrs }, (_, n) => m.lr(n, cpu));
}

function virtualInterface(vmcr: number, ap: number): Interface {
  return {
    bpr: [(vmcr >>> 21) & 7, (vmcr >>> 18) & 7],
    cbpr: (vmcr & 16) !== 0,
    pmr: vmcr >>> 24,
    ap,
  };
}

function checkVirtual(m: Machine, cpu: number): void {
  const vmcr = m.ich("ICH_VMCR_EL2", undefined, cpu);
  const hcr = m.ich("ICH_HCR_EL2", undefined, cpu);
  const ap = (m.ich("ICH_AP0R0_EL2", undefined, cpu) | m.ich("ICH_AP1R0_EL2", undefined, cpu)) >>>
    0;
  const lrs = listRegisters(m, cpu);
  const best = highest(lrs.filter((l) => l.state === "pending" && (vmcr >> l.group) & 1));
  const signalled = best && hcr & 1 && mayPreempt(virtualInterface(vmcr, ap), best);
  const expected = signalled ? (best.group === 1 ? LINE.VIRQ : LINE.VFIQ) : 0;
  assert.equal((m.cpus[cpu]?.irqLines ?? 0) & (LINE.VIRQ | LINE.VFIQ), expected, "virtual lines");
  const waiting = lrs.map((l) => l.state === "invalid" && l.eoi);
  const bits = (of: boolean[]): number => of.reduce((sum, on, n) => sum + (on ? 2 ** n : 0), 0);
  assert.equal(m.ich("ICH_EISR_EL2", undefined, cpu), bits(waiting), "EISR");
  assert.equal(
    m.ich("ICH_ELRSR_EL2", undefined, cpu),
    bits(lrs.map((l) => l.state === "invalid" && !l.eoi)),
    "ELRSR",
  );
  const valid = lrs.filter((l) => l.state !== "invalid").length;
  const misr = [
    waiting.includes(true),
    (hcr & 2) !== 0 && valid < 2,
    (hcr & 4) !== 0 && hcr >>> 27 !== 0,
    (hcr & 8) !== 0 && !lrs.some((l) => l.state === "pending"),
    (hcr & 16) !== 0 && (vmcr & 1) !== 0,
    (hcr & 32) !== 0 && (vmcr & 1) === 0,
    (hcr & 64) !== 0 && (vmcr & 2) !== 0,
    (hcr & 128) !== 0 && (vmcr & 2) === 0,
  ];
  assert.equal(m.ich("ICH_MISR_EL2", undefined, cpu), bits(misr), "MISR");
  const level = (hcr & 1) !== 0 && misr.includes(true);
  assert.equal(m.gic.interrupt(cpu, 25)?.level, level, "maintenance line");
}

function checkAll(m: Machine): void {
  for (let cpu = 0; cpu < CPUS; cpu++) {
    checkPhysical(m, cpu);
    checkVirtual(m, cpu);
  }
}

type Step = (m: Machine) => void;

const cpu = fc.nat(CPUS - 1);
const intid = fc.constantFrom(...INTIDS);
const word = fc.oneof(fc.constantFrom(0, 1, 2, 3, 0xff, 0xffff_ffff), fc.nat(0xffff_ffff));
const group = fc.constantFrom(0 as const, 1 as const);
const priority = fc.constantFrom(0, 0x08, 0x40, 0x47, 0x80, 0xa0, 0xf0, 0xff);
const bitmap = fc.constantFrom(
  "ISENABLER" as const,
  "ICENABLER" as const,
  "ISPENDR" as const,
  "ICPENDR" as const,
  "ISACTIVER" as const,
  "ICACTIVER" as const,
);

const physicalSteps: fc.Arbitrary<Step>[] = [
  fc.tuple(cpu, intid, fc.boolean()).map(([c, i, level]) => (m) =>
    i < 32 ? i !== 25 && m.gic.setPpi(c, i, level) : m.gic.setSpi(i, level)
  ),
  fc.tuple(bitmap, intid, cpu).map(([b, i, c]) => (m) => m.set(b, i, c)),
  fc.tuple(intid, priority, group, cpu).map(([i, p, g, c]) => (m) => m.enable(i, p, g, c)),
  fc.tuple(word, cpu).map(([w, c]) => (m) => m.r(GICR_SGI.ICFGR1, w, c)),
  word.map((w) => (m) => m.d(GICD.ICFGR + 8, w)),
  fc.nat(15).map((w) => (m) => m.d(GICD.CTLR, w & 3 | (w > 3 ? 3 : 0))),
  fc.tuple(cpu, fc.nat(9)).map(([c, w]) => (m) => m.r(0x14, w === 0 ? 2 : 0, c)),
  fc.tuple(intid, word).map(([i, w]) => (m) => m.d(GICD.IROUTER + 8 * i, w & 0x8000_0003)),
  fc.tuple(cpu, word, fc.constantFrom(0, 0x100)).map(([c, w, hi]) => (m) =>
    m.icc("ICC_SGI1R_EL1", (w & 0x0f00_0007) >>> 0, c, hi)
  ),
  fc.tuple(cpu, group).map(([c, g]) => (m) => acknowledgePhysical(m, c, g)),
  fc.tuple(cpu, group, intid).map(([c, g, i]) => (m) => m.icc(`ICC_EOIR${g}_EL1`, i, c)),
  fc.tuple(cpu, intid).map(([c, i]) => (m) => m.icc("ICC_DIR_EL1", i, c)),
  fc.tuple(
    cpu,
    fc.constantFrom<SysregName[]>(
      "ICC_PMR_EL1",
      "ICC_BPR0_EL1",
      "ICC_BPR1_EL1",
      "ICC_CTLR_EL1",
      "ICC_IGRPEN0_EL1",
      "ICC_IGRPEN1_EL1",
      "ICC_AP1R0_EL1",
    ),
    word,
  ).map(([c, name, w]) => (m) => m.icc(name, w, c)),
];

/** IAR: what comes must have been deliverable, and raises the running priority. */
function acknowledgePhysical(m: Machine, c: number, g: 0 | 1): void {
  const lines = m.cpus[c]?.irqLines ?? 0;
  const expected = m.icc(`ICC_HPPIR${g}_EL1`, undefined, c);
  const before = m.icc("ICC_RPR_EL1", undefined, c);
  const got = m.icc(`ICC_IAR${g}_EL1`, undefined, c);
  assert.equal(got, lines & (g === 1 ? LINE.IRQ : LINE.FIQ) ? expected : SPURIOUS);
  if (got === SPURIOUS) return;
  const view = m.gic.interrupt(c, got);
  assert.ok(view?.active && view.enabled && !view.latch && view.group === g);
  assert.ok(m.icc("ICC_RPR_EL1", undefined, c) < before, "the running priority rises");
}

/** The same for ICV_IAR. */
function acknowledgeVirtual(m: Machine, c: number, g: 0 | 1): void {
  const lines = m.cpus[c]?.irqLines ?? 0;
  const expected = m.icv(`ICC_HPPIR${g}_EL1`, undefined, c);
  const before = listRegisters(m, c);
  const got = m.icv(`ICC_IAR${g}_EL1`, undefined, c);
  assert.equal(got, lines & (g === 1 ? LINE.VIRQ : LINE.VFIQ) ? expected : SPURIOUS);
  const changed = listRegisters(m, c).filter((l, n) => l.state !== before[n]?.state);
  assert.deepEqual(changed.map((l) => [l.intid, l.state]), got < 1020 ? [[got, "active"]] : []);
}

const virtualSteps: fc.Arbitrary<Step>[] = [
  fc.record({
    c: cpu,
    n: fc.nat(3),
    id: fc.constantFrom(27, 33, 34, 40, 1022, 8192),
    p: priority,
    g: group,
    state: fc.constantFrom("invalid" as const, "pending", "pending", "active", "both"),
    eoi: fc.boolean(),
    hw: fc.option(fc.constantFrom(27, 33, 95, 1023, 8191), { nil: undefined }),
  }).map(({ c, n, id, p, g, state, eoi, hw }) => (m) => {
    const tied = hw === undefined ? { eoi } : { hw };
    m.writeLr(n % m.gic.lrs, { intid: id, priority: p, group: g, state, ...tied }, c);
  }),
  fc.tuple(cpu, group).map(([c, g]) => (m) => acknowledgeVirtual(m, c, g)),
  fc.tuple(cpu, group, fc.constantFrom(27, 33, 34, 40, 1023, 8192)).map(([c, g, i]) => (m) =>
    m.icv(`ICC_EOIR${g}_EL1`, i, c)
  ),
  fc.tuple(cpu, fc.constantFrom(27, 33, 34, 40)).map(([c, i]) => (m) => m.icv("ICC_DIR_EL1", i, c)),
  fc.tuple(
    cpu,
    fc.constantFrom<SysregName[]>(
      "ICC_PMR_EL1",
      "ICC_BPR0_EL1",
      "ICC_BPR1_EL1",
      "ICC_CTLR_EL1",
      "ICC_IGRPEN0_EL1",
      "ICC_IGRPEN1_EL1",
      "ICC_AP0R0_EL1",
    ),
    word,
  ).map(([c, name, w]) => (m) => m.icv(name, w, c)),
  fc.tuple(cpu, word).map(([c, w]) => (m) => m.ich("ICH_VMCR_EL2", w, c)),
  fc.tuple(cpu, word).map(([c, w]) => (m) => m.ich("ICH_HCR_EL2", (w | 1) >>> 0, c)),
  cpu.map((c) => (m) => m.ich("ICH_HCR_EL2", 0, c)),
];

function runSteps(steps: readonly Step[], lrs: number): void {
  const m = new Machine({ cpus: CPUS, lrs, spis: 64 });
  m.cpus.forEach((_, c) => m.ich("ICH_VMCR_EL2", 0xff00_0003, c));
  for (const step of steps) {
    step(m);
    checkAll(m);
  }
}

const lrCount = fc.constantFrom(1, 2, 4);

Deno.test("random physical operations: lines and HPPIR follow from the visible state", () => {
  const steps = fc.array(fc.oneof(...physicalSteps), { minLength: 20, maxLength: 80 });
  fc.assert(fc.property(steps, (s) => runSteps(s, 1)), { numRuns: 60, seed: 1 });
});

Deno.test("random virtual operations: lines, EISR, ELRSR, MISR follow from the list registers", () => {
  const steps = fc.array(fc.oneof(...virtualSteps), { minLength: 20, maxLength: 80 });
  fc.assert(fc.property(steps, lrCount, runSteps), { numRuns: 60, seed: 2 });
});

Deno.test("random operations on both interfaces together", () => {
  const steps = fc.array(fc.oneof(...physicalSteps, ...virtualSteps), { maxLength: 100 });
  fc.assert(fc.property(steps, lrCount, runSteps), { numRuns: 40, seed: 3 });
});

Deno.test("any access of any size anywhere: no throw, and nothing written outside the GIC", () => {
  const registers = SYSREGS.filter((r) => r.name.startsWith("IC"));
  const access = fc.record({
    kind: fc.constantFrom("dist", "redist", "register"),
    offset: fc.nat(0x6_1000),
    near: fc.constantFrom(0, 0x100, 0x200, 0x400, 0xc00, 0x6000, 0x1_0000, 0x1_0400),
    size: fc.constantFrom(1, 2, 4, 8),
    lo: word,
    hi: word,
    c: cpu,
    register: fc.constantFrom(...registers),
  });
  fc.assert(
    fc.property(fc.array(access, { maxLength: 80 }), (accesses) => {
      const m = new Machine({ cpus: CPUS, lrs: 16 });
      const { gic } = m;
      const guard = m.arena.reserve(64);
      const end = m.cpus.map((p) => m.memory.u8.slice(p.base, p.base + CpuLayout.offset.irqLines));
      for (const a of accesses) {
        const at = a.near + (a.near ? a.offset % 0x200 : a.offset);
        if (a.kind === "dist") {
          gic.distWrite(at & 0xffff, a.size, a.lo, a.hi);
          checkWord(gic.distRead(at & 0xffff, a.size));
        } else if (a.kind === "redist") {
          gic.redistWrite(at, a.size, a.lo, a.hi);
          checkWord(gic.redistRead(at, a.size));
        }
        if (a.kind === "register" && gic.implemented(a.register.index)) {
          useRegister(m, a.register.index, a);
        }
        for (let c = 0; c < CPUS; c++) checkVirtual(m, c);
      }
      assert.ok(m.memory.u8.slice(guard, guard + 64).every((b) => b === 0));
      m.cpus.forEach((p, n) =>
        assert.deepEqual(m.memory.u8.slice(p.base, p.base + CpuLayout.offset.irqLines), end[n])
      );
    }),
    { numRuns: 60, seed: 4 },
  );
});

function useRegister(m: Machine, reg: number, a: { c: number; lo: number; hi: number }): void {
  const { gic } = m;
  const icc = (SYSREGS[reg]?.name ?? "").startsWith("ICC");
  if (icc) {
    gic.iccWrite(a.c, reg, a.lo, a.hi);
    checkWord(gic.iccRead(a.c, reg));
    if (!gic.isVirtualizable(reg)) return;
    gic.icvWrite(a.c, reg, a.lo, a.hi);
    checkWord(gic.icvRead(a.c, reg));
  } else {
    gic.ichWrite(a.c, reg, a.lo, a.hi);
    checkWord(gic.ichRead(a.c, reg));
    checkWord(gic.hi);
    if (reg === R.ICH_LR0_EL2) assert.equal(lrFields(a.lo, a.hi).intid, a.lo);
  }
}

function checkWord(value: number): void {
  assert.ok(Number.isInteger(value) && value >= 0 && value <= 0xffff_ffff, `${value}`);
}
