/** The registers that a vCPU has a value of its own of. Mirrors enum vcpu_sysreg of arch/arm64/include/asm/kvm_host.h. */
import type { SysregName } from "../arm/arch/sysregs.ts";

type UpTo30 =
  | 0
  | 1
  | 2
  | 3
  | 4
  | 5
  | 6
  | 7
  | 8
  | 9
  | `1${0 | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9}`
  | `2${0 | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9}`
  | 30;

/** PMEVCNTR<n>_EL0 or PMEVTYPER<n>_EL0 of all counters that the architecture has room for. */
function monitors<const K extends "CNTR" | "TYPER">(kind: K): `PMEV${K}${UpTo30}_EL0`[] {
  return Array.from({ length: 31 }, (_, n) => `PMEV${kind}${n as UpTo30}_EL0` as const);
}

/** The EL1 and EL0 registers that a vCPU owns, saved at vcpu_put and loaded at vcpu_load (enum vcpu_sysreg). */
export const SAVED_SYSREGS = [
  "MPIDR_EL1",
  "CSSELR_EL1",
  "SCTLR_EL1",
  "ACTLR_EL1",
  "CPACR_EL1",
  "TTBR0_EL1",
  "TTBR1_EL1",
  "TCR_EL1",
  "ESR_EL1",
  "AFSR0_EL1",
  "AFSR1_EL1",
  "FAR_EL1",
  "MAIR_EL1",
  "VBAR_EL1",
  "CONTEXTIDR_EL1",
  "TPIDR_EL0",
  "TPIDRRO_EL0",
  "TPIDR_EL1",
  "AMAIR_EL1",
  "CNTKCTL_EL1",
  "PAR_EL1",
  "MDSCR_EL1",
  "MDCCINT_EL1",
  "OSLSR_EL1",
  "ELR_EL1",
  "SPSR_EL1",
  "SP_EL0",
  "SP_EL1",
  // In memory only: the performance monitors
  "PMCR_EL0",
  "PMSELR_EL0",
  ...monitors("CNTR"),
  "PMCCNTR_EL0",
  ...monitors("TYPER"),
  "PMCCFILTR_EL0",
  "PMCNTENSET_EL0",
  "PMINTENSET_EL1",
  "PMOVSSET_EL0",
  "PMUSERENR_EL0",
  // In memory only: of AArch32 guests, and of the RAS extension
  "DBGVCR32_EL2",
  "DACR32_EL2",
  "IFSR32_EL2",
  "FPEXC32_EL2",
  "DISR_EL1",
] as const satisfies readonly (SysregName | "DISR_EL1")[];
export type SavedSysreg = (typeof SAVED_SYSREGS)[number];

/** Position in a context's `sysregs`. */
export const SAVED: Readonly<Record<SavedSysreg, number>> = Object.fromEntries(
  SAVED_SYSREGS.map((name, i) => [name, i]),
) as Record<SavedSysreg, number>;
