/** TLB and instruction cache maintenance that one CPU does for another, which runs hot code in a worker of its own. */
import assert from "node:assert/strict";
import { type Asm, COND } from "../support/asm.ts";
import {
  aliasEntry,
  awaitWord,
  fresh,
  INSN,
  onTeams,
  TEAM,
  TeamProgram,
  times,
} from "../support/team_guest.ts";
import { PTE } from "../support/tier_machine.ts";

/** Words for the tests: a round's number when it is ready, who has seen it, faults so far, and what went wrong. */
const FLAG = TEAM.data, SEEN = FLAG + 64, FAULTS = FLAG + 128, ERRORS = FLAG + 192;
/** Who is about to look. */
const COME = FLAG + 256;
/** Two pages, the first of which is even. */
const PAGES = TEAM.data + 0x2000;
/** Two functions of one page. */
const FUNCTIONS = TEAM.data + 0x6000;
const ROUNDS = 400;

/** Data aborts at {@link TEAM.alias} are counted, and the access is made again. */
function retryAtAlias(a: Asm): void {
  a.mrs(20, "ESR_EL1").lsr(20, 20, 26).mov(21, 0x25).cmp(20, 21).bCond(COND.NE, "unexpected");
  a.mrs(20, "FAR_EL1").lsr(20, 20, 21).mov(21, TEAM.alias >>> 21).cmp(20, 21);
  a.bCond(COND.NE, "unexpected");
  a.mov(21, FAULTS).mov(20, 1).word(INSN.ldadd(20, 22, 21)).eret();
}

/** Adds one to Xn where the flags do not say `cond`. */
function countUnless(a: Asm, cond: number, n: number): void {
  const fine = fresh("fine");
  a.bCond(cond, fine).add(n, n, 1).label(fine);
}

/** Stores Xt as the descriptor at [X1]; the page with number X5 is forgotten everywhere when this is through. */
function replaceEntry(a: Asm, t: number): void {
  a.str(t, 1).word(INSN.dsbIshSt, INSN.tlbiVae1is(5), INSN.dsbIsh).isb();
}

/** Waits until there are more faults than X16 says; X11 points to their count. */
function awaitFault(a: Asm): void {
  const again = fresh("no fault");
  a.label(again).ldr(17, 11).cmp(17, 16).bCond(COND.EQ, again);
}

/** Registers of the CPU that changes the mapping of {@link TEAM.alias}: X12 is the round. */
function changer(a: Asm): void {
  a.mov(1, aliasEntry(TEAM.alias)).mov(2, FLAG).mov(5, TEAM.alias >>> 12).mov(11, FAULTS).mov(
    12,
    0,
  );
}

/** Each round takes the old page away, writes 0 to it, and has the round's number in the new one. */
function remapping(): TeamProgram {
  const program = new TeamProgram(retryAtAlias);
  return program.both((a) => {
    changer(a);
    a.mov(6, PTE.RW).mov(15, 0x1000);
    times(a, 10, ROUNDS, () => {
      a.add(12, 12, 1).mov(13, PAGES).bfi(13, 12, 12, 1).eor(14, 13, 15).str(12, 13).ldr(16, 11);
      replaceEntry(a, 31);
      a.str(31, 14);
      awaitFault(a);
      a.orr(17, 13, 6).str(17, 1).word(INSN.dsbIshSt).isb().word(INSN.stlr(12, 2));
    });
  }, (a) => {
    const look = fresh("look");
    a.mov(1, TEAM.alias).mov(2, FLAG).mov(3, 0).mov(14, ROUNDS).label(look);
    a.word(INSN.ldar(5, 2)).ldr(4, 1).cmp(4, 5);
    countUnless(a, COND.HS, 3);
    a.cmp(5, 14).bCond(COND.LO, look).mov(1, ERRORS).str(3, 1);
  });
}

onTeams("a page that was unmapped is not read once the TLBI is complete", remapping, (end) => {
  assert.deepEqual([end.get(FLAG), end.get(ERRORS)], [BigInt(ROUNDS), 0n]);
});

/** Each round makes the page read-only, and looks whether it still changes. */
function protecting(): TeamProgram {
  const program = new TeamProgram(retryAtAlias);
  return program.both((a) => {
    changer(a);
    a.mov(3, 0).mov(13, PAGES).mov(6, BigInt(PAGES) | PTE.RW).mov(14, BigInt(PAGES) | PTE.RO);
    a.str(6, 1).word(INSN.dsbIshSt).isb();
    times(a, 10, ROUNDS, () => {
      a.add(12, 12, 1).ldr(16, 11);
      replaceEntry(a, 14);
      a.ldr(4, 13);
      awaitFault(a);
      a.ldr(15, 13).cmp(4, 15);
      countUnless(a, COND.EQ, 3);
      replaceEntry(a, 6);
      a.word(INSN.stlr(12, 2));
    });
    a.mov(1, ERRORS).str(3, 1);
  }, (a) => {
    const again = fresh("store");
    a.mov(1, TEAM.alias).mov(2, FLAG).mov(4, 0).mov(14, ROUNDS).label(again);
    a.add(4, 4, 1).str(4, 1).str(4, 1, 8).word(INSN.ldar(5, 2)).cmp(5, 14).bCond(COND.LO, again);
  });
}

