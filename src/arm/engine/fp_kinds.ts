/**
 * WebAssembly's floating-point arithmetic on one number or on all lanes of a vector, written once: a
 * {@link Kind} is `f32`, `f64`, `f32x4` or `f64x2`, and conditions are 0 or 1, or masks of lanes.
 */
import type { Builder, V128, V32, V64 } from "../isa/builder.ts";
import type { VectorBinary, VectorTest, VectorUnary } from "../isa/vector_ops.ts";
import type { FpOp } from "../fp/operations.ts";
import type { OpName } from "./wasm_assembler.ts";

/** A number or a vector of numbers, as WebAssembly has them. */
export type Float = { readonly type: "f32" | "f64" } | V128;
/** Of one number: 0 or 1. Of a vector: ones in the lanes for which it holds. */
export type Condition = V32 | V128;

/** What a builder has for this beside the interface that rows see. */
export interface FpTarget extends Builder {
  /** An operation on scalars. */
  apply<T extends Float | V32 | V64>(
    type: T["type"],
    op: OpName,
    ...operands: (Float | V32 | V64)[]
  ): T;
  float(type: "f32" | "f64", value: number): Float;
  /** The number whose bits are the lowest of `value`, and the other way round. */
  fromBits(type: "f32" | "f64", value: V64): Float;
  toBits(type: "f32" | "f64", number: Float): V64;
  /** FPCR is known to be 0, and FPSR.IXC to be set. */
  readonly usualFp: boolean;
  /**
   * Whether the check that the numbers of `size` bits in `result` are finite, and `normal`, not too small, is
   * made later: `from` are operands without which they are not finite if these are not.
   */
  putsOff(size: 32 | 64, normal: boolean, result: Float, from: readonly Float[]): boolean;
  /** Whether it will be found out if an operand of numbers of `size` bits has a NaN. */
  isNumber(x: Float, size: 32 | 64): boolean;
  /**
   * The vector register whose lowest bits `value` is, if it is one and checks are made later: its upper lanes are
   * anything. Null: it cannot be had.
   */
  lowLane(size: 32 | 64, value: V64): V128 | null;
  /** The lowest bits of a vector; `from`: those that it has zeros above from if they have, undefined: it has none. */
  ofLowLane(size: 32 | 64, vector: V128, from: readonly V128[] | undefined): V64;
  /** Flags that the comparison of two numbers of which neither is a NaN gives. */
  comparison(x: Float, y: Float, flags: V32): V32;
  /** Leaves to the evaluator unless the condition holds. */
  require(condition: V32): void;
}

export type KindName = "f32" | "f64" | "f32x4" | "f64x2";

/** What differs between the formats. */
interface FormatNumbers {
  readonly bits: 32 | 64;
  readonly fraction: number;
  readonly bias: number;
  /** 2^k + 1 that splits a number into two halves whose products are exact. */
  readonly splitter: number;
  /** The smallest normal number. */
  readonly least: number;
  /** Twice the smallest normal number: what is rounded to it or above was not tiny before. */
  readonly notTiny: number;
  /** A product of at least `leastProduct` of factors below `mostFactor` has an error that is a number. */
  readonly leastProduct: number;
  readonly mostFactor: number;
}

const SINGLE: FormatNumbers = {
  bits: 32,
  fraction: 23,
  bias: 127,
  splitter: 2 ** 12 + 1,
  least: 2 ** -126,
  notTiny: 2 ** -125,
  leastProduct: 2 ** -90,
  mostFactor: 2 ** 110,
};
const DOUBLE: FormatNumbers = {
  bits: 64,
  fraction: 52,
  bias: 1023,
  splitter: 2 ** 27 + 1,
  least: 2 ** -1022,
  notTiny: 2 ** -1021,
  leastProduct: 2 ** -900,
  mostFactor: 2 ** 990,
};

/** The bits of `value` in a format. */
function bitsOfNumber(bits: 32 | 64, value: number): bigint {
  const view = new DataView(new ArrayBuffer(8));
  if (bits === 64) {
    view.setFloat64(0, value);
    return view.getBigUint64(0);
  }
  view.setFloat32(0, value);
  return BigInt(view.getUint32(0));
}

