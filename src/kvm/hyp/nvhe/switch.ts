/**
 * The world switch of a host at EL1. Mirrors arch/arm64/kvm/hyp/nvhe/switch.c.
 *
 * What differs: __kvm_vcpu_run is cut in two at ERET, where the host's thread is suspended:
 * {@link kvmVcpuRun} ends in the guest, {@link kvmVcpuRunExit} goes on behind it.
 */
import type { El2Port } from "../../../arm/el2_port.ts";
import { CPTR, HCR } from "../../../arm/arch/fields.ts";
import { R } from "../../../arm/arch/sysregs.ts";
import type { HypVcpu } from "../../kvm_host.ts";
import { debugSwitchToGuest, debugSwitchToHost } from "../debug_sr.ts";
import { kvmAdjustPc } from "../exception.ts";
import { kvmHypHandleFpsimd } from "../fpsimd.ts";
import {
  activateTrapsCommon,
  CPTR_TAM,
  deactivateTrapsCommon,
  fixupGuestExit,
  guestEnter,
  guestExit,
  guestOwnsFpRegs,
  hypExitHandlers,
  keepPendingVirtualSError,
  loadStage2,
  savePstateAndEsr,
} from "../switch.ts";
import {
  __vgicV3ActivateTraps,
  __vgicV3DeactivateTraps,
  __vgicV3RestoreState,
  __vgicV3SaveState,
} from "../vgic_v3_sr.ts";
import type { HypMemory, NvhePercpu } from "./hyp_memory.ts";
import { sysregRestoreStateNvhe, sysregSaveStateNvhe } from "./sysreg_sr.ts";
import { timerDisableTraps, timerEnableTraps } from "./timer_sr.ts";
import { loadHostStage2 } from "./tlb.ts";

/** HCR_HOST_NVHE_FLAGS: EL1 is AArch64. There is nothing to open for pointer authentication or tags. */
export const HCR_HOST_NVHE = HCR.RW >>> 0;

/** CPTR_EL2 without E2H: what is RES1, SVE's and SME's traps, which are RES1 without them. */
const CPTR_NVHE_RES1 = 0x32ff;
const CPTR_TZ = 1 << 8;
const CPTR_TSM = 1 << 12;

function activateCptrTraps(port: El2Port, vcpu: HypVcpu): void {
  const fp = guestOwnsFpRegs(vcpu) ? 0 : CPTR.TFP;
  port.write(R.CPTR_EL2, CPTR_TAM | CPTR.TTA | CPTR_NVHE_RES1 | CPTR_TSM | CPTR_TZ | fp, 0);
}

function deactivateCptrTraps(port: El2Port): void {
  port.write(R.CPTR_EL2, CPTR_NVHE_RES1 | CPTR_TZ | CPTR_TSM, 0);
}

/** __activate_traps. */
function activateTraps(port: El2Port, vcpu: HypVcpu, percpu: NvhePercpu): void {
  port.write(R.HCR_EL2, vcpu.state.hcrLo, vcpu.state.hcrHi);
  activateTrapsCommon(port, vcpu);
  activateCptrTraps(port, vcpu);
  port.writeNum(R.VBAR_EL2, percpu.state.kvmHypVector);
}

/** __deactivate_traps. */
function deactivateTraps(port: El2Port, vcpu: HypVcpu, hostVector: number): void {
  keepPendingVirtualSError(port, vcpu);
  deactivateTrapsCommon(port, vcpu);
  port.write(R.HCR_EL2, HCR_HOST_NVHE, 0);
  deactivateCptrTraps(port);
  port.writeNum(R.VBAR_EL2, hostVector);
}

/** __hyp_vgic_save_state. */
function hypVgicSaveState(port: El2Port, memory: HypMemory, vcpu: HypVcpu): void {
  if (!memory.gicv3Cpuif(port)) return;
  __vgicV3SaveState(port, vcpu);
  __vgicV3DeactivateTraps(port, vcpu.cpuIf);
}

