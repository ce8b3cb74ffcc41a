/**
 * Lane arithmetic of Advanced SIMD that WebAssembly has no operation for, made of those it has. Each
 * function works on all lanes of `bits` bits of a 128-bit vector; what lies beyond the instruction's
 * register width is cut off by the caller, before where it could set FPSR.QC.
 */
import type { Builder, V128, V32 } from "./builder.ts";
import type { LaneBits } from "./vector_ops.ts";

/** WebAssembly's name of lanes. */
export const LANES = { 8: "i8x16", 16: "i16x8", 32: "i32x4", 64: "i64x2" } as const;

/** A function of two vectors, lane by lane. */
export type LaneOp = (b: Builder, bits: LaneBits, a: V128, c: V128) => V128;
/** A function of one vector, lane by lane. */
export type UnaryLaneOp = (b: Builder, bits: LaneBits, a: V128) => V128;

/** Which half of a register is widened. */
export type Half = "low" | "high";

/** A result and the lanes (all ones) in which it is not the exact one. */
export interface Saturated {
  readonly value: V128;
  readonly lanes: V128;
}

/** The same constant in every lane. */
export function constant(b: Builder, bits: LaneBits, value: bigint): V128 {
  let half = 0n;
  for (let at = 0; at < 64; at += bits) half |= BigInt.asUintN(bits, value) << BigInt(at);
  return b.c128(half, half);
}

/** Sixteen byte constants. */
export function bytes(b: Builder, byte: (index: number) => number): V128 {
  const half = (from: number) =>
    Array.from({ length: 8 }, (_, i) => BigInt(byte(from + i) & 255) << BigInt(8 * i))
      .reduce((sum, part) => sum | part);
  return b.c128(half(0), half(8));
}

/** The least signed number of a lane. */
export const minimum = (b: Builder, bits: LaneBits): V128 =>
  constant(b, bits, 1n << BigInt(bits - 1));
/** The greatest signed number of a lane. */
export const maximum = (b: Builder, bits: LaneBits): V128 =>
  constant(b, bits, (1n << BigInt(bits - 1)) - 1n);
export const zero = (b: Builder): V128 => b.c128(0n, 0n);
export const not = (b: Builder, a: V128): V128 => b.vector("v128.not", a);
export const and = (b: Builder, a: V128, c: V128): V128 => b.vector("v128.and", a, c);
export const andNot = (b: Builder, a: V128, c: V128): V128 => b.vector("v128.andnot", a, c);
export const or = (b: Builder, a: V128, c: V128): V128 => b.vector("v128.or", a, c);
export const xor = (b: Builder, a: V128, c: V128): V128 => b.vector("v128.xor", a, c);

export const add: LaneOp = (b, bits, a, c) => b.vector(`${LANES[bits]}.add`, a, c);
export const sub: LaneOp = (b, bits, a, c) => b.vector(`${LANES[bits]}.sub`, a, c);

export function shl(b: Builder, bits: LaneBits, a: V128, by: V32 | number): V128 {
  return b.vector(`${LANES[bits]}.shl`, a, typeof by === "number" ? b.c32(by) : by);
}
export function shrS(b: Builder, bits: LaneBits, a: V128, by: V32 | number): V128 {
  return b.vector(`${LANES[bits]}.shr_s`, a, typeof by === "number" ? b.c32(by) : by);
}
export function shrU(b: Builder, bits: LaneBits, a: V128, by: V32 | number): V128 {
  return b.vector(`${LANES[bits]}.shr_u`, a, typeof by === "number" ? b.c32(by) : by);
}
function shr(
  b: Builder,
  bits: LaneBits,
  signed: boolean,
  a: V128,
  by: V32 | number,
): V128 {
  return signed ? shrS(b, bits, a, by) : shrU(b, bits, a, by);
}

/** All ones in lanes that are negative. */
export const sign: UnaryLaneOp = (b, bits, a) => shrS(b, bits, a, bits - 1);

/** Low half of the product; 8 bits by way of 16. */
export const mul: LaneOp = (b, bits, a, c) => {
  if (bits !== 8) return b.vector(`${LANES[bits]}.mul`, a, c);
  const even = and(b, b.vector("i16x8.mul", a, c), constant(b, 16, 0xffn));
  const top = and(b, c, constant(b, 16, 0xff00n));
  return or(b, even, b.vector("i16x8.mul", shrU(b, 16, a, 8), top));
};

