/**
 * Advanced SIMD three different and scalar three different (manual: C4.1.96): lanes of one width and
 * of twice that width. The form with a `2` takes, or writes, the upper half of the narrow register.
 */
import type { Builder, Slot, V128 } from "./builder.ts";
import { type Row, vr } from "./row.ts";
import { polynomialMul } from "./simd_bits.ts";
import {
  absoluteDifference,
  add,
  constant,
  extend,
  extendedMul,
  type Half,
  type LaneOp,
  narrow,
  noted,
  saturatingAdd,
  saturatingDoublingMul,
  shrU,
  sub,
} from "./simd_lanes.ts";
import {
  BHS,
  cut,
  type FieldsM,
  HS,
  laneBits,
  scalarText,
  type Sizes,
  vectorRow,
  vectorText,
  write,
  writeHalf,
} from "./simd_rows.ts";
import { carrylessMul } from "./simd_polynomial.ts";
import type { LaneBits } from "./vector_ops.ts";

export type NarrowBits = 8 | 16 | 32;

/** Lanes of `bits`, of half `half`, give lanes of twice that. */
export type Widening = (
  b: Builder,
  bits: NarrowBits,
  half: Half,
  a: V128,
  c: V128,
  d: () => V128,
) => V128;

const wideBits = (bits: NarrowBits): LaneBits => (2 * bits) as LaneBits;

const extended = (signed: boolean, op: LaneOp): Widening => (b, bits, half, a, c) =>
  op(b, wideBits(bits), extend(b, bits, signed, half, a), extend(b, bits, signed, half, c));
const firstWide = (signed: boolean, op: LaneOp): Widening => (b, bits, half, a, c) =>
  op(b, wideBits(bits), a, extend(b, bits, signed, half, c));
export const product = (signed: boolean): Widening => (b, bits, half, a, c) =>
  extendedMul(b, bits, signed, half, a, c);
export const accumulated = (combine: LaneOp, op: Widening): Widening => (b, bits, half, a, c, d) =>
  combine(b, wideBits(bits), d(), op(b, bits, half, a, c, d));

/** SQDMULL. The lanes that take part are the low ones, as a scalar, with zeros above. */
export const doubled: Widening = (b, bits, half, a, c) =>
  noted(b, saturatingDoublingMul(b, bits as 16 | 32, half, a, c));
/** SQDMLAL, SQDMLSL: product and sum saturate one after the other. */
export const doubledAccumulated = (subtract: boolean): Widening => (b, bits, half, a, c, d) =>
  noted(
    b,
    saturatingAdd(true, subtract)(b, wideBits(bits), d(), doubled(b, bits, half, a, c, d)),
  );

const half = (q: number): Half => q ? "high" : "low";

/** `v1.8h, v2.8b, v3.8b`: which of the three are wide. */
function text(name: string, f: FieldsM, wide: readonly [boolean, boolean, boolean]): string {
  const registers = [f.d, f.n, f.m].map((r, i) =>
    wide[i] ? vectorText(r, f.s + 1, 1) : vectorText(r, f.s, f.q)
  );
  return `${name.toLowerCase()}${f.q ? "2" : ""}\t${registers.join(", ")}`;
}

function longForm(
  name: string,
  u: number,
  opcode: string,
  sizes: Sizes,
  op: Widening,
  nIsWide = false,
): Row {
  return vectorRow({
    name: `${name}_v`,
    pattern: `0q${u}01110ss1mmmmm${opcode}00nnnnnddddd`,
    disassemble: (f: FieldsM) => text(name, f, [true, nIsWide, false]),
    predecode: (f: FieldsM) =>
      sizes.includes(f.s)
        ? {
          shape: { bits: laneBits(f.s) as NarrowBits, half: half(f.q) },
          slots: { d: vr(f.d), n: vr(f.n), m: vr(f.m) },
          consts: {},
        }
        : null,
    semantics: (b, o, shape) => {
      b.fpAccess();
      b.setQ(o.d, op(b, shape.bits, shape.half, b.q(o.n), b.q(o.m), () => b.q(o.d)));
    },
  });
}

/** The high half of each lane's sum or difference. */
function narrowForm(name: string, u: number, opcode: string, op: LaneOp, rounding: boolean): Row {
  return vectorRow({
    name: `${name}_v`,
    pattern: `0q${u}01110ss1mmmmm${opcode}00nnnnnddddd`,
    disassemble: (f: FieldsM) => text(name, f, [false, true, true]),
    predecode: (f: FieldsM) =>
      BHS.includes(f.s)
        ? {
          shape: { bits: laneBits(f.s) as NarrowBits, q: f.q },
          slots: { d: vr(f.d), n: vr(f.n), m: vr(f.m) },
          consts: {},
        }
        : null,
    semantics: (b, o, { bits, q }) => {
      b.fpAccess();
      const wide = wideBits(bits);
      const sum = op(b, wide, b.q(o.n), b.q(o.m));
      const half = constant(b, wide, 1n << BigInt(bits - 1));
      const high = shrU(b, wide, rounding ? add(b, wide, sum, half) : sum, bits);
      writeHalf(b, q === 1, o.d, narrow(b, bits, "truncate", high).value);
    },
  });
}

