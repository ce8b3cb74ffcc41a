/** Loads and stores of one general register (manual: C4.1.94). */
import { signExtend } from "../../base/bits.ts";
import type { AccessOptions, AccessSize, Builder, Slot, V64 } from "./builder.ts";
import { type Row, row, xr, xsp, xw } from "./row.ts";
import {
  offsetAddress,
  postAddress,
  preAddress,
  prefetchOperation,
  reg,
  registerAddress,
  target,
} from "./text.ts";

/** What is done with the value: zero-extended, or sign-extended to 64 or 32 bits. */
type Operation = "store" | "load" | "loadSignedX" | "loadSignedW" | "prefetch";

type Access = {
  readonly size: AccessSize;
  readonly operation: Operation;
  /** Whether the base is SP, whose alignment is checked. */
  readonly sp: boolean;
};

interface Fields {
  /** Logarithm of the size. */
  readonly s: number;
  /** opc. */
  readonly o: number;
  readonly n: number;
  readonly t: number;
}

function operationOf(f: Fields): Operation | null {
  if (f.o === 0) return "store";
  if (f.o === 1) return "load";
  if (f.o === 2) return f.s === 3 ? "prefetch" : "loadSignedX";
  return f.s < 2 ? "loadSignedW" : null;
}

function accessOf(f: Fields): Access | null {
  const operation = operationOf(f);
  if (operation === null) return null;
  return { size: (1 << f.s) as AccessSize, operation, sp: f.n === 31 };
}

function valueSlot(f: Fields): number {
  return f.o === 0 ? xr(f.t) : xw(f.t);
}

const SUFFIXES = ["b", "h", "w", ""] as const;

/** `stem` is `ldr`, `ldur` or `ldtr` without the `ld`: `r`, `ur`, `tr`. */
function nameOf(f: Fields, stem: string): string {
  if (f.o === 2 && f.s === 3) return stem === "ur" ? "prfum" : "prfm";
  const signed = f.o >= 2 ? "s" : "";
  const suffix = signed || f.s < 2 ? SUFFIXES[f.s] : "";
  return `${f.o === 0 ? "st" : "ld"}${stem}${signed}${suffix}`;
}

function registerOf(f: Fields): string {
  if (f.o === 2 && f.s === 3) return prefetchOperation(f.t);
  return reg(f.o === 2 || (f.o < 2 && f.s === 3), f.t);
}

function textOf(f: Fields, stem: string, address: string): string {
  return `${nameOf(f, stem)}\t${registerOf(f)}, ${address}`;
}

/** Makes the access at `address`; for a load, the value is written to `t`. */
function access(
  b: Builder,
  { size, operation }: Access,
  t: Slot,
  address: V64,
  options: AccessOptions = {},
): void {
  if (operation === "prefetch") return b.prefetch(address);
  if (operation === "store") return b.store(address, size, b.x(t), options);
  const value = b.load(address, size, options);
  if (operation === "load") return b.setX(t, value);
  const extended = b.signExtend(value, (8 * size) as 8 | 16 | 32);
  if (operation === "loadSignedX") b.setX(t, extended);
  else b.setW(t, b.wrap(extended));
}

/** The base register's value, with the SP alignment check where it is SP. */
function baseOf(b: Builder, { sp, operation }: Access, n: Slot): V64 {
  const base = b.x(n);
  if (sp && operation !== "prefetch") b.checkSp(base);
  return base;
}

type Immediate = { readonly t: Slot; readonly n: Slot; readonly offset: V64 };

function immediatePredecode(f: Fields, offset: number) {
  const shape = accessOf(f);
  if (shape === null) return null;
  return {
    shape,
    slots: { t: valueSlot(f), n: xsp(f.n) },
    consts: { offset: BigInt(offset) },
  };
}

function immediateSemantics(
  b: Builder,
  o: Immediate,
  shape: Access,
  options: AccessOptions = {},
): void {
  access(b, shape, o.t, b.add(baseOf(b, shape, o.n), o.offset), options);
}

function writebackPredecode(f: Fields & { readonly i: number }) {
  if (f.o === 2 && f.s === 3) return null;
  return immediatePredecode(f, signExtend(f.i, 9));
}

/** Where the register is also the base, a store stores the old value and a loaded value is lost. */
function writebackSemantics(b: Builder, o: Immediate, shape: Access, post: boolean): void {
  const base = baseOf(b, shape, o.n);
  const moved = b.add(base, o.offset);
  access(b, shape, o.t, post ? base : moved);
  b.setX(o.n, moved);
}

type Indexed = { readonly t: Slot; readonly n: Slot; readonly m: Slot; readonly shift: V64 };

function indexedPredecode(f: Fields & { readonly m: number; readonly S: number }) {
  const shape = accessOf(f);
  if (shape === null) return null;
  return {
    shape,
    slots: { t: valueSlot(f), n: xsp(f.n), m: xr(f.m) },
    consts: { shift: BigInt(f.S ? f.s : 0) },
  };
}

