/** Conversions between formats, to and from integers and fixed point, and to integral numbers. */
import {
  formatOf,
  fpDefaultNaN,
  fpInfinity,
  type FpSize,
  FPSR,
  type FpState,
  fpZero,
  isNaN,
  ones,
  pack,
  processNaN,
  type Rounding,
  unpack,
  type Unpacked,
} from "./format.ts";
import { fpRound, type Real, roundToUnit } from "./round.ts";

/** Manual: FPConvertNaN: sign and as much of the payload's top as fits, made quiet. */
function convertNaN(u: Unpacked, from: FpSize, to: FpSize): bigint {
  const [f, t] = [formatOf(from), formatOf(to)];
  const payload = u.bits & ones(f.fraction - 1);
  const by = t.fraction - f.fraction;
  const fitted = by >= 0 ? payload << BigInt(by) : payload >> BigInt(-by);
  return fpInfinity(to, u.sign) | (1n << BigInt(t.fraction - 1)) | fitted;
}

/** Manual: FPConvert, with the rounding of FPCR or `rounding` (FCVTXN). */
export function fpConvert(
  state: FpState,
  from: FpSize,
  to: FpSize,
  bits: bigint,
  rounding: Rounding = state.rounding,
): bigint {
  const u = unpack(state, from, bits, true);
  const alternative = to === 16 && state.alternativeHalf;
  if (isNaN(u)) {
    if (u.type === "signalling" || alternative) state.raise(FPSR.IOC);
    if (alternative) return fpZero(to, u.sign);
    return state.defaultNaN ? fpDefaultNaN(to) : convertNaN(u, from, to);
  }
  if (u.type === "infinity") {
    if (!alternative) return fpInfinity(to, u.sign);
    state.raise(FPSR.IOC);
    return pack(16, u.sign, 31, ones(10));
  }
  if (u.type === "zero") return fpZero(to, u.sign);
  return fpRound(state, to, u, { rounding, conversion: true });
}

/** An integer register's type. */
export interface IntegerType {
  readonly bits: 16 | 32 | 64;
  readonly unsigned: boolean;
}

/** `value` saturated to a type, as its bits. */
function saturate(
  value: bigint,
  { bits, unsigned }: IntegerType,
): { bits: bigint; changed: boolean } {
  const top = unsigned ? ones(bits) : ones(bits - 1);
  const bottom = unsigned ? 0n : -(1n << BigInt(bits - 1));
  const kept = value > top ? top : value < bottom ? bottom : value;
  return { bits: BigInt.asUintN(bits, kept), changed: kept !== value };
}

/** Manual: FPToFixed: the number times 2^`fractionBits` as an integer. Saturation is Invalid Operation, not Inexact. */
export function fpToFixed(
  state: FpState,
  size: FpSize,
  bits: bigint,
  to: IntegerType,
  fractionBits: number,
  rounding: Rounding,
): bigint {
  const u = unpack(state, size, bits);
  if (isNaN(u)) {
    state.raise(FPSR.IOC);
    return 0n;
  }
  if (u.type === "infinity") {
    state.raise(FPSR.IOC);
    return saturate(u.sign ? -(1n << 64n) : 1n << 64n, to).bits;
  }
  const { value, exact } = roundToUnit(u, -fractionBits, rounding);
  const result = saturate(u.sign ? -value : value, to);
  if (result.changed) state.raise(FPSR.IOC);
  else if (!exact) state.raise(FPSR.IXC);
  return result.bits;
}

/** Manual: FixedToFP: an integer divided by 2^`fractionBits`, rounded as FPCR says. */
export function fixedToFp(
  state: FpState,
  size: FpSize,
  bits: bigint,
  from: IntegerType,
  fractionBits: number,
): bigint {
  const value = from.unsigned ? bits : BigInt.asIntN(from.bits, bits);
  if (value === 0n) return fpZero(size, 0);
  const sign = value < 0n ? 1 : 0;
  const mantissa = sign ? -value : value;
  return fpRound(state, size, { sign, mantissa, exponent: -fractionBits });
}

/** Manual: FPRoundInt: to an integral number of the same format; `exact` raises Inexact (FRINTX). */
export function fpRoundInt(
  state: FpState,
  size: FpSize,
  bits: bigint,
  rounding: Rounding,
  exact: boolean,
): bigint {
  const u = unpack(state, size, bits);
  if (isNaN(u)) return processNaN(state, size, u);
  if (u.type === "infinity") return fpInfinity(size, u.sign);
  if (u.type === "zero") return fpZero(size, u.sign);
  const rounded = roundToUnit(u, 0, rounding);
  if (exact && !rounded.exact) state.raise(FPSR.IXC);
  if (rounded.value === 0n) return fpZero(size, u.sign);
  // An integral number of the format, or the power of two above: exact.
  const real: Real = { sign: u.sign, mantissa: rounded.value, exponent: 0 };
  return fpRound(state, size, real, { rounding: "zero" });
}

/**
 * Manual: FPToFixedJS: double to 32 bits as JavaScript's ToInt32 does. `exact`: the Z flag, that the
 * integer is the number itself (and not -0).
 */
export function fpToFixedJs(state: FpState, bits: bigint): { bits: bigint; exact: boolean } {
  const u = unpack(state, 64, bits);
  if (isNaN(u) || u.type === "infinity") {
    state.raise(FPSR.IOC);
    return { bits: 0n, exact: false };
  }
  const rounded = roundToUnit(u, 0, "zero");
  const value = u.sign ? -rounded.value : rounded.value;
  const fits = BigInt.asIntN(32, value) === value;
  if (!fits) state.raise(FPSR.IOC);
  else if (!rounded.exact) state.raise(FPSR.IXC);
  // -0, and a subnormal that FPCR.FZ makes zero, are not exact.
  const negativeZero = u.type === "zero" && (u.sign === 1 || bits !== 0n);
  return { bits: BigInt.asUintN(32, value), exact: fits && rounded.exact && !negativeZero };
}
