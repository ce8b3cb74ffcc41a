/** Sequences of port operations: by WebAssembly they do what they do one by one. */
import assert from "node:assert/strict";
import { MDSCR } from "../../src/arm/arch/debug_registers.ts";
import { MAINTENANCE_INTID } from "../../src/arm/arch/gic.ts";
import { R, SYSREGS } from "../../src/arm/arch/sysregs.ts";
import { at, El2Port, PORT_KINDS, type Sequence, sequence, STEP } from "../../src/arm/el2_port.ts";
import { type Timer, TIMERS } from "../../src/arm/generic_timer.ts";
import { ALL_DONE, compileSequence, REARM, SIGNALS } from "../../src/arm/el2_sequence.ts";
import { El2Storage } from "../../src/arm/el2_storage.ts";
import { E2H, Machine, RW, TGE } from "./core_fixture.ts";

const HOST = RW | E2H | TGE;
/** Runs before which a sequence has its function for certain. */
const HOT = 150;
const AREA = 0x4000_8000, AREA_BYTES = 2048;
const VALUE_LO = 0x8765_4321, VALUE_HI = 0x0fed_cba9;

/** Everything there is, argument 0 being the area: all plain with HCR_EL2.E2H as it is. */
function everything(): Sequence {
  return sequence(
    STEP.trap(),
    STEP.saveGprs(at(0)),
    STEP.save(R.SP_EL0, at(256)),
    STEP.restore(R.SP_EL0, at(264)),
    STEP.readLow(R.ESR_EL2, at(272)),
    STEP.load(R.VTCR_EL2, at(280, 1)),
    STEP.write(R.VTTBR_EL2, { arg: 2 }, { arg: 3 }),
    STEP.write(R.CPTR_EL2, 0xffff_ffff, 0xffff_ffff),
    STEP.write(R.HCR_EL2, Number(HOST & 0xffff_ffffn), Number(HOST >> 32n)),
    STEP.restore(R.MDSCR_EL1, at(288)),
    STEP.restore(R.SCTLR_EL12, at(296)),
    STEP.save(R.SCTLR_EL12, at(304)),
    STEP.write(R.SPSR_EL2, { arg: 2 }),
    STEP.restoreGprs(at(512)),
  );
}

interface Bench {
  readonly machine: Machine;
  readonly port: El2Port;
  readonly area: number;
  /** What the log has. */
  readonly seen: string[];
}

/** A CPU at EL2 and an area of memory with nothing in it twice. */
function bench(logged: boolean): Bench {
  const machine = new Machine();
  machine.set({ HCR_EL2: HOST, ESR_EL2: 0x1_5600_0000n, SP_EL0: 0x1234_5678_9abcn });
  const { cpu } = machine.core();
  for (let n = 0; n < 31; n++) {
    machine.memory.st64(cpu.gpr + 8 * n, 0x8000_0001_8000_0000n * BigInt(n));
  }
  const area = machine.at(AREA);
  for (let n = 0; n < AREA_BYTES; n += 8) {
    machine.memory.st64(area + n, 0xfedc_ba98_7654_3210n + BigInt(n));
  }
  machine.memory.st64(area + 288, 0n);
  const port = new El2Port(machine.core(), machine.arena);
  const seen: string[] = [];
  if (logged) port.log = (kind, operand) => seen.push(`${kind} ${operand}`);
  return { machine, port, area, seen };
}

function run({ port, area }: Bench, it: Sequence): void {
  port.runWith(it, area, area, VALUE_LO, VALUE_HI);
}

/** All that a run can change. */
function outcome({ machine, port, area }: Bench): unknown[] {
  const { regs, cpu } = machine.core();
  const { hcr, vmcr, ap0r, ap1r, lr } = machine.gic.virtualInterface(0).state;
  const words = (
    from: number,
    bytes: number,
  ) => [...machine.memory.u32.subarray(from >>> 2, (from + bytes) >>> 2)];
  return [
    words(regs.addressOf(0), 8 * SYSREGS.length),
    words(cpu.gpr, 34 * 8),
    words(area, AREA_BYTES),
    PORT_KINDS.map((kind) => port.counters[kind]),
    port.counters.ns,
    machine.clock.now(),
    [cpu.single, cpu.checkIrq, cpu.debugArmed, cpu.daif, cpu.irqLines],
    [cpu.pmuAt, cpu.pmuAbortedAt, cpu.pmuLine, cpu.pmuActive],
    [hcr, vmcr, ap0r, ap1r, cpu.told],
    [...machine.memory.u32.subarray(lr >>> 2, (lr >>> 2) + 8)],
    machine.gic.interrupt(0, MAINTENANCE_INTID)?.level,
    TIMERS.map((_, n) => machine.timer.line(0, n as Timer)),
  ];
}

