/**
 * Advanced SIMD floating point of two and three vectors of one arrangement, scalar and vector, half
 * precision included, and complex numbers (manual: C4.1.96, "three same", "three same (FP16)", "three
 * same extra").
 */
import type { FpSize } from "../fp/format.ts";
import { type FpOp, type FpOperation, isComparison } from "../fp/operations.ts";
import type { Builder, Slot, V128, V64 } from "./builder.ts";
import {
  absolute,
  element,
  fpRegs,
  setElement,
  signBit,
  vectorReg,
  vectorRegs,
} from "./fp_operand.ts";
import { type Row, row, vr } from "./row.ts";
import {
  absoluteLanes,
  doublePairs,
  everyOther,
  negateLanes,
  negatePairs,
  splatConstant,
  swapPairs,
} from "./simd_fp_vectors.ts";

/**
 * `plain`: lane by lane. `absolute`: of absolute values. `pairwise`: neighbours. `fused`, `fusedNegative`:
 * onto the destination, the first factor negated.
 */
export type Kind = "plain" | "absolute" | "pairwise" | "fused" | "fusedNegative";

type Entry = readonly [mnemonic: string, kind: Kind, op: FpOp];

/** By U, the upper bit of size (a in the FP16 group), and the low three bits of opcode. */
const TABLE: Readonly<Record<string, Entry>> = {
  "00:0": ["fmaxnm", "plain", "maxnm"],
  "00:1": ["fmla", "fused", "muladd"],
  "00:2": ["fadd", "plain", "add"],
  "00:3": ["fmulx", "plain", "mulx"],
  "00:4": ["fcmeq", "plain", "eq"],
  "00:6": ["fmax", "plain", "max"],
  "00:7": ["frecps", "plain", "recps"],
  "01:0": ["fminnm", "plain", "minnm"],
  "01:1": ["fmls", "fusedNegative", "muladd"],
  "01:2": ["fsub", "plain", "sub"],
  "01:6": ["fmin", "plain", "min"],
  "01:7": ["frsqrts", "plain", "rsqrts"],
  "10:0": ["fmaxnmp", "pairwise", "maxnm"],
  "10:2": ["faddp", "pairwise", "add"],
  "10:3": ["fmul", "plain", "mul"],
  "10:4": ["fcmge", "plain", "ge"],
  "10:5": ["facge", "absolute", "ge"],
  "10:6": ["fmaxp", "pairwise", "max"],
  "10:7": ["fdiv", "plain", "div"],
  "11:0": ["fminnmp", "pairwise", "minnm"],
  "11:2": ["fabd", "plain", "abd"],
  "11:4": ["fcmgt", "plain", "gt"],
  "11:5": ["facgt", "absolute", "gt"],
  "11:6": ["fminp", "pairwise", "min"],
};

/** Those that there are of scalars. */
const SCALAR = new Set(["fmulx", "fcmeq", "frecps", "frsqrts", "fcmge", "facge", "fabd"])
  .add("fcmgt").add("facgt");

interface Fields {
  readonly u: number;
  readonly z: number;
  /** Single or double; half precision where the pattern has none. */
  readonly s?: number;
  readonly o: number;
  readonly m: number;
  readonly n: number;
  readonly d: number;
}

type VectorFields = Fields & { readonly q: number };

function entryOf(f: Fields): Entry | undefined {
  return TABLE[`${f.u}${f.z}:${f.o}`];
}

/** The size that bit `s` means. */
export function laneSize(f: { readonly s?: number }): FpSize {
  return f.s === undefined ? 16 : f.s ? 64 : 32;
}

interface Operands {
  readonly d: Slot;
  readonly n: Slot;
  readonly m: Slot;
}

/** What `kind` makes of the vectors. */
export function combine(
  b: Builder,
  kind: Kind,
  op: FpOp,
  size: FpSize,
  q: boolean,
  [d, n, m]: readonly [V128, V128, V128],
): V128 {
  switch (kind) {
    case "plain":
      return b.fpVector(op, size, q, n, m);
    case "absolute":
      return b.fpVector(op, size, q, absoluteLanes(b, size, n), absoluteLanes(b, size, m));
    case "pairwise":
      return b.fpVector(
        op,
        size,
        q,
        everyOther(b, size, q, n, m, 0),
        everyOther(b, size, q, n, m, 1),
      );
    case "fused":
      return b.fpVector(op, size, q, d, n, m);
    case "fusedNegative":
      return b.fpVector(op, size, q, d, negateLanes(b, size, n), m);
  }
}

