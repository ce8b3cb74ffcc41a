/**
 * Advanced SIMD three same, scalar three same, three same extra (manual: C4.1.96), integer: each lane
 * from the same lane of two registers, or pairs of lanes.
 */
import type { Builder, Slot, V128 } from "./builder.ts";
import { type Row, vr } from "./row.ts";
import { polynomialMul } from "./simd_bits.ts";
import {
  absoluteDifference,
  add,
  and,
  andNot,
  doublingMulAddHigh,
  doublingMulHigh,
  eq,
  everySecond,
  extendedMul,
  geS,
  geU,
  gtS,
  gtU,
  type Half,
  halvingAdd,
  halvingSub,
  type LaneOp,
  maxS,
  maxU,
  minS,
  minU,
  mul,
  ne,
  not,
  noted,
  or,
  pairwiseExtendedAdd,
  registerShift,
  roundingHalvingAdd,
  type Saturated,
  saturatingAdd,
  sub,
  xor,
  zero,
} from "./simd_lanes.ts";
import {
  type Arrangement,
  arrangement,
  B,
  BHS,
  BHSD,
  cut,
  D,
  type FieldsM,
  HS,
  scalar,
  scalarText,
  type Sizes,
  vectorRow,
  vectorText,
  write,
} from "./simd_rows.ts";
import type { LaneBits } from "./vector_ops.ts";

/** The result from both sources and, only if it asks for it, the old destination. */
type Function = (b: Builder, how: Arrangement, a: V128, c: V128, d: () => V128) => V128;

const lanewise = (op: LaneOp): Function => (b, { bits }, a, c) => op(b, bits, a, c);

/** Lanes beyond the instruction's width must not saturate: they are cleared first, and 0 never does. */
function saturating(
  op: (b: Builder, bits: LaneBits, a: V128, c: V128) => Saturated,
): Function {
  return (b, { bits, width }, a, c) => noted(b, op(b, bits, cut(b, width, a), cut(b, width, c)));
}
const saturatingShift = (signed: boolean, rounding = false): Function => (b, how, a, c) =>
  registerShift({ signed, rounding, saturating: true })(b, how.bits, cut(b, how.width, a), c);

const accumulating = (combine: LaneOp, op: LaneOp): Function => (b, { bits }, a, c, d) =>
  combine(b, bits, d(), op(b, bits, a, c));

/** Neighbours of the first source, then of the second. */
function pairwise(op: LaneOp): Function {
  return (b, { bits, width }, a, c) => {
    if (width === 128) {
      return op(b, bits, everySecond(b, bits, 0, a, c), everySecond(b, bits, 1, a, c));
    }
    const both = everySecond(b, 64, 0, a, c);
    return op(b, bits, everySecond(b, bits, 0, both, both), everySecond(b, bits, 1, both, both));
  };
}

const accumulatingHigh = (subtract: boolean): Function => (b, { bits, width }, a, c, d) =>
  noted(b, doublingMulAddHigh(subtract)(b, bits, cut(b, width, a), c, d()));

function semantics(
  op: Function,
): (b: Builder, o: { d: Slot; n: Slot; m: Slot }, how: Arrangement) => void {
  return (b, o, how) => {
    b.fpAccess();
    write(b, how.width, o.d, op(b, how, b.q(o.n), b.q(o.m), () => b.q(o.d)));
  };
}

function vectorForm(name: string, pattern: string, sizes: Sizes, op: Function): Row {
  return vectorRow({
    name: `${name}_v`,
    pattern,
    disassemble: (f: FieldsM) => {
      const registers = [f.d, f.n, f.m].map((r) => vectorText(r, f.s, f.q));
      return `${name.toLowerCase()}\t${registers.join(", ")}`;
    },
    predecode: (f: FieldsM) => {
      const shape = arrangement(f, sizes);
      return shape && { shape, slots: { d: vr(f.d), n: vr(f.n), m: vr(f.m) }, consts: {} };
    },
    semantics: semantics(op),
  });
}

function scalarForm(name: string, pattern: string, sizes: Sizes, op: Function): Row {
  return vectorRow({
    name: `${name}_s`,
    pattern,
    disassemble: (f: FieldsM) => {
      const registers = [f.d, f.n, f.m].map((r) => scalarText(r, f.s));
      return `${name.toLowerCase()}\t${registers.join(", ")}`;
    },
    predecode: (f: FieldsM) => {
      const shape = scalar(f, sizes);
      return shape && { shape, slots: { d: vr(f.d), n: vr(f.n), m: vr(f.m) }, consts: {} };
    },
    semantics: semantics(op),
  });
}

