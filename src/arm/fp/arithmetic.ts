/** Arithmetic (manual: FPAdd, FPMul, FPMulAdd, FPDiv, FPSqrt, FPMax and the rest of their names). */
import {
  formatOf,
  fpAbs,
  fpInfinity,
  fpNeg,
  fpOnePointFive,
  type FpSize,
  FPSR,
  FpState,
  fpTwo,
  fpZero,
  invalid,
  isNaN,
  processNaN,
  processNaNs,
  unpack,
  type Unpacked,
} from "./format.ts";
import { bitLength, fpRound, type Real } from "./round.ts";

type Sign = 0 | 1;

/** The exact sum of two numbers, either of which may be 0. The sign of a zero sum is not set. */
function sumOf(a: Real, b: Real): Real {
  const exponent = Math.min(a.exponent, b.exponent);
  const signed = (r: Real) => {
    const m = r.mantissa << BigInt(r.exponent - exponent);
    return r.sign ? -m : m;
  };
  const total = signed(a) + signed(b);
  return { sign: total < 0n ? 1 : 0, mantissa: total < 0n ? -total : total, exponent };
}

function productOf(a: Unpacked, b: Unpacked): Real {
  return {
    sign: (a.sign ^ b.sign) as Sign,
    mantissa: a.mantissa * b.mantissa,
    exponent: a.exponent + b.exponent,
  };
}

/** Rounds a sum; an exact zero is negative only when rounding down. */
function roundSum(state: FpState, size: FpSize, sum: Real): bigint {
  if (sum.mantissa === 0n) return fpZero(size, state.rounding === "down" ? 1 : 0);
  return fpRound(state, size, sum);
}

function addition(state: FpState, size: FpSize, x: bigint, y: bigint, negate: boolean): bigint {
  const a = unpack(state, size, x);
  const second = unpack(state, size, y);
  const nan = processNaNs(state, size, a, second);
  if (nan !== null) return nan;
  const b = negate ? { ...second, sign: (1 - second.sign) as Sign } : second;
  if (a.type === "infinity" && b.type === "infinity" && a.sign !== b.sign) {
    return invalid(state, size);
  }
  if (a.type === "infinity") return fpInfinity(size, a.sign);
  if (b.type === "infinity") return fpInfinity(size, b.sign);
  if (a.type === "zero" && b.type === "zero" && a.sign === b.sign) return fpZero(size, a.sign);
  return roundSum(state, size, sumOf(a, b));
}

/** Manual: FPAdd. */
export function fpAdd(state: FpState, size: FpSize, x: bigint, y: bigint): bigint {
  return addition(state, size, x, y, false);
}

/** Manual: FPSub. The second operand's NaN keeps its sign. */
export function fpSub(state: FpState, size: FpSize, x: bigint, y: bigint): bigint {
  return addition(state, size, x, y, true);
}

/** Manual: FABD: the absolute value of the difference. */
export function fpAbd(state: FpState, size: FpSize, x: bigint, y: bigint): bigint {
  return fpAbs(size, fpSub(state, size, x, y));
}

function isInfinityTimesZero(a: Unpacked, b: Unpacked): boolean {
  return (a.type === "infinity" && b.type === "zero") ||
    (a.type === "zero" && b.type === "infinity");
}

/** Product of two operands that are no NaNs and not infinity times zero. */
function multiply(state: FpState, size: FpSize, a: Unpacked, b: Unpacked): bigint {
  const sign = a.sign ^ b.sign;
  if (a.type === "infinity" || b.type === "infinity") return fpInfinity(size, sign);
  if (a.type === "zero" || b.type === "zero") return fpZero(size, sign);
  return fpRound(state, size, productOf(a, b));
}

/** Manual: FPMul. */
export function fpMul(state: FpState, size: FpSize, x: bigint, y: bigint): bigint {
  const [a, b] = [unpack(state, size, x), unpack(state, size, y)];
  const nan = processNaNs(state, size, a, b);
  if (nan !== null) return nan;
  return isInfinityTimesZero(a, b) ? invalid(state, size) : multiply(state, size, a, b);
}

/** Manual: FPMulX: infinity times zero is 2. */
export function fpMulX(state: FpState, size: FpSize, x: bigint, y: bigint): bigint {
  const [a, b] = [unpack(state, size, x), unpack(state, size, y)];
  const nan = processNaNs(state, size, a, b);
  if (nan !== null) return nan;
  if (isInfinityTimesZero(a, b)) return fpTwo(size, a.sign ^ b.sign);
  return multiply(state, size, a, b);
}

