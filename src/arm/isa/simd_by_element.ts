/**
 * Advanced SIMD and scalar by element (manual: C4.1.96), integer: every lane with one lane of the
 * second register.
 */
import type { Builder, Slot, V128, V64 } from "./builder.ts";
import { type Row, vr } from "./row.ts";
import {
  add,
  doublingMulAddHigh,
  doublingMulHigh,
  type LaneOp,
  mul,
  noted,
  sub,
} from "./simd_lanes.ts";
import {
  type Arrangement,
  arrangement,
  cut,
  HS,
  scalar,
  scalarText,
  vectorRow,
  vectorText,
  write,
} from "./simd_rows.ts";
import {
  accumulated,
  doubled,
  doubledAccumulated,
  type NarrowBits,
  product,
  scalarLong,
  type Widening,
} from "./simd_three_different.ts";
import { dotProduct } from "./simd_three_same.ts";
import type { LaneBits } from "./vector_ops.ts";

interface Fields {
  readonly q: number;
  readonly s: number;
  /** L and M: of the index; M also the top bit of the register of words. */
  readonly l: number;
  readonly x: number;
  readonly m: number;
  readonly h: number;
  readonly n: number;
  readonly d: number;
}

interface Element {
  readonly register: number;
  readonly index: number;
}

function elementOf(f: Fields): Element {
  if (f.s === 1) return { register: f.m, index: 4 * f.h + 2 * f.l + f.x };
  return { register: 16 * f.x + f.m, index: 2 * f.h + f.l };
}

function elementText(f: Fields): string {
  const { register, index } = elementOf(f);
  return `v${register}.${f.s === 1 ? "h" : "s"}[${index}]`;
}

/** The half of the register that holds the element is the slot, its place in it the constant. */
function operands(f: Fields) {
  const { register, index } = elementOf(f);
  const at = index * (8 << f.s);
  return {
    slots: { d: vr(f.d), n: vr(f.n), m: vr(register) + 8 * (at >> 6) },
    consts: { at: BigInt(at & 63) },
  };
}

/** The element in every lane. */
function element(b: Builder, bits: LaneBits, m: Slot, at: V64): V128 {
  return b.splat(bits, b.shrU(b.v(m, 0), at));
}

/** The result from the first source, the element in all lanes, and the old destination. */
type Function = (b: Builder, how: Arrangement, a: V128, c: V128, d: () => V128) => V128;

const accumulate = (combine: LaneOp): Function => (b, { bits }, a, c, d) =>
  combine(b, bits, d(), mul(b, bits, a, c));
const high = (rounding: boolean): Function => (b, { bits, width }, a, c) =>
  noted(b, doublingMulHigh(rounding)(b, bits, cut(b, width, a), c));
const accumulateHigh = (subtract: boolean): Function => (b, { bits, width }, a, c, d) =>
  noted(b, doublingMulAddHigh(subtract)(b, bits, cut(b, width, a), c, d()));

function vectorForm(name: string, u: number, opcode: string, op: Function): Row {
  return vectorRow({
    name: `${name}_element_v`,
    pattern: `0q${u}01111sslxmmmm${opcode}h0nnnnnddddd`,
    disassemble: (f: Fields) =>
      `${name.toLowerCase()}\t${vectorText(f.d, f.s, f.q)}, ${vectorText(f.n, f.s, f.q)}, ${
        elementText(f)
      }`,
    predecode: (f: Fields) => {
      const shape = arrangement(f, HS);
      return shape && { shape, ...operands(f) };
    },
    semantics: (b, o, how) => {
      b.fpAccess();
      const c = element(b, how.bits, o.m, o.at);
      write(b, how.width, o.d, op(b, how, b.q(o.n), c, () => b.q(o.d)));
    },
  });
}

function scalarForm(name: string, u: number, opcode: string, op: Function): Row {
  return vectorRow({
    name: `${name}_element_s`,
    pattern: `01${u}11111sslxmmmm${opcode}h0nnnnnddddd`,
    disassemble: (f: Fields) =>
      `${name.toLowerCase()}\t${scalarText(f.d, f.s)}, ${scalarText(f.n, f.s)}, ${elementText(f)}`,
    predecode: (f: Fields) => {
      const shape = scalar(f, HS);
      return shape && { shape, ...operands(f) };
    },
    semantics: (b, o, how) => {
      b.fpAccess();
      const c = element(b, how.bits, o.m, o.at);
      write(b, how.width, o.d, op(b, how, b.q(o.n), c, () => b.q(o.d)));
    },
  });
}

