import assert from "node:assert/strict";
import { GICD, GICD_CTLR, GICR, GICR_SGI } from "../../src/arm/arch/gic.ts";
import { R } from "../../src/arm/arch/sysregs.ts";
import {
  EL2_EXCEPTION,
  El2Port,
  FP_STATE_BYTES,
  GPR_STATE_BYTES,
  PORT_COST,
  PORT_KINDS,
  type PortKind,
} from "../../src/arm/el2_port.ts";
import { El2Storage } from "../../src/arm/el2_storage.ts";
import { InternalError } from "../../src/base/errors.ts";
import { E2H, Machine, RAM, RW, TGE, VBAR2, VM } from "./core_fixture.ts";

function host(): { m: Machine; port: El2Port } {
  const m = new Machine();
  m.set({ HCR_EL2: RW | E2H | TGE, CPTR_EL2: 3n << 20n });
  return { m, port: new El2Port(m.core(), m.arena) };
}

const counted = (port: El2Port): Partial<Record<PortKind, number>> =>
  Object.fromEntries(PORT_KINDS.filter((k) => port.counters[k]).map((k) => [k, port.counters[k]]));

Deno.test("registers are reached as by EL2's instructions, redirection included", () => {
  const { m, port } = host();
  const { regs } = m.core();
  port.write(R.MAIR_EL1, 0x1234, 0xabcd);
  assert.equal(regs.get("MAIR_EL2"), 0xabcd_0000_1234n);
  port.write64(R.MAIR_EL12, 0x5555_0000_0001n);
  assert.equal(regs.get("MAIR_EL1"), 0x5555_0000_0001n);
  assert.deepEqual([port.readLo(R.MAIR_EL12), port.readHi(R.MAIR_EL12)], [1, 0x5555]);
  assert.equal(port.read64(R.MAIR_EL2), 0xabcd_0000_1234n);
  port.writeNum(R.ELR_EL2, 0x12_3456_789a);
  assert.equal(port.readNum(R.ELR_EL2), 0x12_3456_789a);
  port.write(R.VTTBR_EL2, 0xffff_ffff, 0xffff_ffff);
  assert.equal(port.readHi(R.VTTBR_EL2), 0xff_ffff);
});

Deno.test("save and restore go between register and memory", () => {
  const { m, port } = host();
  const at = m.at(RAM + 0x8000);
  m.memory.st64(at, 0x1122_3344_5566_7788n);
  port.restore(R.TPIDR_EL1, at);
  port.save(R.TPIDR_EL1, at + 8);
  assert.equal(m.memory.ld64(at + 8), 0x1122_3344_5566_7788n);
  for (let n = 0; n < 31; n++) m.setX(n, BigInt(n * 3));
  port.saveGprs(at);
  for (let n = 0; n < 32; n++) m.setX(n, 0n);
  port.restoreGprs(at);
  assert.deepEqual([m.x(0), m.x(30), m.x(31)], [0n, 90n, 0n]);
  assert.equal(m.memory.ld64(at + GPR_STATE_BYTES - 8), 90n);
});

Deno.test("FP state with its status registers; InternalError while trapped", () => {
  const { m, port } = host();
  const { cpu } = m.core();
  const at = m.at(RAM + 0x8000);
  m.memory.st64(cpu.vreg + 31 * 16 + 8, 0xfeedn);
  cpu.fpsr = 3;
  cpu.fpcr = 0x40_0000;
  port.saveFp(at);
  assert.equal(m.memory.ld32(at + FP_STATE_BYTES - 4), 0x40_0000);
  m.memory.st64(cpu.vreg + 31 * 16 + 8, 0n);
  cpu.fpsr = 0;
  port.restoreFp(at);
  assert.deepEqual([m.memory.ld64(cpu.vreg + 31 * 16 + 8), cpu.fpsr], [0xfeedn, 3]);
  port.write(R.CPTR_EL2, 0, 0);
  assert.throws(() => port.saveFp(at), InternalError);
});

Deno.test("every operation is counted by kind, costs time and is logged", () => {
  const { m, port } = host();
  const log: string[] = [];
  port.log = (kind, operand) => log.push(`${kind} ${operand}`);
  const before = m.clock.now();
  port.readLo(R.ESR_EL2);
  port.write(R.HCR_EL2, 0x8800_0000, 4);
  port.save(R.TTBR0_EL12, m.at(RAM));
  port.restore(R.TTBR0_EL12, m.at(RAM));
  port.write(R.ICH_LR3_EL2, 0, 0);
  port.readLo(R.ICH_VTR_EL2);
  port.write(R.CNTV_CTL_EL02, 0, 0);
  port.counter();
  port.tlbi("VMALLS12E1IS");
  port.ic("IALLUIS");
  assert.equal(port.at("S1E1R", RAM, 0), true);
  port.isb();
  port.dsb();
  port.dmb();
  port.sev();
  port.clearExclusive();
  port.trap();
  assert.deepEqual(counted(port), {
    sysregRead: 1,
    sysregWrite: 1,
    sysregSave: 1,
    sysregRestore: 1,
    timerRead: 1,
    timerWrite: 1,
    gicRead: 1,
    lrWrite: 1,
    isb: 1,
    dsb: 1,
    dmb: 1,
    tlbi: 1,
    ic: 1,
    at: 1,
    sev: 1,
    clearExclusive: 1,
    trap: 1,
  });
  const cost = Object.entries(counted(port)).reduce(
    (sum, [kind, n]) => sum + PORT_COST[kind as PortKind] * n,
    0,
  );
  assert.deepEqual([m.clock.now() - before, port.counters.ns], [cost, cost]);
  assert.equal(log.length, 17);
  assert.equal(log[0], `sysregRead ${R.ESR_EL2}`);
  assert.equal(log[8], "tlbi VMALLS12E1IS");
});

