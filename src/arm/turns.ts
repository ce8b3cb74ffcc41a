/**
 * The run loop: the CPUs of a worker by turns in a fixed order. A turn lets the software at EL2 have a CPU that
 * is there, and executes instructions of one that is not. What a turn looks at is read as words: that counts.
 */
import type { Arena } from "../base/arena.ts";
import { TWO32 } from "../base/bits.ts";
import * as memoryModule from "../base/memory.ts";
import * as cpuState from "./arch/cpu_state.ts";
import { type Cpu, CpuLayout, sysregOffset } from "./arch/cpu_state.ts";
import * as fields from "./arch/fields.ts";
import { R } from "./arch/sysregs.ts";
import { ramOffset } from "./arch/tlb_layout.ts";
import type { Clock } from "./clock.ts";
import type { CpuCore } from "./cpu.ts";
import type { Interpreter } from "./engine/interpreter.ts";
import { MODE, TURN, TurnLayout } from "./engine/turn_loop.ts";
import * as exceptions from "./exceptions.ts";
import type { Executor } from "./executor.ts";
import type { DeviceAlarms, El2Software } from "./machine_options.ts";
import type { Team } from "./parallel/team.ts";
import { nextQuantum, TEAM_LEAST_SLICE, TEAM_QUANTUM } from "./parallel/team_machine.ts";
import type { Core, Platform } from "./parts.ts";
import * as pmu from "./pmu.ts";
import * as waiting from "./waiting.ts";

// Of the module itself: what is imported V8 looks up and checks at each use.
const { addSmall } = memoryModule;
const { CHECK, HALT, LINE } = cpuState;
const { HCR } = fields;
const { pollInterrupts } = exceptions;
const { syncPmu, untilPmuInterrupt } = pmu;
const { resumeIfWoken } = waiting;

/** Instructions a CPU runs before the next one's turn. */
export const QUANTUM = 10_000;
/** The same where no other CPU waits for its turn. */
const QUANTUM_ALONE = 100_000;

/** Steps of EL2 software in one turn, at most. */
const MAX_STEPS = 64;

/** Words of a CPU's state. */
const WORD = {
  PC: CpuLayout.offset.pc >>> 2,
  EL: CpuLayout.offset.el >>> 2,
  HALT: CpuLayout.offset.halt >>> 2,
  LINES: CpuLayout.offset.irqLines >>> 2,
  CHECK: CpuLayout.offset.checkIrq >>> 2,
  MONITOR: CpuLayout.offset.monitorOpen >>> 2,
  EVENT: CpuLayout.offset.eventRegister >>> 2,
  PMU: CpuLayout.offset.pmuActive >>> 2,
  SINGLE: CpuLayout.offset.single >>> 2,
  UNSURE: CpuLayout.offset.codeUnsure >>> 2,
  MAINTENANCE: CpuLayout.offset.maintenance >>> 2,
  HCR: sysregOffset(R.HCR_EL2) >>> 2,
} as const;

/** Words of a {@link TurnLayout}. */
const BLOCK = {
  COUNT: TurnLayout.offset.count >>> 2,
  CPUS: TurnLayout.offset.cpus >>> 2,
  INSNS: TurnLayout.offset.insns >>> 2,
  TURNS: TurnLayout.offset.turns >>> 2,
  POWER: TurnLayout.offset.power >>> 2,
  NS: TurnLayout.offset.ns >>> 2,
  SLICE: TurnLayout.offset.slice >>> 2,
  QUANTUM: TurnLayout.offset.quantum >>> 2,
  HOST_EL: TurnLayout.offset.hostEl >>> 2,
  SEVERAL: TurnLayout.offset.several >>> 2,
  PAUSE: TurnLayout.offset.pause >>> 2,
  PROGRESS: TurnLayout.offset.progress >>> 2,
  FRESH: TurnLayout.offset.fresh >>> 2,
  GIVEN: TurnLayout.offset.given >>> 2,
  EXIT: TurnLayout.offset.exit >>> 2,
  LIMIT: TurnLayout.offset.limit >>> 2,
  DEADLINE: TurnLayout.offset.deadline >>> 2,
  END: TurnLayout.offset.end >>> 2,
} as const;
const MODES = MODE, TURNS = TURN;

/** Where a machine counts and has its power event: words of the memory. */
export interface TurnWords {
  /** Instructions retired by all CPUs, 64 bits. */
  readonly insns: number;
  /** Turns taken, 64 bits. */
  readonly turns: number;
  /** Not 0 while there is a power event. */
  readonly power: number;
}

