/** Atomics, exclusives and ordered accesses between two CPUs in two workers. */
import assert from "node:assert/strict";
import { type Asm, COND } from "../support/asm.ts";
import {
  awaitWord,
  fresh,
  INSN,
  onTeams,
  TEAM,
  TeamProgram,
  times,
} from "../support/team_guest.ts";

type Emit = (a: Asm) => void;

/** Emits `body`, then a branch back if Xn is not 0 or, without one, if the flags say NE. */
function retry(a: Asm, body: Emit, n?: number): void {
  const again = fresh("retry");
  a.label(again);
  body(a);
  if (n === undefined) a.bCond(COND.NE, again);
  else a.cbnz(n, again);
}

/** Exclusives of X3 at [X1]: load and store with their sizes and orders in the words. */
const exclusive = (load: number, store: number): Emit => (a) =>
  retry(
    a,
    () => a.word(load | (1 << 5) | 3).add(3, 3, 1).word(store | (5 << 16) | (1 << 5) | 3),
    5,
  );

/** The same of X3 and X6. */
const pair = (load: number, store: number): Emit => (a) =>
  retry(a, () => {
    a.word(load | (6 << 10) | (1 << 5) | 3).add(3, 3, 1).add(6, 6, 1);
    a.word(store | (5 << 16) | (6 << 10) | (1 << 5) | 3);
  }, 5);

/** Ways to add 1 to what X1 points to; X2 is 1. Those of one width may meet. */
const WORD_ADDS: Readonly<Record<string, Emit>> = {
  LDADD: (a) => a.word(INSN.ldadd(2, 3, 1)),
  LDADDAL: (a) => a.word(INSN.ldaddal(2, 3, 1)),
  CAS: (a) =>
    // cas x5, x4, [x1]
    retry(a, () => a.ldr(3, 1).movReg(5, 3).add(4, 3, 1).word(0xc8a5_7c24).cmp(5, 3)),
  "LDXR, STXR": exclusive(0xc85f_7c00, 0xc800_7c00),
  "LDAXR, STLXR": exclusive(0xc85f_fc00, 0xc800_fc00),
};
const NARROW_ADDS: Readonly<Record<string, Emit>> = {
  // ldaddb w2, w3, [x1]
  LDADDB: (a) => a.word(0x3822_0023),
  "LDXRB, STXRB": exclusive(0x085f_7c00, 0x0800_7c00),
};
const PAIR_ADDS: Readonly<Record<string, Emit>> = {
  "LDXP, STXP": pair(0xc87f_0000, 0xc820_0000),
  "LDAXP, STLXP": pair(0xc87f_8000, 0xc820_8000),
  CASPAL: (a) => {
    const again = fresh("casp");
    a.label(again).ldr(4, 1).ldr(5, 1, 8).movReg(12, 4).movReg(13, 5).add(6, 4, 1).add(7, 5, 1);
    // caspal x4, x5, x6, x7, [x1]
    a.word(0x4864_fc26).cmp(4, 12).bCond(COND.NE, again).cmp(5, 13).bCond(COND.NE, again);
  },
};
/** Pairs of 32 bits: both halves of one word. */
const HALVES_ADDS: Readonly<Record<string, Emit>> = {
  "LDXP, STXP of words": pair(0x887f_0000, 0x8820_0000),
};

const ADDS = 20_000;

/** A counter that CPU 0 counts up in one way and CPU 1 in another. */
interface Count {
  readonly name: string;
  readonly ways: readonly [Emit, Emit];
  /** What its two words are in the end. */
  readonly low: bigint;
  readonly high: bigint;
}

function counts(ways: Readonly<Record<string, Emit>>, low: bigint, high: bigint): Count[] {
  return Object.entries(ways).flatMap(([x, first]) =>
    Object.entries(ways).map(([y, second]) => {
      return { name: `${x} and ${y}`, ways: [first, second] as const, low, high };
    })
  );
}

const SUM = BigInt(2 * ADDS);
const COUNTS = [
  ...counts(WORD_ADDS, SUM, 0n),
  ...counts(NARROW_ADDS, SUM & 0xffn, 0n),
  ...counts(PAIR_ADDS, SUM, SUM),
  ...counts(HALVES_ADDS, SUM | (SUM << 32n), 0n),
];

