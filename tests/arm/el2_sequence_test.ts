/** Sequences of port operations: by WebAssembly they do what they do one by one. */
import assert from "node:assert/strict";
import { MDSCR } from "../../src/arm/arch/debug_registers.ts";
import { R, SYSREGS } from "../../src/arm/arch/sysregs.ts";
import {
  at,
  El2Port,
  PORT_KINDS,
  PortLayout,
  type Sequence,
  sequence,
  STEP,
} from "../../src/arm/el2_port.ts";
import { ALL_DONE, compileSequence } from "../../src/arm/el2_sequence.ts";
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
  port.run(it, area, area, VALUE_LO, VALUE_HI);
}

/** All that a run can change. */
function outcome({ machine, port, area }: Bench): unknown[] {
  const { regs, cpu } = machine.core();
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
    port.counters.touched,
    machine.clock.now(),
    [cpu.single, cpu.checkIrq, cpu.debugArmed],
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
  assert.equal(stepwise.seen.length, (HOT + 3) * it.steps.length);
}

/** The number of steps that a function made for the sequence does. */
function doneFast({ machine, port, area }: Bench, it: Sequence, e2h = true): number {
  const { base } = port.counters;
  const counters = { kinds: base, touched: base + PortLayout.offset.touched, sums: [] };
  const fast = compileSequence(new El2Storage(machine.core()), it, e2h, counters);
  return fast(area, area, VALUE_LO, VALUE_HI);
}

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
    STEP.save(R.ICH_VTR_EL2, at(8)),
    STEP.restore(R.TPIDR_EL1, at(16)),
  );
  assert.equal(doneFast(bench(false), it), 1);
  both(it);
});

Deno.test("HCR_EL2.E2H changed on the way: the names behind it are the new ones", () => {
  const it = sequence(
    STEP.write(R.HCR_EL2, Number(RW & 0xffff_ffffn), 0),
    STEP.restore(R.SCTLR_EL1, at(16)),
  );
  assert.equal(doneFast(bench(false), it), 0);
  both(it, ({ machine }) => machine.set({ HCR_EL2: HOST }));
});
