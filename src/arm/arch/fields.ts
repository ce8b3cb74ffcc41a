/**
 * Fields of the control registers, as masks within a 32-bit half (LO: bits 31 to 0, HI: bits 63 to
 * 32). Source: Arm Architecture Reference Manual (DDI 0487), D19; GICv3 (IHI 0069) chapter 12.
 */

/** HCR_EL2, bits 31 to 0. */
export const HCR = {
  VM: 1 << 0,
  SWIO: 1 << 1,
  PTW: 1 << 2,
  FMO: 1 << 3,
  IMO: 1 << 4,
  AMO: 1 << 5,
  VF: 1 << 6,
  VI: 1 << 7,
  VSE: 1 << 8,
  FB: 1 << 9,
  DC: 1 << 12,
  TWI: 1 << 13,
  TWE: 1 << 14,
  TID0: 1 << 15,
  TID1: 1 << 16,
  TID2: 1 << 17,
  TID3: 1 << 18,
  TSC: 1 << 19,
  TIDCP: 1 << 20,
  TACR: 1 << 21,
  TSW: 1 << 22,
  TPCP: 1 << 23,
  TPU: 1 << 24,
  TTLB: 1 << 25,
  TVM: 1 << 26,
  TGE: 1 << 27,
  TDZ: 1 << 28,
  HCD: 1 << 29,
  TRVM: 1 << 30,
  RW: 1 << 31,
} as const;

/** HCR_EL2, bits 63 to 32. */
export const HCR_HI = {
  CD: 1 << 0,
  ID: 1 << 1,
  E2H: 1 << 2,
  TLOR: 1 << 3,
  MIOCNCE: 1 << 6,
} as const;

/** SCTLR_EL1, and SCTLR_EL2 where the field exists there. */
export const SCTLR = {
  M: 1 << 0,
  A: 1 << 1,
  C: 1 << 2,
  SA: 1 << 3,
  SA0: 1 << 4,
  UMA: 1 << 9,
  I: 1 << 12,
  DZE: 1 << 14,
  UCT: 1 << 15,
  NTWI: 1 << 16,
  NTWE: 1 << 18,
  WXN: 1 << 19,
  SPAN: 1 << 23,
  E0E: 1 << 24,
  EE: 1 << 25,
  UCI: 1 << 26,
} as const;

/** CPTR_EL2 with HCR_EL2.E2H clear. */
export const CPTR = { TFP: 1 << 10, TTA: 1 << 20, TCPAC: 1 << 31 } as const;

/** MDCR_EL2. */
export const MDCR = {
  HPMN: 0x1f,
  TPMCR: 1 << 5,
  TPM: 1 << 6,
  HPME: 1 << 7,
  TDE: 1 << 8,
  TDA: 1 << 9,
  TDOSA: 1 << 10,
  TDRA: 1 << 11,
} as const;

/** CNTKCTL_EL1, and CNTHCTL_EL2 with E2H set (EL1PCTEN and EL1PTEN only there). */
export const CNTKCTL = {
  EL0PCTEN: 1 << 0,
  EL0VCTEN: 1 << 1,
  EVNTEN: 1 << 2,
  EVNTDIR: 1 << 3,
  EVNTI_SHIFT: 4,
  EL0VTEN: 1 << 8,
  EL0PTEN: 1 << 9,
  EL1PCTEN: 1 << 10,
  EL1PTEN: 1 << 11,
} as const;

/** CNTHCTL_EL2 with E2H clear. */
export const CNTHCTL = { EL1PCTEN: 1 << 0, EL1PCEN: 1 << 1 } as const;

/** The CTL register of every generic timer. */
export const TIMER_CTL = { ENABLE: 1, IMASK: 2, ISTATUS: 4 } as const;

/** ICH_HCR_EL2, the traps. */
export const ICH_HCR = { TC: 1 << 10, TALL0: 1 << 11, TALL1: 1 << 12, TDIR: 1 << 14 } as const;

/** SPSR_ELx and PSTATE as saved there. */
export const SPSR = {
  SPSEL: 1,
  EL_SHIFT: 2,
  NRW: 1 << 4,
  DAIF_SHIFT: 6,
  IL: 1 << 20,
  SS: 1 << 21,
  PAN: 1 << 22,
  UAO: 1 << 23,
  DIT: 1 << 24,
  IL_SHIFT: 20,
  SS_SHIFT: 21,
  PAN_SHIFT: 22,
  UAO_SHIFT: 23,
  DIT_SHIFT: 24,
  NZCV_SHIFT: 28,
} as const;

/** TCR_EL1 and TCR_EL2 with E2H set, bits 63 to 32; TBI of TCR_EL2 with E2H clear (bits 31 to 0). */
export const TCR = { TBI0_HI: 1 << 5, TBI1_HI: 1 << 6, TBI_EL2: 1 << 20 } as const;
