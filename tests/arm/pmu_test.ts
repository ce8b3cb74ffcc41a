/** The performance monitors: what counts, exactly, at any quantum; who may look; the overflow interrupt. */
import assert from "node:assert/strict";
import { CYCLE_COUNTER, PMU_EVENT } from "../../src/arm/arch/pmu.ts";
import { R, sysreg, type SysregName } from "../../src/arm/arch/sysregs.ts";
import { Firmware } from "../../src/arm/firmware.ts";
import type { CpuCore } from "../../src/arm/cpu.ts";
import { BOARD, Machine as WholeMachine } from "../../src/arm/machine.ts";
import { READERS, WRITERS } from "../../src/arm/sysreg_views.ts";
import { Asm, COND } from "../support/asm.ts";
import { E2H, Machine, mrsWord, msrWord, RW, TGE } from "./core_fixture.ts";

const CODE = BOARD.ram;
const VECTORS = CODE + 0x1000;
const USER = CODE + 0x2000;
const DATA = CODE + 0x3000;
const E = 1, P = 2, C = 4;
const EXCLUDE_EL1 = 2 ** 31, EXCLUDE_EL0 = 2 ** 30;
const SVC = 0xd400_0001;
const QUANTA = [1, 3, 7, 100, 10_000];

interface Counted {
  readonly machine: WholeMachine;
  /** PMEVCNTR0 to PMEVCNTR5, then PMCCNTR. */
  readonly counters: number[];
}

const register = (n: number): number => n === CYCLE_COUNTER ? R.PMCCNTR_EL0 : R.PMEVCNTR0_EL0 + n;

function counter(machine: WholeMachine, n: number): number {
  const core = machine.cores[0];
  assert.ok(core);
  const out = { lo: 0, hi: 0 };
  READERS[register(n)]?.(core, register(n), out);
  return (out.lo >>> 0) + out.hi * 2 ** 32;
}

/** Starts the code's parts at EL1, the first of them first; it ends by branching to itself at `end`. */
function started(parts: readonly Asm[], quantum: number): WholeMachine {
  const machine = new WholeMachine({ pcpus: 1, ramSize: 1 << 20, quantum }, new Firmware("smc"));
  for (const part of parts) {
    machine.writeRam(part.base, new Uint8Array(new Uint32Array(part.words()).buffer));
  }
  machine.start(0, 1, CODE, 0);
  return machine;
}

/** Sets counter n to count `types[n]`, all of them and the cycle counter enabled; PMCR_EL0 is in X20. */
function setUp(types: readonly number[]): Asm {
  const a = new Asm(CODE).mov(0, VECTORS).msr("VBAR_EL1", 0).mov(2, DATA).mov(4, 0);
  types.forEach((type, n) => a.mov(0, type).msr(`PMEVTYPER${n}_EL0` as SysregName, 0));
  return a.mov(0, 0x8000_003f).msr("PMCNTENSET_EL0", 0).mov(20, E | P | C).mov(21, 0);
}

function run(parts: readonly Asm[], quantum: number): Counted {
  const machine = started(parts, quantum);
  machine.run(20_000);
  const counters = [0, 1, 2, 3, 4, 5, CYCLE_COUNTER].map((n) => counter(machine, n));
  return { machine, counters };
}

Deno.test("instructions and cycles over a loop are exact, from enabling to disabling, at any quantum", () => {
  for (const loops of [1, 2, 1000]) {
    const a = setUp([PMU_EVENT.INST_RETIRED, PMU_EVENT.CPU_CYCLES]);
    a.mov(1, loops).msr("PMCR_EL0", 20).label("loop").subs(1, 1, 1).bCond(COND.NE, "loop");
    a.msr("PMCR_EL0", 21).label("end").b("end");
    for (const quantum of QUANTA) {
      const { counters } = run([a], quantum);
      const expected = 2 * loops + 1;
      assert.deepEqual([counters[0], counters[1], counters[6]], [expected, expected, expected]);
    }
  }
});

