/** Half precision to and from single and double, of normal numbers, by their bits: IEEE or alternative is the same there. */
import type { V32, V64 } from "../isa/builder.ts";
import type { Kind } from "./fp_kinds.ts";

const HALF = { fraction: 10, bias: 15 } as const;

/** Sign bit of `bits` (a number of `from` bits), moved to that of `to` bits. */
function moveSign({ b }: Kind, bits: V64, from: number, to: number): V64 {
  return b.shl(b.shrU(bits, b.c64(from - 1)), b.c64(to - 1));
}

/** A half as a number of kind `to`. Leaves unless it is normal or zero. */
export function widenHalf(to: Kind, half: V64): V64 {
  const { b } = to;
  const { fraction, bias, bits } = to.numbers;
  const magnitude = b.and(half, b.c64(0x7fff));
  const exponent = b.shrU(magnitude, b.c64(HALF.fraction));
  const zero = b.isZero(magnitude);
  b.require(b.or(zero, b.ltU(b.sub(exponent, b.c64(1)), b.c64(30))));
  const rebiased = b.add(magnitude, b.c64((bias - HALF.bias) << HALF.fraction));
  const wide = b.shl(b.select(zero, magnitude, rebiased), b.c64(fraction - HALF.fraction));
  return b.or(wide, moveSign(to, b.and(half, b.c64(0xffff)), 16, bits));
}

/**
 * A number of kind `from` as a half, rounded to nearest even, and whether that is exact. Leaves unless
 * the result is normal, was so before it was rounded, and does not overflow, or the number is zero.
 */
export function narrowToHalf(from: Kind, value: V64): { half: V64; exact: V32 } {
  const { b } = from;
  const { fraction, bias, bits } = from.numbers;
  const magnitude = b.and(value, b.c64((1n << BigInt(bits - 1)) - 1n));
  const zero = b.isZero(magnitude);
  const exponent = b.shrU(magnitude, b.c64(fraction));
  const least = bias - HALF.bias + 1;
  b.require(b.or(zero, b.ltU(b.sub(exponent, b.c64(least)), b.c64(30))));
  const cut = fraction - HALF.fraction;
  const odd = b.and(b.shrU(magnitude, b.c64(cut)), b.c64(1));
  const half = (1n << BigInt(cut - 1)) - 1n;
  const rounded = b.shrU(b.add(b.add(magnitude, b.c64(half)), odd), b.c64(cut));
  const rebiased = b.sub(rounded, b.c64(BigInt(bias - HALF.bias) << BigInt(HALF.fraction)));
  // A carry may have made it 2^16.
  b.require(b.or(zero, b.ltU(rebiased, b.c64(0x7c00))));
  const result = b.select(zero, magnitude, rebiased);
  const exact = b.isZero(b.and(magnitude, b.c64((1n << BigInt(cut)) - 1n)));
  return { half: b.or(result, moveSign(from, value, bits, 16)), exact };
}
