/**
 * What world switches cost: per vCPU and exit reason, how often the guest was left for it, how long it
 * stayed outside and what the physical CPU did meanwhile. No kernel file: real KVM does not count this.
 *
 * A switch is measured from the exception that leaves the guest to the ERET of the vCPU's next entry,
 * in virtual time. What does not count: the time while the vCPU's thread is blocked (WFI, powered off,
 * waiting for other vCPUs) until it has a CPU again, and the time in user space when KVM_RUN is not
 * called again at once. Waiting for a CPU that another thread has does count.
 *
 * All of it is `observe` state: nothing here decides anything.
 */
import { addSmall, type SharedMemory } from "../base/memory.ts";
import type { ViewOf } from "../base/struct.ts";
import * as el2Port from "../arm/el2_port.ts";
import {
  type El2Port,
  FIRST_OCTAVE,
  OCTAVES,
  SWITCH_BUCKETS,
  SWITCH_REASONS,
  SwitchSlotLayout,
  WorldSwitchLayout,
} from "../arm/el2_port.ts";

export { SWITCH_BUCKETS, SWITCH_REASONS, WorldSwitchLayout };

/** Exit reasons: exception classes 0 to 63, then what is no exception class. */
export const SWITCH_REASON = { IRQ: 64, SERROR: 65, HYP_GONE: 66 } as const;

/** Cycles of the modelled core in a nanosecond: PORT_COST's figures were measured at 2.4 GHz. */
export const CYCLES_PER_NS = 2.4;

/** Switches of one reason. */
export type SwitchSlot = ViewOf<typeof SwitchSlotLayout>;

// As constants of this module, V8 knows them.
const add = addSmall, REASONS = el2Port.SWITCH_REASONS;
const SLOT_WORDS = el2Port.SwitchSlotLayout.size >>> 2;
const WORD = {
  COUNT: (el2Port.WorldSwitchLayout.offset.slots + el2Port.SwitchSlotLayout.offset.count) >>> 2,
  REASON: el2Port.WorldSwitchLayout.offset.reason >>> 2,
} as const;

/** The histogram bucket of a time in ns. */
export function switchBucket(ns: number): number {
  if (ns < 2 ** FIRST_OCTAVE) return 0;
  if (ns >= 2 ** (FIRST_OCTAVE + OCTAVES)) return SWITCH_BUCKETS - 1;
  const octave = 31 - Math.clz32(ns);
  return 1 + 4 * (octave - FIRST_OCTAVE) + ((ns >>> (octave - 2)) & 3);
}

/** The first time, in ns, that no longer belongs to the bucket; Infinity for the last. */
export function switchBucketEnd(bucket: number): number {
  if (bucket === 0) return 2 ** FIRST_OCTAVE;
  if (bucket >= SWITCH_BUCKETS - 1) return Infinity;
  const octave = FIRST_OCTAVE + Math.floor((bucket - 1) / 4);
  return 2 ** (octave - 2) * (5 + ((bucket - 1) % 4));
}

/** The bucket of a histogram of `buckets` whole doublings (bucket b: below 2^(b + 6) ns, the last open) that a bucket goes into. */
export function octaveOf(bucket: number, buckets: number): number {
  return Math.min(buckets - 1, Math.ceil(bucket / 4));
}

/** Switches of one reason, of one vCPU or of several added up. */
export interface SwitchTotals {
  count: number;
  totalNs: number;
  maxNs: number;
  operationNs: number;
  registersMoved: number;
  /** {@link SWITCH_BUCKETS} counts. */
  readonly buckets: number[];
}

/** Totals with nothing in them. */
export function noSwitches(): SwitchTotals {
  return {
    count: 0,
    totalNs: 0,
    maxNs: 0,
    operationNs: 0,
    registersMoved: 0,
    buckets: new Array<number>(SWITCH_BUCKETS).fill(0),
  };
}

/**
 * The time that a share `p` (0 to 1) of the switches does not exceed, in ns: at most a quarter of a
 * doubling too high, never above the maximum; undefined when none is complete.
 */
export function switchPercentile(totals: SwitchTotals, p: number): number | undefined {
  const complete = totals.buckets.reduce((sum, n) => sum + n, 0);
  const want = Math.max(1, Math.ceil(p * complete));
  let seen = 0;
  for (let i = 0; i < SWITCH_BUCKETS; i++) {
    seen += totals.buckets[i] ?? 0;
    if (seen >= want) return Math.min(switchBucketEnd(i) - 1, totals.maxNs);
  }
  return undefined;
}

/**
 * Measures one vCPU's switches. {@link left} and {@link entered} frame a switch; {@link pause} and
 * {@link resume} cut out what is not the vCPU's: another thread's work on the same physical CPU, and
 * the time while it is blocked.
 */
export class WorldSwitchMeter {
  // V8 knows what a field holds, if that is the first it has held: without "declare" that were undefined.
  declare readonly memory: SharedMemory;
  declare private readonly slots: readonly SwitchSlot[];
  declare private readonly operationsAt: number;
  /** The record's byte address, signed. */
  declare private readonly at: number;
  /** Its words. */
  declare private readonly words: Int32Array;

  /** `at`: an instance of {@link WorldSwitchLayout}, zeroed. */
  constructor(memory: SharedMemory, at: number) {
    this.memory = memory;
    const view = WorldSwitchLayout.at(memory, at);
    this.slots = Array.from(
      { length: SWITCH_REASONS },
      (_, i) => SwitchSlotLayout.at(memory, view.slots + i * SwitchSlotLayout.size),
    );
    this.operationsAt = view.operations;
    this.at = at | 0;
    this.words = new Int32Array(memory.memory.buffer, at, WorldSwitchLayout.size >>> 2);
  }

  /** The guest was left just now, on the CPU of `port`, which has not done anything since. */
  left(port: El2Port): void {
    port.meter.left(this.at);
  }

  /** Why it was left: a {@link SWITCH_REASON} or an exception class. */
  because(reason: number): void {
    const words = this.words;
    words[WORD.REASON] = reason + 1;
    if (reason < REASONS) add(words, WORD.COUNT + reason * SLOT_WORDS, 1);
  }

  /** The guest has been entered just now, on the CPU of `port`: the switch is complete. */
  entered(port: El2Port): void {
    port.meter.entered(this.at);
  }

  /** The vCPU's thread gives its CPU up; `blocked`: time does not count until it is back. */
  pause(port: El2Port, blocked: boolean): void {
    port.meter.pause(this.at, blocked);
  }

  /** The vCPU's thread has a CPU again, or KVM_RUN begins. */
  resume(port: El2Port): void {
    port.meter.resume(this.at);
  }

  /** Adds the switches of `reason` to `into`. */
  addTo(into: SwitchTotals, reason: number): void {
    const slot = this.slots[reason];
    if (slot === undefined || slot.count === 0) return;
    into.count += slot.count;
    into.totalNs += slot.totalNs;
    into.maxNs = Math.max(into.maxNs, slot.maxNs);
    into.operationNs += slot.operationNs;
    into.registersMoved += slot.registersMoved;
    for (let i = 0; i < SWITCH_BUCKETS; i++) {
      into.buckets[i] = (into.buckets[i] ?? 0) + this.memory.ld32(slot.buckets + 4 * i);
    }
  }

  /** Exits for `reason`. */
  count(reason: number): number {
    return this.slots[reason]?.count ?? 0;
  }

  /** el2_port operations of `kind` (a position in PORT_KINDS) between exits and entries. */
  operations(kind: number): number {
    return this.memory.ld53(this.operationsAt + 8 * kind);
  }
}