type Integers = "i32x4" | "i64x2";

/** Operations of one kind. Operands must be of it. */
export class Kind {
  readonly numbers: FormatNumbers;
  readonly vector: boolean;
  readonly #integers: Integers;

  constructor(readonly b: FpTarget, readonly name: KindName) {
    this.numbers = name.startsWith("f32") ? SINGLE : DOUBLE;
    this.vector = name.length > 3;
    this.#integers = this.numbers.bits === 32 ? "i32x4" : "i64x2";
  }

  unary(op: string, a: Float): Float {
    if (this.vector) return this.b.vector(`${this.name}.${op}` as VectorUnary, a as V128);
    return this.b.apply(a.type, `${this.name}.${op}` as OpName, a);
  }
  binary(op: string, a: Float, c: Float): Float {
    if (this.vector) {
      return this.b.vector(`${this.name}.${op}` as VectorBinary, a as V128, c as V128);
    }
    return this.b.apply(a.type, `${this.name}.${op}` as OpName, a, c);
  }
  compare(op: "eq" | "ne" | "lt" | "gt" | "le" | "ge", a: Float, c: Float): Condition {
    if (this.vector) return this.binary(op, a, c) as V128;
    return this.b.apply<V32>("i32", `${this.name}.${op}` as OpName, a, c);
  }
  constant(value: number): Float {
    if (!this.vector) return this.b.float(this.name as "f32" | "f64", value);
    return this.lanes(bitsOfNumber(this.numbers.bits, value));
  }
  /** A vector constant of equal lanes. */
  lanes(lane: bigint): V128 {
    const half = this.numbers.bits === 32 ? lane | (lane << 32n) : lane;
    return this.b.c128(half, half);
  }

