/**
 * The AArch64 system registers as data: name, encoding and what kind of thing stands behind the
 * encoding. Source: Arm Architecture Reference Manual (DDI 0487), D19 "AArch64 System Register
 * Descriptions" and D17 "Accessing PSTATE fields, System registers"; GICv3 (IHI 0069) chapter 12.
 *
 * Kinds: `store`: 64 bits in the CPU's register file, with at most masking on write; `view`: computed
 * or with side effects (timers, interrupt controller, identification seen through EL2, PSTATE
 * fields), no storage of its own beyond what its owner keeps; `alias`: the `_EL12`/`_EL02` names,
 * which reach another register and exist at EL2 with HCR_EL2.E2H only.
 */

/** op0, op1, CRn, CRm, op2 packed as in the instruction's bits 20 to 5: `op0<<14 | op1<<11 | CRn<<7 | CRm<<3 | op2`. */
export function sysregKey(
  op0: number,
  op1: number,
  crn: number,
  crm: number,
  op2: number,
): number {
  return (op0 << 14) | (op1 << 11) | (crn << 7) | (crm << 3) | op2;
}

/** The five fields of a {@link sysregKey}. */
export function sysregFields(
  key: number,
): { op0: number; op1: number; crn: number; crm: number; op2: number } {
  return {
    op0: key >> 14,
    op1: (key >> 11) & 7,
    crn: (key >> 7) & 15,
    crm: (key >> 3) & 15,
    op2: key & 7,
  };
}

export type SysregKind = "store" | "view" | "alias";

type Row = readonly [
  name: string,
  op0: number,
  op1: number,
  crn: number,
  crm: number,
  op2: number,
  kind: SysregKind,
  access: "rw" | "ro" | "wo",
  /** For an alias: the register it reaches. For an EL1 register with an EL2 twin: the twin E2H redirects to at EL2. */
  target?: string,
];

const numbered = <const P extends string>(
  prefix: P,
  count: number,
  suffix: string,
  at: (n: number) => readonly [number, number, number, number, number],
  kind: SysregKind,
): Row[] =>
  Array.from({ length: count }, (_, n) => [`${prefix}${n}${suffix}`, ...at(n), kind, "rw"]);

