/** Breakpoints, watchpoints and steps on the interpreter: a debugged run does what a free run does. */
import assert from "node:assert/strict";
import { R } from "../../src/arm/arch/sysregs.ts";
import { Firmware } from "../../src/arm/firmware.ts";
import { BOARD } from "../../src/arm/board.ts";
import { Machine } from "../../src/arm/machine.ts";
import { WRITERS } from "../../src/arm/sysreg_views.ts";
import { Asm, COND } from "../support/asm.ts";

const CODE = BOARD.ram;
const VECTORS = CODE + 0x1_0000;
/** The program lies across two pages. */
const PROGRAM = CODE + 0x2_0fe0;
const DATA = CODE + 0x3_0000;
const SS = 1, MDE = 0x8000;
const EC = { BREAKPOINT: 0x30, STEP: 0x32, WATCHPOINT: 0x34 };
const DONE = 0xdead;

/** Registers of the debugger at EL1; the program at EL0 has X0 to X15. */
const HITS = 27, STEPS = 26, T = 28, U = 29, V = 25, FARS = 24;

/** A loop of additions, loads, stores, calls and exclusives, ended by SVC. */
function program(iterations: number): Asm {
  const a = new Asm(PROGRAM);
  a.mov(0, iterations).mov(1, DATA).mov(2, 1).mov(9, 0);
  a.label("loop").ldr(3, 1).addReg(3, 3, 2).str(3, 1, 8).add(2, 2, 7).eor(9, 9, 3);
  a.bl("leaf").subs(0, 0, 1).bCond(COND.NE, "loop");
  a.word(0xd400_0001);
  a.label("leaf").label("again").word(0xc85f_7c24).add(4, 4, 3).word(0xc805_7c24);
  a.cbnz(5, "after").label("after").mul(9, 9, 2).lsr(6, 9, 3).ret();
  return a;
}

/**
 * EL1's vectors: a step counts and steps on, or, with breakpoints, arms them again; a breakpoint or
 * watchpoint counts, and steps over its instruction with MDE off; SVC stops.
 */
function vectors(stepOn: boolean): Asm {
  const a = new Asm(VECTORS).org(VECTORS + 0x400);
  a.mrs(T, "ESR_EL1").lsr(T, T, 26).mov(U, EC.STEP).cmp(T, U).bCond(COND.EQ, "step");
  a.mov(U, 0x15).cmp(T, U).bCond(COND.EQ, "done");
  a.add(HITS, HITS, 1).mrs(U, "FAR_EL1").orr(FARS, FARS, U);
  a.mov(V, SS).msr("MDSCR_EL1", V).label("resume");
  a.mrs(U, "SPSR_EL1").mov(V, 1 << 21).orr(U, U, V).msr("SPSR_EL1", U).eret();
  a.label("step").add(STEPS, STEPS, 1);
  if (stepOn) a.b("resume");
  else a.mov(V, MDE).msr("MDSCR_EL1", V).eret();
  a.label("done").mov(0, 0).msr("MDSCR_EL1", 0).mov(T, DONE).label("self").b("self");
  return a;
}

interface Setup {
  readonly mdscr?: number;
  readonly stepOn?: boolean;
  readonly quantum?: number;
  readonly breakpoints?: readonly number[];
  /** DBGWVR and DBGWCR. */
  readonly watch?: readonly [number, number];
  readonly iterations?: number;
}

function start({ mdscr = 0, stepOn = false, breakpoints = [], watch, ...setup }: Setup): Machine {
  const { quantum = 10_000, iterations = 20 } = setup;
  const machine = new Machine({ pcpus: 1, ramSize: 1 << 20, quantum }, new Firmware("smc"));
  const a = new Asm(CODE);
  a.mov(0, 0).msr("OSLAR_EL1", 0).mov(0, VECTORS).msr("VBAR_EL1", 0);
  breakpoints.forEach((at, n) => {
    a.mov(0, at).word(0xd510_0080 | (n << 8)).mov(0, 0x1e5).word(0xd510_00a0 | (n << 8));
  });
  if (watch) a.mov(0, watch[0]).msr("DBGWVR0_EL1", 0).mov(0, watch[1]).msr("DBGWCR0_EL1", 0);
  for (const r of [HITS, STEPS, FARS, T, 9, 4, 5]) a.mov(r, 0);
  a.mov(0, PROGRAM).msr("ELR_EL1", 0).mov(0, mdscr & SS ? 1 << 21 : 0).msr("SPSR_EL1", 0);
  a.mov(0, mdscr).msr("MDSCR_EL1", 0).eret();
  for (const part of [a, vectors(stepOn), program(iterations)]) {
    machine.writeRam(part.base, new Uint8Array(new Uint32Array(part.words()).buffer));
  }
  machine.start(0, 1, CODE, 0);
  return machine;
}

