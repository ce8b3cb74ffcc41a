/**
 * Priority arithmetic common to the physical and the virtual CPU interface (IHI 0069, 4.8). A lower
 * number is a higher priority. All implemented priority bits can be group priority, so one 32-bit
 * active priorities register holds every level of a group.
 */
import { IDLE_PRIORITY } from "../arch/gic.ts";
import { PRIBITS } from "./bank.ts";

/** Least value of BPR0; a lower one written is raised to it. */
export const MIN_BPR0 = 7 - PRIBITS;
/** Least value of BPR1. */
export const MIN_BPR1 = MIN_BPR0 + 1;

/** What an interface compares with: its binary points and what they are taken from. */
export interface BinaryPoints {
  readonly bpr0: number;
  readonly bpr1: number;
  /** Group 1 uses BPR0 too (CBPR). */
  readonly common: boolean;
}

/** The mask of the group priority bits for `group` 0 or 1: BPR0 n leaves bits 7 to n + 1, BPR1 n bits 7 to n. */
export function groupMask(points: BinaryPoints, group: number): number {
  const shift = group === 0 || points.common ? points.bpr0 + 1 : points.bpr1;
  return (0xff << shift) & 0xff;
}

/** What BPR1 reads as: with CBPR, BPR0 + 1 but at most 7. */
export function visibleBpr1(points: BinaryPoints): number {
  return points.common ? Math.min(points.bpr0 + 1, 7) : points.bpr1;
}

/** A binary point as stored when `value` is written. */
export function binaryPoint(value: number, least: number): number {
  return Math.max(value & 7, least);
}

/** The bit of an active priorities register that stands for a group priority. */
export function activeBit(groupPriority: number): number {
  return 1 << (groupPriority >>> (8 - PRIBITS));
}

/** The position of the lowest bit set, 32 for none. */
export function lowestBit(word: number): number {
  return word === 0 ? 32 : 31 - Math.clz32(word & -word);
}

/** The priority that the lowest bit set of the active priorities stands for; idle when none is. */
export function runningPriority(ap0: number, ap1: number): number {
  const active = ap0 | ap1;
  return active === 0 ? IDLE_PRIORITY : lowestBit(active) << (8 - PRIBITS);
}

/** Group of the highest active priority, or -1. At equal priority group 0 counts as the higher. */
export function runningGroup(ap0: number, ap1: number): -1 | 0 | 1 {
  if ((ap0 | ap1) === 0) return -1;
  return lowestBit(ap1) < lowestBit(ap0) ? 1 : 0;
}

/** Whether an interrupt of `priority` may be signalled over `running`, given the mask `pmr` and its group's mask. */
export function preempts(priority: number, pmr: number, running: number, mask: number): boolean {
  if (priority >= pmr) return false;
  return running === IDLE_PRIORITY || (priority & mask) < (running & mask);
}