export const eq: LaneOp = (b, bits, a, c) => b.vector(`${LANES[bits]}.eq`, a, c);
export const ne: LaneOp = (b, bits, a, c) => b.vector(`${LANES[bits]}.ne`, a, c);
export const gtS: LaneOp = (b, bits, a, c) => b.vector(`${LANES[bits]}.gt_s`, a, c);
export const geS: LaneOp = (b, bits, a, c) => b.vector(`${LANES[bits]}.ge_s`, a, c);

/** Unsigned order of 64-bit lanes is signed order with the top bits flipped. */
function flipped(b: Builder, a: V128): V128 {
  return xor(b, a, minimum(b, 64));
}
export const gtU: LaneOp = (b, bits, a, c) =>
  bits === 64 ? gtS(b, 64, flipped(b, a), flipped(b, c)) : b.vector(`${LANES[bits]}.gt_u`, a, c);
export const geU: LaneOp = (b, bits, a, c) =>
  bits === 64 ? geS(b, 64, flipped(b, a), flipped(b, c)) : b.vector(`${LANES[bits]}.ge_u`, a, c);

export const maxS: LaneOp = (b, bits, a, c) =>
  bits === 64 ? b.bitselect(gtS(b, 64, a, c), a, c) : b.vector(`${LANES[bits]}.max_s`, a, c);
export const minS: LaneOp = (b, bits, a, c) =>
  bits === 64 ? b.bitselect(gtS(b, 64, a, c), c, a) : b.vector(`${LANES[bits]}.min_s`, a, c);
export const maxU: LaneOp = (b, bits, a, c) =>
  bits === 64 ? b.bitselect(gtU(b, 64, a, c), a, c) : b.vector(`${LANES[bits]}.max_u`, a, c);
export const minU: LaneOp = (b, bits, a, c) =>
  bits === 64 ? b.bitselect(gtU(b, 64, a, c), c, a) : b.vector(`${LANES[bits]}.min_u`, a, c);

/** Absolute difference. */
export function absoluteDifference(signed: boolean): LaneOp {
  const [max, min] = signed ? [maxS, minS] : [maxU, minU];
  return (b, bits, a, c) => sub(b, bits, max(b, bits, a, c), min(b, bits, a, c));
}

/** (a + c) >> 1 without losing the carry: a + c is 2 (a & c) + (a ^ c). */
export function halvingAdd(signed: boolean): LaneOp {
  return (b, bits, a, c) => add(b, bits, and(b, a, c), shr(b, bits, signed, xor(b, a, c), 1));
}
/** (a + c + 1) >> 1: a + c is 2 (a | c) - (a ^ c). */
export function roundingHalvingAdd(signed: boolean): LaneOp {
  return (b, bits, a, c) => sub(b, bits, or(b, a, c), shr(b, bits, signed, xor(b, a, c), 1));
}
/** (a - c) >> 1: a - c is (a ^ c) - 2 (~a & c). */
export function halvingSub(signed: boolean): LaneOp {
  return (b, bits, a, c) => sub(b, bits, shr(b, bits, signed, xor(b, a, c), 1), andNot(b, c, a));
}

/** Sets FPSR.QC if any bit of `lanes` is set. */
export function noteSaturation(b: Builder, lanes: V128): void {
  b.raiseFpsr(b.shl(b.vectorTest("v128.any_true", lanes), b.c32(27)));
}

/** The value, having noted in FPSR.QC whether it is saturated. */
export function noted(b: Builder, { value, lanes }: Saturated): V128 {
  noteSaturation(b, lanes);
  return value;
}

/** The greatest number of the sign of `a`, or the least where it is negative. */
function limitOf(b: Builder, bits: LaneBits, a: V128): V128 {
  return xor(b, sign(b, bits, a), maximum(b, bits));
}

