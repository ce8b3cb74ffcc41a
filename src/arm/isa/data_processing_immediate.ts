/** Data Processing -- Immediate (manual: C4.1.92). */
import { MASK64, signExtend } from "../../base/bits.ts";
import { bitfieldMask, logicalImmediate } from "./bit_masks.ts";
import type { Builder, Value } from "./builder.ts";
import { read, sized, write } from "./operand.ts";
import { type Row, row, xr, xsp, xw } from "./row.ts";
import { hex, reg, regSp, target } from "./text.ts";

const PAGE_MASK = ~0xfffn & MASK64;

interface MoveWide {
  readonly f: number;
  readonly h: number;
  readonly i: number;
  readonly d: number;
}

/** The value MOVZ (or, inverted, MOVN) writes: 64 bits, the upper half 0 for a W register. */
function wideValue(f: MoveWide, inverted: number | boolean): bigint {
  const value = BigInt(f.i) << BigInt(16 * f.h);
  return BigInt.asUintN(f.f ? 64 : 32, inverted ? ~value : value);
}

function wideText(name: string, f: MoveWide): string {
  const shift = f.h ? `, lsl #${16 * f.h}` : "";
  return `${name}\t${reg(f.f, f.d)}, ${hex(f.i)}${shift}`;
}

/** Whether `value` is one that a single MOVZ or MOVN makes. Manual: MoveWidePreferred(). */
function isMoveWide(value: bigint, width: number): boolean {
  const made = (v: bigint) => {
    for (let shift = 0n; shift < width; shift += 16n) {
      if ((v & ~(0xffffn << shift)) === 0n) return true;
    }
    return false;
  };
  return made(value) || made(BigInt.asUintN(width, ~value));
}

interface Bitfield {
  readonly f: number;
  readonly N: number;
  readonly r: number;
  readonly s: number;
  readonly n: number;
  readonly d: number;
}

function bitfieldAllocated(f: Bitfield): boolean {
  return f.N === f.f && (f.f === 1 || (f.r < 32 && f.s < 32));
}

/** `name rd, rn, #lsb, #width` in the form that inserts (S < R) or the one that extracts. */
function bitfieldText(f: Bitfield, insert: string, extract: string): string {
  const width = f.f ? 64 : 32;
  const [name, lsb, count] = f.s < f.r
    ? [insert, width - f.r, f.s + 1]
    : [extract, f.r, f.s - f.r + 1];
  return `${name}\t${reg(f.f, f.d)}, ${reg(f.f, f.n)}, #${lsb}, #${count}`;
}

function extendText(name: string, f: Bitfield): string {
  return `${name}\t${reg(f.f, f.d)}, ${reg(0, f.n)}`;
}

function shiftText(name: string, f: Bitfield, amount: number): string {
  return `${name}\t${reg(f.f, f.d)}, ${reg(f.f, f.n)}, #${amount}`;
}

function logical(b: Builder, opc: number, x: Value, y: Value): Value {
  return opc === 1 ? b.or(x, y) : opc === 2 ? b.xor(x, y) : b.and(x, y);
}