function x(machine: Machine, n: number): number {
  return machine.memory.ld53((machine.platform.cpus[0]?.gpr ?? 0) + 8 * n);
}

function finish(machine: Machine): Machine {
  for (let i = 0; i < 1000 && x(machine, T) !== DONE; i++) machine.run(1000);
  assert.equal(x(machine, T), DONE, "the program came to its end");
  return machine;
}

/** What the program computed: X0 to X15 and its data. */
function result(machine: Machine): number[] {
  const words = Array.from({ length: 16 }, (_, n) => x(machine, n));
  const at = machine.ram.at + DATA - machine.ram.pa;
  return [...words, machine.memory.ld53(at), machine.memory.ld53(at + 8)];
}

/** Exclusives do not survive the exception of each step: STXR fails, so that step's results are their own. */
function comparable(values: number[]): number[] {
  return values.filter((_, n) => n !== 5 && n !== 16 && n !== 17 && ![3, 4, 6, 9].includes(n));
}

const FREE = finish(start({}));

/** The addresses of the program's instructions in the order they were executed, by stepping. */
function steppedThrough(): { machine: Machine; at: number[] } {
  const machine = start({ mdscr: SS, stepOn: true });
  const at: number[] = [];
  const core = machine.cores[0];
  assert.ok(core);
  for (let i = 0; i < 100_000 && x(machine, T) !== DONE; i++) {
    if (core.cpu.el === 0 && core.cpu.ss === 1) at.push(Number(core.cpu.pc));
    machine.stepRound(1);
  }
  return { machine, at };
}

const STEPPED = steppedThrough();

Deno.test("stepping: every instruction once, and the program computes the same", () => {
  const { machine, at } = STEPPED;
  assert.equal(at[0], PROGRAM);
  assert.equal(x(machine, STEPS), at.length - 1, "all but the SVC end in a step exception");
  // 4 + 20 iterations of 8 in the loop and 7 in the leaf, and the SVC.
  assert.equal(at.length, 5 + 4 + 20 * 15 - 4);
  assert.deepEqual(comparable(result(machine)), comparable(result(FREE)));
});

Deno.test("stepping is the same at any quantum", () => {
  const hashes = [1, 7, 10_000].map((quantum) => {
    const machine = start({ mdscr: SS, stepOn: true, quantum });
    return [x(finish(machine), STEPS), ...result(machine)];
  });
  assert.deepEqual(hashes[0], hashes[1]);
  assert.deepEqual(hashes[0], hashes[2]);
});

Deno.test("breakpoints at every instruction: each hit as often as it is executed", () => {
  const addresses = [...new Set(STEPPED.at)].sort((p, q) => p - q);
  assert.ok(addresses.some((at) => at < CODE + 0x2_1000), "on both pages");
  assert.ok(addresses.some((at) => at >= CODE + 0x2_1000), "on both pages");
  for (let i = 0; i < addresses.length; i += 6) {
    const breakpoints = addresses.slice(i, i + 6);
    const machine = finish(start({ mdscr: MDE, breakpoints }));
    const expected = STEPPED.at.filter((at) => breakpoints.includes(at)).length;
    assert.equal(x(machine, HITS), expected, breakpoints.map((at) => at.toString(16)).join());
    assert.deepEqual(comparable(result(machine)), comparable(result(FREE)));
  }
});

Deno.test("a watchpoint is hit by each access and by nothing else on its page", () => {
  const wcr = (bas: number, lsc: number) => 1 | (2 << 1) | (lsc << 3) | (bas << 5);
  for (const [at, lsc, hits] of [[DATA + 8, 2, 20], [DATA + 8, 1, 0], [DATA, 1, 40]] as const) {
    const machine = finish(start({ mdscr: MDE, watch: [at, wcr(0xff, lsc)] }));
    assert.equal(x(machine, HITS), hits, `LSC ${lsc}`);
    if (hits) assert.equal(x(machine, FARS), at);
    assert.deepEqual(comparable(result(machine)), comparable(result(FREE)));
  }
  const elsewhere = finish(start({ mdscr: MDE, watch: [DATA + 16, wcr(0xff, 3)] }));
  assert.equal(x(elsewhere, HITS), 0);
  assert.deepEqual(result(elsewhere), result(FREE), "exclusives, too");
});

