/**
 * Scalar floating point: data processing, comparison, selection and immediates (manual: C4.1.96). The
 * type field is pattern letter `t` (single, double); half precision has rows of its own.
 */
import type { FpOp } from "../fp/operations.ts";
import type { FpSize } from "../fp/format.ts";
import type { Builder, Slot, V32, V64 } from "./builder.ts";
import {
  absolute,
  element,
  expandImmediate,
  fpReg,
  fpRegs,
  immediateText,
  negate,
  setElement,
  sizeOfType,
} from "./fp_operand.ts";
import { conditionMask, type Row, row, vr } from "./row.ts";
import { condition } from "./text.ts";

type Typed = { readonly t?: number };

/** FMOV, FABS, FNEG, FSQRT and the roundings: by opcode. */
const ONE_SOURCE = {
  0: ["fmov", "mov"],
  1: ["fabs", "abs"],
  2: ["fneg", "neg"],
  3: ["fsqrt", "sqrt"],
  8: ["frintn", "rintn"],
  9: ["frintp", "rintp"],
  10: ["frintm", "rintm"],
  11: ["frintz", "rintz"],
  12: ["frinta", "rinta"],
  14: ["frintx", "rintx"],
  15: ["frinti", "rinti"],
} as const satisfies Record<number, readonly [string, FpOp | "mov" | "abs" | "neg"]>;

type OneSource = (typeof ONE_SOURCE)[keyof typeof ONE_SOURCE][1];

function oneSource(opcode: number): readonly [string, OneSource] | undefined {
  return ONE_SOURCE[opcode as keyof typeof ONE_SOURCE];
}

function applyOneSource(b: Builder, size: FpSize, op: OneSource, x: V64): V64 {
  if (op === "mov") return x;
  if (op === "abs") return absolute(b, size, x);
  return op === "neg" ? negate(b, size, x) : b.fp(op, size, x);
}

type OneFields = Typed & { readonly o: number; readonly n: number; readonly d: number };

/** The rows of opcodes 0 to 3 (`first` 0) and 8 to 15. */
function oneSourceSpec(first: number) {
  return {
    disassemble: (f: OneFields) => {
      const name = oneSource(first + f.o)?.[0] ?? "";
      return `${name}\t${fpRegs(sizeOfType(f), f.d, f.n)}`;
    },
    predecode: (f: OneFields) => {
      const found = oneSource(first + f.o);
      if (!found) return null;
      return {
        shape: { op: found[1], size: sizeOfType(f) },
        slots: { d: vr(f.d), n: vr(f.n) },
        consts: {},
      };
    },
    semantics: (
      b: Builder,
      o: { readonly d: Slot; readonly n: Slot },
      { op, size }: { readonly op: OneSource; readonly size: FpSize },
    ) => {
      b.fpAccess();
      setElement(b, o.d, applyOneSource(b, size, op, element(b, size, o.n)));
    },
  };
}

const TWO_SOURCE = [
  ["fmul", "mul"],
  ["fdiv", "div"],
  ["fadd", "add"],
  ["fsub", "sub"],
  ["fmax", "max"],
  ["fmin", "min"],
  ["fmaxnm", "maxnm"],
  ["fminnm", "minnm"],
  ["fnmul", "nmul"],
] as const satisfies readonly (readonly [string, FpOp])[];

type TwoFields = OneFields & { readonly m: number };

const twoSource = {
  disassemble: (f: TwoFields) => `${TWO_SOURCE[f.o]?.[0]}\t${fpRegs(sizeOfType(f), f.d, f.n, f.m)}`,
  predecode: (f: TwoFields) => {
    const found = TWO_SOURCE[f.o];
    if (!found) return null;
    return {
      shape: { op: found[1], size: sizeOfType(f) },
      slots: { d: vr(f.d), n: vr(f.n), m: vr(f.m) },
      consts: {},
    };
  },
  semantics: (
    b: Builder,
    o: { readonly d: Slot; readonly n: Slot; readonly m: Slot },
    { op, size }: { readonly op: FpOp; readonly size: FpSize },
  ) => {
    b.fpAccess();
    setElement(b, o.d, b.fp(op, size, element(b, size, o.n), element(b, size, o.m)));
  },
};

/** o is o1:o0: FMADD, FMSUB, FNMADD, FNMSUB. */
const THREE_SOURCE = ["fmadd", "fmsub", "fnmadd", "fnmsub"] as const;