Deno.test("a counter that is read has counted what came before the read", () => {
  const a = setUp([PMU_EVENT.INST_RETIRED]).msr("PMCR_EL0", 20).nop().nop();
  a.mrs(5, "PMEVCNTR0_EL0").mrs(6, "PMCCNTR_EL0").nop().mrs(7, "PMXEVCNTR_EL0");
  a.msr("PMCR_EL0", 21).label("end").b("end");
  const { machine } = run([a], 10_000);
  const x = (n: number) => machine.memory.ld53((machine.platform.cpus[0]?.gpr ?? 0) + 8 * n);
  assert.deepEqual([x(5), x(6), x(7)], [2, 3, 5]);
});

/** EL0 makes `calls` SVCs, each with 2 instructions before; EL1 answers with `handler` NOPs and ERET. */
function callers(types: readonly number[], calls: number, handler: number, word = SVC): Asm[] {
  const a = setUp(types).mov(1, calls).mov(0, USER).msr("ELR_EL1", 0).mov(0, 0);
  a.msr("SPSR_EL1", 0).msr("PMCR_EL0", 20).eret();
  const user = new Asm(USER).label("loop").subs(1, 1, 1).nop().word(word);
  user.cbnz(1, "loop").label("end").b("end");
  const v = new Asm(VECTORS).org(VECTORS + 0x400);
  for (let i = 0; i < handler; i++) v.nop();
  if (word !== SVC) v.mrs(9, "ELR_EL1").add(9, 9, 4).msr("ELR_EL1", 9);
  v.cbnz(1, "back").msr("PMCR_EL0", 21).label("back").eret();
  return [a, user, v];
}

Deno.test("levels are counted apart, and an instruction that aborts is begun but not retired", () => {
  const types = [
    PMU_EVENT.INST_RETIRED,
    PMU_EVENT.INST_RETIRED + EXCLUDE_EL1,
    PMU_EVENT.INST_RETIRED + EXCLUDE_EL0,
    PMU_EVENT.CPU_CYCLES + EXCLUDE_EL1,
    PMU_EVENT.EXC_TAKEN,
    PMU_EVENT.EXC_RETURN,
  ];
  const calls = 50, handler = 3;
  for (const quantum of QUANTA) {
    // The ERET that starts EL0; the last call ends with the MSR that disables.
    const { counters } = run(callers(types, calls, handler), quantum);
    const el0 = 3 * calls + calls - 1;
    const el1 = 1 + calls * (handler + 2);
    assert.deepEqual(counters.slice(0, 6), [el0 + el1, el0, el1, el0, calls, calls], "SVC");
    const brk = run(callers(types, calls, handler, 0xd420_0000), quantum).counters;
    const handled = 1 + calls * (handler + 5);
    assert.deepEqual(brk.slice(1, 4), [el0 - calls, handled, el0], "BRK is not retired");
  }
});

Deno.test("accesses to memory are counted one by one, and the program computes the same", () => {
  const body = (a: Asm): Asm =>
    a.label("loop").ldr(3, 2).addReg(4, 4, 3).str(4, 2, 8).word(0xa940_1845) // ldp x5, x6, [x2]
      .subs(1, 1, 1).bCond(COND.NE, "loop");
  const build = (event: number): Asm => {
    const a = setUp([event]).mov(1, 100).msr("PMCR_EL0", 20);
    return body(a).msr("PMCR_EL0", 21).ldr(3, 2).label("end").b("end");
  };
  for (const quantum of QUANTA) {
    const { counters, machine } = run([build(PMU_EVENT.MEM_ACCESS)], quantum);
    assert.equal(counters[0], 400);
    const other = run([build(PMU_EVENT.INST_RETIRED)], quantum);
    const cpu = machine.platform.cpus[0], free = other.machine.platform.cpus[0];
    assert.ok(cpu && free);
    for (const n of [4, 5, 6]) {
      assert.equal(
        machine.memory.ld53(cpu.gpr + 8 * n),
        other.machine.memory.ld53(free.gpr + 8 * n),
      );
    }
  }
});

