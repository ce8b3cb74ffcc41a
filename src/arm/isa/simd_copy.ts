/**
 * Advanced SIMD copy and scalar copy (manual: C4.1.96): lanes to lanes, and to and from general
 * registers. The lowest bit of imm5 that is set is the lane size, so there is one row for each size.
 */
import type { Builder, Slot, V128, V64 } from "./builder.ts";
import { type Row, vr, xr, xw } from "./row.ts";
import { laneBits, vectorRow, vectorText, write } from "./simd_rows.ts";
import { reg } from "./text.ts";
import type { LaneBits } from "./vector_ops.ts";

interface Fields {
  readonly q: number;
  /** Index of the lane: what imm5 has above its lowest set bit. */
  readonly i: number;
  readonly n: number;
  readonly d: number;
}

const SIZES = [0, 1, 2, 3] as const;

function imm5(s: number): string {
  return "i".repeat(4 - s) + "1" + "0".repeat(s);
}

/** `v1.h[3]` */
function laneText(n: number, s: number, index: number): string {
  return `v${n}.${"bhsd"[s]}[${index}]`;
}

/** The slot of the half that holds a lane, and its place there. */
function source(n: number, s: number, index: number) {
  const at = index * laneBits(s);
  return { slot: vr(n) + 8 * (at >> 6), at: BigInt(at & 63) };
}

/** A mask of the lane. */
function laneMask(s: number, index: number): { low: bigint; high: bigint } {
  const bits = laneBits(s);
  const mask = ((1n << BigInt(bits)) - 1n) << BigInt(bits * index);
  return { low: BigInt.asUintN(64, mask), high: mask >> 64n };
}

function laneOf(b: Builder, n: Slot, at: V64): V64 {
  return b.shrU(b.v(n, 0), at);
}

function duplicate(s: number): Row {
  return vectorRow({
    name: `DUP_element_v_${8 << s}`,
    pattern: `0q001110000${imm5(s)}000001nnnnnddddd`,
    disassemble: (f: Fields) => `dup\t${vectorText(f.d, s, f.q)}, ${laneText(f.n, s, f.i)}`,
    predecode: (f: Fields) => {
      if (s === 3 && f.q === 0) return null;
      const { slot, at } = source(f.n, s, f.i);
      return { shape: { width: f.q ? 128 : 64 }, slots: { d: vr(f.d), n: slot }, consts: { at } };
    },
    semantics: (b, o, { width }) => {
      b.fpAccess();
      write(b, width, o.d, b.splat(laneBits(s), laneOf(b, o.n, o.at)));
    },
  });
}

function duplicateScalar(s: number): Row {
  return vectorRow({
    name: `DUP_element_s_${8 << s}`,
    pattern: `01011110000${imm5(s)}000001nnnnnddddd`,
    disassemble: (f: Fields) => `mov\t${"bhsd"[s]}${f.d}, ${laneText(f.n, s, f.i)}`,
    predecode: (f: Fields) => {
      const { slot, at } = source(f.n, s, f.i);
      return { shape: {}, slots: { d: vr(f.d), n: slot }, consts: { at } };
    },
    semantics: (b, o) => {
      b.fpAccess();
      write(b, laneBits(s), o.d, b.splat(laneBits(s), laneOf(b, o.n, o.at)));
    },
  });
}

function duplicateGeneral(s: number): Row {
  return vectorRow({
    name: `DUP_general_${8 << s}`,
    pattern: `0q001110000${imm5(s)}000011nnnnnddddd`,
    disassemble: (f: Fields) => `dup\t${vectorText(f.d, s, f.q)}, ${reg(s === 3, f.n)}`,
    predecode: (f: Fields) =>
      s === 3 && f.q === 0 ? null : {
        shape: { width: f.q ? 128 : 64 },
        slots: { d: vr(f.d), n: xr(f.n) },
        consts: {},
      },
    semantics: (b, o, { width }) => {
      b.fpAccess();
      write(b, width, o.d, b.splat(laneBits(s), b.x(o.n)));
    },
  });
}

