/**
 * The fast path of floating point: WebAssembly's own arithmetic exactly where it cannot differ from
 * Arm's. That is with FPCR.RMode zero; where no operand that matters and no result is a NaN; where the
 * result neither overflows nor may be tiny; where it is exact or FPSR.IXC is set already; and with
 * FPCR.FZ, where no operand and no result is subnormal.
 * Everything else leaves, before anything is written, and the evaluator executes the instruction.
 *
 * Exactness is found with error-free transformations; a fused multiply-add is made of them too.
 * WebAssembly promises nothing about the sign and payload of NaNs, so none gets out of here.
 */
import { FPCR, type FpSize, FPSR } from "../fp/format.ts";
import type { FpFromInteger, FpOp, FpOperation, FpToInteger } from "../fp/operations.ts";
import type { V128, V32, V64 } from "../isa/builder.ts";
import { recipEstimateFast, rsqrtEstimateFast } from "./fp_estimate.ts";
import { fusedMultiplyAdd } from "./fp_fused.ts";
import { narrowToHalf, widenHalf } from "./fp_half.ts";
import {
  type Condition,
  type Float,
  type FpTarget,
  IN_LOW_LANES,
  isEstimate,
  isFast,
  isRelation,
  Kind,
} from "./fp_kinds.ts";
import type { OpName } from "./wasm_assembler.ts";

const RMODE = 3 << FPCR.RMODE_SHIFT;

const ROUND: Readonly<Record<string, string>> = {
  even: "nearest",
  up: "ceil",
  down: "floor",
  zero: "trunc",
};
const INTEGRAL: Readonly<Record<string, string>> = {
  rintn: "even",
  rintp: "up",
  rintm: "down",
  rintz: "zero",
  rinta: "away",
  rinti: "even",
  rintx: "even",
};

/** FPCR.FZ and FPSR.IXC as they were before the instruction: not zero where they are set. */
interface Modes {
  readonly flushing: V32;
  readonly inexactBefore: V32;
}

/** Exponent of 1 in a double. */
const DOUBLE_BIAS = 1023n;

/** Emits into one handler. */
export class FpFast {
  /** Once FPCR has been looked at, in the block of code at hand. */
  modes: Modes | null = null;

  constructor(readonly b: FpTarget) {}

