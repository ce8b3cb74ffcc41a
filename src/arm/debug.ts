/**
 * Breakpoint, watchpoint and Software Step exceptions: what matches, and taking them. Source: Arm
 * Architecture Reference Manual (DDI 0487), D2 and the pseudocode AArch64.BreakpointMatch,
 * BreakpointValueMatch, StateMatch, WatchpointMatch and SoftwareStepException. There is no EL3 and no
 * AArch32, so vector catch and mismatch breakpoints do not exist; what is CONSTRAINED UNPREDICTABLE in
 * a control register behaves as disabled.
 */
import { SINGLE, STEPPED } from "./arch/cpu_state.ts";
import {
  address49,
  ARMED,
  ARMED_CODE,
  ARMED_DATA,
  BREAKPOINTS,
  BT,
  CONTEXT_BREAKPOINTS,
  DBGBCR,
  DBGCR,
  DBGWCR,
  FSC_DEBUG,
  MDSCR,
  STEP_ISS,
  WATCHPOINTS,
} from "./arch/debug_registers.ts";
import { ABORT, EC } from "./arch/syndrome.ts";
import { R } from "./arch/sysregs.ts";
import { debugEnabled, debugTarget, isDebugLocked, refreshSingle } from "./debug_enable.ts";
import { setFar, takeSync, type Target } from "./exceptions.ts";
import { watchedBytes } from "./mmu/debug_pages.ts";
import type { Core } from "./parts.ts";
import { isInHost } from "./pstate.ts";

const bcrOf = (core: Core, n: number): number => core.regs.lo(R.DBGBCR0_EL1 + n);
const typeOf = (bcr: number): number => (bcr >>> DBGBCR.BT_SHIFT) & 15;

/**
 * HMC, SSC and PxC as one number H:SS:PP: which levels they select (bit n: ELn). What is not here is
 * reserved without EL3 and Secure state. D2 "Execution conditions for which an event is generated".
 */
const LEVELS: ReadonlyMap<number, number> = new Map([
  [0b0_00_01, 0b010],
  [0b0_00_10, 0b001],
  [0b0_00_11, 0b011],
  [0b1_00_01, 0b110],
  [0b1_00_11, 0b111],
  [0b1_01_00, 0b100],
  [0b1_11_00, 0b100],
  [0b1_11_01, 0b110],
  [0b1_11_11, 0b111],
]);

function levelsOf(control: number): number {
  const hmc = control & DBGCR.HMC ? 1 : 0;
  const ssc = (control >>> DBGCR.SSC_SHIFT) & 3, pxc = (control >>> DBGCR.PXC_SHIFT) & 3;
  return LEVELS.get((hmc << 4) | (ssc << 2) | pxc) ?? 0;
}

/** StateMatch: level `el` is selected, and the linked breakpoint's context is the current one. */
function stateMatches(core: Core, control: number, el: number, linked: boolean): boolean {
  if ((levelsOf(control) & (1 << el)) === 0) return false;
  return !linked || linkedContextMatches(core, (control >>> DBGCR.LBN_SHIFT) & 15);
}

function linkedContextMatches(core: Core, n: number): boolean {
  if (n >= BREAKPOINTS || !isContextAware(n)) return false;
  const bcr = bcrOf(core, n), type = typeOf(bcr);
  const linked = (type & BT.LINKED) !== 0 && (type & ~BT.LINKED) !== BT.ADDRESS;
  return linked && (bcr & DBGCR.E) !== 0 && contextMatches(core, n, type & ~BT.LINKED);
}

function isContextAware(n: number): boolean {
  return n >= BREAKPOINTS - CONTEXT_BREAKPOINTS;
}

/** The context that breakpoint `n` of an unlinked form of `type` compares is the current one. */
function contextMatches(core: Core, n: number, type: number): boolean {
  const { cpu, regs } = core;
  const lo = regs.lo(R.DBGBVR0_EL1 + n), hi = regs.hi(R.DBGBVR0_EL1 + n);
  const host = isInHost(cpu, regs);
  const guest = cpu.el < 2 && !host;
  const el1 = guest && regs.lo(R.CONTEXTIDR_EL1) === lo;
  const vmid = guest && ((regs.hi(R.VTTBR_EL2) >>> 16) & 0xff) === (hi & 0xff);
  const el2 = regs.lo(R.CONTEXTIDR_EL2) === hi;
  switch (type) {
    case 0b0010:
      return host ? regs.lo(R.CONTEXTIDR_EL2) === lo : el1;
    case 0b0110:
      return el1;
    case 0b1000:
      return vmid;
    case 0b1010:
      return vmid && el1;
    case 0b1100:
      return el2;
    case 0b1110:
      return el2 && el1;
    default:
      return false;
  }
}

function breakpointMatches(core: Core, n: number, va: number): boolean {
  const bcr = bcrOf(core, n), type = typeOf(bcr);
  const linked = (type & BT.LINKED) !== 0;
  if ((type & ~BT.LINKED) === BT.ADDRESS) {
    const at = R.DBGBVR0_EL1 + n;
    return address49(core.regs.lo(at) & ~3, core.regs.hi(at)) === va &&
      stateMatches(core, bcr, core.cpu.el, linked);
  }
  return !linked && isContextAware(n) && contextMatches(core, n, type) &&
    stateMatches(core, bcr, core.cpu.el, false);
}

