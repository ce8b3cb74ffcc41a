/**
 * What a handler is written into: how it reaches registers, flags, operands and pc, and how it ends. The
 * interpreter's handlers and the regions each have a frame of their own.
 */
import { CpuLayout } from "../arch/cpu_state.ts";
import type { BranchKind } from "../isa/builder.ts";
import type { NumberPart } from "./fp_checks.ts";
import type { FunctionBody, ValType } from "./wasm_assembler.ts";

const O = CpuLayout.offset;

/** What a handler answers, and what the interpreter's `run` returns to TypeScript. */
export const EXIT = {
  /** Handlers only: go on with the next record. `run`: the budget is used up. */
  NEXT: 0,
  /** Handlers only: pc has been written, look it up. */
  BRANCH: 1,
  /** This instruction is the evaluator's. */
  SLOW: 2,
  /** A data access missed the TLB: `faultVa`, `faultAccess`, `faultSize`. */
  DATA_MISS: 3,
  /** Retired; an interrupt may have been unmasked. */
  IRQ: 4,
  /** The code TLB has nothing for pc. */
  FETCH: 5,
  /** The record at pc is not decoded yet. */
  DECODE: 6,
  /** pc was branched to often. */
  HOT: 7,
  /** Regions only: the budget is too small for the block at pc. */
  SHORT: 8,
  /** Regions only: the region at pc was made for another state of the CPU. */
  UNFIT: 9,
  /** Regions only: the region that pc is in was made for aligned accesses, and has met many that are not. */
  MISALIGNED: 10,
} as const;

/** `faultAccess`: an access kind, with this bit for unprivileged ones. */
export const UNPRIVILEGED_ACCESS = 4;

/**
 * A part of a register: 64 bits, the low 32, all of the register behind it, a half of a vector register, all of
 * it, the number in its lowest bits (written, the rest becomes 0).
 */
export type RegisterPart =
  | "x"
  | "w"
  | "next"
  | "low"
  | "high"
  | "q"
  | "f32"
  | "f64"
  | LowPart
  | ZeroPart;

/** A vector of which only the lowest 32 or 64 bits count: written, the rest of the register becomes 0. */
export type LowPart = "s" | "d";
/** All of a vector register, which is known to be 0 from bit 32 or 64 on. Written only. */
export type ZeroPart = "q32" | "q64";

export type WrittenPart = Exclude<RegisterPart, "w" | "next">;

/** How registers are reached. A `slot` is whatever the operands were made with. */
export interface RegisterAccess {
  push(slot: number, part: RegisterPart): void;
  /**
   * Writes what `push` pushes: an i64 ("x", "low", "high"), a v128 or a number. `zeroFrom`: of a {@link LowPart}, the
   * registers that were read so, if above the number it is 0 where theirs all are.
   */
  set(slot: number, part: WrittenPart, push: () => void, zeroFrom?: readonly number[]): void;
  /** {@link LowPart} and {@link ZeroPart} can be had. */
  readonly lowParts?: boolean;
}

/** The last operation that set the flags: `width` of its operands `a` and `b`, or of its result. */
export type FlagKind = "add32" | "add64" | "sub32" | "sub64" | "logic32" | "logic64";

/** Flags that are not computed before they are wanted. */
export interface FlagAccess {
  set(kind: FlagKind, pushA: () => void, pushB: () => void): void;
  /** Those of a comparison of two numbers. */
  compare(type: "f32" | "f64", pushA: () => void, pushB: () => void): void;
  /** N, Z, C, V in bits 3 to 0, as an i32. */
  push(): void;
  setPacked(push: () => void): void;
  /** Pushes 1 where the flags are in the set `mask`. */
  pushCondition(mask: number): void;
  /** What `body` emits may not be executed. */
  conditional(body: () => void): void;
}

/** A branch offset: how to push it, and its value where that is known. */
export interface BranchOffset {
  offset32(): void;
  offset64(): void;
  readonly value: bigint | undefined;
}