Deno.test("a list register write reaches the virtual interface", () => {
  const { port } = host();
  port.write(R.ICH_HCR_EL2, 1, 0);
  port.write(R.ICH_LR0_EL2, 40, 0x5000_0000);
  assert.equal(port.readHi(R.ICH_LR0_EL2), 0x5000_0000);
  assert.equal(port.readLo(R.ICH_ELRSR_EL2) & 1, 0);
});

Deno.test("counters go on beyond 32 bits", () => {
  const { m, port } = host();
  for (const word of ["isb", "ns"] as const) port.counters[word] = 2 ** 32 - 4;
  const before = m.clock.now();
  for (let n = 0; n < 8; n++) port.isb();
  const { isb: cost } = PORT_COST;
  const { isb, ns } = port.counters;
  assert.deepEqual([isb, ns, m.clock.now()], [
    2 ** 32 + 4,
    2 ** 32 - 4 + 8 * cost,
    before + 8 * cost,
  ]);
});

/** An SGI sent, acknowledged, ended and deactivated. */
function sgiBy(direct: boolean, el: 1 | 2): unknown[] {
  const { m, port } = el === 2 ? host() : hostAtEl1();
  const ended: (boolean | undefined)[] = [];
  m.core().platform.hooks.onEndSlice = (_, sameTimers) => void ended.push(sameTimers);
  const log: string[] = [];
  port.log = (kind, operand) => log.push(`${kind} ${operand}`);
  const write = (reg: number, lo: number, hi: number) =>
    direct ? port.writeIcc(reg, lo, hi) : port.write(reg, lo, hi);
  const read = (reg: number) => direct ? port.readIcc(reg) : port.readLo(reg);
  port.write(R.ICC_PMR_EL1, 0xf0, 0);
  port.write(R.ICC_CTLR_EL1, 2, 0);
  port.write(R.ICC_IGRPEN1_EL1, 1, 0);
  m.gic.distWrite(GICD.CTLR, 4, GICD_CTLR.ARE | GICD_CTLR.EnableGrp1);
  m.gic.redistWrite(GICR.WAKER, 4, 0);
  m.gic.redistWrite(GICR_SGI.IGROUPR0, 4, 1 << 5);
  m.gic.redistWrite(GICR_SGI.ISENABLER0, 4, 1 << 5);
  const seen: unknown[] = [];
  const look = () => {
    const { latch, active } = m.gic.interrupt(0, 5) ?? {};
    seen.push([m.core().cpu.irqLines, latch, active, read(R.ICC_RPR_EL1), m.clock.now()]);
  };
  write(R.ICC_SGI1R_EL1, (5 << 24) | 1, 0);
  look();
  seen.push(read(R.ICC_IAR1_EL1));
  look();
  write(R.ICC_EOIR1_EL1, 5, 0);
  look();
  write(R.ICC_DIR_EL1, 5, 0);
  look();
  seen.push(read(R.ICC_IAR1_EL1));
  return [...seen, log, ended, counted(port)];
}

Deno.test("the interrupt controller's registers do what they do as others are reached", () => {
  for (const el of [1, 2] as const) {
    const direct = sgiBy(true, el);
    assert.deepEqual(direct, sgiBy(false, el));
    assert.deepEqual([direct[1], direct.at(-4)], [5, 1023], `EL${el}`);
  }
});

Deno.test("nothing but the level has a say in them at EL2", () => {
  const storage = new El2Storage(host().m.core());
  for (const e2h of [false, true]) {
    assert.equal(storage.readsAs(R.ICC_IAR1_EL1, e2h), R.ICC_IAR1_EL1);
    for (const reg of [R.ICC_EOIR1_EL1, R.ICC_DIR_EL1, R.ICC_SGI1R_EL1]) {
      assert.equal(storage.writesTo(reg, e2h), reg);
    }
  }
});