/** The sizes a row has as a vector and as a scalar. */
interface Forms {
  readonly vector: Sizes;
  readonly scalar?: Sizes;
}

/** The rows of one opcode, U = 0 and U = 1. */
function pair(opcode: string, forms: Forms, ...ops: readonly [string, Function][]): Row[] {
  return ops.flatMap(([name, op], u) => {
    const tail = `ss1mmmmm${opcode}1nnnnnddddd`;
    const rows = [vectorForm(name, `0q${u}01110${tail}`, forms.vector, op)];
    if (forms.scalar) rows.push(scalarForm(name, `01${u}11110${tail}`, forms.scalar, op));
    return rows;
  });
}

const ALL: Forms = { vector: BHSD, scalar: BHSD };
const ALL_D: Forms = { vector: BHSD, scalar: D };
const NARROW: Forms = { vector: BHS };

const signedOrNot = (op: (signed: boolean) => LaneOp): readonly [Function, Function] => [
  lanewise(op(true)),
  lanewise(op(false)),
];

const [SHADD, UHADD] = signedOrNot(halvingAdd);
const [SRHADD, URHADD] = signedOrNot(roundingHalvingAdd);
const [SHSUB, UHSUB] = signedOrNot(halvingSub);
const [SSHL, USHL] = signedOrNot((signed) => registerShift({ signed }));
const [SRSHL, URSHL] = signedOrNot((signed) => registerShift({ signed, rounding: true }));
const [SABD, UABD] = signedOrNot(absoluteDifference);
const SABA = accumulating(add, absoluteDifference(true));
const UABA = accumulating(add, absoluteDifference(false));
const CMTST: LaneOp = (b, bits, a, c) => ne(b, bits, and(b, a, c), zero(b));

const ARITHMETIC: readonly Row[] = [
  ...pair("00000", NARROW, ["SHADD", SHADD], ["UHADD", UHADD]),
  ...pair(
    "00001",
    ALL,
    ["SQADD", saturating(saturatingAdd(true))],
    ["UQADD", saturating(saturatingAdd(false))],
  ),
  ...pair("00010", NARROW, ["SRHADD", SRHADD], ["URHADD", URHADD]),
  ...pair("00100", NARROW, ["SHSUB", SHSUB], ["UHSUB", UHSUB]),
  ...pair(
    "00101",
    ALL,
    ["SQSUB", saturating(saturatingAdd(true, true))],
    ["UQSUB", saturating(saturatingAdd(false, true))],
  ),
  ...pair("00110", ALL_D, ["CMGT", lanewise(gtS)], ["CMHI", lanewise(gtU)]),
  ...pair("00111", ALL_D, ["CMGE", lanewise(geS)], ["CMHS", lanewise(geU)]),
  ...pair("01000", ALL_D, ["SSHL", SSHL], ["USHL", USHL]),
  ...pair("01001", ALL, ["SQSHL", saturatingShift(true)], ["UQSHL", saturatingShift(false)]),
  ...pair("01010", ALL_D, ["SRSHL", SRSHL], ["URSHL", URSHL]),
  ...pair(
    "01011",
    ALL,
    ["SQRSHL", saturatingShift(true, true)],
    ["UQRSHL", saturatingShift(false, true)],
  ),
  ...pair("01100", NARROW, ["SMAX", lanewise(maxS)], ["UMAX", lanewise(maxU)]),
  ...pair("01101", NARROW, ["SMIN", lanewise(minS)], ["UMIN", lanewise(minU)]),
  ...pair("01110", NARROW, ["SABD", SABD], ["UABD", UABD]),
  ...pair("01111", NARROW, ["SABA", SABA], ["UABA", UABA]),
  ...pair("10000", ALL_D, ["ADD", lanewise(add)], ["SUB", lanewise(sub)]),
  ...pair("10001", ALL_D, ["CMTST", lanewise(CMTST)], ["CMEQ", lanewise(eq)]),
  ...pair("10010", NARROW, ["MLA", accumulating(add, mul)], ["MLS", accumulating(sub, mul)]),
  ...pair("10011", NARROW, ["MUL", lanewise(mul)]),
  vectorForm("PMUL", "0q101110ss1mmmmm100111nnnnnddddd", B, lanewise(polynomialMul)),
  ...pair("10100", NARROW, ["SMAXP", pairwise(maxS)], ["UMAXP", pairwise(maxU)]),
  ...pair("10101", NARROW, ["SMINP", pairwise(minS)], ["UMINP", pairwise(minU)]),
  ...pair(
    "10110",
    { vector: HS, scalar: HS },
    ["SQDMULH", saturating(doublingMulHigh(false))],
    ["SQRDMULH", saturating(doublingMulHigh(true))],
  ),
  ...pair("10111", { vector: BHSD }, ["ADDP", pairwise(add)]),
];