/** How a handler reaches its surroundings: in the main loop, or as a function of its own. */
export interface Frame {
  readonly asm: FunctionBody;
  /** The local holding the CPU's address. */
  readonly cpu: number;
  readonly registers: RegisterAccess;
  /** Where the flags live, when that is not the CPU's `nzcv`. */
  readonly flags?: FlagAccess;
  /** Pushes an operand of the record at byte `offset` of it. Not called where operands are constants. */
  pushOperand(type: "i32" | "i64", offset: number): void;
  /** A local of `type` that is free for the rest of this handler. */
  temporary(type: ValType): number;
  /** Pushes the address (i32) of the data TLB of ordinary accesses. */
  pushTlb(): void;
  /** Pushes the alignment mask as i64 (all ones or zero in the low 32 bits). */
  pushAlignMask(): void;
  pushPc(): void;
  /** Ends the handler: next record. */
  next(): void;
  /** Ends the handler by a branch to pc + the i32 offset that `pushOffset` pushes, or to a far 64-bit offset. */
  branchBy(offset: BranchOffset, kind: BranchKind): void;
  /** Ends the handler by a branch to the address in local `target` (i64). */
  branchTo(target: number, kind: BranchKind): void;
  /** Leaves: the instruction has not been executed. */
  leave(code: number): void;
  /** Leaves after the instruction. */
  leaveRetired(code: number): void;
  /** Leaves with EXIT.DATA_MISS: an access of `size` bytes at the address in local `va`, by `faultAccess`. */
  miss(va: number, faultAccess: number, size: number): void;
  /**
   * Variables of the module that remember the page last accessed by way of base register `base`
   * ({@link NO_BASE}: none), where alignment is not checked.
   */
  pageCache?(base: number, access: 0 | 1): PageCache | undefined;
  /**
   * Where the `nth` translation of the instruction has been made already: a local with an address of the memory,
   * and what is to be added to it.
   */
  lookedUp?(nth: number): { readonly local: number; readonly offset: number } | undefined;
  /**
   * A variable of the module (i32) that counts misaligned accesses, where the code is made for aligned ones: they
   * are compared with the page together with their alignment.
   */
  misaligned?(): number | undefined;
  /** A local that holds the 32-bit field of the CPU state at `offset`, which does not change here. */
  steadyField?(offset: number): number;
  /** FPCR is 0, FPSR.IXC set, and FP does not trap. */
  readonly usualFp?: boolean;
  /**
   * Checks of results are put off ({@link ResultCheck}): `watched`, the frame only wants to know what they would be.
   * Undefined: they are not.
   */
  readonly checks?: "putOff" | "watched" | undefined;
  /** Whether the number in a register is sure to be found out if it is a NaN. */
  isNumber?(slot: number, part: NumberPart, size: 32 | 64): boolean;
  /** SP is known to be as aligned as its alignment check wants. Undefined: not kept. */
  spAligned?: boolean;
}

/**
 * See {@link Frame.pageCache}. An access is of the page when it begins less than `limit` (i64) behind `tag` (i64):
 * with a limit of 0 and a tag of {@link NO_PAGE} none is. `addend` (i32) makes an address of it one of the memory.
 */
export interface PageCache {
  readonly tag: number;
  readonly addend: number;
  readonly limit: number;
}

/** The tag that no page has, nor an access that is aligned. */
export const NO_PAGE = 0x800n;

/** An address that is not made from a register. */
export const NO_BASE = -1;

/** A {@link Frame.miss} that says all there and then. */
export function missAtOnce(frame: Frame, va: number, faultAccess: number, size: number): void {
  const { asm, cpu } = frame;
  asm.get(cpu).get(va).mem("i64.store", O.faultVa);
  asm.get(cpu).i32(faultAccess).mem("i32.store", O.faultAccess);
  asm.get(cpu).i32(size).mem("i32.store", O.faultSize);
  frame.leave(EXIT.DATA_MISS);
}

/** How the record's slots are reached: 16-bit byte offsets into the CPU state, at an offset of the record. */
export function recordRegisters(
  frame: { readonly asm: FunctionBody; readonly cpu: number; readonly rec: number },
): RegisterAccess {
  const { asm, cpu, rec } = frame;
  const address = (slot: number) => asm.get(cpu).get(rec).mem("i32.load16_u", slot).op("i32.add");
  return {
    push(slot, part) {
      address(slot);
      if (part === "q") asm.vectorMem("load", 0);
      else if (part === "f32" || part === "f64") asm.mem(`${part}.load`, 0);
      else {
        const second = part === "high" || part === "next";
        asm.mem(part === "w" ? "i32.load" : "i64.load", second ? 8 : 0);
      }
    },
    set(slot, part, push) {
      address(slot);
      push();
      if (part === "q") asm.vectorMem("store", 0);
      else if (part === "f32" || part === "f64") {
        asm.mem(`${part}.store`, 0);
        if (part === "f32") address(slot).i32(0).mem("i32.store", 4);
        address(slot).i64(0n).mem("i64.store", 8);
      } else asm.mem("i64.store", part === "high" ? 8 : 0);
    },
  };
}
