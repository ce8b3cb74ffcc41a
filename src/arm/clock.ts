/**
 * The system counter and virtual time (DESIGN: threads and time). Virtual time counts nanoseconds:
 * one for each instruction retired on any CPU, plus what is added for work that is not instructions. With
 * CPUs in parallel it is the host's clock instead.
 * The counter that software sees runs at 62.5 MHz, 16 ns to the tick.
 */
import type { Arena } from "../base/arena.ts";
import * as bits from "../base/bits.ts";
import { addSmall, type SharedMemory } from "../base/memory.ts";
import { bool, layout, u53, type ViewOf } from "../base/struct.ts";
import { type Cpu, CpuLayout } from "./arch/cpu_state.ts";
import { SliceLayout } from "./engine/turn_loop.ts";

/** Nanoseconds of one tick of the system counter. */
export const NS_PER_TICK = 16;
const TICK_SHIFT = Math.log2(NS_PER_TICK);
/** CNTFRQ_EL0. */
export const COUNTER_HZ = 62_500_000;

/** What {@link Clock.until} says at most. */
const MOST = 0x7fff_ffff;

// As constants of this module, V8 knows them.
const add = addSmall;
const { TWO32 } = bits;
/** Words of a {@link SliceLayout}. */
const SLICE = {
  CPU: SliceLayout.offset.cpu >>> 2,
  BUDGET: SliceLayout.offset.budget >>> 2,
} as const;
/** Word of a CPU's state. */
const BUDGET = CpuLayout.offset.budget >>> 2;

/** Virtual time as it lies in the shared memory. */
const ClockLayout = layout("clock", {
  /** Nanoseconds up to the start of the running slice, and whatever was added since. */
  ns: u53(),
  /** With the host's clock: whether time passes, and the host's time of virtual time 0. */
  passing: bool(),
  originNs: u53(),
});

/** The machine's one clock. */
export class Clock {
  readonly #state: ViewOf<typeof ClockLayout>;
  readonly #memory: SharedMemory;
  readonly #words: Int32Array;
  /** Address of `ns`, which is read and added to at every operation of EL2 software. */
  readonly #nsAt: number;
  /** Its two words. */
  readonly #ns: Int32Array;
  /** The address of the {@link SliceLayout} of this worker. */
  readonly sliceAt: number;
  /** Its words. */
  readonly #slice: Int32Array;

  /**
   * `hostNs`: the host's clock in ns, the same for all workers; without it time is made of instructions. `sliceAt`:
   * where the run loop notes the slice, if not in the arena.
   */
  constructor(arena: Arena, readonly hostNs?: () => number, sliceAt?: number) {
    this.#state = arena.make(ClockLayout);
    this.sliceAt = sliceAt ?? arena.make(SliceLayout).base;
    this.#memory = arena.memory;
    this.#words = arena.memory.i32;
    this.#nsAt = this.#state.base + ClockLayout.offset.ns;
    const { buffer } = this.#words;
    this.#slice = new Int32Array(buffer, this.sliceAt, SliceLayout.size >>> 2);
    this.#ns = new Int32Array(buffer, this.#nsAt, 2);
  }

  /** Instructions of the running slice that are already retired. Exact whenever `cpu.budget` is. */
  #retired(): number {
    const slice = this.#slice;
    const cpu = slice[SLICE.CPU] as number;
    if (cpu === 0) return 0;
    return (slice[SLICE.BUDGET] as number) - (this.#words[(cpu >>> 2) + BUDGET] as number);
  }

  /** Virtual time in ns, exact also in the middle of a slice. */
  now(): number {
    if (this.hostNs !== undefined) return this.#passed(this.hostNs);
    return this.#began() + this.#retired();
  }