/** __hyp_vgic_restore_state. */
function hypVgicRestoreState(port: El2Port, memory: HypMemory, vcpu: HypVcpu): void {
  if (!memory.gicv3Cpuif(port)) return;
  __vgicV3ActivateTraps(port, vcpu.cpuIf);
  __vgicV3RestoreState(port, vcpu);
}

/** __pmu_switch_to_guest: counters of the guest's events run from here on; the host has none of its own. */
function pmuSwitchToGuest(port: El2Port, { state }: HypVcpu): void {
  if (state.pmuEventsGuest !== 0) port.write(R.PMCNTENSET_EL0, state.pmuEventsGuest, 0);
}

/** __pmu_switch_to_host. */
function pmuSwitchToHost(port: El2Port, { state }: HypVcpu): void {
  if (state.pmuEventsGuest !== 0) port.write(R.PMCNTENCLR_EL0, state.pmuEventsGuest, 0);
}

/** hyp_exit_handlers. */
const HYP_EXIT_HANDLERS = hypExitHandlers((port, vcpu) => kvmHypHandleFpsimd(port, vcpu, false));

/** __guest_enter, with the vCPU noted as the loaded one: the CPU is in the guest on return. */
function enter(port: El2Port, vcpu: HypVcpu, percpu: NvhePercpu): void {
  percpu.state.hypRunningVcpu = percpu.state.hostRunningVcpu;
  guestEnter(port, vcpu, percpu.hypCtxt);
}

/** __kvm_vcpu_run of the vCPU at hyp VA `vcpuVa`, up to the guest. */
export function kvmVcpuRun(port: El2Port, memory: HypMemory, vcpuVa: number): void {
  const percpu = memory.percpu(port);
  const vcpu = memory.vcpu(port, vcpuVa);
  percpu.state.hostRunningVcpu = vcpuVa;
  sysregSaveStateNvhe(port, percpu.hostCtxt, true);
  kvmAdjustPc(port, vcpu);
  // All that belongs to stage 1 before stage 2 is turned on (errata 1319537 and 1319367 of real cores;
  // the order is the kernel's).
  sysregRestoreStateNvhe(port, vcpu.ctxt);
  loadStage2(port, memory.kvmOf(port, vcpu));
  activateTraps(port, vcpu, percpu);
  hypVgicRestoreState(port, memory, vcpu);
  timerEnableTraps(port);
  debugSwitchToGuest(port, vcpu);
  pmuSwitchToGuest(port, vcpu);
  enter(port, vcpu, percpu);
}

/**
 * The rest of it, behind the guest's exit with `code`. False: the exit was dealt with, and the CPU is in
 * the guest again. True: the host's state is in place, for ERET to it.
 */
export function kvmVcpuRunExit(
  port: El2Port,
  memory: HypMemory,
  percpu: NvhePercpu,
  code: number,
): boolean {
  const vcpu = memory.vcpu(port, percpu.state.hostRunningVcpu);
  guestExit(port, vcpu, percpu.hypCtxt);
  percpu.state.hypRunningVcpu = 0;
  savePstateAndEsr(port, vcpu, code);
  if (fixupGuestExit(port, vcpu, code, HYP_EXIT_HANDLERS)) {
    enter(port, vcpu, percpu);
    return false;
  }
  sysregSaveStateNvhe(port, vcpu.ctxt, false);
  timerDisableTraps(port);
  hypVgicSaveState(port, memory, vcpu);
  deactivateTraps(port, vcpu, memory.symbols.hostVector);
  loadHostStage2(port);
  sysregRestoreStateNvhe(port, percpu.hostCtxt);
  debugSwitchToHost(port, vcpu);
  pmuSwitchToHost(port, vcpu);
  percpu.state.hostRunningVcpu = 0;
  return true;
}

/** hyp_panic's way out of the world of a guest: the host's state, as far as it was saved. */
export function leaveForPanic(port: El2Port, memory: HypMemory, percpu: NvhePercpu): void {
  const va = percpu.state.hostRunningVcpu;
  if (va === 0) return;
  timerDisableTraps(port);
  deactivateTraps(port, memory.vcpu(port, va), memory.symbols.hostVector);
  loadHostStage2(port);
  sysregRestoreStateNvhe(port, percpu.hostCtxt);
}
