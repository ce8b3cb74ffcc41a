/** Loads and stores of whole FP/SIMD registers (manual: C4.1.94). */
import { signExtend } from "../../base/bits.ts";
import type { AccessSize, Builder, Slot, V128, V64 } from "./builder.ts";
import { type Row, row, vr, xr, xsp } from "./row.ts";
import { offsetAddress, postAddress, preAddress, registerAddress, target } from "./text.ts";

interface Fields {
  readonly s: number;
  /** Upper bit of opc: with size 0, a Q register. */
  readonly q: number;
  readonly l: number;
  readonly n: number;
  readonly t: number;
}

type VectorSize = AccessSize | 16;

type Access = {
  readonly size: VectorSize;
  readonly load: number;
  readonly sp: boolean;
};

/** Logarithm of the size in bytes, 0 to 4; null where unallocated. */
function scaleOf(f: { readonly s: number; readonly q: number }): number | null {
  if (f.q === 0) return f.s;
  return f.s === 0 ? 4 : null;
}

/** For text and offsets, where `predecode` has already rejected the unallocated ones. */
function scale(f: { readonly s: number; readonly q: number }): number {
  return scaleOf(f) ?? 0;
}

function vreg(log2: number, n: number): string {
  return `${"bhsdq"[log2]}${n}`;
}

function textOf(f: Fields, stem: string, address: string): string {
  return `${f.l ? "ld" : "st"}${stem}\t${vreg(scale(f), f.t)}, ${address}`;
}

function baseOf(b: Builder, sp: boolean, n: Slot): V64 {
  const base = b.x(n);
  if (sp) b.checkSp(base);
  return base;
}

/** The value in memory, with zeros above it. */
function load(b: Builder, address: V64, size: VectorSize): V128 {
  return size === 16 ? b.loadQ(address) : b.v128(b.load(address, size), b.c64(0));
}

function store(b: Builder, address: V64, size: VectorSize, v: Slot): void {
  if (size === 16) b.storeQ(address, b.q(v));
  else b.store(address, size, b.v(v, 0));
}

function access(b: Builder, shape: Access, t: Slot, address: V64): void {
  if (shape.load) b.setQ(t, load(b, address, shape.size));
  else store(b, address, shape.size, t);
}

type Immediate = { readonly t: Slot; readonly n: Slot; readonly offset: V64 };

function immediatePredecode(f: Fields, offset: (scale: number) => number) {
  const log2 = scaleOf(f);
  if (log2 === null) return null;
  return {
    shape: { size: (1 << log2) as VectorSize, load: f.l, sp: f.n === 31 },
    slots: { t: vr(f.t), n: xsp(f.n) },
    consts: { offset: BigInt(offset(log2)) },
  };
}

function immediateSemantics(b: Builder, o: Immediate, shape: Access): void {
  b.fpAccess();
  access(b, shape, o.t, b.add(baseOf(b, shape.sp, o.n), o.offset));
}

function writebackSemantics(b: Builder, o: Immediate, shape: Access, post: boolean): void {
  b.fpAccess();
  const base = baseOf(b, shape.sp, o.n);
  const moved = b.add(base, o.offset);
  access(b, shape, o.t, post ? base : moved);
  b.setX(o.n, moved);
}

type Indexed = { readonly t: Slot; readonly n: Slot; readonly m: Slot; readonly shift: V64 };

function indexedPredecode(f: Fields & { readonly m: number; readonly S: number }) {
  const log2 = scaleOf(f);
  if (log2 === null) return null;
  return {
    shape: { size: (1 << log2) as VectorSize, load: f.l, sp: f.n === 31 },
    slots: { t: vr(f.t), n: xsp(f.n), m: xr(f.m) },
    consts: { shift: BigInt(f.S ? log2 : 0) },
  };
}