const NAMED = [
  // Identification, EL1
  ["MIDR_EL1", 3, 0, 0, 0, 0, "view", "ro"],
  ["MPIDR_EL1", 3, 0, 0, 0, 5, "view", "ro"],
  ["REVIDR_EL1", 3, 0, 0, 0, 6, "view", "ro"],
  ["ID_AA64PFR0_EL1", 3, 0, 0, 4, 0, "view", "ro"],
  ["ID_AA64PFR1_EL1", 3, 0, 0, 4, 1, "view", "ro"],
  ["ID_AA64ZFR0_EL1", 3, 0, 0, 4, 4, "view", "ro"],
  ["ID_AA64SMFR0_EL1", 3, 0, 0, 4, 5, "view", "ro"],
  ["ID_AA64DFR0_EL1", 3, 0, 0, 5, 0, "view", "ro"],
  ["ID_AA64DFR1_EL1", 3, 0, 0, 5, 1, "view", "ro"],
  ["ID_AA64AFR0_EL1", 3, 0, 0, 5, 4, "view", "ro"],
  ["ID_AA64AFR1_EL1", 3, 0, 0, 5, 5, "view", "ro"],
  ["ID_AA64ISAR0_EL1", 3, 0, 0, 6, 0, "view", "ro"],
  ["ID_AA64ISAR1_EL1", 3, 0, 0, 6, 1, "view", "ro"],
  ["ID_AA64ISAR2_EL1", 3, 0, 0, 6, 2, "view", "ro"],
  ["ID_AA64MMFR0_EL1", 3, 0, 0, 7, 0, "view", "ro"],
  ["ID_AA64MMFR1_EL1", 3, 0, 0, 7, 1, "view", "ro"],
  ["ID_AA64MMFR2_EL1", 3, 0, 0, 7, 2, "view", "ro"],
  ["CCSIDR_EL1", 3, 1, 0, 0, 0, "view", "ro"],
  ["CLIDR_EL1", 3, 1, 0, 0, 1, "view", "ro"],
  ["AIDR_EL1", 3, 1, 0, 0, 7, "view", "ro"],
  ["CSSELR_EL1", 3, 2, 0, 0, 0, "store", "rw"],
  ["CTR_EL0", 3, 3, 0, 0, 1, "view", "ro"],
  ["DCZID_EL0", 3, 3, 0, 0, 7, "view", "ro"],
  // Control and translation, EL1 (with the EL2 register that E2H redirects to)
  ["SCTLR_EL1", 3, 0, 1, 0, 0, "store", "rw", "SCTLR_EL2"],
  ["ACTLR_EL1", 3, 0, 1, 0, 1, "store", "rw"],
  ["CPACR_EL1", 3, 0, 1, 0, 2, "store", "rw", "CPTR_EL2"],
  ["TTBR0_EL1", 3, 0, 2, 0, 0, "store", "rw", "TTBR0_EL2"],
  ["TTBR1_EL1", 3, 0, 2, 0, 1, "store", "rw", "TTBR1_EL2"],
  ["TCR_EL1", 3, 0, 2, 0, 2, "store", "rw", "TCR_EL2"],
  ["AFSR0_EL1", 3, 0, 5, 1, 0, "store", "rw", "AFSR0_EL2"],
  ["AFSR1_EL1", 3, 0, 5, 1, 1, "store", "rw", "AFSR1_EL2"],
  ["ESR_EL1", 3, 0, 5, 2, 0, "store", "rw", "ESR_EL2"],
  ["FAR_EL1", 3, 0, 6, 0, 0, "store", "rw", "FAR_EL2"],
  ["PAR_EL1", 3, 0, 7, 4, 0, "store", "rw"],
  ["MAIR_EL1", 3, 0, 10, 2, 0, "store", "rw", "MAIR_EL2"],
  ["AMAIR_EL1", 3, 0, 10, 3, 0, "store", "rw", "AMAIR_EL2"],
  ["LORSA_EL1", 3, 0, 10, 4, 0, "view", "rw"],
  ["LOREA_EL1", 3, 0, 10, 4, 1, "view", "rw"],
  ["LORN_EL1", 3, 0, 10, 4, 2, "view", "rw"],
  ["LORC_EL1", 3, 0, 10, 4, 3, "view", "rw"],
  ["LORID_EL1", 3, 0, 10, 4, 7, "view", "ro"],
  ["VBAR_EL1", 3, 0, 12, 0, 0, "store", "rw", "VBAR_EL2"],
  ["ISR_EL1", 3, 0, 12, 1, 0, "view", "ro"],
  ["CONTEXTIDR_EL1", 3, 0, 13, 0, 1, "store", "rw", "CONTEXTIDR_EL2"],
  ["TPIDR_EL1", 3, 0, 13, 0, 4, "store", "rw"],
  ["CNTKCTL_EL1", 3, 0, 14, 1, 0, "store", "rw", "CNTHCTL_EL2"],
  ["SPSR_EL1", 3, 0, 4, 0, 0, "store", "rw", "SPSR_EL2"],
  ["ELR_EL1", 3, 0, 4, 0, 1, "store", "rw", "ELR_EL2"],
  ["SP_EL0", 3, 0, 4, 1, 0, "store", "rw"],
  ["SP_EL1", 3, 4, 4, 1, 0, "store", "rw"],
  ["SP_EL2", 3, 6, 4, 1, 0, "store", "rw"],
  // PSTATE fields
  ["SPSel", 3, 0, 4, 2, 0, "view", "rw"],
  ["CurrentEL", 3, 0, 4, 2, 2, "view", "ro"],
  ["PAN", 3, 0, 4, 2, 3, "view", "rw"],
  ["UAO", 3, 0, 4, 2, 4, "view", "rw"],
  ["NZCV", 3, 3, 4, 2, 0, "view", "rw"],
  ["DIT", 3, 3, 4, 2, 5, "view", "rw"],
  ["DAIF", 3, 3, 4, 2, 1, "view", "rw"],
  ["FPCR", 3, 3, 4, 4, 0, "view", "rw"],
  ["FPSR", 3, 3, 4, 4, 1, "view", "rw"],
  // Thread, EL0
  ["TPIDR_EL0", 3, 3, 13, 0, 2, "store", "rw"],
  ["TPIDRRO_EL0", 3, 3, 13, 0, 3, "store", "rw"],
  // EL2
  ["VPIDR_EL2", 3, 4, 0, 0, 0, "store", "rw"],
  ["VMPIDR_EL2", 3, 4, 0, 0, 5, "store", "rw"],
  ["SCTLR_EL2", 3, 4, 1, 0, 0, "store", "rw"],
  ["ACTLR_EL2", 3, 4, 1, 0, 1, "store", "rw"],
  ["HCR_EL2", 3, 4, 1, 1, 0, "store", "rw"],
  ["MDCR_EL2", 3, 4, 1, 1, 1, "store", "rw"],
  ["CPTR_EL2", 3, 4, 1, 1, 2, "store", "rw"],
  ["HSTR_EL2", 3, 4, 1, 1, 3, "store", "rw"],
  ["HACR_EL2", 3, 4, 1, 1, 7, "store", "rw"],
  ["TTBR0_EL2", 3, 4, 2, 0, 0, "store", "rw"],
  ["TTBR1_EL2", 3, 4, 2, 0, 1, "store", "rw"],
  ["TCR_EL2", 3, 4, 2, 0, 2, "store", "rw"],
  ["VTTBR_EL2", 3, 4, 2, 1, 0, "store", "rw"],
  ["VTCR_EL2", 3, 4, 2, 1, 2, "store", "rw"],
  ["DACR32_EL2", 3, 4, 3, 0, 0, "store", "rw"],
  ["SPSR_EL2", 3, 4, 4, 0, 0, "store", "rw"],
  ["ELR_EL2", 3, 4, 4, 0, 1, "store", "rw"],
  ["SPSR_irq", 3, 4, 4, 3, 0, "store", "rw"],
  ["SPSR_abt", 3, 4, 4, 3, 1, "store", "rw"],
  ["SPSR_und", 3, 4, 4, 3, 2, "store", "rw"],
  ["SPSR_fiq", 3, 4, 4, 3, 3, "store", "rw"],
  ["IFSR32_EL2", 3, 4, 5, 0, 1, "store", "rw"],
  ["AFSR0_EL2", 3, 4, 5, 1, 0, "store", "rw"],
  ["AFSR1_EL2", 3, 4, 5, 1, 1, "store", "rw"],
  ["ESR_EL2", 3, 4, 5, 2, 0, "store", "rw"],
  ["FPEXC32_EL2", 3, 4, 5, 3, 0, "store", "rw"],
  ["FAR_EL2", 3, 4, 6, 0, 0, "store", "rw"],
  ["HPFAR_EL2", 3, 4, 6, 0, 4, "store", "rw"],
  ["MAIR_EL2", 3, 4, 10, 2, 0, "store", "rw"],
  ["AMAIR_EL2", 3, 4, 10, 3, 0, "store", "rw"],
  ["VBAR_EL2", 3, 4, 12, 0, 0, "store", "rw"],
  ["CONTEXTIDR_EL2", 3, 4, 13, 0, 1, "store", "rw"],
  ["TPIDR_EL2", 3, 4, 13, 0, 2, "store", "rw"],
  ["CNTVOFF_EL2", 3, 4, 14, 0, 3, "store", "rw"],
  ["CNTHCTL_EL2", 3, 4, 14, 1, 0, "store", "rw"],
  // Generic timers
  ["CNTFRQ_EL0", 3, 3, 14, 0, 0, "store", "rw"],
  ["CNTPCT_EL0", 3, 3, 14, 0, 1, "view", "ro"],
  ["CNTVCT_EL0", 3, 3, 14, 0, 2, "view", "ro"],
  ["CNTP_TVAL_EL0", 3, 3, 14, 2, 0, "view", "rw", "CNTHP_TVAL_EL2"],
  ["CNTP_CTL_EL0", 3, 3, 14, 2, 1, "view", "rw", "CNTHP_CTL_EL2"],
  ["CNTP_CVAL_EL0", 3, 3, 14, 2, 2, "view", "rw", "CNTHP_CVAL_EL2"],
  ["CNTV_TVAL_EL0", 3, 3, 14, 3, 0, "view", "rw", "CNTHV_TVAL_EL2"],
  ["CNTV_CTL_EL0", 3, 3, 14, 3, 1, "view", "rw", "CNTHV_CTL_EL2"],
  ["CNTV_CVAL_EL0", 3, 3, 14, 3, 2, "view", "rw", "CNTHV_CVAL_EL2"],
  ["CNTHP_TVAL_EL2", 3, 4, 14, 2, 0, "view", "rw"],
  ["CNTHP_CTL_EL2", 3, 4, 14, 2, 1, "view", "rw"],
  ["CNTHP_CVAL_EL2", 3, 4, 14, 2, 2, "view", "rw"],
  ["CNTHV_TVAL_EL2", 3, 4, 14, 3, 0, "view", "rw"],
  ["CNTHV_CTL_EL2", 3, 4, 14, 3, 1, "view", "rw"],
  ["CNTHV_CVAL_EL2", 3, 4, 14, 3, 2, "view", "rw"],
  // GIC CPU interface
  ["ICC_PMR_EL1", 3, 0, 4, 6, 0, "view", "rw"],
  ["ICC_IAR0_EL1", 3, 0, 12, 8, 0, "view", "ro"],
  ["ICC_EOIR0_EL1", 3, 0, 12, 8, 1, "view", "wo"],
  ["ICC_HPPIR0_EL1", 3, 0, 12, 8, 2, "view", "ro"],
  ["ICC_BPR0_EL1", 3, 0, 12, 8, 3, "view", "rw"],
  ["ICC_AP0R0_EL1", 3, 0, 12, 8, 4, "view", "rw"],
  ["ICC_AP0R1_EL1", 3, 0, 12, 8, 5, "view", "rw"],
  ["ICC_AP0R2_EL1", 3, 0, 12, 8, 6, "view", "rw"],
  ["ICC_AP0R3_EL1", 3, 0, 12, 8, 7, "view", "rw"],
  ["ICC_AP1R0_EL1", 3, 0, 12, 9, 0, "view", "rw"],
  ["ICC_AP1R1_EL1", 3, 0, 12, 9, 1, "view", "rw"],
  ["ICC_AP1R2_EL1", 3, 0, 12, 9, 2, "view", "rw"],
  ["ICC_AP1R3_EL1", 3, 0, 12, 9, 3, "view", "rw"],
  ["ICC_DIR_EL1", 3, 0, 12, 11, 1, "view", "wo"],
  ["ICC_RPR_EL1", 3, 0, 12, 11, 3, "view", "ro"],
  ["ICC_SGI1R_EL1", 3, 0, 12, 11, 5, "view", "wo"],
  ["ICC_ASGI1R_EL1", 3, 0, 12, 11, 6, "view", "wo"],
  ["ICC_SGI0R_EL1", 3, 0, 12, 11, 7, "view", "wo"],
  ["ICC_IAR1_EL1", 3, 0, 12, 12, 0, "view", "ro"],
  ["ICC_EOIR1_EL1", 3, 0, 12, 12, 1, "view", "wo"],
  ["ICC_HPPIR1_EL1", 3, 0, 12, 12, 2, "view", "ro"],
  ["ICC_BPR1_EL1", 3, 0, 12, 12, 3, "view", "rw"],
  ["ICC_CTLR_EL1", 3, 0, 12, 12, 4, "view", "rw"],
  ["ICC_SRE_EL1", 3, 0, 12, 12, 5, "view", "rw"],
  ["ICC_IGRPEN0_EL1", 3, 0, 12, 12, 6, "view", "rw"],
  ["ICC_IGRPEN1_EL1", 3, 0, 12, 12, 7, "view", "rw"],
  ["ICC_SRE_EL2", 3, 4, 12, 9, 5, "view", "rw"],
  // GIC hypervisor control
  ["ICH_HCR_EL2", 3, 4, 12, 11, 0, "view", "rw"],
  ["ICH_VTR_EL2", 3, 4, 12, 11, 1, "view", "ro"],
  ["ICH_MISR_EL2", 3, 4, 12, 11, 2, "view", "ro"],
  ["ICH_EISR_EL2", 3, 4, 12, 11, 3, "view", "ro"],
  ["ICH_ELRSR_EL2", 3, 4, 12, 11, 5, "view", "ro"],
  ["ICH_VMCR_EL2", 3, 4, 12, 11, 7, "view", "rw"],
  // Debug and OS lock
  ["OSDTRRX_EL1", 2, 0, 0, 0, 2, "store", "rw"],
  ["MDCCINT_EL1", 2, 0, 0, 2, 0, "store", "rw"],
  ["MDSCR_EL1", 2, 0, 0, 2, 2, "store", "rw"],
  ["OSDTRTX_EL1", 2, 0, 0, 3, 2, "store", "rw"],
  ["OSECCR_EL1", 2, 0, 0, 6, 2, "store", "rw"],
  ["MDRAR_EL1", 2, 0, 1, 0, 0, "view", "ro"],
  ["OSLAR_EL1", 2, 0, 1, 0, 4, "view", "wo"],
  ["OSLSR_EL1", 2, 0, 1, 1, 4, "store", "ro"],
  ["OSDLR_EL1", 2, 0, 1, 3, 4, "store", "rw"],
  ["DBGPRCR_EL1", 2, 0, 1, 4, 4, "store", "rw"],
  ["DBGCLAIMSET_EL1", 2, 0, 7, 8, 6, "view", "rw"],
  ["DBGCLAIMCLR_EL1", 2, 0, 7, 9, 6, "store", "rw"],
  ["DBGAUTHSTATUS_EL1", 2, 0, 7, 14, 6, "view", "ro"],
  ["MDCCSR_EL0", 2, 3, 0, 1, 0, "view", "ro"],
  ["DBGDTR_EL0", 2, 3, 0, 4, 0, "view", "rw"],
  ["DBGDTRRX_EL0", 2, 3, 0, 5, 0, "view", "rw"],
  ["DBGVCR32_EL2", 2, 4, 0, 7, 0, "store", "rw"],
  // Performance monitors
  ["PMINTENSET_EL1", 3, 0, 9, 14, 1, "view", "rw"],
  ["PMINTENCLR_EL1", 3, 0, 9, 14, 2, "view", "rw"],
  ["PMCR_EL0", 3, 3, 9, 12, 0, "view", "rw"],
  ["PMCNTENSET_EL0", 3, 3, 9, 12, 1, "view", "rw"],
  ["PMCNTENCLR_EL0", 3, 3, 9, 12, 2, "view", "rw"],
  ["PMOVSCLR_EL0", 3, 3, 9, 12, 3, "view", "rw"],
  ["PMSWINC_EL0", 3, 3, 9, 12, 4, "view", "wo"],
  ["PMSELR_EL0", 3, 3, 9, 12, 5, "store", "rw"],
  ["PMCEID0_EL0", 3, 3, 9, 12, 6, "view", "ro"],
  ["PMCEID1_EL0", 3, 3, 9, 12, 7, "view", "ro"],
  ["PMCCNTR_EL0", 3, 3, 9, 13, 0, "view", "rw"],
  ["PMXEVTYPER_EL0", 3, 3, 9, 13, 1, "view", "rw"],
  ["PMXEVCNTR_EL0", 3, 3, 9, 13, 2, "view", "rw"],
  ["PMUSERENR_EL0", 3, 3, 9, 14, 0, "store", "rw"],
  ["PMOVSSET_EL0", 3, 3, 9, 14, 3, "view", "rw"],
  ["PMCCFILTR_EL0", 3, 3, 14, 15, 7, "view", "rw"],
  // E2H names of EL1 registers, from EL2
  ["SCTLR_EL12", 3, 5, 1, 0, 0, "alias", "rw", "SCTLR_EL1"],
  ["CPACR_EL12", 3, 5, 1, 0, 2, "alias", "rw", "CPACR_EL1"],
  ["TTBR0_EL12", 3, 5, 2, 0, 0, "alias", "rw", "TTBR0_EL1"],
  ["TTBR1_EL12", 3, 5, 2, 0, 1, "alias", "rw", "TTBR1_EL1"],
  ["TCR_EL12", 3, 5, 2, 0, 2, "alias", "rw", "TCR_EL1"],
  ["SPSR_EL12", 3, 5, 4, 0, 0, "alias", "rw", "SPSR_EL1"],
  ["ELR_EL12", 3, 5, 4, 0, 1, "alias", "rw", "ELR_EL1"],
  ["AFSR0_EL12", 3, 5, 5, 1, 0, "alias", "rw", "AFSR0_EL1"],
  ["AFSR1_EL12", 3, 5, 5, 1, 1, "alias", "rw", "AFSR1_EL1"],
  ["ESR_EL12", 3, 5, 5, 2, 0, "alias", "rw", "ESR_EL1"],
  ["FAR_EL12", 3, 5, 6, 0, 0, "alias", "rw", "FAR_EL1"],
  ["MAIR_EL12", 3, 5, 10, 2, 0, "alias", "rw", "MAIR_EL1"],
  ["AMAIR_EL12", 3, 5, 10, 3, 0, "alias", "rw", "AMAIR_EL1"],
  ["VBAR_EL12", 3, 5, 12, 0, 0, "alias", "rw", "VBAR_EL1"],
  ["CONTEXTIDR_EL12", 3, 5, 13, 0, 1, "alias", "rw", "CONTEXTIDR_EL1"],
  ["CNTKCTL_EL12", 3, 5, 14, 1, 0, "alias", "rw", "CNTKCTL_EL1"],
  ["CNTP_TVAL_EL02", 3, 5, 14, 2, 0, "alias", "rw", "CNTP_TVAL_EL0"],
  ["CNTP_CTL_EL02", 3, 5, 14, 2, 1, "alias", "rw", "CNTP_CTL_EL0"],
  ["CNTP_CVAL_EL02", 3, 5, 14, 2, 2, "alias", "rw", "CNTP_CVAL_EL0"],
  ["CNTV_TVAL_EL02", 3, 5, 14, 3, 0, "alias", "rw", "CNTV_TVAL_EL0"],
  ["CNTV_CTL_EL02", 3, 5, 14, 3, 1, "alias", "rw", "CNTV_CTL_EL0"],
  ["CNTV_CVAL_EL02", 3, 5, 14, 3, 2, "alias", "rw", "CNTV_CVAL_EL0"],
] as const satisfies readonly Row[];

