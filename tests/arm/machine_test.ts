/** The machine's run loop, its access from outside, and the roles of its state. */
import assert from "node:assert/strict";
import { HALT, LINE } from "../../src/arm/arch/cpu_state.ts";
import { GICD, GICR, INTID } from "../../src/arm/arch/gic.ts";
import { R, sysreg } from "../../src/arm/arch/sysregs.ts";
import type { CpuCore } from "../../src/arm/cpu.ts";
import { contextSwitched } from "../../src/arm/exceptions.ts";
import { Firmware } from "../../src/arm/firmware.ts";
import { Gicv3 } from "../../src/arm/gic/gicv3.ts";
import { BOARD, Machine } from "../../src/arm/machine.ts";
import type { El2Software, MachineOptions } from "../../src/arm/machine_options.ts";
import { rangesOf } from "../../src/base/struct.ts";
import { checkHashedFields } from "../support/arch_roles.ts";

const RAM = BOARD.ram;

/** Instructions that the programs below are made of. */
const A64 = {
  wfi: 0xd503207f,
  isb: 0xd5033fdf,
  dsb: 0xd5033f9f,
  self: 0x14000000,
  smc: 0xd4000003,
  /** add x0, x0, #1 */
  increment: 0x91000400,
  /** b to `words` from here */
  b: (words: number) => (0x14000000 | (words & 0x3ffffff)) >>> 0,
  movz: (rd: number, imm: number, shift = 0) =>
    (0xd2800000 | ((shift / 16) << 21) | (imm << 5) | rd) >>> 0,
  hvc: (imm: number) => (0xd4000002 | (imm << 5)) >>> 0,
} as const;

function bytesOf(words: readonly number[]): Uint8Array {
  return new Uint8Array(new Uint32Array(words).buffer);
}

function machineWith(words: readonly number[], options: Partial<MachineOptions> = {}): Machine {
  const machine = new Machine({ pcpus: 1, ramSize: 1 << 20, ...options }, new Firmware("smc"));
  machine.writeRam(RAM, bytesOf(words));
  for (let n = 0; n < machine.cores.length; n++) machine.start(n, 2, RAM, 0);
  return machine;
}

function x(machine: Machine, register: number, cpu = 0): number {
  const view = machine.platform.cpus[cpu];
  assert.ok(view);
  return machine.memory.ld53(view.gpr + 8 * register);
}

Deno.test("run ends at the budget, not later than the turns of one round", () => {
  const machine = machineWith([A64.self], { pcpus: 2, quantum: 100 });
  assert.equal(machine.run(1000), "budget");
  assert.equal(machine.insns, 1000);
  assert.equal(machine.run(1), "budget");
  assert.equal(machine.insns, 1200);
  assert.equal(machine.nowNs, 1200, "an instruction is a nanosecond");
  assert.deepEqual(machine.platform.cpus.map((c) => c.insns), [600, 600]);
  assert.equal(machine.turns, 6);
});

Deno.test("run ends at the limit of virtual time, exactly, busy or idle", () => {
  const busy = machineWith([A64.self]);
  assert.equal(busy.run(1e9, 12_345), "limit");
  assert.equal(busy.nowNs, 12_345);
  // cntp_cval_el0 far ahead (x0), cntp_ctl_el0 = 1, wfi
  const idle = machineWith([
    A64.movz(0, 1, 32),
    0xd51be240,
    A64.movz(1, 1),
    0xd51be221,
    A64.wfi,
    A64.self,
  ]);
  assert.equal(idle.run(1e9, 5_000_000), "limit");
  assert.equal(idle.nowNs, 5_000_000);
  assert.equal(idle.insns, 5);
});

Deno.test("run says so when nothing will ever happen", () => {
  const machine = machineWith([A64.wfi, A64.self]);
  assert.equal(machine.run(1e9), "stalled");
  assert.equal(machine.platform.cpus[0]?.halt, HALT.WFI);
});

Deno.test("a machine that was not started is stalled", () => {
  assert.equal(new Machine({ pcpus: 2, ramSize: 65536 }).run(100), "stalled");
});

Deno.test("stepRound gives every CPU one turn, or jumps to what happens next", () => {
  const machine = machineWith([A64.increment, A64.b(-1)], { pcpus: 2 });
  assert.equal(machine.stepRound(7), true);
  assert.deepEqual([x(machine, 0, 0), x(machine, 0, 1)], [4, 4]);
  assert.equal(machine.insns, 14);
  const waiting = machineWith([A64.wfi, A64.self]);
  assert.equal(waiting.stepRound(10), true);
  assert.equal(waiting.stepRound(10), false);
});