const vectorSpec = {
  disassemble: (f: VectorFields) =>
    `${entryOf(f)?.[0]}\t${vectorRegs(laneSize(f), f.q, f.d, f.n, f.m)}`,
  predecode: (f: VectorFields) => {
    const found = entryOf(f);
    const size = laneSize(f);
    if (!found || (size === 64 && f.q === 0)) return null;
    const [, kind, op] = found;
    return {
      shape: { kind, op, size, q: f.q === 1 },
      slots: { d: vr(f.d), n: vr(f.n), m: vr(f.m) },
      consts: {},
    };
  },
  semantics: (
    b: Builder,
    o: Operands,
    { kind, op, size, q }: { kind: Kind; op: FpOp; size: FpSize; q: boolean },
  ) => {
    b.fpAccess();
    b.setQ(o.d, combine(b, kind, op, size, q, [b.q(o.d), b.q(o.n), b.q(o.m)]));
  },
};

/** A comparison's 0 or 1 as an element of zeros or ones; other results as they are. */
export function maskOf(b: Builder, op: FpOperation, size: FpSize, result: V64): V64 {
  if (!isComparison(op)) return result;
  return b.and(b.neg(result), b.c64((1n << BigInt(size)) - 1n));
}

const scalarSpec = {
  disassemble: (f: Fields) => `${entryOf(f)?.[0]}\t${fpRegs(laneSize(f), f.d, f.n, f.m)}`,
  predecode: (f: Fields) => {
    const found = entryOf(f);
    if (!found || !SCALAR.has(found[0])) return null;
    const [, kind, op] = found;
    return {
      shape: { op, size: laneSize(f), absolute: kind === "absolute" },
      slots: { d: vr(f.d), n: vr(f.n), m: vr(f.m) },
      consts: {},
    };
  },
  semantics: (
    b: Builder,
    o: Operands,
    shape: { op: FpOp; size: FpSize; absolute: boolean },
  ) => {
    const { op, size } = shape;
    b.fpAccess();
    const operand = (slot: Slot) => {
      const x = element(b, size, slot);
      return shape.absolute ? absolute(b, size, x) : x;
    };
    const result = b.fp(op, size, operand(o.n), operand(o.m));
    setElement(b, o.d, maskOf(b, op, size, result));
  },
};

/** Elements of half precision in the low halves of 32-bit lanes, from the lower or upper part of Vn. */
export function widenHalves(b: Builder, q: boolean, upper: boolean, a: V128): V128 {
  if (q) {
    return b.vector(upper ? "i32x4.extend_high_i16x8_u" : "i32x4.extend_low_i16x8_u", a);
  }
  const part = upper ? b.vector("i64x2.shr_u", a, b.c32(32)) : a;
  return b.vector("i32x4.extend_low_i16x8_u", part);
}

/** FMLAL and the like: products of halves onto singles. */
export function multiplyLong(
  b: Builder,
  q: boolean,
  subtract: boolean,
  [d, n, m]: readonly [V128, V128, V128],
): V128 {
  const factor = subtract ? b.vector("v128.xor", n, splatConstant(b, 32, signBit(16))) : n;
  return b.fpVector("muladdh", 32, q, d, factor, m);
}

/** `fmlal2`: by the bits for subtraction and the upper part. */
export function longName(subtract: number, upper: number): string {
  return `fml${subtract ? "s" : "a"}l${upper ? "2" : ""}`;
}

interface LongFields {
  readonly q: number;
  readonly z: number;
  readonly m: number;
  readonly n: number;
  readonly d: number;
}

function longSpec(upper: 0 | 1) {
  return {
    disassemble: (f: LongFields) => {
      const halves = (n: number) => `v${n}.${f.q ? 4 : 2}h`;
      const operands = `${vectorReg(32, f.q, f.d)}, ${halves(f.n)}, ${halves(f.m)}`;
      return `${longName(f.z, upper)}\t${operands}`;
    },
    predecode: (f: LongFields) => ({
      shape: { subtract: f.z === 1, q: f.q === 1, elements: 16 },
      slots: { d: vr(f.d), n: vr(f.n), m: vr(f.m) },
      consts: {},
    }),
    semantics: (b: Builder, o: Operands, { subtract, q }: { subtract: boolean; q: boolean }) => {
      b.fpAccess();
      const [n, m] = [b.q(o.n), b.q(o.m)].map((v) => widenHalves(b, q, upper === 1, v)) as [
        V128,
        V128,
      ];
      b.setQ(o.d, multiplyLong(b, q, subtract, [b.q(o.d), n, m]));
    },
  };
}

