/**
 * Hot code around which the CPU's state changes: exception levels, PAN, breakpoints, watchpoints,
 * stepping, counters. On every tier it is the same.
 */
import assert from "node:assert/strict";
import { Asm, COND } from "../../support/asm.ts";
import {
  callHotLoop,
  enterHotLoop,
  type HotLoop,
  hotLoop,
  pageOf,
  setPointers,
} from "../../support/hot_loop.ts";
import {
  logException,
  logWord,
  MAP,
  off,
  onEveryTier,
  openGic,
  prologue,
  PTE,
  TierMachine,
  vectors,
} from "../../support/tier_machine.ts";

const EC = {
  SVC: 0x15,
  DATA_ABORT: 0x24,
  DATA_ABORT_SAME: 0x25,
  BREAKPOINT: 0x31,
  STEP: 0x33,
  WATCHPOINT: 0x35,
} as const;
const LOOP_TURNS = 300;

/** Branches to `label` if the exception class in X20's syndrome is `ec`; X19 is used. */
function onClass(a: Asm, ec: number, label: string): Asm {
  return a.lsr(19, 20, 26).mov(18, ec).cmp(19, 18).bCond(COND.EQ, label);
}

const USER_CODE = MAP.alias, USER_DATA = MAP.alias + 0x1000, KERNEL_DATA = MAP.data + 0x1000;

onEveryTier("a hot loop at EL0 calls EL1 in each turn; both have data of their own", {
  load: (m) => {
    m.tables.map(USER_CODE, MAP.hot, PTE.USER_RO).map(USER_DATA, MAP.data, PTE.USER_RW);
    const user = new Asm(USER_CODE).mov(11, LOOP_TURNS).mov(0, 0);
    user.label("loop").add(0, 0, 1).ldr(3, 12).addReg(3, 3, 0).str(3, 12).svc(1).eor(4, 4, 3);
    // Every 16th turn it tries the other's data
    user.word(0xf240_0d7f).bCond(COND.NE, "own").ldr(5, 13).label("own");
    user.subs(11, 11, 1).bCond(COND.NE, "loop").svc(2);
    m.loadAt(MAP.hot, user);
    const a = prologue(m).mov(12, USER_DATA).mov(13, KERNEL_DATA).mov(1, USER_CODE).msr(
      "ELR_EL1",
      1,
    );
    a.mov(1, 0).msr("SPSR_EL1", 1).mov(0, 0).mov(4, 0).eret();
    const v = vectors();
    v.label("irq").b("irq").label("sync").mrs(20, "ESR_EL1");
    onClass(v, EC.DATA_ABORT, "abort").tbz(20, 1, "call");
    off(v).label("abort");
    logException(v).add(21, 21, 4).msr("ELR_EL1", 21).eret();
    // It counts in the caller's page and in its own
    v.label("call").ldr(6, 13).add(6, 6, 1).str(6, 13).ldr(6, 12, 8).add(6, 6, 1).str(6, 12, 8)
      .eret();
    m.load(a, v);
  },
  check: (m) => {
    assert.equal(m.get64(MAP.data), BigInt(LOOP_TURNS * (LOOP_TURNS + 1) / 2));
    assert.equal(m.get64(MAP.data + 8), BigInt(LOOP_TURNS));
    assert.equal(m.get64(KERNEL_DATA), BigInt(LOOP_TURNS));
    assert.equal(m.log().length, 4 * Math.floor(LOOP_TURNS / 16));
  },
});

onEveryTier("a hot loop whose accesses are misaligned after some turns, and cross a page", {
  leastShare: 0.5,
  load: (m) => {
    const a = prologue(m).mov(11, 4000).mov(12, MAP.data + 0x800).mov(4, 0).mov(13, 0);
    // 600 turns at one place, then on by 3 bytes in each that follows, back to the beginning after 1000 more
    a.label("loop").ldr(3, 12).add(3, 3, 1).str(3, 12).addReg(4, 4, 3).add(13, 13, 1);
    a.subs(14, 13, 600).bCond(COND.LO, "stay").add(12, 12, 3).label("stay");
    a.subs(14, 13, 1600).bCond(COND.NE, "on").mov(12, MAP.data + 0x800).mov(13, 0).label("on");
    a.subs(11, 11, 1).bCond(COND.NE, "loop");
    const v = vectors();
    v.label("irq").b("irq").label("sync");
    m.load(off(a.mov(5, MAP.data).str(4, 5)), off(v));
  },
  // Three times 600 turns begin at that address; what lies above its first three bytes is the others'.
  check: (m) => assert.equal(m.get64(MAP.data + 0x800) & 0xff_ffffn, 1800n),
});

