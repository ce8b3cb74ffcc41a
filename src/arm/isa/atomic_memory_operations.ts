/**
 * Atomic read-modify-write, compare and swap, and the ordered accesses that came after Armv8.0
 * (manual: C4.1.94, "Atomic memory operations", "Compare and swap", "LDAPR/STLR (unscaled
 * immediate)", and the LORegion forms of "Load/store ordered").
 *
 * How an access is ordered makes no difference here: every access is sequentially consistent.
 */
import type { AtomicOp } from "./builder.ts";
import { type Row, row, xr, xsp, xw } from "./row.ts";
import {
  addressText,
  baseOf,
  orderedLoad,
  orderedStore,
  pairSizeOf,
  type Sized,
  sizeOf,
  sizeSuffix,
} from "./sized_access.ts";
import { offsetAddress, reg } from "./text.ts";

interface Ordered extends Sized {
  readonly a: number;
  readonly r: number;
}

function orderSuffix(f: { readonly a: number; readonly r: number }): string {
  return `${f.a ? "a" : ""}${f.r ? "l" : ""}`;
}

const OPERATIONS = ["add", "clear", "xor", "set", "smax", "smin", "umax", "umin"] as const;
const MNEMONICS = ["add", "clr", "eor", "set", "smax", "smin", "umax", "umin"] as const;

/** Without acquire and with the zero register as destination it is a store: STADD. */
function atomicText(f: Ordered & { o: number; t: number; w: number; n: number }): string {
  const operation = MNEMONICS[f.o] as string;
  const wide = f.s === 3;
  if (f.t === 31 && f.a === 0) {
    return addressText(`st${operation}${orderSuffix(f)}${sizeSuffix(f)}`, f.n, reg(wide, f.w));
  }
  const name = `ld${operation}${orderSuffix(f)}${sizeSuffix(f)}`;
  return addressText(name, f.n, reg(wide, f.w), reg(wide, f.t));
}

interface Unscaled extends Sized {
  readonly o: number;
  readonly i: number;
  readonly n: number;
  readonly t: number;
}

function offsetOf(f: Unscaled): number {
  return f.i >= 256 ? f.i - 512 : f.i;
}

/** opc: 0 store, 1 load, 2 sign-extended to 64 bits, 3 to 32; null where unallocated. */
function unscaledName(f: Unscaled): string | null {
  if (f.o < 2) return `${f.o ? "ldapur" : "stlur"}${sizeSuffix(f)}`;
  if (f.s === 3 || (f.s === 2 && f.o === 3)) return null;
  return `ldapurs${"bhw"[f.s]}`;
}