Deno.test("power off by PSCI ends the run, and stays until it is taken", () => {
  // movz x0, #0x8400, lsl 16; add x0, x0, #8; smc #0
  const machine = machineWith([A64.movz(0, 0x8400, 16), 0x91002000, A64.smc, A64.self]);
  assert.equal(machine.run(1000), "power");
  assert.equal(machine.power, "off");
  assert.equal(machine.insns, 3);
  assert.equal(machine.run(1000), "power");
  const snapshot = machine.snapshot();
  machine.power = undefined;
  assert.equal(machine.run(1000), "stalled");
  machine.restore(snapshot);
  assert.equal(machine.power, "off");
});

Deno.test("writeRam refuses what is not RAM", () => {
  const machine = machineWith([]);
  const two = new Uint8Array(2);
  assert.throws(() => machine.writeRam(RAM - 1, two), RangeError);
  assert.throws(() => machine.writeRam(RAM + (1 << 20) - 1, two), RangeError);
  assert.throws(() => machine.writeRam(0, two), RangeError);
  machine.writeRam(RAM + (1 << 20) - 2, two);
});

Deno.test("the number of CPUs is checked", () => {
  for (const pcpus of [0, 17]) {
    assert.throws(() => new Machine({ pcpus, ramSize: 65536 }), /physical CPUs/);
  }
});

Deno.test("code written from outside is executed", () => {
  const machine = machineWith([A64.self]);
  machine.run(100);
  machine.writeRam(RAM, bytesOf([A64.increment, A64.self]));
  machine.run(100);
  assert.equal(x(machine, 0), 1);
});

/**
 * At `target` lies `add x0, x0, #1`, executed once, overwritten by a nop, and executed again after
 * `invalidate` (one instruction).
 */
const selfModifying = (invalidate: number): number[] => [
  A64.movz(1, RAM / 65536, 16),
  A64.movz(2, 0x201f),
  // movk x2, #0xd503, lsl 16: x2 = nop
  0xf2baa062,
  // target (word 3): add x0, x0, #1
  A64.increment,
  // str w2, [x1, #12]; dc cvau, x1; dsb sy; invalidate; dsb sy; isb
  0xb9000c22,
  0xd50b7b21,
  A64.dsb,
  invalidate,
  A64.dsb,
  A64.isb,
  // add x3, x3, #1; cmp x3, #3; b.ne target; b .
  0x91000463,
  0xf1000c7f,
  0x54fffee1,
  A64.self,
];

/** SCTLR_EL2.I. */
const SCTLR_I = 1 << 12;

/** Instructions are cached: only maintenance makes a change seen. */
function setCached(machine: Machine): void {
  const core = machine.cores[0] as CpuCore;
  core.regs.setNum(R.SCTLR_EL2, SCTLR_I);
  contextSwitched(core);
}

const INVALIDATIONS = [["IC IVAU", 0xd50b7521], ["IC IALLU", 0xd508751f], [
  "IC IALLUIS",
  0xd508711f,
]] as const;

for (const [name, word] of INVALIDATIONS) {
  Deno.test(`a program that changes itself and says so by ${name} executes what it wrote`, () => {
    const machine = machineWith(selfModifying(word));
    setCached(machine);
    machine.run(200);
    assert.equal(x(machine, 3), 3);
    assert.equal(x(machine, 0), 1);
  });
}

/** As above, without maintenance; x0 counts what was executed: 1 where the nop was seen, 3 where it was not. */
const uncached = (synchronise: readonly number[], sctlr: number): Machine => {
  const words = selfModifying(A64.dsb);
  words.splice(words.indexOf(A64.isb), 1, ...synchronise);
  // b.ne target
  const back = words.indexOf(0x54fffee1);
  words[back] = (0x54000001 | (((3 - back) & 0x7ffff) << 5)) >>> 0;
  const machine = machineWith(words);
  const core = machine.cores[0] as CpuCore;
  core.regs.setNum(R.SCTLR_EL2, sctlr);
  // Synchronous exceptions return to the next instruction: eret
  core.regs.setNum(R.VBAR_EL2, RAM + 0x800);
  machine.writeRam(RAM + 0x800 + 0x200, bytesOf([0xd69f03e0]));
  contextSwitched(core);
  machine.run(200);
  assert.equal(x(machine, 3), 3);
  return machine;
};

