/**
 * The operations on 128-bit vectors that a {@link Builder} offers: WebAssembly's deterministic SIMD,
 * by its names in the text format. Everything else is made of them in simd_lanes.ts.
 *
 * Of the floating-point operations, the payload and sign of a NaN result are not defined: no row may
 * let them be seen.
 */

/** Lane widths. */
export type LaneBits = 8 | 16 | 32 | 64;

type Lanes = "i8x16" | "i16x8" | "i32x4" | "i64x2";
type FpLanes = "f32x4" | "f64x2";
type Signedness = "s" | "u";
type Half = "low" | "high";

/** Each lane from one lane, or from neighbours, of one vector. */
export type VectorUnary =
  | "v128.not"
  | `${Lanes}.${"abs" | "neg"}`
  | "i8x16.popcnt"
  | `i16x8.extadd_pairwise_i8x16_${Signedness}`
  | `i32x4.extadd_pairwise_i16x8_${Signedness}`
  | `i16x8.extend_${Half}_i8x16_${Signedness}`
  | `i32x4.extend_${Half}_i16x8_${Signedness}`
  | `i64x2.extend_${Half}_i32x4_${Signedness}`
  | `${FpLanes}.${"abs" | "neg" | "sqrt" | "ceil" | "floor" | "trunc" | "nearest"}`
  | "f32x4.demote_f64x2_zero"
  | "f64x2.promote_low_f32x4"
  | `i32x4.trunc_sat_f32x4_${Signedness}`
  | `i32x4.trunc_sat_f64x2_${Signedness}_zero`
  | `f32x4.convert_i32x4_${Signedness}`
  | `f64x2.convert_low_i32x4_${Signedness}`;

/** From the lanes of two vectors. */
export type VectorBinary =
  | `v128.${"and" | "andnot" | "or" | "xor"}`
  | "i8x16.swizzle"
  | `${Lanes}.${"add" | "sub" | "eq" | "ne"}`
  | `${Lanes}.${"lt" | "gt" | "le" | "ge"}_s`
  | `${Exclude<Lanes, "i64x2">}.${"lt" | "gt" | "le" | "ge"}_u`
  | `${Exclude<Lanes, "i8x16">}.mul`
  | `${"i8x16" | "i16x8"}.${"add" | "sub"}_sat_${Signedness}`
  | `${"i8x16" | "i16x8"}.avgr_u`
  | `${Exclude<Lanes, "i64x2">}.${"min" | "max"}_${Signedness}`
  | `i8x16.narrow_i16x8_${Signedness}`
  | `i16x8.narrow_i32x4_${Signedness}`
  | `i16x8.extmul_${Half}_i8x16_${Signedness}`
  | `i32x4.extmul_${Half}_i16x8_${Signedness}`
  | `i64x2.extmul_${Half}_i32x4_${Signedness}`
  | "i16x8.q15mulr_sat_s"
  | "i32x4.dot_i16x8_s"
  | `${FpLanes}.${"add" | "sub" | "mul" | "div" | "min" | "max" | "pmin" | "pmax"}`
  | `${FpLanes}.${"eq" | "ne" | "lt" | "gt" | "le" | "ge"}`;

/** All lanes by one amount, modulo their width. */
export type VectorShift = `${Lanes}.${"shl" | "shr_s" | "shr_u"}`;

/** A number from a whole vector. */
export type VectorTest = "v128.any_true" | `${Lanes}.${"all_true" | "bitmask"}`;

export type VectorOp = VectorUnary | VectorBinary | VectorShift | VectorTest;
