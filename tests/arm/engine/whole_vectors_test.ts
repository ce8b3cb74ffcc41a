/** Vectors that a loop puts together from neighbouring elements of the memory: which are loaded at once, and that they are right. */
import assert from "node:assert/strict";
import { gprOffset, vregOffset } from "../../../src/arm/arch/cpu_state.ts";
import { InterpreterCode } from "../../../src/arm/engine/interpreter.ts";
import { regionGraph } from "../../../src/arm/engine/region_graph.ts";
import { effectsOf } from "../../../src/arm/engine/region_probe.ts";
import { Random } from "../../../src/arm/isa/random.ts";
import { DECODER, ROWS } from "../../../src/arm/isa/table.ts";
import { CODE_PAGES, FoldedLab, LAB_MEMORY_PAGES } from "./folded_lab.ts";

/** LDRB, LDRH, LDR Wt or LDR Xt by the logarithm of the size: [Xn, #index * size]. */
const load = (log: number, t: number, n: number, index: number) =>
  ((log << 30) | 0x3940_0000 | (index << 10) | (n << 5) | t) >>> 0;
/** STRB Wt, [Xn, #offset]. */
const store = (t: number, n: number, offset: number) =>
  (0x3900_0000 | (offset << 10) | (n << 5) | t) >>> 0;
/** INS Vd.T[index], Rn: lanes of 8 << log bits. */
const insert = (log: number, d: number, index: number, n: number) =>
  (0x4e00_1c00 | (((index << (log + 1)) | (1 << log)) << 16) | (n << 5) | d) >>> 0;
/** DUP Vd.T, Rn of 128 or 64 bits. */
const duplicate = (log: number, d: number, n: number, q: 0 | 1) =>
  (0x0e00_0c00 | (q << 30) | (1 << (log + 16)) | (n << 5) | d) >>> 0;
/** MOV Wd, Wm and MOV Xd, Xm. */
const move = (d: number, m: number, x: 0 | 1) => (0x2a00_03e0 | (x << 31) | (m << 16) | d) >>> 0;
/** SUBS X9, X9, #1; B.NE back over `length` instructions. */
const back = (length: number) => [
  0xf100_0529,
  (0x5400_0001 | ((-(length + 1) & 0x7_ffff) << 5)) >>> 0,
];

/** How the vectors that are loaded at once are, in a loop of these instructions. */
function wholes(...body: readonly number[]): string[] {
  const words = [...body, ...back(body.length), 0xd65f_03c0];
  const stepAt = (offset: number) => {
    const instruction = DECODER.decode(words[offset / 4] ?? 0);
    return instruction && { instruction, effects: effectsOf(instruction) };
  };
  const graph = regionGraph(0, stepAt, 400, 1, () => []);
  assert.ok(graph);
  return [...graph.nodes.values()].flatMap(({ wholes }) =>
    [...wholes ?? []].map(([step, { slot, share, load }]) =>
      `${step}: v${(slot - vregOffset(0)) / 16} ${load} ${share.offset}`
    )
  );
}

const EIGHT = [0, 1, 2, 3, 4, 5, 6, 7];
/** Elements from `from` on to W1 to W8, and these to the lanes of V2. */
const elements = (log: number, lanes: number, from = 0) => [
  ...EIGHT.slice(0, lanes).map((i) => load(log, 1 + i, 0, from + i)),
];
const lanes = (log: number, count: number) =>
  EIGHT.slice(0, count).map((i) => insert(log, 2, i, 1 + i));

Deno.test("bytes, halfwords and words in a row become lanes as wide or twice as wide", () => {
  assert.deepEqual(wholes(...elements(0, 8, 3), ...lanes(1, 8)), ["15: v2 load8x8_u 0"]);
  assert.deepEqual(wholes(...elements(1, 8), ...lanes(1, 8)), ["15: v2 load 0"]);
  assert.deepEqual(wholes(...elements(1, 4), ...lanes(2, 4)), ["7: v2 load16x4_u 0"]);
  assert.deepEqual(wholes(...elements(2, 4), ...lanes(2, 4)), ["7: v2 load 0"]);
  assert.deepEqual(wholes(...elements(0, 4), ...lanes(2, 4)), []);
});

Deno.test("by way of copies, and of a register in all lanes first", () => {
  const first = [...elements(0, 8), duplicate(1, 2, 1, 0), ...lanes(1, 8).slice(1)];
  assert.deepEqual(wholes(...first), ["15: v2 load8x8_u 0"]);
  const copied = [...elements(0, 8), move(10, 8, 0), ...lanes(1, 7), insert(1, 2, 7, 10)];
  assert.deepEqual(wholes(...copied), ["16: v2 load8x8_u 0"]);
  const high = [...elements(0, 8), duplicate(1, 2, 8, 1), ...lanes(1, 7)];
  assert.deepEqual(wholes(...high), ["15: v2 load8x8_u 0"]);
});