function counting(): TeamProgram {
  const program = new TeamProgram();
  const part = (cpu: 0 | 1): Emit => (a) =>
    COUNTS.forEach(({ ways }, i) => {
      program.meet(a);
      a.mov(1, TEAM.data + 64 * i).mov(2, 1);
      times(a, 10, ADDS, () => ways[cpu](a));
    });
  return program.both(part(0), part(1));
}

onTeams("two CPUs add to one counter, and the sum is exact", counting, (end) => {
  COUNTS.forEach(({ name, low, high }, i) => {
    const at = TEAM.data + 64 * i;
    assert.deepEqual([end.get(at), end.get(at + 8)], [low, high], name);
  });
});

/** Ways to take the lock at [X1], and to release it. X2 is 1, X31 0. */
const MUTEXES: Readonly<Record<string, readonly [take: Emit, release: Emit]>> = {
  // swpa x2, x3, [x1]
  "SWPA, STLR": [(a) => retry(a, () => a.word(0xf8a2_8023), 3), (a) => a.word(INSN.stlr(31, 1))],
  "CASA, SWPL": [
    // mov x3, xzr; casa x3, x2, [x1]
    (a) => retry(a, () => a.movReg(3, 31).word(0xc8e3_7c22), 3),
    // swpl xzr, x3, [x1]
    (a) => a.word(0xf87f_8023),
  ],
  // ldseta x2, x3, [x1]; ldclrl x2, x3, [x1]
  "LDSETA, LDCLRL": [(a) => retry(a, () => a.word(0xf8a2_3023), 3), (a) => a.word(0xf862_1023)],
  "LDAXR and STXR, STLR": [
    (a) => {
      const again = fresh("take");
      // ldaxr x3, [x1]; stxr w5, x2, [x1]
      a.label(again).word(0xc85f_fc23).cbnz(3, again).word(0xc805_7c22).cbnz(5, again);
    },
    (a) => a.word(INSN.stlr(31, 1)),
  ],
  "LDXR, STXR and DMB, STR": [
    (a) => {
      const again = fresh("take");
      // ldxr x3, [x1]; stxr w5, x2, [x1]
      a.label(again).word(0xc85f_7c23).cbnz(3, again).word(0xc805_7c22).cbnz(5, again);
      a.word(INSN.dmbIsh);
    },
    (a) => a.word(INSN.dmbIsh).str(31, 1),
  ],
  "LDAXP and STXP, STLR": [
    (a) => {
      const again = fresh("take");
      // ldaxp x3, x6, [x1]; stxp w5, x2, x6, [x1]
      a.label(again).word(0xc87f_9823).cbnz(3, again).word(0xc825_1822).cbnz(5, again);
    },
    // stlxp w5, xzr, x6, [x1] until it is done
    (a) => retry(a, () => a.word(0xc87f_9823).word(0xc825_983f), 5),
  ],
  "tickets by LDADDA, LDADDL": [
    (a) => {
      // ldadda x2, x3, [x1]; [x1, #8] is who is served
      a.word(0xf8a2_0023).add(4, 1, 8);
      const again = fresh("ticket");
      a.label(again).word(INSN.ldar(5, 4)).cmp(5, 3).bCond(COND.NE, again);
    },
    // ldaddl x2, x3, [x4]
    (a) => a.word(0xf862_0083),
  ],
};
const TURNS = 4000;

function locking(): TeamProgram {
  const program = new TeamProgram();
  const part: Emit = (a) =>
    Object.values(MUTEXES).forEach(([take, release], i) => {
      program.meet(a);
      // Two plain counters, far from the lock and from one another
      a.mov(1, TEAM.data + 4096 * i).mov(2, 1).add(11, 1, 1024);
      times(a, 10, TURNS, () => {
        take(a);
        a.ldr(12, 11).ldr(13, 11, 1024).add(12, 12, 1).add(13, 13, 1).str(12, 11).str(13, 11, 1024);
        release(a);
      });
    });
  return program.both(part, part);
}

onTeams("a mutex of each kind protects plain counters", locking, (end) => {
  Object.keys(MUTEXES).forEach((name, i) => {
    const at = TEAM.data + 4096 * i;
    const sums = [end.get(at + 1024), end.get(at + 2048)];
    assert.deepEqual(sums, [BigInt(2 * TURNS), BigInt(2 * TURNS)], name);
  });
});

