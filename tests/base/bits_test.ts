import assert from "node:assert/strict";
import fc from "fast-check";
import {
  alignUp,
  bit,
  bit64,
  bits,
  bits53,
  bits64,
  hex64,
  join53,
  signExtend,
  signExtend64,
  u64,
} from "../../src/base/bits.ts";

/** A field within `width` bits: its top and bottom bit. */
const fieldOf = (width: number) =>
  fc.tuple(fc.nat(width - 1), fc.nat(width - 1)).map(([a, b]) => [Math.max(a, b), Math.min(a, b)]);

Deno.test("fields of 32-bit numbers, signed or not, equal those of bigints", () => {
  fc.assert(fc.property(fc.integer(), fieldOf(32), (value, [hi = 0, lo = 0]) => {
    const expected = Number(bits64(BigInt.asUintN(32, BigInt(value)), hi, lo));
    assert.equal(bits(value, hi, lo), expected);
    assert.equal(bits(value >>> 0, hi, lo), expected);
    assert.equal(bit(value, lo), Number((BigInt(value >>> 0) >> BigInt(lo)) & 1n));
  }));
});

Deno.test("fields of numbers below 2^53 equal those of bigints", () => {
  fc.assert(fc.property(fc.maxSafeNat(), fieldOf(53), (value, [hi = 0, lo = 0]) => {
    assert.equal(bits53(value, hi, lo), Number(bits64(BigInt(value), hi, lo)));
  }));
});

Deno.test("fields of bigints", () => {
  assert.equal(bits64(0xfedc_ba98_7654_3210n, 63, 60), 0xfn);
  assert.equal(bits64(0xfedc_ba98_7654_3210n, 63, 0), 0xfedc_ba98_7654_3210n);
  assert.equal(bit64(1n << 63n, 63), true);
  assert.equal(bit64(1n << 63n, 62), false);
});

Deno.test("sign extension of every width", () => {
  for (let width = 1; width <= 32; width++) {
    fc.assert(
      fc.property(fc.integer(), (value) => {
        assert.equal(signExtend(value, width), Number(BigInt.asIntN(width, BigInt(value))));
      }),
      { numRuns: 20 },
    );
  }
  assert.equal(signExtend64(0x80n, 8), 0xffff_ffff_ffff_ff80n);
  assert.equal(signExtend64(0x17fn, 8), 0x7fn);
});

Deno.test("halves join to a number, whatever their signs", () => {
  assert.equal(join53(-1, 0), 0xffff_ffff);
  assert.equal(join53(0, 1), 0x1_0000_0000);
  assert.equal(join53(-1, 0x1f_ffff), Number.MAX_SAFE_INTEGER);
});

Deno.test("rounding up to a multiple, above 32 bits too", () => {
  assert.equal(alignUp(0, 16), 0);
  assert.equal(alignUp(1, 16), 16);
  assert.equal(alignUp(16, 16), 16);
  assert.equal(alignUp(2 ** 40 + 1, 4096), 2 ** 40 + 4096);
});

Deno.test("64-bit values modulo 2^64 and in hexadecimal", () => {
  assert.equal(u64(-1n), 0xffff_ffff_ffff_ffffn);
  assert.equal(u64(1n << 64n), 0n);
  assert.equal(hex64(0n), "0x0000000000000000");
  assert.equal(hex64(-2n), "0xfffffffffffffffe");
});
