/**
 * WFI, WFE and SEV: when a CPU stops, and what starts it again. Source: Arm Architecture Reference
 * Manual (DDI 0487), D1 "Mechanisms for entering a low-power state" and AArch64.CheckForWFxTrap.
 */
import { HALT } from "./arch/cpu_state.ts";
import { HCR, SCTLR } from "./arch/fields.ts";
import { EC, issWfx, WFX } from "./arch/syndrome.ts";
import { R } from "./arch/sysregs.ts";
import { isMonitorUntouched } from "./data_access.ts";
import {
  defaultTarget,
  hasWakeUpEvent,
  pendingInterrupt,
  takeSync,
  type Target,
} from "./exceptions.ts";
import type { Core } from "./parts.ts";
import { isInHost, sctlrInUse } from "./pstate.ts";

/** Where a WFI or WFE that would wait is trapped to, or 0. */
function waitTrap(core: Core, allowed: number, trapped: number): Target | 0 {
  const { cpu, regs } = core;
  if (cpu.el === 0 && (regs.lo(sctlrInUse(cpu, regs)) & allowed) === 0) return defaultTarget(core);
  if (cpu.el < 2 && !isInHost(cpu, regs) && regs.lo(R.HCR_EL2) & trapped) return 2;
  return 0;
}

function halt(core: Core, state: number): void {
  core.cpu.halt = state;
  core.platform.hooks.onEndSlice(core.cpu, state === HALT.WFI);
}

/** WFI. False: it was trapped. */
export function waitForInterrupt(core: Core): boolean {
  if (hasWakeUpEvent(core)) return true;
  const target = waitTrap(core, SCTLR.NTWI, HCR.TWI);
  if (target !== 0) {
    takeSync(core, target, EC.WFx, issWfx(WFX.WFI));
    return false;
  }
  halt(core, HALT.WFI);
  return true;
}

/** WFE: consumes the event register, or waits. False: it was trapped. */
export function waitForEvent(core: Core): boolean {
  const { cpu } = core;
  if (cpu.eventRegister) {
    cpu.eventRegister = 0;
    return true;
  }
  const target = waitTrap(core, SCTLR.NTWE, HCR.TWE);
  if (target !== 0) {
    takeSync(core, target, EC.WFx, issWfx(WFX.WFE));
    return false;
  }
  core.platform.timer.armEventStream(cpu.index);
  halt(core, HALT.WFE);
  return true;
}

/** SEV: an event for every CPU. */
export function sendEvent(core: Core): void {
  const { cpus, hooks } = core.platform;
  for (const cpu of cpus) {
    cpu.eventRegister = 1;
    hooks.onEndSlice(cpu, true);
  }
}

function eventArrived(core: Core): boolean {
  const { cpu } = core;
  if (cpu.eventRegister) {
    cpu.eventRegister = 0;
    return true;
  }
  if (cpu.monitorOpen && !isMonitorUntouched(core)) {
    cpu.monitorOpen = 0;
    return true;
  }
  return pendingInterrupt(core) !== 0;
}

/**
 * Lets a waiting CPU go on if what it waits for has come: to be asked before each of its turns. True
 * when the CPU runs.
 */
export function resumeIfWoken(core: Core): boolean {
  const { cpu } = core;
  if (cpu.halt === HALT.RUNNING) return true;
  const woken = cpu.halt === HALT.WFI
    ? hasWakeUpEvent(core)
    : cpu.halt === HALT.WFE && eventArrived(core);
  if (woken) cpu.halt = HALT.RUNNING;
  return woken;
}
