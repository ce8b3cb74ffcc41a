/** Guests that change their code, or what is mapped where it runs, on every tier. */
import assert from "node:assert/strict";
import { Asm, COND } from "../../support/asm.ts";
import {
  LOG_REGISTER,
  logWord,
  MAP,
  off,
  onEveryTier,
  prologue,
  PTE,
  SCTLR,
  SCTLR_ON,
  Tables,
  TierMachine,
} from "../../support/tier_machine.ts";

const RET = 0xd65f_03c0;
/** ADD X0, X0, #n */
const adds = (n: number): number => 0x9100_0000 + (n << 10);
const ROUNDS = 30, CALLS = 25;
/** Turns of loops that change themselves now and then. */
const TURNS = 800;
const hex = (values: readonly number[]): string[] => values.map((n) => n.toString(16));

/** Runs `body` `times` times, counting in Xn. */
function times(a: Asm, n: number, count: number, label: string, body: (a: Asm) => void): Asm {
  a.mov(n, count).label(label);
  body(a);
  return a.subs(n, n, 1).bCond(COND.NE, label);
}

/** Makes the word in W3 the instruction at X2, by line or all at once. */
function publish(a: Asm, by: "line" | "all" | "nothing"): Asm {
  a.strW(3, 2);
  if (by !== "nothing") a.dcCvau(2).dsb();
  if (by === "line") a.icIvau(2);
  else if (by === "all") a.icIallu();
  return a.dsb().isb();
}

/** In each of ROUNDS rounds: the function at X9 becomes "add the round's number", written at X2, then it is called CALLS times. */
function roundsOfCalls(m: TierMachine, a: Asm, by: "line" | "all" | "nothing"): void {
  a.mov(4, adds(0)).mov(7, 0);
  times(a, 10, ROUNDS, "round", () => {
    a.add(7, 7, 1).addShifted(3, 4, 7, 10);
    publish(a, by);
    a.mov(0, 0);
    times(a, 11, CALLS, "call", () => a.blr(9));
    logWord(a, 0);
  });
  m.load(off(a)).loadAt(MAP.hot, new Asm(MAP.hot).word(adds(0), RET));
}
const SUMS = hex(Array.from({ length: ROUNDS }, (_, i) => (i + 1) * CALLS));

for (const by of ["line", "all"] as const) {
  onEveryTier(`a hot function is rewritten and invalidated (${by})`, {
    load: (m) => roundsOfCalls(m, prologue(m).mov(2, MAP.hot).mov(9, MAP.hot), by),
    check: (m) => assert.deepEqual(m.log(), SUMS),
  });

  onEveryTier(`a hot function is rewritten through another virtual address (${by})`, {
    load: (m) => {
      m.tables.map(MAP.alias, MAP.hot, PTE.RW);
      roundsOfCalls(m, prologue(m).mov(2, MAP.alias).mov(9, MAP.hot), by);
    },
    check: (m) => assert.deepEqual(m.log(), SUMS),
  });
}

onEveryTier("while fetches are not cached, a barrier is enough", {
  load: (m) =>
    roundsOfCalls(m, prologue(m, SCTLR_ON & ~SCTLR.I).mov(2, MAP.hot).mov(9, MAP.hot), "nothing"),
  check: (m) => assert.deepEqual(m.log(), SUMS),
});

for (const by of ["line", "all"] as const) {
  onEveryTier(`a loop rewrites an instruction of its own, ahead and behind (${by})`, {
    load: (m) => {
      const a = prologue(m);
      a.mov(0, 0).mov(4, adds(0)).mov(12, TURNS);
      a.label("loop").label("behind").word(adds(0));
      const [ahead, behind] = [a.addressOf("behind") + 4 * 40, a.addressOf("behind")];
      // and x6, x12, #0x1f
      a.word(0x9240_1186).cbnz(6, "ahead").addShifted(3, 4, 12, 10).mov(2, ahead);
      publish(a, by).mov(2, behind).mov(5, 0x155 << 10).eor(3, 3, 5);
      publish(a, by).b("ahead").org(ahead).label("ahead").word(adds(0));
      logWord(a, 0).subs(12, 12, 1).bCond(COND.NE, "loop");
      m.load(off(a));
    },
    check: (m) => {
      let x0 = 0, ahead = 0, behind = 0;
      const sums = Array.from({ length: TURNS }, (_, turn) => {
        const i = TURNS - turn;
        x0 += behind;
        if (i % 32 === 0) [ahead, behind] = [i, i ^ 0x155];
        return x0 += ahead;
      });
      assert.deepEqual(m.log(), hex(sums));
    },
  });
}

