/**
 * The fused multiply-add, which WebAssembly does not have, from additions and multiplications whose
 * errors are known exactly (Boldo and Melquiond, "Emulation of FMA and correctly rounded sums: proved
 * algorithms using rounding to odd", 2008).
 */
import type { V128 } from "../isa/builder.ts";
import { type Condition, type Float, Kind } from "./fp_kinds.ts";

export interface Fused {
  readonly result: Float;
  /** Where the result may be tiny: whether it is exactly zero. Not there where it cannot be tiny. */
  readonly zero: (() => Condition) | null;
  /** Together: whether the result is exact. */
  readonly exact: readonly (readonly [Kind, () => Condition])[];
}

/** addend + x * y of numbers of kind `k`. Leaves where the errors could not be computed. */
export function fusedMultiplyAdd(k: Kind, addend: Float, x: Float, y: Float): Fused {
  switch (k.name) {
    case "f32":
      return fusedSingle(k, addend, x, y);
    case "f32x4":
      return fusedSingles(k, addend as V128, x as V128, y as V128);
    default:
      return fusedDouble(k, addend, x, y);
  }
}

/** Singles as doubles: the product is exact, the sum rounded to odd. */
function oddSum(wide: Kind, c: Float, x: Float, y: Float) {
  const p = wide.binary("mul", x, y);
  const s = wide.binary("add", p, c);
  const e = wide.sumError(p, c, s);
  return { odd: wide.toOdd(s, e), isExact: () => wide.isZero(e) };
}

function fusedSingle({ b }: Kind, addend: Float, x: Float, y: Float): Fused {
  const wide = new Kind(b, "f64");
  const promote = (v: Float) => b.apply<Float>("f64", "f64.promote_f32", v);
  const { odd, isExact } = oddSum(wide, promote(addend), promote(x), promote(y));
  const result = b.apply<Float>("f32", "f32.demote_f64", odd);
  const exact = () => wide.and(isExact(), wide.compare("eq", promote(result), odd));
  return { result, zero: () => wide.isZero(odd), exact: [[wide, exact]] };
}

/** Four singles as two times two doubles. */
function fusedSingles({ b }: Kind, addend: V128, x: V128, y: V128): Fused {
  const wide = new Kind(b, "f64x2");
  const half = (upper: boolean) => {
    const promote = (v: V128) =>
      b.vector("f64x2.promote_low_f32x4", upper ? b.shuffle(HIGH_TWICE, v, v) : v);
    const { odd, isExact } = oddSum(wide, promote(addend), promote(x), promote(y));
    const narrow = b.vector("f32x4.demote_f64x2_zero", odd as V128);
    const exact = () => {
      const back = b.vector("f64x2.promote_low_f32x4", narrow);
      return wide.and(isExact(), wide.compare("eq", back, odd));
    };
    return { narrow, isZero: () => wide.isZero(odd) as V128, exact: [wide, exact] as const };
  };
  const [low, high] = [half(false), half(true)];
  return {
    result: b.shuffle(LOW_HALVES, low.narrow, high.narrow),
    zero: () => b.shuffle(EVEN_WORDS, low.isZero(), high.isZero()),
    exact: [low.exact, high.exact],
  };
}

/** The product and its error, added to the addend with the errors of those sums rounded to odd. */
function fusedDouble(k: Kind, addend: Float, x: Float, y: Float): Fused {
  const p = k.binary("mul", x, y);
  const inRange = k.and(k.below(addend, 2 ** 1000), k.below(p, 2 ** 1000));
  k.require(k.and(inRange, k.productHasError(x, y, p)));
  const low = k.productError(x, y, p);
  const th = k.binary("add", addend, low);
  const tl = k.sumError(addend, low, th);
  const vh = k.binary("add", p, th);
  const vl = k.sumError(p, th, vh);
  const rest = k.binary("add", tl, vl);
  const restError = k.sumError(tl, vl, rest);
  const odd = k.toOdd(rest, restError);
  const sum = k.binary("add", vh, odd);
  const exact = () => k.and(k.isZero(restError), k.isZero(k.sumError(vh, odd, sum)));
  // A product of zero decides with the addend on the sign of a zero.
  const result = k.select(k.isZero(p), k.binary("add", addend, p), sum);
  return { result, zero: null, exact: [[k, exact]] };
}

/** Byte orders of `shuffle`. */
const bytes = (...words: number[]): number[] =>
  words.flatMap((w) => [0, 1, 2, 3].map((i) => 4 * w + i));
const HIGH_TWICE = bytes(2, 3, 2, 3);
const LOW_HALVES = bytes(0, 1, 4, 5);
const EVEN_WORDS = bytes(0, 2, 4, 6);