Deno.test("a breakpoint set on a page that runs already is met, and gone when it is cleared", () => {
  const machine = start({ iterations: 3000 });
  machine.run(5000);
  const core = machine.cores[0];
  assert.ok(core);
  assert.equal(core.cpu.el, 0);
  const set = (index: number, value: number) => WRITERS[index]?.(core, index, value, 0);
  set(R.DBGBVR0_EL1, STEPPED.at[8] ?? 0);
  set(R.DBGBCR0_EL1, 0x1e5);
  set(R.MDSCR_EL1, MDE);
  machine.run(2000);
  const hits = x(machine, HITS);
  assert.ok(hits > 5, `${hits}`);
  set(R.DBGBCR0_EL1, 0);
  machine.run(100);
  const after = x(machine, HITS);
  machine.run(5000);
  assert.equal(x(machine, HITS), after);
});

Deno.test("a breakpoint is met with the MMU off and on, in every address space, until it is cleared", () => {
  const machine = new Machine({ pcpus: 1, ramSize: 1 << 20 }, new Firmware("smc"));
  const TABLE = CODE + 0x8_0000;
  const KDE = 0x2000, MMU_ON = 0x30d0_0801, MMU_OFF = 0x30d0_0800;
  const a = new Asm(CODE).mov(0, 0).msr("OSLAR_EL1", 0).mov(0, VECTORS).msr("VBAR_EL1", 0);
  a.mov(0, TABLE).msr("TTBR0_EL1", 0).mov(0, (1 << 23) | 25).msr("TCR_EL1", 0);
  a.mov(0, 0xff).msr("MAIR_EL1", 0).mov(HITS, 0).mov(22, 0);
  a.mov(0, CODE + 0x400).msr("DBGBVR0_EL1", 0).mov(0, 0x1e3).msr("DBGBCR0_EL1", 0);
  a.mov(0, MDE | KDE).msr("MDSCR_EL1", 0);
  const call = () => a.daifClr(8).bl("sub");
  call().mov(0, MMU_ON).msr("SCTLR_EL1", 0).isb();
  call().mov(0, TABLE).mov(1, 1n << 48n).orr(0, 0, 1).msr("TTBR0_EL1", 0).isb();
  call().mov(0, MMU_OFF).msr("SCTLR_EL1", 0).isb();
  call().mov(0, 0x1e2).msr("DBGBCR0_EL1", 0);
  call().mov(T, DONE).label("end").b("end");
  a.org(CODE + 0x3fc).label("sub").nop().nop().add(22, 22, 1).ret();
  // A hit masks D for the rest of the call.
  const v = new Asm(VECTORS).org(VECTORS + 0x200).add(HITS, HITS, 1);
  v.mrs(U, "SPSR_EL1").mov(V, 0x200).orr(U, U, V).msr("SPSR_EL1", U).eret();
  for (const part of [a, v]) {
    machine.writeRam(part.base, new Uint8Array(new Uint32Array(part.words()).buffer));
  }
  // One block of 1 GiB, not global: its entries are of one ASID.
  machine.memory.st64(machine.ram.at + TABLE - machine.ram.pa + 8, 0x4000_0c01n);
  machine.start(0, 1, CODE, 0);
  finish(machine);
  assert.equal(x(machine, 22), 5);
  assert.equal(x(machine, HITS), 4);
});

Deno.test("a snapshot taken between steps goes on as the machine does", () => {
  const machine = start({ mdscr: SS, stepOn: true });
  machine.run(777);
  const snapshot = machine.snapshot();
  const end = [x(finish(machine), STEPS), ...result(machine)];
  const other = start({});
  other.restore(snapshot);
  assert.deepEqual([x(finish(other), STEPS), ...result(other)], end);
});

Deno.test("a snapshot keeps what is armed, in a machine that has run past it already", () => {
  const breakpoints = [STEPPED.at[8] ?? 0, STEPPED.at[14] ?? 0];
  const machine = start({
    mdscr: MDE,
    breakpoints,
    watch: [DATA, 1 | (2 << 1) | (1 << 3) | 0x1fe0],
  });
  machine.run(900);
  const snapshot = machine.snapshot();
  const ends = [machine, finish(start({}))].map((each) => {
    each.restore(snapshot);
    return [x(finish(each), HITS), ...result(each)];
  });
  assert.deepEqual(ends[1], ends[0]);
  assert.ok((ends[0]?.[0] ?? 0) > 60);
});