/** What takes turns. */
export interface TurnParts {
  readonly platform: Platform;
  readonly interpreter: Interpreter;
  readonly cacheArena: Arena;
  readonly team: Team | undefined;
  /** The CPUs of this worker, and what executes their instructions. */
  readonly cores: readonly CpuCore[];
  readonly executors: readonly Executor[];
  readonly words: TurnWords;
  /** Instructions of a turn, where that is given. */
  readonly quantum: number | undefined;
}

/** One CPU of this worker. */
interface Seat {
  readonly index: number;
  readonly core: CpuCore;
  readonly cpu: Cpu;
  readonly executor: Executor;
  readonly words: Int32Array;
}

/** A moment of virtual time in whole ns, or a count, as the two words of {@link Clock.until}; also at `at` of a block. */
class Moment {
  lo = 0;
  hi = 0;
  /** As it was set: Infinity for never. */
  value = 0;

  constructor(readonly block: Int32Array, readonly at: number) {}

  set(value: number): void {
    this.value = value;
    const whole = Math.ceil(value);
    this.lo = value === Infinity ? -1 : whole | 0;
    this.hi = value === Infinity ? 0x7fff_ffff : Math.floor(whole / TWO32) | 0;
    this.block[this.at] = this.lo;
    this.block[this.at + 1] = this.hi;
  }
}

/** Whether generated code alone can execute the CPU's instructions: it does not step, nor count them. */
function isPlain(words: Int32Array): boolean {
  return words[WORD.PMU] === 0 && words[WORD.SINGLE] === 0 && words[WORD.UNSURE] === 0;
}

/** The turns of a worker's CPUs. */
export class Turns {
  /** Set while TypeScript is the software at EL2. */
  el2: El2Software | undefined;
  /** Asked for its next moment whenever timers are. */
  alarms: DeviceAlarms | undefined;
  /** Called before each turn of a CPU. */
  beforeTurn: (() => void) | undefined;
  /** The CPU whose turn it is; -1, or one whose turn is over, between turns. */
  turnOf = -1;
  /** Its turn is to end: another CPU has an interrupt to take. */
  handOver = false;
  /** Turns end with an exit to EL2's software, too: for whoever steps from one to the next. */
  endAtExit = false;
  /** Low word of the instructions retired when the turn began. */
  #insnsBefore = 0;
  readonly #words: Int32Array;
  readonly #platform: Platform;
  readonly #clock: Clock;
  readonly #interpreter: Interpreter;
  readonly #team: Team | undefined;
  readonly #seats: readonly Seat[];
  readonly #insns: number;
  readonly #turns: number;
  readonly #power: number;
  readonly #quantum: number | undefined;
  readonly #several: boolean;
  readonly #toOffset: (pa: number) => number;
  /** The words of a {@link TurnLayout}, and its address in the memory. */
  readonly #block: Int32Array;
  readonly #blockAt: number;
  readonly #deadline: Moment;
  readonly #limit: Moment;
  readonly #end: Moment;
  /** Instructions of a turn where CPUs run in parallel: as many as fit into its time. */
  #teamQuantum = TEAM_QUANTUM;
  /** In ns: when the turn at hand is over. */
  #turnEnd = 0;