type Digit = 0 | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9;
type UpTo15 = Digit | 10 | 11 | 12 | 13 | 14 | 15;

export type SysregName =
  | (typeof NAMED)[number][0]
  | `ICH_LR${UpTo15}_EL2`
  | `ICH_AP${0 | 1}R${0 | 1 | 2 | 3}_EL2`
  | `DBG${"B" | "W"}${"C" | "V"}R${UpTo15}_EL1`
  | `PMEV${"CNTR" | "TYPER"}${UpTo15 | `1${6 | 7 | 8 | 9}` | `2${Digit}` | 30}_EL0`;

const NUMBERED: Row[] = [
  ...numbered("ICH_LR", 16, "_EL2", (n) => [3, 4, 12, 12 + (n >> 3), n & 7], "view"),
  ...numbered("ICH_AP0R", 4, "_EL2", (n) => [3, 4, 12, 8, n], "view"),
  ...numbered("ICH_AP1R", 4, "_EL2", (n) => [3, 4, 12, 9, n], "view"),
  ...numbered("DBGBVR", 16, "_EL1", (n) => [2, 0, 0, n, 4], "store"),
  ...numbered("DBGBCR", 16, "_EL1", (n) => [2, 0, 0, n, 5], "store"),
  ...numbered("DBGWVR", 16, "_EL1", (n) => [2, 0, 0, n, 6], "store"),
  ...numbered("DBGWCR", 16, "_EL1", (n) => [2, 0, 0, n, 7], "store"),
  ...numbered("PMEVCNTR", 31, "_EL0", (n) => [3, 3, 14, 8 + (n >> 3), n & 7], "view"),
  ...numbered("PMEVTYPER", 31, "_EL0", (n) => [3, 3, 14, 12 + (n >> 3), n & 7], "view"),
];

