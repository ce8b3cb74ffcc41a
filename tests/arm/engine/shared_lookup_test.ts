/**
 * Loops whose accesses are looked up together: the ends of pages, pages of all kinds in a row, faults in the
 * middle, pages that change, watchpoints. On every tier it is the same.
 */
import assert from "node:assert/strict";
import { gprOffset } from "../../../src/arm/arch/cpu_state.ts";
import { effectsOf } from "../../../src/arm/engine/region_probe.ts";
import { regionGraph } from "../../../src/arm/engine/region_graph.ts";
import { InterpreterCode } from "../../../src/arm/engine/interpreter.ts";
import { Random } from "../../../src/arm/isa/random.ts";
import { DECODER, ROWS } from "../../../src/arm/isa/table.ts";
import { Asm, COND } from "../../support/asm.ts";
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
} from "../../support/tier_machine.ts";
import { CODE_PAGES, FoldedLab, LAB_MEMORY_PAGES } from "./folded_lab.ts";

// What is looked up together

/** How many accesses of all copies of the blocks have been looked up together, by look-up. */
function shared(make: (asm: Asm) => void, copies: number): number[] {
  const asm = new Asm(0);
  make(asm);
  const words = asm.words();
  const stepAt = (offset: number) => {
    const instruction = DECODER.decode(words[offset / 4] ?? 0);
    return instruction && { instruction, effects: effectsOf(instruction) };
  };
  const graph = regionGraph(0, stepAt, 400, copies, () => []);
  assert.ok(graph);
  const counts: number[] = [];
  for (const { shares } of graph.nodes.values()) {
    for (const { bytes } of shares?.values() ?? []) counts[bytes] = (counts[bytes] ?? 0) + 1;
  }
  return counts;
}

const RET = 0xd65f_03c0;
/** Ends a loop that began at label "loop". */
const turn = (asm: Asm) => asm.subs(9, 9, 1).bCond(COND.NE, "loop").word(RET);
/** ldrb w3, [xn, xm]; strb w3, [xn], #1; ldr x3, [xn, xm, lsl #3] */
const ldrbIndexed = (n: number, m: number) => (0x3860_6803 | (m << 16) | (n << 5)) >>> 0;
const strbPost = (n: number) => (0x3800_1403 | (n << 5)) >>> 0;
const ldrScaled = (n: number, m: number) => (0xf860_7803 | (m << 16) | (n << 5)) >>> 0;

Deno.test("accesses a constant apart are looked up together, loads and stores apart", () => {
  const near = (a: Asm) => turn(a.label("loop").ldr(1, 0).ldr(2, 0, 8).ldr(3, 0, 64).str(3, 0, 8));
  assert.deepEqual(shared(near, 1), [3]);
  assert.deepEqual(shared(near, 2), [6, 2]);
});

Deno.test("a register that a constant is added to is where it was", () => {
  const post = (a: Asm) => turn(a.label("loop").word(strbPost(0)));
  assert.deepEqual(shared(post, 4), [4]);
  const moved = (a: Asm) =>
    turn(a.label("loop").ldr(1, 0).add(5, 0, 16).ldr(1, 5).add(0, 5, 8).ldr(1, 0));
  assert.deepEqual(shared(moved, 1), [3]);
  const index = (a: Asm) => turn(a.label("loop").word(ldrbIndexed(0, 1)).add(1, 1, 1));
  assert.deepEqual(shared(index, 4), [4]);
  const scaled = (a: Asm) => turn(a.label("loop").word(ldrScaled(0, 1)).add(1, 1, 2));
  assert.deepEqual(shared(scaled, 4), [4]);
});

