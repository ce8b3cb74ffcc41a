/**
 * Advanced SIMD floating point of one vector: two-register miscellaneous, narrowing and widening,
 * conversions with fraction bits, across lanes, and pairs to a scalar (manual: C4.1.96, "two-register
 * miscellaneous", its FP16 group, "shift by immediate", "across lanes", "scalar pairwise").
 */
import type { FpSize, Rounding } from "../fp/format.ts";
import type { FpOp, FpOperation } from "../fp/operations.ts";
import type { Builder, Slot, V64 } from "./builder.ts";
import { element, fpReg, fpRegs, setElement, vectorReg, vectorRegs } from "./fp_operand.ts";
import { type Row, row, vr } from "./row.ts";
import { acrossSpec, pairSpec } from "./simd_fp_reduce.ts";
import { laneSize, maskOf } from "./simd_fp_three_same.ts";
import { absoluteLanes, cutTo, negateLanes } from "./simd_fp_vectors.ts";

/** No operations on numbers, only on their bits. */
type Sign = "abs" | "neg";

/** By U and the upper bit of size, then opcode. */
const OPERATIONS: Readonly<Record<string, readonly [mnemonic: string, op: FpOp | Sign]>> = {
  "01:0f": ["fabs", "abs"],
  "11:0f": ["fneg", "neg"],
  "00:18": ["frintn", "rintn"],
  "00:19": ["frintm", "rintm"],
  "01:18": ["frintp", "rintp"],
  "01:19": ["frintz", "rintz"],
  "01:1c": ["urecpe", "urecpe"],
  "01:1d": ["frecpe", "recpe"],
  "01:1f": ["frecpx", "recpx"],
  "10:18": ["frinta", "rinta"],
  "10:19": ["frintx", "rintx"],
  "11:19": ["frinti", "rinti"],
  "11:1c": ["ursqrte", "ursqrte"],
  "11:1d": ["frsqrte", "rsqrte"],
  "11:1f": ["fsqrt", "sqrt"],
};

/** Comparisons with zero: which relation, and whether zero is the first operand. */
const ZERO: Readonly<Record<string, readonly [mnemonic: string, op: FpOp, swapped: boolean]>> = {
  "01:0c": ["fcmgt", "gt", false],
  "01:0d": ["fcmeq", "eq", false],
  "01:0e": ["fcmlt", "gt", true],
  "11:0c": ["fcmge", "ge", false],
  "11:0d": ["fcmle", "ge", true],
};

/** FCVTNS and the like by opcode and the upper bit of size; U is unsigned. */
const ROUNDINGS: Readonly<Record<string, readonly [letter: string, rounding: Rounding]>> = {
  "0:1a": ["n", "even"],
  "0:1b": ["m", "down"],
  "0:1c": ["a", "away"],
  "1:1a": ["p", "up"],
  "1:1b": ["z", "zero"],
};

const INTEGER_ONLY = new Set(["urecpe", "ursqrte"]);
const SCALAR = new Set(["frecpe", "frsqrte", "frecpx"]);

interface Fields {
  readonly u: number;
  /** Upper bit of size; 1 where the pattern has none. */
  readonly z?: number;
  /** Single or double; half precision where the pattern has none. */
  readonly s?: number;
  /** Opcode, less what the pattern has of it: see `Code`. */
  readonly o: number;
  readonly n: number;
  readonly d: number;
  /** A vector's; a scalar has none. */
  readonly q?: number;
}

/** An encoding by what its action depends on. */
interface Code {
  readonly u: number;
  readonly z: number;
  readonly opcode: number;
}

/** The lowest opcode of a pattern: 0x0c (comparisons with zero, signs) or 0x18. */
type First = 0x0c | 0x18;

function codeOf(f: Fields, first: First): Code {
  return { u: f.u, z: f.z ?? 1, opcode: first + f.o };
}

type Action =
  | { readonly name: string; readonly op: FpOp | Sign }
  | { readonly name: string; readonly op: FpOp; readonly swapped: boolean }
  | { readonly name: string; readonly rounding: Rounding }
  | { readonly name: string; readonly from: true };