Deno.test("SW_INCR counts writes of PMSWINC_EL0, and CHAIN the overflows of the counter below", () => {
  const a = setUp([PMU_EVENT.SW_INCR, PMU_EVENT.CHAIN, PMU_EVENT.SW_INCR]);
  a.mov(0, 0xffff_fffe).mov(1, 5).msr("PMCR_EL0", 20).msr("PMEVCNTR0_EL0", 0);
  a.mov(3, 0b101).label("loop").msr("PMSWINC_EL0", 3).subs(1, 1, 1).bCond(COND.NE, "loop");
  a.mrs(9, "PMOVSSET_EL0").msr("PMCR_EL0", 21).msr("PMSWINC_EL0", 3).label("end").b("end");
  const { counters, machine } = run([a], 100);
  assert.deepEqual(counters.slice(0, 3), [3, 1, 5]);
  const gpr = machine.platform.cpus[0]?.gpr ?? 0;
  assert.equal(machine.memory.ld53(gpr + 8 * 9), 1);
});

Deno.test("a 64-bit cycle counter overflows into PMOVSSET_EL0.C; a chain carries on", () => {
  const a = setUp([PMU_EVENT.CPU_CYCLES, PMU_EVENT.CHAIN]).mov(1, 40).mov(0, -1n);
  a.msr("PMCR_EL0", 20).msr("PMCCNTR_EL0", 0).mov(0, 0xffff_fff0).msr("PMEVCNTR0_EL0", 0);
  a.mov(0, 0xffff_ffff).msr("PMEVCNTR1_EL0", 0);
  a.label("loop").subs(1, 1, 1).bCond(COND.NE, "loop").msr("PMCR_EL0", 21).label("end").b("end");
  for (const quantum of QUANTA) {
    const { counters, machine } = run([a], quantum);
    assert.equal(counters[1], 0);
    assert.ok((counters[6] ?? 0) < 200);
    assert.equal(machine.cores[0]?.regs.lo(R.PMOVSSET_EL0), 0x8000_0003);
  }
});

/** Lets private interrupt 23 through to the CPU. */
function openInterrupt(machine: WholeMachine): void {
  const core = machine.cores[0];
  assert.ok(core);
  const write = (pa: number, value: bigint) => {
    const region = machine.platform.bus.find(pa, 4);
    region?.device.write(pa - region.base, 4, value, 0);
  };
  write(BOARD.gicd.pa, 0x13n);
  write(BOARD.gicr.pa + 0x14, 0n);
  write(BOARD.gicr.pa + 0x1_0080, 0xffff_ffffn);
  write(BOARD.gicr.pa + 0x1_0100, 1n << 23n);
  for (const [name, value] of [["ICC_PMR_EL1", 0xff], ["ICC_IGRPEN1_EL1", 1]] as const) {
    WRITERS[R[name]]?.(core, R[name], value, 0);
  }
}

Deno.test("the overflow interrupt comes at its instruction, at any quantum and from a snapshot", () => {
  const build = (event: number): Asm[] => {
    const a = setUp([event]).mov(0, 1).msr("PMINTENSET_EL1", 0).mov(1, 0).mov(0, 2 ** 32 - 501);
    a.msr("PMCR_EL0", 20).msr("PMEVCNTR0_EL0", 0).daifClr(2);
    a.label("loop").add(1, 1, 1).b("loop");
    const v = new Asm(VECTORS).org(VECTORS + 0x280).label("end").b("end");
    return [a, v];
  };
  const count = (machine: WholeMachine): number => {
    machine.run(3000);
    return machine.memory.ld53((machine.platform.cpus[0]?.gpr ?? 0) + 8);
  };
  for (const event of [PMU_EVENT.CPU_CYCLES, PMU_EVENT.INST_RETIRED]) {
    for (const quantum of QUANTA) {
      const machine = started(build(event), quantum);
      openInterrupt(machine);
      machine.run(200);
      const snapshot = machine.snapshot();
      assert.equal(count(machine), 250, `quantum ${quantum}`);
      const other = started(build(event), 10_000);
      other.restore(snapshot);
      assert.equal(count(other), 250);
    }
  }
});

