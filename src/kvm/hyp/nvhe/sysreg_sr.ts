/**
 * Mirrors arch/arm64/kvm/hyp/nvhe/sysreg-sr.c: the host is at EL1 itself, so that all of EL1's state is
 * saved and restored at every switch, the guest's and the host's alike.
 */
import type { El2Port } from "../../../arm/el2_port.ts";
import { R } from "../../../arm/arch/sysregs.ts";
import { type KvmCpuContext, KvmCpuContextLayout } from "../../kvm_host.ts";
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

/** __sysreg_save_state_nvhe. A guest's PSTATE is saved by the exit's fixup; the `host`'s here. */
export function sysregSaveStateNvhe(port: El2Port, ctxt: KvmCpuContext, host: boolean): void {
  sysregSave(port, ctxt, EL1_SAVE.nvhe);
  sysregSave(port, ctxt, COMMON_STATE.nvhe);
  sysregSave(port, ctxt, USER_STATE.nvhe);
  sysregSaveEl2ReturnState(port, ctxt);
  if (host) port.save(R.SPSR_EL2, ctxt.base + KvmCpuContextLayout.offset.pstate);
}

/** __sysreg_restore_state_nvhe. */
export function sysregRestoreStateNvhe(port: El2Port, ctxt: KvmCpuContext): void {
  sysregRestore(port, ctxt, EL1_RESTORE.nvhe);
  sysregRestore(port, ctxt, COMMON_STATE.nvhe);
  sysregRestore(port, ctxt, USER_STATE.nvhe);
  sysregRestoreEl2ReturnState(port, ctxt);
}
