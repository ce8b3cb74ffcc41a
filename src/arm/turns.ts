/**
 * The run loop: the CPUs of a worker by turns in a fixed order. A turn lets the software at EL2 have a CPU that
 * is there, and executes instructions of one that is not. What a turn looks at is read as words: that counts.
 */
import * as memoryModule from "../base/memory.ts";
import * as cpuState from "./arch/cpu_state.ts";
import type { Cpu } from "./arch/cpu_state.ts";
import * as fields from "./arch/fields.ts";
import { ramOffset } from "./arch/tlb_layout.ts";
import type { Clock } from "./clock.ts";
import type { CpuCore } from "./cpu.ts";
import type { Interpreter } from "./engine/interpreter.ts";
import * as turnLoop from "./engine/turn_loop.ts";
import * as exceptions from "./exceptions.ts";
import type { Executor } from "./executor.ts";
import type { DeviceAlarms, El2Software } from "./machine_options.ts";
import type { Team } from "./parallel/team.ts";
import { nextQuantum, TEAM_LEAST_SLICE, TEAM_QUANTUM } from "./parallel/team_machine.ts";
import type { Core, Platform } from "./parts.ts";
import * as pmu from "./pmu.ts";
import * as turnWords from "./turn_words.ts";
import * as waiting from "./waiting.ts";

// Of the module itself: what is imported V8 looks up and checks at each use.
const { addSmall } = memoryModule;
const { CHECK, HALT, LINE } = cpuState;
const { HCR } = fields;
const { OVER, TURN, TurnLayout, turnsAt } = turnLoop;
const { pollInterrupts } = exceptions;
const { syncPmu, untilPmuInterrupt } = pmu;
const { BLOCK, MACHINE, MachineLayout, setMoment, WORD } = turnWords;
const { resumeIfWoken } = waiting;

/** Instructions a CPU runs before the next one's turn. */
export const QUANTUM = 10_000;
/** The same where no other CPU waits for its turn. */
const QUANTUM_ALONE = 100_000;

/** Steps of EL2 software in one turn, at most. */
const MAX_STEPS = 64;

/** What takes turns. */
export interface TurnParts {
  readonly platform: Platform;
  readonly interpreter: Interpreter;
  readonly team: Team | undefined;
  /** The CPUs of this worker, and what executes their instructions. */
  readonly cores: readonly CpuCore[];
  readonly executors: readonly Executor[];
  /** Where the machine's {@link MachineLayout} lies. */
  readonly countsAt: number;
  /** Instructions of a turn, where that is given. */
  readonly quantum: number | undefined;
}

/** One CPU of this worker. */
interface Seat {
  readonly index: number;
  readonly core: CpuCore;
  readonly cpu: Cpu;
  readonly executor: Executor;
  /** The CPU's state, and where it lies. */
  readonly words: Int32Array;
  readonly base: number;
}

/** The turns of a worker's CPUs. */
export class Turns {
  /** Set while TypeScript is the software at EL2. */
  el2: El2Software | undefined;
  /** Asked for its next moment whenever timers are. */
  alarms: DeviceAlarms | undefined;
  /** Called before each turn of a CPU. */
  beforeTurn: (() => void) | undefined;
  readonly #platform: Platform;
  readonly #clock: Clock;
  readonly #interpreter: Interpreter;
  readonly #team: Team | undefined;
  readonly #seats: readonly Seat[];
  /** The words of a {@link MachineLayout}. */
  readonly #machine: Int32Array;
  readonly #quantum: number | undefined;
  readonly #several: boolean;
  readonly #toOffset: (pa: number) => number;
  /** The words of a {@link TurnLayout}. */
  readonly #block: Int32Array;
  /** {@link deadlineNs}. */
  #deadlineNs = 0;
  /** Instructions of a slice at least, where it is not the turn's last. */
  readonly #leastSlice: number;
  /** The level of the host at EL2's software, as of this round; 0: there is none. */
  #hostEl: 0 | 1 | 2 = 0;
  /** {@link OVER} of each turn when it begins. */
  #overAtFirst: number;
  /** Instructions of a turn where CPUs run in parallel: as many as fit into its time. */
  #teamQuantum = TEAM_QUANTUM;

