/**
 * Advanced SIMD and scalar shift by immediate (manual: C4.1.96), integer. The position of the highest
 * bit of immh is the lane size, so there is one row for each size.
 */
import type { Builder, Slot, V128, V32 } from "./builder.ts";
import { type Row, vr } from "./row.ts";
import {
  add,
  constant,
  extend,
  narrow,
  type Narrowing,
  noted,
  noteSaturation,
  roundingShiftRight,
  saturatingShl,
  type ShiftKind,
  shiftRight,
  shl,
} from "./simd_lanes.ts";
import {
  type Arrangement,
  BHS,
  BHSD,
  cut,
  D,
  laneBits,
  scalarText,
  type Sizes,
  vectorRow,
  vectorText,
  write,
  writeHalf,
} from "./simd_rows.ts";
import type { LaneBits } from "./vector_ops.ts";

type NarrowBits = 8 | 16 | 32;

interface Fields {
  readonly q: number;
  /** The bits of immh:immb below the highest bit of immh. */
  readonly i: number;
  readonly n: number;
  readonly d: number;
}

/**
 * The result from the source and, only if asked for, the old destination. `amount` is the shift of a
 * left shift, and one less than it of a right shift, which may be by the width of the lane.
 */
type Function = (b: Builder, how: Arrangement, a: V128, amount: V32, d: () => V128) => V128;

/** A shift in one lane size, logarithm of bytes `s`. */
function immediate(s: number): string {
  return "0".repeat(3 - s) + "1" + "i".repeat(3 + s);
}

interface Spec {
  readonly name: string;
  readonly u: 0 | 1;
  readonly opcode: string;
  readonly right: boolean;
  readonly op: Function;
  readonly scalar?: Sizes;
}

/** What is printed: of a right shift, the field counts down from twice the lane's width. */
function shiftOf(right: boolean, s: number, i: number): number {
  return right ? laneBits(s) - i : i;
}

function semantics(
  op: Function,
): (b: Builder, o: { d: Slot; n: Slot; amount: V32 }, how: Arrangement) => void {
  return (b, o, how) => {
    b.fpAccess();
    write(b, how.width, o.d, op(b, how, b.q(o.n), o.amount, () => b.q(o.d)));
  };
}

function operands(right: boolean, s: number, f: Fields) {
  const shift = shiftOf(right, s, f.i);
  return {
    slots: { d: vr(f.d), n: vr(f.n) },
    consts: { amount: right ? shift - 1 : shift },
  };
}

function vectorForm({ name, u, opcode, right, op }: Spec, s: number): Row {
  return vectorRow({
    name: `${name}_v_${8 << s}`,
    pattern: `0q${u}011110${immediate(s)}${opcode}1nnnnnddddd`,
    disassemble: (f: Fields) =>
      `${name.toLowerCase()}\t${vectorText(f.d, s, f.q)}, ${vectorText(f.n, s, f.q)}, #${
        shiftOf(right, s, f.i)
      }`,
    predecode: (f: Fields) =>
      s === 3 && f.q === 0 ? null : {
        shape: { bits: laneBits(s), width: f.q ? 128 : 64 },
        ...operands(right, s, f),
      },
    semantics: semantics(op),
  });
}

function scalarForm({ name, u, opcode, right, op }: Spec, s: number): Row {
  return vectorRow({
    name: `${name}_s_${8 << s}`,
    pattern: `01${u}111110${immediate(s)}${opcode}1nnnnnddddd`,
    disassemble: (f: Fields) =>
      `${name.toLowerCase()}\t${scalarText(f.d, s)}, ${scalarText(f.n, s)}, #${
        shiftOf(right, s, f.i)
      }`,
    predecode: (f: Fields) => ({
      shape: { bits: laneBits(s), width: 8 << s },
      ...operands(right, s, f),
    }),
    semantics: semantics(op),
  });
}

const right = (signed: boolean): Function => (b, { bits }, a, amount) =>
  shiftRight(b, bits, signed, a, amount);
