/**
 * When which registers are switched on a VHE host. Mirrors arch/arm64/kvm/hyp/vhe/sysreg-sr.c: the
 * host does not use the EL1 registers, so a guest's stay loaded from vcpu_load to vcpu_put.
 */
import type { El2Port } from "../../../arm/el2_port.ts";
import type { KvmCpuContext, Vcpu } from "../../kvm_host.ts";
import {
  COMMON_STATE,
  EL1_RESTORE,
  EL1_SAVE,
  sysregRestore,
  sysregRestoreEl2ReturnState,
  sysregSave,
  sysregSaveEl2ReturnState,
  USER_STATE,
} from "../sysreg_sr.ts";
import { activateTrapsVheLoad, deactivateTrapsVhePut } from "./switch.ts";

export function sysregSaveHostStateVhe(port: El2Port, ctxt: KvmCpuContext): void {
  sysregSave(port, ctxt, COMMON_STATE.vhe);
}

export function sysregSaveGuestStateVhe(port: El2Port, ctxt: KvmCpuContext): void {
  sysregSave(port, ctxt, COMMON_STATE.vhe);
  sysregSaveEl2ReturnState(port, ctxt);
}

export function sysregRestoreHostStateVhe(port: El2Port, ctxt: KvmCpuContext): void {
  sysregRestore(port, ctxt, COMMON_STATE.vhe);
}

export function sysregRestoreGuestStateVhe(port: El2Port, ctxt: KvmCpuContext): void {
  sysregRestore(port, ctxt, COMMON_STATE.vhe);
  sysregRestoreEl2ReturnState(port, ctxt);
}

/** vcpu_load: the guest's EL0 and EL1 registers go into the CPU, and stay. */
export function kvmVcpuLoadSysregsVhe(vcpu: Vcpu): void {
  const port = vcpu.port();
  sysregSave(port, vcpu.hostCtxt, USER_STATE.vhe);
  sysregRestore(port, vcpu.ctxt, USER_STATE.vhe);
  sysregRestore(port, vcpu.ctxt, EL1_RESTORE.vhe);
  vcpu.state.sysregsLoadedOnCpu = true;
  activateTrapsVheLoad(vcpu);
}

/** vcpu_put: they come back out. */
export function kvmVcpuPutSysregsVhe(vcpu: Vcpu): void {
  const port = vcpu.port();
  deactivateTrapsVhePut(vcpu);
  sysregSave(port, vcpu.ctxt, EL1_SAVE.vhe);
  sysregSave(port, vcpu.ctxt, USER_STATE.vhe);
  sysregRestore(port, vcpu.hostCtxt, USER_STATE.vhe);
  vcpu.state.sysregsLoadedOnCpu = false;
}