/** Runs by the port that logs, step by step, and by the one that does not. */
function both(it: Sequence, prepare: (bench: Bench, run: number) => void = () => {}): void {
  const stepwise = bench(true), fast = bench(false);
  for (let n = 0; n < HOT + 3; n++) {
    for (const side of [stepwise, fast]) {
      prepare(side, n);
      run(side, it);
    }
    if (n < 2 || n >= HOT) assert.deepEqual(outcome(fast), outcome(stepwise), `run ${n}`);
  }
  const { counters } = fast.port;
  assert.equal(stepwise.seen.length, PORT_KINDS.reduce((sum, kind) => sum + counters[kind], 0));
}

/** The number of steps that a function made for the sequence does. */
function doneFast({ machine, port, area }: Bench, it: Sequence, e2h = true): number {
  const { base } = port.counters;
  const counters = { kinds: base, sums: [] };
  const fast = compileSequence(new El2Storage(machine.core()), it, e2h, counters);
  return fast(area, area, VALUE_LO, VALUE_HI);
}

/** What a function that has done everything has to say besides. */
const says = (answer: number, what: number) => answer < 0 && ((ALL_DONE - answer) & what) !== 0;
const rearms = (answer: number) => says(answer, REARM);
const signals = (answer: number) => says(answer, SIGNALS);

Deno.test("a sequence of all there is: the same registers, memory, counters and time", () => {
  both(everything(), ({ machine }, n) => {
    machine.core().regs.set(R.ESR_EL2, 0x5600_0000 + n, 0);
  });
});

Deno.test("all of it is done by WebAssembly", () => {
  const it = everything();
  assert.equal(doneFast(bench(false), it), ALL_DONE);
});

Deno.test("not where the names are others, or the stack is: nothing is done", () => {
  const it = everything();
  assert.equal(doneFast(bench(false), it, false), 0);
  const b = bench(false);
  b.machine.core().cpu.spsel = 0;
  assert.equal(doneFast(b, it), 0);
});

Deno.test("a write with effects is left to the register, and what follows comes after it", () => {
  const it = everything();
  const at288 = it.steps.findIndex((step) => "reg" in step && step.reg === R.MDSCR_EL1);
  const watched = bench(false);
  watched.machine.memory.st64(watched.area + 288, BigInt(MDSCR.SS));
  assert.equal(doneFast(watched, it), at288);
  both(it, ({ machine, area }, n) => machine.memory.st64(area + 288, BigInt(n & 1 ? MDSCR.SS : 0)));
});

Deno.test("a register that is no plain storage is left to its functions", () => {
  const it = sequence(
    STEP.save(R.TPIDR_EL0, at(0)),
    STEP.save(R.ICH_MISR_EL2, at(8)),
    STEP.restore(R.TPIDR_EL1, at(16)),
  );
  assert.equal(doneFast(bench(false), it), 1);
  both(it);
});

/** Words of the area: what the guest has of timers, interrupt controller and debug. */
const WORD = {
  ctl: 300,
  cval: 304,
  vmcr: 312,
  ap: 316,
  mdcr: 320,
  readCtl: 324,
  out: 328,
} as const;
const VMCR = (0xf0 << 24) | (3 << 21) | (3 << 18) | 3;