/** Whether the instruction at this address meets a breakpoint now. `cpu.debugArmed` is not 0. */
export function meetsBreakpoint(core: Core, lo: number, hi: number): boolean {
  const armed = core.cpu.debugArmed;
  if ((armed & ARMED_CODE) === 0 || !debugEnabled(core)) return false;
  const va = address49(lo, hi);
  for (let n = 0; n < BREAKPOINTS; n++) {
    if (armed & (ARMED.BREAKPOINT << n) && breakpointMatches(core, n, va)) return true;
  }
  return false;
}

function watchpointMatches(
  core: Core,
  n: number,
  va: number,
  size: number,
  write: boolean,
  el: number,
): boolean {
  const wcr = core.regs.lo(R.DBGWCR0_EL1 + n);
  if ((wcr & (1 << (DBGWCR.LSC_SHIFT + (write ? 1 : 0)))) === 0) return false;
  const { start, length } = watchedBytes(core.platform.memory, core.cpu, n);
  if (va >= start + length || va + size <= start) return false;
  return stateMatches(core, wcr, el, (wcr & DBGWCR.WT) !== 0);
}

/**
 * Whether an access of `size` bytes, which the MMU allows, meets a watchpoint now. `cpu.debugArmed` is
 * not 0.
 */
export function meetsWatchpoint(
  core: Core,
  lo: number,
  hi: number,
  size: number,
  write: boolean,
  unprivileged: boolean,
): boolean {
  const { cpu } = core;
  if ((cpu.debugArmed & ARMED_DATA) === 0 || !debugEnabled(core)) return false;
  const va = address49(lo, hi);
  // LDTR and STTR count as EL0's where they have EL0's permissions.
  const el = unprivileged && (cpu.el === 1 || isInHost(cpu, core.regs)) ? 0 : cpu.el;
  for (let n = 0; n < WATCHPOINTS; n++) {
    if ((cpu.debugArmed & (ARMED.WATCHPOINT << n)) === 0) continue;
    if (watchpointMatches(core, n, va, size, write, el)) return true;
  }
  return false;
}

// Exceptions

function take(core: Core, low: number, iss: number): void {
  const target: Target = core.cpu.el === 2 ? 2 : debugTarget(core);
  takeSync(core, target, core.cpu.el === target ? low + 1 : low, iss);
}

/** Takes the Breakpoint exception of the instruction at the PC. */
export function takeBreakpoint(core: Core): void {
  take(core, EC.BREAKPT_LOW, FSC_DEBUG);
}

/** Takes a Watchpoint exception: FAR holds the address of the access. `cm`: it is cache maintenance. */
export function takeWatchpoint(
  core: Core,
  lo: number,
  hi: number,
  write: boolean,
  cm = false,
): void {
  setFar(core, core.cpu.el === 2 ? 2 : debugTarget(core), lo, hi);
  const iss = FSC_DEBUG | (write ? ABORT.WNR : 0) | (cm ? ABORT.CM : 0);
  take(core, EC.WATCHPT_LOW, iss);
}

/** Takes the Software Step exception of the active-pending state. */
export function takeSoftwareStep(core: Core): void {
  const { stepped } = core.cpu;
  const iss = stepped & STEPPED.YES ? STEP_ISS.ISV : 0;
  take(core, EC.SOFTSTP_LOW, FSC_DEBUG | iss | (stepped & STEPPED.EXCLUSIVE ? STEP_ISS.EX : 0));
}

/** SSAdvance, after an instruction that was executed in the active-not-pending state. */
export function advanceStep(core: Core, exclusive: boolean): void {
  const { cpu } = core;
  cpu.ss = 0;
  refreshSingle(core);
  const active = (cpu.single & SINGLE.STEP) !== 0;
  cpu.stepped = active ? STEPPED.YES | (exclusive ? STEPPED.EXCLUSIVE : 0) : 0;
}

// Arming

/** What is enabled of the units' control registers, whatever their other conditions. */
function armedUnits(core: Core): number {
  let armed = 0;
  for (let n = 0; n < BREAKPOINTS; n++) {
    const bcr = bcrOf(core, n);
    if ((bcr & DBGCR.E) === 0) continue;
    const type = typeOf(bcr);
    // A linked context only serves those that link to it.
    if ((type & ~BT.LINKED) === BT.ADDRESS) armed |= ARMED.BREAKPOINT << n;
    else if ((type & BT.LINKED) === 0) armed |= (ARMED.BREAKPOINT << n) | ARMED.ALL_CODE;
  }
  for (let n = 0; n < WATCHPOINTS; n++) {
    if (core.regs.lo(R.DBGWCR0_EL1 + n) & DBGCR.E) armed |= ARMED.WATCHPOINT << n;
  }
  return armed;
}

/**
 * Recomputes `cpu.debugArmed`, and takes the pages concerned out of the TLBs: to be called when a debug
 * register or a lock changes.
 */
export function refreshArmed(core: Core): void {
  const on = (core.regs.lo(R.MDSCR_EL1) & MDSCR.MDE) !== 0 && !isDebugLocked(core);
  const armed = on ? armedUnits(core) : 0;
  core.cpu.debugArmed = armed;
  if (armed !== 0) core.platform.mmu.dropDebugPages(core.cpu);
}
