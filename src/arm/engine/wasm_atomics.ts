/**
 * Atomic accesses as several threads need them: what generated code does for LSE atomics, exclusives,
 * acquire and release, and barriers while physical CPUs run in their own workers. WebAssembly has no
 * atomic access of 16 bytes: those exclude one another by a lock word.
 */
import type { AccessSize, AtomicOp } from "../isa/builder.ts";
import { type FunctionBody, I64, type ValType } from "./wasm_assembler.ts";

/**
 * Byte address of the word that is not 0 while a 16-byte access is being made: in the memory's first
 * page, where nothing else lies.
 */
export const PAIR_LOCK = 32;

/** Opcodes behind the 0xfe prefix: those of the i32 form, from which the i64 ones follow. */
const BASE = {
  load: 0x10,
  store: 0x17,
  add: 0x1e,
  clear: 0x2c,
  set: 0x33,
  xor: 0x3a,
  swap: 0x41,
  cmpxchg: 0x48,
} as const;

/** Where the i64 forms of each size are, from the i32 form, of read-modify-writes. */
const RMW: Readonly<Record<AccessSize, number>> = { 8: 1, 1: 4, 2: 5, 4: 6 };
const LOAD_STORE: Readonly<Record<AccessSize, number>> = { 8: 1, 1: 4, 2: 5, 4: 6 };

function opcode(name: keyof typeof BASE, size: AccessSize): number {
  const forms = name === "load" || name === "store" ? LOAD_STORE : RMW;
  return BASE[name] + forms[size];
}

/** On the stack: the address. Pushes the value, zero-extended; an acquire. */
export function atomicLoad(asm: FunctionBody, size: AccessSize): void {
  asm.atomic(opcode("load", size), Math.log2(size));
}

/** On the stack: the address, the value; a release, ordered with later acquires too. */
export function atomicStore(asm: FunctionBody, size: AccessSize): void {
  asm.atomic(opcode("store", size), Math.log2(size));
}

/** A read-modify-write at the address in local `at` with the operand in local `operand` (i64); pushes the old value, zero-extended. */
export function atomicUpdate(
  asm: FunctionBody,
  op: AtomicOp,
  size: AccessSize,
  at: number,
  operand: number,
  temporary: (type: ValType) => number,
): void {
  if (op === "smax" || op === "smin" || op === "umax" || op === "umin") {
    return minMax(asm, op, size, at, operand, temporary(I64));
  }
  asm.get(at).get(operand);
  if (op === "clear") asm.i64(-1n).op("i64.xor");
  asm.atomic(opcode(op, size), Math.log2(size));
}

/** Pushes a local's low `size` bytes, extended as they are compared. */
function pushExtended(asm: FunctionBody, local: number, size: AccessSize, signed: boolean): void {
  asm.get(local);
  if (size === 8) return;
  if (signed) asm.op(`i64.extend${(8 * size) as 8 | 16 | 32}_s`);
  else asm.i64((1n << BigInt(8 * size)) - 1n).op("i64.and");
}

/** There is no such read-modify-write: tried until nobody has come between. */
function minMax(
  asm: FunctionBody,
  op: "smax" | "smin" | "umax" | "umin",
  size: AccessSize,
  at: number,
  operand: number,
  old: number,
): void {
  const signed = op === "smax" || op === "smin";
  const max = op === "smax" || op === "umax";
  asm.get(at);
  atomicLoad(asm, size);
  asm.set(old).loop("again");
  asm.get(at).get(old).get(operand).get(old);
  pushExtended(asm, old, size, signed);
  pushExtended(asm, operand, size, signed);
  asm.op(signed ? "i64.lt_s" : "i64.lt_u");
  if (!max) asm.op("i32.eqz");
  asm.op("select");
  if (size !== 8) asm.i64((1n << BigInt(8 * size)) - 1n).op("i64.and");
  asm.cmpxchg(size).get(old).op("i64.ne").if();
  asm.get(at);
  atomicLoad(asm, size);
  asm.set(old).br("again").end();
  asm.end();
  asm.get(old);
}

/** Takes the lock of 16-byte accesses. Between this and {@link unlockPair} nothing may leave. */
export function lockPair(asm: FunctionBody): void {
  asm.loop("locked").i32(PAIR_LOCK).i32(0).i32(1).atomic(BASE.cmpxchg, 2).brIf("locked").end();
}

export function unlockPair(asm: FunctionBody): void {
  asm.i32(PAIR_LOCK).i32(0).atomic(BASE.store, 2);
}
