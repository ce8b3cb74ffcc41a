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
import { array, layout, space, u32, u53, type ViewOf } from "../base/struct.ts";
import * as el2Port from "../arm/el2_port.ts";
import {
  type El2Port,
  PORT_KINDS,
  type PortKind,
  PortLayout,
  type TakeOperations,
} from "../arm/el2_port.ts";

/** Exit reasons: exception classes 0 to 63, then what is no exception class. */
export const SWITCH_REASON = { IRQ: 64, SERROR: 65, HYP_GONE: 66 } as const;
export const SWITCH_REASONS = 67;

/** Cycles of the modelled core in a nanosecond: PORT_COST's figures were measured at 2.4 GHz. */
export const CYCLES_PER_NS = 2.4;

/** Times below 64 ns share the first bucket; four buckets per doubling follow. */
const FIRST_OCTAVE = 6;
/** Doublings that have buckets of their own: up to 2^22 ns (4.2 ms); the last bucket is open. */
const OCTAVES = 16;
export const SWITCH_BUCKETS = 4 * OCTAVES + 2;

/** Switches of one reason. */
const SwitchSlotLayout = layout("switch_slot", {
  /** Exits. One whose next entry has not come yet is in `count` but in nothing else. */
  count: u53("observe"),
  /** Virtual nanoseconds outside the guest, summed, and the longest. */
  totalNs: u53("observe"),
  maxNs: u53("observe"),
  /** Nanoseconds that the el2_port operations cost, summed: the basis of modelled cycles. */
  operationNs: u53("observe"),
  /** Registers moved between the CPU and memory or TypeScript, summed. */
  registersMoved: u53("observe"),
  buckets: array("u32", SWITCH_BUCKETS, "observe"),
});
export type SwitchSlot = ViewOf<typeof SwitchSlotLayout>;

/** Words of a slot. */
const SLOT_WORD = {
  count: SwitchSlotLayout.offset.count >>> 2,
  totalNs: SwitchSlotLayout.offset.totalNs >>> 2,
  operationNs: SwitchSlotLayout.offset.operationNs >>> 2,
  registersMoved: SwitchSlotLayout.offset.registersMoved >>> 2,
  buckets: SwitchSlotLayout.offset.buckets >>> 2,
} as const;
/** What {@link addSmall} adds is below. */
const SMALL = 2 ** 31;

/** One vCPU's switches by reason, and the el2_port operations of all of them by kind. */
export const WorldSwitchLayout = layout("world_switch", {
  slots: space(SWITCH_REASONS * SwitchSlotLayout.size, "observe"),
  operations: array("u53", PORT_KINDS.length, "observe"),
  /** A port's counters when the running stretch began, or the last one ended; and where they lie. */
  since: array("u53", PORT_KINDS.length, "observe"),
  sinceOf: u32("observe"),
  /** The switch under way while the vCPU's thread has no CPU: it may get one of another worker. */
  paused: array("u53", 6, "observe"),
});

/** Registers that one operation of a kind moves; kinds that move none are absent. V0 to V31, FPSR, FPCR are 34. */
const REGISTERS: Readonly<Partial<Record<PortKind, number>>> = {
  sysregRead: 1,
  sysregWrite: 1,
  sysregSave: 1,
  sysregRestore: 1,
  timerRead: 1,
  timerWrite: 1,
  gicRead: 1,
  gicWrite: 1,
  lrRead: 1,
  gicMmioRead: 1,
  gicMmioWrite: 1,
  lrWrite: 1,
  gprSave: 31,
  gprRestore: 31,
  fpSave: 34,
  fpRestore: 34,
};
const COUNTERS_WORDS = 2 * PORT_KINDS.length;
/** The word of `ns` behind the counters of a port. */
const NS_WORD = PortLayout.offset.ns >>> 2;

const TAKERS = new WeakMap<SharedMemory, TakeOperations>();

/** What moves a stretch's operations from a port's counters to a vCPU's, and tells the registers moved. */
function takerOf(memory: SharedMemory): TakeOperations {
  let take = TAKERS.get(memory);
  if (take === undefined) {
    const weights = PORT_KINDS.map((kind) => REGISTERS[kind] ?? 0);
    TAKERS.set(memory, take = el2Port.compileTakeOperations(memory, weights));
  }
  return take;
}
// As a constant of this module, V8 knows it.
const add = addSmall;

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

/** No reason: the way into the guest for the first time of a KVM_RUN. */
const NO_REASON = -1;

/** Times in ns, in an array that keeps V8 from boxing them. */
const T = {
  /** Where the port's clock writes what it shows. */
  NOW: 0,
  /** When the running stretch of time began; below 0 while time does not count. */
  SINCE: 1,
  /** Time outside, without the running stretch. */
  OUTSIDE: 2,
} as const;

/**
 * Measures one vCPU's switches. {@link left} and {@link entered} frame a switch; {@link pause} and
 * {@link resume} cut out what is not the vCPU's: another thread's work on the same physical CPU, and
 * the time while it is blocked.
 */
export class WorldSwitchMeter {
  readonly #slots: readonly SwitchSlot[];
  readonly #operations: number;
  readonly #paused: number;
  readonly #since: number;
  /** A word. */
  readonly #sinceOf: number;
  readonly #take: TakeOperations;
  #measuring = false;
  /** The port's `ns`, bits 31 to 0, when counting began, and when it last ended. */
  #startedNs = 0;
  #stoppedNs = 0;
  #outside = false;
  #reason = NO_REASON;
  /** In {@link T}'s order. */
  readonly #times = Float64Array.of(0, -1, 0);
  #operationNs = 0;
  #registers = 0;

