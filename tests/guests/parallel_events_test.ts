/** What wakes a CPU of another worker: events, interrupts, timers, and being switched on. */
import assert from "node:assert/strict";
import { type Asm, COND } from "../support/asm.ts";
import {
  fresh,
  INSN,
  off,
  onTeams,
  PSCI,
  setUp,
  TEAM,
  TeamProgram,
  times,
} from "../support/team_guest.ts";

type Cpu = 0 | 1;

/** What each CPU leaves: how often it got what it waited for, and what went wrong. */
const COUNT = (cpu: Cpu): number => TEAM.data + 0x100 * cpu;
const ERRORS = (cpu: Cpu): number => COUNT(cpu) + 8;
const TURN = TEAM.data + 0x1000;
const ROUNDS = 200;

/** X3 and X19 as {@link COUNT} and {@link ERRORS} of this CPU. */
function leave(a: Asm, cpu: Cpu): void {
  a.mov(1, COUNT(cpu)).str(3, 1).str(19, 1, 8);
}

const bothParts = (program: TeamProgram, part: (cpu: Cpu) => (a: Asm) => void): TeamProgram =>
  program.both(part(0), part(1));

/** By turns, with WFE between the looks; the counter's value goes with the turn. */
function events(): TeamProgram {
  return bothParts(new TeamProgram(), (cpu) => (a) => {
    a.mov(1, TURN).mov(3, 0).mov(12, cpu).mov(19, 0);
    times(a, 10, ROUNDS, () => {
      const look = fresh("look"), come = fresh("come"), later = fresh("later");
      a.label(look).word(INSN.ldar(9, 1)).cmp(9, 12).bCond(COND.EQ, come).word(INSN.wfe).b(look);
      a.label(come).add(3, 3, 1).ldr(16, 1, 8).isb().mrs(17, "CNTVCT_EL0");
      // Time does not go back from one CPU to the other
      a.cmp(17, 16).bCond(COND.HS, later).add(19, 19, 1).label(later).str(17, 1, 8);
      a.add(13, 12, 1).add(12, 12, 2).word(INSN.stlr(13, 1), INSN.dsbIshSt, INSN.sev);
    });
    leave(a, cpu);
  });
}

function checkBoth(end: { get(ipa: number): bigint }): void {
  for (const cpu of [0, 1] as const) {
    const found = [end.get(COUNT(cpu)), end.get(ERRORS(cpu))];
    assert.deepEqual(found, [BigInt(ROUNDS), 0n], `CPU ${cpu}`);
  }
}

onTeams("SEV wakes a CPU from WFE, by turns", events, checkBoth);

const GICD = 0x0800_0000, GICR = 0x080a_0000, GICR_SIZE = 0x2_0000, SGI_FRAME = 0x1_0000;
/** INTID of the virtual timer, and an SGI. */
const VTIMER = 27, SGI = 5;

/** This CPU's interface, its SGIs and its timer's interrupt. Uses X1 and X2. */
function setUpGic(a: Asm, cpu: Cpu): void {
  const redistributor = GICR + GICR_SIZE * cpu;
  // GICD_CTLR: ARE and Group 1; GICR_WAKER; GICR_IGROUPR0; GICR_ISENABLER0
  a.mov(1, GICD).mov(2, 0x12).strW(2, 1).mov(1, redistributor).strW(31, 1, 0x14);
  a.mov(1, redistributor + SGI_FRAME).mov(2, 0xffff_ffff).strW(2, 1, 0x80);
  a.mov(2, (1 << VTIMER) | (1 << SGI)).strW(2, 1, 0x100);
  a.mov(2, 7).msr("ICC_SRE_EL1", 2).isb().mov(2, 0xff).msr("ICC_PMR_EL1", 2);
  a.mov(2, 1).msr("ICC_IGRPEN1_EL1", 2).isb();
}