/** Manual: FNMUL. */
export function fpNegMul(state: FpState, size: FpSize, x: bigint, y: bigint): bigint {
  return fpNeg(size, fpMul(state, size, x, y));
}

/** Adds a product to an addend: the part of FPMulAdd after its NaNs. */
function fused(state: FpState, size: FpSize, addend: Unpacked, a: Unpacked, b: Unpacked): bigint {
  const sign = (a.sign ^ b.sign) as Sign;
  const infinite = a.type === "infinity" || b.type === "infinity";
  const zero = a.type === "zero" || b.type === "zero";
  if (isInfinityTimesZero(a, b)) return invalid(state, size);
  if (addend.type === "infinity" && infinite && addend.sign !== sign) return invalid(state, size);
  if (addend.type === "infinity") return fpInfinity(size, addend.sign);
  if (infinite) return fpInfinity(size, sign);
  if (addend.type === "zero" && zero && addend.sign === sign) return fpZero(size, sign);
  return roundSum(state, size, sumOf(addend, productOf(a, b)));
}

/** Manual: FPMulAdd: addend + x * y, rounded once. `narrow`: FPMulAddH, factors of half precision. */
export function fpMulAdd(
  state: FpState,
  size: FpSize,
  addend: bigint,
  x: bigint,
  y: bigint,
  narrow: FpSize = size,
): bigint {
  const c = unpack(state, size, addend);
  const [a, b] = [unpack(state, narrow, x), unpack(state, narrow, y)];
  // A quiet addend does not hide the invalid product.
  if (c.type === "quiet" && isInfinityTimesZero(a, b)) return invalid(state, size);
  const nan = processNaNs(state, size, c, ...[a, b].map((u) => widenNaN(u, narrow, size)));
  return nan ?? fused(state, size, c, a, b);
}

/** A NaN's payload at the top of a wider format's fraction (manual: FPProcessNaNs3H). */
function widenNaN(u: Unpacked, from: FpSize, to: FpSize): Unpacked {
  if (from === to || !isNaN(u)) return u;
  const [narrow, wide] = [formatOf(from), formatOf(to)];
  const fraction = (u.bits & ((1n << BigInt(narrow.fraction)) - 1n)) <<
    BigInt(wide.fraction - narrow.fraction);
  return { ...u, bits: fpInfinity(to, u.sign) | fraction };
}

/** Manual: FPDiv. */
export function fpDiv(state: FpState, size: FpSize, x: bigint, y: bigint): bigint {
  const [a, b] = [unpack(state, size, x), unpack(state, size, y)];
  const nan = processNaNs(state, size, a, b);
  if (nan !== null) return nan;
  const sign = (a.sign ^ b.sign) as Sign;
  if (a.type === b.type && a.type !== "finite") return invalid(state, size);
  if (a.type === "infinity" || b.type === "zero") {
    if (a.type !== "infinity") state.raise(FPSR.DZC);
    return fpInfinity(size, sign);
  }
  if (a.type === "zero" || b.type === "infinity") return fpZero(size, sign);
  return fpRound(state, size, quotientOf(a, b, sign));
}

/** At least 64 bits more than the divisor has, so that any format rounds right. */
function quotientOf(a: Unpacked, b: Unpacked, sign: Sign): Real {
  const shift = 128;
  const scaled = a.mantissa << BigInt(shift);
  return {
    sign,
    mantissa: scaled / b.mantissa,
    exponent: a.exponent - b.exponent - shift,
    sticky: scaled % b.mantissa !== 0n,
  };
}

/** The integer square root, rounded down. */
function integerSqrt(n: bigint): bigint {
  let root = 1n << BigInt((bitLength(n) + 1) >> 1);
  for (;;) {
    const next = (root + n / root) >> 1n;
    if (next >= root) return root;
    root = next;
  }
}

/** Manual: FPSqrt. */
export function fpSqrt(state: FpState, size: FpSize, x: bigint): bigint {
  const a = unpack(state, size, x);
  if (isNaN(a)) return processNaN(state, size, a);
  if (a.type === "zero") return fpZero(size, a.sign);
  if (a.sign === 1) return invalid(state, size);
  if (a.type === "infinity") return fpInfinity(size, 0);
  const odd = a.exponent & 1;
  const scaled = a.mantissa << BigInt(128 + odd);
  const mantissa = integerSqrt(scaled);
  return fpRound(state, size, {
    sign: 0,
    mantissa,
    exponent: (a.exponent - odd) / 2 - 64,
    sticky: mantissa * mantissa !== scaled,
  });
}

