/**
 * The identification registers of the physical core: exactly what is implemented, which is Armv8.0
 * with EL2, VHE (with its v8.1 debug), PAN, LORegions without descriptors, FP and Advanced SIMD state,
 * and a GICv3 system register interface. Source: Arm Architecture Reference Manual (DDI 0487), D19.
 */
import type { SysregName } from "./arch/sysregs.ts";

/** MIDR_EL1: implementer 0 (reserved for software), architecture by the ID registers, no known part. */
export const MIDR = 0x000f_0570;

/** Hardware breakpoints and watchpoints that exist (their matching does not). */
export const BREAKPOINTS = 2;
export const WATCHPOINTS = 2;

/** Physical address bits: ID_AA64MMFR0_EL1.PARange. */
export const PA_BITS = 40;

/** Bytes that DC ZVA clears. */
export const ZVA_BYTES = 64;

/** MPIDR_EL1 of CPU `index`: 16 per cluster, as many as an SGI's target list reaches. */
export function mpidrOf(index: number): number {
  return 0x8000_0000 + (index >> 4) * 0x100 + (index & 15);
}

/** Constant registers as [bits 31 to 0, bits 63 to 32]; identification registers not named here read as zero. */
export const ID_VALUES: Readonly<Partial<Record<SysregName, readonly [number, number]>>> = {
  // EL0, EL1, EL2 in AArch64 only, no EL3; FP, AdvSIMD; GIC 1; nothing speculates: CSV2 1, CSV3 1
  ID_AA64PFR0_EL1: [0x0100_0111, 0x1100_0000],
  // Debug version 7 (v8 with VHE), no PMU, no trace; BRPs and WRPs are the count minus one
  ID_AA64DFR0_EL1: [7 | ((BREAKPOINTS - 1) << 12) | ((WATCHPOINTS - 1) << 20), 0],
  // PARange 2 (40 bits), ASIDBits 2 (16), 4K granule only
  ID_AA64MMFR0_EL1: [0x0f00_0022, 0],
  // VMIDBits 0 (8), VH, LO, PAN
  ID_AA64MMFR1_EL1: [0x0011_0100, 0],
  // Lines of 64 bytes, L1Ip PIPT, IDC (no clean needed to fetch what was written), not DIC
  CTR_EL0: [0x9444_c004, 0],
  // Separate level 1, unified level 2; LoC 2, LoUU and LoUIS 1
  CLIDR_EL1: [0x0a20_0023, 0],
};

function cacheSize(kib: number, ways: number): number {
  const sets = (kib * 1024) / 64 / ways;
  return ((sets - 1) << 13) | ((ways - 1) << 3) | 2;
}

/** CCSIDR_EL1 by CSSELR_EL1 (level - 1 in bits 3 to 1, instruction cache in bit 0). */
const CACHE_SIZES: readonly number[] = [cacheSize(32, 4), cacheSize(32, 4), cacheSize(1024, 16)];

/** CCSIDR_EL1 for a selector; 0 (UNKNOWN) for a cache that CLIDR_EL1 does not have. */
export function ccsidr(csselr: number): number {
  return CACHE_SIZES[csselr & 15] ?? 0;
}

/** Registers that the implemented features leave out: UNDEFINED at every level. */
export const ABSENT: ReadonlySet<SysregName> = new Set<SysregName>([
  // Only reachable from EL3
  "SP_EL2",
  // Only where EL1 or EL0 can use AArch32
  "DACR32_EL2",
  "IFSR32_EL2",
  "FPEXC32_EL2",
  "DBGVCR32_EL2",
  "SPSR_abt",
  "SPSR_fiq",
  "SPSR_irq",
  "SPSR_und",
  // 5 priority bits: one active-priority register per group
  ...([1, 2, 3] as const).flatMap((n): SysregName[] => [
    `ICC_AP0R${n}_EL1`,
    `ICC_AP1R${n}_EL1`,
    `ICH_AP0R${n}_EL2`,
    `ICH_AP1R${n}_EL2`,
  ]),
  ...range(BREAKPOINTS, 16).flatMap((n): SysregName[] => [
    `DBGBVR${n}_EL1` as SysregName,
    `DBGBCR${n}_EL1` as SysregName,
  ]),
  ...range(WATCHPOINTS, 16).flatMap((n): SysregName[] => [
    `DBGWVR${n}_EL1` as SysregName,
    `DBGWCR${n}_EL1` as SysregName,
  ]),
]);

function range(from: number, to: number): number[] {
  return Array.from({ length: to - from }, (_, i) => from + i);
}
