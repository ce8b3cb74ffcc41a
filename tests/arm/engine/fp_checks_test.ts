/**
 * Runs of floating-point instructions whose results are checked together, against the evaluator: random
 * programs of them between branches, with numbers among which there are some that WebAssembly's
 * arithmetic will not do for, at the beginning, in the middle or at the end of a run.
 */
import assert from "node:assert/strict";
import { vregOffset } from "../../../src/arm/arch/cpu_state.ts";
import { effectsOf } from "../../../src/arm/engine/region_probe.ts";
import { InterpreterCode } from "../../../src/arm/engine/interpreter.ts";
import { Random, randomInstruction } from "../../../src/arm/isa/random.ts";
import type { Row } from "../../../src/arm/isa/row.ts";
import { DECODER, ROWS } from "../../../src/arm/isa/table.ts";
import { CODE_PAGES, FoldedLab, LAB_MEMORY_PAGES } from "./folded_lab.ts";

const CODE = new InterpreterCode(ROWS, LAB_MEMORY_PAGES);
const WORDS = CODE_PAGES * 1024;
const SEEDS = 6, EPISODES = 400, LENGTH = 80;

const NUMBER_ROWS = ROWS.filter(({ name, slow }) =>
  !slow && /^(FP_two_source|FADD|FSUB|FMUL|FDIV|FSQRT|FABD|FMOV_FABS|FCM|FCSEL|FNEG)/.test(name)
);
const OTHER_ROWS = ROWS.filter(({ name }) =>
  /^(FCVT|SCVTF|DUP|INS|ORR_v|BIT_v|ADD_|SUBS|LDST_v_uimm|LDP_STP_v_offset|FMAX|FMLA|FADDP)/.test(
    name,
  )
);

function program(random: Random): number[] {
  const pick = (rows: readonly Row[]) => randomInstruction(random.pick(rows), random).word;
  return Array.from({ length: WORDS }, (_, i) => {
    const kind = random.below(24);
    if (kind > 1) return pick(kind < 5 ? OTHER_ROWS : NUMBER_ROWS);
    const to = (i & 1023) < 40 ? random.below(40) : -random.below(40);
    return (kind === 0 ? 0x1400_0000 | (to & 0x3ff_ffff) : 0x5400_0000 | ((to & 0x7_ffff) << 5) |
      random.below(14)) >>> 0;
  });
}

const DOUBLES = [
  0,
  -0,
  Infinity,
  -Infinity,
  NaN,
  NaN,
  NaN,
  5e-324,
  2 ** -1022,
  2 ** -1021,
  2 ** -600,
]
  .concat([-(2 ** -511), 2 ** -510, 2 ** 511, 2 ** 600, Number.MAX_VALUE, 1e300]);
const SINGLES = [
  0,
  -0,
  Infinity,
  -Infinity,
  NaN,
  NaN,
  NaN,
  2 ** -149,
  2 ** -126,
  2 ** -125,
  2 ** -70,
]
  .concat([-(2 ** -63), 2 ** 64, 2 ** 70, 3e38]);

/** Vector registers of numbers near 1, of which few are `special`. */
function numbers(lab: FoldedLab, random: Random): void {
  const { memory, cpu } = lab;
  const view = new DataView(new ArrayBuffer(8));
  const often = random.pick([6, 24, 100]);
  const near = () => (random.below(2) ? 1 : -1) * (0.5 + random.below(1000) / 700);
  for (let v = 0; v < 32; v++) {
    const double = random.below(2) === 0;
    for (const half of [0, 8]) {
      const special = () => random.below(often) === 0;
      if (double) view.setFloat64(0, special() ? random.pick(DOUBLES) : near(), true);
      else {
        for (const at of [0, 4]) {
          view.setFloat32(at, special() ? random.pick(SINGLES) : near(), true);
        }
      }
      memory.st64(cpu.base + vregOffset(v) + half, view.getBigUint64(0, true));
    }
  }
}

function prepare(lab: FoldedLab, random: Random): void {
  const { cpu } = lab;
  lab.randomize(random);
  cpu.alignMask = cpu.spAlignMask = 0;
  cpu.fpEnabled = true;
  cpu.fpcr = 0;
  cpu.fpsr = random.below(8) === 0 ? 0 : 0x10;
  numbers(lab, random);
}