onTeams(
  "a page that became read-only is not written once the TLBI is complete",
  protecting,
  (end) => {
    assert.deepEqual([end.get(FLAG), end.get(ERRORS)], [BigInt(ROUNDS), 0n]);
  },
);

/** Instruction cache maintenance of what X13 points to. */
const INVALIDATE: Readonly<Record<string, (a: Asm) => void>> = {
  "IC IVAU": (a) => a.icIvau(13),
  "IC IALLUIS": (a) => a.word(0xd508_711f),
};
const RET = 0xd65f_03c0;

/** What was stored at X13 is what everybody executes from now on. */
function makeCode(a: Asm, invalidate: (a: Asm) => void): void {
  a.dcCvau(13).word(INSN.dsbIsh);
  invalidate(a);
  a.word(INSN.dsbIsh).isb();
}

/** Each round the function that is not called is rewritten to return the round's number, and called next. */
function rewriting(invalidate: (a: Asm) => void): TeamProgram {
  const program = new TeamProgram();
  return program.both((a) => {
    // movz x4, #0
    a.mov(2, FLAG).mov(11, SEEN).mov(12, 0).mov(16, 0xd280_0004).mov(17, RET);
    times(a, 10, ROUNDS, () => {
      a.add(12, 12, 1).mov(13, FUNCTIONS).bfi(13, 12, 11, 1).bfi(16, 12, 5, 16);
      a.strW(16, 13).strW(17, 13, 4);
      makeCode(a, invalidate);
      a.word(INSN.stlr(12, 2));
      awaitWord(a, 11, 12);
    });
  }, (a) => {
    const look = fresh("look");
    a.mov(2, FLAG).mov(11, SEEN).mov(3, 0).mov(14, ROUNDS).label(look);
    a.word(INSN.ldar(5, 2)).cbz(5, look).isb().mov(13, FUNCTIONS).bfi(13, 5, 11, 1);
    times(a, 10, 20, () => {
      a.blr(13).cmp(4, 5);
      countUnless(a, COND.EQ, 3);
    });
    a.word(INSN.stlr(5, 11)).cmp(5, 14).bCond(COND.LO, look).mov(1, ERRORS).str(3, 1);
  });
}

for (const [name, invalidate] of Object.entries(INVALIDATE)) {
  onTeams(
    `a function that was rewritten with ${name} is the new one`,
    () => rewriting(invalidate),
    (end) => {
      assert.deepEqual([end.get(FLAG), end.get(ERRORS)], [BigInt(ROUNDS), 0n]);
    },
  );
}

/** A branch to itself becomes one to what follows, and the other way round: a change that needs no ISB of whoever executes it. */
function releasing(): TeamProgram {
  const program = new TeamProgram();
  const CLOSED = 0x1400_0000, OPEN = 0x1400_0001;
  const patch = (a: Asm, t: number) => {
    a.strW(t, 13);
    makeCode(a, (b) => b.icIvau(13));
  };
  return program.both((a) => {
    a.mov(1, COME).mov(2, FLAG).mov(11, SEEN).mov(12, 0).mov(13, FUNCTIONS);
    a.mov(14, OPEN).mov(15, CLOSED);
    a.mov(16, RET).strW(16, 13, 4);
    times(a, 10, ROUNDS, () => {
      a.add(12, 12, 1);
      patch(a, 15);
      a.word(INSN.stlr(12, 2));
      // The other one is at the branch, or nearly
      awaitWord(a, 1, 12);
      times(a, 6, 2000, () => a.nop());
      // Before the branch opens: who comes out must find it
      a.str(12, 2, 8).word(INSN.dmbIsh);
      patch(a, 14);
      awaitWord(a, 11, 12);
    });
  }, (a) => {
    a.mov(1, COME).mov(2, FLAG).mov(11, SEEN).mov(3, 0).mov(12, 0).mov(13, FUNCTIONS);
    times(a, 10, ROUNDS, () => {
      a.add(12, 12, 1);
      awaitWord(a, 2, 12);
      a.isb().word(INSN.stlr(12, 1)).blr(13).word(INSN.dmbIshLd).ldr(4, 2, 8).cmp(4, 12);
      countUnless(a, COND.HS, 3);
      a.word(INSN.stlr(12, 11));
    });
    a.mov(1, ERRORS).str(3, 1);
  });
}

onTeams("a CPU that spins on a branch leaves once the branch is another one", releasing, (end) => {
  assert.deepEqual([end.get(SEEN), end.get(ERRORS)], [BigInt(ROUNDS), 0n]);
});