const roundingRight = (signed: boolean): Function => (b, { bits }, a, amount) =>
  roundingShiftRight(b, bits, signed, a, amount);
const accumulating = (op: Function): Function => (b, how, a, amount, d) =>
  add(b, how.bits, d(), op(b, how, a, amount, d));
const saturatingLeft = (kind: ShiftKind): Function => (b, { bits, width }, a, amount) =>
  noted(b, saturatingShl(b, bits, kind, cut(b, width, a), amount));

/** SRI: the bits shifted in are the destination's. */
const insertRight: Function = (b, { bits }, a, amount, d) => {
  const mask = shiftRight(b, bits, false, constant(b, bits, -1n), amount);
  return b.bitselect(mask, shiftRight(b, bits, false, a, amount), d());
};
const insertLeft: Function = (b, { bits }, a, amount, d) =>
  b.bitselect(shl(b, bits, constant(b, bits, -1n), amount), shl(b, bits, a, amount), d());
const left: Function = (b, { bits }, a, amount) => shl(b, bits, a, amount);

/** The signed and unsigned rows of a right shift. */
function rightPair(name: string, opcode: string, op: (signed: boolean) => Function): Spec[] {
  return ([0, 1] as const).map((u) => ({
    name: `${u ? "U" : "S"}${name}`,
    u,
    opcode,
    right: true,
    op: op(u === 0),
    scalar: D,
  }));
}

const SPECS: readonly Spec[] = [
  ...rightPair("SHR", "00000", right),
  ...rightPair("SRA", "00010", (signed) => accumulating(right(signed))),
  ...rightPair("RSHR", "00100", roundingRight),
  ...rightPair("RSRA", "00110", (signed) => accumulating(roundingRight(signed))),
  { name: "SRI", u: 1, opcode: "01000", right: true, op: insertRight, scalar: D },
  { name: "SHL", u: 0, opcode: "01010", right: false, op: left, scalar: D },
  { name: "SLI", u: 1, opcode: "01010", right: false, op: insertLeft, scalar: D },
  {
    name: "SQSHLU",
    u: 1,
    opcode: "01100",
    right: false,
    op: saturatingLeft("signedToUnsigned"),
    scalar: BHSD,
  },
  {
    name: "SQSHL",
    u: 0,
    opcode: "01110",
    right: false,
    op: saturatingLeft("signed"),
    scalar: BHSD,
  },
  {
    name: "UQSHL",
    u: 1,
    opcode: "01110",
    right: false,
    op: saturatingLeft("unsigned"),
    scalar: BHSD,
  },
];

interface NarrowSpec {
  readonly name: string;
  readonly u: 0 | 1;
  readonly opcode: string;
  readonly rounding: boolean;
  readonly kind: Narrowing;
}

/** The lanes of `a`, twice `bits` wide, shifted right and cut to `bits`. */
function shiftNarrow(
  b: Builder,
  { kind, rounding }: NarrowSpec,
  bits: NarrowBits,
  a: V128,
  less: V32,
): V128 {
  const signed = kind === "signed" || kind === "signedToUnsigned";
  const shift = rounding ? roundingShiftRight : shiftRight;
  const { value, lanes } = narrow(b, bits, kind, shift(b, (2 * bits) as LaneBits, signed, a, less));
  if (kind !== "truncate") noteSaturation(b, lanes);
  return value;
}

function narrowVector(spec: NarrowSpec, s: number): Row {
  const { name, u, opcode } = spec;
  return vectorRow({
    name: `${name}_v_${8 << s}`,
    pattern: `0q${u}011110${immediate(s)}${opcode}1nnnnnddddd`,
    disassemble: (f: Fields) =>
      `${name.toLowerCase()}${f.q ? "2" : ""}\t${vectorText(f.d, s, f.q)}, ${
        vectorText(f.n, s + 1, 1)
      }, #${shiftOf(true, s, f.i)}`,
    predecode: (f: Fields) => ({
      shape: { bits: laneBits(s) as NarrowBits, q: f.q },
      ...operands(true, s, f),
    }),
    semantics: (b, o, { bits, q }) => {
      b.fpAccess();
      writeHalf(b, q === 1, o.d, shiftNarrow(b, spec, bits, b.q(o.n), o.amount));
    },
  });
}