function indexedSemantics(b: Builder, o: Indexed, shape: Access, index: V64): void {
  b.fpAccess();
  access(b, shape, o.t, b.add(baseOf(b, shape.sp, o.n), b.shl(index, o.shift)));
}

function indexedText(
  f: Fields & { readonly m: number; readonly S: number },
  option: number,
): string {
  return textOf(f, "r", registerAddress(f, option, f.S, scale(f)));
}

interface PairFields {
  readonly o: number;
  readonly l: number;
  readonly i: number;
  readonly u: number;
  readonly n: number;
  readonly t: number;
}

type Pair = { readonly size: 4 | 8 | 16; readonly load: number; readonly sp: boolean };

type PairOperands = { readonly t: Slot; readonly u: Slot; readonly n: Slot; readonly offset: V64 };

function pairOffset(f: PairFields): number {
  return signExtend(f.i, 7) * (4 << f.o);
}

function pairPredecode(f: PairFields) {
  if (f.o === 3) return null;
  return {
    shape: { size: (4 << f.o) as 4 | 8 | 16, load: f.l, sp: f.n === 31 },
    slots: { t: vr(f.t), u: vr(f.u), n: xsp(f.n) },
    consts: { offset: BigInt(pairOffset(f)) },
  };
}

function pairText(f: PairFields, middle: string, address: string): string {
  const registers = `${vreg(2 + f.o, f.t)}, ${vreg(2 + f.o, f.u)}`;
  return `${f.l ? "ld" : "st"}${middle}p\t${registers}, ${address}`;
}

/** Where both registers are the same, the second element is what it holds afterwards. */
function pairAccess(b: Builder, shape: Pair, o: PairOperands, address: V64): void {
  const second = b.add(address, b.c64(shape.size));
  if (!shape.load) {
    store(b, address, shape.size, o.t);
    store(b, second, shape.size, o.u);
    return;
  }
  const first = load(b, address, shape.size);
  const other = load(b, second, shape.size);
  b.setQ(o.t, first);
  b.setQ(o.u, other);
}

function pairOffsetSemantics(b: Builder, o: PairOperands, shape: Pair): void {
  b.fpAccess();
  pairAccess(b, shape, o, b.add(baseOf(b, shape.sp, o.n), o.offset));
}

function pairWritebackSemantics(b: Builder, o: PairOperands, shape: Pair, post: boolean): void {
  b.fpAccess();
  const base = baseOf(b, shape.sp, o.n);
  const moved = b.add(base, o.offset);
  pairAccess(b, shape, o, post ? base : moved);
  b.setX(o.n, moved);
}