/** Ways to publish X3 at [X1] after what was written, and to load it into X4 before what will be read. */
const PASSING: Readonly<Record<string, readonly [publish: Emit, look: Emit]>> = {
  "STLR, LDAR": [(a) => a.word(INSN.stlr(3, 1)), (a) => a.word(INSN.ldar(4, 1))],
  "STLR, LDAPR": [(a) => a.word(INSN.stlr(3, 1)), (a) => a.word(INSN.ldapr(4, 1))],
  "DMB ISHST, DMB ISHLD": [
    (a) => a.word(INSN.dmbIshSt).str(3, 1),
    (a) => a.ldr(4, 1).word(INSN.dmbIshLd),
  ],
};
const MESSAGES = 20_000;

function passing(): TeamProgram {
  const program = new TeamProgram();
  const ways = Object.values(PASSING);
  const place = (a: Asm, i: number) => {
    program.meet(a);
    // X1: the flag; X11: the data
    a.mov(1, TEAM.data + 4096 * i).add(11, 1, 1024);
  };
  return program.both((a) =>
    ways.forEach(([publish], i) => {
      place(a, i);
      a.mov(3, 0);
      times(a, 10, MESSAGES, () => {
        a.add(3, 3, 1).str(3, 11).str(3, 11, 1024);
        publish(a);
      });
    }), (a) =>
    ways.forEach(([, look], i) => {
      place(a, i);
      a.mov(14, MESSAGES).mov(15, 0);
      const again = fresh("look"), first = fresh("first"), second = fresh("second");
      a.label(again);
      look(a);
      // The data are those of the flag, or later ones; X15 counts what is not
      a.ldr(5, 11).ldr(6, 11, 1024);
      a.cmp(5, 4).bCond(COND.HS, first).add(15, 15, 1).label(first);
      a.cmp(6, 4).bCond(COND.HS, second).add(15, 15, 1).label(second);
      a.cmp(4, 14).bCond(COND.LO, again).str(15, 1, 8);
    }));
}

onTeams("data are seen once the flag is", passing, (end) => {
  Object.keys(PASSING).forEach((name, i) => {
    const at = TEAM.data + 4096 * i;
    assert.deepEqual([end.get(at), end.get(at + 8)], [BigInt(MESSAGES), 0n], name);
  });
});

/** Ways to store X3 at [X1] and then load X4 from [X2], in this order for everybody. */
const STORE_THEN_LOAD: Readonly<Record<string, Emit>> = {
  "STLR, LDAR": (a) => a.word(INSN.stlr(3, 1)).word(INSN.ldar(4, 2)),
  "DMB ISH": (a) => a.str(3, 1).word(INSN.dmbIsh).ldr(4, 2),
};
const CROSSINGS = 5000;
/** Where the variables of both are, who has come to a round, and a count for each round of who missed the other's store. */
const CROSS = { first: 0, second: 0x1_0000, come: 0x2_0000, missed: 0x2_1000, each: 0x1_0000 };

function crossing(): TeamProgram {
  const program = new TeamProgram();
  const part = (cpu: 0 | 1): Emit => (a) =>
    Object.values(STORE_THEN_LOAD).forEach((access, i) => {
      program.meet(a);
      const base = TEAM.data + 0x100 * i;
      const own = cpu === 0 ? CROSS.first : CROSS.second;
      a.mov(1, base + own).mov(2, base + CROSS.first + CROSS.second - own);
      a.mov(3, 0).mov(11, base + CROSS.come).mov(12, 1).mov(14, 0);
      a.mov(15, TEAM.data + CROSS.missed + CROSS.each * i);
      times(a, 10, CROSSINGS, () => {
        a.add(3, 3, 1).add(14, 14, 2).word(INSN.ldaddal(12, 9, 11));
        awaitWord(a, 11, 14);
        access(a);
        const seen = fresh("seen");
        a.cmp(4, 3).bCond(COND.HS, seen);
        a.addShifted(13, 15, 3, 3).word(INSN.ldadd(12, 9, 13)).label(seen);
      });
    });
  return program.both(part(0), part(1));
}

onTeams("of two stores each before a load of the other's, one is seen", crossing, (end) => {
  Object.keys(STORE_THEN_LOAD).forEach((name, i) => {
    assert.equal(end.get(TEAM.data + 0x100 * i), BigInt(CROSSINGS), name);
    for (let round = 1; round <= CROSSINGS; round++) {
      const missed = end.get(TEAM.data + CROSS.missed + CROSS.each * i + 8 * round);
      assert.ok(missed < 2n, `${name}: neither in round ${round}`);
    }
  });
});