onEveryTier("a function that several call, other code between, is rewritten", {
  load: (m) => {
    const others = [MAP.hot + 0x1000, MAP.hot + 0x2000];
    const f = new Asm(MAP.hot);
    for (const name of ["first", "second"]) {
      f.label(name).movReg(14, 30).bl("common").bl("common").movReg(30, 14).ret();
    }
    f.label("common").movReg(13, 30).bl("slot").movReg(30, 13).ret();
    m.load(f.label("slot").word(adds(0)).ret());
    for (const at of others) {
      const loop = new Asm(at).mov(3, 5).label("loop").subs(3, 3, 1).bCond(COND.NE, "loop");
      m.load(loop.ret());
    }
    const callees = ["first", "second", "common"].map((name) => f.addressOf(name));
    const a = prologue(m).mov(2, f.addressOf("slot")).mov(4, adds(0)).mov(7, 0);
    times(a, 10, ROUNDS, "round", () => {
      a.add(7, 7, 1).addShifted(3, 4, 7, 10);
      publish(a, "line").mov(0, 0);
      times(a, 11, CALLS, "call", () => {
        for (const at of callees.flatMap((callee) => [callee, ...others])) a.mov(9, at).blr(9);
      });
      logWord(a, 0);
    });
    m.load(off(a));
  },
  check: (m) =>
    assert.deepEqual(m.log(), hex(Array.from({ length: ROUNDS }, (_, i) => (i + 1) * CALLS * 5))),
});

onEveryTier("a branch in a hot loop is written and taken out again", {
  load: (m) => {
    const a = prologue(m).mov(0, 0).mov(12, TURNS);
    a.label("loop").label("slot").nop().add(0, 0, 1).label("behind").add(0, 0, 0x100);
    // Every 32nd turn the slot changes between NOP and a branch over the first addition. tst x12, #0x1f
    a.word(0xf240_119f).bCond(COND.NE, "same");
    a.mov(2, a.addressOf("slot")).mov(3, 0xd503_201f).mov(4, 0x1400_0002).tbz(12, 5, "store");
    a.movReg(3, 4).label("store");
    publish(a, "line");
    a.label("same").subs(12, 12, 1).bCond(COND.NE, "loop");
    m.load(off(logWord(a, 0)));
  },
  check: (m) => {
    let x0 = 0, branch = false;
    for (let i = TURNS; i > 0; i--) {
      x0 += branch ? 0x100 : 0x101;
      if (i % 32 === 0) branch = (i & 32) !== 0;
    }
    assert.deepEqual(m.log(), [x0.toString(16)]);
  },
});

/** Physical pages with a function each, which adds `n` and returns. */
function functions(m: TierMachine, ...numbers: readonly number[]): number[] {
  return numbers.map((n, i) => {
    const pa = MAP.hot + 0x1000 * i;
    m.loadAt(pa, new Asm(pa).word(adds(n), RET));
    return pa;
  });
}

