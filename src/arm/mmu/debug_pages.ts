/**
 * Pages that hold a breakpoint or a watchpoint are never entered into a TLB: whatever touches them is
 * executed one instruction at a time, where every condition is looked at. So debugging costs nothing
 * elsewhere, and nothing at all while no unit is enabled.
 */
import type { SharedMemory } from "../../base/memory.ts";
import { type Cpu, sysregOffset } from "../arch/cpu_state.ts";
import {
  address49,
  ARMED,
  BREAKPOINTS,
  watchedLength,
  watchedStart,
  WATCHPOINTS,
} from "../arch/debug_registers.ts";
import { R } from "../arch/sysregs.ts";

const PAGE = 4096;
const BVR = sysregOffset(R.DBGBVR0_EL1);
const WVR = sysregOffset(R.DBGWVR0_EL1);
const WCR = sysregOffset(R.DBGWCR0_EL1);

/** The 4 KiB page (VA bits 48 to 12) of an address in halves. */
function pageOf(lo: number, hi: number): number {
  return Math.floor(address49(lo, hi) / PAGE);
}

/** The page of breakpoint `n`'s address. */
export function breakpointPage(memory: SharedMemory, cpu: Cpu, n: number): number {
  const at = cpu.base + BVR + 8 * n;
  return pageOf(memory.ld32(at), memory.ld32(at + 4));
}

/** Whether code in the page of this address may meet an armed breakpoint. */
export function isBreakpointPage(memory: SharedMemory, cpu: Cpu, lo: number, hi: number): boolean {
  const armed = cpu.debugArmed;
  if (armed & ARMED.ALL_CODE) return true;
  const page = pageOf(lo, hi);
  for (let n = 0; n < BREAKPOINTS; n++) {
    if (armed & (ARMED.BREAKPOINT << n) && breakpointPage(memory, cpu, n) === page) return true;
  }
  return false;
}

/** First byte and length of what watchpoint `n` covers. */
export function watchedBytes(
  memory: SharedMemory,
  cpu: Cpu,
  n: number,
): { start: number; length: number } {
  const wcr = memory.ld32(cpu.base + WCR + 8 * n);
  const at = cpu.base + WVR + 8 * n;
  const lo = memory.ld32(at);
  return { start: watchedStart(wcr, lo, memory.ld32(at + 4)), length: watchedLength(wcr, lo) };
}

/** Whether data in the page of this address may meet an armed watchpoint. */
export function isWatchedPage(memory: SharedMemory, cpu: Cpu, lo: number, hi: number): boolean {
  const armed = cpu.debugArmed;
  const page = pageOf(lo, hi) * PAGE;
  for (let n = 0; n < WATCHPOINTS; n++) {
    if ((armed & (ARMED.WATCHPOINT << n)) === 0) continue;
    const { start, length } = watchedBytes(memory, cpu, n);
    if (start < page + PAGE && start + length > page) return true;
  }
  return false;
}