/** 1, 0 or -1 as a is above, at or below b; no NaNs. Infinities compare by their sign. */
export function order(a: Unpacked, b: Unpacked): number {
  const rank = (u: Unpacked) => u.type === "infinity" ? (u.sign ? -1 : 1) : 0;
  if (a.type === "infinity" || b.type === "infinity") return Math.sign(rank(a) - rank(b));
  const difference = sumOf(a, { ...b, sign: (1 - b.sign) as Sign });
  if (difference.mantissa === 0n) return 0;
  return difference.sign ? -1 : 1;
}

/** The chosen operand, put through FPRound as the manual does: subnormals may be flushed. */
function chosen(state: FpState, size: FpSize, u: Unpacked, zeroSign: number): bigint {
  if (u.type === "infinity") return fpInfinity(size, u.sign);
  return u.type === "zero" ? fpZero(size, zeroSign) : fpRound(state, size, u);
}

function extreme(state: FpState, size: FpSize, x: bigint, y: bigint, max: boolean): bigint {
  const [a, b] = [unpack(state, size, x), unpack(state, size, y)];
  const nan = processNaNs(state, size, a, b);
  if (nan !== null) return nan;
  const first = max ? order(a, b) > 0 : order(a, b) < 0;
  const both = a.type === "zero" && b.type === "zero";
  const u = first ? a : b;
  const sign = !both ? u.sign : max ? a.sign & b.sign : a.sign | b.sign;
  return chosen(state, size, u, sign);
}

/** Manual: FPMax, FPMin. */
export function fpMax(state: FpState, size: FpSize, x: bigint, y: bigint): bigint {
  return extreme(state, size, x, y, true);
}
export function fpMin(state: FpState, size: FpSize, x: bigint, y: bigint): bigint {
  return extreme(state, size, x, y, false);
}

function numberExtreme(state: FpState, size: FpSize, x: bigint, y: bigint, max: boolean): bigint {
  // Only what they are matters here: input denormals are noted by FPMax and FPMin.
  const look = new FpState(0);
  const [a, b] = [unpack(look, size, x), unpack(look, size, y)];
  const least = fpInfinity(size, max ? 1 : 0);
  if (a.type === "quiet" && b.type !== "quiet") return extreme(state, size, least, y, max);
  if (b.type === "quiet" && a.type !== "quiet") return extreme(state, size, x, least, max);
  return extreme(state, size, x, y, max);
}

/** Manual: FPMaxNum, FPMinNum: a quiet NaN loses against a number. */
export function fpMaxNum(state: FpState, size: FpSize, x: bigint, y: bigint): bigint {
  return numberExtreme(state, size, x, y, true);
}
export function fpMinNum(state: FpState, size: FpSize, x: bigint, y: bigint): bigint {
  return numberExtreme(state, size, x, y, false);
}

/** (start - x * y) / 2^halvings rounded once; `special` for infinity times zero. */
function step(
  state: FpState,
  size: FpSize,
  [x, y]: readonly [bigint, bigint],
  start: bigint,
  halvings: 0 | 1,
  special: bigint,
): bigint {
  const [a, b] = [unpack(state, size, fpNeg(size, x)), unpack(state, size, y)];
  const nan = processNaNs(state, size, a, b);
  if (nan !== null) return nan;
  if (isInfinityTimesZero(a, b)) return special;
  if (a.type === "infinity" || b.type === "infinity") return fpInfinity(size, a.sign ^ b.sign);
  const sum = sumOf({ sign: 0, mantissa: start, exponent: 0 }, productOf(a, b));
  return roundSum(state, size, { ...sum, exponent: sum.exponent - halvings });
}

/** Manual: FPRecipStepFused: 2 - x * y. */
export function fpRecipStep(state: FpState, size: FpSize, x: bigint, y: bigint): bigint {
  return step(state, size, [x, y], 2n, 0, fpTwo(size, 0));
}

/** Manual: FPRSqrtStepFused: (3 - x * y) / 2. */
export function fpRSqrtStep(state: FpState, size: FpSize, x: bigint, y: bigint): bigint {
  return step(state, size, [x, y], 3n, 1, fpOnePointFive(size, 0));
}