Deno.test("not what another value is added to, or what is loaded", () => {
  const other = (a: Asm) => turn(a.label("loop").ldr(1, 0).ldr(2, 0, 8).addReg(0, 0, 5));
  assert.deepEqual(shared(other, 1), []);
  // Of a second turn: it is a sum of two registers there. A third would want one of three.
  assert.deepEqual(shared(other, 4), [2, 2]);
  const loaded = (a: Asm) =>
    turn(a.label("loop").ldr(0, 0).ldr(1, 0, 8).ldr(2, 0, 16).ldr(3, 0, 24));
  assert.deepEqual(shared(loaded, 4), []);
});

Deno.test("not what is accessed in some turns only, unless it lies between what is always", () => {
  const some = (a: Asm) =>
    turn(a.label("loop").cbz(5, "no").ldr(1, 0).ldr(2, 0, 8).ldr(3, 0, 16).label("no"));
  assert.deepEqual(shared(some, 1), []);
  const between = (a: Asm) =>
    turn(
      a.label("loop").ldr(1, 0).ldr(1, 0, 16).ldr(1, 0, 32).cbz(5, "no").ldr(2, 0, 8).label("no"),
    );
  assert.deepEqual(shared(between, 1), [4]);
});

Deno.test("what is set in different ways before blocks meet is not known there", () => {
  const either = (move: number) => (a: Asm) =>
    turn(
      a.label("loop").cbz(5, "other").add(1, 0, 16).b("on").label("other").add(1, 0, move)
        .label("on").ldr(2, 1).ldr(3, 1, 8).ldr(4, 1, 16),
    );
  assert.deepEqual(shared(either(16), 1), [3]);
  assert.deepEqual(shared(either(24), 1), []);
});

// Random loops

const CODE = new InterpreterCode(ROWS, LAB_MEMORY_PAGES);

/** An access by X0 to X3 at a small offset, or by a sum of two. */
function access(random: Random): number {
  const [n, m, t] = [random.below(4), random.below(4), 4 + random.below(4)];
  const load = random.below(2) << 22;
  const size = random.below(4);
  const imm = random.below(12);
  switch (random.below(6)) {
    case 0:
      // LDUR, STUR
      return ((size << 30) | 0x3800_0000 | load | (random.below(64) << 12) | (n << 5) | t) >>> 0;
    case 1:
      // Post-indexed and pre-indexed
      return ((size << 30) | 0x3800_0400 | (random.below(2) << 11) | load | (imm << 12) | (n << 5) |
        t) >>> 0;
    case 2:
      // Indexed by a register
      return ((size << 30) | 0x3820_6800 | (random.below(2) << 12) | load | (m << 16) | (n << 5) |
        t) >>> 0;
    case 3:
      // LDP, STP of X, and of Q
      return (random.pick([0xa900_0000, 0xad00_0000]) | load | ((imm & 3) << 15) | (8 << 10) |
        (n << 5) | t) >>> 0;
    case 4:
      // LDR, STR of Q
      return (0x3d80_0000 | load | ((imm & 3) << 10) | (n << 5) | t) >>> 0;
    default:
      return ((size << 30) | 0x3900_0000 | load | (imm << 10) | (n << 5) | t) >>> 0;
  }
}

/** add xd, xn, #imm of X0 to X3; now and then a value that is loaded gets among them. */
function move(random: Random): number {
  const [d, n] = [random.below(4), random.below(4)];
  if (random.below(12) === 0) {
    return (0x8b00_0000 | ((4 + random.below(4)) << 16) | (n << 5) | d) >>> 0;
  }
  const same = random.below(3) > 0 ? d : n;
  return ((random.below(4) === 0 ? 0xd100_0000 : 0x9100_0000) | (random.below(40) << 10) |
    (same << 5) | d) >>> 0;
}

/** Loops of accesses, of which some have a branch over a few instructions in them. */
function loops(random: Random): number[] {
  const words: number[] = [];
  while (words.length < CODE_PAGES * 1024) {
    const length = 4 + random.below(14);
    for (let i = 0; i < length; i++) {
      words.push(random.below(4) > 0 ? access(random) : move(random));
    }
    if (random.below(3) === 0) {
      // cbz x4, over some
      words[words.length - 4] = 0xb400_0064;
    }
    // subs x9, x9, #1; b.ne
    words.push(0xf100_0529, (0x5400_0001 | ((-(length + 1) & 0x7_ffff) << 5)) >>> 0);
  }
  return words.slice(0, CODE_PAGES * 1024);
}