export const atomicMemoryOperations: readonly Row[] = [
  row({
    name: "LD_atomic",
    pattern: "ss111000ar1wwwww0ooo00nnnnnttttt",
    feature: "FEAT_LSE",
    disassemble: atomicText,
    predecode: (f) => ({
      shape: { op: OPERATIONS[f.o] as AtomicOp, size: sizeOf(f), sp: f.n === 31 },
      slots: { w: xr(f.w), t: xw(f.t), n: xsp(f.n) },
      consts: {},
    }),
    semantics: (b, o, { op, size, sp }) =>
      b.setX(o.t, b.atomic(op, baseOf(b, sp, o.n), size, b.x(o.w))),
  }),
  row({
    name: "SWP",
    pattern: "ss111000ar1wwwww100000nnnnnttttt",
    feature: "FEAT_LSE",
    disassemble: (f) =>
      addressText(
        `swp${orderSuffix(f)}${sizeSuffix(f)}`,
        f.n,
        reg(f.s === 3, f.w),
        reg(f.s === 3, f.t),
      ),
    predecode: (f) => ({
      shape: { size: sizeOf(f), sp: f.n === 31 },
      slots: { w: xr(f.w), t: xw(f.t), n: xsp(f.n) },
      consts: {},
    }),
    semantics: (b, o, { size, sp }) =>
      b.setX(o.t, b.atomic("swap", baseOf(b, sp, o.n), size, b.x(o.w))),
  }),
  row({
    name: "CAS",
    pattern: "ss0010001a1wwwwwr11111nnnnnttttt",
    feature: "FEAT_LSE",
    disassemble: (f) =>
      addressText(
        `cas${orderSuffix(f)}${sizeSuffix(f)}`,
        f.n,
        reg(f.s === 3, f.w),
        reg(f.s === 3, f.t),
      ),
    predecode: (f) => ({
      shape: { size: sizeOf(f), sp: f.n === 31 },
      slots: { w: xr(f.w), d: xw(f.w), t: xr(f.t), n: xsp(f.n) },
      consts: {},
    }),
    semantics: (b, o, { size, sp }) => {
      const base = baseOf(b, sp, o.n);
      b.setX(o.d, b.compareAndSwap(base, size, b.x(o.w), b.x(o.t)));
    },
  }),
  row({
    name: "CASP",
    pattern: "0s0010000a1wwwwwr11111nnnnnttttt",
    feature: "FEAT_LSE",
    disassemble: (f) => {
      const pair = [f.w, f.w + 1, f.t, f.t + 1].map((n) => reg(f.s, n));
      return addressText(`casp${orderSuffix(f)}`, f.n, ...pair);
    },
    // Registers come in pairs that begin with an even one; the partner of X30 is XZR.
    predecode: (f) =>
      (f.w | f.t) & 1 ? null : {
        shape: { size: pairSizeOf(f), sp: f.n === 31 },
        slots: { w: xr(f.w), d: xw(f.w + 1), t: xr(f.t), n: xsp(f.n) },
        consts: {},
      },
    semantics: (b, o, { size, sp }) => {
      const base = baseOf(b, sp, o.n);
      const [low, high] = b.compareAndSwapPair(base, size, b.xPair(o.w), b.xPair(o.t));
      b.setX(o.w, low);
      b.setX(o.d, high);
    },
  }),
  row({
    name: "LDAPR",
    pattern: "ss11100010111111110000nnnnnttttt",
    feature: "FEAT_LRCPC",
    ...orderedLoad("ldapr"),
  }),
  row({
    name: "LDAPUR_STLUR",
    pattern: "ss011001oo0iiiiiiiii00nnnnnttttt",
    feature: "FEAT_LRCPC2",
    disassemble: (f) => {
      const register = reg(f.o === 2 || f.s === 3, f.t);
      return `${unscaledName(f)}\t${register}, ${offsetAddress(f.n, offsetOf(f))}`;
    },
    predecode: (f) =>
      unscaledName(f) === null ? null : {
        shape: { size: sizeOf(f), opc: f.o, sp: f.n === 31 },
        slots: { t: f.o === 0 ? xr(f.t) : xw(f.t), n: xsp(f.n) },
        consts: { offset: BigInt(offsetOf(f)) },
      },
    semantics: (b, o, { size, opc, sp }) => {
      const address = b.add(baseOf(b, sp, o.n), o.offset);
      if (opc === 0) return b.store(address, size, b.x(o.t), { ordered: true });
      const value = b.load(address, size, { ordered: true });
      if (opc === 1 || size === 8) return b.setX(o.t, value);
      const extended = b.signExtend(value, (8 * size) as 8 | 16 | 32);
      if (opc === 2) b.setX(o.t, extended);
      else b.setW(o.t, b.wrap(extended));
    },
  }),
  row({
    name: "STLLR",
    pattern: "ss001000100wwwww0uuuuunnnnnttttt",
    feature: "FEAT_LOR",
    ...orderedStore("stllr"),
  }),
  row({
    name: "LDLAR",
    pattern: "ss001000110wwwww0uuuuunnnnnttttt",
    feature: "FEAT_LOR",
    ...orderedLoad("ldlar"),
  }),
];
