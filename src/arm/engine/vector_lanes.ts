/**
 * The vector operations of the evaluator, lane by lane in bigints: slow and obvious, and written
 * without looking at what WebAssembly does with them.
 */
import type { LaneBits, VectorOp } from "../isa/vector_ops.ts";

const FLOATS = new DataView(new ArrayBuffer(8));

/** A 128-bit vector, as four words of 32 bits, the least significant first. */
export class Lanes {
  readonly type = "v128";
  readonly #words = [0, 0, 0, 0];

  #word(index: number): number {
    return (this.#words[index] as number) >>> 0;
  }
  /** Lane `index`, unsigned. */
  get(bits: LaneBits, index: number): bigint {
    if (bits === 64) {
      return BigInt(this.#word(2 * index)) | (BigInt(this.#word(2 * index + 1)) << 32n);
    }
    const at = bits * index;
    const shifted = this.#word(at >> 5) >>> (at & 31);
    return BigInt(bits === 32 ? shifted : shifted & ((1 << bits) - 1));
  }
  /** Sets lane `index` to `value` modulo its width. */
  set(bits: LaneBits, index: number, value: bigint): void {
    if (bits === 64) {
      this.#words[2 * index] = Number(BigInt.asIntN(32, value));
      this.#words[2 * index + 1] = Number(BigInt.asIntN(32, value >> 32n));
      return;
    }
    const at = bits * index;
    const mask = bits === 32 ? -1 : ((1 << bits) - 1) << (at & 31);
    const moved = Number(BigInt.asUintN(bits, value)) << (at & 31);
    this.#words[at >> 5] = (this.#word(at >> 5) & ~mask) | moved;
  }
  /** Lane `index` as a floating-point number. */
  float(bits: 32 | 64, index: number): number {
    FLOATS.setBigUint64(0, this.get(bits, index), true);
    return bits === 32 ? FLOATS.getFloat32(0, true) : FLOATS.getFloat64(0, true);
  }
  /** Rounds to nearest even. */
  setFloat(bits: 32 | 64, index: number, value: number): void {
    if (bits === 32) FLOATS.setFloat32(0, value, true);
    else FLOATS.setFloat64(0, value, true);
    this.set(bits, index, FLOATS.getBigUint64(0, true));
  }
}

/** Makes a vector of lanes by their number. */
export function lanes(bits: LaneBits, lane: (index: number) => bigint): Lanes {
  const out = new Lanes();
  for (let i = 0; i < 128 / bits; i++) out.set(bits, i, lane(i));
  return out;
}

/** One lane from the same lane of each operand; what does not fit is cut off. */
type LaneFunction = (a: bigint, b: bigint, bits: LaneBits) => bigint;
type VectorFunction = (a: Lanes, b: Lanes, bits: LaneBits) => Lanes;

const s = (x: bigint, bits: number): bigint => BigInt.asIntN(bits, x);
const all = (condition: boolean): bigint => condition ? -1n : 0n;

function clampSigned(x: bigint, bits: number): bigint {
  const limit = 1n << BigInt(bits - 1);
  return x >= limit ? limit - 1n : x < -limit ? -limit : x;
}
function clampUnsigned(x: bigint, bits: number): bigint {
  const limit = 1n << BigInt(bits);
  return x >= limit ? limit - 1n : x < 0n ? 0n : x;
}
function popcnt(x: bigint): bigint {
  return BigInt(x.toString(2).replaceAll("0", "").length);
}

/** Integer operations on lanes one by one, without the lane type. */
const INTEGER: Readonly<Record<string, LaneFunction>> = {
  abs: (a, _, n) => s(a, n) < 0n ? -s(a, n) : a,
  neg: (a) => -a,
  popcnt: (a) => popcnt(a),
  add: (a, b) => a + b,
  sub: (a, b) => a - b,
  mul: (a, b) => a * b,
  eq: (a, b) => all(a === b),
  ne: (a, b) => all(a !== b),
  lt_s: (a, b, n) => all(s(a, n) < s(b, n)),
  gt_s: (a, b, n) => all(s(a, n) > s(b, n)),
  le_s: (a, b, n) => all(s(a, n) <= s(b, n)),
  ge_s: (a, b, n) => all(s(a, n) >= s(b, n)),
  lt_u: (a, b) => all(a < b),
  gt_u: (a, b) => all(a > b),
  le_u: (a, b) => all(a <= b),
  ge_u: (a, b) => all(a >= b),
  add_sat_s: (a, b, n) => clampSigned(s(a, n) + s(b, n), n),
  sub_sat_s: (a, b, n) => clampSigned(s(a, n) - s(b, n), n),
  add_sat_u: (a, b, n) => clampUnsigned(a + b, n),
  sub_sat_u: (a, b, n) => clampUnsigned(a - b, n),
  avgr_u: (a, b) => (a + b + 1n) >> 1n,
  min_s: (a, b, n) => s(a, n) < s(b, n) ? a : b,
  max_s: (a, b, n) => s(a, n) > s(b, n) ? a : b,
  min_u: (a, b) => a < b ? a : b,
  max_u: (a, b) => a > b ? a : b,
  q15mulr_sat_s: (a, b) => clampSigned((s(a, 16) * s(b, 16) + 0x4000n) >> 15n, 16),
};

const SHIFTS: Readonly<Record<string, LaneFunction>> = {
  shl: (a, by) => a << by,
  shr_u: (a, by) => a >> by,
  shr_s: (a, by, n) => s(a, n) >> by,
};

/** Round to nearest, ties to even. */
function nearest(x: number): number {
  if (!Number.isFinite(x) || Math.abs(x) >= 2 ** 52) return x;
  const below = Math.floor(x);
  const rest = x - below;
  const up = rest > 0.5 || (rest === 0.5 && below % 2 !== 0);
  return up ? (below + 1 === 0 ? -0 : below + 1) : (below === 0 && Object.is(x, -0) ? -0 : below);
}

const FLOAT: Readonly<Record<string, (a: number, b: number) => number>> = {
  add: (a, b) => a + b,
  sub: (a, b) => a - b,
  mul: (a, b) => a * b,
  div: (a, b) => a / b,
  min: (a, b) => Math.min(a, b),
  max: (a, b) => Math.max(a, b),
  sqrt: (a) => Math.sqrt(a),
  ceil: (a) => Math.ceil(a),
  floor: (a) => Math.floor(a),
  trunc: (a) => Math.trunc(a),
  nearest: (a) => nearest(a),
};

const FLOAT_COMPARE: Readonly<Record<string, (a: number, b: number) => boolean>> = {
  eq: (a, b) => a === b,
  ne: (a, b) => a !== b,
  lt: (a, b) => a < b,
  gt: (a, b) => a > b,
  le: (a, b) => a <= b,
  ge: (a, b) => a >= b,
};

/** Floating-point operations that move bits and keep NaNs as they are. */
function floatBits(name: string, bits: 32 | 64): VectorFunction | undefined {
  const sign = 1n << BigInt(bits - 1);
  switch (name) {
    case "abs":
      return (a) => lanes(bits, (i) => a.get(bits, i) & ~sign);
    case "neg":
      return (a) => lanes(bits, (i) => a.get(bits, i) ^ sign);
    case "pmin":
      return (a, b) =>
        lanes(bits, (i) => (b.float(bits, i) < a.float(bits, i) ? b : a).get(bits, i));
    case "pmax":
      return (a, b) =>
        lanes(bits, (i) => (a.float(bits, i) < b.float(bits, i) ? b : a).get(bits, i));
    default:
      return undefined;
  }
}

/** A vector of floating-point lanes; those not set are 0. */
function floats(bits: 32 | 64, count: number, lane: (index: number) => number): Lanes {
  const out = new Lanes();
  for (let i = 0; i < count; i++) out.setFloat(bits, i, lane(i));
  return out;
}

function floatFunction(name: string, bits: 32 | 64): VectorFunction | undefined {
  const arithmetic = FLOAT[name];
  if (arithmetic) {
    return (a, b) =>
      floats(bits, 128 / bits, (i) => arithmetic(a.float(bits, i), b.float(bits, i)));
  }
  const compare = FLOAT_COMPARE[name];
  if (compare) {
    return (a, b) => lanes(bits, (i) => all(compare(a.float(bits, i), b.float(bits, i))));
  }
  return floatBits(name, bits);
}

/** To an integer, towards zero; what does not fit saturates, NaN is 0. */
function truncSat(x: number, signed: boolean): bigint {
  if (Number.isNaN(x)) return 0n;
  const [low, high] = signed ? [-(2 ** 31), 2 ** 31 - 1] : [0, 2 ** 32 - 1];
  return BigInt(Math.min(Math.max(Math.trunc(x), low), high));
}

/** Conversions, by their whole name. */
const CONVERSIONS: Readonly<Record<string, (a: Lanes) => Lanes>> = {
  "f32x4.demote_f64x2_zero": (a) => floats(32, 2, (i) => a.float(64, i)),
  "f64x2.promote_low_f32x4": (a) => floats(64, 2, (i) => a.float(32, i)),
  "i32x4.trunc_sat_f32x4_s": (a) => lanes(32, (i) => truncSat(a.float(32, i), true)),
  "i32x4.trunc_sat_f32x4_u": (a) => lanes(32, (i) => truncSat(a.float(32, i), false)),
  "i32x4.trunc_sat_f64x2_s_zero": (a) =>
    lanes(32, (i) => i < 2 ? truncSat(a.float(64, i), true) : 0n),
  "i32x4.trunc_sat_f64x2_u_zero": (a) =>
    lanes(32, (i) => i < 2 ? truncSat(a.float(64, i), false) : 0n),
  "f32x4.convert_i32x4_s": (a) => floats(32, 4, (i) => Number(s(a.get(32, i), 32))),
  "f32x4.convert_i32x4_u": (a) => floats(32, 4, (i) => Number(a.get(32, i))),
  "f64x2.convert_low_i32x4_s": (a) => floats(64, 2, (i) => Number(s(a.get(32, i), 32))),
  "f64x2.convert_low_i32x4_u": (a) => floats(64, 2, (i) => Number(a.get(32, i))),
};

const BITWISE: Readonly<Record<string, (a: bigint, b: bigint) => bigint>> = {
  not: (a) => ~a,
  and: (a, b) => a & b,
  andnot: (a, b) => a & ~b,
  or: (a, b) => a | b,
  xor: (a, b) => a ^ b,
};

/** Lane `index` of half the width, extended. */
type Narrow = (v: Lanes, index: number) => bigint;

/** Operations whose source lanes are half as wide: `verb` and, of extend and extmul, which half. */
function widening(verb: string, half: string, narrow: Narrow): VectorFunction | undefined {
  return (a, b, bits) => {
    const from = half === "high" ? 128 / bits : 0;
    return lanes(bits, (i) => {
      if (verb === "extend") return narrow(a, from + i);
      if (verb === "extmul") return narrow(a, from + i) * narrow(b, from + i);
      const pair = [2 * i, 2 * i + 1] as const;
      if (verb === "extadd_pairwise") return narrow(a, pair[0]) + narrow(a, pair[1]);
      return pair.reduce((sum, at) => sum + narrow(a, at) * narrow(b, at), 0n);
    });
  };
}

function narrowing(signed: boolean): VectorFunction {
  const clamp = signed ? clampSigned : clampUnsigned;
  return (a, b, bits) => {
    const wide = 2 * bits as LaneBits;
    const count = 64 / bits;
    return lanes(bits, (i) => {
      const source = i < count ? a.get(wide, i) : b.get(wide, i - count);
      return clamp(s(source, wide), bits);
    });
  };
}

function changedWidth(name: string, bits: LaneBits): VectorFunction | undefined {
  const parts = /^(extend|extmul|extadd_pairwise|dot|narrow)_(?:(low|high)_)?i\d+x\d+_(s|u)$/
    .exec(name);
  if (!parts) return undefined;
  const [, verb = "", half = "", sign] = parts;
  if (verb === "narrow") return narrowing(sign === "s");
  const from = bits / 2 as LaneBits;
  const narrow: Narrow = (v, i) => sign === "s" ? s(v.get(from, i), from) : v.get(from, i);
  return widening(verb, half, narrow);
}

const SWIZZLE: VectorFunction = (a, b) =>
  lanes(8, (i) => {
    const at = Number(b.get(8, i));
    return at < 16 ? a.get(8, at) : 0n;
  });

function functionOf(op: string): VectorFunction {
  const [type = "", name = ""] = op.split(".");
  const conversion = CONVERSIONS[op];
  if (conversion) return conversion;
  if (op === "i8x16.swizzle") return SWIZZLE;
  const bitwise = type === "v128" ? BITWISE[name] : undefined;
  if (bitwise) return (a, b) => lanes(64, (i) => bitwise(a.get(64, i), b.get(64, i)));
  const bits = Number(/\d+/.exec(type)?.[0]) as LaneBits;
  if (type.startsWith("f")) {
    const float = floatFunction(name, bits as 32 | 64);
    if (float) return float;
  }
  const integer = type.startsWith("i") ? INTEGER[name] : undefined;
  if (integer) return (a, b) => lanes(bits, (i) => integer(a.get(bits, i), b.get(bits, i), bits));
  const changed = changedWidth(name, bits);
  if (changed) return (a, b) => changed(a, b, bits);
  throw new RangeError(`no vector operation ${op}`);
}

const FUNCTIONS = new Map<string, VectorFunction>();
const ZERO = new Lanes();

function laneBits(op: VectorOp): LaneBits {
  return op.startsWith("v128") ? 64 : Number(/\d+/.exec(op)?.[0]) as LaneBits;
}

/** A {@link VectorUnary} or {@link VectorBinary} operation. RangeError for any other name. */
export function applyVector(op: VectorOp, a: Lanes, b: Lanes = ZERO): Lanes {
  const known = FUNCTIONS.get(op);
  const found = known ?? functionOf(op);
  if (!known) FUNCTIONS.set(op, found);
  return found(a, b, laneBits(op));
}

/** A {@link VectorShift} operation. */
export function shiftVector(op: VectorOp, a: Lanes, by: bigint): Lanes {
  const shift = SHIFTS[op.split(".")[1] ?? ""];
  if (!shift) throw new RangeError(`no vector shift ${op}`);
  const bits = laneBits(op);
  return lanes(bits, (i) => shift(a.get(bits, i), by % BigInt(bits), bits));
}

/** A {@link VectorTest} operation. */
export function testVector(op: VectorOp, a: Lanes): bigint {
  const bits = laneBits(op);
  const values = Array.from({ length: 128 / bits }, (_, i) => a.get(bits, i));
  if (op.endsWith("any_true")) return values.some((v) => v !== 0n) ? 1n : 0n;
  if (op.endsWith("all_true")) return values.every((v) => v !== 0n) ? 1n : 0n;
  return values.reduce((mask, v, i) => mask | (s(v, bits) < 0n ? 1n << BigInt(i) : 0n), 0n);
}
