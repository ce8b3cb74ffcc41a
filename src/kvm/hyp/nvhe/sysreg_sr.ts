/**
 * Mirrors arch/arm64/kvm/hyp/nvhe/sysreg-sr.c: the host is at EL1 itself, so that all of EL1's state is
 * saved and restored at every switch, the guest's and the host's alike.
 */
import { at, type El2Port, sequence, STEP } from "../../../arm/el2_port.ts";
import { R } from "../../../arm/arch/sysregs.ts";
import { type KvmCpuContext, KvmCpuContextLayout } from "../../kvm_host.ts";
import {
  COMMON_STATE,
  EL1_RESTORE,
  EL1_SAVE,
  el2ReturnPstate,
  sysregRestore,
  sysregRestoreEl2ReturnState,
  sysregSave,
  sysregSaveEl2ReturnState,
  USER_STATE,
} from "../sysreg_sr.ts";

const SAVE_GUEST = sequence(
  sysregSave(EL1_SAVE.nvhe),
  sysregSave(COMMON_STATE.nvhe),
  sysregSave(USER_STATE.nvhe),
  sysregSaveEl2ReturnState(),
);
const SAVE_HOST = sequence(
  SAVE_GUEST.steps,
  STEP.save(R.SPSR_EL2, at(KvmCpuContextLayout.offset.pstate)),
);

/** __sysreg_save_state_nvhe. A guest's PSTATE is saved by the exit's fixup; the `host`'s here. */
export function sysregSaveStateNvhe(port: El2Port, ctxt: KvmCpuContext, host: boolean): void {
  port.run(host ? SAVE_HOST : SAVE_GUEST, ctxt.base);
}

const RESTORE = sequence(
  sysregRestore(EL1_RESTORE.nvhe),
  sysregRestore(COMMON_STATE.nvhe),
  sysregRestore(USER_STATE.nvhe),
  sysregRestoreEl2ReturnState(),
);

/** __sysreg_restore_state_nvhe. */
export function sysregRestoreStateNvhe(port: El2Port, ctxt: KvmCpuContext): void {
  port.runWith(RESTORE, ctxt.base, el2ReturnPstate(ctxt));
}