Deno.test("random loops end as on the evaluator, near the ends of pages too", () => {
  let inRegions = 0;
  for (let seed = 1; seed <= 4; seed++) {
    const random = new Random(seed);
    const words = loops(random);
    const fast = new FoldedLab(CODE, undefined, {
      hotAfter: 2,
      batch: 1,
      copies: 1 + random.below(4),
    });
    const reference = new FoldedLab(), start = new FoldedLab();
    fast.loadCode(words);
    reference.loadCode(words);
    for (let n = 0; n < 150; n++) {
      start.randomize(random);
      const { cpu, memory } = start;
      cpu.fpEnabled = true;
      if (random.below(4) > 0) cpu.alignMask = cpu.spAlignMask = 0;
      for (let x = 0; x < 4; x++) {
        const near = BigInt(4096 * (1 + random.below(8)) - random.below(300));
        memory.st64(cpu.base + gpr(x), random.below(3) > 0 ? near : BigInt(8 * random.below(64)));
      }
      memory.st64(cpu.base + gpr(9), BigInt(1 + random.below(40)));
      fast.copyFrom(start);
      reference.copyFrom(start);
      const count = 200 + random.below(50);
      assert.equal(fast.run(count), count);
      for (let i = 0; i < count; i++) reference.evaluate();
      assert.equal(fast.difference(reference), undefined, `seed ${seed}, episode ${n}`);
    }
    inRegions += fast.cpu.regionInsns;
  }
  assert.ok(inRegions > 50_000, `${inRegions} instructions in regions`);
});

function gpr(n: number): number {
  return gprOffset(n);
}

// Guests

const WINDOW = MAP.alias;
const DEVICE_PAGE = 0x707n;
/** Where the pages of the window are: neighbours and not, of which some fault for stores, or for all. */
const PAGES: readonly (readonly [number, bigint] | undefined)[] = [
  [0, PTE.RW],
  [1, PTE.RW],
  [5, PTE.RW],
  [3, PTE.RO],
  [4, PTE.RW],
  undefined,
  [2, PTE.RW],
  [6, DEVICE_PAGE],
  [7, PTE.RW],
];

function mapWindow(m: TierMachine): void {
  PAGES.forEach((page, n) => {
    const [at, attributes] = page ?? [0, 0n];
    m.tables.map(WINDOW + 4096 * n, MAP.data + 4096 * at, page ? attributes : 0n);
  });
}

/** A handler that logs the exception and goes on behind the instruction. */
function skipping(): Asm {
  const v = vectors();
  v.label("irq").b("irq").label("sync");
  return logException(v).add(21, 21, 4).msr("ELR_EL1", 21).eret();
}

for (const [name, start] of [["aligned", 0], ["misaligned", 3]] as const) {
  onEveryTier(`a loop over pages of all kinds, and some that are not there: ${name}`, {
    leastShare: 0.15,
    load: (m) => {
      mapWindow(m);
      const a = prologue(m).mov(12, WINDOW + start).mov(11, 9 * 4096 / 32 - 2).mov(4, 0);
      a.label("loop").ldr(3, 12).addReg(4, 4, 3).ldrQ(1, 12, 16).add(4, 4, 1).str(4, 12, 8);
      a.ldr(5, 12, 8).strQ(1, 12, 32).str(4, 12, 24).addReg(4, 4, 5).add(12, 12, 32);
      m.load(off(a.subs(11, 11, 1).bCond(COND.NE, "loop")), skipping());
    },
    // Each access to the page that is missing, the stores to the one that is read only, and those that cross.
    check: (m) => assert.ok(m.log().length > 4 * 128 * 6),
  });
}

