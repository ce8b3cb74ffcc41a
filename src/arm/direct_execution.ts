/**
 * The instructions that generated code leaves most often, executed without the reference evaluator:
 * calls of exceptions, ERET, accesses to system registers, SYS, WFI and WFE. What they do is in the same
 * functions as the evaluator's environment calls; only decoding and the way there are short: halves
 * instead of bigints, results instead of thrown exceptions. A test executes both and compares.
 */
import { CpuLayout, SLOT } from "./arch/cpu_state.ts";
import type { CpuCore } from "./cpu.ts";
import type { ExceptionCall } from "./isa/builder.ts";
import { callException } from "./exception_calls.ts";
import { exceptionReturn, takeUndefined } from "./exceptions.ts";
import { executeSystemOperation } from "./system_operation_access.ts";
import { waitForEvent, waitForInterrupt } from "./waiting.ts";

/** What became of an instruction. */
export const DIRECT = {
  /** It is not one of those: nothing is done. */
  NO: 0,
  DONE: 1,
  /** An exception was taken instead, or by it. */
  EXCEPTION: 2,
} as const;

/** Bits 31 to 20 of the encodings. */
const GROUP = { CALL: 0xd40, SYS: 0xd50, MSR: 0xd51, MRS: 0xd53, BRANCH: 0xd69 } as const;

// V8 folds what it knows of a constant of the module itself, and has to look up imported ones.
const SLOTS = SLOT;
/** Words of a CPU's state: X0 and the PC. */
const GPR = CpuLayout.offset.gpr >>> 2, PC = CpuLayout.offset.pc >>> 2;

/** As signed numbers. */
const ERET = 0xd69f_03e0 | 0;
const WFE = 0xd503_205f | 0;
const WFI = 0xd503_207f | 0;
/** Bit 19 of SYS: op0 is 1. */
const SYS_OP0 = 1 << 19;

/** By bits 4 to 0. */
const EXCEPTION_CALLS: readonly (ExceptionCall | undefined)[] = [undefined, "svc", "hvc", "smc"];

/** op0, op1, CRn, CRm and op2 of a system instruction as a sysregKey. */
function keyOf(word: number): number {
  return (word >>> 5) & 0xffff;
}

function end({ words }: CpuCore, done: boolean): number {
  if (!done) return DIRECT.EXCEPTION;
  const lo = ((words[PC] as number) + 4) | 0;
  words[PC] = lo;
  // It has passed 2^32 when it is one of the first.
  if (lo >= 0 && lo < 4) words[PC + 1] = (words[PC + 1] as number) + 1;
  return DIRECT.DONE;
}

function mrs(core: CpuCore, word: number): number {
  const { words, sysregs } = core;
  const rt = word & 31;
  if (!sysregs.read(keyOf(word), rt)) return DIRECT.EXCEPTION;
  const at = GPR + 2 * (rt === SLOTS.ZR ? SLOTS.SINK : rt);
  words[at | 0] = sysregs.lo;
  words[(at + 1) | 0] = sysregs.hi;
  return end(core, true);
}

function msr(core: CpuCore, word: number): number {
  const { words } = core;
  const rt = word & 31;
  const at = GPR + 2 * rt;
  const lo = words[at | 0] as number, hi = words[(at + 1) | 0] as number;
  return end(core, core.sysregs.write(keyOf(word), rt, lo, hi));
}

function sys(core: CpuCore, word: number): number {
  const { cpu } = core;
  const rt = word & 31;
  const at = cpu.gpr + 8 * rt;
  const lo = cpu.memory.ld32(at), hi = cpu.memory.ld32(at + 4);
  return end(core, executeSystemOperation(core.sysregs, keyOf(word), rt, lo, hi));
}

/** SVC, HVC and SMC; BRK and HLT are rare. */
function call(core: CpuCore, word: number): number {
  const which = EXCEPTION_CALLS[word & 31];
  if (which === undefined) return DIRECT.NO;
  callException(core, which, (word >>> 5) & 0xffff);
  return DIRECT.EXCEPTION;
}

/** Executes the instruction `word`, a signed number, at the PC, if it is one of those: one of {@link DIRECT}. */
export function executeDirectly(core: CpuCore, word: number): number {
  switch (word >>> 20) {
    case GROUP.MRS:
      return mrs(core, word);
    case GROUP.MSR:
      return msr(core, word);
    case GROUP.SYS:
      if ((word & SYS_OP0) !== 0) return sys(core, word);
      if (word === WFI) return end(core, waitForInterrupt(core));
      return word === WFE ? end(core, waitForEvent(core)) : DIRECT.NO;
    case GROUP.BRANCH:
      return word === ERET ? eret(core) : DIRECT.NO;
    default:
      // Bit 20 is the immediate's.
      return (word >>> 21) === GROUP.CALL >>> 1 ? call(core, word) : DIRECT.NO;
  }
}

function eret(core: CpuCore): number {
  if (core.cpu.el === 0) {
    takeUndefined(core);
    return DIRECT.EXCEPTION;
  }
  exceptionReturn(core);
  return DIRECT.DONE;
}
