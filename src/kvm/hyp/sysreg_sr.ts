/**
 * Saving and restoring system registers as lists. Mirrors
 * arch/arm64/kvm/hyp/include/hyp/sysreg-sr.h; the lists' order is the kernel's.
 *
 * What differs: no AArch32, MTE or RAS state.
 */
import { at, type SequenceStep, STEP } from "../../arm/el2_port.ts";
import * as fields from "../../arm/arch/fields.ts";
import { SPSR } from "../../arm/arch/fields.ts";
import { R, type SysregName } from "../../arm/arch/sysregs.ts";
import {
  type KvmCpuContext,
  KvmCpuContextLayout,
  KvmVcpuLayout,
  SAVED,
  type SavedSysreg,
} from "../kvm_host.ts";

/** A register, by the name that reaches it, and its place in a context. */
interface SavedRegister {
  readonly reg: number;
  readonly offset: number;
}

/** A list of registers with the names they have on a VHE host (read_sysreg_el1), and without. */
export interface SavedRegisters {
  readonly vhe: readonly SavedRegister[];
  readonly nvhe: readonly SavedRegister[];
}

type Row = readonly [saved: SavedSysreg & SysregName, name?: SysregName];

function list(...rows: readonly Row[]): SavedRegisters {
  const named = (saved: SavedSysreg, name: SysregName): SavedRegister => ({
    reg: R[name],
    offset: KvmCpuContextLayout.offset.sysregs + 8 * SAVED[saved],
  });
  return {
    vhe: rows.map(([saved, name]) => named(saved, name ?? saved)),
    nvhe: rows.map(([saved, name]) =>
      named(saved, name === undefined || name.endsWith("_EL12") ? saved : name)
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

/** Where the contexts are in a vCPU's structure. */
export const GUEST = KvmVcpuLayout.offset.ctxt;
export const HOST = KvmVcpuLayout.offset.hostCtxt;

/** Reads every register of a list into the context `ctxt` bytes from the sequence's argument 0. */
export function sysregSave(of: readonly SavedRegister[], ctxt = 0): readonly SequenceStep[] {
  return of.map(({ reg, offset }) => STEP.save(reg, at(ctxt + offset)));
}

/** Writes every register of a list from there. */
export function sysregRestore(of: readonly SavedRegister[], ctxt = 0): readonly SequenceStep[] {
  return of.map(({ reg, offset }) => STEP.restore(reg, at(ctxt + offset)));
}

/** PSTATE.M, and its values for AArch64 EL2 and up. */
const MODE_MASK = 0x1f;
const MODE_EL2T = 0x8;
const MODE_EL2H = 0x9;
const SPSR_NRW = fields.SPSR.NRW;

/** Where the guest was left (__sysreg_save_el2_return_state; PSTATE was saved by the exit's fixup). */
export function sysregSaveEl2ReturnState(ctxt = 0): SequenceStep {
  return STEP.save(R.ELR_EL2, at(ctxt + KvmCpuContextLayout.offset.pc));
}

/** Where ERET is to go (__sysreg_restore_el2_return_state), with {@link el2ReturnPstate} as argument 1. */
export function sysregRestoreEl2ReturnState(ctxt = 0): readonly SequenceStep[] {
  return [
    STEP.restore(R.ELR_EL2, at(ctxt + KvmCpuContextLayout.offset.pc)),
    STEP.write(R.SPSR_EL2, { arg: 1 }),
  ];
}

/** Whether a return to a saved PSTATE is not one of those that {@link el2ReturnPstate} makes illegal. */
export function isLegalReturn(pstate: number): boolean {
  return (pstate & SPSR_NRW) !== 0 || (pstate & MODE_MASK) < MODE_EL2T;
}

/**
 * The PSTATE that ERET is to restore. A saved one of EL2 or above would give the guest the host's
 * privileges: it becomes an illegal exception return instead.
 */
export function el2ReturnPstate({ memory, base }: KvmCpuContext): number {
  const pstate = memory.ldi32(base + KvmCpuContextLayout.offset.pstate);
  return isLegalReturn(pstate) ? pstate : MODE_EL2H | SPSR.IL;
}
