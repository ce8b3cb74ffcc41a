/**
 * When which registers are switched on a VHE host. Mirrors arch/arm64/kvm/hyp/vhe/sysreg-sr.c: the
 * host does not use the EL1 registers, so a guest's stay loaded from vcpu_load to vcpu_put.
 */
import { type El2Port, sequence } from "../../../arm/el2_port.ts";
import type { HypVcpu, Vcpu } from "../../kvm_host.ts";
import {
  COMMON_STATE,
  EL1_RESTORE,
  EL1_SAVE,
  el2ReturnPstate,
  GUEST,
  HOST,
  sysregRestore,
  sysregRestoreEl2ReturnState,
  sysregSave,
  sysregSaveEl2ReturnState,
  USER_STATE,
} from "../sysreg_sr.ts";
import { activateTrapsVheLoad, deactivateTrapsVhePut } from "./switch.ts";

const SAVE_GUEST_STATE = sequence(
  sysregSave(COMMON_STATE.vhe, GUEST),
  sysregSaveEl2ReturnState(GUEST),
);

export function sysregSaveGuestStateVhe(port: El2Port, vcpu: HypVcpu): void {
  port.run(SAVE_GUEST_STATE, vcpu.state.base);
}

const RESTORE_GUEST_STATE = sequence(
  sysregRestore(COMMON_STATE.vhe, GUEST),
  sysregRestoreEl2ReturnState(GUEST),
);

export function sysregRestoreGuestStateVhe(port: El2Port, vcpu: HypVcpu): void {
  port.run(RESTORE_GUEST_STATE, vcpu.state.base, el2ReturnPstate(vcpu.ctxt));
}

const LOAD = sequence(
  sysregSave(USER_STATE.vhe, HOST),
  sysregRestore(USER_STATE.vhe, GUEST),
  sysregRestore(EL1_RESTORE.vhe, GUEST),
);

/** vcpu_load: the guest's EL0 and EL1 registers go into the CPU, and stay. */
export function kvmVcpuLoadSysregsVhe(vcpu: Vcpu): void {
  vcpu.port().run(LOAD, vcpu.state.base);
  vcpu.state.sysregsLoadedOnCpu = true;
  activateTrapsVheLoad(vcpu);
}

const PUT = sequence(
  sysregSave(EL1_SAVE.vhe, GUEST),
  sysregSave(USER_STATE.vhe, GUEST),
  sysregRestore(USER_STATE.vhe, HOST),
);

/** vcpu_put: they come back out. */
export function kvmVcpuPutSysregsVhe(vcpu: Vcpu): void {
  deactivateTrapsVhePut(vcpu);
  vcpu.port().run(PUT, vcpu.state.base);
  vcpu.state.sysregsLoadedOnCpu = false;
}