function actionOf({ u, z, opcode }: Code): Action | undefined {
  const code = opcode.toString(16).padStart(2, "0");
  const operation = OPERATIONS[`${u}${z}:${code}`];
  if (operation) return { name: operation[0], op: operation[1] };
  const zero = ZERO[`${u}${z}:${code}`];
  if (zero) return { name: zero[0], op: zero[1], swapped: zero[2] };
  const rounding = ROUNDINGS[`${z}:${code}`];
  if (rounding) return { name: `fcvt${rounding[0]}${u ? "u" : "s"}`, rounding: rounding[1] };
  if (z === 0 && opcode === 0x1d) return { name: u ? "ucvtf" : "scvtf", from: true };
  return undefined;
}

function allowed(f: Fields, action: Action, size: FpSize): boolean {
  if (INTEGER_ONLY.has(action.name)) return size === 32 && f.q !== undefined;
  if (f.q === undefined) return !("op" in action) || "swapped" in action || SCALAR.has(action.name);
  return action.name !== "frecpx" && !(size === 64 && f.q === 0);
}

/** As a shape: everything that decides what is done. */
type MiscShape = {
  readonly op: FpOp | Sign | "toInteger" | "fromInteger";
  readonly size: FpSize;
  readonly q: boolean;
  readonly unsigned: boolean;
  readonly rounding: Rounding;
  /** 0: no comparison with zero. 1: zero second. 2: zero first. */
  readonly zero: number;
};

function shapeOf(f: Fields, first: First): MiscShape | null {
  const action = actionOf(codeOf(f, first));
  const size = laneSize(f);
  if (!action || !allowed(f, action, size)) return null;
  const converts = "rounding" in action || "from" in action;
  return {
    op: "op" in action ? action.op : "rounding" in action ? "toInteger" : "fromInteger",
    size,
    q: f.q === 1,
    unsigned: converts && f.u === 1,
    rounding: "rounding" in action ? action.rounding : "even",
    zero: "swapped" in action ? (action.swapped ? 2 : 1) : 0,
  };
}

function operationOf(shape: MiscShape): FpOperation | null {
  const { op, size, unsigned, rounding } = shape;
  if (op === "toInteger") return { kind: op, bits: size, unsigned, rounding };
  if (op === "fromInteger") return { kind: op, bits: size, unsigned };
  return op === "abs" || op === "neg" ? null : op;
}

interface Operands {
  readonly d: Slot;
  readonly n: Slot;
}

function text(f: Fields, first: First, registers: string): string {
  const action = actionOf(codeOf(f, first));
  const zero = action && "swapped" in action ? ", #0.0" : "";
  return `${action?.name}\t${registers}${zero}`;
}

function predecode(f: Fields, first: First) {
  const shape = shapeOf(f, first);
  return shape && { shape, slots: { d: vr(f.d), n: vr(f.n) }, consts: {} };
}

function vectorSemantics(b: Builder, o: Operands, shape: MiscShape): void {
  const { size, q, zero } = shape;
  b.fpAccess();
  const n = b.q(o.n);
  const operation = operationOf(shape);
  if (operation === null) {
    const signed = shape.op === "neg" ? negateLanes(b, size, n) : absoluteLanes(b, size, n);
    return b.setQ(o.d, cutTo(b, q, signed));
  }
  const none = b.c128(0n, 0n);
  const operands = [[n], [n, none], [none, n]][zero] ?? [];
  b.setQ(o.d, b.fpVector(operation, size, q, ...operands));
}

function vectorSpec(first: First) {
  return {
    disassemble: (f: Fields & { readonly q: number }) =>
      text(f, first, vectorRegs(laneSize(f), f.q, f.d, f.n)),
    predecode: (f: Fields & { readonly q: number }) => predecode(f, first),
    semantics: vectorSemantics,
  };
}

function scalarSemantics(b: Builder, o: Operands, shape: MiscShape): void {
  const operation = operationOf(shape);
  if (operation === null) throw new RangeError("signs of scalars are not of this group");
  b.fpAccess();
  const n = element(b, shape.size, o.n);
  const none = b.c64(0);
  const operands = [[n], [n, none], [none, n]][shape.zero] ?? [];
  const result = b.fp(operation, shape.size, ...operands);
  setElement(b, o.d, maskOf(b, operation, shape.size, result));
}

function scalarSpec(first: First) {
  return {
    disassemble: (f: Fields) => text(f, first, fpRegs(laneSize(f), f.d, f.n)),
    predecode: (f: Fields) => predecode(f, first),
    semantics: scalarSemantics,
  };
}

interface SizeFields {
  readonly q: number;
  readonly s: number;
  readonly n: number;
  readonly d: number;
}