  /** `at`: an instance of {@link WorldSwitchLayout}, zeroed. */
  constructor(readonly memory: SharedMemory, at: number) {
    const view = WorldSwitchLayout.at(memory, at);
    this.#slots = Array.from(
      { length: SWITCH_REASONS },
      (_, i) => SwitchSlotLayout.at(memory, view.slots + i * SwitchSlotLayout.size),
    );
    this.#operations = view.operations;
    this.#since = view.since;
    this.#sinceOf = (at + WorldSwitchLayout.offset.sinceOf) >>> 2;
    this.#paused = view.paused;
    this.#take = takerOf(memory);
  }

  #keep(): void {
    const m = this.memory, at = this.#paused;
    m.st53(at, this.#outside ? 1 : 0);
    m.st53(at + 8, this.#reason + 1);
    m.st53(at + 16, this.#time(T.SINCE) + 1);
    m.st53(at + 24, this.#time(T.OUTSIDE));
    m.st53(at + 32, this.#operationNs);
    m.st53(at + 40, this.#registers);
  }
  #recall(): void {
    const m = this.memory, at = this.#paused;
    this.#outside = m.ld53(at) !== 0;
    this.#reason = m.ld53(at + 8) - 1;
    this.#times[T.SINCE] = m.ld53(at + 16) - 1;
    this.#times[T.OUTSIDE] = m.ld53(at + 24);
    this.#operationNs = m.ld53(at + 32);
    this.#registers = m.ld53(at + 40);
  }

  #time(which: number): number {
    return this.#times[which] as number;
  }

  /** A switch begins at {@link T}.NOW. */
  #begin(): void {
    this.#outside = true;
    this.#reason = NO_REASON;
    this.#times[T.SINCE] = this.#time(T.NOW);
    this.#times[T.OUTSIDE] = 0;
    this.#operationNs = 0;
    this.#registers = 0;
  }

  /** The guest was left just now, on the CPU of `port`, which has not done anything since. */
  left(port: El2Port): void {
    port.stamp(this.#times);
    this.#begin();
    this.#startOperations(port);
  }

  /** Why it was left: a {@link SWITCH_REASON} or an exception class. */
  because(reason: number): void {
    this.#reason = reason;
    const slot = this.#slots[reason];
    if (slot !== undefined) add(this.memory.i32, (slot.base >>> 2) + SLOT_WORD.count, 1);
  }

  /** The guest has been entered just now, on the CPU of `port`: the switch is complete. */
  entered(port: El2Port): void {
    port.stamp(this.#times);
    this.#stopOperations();
    this.#stopTime();
    this.#outside = false;
    const slot = this.#slots[this.#reason];
    if (slot === undefined) return;
    const ns = this.#time(T.OUTSIDE);
    if (ns > slot.maxNs) slot.maxNs = ns;
    const words = this.memory.i32, at = slot.base >>> 2;
    // Nearly all times are small integers, which V8 is to take them for.
    const small = ns | 0;
    if (small === ns) add(words, at + SLOT_WORD.totalNs, small);
    else slot.totalNs += ns;
    this.#add(at + SLOT_WORD.operationNs, this.#operationNs);
    this.#add(at + SLOT_WORD.registersMoved, this.#registers);
    const bucket = at + SLOT_WORD.buckets + switchBucket(small === ns ? small : ns);
    words[bucket] = (words[bucket] as number) + 1;
  }

  /** Adds to the 64-bit word at word `at`. */
  #add(at: number, value: number): void {
    if (value < SMALL) add(this.memory.i32, at, value);
    else this.memory.st53(4 * at, this.memory.ld53(4 * at) + value);
  }

  /** The vCPU's thread gives its CPU up; `blocked`: time does not count until it is back. */
  pause(port: El2Port, blocked: boolean): void {
    port.stamp(this.#times);
    this.#stopOperations();
    if (blocked) this.#stopTime();
    this.#keep();
  }

  /** The vCPU's thread has a CPU again, or KVM_RUN begins. */
  resume(port: El2Port): void {
    port.stamp(this.#times);
    this.#recall();
    if (!this.#outside) this.#begin();
    if (this.#time(T.SINCE) < 0) this.#times[T.SINCE] = this.#time(T.NOW);
    this.#startOperations(port);
  }

  #stopTime(): void {
    const times = this.#times, since = this.#time(T.SINCE);
    if (since >= 0) times[T.OUTSIDE] = this.#time(T.OUTSIDE) + this.#time(T.NOW) - since;
    times[T.SINCE] = -1;
  }

  #startOperations(port: El2Port): void {
    const words = this.memory.i32, { base } = port.counters, at = base >>> 2;
    this.#measuring = true;
    const startedNs = words[at + NS_WORD] as number;
    this.#startedNs = startedNs;
    // Nothing was done at the port since: what was read when the last stretch ended still holds.
    if (words[this.#sinceOf] === base && startedNs === this.#stoppedNs) return;
    words[this.#sinceOf] = base;
    words.copyWithin(this.#since >>> 2, at, at + COUNTERS_WORDS);
  }

  #stopOperations(): void {
    if (!this.#measuring) return;
    this.#measuring = false;
    const words = this.memory.i32, base = words[this.#sinceOf] as number;
    this.#registers += this.#take(base, this.#since, this.#operations);
    const stoppedNs = words[(base >>> 2) + NS_WORD] as number;
    this.#operationNs += (stoppedNs - this.#startedNs) | 0;
    this.#stoppedNs = stoppedNs;
  }

  /** Adds the switches of `reason` to `into`. */
  addTo(into: SwitchTotals, reason: number): void {
    const slot = this.#slots[reason];
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
    return this.#slots[reason]?.count ?? 0;
  }

  /** el2_port operations of `kind` (a position in PORT_KINDS) between exits and entries. */
  operations(kind: number): number {
    return this.memory.ld53(this.#operations + 8 * kind);
  }
}
