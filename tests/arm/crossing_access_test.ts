/** Accesses that cross a page, in code that is hot or not, on pages that do not lie side by side. */
import assert from "node:assert/strict";
import { Asm, COND } from "../support/asm.ts";
import {
  logException,
  logWord,
  MAP,
  off,
  onEveryTier,
  prologue,
  PTE,
  type TierMachine,
  vectors,
} from "../support/tier_machine.ts";

/** The end of the first page and beginning of the second one, and what is behind them. */
const EDGE = MAP.alias + 0x1000;
const FIRST = MAP.data, SECOND = MAP.data + 0x5000;
const TURNS = 400;

function mapPages(m: TierMachine, first: bigint = PTE.RW, second: bigint = PTE.RW): void {
  m.tables.map(EDGE - 0x1000, FIRST, first).map(EDGE, SECOND, second);
}

/** Memory around the edge as a model has it: 128 bytes, the edge in their middle. */
class Around {
  readonly #bytes = new Uint8Array(128);
  get(at: number, size: number): bigint {
    let value = 0n;
    for (let i = size - 1; i >= 0; i--) value = (value << 8n) | BigInt(this.#byte(at + i));
    return value;
  }
  set(at: number, size: number, value: bigint): void {
    for (let i = 0; i < size; i++) {
      this.#bytes[64 + at + i] = Number((value >> BigInt(8 * i)) & 255n);
    }
  }
  #byte(at: number): number {
    return this.#bytes[64 + at] as number;
  }
}

/** Physical address of what is `at` bytes from the edge. */
function behind(at: number): number {
  return at < 0 ? FIRST + 0x1000 + at : SECOND + at;
}

/** Everything of the loop's accesses that crosses, written for the model; X12 is 7 bytes before the edge. */
function turn(b: Around): void {
  b.set(-7, 8, b.get(-7, 8) + 1n);
  const [x4, x5] = [b.get(-15, 8), b.get(-7, 8)];
  b.set(-15, 8, x4 + x5);
  const q0 = b.get(-7, 16);
  b.set(-12, 16, q0);
  const [q1, q2] = [b.get(-23, 16), b.get(-7, 16)];
  b.set(-23, 16, q2);
  b.set(-7, 16, q1);
  const w6 = b.get(-1, 2);
  b.set(-1, 2, w6 + 3n);
  const four = [0, 1, 2, 3].map((i) => b.get(-33 + 16 * i, 16));
  for (let i = 0; i < 4; i++) b.set(-40 + 16 * i, 16, four[i] as bigint);
}

/** The same as instructions; X13 is 33 bytes before the edge, X14 1, X15 40. */
const TURN = [
  0xf940_0183, // ldr x3, [x12]
  0x9100_0463, // add x3, x3, #1
  0xf900_0183, // str x3, [x12]
  0xa97f_9584, // ldp x4, x5, [x12, #-8]
  0x8b05_0084, // add x4, x4, x5
  0xf81f_8184, // stur x4, [x12, #-8]
  0x3dc0_0180, // ldr q0, [x12]
  0x3c9f_b180, // stur q0, [x12, #-5]
  0xad7f_8981, // ldp q1, q2, [x12, #-16]
  0xad3f_8582, // stp q2, q1, [x12, #-16]
  0x7940_01c6, // ldrh w6, [x14]
  0x1100_0cc6, // add w6, w6, #3
  0x7900_01c6, // strh w6, [x14]
  0x4c40_21a0, // ld1 {v0.16b - v3.16b}, [x13]
  0x4c00_21e0, // st1 {v0.16b - v3.16b}, [x15]
] as const;

/** Turns with these instructions in them, and with something before that stays in a region. */
function loopOver(a: Asm, ...words: readonly number[]): Asm {
  a.mov(11, TURNS).label("loop").mov(10, 12).label("stay").subs(10, 10, 1).bCond(COND.NE, "stay");
  return a.word(...words).subs(11, 11, 1).bCond(COND.NE, "loop");
}