export const loadsAndStoresVector: readonly Row[] = [
  row({
    name: "LDST_v_uimm",
    pattern: "ss111101qliiiiiiiiiiiinnnnnttttt",
    disassemble: (f) => textOf(f, "r", offsetAddress(f.n, f.i << scale(f))),
    predecode: (f) => immediatePredecode(f, (log2) => f.i << log2),
    semantics: (b, o, shape) => immediateSemantics(b, o, shape),
  }),
  row({
    name: "LDST_v_unscaled",
    pattern: "ss111100ql0iiiiiiiii00nnnnnttttt",
    disassemble: (f) => textOf(f, "ur", offsetAddress(f.n, signExtend(f.i, 9))),
    predecode: (f) => immediatePredecode(f, () => signExtend(f.i, 9)),
    semantics: (b, o, shape) => immediateSemantics(b, o, shape),
  }),
  row({
    name: "LDST_v_post",
    pattern: "ss111100ql0iiiiiiiii01nnnnnttttt",
    disassemble: (f) => textOf(f, "r", postAddress(f.n, signExtend(f.i, 9))),
    predecode: (f) => immediatePredecode(f, () => signExtend(f.i, 9)),
    semantics: (b, o, shape) => writebackSemantics(b, o, shape, true),
  }),
  row({
    name: "LDST_v_pre",
    pattern: "ss111100ql0iiiiiiiii11nnnnnttttt",
    disassemble: (f) => textOf(f, "r", preAddress(f.n, signExtend(f.i, 9))),
    predecode: (f) => immediatePredecode(f, () => signExtend(f.i, 9)),
    semantics: (b, o, shape) => writebackSemantics(b, o, shape, false),
  }),
  row({
    name: "LDST_v_reg_lsl",
    pattern: "ss111100ql1mmmmm011S10nnnnnttttt",
    disassemble: (f) => indexedText(f, 3),
    predecode: indexedPredecode,
    semantics: (b, o, shape) => indexedSemantics(b, o, shape, b.x(o.m)),
  }),
  row({
    name: "LDST_v_reg_uxtw",
    pattern: "ss111100ql1mmmmm010S10nnnnnttttt",
    disassemble: (f) => indexedText(f, 2),
    predecode: indexedPredecode,
    semantics: (b, o, shape) => indexedSemantics(b, o, shape, b.zext(b.w(o.m))),
  }),
  row({
    name: "LDST_v_reg_sxtw",
    pattern: "ss111100ql1mmmmm110S10nnnnnttttt",
    disassemble: (f) => indexedText(f, 6),
    predecode: indexedPredecode,
    semantics: (b, o, shape) => indexedSemantics(b, o, shape, b.sext(b.w(o.m))),
  }),
  row({
    name: "LDST_v_reg_sxtx",
    pattern: "ss111100ql1mmmmm111S10nnnnnttttt",
    disassemble: (f) => indexedText(f, 7),
    predecode: indexedPredecode,
    semantics: (b, o, shape) => indexedSemantics(b, o, shape, b.x(o.m)),
  }),
  row({
    name: "LDR_v_literal",
    pattern: "oo011100iiiiiiiiiiiiiiiiiiittttt",
    disassemble: (f, at) =>
      `ldr\t${vreg(2 + f.o, f.t)}, ${target(at.address, signExtend(f.i, 19) * 4)}`,
    predecode: (f) => {
      if (f.o === 3) return null;
      return {
        shape: { size: (4 << f.o) as 4 | 8 | 16, load: 1, sp: false },
        slots: { t: vr(f.t) },
        consts: { offset: BigInt(signExtend(f.i, 19) * 4) },
      };
    },
    semantics: (b, o, shape) => {
      b.fpAccess();
      access(b, shape, o.t, b.add(b.pc(), o.offset));
    },
  }),
  row({
    name: "LDNP_STNP_v",
    pattern: "oo1011000liiiiiiiuuuuunnnnnttttt",
    disassemble: (f) => pairText(f, "n", offsetAddress(f.n, pairOffset(f))),
    predecode: pairPredecode,
    semantics: (b, o, shape) => pairOffsetSemantics(b, o, shape),
  }),
  row({
    name: "LDP_STP_v_post",
    pattern: "oo1011001liiiiiiiuuuuunnnnnttttt",
    disassemble: (f) => pairText(f, "", postAddress(f.n, pairOffset(f))),
    predecode: pairPredecode,
    semantics: (b, o, shape) => pairWritebackSemantics(b, o, shape, true),
  }),
  row({
    name: "LDP_STP_v_offset",
    pattern: "oo1011010liiiiiiiuuuuunnnnnttttt",
    disassemble: (f) => pairText(f, "", offsetAddress(f.n, pairOffset(f))),
    predecode: pairPredecode,
    semantics: (b, o, shape) => pairOffsetSemantics(b, o, shape),
  }),
  row({
    name: "LDP_STP_v_pre",
    pattern: "oo1011011liiiiiiiuuuuunnnnnttttt",
    disassemble: (f) => pairText(f, "", preAddress(f.n, pairOffset(f))),
    predecode: pairPredecode,
    semantics: (b, o, shape) => pairWritebackSemantics(b, o, shape, false),
  }),
];
