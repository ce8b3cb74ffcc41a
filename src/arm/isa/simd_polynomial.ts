/** Products of polynomials over {0, 1} of 64 bits, as PMULL makes them. */
import type { Builder, V64 } from "./builder.ts";

/** Every fourth bit, from bit `n` on. */
function holes(b: Builder, a: V64, n: number): V64 {
  return b.and(a, b.c64(0x1111_1111_1111_1111n << BigInt(n)));
}

/**
 * The low 64 bits of the product. Of numbers with only every fourth bit set, each column of the
 * ordinary product sums at most 16 bits, and 16 only in the top one: the carries stay in the holes.
 */
function lowHalf(b: Builder, a: V64, c: V64): V64 {
  const parts = [0, 1, 2, 3];
  const [as, cs] = [a, c].map((v) => parts.map((n) => holes(b, v, n))) as [V64[], V64[]];
  const columns = parts.map((column) => {
    const products = parts.map((i) => b.mul(as[i] as V64, cs[(column + 4 - i) % 4] as V64));
    return holes(b, products.reduce((x, y) => b.xor(x, y)), column);
  });
  return columns.reduce((x, y) => b.or(x, y));
}

/** The bits in reverse. */
function reversed(b: Builder, a: V64): V64 {
  const steps: readonly (readonly [number, bigint])[] = [
    [1, 0x5555_5555_5555_5555n],
    [2, 0x3333_3333_3333_3333n],
    [4, 0x0f0f_0f0f_0f0f_0f0fn],
    [8, 0x00ff_00ff_00ff_00ffn],
    [16, 0x0000_ffff_0000_ffffn],
  ];
  const swapped = steps.reduce((value, [by, mask]) => {
    const [amount, low] = [b.c64(by), b.c64(mask)];
    return b.or(
      b.and(b.shrU(value, amount), low),
      b.shl(b.and(value, low), amount),
    );
  }, a);
  return b.rotr(swapped, b.c64(32));
}

/** The 128-bit product, low half first: its high half is, in reverse, the low half of the reversed factors'. */
export function carrylessMul(b: Builder, a: V64, c: V64): readonly [V64, V64] {
  const mirrored = lowHalf(b, reversed(b, a), reversed(b, c));
  return [lowHalf(b, a, c), b.shrU(reversed(b, mirrored), b.c64(1))];
}