/** Counts what the evaluator executes, from now on. */
function countEvaluated(m: TierMachine): () => number {
  let count = 0;
  for (const core of m.machine.cores) {
    const execute = core.executeSlow.bind(core);
    core.executeSlow = () => {
      count++;
      execute();
    };
  }
  return () => count;
}

const evaluated = new WeakMap<TierMachine, () => number>();

onEveryTier("loads and stores of all sizes across pages, without the evaluator", {
  load: (m) => {
    mapPages(m);
    evaluated.set(m, countEvaluated(m));
    for (let at = -64; at < 64; at += 8) m.put64(behind(at), initial(at));
    const a = prologue(m).mov(12, EDGE - 7).mov(13, EDGE - 33).mov(14, EDGE - 1).mov(15, EDGE - 40);
    m.load(off(loopOver(a, ...TURN)), vectors().label("sync").label("irq"));
  },
  check: (m) => {
    const model = new Around();
    for (let at = -64; at < 64; at += 8) model.set(at, 8, initial(at));
    for (let i = 0; i < TURNS; i++) turn(model);
    for (let at = -64; at < 64; at += 8) {
      assert.equal(m.get64(behind(at)).toString(16), model.get(at, 8).toString(16), `at ${at}`);
    }
    const count = evaluated.get(m)?.() ?? NaN;
    assert.ok(count < TURNS, `${count} instructions were evaluated`);
  },
});

/** Those of the accesses that are wide, which a region makes itself where the pages lie side by side. */
const WIDE_TURN = TURN.filter((word) => [0x3d, 0x3c, 0xad, 0x4c].includes(word >>> 24));

function wideTurn(b: Around): void {
  const q0 = b.get(-7, 16);
  b.set(-12, 16, q0);
  const [q1, q2] = [b.get(-23, 16), b.get(-7, 16)];
  b.set(-23, 16, q2);
  b.set(-7, 16, q1);
  const four = [0, 1, 2, 3].map((i) => b.get(-33 + 16 * i, 16));
  for (let i = 0; i < 4; i++) b.set(-40 + 16 * i, 16, four[i] as bigint);
}

for (const [where, second] of [["side by side", FIRST + 0x1000], ["apart", SECOND]] as const) {
  const at = (offset: number) => offset < 0 ? behind(offset) : second + offset;
  onEveryTier(`wide loads and stores across pages that lie ${where}`, {
    load: (m) => {
      m.tables.map(EDGE - 0x1000, FIRST, PTE.RW).map(EDGE, second, PTE.RW);
      for (let i = -64; i < 64; i += 8) m.put64(at(i), initial(i));
      const a = prologue(m).mov(12, EDGE - 7).mov(13, EDGE - 33).mov(15, EDGE - 40);
      m.load(off(loopOver(a, ...WIDE_TURN)), vectors().label("sync").label("irq"));
    },
    check: (m) => {
      const model = new Around();
      for (let i = -64; i < 64; i += 8) model.set(i, 8, initial(i));
      for (let i = 0; i < TURNS; i++) wideTurn(model);
      for (let i = -64; i < 64; i += 8) {
        assert.equal(m.get64(at(i)).toString(16), model.get(i, 8).toString(16), `at ${i}`);
      }
    },
  });
}

/** Something at each place; the sums must not grow over 64 bits in a way that the model does not. */
function initial(at: number): bigint {
  return BigInt(at + 65) * 0x0001_0203_0405_0607n;
}

/** Loops over one access at X12, `EDGE - 3`; a fault is logged with the two bytes before the edge, then `repair` goes on. */
function faulting(m: TierMachine, word: number, repair: (v: Asm) => Asm): void {
  m.put64(FIRST + 0xff8, 0x0102_0304_0506_0708n);
  const a = prologue(m).mov(12, EDGE - 3).mov(13, EDGE - 2).mov(3, -1);
  loopOver(a, word);
  const v = vectors().label("irq").b("irq").label("sync");
  logException(v).word(0x7940_01a7); // ldrh w7, [x13]
  logWord(v, 7);
  m.load(off(a), repair(v).eret());
}

