/** Loads and stores of two general registers (manual: C4.1.94, "Load/store register pair"). */
import { signExtend } from "../../base/bits.ts";
import type { Builder, Slot, V64 } from "./builder.ts";
import { type Row, row, xr, xsp, xw } from "./row.ts";
import { offsetAddress, postAddress, preAddress, reg } from "./text.ts";

interface Fields {
  readonly o: number;
  readonly l: number;
  readonly i: number;
  readonly u: number;
  readonly n: number;
  readonly t: number;
}

type Pair = {
  readonly size: 4 | 8;
  readonly load: number;
  readonly signed: boolean;
  readonly sp: boolean;
};

type Operands = { readonly t: Slot; readonly u: Slot; readonly n: Slot; readonly offset: V64 };

function offsetOf(f: Fields): number {
  return signExtend(f.i, 7) * (f.o === 2 ? 8 : 4);
}

/** LDPSW (opc 1) is a load only, and has no non-temporal form. */
function allocated(f: Fields, nonTemporal: boolean): boolean {
  if (f.o === 1) return f.l === 1 && !nonTemporal;
  return f.o !== 3;
}

function predecode(f: Fields, nonTemporal = false) {
  if (!allocated(f, nonTemporal)) return null;
  const slot = f.l ? xw : xr;
  return {
    shape: {
      size: f.o === 2 ? 8 as const : 4 as const,
      load: f.l,
      signed: f.o === 1,
      sp: f.n === 31,
    },
    slots: { t: slot(f.t), u: slot(f.u), n: xsp(f.n) },
    consts: { offset: BigInt(offsetOf(f)) },
  };
}

function text(f: Fields, middle: string, address: string): string {
  const name = `${f.l ? "ld" : "st"}${middle}p${f.o === 1 ? "sw" : ""}`;
  return `${name}\t${reg(f.o !== 0, f.t)}, ${reg(f.o !== 0, f.u)}, ${address}`;
}

/** Where both registers are the same, the first element is what it holds afterwards. */
function access(b: Builder, shape: Pair, o: Operands, address: V64): void {
  const second = b.add(address, b.c64(shape.size));
  if (!shape.load) {
    b.store(address, shape.size, b.x(o.t));
    b.store(second, shape.size, b.x(o.u));
    return;
  }
  const t = b.load(address, shape.size);
  const u = b.load(second, shape.size);
  b.setX(o.u, shape.signed ? b.signExtend(u, 32) : u);
  b.setX(o.t, shape.signed ? b.signExtend(t, 32) : t);
}

function baseOf(b: Builder, shape: Pair, n: Slot): V64 {
  const base = b.x(n);
  if (shape.sp) b.checkSp(base);
  return base;
}

function offsetSemantics(b: Builder, o: Operands, shape: Pair): void {
  access(b, shape, o, b.add(baseOf(b, shape, o.n), o.offset));
}

/** Where a register is also the base, a store stores the old value and a loaded value is lost. */
function writebackSemantics(b: Builder, o: Operands, shape: Pair, post: boolean): void {
  const base = baseOf(b, shape, o.n);
  const moved = b.add(base, o.offset);
  access(b, shape, o, post ? base : moved);
  b.setX(o.n, moved);
}

export const loadsAndStoresPair: readonly Row[] = [
  row({
    name: "LDNP_STNP",
    pattern: "oo1010000liiiiiiiuuuuunnnnnttttt",
    disassemble: (f) => text(f, "n", offsetAddress(f.n, offsetOf(f))),
    predecode: (f) => predecode(f, true),
    semantics: (b, o, shape) => offsetSemantics(b, o, shape),
  }),
  row({
    name: "LDP_STP_post",
    pattern: "oo1010001liiiiiiiuuuuunnnnnttttt",
    disassemble: (f) => text(f, "", postAddress(f.n, offsetOf(f))),
    predecode: (f) => predecode(f),
    semantics: (b, o, shape) => writebackSemantics(b, o, shape, true),
  }),
  row({
    name: "LDP_STP_offset",
    pattern: "oo1010010liiiiiiiuuuuunnnnnttttt",
    disassemble: (f) => text(f, "", offsetAddress(f.n, offsetOf(f))),
    predecode: (f) => predecode(f),
    semantics: (b, o, shape) => offsetSemantics(b, o, shape),
  }),
  row({
    name: "LDP_STP_pre",
    pattern: "oo1010011liiiiiiiuuuuunnnnnttttt",
    disassemble: (f) => text(f, "", preAddress(f.n, offsetOf(f))),
    predecode: (f) => predecode(f),
    semantics: (b, o, shape) => writebackSemantics(b, o, shape, false),
  }),
];