  /** Leaves unless FPCR rounds as WebAssembly does. */
  #begin(): Modes {
    if (this.modes !== null) return this.modes;
    const { b } = this;
    if (b.usualFp) return { flushing: b.c32(0), inexactBefore: b.c32(1) };
    const fpcr = b.fpcr();
    b.require(b.isZero(b.and(fpcr, b.c32(RMODE))));
    this.modes = {
      flushing: b.and(fpcr, b.c32(FPCR.FZ)),
      inexactBefore: b.and(b.fpsr(), b.c32(FPSR.IXC)),
    };
    return this.modes;
  }
  /** Leaves if IXC is not set and `exact` does not hold. */
  #exactOrNoted(k: Kind, exact: () => Condition): void {
    const { b } = this;
    b.when(b.isZero(this.#begin().inexactBefore), () => k.require(exact()));
  }
  /** Leaves if subnormal numbers are flushed and one of these is one. */
  #requireNotFlushed(k: Kind, numbers: readonly Float[]): void {
    this.b.when(this.#begin().flushing, () => {
      for (const x of numbers) k.require(k.or(k.atLeast(x, k.numbers.least), k.isZero(x)));
    });
  }
  /** Leaves unless `likely` or `other` holds (lane by lane); the other is looked at only where it matters. */
  #requireEither(k: Kind, likely: Condition, other: () => Condition): void {
    const { b } = this;
    b.when(b.isZero(k.all(likely)), () => k.require(k.or(likely, other())));
  }

  /** The result as an element, or null where the whole instruction is the evaluator's. */
  scalar(operation: FpOperation, size: FpSize, operands: readonly V64[]): V64 | null {
    if (size === 16) return this.#ofHalf(operation, operands);
    if (typeof operation !== "string") return this.#conversion(operation, size, operands);
    const low = this.#lowLanes(operation, size, operands);
    if (low !== null) return low;
    const k = new Kind(this.b, size === 32 ? "f32" : "f64");
    const numbers = operands.map((x) => k.fromBits(x));
    if (operation === "recpe" || operation === "rsqrte") {
      return this.#estimate(k, operation, operands[0] as V64);
    }
    if (operation === "jcvt") return this.#toIntegerJs(operands[0] as V64);
    if (!isFast(operation)) return null;
    this.#requireNotFlushed(k, numbers);
    if (isRelation(operation)) {
      return this.b.zext(this.#relation(k, operation, numbers) as V32);
    }
    if (operation === "cmp" || operation === "cmpe") return this.b.zext(this.#flags(k, numbers));
    return k.toBits(this.#arithmetic(k, operation, numbers));
  }

  /** The arithmetic of vectors, whose upper lanes do not matter; null where there is no use in that. */
  #lowLanes(operation: FpOp, size: 32 | 64, operands: readonly V64[]): V64 | null {
    if (!IN_LOW_LANES.has(operation)) return null;
    const vectors: V128[] = [];
    for (const operand of operands) {
      const vector = this.b.lowLane(size, operand);
      if (vector === null) return null;
      vectors.push(vector);
    }
    const k = new Kind(this.b, size === 32 ? "f32x4" : "f64x2");
    const result = this.#arithmetic(k, operation, vectors) as V128;
    // A quotient of zeros is none.
    return this.b.ofLowLane(size, result, operation === "div" ? undefined : vectors);
  }

  /** The same for whole vectors, or for low halves with the upper one of the result 0. */
  vector(
    operation: FpOperation,
    size: FpSize,
    q: boolean,
    operands: readonly V128[],
  ): V128 | null {
    if (size === 16) return null;
    if (typeof operation === "string" && !isFast(operation) && !isEstimate(operation)) return null;
    // Lanes that do not count are copies of those that do.
    const lanes = q ? operands : operands.map((v) => this.b.shuffle(LOW_TWICE, v, v));
    const result = this.#lanes(operation, size, lanes);
    if (q || result === null) return result;
    return this.b.vector("v128.and", result, this.b.c128((1n << 64n) - 1n, 0n));
  }

  #lanes(operation: FpOperation, size: 32 | 64, operands: readonly V128[]): V128 | null {
    const k = new Kind(this.b, size === 32 ? "f32x4" : "f64x2");
    if (operation === "recpe" || operation === "rsqrte") {
      return this.#estimateLanes(operation, size, operands);
    }
    if (typeof operation === "string") {
      this.#requireNotFlushed(k, operands);
      const result = isRelation(operation)
        ? this.#relation(k, operation, operands)
        : this.#arithmetic(k, operation, operands);
      return result as V128;
    }
    if (operation.kind === "convert") return null;
    if (size === 64) return this.#laneByLane(operation, operands);
    return operation.kind === "toInteger"
      ? this.#toIntegerLanes(k, operation, operands)
      : this.#fromIntegerLanes(k, operation, operands);
  }

  /** Doubles to and from integers, which WebAssembly has no vector instructions for. */
  #laneByLane(operation: FpOperation, operands: readonly V128[]): V128 | null {
    const { b } = this;
    const results: V64[] = [];
    for (const lane of [0, 1]) {
      const result = this.#conversion(operation, 64, operands.map((v) => b.lane(64, v, lane)));
      if (result === null) return null;
      results.push(result);
    }
    const [low, high] = results as [V64, V64];
    return b.v128(low, high);
  }

  #arithmetic(k: Kind, operation: FpOp, operands: readonly Float[]): Float {
    const [a, c, d] = operands as [Float, Float, Float];
    const integral = INTEGRAL[operation];
    if (integral !== undefined) return this.#integral(k, a, integral, operation === "rintx");
    switch (operation) {
      case "add":
        return this.#sum(k, a, c);
      case "sub":
        return this.#sum(k, a, c, true);
      case "abd":
        return k.unary("abs", this.#sum(k, a, c, true));
      case "mul":
      case "mulx":
        return this.#product(k, a, c);
      case "nmul":
        return k.unary("neg", this.#product(k, a, c));
      case "div":
        return this.#quotient(k, a, c);
      case "sqrt":
        return this.#root(k, a);
      case "max":
      case "maxnm":
        return this.#extreme(k, "max", a, c);
      case "min":
      case "minnm":
        return this.#extreme(k, "min", a, c);
      case "muladd":
        return this.#fused(k, a, c, d);
      case "recps":
        return this.#fused(k, k.constant(2), k.unary("neg", a), c);
      case "rsqrts": {
        const twice = this.#fused(k, k.constant(3), k.unary("neg", a), c);
        return k.binary("mul", twice, k.constant(0.5));
      }
      default:
        throw new RangeError(`${operation} has no fast path`);
    }
  }

  /** A sum is never tiny and inexact. */
  #sum(k: Kind, a: Float, c: Float, subtract = false): Float {
    const s = k.binary(subtract ? "sub" : "add", a, c);
    this.#requireFinite(k, s, [a, c]);
    this.#requireNotFlushed(k, [s]);
    const addend = () => subtract ? k.unary("neg", c) : c;
    this.#exactOrNoted(k, () => k.isZero(k.sumError(a, addend(), s)));
    return s;
  }

  /** `from`: operands without which the result is not finite if these are not. */
  #requireFinite(k: Kind, r: Float, from: readonly Float[]): void {
    if (!this.b.putsOff(k.numbers.bits, false, r, from)) k.require(k.below(r, Infinity));
  }

  /** Finite and not tiny, or the zero that `zero` says is one. */
  #requireNormal(k: Kind, r: Float, zero: () => Condition, from: readonly Float[] = []): void {
    if (this.b.putsOff(k.numbers.bits, true, r, from)) return;
    const normal = k.and(k.below(r, Infinity), k.atLeast(r, k.numbers.notTiny));
    this.#requireEither(k, normal, () => k.and(k.isZero(r), zero()));
  }

  #exactProduct(k: Kind, a: Float, c: Float, p: Float): Condition {
    return k.and(k.productHasError(a, c, p), k.isZero(k.productError(a, c, p)));
  }
  #product(k: Kind, a: Float, c: Float): Float {
    const p = k.binary("mul", a, c);
    this.#requireNormal(k, p, () => k.or(k.isZero(a), k.isZero(c)), [a, c]);
    this.#exactOrNoted(k, () => this.#exactProduct(k, a, c, p));
    return p;
  }
  /** The product of a rounded quotient and the divisor: exactly the dividend or not. */
  #isExactly(k: Kind, a: Float, r: Float, c: Float): Condition {
    const p = k.binary("mul", r, c);
    return k.and(k.compare("eq", p, a), this.#exactProduct(k, r, c, p));
  }
  #quotient(k: Kind, a: Float, c: Float): Float {
    const r = k.binary("div", a, c);
    this.#requireNormal(k, r, () => k.isZero(a), [a, c]);
    this.#exactOrNoted(k, () => this.#isExactly(k, a, r, c));
    return r;
  }
  #root(k: Kind, a: Float): Float {
    const r = k.unary("sqrt", a);
    this.#requireFinite(k, r, [a]);
    this.#exactOrNoted(k, () => this.#isExactly(k, a, r, r));
    return r;
  }
  #extreme(k: Kind, op: "max" | "min", a: Float, c: Float): Float {
    const r = k.binary(op, a, c);
    k.require(k.isNumber(r));
    return r;
  }

  /** Rounded to an integral number. */
  #rounded(k: Kind, a: Float, rounding: string): Float {
    const simple = ROUND[rounding];
    if (simple !== undefined) return k.unary(simple, a);
    // Ties away from zero: truncation, and one more where at least a half was cut off.
    const cut = k.unary("trunc", a);
    const half = k.atLeast(k.binary("sub", a, cut), 0.5);
    const one = this.#withSign(k, k.constant(1), a);
    return k.select(half, k.binary("add", cut, one), cut);
  }
  #withSign(k: Kind, magnitude: Float, a: Float): Float {
    if (!k.vector) return k.binary("copysign", magnitude, a);
    const sign = k.lanes(1n << BigInt(k.numbers.bits - 1));
    const signs = this.b.vector("v128.and", a as V128, sign);
    return this.b.vector("v128.or", magnitude as V128, signs);
  }
  #integral(k: Kind, a: Float, rounding: string, exact: boolean): Float {
    const r = this.#rounded(k, a, rounding);
    k.require(k.isNumber(r));
    if (exact) this.#exactOrNoted(k, () => k.compare("eq", r, a));
    return r;
  }

  #relation(k: Kind, operation: FpOp, [a, c]: readonly Float[]): Condition {
    const [x, y] = [a, c] as [Float, Float];
    const unknown = [x, y].filter((number) => !this.b.isNumber(number, k.numbers.bits));
    const [one, other] = unknown.map((number) => k.isNumber(number));
    if (one !== undefined) k.require(other === undefined ? one : k.and(one, other));
    return k.compare(operation as "eq" | "ge" | "gt", x, y);
  }
  #flags(k: Kind, [a, c]: readonly Float[]): V32 {
    const { b } = this;
    const [x, y] = [a, c] as [Float, Float];
    const less = k.compare("lt", x, y) as V32;
    const same = k.compare("eq", x, y) as V32;
    for (const number of [x, y]) {
      if (!b.isNumber(number, k.numbers.bits)) k.require(k.isNumber(number));
    }
    return b.comparison(x, y, b.select(same, b.c32(6), b.select(less, b.c32(8), b.c32(2))));
  }

  /** addend + x * y, rounded once. */
  #fused(k: Kind, addend: Float, x: Float, y: Float): Float {
    const { result, zero, exact } = fusedMultiplyAdd(k, addend, x, y);
    if (zero) this.#requireNormal(k, result, zero);
    for (const [kind, condition] of exact) this.#exactOrNoted(kind, condition);
    return result;
  }

  #conversion(operation: FpOperation, size: 32 | 64, operands: readonly V64[]): V64 | null {
    if (typeof operation === "string") return null;
    const [value, fraction] = operands as [V64, V64 | undefined];
    switch (operation.kind) {
      case "convert":
        if (operation.odd) return null;
        if (operation.to === 16) return this.#narrowToHalf(size, value);
        return size === 32 ? this.#widen(value) : this.#narrow(value);
      case "toInteger":
        return this.#toInteger(operation, size, value, fraction);
      case "fromInteger":
        return this.#fromInteger(operation, size, value, fraction);
    }
  }

  /** Normal numbers whose estimates are normal: the rounding mode does not matter. */
  #estimate(k: Kind, operation: "recpe" | "rsqrte", value: V64): V64 {
    return operation === "recpe" ? recipEstimateFast(k, value) : rsqrtEstimateFast(k, value);
  }
  #estimateLanes(operation: "recpe" | "rsqrte", size: 32 | 64, [v]: readonly V128[]): V128 {
    const { b } = this;
    const k = new Kind(b, size === 32 ? "f32" : "f64");
    const vector = v as V128;
    let result = vector;
    for (let i = 0; i < 128 / size; i++) {
      const lane = this.#estimate(k, operation, b.lane(size, vector, i));
      result = b.withLane(size, result, i, lane);
    }
    return result;
  }

  /** Of half precision, conversions to other sizes only. */
  #ofHalf(operation: FpOperation, [value]: readonly V64[]): V64 | null {
    if (typeof operation === "string" || operation.kind !== "convert" || operation.to === 16) {
      return null;
    }
    this.#begin();
    return widenHalf(new Kind(this.b, operation.to === 32 ? "f32" : "f64"), value as V64);
  }
  #narrowToHalf(size: 32 | 64, value: V64): V64 {
    const from = new Kind(this.b, size === 32 ? "f32" : "f64");
    this.#begin();
    const { half, exact } = narrowToHalf(from, value);
    this.#exactOrNoted(from, () => exact);
    return half;
  }

  #widen(value: V64): V64 {
    const [from, to] = [new Kind(this.b, "f32"), new Kind(this.b, "f64")];
    const a = from.fromBits(value);
    this.#requireNotFlushed(from, [a]);
    const r = this.b.apply<Float>("f64", "f64.promote_f32", a);
    to.require(to.isNumber(r));
    return to.toBits(r);
  }
  #narrow(value: V64): V64 {
    const [from, to] = [new Kind(this.b, "f64"), new Kind(this.b, "f32")];
    const a = from.fromBits(value);
    this.#requireNotFlushed(from, [a]);
    const r = this.b.apply<Float>("f32", "f32.demote_f64", a);
    this.#requireNormal(to, r, () => from.isZero(a));
    this.#exactOrNoted(from, () => {
      return from.compare("eq", this.b.apply<Float>("f64", "f64.promote_f32", r), a);
    });
    return to.toBits(r);
  }

  /** The double 2^`fraction`, or 2^-`fraction`. */
  #scale(fraction: V64, negative: boolean): Float {
    const { b } = this;
    const one = b.c64(DOUBLE_BIAS);
    const exponent = negative ? b.sub(one, fraction) : b.add(one, fraction);
    return new Kind(b, "f64").fromBits(b.shl(exponent, b.c64(52)));
  }

  #toInteger(
    { bits, unsigned, rounding }: FpToInteger,
    size: 32 | 64,
    value: V64,
    fraction: V64 | undefined,
  ): V64 {
    const { b } = this;
    const k = new Kind(b, "f64");
    const from = new Kind(b, size === 64 ? "f64" : "f32");
    const x = from.fromBits(value);
    this.#requireNotFlushed(from, [x]);
    const a = size === 64 ? x : b.apply<Float>("f64", "f64.promote_f32", x);
    // Exact, or infinite and out of range.
    const scaled = fraction ? k.binary("mul", a, this.#scale(fraction, false)) : a;
    const r = this.#rounded(k, scaled, rounding);
    const [least, limit] = unsigned ? [0, 2 ** bits] : [-(2 ** (bits - 1)), 2 ** (bits - 1)];
    k.require(
      k.and(k.compare("ge", r, k.constant(least)), k.compare("lt", r, k.constant(limit))),
    );
    this.#exactOrNoted(k, () => k.compare("eq", r, scaled));
    const signed = !unsigned || bits === 32;
    const integer = b.apply<V64>("i64", signed ? "i64.trunc_f64_s" : "i64.trunc_f64_u", r);
    return bits === 32 ? b.zext(b.wrap(integer)) : integer;
  }
  /** FJCVTZS of a number that a 32-bit integer can hold: the Z flag is 0 for -0. */
  #toIntegerJs(value: V64): V64 {
    const { b } = this;
    const k = new Kind(b, "f64");
    const a = k.fromBits(value);
    this.#requireNotFlushed(k, [a]);
    const r = k.unary("trunc", a);
    k.require(
      k.and(k.compare("ge", r, k.constant(-(2 ** 31))), k.compare("lt", r, k.constant(2 ** 31))),
    );
    const same = k.compare("eq", r, a) as V32;
    this.#exactOrNoted(k, () => same);
    const exact = b.and(same, b.ne(value, b.c64(1n << 63n)));
    const integer = b.apply<V64>("i64", "i64.trunc_f64_s", r);
    return b.or(b.zext(b.wrap(integer)), b.shl(b.zext(exact), b.c64(32)));
  }

  #fromInteger(
    { bits, unsigned }: FpFromInteger,
    size: 32 | 64,
    value: V64,
    fraction: V64 | undefined,
  ): V64 {
    const { b } = this;
    const k = new Kind(b, size === 32 ? "f32" : "f64");
    this.#begin();
    const x = bits === 64 ? value : unsigned ? b.zext(b.wrap(value)) : b.signExtend(value, 32);
    const op = `f${size}.convert_i64_${unsigned ? "u" : "s"}` as OpName;
    const r = b.apply<Float>(k.name as "f32" | "f64", op, x);
    if (bits > k.numbers.fraction) {
      this.#exactOrNoted(k, () => this.#fits(x, unsigned, k.numbers.fraction + 1));
    }
    if (fraction === undefined) return k.toBits(r);
    const wide = this.#scale(fraction, true);
    const scale = size === 64 ? wide : b.apply<Float>("f32", "f32.demote_f64", wide);
    return k.toBits(k.binary("mul", r, scale));
  }
  /** Whether an integer has at most `digits` significant bits. */
  #fits(x: V64, unsigned: boolean, digits: number): V32 {
    const { b } = this;
    const magnitude = unsigned ? x : b.select(b.ltS(x, b.c64(0)), b.neg(x), x);
    const odd = b.shrU(magnitude, b.apply<V64>("i64", "i64.ctz", magnitude));
    return b.ltU(odd, b.c64(1n << BigInt(digits)));
  }

  /** 2^`fraction` (or its reciprocal) in each lane of singles. */
  #scaleLanes(fractions: V128, negative: boolean): V128 {
    const { b } = this;
    const bias = b.c128(127n | (127n << 32n), 127n | (127n << 32n));
    const exponents = b.vector(negative ? "i32x4.sub" : "i32x4.add", bias, fractions);
    return b.vector("i32x4.shl", exponents, b.c32(23));
  }
  #toIntegerLanes(k: Kind, { unsigned, rounding }: FpToInteger, operands: readonly V128[]): V128 {
    const { b } = this;
    const [a, fractions] = operands as [V128, V128 | undefined];
    this.#requireNotFlushed(k, [a]);
    const scaled = fractions ? k.binary("mul", a, this.#scaleLanes(fractions, false)) : a;
    const r = this.#rounded(k, scaled, rounding);
    const [least, limit] = unsigned ? [0, 2 ** 32] : [-(2 ** 31), 2 ** 31];
    k.require(
      k.and(k.compare("ge", r, k.constant(least)), k.compare("lt", r, k.constant(limit))),
    );
    this.#exactOrNoted(k, () => k.compare("eq", r, scaled));
    return b.vector(`i32x4.trunc_sat_f32x4_${unsigned ? "u" : "s"}`, r as V128);
  }
  #fromIntegerLanes(k: Kind, { unsigned }: FpFromInteger, operands: readonly V128[]): V128 {
    const { b } = this;
    const [x, fractions] = operands as [V128, V128 | undefined];
    const s = unsigned ? "u" : "s";
    this.#begin();
    const r = b.vector(`f32x4.convert_i32x4_${s}`, x);
    this.#exactOrNoted(k, () => {
      // Rounded up to the limit it would come back saturated, and wrong by one.
      const inside = k.compare("lt", r, k.constant(unsigned ? 2 ** 32 : 2 ** 31));
      const back = b.vector(`i32x4.trunc_sat_f32x4_${s}`, r);
      return k.and(inside, b.vector("i32x4.eq", back, x));
    });
    return fractions ? k.binary("mul", r, this.#scaleLanes(fractions, true)) as V128 : r;
  }
}

/** The low half twice, as a byte order of `shuffle`. */
const LOW_TWICE = [0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3, 4, 5, 6, 7];