for (const by of ["page", "all", "ASID"] as const) {
  onEveryTier(`the page of a hot function is mapped to another one (TLBI by ${by})`, {
    load: (m) => {
      const [one, two] = functions(m, 1, 0x100) as [number, number];
      m.tables.map(MAP.alias, one, PTE.RW | PTE.NOT_GLOBAL);
      const a = prologue(m).mov(9, MAP.alias).mov(2, m.tables.entryOf(MAP.alias));
      a.mov(5, one).mov(6, two).mov(7, PTE.RW | PTE.NOT_GLOBAL).orr(5, 5, 7).orr(6, 6, 7);
      a.mov(8, by === "page" ? MAP.alias / 4096 : 0).mov(0, 0);
      times(a, 10, ROUNDS, "round", () => {
        times(a, 11, CALLS, "call", () => a.blr(9));
        logWord(a, 0).str(6, 2).dsb();
        if (by === "page") a.tlbiVae1(8);
        else if (by === "ASID") a.tlbiAside1(8);
        else a.tlbiVmalle1();
        a.dsb().isb().movReg(3, 5).movReg(5, 6).movReg(6, 3);
      });
      m.load(off(a));
    },
    check: (m) => {
      let x0 = 0;
      const sums = Array.from({ length: ROUNDS }, (_, i) => x0 += CALLS * (i % 2 ? 0x100 : 1));
      assert.deepEqual(m.log(), hex(sums));
    },
  });
}

onEveryTier("a function whose page is mapped anew while it runs goes on in the new one", {
  load: (m) => {
    // It maps its own page to the other copy and back, between its two additions.
    const copy = (pa: number, n: number) => {
      const a = new Asm(MAP.alias).word(adds(n)).str(6, 2).dsb().tlbiVae1(8).dsb().isb();
      a.word(adds(n)).movReg(3, 5).movReg(5, 6).movReg(6, 3).ret();
      m.loadAt(pa, a);
    };
    copy(MAP.hot, 1);
    copy(MAP.hot + 0x1000, 0x100);
    m.tables.map(MAP.alias, MAP.hot, PTE.RW);
    const a = prologue(m).mov(9, MAP.alias).mov(2, m.tables.entryOf(MAP.alias)).mov(7, PTE.RW);
    a.mov(5, MAP.hot).mov(6, MAP.hot + 0x1000).orr(5, 5, 7).orr(6, 6, 7);
    a.mov(8, MAP.alias / 4096).mov(0, 0);
    times(a, 11, 99, "call", () => logWord(a.blr(9), 0));
    m.load(off(a));
  },
  check: (m) => {
    assert.deepEqual(m.log(), hex(Array.from({ length: 99 }, (_, i) => 0x101 * (i + 1))));
  },
});

onEveryTier(
  "tables and ASID are switched in a hot loop: code and data of the same addresses differ",
  {
    load: (m) => {
      const [one, two] = functions(m, 1, 0x100) as [number, number];
      const other = new Tables(m);
      const shared = PTE.RW | PTE.NOT_GLOBAL;
      m.tables.map(MAP.alias, one, shared).map(MAP.alias + 0x1000, MAP.data, shared);
      other.map(MAP.alias, two, shared).map(MAP.alias + 0x1000, MAP.data + 0x1000, shared);
      const a = prologue(m).mov(9, MAP.alias).mov(12, MAP.alias + 0x1000).mov(0, 0);
      a.mov(5, BigInt(m.tables.root) | (1n << 48n)).mov(6, BigInt(other.root) | (2n << 48n));
      times(a, 10, 200, "switch", () => {
        a.msr("TTBR0_EL1", 5).isb().blr(9).ldr(3, 12).addReg(3, 3, 0).str(3, 12, 0);
        a.ldr(4, 12, 8).add(4, 4, 1).str(4, 12, 8);
        a.movReg(3, 5).movReg(5, 6).movReg(6, 3);
      });
      m.load(off(logWord(a, 0)));
    },
    check: (m) => {
      assert.deepEqual(m.log(), [(100 * 0x101).toString(16)]);
      assert.equal(m.get64(MAP.data + 8), 100n);
      assert.equal(m.get64(MAP.data + 0x1008), 100n);
      assert.notEqual(m.get64(MAP.data), m.get64(MAP.data + 0x1000));
    },
  },
);

