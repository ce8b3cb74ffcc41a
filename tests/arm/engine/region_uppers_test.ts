/**
 * Scalar floating point in regions: upper lanes that are 0 in the register but not made 0 before something
 * reads them, and comparisons whose flags are two numbers, against the evaluator, left after every number
 * of instructions.
 */
import assert from "node:assert/strict";
import { vregOffset } from "../../../src/arm/arch/cpu_state.ts";
import { InterpreterCode } from "../../../src/arm/engine/interpreter.ts";
import { effectsOf } from "../../../src/arm/engine/region_probe.ts";
import { meet, type Uppers, written } from "../../../src/arm/engine/region_uppers.ts";
import { Random } from "../../../src/arm/isa/random.ts";
import { DECODER, ROWS } from "../../../src/arm/isa/table.ts";
import { FoldedLab, LAB_MEMORY_PAGES } from "./folded_lab.ts";

const CODE = new InterpreterCode(ROWS, LAB_MEMORY_PAGES);

/** Zeros, infinities, NaNs (quiet, signalling), subnormal numbers, and what overflows or underflows soon. */
const DOUBLES = [
  0n,
  1n << 63n,
  0x7ffn << 52n,
  0xfffn << 52n,
  0x7ff8n << 48n,
  0x7ff4_0000_dead_0000n,
  1n,
]
  .concat([0x8000_0000_0000_0001n, 1n << 52n, 0x7fe0n << 48n, 0x2000n << 48n, 0x5ff0n << 48n]);
const SINGLES = [0n, 1n << 31n, 0x7f80_0000n, 0xff80_0000n, 0x7fc0_0000n, 0x7fa0_0000n, 1n]
  .concat([0x8000_0001n, 0x80_0000n, 0x7f00_0000n, 0x2000_0000n, 0x5f80_0000n]);

function bitsOf(value: number, size: 32 | 64): bigint {
  const view = new DataView(new ArrayBuffer(8));
  if (size === 64) view.setFloat64(0, value);
  else view.setFloat32(4, value);
  return view.getBigUint64(0);
}

/** A number near 1; one of `often` is special. */
function number(random: Random, size: 32 | 64, often: number): bigint {
  if (random.below(often) === 0) return random.pick(size === 64 ? DOUBLES : SINGLES);
  return bitsOf((random.below(2) ? 1 : -1) * (0.5 + random.below(1000) / 700), size);
}

/** Registers of numbers as the code uses them, with anything above them; the code begins at 0. */
function prepare(lab: FoldedLab, random: Random, singles: ReadonlySet<number>): void {
  const { memory, cpu } = lab;
  lab.randomize(random);
  cpu.alignMask = cpu.spAlignMask = cpu.fpcr = 0;
  cpu.fpEnabled = true;
  cpu.fpsr = 0x10;
  cpu.pc = 0n;
  const often = random.pick([5, 30, 1000]);
  for (let v = 0; v < 32; v++) {
    const at = cpu.base + vregOffset(v);
    memory.st64(at, number(random, 64, often));
    if (random.below(3) > 0) memory.st64(at + 8, number(random, 64, often));
    for (let lane = 0; singles.has(v) && lane < 4; lane++) {
      memory.st32(at + 4 * lane, Number(number(random, 32, often)));
    }
  }
}

/** Runs `words` in portions of all sizes on regions and the evaluator. */
function compare(
  words: readonly number[],
  singles: ReadonlySet<number>,
  episodes: number,
  share = 0.5,
): void {
  for (const copies of [1, 4]) {
    const random = new Random(copies);
    const fast = new FoldedLab(CODE, undefined, { hotAfter: 1, batch: 1, copies });
    const reference = new FoldedLab(), start = new FoldedLab();
    fast.loadCode(words);
    reference.loadCode(words);
    let executed = 0;
    for (let n = 0; n < episodes; n++) {
      prepare(start, random, singles);
      fast.copyFrom(start);
      reference.copyFrom(start);
      for (const length of [n % 70 + 1, 120, 1 + random.below(40), 60]) {
        assert.equal(fast.run(length), length);
        for (let i = 0; i < length; i++) reference.evaluate();
        executed += length;
        assert.equal(fast.difference(reference), undefined, `copies ${copies}, episode ${n}`);
      }
    }
    const { regionInsns } = fast.cpu;
    assert.ok(regionInsns > share * executed, `${regionInsns} of ${executed} in regions`);
  }
}

Deno.test("upper lanes are 0 behind scalar results: read, joined with others, and at every exit", () => {
  // loop: fadd d0, d1, d2; fmul d3, d0, d4; tbz w0, #0, one; mov v5.16b, v0.16b
  // fadd v0.2d, v1.2d, v2.2d; b both; one: fsub d0, d3, d2; fmul d0, d0, d4
  // both: orr v6.16b, v0.16b, v3.16b; add w0, w0, #3; fdiv d7, d3, d1; fneg d8, d7
  // fmul d9, d8, d3; fabs d10, d8; fmov d11, d9; mov d12, v1.d[1]; str q7, [x1]; ldr d13, [x1, #8]
  // fadd s14, s15, s16; fmul s17, s14, s16; fneg s18, s17; mov v14.s[1], v0.s[0]; fadd d14, d14, d4
  // mov v17.d[1], v12.d[0]; tbz w0, #1, loop; mov v19.16b, v18.16b; fadd d18, d17, d9; b loop
  const words = [0x1e622820, 0x1e640803, 0x36000080, 0x4ea01c05, 0x4e62d420, 0x14000003]
    .concat([0x1e623860, 0x1e640800, 0x4ea31c06, 0x11000c00, 0x1e611867, 0x1e6140e8, 0x1e630909])
    .concat([0x1e60c10a, 0x1e60412b, 0x5e18042c, 0x3d800027, 0xfd40042d, 0x1e3029ee, 0x1e3009d1])
    .concat([0x1e214232, 0x6e0c040e, 0x1e6429ce, 0x6e180591, 0x360ffd00, 0x4eb21e53, 0x1e692a32])
    .concat([0x17ffffe5]);
  compare(words, new Set([14, 15, 16, 17, 18]), 400);
});