function narrowScalar(spec: NarrowSpec, s: number): Row {
  const { name, u, opcode } = spec;
  return vectorRow({
    name: `${name}_s_${8 << s}`,
    pattern: `01${u}111110${immediate(s)}${opcode}1nnnnnddddd`,
    disassemble: (f: Fields) =>
      `${name.toLowerCase()}\t${scalarText(f.d, s)}, ${scalarText(f.n, s + 1)}, #${
        shiftOf(true, s, f.i)
      }`,
    predecode: (f: Fields) => ({
      shape: { bits: laneBits(s) as NarrowBits },
      ...operands(true, s, f),
    }),
    semantics: (b, o, { bits }) => {
      b.fpAccess();
      const source = cut(b, 2 * bits, b.q(o.n));
      write(b, bits, o.d, shiftNarrow(b, spec, bits, source, o.amount));
    },
  });
}

const PLAIN_NARROW: readonly NarrowSpec[] = [
  { name: "SHRN", u: 0, opcode: "10000", rounding: false, kind: "truncate" },
  { name: "RSHRN", u: 0, opcode: "10001", rounding: true, kind: "truncate" },
];

const SATURATING_NARROW: readonly NarrowSpec[] = [
  { name: "SQSHRUN", u: 1, opcode: "10000", rounding: false, kind: "signedToUnsigned" },
  { name: "SQRSHRUN", u: 1, opcode: "10001", rounding: true, kind: "signedToUnsigned" },
  { name: "SQSHRN", u: 0, opcode: "10010", rounding: false, kind: "signed" },
  { name: "SQRSHRN", u: 0, opcode: "10011", rounding: true, kind: "signed" },
  { name: "UQSHRN", u: 1, opcode: "10010", rounding: false, kind: "unsigned" },
  { name: "UQRSHRN", u: 1, opcode: "10011", rounding: true, kind: "unsigned" },
];

/** SSHLL, USHLL: half of the lanes extended, then shifted left. */
function long(u: 0 | 1, s: number): Row {
  const sign = u ? "u" : "s";
  return vectorRow({
    name: `${sign.toUpperCase()}SHLL_v_${8 << s}`,
    pattern: `0q${u}011110${immediate(s)}101001nnnnnddddd`,
    disassemble: (f: Fields) => {
      const name = `${sign}${f.i ? "shll" : "xtl"}${f.q ? "2" : ""}`;
      const registers = `${vectorText(f.d, s + 1, 1)}, ${vectorText(f.n, s, f.q)}`;
      return `${name}\t${registers}${f.i ? `, #${f.i}` : ""}`;
    },
    predecode: (f: Fields) => ({
      shape: { bits: laneBits(s) as NarrowBits, q: f.q },
      ...operands(false, s, f),
    }),
    semantics: (b, o, { bits, q }) => {
      b.fpAccess();
      const wide = extend(b, bits, u === 0, q ? "high" : "low", b.q(o.n));
      b.setQ(o.d, shl(b, (2 * bits) as LaneBits, wide, o.amount));
    },
  });
}

export const simdShiftImmediate: readonly Row[] = [
  ...SPECS.flatMap((spec) => BHSD.map((s) => vectorForm(spec, s))),
  ...SPECS.flatMap((spec) => (spec.scalar ?? []).map((s) => scalarForm(spec, s))),
  ...[...PLAIN_NARROW, ...SATURATING_NARROW].flatMap((spec) =>
    BHS.map((s) => narrowVector(spec, s))
  ),
  ...SATURATING_NARROW.flatMap((spec) => BHS.map((s) => narrowScalar(spec, s))),
  ...BHS.map((s) => long(0, s)),
  ...BHS.map((s) => long(1, s)),
];