/** a + c, or a - c. */
export function saturatingAdd(signed: boolean, subtract = false): (
  b: Builder,
  bits: LaneBits,
  a: V128,
  c: V128,
) => Saturated {
  return (b, bits, a, c) => {
    const wrapped = subtract ? sub(b, bits, a, c) : add(b, bits, a, c);
    if (bits < 32) {
      const type = LANES[bits as 8 | 16];
      const value = b.vector(
        `${type}.${subtract ? "sub" : "add"}_sat_${signed ? "s" : "u"}`,
        a,
        c,
      );
      return { value, lanes: ne(b, bits, value, wrapped) };
    }
    if (signed) {
      const other = subtract ? xor(b, a, c) : xor(b, c, wrapped);
      const lanes = sign(b, bits, and(b, xor(b, a, wrapped), other));
      return { value: b.bitselect(lanes, limitOf(b, bits, a), wrapped), lanes };
    }
    const lanes = gtU(b, bits, subtract ? c : a, subtract ? a : wrapped);
    return { value: subtract ? andNot(b, wrapped, lanes) : or(b, wrapped, lanes), lanes };
  };
}

/** Signed `a` plus unsigned `c`, saturated as signed. */
export function signedPlusUnsigned(b: Builder, bits: LaneBits, a: V128, c: V128): Saturated {
  const max = maximum(b, bits);
  const lanes = gtU(b, bits, c, sub(b, bits, max, a));
  return { value: b.bitselect(lanes, max, add(b, bits, a, c)), lanes };
}

/** Unsigned `a` plus signed `c`, saturated as unsigned. */
export function unsignedPlusSigned(b: Builder, bits: LaneBits, a: V128, c: V128): Saturated {
  const sum = add(b, bits, a, c);
  const negative = sign(b, bits, c);
  // A carry is the overflow of a positive addend, and the absence of one that of a negative.
  const lanes = xor(b, negative, gtU(b, bits, a, sum));
  return { value: b.bitselect(lanes, not(b, negative), sum), lanes };
}

export const absolute: UnaryLaneOp = (b, bits, a) => b.vector(`${LANES[bits]}.abs`, a);
export const negate: UnaryLaneOp = (b, bits, a) => b.vector(`${LANES[bits]}.neg`, a);

/** An operation that is wrong only for the least number, whose result is itself. */
export function saturatingUnary(op: UnaryLaneOp): (
  b: Builder,
  bits: LaneBits,
  a: V128,
) => Saturated {
  return (b, bits, a) => {
    const lanes = eq(b, bits, a, minimum(b, bits));
    return { value: xor(b, op(b, bits, a), lanes), lanes };
  };
}

/** `a` shifted right by `less` + 1, which may be the lane's width. */
export function shiftRight(
  b: Builder,
  bits: LaneBits,
  signed: boolean,
  a: V128,
  less: V32,
): V128 {
  return shr(b, bits, signed, shr(b, bits, signed, a, less), 1);
}

/** `a` shifted right by `less` + 1, rounded. */
export function roundingShiftRight(
  b: Builder,
  bits: LaneBits,
  signed: boolean,
  a: V128,
  less: V32,
): V128 {
  return roundedHalf(b, bits, signed, shr(b, bits, signed, a, less));
}

/** (a + 1) >> 1, without overflow. */
function roundedHalf(b: Builder, bits: LaneBits, signed: boolean, a: V128): V128 {
  return add(b, bits, shr(b, bits, signed, a, 1), and(b, a, constant(b, bits, 1n)));
}

/** How a left shift saturates; `signedToUnsigned` is of SQSHLU. */
export type ShiftKind = "signed" | "unsigned" | "signedToUnsigned";

/** What is made of `shifted`, which is `a` shifted left, and `back`, which is that shifted back. */
function saturatedShift(
  b: Builder,
  bits: LaneBits,
  kind: ShiftKind,
  a: V128,
  shifted: V128,
  back: V128,
): Saturated {
  const changed = ne(b, bits, back, a);
  if (kind === "signed") {
    return { value: b.bitselect(changed, limitOf(b, bits, a), shifted), lanes: changed };
  }
  if (kind === "unsigned") return { value: or(b, shifted, changed), lanes: changed };
  const negative = sign(b, bits, a);
  const lanes = or(b, changed, negative);
  return { value: b.bitselect(lanes, not(b, negative), shifted), lanes };
}

/** `a` shifted left by `by`, less than the lane's width. */
export function saturatingShl(
  b: Builder,
  bits: LaneBits,
  kind: ShiftKind,
  a: V128,
  by: V32,
): Saturated {
  const shifted = shl(b, bits, a, by);
  return saturatedShift(b, bits, kind, a, shifted, shr(b, bits, kind === "signed", shifted, by));
}

