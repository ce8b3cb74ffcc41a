/**
 * The system counter and virtual time (DESIGN: threads and time). Virtual time counts nanoseconds:
 * one for each instruction retired on any CPU, plus what is added for work that is not instructions.
 * The counter that software sees runs at 62.5 MHz, 16 ns to the tick.
 */
import type { Arena } from "../base/arena.ts";
import { add53, type SharedMemory } from "../base/memory.ts";
import { layout, u32, u53, type ViewOf } from "../base/struct.ts";
import type { Cpu } from "./arch/cpu_state.ts";

/** Nanoseconds of one tick of the system counter. */
export const NS_PER_TICK = 16;
/** CNTFRQ_EL0. */
export const COUNTER_HZ = 62_500_000;

/** Virtual time as it lies in the shared memory. */
const ClockLayout = layout("clock", {
  /** Nanoseconds up to the start of the running slice, and whatever was added since. */
  ns: u53(),
  /** Instructions the running slice was given; 0 outside a slice. */
  sliceBudget: u32("cache"),
});

/** The machine's one clock. */
export class Clock {
  readonly #state: ViewOf<typeof ClockLayout>;
  readonly #memory: SharedMemory;
  readonly #words: Uint32Array;
  /** Address of `ns`, which is read and added to at every operation of EL2 software. */
  readonly #nsAt: number;
  #running: Cpu | undefined;

  constructor(arena: Arena) {
    this.#state = arena.make(ClockLayout);
    this.#memory = arena.memory;
    this.#words = arena.memory.u32;
    this.#nsAt = this.#state.base + ClockLayout.offset.ns;
  }

  /** Instructions of the running slice that are already retired. Exact whenever `cpu.budget` is. */
  #retired(): number {
    const cpu = this.#running;
    return cpu === undefined ? 0 : this.#state.sliceBudget - cpu.budget;
  }

  /** Virtual time in ns, exact also in the middle of a slice. */
  now(): number {
    return this.#memory.ld53(this.#nsAt) + this.#retired();
  }

  /** The system counter (CNTPCT_EL0) in ticks. */
  ticks(): number {
    return Math.floor(this.now() / NS_PER_TICK);
  }

  /** Starts a slice: `cpu` may retire `budget` instructions (below 2^31). */
  beginSlice(cpu: Cpu, budget: number): void {
    cpu.budget = budget;
    this.#state.sliceBudget = budget;
    this.#running = cpu;
  }

  /** Ends the slice and returns the instructions it retired. */
  endSlice(): number {
    const retired = this.#retired();
    const cpu = this.#running;
    if (cpu !== undefined) cpu.insns += retired;
    this.#state.ns += retired;
    this.#state.sliceBudget = 0;
    this.#running = undefined;
    return retired;
  }

  /** Instructions begun on `cpu` since the start, in the middle of its slice the one at hand included. */
  begunOn(cpu: Cpu): number {
    return cpu.insns + (this.isRunning(cpu) ? this.#retired() : 0);
  }

  /** Whether `cpu` is in a slice: there is an instruction at hand. */
  isRunning(cpu: Cpu): boolean {
    return this.#running === cpu;
  }

  /** The running slice ends after `left` more instructions, if it would not before. */
  shortenSlice(left: number): void {
    const cpu = this.#running;
    if (cpu === undefined || cpu.budget <= left) return;
    this.#state.sliceBudget -= cpu.budget - left;
    cpu.budget = left;
  }

  /** Takes what is left of the running slice away, without losing count of what has retired. */
  cutSlice(): void {
    const cpu = this.#running;
    if (cpu === undefined) return;
    this.#state.sliceBudget -= cpu.budget;
    cpu.budget = 0;
  }

  /** Adds the time of work that is not an instruction, in ns. */
  advance(ns: number): void {
    add53(this.#words, this.#nsAt >>> 2, ns);
  }

  /** Goes forward to `ns` when all CPUs are idle; never back. */
  jumpTo(ns: number): void {
    if (ns > this.#state.ns) this.#state.ns = ns;
  }
}
