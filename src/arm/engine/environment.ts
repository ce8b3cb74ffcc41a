/**
 * What an instruction needs beyond registers and arithmetic: memory through the MMU, the system
 * registers, exceptions. `src/arm/cpu.ts` implements it for the machine; tests bring a flat one.
 */
import type { AccessOptions, AccessSize, Barrier, ExceptionCall, Hint } from "../isa/builder.ts";

/**
 * Thrown by an {@link Environment} after it has taken an exception (PC, PSTATE and the syndrome are
 * already those of the handler), to leave the semantics of the instruction.
 */
export class ExceptionTaken extends Error {
  override readonly name = "ExceptionTaken";
}

/** The one instance: an exception carries nothing, its state is in the CPU. */
export const EXCEPTION_TAKEN = new ExceptionTaken();

/** All addresses and register values are unsigned 64-bit bigints. Each method may throw {@link EXCEPTION_TAKEN}. */
export interface Environment {
  load(va: bigint, size: AccessSize, options: AccessOptions): bigint;
  store(va: bigint, size: AccessSize, value: bigint, options: AccessOptions): void;
  /** Opens the monitor over `count` elements of `size` bytes and returns them. */
  loadExclusive(va: bigint, size: AccessSize, count: 1 | 2, options: AccessOptions): bigint[];
  /** Returns 0 when the store was made, 1 when not. */
  storeExclusive(va: bigint, size: AccessSize, values: bigint[], options: AccessOptions): 0 | 1;
  clearExclusive(): void;
  /**
   * Atomic read-modify-write of `count` elements of `size` bytes: `update` says what to store for what
   * is there, or undefined to leave it. Returns what was there.
   */
  atomic(
    va: bigint,
    size: AccessSize,
    count: 1 | 2,
    update: (old: readonly bigint[]) => readonly bigint[] | undefined,
  ): readonly bigint[];
  /** Raises an SP alignment fault if `base` is misaligned and that is checked now. */
  checkSp(base: bigint): void;
  /** Traps if FP/SIMD is not enabled at this exception level. */
  fpAccess(): void;
  mrs(key: number): bigint;
  msr(key: number, value: bigint): void;
  msrImmediate(op1: number, op2: number, immediate: number): void;
  sys(key: number, value: bigint): void;
  sysl(key: number): bigint;
  exceptionCall(call: ExceptionCall, immediate: number): never;
  barrier(kind: Barrier): void;
  hint(kind: Hint): void;
  /** Returns from the exception: sets PC and PSTATE. */
  eret(): void;
  undefined(): never;
}
