/**
 * Hot code that reads the counter, and reads and writes registers of the interrupt controller and of the timers: a
 * region does that itself, and is where the interpreter is, in time, interrupts and traps.
 */
import assert from "node:assert/strict";
import { CNTKCTL } from "../../../src/arm/arch/fields.ts";
import { Asm, COND } from "../../support/asm.ts";
import {
  logException,
  logWord,
  MAP,
  off,
  onEveryTier,
  openGic,
  prologue,
  PTE,
  type TierMachine,
  vectors,
} from "../../support/tier_machine.ts";

const TURNS = 3000;
const USER_CODE = MAP.alias;

/** Ends the loop whose turns X11 counts. */
function turn(a: Asm): Asm {
  return a.subs(11, 11, 1).bCond(COND.NE, "loop");
}

/** Vectors that count interrupts in X25 and their INTIDs' sum in X26, and log synchronous exceptions, which they skip. */
function counting(): Asm {
  const v = vectors();
  v.label("irq").mrs(20, "ICC_IAR1_EL1").add(25, 25, 1).addReg(26, 26, 20);
  // A timer is put off, before the interrupt ends
  v.mov(21, 0).msr("CNTV_CTL_EL0", 21).msr("ICC_EOIR1_EL1", 20).mrs(21, "ICC_RPR_EL1");
  v.addReg(27, 27, 21).eret();
  v.label("sync");
  return logException(v).add(21, 21, 4).msr("ELR_EL1", 21).eret();
}

onEveryTier(
  "the counter is read in each turn of a loop, at the moment that the interpreter reads it",
  {
    leastShare: 0.9,
    load: (m) => {
      const a = prologue(m).mov(11, TURNS).mov(4, 0).mov(5, 0).mrs(8, "CNTVCT_EL0");
      a.label("loop").mrs(6, "CNTVCT_EL0").addReg(4, 4, 6).mrs(7, "CNTPCT_EL0").addReg(5, 5, 7);
      // Another path, with other instructions behind the read
      a.tbz(11, 1, "on").mrs(9, "CNTVCT_EL0").addReg(4, 4, 9).label("on");
      turn(a).mrs(9, "CNTVCT_EL0");
      for (const n of [4, 5, 8, 9]) logWord(a, n);
      m.load(off(a), counting());
    },
    check: (m) => {
      const [sum, physical, first, last] = m.log().map((text) => Number(`0x${text}`));
      // 7 or 9 instructions a turn, 16 to the tick.
      const ticks = (last as number) - (first as number);
      assert.ok(ticks >= TURNS * 7 / 16 && ticks <= TURNS * 9 / 16 + 1, `${ticks} ticks`);
      assert.ok((sum as number) > TURNS * (first as number));
      assert.ok((physical as number) > TURNS * (first as number));
    },
  },
);

onEveryTier(
  "a hot loop sends itself SGIs and has its timer interrupt it; the handler is hot, too",
  {
    load: (m) => {
      const a = openGic(prologue(m), (1 << 3) | (1 << 27)).mov(11, TURNS);
      for (const n of [25, 26, 27, 4, 5]) a.mov(n, 0);
      a.mov(13, (3 << 24) | 1).daifClr(2);
      a.label("loop").tbz(11, 2, "timer").msr("ICC_SGI1R_EL1", 13).b("on");
      a.label("timer").mov(14, 2).msr("CNTV_TVAL_EL0", 14).mov(14, 1).msr("CNTV_CTL_EL0", 14);
      a.mrs(6, "CNTV_CTL_EL0").addReg(4, 4, 6).mrs(6, "CNTV_TVAL_EL0").addReg(5, 5, 6);
      a.label("on").mov(9, 20).label("wait").subs(9, 9, 1).bCond(COND.NE, "wait");
      turn(a);
      // ISTATUS has been seen only with the condition met
      for (const n of [25, 26, 27, 4, 5]) logWord(a, n);
      m.load(off(a), counting());
    },
    check: (m) => {
      const [count, intids, running] = m.log().map((text) => Number(`0x${text}`));
      assert.ok((count as number) > TURNS / 2, `${count} interrupts`);
      assert.ok((intids as number) > 3 * TURNS / 2);
      // Behind its end nothing is active: the idle priority.
      assert.equal(running, 0xff * (count as number));
    },
  },
);

onEveryTier("a write of the priority mask lets a pending interrupt in right behind itself", {
  load: (m) => {
    const a = openGic(prologue(m), 1 << 3).mov(11, TURNS).mov(13, (3 << 24) | 1);
    for (const n of [25, 26, 27, 4]) a.mov(n, 0);
    a.mov(14, 0).mov(15, 0xff).daifClr(2);
    a.label("loop").msr("ICC_PMR_EL1", 14).msr("ICC_SGI1R_EL1", 13).movReg(6, 25);
    // What is added is how many interrupts there were between the write and the next instruction
    a.msr("ICC_PMR_EL1", 15).label("behind").addReg(4, 4, 25).mrs(7, "ICC_PMR_EL1");
    turn(a.eor(4, 4, 7));
    for (const n of [4, 25]) logWord(a, n);
    m.load(off(a), counting());
  },
  check: (m) => {
    let sum = 0;
    for (let n = 1; n <= TURNS; n++) sum = (sum + n) ^ 0xf8;
    assert.deepEqual(m.log(), [sum.toString(16), TURNS.toString(16)]);
  },
});

/** EL0 reads the counter in a loop, and makes a call. */
function user(m: TierMachine, control: number): void {
  m.tables.map(USER_CODE, MAP.hot, PTE.USER_RO);
  const code = new Asm(USER_CODE).mov(11, TURNS).mov(4, 0);
  code.label("loop").mrs(6, "CNTVCT_EL0").addReg(4, 4, 6).nop().nop();
  m.loadAt(MAP.hot, turn(code).svc());
  const a = prologue(m).mov(1, control).msr("CNTKCTL_EL1", 1).mov(1, USER_CODE).msr("ELR_EL1", 1);
  a.mov(1, 0).msr("SPSR_EL1", 1).mov(24, 0).eret();
  const v = vectors();
  v.label("irq").b("irq").label("sync").mrs(20, "ESR_EL1").lsr(19, 20, 26).mov(18, 0x18);
  v.cmp(19, 18).bCond(COND.NE, "end");
  v.add(24, 24, 1).mov(6, 0).mrs(21, "ELR_EL1").add(21, 21, 4).msr("ELR_EL1", 21).eret();
  v.label("end");
  logWord(logWord(v, 4), 24);
  m.load(a, off(v));
}

onEveryTier("EL0 reads the counter where CNTKCTL_EL1 lets it", {
  leastShare: 0.9,
  load: (m) => user(m, CNTKCTL.EL0VCTEN),
  check: (m) => {
    assert.notEqual(m.log()[0], "0");
    assert.equal(m.log()[1], "0");
  },
});

onEveryTier("and is trapped each time where it does not", {
  load: (m) => user(m, CNTKCTL.EL0PCTEN),
  check: (m) => assert.deepEqual(m.log(), ["0", TURNS.toString(16)]),
});