onEveryTier("one hot function for EL0 and EL1: what it may access is its caller's", {
  load: (m) => {
    m.tables.map(USER_CODE, MAP.hot, PTE.USER_RO);
    // At 0x800: adds from [X13], as EL1 and as EL0
    const both = new Asm(USER_CODE + 0x800).ldr(3, 13).addReg(0, 0, 3).add(0, 0, 1).ret();
    m.loadAt(MAP.hot + 0x800, both);
    const user = new Asm(USER_CODE).label("loop").blr(9).svc(1).subs(11, 11, 1).bCond(
      COND.NE,
      "loop",
    ).svc(2);
    m.loadAt(MAP.hot, user);
    m.put64(KERNEL_DATA, 0x100n);
    const a = prologue(m).mov(9, USER_CODE + 0x800).mov(13, KERNEL_DATA).mov(11, 60).mov(0, 0).mov(
      3,
      0,
    );
    a.mov(1, USER_CODE).msr("ELR_EL1", 1).mov(1, 0).msr("SPSR_EL1", 1).eret();
    const v = vectors();
    v.label("irq").b("irq").label("sync").mrs(20, "ESR_EL1");
    onClass(v, EC.DATA_ABORT, "abort").tbz(20, 1, "call");
    logWord(v, 0);
    off(v).label("abort").mov(3, 0).mrs(21, "ELR_EL1").add(21, 21, 4).msr("ELR_EL1", 21).add(
      24,
      24,
      1,
    ).eret();
    v.label("call").movReg(25, 30).blr(9).blr(9).blr(9).movReg(30, 25).eret();
    m.load(a, v);
  },
  check: (m) => {
    assert.deepEqual(m.log(), [(60 * (1 + 3 * 0x101)).toString(16)]);
    assert.equal(m.x(24), 60n);
  },
});

onEveryTier("PAN and unprivileged accesses around hot functions", {
  load: (m) => {
    m.tables.map(USER_DATA, MAP.data, PTE.USER_RW);
    const user = new Asm(MAP.hot).ldr(3, 12).add(3, 3, 1).str(3, 12).ret();
    // ldtr x5, [x12]; ldtr x6, [x13]
    const own = new Asm(MAP.hot + 0x40).ldr(4, 13).add(4, 4, 1).str(4, 13).word(0xf840_0985).ret();
    const both = new Asm(MAP.hot + 0x80).word(0xf840_0985, 0xf840_09a6).ret();
    m.load(user, own, both);
    const a = prologue(m).mov(12, USER_DATA).mov(13, KERNEL_DATA).mov(11, LOOP_TURNS).mov(24, 0);
    a.mov(7, user.base).mov(8, own.base).mov(9, both.base);
    // Every 8th turn: what PAN denies, and what EL0 must not have. tst x11, #7
    a.label("loop").pan(0).blr(7).blr(7).pan(1).blr(8).word(0xf240_097f).bCond(COND.NE, "next");
    a.blr(7).blr(9).label("next").pan(0).blr(8).subs(11, 11, 1).bCond(COND.NE, "loop");
    off(a);
    const v = vectors();
    v.label("irq").b("irq").label("sync");
    logException(v).add(21, 21, 4).msr("ELR_EL1", 21).eret();
    m.load(a, v);
  },
  check: (m) => {
    assert.equal(m.get64(MAP.data), BigInt(2 * LOOP_TURNS));
    assert.equal(m.get64(KERNEL_DATA), BigInt(2 * LOOP_TURNS));
    const seen = m.log().filter((_, i) => i % 4 === 1).map((pc) => parseInt(pc, 16) - MAP.hot);
    assert.deepEqual(
      [...new Set(seen)],
      [0, 8, 0x84],
      "load and store, and LDTR of the other's page",
    );
    assert.equal(seen.length, 3 * Math.floor(LOOP_TURNS / 8));
  },
});