Deno.test("with SCTLR.I clear a changed program is seen after ISB and after an exception, without maintenance", () => {
  assert.equal(x(uncached([A64.isb], 0), 0), 1);
  assert.equal(x(uncached([0xd4000001], 0), 0), 1); // svc
});

Deno.test("with SCTLR.I set, or without synchronisation, what was predecoded is executed", () => {
  assert.equal(x(uncached([A64.isb], SCTLR_I), 0), 3);
  assert.equal(x(uncached([A64.dsb], 0), 0), 3);
});

Deno.test("what generated code reads of the caches is what the registers say", () => {
  // mrs x1, ctr_el0; mrs x2, dczid_el0
  const machine = machineWith([0xd53b0021, 0xd53b00e2, A64.self]);
  machine.run(10);
  const { sysregs } = machine.cores[0] as CpuCore;
  assert.ok(sysregs.read(sysreg("CTR_EL0").key, 0));
  assert.equal(x(machine, 1), sysregs.lo >>> 0);
  assert.ok(sysregs.read(sysreg("DCZID_EL0").key, 0));
  assert.equal(x(machine, 2), sysregs.lo);
});

Deno.test("an SError from outside is taken when it is let in, once", () => {
  const machine = machineWith([A64.increment, A64.b(-1)]);
  const core = machine.cores[0] as CpuCore;
  core.regs.setNum(R.VBAR_EL2, RAM + 0x800);
  machine.writeRam(RAM + 0x800 + 0x380, bytesOf([A64.self]));
  machine.raiseSError(0);
  machine.run(100);
  assert.equal(core.regs.lo(R.ESR_EL2), 0, "nothing sends it to EL2");
  assert.equal(core.cpu.irqLines, LINE.SERROR);
  core.regs.setNum(R.HCR_EL2, 0x8000_0000 + 0x20);
  core.cpu.daif = 0;
  contextSwitched(core);
  machine.run(100);
  assert.equal(core.cpu.irqLines, 0);
  assert.equal(core.regs.lo(R.ESR_EL2) >>> 0, 0xbe00_0000);
  assert.equal(core.cpu.pc, BigInt(RAM + 0x800 + 0x380));
});

Deno.test("IC IVAU drops the line of the address, not what was predecoded before it was written back", () => {
  // As above, but what is written back at the end is what was there: the record must be good again.
  const words = selfModifying(0xd50b7521);
  const machine = machineWith(words);
  setCached(machine);
  machine.run(200);
  machine.writeRam(RAM, bytesOf(words));
  machine.start(0, 2, RAM, 0);
  machine.run(200);
  assert.equal(x(machine, 0), 1);
});

Deno.test("more pages of code than are kept predecoded", () => {
  const pages = 9;
  const words = new Array<number>(pages * 1024).fill(A64.increment);
  words.push(A64.b(-pages * 1024));
  for (const codePages of [1, 2, 3, 1024]) {
    const machine = machineWith(words, { codePages });
    machine.run(25_000);
    const rounds = Math.floor(machine.insns / words.length);
    assert.equal(x(machine, 0), machine.insns - rounds, `${codePages} pages kept`);
  }
});

Deno.test("any split into runs gives the same states", () => {
  const program = [A64.increment, A64.b(-1)];
  const whole = machineWith(program, { pcpus: 3, quantum: 50 });
  whole.run(6000);
  const split = machineWith(program, { pcpus: 3, quantum: 50 });
  while (split.insns < 6000) split.run(1);
  assert.equal(split.stateHash(), whole.stateHash());
});

/** Enters EL1 at the start of RAM, counts what comes back, then idles. */
class CountingSoftware implements El2Software {
  readonly exceptions: string[] = [];
  #entries = 0;
  constructor(readonly machine: Machine, readonly entries: number) {}