function longForm(name: string, u: number, opcode: string, op: Widening): Row {
  return vectorRow({
    name: `${name}_element_v`,
    pattern: `0q${u}01111sslxmmmm${opcode}h0nnnnnddddd`,
    disassemble: (f: Fields) =>
      `${name.toLowerCase()}${f.q ? "2" : ""}\t${vectorText(f.d, f.s + 1, 1)}, ${
        vectorText(f.n, f.s, f.q)
      }, ${elementText(f)}`,
    predecode: (f: Fields) => {
      const shape = arrangement(f, HS);
      return shape && {
        shape: { bits: shape.bits as NarrowBits, q: f.q },
        ...operands(f),
      };
    },
    semantics: (b, o, { bits, q }) => {
      b.fpAccess();
      const c = element(b, bits, o.m, o.at);
      b.setQ(o.d, op(b, bits, q ? "high" : "low", b.q(o.n), c, () => b.q(o.d)));
    },
  });
}

function longScalar(name: string, opcode: string, op: Widening): Row {
  return vectorRow({
    name: `${name}_element_s`,
    pattern: `01011111sslxmmmm${opcode}h0nnnnnddddd`,
    disassemble: (f: Fields) =>
      `${name.toLowerCase()}\t${scalarText(f.d, f.s + 1)}, ${scalarText(f.n, f.s)}, ${
        elementText(f)
      }`,
    predecode: (f: Fields) => {
      const shape = scalar(f, HS);
      return shape && { shape: { bits: shape.bits as NarrowBits }, ...operands(f) };
    },
    semantics: (b, o, { bits }) => {
      b.fpAccess();
      scalarLong(b, op, bits, o.d, b.q(o.n), element(b, bits, o.m, o.at));
    },
  });
}

/** SDOT, UDOT: the element is four bytes. */
const DOT: readonly Row[] = (["SDOT", "UDOT"] as const).map((name, u) =>
  vectorRow({
    name: `${name}_element_v`,
    pattern: `0q${u}0111110lxmmmm1110h0nnnnnddddd`,
    feature: "FEAT_DotProd",
    disassemble: (f: Fields) => {
      const { register, index } = elementOf({ ...f, s: 2 });
      return `${name.toLowerCase()}\t${vectorText(f.d, 2, f.q)}, ${
        vectorText(f.n, 0, f.q)
      }, v${register}.4b[${index}]`;
    },
    predecode: (f: Fields) => ({
      shape: { width: f.q ? 128 : 64 },
      ...operands({ ...f, s: 2 }),
    }),
    semantics: (b, o, { width }) => {
      b.fpAccess();
      const c = element(b, 32, o.m, o.at);
      write(b, width, o.d, dotProduct(b, u === 0, b.q(o.n), c, b.q(o.d)));
    },
  })
);

const RDM: readonly Row[] = [
  vectorForm("SQRDMLAH", 1, "1101", accumulateHigh(false)),
  vectorForm("SQRDMLSH", 1, "1111", accumulateHigh(true)),
  scalarForm("SQRDMLAH", 1, "1101", accumulateHigh(false)),
  scalarForm("SQRDMLSH", 1, "1111", accumulateHigh(true)),
];

/** Signed and unsigned rows. */
function both(name: string, opcode: string, op: (signed: boolean) => Widening): Row[] {
  return [true, false].map((signed, u) =>
    longForm(`${signed ? "S" : "U"}${name}`, u, opcode, op(signed))
  );
}

export const simdByElement: readonly Row[] = [
  vectorForm("MUL", 0, "1000", (b, { bits }, a, c) => mul(b, bits, a, c)),
  vectorForm("MLA", 1, "0000", accumulate(add)),
  vectorForm("MLS", 1, "0100", accumulate(sub)),
  vectorForm("SQDMULH", 0, "1100", high(false)),
  vectorForm("SQRDMULH", 0, "1101", high(true)),
  scalarForm("SQDMULH", 0, "1100", high(false)),
  scalarForm("SQRDMULH", 0, "1101", high(true)),
  ...both("MLAL", "0010", (signed) => accumulated(add, product(signed))),
  ...both("MLSL", "0110", (signed) => accumulated(sub, product(signed))),
  ...both("MULL", "1010", product),
  longForm("SQDMLAL", 0, "0011", doubledAccumulated(false)),
  longForm("SQDMLSL", 0, "0111", doubledAccumulated(true)),
  longForm("SQDMULL", 0, "1011", doubled),
  longScalar("SQDMLAL", "0011", doubledAccumulated(false)),
  longScalar("SQDMLSL", "0111", doubledAccumulated(true)),
  longScalar("SQDMULL", "1011", doubled),
  ...RDM.map((row): Row => ({ ...row, feature: "FEAT_RDM" })),
  ...DOT,
];
