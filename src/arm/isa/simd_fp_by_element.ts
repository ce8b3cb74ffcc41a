/** Advanced SIMD floating point by one element of the second vector, scalar and vector (manual: C4.1.96, "vector x indexed element"). */
import type { FpSize } from "../fp/format.ts";
import type { FpOp } from "../fp/operations.ts";
import type { Builder, Slot, V64 } from "./builder.ts";
import {
  element,
  fpRegs,
  letterOf,
  negate,
  setElement,
  vectorReg,
  vectorRegs,
} from "./fp_operand.ts";
import { type Row, row, vr } from "./row.ts";
import {
  combine,
  complexMultiply,
  longName,
  multiplyLong,
  widenHalves,
} from "./simd_fp_three_same.ts";
import { elementPlace, placedElement } from "./simd_fp_vectors.ts";

interface Fields {
  /** Single or double; half precision where the pattern has none. */
  readonly s?: number;
  readonly l: number;
  readonly h: number;
  readonly m: number;
  readonly n: number;
  readonly d: number;
  readonly q?: number;
}

interface Place {
  readonly size: FpSize;
  readonly register: number;
  readonly index: number;
}

/** Register and index that l, m and h name; null where there is no such double. */
function placeOf(f: Fields): Place | null {
  if (f.s === undefined) {
    return { size: 16, register: f.m & 15, index: f.h * 4 + f.l * 2 + (f.m >> 4) };
  }
  if (f.s === 0) return { size: 32, register: f.m, index: f.h * 2 + f.l };
  return f.l || f.q === 0 ? null : { size: 64, register: f.m, index: f.h };
}

function elementText(f: Fields): string {
  const place = placeOf(f);
  return place ? `v${place.register}.${letterOf(place.size)}[${place.index}]` : "";
}

interface Operands {
  readonly d: Slot;
  readonly n: Slot;
  readonly m: Slot;
  readonly shift: V64;
}

type Operation = "fmla" | "fmls" | "fmul" | "fmulx";

type Shape = {
  readonly op: Operation;
  readonly size: FpSize;
  readonly q: boolean;
  readonly scalar: boolean;
};

const OPERATIONS: Readonly<
  Record<Operation, readonly [kind: Parameters<typeof combine>[1], op: FpOp]>
> = {
  fmla: ["fused", "muladd"],
  fmls: ["fusedNegative", "muladd"],
  fmul: ["plain", "mul"],
  fmulx: ["plain", "mulx"],
};

function scalarResult(b: Builder, o: Operands, { op, size }: Shape, second: V64): V64 {
  const n = element(b, size, o.n);
  if (op === "fmul" || op === "fmulx") return b.fp(OPERATIONS[op][1], size, n, second);
  const factor = op === "fmls" ? negate(b, size, n) : n;
  return b.fp("muladd", size, element(b, size, o.d), factor, second);
}

function semantics(b: Builder, o: Operands, shape: Shape): void {
  const { op, size, q, scalar } = shape;
  b.fpAccess();
  const second = placedElement(b, o.m, o.shift);
  if (scalar) {
    const cut = size === 64 ? second : b.and(second, b.c64((1n << BigInt(size)) - 1n));
    return setElement(b, o.d, scalarResult(b, o, shape, cut));
  }
  const [kind, operation] = OPERATIONS[op];
  const operands = [b.q(o.d), b.q(o.n), b.splat(size, second)] as const;
  b.setQ(o.d, combine(b, kind, operation, size, q, operands));
}

/** `names`: by the field `o`. */
function spec(names: readonly Operation[]) {
  const name = (f: { readonly o: number }) => names[f.o] as Operation;
  return {
    disassemble: (f: Fields & { readonly o: number }) => {
      const size = placeOf(f)?.size ?? 0;
      const registers = f.q === undefined
        ? fpRegs(size, f.d, f.n)
        : vectorRegs(size, f.q, f.d, f.n);
      return `${name(f)}\t${registers}, ${elementText(f)}`;
    },
    predecode: (f: Fields & { readonly o: number }) => {
      const place = placeOf(f);
      if (place === null) return null;
      const { size, register, index } = place;
      const { slot, shift } = elementPlace(vr(register), size, index);
      const shape: Shape = { op: name(f), size, q: f.q === 1, scalar: f.q === undefined };
      return { shape, slots: { d: vr(f.d), n: vr(f.n), m: slot }, consts: { shift } };
    },
    semantics,
  };
}

interface LongFields {
  readonly q: number;
  readonly o: number;
  readonly l: number;
  readonly h: number;
  readonly m: number;
  readonly n: number;
  readonly d: number;
}