Deno.test("what EL2 itself could not do is an InternalError", () => {
  const { m, port } = host();
  assert.throws(() => port.write(R.MIDR_EL1, 0, 0), InternalError);
  assert.throws(() => port.readLo(R.ICH_LR8_EL2), InternalError);
  assert.throws(() => port.readLo(R.SP_EL2), InternalError);
  port.write(R.HCR_EL2, 0x8000_0000, 0);
  assert.throws(() => port.readLo(R.SCTLR_EL12), InternalError);
  // EL1 under stage 2 is a guest's.
  m.set({ HCR_EL2: RW | VM });
  m.enter(1);
  assert.throws(() => port.readLo(R.SCTLR_EL1), InternalError);
  assert.throws(() => port.eret(), InternalError);
  assert.throws(() => port.hvc(), InternalError);
});

/** A host kernel without VHE: at EL1, with no stage 2 under it. */
function hostAtEl1(): { m: Machine; port: El2Port } {
  const m = new Machine();
  m.set({ HCR_EL2: RW });
  m.enter(1);
  return { m, port: new El2Port(m.core(), m.arena) };
}

Deno.test("a host kernel at EL1 reaches what EL1 does, and nothing of EL2", () => {
  const { m, port } = hostAtEl1();
  assert.equal(port.inHost, true);
  port.write(R.VBAR_EL1, 0x4000_0800, 0);
  assert.equal(m.core().regs.get("VBAR_EL1"), 0x4000_0800n);
  port.write(R.ICC_PMR_EL1, 0xf0, 0);
  port.write(R.CNTV_CTL_EL0, 1, 0);
  for (
    const name of ["HCR_EL2", "ICH_LR0_EL2", "ICH_HCR_EL2", "VTTBR_EL2", "CNTVOFF_EL2"] as const
  ) {
    assert.throws(() => port.readLo(R[name]), InternalError, name);
    assert.throws(() => port.write(R[name], 0, 0), InternalError, name);
  }
  assert.throws(() => port.readLo(R.SCTLR_EL12), InternalError);
  port.ic("IALLUIS");
  port.tlbi("VMALLE1IS");
  for (const name of ["ALLE1IS", "ALLE2", "VMALLS12E1IS", "IPAS2E1IS"] as const) {
    assert.throws(() => port.tlbi(name), InternalError, name);
  }
  assert.throws(() => port.at("S12E1R", 0, 0), InternalError);
  assert.throws(() => port.translate(0, 8, false), InternalError);
});

Deno.test("HVC of a host kernel arrives at EL2's vector for lower levels, and ERET goes back", () => {
  const { m, port } = hostAtEl1();
  const { cpu, regs } = m.core();
  cpu.pc = 0xffff_0000_1234n;
  cpu.daif = 0;
  port.setGpr(1, 0x89ab_cdef, 0xffff_0000);
  port.hvc();
  assert.deepEqual([port.el, port.pcLo() >>> 0], [2, VBAR2 + 0x400]);
  assert.equal(regs.get("ESR_EL2"), 0x5a00_0000n);
  assert.equal(regs.get("ELR_EL2"), 0xffff_0000_1238n);
  assert.equal(regs.get("SPSR_EL2"), 5n);
  assert.deepEqual([port.gprLo(1), port.gprHi(1)], [0x89ab_cdef, 0xffff_0000]);
  port.eret();
  assert.deepEqual([port.el, cpu.pc, cpu.daif], [1, 0xffff_0000_1238n, 0]);
  assert.deepEqual(counted(port), { trap: 1, eret: 1 });
});

Deno.test("a pointer that EL2 cannot use is a data abort at its own vector", () => {
  const { m, port } = host();
  m.set({ HCR_EL2: RW });
  const { regs } = m.core();
  // Stage 1 off: physical addresses.
  assert.equal(port.translate(RAM + 0x1008, 8, true), m.at(RAM + 0x1008));
  port.branch(RAM + 0x3000, 0);
  assert.throws(() => port.translate(0x1000, 8, true), (e: unknown) => e === EL2_EXCEPTION);
  assert.equal(port.pcLo(), VBAR2 + 0x200);
  assert.equal(regs.get("FAR_EL2"), 0x1000n);
  assert.equal(regs.get("ELR_EL2"), BigInt(RAM + 0x3000));
  assert.equal(Number(regs.get("ESR_EL2")) >>> 26, 0x25);
});

Deno.test("interrupt masking and ERET", () => {
  const { m, port } = host();
  const { cpu } = m.core();
  cpu.daif = 8;
  const flags = port.irqSave();
  assert.deepEqual([cpu.daif, port.irqsDisabled()], [11, true]);
  port.irqRestore(flags);
  assert.equal(port.irqsDisabled(), false);
  port.irqDisable();
  port.irqEnable();
  assert.equal(cpu.daif, 8);
  port.write(R.HCR_EL2, 0x8000_0000, 4);
  port.writeNum(R.ELR_EL2, RAM + 0x800);
  port.write(R.SPSR_EL2, 0x3c5, 0);
  port.eret();
  assert.deepEqual([cpu.el, cpu.daif, cpu.pc], [1, 15, BigInt(RAM + 0x800)]);
});
