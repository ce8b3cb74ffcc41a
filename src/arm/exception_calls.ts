/**
 * The instructions that call an exception: SVC, HVC, SMC, BRK, HLT. Source: Arm Architecture Reference
 * Manual (DDI 0487), C6 and AArch64.CheckForSMCUndefOrTrap.
 */
import { HCR } from "./arch/fields.ts";
import { EC } from "./arch/syndrome.ts";
import { R } from "./arch/sysregs.ts";
import type { CpuCore } from "./cpu.ts";
import { debugTarget } from "./debug_enable.ts";
import { defaultTarget, takeSync, takeUndefined, type Target } from "./exceptions.ts";
import type { ExceptionCall } from "./isa/builder.ts";
import type { Core } from "./parts.ts";
import { advancePc } from "./pstate.ts";

function answeredByFirmware(core: CpuCore): void {
  core.firmware?.call(core);
  advancePc(core.cpu);
}

/** An exception that its instruction is for: it returns behind it, and has been stepped. */
function takeCall(core: Core, target: Target, ec: number, immediate: number): void {
  core.cpu.ss = 0;
  takeSync(core, target, ec, immediate, 4);
}

function callHypervisor(core: CpuCore, immediate: number): void {
  const { el } = core.cpu;
  if (el === 0) takeUndefined(core);
  else if (core.firmware?.conduit === "hvc") answeredByFirmware(core);
  else if (core.regs.lo(R.HCR_EL2) & HCR.HCD) takeUndefined(core);
  else takeCall(core, 2, EC.HVC64, immediate);
}

/** SMC: the trap comes before EL3's answer; without EL3 it is UNDEFINED. */
function callMonitor(core: CpuCore, immediate: number): void {
  const { el } = core.cpu;
  if (el === 0) takeUndefined(core);
  else if (el === 1 && core.regs.lo(R.HCR_EL2) & HCR.TSC) takeSync(core, 2, EC.SMC64, immediate);
  else if (core.firmware?.conduit === "smc") answeredByFirmware(core);
  else takeUndefined(core);
}

/** BRK: EL0 and EL1's go to EL2 under MDCR_EL2.TDE or HCR_EL2.TGE. */
function breakpoint(core: CpuCore, immediate: number): void {
  takeSync(core, core.cpu.el === 2 ? 2 : debugTarget(core), EC.BRK64, immediate);
}

const CALLS: Readonly<Record<ExceptionCall, (core: CpuCore, immediate: number) => void>> = {
  svc: (core, immediate) => takeCall(core, defaultTarget(core), EC.SVC64, immediate),
  hvc: callHypervisor,
  smc: callMonitor,
  brk: breakpoint,
  // Halting debug is not implemented.
  hlt: takeUndefined,
};

/** Takes the exception of `call`, or has the firmware answer it: the PC is the next instruction's. */
export function callException(core: CpuCore, call: ExceptionCall, immediate: number): void {
  CALLS[call](core, immediate);
}