/** UMOV, SMOV: `q` says whether the destination is an X register. */
function toGeneral(name: "SMOV" | "UMOV", opcode: string, s: number, q: 0 | 1): Row {
  const mnemonic = name === "UMOV" && s >= 2 ? "mov" : name.toLowerCase();
  return vectorRow({
    name: `${name}_${8 << s}_${q ? "X" : "W"}`,
    pattern: `0${q}001110000${imm5(s)}${opcode}nnnnnddddd`,
    disassemble: (f: Fields) => `${mnemonic}\t${reg(q, f.d)}, ${laneText(f.n, s, f.i)}`,
    predecode: (f: Fields) => {
      const { slot, at } = source(f.n, s, f.i);
      return { shape: {}, slots: { d: xw(f.d), n: slot }, consts: { at } };
    },
    semantics: (b, o) => {
      b.fpAccess();
      const lane = laneOf(b, o.n, o.at);
      const bits = laneBits(s) as 8 | 16 | 32;
      if (name === "SMOV") {
        const value = b.signExtend(lane, bits);
        if (q) b.setX(o.d, value);
        else b.setW(o.d, b.wrap(value));
      } else b.setX(o.d, b.and(lane, b.c64((1n << BigInt(laneBits(s))) - 1n)));
    },
  });
}

/** One lane of `d` replaced by the low bits of `value`. */
function insert(b: Builder, bits: LaneBits, d: Slot, mask: V128, value: V64): void {
  b.setQ(d, b.bitselect(mask, b.splat(bits, value), b.q(d)));
}

function insertGeneral(s: number): Row {
  return vectorRow({
    name: `INS_general_${8 << s}`,
    pattern: `01001110000${imm5(s)}000111nnnnnddddd`,
    disassemble: (f: Fields) => `mov\t${laneText(f.d, s, f.i)}, ${reg(s === 3, f.n)}`,
    predecode: (f: Fields) => ({
      shape: {},
      slots: { d: vr(f.d), n: xr(f.n) },
      consts: laneMask(s, f.i),
    }),
    semantics: (b, o) => {
      b.fpAccess();
      insert(b, laneBits(s), o.d, b.v128(o.low, o.high), b.x(o.n));
    },
  });
}

/** The source index is imm4 without its lowest `s` bits, which say nothing. */
function insertElement(s: number): Row {
  return vectorRow({
    name: `INS_element_${8 << s}`,
    pattern: `01101110000${imm5(s)}0jjjj1nnnnnddddd`,
    disassemble: (f: Fields & { readonly j: number }) =>
      `mov\t${laneText(f.d, s, f.i)}, ${laneText(f.n, s, f.j >> s)}`,
    predecode: (f: Fields & { readonly j: number }) => {
      const { slot, at } = source(f.n, s, f.j >> s);
      return {
        shape: {},
        slots: { d: vr(f.d), n: slot },
        consts: { ...laneMask(s, f.i), at: Number(at) },
      };
    },
    semantics: (b, o) => {
      b.fpAccess();
      const lane = laneOf(b, o.n, b.zext(o.at));
      insert(b, laneBits(s), o.d, b.v128(o.low, o.high), lane);
    },
  });
}

export const simdCopy: readonly Row[] = [
  ...SIZES.map(duplicate),
  ...SIZES.map(duplicateScalar),
  ...SIZES.map(duplicateGeneral),
  ...([[0, 0], [1, 0], [0, 1], [1, 1], [2, 1]] as const).map(([s, q]) =>
    toGeneral("SMOV", "001011", s, q)
  ),
  ...([[0, 0], [1, 0], [2, 0], [3, 1]] as const).map(([s, q]) => toGeneral("UMOV", "001111", s, q)),
  ...SIZES.map(insertGeneral),
  ...SIZES.map(insertElement),
];
