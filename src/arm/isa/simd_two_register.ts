/**
 * Advanced SIMD and scalar two-register miscellaneous, across lanes, scalar pairwise (manual: C4.1.96),
 * integer: one source register.
 */
import type { Builder, Slot, V128 } from "./builder.ts";
import { type Row, vr } from "./row.ts";
import { countLeadingSigns, countLeadingZeros, reverseBits, reverseLanes } from "./simd_bits.ts";
import {
  absolute,
  add,
  eq,
  extend,
  geS,
  gtS,
  type LaneOp,
  maxS,
  maxU,
  minS,
  minU,
  narrow,
  type Narrowing,
  negate,
  not,
  noted,
  noteSaturation,
  pairwiseExtendedAdd,
  type Saturated,
  saturatingUnary,
  shl,
  signedPlusUnsigned,
  unsignedPlusSigned,
  zero,
} from "./simd_lanes.ts";
import {
  type Arrangement,
  arrangement,
  B,
  BH,
  BHS,
  BHSD,
  cut,
  D,
  type Fields,
  laneBits,
  scalar,
  scalarText,
  type Sizes,
  vectorRow,
  vectorText,
  write,
  writeHalf,
} from "./simd_rows.ts";
import type { LaneBits } from "./vector_ops.ts";

/** The result from the source and, only if it asks for it, the old destination. */
type Function = (b: Builder, how: Arrangement, a: V128, d: () => V128) => V128;
type NarrowBits = 8 | 16 | 32;

interface Spec {
  readonly name: string;
  readonly u: 0 | 1;
  readonly opcode: string;
  readonly op: Function;
  /** Sizes as a vector and as a scalar. */
  readonly vector: Sizes;
  readonly scalar?: Sizes;
  /** Text after the registers. */
  readonly tail?: string;
}

function semantics(op: Function): (b: Builder, o: { d: Slot; n: Slot }, how: Arrangement) => void {
  return (b, o, how) => {
    b.fpAccess();
    write(b, how.width, o.d, op(b, how, b.q(o.n), () => b.q(o.d)));
  };
}

function rows(spec: Spec): Row[] {
  const { name, u, opcode, tail = "" } = spec;
  const mnemonic = name.toLowerCase();
  const vector = vectorRow({
    name: `${name}_v`,
    pattern: `0q${u}01110ss10000${opcode}10nnnnnddddd`,
    disassemble: (f: Fields) =>
      `${mnemonic}\t${vectorText(f.d, f.s, f.q)}, ${vectorText(f.n, f.s, f.q)}${tail}`,
    predecode: (f: Fields) => {
      const shape = arrangement(f, spec.vector);
      return shape && { shape, slots: { d: vr(f.d), n: vr(f.n) }, consts: {} };
    },
    semantics: semantics(spec.op),
  });
  const { scalar: sizes } = spec;
  if (!sizes) return [vector];
  const single = vectorRow({
    name: `${name}_s`,
    pattern: `01${u}11110ss10000${opcode}10nnnnnddddd`,
    disassemble: (f: Fields) =>
      `${mnemonic}\t${scalarText(f.d, f.s)}, ${scalarText(f.n, f.s)}${tail}`,
    predecode: (f: Fields) => {
      const shape = scalar(f, sizes);
      return shape && { shape, slots: { d: vr(f.d), n: vr(f.n) }, consts: {} };
    },
    semantics: semantics(spec.op),
  });
  return [vector, single];
}

const reverse = (container: 16 | 32 | 64): Function => (b, { bits }, a) =>
  reverseLanes(b, bits, container, a);

const compareZero = (op: LaneOp, swapped = false): Function => (b, { bits }, a) =>
  swapped ? op(b, bits, zero(b), a) : op(b, bits, a, zero(b));

const saturating =
  (op: (b: Builder, bits: LaneBits, a: V128) => Saturated): Function => (b, { bits, width }, a) =>
    noted(b, op(b, bits, cut(b, width, a)));