/** Waits in WFI, interrupts masked, until `intid` is acknowledged; `quiet` makes its line low before the EOI. Uses X4 and X5. */
function awaitInterrupt(a: Asm, intid: number, quiet: () => void = () => {}): void {
  const again = fresh("interrupt");
  a.mov(5, intid).label(again).wfi().mrs(4, "ICC_IAR1_EL1").cmp(4, 5).bCond(COND.NE, again);
  quiet();
  a.msr("ICC_EOIR1_EL1", 4).isb();
}

function interrupts(): TeamProgram {
  const program = new TeamProgram();
  return bothParts(program, (cpu) => (a) => {
    setUpGic(a, cpu);
    program.meet(a);
    a.mov(3, 0).mov(19, 0).mov(13, (SGI << 24) | (1 << (1 - cpu)));
    const send = () => a.dsb().msr("ICC_SGI1R_EL1", 13).isb();
    times(a, 10, ROUNDS, () => {
      if (cpu === 0) send();
      awaitInterrupt(a, SGI);
      a.add(3, 3, 1);
      if (cpu === 1) send();
    });
    leave(a, cpu);
  });
}

onTeams("SGIs wake a CPU from WFI, by turns", interrupts, checkBoth);

/** How far ahead the timers are set, in ticks: 100 us. */
const AHEAD = 6250;

function timers(): TeamProgram {
  const program = new TeamProgram();
  return bothParts(program, (cpu) => (a) => {
    setUpGic(a, cpu);
    a.mov(3, 0).mov(19, 0).mov(13, AHEAD).mov(14, 1);
    program.meet(a);
    times(a, 10, ROUNDS, () => {
      const late = fresh("late");
      a.isb().mrs(16, "CNTVCT_EL0").msr("CNTV_TVAL_EL0", 13).msr("CNTV_CTL_EL0", 14).isb();
      awaitInterrupt(a, VTIMER, () => a.msr("CNTV_CTL_EL0", 31).isb());
      a.mrs(17, "CNTVCT_EL0").addReg(16, 16, 13).cmp(17, 16).bCond(COND.HS, late).add(19, 19, 1);
      a.label(late).add(3, 3, 1);
    });
    leave(a, cpu);
  });
}

onTeams("each CPU's timer wakes it, never early", timers, checkBoth);

/** Each CPU by turns switches the other one on, which waits until it is off. X20 is the turn. */
function relay(): TeamProgram {
  return new TeamProgram().alone((a) => {
    a.mov(20, 1).label("pass");
    a.mov(0, PSCI.CPU_ON).mov(1, 0).bfi(1, 20, 0, 1).adr(2, "relay").movReg(3, 20).hvc();
    a.cbnz(0, "wrong").mov(0, PSCI.CPU_OFF).hvc().b("wrong");
    a.label("relay").movReg(20, 0).mrs(21, "MPIDR_EL1").mov(22, 0).bfi(22, 21, 0, 1).eor(
      22,
      22,
      20,
    );
    a.tbz(22, 0, "here").b("wrong");
    a.label("here").mov(0, PSCI.AFFINITY_INFO).mov(1, 0).add(21, 20, 1).bfi(1, 21, 0, 1).mov(2, 0);
    // 1: off
    a.hvc().mov(21, 1).cmp(0, 21).bCond(COND.NE, "here");
    a.mov(21, TEAM.data).str(20, 21).mov(21, ROUNDS).cmp(20, 21).bCond(COND.EQ, "end");
    a.add(20, 20, 1).b("pass");
    a.label("wrong").mov(21, TEAM.data).str(0, 21, 8).mov(20, 1).str(20, 21, 16).label("end");
    setUp(a);
    off(a);
  });
}

onTeams("CPUs switch one another on and themselves off, by turns", relay, (end) => {
  const found = [0, 8, 16].map((at) => end.get(TEAM.data + at));
  assert.deepEqual(found, [BigInt(ROUNDS), 0n, 0n], "turns, what a call returned, something wrong");
});