Deno.test("at the same instruction the counters are the same, whatever the turns were", () => {
  const types = [PMU_EVENT.INST_RETIRED, PMU_EVENT.CPU_CYCLES + EXCLUDE_EL1, PMU_EVENT.EXC_TAKEN];
  const states = QUANTA.map((quantum) => {
    const machine = started(callers(types, 10_000, 3), quantum);
    assert.equal(machine.run(1e9, 5003), "limit");
    const { cpu, regs } = machine.cores[0] as CpuCore;
    const raw = [0, 1, 2, CYCLE_COUNTER].map((n) => regs.lo(register(n)));
    return [...raw, cpu.pmuAt, cpu.pmuAbortedAt, cpu.aborted, cpu.pc];
  });
  for (const state of states) assert.deepEqual(state, states[0]);
});

// Registers and access

Deno.test("PMCR_EL0: N by level and HPMN, LC RES1, resets by P and C of what the level reaches", () => {
  const m = new Machine({ el: 2 });
  assert.equal(m.mrs("PMCR_EL0"), (6n << 11n) | 0x40n);
  m.set({ MDCR_EL2: 4n, PMEVCNTR3_EL0: 9n, PMEVCNTR4_EL0: 9n, PMCCNTR_EL0: 9n });
  m.enter(1);
  assert.equal(m.mrs("PMCR_EL0"), (4n << 11n) | 0x40n);
  m.msr("PMCR_EL0", 0xffff_ffffn);
  assert.equal(m.mrs("PMCR_EL0"), (4n << 11n) | 0x71n);
  const { regs } = m.core();
  assert.deepEqual([regs.lo(R.PMEVCNTR3_EL0), regs.lo(R.PMEVCNTR4_EL0)], [0, 9]);
  m.msr("PMCNTENSET_EL0", 0xffff_ffffn);
  assert.equal(m.mrs("PMCNTENCLR_EL0"), 0x8000_000fn);
  m.msr("PMCNTENCLR_EL0", 1n);
  assert.equal(m.mrs("PMCNTENSET_EL0"), 0x8000_000en);
});

Deno.test("registers keep the bits there are", () => {
  const m = new Machine({ el: 2 });
  const rows: [SysregName, bigint][] = [
    ["PMEVTYPER5_EL0", 0xc800_03ffn],
    ["PMCCFILTR_EL0", 0xc800_0000n],
    ["PMEVCNTR0_EL0", 0xffff_ffffn],
    ["PMCCNTR_EL0", 0xffff_ffff_ffff_ffffn],
    ["PMSELR_EL0", 31n],
    ["PMUSERENR_EL0", 15n],
    ["PMINTENSET_EL1", 0x8000_003fn],
    ["PMOVSSET_EL0", 0x8000_003fn],
    ["MDCR_EL2", 0xfffn],
  ];
  for (const [name, kept] of rows) {
    m.msr(name, 0xffff_ffff_ffff_ffffn);
    assert.equal(m.mrs(name), kept, name);
  }
  assert.equal(m.mrs("PMCEID0_EL0"), 0x400a_0701n);
  assert.equal(m.mrs("PMCEID1_EL0"), 0n);
});

Deno.test("PMSELR_EL0 selects: a counter, the cycle counter's filter, or nothing", () => {
  const m = new Machine({ el: 1 });
  m.msr("PMSELR_EL0", 3n);
  m.msr("PMXEVTYPER_EL0", 0x11n);
  m.msr("PMXEVCNTR_EL0", 77n);
  assert.deepEqual([m.mrs("PMEVTYPER3_EL0"), m.mrs("PMEVCNTR3_EL0")], [0x11n, 77n]);
  m.msr("PMSELR_EL0", 31n);
  m.msr("PMXEVTYPER_EL0", 0x4000_0000n);
  assert.equal(m.mrs("PMCCFILTR_EL0"), 0x4000_0000n);
  for (const [sel, name] of [[31n, "PMXEVCNTR_EL0"], [6n, "PMXEVTYPER_EL0"]] as const) {
    m.msr("PMSELR_EL0", sel);
    m.execute(mrsWord(sysreg(name).key, 1));
    assert.equal(m.core().regs.lo(R.ESR_EL1), 0x0200_0000, name);
  }
});