const accumulating = (
  op: (b: Builder, bits: LaneBits, a: V128, c: V128) => Saturated,
): Function =>
(b, { bits, width }, a, d) => noted(b, op(b, bits, cut(b, width, d()), cut(b, width, a)));

const SPECS: readonly Spec[] = [
  { name: "REV64", u: 0, opcode: "00000", vector: BHS, op: reverse(64) },
  { name: "REV16", u: 0, opcode: "00001", vector: B, op: reverse(16) },
  { name: "REV32", u: 1, opcode: "00000", vector: BH, op: reverse(32) },
  {
    name: "SUQADD",
    u: 0,
    opcode: "00011",
    vector: BHSD,
    scalar: BHSD,
    op: accumulating(signedPlusUnsigned),
  },
  {
    name: "USQADD",
    u: 1,
    opcode: "00011",
    vector: BHSD,
    scalar: BHSD,
    op: accumulating(unsignedPlusSigned),
  },
  {
    name: "CLS",
    u: 0,
    opcode: "00100",
    vector: BHS,
    op: (b, { bits }, a) => countLeadingSigns(b, bits, a),
  },
  {
    name: "CLZ",
    u: 1,
    opcode: "00100",
    vector: BHS,
    op: (b, { bits }, a) => countLeadingZeros(b, bits, a),
  },
  {
    name: "CNT",
    u: 0,
    opcode: "00101",
    vector: B,
    op: (b, _, a) => b.vector("i8x16.popcnt", a),
  },
  {
    name: "SQABS",
    u: 0,
    opcode: "00111",
    vector: BHSD,
    scalar: BHSD,
    op: saturating(saturatingUnary(absolute)),
  },
  {
    name: "SQNEG",
    u: 1,
    opcode: "00111",
    vector: BHSD,
    scalar: BHSD,
    op: saturating(saturatingUnary(negate)),
  },
  {
    name: "CMGT",
    u: 0,
    opcode: "01000",
    vector: BHSD,
    scalar: D,
    tail: ", #0",
    op: compareZero(gtS),
  },
  {
    name: "CMEQ",
    u: 0,
    opcode: "01001",
    vector: BHSD,
    scalar: D,
    tail: ", #0",
    op: compareZero(eq),
  },
  {
    name: "CMLT",
    u: 0,
    opcode: "01010",
    vector: BHSD,
    scalar: D,
    tail: ", #0",
    op: compareZero(gtS, true),
  },
  {
    name: "CMGE",
    u: 1,
    opcode: "01000",
    vector: BHSD,
    scalar: D,
    tail: ", #0",
    op: compareZero(geS),
  },
  {
    name: "CMLE",
    u: 1,
    opcode: "01001",
    vector: BHSD,
    scalar: D,
    tail: ", #0",
    op: compareZero(geS, true),
  },
  {
    name: "ABS",
    u: 0,
    opcode: "01011",
    vector: BHSD,
    scalar: D,
    op: (b, { bits }, a) => absolute(b, bits, a),
  },
  {
    name: "NEG",
    u: 1,
    opcode: "01011",
    vector: BHSD,
    scalar: D,
    op: (b, { bits }, a) => negate(b, bits, a),
  },
];

/** Names that differ only by their target must differ: these compare with zero. */
function zeroNamed(row: Row): Row {
  return row.name.startsWith("CM") ? { ...row, name: row.name.replace("_", "_zero_") } : row;
}

/** NOT and RBIT: the size field is part of the opcode. */
function ofBytes(name: string, size: string, op: (b: Builder, a: V128) => V128): Row {
  return vectorRow({
    name: `${name}_v`,
    pattern: `0q101110${size}100000010110nnnnnddddd`,
    disassemble: (f: Fields) =>
      `${name === "NOT" ? "mvn" : name.toLowerCase()}\t${vectorText(f.d, 0, f.q)}, ${
        vectorText(f.n, 0, f.q)
      }`,
    predecode: (f: Fields) => ({
      shape: { width: f.q ? 128 : 64 },
      slots: { d: vr(f.d), n: vr(f.n) },
      consts: {},
    }),
    semantics: (b, o, { width }) => {
      b.fpAccess();
      write(b, width, o.d, op(b, b.q(o.n)));
    },
  });
}