type ThreeFields = Typed & {
  readonly o: number;
  readonly m: number;
  readonly a: number;
  readonly n: number;
  readonly d: number;
};

const threeSource = {
  disassemble: (f: ThreeFields) =>
    `${THREE_SOURCE[f.o]}\t${fpRegs(sizeOfType(f), f.d, f.n, f.m, f.a)}`,
  predecode: (f: ThreeFields) => ({
    // FNMADD and FNMSUB negate the addend, FMSUB and FNMADD the first factor.
    shape: { size: sizeOfType(f), negateAddend: f.o >= 2, negateFactor: f.o === 1 || f.o === 2 },
    slots: { d: vr(f.d), n: vr(f.n), m: vr(f.m), a: vr(f.a) },
    consts: {},
  }),
  semantics: (
    b: Builder,
    o: { readonly d: Slot; readonly n: Slot; readonly m: Slot; readonly a: Slot },
    shape: { size: FpSize; negateAddend: boolean; negateFactor: boolean },
  ) => {
    b.fpAccess();
    const { size } = shape;
    const [a, n, m] = [element(b, size, o.a), element(b, size, o.n), element(b, size, o.m)];
    const addend = shape.negateAddend ? negate(b, size, a) : a;
    const factor = shape.negateFactor ? negate(b, size, n) : n;
    setElement(b, o.d, b.fp("muladd", size, addend, factor, m));
  },
};

type CompareFields = Typed & {
  readonly m: number;
  readonly n: number;
  /** Signalling (FCMPE), and with zero. */
  readonly e: number;
  readonly z: number;
};

const compare = {
  disassemble: (f: CompareFields) => {
    const size = sizeOfType(f);
    const second = f.z ? "#0.0" : fpReg(size, f.m);
    return `fcmp${f.e ? "e" : ""}\t${fpReg(size, f.n)}, ${second}`;
  },
  predecode: (f: CompareFields) => ({
    shape: { size: sizeOfType(f), signalling: f.e, zero: f.z },
    slots: { n: vr(f.n), m: vr(f.m) },
    consts: {},
  }),
  semantics: (
    b: Builder,
    o: { readonly n: Slot; readonly m: Slot },
    { size, signalling, zero }: { size: FpSize; signalling: number; zero: number },
  ) => {
    b.fpAccess();
    const second = zero ? b.c64(0) : element(b, size, o.m);
    b.setNzcv(b.wrap(b.fp(signalling ? "cmpe" : "cmp", size, element(b, size, o.n), second)));
  },
};

type ConditionalFields = Typed & {
  readonly m: number;
  readonly n: number;
  readonly c: number;
};

const conditionalCompare = {
  disassemble: (f: ConditionalFields & { readonly e: number; readonly f: number }) =>
    `fccmp${f.e ? "e" : ""}\t${fpRegs(sizeOfType(f), f.n, f.m)}, #0x${f.f.toString(16)}, ${
      condition(f.c)
    }`,
  predecode: (f: ConditionalFields & { readonly e: number; readonly f: number }) => ({
    shape: { size: sizeOfType(f), signalling: f.e },
    slots: { n: vr(f.n), m: vr(f.m) },
    consts: { mask: conditionMask(f.c), flags: f.f },
  }),
  semantics: (
    b: Builder,
    o: { readonly n: Slot; readonly m: Slot; readonly mask: V32; readonly flags: V32 },
    { size, signalling }: { size: FpSize; signalling: number },
  ) => {
    b.fpAccess();
    const holds = b.condition(o.mask);
    const [n, m] = [element(b, size, o.n), element(b, size, o.m)];
    b.when(holds, () => {
      b.setNzcv(b.wrap(b.fp(signalling ? "cmpe" : "cmp", size, n, m)));
    });
    b.when(b.isZero(holds), () => b.setNzcv(o.flags));
  },
};

const select = {
  disassemble: (f: ConditionalFields & { readonly d: number }) =>
    `fcsel\t${fpRegs(sizeOfType(f), f.d, f.n, f.m)}, ${condition(f.c)}`,
  predecode: (f: ConditionalFields & { readonly d: number }) => ({
    shape: { size: sizeOfType(f) },
    slots: { d: vr(f.d), n: vr(f.n), m: vr(f.m) },
    consts: { mask: conditionMask(f.c) },
  }),
  semantics: (
    b: Builder,
    o: { readonly d: Slot; readonly n: Slot; readonly m: Slot; readonly mask: V32 },
    { size }: { size: FpSize },
  ) => {
    b.fpAccess();
    const chosen = b.select(b.condition(o.mask), element(b, size, o.n), element(b, size, o.m));
    setElement(b, o.d, chosen);
  },
};

