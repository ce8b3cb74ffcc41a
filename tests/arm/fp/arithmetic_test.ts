/** The floating-point reference against this machine's own arithmetic, and what its flags must be. */
import assert from "node:assert/strict";
import { Random } from "../../../src/arm/isa/random.ts";
import { FPCR, fpDefaultNaN, type FpSize, FPSR, FpState } from "../../../src/arm/fp/format.ts";
import { evaluateFp, type FpOperation } from "../../../src/arm/fp/operations.ts";

const VIEW = new DataView(new ArrayBuffer(8));

function bitsOf(size: 32 | 64, x: number): bigint {
  if (size === 32) {
    VIEW.setFloat32(0, x);
    return BigInt(VIEW.getUint32(0));
  }
  VIEW.setFloat64(0, x);
  return VIEW.getBigUint64(0);
}

function numberOf(size: 32 | 64, bits: bigint): number {
  if (size === 32) {
    VIEW.setUint32(0, Number(bits));
    return VIEW.getFloat32(0);
  }
  VIEW.setBigUint64(0, bits);
  return VIEW.getFloat64(0);
}

/** Result and flags. */
function run(
  operation: FpOperation,
  size: FpSize,
  operands: readonly bigint[],
  fpcr = 0,
): { bits: bigint; flags: number } {
  const state = new FpState(fpcr);
  const bits = evaluateFp(state, operation, size, operands);
  return { bits, flags: state.flags };
}

/** Bits of numbers of all magnitudes. */
function anyBits(random: Random, size: 32 | 64): bigint {
  return BigInt.asUintN(size, random.below(4) ? random.u64() : random.value());
}

const NATIVE: Readonly<Record<"add" | "sub" | "mul" | "div", (a: number, b: number) => number>> = {
  add: (a, b) => a + b,
  sub: (a, b) => a - b,
  mul: (a, b) => a * b,
  div: (a, b) => a / b,
};

for (const size of [32, 64] as const) {
  Deno.test(`arithmetic of ${size} bits rounds as this machine's does`, () => {
    const random = new Random(size);
    for (let i = 0; i < 20_000; i++) {
      const x = anyBits(random, size);
      // Near each other every other time, so that sums cancel.
      const y = i & 1 ? anyBits(random, size) : x ^ BigInt(random.below(1 << 20));
      const [a, b] = [numberOf(size, x), numberOf(size, y)];
      for (const [op, native] of Object.entries(NATIVE)) {
        const expected = native(a, b);
        const { bits } = run(op as keyof typeof NATIVE, size, [x, y]);
        if (Number.isNaN(expected)) assert.ok(Number.isNaN(numberOf(size, bits)));
        else assert.equal(bits, bitsOf(size, expected), `${op} ${a} ${b}`);
      }
      const root = run("sqrt", size, [x]).bits;
      if (a >= 0) assert.equal(root, bitsOf(size, Math.sqrt(a)), `sqrt ${a}`);
      else assert.ok(Number.isNaN(numberOf(size, root)) || a === 0);
    }
  });
}

Deno.test("conversions between single and double are this machine's", () => {
  const random = new Random(3);
  for (let i = 0; i < 20_000; i++) {
    const [x, y] = [anyBits(random, 64), anyBits(random, 32)];
    const [a, b] = [numberOf(64, x), numberOf(32, y)];
    if (!Number.isNaN(a)) {
      assert.equal(run({ kind: "convert", to: 32 }, 64, [x]).bits, bitsOf(32, a));
    }
    if (!Number.isNaN(b)) {
      assert.equal(run({ kind: "convert", to: 64 }, 32, [y]).bits, bitsOf(64, b));
    }
  }
});

Deno.test("a fused product is rounded once", () => {
  const ulp = 2 ** -52;
  const [x, minusOne] = [bitsOf(64, 1 + ulp), bitsOf(64, -(1 + 2 * ulp))];
  const fused = run("muladd", 64, [minusOne, x, x]);
  assert.equal(numberOf(64, fused.bits), ulp * ulp);
  assert.equal(fused.flags, 0);
  assert.equal(run("mul", 64, [x, x]).flags, FPSR.IXC);
});

Deno.test("each exception raises its flag", () => {
  const one = bitsOf(64, 1);
  const least = 1n;
  const most = bitsOf(64, Number.MAX_VALUE);
  const infinity = bitsOf(64, Infinity);
  const cases: readonly [FpOperation, readonly bigint[], number, number][] = [
    ["add", [one, one], 0, 0],
    ["add", [one, bitsOf(64, 2 ** -60)], 0, FPSR.IXC],
    ["sub", [infinity, infinity], 0, FPSR.IOC],
    ["div", [one, 0n], 0, FPSR.DZC],
    ["div", [0n, 0n], 0, FPSR.IOC],
    ["mul", [most, most], 0, FPSR.OFC | FPSR.IXC],
    ["mul", [least, bitsOf(64, 0.5)], 0, FPSR.UFC | FPSR.IXC],
    ["mul", [least, bitsOf(64, 2)], 0, 0],
    ["mul", [least, bitsOf(64, 2)], FPCR.FZ, FPSR.IDC],
    ["mul", [bitsOf(64, 2 ** -1022), bitsOf(64, 0.5)], FPCR.FZ, FPSR.UFC],
    ["sqrt", [bitsOf(64, -1)], 0, FPSR.IOC],
    ["recpe", [0n], 0, FPSR.DZC],
    ["cmp", [fpDefaultNaN(64), one], 0, 0],
    ["cmpe", [fpDefaultNaN(64), one], 0, FPSR.IOC],
  ];
  for (const [operation, operands, fpcr, flags] of cases) {
    assert.equal(run(operation, 64, operands, fpcr).flags, flags, `${operation} ${operands}`);
  }
});

