/**
 * Exception entry, exception return and what is derived from the level for the instructions to come are WebAssembly
 * functions, made for each CPU: the words of its state are at constant addresses, so that an access is one instruction of
 * the host, and three in TypeScript. Here is what they are written with.
 */
import { CpuLayout, sysregOffset } from "./arch/cpu_state.ts";
import { MDSCR } from "./arch/debug_registers.ts";
import { R, type SysregName } from "./arch/sysregs.ts";
import { FunctionBody, I32 } from "./engine/wasm_assembler.ts";

/** What a function has left to its caller: bits. */
export const LEFT = {
  /** The translation context is to be made anew, and is another than before. */
  CONTEXT: 1,
  /** Software step is enabled by MDSCR_EL1: what it comes to. */
  STEP: 2,
  /** Everything: nothing is done. Events are counted, the address has a tag, or a step is to follow. */
  ALL: 4,
} as const;

/** No trap, or what traps an FP/SIMD instruction. */
export const FP_TRAP = { NONE: 0, EL1: 1, EL2: 2, EL2_UNKNOWN: 3 } as const;

/** For an exception's syndrome: ESR_ELx keeps its value (IRQ and FIQ). */
export const NO_SYNDROME = -1;

/** How entry and return are to be done: bits. */
export const HOW = {
  /** EL2's software is not made of instructions: nothing is derived for it. */
  HOSTED: 1,
  /** Whatever there is to be done besides: {@link LEFT.ALL} is no answer. */
  ANYWAY: 2,
} as const;

const C = CpuLayout.offset;

/**
 * A function for one CPU. All addresses are constants: V8 knows that they are in the memory, and need not look at
 * each access.
 */
export class LevelCode {
  readonly asm: FunctionBody;

  /** `cpu`: the address of its state. */
  constructor(readonly cpu: number, parameters: number, answers = true) {
    this.asm = new FunctionBody(new Array(parameters).fill(I32), answers ? [I32] : []);
  }

  load(offset: number): FunctionBody {
    return this.asm.i32(0).mem("i32.load", this.cpu + offset);
  }
  load64(offset: number): FunctionBody {
    return this.asm.i32(0).mem("i64.load", this.cpu + offset);
  }
  /** Stores what `push` has left on the stack. */
  store(offset: number, push: () => unknown): void {
    this.asm.i32(0);
    push();
    this.asm.mem("i32.store", this.cpu + offset);
  }
  store64(offset: number, push: () => unknown): void {
    this.asm.i32(0);
    push();
    this.asm.mem("i64.store", this.cpu + offset);
  }
  put(offset: number, value: number): void {
    this.store(offset, () => this.asm.i32(value));
  }
  copy(from: number, to: number): void {
    this.store(to, () => this.load(from));
  }
  copy64(from: number, to: number): void {
    this.store64(to, () => this.load64(from));
  }
  /** Bits 31 to 0 of a register, or bits 63 to 32. */
  lo(name: SysregName): FunctionBody {
    return this.load(sysregOffset(R[name]));
  }
  hi(name: SysregName): FunctionBody {
    return this.load(sysregOffset(R[name]) + 4);
  }
  /** Pushes 1 if a bit of `mask` is set in the word on the stack, else 0. */
  any(mask: number): FunctionBody {
    return this.asm.i32(mask).op("i32.and").i32(0).op("i32.ne");
  }
  /** The same for a local. */
  has(local: number, mask: number): FunctionBody {
    this.asm.get(local);
    return this.any(mask);
  }
  /** Of the address whose high half is on the stack: 1 if bits 63 to 55 are not all equal. */
  tagged(): FunctionBody {
    return this.asm.i32(23).op("i32.shr_s").i32(1).op("i32.add").i32(1).op("i32.gt_u");
  }
}

/** Writes how `single` follows from PSTATE.IL; where stepping is enabled, that is added to what is `left`. */
export function deriveSingle(code: LevelCode, left: number): void {
  code.copy(C.il, C.single);
  code.lo("MDSCR_EL1").i32(MDSCR.SS).op("i32.and").if("step", false);
  code.asm.get(left).i32(LEFT.STEP).op("i32.or").set(left);
  code.asm.end();
}
