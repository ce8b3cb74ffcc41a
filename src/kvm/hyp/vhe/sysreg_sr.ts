/**
 * When which registers are switched on a VHE host. Mirrors arch/arm64/kvm/hyp/vhe/sysreg-sr.c: the
 * host does not use the EL1 registers, so a guest's stay loaded from vcpu_load to vcpu_put.
 */
import { sequence, type SequenceStep } from "../../../arm/el2_port.ts";
import type { Vcpu } from "../../kvm_host.ts";
import {
  COMMON_STATE,
  EL1_RESTORE,
  EL1_SAVE,
  GUEST,
  HOST,
  sysregRestore,
  sysregRestoreEl2ReturnState,
  sysregSave,
  sysregSaveEl2ReturnState,
  USER_STATE,
} from "../sysreg_sr.ts";
import { activateTrapsCommonSteps, deactivateTrapsCommonSteps } from "../switch.ts";

/** sysreg_save_guest_state_vhe: argument 0 is the vCPU, as in all below. */
export function saveGuestStateVhe(): readonly SequenceStep[] {
  return [...sysregSave(COMMON_STATE.vhe, GUEST), sysregSaveEl2ReturnState(GUEST)];
}

/** sysreg_restore_guest_state_vhe: argument 1 is {@link el2ReturnPstate}. */
export function restoreGuestStateVhe(): readonly SequenceStep[] {
  return [...sysregRestore(COMMON_STATE.vhe, GUEST), ...sysregRestoreEl2ReturnState(GUEST)];
}

const LOAD = sequence(
  sysregSave(USER_STATE.vhe, HOST),
  sysregRestore(USER_STATE.vhe, GUEST),
  sysregRestore(EL1_RESTORE.vhe, GUEST),
  // activate_traps_vhe_load
  activateTrapsCommonSteps(),
);

/** vcpu_load: the guest's EL0 and EL1 registers go into the CPU, and stay, and so do the traps that do not change. */
export function kvmVcpuLoadSysregsVhe(vcpu: Vcpu): void {
  vcpu.port().run(LOAD, vcpu.state.base);
  vcpu.state.sysregsLoadedOnCpu = true;
}

const PUT = sequence(
  // deactivate_traps_vhe_put
  deactivateTrapsCommonSteps(),
  sysregSave(EL1_SAVE.vhe, GUEST),
  sysregSave(USER_STATE.vhe, GUEST),
  sysregRestore(USER_STATE.vhe, HOST),
);

/** vcpu_put: they come back out. */
export function kvmVcpuPutSysregsVhe(vcpu: Vcpu): void {
  vcpu.port().run(PUT, vcpu.state.base);
  vcpu.state.sysregsLoadedOnCpu = false;
}