onEveryTier("the MMU is switched off and on in a hot loop: the same address is two places", {
  load: (m) => {
    functions(m, 1, 0x100);
    m.tables.map(MAP.data, MAP.data + 0x1000, PTE.RW).map(MAP.hot, MAP.hot + 0x1000, PTE.RW);
    const a = prologue(m).mov(9, MAP.hot).mov(12, MAP.data).mov(0, 0);
    a.mov(5, SCTLR_ON & ~SCTLR.M).mov(6, SCTLR_ON);
    const touch = () => a.blr(9).ldr(3, 12).add(3, 3, 1).str(3, 12);
    times(a, 10, 150, "loop", () => {
      touch();
      a.msr("SCTLR_EL1", 5).isb();
      touch();
      touch();
      a.msr("SCTLR_EL1", 6).isb();
    });
    m.load(off(logWord(a, 0)));
  },
  check: (m) => {
    assert.deepEqual(m.log(), [(150 * 0x102).toString(16)]);
    assert.equal(m.get64(MAP.data), 300n);
    assert.equal(m.get64(MAP.data + 0x1000), 150n);
  },
});

onEveryTier("a page of code is run at two virtual addresses by turns", {
  load: (m) => {
    // Adds where it runs (ADR), stores it, and calls the other.
    const a2 = new Asm(MAP.hot).word(0x1000_0001).addReg(0, 0, 1).str(1, 2).add(2, 2, 8).ret();
    m.loadAt(MAP.hot, a2);
    m.tables.map(MAP.alias, MAP.hot, PTE.RW).map(MAP.alias + 0x7000, MAP.hot, PTE.RO);
    const a = prologue(m).mov(7, MAP.hot).mov(8, MAP.alias).mov(9, MAP.alias + 0x7000);
    a.mov(0, 0).mov(2, MAP.data);
    times(a, 10, 100, "loop", () => a.blr(7).blr(8).blr(8).blr(9));
    m.load(off(logWord(a, 0)));
  },
  check: (m) => {
    const sum = 100n * BigInt(MAP.hot + 2 * MAP.alias + MAP.alias + 0x7000);
    assert.deepEqual(m.log(), [sum.toString(16)]);
    const seen = [0, 8, 16, 24].map((at) => Number(m.get64(MAP.data + at)));
    assert.deepEqual(seen, [MAP.hot, MAP.alias, MAP.alias, MAP.alias + 0x7000]);
  },
});

onEveryTier("hot functions at addresses that share their places in TLBs, called by turns", {
  load: (m) => {
    // 16 MiB apart: whatever is mapped directly by low bits of the page cannot tell them apart.
    const apart = 0x100_0000, count = 4;
    const a = prologue(m).mov(0, 0);
    for (let i = 0; i < count; i++) {
      const pa = MAP.hot + 0x1000 * i, va = MAP.alias + apart * i;
      m.tables.map(va, pa, PTE.RW).map(va + 0x1000, MAP.data + 0x1000 * i, PTE.RW);
      m.loadAt(pa, new Asm(va).ldr(3, 9 + i).add(3, 3, 1 << i).str(3, 9 + i).add(0, 0, i).ret());
      a.mov(4 + i, va).mov(9 + i, va + 0x1000);
    }
    // Each becomes hot by itself: what always misses would not.
    for (let i = 0; i < count; i++) times(a, 13, 100, `hot ${i}`, () => a.blr(4 + i));
    times(a, 13, 200, "loop", () => [0, 1, 2, 3, 1, 0, 3].forEach((i) => a.blr(4 + i)));
    m.load(off(logWord(a, 0)));
  },
  check: (m) => {
    assert.deepEqual(m.log(), [(100 * 6 + 200 * 10).toString(16)]);
    const words = [0, 1, 2, 3].map((i) => Number(m.get64(MAP.data + 0x1000 * i)));
    assert.deepEqual(words, [500, 1000, 1200, 4000]);
  },
});