const STR_X3_X12 = 0xf900_0183, LDR_X4_X12 = 0xf940_0184;
const STTR_X3_X12 = 0xf800_0983, LDTR_X4_X12 = 0xf840_0984;

/** Writes the descriptor in X10 for the page at `va`, drops what was cached of it. */
function remap(m: TierMachine, v: Asm, va: number, descriptor: bigint): Asm {
  v.mov(9, m.tables.entryOf(va)).mov(10, Number(descriptor)).str(10, 9).dsb();
  return v.tlbiVmalle1().dsb().isb();
}

onEveryTier("the second page refuses the store: nothing of it is in the first", {
  load: (m) => {
    mapPages(m, PTE.RW, PTE.RO);
    faulting(m, STR_X3_X12, (v) => remap(m, v, EDGE, BigInt(SECOND) | PTE.RW));
  },
  check: (m) => {
    const [esr, , far, , bytes, ...more] = m.log();
    assert.deepEqual([esr, far, bytes, more], ["9600004f", EDGE.toString(16), "102", []]);
    assert.equal(m.get64(FIRST + 0xff8).toString(16), "ffffff0405060708");
    assert.equal(m.get64(SECOND).toString(16), "ffffffffff");
  },
});

onEveryTier("the first page is not there: the fault is at the address itself, once", {
  load: (m) => {
    mapPages(m);
    m.put64(m.tables.entryOf(EDGE - 0x1000), 0n);
    m.put64(SECOND, 0x1122_3344_5566_7788n);
    m.put64(FIRST + 0xff8, 0x0102_0304_0506_0708n);
    const a = prologue(m).mov(12, EDGE - 3);
    loopOver(a, LDR_X4_X12);
    const v = vectors().label("irq").b("irq").label("sync");
    const va = EDGE - 0x1000;
    m.load(off(a), remap(m, logException(v), va, BigInt(FIRST) | PTE.RO).eret());
  },
  check: (m) => {
    const [esr, , far, , ...more] = m.log();
    assert.deepEqual([esr, far, more], ["96000007", (EDGE - 3).toString(16), []]);
    assert.equal(m.x(4).toString(16), "4455667788010203");
  },
});

for (const [name, word] of [["load", LDTR_X4_X12], ["store", STTR_X3_X12]] as const) {
  onEveryTier(`an unprivileged ${name} needs both pages to be EL0's`, {
    load: (m) => {
      mapPages(m, PTE.USER_RW, PTE.RW);
      m.put64(SECOND, 0x1122_3344_5566_7788n);
      faulting(m, word, (v) => remap(m, v, EDGE, BigInt(SECOND) | PTE.USER_RW));
    },
    check: (m) => {
      const [esr, , far, , bytes, ...more] = m.log();
      const wnr = name === "store" ? "4" : "0";
      assert.deepEqual([esr, far, bytes, more], [
        `960000${wnr}f`,
        EDGE.toString(16),
        "102",
        [],
      ]);
      if (name === "load") assert.equal(m.x(4).toString(16), "4455667788010203");
      else assert.equal(m.get64(SECOND).toString(16), "112233ffffffffff");
    },
  });
}

onEveryTier("an access that must be aligned faults, across pages too", {
  load: (m) => {
    mapPages(m);
    // ldar x4, [x12]
    faulting(m, 0xc8df_fd84, (v) => v.add(21, 21, 4).msr("ELR_EL1", 21));
  },
  check: (m) => {
    const log = m.log();
    assert.equal(log.length, 5 * TURNS);
    assert.deepEqual([log[0], log[2]], ["96000021", (EDGE - 3).toString(16)]);
  },
});
