/**
 * When debug exceptions are enabled, where they go, and the software step state machine's state.
 * Source: Arm Architecture Reference Manual (DDI 0487), D2 "The debug exception enable controls" and
 * "Software Step exceptions"; pseudocode AArch64.GenerateDebugExceptionsFrom, DebugTargetFrom,
 * DebugExceptionReturnSS. There is no EL3, and all of it is Non-secure.
 */
import { CHECK, CpuLayout, DAIF, SINGLE, sysregOffset } from "./arch/cpu_state.ts";
import { MDSCR, OSLSR } from "./arch/debug_registers.ts";
import { MDCR } from "./arch/fields.ts";
import { R } from "./arch/sysregs.ts";
import type { Core } from "./parts.ts";
import { isTge } from "./pstate.ts";

// V8 folds what it knows of a constant of the module itself, and has to look up imported ones.
const SINGLES = SINGLE, SS = MDSCR.SS;
/** Words of a CPU's state. */
const WORD = {
  IL: CpuLayout.offset.il >>> 2,
  SINGLE: CpuLayout.offset.single >>> 2,
  MDSCR: sysregOffset(R.MDSCR_EL1) >>> 2,
} as const;

/** Whether the OS lock or the OS double lock holds debug exceptions back. */
export function isDebugLocked(core: Core): boolean {
  const { regs } = core;
  if (regs.lo(R.OSLSR_EL1) & OSLSR.OSLK) return true;
  return (regs.lo(R.OSDLR_EL1) & 1) !== 0 && (regs.lo(R.DBGPRCR_EL1) & 1) === 0;
}

/** The level that debug exceptions from EL0 and EL1 go to. */
export function debugTarget(core: Core): 1 | 2 {
  return isTge(core.regs) || (core.regs.lo(R.MDCR_EL2) & MDCR.TDE) !== 0 ? 2 : 1;
}

/** Whether breakpoints, watchpoints and software step are enabled at `el` with PSTATE.D being `masked`. */
function debugEnabledFrom(core: Core, el: number, masked: boolean): boolean {
  if (isDebugLocked(core)) return false;
  const target = el === 2 ? 2 : debugTarget(core);
  if (el !== target) return target > el;
  return (core.regs.lo(R.MDSCR_EL1) & MDSCR.KDE) !== 0 && !masked;
}

/** The same for the current state. */
export function debugEnabled(core: Core): boolean {
  return debugEnabledFrom(core, core.cpu.el, (core.cpu.daif & DAIF.D) !== 0);
}

/**
 * Recomputes `cpu.single`: to be called when a level, PSTATE.D, PSTATE.IL or a register changes that
 * software step depends on.
 */
export function refreshSingle(core: Core): void {
  const { words } = core;
  let single = words[WORD.IL] !== 0 ? SINGLES.IL : 0;
  if (((words[WORD.MDSCR] as number) & SS) !== 0 && debugEnabled(core)) single |= SINGLES.STEP;
  words[WORD.SINGLE] = single;
}

/** Sets PSTATE.DAIF: with D clear, a step may be due. */
export function setDaif(core: Core, daif: number): void {
  core.cpu.daif = daif;
  if (core.cpu.checkIrq & CHECK.STEP) refreshSingle(core);
}

/** PSTATE.SS after a return to `el` with PSTATE.D `masked` and SPSR_ELx.SS `ss`: stepping starts with a return only. */
export function stepOnReturn(core: Core, el: number, masked: boolean, ss: boolean): 0 | 1 {
  if (!ss || (core.regs.lo(R.MDSCR_EL1) & MDSCR.SS) === 0) return 0;
  return !debugEnabled(core) && debugEnabledFrom(core, el, masked) ? 1 : 0;
}