/** Narrow and wide arrangements of FCVTN and FCVTL. */
function sizes(s: number): { readonly narrow: FpSize; readonly wide: FpSize } {
  return s ? { narrow: 32, wide: 64 } : { narrow: 16, wide: 32 };
}

/** FCVTN and FCVTXN: into the lower half, clearing the upper, or into the upper half. */
function narrowing(odd: boolean) {
  return {
    disassemble: (f: SizeFields) => {
      const { narrow, wide } = sizes(f.s);
      const name = `fcvt${odd ? "xn" : "n"}${f.q ? "2" : ""}`;
      return `${name}\t${vectorReg(narrow, f.q, f.d)}, ${vectorReg(wide, 1, f.n)}`;
    },
    predecode: (f: SizeFields) => {
      if (odd && f.s === 0) return null;
      return {
        shape: { elements: sizes(f.s).wide, q: f.q === 1 },
        slots: { d: vr(f.d), n: vr(f.n) },
        consts: {},
      };
    },
    semantics: (
      b: Builder,
      o: Operands,
      { elements, q }: { elements: FpSize; q: boolean },
    ) => {
      b.fpAccess();
      const to = (elements / 2) as FpSize;
      const count = 128 / elements;
      const n = b.q(o.n);
      let result = b.v128(q ? b.v(o.d, 0) : b.c64(0), b.c64(0));
      for (let i = 0; i < count; i++) {
        const x = b.fp({ kind: "convert", to, odd }, elements, b.lane(elements, n, i));
        result = b.withLane(to, result, i + (q ? count : 0), x);
      }
      b.setQ(o.d, result);
    },
  };
}

/** FCVTL: the lower or the upper half, widened. */
const widening = {
  disassemble: (f: SizeFields) => {
    const { narrow, wide } = sizes(f.s);
    return `fcvtl${f.q ? "2" : ""}\t${vectorReg(wide, 1, f.d)}, ${vectorReg(narrow, f.q, f.n)}`;
  },
  predecode: (f: SizeFields) => ({
    shape: { elements: sizes(f.s).narrow, q: f.q === 1 },
    slots: { d: vr(f.d), n: vr(f.n) },
    consts: {},
  }),
  semantics: (b: Builder, o: Operands, { elements, q }: { elements: FpSize; q: boolean }) => {
    b.fpAccess();
    const to = (elements * 2) as FpSize;
    const count = 128 / to;
    const n = b.q(o.n);
    let result = b.c128(0n, 0n);
    for (let i = 0; i < count; i++) {
      const x = b.lane(elements, n, i + (q ? count : 0));
      result = b.withLane(to, result, i, b.fp({ kind: "convert", to }, elements, x));
    }
    b.setQ(o.d, result);
  },
};

const FP16 = "FEAT_FP16";

/** Size and fraction bits of a conversion by immh:immb, whose highest bits the pattern has. */
interface FixedFields {
  readonly u: number;
  readonly i: number;
  /** FCVTZ rather than CVTF. */
  readonly o: number;
  readonly n: number;
  readonly d: number;
  readonly q?: number;
}

function fixedSpec(size: FpSize) {
  // The pattern leaves log2(size) bits: fraction = 2 * size - immh:immb = size - i.
  const fraction = (f: FixedFields) => size - f.i;
  const name = (f: FixedFields) => f.o === 3 ? `fcvtz${f.u ? "u" : "s"}` : `${f.u ? "u" : "s"}cvtf`;
  return {
    disassemble: (f: FixedFields) => {
      const registers = f.q === undefined
        ? fpRegs(size, f.d, f.n)
        : vectorRegs(size, f.q, f.d, f.n);
      return `${name(f)}\t${registers}, #${fraction(f)}`;
    },
    predecode: (f: FixedFields) => {
      if ((f.o !== 0 && f.o !== 3) || (size === 64 && f.q === 0)) return null;
      return {
        shape: { size, scalar: f.q === undefined, q: f.q === 1, unsigned: f.u === 1, to: f.o },
        slots: { d: vr(f.d), n: vr(f.n) },
        consts: { fraction: BigInt(fraction(f)) },
      };
    },
    semantics: (
      b: Builder,
      o: Operands & { readonly fraction: V64 },
      shape: { scalar: boolean; q: boolean; unsigned: boolean; to: number },
    ) => {
      const type = { bits: size, unsigned: shape.unsigned } as const;
      const operation: FpOperation = shape.to
        ? { kind: "toInteger", rounding: "zero", ...type }
        : { kind: "fromInteger", ...type };
      b.fpAccess();
      if (shape.scalar) {
        return setElement(b, o.d, b.fp(operation, size, element(b, size, o.n), o.fraction));
      }
      const fractions = b.splat(size, o.fraction);
      b.setQ(o.d, b.fpVector(operation, size, shape.q, b.q(o.n), fractions));
    },
  };
}