onEveryTier("a recycled page: other code is copied over it and run", {
  load: (m) => {
    const pages = [0x3000, 0x4000, 0x5000].map((offset, i) => {
      const a = new Asm(MAP.hot + offset).mov(3, 5).label("loop");
      for (let n = 0; n <= i; n++) a.word(adds(1 << (4 * i)));
      a.subs(3, 3, 1).bCond(COND.NE, "loop").ret();
      m.load(a);
      return a.base;
    });
    const a = prologue(m).mov(9, MAP.hot).mov(0, 0).mov(13, MAP.data);
    pages.forEach((page, i) => a.mov(3, page).str(3, 13, 8 * i));
    times(a, 10, 36, "round", () => {
      a.ldr(4, 13).ldr(5, 13, 8).ldr(6, 13, 16).str(5, 13).str(6, 13, 8).str(4, 13, 16);
      a.movReg(2, 9);
      times(
        a,
        11,
        8,
        "copy",
        () => a.ldr(3, 4).str(3, 2).dcCvau(2).dsb().icIvau(2).add(4, 4, 8).add(2, 2, 8),
      );
      a.dsb().isb();
      times(a, 11, 9, "call", () => a.blr(9));
      logWord(a, 0);
    });
    m.load(off(a));
  },
  check: (m) => {
    let x0 = 0;
    const adding = [1, 2 * 16, 3 * 256];
    const sums = Array.from({ length: 36 }, (_, i) => x0 += 45 * (adding[i % 3] as number));
    assert.deepEqual(m.log(), hex(sums));
    assert.equal(m.x(LOG_REGISTER), BigInt(MAP.log + 8 * 36));
  },
});

onEveryTier("the page of a hot loop's data is mapped to another one, again and again", {
  load: (m) => {
    m.tables.map(MAP.alias, MAP.data, PTE.RW);
    const a = prologue(m).mov(12, MAP.alias).mov(2, m.tables.entryOf(MAP.alias)).mov(7, PTE.RW);
    a.mov(5, MAP.data).mov(6, MAP.data + 0x1000).orr(5, 5, 7).orr(6, 6, 7).mov(8, MAP.alias / 4096);
    const count = (at: number) => a.ldr(3, 12, at).add(3, 3, 1).str(3, 12, at);
    times(a, 10, TURNS, "loop", () => {
      count(0);
      a.str(6, 2).dsb().tlbiVae1(8).dsb().isb();
      count(0);
      count(8);
      a.movReg(3, 5).movReg(5, 6).movReg(6, 3);
    });
    m.load(off(a));
  },
  check: (m) => {
    const words = [0, 8, 0x1000, 0x1008].map((at) => Number(m.get64(MAP.data + at)));
    assert.deepEqual(words, [TURNS, TURNS / 2, TURNS, TURNS / 2]);
  },
});

onEveryTier("accesses from a page into the next one, which lies elsewhere", {
  load: (m) => {
    m.tables.map(MAP.alias, MAP.data + 0x3000, PTE.RW).map(MAP.alias + 0x1000, MAP.data, PTE.RW);
    const a = prologue(m).mov(10, TURNS).mov(3, 0x0123_4567_89ab_cdefn).mov(12, MAP.alias + 0xfd0);
    // x13 goes from in front of the end of the page to behind it: x12 + (x10 & 63)
    a.label("loop").word(0x9240_154d).addReg(13, 12, 13);
    // str x3, [x13]; ldr x4, [x13, #1]!; stp x4, x3, [x13, #-8]; ldr q0, [x13]; str q0, [x13, #1]!
    a.word(0xf900_01a3, 0xf840_1da4, 0xa93f_8da4, 0x3dc0_01a0, 0x3c80_1da0);
    // ldrh w5, [x13, #-1]!; ldp q1, q2, [x13]; strb w5, [x13, #8]
    a.word(0x785f_fda5, 0xad40_09a1).addReg(3, 3, 4).addReg(3, 3, 5).word(0x3900_21a5);
    m.load(off(logWord(a.subs(10, 10, 1).bCond(COND.NE, "loop"), 3)));
  },
  check: (m) => {
    assert.notEqual(m.get64(MAP.data + 0x3ff8), 0n);
    assert.notEqual(m.get64(MAP.data), 0n);
    assert.equal(m.get64(MAP.data + 0x1000), 0n);
    assert.equal(m.get64(MAP.data + 0x4000), 0n);
  },
});
