/**
 * The interface an instruction's semantics is written against. Three builders stand behind it: one
 * emits the WebAssembly interpreter, one evaluates directly (the reference), later one translates.
 *
 * Booleans are {@link V32} 0 or 1. Reading a register or memory takes its value at that point.
 */
import type { FpSize } from "../fp/format.ts";
import type { FpOperation } from "../fp/operations.ts";
import type { LaneBits, VectorBinary, VectorShift, VectorTest, VectorUnary } from "./vector_ops.ts";

/** A 32-bit value; which bits, only the builder knows. */
export interface V32 {
  readonly type: "i32";
}

/** A 64-bit value. */
export interface V64 {
  readonly type: "i64";
}

/** A 128-bit vector; lane 0 is the least significant. */
export interface V128 {
  readonly type: "v128";
}

/** A register of the CPU state, from a row's `slots`. */
export interface Slot {
  readonly slot: true;
}

export type AccessSize = 1 | 2 | 4 | 8;

/** What is special about a memory access. */
export interface AccessOptions {
  /** With the permissions of EL0 when at EL1 (or EL2 with E2H and TGE): LDTR, STTR. */
  readonly unprivileged?: boolean;
  /** Load-acquire or store-release. Must be aligned to its size. */
  readonly ordered?: boolean;
  /** Alignment (bytes) that is checked where alignment is checked at all, when it is not the access's own size: pairs and 128-bit. */
  readonly aligned?: 1 | 2 | 4 | 8 | 16;
}

/** What an atomic operation stores, from the old value and the operand (`clear`: old and not operand). */
export type AtomicOp =
  | "swap"
  | "add"
  | "clear"
  | "xor"
  | "set"
  | "smax"
  | "smin"
  | "umax"
  | "umin";

export type ExceptionCall = "svc" | "hvc" | "smc" | "brk" | "hlt";
export type Hint = "nop" | "yield" | "wfe" | "wfi" | "sev" | "sevl";
export type Barrier = "dsb" | "dmb" | "isb" | "sb";
export type BranchKind = "jump" | "call" | "return";

/** A value of either width. Operands of one operation must have the same width: RangeError otherwise. */
export type Value = V32 | V64;

type Binary = <T extends Value>(a: T, b: T) => T;
type Unary = <T extends Value>(a: T) => T;
type Compare = <T extends Value>(a: T, b: T) => V32;

export interface Builder {
  // Constants
  c32(value: number): V32;
  /** From a bigint (modulo 2^64) or a safe integer. */
  c64(value: bigint | number): V64;

  // General registers
  /** All 64 bits of a register slot. */
  x(slot: Slot): V64;
  /** A register and the one after it, which after X30 is the zero register. */
  xPair(slot: Slot): readonly [V64, V64];
  /** The low 32 bits. */
  w(slot: Slot): V32;
  setX(slot: Slot, value: V64): void;
  /** Writes the low 32 bits and clears the rest. */
  setW(slot: Slot, value: V32): void;

  // Arithmetic, modulo 2^32 or 2^64
  add: Binary;
  sub: Binary;
  mul: Binary;
  and: Binary;
  or: Binary;
  xor: Binary;
  /** Shift amounts are taken modulo the width. */
  shl: Binary;
  shrU: Binary;
  shrS: Binary;
  rotr: Binary;
  not: Unary;
  neg: Unary;
  /** Count of leading zeros, of the value's own type. */
  clz: Unary;
  /** UDIV, SDIV: division by zero is 0, the most negative by -1 is itself. */
  udiv: Binary;
  sdiv: Binary;
  /** High 64 bits of the product. */
  umulh(a: V64, b: V64): V64;
  smulh(a: V64, b: V64): V64;
  eq: Compare;
  ne: Compare;
  ltU: Compare;
  ltS: Compare;
  /** 1 if the value is zero. */
  isZero(a: Value): V32;
  /** The first where `condition` is not 0, else the second. Both are evaluated. */
  select<T extends Value | V128>(condition: V32, a: T, b: T): T;
  /** Runs the effects of `then` only where `condition` is not 0. */
  when(condition: V32, then: () => void): void;
  /** Low 32 bits. */
  wrap(a: V64): V32;
  zext(a: V32): V64;
  sext(a: V32): V64;
  /** Sign-extends the low `bits` (8, 16 or 32) within the type. */
  signExtend<T extends Value>(a: T, bits: 8 | 16 | 32): T;

  // Flags
  /** a + b, setting NZCV. */
  addFlags: Binary;
  /** a - b, setting NZCV. */
  subFlags: Binary;
  /** a + b + C (C the carry flag), without and with setting NZCV. SBC is `adc(a, not(b))`. */
  adc: Binary;
  adcFlags: Binary;
  /** The value itself, setting N and Z from it and clearing C and V. */
  logicFlags: Unary;
  /** N, Z, C, V in bits 3 to 0. */
  nzcv(): V32;
  setNzcv(value: V32): void;
  /** 1 if the current NZCV is in the set `mask` (see `conditionMask`). */
  condition(mask: V32): V32;

  // Control flow
  /** Address of this instruction. */
  pc(): V64;
  /** Branches to pc + offset. */
  branch(offset: V64, kind?: BranchKind): void;
  /** Branches to pc + offset where `condition` is not 0. */
  branchIf(condition: V32, offset: V64): void;
  branchTo(target: V64, kind: BranchKind): void;