/** What is plain only as things are. */
function conditional(): Sequence {
  return sequence(
    STEP.irqDisable(),
    STEP.readWord(R.CNTV_CTL_EL02, at(WORD.readCtl)),
    STEP.save(R.CNTV_CTL_EL02, at(WORD.out)),
    STEP.restore(R.CNTV_CVAL_EL02, at(WORD.cval)),
    STEP.isb(),
    STEP.loadWord(R.CNTV_CTL_EL02, at(WORD.ctl)),
    STEP.write(R.CNTVOFF_EL2, { arg: 2 }, 0),
    STEP.readWord(R.ICH_VMCR_EL2, at(WORD.out + 8)),
    STEP.look(R.ICH_VTR_EL2),
    STEP.save(R.ICH_AP1R0_EL2, at(WORD.out + 16)),
    STEP.loadWord(R.ICH_VMCR_EL2, at(WORD.vmcr)),
    STEP.loadWord(R.ICH_AP0R0_EL2, at(WORD.ap)),
    STEP.change(R.ICC_SRE_EL2, 8, 0),
    STEP.readLow(R.ICC_SRE_EL2, at(WORD.out + 24)),
    STEP.write(R.PMSELR_EL0, -1, -1),
    STEP.write(R.PMUSERENR_EL0, -1, -1),
    STEP.loadWord(R.MDCR_EL2, at(WORD.mdcr)),
    STEP.change(R.MDCR_EL2, 0x40, 0x800),
  );
}

/** Values with which all of it is plain, in a CPU that has other ones. */
function plainly({ machine, area }: Bench): void {
  const { memory } = machine, { cpu, regs } = machine.core();
  const virtual = machine.gic.virtualInterface(0);
  for (const { ctl } of TIMERS) regs.set(ctl, 0, 0);
  machine.timer.update(0);
  regs.set(R.MDCR_EL2, 6, 0);
  regs.set(R.PMCNTENSET_EL0, 0, 0);
  regs.set(R.CNTVOFF_EL2, 77, 0);
  virtual.writeHcr(0);
  virtual.state.ap1r = 0x8000_0001;
  memory.st32(area + WORD.ctl, 2);
  memory.st32(area + WORD.vmcr, VMCR);
  memory.st32(area + WORD.ap, 0x8000_0000);
  memory.st32(area + WORD.mdcr, 0x246);
  cpu.insns += 1000;
  cpu.aborted += 10;
  cpu.daif = 0;
}

/** What makes it otherwise, and the step that is left to the register then. */
const OTHERWISE: Readonly<Record<string, readonly [reg: number, change: (b: Bench) => void]>> = {
  "the timer has fired": [R.CNTV_CTL_EL02, ({ machine }) => {
    machine.core().regs.set(R.CNTV_CTL_EL0, 3, 0);
    machine.core().regs.set(R.CNTV_CVAL_EL0, 0, 0);
  }],
  "another timer is due": [R.CNTV_CVAL_EL02, ({ machine }) => {
    machine.core().regs.set(R.CNTHP_CTL_EL2, 1, 0);
    machine.core().regs.set(R.CNTHP_CVAL_EL2, 0, 0);
  }],
  "a timer's output is high": [R.CNTV_CVAL_EL02, ({ machine }) => {
    machine.core().regs.set(R.CNTHP_CVAL_EL2, 0, 0);
    machine.timer.setControl(0, 2, 1);
    machine.core().regs.set(R.CNTHP_CTL_EL2, 0, 0);
  }],
  "WFE waits for an event": [R.CNTV_CVAL_EL02, ({ machine }) => {
    machine.core().regs.set(R.CNTHCTL_EL2, 0x84, 0);
    machine.core().regs.set(R.CNTKCTL_EL1, 0x84, 0);
    machine.timer.armEventStream(0);
  }],
  "the timer is switched on when it is due": [R.CNTV_CTL_EL02, ({ machine, area }) => {
    machine.memory.st32(area + WORD.ctl, 1);
    machine.memory.st64(area + WORD.cval, 0n);
    machine.core().regs.set(R.CNTVOFF_EL2, 0, 0);
  }],
  "an offset makes it due": [R.CNTVOFF_EL2, ({ machine, area }) => {
    machine.memory.st32(area + WORD.ctl, 1);
    machine.memory.st64(area + WORD.cval, 0x8_0000_0000n);
    machine.core().regs.set(R.CNTVOFF_EL2, 0, 0);
  }],
  "a binary point is too low": [
    R.ICH_VMCR_EL2,
    ({ machine, area }) => machine.memory.st32(area + WORD.vmcr, VMCR & ~(7 << 18) | (2 << 18)),
  ],
  "a monitor is enabled": [
    R.MDCR_EL2,
    ({ machine }) => machine.core().regs.set(R.PMCNTENSET_EL0, 1, 0),
  ],
};