const immediate = {
  disassemble: (f: Typed & { readonly i: number; readonly d: number }) =>
    `fmov\t${fpReg(sizeOfType(f), f.d)}, ${immediateText(f.i)}`,
  predecode: (f: Typed & { readonly i: number; readonly d: number }) => ({
    shape: {},
    slots: { d: vr(f.d) },
    consts: { value: expandImmediate(sizeOfType(f), f.i) },
  }),
  semantics: (b: Builder, o: { readonly d: Slot; readonly value: V64 }) => {
    b.fpAccess();
    setElement(b, o.d, o.value);
  },
};

/** The format an FCVT names by two bits. */
function formatBits(bits: number): FpSize | null {
  return ([32, 64, null, 16] as const)[bits] ?? null;
}

export const floatingPoint: readonly Row[] = [
  row({
    name: "FMOV_FABS_FNEG_FSQRT",
    pattern: "000111100t10000oo10000nnnnnddddd",
    ...oneSourceSpec(0),
  }),
  row({
    name: "FMOV_FABS_FNEG_FSQRT_h",
    pattern: "000111101110000oo10000nnnnnddddd",
    feature: "FEAT_FP16",
    ...oneSourceSpec(0),
  }),
  row({ name: "FRINT", pattern: "000111100t1001ooo10000nnnnnddddd", ...oneSourceSpec(8) }),
  row({
    name: "FRINT_h",
    pattern: "00011110111001ooo10000nnnnnddddd",
    feature: "FEAT_FP16",
    slow: true,
    ...oneSourceSpec(8),
  }),
  row({
    name: "FCVT",
    pattern: "00011110ff10001oo10000nnnnnddddd",
    disassemble: (f) =>
      `fcvt\t${fpReg(formatBits(f.o) ?? 0, f.d)}, ${fpReg(formatBits(f.f) ?? 0, f.n)}`,
    predecode: (f) => {
      const [from, to] = [formatBits(f.f), formatBits(f.o)];
      if (from === null || to === null || from === to) return null;
      return { shape: { from, to }, slots: { d: vr(f.d), n: vr(f.n) }, consts: {} };
    },
    semantics: (b, o, { from, to }) => {
      b.fpAccess();
      setElement(b, o.d, b.fp({ kind: "convert", to }, from, element(b, from, o.n)));
    },
  }),
  row({ name: "FP_two_source", pattern: "000111100t1mmmmmoooo10nnnnnddddd", ...twoSource }),
  row({
    name: "FP_two_source_h",
    pattern: "00011110111mmmmmoooo10nnnnnddddd",
    feature: "FEAT_FP16",
    slow: true,
    ...twoSource,
  }),
  row({ name: "FP_three_source", pattern: "000111110tommmmmoaaaaannnnnddddd", ...threeSource }),
  row({
    name: "FP_three_source_h",
    pattern: "0001111111ommmmmoaaaaannnnnddddd",
    feature: "FEAT_FP16",
    slow: true,
    ...threeSource,
  }),
  row({ name: "FCMP", pattern: "000111100t1mmmmm001000nnnnnez000", ...compare }),
  row({
    name: "FCMP_h",
    pattern: "00011110111mmmmm001000nnnnnez000",
    feature: "FEAT_FP16",
    slow: true,
    ...compare,
  }),
  row({ name: "FCCMP", pattern: "000111100t1mmmmmcccc01nnnnneffff", ...conditionalCompare }),
  row({
    name: "FCCMP_h",
    pattern: "00011110111mmmmmcccc01nnnnneffff",
    feature: "FEAT_FP16",
    slow: true,
    ...conditionalCompare,
  }),
  row({ name: "FCSEL", pattern: "000111100t1mmmmmcccc11nnnnnddddd", ...select }),
  row({
    name: "FCSEL_h",
    pattern: "00011110111mmmmmcccc11nnnnnddddd",
    feature: "FEAT_FP16",
    ...select,
  }),
  row({ name: "FMOV_imm", pattern: "000111100t1iiiiiiii10000000ddddd", ...immediate }),
  row({
    name: "FMOV_imm_h",
    pattern: "00011110111iiiiiiii10000000ddddd",
    feature: "FEAT_FP16",
    ...immediate,
  }),
];