onEveryTier("a page becomes another in the middle of a loop, and is gone for a while", {
  leastShare: 0.3,
  load: (m) => {
    mapWindow(m);
    m.put64(MAP.data, 5n);
    m.put64(MAP.data + 4096, 7n);
    const entry = m.tables.entryOf(WINDOW);
    const a = prologue(m).mov(12, WINDOW).mov(11, 900).mov(4, 0).mov(13, entry);
    a.mov(14, MAP.data).mov(15, MAP.data + 4096).mov(16, 0x703).orr(14, 14, 16).orr(15, 15, 16);
    a.mov(17, WINDOW >>> 12);
    a.label("loop").ldr(3, 12).addReg(4, 4, 3).ldr(5, 12, 8).add(5, 5, 1).str(5, 12, 8).str(
      4,
      12,
      16,
    );
    // Each 16th turn the other page, each 128th none
    a.word(0xf240_0d7f).bCond(COND.NE, "on").eor(18, 14, 15).eor(14, 14, 18).eor(15, 15, 18);
    a.movReg(18, 14).word(0xf240_197f).bCond(COND.NE, "there").mov(18, 0).label("there");
    a.str(18, 13).dsb().tlbiVae1(17).dsb().isb().label("on");
    m.load(off(a.subs(11, 11, 1).bCond(COND.NE, "loop")), skipping());
  },
  check: (m) => {
    assert.ok(m.log().length > 4 * 5 * 7, `${m.log().length} logged`);
    const turns = m.get64(MAP.data + 8) + m.get64(MAP.data + 4096 + 8);
    assert.ok(turns > 700n && turns < 900n, `${turns} turns`);
  },
});

onEveryTier("a watchpoint in the middle of what a loop accesses, set and cleared", {
  leastShare: 0.3,
  load: (m) => {
    const a = prologue(m).mov(12, MAP.data).mov(11, 600).mov(4, 0).mov(24, 0);
    a.mov(1, MAP.data + 16).msr("DBGWVR0_EL1", 1).mov(13, 0);
    // MDE and KDE; the debug exception mask is cleared
    a.mov(1, 0).msr("OSDLR_EL1", 1).msr("OSLAR_EL1", 1).mov(1, 0xa000).msr("MDSCR_EL1", 1).isb()
      .word(0xd503_48ff);
    a.label("loop").ldr(3, 12).add(4, 4, 1).str(4, 12, 8).ldr(5, 12, 16).str(4, 12, 24);
    // Each 64th turn the other way: E, PAC of EL1, loads, all bytes
    a.word(0xf240_157f).bCond(COND.NE, "on").mov(1, 0x1feb).eor(13, 13, 1).msr("DBGWCR0_EL1", 13)
      .isb();
    a.label("on").subs(11, 11, 1).bCond(COND.NE, "loop");
    m.load(off(a), skipping());
  },
  check: (m) => {
    const seen = m.log().length / 4;
    assert.ok(seen >= 4 * 64 && seen <= 6 * 64, `${seen} watchpoints`);
  },
});

onEveryTier("slices end at each instruction of a loop written several times in a row", {
  leastShare: 0.3,
  options: { quantum: 61 },
  load: (m) => {
    mapWindow(m);
    const a = prologue(m).mov(12, WINDOW + 4096 - 128).mov(11, 3000).mov(4, 0).mov(
      13,
      WINDOW + 4096 - 128,
    );
    a.label("loop").ldr(3, 12).addReg(4, 4, 3).add(12, 12, 8).str(4, 12).word(0xf240_157f);
    a.bCond(COND.NE, "on").movReg(12, 13).label("on").subs(11, 11, 1).bCond(COND.NE, "loop");
    m.load(off(logWord(a, 4)), skipping());
  },
  check: (m) => assert.equal(m.log().length, 1),
});