/** One system register. */
export interface Sysreg {
  readonly name: SysregName;
  readonly key: number;
  readonly kind: SysregKind;
  readonly access: "rw" | "ro" | "wo";
  /** The lowest exception level that op1 lets in (before traps): 0, 1 or 2. */
  readonly minEl: 0 | 1 | 2;
  /** Position in the register file, for every register (a `view` may leave it unused). */
  readonly index: number;
  /** What E2H redirects to at EL2, or what an alias reaches. */
  readonly target: SysregName | undefined;
}

const MIN_EL: readonly (0 | 1 | 2)[] = [1, 1, 1, 0, 2, 2, 2, 2];

/** Every system register, in register-file order. */
export const SYSREGS: readonly Sysreg[] = [...(NAMED as readonly Row[]), ...NUMBERED].map(
  ([name, op0, op1, crn, crm, op2, kind, access, target], index) => ({
    name: name as SysregName,
    key: sysregKey(op0, op1, crn, crm, op2),
    kind,
    access,
    minEl: MIN_EL[op1] as 0 | 1 | 2,
    index,
    target: target as SysregName | undefined,
  }),
);

const BY_NAME = new Map(SYSREGS.map((r) => [r.name, r]));
const BY_KEY = new Map(SYSREGS.map((r) => [r.key, r]));

/** The register called `name`. */
export function sysreg(name: SysregName): Sysreg {
  return BY_NAME.get(name) as Sysreg;
}

/** The register with this encoding, or undefined: the access is UNDEFINED. */
export function sysregByKey(key: number): Sysreg | undefined {
  return BY_KEY.get(key);
}

/** Register-file position by name: `R.HCR_EL2`. */
export const R: Readonly<Record<SysregName, number>> = Object.fromEntries(
  SYSREGS.map((r) => [r.name, r.index]),
) as Record<SysregName, number>;