  constructor(
    { platform, interpreter, team, cores, executors, words, quantum, cacheArena }: TurnParts,
  ) {
    this.#words = platform.memory.i32;
    this.#platform = platform;
    this.#clock = platform.clock;
    this.#interpreter = interpreter;
    this.#team = team;
    this.#insns = words.insns;
    this.#turns = words.turns;
    this.#power = words.power;
    this.#quantum = quantum;
    this.#several = platform.cpus.length > 1;
    // Each worker has its own.
    const block = cacheArena.reserve((team?.workers ?? 1) * TurnLayout.size, 8) +
      (team?.worker ?? 0) * TurnLayout.size;
    this.#blockAt = block;
    this.#block = new Int32Array(this.#words.buffer, block, TurnLayout.size >>> 2);
    this.#deadline = new Moment(this.#block, BLOCK.DEADLINE);
    this.#limit = new Moment(this.#block, BLOCK.LIMIT);
    this.#end = new Moment(this.#block, BLOCK.END);
    const { ram } = platform;
    this.#toOffset = (pa) => ramOffset(ram, pa, 4);
    this.#seats = cores.map((core, n): Seat => ({
      index: core.cpu.index,
      core,
      cpu: core.cpu,
      executor: executors[n] as Executor,
      words: core.words,
    }));
    this.#fillBlock();
  }

  #fillBlock(): void {
    const block = this.#block, { clock } = this.#platform;
    block[BLOCK.COUNT] = this.#seats.length;
    this.#seats.forEach(({ cpu }, n) => block[BLOCK.CPUS + n] = cpu.base);
    block[BLOCK.INSNS] = 4 * this.#insns;
    block[BLOCK.TURNS] = 4 * this.#turns;
    block[BLOCK.POWER] = 4 * this.#power;
    block[BLOCK.NS] = clock.nsAt;
    block[BLOCK.SLICE] = clock.sliceAt;
    block[BLOCK.SEVERAL] = this.#several ? 1 : 0;
  }

  /** Earliest moment at which something happens of itself, as of the last {@link updateTimers}; Infinity if never. */
  get deadlineNs(): number {
    return this.#deadline.value;
  }

  /** Timers are to be looked at, and the running slice ends. */
  rearm(): void {
    this.#deadline.set(0);
    this.#clock.cutSlice();
  }

  /** Re-evaluates timers when one is due, and remembers when the next one is. */
  updateTimers(): void {
    if (this.timersDue) this.#lookAtTimers();
  }

  /** Whether a timer is due, or {@link rearm} was called since they were looked at. */
  get timersDue(): boolean {
    const { lo, hi } = this.#deadline;
    return this.#clock.until(lo, hi) === 0;
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
    this.#deadline.set(next);
  }

  /**
   * One turn for every CPU, or several where nothing comes between them and less than `end` instructions were
   * retired. False: in the last round no CPU had anything to do.
   */
  round(limitNs: number, quantum = this.#quantum, end = 0): boolean {
    const limit = this.#limit;
    if (limitNs !== limit.value) limit.set(limitNs);
    this.#block[BLOCK.PROGRESS] = 0;
    // Others are long, or somebody sees each.
    const quick = quantum !== undefined && !this.#team && !this.beforeTurn;
    if (quick) return this.#quickRounds(quantum, end);
    const seats = this.#seats;
    for (let i = 0; i < seats.length; i++) {
      if (this.#words[this.#power] !== 0) break;
      const left = this.#clock.until(limit.lo, limit.hi);
      if (left === 0) return true;
      const seat = seats[i] as Seat;
      const most = quantum ?? this.#most(seat.index);
      if (this.beforeTurn !== undefined) this.beforeTurn();
      this.#turn(seat, most < left ? most : left);
    }
    return this.#roundOver();
  }

  #roundOver(): boolean {
    addSmall(this.#words, this.#turns, 1);
    return this.#block[BLOCK.PROGRESS] !== 0;
  }

  /** {@link round} by {@link Interpreter.turns}, which leaves to TypeScript what is not just instructions. */
  #quickRounds(quantum: number, end: number): boolean {
    const block = this.#block, seats = this.#seats, interpreter = this.#interpreter;
    if (end !== this.#end.value) this.#end.set(end);
    block[BLOCK.QUANTUM] = quantum;
    block[BLOCK.HOST_EL] = this.el2 === undefined ? 0 : this.el2.hostEl ?? 2;
    interpreter.settle((seats[0] as Seat).cpu);
    this.#pauseIfWaiting();
    let n = 0, mode: number = MODES.TURN;
    for (;;) {
      const answer = interpreter.turns(this.#blockAt, n, mode);
      const what = answer >>> 8;
      if (what === TURNS.END) return block[BLOCK.PROGRESS] !== 0;
      n = answer & 0xff;
      mode = MODES.TURN;
      const seat = seats[n] as Seat;
      if (what === TURNS.EXIT) {
        mode = this.#afterExit(seat, block[BLOCK.EXIT] as number);
        if (mode === MODES.TURN) n++;
      } else if (what === TURNS.TIMERS) {
        this.updateTimers();
        this.#settle(seat);
        n++;
      } else {
        if (this.#words[this.#power] !== 0) return this.#roundOver();
        const { lo, hi } = this.#limit;
        const left = this.#clock.until(lo, hi);
        if (left === 0) return true;
        const budget = quantum < left ? quantum : left;
        if (this.#startTurn(seat, budget)) mode = this.#nextSlice(seat, budget);
        if (mode === MODES.TURN) n++;
      }
    }
  }

  /** What comes next in a turn that has begun: {@link MODE.SLICE}, or {@link MODE.TURN} when it is over. */
  #nextSlice(seat: Seat, budget: number): number {
    const { words } = seat;
    for (let left = budget; this.#advance(seat, left); left = this.#timeLeft()) {
      if (isPlain(words)) return MODES.SLICE;
      this.#slice(seat, this.#block[BLOCK.GIVEN] as number);
      if (!this.#arrives(seat)) return MODES.TURN;
    }
    return MODES.TURN;
  }

  /** Generated code was left with `exit` in the middle of the CPU's slice: a {@link MODE}, TURN where the turn is over. */
  #afterExit(seat: Seat, exit: number): number {
    const interpreter = this.#interpreter;
    if (this.#block[BLOCK.FRESH] !== 0) this.#noteFresh(seat);
    const goesOn = interpreter.goOn(exit, seat.cpu, seat.executor, this.#toOffset);
    this.#pauseIfWaiting();
    if (goesOn) return MODES.GO_ON;
    this.#endSlice(seat);
    if (this.#block[BLOCK.PAUSE] !== 0) this.#settle(seat);
    return this.#arrives(seat) ? this.#nextSlice(seat, this.#timeLeft()) : MODES.TURN;
  }

  /** After a slice. */
  #settle({ cpu }: Seat): void {
    this.#interpreter.settle(cpu);
    this.#pauseIfWaiting();
  }

  /** Each slice ends in TypeScript while hot code waits to be translated. */
  #pauseIfWaiting(): void {
    this.#block[BLOCK.PAUSE] = this.#interpreter.regions.isWaiting ? 1 : 0;
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

  /** Whether the CPU is in the hands of EL2 software. */
  #inHost(words: Int32Array): boolean {
    const { el2 } = this;
    if (el2 === undefined) return false;
    const el = words[WORD.EL];
    if (el === 2) return true;
    return el === 1 && el2.hostEl === 1 && ((words[WORD.HCR] as number) & HCR.VM) === 0;
  }

  /**
   * Gives a CPU its turn: `budget` ns at most, those of the host's work between a guest's exit and its next entry
   * included. It ends early where another CPU has an interrupt to take.
   */
  #turn(seat: Seat, budget: number): void {
    if (!this.#startTurn(seat, budget)) return;
    for (let left = budget; this.#advance(seat, left); left = this.#timeLeft()) {
      this.#slice(seat, this.#block[BLOCK.GIVEN] as number);
      if (!this.#arrives(seat)) break;
    }
    this.turnOf = -1;
  }

  /** Whether the CPU has a turn. */
  #startTurn(seat: Seat, budget: number): boolean {
    const { words } = seat;
    const halt = words[WORD.HALT];
    if (halt === HALT.OFF || halt === HALT.STOPPED) return false;
    if (halt !== HALT.RUNNING && !this.#inHost(words) && !resumeIfWoken(seat.core)) return false;
    this.#note(seat, this.#clock.now() + budget);
    return true;
  }

  /** What is known of a turn is to be known of the one at hand, whoever has begun it: for what generated code calls. */
  noteBegun(index: number): void {
    if (this.#block[BLOCK.FRESH] !== 0) this.#noteFresh(this.#seats[index] as Seat);
  }

  /** The turn that the CPU is in was begun by {@link Interpreter.turns}. */
  #noteFresh(seat: Seat): void {
    this.#note(seat, this.#clock.sliceBegan + (this.#block[BLOCK.GIVEN] as number));
  }

  /** The turn of the CPU has begun, and is over at `end`. */
  #note({ index }: Seat, end: number): void {
    this.#block[BLOCK.FRESH] = 0;
    this.#turnEnd = end;
    this.#insnsBefore = this.#words[this.#insns] as number;
    this.handOver = false;
    this.turnOf = index;
  }

  /** The host's work, if the CPU is in its hands. True: so many instructions as are given come next; false: the turn is over. */
  #advance(seat: Seat, budget: number): boolean {
    const { words } = seat, block = this.#block;
    for (let left = budget; left > 0; left = this.#timeLeft()) {
      if (this.#inHost(words)) {
        if (words[WORD.HALT] === HALT.RUNNING) block[BLOCK.PROGRESS] = 1;
        if (!this.#stepEl2(seat, this.el2 as El2Software)) return false;
        // A guest that got something done can wait for another that it may be waiting for.
        if (this.handOver && this.#words[this.#insns] !== this.#insnsBefore) return false;
      }
      block[BLOCK.PROGRESS] = 1;
      const mayCome = (words[WORD.CHECK] as number) & CHECK.INTERRUPT;
      if (mayCome !== 0 || words[WORD.LINES] !== 0) pollInterrupts(seat.core);
      if (!this.#inHost(words)) {
        block[BLOCK.GIVEN] = left;
        return true;
      }
      if (!this.#arrives(seat)) return false;
    }
    return false;
  }

  #timeLeft(): number {
    return this.#turnEnd - this.#clock.now();
  }

  /** After instructions: true if they have led to EL2's software and the turn goes on. */
  #arrives(seat: Seat): boolean {
    if (!this.#inHost(seat.words)) return false;
    this.#arrive(seat, this.el2 as El2Software);
    if (this.handOver || this.endAtExit || this.#team !== undefined) return false;
    return this.#words[this.#power] === 0;
  }

  /** The CPU has come to EL2 by an exception. */
  #arrive({ index, cpu, words }: Seat, el2: El2Software): void {
    // The vCPU may go on elsewhere: as a context switch does, this completes what it has begun.
    if (words[WORD.MAINTENANCE] !== 0) this.#platform.hooks.onDsb?.(cpu, false);
    el2.onEl2Exception(index, (words[WORD.PC] as number) & 0x7ff);
  }

  /** Lets EL2 software have the CPU until it enters a guest or has nothing to do. True: the CPU is to run. */
  #stepEl2({ index, words }: Seat, el2: El2Software): boolean {
    if (words[WORD.HALT] !== HALT.RUNNING) {
      if (((words[WORD.LINES] as number) & LINE.IRQ) === 0) return false;
      words[WORD.HALT] = HALT.RUNNING;
      // It may give another CPU something to do, whose turn of this round is over, and idle again.
      this.#block[BLOCK.PROGRESS] = 1;
    }
    for (let i = 0; i < MAX_STEPS; i++) {
      const result = el2.step(index);
      // Its time has passed; writes of timer registers have set the deadline back (onEndSlice).
      this.updateTimers();
      if (result === "guest") return true;
      if (result === "idle") {
        words[WORD.HALT] = HALT.WFI;
        return false;
      }
    }
    this.#block[BLOCK.PROGRESS] = 1;
    return false;
  }

  #slice(seat: Seat, budget: number): void {
    const { cpu } = seat;
    const clock = this.#clock;
    clock.beginSlice(cpu, this.#sliceLength(seat, budget));
    const started = this.#team ? clock.now() : 0;
    this.#interpreter.run(cpu, seat.executor, this.#toOffset);
    this.#pauseIfWaiting();
    const insns = this.#endSlice(seat);
    if (!this.#team) return;
    this.#teamQuantum = nextQuantum(this.#teamQuantum, insns, clock.now() - started);
  }

  /** The instructions that the slice has retired. */
  #endSlice({ words, core }: Seat): number {
    const insns = this.#clock.endSlice();
    addSmall(this.#words, this.#insns, insns);
    if (words[WORD.PMU] !== 0) syncPmu(core);
    if (words[WORD.MONITOR] !== 0 && this.#several) this.#closeMonitor(words);
    this.updateTimers();
    return insns;
  }

  /** At most `budget`, up to what happens next. */
  #sliceLength({ words, core }: Seat, budget: number): number {
    const { lo, hi } = this.#deadline;
    const left = this.#clock.until(lo, hi);
    const least = this.#team ? TEAM_LEAST_SLICE : 1;
    const length = Math.min(budget, Math.max(least, left));
    if (words[WORD.PMU] === 0) return length;
    const toOverflow = untilPmuInterrupt(core);
    return toOverflow < length ? toOverflow | 0 : length;
  }

  /**
   * Another CPU's turn may write what this one has reserved: an open monitor does not outlive the turn, and that
   * it closes is an event for WFE. That of a CPU already in WFE stays: whether it was written to is looked at
   * before each of its turns.
   */
  #closeMonitor(words: Int32Array): void {
    if (words[WORD.HALT] === HALT.WFE) return;
    words[WORD.MONITOR] = 0;
    words[WORD.EVENT] = 1;
  }
}