  /** Virtual time in ns but for instructions of the running slice. */
  #began(): number {
    const ns = this.#ns;
    return (ns[1] as number) * TWO32 + ((ns[0] as number) >>> 0);
  }

  /**
   * Nanoseconds until the moment whose 64-bit word has these halves, signed: 0 where it has come, at most 2^31 - 1.
   * To be asked between slices.
   */
  until(lo: number, hi: number): number {
    if (this.hostNs !== undefined) this.#passed(this.hostNs);
    const ns = this.#ns;
    const nowLo = ns[0] as number;
    const borrow = (lo >>> 0) < (nowLo >>> 0) ? 1 : 0;
    const left = (lo - nowLo) | 0, above = (hi - (ns[1] as number) - borrow) | 0;
    if (above < 0) return 0;
    return above === 0 && left >= 0 ? left : MOST;
  }

  /** Whether the moment of {@link until} has come. */
  hasReached(lo: number, hi: number): boolean {
    if (this.hostNs !== undefined) this.#passed(this.hostNs);
    const ns = this.#ns, nowHi = ns[1] as number;
    return hi === nowHi ? lo >>> 0 <= (ns[0] as number) >>> 0 : hi < nowHi;
  }

  /** The low word of virtual time, signed; with the host's clock as it was last asked for. To be asked between slices. */
  get nsLo(): number {
    return this.#ns[0] as number;
  }

  /** {@link now} as a number in `cell`: a result would be boxed wherever V8 does not inline the call. */
  stamp(cell: Float64Array): void {
    if (this.hostNs !== undefined) cell[0] = this.#passed(this.hostNs);
    else cell[0] = this.#began() + this.#retired();
  }

  /** {@link now} as two words of `words` from `at` on. */
  stampWords(words: Int32Array, at: number): void {
    if (this.hostNs !== undefined) return this.#memory.st53(4 * at, this.#passed(this.hostNs));
    const now = this.#ns;
    words[at] = now[0] as number;
    words[at + 1] = now[1] as number;
    add(words, at, this.#retired());
  }

  /** Never back, whichever worker has looked last. */
  #passed(hostNs: () => number): number {
    const last = this.#memory.ld53(this.#nsAt);
    if (!this.#state.passing) return last;
    const now = Math.floor(hostNs()) - this.#state.originNs;
    if (now <= last) return last;
    this.#memory.st53(this.#nsAt, now);
    return now;
  }

  /** With the host's clock: time passes from now on, or stands still. */
  setPassing(passing: boolean): void {
    if (this.hostNs === undefined || passing === this.#state.passing) return;
    const now = this.now();
    if (passing) this.#state.originNs = Math.max(0, Math.floor(this.hostNs()) - now);
    this.#state.passing = passing;
  }

  /** The system counter (CNTPCT_EL0) in ticks. */
  ticks(): number {
    return Math.floor(this.now() / NS_PER_TICK);
  }

  /** What {@link takeTicks} has taken: bits 31 to 0, signed, and the others. */
  tickLo = 0;
  tickHi = 0;

  /** Takes {@link ticks} as words: what is not a small integer on the way costs V8 as much as all the rest. */
  takeTicks(): void {
    if (this.hostNs !== undefined) this.#passed(this.hostNs);
    const ns = this.#ns;
    const before = ns[0] as number;
    const lo = this.hostNs === undefined ? (before + this.#retired()) | 0 : before;
    const hi = (ns[1] as number) + ((lo >>> 0) < (before >>> 0) ? 1 : 0);
    this.tickLo = (lo >>> TICK_SHIFT) | (hi << (32 - TICK_SHIFT));
    this.tickHi = hi >>> TICK_SHIFT;
  }

  /** Instructions begun on `cpu` since the start, in the middle of its slice the one at hand included. */
  begunOn(cpu: Cpu): number {
    return cpu.insns + (this.isRunning(cpu) ? this.#retired() : 0);
  }

  /** Whether `cpu` is in a slice: there is an instruction at hand. */
  isRunning(cpu: Cpu): boolean {
    return this.#slice[SLICE.CPU] === (cpu.base | 0);
  }

  /** The running slice ends after `left` more instructions, if it would not before. */
  shortenSlice(left: number): void {
    const words = this.#words, slice = this.#slice;
    const cpu = slice[SLICE.CPU] as number;
    if (cpu === 0) return;
    const at = (cpu >>> 2) + BUDGET, budget = words[at] as number;
    if (budget <= left) return;
    slice[SLICE.BUDGET] = (slice[SLICE.BUDGET] as number) - (budget - left);
    words[at] = left;
  }

  /** Takes what is left of the running slice away, without losing count of what has retired. */
  cutSlice(): void {
    const words = this.#words, slice = this.#slice;
    const cpu = slice[SLICE.CPU] as number;
    if (cpu === 0) return;
    const at = (cpu >>> 2) + BUDGET;
    slice[SLICE.BUDGET] = (slice[SLICE.BUDGET] as number) - (words[at] as number);
    words[at] = 0;
  }

  /** The byte address of virtual time, a 64-bit word; with the host's clock it is not always up to date. */
  get nsAt(): number {
    return this.#nsAt;
  }

  /** Where generated code adds such time: a 64-bit word's byte address; undefined with the host's clock. */
  get addedNsAt(): number | undefined {
    return this.hostNs === undefined ? this.#nsAt : undefined;
  }

  /** Adds the time of instructions of a slice that has ended, or of work that is not instructions, in ns (below 2^31). */
  advance(ns: number): void {
    if (this.hostNs === undefined) add(this.#ns, 0, ns);
  }

  /** Goes forward to `ns` when all CPUs are idle; never back. */
  jumpTo(ns: number): void {
    if (this.hostNs === undefined && ns > this.#state.ns) this.#state.ns = ns;
  }
}