/** Rows of FEAT_RDM. */
const ROUNDING_ACCUMULATE: readonly Row[] = (["SQRDMLAH", "SQRDMLSH"] as const).flatMap(
  (name, subtract) => {
    const tail = `ss0mmmmm1000${subtract}1nnnnnddddd`;
    const op = accumulatingHigh(subtract === 1);
    return [
      vectorForm(name, `0q101110${tail}`, HS, op),
      scalarForm(name, `01111110${tail}`, HS, op),
    ];
  },
);

/** Four products of bytes, added to each word of `d`. */
export function dotProduct(b: Builder, signed: boolean, a: V128, c: V128, d: V128): V128 {
  const pairs = (half: Half) =>
    pairwiseExtendedAdd(b, 16, signed, extendedMul(b, 8, signed, half, a, c));
  const [low, high] = [pairs("low"), pairs("high")];
  const sums = add(b, 32, everySecond(b, 32, 0, low, high), everySecond(b, 32, 1, low, high));
  return add(b, 32, d, sums);
}

/** Rows of FEAT_DotProd. */
const DOT: readonly Row[] = (["SDOT", "UDOT"] as const).map((name, u) =>
  vectorRow({
    name: `${name}_v`,
    pattern: `0q${u}01110ss0mmmmm100101nnnnnddddd`,
    disassemble: (f: FieldsM) => {
      const sources = [f.n, f.m].map((r) => vectorText(r, 0, f.q)).join(", ");
      return `${name.toLowerCase()}\t${vectorText(f.d, 2, f.q)}, ${sources}`;
    },
    predecode: (f: FieldsM) =>
      f.s === 2
        ? {
          shape: { width: f.q ? 128 : 64 },
          slots: { d: vr(f.d), n: vr(f.n), m: vr(f.m) },
          consts: {},
        }
        : null,
    semantics: (b, o, { width }) => {
      b.fpAccess();
      write(b, width, o.d, dotProduct(b, u === 0, b.q(o.n), b.q(o.m), b.q(o.d)));
    },
  })
);

/** Bit operations: the size field is part of the opcode. */
function logical(
  name: string,
  u: number,
  size: string,
  op: (b: Builder, a: V128, c: V128, d: () => V128) => V128,
): Row {
  return vectorRow({
    name: `${name}_v`,
    pattern: `0q${u}01110${size}1mmmmm000111nnnnnddddd`,
    disassemble: (f: FieldsM) => {
      const [d, n, m] = [f.d, f.n, f.m].map((r) => vectorText(r, 0, f.q));
      if (name === "ORR" && f.n === f.m) return `mov\t${d}, ${n}`;
      return `${name.toLowerCase()}\t${d}, ${n}, ${m}`;
    },
    predecode: (f: FieldsM) => ({
      shape: { width: f.q ? 128 : 64 },
      slots: { d: vr(f.d), n: vr(f.n), m: vr(f.m) },
      consts: {},
    }),
    semantics: (b, o, { width }) => {
      b.fpAccess();
      write(b, width, o.d, op(b, b.q(o.n), b.q(o.m), () => b.q(o.d)));
    },
  });
}

const LOGICAL: readonly Row[] = [
  logical("AND", 0, "00", and),
  logical("BIC", 0, "01", andNot),
  logical("ORR", 0, "10", or),
  logical("ORN", 0, "11", (b, a, c) => or(b, a, not(b, c))),
  logical("EOR", 1, "00", xor),
  logical("BSL", 1, "01", (b, a, c, d) => b.bitselect(d(), a, c)),
  logical("BIT", 1, "10", (b, a, c, d) => b.bitselect(c, a, d())),
  logical("BIF", 1, "11", (b, a, c, d) => b.bitselect(c, d(), a)),
];

export const simdThreeSame: readonly Row[] = [
  ...ARITHMETIC,
  ...ROUNDING_ACCUMULATE.map((row): Row => ({ ...row, feature: "FEAT_RDM" })),
  ...DOT.map((row): Row => ({ ...row, feature: "FEAT_DotProd" })),
  ...LOGICAL,
];
