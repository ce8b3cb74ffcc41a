/**
 * Saving and restoring system registers as lists. Mirrors
 * arch/arm64/kvm/hyp/include/hyp/sysreg-sr.h; the lists' order is the kernel's.
 *
 * What differs: no AArch32, MTE or RAS state.
 */
import { type El2Port, type RegisterList, registerList } from "../../arm/el2_port.ts";
import { SPSR } from "../../arm/arch/fields.ts";
import { R, type SysregName } from "../../arm/arch/sysregs.ts";
import { type KvmCpuContext, KvmCpuContextLayout, SAVED, type SavedSysreg } from "../kvm_host.ts";

/** A list of registers with the names they have on a VHE host (read_sysreg_el1), and without. */
export interface SavedRegisters {
  readonly vhe: RegisterList;
  readonly nvhe: RegisterList;
}

type Row = readonly [saved: SavedSysreg & SysregName, name?: SysregName];

function list(...rows: readonly Row[]): SavedRegisters {
  const named = (saved: SavedSysreg, name: SysregName) => ({
    reg: R[name],
    offset: 8 * SAVED[saved],
  });
  return {
    vhe: registerList(rows.map(([saved, name]) => named(saved, name ?? saved))),
    nvhe: registerList(
      rows.map(([saved, name]) =>
        named(saved, name === undefined || name.endsWith("_EL12") ? saved : name)
      ),
    ),
  };
}

/** Switched at every entry and exit (__sysreg_save_common_state). */
export const COMMON_STATE = list(["MDSCR_EL1"]);

/** Switched at load and put (__sysreg_save_user_state). */
export const USER_STATE = list(["TPIDR_EL0"], ["TPIDRRO_EL0"]);

/** The guest's EL1, saved at put (__sysreg_save_el1_state). */
export const EL1_SAVE = list(
  ["CSSELR_EL1"],
  ["SCTLR_EL1", "SCTLR_EL12"],
  ["CPACR_EL1", "CPACR_EL12"],
  ["TTBR0_EL1", "TTBR0_EL12"],
  ["TTBR1_EL1", "TTBR1_EL12"],
  ["TCR_EL1", "TCR_EL12"],
  ["ESR_EL1", "ESR_EL12"],
  ["AFSR0_EL1", "AFSR0_EL12"],
  ["AFSR1_EL1", "AFSR1_EL12"],
  ["FAR_EL1", "FAR_EL12"],
  ["MAIR_EL1", "MAIR_EL12"],
  ["VBAR_EL1", "VBAR_EL12"],
  ["CONTEXTIDR_EL1", "CONTEXTIDR_EL12"],
  ["AMAIR_EL1", "AMAIR_EL12"],
  ["CNTKCTL_EL1", "CNTKCTL_EL12"],
  ["PAR_EL1"],
  ["TPIDR_EL1"],
  ["SP_EL1"],
  ["ELR_EL1", "ELR_EL12"],
  ["SPSR_EL1", "SPSR_EL12"],
);

/** The guest's EL1, loaded at load (__sysreg_restore_el1_state): MPIDR_EL1 becomes what VMPIDR_EL2 shows. */
export const EL1_RESTORE = list(
  ["MPIDR_EL1", "VMPIDR_EL2"],
  ["CSSELR_EL1"],
  ["SCTLR_EL1", "SCTLR_EL12"],
  ["TCR_EL1", "TCR_EL12"],
  ["CPACR_EL1", "CPACR_EL12"],
  ["TTBR0_EL1", "TTBR0_EL12"],
  ["TTBR1_EL1", "TTBR1_EL12"],
  ["ESR_EL1", "ESR_EL12"],
  ["AFSR0_EL1", "AFSR0_EL12"],
  ["AFSR1_EL1", "AFSR1_EL12"],
  ["FAR_EL1", "FAR_EL12"],
  ["MAIR_EL1", "MAIR_EL12"],
  ["VBAR_EL1", "VBAR_EL12"],
  ["CONTEXTIDR_EL1", "CONTEXTIDR_EL12"],
  ["AMAIR_EL1", "AMAIR_EL12"],
  ["CNTKCTL_EL1", "CNTKCTL_EL12"],
  ["PAR_EL1"],
  ["TPIDR_EL1"],
  ["SP_EL1"],
  ["ELR_EL1", "ELR_EL12"],
  ["SPSR_EL1", "SPSR_EL12"],
);

/** Reads every register of a list into a context. */
export function sysregSave(port: El2Port, ctxt: KvmCpuContext, of: RegisterList): void {
  port.saveAll(of, ctxt.sysregs);
}

/** Writes every register of a list from a context. */
export function sysregRestore(port: El2Port, ctxt: KvmCpuContext, of: RegisterList): void {
  port.restoreAll(of, ctxt.sysregs);
}

/** PSTATE.M, and its values for AArch64 EL2 and up. */
const MODE_MASK = 0x1f;
const MODE_EL2T = 0x8;
const MODE_EL2H = 0x9;

/** Where the guest was left (__sysreg_save_el2_return_state; PSTATE was saved by the exit's fixup). */
export function sysregSaveEl2ReturnState(port: El2Port, ctxt: KvmCpuContext): void {
  port.save(R.ELR_EL2, ctxt.base + KvmCpuContextLayout.offset.pc);
}

/**
 * Where ERET is to go (__sysreg_restore_el2_return_state). A saved PSTATE of EL2 or above would give
 * the guest the host's privileges: it becomes an illegal exception return instead.
 */
export function sysregRestoreEl2ReturnState(port: El2Port, ctxt: KvmCpuContext): void {
  const m = ctxt.memory;
  const pcAt = ctxt.base + KvmCpuContextLayout.offset.pc;
  const pstate = m.ld32(pcAt + 8);
  const mode = pstate & MODE_MASK;
  const illegal = (mode & SPSR.NRW) === 0 && mode >= MODE_EL2T;
  port.restore(R.ELR_EL2, pcAt);
  port.write(R.SPSR_EL2, illegal ? MODE_EL2H | SPSR.IL : pstate, 0);
}