// Debugging itself

const KDE = 0x2000, MDE = 0x8000, SS = 1;
const BCR = 0x1e3, WCR = 0x1ffb;
const SPSR_D = 0x200, SPSR_SS = 1 << 21;

let loop: HotLoop | undefined;
function loopOf(): HotLoop {
  if (loop === undefined) throw new Error("nothing was loaded");
  return loop;
}

/** Vectors that log where a debug exception came, and its FAR, and go on with them masked; steps go on. */
function debugVectors(): Asm {
  const a = vectors();
  a.label("irq").b("irq").label("sync").mrs(20, "ESR_EL1").mrs(21, "ELR_EL1").mrs(22, "FAR_EL1")
    .mrs(23, "SPSR_EL1");
  logWord(logWord(a, 21), 22);
  // X18 is the loop's return.
  a.movReg(26, 18);
  onClass(a, EC.STEP, "step").mov(25, SPSR_D).orr(23, 23, 25).msr("SPSR_EL1", 23).movReg(18, 26)
    .eret();
  a.label("step").movReg(18, 26).mov(25, SPSR_SS).subs(27, 27, 1).bCond(COND.NE, "on");
  a.mov(25, 0).msr("MDSCR_EL1", 25).label("on").orr(23, 23, 25).msr("SPSR_EL1", 23).eret();
  return a;
}

function debugPrologue(m: TierMachine): Asm {
  const a = prologue(m).daifSet(8).mov(0, 0).msr("OSDLR_EL1", 0).msr("OSLAR_EL1", 0);
  return a.mov(0, KDE | MDE).msr("MDSCR_EL1", 0).isb();
}

onEveryTier("a breakpoint at each instruction of a hot loop by turns, and none", {
  load: (m) => {
    const a = enterHotLoop(debugPrologue(m), 40);
    // The addresses are known when the loop is there: X27 points into a list of them.
    a.mov(27, MAP.data + 0x8000).label("round").ldr(0, 27).cbz(0, "done").add(27, 27, 8);
    a.msr("DBGBVR0_EL1", 0).mov(0, BCR).msr("DBGBCR0_EL1", 0).isb().daifClr(8);
    callHotLoop(a, 3).daifSet(8).mov(0, 0).msr("DBGBCR0_EL1", 0).isb().daifClr(8);
    callHotLoop(a, 3).daifSet(8).b("round").label("done");
    off(a);
    loop = hotLoop(m, a);
    loop.addresses.forEach((at, i) => m.put64(MAP.data + 0x8000 + 8 * i, BigInt(at)));
    m.load(a, debugVectors());
  },
  check: (m) => {
    assert.deepEqual(
      m.log().filter((_, i) => i % 2 === 0),
      loopOf().addresses.map((at) => at.toString(16)),
    );
  },
});

/** Addresses that the loop accesses in each of its turns, or in some. */
const WATCHED = [16, 31, 13, 12, 14, 15].map((base) =>
  pageOf(base) + (base === 31 ? 0x7f0 : base === 13 ? 0xfe0 : 0x100)
);

onEveryTier("a watchpoint on data of a hot loop, set and cleared", {
  load: (m) => {
    const a = enterHotLoop(debugPrologue(m), 40);
    for (const address of WATCHED) {
      setPointers(a).mov(0, address & ~7).msr("DBGWVR0_EL1", 0).mov(0, WCR).msr("DBGWCR0_EL1", 0)
        .isb().daifClr(8);
      callHotLoop(a, 20).daifSet(8).mov(0, 0).msr("DBGWCR0_EL1", 0).isb().daifClr(8);
      callHotLoop(a, 20).daifSet(8);
    }
    off(a);
    loop = hotLoop(m, a);
    m.load(a, debugVectors());
  },
  check: (m) => {
    const log = m.log();
    assert.equal(log.length, 2 * WATCHED.length, log.join());
    const accesses = new Set(loopOf().accesses.map(({ at }) => at.toString(16)));
    for (let i = 0; i < log.length; i += 2) {
      assert.ok(accesses.has(log[i] as string), log[i]);
      const page = parseInt(log[i + 1] as string, 16) & ~0xfff;
      assert.equal(page, (WATCHED[i / 2] as number) & ~0xfff);
    }
  },
});

