/**
 * Conversions between floating-point and general registers, and FMOV between them (manual: C4.1.96,
 * "Conversion between floating-point and integer" and "and fixed-point").
 */
import type { FpSize, Rounding } from "../fp/format.ts";
import type { Builder, Slot, V64 } from "./builder.ts";
import { element, fpReg, setElement, sizeOfType } from "./fp_operand.ts";
import { read, write } from "./operand.ts";
import { type Row, row, vr, xr, xw } from "./row.ts";
import { reg } from "./text.ts";

type Typed = { readonly t?: number };

interface Fields extends Typed {
  readonly s: number;
  /** Rounding mode (integers only), and unsigned. */
  readonly r?: number;
  readonly u: number;
  /** Fixed point: 64 - the fraction bits. */
  readonly a?: number;
  readonly n: number;
  readonly d: number;
}

const ROUNDINGS = [["n", "even"], ["p", "up"], ["m", "down"], ["z", "zero"]] as const;

/** FPCR does not count here, and FCVTZ is the only one with fraction bits. */
function roundingOf(f: Fields): readonly [letter: string, Rounding] {
  return ROUNDINGS[f.r ?? 3] as (typeof ROUNDINGS)[number];
}

/** Fraction bits; null where W registers have none so many. */
function fractionOf(f: Fields): number | null {
  if (f.a === undefined) return 0;
  return f.s === 0 && f.a < 32 ? null : 64 - f.a;
}

function fractionText(f: Fields): string {
  return f.a === undefined ? "" : `, #${64 - f.a}`;
}

type ToShape = { size: FpSize; sf: number; unsigned: number; rounding: Rounding; fixed: boolean };

/** FCVTNS to FCVTZU; `away` makes them FCVTAS and FCVTAU. */
function toInteger(away = false) {
  const rounding = (f: Fields): readonly [string, Rounding] => away ? ["a", "away"] : roundingOf(f);
  return {
    disassemble: (f: Fields) => {
      const name = `fcvt${rounding(f)[0]}${f.u ? "u" : "s"}`;
      return `${name}\t${reg(f.s, f.d)}, ${fpReg(sizeOfType(f), f.n)}${fractionText(f)}`;
    },
    predecode: (f: Fields) => {
      const fraction = fractionOf(f);
      if (fraction === null) return null;
      const fixed = f.a !== undefined;
      const shape: ToShape = {
        size: sizeOfType(f),
        sf: f.s,
        unsigned: f.u,
        rounding: rounding(f)[1],
        fixed,
      };
      return { shape, slots: { d: xw(f.d), n: vr(f.n) }, consts: { fraction: BigInt(fraction) } };
    },
    semantics: (
      b: Builder,
      o: { readonly d: Slot; readonly n: Slot; readonly fraction: V64 },
      { size, sf, unsigned, rounding, fixed }: ToShape,
    ) => {
      b.fpAccess();
      const bits = sf ? 64 : 32;
      const operation = { kind: "toInteger", bits, unsigned: unsigned === 1, rounding } as const;
      const x = element(b, size, o.n);
      const result = fixed ? b.fp(operation, size, x, o.fraction) : b.fp(operation, size, x);
      write(b, sf, o.d, sf ? result : b.wrap(result));
    },
  };
}

type FromShape = { size: FpSize; sf: number; unsigned: number; fixed: boolean };

const fromInteger = {
  disassemble: (f: Fields) => {
    const name = f.u ? "ucvtf" : "scvtf";
    return `${name}\t${fpReg(sizeOfType(f), f.d)}, ${reg(f.s, f.n)}${fractionText(f)}`;
  },
  predecode: (f: Fields) => {
    const fraction = fractionOf(f);
    if (fraction === null) return null;
    const fixed = f.a !== undefined;
    const shape: FromShape = { size: sizeOfType(f), sf: f.s, unsigned: f.u, fixed };
    return { shape, slots: { d: vr(f.d), n: xr(f.n) }, consts: { fraction: BigInt(fraction) } };
  },
  semantics: (
    b: Builder,
    o: { readonly d: Slot; readonly n: Slot; readonly fraction: V64 },
    { size, sf, unsigned, fixed }: FromShape,
  ) => {
    b.fpAccess();
    const operation = {
      kind: "fromInteger",
      bits: sf ? 64 : 32,
      unsigned: unsigned === 1,
    } as const;
    const x = sf ? b.x(o.n) : b.zext(b.w(o.n));
    const result = fixed ? b.fp(operation, size, x, o.fraction) : b.fp(operation, size, x);
    setElement(b, o.d, result);
  },
};

/** FMOV of a whole general register: the sizes of both are the same, but half precision takes either. */
type MoveFields = {
  readonly s: number;
  readonly t?: number;
  readonly n: number;
  readonly d: number;
};

function moveSize(f: MoveFields): FpSize | null {
  if (f.t === undefined) return 16;
  return f.t === f.s ? (f.t ? 64 : 32) : null;
}

