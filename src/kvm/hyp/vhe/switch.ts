/**
 * The world switch on a VHE host. Mirrors arch/arm64/kvm/hyp/vhe/switch.c.
 *
 * What differs: __kvm_vcpu_run_vhe is cut in two at ERET, where the host's thread is suspended;
 * {@link vcpuRunEnter} is what comes before, {@link vcpuRunExit} what comes after, and again before a
 * re-entry that never leaves EL2's fast path.
 */
import type { El2Port } from "../../../arm/el2_port.ts";
import { EC } from "../../../arm/arch/syndrome.ts";
import { R } from "../../../arm/arch/sysregs.ts";
import type { Vcpu } from "../../kvm_host.ts";
import { debugSwitchToGuest, debugSwitchToHost } from "../debug_sr.ts";
import { kvmAdjustPc } from "../exception.ts";
import { CPACR_FPEN, kvmHypHandleFpsimd } from "../fpsimd.ts";
import {
  activateTrapsCommon,
  COMMON_EXIT_HANDLERS,
  CPTR_TAM,
  deactivateTrapsCommon,
  exitCodeOf,
  fixupGuestExit,
  guestEnter,
  guestExit,
  guestOwnsFpRegs,
  type HypExitHandlers,
  keepPendingVirtualSError,
  loadStage2,
  REENTERED,
} from "../switch.ts";
import {
  sysregRestoreGuestStateVhe,
  sysregRestoreHostStateVhe,
  sysregSaveGuestStateVhe,
  sysregSaveHostStateVhe,
} from "./sysreg_sr.ts";
import { HCR_HOST_VHE_HI, HCR_HOST_VHE_LO } from "./tlb.ts";

/** VBAR_EL2 while a guest runs and while the host does. Nothing is ever fetched there. */
const HYP_VECTORS = 0x1000_0800;
const HOST_VECTORS = 0x1000_0000;

/** CPTR_EL2 with E2H: trace traps, SVE allowed to EL1 (a host default). */
const CPTR_TTA = 1 << 28;
const CPACR_EL1_DEFAULT = (3 << 20) | (1 << 16);

/** activate_traps_vhe_load, at vcpu_load. */
export function activateTrapsVheLoad(vcpu: Vcpu): void {
  activateTrapsCommon(vcpu.port(), vcpu);
}

/** deactivate_traps_vhe_put, at vcpu_put. */
export function deactivateTrapsVhePut(vcpu: Vcpu): void {
  deactivateTrapsCommon(vcpu.port(), vcpu);
}

/** __activate_traps: HCR_EL2 of the guest, FP closed unless the guest has it, the vectors of a guest's exits. */
function activateTraps(port: El2Port, vcpu: Vcpu): void {
  port.write(R.HCR_EL2, vcpu.state.hcrLo, vcpu.state.hcrHi);
  port.write(R.CPTR_EL2, CPTR_TTA | CPTR_TAM | (guestOwnsFpRegs(vcpu) ? CPACR_FPEN : 0), 0);
  port.writeNum(R.VBAR_EL2, HYP_VECTORS);
}

/** __deactivate_traps. */
function deactivateTraps(port: El2Port, vcpu: Vcpu): void {
  keepPendingVirtualSError(port, vcpu);
  port.write(R.HCR_EL2, HCR_HOST_VHE_LO, HCR_HOST_VHE_HI);
  port.write(R.CPTR_EL2, CPACR_EL1_DEFAULT, 0);
  port.writeNum(R.VBAR_EL2, HOST_VECTORS);
}

/** hyp_exit_handlers. */
const HYP_EXIT_HANDLERS: HypExitHandlers = {
  ...COMMON_EXIT_HANDLERS,
  [EC.FP_ASIMD]: (port, vcpu) => kvmHypHandleFpsimd(port, vcpu, true),
};

/** The first half of __kvm_vcpu_run_vhe: the CPU is in the guest when it returns. All exceptions are masked. */
export function vcpuRunEnter(vcpu: Vcpu): void {
  const port = vcpu.port();
  sysregSaveHostStateVhe(port, vcpu.hostCtxt);
  // Both stages must be in place before HCR_EL2.TGE goes (Arm erratum 1165522 of real cores; the
  // order is the kernel's).
  loadStage2(port, vcpu.kvm.state);
  activateTraps(port, vcpu);
  kvmAdjustPc(port, vcpu);
  sysregRestoreGuestStateVhe(port, vcpu.ctxt);
  debugSwitchToGuest(port, vcpu);
  guestEnter(port, vcpu, vcpu.hostCtxt);
}

/**
 * The second half: the guest has been left through the vector at `vectorOffset`. An
 * {@link ARM_EXCEPTION} code with the host's state in place, or {@link REENTERED}.
 */
export function vcpuRunExit(vcpu: Vcpu, vectorOffset: number): number {
  const port = vcpu.port();
  port.trap();
  guestExit(port, vcpu, vcpu.hostCtxt);
  const code = exitCodeOf(port, vectorOffset);
  if (fixupGuestExit(port, vcpu, code, HYP_EXIT_HANDLERS)) {
    guestEnter(port, vcpu, vcpu.hostCtxt);
    return REENTERED;
  }
  sysregSaveGuestStateVhe(port, vcpu.ctxt);
  deactivateTraps(port, vcpu);
  sysregRestoreHostStateVhe(port, vcpu.hostCtxt);
  debugSwitchToHost(port, vcpu);
  return code;
}