function indexedSemantics(b: Builder, o: Indexed, shape: Access, index: V64): void {
  access(b, shape, o.t, b.add(baseOf(b, shape, o.n), b.shl(index, o.shift)));
}

function indexedText(
  f: Fields & { readonly m: number; readonly S: number },
  option: number,
): string {
  return textOf(f, "r", registerAddress(f, option, f.S, f.s));
}

const LITERALS = [
  { size: 4, operation: "load", name: "ldr" },
  { size: 8, operation: "load", name: "ldr" },
  { size: 4, operation: "loadSignedX", name: "ldrsw" },
  { size: 1, operation: "prefetch", name: "prfm" },
] as const;

export const loadsAndStores: readonly Row[] = [
  row({
    name: "LDST_uimm",
    pattern: "ss111001ooiiiiiiiiiiiinnnnnttttt",
    disassemble: (f) => textOf(f, "r", offsetAddress(f.n, f.i << f.s)),
    predecode: (f) => immediatePredecode(f, f.i << f.s),
    semantics: (b, o, shape) => immediateSemantics(b, o, shape),
  }),
  row({
    name: "LDST_unscaled",
    pattern: "ss111000oo0iiiiiiiii00nnnnnttttt",
    disassemble: (f) => textOf(f, "ur", offsetAddress(f.n, signExtend(f.i, 9))),
    predecode: (f) => immediatePredecode(f, signExtend(f.i, 9)),
    semantics: (b, o, shape) => immediateSemantics(b, o, shape),
  }),
  row({
    name: "LDST_unpriv",
    pattern: "ss111000oo0iiiiiiiii10nnnnnttttt",
    disassemble: (f) => textOf(f, "tr", offsetAddress(f.n, signExtend(f.i, 9))),
    predecode: writebackPredecode,
    semantics: (b, o, shape) => immediateSemantics(b, o, shape, { unprivileged: true }),
  }),
  row({
    name: "LDST_post",
    pattern: "ss111000oo0iiiiiiiii01nnnnnttttt",
    disassemble: (f) => textOf(f, "r", postAddress(f.n, signExtend(f.i, 9))),
    predecode: writebackPredecode,
    semantics: (b, o, shape) => writebackSemantics(b, o, shape, true),
  }),
  row({
    name: "LDST_pre",
    pattern: "ss111000oo0iiiiiiiii11nnnnnttttt",
    disassemble: (f) => textOf(f, "r", preAddress(f.n, signExtend(f.i, 9))),
    predecode: writebackPredecode,
    semantics: (b, o, shape) => writebackSemantics(b, o, shape, false),
  }),
  row({
    name: "LDST_reg_lsl",
    pattern: "ss111000oo1mmmmm011S10nnnnnttttt",
    disassemble: (f) => indexedText(f, 3),
    predecode: indexedPredecode,
    semantics: (b, o, shape) => indexedSemantics(b, o, shape, b.x(o.m)),
  }),
  row({
    name: "LDST_reg_uxtw",
    pattern: "ss111000oo1mmmmm010S10nnnnnttttt",
    disassemble: (f) => indexedText(f, 2),
    predecode: indexedPredecode,
    semantics: (b, o, shape) => indexedSemantics(b, o, shape, b.zext(b.w(o.m))),
  }),
  row({
    name: "LDST_reg_sxtw",
    pattern: "ss111000oo1mmmmm110S10nnnnnttttt",
    disassemble: (f) => indexedText(f, 6),
    predecode: indexedPredecode,
    semantics: (b, o, shape) => indexedSemantics(b, o, shape, b.sext(b.w(o.m))),
  }),
  row({
    name: "LDST_reg_sxtx",
    pattern: "ss111000oo1mmmmm111S10nnnnnttttt",
    disassemble: (f) => indexedText(f, 7),
    predecode: indexedPredecode,
    semantics: (b, o, shape) => indexedSemantics(b, o, shape, b.x(o.m)),
  }),
  row({
    name: "LDR_literal",
    pattern: "oo011000iiiiiiiiiiiiiiiiiiittttt",
    disassemble: (f, at) => {
      const name = LITERALS[f.o]?.name;
      const register = f.o === 3 ? prefetchOperation(f.t) : reg(f.o !== 0, f.t);
      return `${name}\t${register}, ${target(at.address, signExtend(f.i, 19) * 4)}`;
    },
    predecode: (f) => {
      const { size, operation } = LITERALS[f.o] as (typeof LITERALS)[number];
      return {
        shape: { size, operation, sp: false },
        slots: { t: xw(f.t) },
        consts: { offset: BigInt(signExtend(f.i, 19) * 4) },
      };
    },
    semantics: (b, o, shape) => access(b, shape, o.t, b.add(b.pc(), o.offset)),
  }),
];