/** SADDLP and its like: sums of neighbours, twice as wide. */
function pairwiseLong(name: string, u: number, opcode: string, accumulate: boolean): Row {
  return vectorRow({
    name: `${name}_v`,
    pattern: `0q${u}01110ss10000${opcode}10nnnnnddddd`,
    disassemble: (f: Fields) => {
      const lanes = `${(f.q ? 8 : 4) >> f.s}${"hsd"[f.s]}`;
      return `${name.toLowerCase()}\tv${f.d}.${lanes}, ${vectorText(f.n, f.s, f.q)}`;
    },
    predecode: (f: Fields) =>
      f.s === 3 ? null : {
        shape: { bits: laneBits(f.s) as NarrowBits, width: f.q ? 128 : 64 },
        slots: { d: vr(f.d), n: vr(f.n) },
        consts: {},
      },
    semantics: (b, o, { bits, width }) => {
      b.fpAccess();
      const sums = pairwiseExtendedAdd(b, bits, u === 0, b.q(o.n));
      const result = accumulate ? add(b, (2 * bits) as LaneBits, b.q(o.d), sums) : sums;
      write(b, width, o.d, result);
    },
  });
}

/** XTN and its like, to the low or the high half. */
function narrowing(name: string, u: number, opcode: string, kind: Narrowing): Row {
  return vectorRow({
    name: `${name}_v`,
    pattern: `0q${u}01110ss10000${opcode}10nnnnnddddd`,
    disassemble: (f: Fields) =>
      `${name.toLowerCase()}${f.q ? "2" : ""}\t${vectorText(f.d, f.s, f.q)}, ${
        vectorText(f.n, f.s + 1, 1)
      }`,
    predecode: (f: Fields) =>
      f.s === 3 ? null : {
        shape: { bits: laneBits(f.s) as NarrowBits, q: f.q },
        slots: { d: vr(f.d), n: vr(f.n) },
        consts: {},
      },
    semantics: (b, o, { bits, q }) => {
      b.fpAccess();
      const { value, lanes } = narrow(b, bits, kind, b.q(o.n));
      if (kind !== "truncate") noteSaturation(b, lanes);
      writeHalf(b, q === 1, o.d, value);
    },
  });
}

function narrowingScalar(name: string, u: number, opcode: string, kind: Narrowing): Row {
  return vectorRow({
    name: `${name}_s`,
    pattern: `01${u}11110ss10000${opcode}10nnnnnddddd`,
    disassemble: (f: Fields) =>
      `${name.toLowerCase()}\t${scalarText(f.d, f.s)}, ${scalarText(f.n, f.s + 1)}`,
    predecode: (f: Fields) =>
      f.s === 3 ? null : {
        shape: { bits: laneBits(f.s) as NarrowBits },
        slots: { d: vr(f.d), n: vr(f.n) },
        consts: {},
      },
    semantics: (b, o, { bits }) => {
      b.fpAccess();
      const { value, lanes } = narrow(b, bits, kind, cut(b, 2 * bits, b.q(o.n)));
      noteSaturation(b, lanes);
      write(b, bits, o.d, value);
    },
  });
}

/** SHLL: shifted left by the lane's own width. */
const SHLL: Row = vectorRow({
  name: "SHLL_v",
  pattern: "0q101110ss100001001110nnnnnddddd",
  disassemble: (f: Fields) =>
    `shll${f.q ? "2" : ""}\t${vectorText(f.d, f.s + 1, 1)}, ${vectorText(f.n, f.s, f.q)}, #${
      8 << f.s
    }`,
  predecode: (f: Fields) =>
    f.s === 3 ? null : {
      shape: { bits: laneBits(f.s) as NarrowBits, high: f.q === 1 },
      slots: { d: vr(f.d), n: vr(f.n) },
      consts: {},
    },
  semantics: (b, o, { bits, high }) => {
    b.fpAccess();
    const wide = extend(b, bits, false, high ? "high" : "low", b.q(o.n));
    b.setQ(o.d, shl(b, (2 * bits) as LaneBits, wide, bits));
  },
});