Deno.test("what is plain as things are is done by WebAssembly", () => {
  const b = bench(false);
  plainly(b);
  assert.equal(doneFast(b, conditional()), ALL_DONE);
  both(conditional(), plainly);
});

for (const [what, [reg, change]] of Object.entries(OTHERWISE)) {
  Deno.test(`left to the register's functions: ${what}`, () => {
    const it = conditional(), b = bench(false);
    plainly(b);
    change(b);
    const step = it.steps[doneFast(b, it)];
    assert.equal(step !== undefined && "reg" in step ? step.reg : undefined, reg);
    both(it, (side, n) => {
      plainly(side);
      if (n & 1) change(side);
    });
  });
}

/** Whether a run that its function does all of sets the machine's deadline anew. */
function setsDeadline(change: (b: Bench) => void): boolean {
  const b = bench(false);
  plainly(b);
  change(b);
  const answer = doneFast(b, conditional());
  assert.ok(answer < 0, `left at step ${answer}`);
  return rearms(answer);
}

Deno.test("timers that are on and not due are moved by WebAssembly, with the deadline made anew", () => {
  const later = 0xffff_ffff_f000_0000n;
  // CNTVOFF_EL2 as it is written is beyond the counter.
  const on = ({ machine, area }: Bench) => {
    machine.memory.st32(area + WORD.ctl, 1);
    machine.memory.st64(area + WORD.cval, later);
    machine.core().regs.set(R.CNTVOFF_EL2, 0, 0);
  };
  const off = ({ machine }: Bench) => {
    machine.core().regs.set(R.CNTV_CTL_EL0, 1, 0);
    machine.core().regs.set(R.CNTV_CVAL_EL0, 0xf000_0000, 0xffff_ffff);
    machine.core().regs.set(R.CNTVOFF_EL2, 0, 0);
  };
  assert.equal(setsDeadline(() => {}), false);
  assert.equal(setsDeadline(on), true);
  assert.equal(setsDeadline(off), true);
  for (const change of [on, off]) {
    both(conditional(), (side, n) => {
      plainly(side);
      if (n & 1) change(side);
    });
  }
});

const PENDING = 1 << 30, GROUP1 = 1 << 28, ENDED = 1 << 9;
/** The virtual CPU interface filled and switched on, looked at, switched off and emptied, by values of the area. */
const LIST = { hcr: 400, off: 404, lr: 408, out: 440 } as const;
const FILLED = sequence(
  STEP.loadWord(R.ICH_HCR_EL2, at(LIST.hcr)),
  STEP.restore(R.ICH_LR0_EL2, at(LIST.lr)),
  STEP.restore(R.ICH_LR1_EL2, at(LIST.lr + 8)),
  STEP.load(R.ICH_LR3_EL2, at(LIST.lr + 16)),
);
const EMPTIED = sequence(
  STEP.save(R.ICH_ELRSR_EL2, at(LIST.out)),
  STEP.tell(R.ICH_ELRSR_EL2, 5),
  STEP.loadWord(R.ICH_HCR_EL2, at(LIST.off), 2),
  STEP.saveUnless(0, R.ICH_LR0_EL2, at(LIST.out + 8), PENDING),
  STEP.saveUnless(2, R.ICH_LR1_EL2, at(LIST.out + 32), PENDING),
  STEP.readLow(R.ICH_LR1_EL2, at(LIST.out + 16)),
  STEP.save(R.ICH_LR3_EL2, at(LIST.out + 24)),
  STEP.write(R.ICH_LR0_EL2, 0, 0),
  STEP.write(R.ICH_LR1_EL2, -1, { arg: 3 }),
  STEP.change(R.ICH_HCR_EL2, 0, 1 << 10),
);
/** Values for the one and the other; `n` chooses among list registers' states. */
function lists({ machine, area }: Bench, n: number): void {
  const { memory, gic } = machine;
  gic.virtualInterface(0).writeVmcr(VMCR);
  memory.st32(area + LIST.hcr, n % 5 === 0 ? 0x3f : 1);
  memory.st32(area + LIST.off, n % 3 === 0 ? 1 : 0);
  const words = [5, PENDING | GROUP1, 6, n & 1 ? PENDING : 0, 7, n & 2 ? ENDED : 1 << 31];
  words.forEach((word, i) => memory.st32(area + LIST.lr + 4 * i, word));
}

