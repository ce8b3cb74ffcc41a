/**
 * Bits that a system register holds: the rest is RES0, or RES1 where named. Source: Arm Architecture
 * Reference Manual (DDI 0487), D19, for the features that id_registers.ts says are implemented.
 */
import { DBGBCR, DBGWCR } from "./arch/debug_registers.ts";
import type { SysregName } from "./arch/sysregs.ts";

/** Bits kept on a write, and bits always set, as [keep lo, keep hi, set lo, set hi]. */
export type WriteMask = readonly [keepLo: number, keepHi: number, setLo: number, setHi: number];

const ALL = 0xffff_ffff;
const low = (keep: number, set = 0): WriteMask => [keep, 0, set, 0];

const SPSR_MASK = low(0xf1f0_03df);
/** SCTLR_EL1, and SCTLR_EL2 with E2H. RES1: LSMAOE, nTLSMD, EIS, TSCXT, EOS, SED, ITD. Little-endian only. */
export const SCTLR_TWO_LEVELS: WriteMask = low(0x048d_d21f, 0x3050_0980);
/** SCTLR_EL2 with E2H clear. */
export const SCTLR_ONE_LEVEL: WriteMask = low(0x0008_100f, 0x30c5_0830);
/** Regime of two ranges: TCR_EL1, and TCR_EL2 with E2H. */
export const TCR_TWO_RANGES: WriteMask = [0xffff_ffbf, 0x7f7, 0, 0];
/** TCR_EL2 with E2H clear. */
export const TCR_ONE_RANGE: WriteMask = low(0x0177_ff3f, 0x8080_0000);
/** CPTR_EL2 with E2H set, and clear. */
export const CPTR_E2H: WriteMask = low(0x9030_0000);
export const CPTR_PLAIN: WriteMask = low(0x8010_0400, 0x0000_33ff);
/** CNTHCTL_EL2 with E2H set, and clear. */
export const CNTHCTL_E2H: WriteMask = low(0xfff);
export const CNTHCTL_PLAIN: WriteMask = low(0xff);

function numbered(
  name: "DBGBCR" | "DBGWCR" | "DBGWVR",
  mask: WriteMask,
): Partial<Record<SysregName, WriteMask>> {
  return Object.fromEntries(Array.from({ length: 16 }, (_, n) => [`${name}${n}_EL1`, mask]));
}

/** Registers that are not here keep all 64 bits. */
export const WRITE_MASKS: Readonly<Partial<Record<SysregName, WriteMask>>> = {
  SCTLR_EL1: SCTLR_TWO_LEVELS,
  ACTLR_EL1: low(0),
  ACTLR_EL2: low(0),
  CPACR_EL1: low(0x1030_0000),
  TTBR0_EL1: [0xffff_fffe, ALL, 0, 0],
  TTBR1_EL1: [0xffff_fffe, ALL, 0, 0],
  TTBR0_EL2: [0xffff_fffe, ALL, 0, 0],
  TTBR1_EL2: [0xffff_fffe, ALL, 0, 0],
  TCR_EL1: TCR_TWO_RANGES,
  AFSR0_EL1: low(ALL),
  AFSR1_EL1: low(ALL),
  AFSR0_EL2: low(ALL),
  AFSR1_EL2: low(ALL),
  ESR_EL1: low(ALL),
  ESR_EL2: low(ALL),
  VBAR_EL1: [0xffff_f800, ALL, 0, 0],
  VBAR_EL2: [0xffff_f800, ALL, 0, 0],
  CONTEXTIDR_EL1: low(ALL),
  CONTEXTIDR_EL2: low(ALL),
  CSSELR_EL1: low(0xf),
  SPSR_EL1: SPSR_MASK,
  SPSR_EL2: SPSR_MASK,
  CNTKCTL_EL1: low(0x3ff),
  CNTFRQ_EL0: low(ALL),
  VPIDR_EL2: low(ALL),
  VMPIDR_EL2: [0xc1ff_ffff, 0xff, 0x8000_0000, 0],
  // CD, ID, E2H, TLOR, MIOCNCE; EL1 is AArch64 only, so RW is RES1
  HCR_EL2: [ALL, 0x4f, 0x8000_0000, 0],
  MDCR_EL2: low(0xfff),
  HSTR_EL2: low(0xffff),
  HACR_EL2: low(0),
  VTCR_EL2: low(0x0067_ffff, 0x8000_0000),
  // 8 bits of VMID, no CnP
  VTTBR_EL2: [0xffff_fffe, 0x00ff_ffff, 0, 0],
  HPFAR_EL2: [0xffff_fff0, 0xff, 0, 0],
  MDSCR_EL1: low(0x6ce0_f041),
  MDCCINT_EL1: low(0x6000_0000),
  OSDLR_EL1: low(1),
  OSECCR_EL1: low(ALL),
  OSDTRRX_EL1: low(ALL),
  OSDTRTX_EL1: low(ALL),
  DBGPRCR_EL1: low(1),
  ...numbered("DBGBCR", low(DBGBCR.KEEP, DBGBCR.BAS)),
  ...numbered("DBGWCR", low(DBGWCR.KEEP)),
  ...numbered("DBGWVR", [0xffff_fffc, ALL, 0, 0]),
};