/** Reads lane 0 only: zeros above it cannot saturate. */
export function scalarLong(
  b: Builder,
  op: Widening,
  bits: NarrowBits,
  d: Slot,
  n: V128,
  m: V128,
): void {
  write(b, 2 * bits, d, op(b, bits, "low", cut(b, bits, n), m, () => b.q(d)));
}

function scalarForm(name: string, opcode: string, op: Widening): Row {
  return vectorRow({
    name: `${name}_s`,
    pattern: `01011110ss1mmmmm${opcode}00nnnnnddddd`,
    disassemble: (f: FieldsM) => {
      const sources = [f.n, f.m].map((r) => scalarText(r, f.s)).join(", ");
      return `${name.toLowerCase()}\t${scalarText(f.d, f.s + 1)}, ${sources}`;
    },
    predecode: (f: FieldsM) =>
      HS.includes(f.s)
        ? {
          shape: { bits: laneBits(f.s) as NarrowBits },
          slots: { d: vr(f.d), n: vr(f.n), m: vr(f.m) },
          consts: {},
        }
        : null,
    semantics: (b, o, { bits }) => {
      b.fpAccess();
      scalarLong(b, op, bits, o.d, b.q(o.n), b.q(o.m));
    },
  });
}

/** PMULL of 64 bits. */
const PMULL_64: Row = vectorRow({
  name: "PMULL_q",
  pattern: "0q001110111mmmmm111000nnnnnddddd",
  feature: "FEAT_PMULL",
  disassemble: (f: FieldsM) => {
    const sources = [f.n, f.m].map((r) => vectorText(r, 3, f.q)).join(", ");
    return `pmull${f.q ? "2" : ""}\tv${f.d}.1q, ${sources}`;
  },
  // The half is part of the slot.
  predecode: (f: FieldsM) => ({
    shape: {},
    slots: { d: vr(f.d), n: vr(f.n) + 8 * f.q, m: vr(f.m) + 8 * f.q },
    consts: {},
  }),
  semantics: (b, o) => {
    b.fpAccess();
    const [low, high] = carrylessMul(b, b.v(o.n, 0), b.v(o.m, 0));
    b.setV(o.d, low, high);
  },
});

/** PMULL of bytes. */
const PMULL_8: Row = vectorRow({
  name: "PMULL_b",
  pattern: "0q001110001mmmmm111000nnnnnddddd",
  disassemble: (f: FieldsM) => text("PMULL", { ...f, s: 0 }, [true, false, false]),
  predecode: (f: FieldsM) => ({
    shape: { half: half(f.q) },
    slots: { d: vr(f.d), n: vr(f.n), m: vr(f.m) },
    consts: {},
  }),
  semantics: (b, o, { half }) => {
    b.fpAccess();
    const [n, m] = [b.q(o.n), b.q(o.m)].map((v) => extend(b, 8, false, half, v));
    b.setQ(o.d, polynomialMul(b, 16, n as V128, m as V128));
  },
});

/** The rows of one opcode for U = 0 (signed) and U = 1. */
function both(
  name: string,
  opcode: string,
  op: (signed: boolean) => Widening,
  wide = false,
): Row[] {
  return [true, false].map((signed, u) =>
    longForm(`${signed ? "S" : "U"}${name}`, u, opcode, BHS, op(signed), wide)
  );
}

const difference = (signed: boolean) => extended(signed, absoluteDifference(signed));

export const simdThreeDifferent: readonly Row[] = [
  ...both("ADDL", "0000", (signed) => extended(signed, add)),
  ...both("ADDW", "0001", (signed) => firstWide(signed, add), true),
  ...both("SUBL", "0010", (signed) => extended(signed, sub)),
  ...both("SUBW", "0011", (signed) => firstWide(signed, sub), true),
  narrowForm("ADDHN", 0, "0100", add, false),
  narrowForm("RADDHN", 1, "0100", add, true),
  ...both("ABAL", "0101", (signed) => accumulated(add, difference(signed))),
  narrowForm("SUBHN", 0, "0110", sub, false),
  narrowForm("RSUBHN", 1, "0110", sub, true),
  ...both("ABDL", "0111", difference),
  ...both("MLAL", "1000", (signed) => accumulated(add, product(signed))),
  ...both("MLSL", "1010", (signed) => accumulated(sub, product(signed))),
  ...both("MULL", "1100", product),
  longForm("SQDMLAL", 0, "1001", HS, doubledAccumulated(false)),
  longForm("SQDMLSL", 0, "1011", HS, doubledAccumulated(true)),
  longForm("SQDMULL", 0, "1101", HS, doubled),
  scalarForm("SQDMLAL", "1001", doubledAccumulated(false)),
  scalarForm("SQDMLSL", "1011", doubledAccumulated(true)),
  scalarForm("SQDMULL", "1101", doubled),
  PMULL_64,
  PMULL_8,
];
