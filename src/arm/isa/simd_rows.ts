/** What the rows of Advanced SIMD have in common: arrangements, their text, reading and writing. */
import type { Builder, Slot, V128 } from "./builder.ts";
import {
  type Consts,
  type Decoded,
  type Row,
  row,
  type RowSpec,
  type Shape,
  type Slots,
} from "./row.ts";
import { and } from "./simd_lanes.ts";
import type { LaneBits } from "./vector_ops.ts";

/** Lanes of `bits`, of which the low `width` bits of the register take part: all, half, or one lane. */
export type Arrangement = {
  readonly bits: LaneBits;
  readonly width: number;
};

/** The fields of most rows. */
export interface Fields {
  /** Whether all 128 bits take part. */
  readonly q: number;
  /** Logarithm of the lane's bytes. */
  readonly s: number;
  readonly n: number;
  readonly d: number;
}

export interface FieldsM extends Fields {
  readonly m: number;
}

/** Lane bits of a size field. */
export function laneBits(s: number): LaneBits {
  return (8 << s) as LaneBits;
}

/** Which sizes (logarithms of bytes) an instruction has. */
export type Sizes = readonly number[];
export const B: Sizes = [0];
export const BH: Sizes = [0, 1];
export const HS: Sizes = [1, 2];
export const BHS: Sizes = [0, 1, 2];
export const BHSD: Sizes = [0, 1, 2, 3];
export const D: Sizes = [3];

/** The arrangement of q and size; null where there is none: 1D is not one. */
export function arrangement(f: { readonly q: number; readonly s: number }, sizes: Sizes) {
  if (!sizes.includes(f.s) || (f.s === 3 && f.q === 0)) return null;
  return { bits: laneBits(f.s), width: f.q ? 128 : 64 };
}

/** The arrangement of a scalar instruction. */
export function scalar(f: { readonly s: number }, sizes: Sizes) {
  return sizes.includes(f.s) ? { bits: laneBits(f.s), width: 8 << f.s } : null;
}

/** `v1.16b` */
export function vectorText(n: number, s: number, q: number): string {
  return `v${n}.${(q ? 16 : 8) >> s}${"bhsdq"[s]}`;
}

/** `h1` */
export function scalarText(n: number, s: number): string {
  return `${"bhsdq"[s]}${n}`;
}

/** `{v1.16b-v3.16b}`: registers one after the other, v0 after v31; two are both named. */
export function listText(first: number, count: number, lanes: string): string {
  const names = Array.from({ length: count }, (_, i) => `v${(first + i) % 32}.${lanes}`);
  const inOrder = first + count <= 32;
  if (count > 2 && inOrder) return `{${names[0]}-${names.at(-1)}}`;
  return `{${names.join(", ")}}`;
}

/** A row whose pattern is put together, so that its fields are stated. */
export function vectorRow<F, S extends Shape, L extends Slots, C extends Consts>(
  spec: Omit<RowSpec<string, S, L, C>, "predecode" | "disassemble"> & {
    readonly disassemble: (f: F) => string | null;
    readonly predecode: (f: F) => Decoded<S, L, C> | null;
  },
): Row {
  return row(spec as unknown as RowSpec<string, S, L, C>);
}

/** `v` with everything above the low `width` bits cleared. */
export function cut(b: Builder, width: number, v: V128): V128 {
  if (width === 128) return v;
  return and(b, v, b.c128(BigInt.asUintN(width, -1n), 0n));
}

/** Writes the low `width` bits, clearing those above. */
export function write(b: Builder, width: number, d: Slot, v: V128): void {
  b.setQ(d, cut(b, width, v));
}

/** A byte order of `shuffle`: the low half of the first, then that of the second. */
const LOW_HALVES = Array.from({ length: 16 }, (_, i) => i < 8 ? i : i + 8);

/** Writes the low half of `v` to the low half of `d`, clearing the high one, or to the high half. */
export function writeHalf(b: Builder, high: boolean, d: Slot, v: V128): void {
  if (high) b.setQ(d, b.shuffle(LOW_HALVES, b.q(d), v));
  else write(b, 64, d, v);
}