const STEPS = 150;

onEveryTier("a hot loop is stepped through for some turns, twice", {
  load: (m) => {
    const a = enterHotLoop(debugPrologue(m), 40);
    for (let i = 0; i < 2; i++) {
      a.mov(27, STEPS).mov(0, KDE | SS).msr("MDSCR_EL1", 0).mov(11, 30);
      // Returns into the loop with one step: EL1h with A, I and F masked
      a.adr(0, "hot loop").msr("ELR_EL1", 0).mov(0, SPSR_SS | 0x1c5).msr("SPSR_EL1", 0);
      a.adr(18, `behind ${i}`).eret().label(`behind ${i}`).daifSet(8);
    }
    off(a);
    loop = hotLoop(m, a);
    m.load(a, debugVectors());
  },
  check: (m) => assert.equal(m.log().length, 2 * 2 * STEPS),
});

const PMU_PPI = 23, PMU_PERIOD = 777;
const EVENT = { INST_RETIRED: 0x08, MEM_ACCESS: 0x13, EXC_TAKEN: 0x09 } as const;

onEveryTier(
  "counters count in hot code, and interrupt at the instruction that makes them overflow",
  {
    load: (m) => {
      const a = openGic(prologue(m), 1 << PMU_PPI).mov(27, 0);
      a.mov(0, EVENT.INST_RETIRED).msr("PMEVTYPER0_EL0", 0).mov(0, EVENT.EXC_TAKEN).msr(
        "PMEVTYPER1_EL0",
        0,
      );
      a.mov(0, 2 ** 32 - PMU_PERIOD).msr("PMEVCNTR0_EL0", 0).mov(0, 0x8000_0003).msr(
        "PMCNTENSET_EL0",
        0,
      );
      a.mov(0, 1).msr("PMINTENSET_EL1", 0).mov(0, 0x41).msr("PMCR_EL0", 0).isb().daifClr(2);
      enterHotLoop(a, 200);
      for (let i = 0; i < 20; i++) logWord(callHotLoop(a, 7).mrs(0, "PMCCNTR_EL0"), 0);
      // Counting each access leaves nothing to the TLB.
      a.mov(0, EVENT.MEM_ACCESS).msr("PMEVTYPER1_EL0", 0).mov(0, 0).msr("PMEVCNTR1_EL0", 0).isb();
      for (let i = 0; i < 10; i++) logWord(callHotLoop(a, 7).mrs(0, "PMEVCNTR1_EL0"), 0);
      a.mov(0, EVENT.INST_RETIRED).msr("PMEVTYPER1_EL0", 0).isb();
      logWord(callHotLoop(a, 70).mrs(0, "PMEVCNTR1_EL0"), 0);
      off(a);
      loop = hotLoop(m, a);
      const v = vectors();
      v.label("sync").b("sync").label("irq").mrs(20, "ICC_IAR1_EL1").mrs(21, "ELR_EL1");
      logWord(v, 21).mov(22, 1).msr("PMOVSCLR_EL0", 22).mov(22, 2 ** 32 - PMU_PERIOD);
      m.load(a, v.msr("PMEVCNTR0_EL0", 22).msr("ICC_EOIR1_EL1", 20).add(27, 27, 1).eret());
    },
    check: (m) => {
      const inside = new Set(loopOf().addresses.map((at) => at.toString(16)));
      const hits = m.log().filter((word) => inside.has(word));
      assert.ok(new Set(hits).size > 10, hits.join());
      assert.equal(m.log().length, Number(m.x(27)) + 31);
      // Each access of seven turns is counted, though the TLB has had their pages before.
      const counts = m.log().map((word) => parseInt(word, 16)).filter((n) => n < 0x1000_0000);
      const accesses = counts.slice(20, 30);
      const least = 7 * loopOf().accesses.length;
      assert.ok(accesses.every((n, i) => n - (accesses[i - 1] ?? 0) >= least), accesses.join());
    },
  },
);