  constructor(
    { platform, interpreter, team, cores, executors, countsAt, quantum }: TurnParts,
  ) {
    const { buffer } = platform.memory.i32;
    this.#platform = platform;
    this.#clock = platform.clock;
    this.#interpreter = interpreter;
    this.#team = team;
    this.#machine = new Int32Array(buffer, countsAt, MachineLayout.size >>> 2);
    this.#quantum = quantum;
    this.#several = platform.cpus.length > 1;
    this.#block = new Int32Array(buffer, turnsAt(team), TurnLayout.size >>> 2);
    this.#leastSlice = team ? TEAM_LEAST_SLICE : 1;
    this.#overAtFirst = team ? OVER.ALWAYS : 0;
    const { ram } = platform;
    this.#toOffset = (pa) => ramOffset(ram, pa, 4);
    this.#seats = cores.map((core, n): Seat => ({
      index: core.cpu.index,
      core,
      cpu: core.cpu,
      executor: executors[n] as Executor,
      words: core.words,
      base: core.cpu.base | 0,
    }));
    this.#fillBlock(countsAt);
    // Each slice ends in TypeScript while hot code waits to be translated.
    interpreter.regions.onWaiting = (waits) => this.#block[BLOCK.PAUSE] = waits ? 1 : 0;
  }

  #fillBlock(countsAt: number): void {
    const block = this.#block, { clock } = this.#platform;
    block[BLOCK.COUNT] = this.#seats.length;
    this.#seats.forEach(({ base }, n) => block[BLOCK.CPUS + n] = base);
    block[BLOCK.INSNS] = countsAt + MachineLayout.offset.insns;
    block[BLOCK.TURNS] = countsAt + MachineLayout.offset.turns;
    block[BLOCK.POWER] = countsAt + MachineLayout.offset.power;
    block[BLOCK.NS] = clock.nsAt;
    block[BLOCK.SEVERAL] = this.#several ? 1 : 0;
  }

  /** Earliest moment at which something happens of itself, as of the last {@link updateTimers}; Infinity if never. */
  get deadlineNs(): number {
    return this.#deadlineNs;
  }

  /** Timers are to be looked at, and the running slice ends. */
  rearm(): void {
    this.#setDeadline(0);
    this.#clock.cutSlice();
  }

  /** Re-evaluates timers when one is due, and remembers when the next one is. */
  updateTimers(): void {
    if (this.timersDue) this.#lookAtTimers();
  }

  /** Whether a timer is due, or {@link rearm} was called since they were looked at. */
  get timersDue(): boolean {
    const block = this.#block, at = BLOCK.DEADLINE;
    return this.#clock.hasReached(block[at] as number, block[at + 1] as number);
  }

  /** {@link Clock.until} the moment at word `at`. */
  #until(at: number): number {
    const block = this.#block;
    return this.#clock.until(block[at] as number, block[at + 1] as number);
  }

  /** The inputs of a CPU of this worker have changed: if it waits, the turn at hand is to end. */
  linesChanged({ cpu: { base }, words }: Core): void {
    const block = this.#block;
    if (words[WORD.LINES] === 0 || block[BLOCK.TURN_OF] === (base | 0)) return;
    block[BLOCK.OVER] = (block[BLOCK.OVER] as number) | OVER.WAITED_FOR;
    this.#clock.cutSlice();
  }

  #lookAtTimers(): void {
    const { alarms } = this;
    const { clock, timer } = this.#platform;
    const now = clock.now();
    if (alarms && now >= alarms.nextNs) alarms.onTime(now);
    let next = alarms?.nextNs ?? Infinity;
    for (const { index } of this.#seats) {
      timer.update(index);
      next = Math.min(next, timer.nextDeadlineNs(index));
    }
    this.#setDeadline(next);
  }

  #setDeadline(ns: number): void {
    this.#deadlineNs = ns;
    setMoment(this.#block, BLOCK.DEADLINE, ns);
  }

  /**
   * One turn for every CPU, or several where nothing comes between them and less than `end` instructions were
   * retired. False: in the last round no CPU had anything to do.
   */
  round(limitNs: number, quantum = this.#quantum, end = 0): boolean {
    const block = this.#block, el2 = this.el2;
    setMoment(block, BLOCK.LIMIT, limitNs);
    this.#hostEl = el2 === undefined ? 0 : el2.hostEl ?? 2;
    block[BLOCK.HOST_EL] = this.#hostEl;
    block[BLOCK.OVER_AT_FIRST] = this.#overAtFirst;
    block[BLOCK.PROGRESS] = 0;
    // Others are long, or somebody sees each.
    const quick = quantum !== undefined && !this.#team && !this.beforeTurn;
    if (quick) return this.#quickRounds(quantum, end);
    const seats = this.#seats;
    for (let i = 0; i < seats.length; i++) {
      if (this.#machine[MACHINE.POWER] !== 0) break;
      const left = this.#until(BLOCK.LIMIT);
      if (left === 0) return true;
      const seat = seats[i] as Seat;
      const most = quantum ?? this.#most(seat.index);
      if (this.beforeTurn !== undefined) this.beforeTurn();
      const budget = most < left ? most : left;
      if (!this.#hasTurn(seat)) continue;
      this.#begin(seat, budget);
      this.#goOn(seat, budget);
    }
    addSmall(this.#machine, MACHINE.TURNS, 1);
    return block[BLOCK.PROGRESS] !== 0;
  }

  /** {@link round} of at most `insns` instructions, whose turns end with an exit to EL2's software, too. */
  step(insns: number): boolean {
    const before = this.#overAtFirst;
    this.#overAtFirst = OVER.ALWAYS;
    const progress = this.round(Infinity, insns);
    this.#overAtFirst = before;
    return progress;
  }

  /** {@link round} by {@link Interpreter.turns}, which leaves to TypeScript what is not just instructions. */
  #quickRounds(quantum: number, end: number): boolean {
    const block = this.#block, interpreter = this.#interpreter;
    setMoment(block, BLOCK.END, end);
    block[BLOCK.QUANTUM] = quantum;
    interpreter.settle((this.#seats[0] as Seat).cpu);
    for (let next = 0;;) {
      const answer = interpreter.turns(next);
      const what = answer >>> 8, n = answer & 0xff;
      const seat = this.#seats[n] as Seat;
      next = n + 1;
      if (what === TURN.OTHER) {
        if (this.#hasTurn(seat)) this.#goOn(seat, block[BLOCK.GIVEN] as number);
      } else if (what === TURN.EXIT) this.#finish(seat);
      else if (what === TURN.TIMERS) this.#settle(seat);
      else return what === TURN.LIMIT || block[BLOCK.PROGRESS] !== 0;
    }
  }

  /** The rest of a turn whose slice is under way. */
  #finish(seat: Seat): void {
    const exit = this.#block[BLOCK.EXIT] as number;
    this.#interpreter.finish(exit, seat.cpu, seat.executor, this.#toOffset);
    this.#endSlice(seat);
    if (this.#arrives(seat)) this.#goOn(seat, this.#timeLeft());
  }

  /** What comes after a turn that the function has ended. */
  #settle({ cpu }: Seat): void {
    this.updateTimers();
    this.#interpreter.settle(cpu);
  }

  /** Instructions of a turn that nobody has said the length of. */
  #most(index: number): number {
    if (this.#team) return this.#teamQuantum;
    return this.#othersHalted(index) ? QUANTUM_ALONE : QUANTUM;
  }

  /** Whether all CPUs but one are off, or wait for an interrupt that has not come. */
  #othersHalted(index: number): boolean {
    const { cores } = this.#platform;
    for (let i = 0; i < cores.length; i++) {
      if (i === index) continue;
      const { words } = cores[i] as Core;
      const halt = words[WORD.HALT];
      if (halt === HALT.RUNNING || halt === HALT.WFE) return false;
      // Its turn is to come before the end of a run that is shorter than a long turn.
      if (halt === HALT.WFI && words[WORD.LINES] !== 0) return false;
    }
    return true;
  }

  /** Whether the CPU has anything to do in its turn. */
  #hasTurn({ core, words }: Seat): boolean {
    const halt = words[WORD.HALT];
    if (halt === HALT.RUNNING) return true;
    if (halt === HALT.OFF || halt === HALT.STOPPED) return false;
    return inHost(words, this.#hostEl) || resumeIfWoken(core);
  }

  /** A CPU's turn of `budget` ns begins: as turn_loop.ts does it. */
  #begin({ base }: Seat, budget: number): void {
    const block = this.#block;
    block[BLOCK.TURN_OF] = base;
    block[BLOCK.TURN_END] = (this.#clock.nsLo + budget) | 0;
    block[BLOCK.BEFORE] = this.#machine[MACHINE.INSNS] as number;
    block[BLOCK.OVER] = block[BLOCK.OVER_AT_FIRST] as number;
  }

  /**
   * The turn from between two slices on: `budget` ns at most, those of the host's work between a guest's exit and its
   * next entry included. It ends early where another CPU has an interrupt to take.
   */
  #goOn(seat: Seat, budget: number): void {
    const { words } = seat, block = this.#block, hostEl = this.#hostEl;
    for (let left = budget; left > 0; left = this.#timeLeft()) {
      if (inHost(words, hostEl)) {
        if (words[WORD.HALT] !== HALT.RUNNING && !wakes(words)) return;
        block[BLOCK.PROGRESS] = 1;
        const result = (this.el2 as El2Software).step(seat.index);
        // Its time has passed; writes of timer registers have set the deadline back (onEndSlice).
        if (this.timersDue) this.#lookAtTimers();
        if (result !== "guest" && !this.#stepOn(seat, result)) return;
        if (((block[BLOCK.OVER] as number) & OVER.WAITED_FOR) !== 0 && this.#hasRun()) return;
      } else block[BLOCK.PROGRESS] = 1;
      const mayCome = (words[WORD.CHECK] as number) & CHECK.INTERRUPT;
      if (mayCome !== 0 || words[WORD.LINES] !== 0) pollInterrupts(seat.core);
      if (!inHost(words, hostEl)) this.#slice(seat, left);
      if (!this.#arrives(seat)) return;
    }
  }

  /** Of the turn, in ns. */
  #timeLeft(): number {
    return ((this.#block[BLOCK.TURN_END] as number) - this.#clock.nsLo) | 0;
  }

  /** The EL2 software's further steps until it enters a guest or has nothing to do. True: the CPU is to run. */
  #stepOn({ index, words }: Seat, first: "idle" | "again"): boolean {
    const el2 = this.el2 as El2Software;
    let result: "guest" | "idle" | "again" = first;
    for (let i = 1; result === "again" && i < MAX_STEPS; i++) {
      result = el2.step(index);
      if (this.timersDue) this.#lookAtTimers();
    }
    if (result === "idle") words[WORD.HALT] = HALT.WFI;
    return result === "guest";
  }

  /** A guest that got something done can wait for another CPU, which it may be waiting for. */
  #hasRun(): boolean {
    return this.#machine[MACHINE.INSNS] !== this.#block[BLOCK.BEFORE];
  }

  /** After instructions, or an interrupt: true if they have led to EL2's software and the turn goes on. */
  #arrives({ index, cpu, words }: Seat): boolean {
    if (!inHost(words, this.#hostEl)) return false;
    // The vCPU may go on elsewhere: as a context switch does, this completes what it has begun.
    if (words[WORD.MAINTENANCE] !== 0) this.#platform.hooks.onDsb?.(cpu, false);
    (this.el2 as El2Software).onEl2Exception(index, (words[WORD.PC] as number) & 0x7ff);
    return this.#block[BLOCK.OVER] === 0 && this.#machine[MACHINE.POWER] === 0;
  }

  #slice(seat: Seat, most: number): void {
    if (this.#team !== undefined) return this.#teamSlice(seat, most);
    this.#beginSlice(seat, most);
    this.#interpreter.run(seat.cpu, seat.executor, this.#toOffset);
    this.#endSlice(seat);
  }

  #teamSlice(seat: Seat, most: number): void {
    this.#beginSlice(seat, most);
    const began = this.#clock.now();
    this.#interpreter.run(seat.cpu, seat.executor, this.#toOffset);
    const insns = this.#endSlice(seat);
    this.#teamQuantum = nextQuantum(this.#teamQuantum, insns, this.#clock.now() - began);
  }

  #beginSlice(seat: Seat, most: number): void {
    const { words } = seat, block = this.#block;
    const length = this.#sliceLength(seat, most);
    words[WORD.BUDGET] = length;
    block[BLOCK.SLICE_BUDGET] = length;
    block[BLOCK.SLICE_CPU] = seat.base;
  }

  /** The instructions that the slice has retired. */
  #endSlice({ words, core }: Seat): number {
    const block = this.#block;
    const insns = ((block[BLOCK.SLICE_BUDGET] as number) - (words[WORD.BUDGET] as number)) | 0;
    block[BLOCK.SLICE_BUDGET] = 0;
    block[BLOCK.SLICE_CPU] = 0;
    addSmall(words, WORD.INSNS, insns);
    addSmall(this.#machine, MACHINE.INSNS, insns);
    this.#clock.advance(insns);
    if (words[WORD.PMU] !== 0) syncPmu(core);
    if (words[WORD.MONITOR] !== 0 && this.#several) closeMonitor(words);
    if (this.timersDue) this.#lookAtTimers();
    return insns;
  }

  /** At most `most`, up to what happens next. */
  #sliceLength({ words, core }: Seat, most: number): number {
    const left = this.#until(BLOCK.DEADLINE), least = this.#leastSlice;
    const due = left < least ? least : left;
    const length = (due < most ? due : most) | 0;
    if (words[WORD.PMU] === 0) return length;
    const toOverflow = untilPmuInterrupt(core);
    return toOverflow < length ? toOverflow | 0 : length;
  }
}

/** Whether the CPU is in the hands of EL2 software, whose host is at level `hostEl`. */
function inHost(words: Int32Array, hostEl: number): boolean {
  const el = words[WORD.EL];
  if (el === 2) return hostEl !== 0;
  return hostEl === 1 && el === 1 && ((words[WORD.HCR] as number) & HCR.VM) === 0;
}

/** A halted CPU in the host's hands runs again where it has an interrupt. */
function wakes(words: Int32Array): boolean {
  if (((words[WORD.LINES] as number) & LINE.IRQ) === 0) return false;
  words[WORD.HALT] = HALT.RUNNING;
  return true;
}

/**
 * Another CPU's turn may write what this one has reserved: an open monitor does not outlive the turn, and that
 * it closes is an event for WFE. That of a CPU already in WFE stays: whether it was written to is looked at
 * before each of its turns.
 */
function closeMonitor(words: Int32Array): void {
  if (words[WORD.HALT] === HALT.WFE) return;
  words[WORD.MONITOR] = 0;
  words[WORD.EVENT] = 1;
}