export const simdFpMisc: readonly Row[] = [
  row({
    name: "FP_zero_sign_v",
    pattern: "0qu011101s10000011oo10nnnnnddddd",
    ...vectorSpec(0x0c),
  }),
  row({
    name: "FP_zero_sign_v_h",
    pattern: "0qu011101111100011oo10nnnnnddddd",
    feature: FP16,
    ...vectorSpec(0x0c),
  }),
  row({ name: "FP_misc_v", pattern: "0qu01110zs1000011ooo10nnnnnddddd", ...vectorSpec(0x18) }),
  row({
    name: "FP_misc_v_h",
    pattern: "0qu01110z11110011ooo10nnnnnddddd",
    feature: FP16,
    slow: true,
    ...vectorSpec(0x18),
  }),
  row({ name: "FP_zero_s", pattern: "01u111101s10000011oo10nnnnnddddd", ...scalarSpec(0x0c) }),
  row({
    name: "FP_zero_s_h",
    pattern: "01u111101111100011oo10nnnnnddddd",
    feature: FP16,
    slow: true,
    ...scalarSpec(0x0c),
  }),
  row({ name: "FP_misc_s", pattern: "01u11110zs1000011ooo10nnnnnddddd", ...scalarSpec(0x18) }),
  row({
    name: "FP_misc_s_h",
    pattern: "01u11110z11110011ooo10nnnnnddddd",
    feature: FP16,
    slow: true,
    ...scalarSpec(0x18),
  }),
  row({ name: "FCVTN_v", pattern: "0q0011100s100001011010nnnnnddddd", ...narrowing(false) }),
  row({ name: "FCVTXN_v", pattern: "0q1011100s100001011010nnnnnddddd", ...narrowing(true) }),
  row({ name: "FCVTL_v", pattern: "0q0011100s100001011110nnnnnddddd", ...widening }),
  row({
    name: "FCVTXN_s",
    pattern: "0111111001100001011010nnnnnddddd",
    disassemble: (f) => `fcvtxn\t${fpReg(32, f.d)}, ${fpReg(64, f.n)}`,
    predecode: (f) => ({ shape: {}, slots: { d: vr(f.d), n: vr(f.n) }, consts: {} }),
    semantics: (b, o) => {
      b.fpAccess();
      setElement(b, o.d, b.fp({ kind: "convert", to: 32, odd: true }, 64, b.v(o.n, 0)));
    },
  }),
  row({
    name: "FP_fixed_v_d",
    pattern: "0qu0111101iiiiii111oo1nnnnnddddd",
    ...fixedSpec(64),
  }),
  row({
    name: "FP_fixed_v_s",
    pattern: "0qu01111001iiiii111oo1nnnnnddddd",
    ...fixedSpec(32),
  }),
  row({
    name: "FP_fixed_v_h",
    pattern: "0qu011110001iiii111oo1nnnnnddddd",
    feature: FP16,
    slow: true,
    ...fixedSpec(16),
  }),
  row({
    name: "FP_fixed_s_d",
    pattern: "01u1111101iiiiii111oo1nnnnnddddd",
    ...fixedSpec(64),
  }),
  row({
    name: "FP_fixed_s_s",
    pattern: "01u11111001iiiii111oo1nnnnnddddd",
    ...fixedSpec(32),
  }),
  row({
    name: "FP_fixed_s_h",
    pattern: "01u111110001iiii111oo1nnnnnddddd",
    feature: FP16,
    slow: true,
    ...fixedSpec(16),
  }),
  row({ name: "FP_pair_s", pattern: "01111110zs11000011oo10nnnnnddddd", ...pairSpec }),
  row({
    name: "FP_pair_s_h",
    pattern: "01011110z011000011oo10nnnnnddddd",
    feature: FP16,
    slow: true,
    ...pairSpec,
  }),
  row({ name: "FP_across", pattern: "01101110z011000011oo10nnnnnddddd", ...acrossSpec(32) }),
  row({
    name: "FP_across_h",
    pattern: "0q001110z011000011oo10nnnnnddddd",
    feature: FP16,
    slow: true,
    ...acrossSpec(16),
  }),
];
