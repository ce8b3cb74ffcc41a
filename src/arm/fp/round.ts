/** Rounding of an exact number to a format or to an integer (manual: FPRoundBase, FPToFixed, FPRoundInt). */
import {
  formatOf,
  fpInfinity,
  fpMaxNormal,
  type FpSize,
  FPSR,
  type FpState,
  fpZero,
  ones,
  pack,
  type Rounding,
} from "./format.ts";

/** An exact number; `sticky`: the true one is a little larger in magnitude. */
export interface Real {
  readonly sign: 0 | 1;
  /** Not negative; 0 only where the caller says so. */
  readonly mantissa: bigint;
  readonly exponent: number;
  readonly sticky?: boolean;
}

export interface RoundOptions {
  readonly rounding?: Rounding;
  /** FPRoundCV: the alternative half-precision format may apply, FPCR.FZ16 does not. */
  readonly conversion?: boolean;
}

export function bitLength(n: bigint): number {
  return n.toString(2).length;
}

/** Whether what was cut off a mantissa makes it larger in magnitude by one. */
function roundsUp(rounding: Rounding, sign: number, odd: boolean, half: number): boolean {
  switch (rounding) {
    case "even":
      return half > 0 || (half === 0 && odd);
    case "away":
      return half >= 0;
    case "up":
      return sign === 0;
    case "down":
      return sign === 1;
    default:
      return false;
  }
}

/** `real` in units of 2^`unit`: rounded, and whether that was exact. */
export function roundToUnit(
  real: Real,
  unit: number,
  rounding: Rounding,
): { value: bigint; exact: boolean } {
  const shift = unit - real.exponent;
  if (shift <= 0) {
    if (real.sticky) throw new RangeError("too few bits to round");
    return { value: real.mantissa << BigInt(-shift), exact: true };
  }
  const by = BigInt(shift);
  const value = real.mantissa >> by;
  const rest = real.mantissa & ones(shift);
  if (rest === 0n && !real.sticky) return { value, exact: true };
  const middle = 1n << (by - 1n);
  const half = rest > middle || (rest === middle && real.sticky) ? 1 : rest === middle ? 0 : -1;
  const odd = (value & 1n) === 1n;
  if (rounding === "odd") return { value: value | 1n, exact: false };
  return { value: roundsUp(rounding, real.sign, odd, half) ? value + 1n : value, exact: false };
}

function overflowsToInfinity(rounding: Rounding, sign: number): boolean {
  return rounding === "even" || (rounding === "up" && sign === 0) ||
    (rounding === "down" && sign === 1);
}

/** Manual: overflow in FPRoundBase and the estimates: Overflow and Inexact. */
export function overflow(
  state: FpState,
  size: FpSize,
  sign: number,
  rounding: Rounding,
): bigint {
  state.raise(FPSR.OFC | FPSR.IXC);
  return overflowsToInfinity(rounding, sign) ? fpInfinity(size, sign) : fpMaxNormal(size, sign);
}

/** Manual: FPRound (and FPRoundCV) of a number that is not zero. Tininess is detected before rounding. */
export function fpRound(
  state: FpState,
  size: FpSize,
  real: Real,
  options: RoundOptions = {},
): bigint {
  const f = formatOf(size);
  const rounding = options.rounding ?? state.rounding;
  const exponent = real.exponent + bitLength(real.mantissa) - 1;
  const flushing = size === 16 && options.conversion ? false : state.flushes(size);
  if (flushing && exponent < f.minimum) {
    state.raise(FPSR.UFC);
    return fpZero(size, real.sign);
  }
  const tiny = exponent < f.minimum;
  const unit = Math.max(exponent, f.minimum) - f.fraction;
  const { value, exact } = roundToUnit(real, unit, rounding);
  if (tiny && !exact) state.raise(FPSR.UFC);
  const biased = tiny ? 0 : exponent - f.minimum + 1;
  // A carry out of the fraction steps into the exponent: from subnormal to normal, or to the next.
  const magnitude = tiny
    ? value
    : (BigInt(biased) << BigInt(f.fraction)) + (value - (1n << BigInt(f.fraction)));
  return finish(state, size, real.sign, magnitude, exact, rounding, options.conversion ?? false);
}

function finish(
  state: FpState,
  size: FpSize,
  sign: number,
  magnitude: bigint,
  exact: boolean,
  rounding: Rounding,
  conversion: boolean,
): bigint {
  const f = formatOf(size);
  const biased = Number(magnitude >> BigInt(f.fraction));
  if (size === 16 && conversion && state.alternativeHalf) {
    if (biased > Number(ones(f.exponent))) {
      state.raise(FPSR.IOC);
      return pack(16, sign, 31, ones(10));
    }
  } else if (biased >= Number(ones(f.exponent))) {
    return overflow(state, size, sign, rounding);
  }
  if (!exact) state.raise(FPSR.IXC);
  return pack(size, sign, 0, 0n) | magnitude;
}