function longSpec(upper: 0 | 1) {
  return {
    disassemble: (f: LongFields) =>
      `${longName(f.o, upper)}\t${vectorReg(32, f.q, f.d)}, v${f.n}.${f.q ? 4 : 2}h, ${
        elementText(f)
      }`,
    predecode: (f: LongFields) => {
      const index = f.h * 4 + f.l * 2 + (f.m >> 4);
      const { slot, shift } = elementPlace(vr(f.m & 15), 16, index);
      return {
        shape: { subtract: f.o === 1, q: f.q === 1, elements: 16 },
        slots: { d: vr(f.d), n: vr(f.n), m: slot },
        consts: { shift },
      };
    },
    semantics: (b: Builder, o: Operands, { subtract, q }: { subtract: boolean; q: boolean }) => {
      b.fpAccess();
      const half = b.and(placedElement(b, o.m, o.shift), b.c64(0xffff));
      const n = widenHalves(b, q, upper === 1, b.q(o.n));
      b.setQ(o.d, multiplyLong(b, q, subtract, [b.q(o.d), n, b.splat(32, half)]));
    },
  };
}

interface ComplexFields {
  readonly q: number;
  readonly l: number;
  readonly h: number;
  readonly m: number;
  readonly r: number;
  readonly n: number;
  readonly d: number;
}

/** FCMLA by one complex number of Vm. */
function complexSpec(size: 16 | 32) {
  const index = (f: ComplexFields): number | null => {
    if (size === 16) return f.q === 0 && f.h ? null : f.h * 2 + f.l;
    return f.l || f.q === 0 ? null : f.h;
  };
  return {
    disassemble: (f: ComplexFields) =>
      `fcmla\t${vectorRegs(size, f.q, f.d, f.n)}, v${f.m}.${letterOf(size)}[${index(f)}], #${
        90 * f.r
      }`,
    predecode: (f: ComplexFields) => {
      const number = index(f);
      if (number === null) return null;
      const { slot, shift } = elementPlace(vr(f.m), 2 * size, number);
      return {
        shape: { size, q: f.q === 1, rotation: f.r },
        slots: { d: vr(f.d), n: vr(f.n), m: slot },
        consts: { shift },
      };
    },
    semantics: (
      b: Builder,
      o: Operands,
      { q, rotation }: { q: boolean; rotation: number },
    ) => {
      b.fpAccess();
      const pair = b.splat(size === 16 ? 32 : 64, placedElement(b, o.m, o.shift));
      b.setQ(o.d, complexMultiply(b, size, q, rotation, [b.q(o.d), b.q(o.n), pair]));
    },
  };
}

const FP16 = "FEAT_FP16";
const ADDING = ["fmla", "fmls"] as const;
const MULTIPLYING = ["fmul", "fmulx"] as const;

export const simdFpByElement: readonly Row[] = [
  row({
    name: "FMLA_FMLS_element_v",
    pattern: "0q0011111slmmmmm0o01h0nnnnnddddd",
    ...spec(ADDING),
  }),
  row({
    name: "FMLA_FMLS_element_v_h",
    pattern: "0q00111100lmmmmm0o01h0nnnnnddddd",
    feature: FP16,
    slow: true,
    ...spec(ADDING),
  }),
  row({
    name: "FMUL_FMULX_element_v",
    pattern: "0qo011111slmmmmm1001h0nnnnnddddd",
    ...spec(MULTIPLYING),
  }),
  row({
    name: "FMUL_FMULX_element_v_h",
    pattern: "0qo0111100lmmmmm1001h0nnnnnddddd",
    feature: FP16,
    slow: true,
    ...spec(MULTIPLYING),
  }),
  row({
    name: "FMLA_FMLS_element_s",
    pattern: "010111111slmmmmm0o01h0nnnnnddddd",
    ...spec(ADDING),
  }),
  row({
    name: "FMLA_FMLS_element_s_h",
    pattern: "0101111100lmmmmm0o01h0nnnnnddddd",
    feature: FP16,
    slow: true,
    ...spec(ADDING),
  }),
  row({
    name: "FMUL_FMULX_element_s",
    pattern: "01o111111slmmmmm1001h0nnnnnddddd",
    ...spec(MULTIPLYING),
  }),
  row({
    name: "FMUL_FMULX_element_s_h",
    pattern: "01o1111100lmmmmm1001h0nnnnnddddd",
    feature: FP16,
    slow: true,
    ...spec(MULTIPLYING),
  }),
  row({
    name: "FMLAL_element",
    pattern: "0q00111110lmmmmm0o00h0nnnnnddddd",
    feature: "FEAT_FHM",
    slow: true,
    ...longSpec(0),
  }),
  row({
    name: "FMLAL2_element",
    pattern: "0q10111110lmmmmm1o00h0nnnnnddddd",
    feature: "FEAT_FHM",
    slow: true,
    ...longSpec(1),
  }),
  row({
    name: "FCMLA_element_h",
    pattern: "0q10111101lmmmmm0rr1h0nnnnnddddd",
    feature: "FEAT_FCMA",
    slow: true,
    ...complexSpec(16),
  }),
  row({
    name: "FCMLA_element_s",
    pattern: "0q10111110lmmmmm0rr1h0nnnnnddddd",
    feature: "FEAT_FCMA",
    ...complexSpec(32),
  }),
];