/** Each lane of `a` shifted by the same lane of `amount`, which is 0 to `bits`. */
function shiftLanes(
  b: Builder,
  bits: LaneBits,
  kind: "shl" | "shr_s" | "shr_u",
  a: V128,
  amount: V128,
): V128 {
  let value = a;
  for (let by = 1; by <= bits; by *= 2) {
    const bit = constant(b, bits, BigInt(by));
    const chosen = eq(b, bits, and(b, amount, bit), bit);
    const all = kind === "shr_s" ? sign(b, bits, value) : zero(b);
    const shifted = by === bits ? all : b.vector(`${LANES[bits]}.${kind}`, value, b.c32(by));
    value = b.bitselect(chosen, shifted, value);
  }
  return value;
}

/** What a shift by register does besides shifting. */
export interface RegisterShift {
  readonly signed: boolean;
  readonly rounding?: boolean;
  readonly saturating?: boolean;
}

/** Each lane of `a` shifted left by the signed low byte of the same lane of `c`, right where negative. */
export function registerShift(how: RegisterShift): LaneOp {
  const { signed, rounding = false, saturating = false } = how;
  const right = signed ? "shr_s" : "shr_u";
  return (b, bits, a, c) => {
    const amount = shrS(b, bits, shl(b, bits, c, bits - 8), bits - 8);
    const toRight = sign(b, bits, amount);
    const limit = (most: number) => constant(b, bits, BigInt(most));
    const left = minU(b, bits, andNot(b, amount, toRight), limit(bits));
    const shifted = shiftLanes(b, bits, "shl", a, left);
    const negated = and(b, negate(b, bits, amount), toRight);
    const by = minU(b, bits, negated, limit(rounding ? bits + 1 : bits));
    const less = rounding ? add(b, bits, by, toRight) : by;
    const exact = shiftLanes(b, bits, right, a, less);
    const lower = rounding ? roundedHalf(b, bits, signed, exact) : exact;
    if (!saturating) return b.bitselect(toRight, lower, shifted);
    const back = shiftLanes(b, bits, right, shifted, left);
    const kind = signed ? "signed" : "unsigned";
    const { value, lanes } = saturatedShift(b, bits, kind, a, shifted, back);
    noteSaturation(b, andNot(b, lanes, toRight));
    return b.bitselect(toRight, lower, value);
  };
}

/** The even (0) or odd (1) lanes of `a` and then of `c`. */
export function everySecond(b: Builder, bits: LaneBits, odd: 0 | 1, a: V128, c: V128): V128 {
  const size = bits / 8;
  const order = Array.from({ length: 16 }, (_, i) => {
    const lane = 2 * Math.floor(i / size) + odd;
    return lane * size + (i % size);
  });
  return b.shuffle(order, a, c);
}

/** How lanes are cut to half their width. */
export type Narrowing = "truncate" | "signed" | "unsigned" | "signedToUnsigned";

/** The lanes of `a`, twice `bits` wide, cut to `bits`: in the low half, and again in the high one. */
export function narrow(b: Builder, bits: 8 | 16 | 32, kind: Narrowing, a: V128): Saturated {
  const wide = (2 * bits) as LaneBits;
  const half = (v: V128) => everySecond(b, bits, 0, v, v);
  if (kind === "truncate") return { value: half(a), lanes: zero(b) };
  const kept = shr(b, wide, kind === "signed", shl(b, wide, a, bits), bits);
  const lanes = ne(b, wide, kept, a);
  const max = constant(b, wide, (1n << BigInt(kind === "signed" ? bits - 1 : bits)) - 1n);
  const negative = sign(b, wide, a);
  const limit = kind === "unsigned"
    ? max
    : kind === "signed"
    ? xor(b, negative, max)
    : andNot(b, max, negative);
  return { value: half(b.bitselect(lanes, limit, a)), lanes };
}

const FROM = { 8: "i16x8", 16: "i32x4", 32: "i64x2" } as const;