Deno.test("tininess is detected before rounding", () => {
  // Rounds up to the smallest normal number, from below it.
  const x = bitsOf(64, 2 ** -1022) - 1n;
  const result = run("mul", 64, [x, bitsOf(64, 1 + 2 ** -52)]);
  assert.equal(result.bits, bitsOf(64, 2 ** -1022));
  assert.equal(result.flags, FPSR.UFC | FPSR.IXC);
});

Deno.test("the first signalling NaN wins, then the first quiet one, or the default one", () => {
  const [quiet, other] = [0x7ff8_0000_0000_0001n, 0xfff8_0000_0000_0002n];
  const signalling = 0xfff0_0000_0000_0003n;
  assert.equal(run("add", 64, [quiet, other]).bits, quiet);
  assert.equal(run("add", 64, [other, quiet]).bits, other);
  const result = run("add", 64, [quiet, signalling]);
  assert.equal(result.bits, signalling | (1n << 51n));
  assert.equal(result.flags, FPSR.IOC);
  assert.equal(run("add", 64, [quiet, signalling], FPCR.DN).bits, fpDefaultNaN(64));
});

Deno.test("the rounding modes round a sum four ways, and exact zeros have their sign", () => {
  const [x, tiny] = [bitsOf(64, 1), bitsOf(64, 2 ** -60)];
  const mode = (m: number) => m << FPCR.RMODE_SHIFT;
  const sums = [0, 1, 2, 3].map((m) => run("add", 64, [x, tiny], mode(m)).bits - x);
  assert.deepEqual(sums, [0n, 1n, 0n, 0n]);
  const zeros = [0, 1, 2, 3].map((m) => run("sub", 64, [x, x], mode(m)).bits >> 63n);
  assert.deepEqual(zeros, [0n, 0n, 1n, 0n]);
});

Deno.test("alternative half precision has no infinity and no NaN", () => {
  const big = run({ kind: "convert", to: 16 }, 32, [bitsOf(32, 2 ** 16)], FPCR.AHP);
  assert.deepEqual(big, { bits: 0x7c00n, flags: 0 });
  const over = run({ kind: "convert", to: 16 }, 32, [bitsOf(32, 2 ** 17)], FPCR.AHP);
  assert.deepEqual(over, { bits: 0x7fffn, flags: FPSR.IOC });
  const nan = run({ kind: "convert", to: 16 }, 32, [0xffc0_0000n], FPCR.AHP);
  assert.deepEqual(nan, { bits: 0x8000n, flags: FPSR.IOC });
});

Deno.test("FJCVTZS wraps modulo 2^32 and says whether it is exact", () => {
  const js = (x: number, fpcr = 0) => run("jcvt", 64, [bitsOf(64, x)], fpcr);
  const random = new Random(9);
  for (let i = 0; i < 2000; i++) {
    const x = numberOf(64, anyBits(random, 64));
    assert.equal(Number(BigInt.asIntN(32, js(x).bits)), x | 0);
  }
  assert.equal(js(5).bits >> 32n, 1n);
  for (const x of [-0, 5.5, 2 ** 31, NaN, Infinity]) assert.equal(js(x).bits >> 32n, 0n);
  // A subnormal that is flushed is not exact.
  assert.deepEqual(js(2 ** -1074, FPCR.FZ), { bits: 0n, flags: FPSR.IDC });
});

Deno.test("estimates have 8 good bits, and a step doubles them", () => {
  const random = new Random(5);
  for (let i = 0; i < 2000; i++) {
    const x = 2 ** (random.below(100) - 50) * (1 + random.below(1 << 20) / 2 ** 20);
    const bits = bitsOf(64, x);
    const estimate = run("recpe", 64, [bits]).bits;
    assert.ok(Math.abs(numberOf(64, estimate) * x - 1) < 2 ** -8);
    const root = run("rsqrte", 64, [bits]).bits;
    assert.ok(Math.abs(numberOf(64, root) * Math.sqrt(x) - 1) < 2 ** -8);
    const better = numberOf(64, run("recps", 64, [bits, estimate]).bits) * numberOf(64, estimate);
    assert.ok(Math.abs(better * x - 1) < 2 ** -15);
  }
});