/** All lanes of the low `width` bits combined into lane 0, halves at a time. */
function fold(b: Builder, op: LaneOp, bits: LaneBits, width: number, a: V128): V128 {
  let value = a;
  for (let bytes = width / 16; bytes >= bits / 8; bytes /= 2) {
    const order = Array.from({ length: 16 }, (_, i) => (i + bytes) % 16);
    value = op(b, bits, value, b.shuffle(order, value, value));
  }
  return value;
}

function acrossText(name: string, f: Fields, wider: number): string {
  return `${name.toLowerCase()}\t${scalarText(f.d, f.s + wider)}, ${vectorText(f.n, f.s, f.q)}`;
}

function acrossShape(f: Fields) {
  // Two words are not enough for it.
  if (f.s === 3 || (f.s === 2 && f.q === 0)) return null;
  return {
    shape: { bits: laneBits(f.s) as NarrowBits, width: f.q ? 128 : 64 },
    slots: { d: vr(f.d), n: vr(f.n) },
    consts: {},
  };
}

function across(name: string, u: number, opcode: string, op: LaneOp): Row {
  return vectorRow({
    name: `${name}_v`,
    pattern: `0q${u}01110ss11000${opcode}10nnnnnddddd`,
    disassemble: (f: Fields) => acrossText(name, f, 0),
    predecode: acrossShape,
    semantics: (b, o, { bits, width }) => {
      b.fpAccess();
      write(b, bits, o.d, fold(b, op, bits, width, b.q(o.n)));
    },
  });
}

function acrossLong(name: string, u: number): Row {
  return vectorRow({
    name: `${name}_v`,
    pattern: `0q${u}01110ss110000001110nnnnnddddd`,
    disassemble: (f: Fields) => acrossText(name, f, 1),
    predecode: acrossShape,
    semantics: (b, o, { bits, width }) => {
      b.fpAccess();
      const wide = (2 * bits) as LaneBits;
      const pairs = pairwiseExtendedAdd(b, bits, u === 0, b.q(o.n));
      write(b, wide, o.d, fold(b, add, wide, width, pairs));
    },
  });
}

const ADDP_SCALAR: Row = vectorRow({
  name: "ADDP_s",
  pattern: "0101111011110001101110nnnnnddddd",
  disassemble: (f: Fields) => `addp\td${f.d}, v${f.n}.2d`,
  predecode: (f: Fields) => ({ shape: {}, slots: { d: vr(f.d), n: vr(f.n) }, consts: {} }),
  semantics: (b, o) => {
    b.fpAccess();
    b.setV(o.d, b.add(b.v(o.n, 0), b.v(o.n, 1)), b.c64(0));
  },
});

export const simdTwoRegister: readonly Row[] = [
  ...SPECS.flatMap(rows).map(zeroNamed),
  ofBytes("NOT", "00", not),
  ofBytes("RBIT", "01", reverseBits),
  pairwiseLong("SADDLP", 0, "00010", false),
  pairwiseLong("UADDLP", 1, "00010", false),
  pairwiseLong("SADALP", 0, "00110", true),
  pairwiseLong("UADALP", 1, "00110", true),
  narrowing("XTN", 0, "10010", "truncate"),
  narrowing("SQXTUN", 1, "10010", "signedToUnsigned"),
  narrowing("SQXTN", 0, "10100", "signed"),
  narrowing("UQXTN", 1, "10100", "unsigned"),
  narrowingScalar("SQXTUN", 1, "10010", "signedToUnsigned"),
  narrowingScalar("SQXTN", 0, "10100", "signed"),
  narrowingScalar("UQXTN", 1, "10100", "unsigned"),
  SHLL,
  acrossLong("SADDLV", 0),
  acrossLong("UADDLV", 1),
  across("SMAXV", 0, "01010", maxS),
  across("UMAXV", 1, "01010", maxU),
  across("SMINV", 0, "11010", minS),
  across("UMINV", 1, "11010", minU),
  across("ADDV", 0, "11011", add),
  ADDP_SCALAR,
];