  and(p: Condition, q: Condition): Condition {
    return this.#logic("and", p, q);
  }
  or(p: Condition, q: Condition): Condition {
    return this.#logic("or", p, q);
  }
  #logic(op: "and" | "or", p: Condition, q: Condition): Condition {
    if (this.vector) return this.b.vector(`v128.${op}`, p as V128, q as V128);
    return this.b[op](p as V32, q as V32);
  }
  /** Whether it holds for all lanes. */
  all(p: Condition): V32 {
    if (!this.vector) return p as V32;
    const count = 128 / this.numbers.bits;
    const mask = this.b.vectorTest(`${this.#integers}.bitmask` as VectorTest, p as V128);
    return this.b.eq(mask, this.b.c32((1 << count) - 1));
  }
  require(p: Condition): void {
    this.b.require(this.all(p));
  }
  /** `a` where the condition holds, else `c`. */
  select(p: Condition, a: Float, c: Float): Float {
    if (this.vector) return this.b.bitselect(p as V128, a as V128, c as V128);
    return this.b.apply(a.type, "select", a, c, p as V32);
  }

  /** The number of `value`'s low bits; a vector is the number itself. */
  fromBits(value: V64): Float {
    return this.b.fromBits(this.name as "f32" | "f64", value);
  }
  toBits(a: Float): V64 {
    return this.b.toBits(this.name as "f32" | "f64", a);
  }

  /** Error of the rounded sum `s` of `a` and `c`, exactly (Knuth's TwoSum). */
  sumError(a: Float, c: Float, s: Float): Float {
    const cc = this.binary("sub", s, a);
    const aa = this.binary("sub", s, cc);
    return this.binary("add", this.binary("sub", a, aa), this.binary("sub", c, cc));
  }
  /** Error of the rounded product `p`, exactly where {@link productHasError} (Dekker's product). */
  productError(a: Float, c: Float, p: Float): Float {
    const [ah, al] = this.#split(a);
    const [ch, cl] = this.#split(c);
    const first = this.binary("sub", this.binary("mul", ah, ch), p);
    const second = this.binary("add", first, this.binary("mul", ah, cl));
    const third = this.binary("add", second, this.binary("mul", al, ch));
    return this.binary("add", third, this.binary("mul", al, cl));
  }
  /** Two halves of a number (Veltkamp's splitting). */
  #split(a: Float): readonly [Float, Float] {
    const scaled = this.binary("mul", a, this.constant(this.numbers.splitter));
    const high = this.binary("sub", scaled, this.binary("sub", scaled, a));
    return [high, this.binary("sub", a, high)];
  }
  /** Whether the error of a product is a number, or the product exactly zero. */
  productHasError(a: Float, c: Float, p: Float): Condition {
    const { leastProduct, mostFactor } = this.numbers;
    const small = (x: Float) => this.below(x, mostFactor);
    const zero = this.and(this.isZero(p), this.or(this.isZero(a), this.isZero(c)));
    const large = this.compare("ge", this.unary("abs", p), this.constant(leastProduct));
    return this.and(this.and(small(a), small(c)), this.or(large, zero));
  }

  isZero(a: Float): Condition {
    return this.compare("eq", a, this.constant(0));
  }
  /** Whether |a| is below a limit: not for NaNs. */
  below(a: Float, limit: number): Condition {
    return this.compare("lt", this.unary("abs", a), this.constant(limit));
  }
  /** Whether |a| is at least a limit: not for NaNs. */
  atLeast(a: Float, limit: number): Condition {
    return this.compare("ge", this.unary("abs", a), this.constant(limit));
  }
  isNumber(a: Float): Condition {
    return this.compare("eq", a, a);
  }

  /**
   * The rounded sum `s` made odd where its error `e` is not 0: rounding it once more, to a format of
   * at least 2 bits less, is then right (Boldo and Melquiond). Doubles only.
   */
  toOdd(s: Float, e: Float): Float {
    return this.vector ? this.#toOddLanes(s as V128, e as V128) : this.#toOddScalar(s, e);
  }
  #toOddScalar(s: Float, e: Float): Float {
    const { b } = this;
    const bits = this.toBits(s);
    // +1 away from zero where the error has the sum's sign, else -1.
    const step = b.or(b.shrS(b.xor(bits, this.toBits(e)), b.c64(63)), b.c64(1));
    const even = b.xor(b.and(bits, b.c64(1)), b.c64(1));
    const inexact = b.zext(this.compare("ne", e, this.constant(0)) as V32);
    return this.fromBits(b.add(bits, b.mul(step, b.and(even, inexact))));
  }
  #toOddLanes(s: V128, e: V128): V128 {
    const { b } = this;
    const one = b.c128(1n, 1n);
    const sign = b.vector("i64x2.lt_s", b.vector("v128.xor", s, e), b.c128(0n, 0n));
    const step = b.vector("v128.or", sign, one);
    const even = b.vector("i64x2.eq", b.vector("v128.and", s, one), b.c128(0n, 0n));
    const inexact = this.compare("ne", e, this.constant(0)) as V128;
    const wanted = b.vector("v128.and", even, inexact);
    return b.vector("i64x2.add", s, b.vector("v128.and", step, wanted));
  }
}

/** What scalar instructions do that is done in the low lanes of vectors. */
export const IN_LOW_LANES: ReadonlySet<FpOp> = new Set<FpOp>(["add", "sub", "mul", "div", "sqrt"]);
const RELATIONS: ReadonlySet<FpOp> = new Set<FpOp>(["eq", "ge", "gt"]);
/** Those without vectors of their own kind: some have a fast path elsewhere. */
const SLOW: ReadonlySet<FpOp> = new Set<FpOp>([
  "recpe",
  "rsqrte",
  "recpx",
  "urecpe",
  "ursqrte",
  "muladdh",
]);

export function isRelation(operation: FpOp): boolean {
  return RELATIONS.has(operation);
}
export function isEstimate(operation: FpOp): boolean {
  return operation === "recpe" || operation === "rsqrte";
}
export function isFast(operation: FpOp): boolean {
  return !SLOW.has(operation);
}