  step(pcpu: number): "guest" | "idle" | "again" {
    if (this.#entries === this.entries) return "idle";
    const port = this.machine.ports[pcpu];
    assert.ok(port);
    if (this.#entries++ === 0) {
      port.writeNum(R.ELR_EL2, RAM);
      port.writeNum(R.SPSR_EL2, 0x3c5);
      return "again";
    }
    port.eret();
    return "guest";
  }
  onEl2Exception(pcpu: number, vectorOffset: number): void {
    const esr = this.machine.ports[pcpu]?.readLo(R.ESR_EL2) ?? 0;
    this.exceptions.push(`${vectorOffset.toString(16)} ${esr.toString(16)}`);
  }
}

Deno.test("software at EL2 enters the guest, gets its exceptions, and idles", () => {
  const machine = new Machine({ pcpus: 1, ramSize: 65536 });
  machine.writeRam(RAM, bytesOf([A64.increment, A64.hvc(7), A64.increment, A64.hvc(8), A64.self]));
  machine.start(0, 2, 0, 0);
  const software = new CountingSoftware(machine, 3);
  machine.el2 = software;
  assert.equal(machine.run(10_000), "stalled");
  assert.deepEqual(software.exceptions, ["400 5a000007", "400 5a000008"]);
  assert.equal(x(machine, 0), 2);
  assert.equal(machine.insns, 4);
  assert.equal(machine.platform.cpus[0]?.halt, HALT.WFI);
});

Deno.test("every arch byte flipped changes the hash, every other byte does not", () => {
  const machine = new Machine({ pcpus: 2, ramSize: 65536 });
  const { arena, memory } = machine;
  const arch = new Set<number>();
  for (const { layout, base, count } of arena.placements) {
    for (let i = 0; i < count; i++) {
      for (const { offset, length } of rangesOf(layout, "arch")) {
        for (let n = 0; n < length; n++) arch.add(base + i * layout.size + offset + n);
      }
    }
  }
  assert.ok(arch.size > 5_000, `${arch.size} bytes`);
  const before = machine.stateHash();
  for (const { layout, base, count } of arena.placements) {
    for (let at = base; at < base + count * layout.size; at++) {
      // Of the long equal arrays a byte in seven, a different one in each word.
      if (layout.size * count > 2000 && at % 7 !== 0) continue;
      const old = memory.ld8(at);
      memory.st8(at, old ^ (1 << (at % 8)));
      const changed = machine.stateHash() !== before;
      assert.equal(changed, arch.has(at), `${layout.name}, byte ${(at - base) % layout.size}`);
      memory.st8(at, old);
    }
  }
  assert.equal(machine.stateHash(), before);
});

Deno.test("each arch field of each layout is covered by the hash, no other is", () => {
  const counts = checkHashedFields(new Machine({ pcpus: 2, ramSize: 65536 }));
  assert.ok(counts.arch > 50 && counts.cache > 10, JSON.stringify(counts));
});

Deno.test("what is observed or cached lies outside the arch arena and holds no arch field", () => {
  const machine = new Machine({ pcpus: 2, ramSize: 65536 });
  for (const arena of [machine.observeArena, machine.cacheArena]) {
    for (const { layout } of arena.placements) {
      assert.deepEqual(rangesOf(layout, "arch"), [], `${layout.name} in arena ${arena.name}`);
    }
  }
});

/**
 * A loop at EL2, MMU on, hardware setting access flags: ldr x1, [x2] through a mapping whose access
 * flag is then cleared by str x3, [x4], without TLB maintenance.
 */
function agingLoop(): Machine {
  const machine = machineWith([0xf9400041, 0xf9000083, A64.b(-2)]);
  const table = RAM + 0x1_0000;
  // 1 GiB blocks of Normal memory, the second without its access flag
  const block = BigInt(RAM) | 0x701n;
  const young = block & ~0x400n;
  machine.writeRam(table, new Uint8Array(BigUint64Array.of(0n, block, young).buffer));
  const core = machine.cores[0] as CpuCore;
  const { regs, cpu } = core;
  // T0SZ 25, PS 48 bits, HA
  regs.setNum(R.TCR_EL2, 25 | (5 << 16) | (1 << 21));
  regs.setNum(R.MAIR_EL2, 0xff);
  regs.setNum(R.TTBR0_EL2, table);
  regs.setNum(R.SCTLR_EL2, SCTLR_I | 1);
  contextSwitched(core);
  [[2, 0x8000_0000n], [3, young], [4, BigInt(table + 16)]].forEach(([n, value]) =>
    machine.memory.st64(cpu.gpr + 8 * Number(n), BigInt(value as bigint))
  );
  return machine;
}

Deno.test("a run goes on after a snapshot as one restored from it, access flags included", () => {
  const machine = agingLoop();
  for (let i = 0; i < 30; i++) machine.stepRound(1);
  const restored = agingLoop();
  restored.restore(machine.snapshot());
  const accessFlag = (m: Machine) => (m.memory.ld32(m.ram.at + 0x1_0010) & 0x400) !== 0;
  assert.equal(machine.platform.cpus[0]?.pc, BigInt(RAM));
  assert.equal(accessFlag(machine), false);
  for (let i = 0; i < 3; i++) {
    machine.stepRound(1);
    restored.stepRound(1);
    assert.equal(restored.stateHash(), machine.stateHash(), `step ${i}`);
    if (i === 0) assert.ok(accessFlag(machine));
  }
});

Deno.test("an exclusive store fails once another CPU has had its turn, whatever that stored", () => {
  for (const [pcpus, status] of [[1, 0], [2, 1]] as const) {
    // ldxr x1, [x2]; stxr w0, x3, [x2]
    const machine = machineWith([0xc85f7c41, 0xc8007c43, A64.self], { pcpus });
    for (const cpu of machine.platform.cpus) {
      machine.memory.st64(cpu.gpr + 8 * 2, BigInt(RAM + 0x8000));
    }
    for (let i = 0; i < 2; i++) machine.stepRound(1);
    assert.equal(x(machine, 0), status, `${pcpus} CPUs`);
  }
});

Deno.test("a branch to a tagged address goes to the untagged one, where the tag is ignored", () => {
  // br x1; at 0x100: adr x2, .
  const run = (tcr: number) => {
    const machine = machineWith([0xd61f0020]);
    machine.writeRam(RAM + 0x100, bytesOf([0x10000002, A64.self]));
    machine.writeRam(RAM + 0x800 + 0x200, bytesOf([A64.self]));
    const { regs, cpu } = machine.cores[0] as CpuCore;
    regs.setNum(R.TCR_EL2, tcr);
    regs.setNum(R.VBAR_EL2, RAM + 0x800);
    contextSwitched(machine.cores[0] as CpuCore);
    machine.memory.st64(cpu.gpr + 8, BigInt(RAM + 0x100) | (0xabn << 56n));
    machine.run(1);
    return machine;
  };
  assert.equal(x(run(1 << 20), 2), RAM + 0x100);
  const tagged = run(0).cores[0] as CpuCore;
  assert.equal(tagged.regs.lo(R.ESR_EL2), 0x8600_0000, "an address size fault");
  assert.equal(tagged.regs.get("FAR_EL2"), BigInt(RAM + 0x100) | (0xabn << 56n));
});

Deno.test("an exception between such a branch and its target saves the untagged address", () => {
  const machine = machineWith([0xd61f0020]);
  machine.writeRam(RAM + 0x800 + 0x380, bytesOf([A64.self]));
  const core = machine.cores[0] as CpuCore;
  core.regs.setNum(R.TCR_EL2, 1 << 20);
  core.regs.setNum(R.HCR_EL2, 0x8000_0020);
  core.regs.setNum(R.VBAR_EL2, RAM + 0x800);
  contextSwitched(core);
  machine.memory.st64(core.cpu.gpr + 8, BigInt(RAM + 0x100) | (0xabn << 56n));
  machine.stepRound(1);
  core.cpu.daif = 0;
  machine.raiseSError(0);
  machine.stepRound(1);
  assert.equal(core.regs.get("ELR_EL2"), BigInt(RAM + 0x100));
});

Deno.test("an interrupt that is pending in a snapshot is so again, where nothing was when that is put back", () => {
  const machine = machineWith([A64.self]);
  const { gic } = machine.platform;
  assert.ok(gic instanceof Gicv3);
  const word = 40 >> 5, bit = 1 << (40 & 31);
  gic.distWrite(GICD.CTLR, 4, 3);
  gic.redistWrite(GICR.WAKER, 4, 0);
  for (const [reg, value] of [[R.ICC_PMR_EL1, 0xff], [R.ICC_IGRPEN1_EL1, 1]] as const) {
    gic.iccWrite(0, reg, value, 0);
  }
  gic.distWrite(GICD.IGROUPR + 4 * word, 4, bit);
  gic.distWrite(GICD.ISENABLER + 4 * word, 4, bit);
  gic.setSpi(40, true);
  const snapshot = machine.snapshot();
  assert.equal(gic.iccRead(0, R.ICC_IAR1_EL1), 40);
  gic.iccWrite(0, R.ICC_EOIR1_EL1, 40, 0);
  gic.setSpi(40, false);
  assert.equal(gic.iccRead(0, R.ICC_IAR1_EL1), INTID.SPURIOUS);
  machine.restore(snapshot);
  assert.equal(gic.iccRead(0, R.ICC_IAR1_EL1), 40);
});