Deno.test("not what is in another order, overwritten, stored to meanwhile, or cut", () => {
  const other = [...elements(0, 8), ...lanes(1, 6), insert(1, 2, 6, 8), insert(1, 2, 7, 7)];
  assert.deepEqual(wholes(...other), []);
  const overwritten = [...elements(0, 8), move(8, 11, 0), ...lanes(1, 8)];
  assert.deepEqual(wholes(...overwritten), []);
  const stored = [...elements(0, 8), ...lanes(1, 4), store(3, 0, 1), ...lanes(1, 8).slice(4)];
  assert.deepEqual(wholes(...stored), []);
  const half = [...elements(0, 8), duplicate(1, 2, 8, 0), ...lanes(1, 4)];
  assert.deepEqual(wholes(...half), []);
  const both = (x: 0 | 1) => [
    load(3, 1, 0, 0),
    load(3, 3, 0, 1),
    load(3, 4, 0, 2),
    move(1, 1, x),
    insert(3, 2, 0, 1),
    insert(3, 2, 1, 3),
  ];
  assert.deepEqual(wholes(...both(1)), ["5: v2 load 0"]);
  assert.deepEqual(wholes(...both(0)), []);
});

const CODE = new InterpreterCode(ROWS, LAB_MEMORY_PAGES);

/** A loop that makes a vector or two, with other things in between now and then. */
function loop(random: Random): number[] {
  const wide = 1 + random.below(3);
  const narrow = random.below(2) ? wide - 1 : wide;
  const count = 16 >> wide;
  const from = random.below(4);
  const body: number[] = [];
  const noise = () => {
    if (random.below(10) > 0) return;
    const [a, b] = [1 + random.below(12), 1 + random.below(12)];
    body.push(random.pick([
      store(a, 0, random.below(24)),
      move(a, b, random.below(2) as 0 | 1),
      duplicate(random.below(4), 2, a, 1),
      insert(random.below(4), 2, 0, a),
      load(random.below(3), a, 0, random.below(6)),
    ]));
  };
  const order = EIGHT.slice(0, count);
  if (random.below(3) === 0) order.reverse();
  for (const i of order) {
    body.push(load(narrow, 1 + i, 0, from + i));
    noise();
  }
  for (const i of order) {
    const source = random.below(4) === 0 ? 12 : 1 + i;
    if (source === 12) body.push(move(12, 1 + i, random.below(2) as 0 | 1));
    body.push(
      i === order[0] && random.below(2)
        ? duplicate(wide, 2, source, 1)
        : insert(wide, 2, i, source),
    );
    noise();
  }
  // str q2, [x20], #16; add x0, x0, #8
  if (random.below(2)) body.push(0x3c81_0682);
  body.push(0x9100_2000);
  return [...body, ...back(body.length)];
}

Deno.test("random loops that put vectors together end as on the evaluator", () => {
  let inRegions = 0;
  for (let seed = 1; seed <= 4; seed++) {
    const random = new Random(seed);
    const words: number[] = [];
    const starts: number[] = [];
    while (words.length < CODE_PAGES * 1024 - 80) {
      starts.push(words.length);
      words.push(...loop(random));
    }
    const fast = new FoldedLab(CODE, undefined, { hotAfter: 2, batch: 1 });
    const reference = new FoldedLab(), start = new FoldedLab();
    fast.loadCode(words);
    reference.loadCode(words);
    for (let n = 0; n < 150; n++) {
      start.randomize(random);
      const { cpu, memory } = start;
      cpu.fpEnabled = random.below(8) > 0;
      cpu.alignMask = 0;
      cpu.pc = BigInt(4 * random.pick(starts));
      const near = () => BigInt(4096 * (1 + random.below(8)) - random.below(200));
      for (const x of [0, 20]) memory.st64(cpu.base + gprOffset(x), near());
      memory.st64(cpu.base + gprOffset(9), BigInt(20 + random.below(20)));
      fast.copyFrom(start);
      reference.copyFrom(start);
      const count = 400 + random.below(50);
      assert.equal(fast.run(count), count);
      for (let i = 0; i < count; i++) reference.evaluate();
      assert.equal(fast.difference(reference), undefined, `seed ${seed}, episode ${n}`);
    }
    inRegions += fast.cpu.regionInsns;
  }
  assert.ok(inRegions > 60_000, `${inRegions} instructions in regions`);
});