Deno.test("upper lanes are 0 for the region that is called, and for the one that it goes back to", () => {
  // loop: fadd d0, d1, d2; fmul d3, d0, d4; bl f; fsub d8, d3, d0; fmul d9, d8, d4; b loop
  // f: mov x20, x30; fadd d5, d0, d3; fmul d6, d5, d4; bl g; orr v10.16b, v5.16b, v0.16b; mov x30, x20; ret
  // g: orr v7.16b, v3.16b, v6.16b; fadd d11, d3, d4; fmul d0, d11, d4; ret
  const words = [0x1e622820, 0x1e640803, 0x94000004, 0x1e603868, 0x1e640909, 0x17fffffb, 0xaa1e03f4]
    .concat([0x1e632805, 0x1e6408a6, 0x94000004, 0x4ea01caa, 0xaa1403fe, 0xd65f03c0, 0x4ea61c67])
    .concat([0x1e64286b, 0x1e640960, 0xd65f03c0]);
  compare(words, new Set(), 200);
});

Deno.test("flags of two numbers compared: every condition, joins, and every exit", () => {
  // loop: fcmp d0, d1; cset w1 to w13 by eq, hs, mi, vs, hi, ge, gt, lo, pl, vc, ls, lt, le
  // fcmpe s2, #0.0; b.gt one; add w14, w14, #1; one: fadd d3, d3, d5; fmul d6, d3, d5; fcmpe d3, d1
  // b.mi two; add w14, w14, #16; fcmp s2, s7; b.ne loop; two: mrs x15, nzcv; fccmp d0, d5, #5, lt
  // cset w16, ge; fcsel d0, d1, d0, ge; fcmp d5, d0; b.hs three; adds w17, w17, #1
  // three: cset w18, hs; b loop
  const words = [0x1e612000, 0x1a9f17e1, 0x1a9f37e2, 0x1a9f57e3, 0x1a9f77e4, 0x1a9f97e5, 0x1a9fb7e6]
    .concat([0x1a9fd7e7, 0x1a9f27e8, 0x1a9f47e9, 0x1a9f67ea, 0x1a9f87eb, 0x1a9fa7ec, 0x1a9fc7ed])
    .concat([0x1e202058, 0x5400004c, 0x110005ce, 0x1e652863, 0x1e650866, 0x1e612070, 0x54000084])
    .concat([0x110041ce, 0x1e272040, 0x54fffd21, 0xd53b420f, 0x1e65b405, 0x1a9fb7f0, 0x1e60ac20])
    .concat([0x1e6020a0, 0x54000042, 0x31000631, 0x1a9f37f2, 0x17ffffe0]);
  compare(words, new Set([2, 7]), 400);
});

Deno.test("squares, which have no sign: what is too small in one lane, or overflows", () => {
  // loop: fmul d0, d1, d1; fadd d2, d2, d0; fmul v3.4s, v4.4s, v4.4s; fadd v5.4s, v5.4s, v3.4s
  // fmul v6.2d, v7.2d, v7.2d; fmul v8.2d, v7.2d, v1.2d; fmul s9, s10, s10; fadd s11, s11, s9; b loop
  const words = [0x1e610820, 0x1e602842, 0x6e24dc83, 0x4e23d4a5, 0x6e67dce6, 0x6e61dce8, 0x1e2a0949]
    .concat([0x1e29296b, 0x17fffff8]);
  compare(words, new Set([4, 5, 10, 11]), 400, 0.3);
});

Deno.test("what is known of upper lanes where control meets, and behind an instruction", () => {
  const order: Uppers[] = ["zero32", "junk32", "zero64", "junk64", "full"];
  for (const [i, a] of order.entries()) {
    for (const [j, b] of order.entries()) assert.equal(meet(a, b), order[Math.max(i, j)]);
  }
  const behind = (word: number, uppers: Uppers) => {
    const found = DECODER.decode(word);
    assert.ok(found);
    const [write] = effectsOf(found).vectorWrites;
    assert.ok(write);
    return written(write, () => uppers);
  };
  // fadd d0, d1, d2 has zeros where the operands have them; fdiv and fneg have not.
  assert.equal(behind(0x1e622820, "zero64"), "zero64");
  assert.equal(behind(0x1e622820, "zero32"), "zero64");
  assert.equal(behind(0x1e622820, "junk64"), "junk64");
  assert.equal(behind(0x1e622820, "full"), "junk64");
  assert.equal(behind(0x1e621820, "zero64"), "junk64");
  assert.equal(behind(0x1e614020, "zero64"), "junk64");
  // fadd s0, s1, s2; fabs s0, s1; fmov d0, d1
  assert.equal(behind(0x1e222820, "zero64"), "junk32");
  assert.equal(behind(0x1e20c020, "zero32"), "zero32");
  assert.equal(behind(0x1e604020, "full"), "junk64");
  // ldr d0, [x0]; ldr s0, [x0]; fadd v0.2d, v1.2d, v2.2d; mov v0.d[0], v1.d[0]
  assert.equal(behind(0xfd400000, "full"), "zero64");
  assert.equal(behind(0xbd400000, "full"), "zero32");
  assert.equal(behind(0x4e62d420, "zero64"), "full");
  assert.equal(behind(0x6e080420, "zero64"), "full");
});
