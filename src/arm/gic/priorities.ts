/**
 * Priority arithmetic common to the physical and the virtual CPU interface (IHI 0069, 4.8). A lower
 * number is a higher priority. All implemented priority bits can be group priority, so one 32-bit
 * active priorities register holds every level of a group.
 */
import { IDLE_PRIORITY } from "../arch/gic.ts";
import { PRIBITS } from "./bank.ts";

/** Below the priority bits. */
const SHIFT = 8 - PRIBITS;
// V8 folds what it knows of a constant of the module itself, and has to look up imported ones.
const IDLE = IDLE_PRIORITY;
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

/** The mask of the group priority bits that BPR0 leaves: 7 to n + 1. */
export function groupMask0(bpr0: number): number {
  return (0xff << (bpr0 + 1)) & 0xff;
}

/** The same of BPR1, without CBPR: 7 to n. */
export function groupMask1(bpr1: number): number {
  return (0xff << bpr1) & 0xff;
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
  return 1 << (groupPriority >>> SHIFT);
}

/** The position of the lowest bit set, 32 for none. */
export function lowestBit(word: number): number {
  return word === 0 ? 32 : 31 - Math.clz32(word & -word);
}

/** The priority that the lowest bit set of the active priorities stands for; idle when none is. */
export function runningPriority(ap0: number, ap1: number): number {
  const active = ap0 | ap1;
  return active === 0 ? IDLE : lowestBit(active) << SHIFT;
}

/** Group of the highest active priority, or -1. At equal priority group 0 counts as the higher. */
export function runningGroup(ap0: number, ap1: number): -1 | 0 | 1 {
  const active = ap0 | ap1;
  if (active === 0) return -1;
  return (ap0 & active & -active) !== 0 ? 0 : 1;
}

/** Whether an interrupt of `priority` may be signalled over the active priorities, given its group's mask. */
export function preempts(priority: number, active: number, mask: number): boolean {
  return active === 0 || (priority & mask) < ((lowestBit(active) << SHIFT) & mask);
}
