/**
 * The self-hosted debug registers as data: how many units a core has, the fields of their control
 * registers, and what addresses a watchpoint covers. Source: Arm Architecture Reference Manual (DDI
 * 0487), D2 "AArch64 Self-hosted Debug" and DBGBCR, DBGWCR, MDSCR in D19.
 */

/** Breakpoints, the last of which can match a context, and watchpoints: as many as a Cortex-A57 has. */
export const BREAKPOINTS = 6;
export const CONTEXT_BREAKPOINTS = 2;
export const WATCHPOINTS = 4;

/** Fields that DBGBCR<n>_EL1 and DBGWCR<n>_EL1 share. */
export const DBGCR = {
  E: 1,
  /** PMC or PAC: bit 0 selects EL1, bit 1 EL0. */
  PXC_SHIFT: 1,
  HMC: 1 << 13,
  SSC_SHIFT: 14,
  LBN_SHIFT: 16,
} as const;

/** DBGBCR<n>_EL1: the type; the byte address select is RES1 where nothing is AArch32. */
export const DBGBCR = { BAS: 0xf << 5, BT_SHIFT: 20, KEEP: 0x00ff_e007 } as const;

/** DBGBCR<n>_EL1.BT: bit 0 says linked; what is compared, by the other bits. */
export const BT = { LINKED: 1, ADDRESS: 0, CONTEXT: 2, VMID: 8 } as const;

/** DBGWCR<n>_EL1. */
export const DBGWCR = {
  LSC_SHIFT: 3,
  BAS_SHIFT: 5,
  WT: 1 << 20,
  MASK_SHIFT: 24,
  KEEP: 0x1f1f_ffff,
} as const;

/** MDSCR_EL1. */
export const MDSCR = { SS: 1 << 0, TDCC: 1 << 12, KDE: 1 << 13, MDE: 1 << 15 } as const;
/** Bits of MDSCR_EL1 that belong to the external debugger: written only under the OS lock, to restore them. */
export const MDSCR_EXTERNAL = 0x6ce0_4040;

/** OSLSR_EL1. */
export const OSLSR = { OSLM: 8, OSLK: 2 } as const;

/** What DFSC and IFSC say of a debug event. */
export const FSC_DEBUG = 0x22;

/** Software Step's ISS: whether the last instruction was stepped, and was a Load-Exclusive. */
export const STEP_ISS = { ISV: 1 << 24, EX: 1 << 6 } as const;

/** Bits of a CPU's `debugArmed`: breakpoint n, watchpoint n, and every address there is. */
export const ARMED = { BREAKPOINT: 1, WATCHPOINT: 1 << 16, ALL_CODE: 1 << 30 } as const;
/** All breakpoints, and all watchpoints. */
export const ARMED_CODE = 0x4000_ffff;
export const ARMED_DATA = 0x00ff_0000;

/** An address without what is the same in all its upper bits: VA bits 48 to 0, exact in a number. */
export function address49(lo: number, hi: number): number {
  return (hi & 0x1_ffff) * 0x1_0000_0000 + (lo >>> 0);
}

/**
 * Bytes that a watchpoint covers from its first one on. Of what is CONSTRAINED UNPREDICTABLE: bytes that
 * are not next to each other select the whole doubleword, reserved masks nothing, and with a mask BAS and
 * the masked address bits do not matter.
 */
export function watchedLength(wcr: number, wvrLo: number): number {
  const mask = (wcr >>> DBGWCR.MASK_SHIFT) & 31;
  if (mask > 0) return mask < 3 ? 0 : 2 ** mask;
  const bas = selectedBytes(wcr, wvrLo);
  const run = bas / (bas & -bas);
  return bas === 0 ? 0 : (run & (run + 1)) === 0 ? Math.log2(run + 1) : 8;
}

/** The first of those bytes. */
export function watchedStart(wcr: number, wvrLo: number, wvrHi: number): number {
  const at = address49(wvrLo & ~3, wvrHi);
  const mask = (wcr >>> DBGWCR.MASK_SHIFT) & 31;
  if (mask > 0) return at - at % 2 ** mask;
  const bas = selectedBytes(wcr, wvrLo);
  const contiguous = watchedLength(wcr, wvrLo) !== 8 || bas === 0xff;
  return contiguous ? at + Math.log2(bas & -bas) : at - at % 8;
}

/** BAS: four bits of it where the address is that of an odd word. */
function selectedBytes(wcr: number, wvrLo: number): number {
  return (wcr >>> DBGWCR.BAS_SHIFT) & (wvrLo & 4 ? 0xf : 0xff);
}