/** The level that an access at `el` traps to, 0 for none, -1 for UNDEFINED. */
function trapOf(m: Machine, name: SysregName, write: boolean): number {
  const from = m.core().cpu.el;
  const { key } = sysreg(name);
  m.execute((write ? msrWord : mrsWord)(key, 1));
  const { cpu, regs } = m.core();
  if (cpu.el === from && cpu.daif !== 15) return 0;
  const ec = regs.lo(cpu.el === 1 ? R.ESR_EL1 : R.ESR_EL2) >>> 26;
  return ec === 0 ? -1 : cpu.el;
}

Deno.test("PMUSERENR_EL0 opens registers to EL0, each with its own bit", () => {
  const rows: [SysregName, boolean, number][] = [
    ["PMCR_EL0", false, 1],
    ["PMCNTENSET_EL0", true, 1],
    ["PMOVSCLR_EL0", true, 1],
    ["PMCEID0_EL0", false, 1],
    ["PMEVTYPER0_EL0", false, 1],
    ["PMCCFILTR_EL0", true, 1],
    ["PMSWINC_EL0", true, 3],
    ["PMCCNTR_EL0", false, 5],
    ["PMCCNTR_EL0", true, 1],
    ["PMSELR_EL0", true, 9],
    ["PMXEVCNTR_EL0", false, 9],
    ["PMEVCNTR2_EL0", false, 9],
    ["PMEVCNTR2_EL0", true, 1],
  ];
  for (const [name, write, open] of rows) {
    for (const bit of [0, 1, 2, 4, 8]) {
      for (const host of [false, true]) {
        const m = new Machine({ el: 2 });
        m.set({ PMUSERENR_EL0: BigInt(bit), HCR_EL2: host ? RW | TGE | E2H : RW });
        m.enter(0);
        const expected = bit & open ? 0 : host ? 2 : 1;
        assert.equal(trapOf(m, name, write), expected, `${name} ${write} ${bit}`);
      }
    }
  }
  const user = new Machine({ el: 1 });
  user.enter(0);
  assert.equal(trapOf(user, "PMUSERENR_EL0", false), 0);
  user.enter(0);
  assert.equal(trapOf(user, "PMUSERENR_EL0", true), -1);
});

Deno.test("MDCR_EL2.TPM and TPMCR trap to EL2; HPMN hides counters from EL1", () => {
  const rows: [SysregName, bigint, number][] = [
    ["PMCCNTR_EL0", 0x46n, 2],
    ["PMUSERENR_EL0", 0x46n, 2],
    ["PMINTENSET_EL1", 0x46n, 2],
    ["PMCR_EL0", 0x26n, 2],
    ["PMCCNTR_EL0", 0x26n, 0],
    ["PMEVCNTR4_EL0", 4n, -1],
    ["PMEVTYPER4_EL0", 4n, -1],
    ["PMEVCNTR3_EL0", 4n, 0],
  ];
  for (const [name, mdcr, target] of rows) {
    const m = new Machine({ el: 2 });
    m.set({ MDCR_EL2: mdcr });
    m.enter(1);
    assert.equal(trapOf(m, name, false), target, `${name} ${mdcr}`);
  }
});

Deno.test("a snapshot keeps what counts: accesses, instructions, an interrupt that is pending", () => {
  const a = setUp([PMU_EVENT.MEM_ACCESS, PMU_EVENT.INST_RETIRED]).mov(1, 500);
  a.mov(0, 1).msr("PMINTENSET_EL1", 0).msr("PMCR_EL0", 20).mov(0, 0xffff_ff00);
  a.msr("PMEVCNTR0_EL0", 0).label("loop").ldr(3, 2).subs(1, 1, 1).bCond(COND.NE, "loop");
  a.msr("PMCR_EL0", 21).label("end").b("end");
  const machine = started([a], 100);
  machine.run(1200);
  assert.equal(machine.cores[0]?.cpu.pmuLine, 1);
  const snapshot = machine.snapshot();
  const ends = [machine, started([new Asm(CODE).label("end").b("end")], 7)].map((each) => {
    each.restore(snapshot);
    each.run(5000);
    return [0, 1, CYCLE_COUNTER].map((n) => counter(each, n));
  });
  assert.deepEqual(ends[1], ends[0]);
  assert.equal(ends[0]?.[0], 500 - 256);
});