Deno.test("list registers and ICH_HCR_EL2 are moved by WebAssembly, and what they signal is as by the registers", () => {
  const b = bench(false);
  lists(b, 1);
  const filled = doneFast(b, FILLED);
  assert.ok(signals(filled) && !rearms(filled));
  b.machine.gic.virtualChanged(0);
  const emptied = doneFast(b, EMPTIED);
  assert.ok(signals(emptied) && !rearms(emptied));
  const off = bench(false);
  lists(off, 1);
  off.machine.memory.st32(off.area + LIST.hcr, 0);
  assert.equal(doneFast(off, FILLED), ALL_DONE, "an interface that is off signals nothing");
});

Deno.test("what list registers signal and where they go to is as by the registers", () => {
  const lines = new Set<string>();
  for (const it of [FILLED, EMPTIED, sequence(FILLED.steps, EMPTIED.steps)]) {
    both(it, (side, n) => {
      const { irqLines } = side.machine.core().cpu;
      const maintenance = side.machine.gic.interrupt(0, MAINTENANCE_INTID)?.level;
      lines.add(`${irqLines} ${maintenance}`);
      lists(side, n);
    });
  }
  assert.deepEqual([...lines].sort(), ["0 false", "0 true", "4 false", "4 true"]);
});

Deno.test("an interface that is switched off and has signalled nothing signals nothing", () => {
  const off = sequence(
    STEP.write(R.ICH_LR0_EL2, 0, PENDING | GROUP1),
    STEP.write(R.ICH_HCR_EL2, 0),
  );
  const b = bench(false);
  lists(b, 1);
  const { gic } = b.machine;
  const switchOn = (hcr: number) => gic.ichWrite(0, R.ICH_HCR_EL2, hcr, 0);
  switchOn(1);
  assert.equal(doneFast(b, off), ALL_DONE);
  gic.ichWrite(0, R.ICH_LR0_EL2, 0, 0);
  switchOn(1);
  gic.ichWrite(0, R.ICH_LR0_EL2, 1, PENDING | GROUP1);
  assert.notEqual(b.machine.core().cpu.irqLines, 0);
  assert.ok(signals(doneFast(b, off)), "the guest's line must go");
  gic.update(0);
  gic.ichWrite(0, R.ICH_LR0_EL2, 0, 0);
  // No pending interrupt: that is what the maintenance interrupt is wanted for.
  switchOn(1 | (1 << 3));
  assert.ok(signals(doneFast(b, off)), "the maintenance interrupt must go");
});

Deno.test("a timer fires in the very tick in which the step is done", () => {
  const it = sequence(STEP.isb(), STEP.write(R.CNTHP_CTL_EL2, 1));
  for (let ns = 0; ns < 40; ns++) {
    both(it, ({ machine }, n) => {
      const { regs } = machine.core();
      regs.set(R.CNTHP_CTL_EL2, 0, 0);
      machine.timer.update(0);
      machine.clock.advance(n === 0 ? ns : 1);
      regs.set(R.CNTHP_CVAL_EL2, machine.clock.ticks() + 1, 0);
    });
  }
});

Deno.test("a change that cannot be made is made of what is read then", () => {
  const it = sequence(STEP.change(R.ICC_PMR_EL1, 0x10, 0x20), STEP.change(R.MDCR_EL2, 0, 0x800));
  assert.equal(doneFast(bench(false), it), 0);
  both(it, ({ machine }, n) => machine.core().regs.set(R.PMCNTENSET_EL0, n & 1, 0));
});

Deno.test("HCR_EL2.E2H changed on the way: the names behind it are the new ones", () => {
  const it = sequence(
    STEP.write(R.HCR_EL2, Number(RW & 0xffff_ffffn), 0),
    STEP.restore(R.SCTLR_EL1, at(16)),
  );
  assert.equal(doneFast(bench(false), it), 0);
  both(it, ({ machine }) => machine.set({ HCR_EL2: HOST }));
});