/** Size field of the complex group: half, single, double (of whole registers); null otherwise. */
function complexSize(f: { readonly z: number; readonly q: number }): FpSize | null {
  if (f.z === 3) return f.q ? 64 : null;
  return ([null, 16, 32] as const)[f.z] ?? null;
}

/** FCMLA: one of the four partial products of complex numbers onto the destination. */
export function complexMultiply(
  b: Builder,
  size: FpSize,
  q: boolean,
  rotation: number,
  [d, n, m]: readonly [V128, V128, V128],
): V128 {
  const odd = (rotation & 1) as 0 | 1;
  const second = odd ? swapPairs(b, size, m) : m;
  const signs = [0, 1, 3, 2][rotation] as number;
  return b.fpVector(
    "muladd",
    size,
    q,
    d,
    doublePairs(b, size, n, odd),
    signs ? negatePairs(b, size, second, signs) : second,
  );
}

const FP16 = "FEAT_FP16";

export const simdFpThreeSame: readonly Row[] = [
  // Within the opcodes of the next row.
  row({
    name: "FMLAL_v",
    pattern: "0q001110z01mmmmm111011nnnnnddddd",
    feature: "FEAT_FHM",
    slow: true,
    ...longSpec(0),
  }),
  row({
    name: "FMLAL2_v",
    pattern: "0q101110z01mmmmm110011nnnnnddddd",
    feature: "FEAT_FHM",
    slow: true,
    ...longSpec(1),
  }),
  row({ name: "FP_three_same_v", pattern: "0qu01110zs1mmmmm11ooo1nnnnnddddd", ...vectorSpec }),
  row({
    name: "FP_three_same_v_h",
    pattern: "0qu01110z10mmmmm00ooo1nnnnnddddd",
    feature: FP16,
    slow: true,
    ...vectorSpec,
  }),
  row({ name: "FP_three_same_s", pattern: "01u11110zs1mmmmm11ooo1nnnnnddddd", ...scalarSpec }),
  row({
    name: "FP_three_same_s_h",
    pattern: "01u11110z10mmmmm00ooo1nnnnnddddd",
    feature: FP16,
    slow: true,
    ...scalarSpec,
  }),
  row({
    name: "FCMLA_v",
    pattern: "0q101110zz0mmmmm110rr1nnnnnddddd",
    feature: "FEAT_FCMA",
    disassemble: (f) =>
      `fcmla\t${vectorRegs(complexSize(f) ?? 0, f.q, f.d, f.n, f.m)}, #${90 * f.r}`,
    predecode: (f) => {
      const size = complexSize(f);
      if (size === null) return null;
      return {
        shape: { size, q: f.q === 1, rotation: f.r },
        slots: { d: vr(f.d), n: vr(f.n), m: vr(f.m) },
        consts: {},
      };
    },
    semantics: (b, o, { size, q, rotation }) => {
      b.fpAccess();
      b.setQ(o.d, complexMultiply(b, size, q, rotation, [b.q(o.d), b.q(o.n), b.q(o.m)]));
    },
  }),
  row({
    name: "FCADD_v",
    pattern: "0q101110zz0mmmmm111r01nnnnnddddd",
    feature: "FEAT_FCMA",
    disassemble: (f) =>
      `fcadd\t${vectorRegs(complexSize(f) ?? 0, f.q, f.d, f.n, f.m)}, #${90 + 180 * f.r}`,
    predecode: (f) => {
      const size = complexSize(f);
      if (size === null) return null;
      return {
        shape: { size, q: f.q === 1, negated: f.r + 1 },
        slots: { d: vr(f.d), n: vr(f.n), m: vr(f.m) },
        consts: {},
      };
    },
    semantics: (b, o, { size, q, negated }) => {
      b.fpAccess();
      const second = negatePairs(b, size, swapPairs(b, size, b.q(o.m)), negated);
      b.setQ(o.d, b.fpVector("add", size, q, b.q(o.n), second));
    },
  }),
];