  // Memory
  /** SP alignment check of a base register that is SP. */
  checkSp(base: V64): void;
  /** `size` bytes, zero-extended. */
  load(address: V64, size: AccessSize, options?: AccessOptions): V64;
  store(address: V64, size: AccessSize, value: V64, options?: AccessOptions): void;
  /** Opens the exclusive monitor. */
  loadExclusive(address: V64, size: AccessSize, options?: AccessOptions): V64;
  /** Two elements of `size` (4 or 8) bytes, aligned to the pair. */
  loadExclusivePair(address: V64, size: 4 | 8, options?: AccessOptions): readonly [V64, V64];
  /** 0 if the store was made, 1 if not. */
  storeExclusive(address: V64, size: AccessSize, value: V64, options?: AccessOptions): V32;
  storeExclusivePair(
    address: V64,
    size: 4 | 8,
    values: readonly [V64, V64],
    options?: AccessOptions,
  ): V32;
  clearExclusive(): void;
  /**
   * Atomic read-modify-write of `size` bytes, always aligned; needs permission to read and to write.
   * Returns the old value, zero-extended. Like a store it breaks other CPUs' monitors.
   */
  atomic(op: AtomicOp, address: V64, size: AccessSize, operand: V64): V64;
  /** The same, storing `value` where the low `size` bytes of `expected` are what is there. */
  compareAndSwap(address: V64, size: AccessSize, expected: V64, value: V64): V64;
  /** Of two elements of `size` bytes, aligned to the pair. */
  compareAndSwapPair(
    address: V64,
    size: 4 | 8,
    expected: readonly [V64, V64],
    values: readonly [V64, V64],
  ): readonly [V64, V64];
  /** PRFM: may do nothing, never faults. */
  prefetch(address: V64): void;

  // FP/SIMD registers
  /** Traps if FP/SIMD is not enabled: first in every row that touches it. */
  fpAccess(): void;
  /** Half (0 low, 1 high) of a V register. */
  v(slot: Slot, half: 0 | 1): V64;
  /** Writes a whole V register. */
  setV(slot: Slot, low: V64, high: V64): void;
  /** A whole V register. */
  q(slot: Slot): V128;
  setQ(slot: Slot, value: V128): void;
  /** FPCR and FPSR as MRS reads them. */
  fpcr(): V32;
  fpsr(): V32;
  /** Sets the bits of FPSR that are set in `bits` (cumulative flags, QC); clears none. */
  raiseFpsr(bits: V32): void;

  // Vectors
  c128(low: bigint, high: bigint): V128;
  /** From its halves. */
  v128(low: V64, high: V64): V128;
  vector(op: VectorUnary, a: V128): V128;
  vector(op: VectorBinary, a: V128, b: V128): V128;
  vector(op: VectorShift, a: V128, by: V32): V128;
  vectorTest(op: VectorTest, a: V128): V32;
  /** Each bit of `a` where `mask` has a 1, else of `b`. */
  bitselect(mask: V128, a: V128, b: V128): V128;
  /** Sixteen bytes of `a` (0 to 15) and `b` (16 to 31), from the lowest up. */
  shuffle(lanes: readonly number[], a: V128, b: V128): V128;
  /** The low `bits` of `value` in every lane. */
  splat(bits: LaneBits, value: V64): V128;
  /** Lane `index`, zero-extended. */
  lane(bits: LaneBits, a: V128, index: number): V64;
  /** `a` with the low `bits` of `value` in lane `index`. */
  withLane(bits: LaneBits, a: V128, index: number, value: V64): V128;
  /** 16 bytes, one access: aligned to 16 where alignment is checked, unless `options` says otherwise. */
  loadQ(address: V64, options?: AccessOptions): V128;
  storeQ(address: V64, value: V128, options?: AccessOptions): void;

  // Floating point: under FPCR, accumulating into FPSR. Before any register write of the instruction.
  /** On elements of `size` bits, the low ones of each operand; the result is zero-extended. */
  fp(operation: FpOperation, size: FpSize, ...operands: V64[]): V64;
  /**
   * On the lanes of whole vectors (`q`) or their low halves, the result's upper half being 0 then.
   * A comparison makes a mask. Not for conversions to another size.
   */
  fpVector(operation: FpOperation, size: FpSize, q: boolean, ...operands: V128[]): V128;

  // System
  /** Raises the exception of SVC, HVC, SMC, BRK or HLT. */
  exceptionCall(call: ExceptionCall, immediate: V32): void;
  /** MRS of the register with encoding `key` (a shape). */
  mrs(key: number, to: Slot): void;
  msr(key: number, value: V64): void;
  /** MSR (immediate): op1 and op2 name the PSTATE field. */
  msrImmediate(op1: number, op2: number, immediate: V32): void;
  /** SYS: DC, IC, AT, TLBI and the rest, by key. */
  sys(key: number, value: V64): void;
  /** SYSL: no such instruction is implemented; traps or UNDEFINED. */
  sysl(key: number, to: Slot): void;
  barrier(kind: Barrier): void;
  hint(kind: Hint): void;
  eret(): void;
  undefined(): void;
}