Deno.test("numbers are what the evaluator makes of them where results are checked together", () => {
  let inRegions = 0, left = 0;
  for (let seed = 1; seed <= SEEDS; seed++) {
    const random = new Random(seed);
    const words = program(random);
    const fast = new FoldedLab(CODE, undefined, { hotAfter: 1, batch: 1 });
    const reference = new FoldedLab(), start = new FoldedLab();
    fast.loadCode(words);
    reference.loadCode(words);
    for (let n = 0; n < EPISODES; n++) {
      prepare(start, random);
      fast.copyFrom(start);
      reference.copyFrom(start);
      assert.equal(fast.run(LENGTH), LENGTH);
      for (let i = 0; i < LENGTH; i++) reference.evaluate();
      const difference = fast.difference(reference);
      const from = `0x${start.cpu.pc.toString(16)}`;
      assert.equal(difference, undefined, `seed ${seed}, episode ${n}, from ${from}`);
    }
    inRegions += fast.cpu.regionInsns;
    for (const count of fast.evaluated.values()) left += count;
  }
  const total = SEEDS * EPISODES * LENGTH;
  assert.ok(inRegions > 0.2 * total, `${inRegions} of ${total} in regions`);
  assert.ok(left < 0.3 * total, `${left} of ${total} left to the evaluator`);
});

Deno.test("one number in a run that WebAssembly's arithmetic will not do for", () => {
  // fadd d0, d1, d2; fmul d3, d0, d4; fcmgt v5.2d, v6.2d, v7.2d; fcmp d6, d7;
  // cinc x0, x0, vs; fdiv d1, d8, d9; b
  const words = [
    ...[0x1e622820, 0x1e640803, 0x6ee7e4c5, 0x1e6720c0, 0x9a807400, 0x1e691901],
    0x17fffffa,
  ];
  const view = new DataView(new ArrayBuffer(8));
  const set = ({ memory, cpu }: FoldedLab, at: number, value: number) => {
    view.setFloat64(0, value, true);
    memory.st64(cpu.base + at, view.getBigUint64(0, true));
  };
  const random = new Random(7);
  const fast = new FoldedLab(CODE, undefined, { hotAfter: 1, batch: 1 });
  const reference = new FoldedLab(), start = new FoldedLab();
  fast.loadCode(words);
  reference.loadCode(words);
  for (const special of [1, ...DOUBLES]) {
    for (let where = 0; where < 20; where++) {
      start.randomize(random);
      const { cpu } = start;
      cpu.alignMask =
        cpu.spAlignMask =
        cpu.fpcr =
        cpu.nzcv =
          0;
      cpu.fpsr = 0x10;
      cpu.fpEnabled = true;
      cpu.pc = 0n;
      for (let v = 0; v < 10; v++) {
        set(start, vregOffset(v), 1.25 + v);
        set(start, vregOffset(v) + 8, 1.25 + v);
      }
      set(start, vregOffset(where >> 1) + 8 * (where & 1), special);
      fast.copyFrom(start);
      reference.copyFrom(start);
      const before = fast.cpu.regionInsns;
      assert.equal(fast.run(90), 90);
      for (let i = 0; i < 90; i++) reference.evaluate();
      const message = `${special} in half ${where & 1} of v${where >> 1}`;
      assert.equal(fast.difference(reference), undefined, message);
      if (special === 1 && where > 0) {
        assert.ok(fast.cpu.regionInsns - before >= 60, `${fast.cpu.regionInsns - before}`);
      }
    }
  }
});

/** The effects of an instruction word. */
function effects(word: number) {
  const found = DECODER.decode(word);
  assert.ok(found);
  return effectsOf(found);
}

Deno.test("which checks can be put off, and what makes a result not finite", () => {
  const v = vregOffset;
  // fadd v0.4s, v1.4s, v2.4s; fmul d3, d4, d5; fsqrt s6, s7; fdiv v8.2d, v9.2d, v10.2d
  const part = "q", size = 32;
  assert.deepEqual(effects(0x4e22d420).result, {
    slot: v(0),
    part,
    size,
    normal: false,
    reads: [v(1), v(2)],
  });
  const product = { slot: v(3), part: "f64", size: 64, normal: true, reads: [v(4), v(5)] };
  assert.deepEqual(effects(0x1e650883).result, product);
  const root = { slot: v(6), part: "f32", size: 32, normal: false, reads: [v(7)] };
  assert.deepEqual(effects(0x1e21c0e6).result, root);
  const quotient = { slot: v(8), part: "q", size: 64, normal: true, reads: [v(9), v(10)] };
  assert.deepEqual(effects(0x6e6afd28).result, quotient);
});

Deno.test("what has an effect beside registers and flags, or several results, is not done twice", () => {
  // str q0, [x0]; ldr q0, [x0]; fadd v0.2s, v1.2s, v2.2s; faddp v0.4s, v1.4s, v2.4s; sqadd v0.4s, v1.4s, v2.4s
  assert.equal(effects(0x3d800000).restartable, false);
  assert.equal(effects(0x3dc00000).restartable, true);
  assert.equal(effects(0x0e22d420).result, undefined);
  assert.equal(effects(0x4ea20c20).restartable, false);
  // fcmp d0, d1: checks, and has no result
  const compare = effects(0x1e612000);
  assert.ok(compare.checks && compare.result === undefined && compare.restartable);
});
