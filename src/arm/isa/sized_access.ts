/**
 * What exclusive, ordered and atomic accesses have in common: a size in two bits, a base register without
 * an offset, and the loads and stores that are ordered and nothing else.
 */
import type { AccessSize, Builder, Slot, V64 } from "./builder.ts";
import { xr, xsp, xw } from "./row.ts";
import { offsetAddress, reg } from "./text.ts";

/** The field that says how large an access is: 0 to 3 for 1 to 8 bytes, and of pairs whether 8. */
export interface Sized {
  readonly s: number;
}

/** Bytes of an access. */
export function sizeOf(f: Sized): AccessSize {
  return (1 << f.s) as AccessSize;
}

/** Bytes of each of two. */
export function pairSizeOf(f: Sized): 4 | 8 {
  return f.s ? 8 : 4;
}

/** What a mnemonic ends in. */
export function sizeSuffix(f: Sized): string {
  return ["b", "h", "", ""][f.s] as string;
}

/** The mnemonic, the registers before the address, and the address in register `n`. */
export function addressText(name: string, n: number, ...registers: string[]): string {
  return `${name}\t${[...registers, offsetAddress(n, 0)].join(", ")}`;
}

/** The address in register `n`, which is checked for alignment if it is the stack pointer. */
export function baseOf(b: Builder, sp: boolean, n: Slot): V64 {
  const base = b.x(n);
  if (sp) b.checkSp(base);
  return base;
}

interface OneRegister extends Sized {
  readonly n: number;
  readonly t: number;
}

function oneRegister(mnemonic: string) {
  return (f: OneRegister): string =>
    addressText(`${mnemonic}${sizeSuffix(f)}`, f.n, reg(f.s === 3, f.t));
}

/** An access as a shape. */
interface OrderedShape {
  readonly size: AccessSize;
  readonly sp: boolean;
}

interface OrderedOperands {
  readonly t: Slot;
  readonly n: Slot;
}

/** What rows of loads that are ordered (acquire, or akin to it) have but for name and pattern. */
export function orderedLoad(mnemonic: string) {
  return {
    disassemble: oneRegister(mnemonic),
    predecode: (f: OneRegister) => ({
      shape: { size: sizeOf(f), sp: f.n === 31 },
      slots: { t: xw(f.t), n: xsp(f.n) },
      consts: {},
    }),
    semantics: (b: Builder, o: OrderedOperands, { size, sp }: OrderedShape) =>
      b.setX(o.t, b.load(baseOf(b, sp, o.n), size, { ordered: true })),
  };
}

/** The same of stores (release, or akin to it). */
export function orderedStore(mnemonic: string) {
  return {
    disassemble: oneRegister(mnemonic),
    predecode: (f: OneRegister) => ({
      shape: { size: sizeOf(f), sp: f.n === 31 },
      slots: { t: xr(f.t), n: xsp(f.n) },
      consts: {},
    }),
    semantics: (b: Builder, o: OrderedOperands, { size, sp }: OrderedShape) =>
      b.store(baseOf(b, sp, o.n), size, b.x(o.t), { ordered: true }),
  };
}
