/**
 * FRECPE and FRSQRTE of ordinary numbers: the tables of the manual as the divisions and roots that they
 * were made from. They raise nothing there.
 */
import type { V64 } from "../isa/builder.ts";
import type { Float } from "./fp_kinds.ts";
import { Kind } from "./fp_kinds.ts";

/** Exponent field, and the top 8 bits of the fraction. */
function partsOf(k: Kind, bits: V64) {
  const { b } = k;
  const { fraction, bias } = k.numbers;
  const exponent = b.and(b.shrU(bits, b.c64(fraction)), b.c64(2 * bias + 1));
  const top = b.and(b.shrU(bits, b.c64(fraction - 8)), b.c64(0xff));
  return { exponent, top };
}

/** An element of a sign (in place), an exponent field and an estimate of 256 to 511. */
function join(k: Kind, sign: V64, exponent: V64, estimate: V64): V64 {
  const { b } = k;
  const { fraction } = k.numbers;
  const low = b.shl(b.and(estimate, b.c64(0xff)), b.c64(fraction - 8));
  return b.or(b.or(sign, b.shl(exponent, b.c64(fraction))), low);
}

/** Leaves unless the exponent field is from `least` to `most`. */
function requireExponent(k: Kind, exponent: V64, least: number, most: number): void {
  const { b } = k;
  b.require(b.ltU(b.sub(exponent, b.c64(least)), b.c64(most - least + 1)));
}

/** Manual: FPRecipEstimate, where operand and result are normal. */
export function recipEstimateFast(k: Kind, bits: V64): V64 {
  const { b } = k;
  const { bias } = k.numbers;
  const { exponent, top } = partsOf(k, bits);
  requireExponent(k, exponent, 1, 2 * bias - 2);
  const scaled = b.or(b.shl(b.or(top, b.c64(256)), b.c64(1)), b.c64(1));
  const quotient = b.udiv(b.c64(1 << 19), scaled);
  const estimate = b.shrU(b.add(quotient, b.c64(1)), b.c64(1));
  const sign = b.and(bits, b.c64(1n << BigInt(k.numbers.bits - 1)));
  return join(k, sign, b.sub(b.c64(2 * bias - 1), exponent), estimate);
}

/** Manual: FPRSqrtEstimate, where the operand is normal and positive. */
export function rsqrtEstimateFast(k: Kind, bits: V64): V64 {
  const { b } = k;
  const { bias } = k.numbers;
  const sign = b.shrU(bits, b.c64(k.numbers.bits - 1));
  b.require(b.isZero(sign));
  const { exponent, top } = partsOf(k, bits);
  requireExponent(k, exponent, 1, 2 * bias);
  // 512 to 1022 by twos where the exponent is even, else 257 to 511 by twos: the middles.
  const even = b.isZero(b.and(exponent, b.c64(1)));
  const wide = b.shl(b.or(b.or(top, b.c64(256)), b.c64(1)), b.c64(1));
  const narrow = b.or(b.or(b.and(top, b.c64(0xfe)), b.c64(256)), b.c64(1));
  const middle = b.select(even, wide, narrow);
  // The largest root whose square times the middle is below 2^28.
  const double = new Kind(b, "f64");
  const number = b.apply<Float>("f64", "f64.convert_i64_s", middle);
  const square = double.binary("div", double.constant(2 ** 28), number);
  const above = double.unary("ceil", double.unary("sqrt", square));
  const root = b.sub(b.apply<V64>("i64", "i64.trunc_f64_s", above), b.c64(1));
  const estimate = b.shrU(b.add(root, b.c64(1)), b.c64(1));
  const result = b.shrU(b.sub(b.c64(3 * bias - 1), exponent), b.c64(1));
  return join(k, b.c64(0), result, estimate);
}