export const dataProcessingImmediate: readonly Row[] = [
  row({
    name: "ADR",
    pattern: "0ll10000iiiiiiiiiiiiiiiiiiiddddd",
    disassemble: (f, at) =>
      `adr\t${reg(1, f.d)}, ${target(at.address, signExtend((f.i << 2) | f.l, 21))}`,
    predecode: (f) => ({
      shape: {},
      slots: { d: xw(f.d) },
      consts: { offset: BigInt(signExtend((f.i << 2) | f.l, 21)) },
    }),
    semantics: (b, o) => b.setX(o.d, b.add(b.pc(), o.offset)),
  }),
  row({
    name: "ADRP",
    pattern: "1ll10000iiiiiiiiiiiiiiiiiiiddddd",
    disassemble: (f, at) => {
      const page = Number(BigInt(at.address) & PAGE_MASK);
      return `adrp\t${reg(1, f.d)}, ${target(page, signExtend((f.i << 2) | f.l, 21) * 4096)}`;
    },
    predecode: (f) => ({
      shape: {},
      slots: { d: xw(f.d) },
      consts: { offset: BigInt(signExtend((f.i << 2) | f.l, 21)) << 12n },
    }),
    semantics: (b, o) => b.setX(o.d, b.add(b.and(b.pc(), b.c64(PAGE_MASK)), o.offset)),
  }),
  row({
    name: "ADDSUB_imm",
    pattern: "fos100010hiiiiiiiiiiiinnnnnddddd",
    disassemble: (f) => {
      const shift = f.h ? ", lsl #12" : "";
      if (f.o === 0 && f.s === 0 && f.i === 0 && f.h === 0 && (f.d === 31 || f.n === 31)) {
        return `mov\t${regSp(f.f, f.d)}, ${regSp(f.f, f.n)}`;
      }
      if (f.s && f.d === 31) {
        return `${f.o ? "cmp" : "cmn"}\t${regSp(f.f, f.n)}, ${hex(f.i)}${shift}`;
      }
      const name = (f.o ? "sub" : "add") + (f.s ? "s" : "");
      const rd = f.s ? reg(f.f, f.d) : regSp(f.f, f.d);
      return `${name}\t${rd}, ${regSp(f.f, f.n)}, ${hex(f.i)}${shift}`;
    },
    predecode: (f) => ({
      shape: { sf: f.f, sub: f.o, setFlags: f.s },
      slots: { d: f.s ? xw(f.d) : xsp(f.d), n: xsp(f.n) },
      consts: { imm: BigInt(f.h ? f.i << 12 : f.i) },
    }),
    semantics: (b, o, { sf, sub, setFlags }) => {
      const op = sub ? (setFlags ? "subFlags" : "sub") : (setFlags ? "addFlags" : "add");
      write(b, sf, o.d, b[op](read(b, sf, o.n), sized(b, sf, o.imm)));
    },
  }),
  row({
    name: "LOGIC_imm",
    pattern: "foo100100Nrrrrrrssssssnnnnnddddd",
    disassemble: (f) => {
      const imm = logicalImmediate(f.f, f.N, f.r, f.s) ?? 0n;
      if (f.o === 3 && f.d === 31) return `tst\t${reg(f.f, f.n)}, ${hex(imm)}`;
      if (f.o === 1 && f.n === 31 && (f.d === 31 || !isMoveWide(imm, f.f ? 64 : 32))) {
        return `mov\t${regSp(f.f, f.d)}, ${hex(imm)}`;
      }
      const rd = f.o === 3 ? reg(f.f, f.d) : regSp(f.f, f.d);
      return `${["and", "orr", "eor", "ands"][f.o]}\t${rd}, ${reg(f.f, f.n)}, ${hex(imm)}`;
    },
    predecode: (f) => {
      const imm = logicalImmediate(f.f, f.N, f.r, f.s);
      if (imm === null) return null;
      return {
        shape: { sf: f.f, opc: f.o },
        slots: { d: f.o === 3 ? xw(f.d) : xsp(f.d), n: xr(f.n) },
        consts: { imm },
      };
    },
    semantics: (b, o, { sf, opc }) => {
      const result = logical(b, opc, read(b, sf, o.n), sized(b, sf, o.imm));
      write(b, sf, o.d, opc === 3 ? b.logicFlags(result) : result);
    },
  }),
  row({
    name: "MOVN",
    pattern: "f00100101hhiiiiiiiiiiiiiiiiddddd",
    disassemble: (f) =>
      (f.i === 0 && f.h !== 0) || (f.f === 0 && f.i === 0xffff)
        ? wideText("movn", f)
        : `mov\t${reg(f.f, f.d)}, ${hex(wideValue(f, true))}`,
    predecode: (f) => {
      if (f.f === 0 && f.h > 1) return null;
      return { shape: {}, slots: { d: xw(f.d) }, consts: { imm: wideValue(f, true) } };
    },
    semantics: (b, o) => b.setX(o.d, o.imm),
  }),
  row({
    name: "MOVZ",
    pattern: "f10100101hhiiiiiiiiiiiiiiiiddddd",
    disassemble: (f) =>
      f.i === 0 && f.h !== 0
        ? wideText("movz", f)
        : `mov\t${reg(f.f, f.d)}, ${hex(wideValue(f, false))}`,
    predecode: (f) => {
      if (f.f === 0 && f.h > 1) return null;
      return { shape: {}, slots: { d: xw(f.d) }, consts: { imm: wideValue(f, false) } };
    },
    semantics: (b, o) => b.setX(o.d, o.imm),
  }),
  row({
    name: "MOVK",
    pattern: "f11100101hhiiiiiiiiiiiiiiiiddddd",
    disassemble: (f) => wideText("movk", f),
    predecode: (f) => {
      if (f.f === 0 && f.h > 1) return null;
      const field = 0xffffn << BigInt(16 * f.h);
      return {
        shape: {},
        slots: { d: xw(f.d), old: xr(f.d) },
        consts: { imm: wideValue(f, false), keep: BigInt.asUintN(f.f ? 64 : 32, ~field) },
      };
    },
    semantics: (b, o) => b.setX(o.d, b.or(b.and(b.x(o.old), o.keep), o.imm)),
  }),
  row({
    name: "SBFM",
    pattern: "f00100110Nrrrrrrssssssnnnnnddddd",
    disassemble: (f) => {
      if (f.s === (f.f ? 63 : 31)) return shiftText("asr", f, f.r);
      if (f.r === 0 && f.s === 7) return extendText("sxtb", f);
      if (f.r === 0 && f.s === 15) return extendText("sxth", f);
      if (f.r === 0 && f.s === 31) return extendText("sxtw", f);
      return bitfieldText(f, "sbfiz", "sbfx");
    },
    predecode: (f) => {
      if (!bitfieldAllocated(f)) return null;
      const left = (f.f ? 63 : 31) - f.s;
      return {
        shape: { sf: f.f },
        slots: { d: xw(f.d), n: xr(f.n) },
        consts: {
          left: BigInt(left),
          right: BigInt(f.s >= f.r ? left + f.r : f.r - f.s - 1),
        },
      };
    },
    semantics: (b, o, { sf }) => {
      const top = b.shl(read(b, sf, o.n), sized(b, sf, o.left));
      write(b, sf, o.d, b.shrS(top, sized(b, sf, o.right)));
    },
  }),
  row({
    name: "BFM",
    pattern: "f01100110Nrrrrrrssssssnnnnnddddd",
    disassemble: (f) =>
      f.s < f.r && f.n === 31
        ? `bfc\t${reg(f.f, f.d)}, #${(f.f ? 64 : 32) - f.r}, #${f.s + 1}`
        : bitfieldText(f, "bfi", "bfxil"),
    predecode: (f) => {
      if (!bitfieldAllocated(f)) return null;
      return {
        shape: { sf: f.f },
        slots: { d: xw(f.d), old: xr(f.d), n: xr(f.n) },
        consts: { rotate: BigInt(f.r), mask: bitfieldMask(f.f, f.r, f.s) },
      };
    },
    semantics: (b, o, { sf }) => {
      const mask = sized(b, sf, o.mask);
      const inserted = b.and(b.rotr(read(b, sf, o.n), sized(b, sf, o.rotate)), mask);
      write(b, sf, o.d, b.or(b.and(read(b, sf, o.old), b.not(mask)), inserted));
    },
  }),
  row({
    name: "UBFM",
    pattern: "f10100110Nrrrrrrssssssnnnnnddddd",
    disassemble: (f) => {
      const top = f.f ? 63 : 31;
      if (f.s === top) return shiftText("lsr", f, f.r);
      if (f.s + 1 === f.r) return shiftText("lsl", f, top - f.s);
      if (f.f === 0 && f.r === 0 && f.s === 7) return extendText("uxtb", f);
      if (f.f === 0 && f.r === 0 && f.s === 15) return extendText("uxth", f);
      return bitfieldText(f, "ubfiz", "ubfx");
    },
    predecode: (f) => {
      if (!bitfieldAllocated(f)) return null;
      return {
        shape: { sf: f.f },
        slots: { d: xw(f.d), n: xr(f.n) },
        consts: { rotate: BigInt(f.r), mask: bitfieldMask(f.f, f.r, f.s) },
      };
    },
    semantics: (b, o, { sf }) => {
      const rotated = b.rotr(read(b, sf, o.n), sized(b, sf, o.rotate));
      write(b, sf, o.d, b.and(rotated, sized(b, sf, o.mask)));
    },
  }),
  row({
    name: "EXTR",
    pattern: "f00100111N0mmmmmssssssnnnnnddddd",
    disassemble: (f) =>
      f.n === f.m
        ? `ror\t${reg(f.f, f.d)}, ${reg(f.f, f.n)}, #${f.s}`
        : `extr\t${reg(f.f, f.d)}, ${reg(f.f, f.n)}, ${reg(f.f, f.m)}, #${f.s}`,
    predecode: (f) => {
      if (f.N !== f.f || (f.f === 0 && f.s >= 32)) return null;
      return {
        shape: { sf: f.f },
        slots: { d: xw(f.d), n: xr(f.n), m: xr(f.m) },
        consts: { right: BigInt(f.s), left: BigInt((f.f ? 63 : 31) - f.s) },
      };
    },
    semantics: (b, o, { sf }) => {
      const low = b.shrU(read(b, sf, o.m), sized(b, sf, o.right));
      // In two steps: an amount of the full width must give 0, and shifts are modulo the width.
      const doubled = b.shl(read(b, sf, o.n), sized(b, sf, b.c64(1)));
      write(b, sf, o.d, b.or(low, b.shl(doubled, sized(b, sf, o.left))));
    },
  }),
];
