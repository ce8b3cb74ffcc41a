/** Bit helpers for 32-bit numbers, for numbers up to 2^53, and (cold paths only) for bigints. */

export const MASK64 = 0xffff_ffff_ffff_ffffn;
export const TWO32 = 0x1_0000_0000;

/** Bits `hi` down to `lo` (0 to 31) of a 32-bit number, as an unsigned number. */
export function bits(value: number, hi: number, lo: number): number {
  const width = hi - lo + 1;
  return width === 32 ? value >>> 0 : (value >>> lo) & ((1 << width) - 1);
}

/** Bit `at` (0 to 31) of a 32-bit number, as 0 or 1. */
export function bit(value: number, at: number): number {
  return (value >>> at) & 1;
}

/** Bits `hi` down to `lo` of a number below 2^53, as a number. */
export function bits53(value: number, hi: number, lo: number): number {
  return Math.floor(value / 2 ** lo) % 2 ** (hi - lo + 1);
}

/** Bits `hi` down to `lo` of a bigint. */
export function bits64(value: bigint, hi: number, lo: number): bigint {
  return (value >> BigInt(lo)) & ((1n << BigInt(hi - lo + 1)) - 1n);
}

/** Whether bit `at` of a bigint is set. */
export function bit64(value: bigint, at: number): boolean {
  return ((value >> BigInt(at)) & 1n) === 1n;
}

/** `value` (its low `width` bits, 1 to 32) as a signed 32-bit number. */
export function signExtend(value: number, width: number): number {
  const shift = 32 - width;
  return (value << shift) >> shift;
}

/** Any bigint as an unsigned 64-bit one. */
export function u64(value: bigint): bigint {
  return value & MASK64;
}

/** Sign-extends the low `width` bits and returns an unsigned 64-bit bigint. */
export function signExtend64(value: bigint, width: number): bigint {
  return BigInt.asUintN(64, BigInt.asIntN(width, value));
}

/** A number from two 32-bit halves; exact while the result is below 2^53. */
export function join53(lo: number, hi: number): number {
  return (lo >>> 0) + (hi >>> 0) * TWO32;
}

/** `value` rounded up to a multiple of `to` (any positive number). */
export function alignUp(value: number, to: number): number {
  return Math.ceil(value / to) * to;
}

/** A 64-bit value in hexadecimal with `0x` and 16 digits. */
export function hex64(value: bigint): string {
  return "0x" + BigInt.asUintN(64, value).toString(16).padStart(16, "0");
}
