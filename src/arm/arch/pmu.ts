/**
 * The performance monitors as data: events, fields, how registers are numbered. Source: Arm
 * Architecture Reference Manual (DDI 0487), D11 "The Performance Monitors Extension" and the PM*
 * registers in D19; PMUv3 of Armv8.0.
 */
import { R } from "./sysregs.ts";

/** Event counters that exist, as many as a Cortex-A57 has; and the number of the cycle counter in masks. */
export const EVENT_COUNTERS = 6;
export const CYCLE_COUNTER = 31;
/** All counters' bits in PMCNTENSET_EL0 and its like. */
export const COUNTERS_MASK = (0x8000_0000 | ((1 << EVENT_COUNTERS) - 1)) >>> 0;

/** Events that are counted here: PMCEID0_EL0 says these and no others. */
export const PMU_EVENT = {
  SW_INCR: 0x00,
  /** Instructions architecturally executed: not those that ended in an exception of their own. */
  INST_RETIRED: 0x08,
  /** Exceptions taken, at the level they are taken from; returns, at the level of the ERET. */
  EXC_TAKEN: 0x09,
  EXC_RETURN: 0x0a,
  /** One for each instruction begun on this CPU; none while it waits. */
  CPU_CYCLES: 0x11,
  /** Data reads and writes, one for each register's worth. */
  MEM_ACCESS: 0x13,
  CHAIN: 0x1e,
} as const;

export const PMCEID0 = Object.values<number>(PMU_EVENT).reduce(
  (bits, event) => bits | (1 << event),
  0,
);

/** PMCR_EL0. LC is RES1 and D is RES0 where nothing is AArch32. */
export const PMCR = {
  E: 1 << 0,
  P: 1 << 1,
  C: 1 << 2,
  X: 1 << 4,
  DP: 1 << 5,
  LC: 1 << 6,
  N_SHIFT: 11,
} as const;
/** Fields of PMCR_EL0 that keep what is written. */
export const PMCR_KEEP = PMCR.E | PMCR.X | PMCR.DP;

/** PMEVTYPER<n>_EL0 and PMCCFILTR_EL0: levels left out, and EL2 let in. */
export const PMEVTYPER = {
  EVENT: 0x3ff,
  NSH: 1 << 27,
  U: 1 << 30,
  P: 1 << 31,
} as const;
/** Fields of PMCCFILTR_EL0, and those of PMEVTYPER<n>_EL0: without EL3 and memory tagging there are no others. */
export const PMCCFILTR_KEEP = (PMEVTYPER.NSH | PMEVTYPER.U | PMEVTYPER.P) >>> 0;
export const PMEVTYPER_KEEP = (PMCCFILTR_KEEP | PMEVTYPER.EVENT) >>> 0;

/** PMUSERENR_EL0. */
export const PMUSERENR = { EN: 1, SW: 2, CR: 4, ER: 8, KEEP: 15 } as const;

/** The overflow interrupt, a PPI, as on QEMU's `virt` board. */
export const PMU_PPI = 23;

/** Register-file index of a counter (31: the cycle counter), and of what it counts. */
export function counterRegister(n: number): number {
  return n === CYCLE_COUNTER ? R.PMCCNTR_EL0 : R.PMEVCNTR0_EL0 + n;
}
export function typeRegister(n: number): number {
  return n === CYCLE_COUNTER ? R.PMCCFILTR_EL0 : R.PMEVTYPER0_EL0 + n;
}
