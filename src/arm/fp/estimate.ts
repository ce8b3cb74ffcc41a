/** Reciprocal and reciprocal square root estimates (manual: FPRecipEstimate, FPRSqrtEstimate, FPRecpX and the unsigned ones). */
import {
  fieldsOf,
  formatOf,
  fpInfinity,
  type FpSize,
  FPSR,
  type FpState,
  fpZero,
  invalid,
  isNaN,
  ones,
  pack,
  processNaN,
  unpack,
} from "./format.ts";
import { overflow } from "./round.ts";

/** Manual: RecipEstimate: 256 to 511 in, 256 to 511 out. */
function recipEstimate(a: number): number {
  const b = Math.floor(2 ** 19 / (a * 2 + 1));
  return (b + 1) >> 1;
}

/** Manual: RecipSqrtEstimate: 128 to 511 in, 256 to 511 out. */
function recipSqrtEstimate(a: number): number {
  const middle = a < 256 ? a * 2 + 1 : ((a & ~1) + 1) * 2;
  let b = 512;
  while (middle * (b + 1) * (b + 1) < 2 ** 28) b++;
  return (b + 1) >> 1;
}

/** The fraction widened to 52 bits, and the exponent field. */
function wideFields(size: FpSize, bits: bigint): { exponent: number; fraction: bigint } {
  const { exponent, fraction } = fieldsOf(size, bits);
  return { exponent, fraction: fraction << BigInt(52 - formatOf(size).fraction) };
}

const TOP = 1n << 51n;

/** The top 8 fraction bits under the implied one: 256 to 511. */
function scaledOf(fraction: bigint): number {
  return 256 | Number(fraction >> 44n);
}

/** A 52-bit fraction cut to the format. */
function packWide(size: FpSize, sign: number, exponent: number, fraction: bigint): bigint {
  return pack(size, sign, exponent, fraction >> BigInt(52 - formatOf(size).fraction));
}

/** Exponent field of 1.0, of the largest reciprocal, less the estimate's: 29, 253, 2045. */
function recipExponent(size: FpSize, exponent: number): number {
  return 2 * (1 - formatOf(size).minimum) - 1 - exponent;
}

function normalRecip(size: FpSize, bits: bigint, sign: number): bigint {
  let { exponent, fraction } = wideFields(size, bits);
  if (exponent === 0) {
    const half = (fraction & TOP) !== 0n;
    if (!half) exponent = -1;
    fraction = (fraction << (half ? 1n : 2n)) & ones(52);
  }
  const estimate = recipEstimate(scaledOf(fraction));
  const result = BigInt(estimate & 0xff) << 44n;
  const resultExponent = recipExponent(size, exponent);
  if (resultExponent === 0) return packWide(size, sign, 0, TOP | (result >> 1n));
  if (resultExponent === -1) return packWide(size, sign, 0, (TOP >> 1n) | (result >> 2n));
  return packWide(size, sign, resultExponent, result);
}

/** Manual: FPRecipEstimate (FRECPE). */
export function fpRecipEstimate(state: FpState, size: FpSize, bits: bigint): bigint {
  const u = unpack(state, size, bits);
  if (isNaN(u)) return processNaN(state, size, u);
  if (u.type === "infinity") return fpZero(size, u.sign);
  if (u.type === "zero") {
    state.raise(FPSR.DZC);
    return fpInfinity(size, u.sign);
  }
  const f = formatOf(size);
  const { exponent, fraction } = fieldsOf(size, bits);
  // Below 2^(minimum - 2): the reciprocal overflows.
  if (exponent === 0 && fraction < 1n << BigInt(f.fraction - 2)) {
    return overflow(state, size, u.sign, state.rounding);
  }
  // From 2^-minimum on: the reciprocal is subnormal.
  if (state.flushes(size) && exponent >= 1 - 2 * f.minimum) {
    state.raise(FPSR.UFC);
    return fpZero(size, u.sign);
  }
  return normalRecip(size, bits, u.sign);
}

/** Manual: FPRSqrtEstimate (FRSQRTE). */
export function fpRSqrtEstimate(state: FpState, size: FpSize, bits: bigint): bigint {
  const u = unpack(state, size, bits);
  if (isNaN(u)) return processNaN(state, size, u);
  if (u.type === "zero") {
    state.raise(FPSR.DZC);
    return fpInfinity(size, u.sign);
  }
  if (u.sign === 1) return invalid(state, size);
  if (u.type === "infinity") return fpZero(size, 0);
  let { exponent, fraction } = wideFields(size, bits);
  if (exponent === 0) {
    for (; (fraction & TOP) === 0n; exponent--) fraction <<= 1n;
    fraction = (fraction << 1n) & ones(52);
  }
  const scaled = exponent % 2 === 0 ? scaledOf(fraction) : 128 | Number(fraction >> 45n);
  const bias3 = 3 * (1 - formatOf(size).minimum) - 1;
  const result = BigInt(recipSqrtEstimate(scaled) & 0xff) << 44n;
  return packWide(size, 0, Math.floor((bias3 - exponent) / 2), result);
}

/** Manual: FPRecpX (FRECPX): the exponent's complement, no fraction. */
export function fpRecpX(state: FpState, size: FpSize, bits: bigint): bigint {
  const u = unpack(state, size, bits);
  if (isNaN(u)) return processNaN(state, size, u);
  const all = Number(ones(formatOf(size).exponent));
  const { exponent } = fieldsOf(size, bits);
  return pack(size, u.sign, exponent === 0 ? all - 1 : all ^ exponent, 0n);
}

/** Manual: UnsignedRecipEstimate (URECPE). */
export function unsignedRecipEstimate(bits: bigint): bigint {
  if (bits >> 31n === 0n) return ones(32);
  return BigInt(recipEstimate(Number(bits >> 23n))) << 23n;
}

/** Manual: UnsignedRSqrtEstimate (URSQRTE). */
export function unsignedRSqrtEstimate(bits: bigint): bigint {
  if (bits >> 30n === 0n) return ones(32);
  return BigInt(recipSqrtEstimate(Number(bits >> 23n))) << 23n;
}
