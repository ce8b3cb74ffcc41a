/** Opcodes of WebAssembly's 128-bit SIMD, after the 0xfd prefix (core specification 2.0, 5.4.8). */
import type { LaneBits, VectorOp } from "../isa/vector_ops.ts";

/** Opcodes of consecutive names. */
function run(first: number, prefix: string, names: string): Record<string, number> {
  return Object.fromEntries(
    names.split(" ").map((name, i): [string, number] => [`${prefix}.${name}`, first + i]),
  );
}

const COMPARES = "eq ne lt_s lt_u gt_s gt_u le_s le_u ge_s ge_u";
const FP_COMPARES = "eq ne lt gt le ge";
const EXTENDS = (from: string) =>
  `extend_low_${from}_s extend_high_${from}_s extend_low_${from}_u extend_high_${from}_u`;
const EXTMULS = (from: string) => EXTENDS(from).replaceAll("extend", "extmul");
const SATURATING = "add add_sat_s add_sat_u sub sub_sat_s sub_sat_u";
const MIN_MAX = "min_s min_u max_s max_u";
const FP_ARITHMETIC = "add sub mul div min max pmin pmax";

/** By name. */
export const SIMD_OP = {
  ...run(0x0e, "i8x16", "swizzle"),
  ...run(0x23, "i8x16", COMPARES),
  ...run(0x2d, "i16x8", COMPARES),
  ...run(0x37, "i32x4", COMPARES),
  ...run(0x41, "f32x4", FP_COMPARES),
  ...run(0x47, "f64x2", FP_COMPARES),
  ...run(0x4d, "v128", "not and andnot or xor bitselect any_true"),
  ...run(0x5e, "f32x4", "demote_f64x2_zero"),
  ...run(0x5f, "f64x2", "promote_low_f32x4"),
  ...run(0x60, "i8x16", "abs neg popcnt all_true bitmask narrow_i16x8_s narrow_i16x8_u"),
  ...run(0x67, "f32x4", "ceil floor trunc nearest"),
  ...run(0x6b, "i8x16", `shl shr_s shr_u ${SATURATING}`),
  ...run(0x74, "f64x2", "ceil floor"),
  ...run(0x76, "i8x16", MIN_MAX),
  ...run(0x7a, "f64x2", "trunc"),
  ...run(0x7b, "i8x16", "avgr_u"),
  ...run(0x7c, "i16x8", "extadd_pairwise_i8x16_s extadd_pairwise_i8x16_u"),
  ...run(0x7e, "i32x4", "extadd_pairwise_i16x8_s extadd_pairwise_i16x8_u"),
  ...run(0x80, "i16x8", "abs neg q15mulr_sat_s all_true bitmask narrow_i32x4_s narrow_i32x4_u"),
  ...run(0x87, "i16x8", `${EXTENDS("i8x16")} shl shr_s shr_u ${SATURATING}`),
  ...run(0x94, "f64x2", "nearest"),
  ...run(0x95, "i16x8", `mul ${MIN_MAX}`),
  ...run(0x9b, "i16x8", `avgr_u ${EXTMULS("i8x16")}`),
  ...run(0xa0, "i32x4", "abs neg"),
  ...run(0xa3, "i32x4", "all_true bitmask"),
  ...run(0xa7, "i32x4", `${EXTENDS("i16x8")} shl shr_s shr_u add`),
  ...run(0xb1, "i32x4", "sub"),
  ...run(0xb5, "i32x4", `mul ${MIN_MAX} dot_i16x8_s`),
  ...run(0xbc, "i32x4", EXTMULS("i16x8")),
  ...run(0xc0, "i64x2", "abs neg"),
  ...run(0xc3, "i64x2", "all_true bitmask"),
  ...run(0xc7, "i64x2", `${EXTENDS("i32x4")} shl shr_s shr_u add`),
  ...run(0xd1, "i64x2", "sub"),
  ...run(0xd5, "i64x2", "mul eq ne lt_s gt_s le_s ge_s"),
  ...run(0xdc, "i64x2", EXTMULS("i32x4")),
  ...run(0xe0, "f32x4", "abs neg"),
  ...run(0xe3, "f32x4", `sqrt ${FP_ARITHMETIC}`),
  ...run(0xec, "f64x2", "abs neg"),
  ...run(0xef, "f64x2", `sqrt ${FP_ARITHMETIC}`),
  ...run(0xf8, "i32x4", "trunc_sat_f32x4_s trunc_sat_f32x4_u"),
  ...run(0xfa, "f32x4", "convert_i32x4_s convert_i32x4_u"),
  ...run(0xfc, "i32x4", "trunc_sat_f64x2_s_zero trunc_sat_f64x2_u_zero"),
  ...run(0xfe, "f64x2", "convert_low_i32x4_s convert_low_i32x4_u"),
} as Readonly<Record<VectorOp | "v128.bitselect", number>>;

/** Those with an operand of their own. */
export const SIMD = { LOAD: 0x00, STORE: 0x0b, CONST: 0x0c, SHUFFLE: 0x0d } as const;

/** By lane width; extraction is unsigned where that makes a difference. */
export const SIMD_LANE: Readonly<
  Record<LaneBits, { readonly splat: number; readonly extract: number; readonly replace: number }>
> = {
  8: { splat: 0x0f, extract: 0x16, replace: 0x17 },
  16: { splat: 0x10, extract: 0x19, replace: 0x1a },
  32: { splat: 0x11, extract: 0x1b, replace: 0x1c },
  64: { splat: 0x12, extract: 0x1d, replace: 0x1e },
};

/** Lanes that are numbers. */
export const SIMD_NUMBER = {
  f32: { extract: 0x1f, replace: 0x20 },
  f64: { extract: 0x21, replace: 0x22 },
} as const;

/** Loads and stores. */
export const SIMD_MEM = {
  load: SIMD.LOAD,
  store: SIMD.STORE,
  load8x8_u: 0x02,
  load16x4_u: 0x04,
  load32x2_u: 0x06,
  load32_zero: 0x5c,
  load64_zero: 0x5d,
} as const;
