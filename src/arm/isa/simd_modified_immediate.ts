/** Advanced SIMD modified immediate (manual: C4.1.96): MOVI, MVNI, ORR, BIC, FMOV. */
import { type Row, vr } from "./row.ts";
import { vectorRow, vectorText, write } from "./simd_rows.ts";
import { andNot, or } from "./simd_lanes.ts";
import { hex } from "./text.ts";

interface Fields {
  readonly q: number;
  /** op: inverted, BIC, or of the 64-bit forms. */
  readonly o: number;
  /** The upper 3 and lower 5 bits of imm8. */
  readonly a: number;
  readonly e: number;
  /** The bits of cmode that choose a shift. */
  readonly x: number;
  readonly d: number;
}

function imm8(f: Fields): number {
  return (f.a << 5) | f.e;
}

function repeated(value: bigint, bits: number): bigint {
  let out = 0n;
  for (let at = 0; at < 64; at += bits) out |= value << BigInt(at);
  return out;
}

/** Bits of the formats' exponent and fraction. */
const FORMATS = { 16: [5, 10], 32: [8, 23], 64: [11, 52] } as const;

/** An 8-bit floating-point constant in a format of `bits` bits. Manual: VFPExpandImm(). */
function expandFloat(imm: number, bits: 16 | 32 | 64): bigint {
  const [exponentBits, fractionBits] = FORMATS[bits];
  const sign = BigInt(imm >> 7);
  const top = BigInt((imm >> 6) & 1);
  const middle = top ? (1n << BigInt(exponentBits - 3)) - 1n : 0n;
  const exponent = ((1n - top) << BigInt(exponentBits - 1)) | (middle << 2n) |
    BigInt((imm >> 4) & 3);
  const fraction = BigInt(imm & 15) << BigInt(fractionBits - 4);
  return (sign << BigInt(bits - 1)) | (exponent << BigInt(fractionBits)) | fraction;
}

/** The same constant as objdump prints it. */
function floatText(imm: number): string {
  const exponent = (imm & 0x40 ? -3 : 1) + ((imm >> 4) & 3);
  const value = (1 + (imm & 15) / 16) * 2 ** exponent * (imm & 0x80 ? -1 : 1);
  return `#${value.toExponential(18).replace(/e([+-])(\d)$/, "e$10$2")}`;
}

/** The bits of `bits` that are all ones where the immediate's bit is. */
function byteMask(imm: number): bigint {
  let mask = 0n;
  for (let i = 0; i < 8; i++) if ((imm >> i) & 1) mask |= 0xffn << BigInt(8 * i);
  return mask;
}

type Operation = "mov" | "orr" | "bic";

interface Spec {
  readonly name: string;
  /** op, cmode and o2 with the letters of the fields. */
  readonly op: string;
  readonly cmode: string;
  readonly o2?: string;
  readonly only128?: boolean;
  readonly operation: (f: Fields) => Operation;
  /** 64 bits, repeated. */
  readonly value: (f: Fields) => bigint;
  readonly text: (f: Fields) => string;
}

function form(spec: Spec): Row {
  return vectorRow({
    name: spec.name,
    pattern: `0q${spec.op}0111100000aaa${spec.cmode}${spec.o2 ?? "0"}1eeeeeddddd`,
    disassemble: spec.text,
    predecode: (f: Fields) =>
      spec.only128 && f.q === 0 ? null : {
        shape: { operation: spec.operation(f), width: f.q ? 128 : 64 },
        slots: { d: vr(f.d) },
        consts: { value: BigInt.asUintN(64, spec.value(f)) },
      },
    semantics: (b, o, { operation, width }) => {
      b.fpAccess();
      const value = b.splat(64, o.value);
      if (operation === "mov") write(b, width, o.d, value);
      else if (operation === "orr") write(b, width, o.d, or(b, b.q(o.d), value));
      else write(b, width, o.d, andNot(b, b.q(o.d), value));
    },
  });
}

function shiftedText(mnemonics: readonly [string, string], s: number, kind: string) {
  return (f: Fields): string => {
    const amount = kind === "msl" ? 8 << f.x : 8 * f.x;
    const shift = amount ? `, ${kind} #${amount}` : "";
    return `${mnemonics[f.o]}\t${vectorText(f.d, s, f.q)}, ${hex(imm8(f))}${shift}`;
  };
}

/** MOVI and MVNI, or ORR and BIC, of lanes of 16 or 32 bits. */
function shifted(s: 1 | 2, bitwise: boolean): Row {
  const cmode = (s === 1 ? "10x" : "0xx") + (bitwise ? "1" : "0");
  const lanes = (f: Fields) => repeated(BigInt(imm8(f)) << BigInt(8 * f.x), 8 << s);
  return form({
    name: `${bitwise ? "ORR_BIC" : "MOVI_MVNI"}_imm_${8 << s}`,
    op: "o",
    cmode,
    operation: (f) => bitwise ? (f.o ? "bic" : "orr") : "mov",
    value: (f) => !bitwise && f.o ? ~lanes(f) : lanes(f),
    text: shiftedText(bitwise ? ["orr", "bic"] : ["movi", "mvni"], s, "lsl"),
  });
}

/** An immediate shifted left, ones coming in. */
function shiftedOnes(f: Fields): bigint {
  const amount = BigInt(8 << f.x);
  return repeated((BigInt(imm8(f)) << amount) | ((1n << amount) - 1n), 32);
}

export const simdModifiedImmediate: readonly Row[] = [
  shifted(2, false),
  shifted(2, true),
  shifted(1, false),
  shifted(1, true),
  form({
    name: "MOVI_MVNI_imm_msl",
    op: "o",
    cmode: "110x",
    operation: () => "mov",
    value: (f) => f.o ? ~shiftedOnes(f) : shiftedOnes(f),
    text: shiftedText(["movi", "mvni"], 2, "msl"),
  }),
  form({
    name: "MOVI_imm_8",
    op: "0",
    cmode: "1110",
    operation: () => "mov",
    value: (f) => repeated(BigInt(imm8(f)), 8),
    text: (f) => `movi\t${vectorText(f.d, 0, f.q)}, ${hex(imm8(f))}`,
  }),
  form({
    name: "MOVI_imm_64",
    op: "1",
    cmode: "1110",
    operation: () => "mov",
    value: (f) => byteMask(imm8(f)),
    text: (f) => `movi\t${f.q ? vectorText(f.d, 3, 1) : `d${f.d}`}, ${hex(byteMask(imm8(f)))}`,
  }),
  form({
    name: "FMOV_imm_v_32",
    op: "0",
    cmode: "1111",
    operation: () => "mov",
    value: (f) => repeated(expandFloat(imm8(f), 32), 32),
    text: (f) => `fmov\t${vectorText(f.d, 2, f.q)}, ${floatText(imm8(f))}`,
  }),
  form({
    name: "FMOV_imm_v_64",
    op: "1",
    cmode: "1111",
    only128: true,
    operation: () => "mov",
    value: (f) => expandFloat(imm8(f), 64),
    text: (f) => `fmov\t${vectorText(f.d, 3, f.q)}, ${floatText(imm8(f))}`,
  }),
  {
    ...form({
      name: "FMOV_imm_v_16",
      op: "0",
      cmode: "1111",
      o2: "1",
      operation: () => "mov",
      value: (f) => repeated(expandFloat(imm8(f), 16), 16),
      text: (f) => `fmov\t${vectorText(f.d, 1, f.q)}, ${floatText(imm8(f))}`,
    }),
    feature: "FEAT_FP16",
  },
];