const moveFrom = {
  disassemble: (f: MoveFields) => `fmov\t${reg(f.s, f.d)}, ${fpReg(moveSize(f) ?? 0, f.n)}`,
  predecode: (f: MoveFields) => {
    const size = moveSize(f);
    if (size === null) return null;
    return { shape: { size, sf: f.s }, slots: { d: xw(f.d), n: vr(f.n) }, consts: {} };
  },
  semantics: (
    b: Builder,
    o: { readonly d: Slot; readonly n: Slot },
    { size, sf }: { size: FpSize; sf: number },
  ) => {
    b.fpAccess();
    const x = element(b, size, o.n);
    write(b, sf, o.d, sf ? x : b.wrap(x));
  },
};

const moveTo = {
  disassemble: (f: MoveFields) => `fmov\t${fpReg(moveSize(f) ?? 0, f.d)}, ${reg(f.s, f.n)}`,
  predecode: (f: MoveFields) => {
    const size = moveSize(f);
    if (size === null) return null;
    return { shape: { size, sf: f.s }, slots: { d: vr(f.d), n: xr(f.n) }, consts: {} };
  },
  semantics: (
    b: Builder,
    o: { readonly d: Slot; readonly n: Slot },
    { size, sf }: { size: FpSize; sf: number },
  ) => {
    b.fpAccess();
    const value = read(b, sf, o.n);
    const wide = value.type === "i64" ? value : b.zext(value);
    setElement(b, o.d, size === 16 ? b.and(wide, b.c64(0xffff)) : wide);
  },
};

const FP16 = "FEAT_FP16";

export const floatingPointInteger: readonly Row[] = [
  row({ name: "FCVT_int", pattern: "s00111100t1rr00u000000nnnnnddddd", ...toInteger() }),
  row({
    name: "FCVT_int_h",
    pattern: "s0011110111rr00u000000nnnnnddddd",
    feature: FP16,
    slow: true,
    ...toInteger(),
  }),
  row({ name: "FCVTA_int", pattern: "s00111100t10010u000000nnnnnddddd", ...toInteger(true) }),
  row({
    name: "FCVTA_int_h",
    pattern: "s00111101110010u000000nnnnnddddd",
    feature: FP16,
    slow: true,
    ...toInteger(true),
  }),
  row({ name: "SCVTF_UCVTF_int", pattern: "s00111100t10001u000000nnnnnddddd", ...fromInteger }),
  row({
    name: "SCVTF_UCVTF_int_h",
    pattern: "s00111101110001u000000nnnnnddddd",
    feature: FP16,
    slow: true,
    ...fromInteger,
  }),
  row({ name: "FCVTZ_fix", pattern: "s00111100t01100uaaaaaannnnnddddd", ...toInteger() }),
  row({
    name: "FCVTZ_fix_h",
    pattern: "s00111101101100uaaaaaannnnnddddd",
    feature: FP16,
    slow: true,
    ...toInteger(),
  }),
  row({ name: "SCVTF_UCVTF_fix", pattern: "s00111100t00001uaaaaaannnnnddddd", ...fromInteger }),
  row({
    name: "SCVTF_UCVTF_fix_h",
    pattern: "s00111101100001uaaaaaannnnnddddd",
    feature: FP16,
    slow: true,
    ...fromInteger,
  }),
  row({ name: "FMOV_from_v", pattern: "s00111100t100110000000nnnnnddddd", ...moveFrom }),
  row({
    name: "FMOV_from_v_h",
    pattern: "s001111011100110000000nnnnnddddd",
    feature: FP16,
    ...moveFrom,
  }),
  row({ name: "FMOV_to_v", pattern: "s00111100t100111000000nnnnnddddd", ...moveTo }),
  row({
    name: "FMOV_to_v_h",
    pattern: "s001111011100111000000nnnnnddddd",
    feature: FP16,
    ...moveTo,
  }),
  row({
    name: "FMOV_from_v_top",
    pattern: "1001111010101110000000nnnnnddddd",
    disassemble: (f) => `fmov\t${reg(1, f.d)}, v${f.n}.d[1]`,
    predecode: (f) => ({ shape: {}, slots: { d: xw(f.d), n: vr(f.n) }, consts: {} }),
    semantics: (b, o) => {
      b.fpAccess();
      b.setX(o.d, b.v(o.n, 1));
    },
  }),
  row({
    name: "FMOV_to_v_top",
    pattern: "1001111010101111000000nnnnnddddd",
    disassemble: (f) => `fmov\tv${f.d}.d[1], ${reg(1, f.n)}`,
    predecode: (f) => ({ shape: {}, slots: { d: vr(f.d), n: xr(f.n) }, consts: {} }),
    semantics: (b, o) => {
      b.fpAccess();
      b.setV(o.d, b.v(o.d, 0), b.x(o.n));
    },
  }),
  row({
    name: "FJCVTZS",
    pattern: "0001111001111110000000nnnnnddddd",
    feature: "FEAT_JSCVT",
    disassemble: (f) => `fjcvtzs\t${reg(0, f.d)}, ${fpReg(64, f.n)}`,
    predecode: (f) => ({ shape: {}, slots: { d: xw(f.d), n: vr(f.n) }, consts: {} }),
    semantics: (b, o) => {
      b.fpAccess();
      const result = b.fp("jcvt", 64, b.v(o.n, 0));
      const exact = b.wrap(b.shrU(result, b.c64(32)));
      b.setW(o.d, b.wrap(result));
      b.setNzcv(b.shl(exact, b.c32(2)));
    },
  }),
];