/** Half of the lanes of `a`, extended to twice their width. */
export function extend(
  b: Builder,
  bits: 8 | 16 | 32,
  signed: boolean,
  half: Half,
  a: V128,
): V128 {
  const sign = signed ? "s" : "u";
  if (bits === 8) return b.vector(`i16x8.extend_${half}_i8x16_${sign}`, a);
  if (bits === 16) return b.vector(`i32x4.extend_${half}_i16x8_${sign}`, a);
  return b.vector(`i64x2.extend_${half}_i32x4_${sign}`, a);
}

/** Products of half of the lanes, of twice their width. */
export function extendedMul(
  b: Builder,
  bits: 8 | 16 | 32,
  signed: boolean,
  half: Half,
  a: V128,
  c: V128,
): V128 {
  const sign = signed ? "s" : "u";
  if (bits === 8) return b.vector(`i16x8.extmul_${half}_i8x16_${sign}`, a, c);
  if (bits === 16) return b.vector(`i32x4.extmul_${half}_i16x8_${sign}`, a, c);
  return b.vector(`i64x2.extmul_${half}_i32x4_${sign}`, a, c);
}

/** Sums of neighbouring lanes, of twice their width. */
export function pairwiseExtendedAdd(
  b: Builder,
  bits: 8 | 16 | 32,
  signed: boolean,
  a: V128,
): V128 {
  const sign = signed ? "s" : "u";
  if (bits === 8) return b.vector(`${FROM[8]}.extadd_pairwise_i8x16_${sign}`, a);
  if (bits === 16) return b.vector(`${FROM[16]}.extadd_pairwise_i16x8_${sign}`, a);
  const even = shr(b, 64, signed, shl(b, 64, a, 32), 32);
  return add(b, 64, even, shr(b, 64, signed, a, 32));
}

/** 2 a c of half of the lanes, of twice their width: too great only for the square of the least number. */
export function saturatingDoublingMul(
  b: Builder,
  bits: 16 | 32,
  half: Half,
  a: V128,
  c: V128,
): Saturated {
  const wide = (2 * bits) as 32 | 64;
  const product = extendedMul(b, bits, true, half, a, c);
  const lanes = eq(b, wide, product, constant(b, wide, 1n << BigInt(wide - 2)));
  // Twice the product is then the least number, one more than the greatest.
  return { value: add(b, wide, add(b, wide, product, product), lanes), lanes };
}

/** (d << bits ± 2 a c + rounding) >> bits, by way of halves of it in lanes of twice the width. */
function highHalf(
  b: Builder,
  bits: 16 | 32,
  rounding: boolean,
  sum: (half: Half, product: V128) => V128,
  a: V128,
  c: V128,
): Saturated {
  const wide = (2 * bits) as 32 | 64;
  const parts = (["low", "high"] as const).map((half) => {
    const total = sum(half, extendedMul(b, bits, true, half, a, c));
    const round = constant(b, wide, 1n << BigInt(bits - 2));
    return narrow(
      b,
      bits,
      "signed",
      shrS(b, wide, rounding ? add(b, wide, total, round) : total, bits - 1),
    );
  });
  const [low, high] = parts as [Saturated, Saturated];
  return {
    value: b.shuffle(
      Array.from({ length: 16 }, (_, i) => i < 8 ? i : i + 8),
      low.value,
      high.value,
    ),
    lanes: or(b, low.lanes, high.lanes),
  };
}

/** High half of 2 a c. */
export function doublingMulHigh(rounding: boolean): (
  b: Builder,
  bits: LaneBits,
  a: V128,
  c: V128,
) => Saturated {
  return (b, bits, a, c) => highHalf(b, bits as 16 | 32, rounding, (_, product) => product, a, c);
}

/** High half of d ± 2 a c, d in its high half, rounded. */
export function doublingMulAddHigh(subtract: boolean): (
  b: Builder,
  bits: LaneBits,
  a: V128,
  c: V128,
  d: V128,
) => Saturated {
  return (b, bits, a, c, d) => {
    const narrowBits = bits as 16 | 32;
    const wide = (2 * bits) as 32 | 64;
    const sum = (half: Half, product: V128) => {
      const addend = shl(b, wide, extend(b, narrowBits, true, half, d), bits - 1);
      return subtract ? sub(b, wide, addend, product) : add(b, wide, addend, product);
    };
    return highHalf(b, narrowBits, true, sum, a, c);
  };
}
