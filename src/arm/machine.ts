/**
 * The machine: its memory, CPUs, interrupt controller, timers and RAM put together, and the loop that
 * runs the CPUs by turns in a fixed order. Whoever sits above (the host kernel with KVM, or nothing in
 * `--bare`) takes the CPUs that are at EL2 through {@link El2Software}.
 */
import type { Arena } from "../base/arena.ts";
import { assert, UserError } from "../base/errors.ts";
import { addSmall, type SharedMemory } from "../base/memory.ts";
import { layout, u32, u53, type ViewOf } from "../base/struct.ts";
import { type Cpu, HALT as HALTS, LINE } from "./arch/cpu_state.ts";
import { ramOffset, type RamRange } from "./arch/tlb_layout.ts";
import { CpuCore } from "./cpu.ts";
import { refreshArmed } from "./debug.ts";
import { El2Port } from "./el2_port.ts";
import { CACHE_LINE, type Interpreter } from "./engine/interpreter.ts";
import { contextSwitched, pollInterrupts, refreshInterrupts } from "./exceptions.ts";
import { Executor } from "./executor.ts";
import type { Firmware } from "./firmware.ts";
import { divideMemory } from "./machine_memory.ts";
import type { DeviceAlarms, El2Software, MachineOptions, StopReason } from "./machine_options.ts";
import { makeInterpreter, makePlatform } from "./machine_parts.ts";
import { Team } from "./parallel/team.ts";
import {
  joinTeam,
  nextQuantum,
  runHelper,
  runMain,
  TEAM_LEAST_SLICE,
  TEAM_QUANTUM,
  type TeamMachine,
} from "./parallel/team_machine.ts";
import type { Hooks, Platform, PowerEvent } from "./parts.ts";
import { refreshPmu, syncPmu, untilPmuInterrupt } from "./pmu.ts";
import { pcLo } from "./pstate.ts";
import { resetCpu } from "./reset.ts";
import { MachineState, type Snapshot } from "./state.ts";
import { resumeIfWoken } from "./waiting.ts";

export { BOARD } from "./board.ts";

/** Instructions a CPU runs before the next one's turn. */
const QUANTUM = 10_000;
/** The same where no other CPU waits for its turn. */
const QUANTUM_ALONE = 100_000;

/** Steps of EL2 software in one turn, at most. */
const MAX_STEPS = 64;

const MachineLayout = layout("machine", {
  /** Instructions retired by all CPUs. */
  insns: u53(),
  /** Turns taken; inputs from outside are stamped with it. */
  turns: u53(),
  /** The power event that nobody has taken yet: its position in {@link POWER_EVENTS}. */
  power: u32(),
});

// As constants of this module, V8 knows them.
const add = addSmall;
const HALT = HALTS;
/** Words from the one of `insns` to that of `turns`. */
const TURNS = (MachineLayout.offset.turns - MachineLayout.offset.insns) >>> 2;

const POWER_EVENTS: readonly (PowerEvent | undefined)[] = [undefined, "off", "reset"];

/** A machine. Everything it is lies in {@link memory}. */
export class Machine implements Hooks, TeamMachine {
  readonly memory: SharedMemory;
  readonly ram: RamRange;
  /** Memory for devices' contents: state like RAM, but not on the bus. */
  readonly deviceArea: { readonly at: number; readonly size: number };
  /** `arch` state outside RAM; `cache`; `observe`. */
  readonly arena: Arena;
  readonly cacheArena: Arena;
  readonly observeArena: Arena;
  readonly platform: Platform;
  readonly cores: readonly CpuCore[];
  readonly ports: readonly El2Port[];
  readonly interpreter: Interpreter;
  readonly state: MachineState;
  /** The workers that run the CPUs, where there are several; and the CPUs of this one. */
  readonly team: Team | undefined;
  readonly ownCpus: readonly Cpu[];
  /** Called when a CPU reaches a guest's vector for the virtual interrupt `intid`. For whoever watches. */
  virtualInterrupt: ((cpu: number, intid: number) => void) | undefined;
  /** Asked for its next moment whenever timers are. */
  alarms: DeviceAlarms | undefined;
  /** Called before each turn of a CPU. */
  beforeTurn: (() => void) | undefined;
  #el2: El2Software | undefined;
  readonly #self: ViewOf<typeof MachineLayout>;
  readonly #insnsWord: number;
  /** Instructions of a turn, while others wait for theirs. */
  readonly quantum: number;
  readonly #quantum: number | undefined;
  /** The CPU whose turn it is while all others are halted; else -1. */
  #alone = -1;
  readonly #executors: Executor[] = [];
  readonly #toOffset: (pa: number) => number;
  #deadlineNs = 0;
  /** Instructions of a turn where CPUs run in parallel: as many as fit into its time. */
  #teamQuantum = TEAM_QUANTUM;

  constructor(readonly options: MachineOptions, firmware?: Firmware) {
    const { pcpus, team } = options;
    assert(pcpus >= 1 && pcpus <= 16, `${pcpus} physical CPUs: 1 to 16 are possible`);
    this.#quantum = options.quantum;
    this.quantum = this.#quantum ?? QUANTUM;
    const parts = divideMemory(options);
    const { memory, ram, arena, cacheArena } = parts;
    this.memory = memory;
    this.ram = ram;
    this.deviceArea = parts.deviceArea;
    this.arena = arena;
    this.observeArena = parts.observeArena;
    this.cacheArena = cacheArena;
    this.state = new MachineState(memory, [arena], [ram, parts.deviceArea]);
    this.#self = arena.make(MachineLayout);
    this.#insnsWord = (this.#self.base + MachineLayout.offset.insns) >>> 2;
    this.team = team && new Team(memory, this.observeArena, team);
    const place = { memory, ram, arena, cacheArena, hooks: this };
    this.platform = makePlatform(place, options);
    this.platform.gic.linesChanged = (cpu) => this.#linesChanged(cpu);
    this.cores = this.platform.cpus.map((cpu) => new CpuCore(this.platform, cpu, firmware));
    this.platform.cores.push(...this.cores);
    this.ports = this.cores.map((core) => new El2Port(core, this.observeArena));
    this.ownCpus = this.platform.cpus.filter((cpu) => this.isOwn(cpu));
    this.interpreter = makeInterpreter(place, options, this.platform.model, parts.codePages);
    this.interpreter.onCheckAll = () => this.platform.mmu.dropCode(this.ownCpus);
    this.interpreter.onDropAll = () => this.platform.mmu.reset(this.ownCpus);
    if (this.team) joinTeam(this, this.team);
    this.#toOffset = (pa) => ramOffset(this.ram, pa, 4);
    for (const core of this.cores) {
      this.#executors.push(new Executor(core, cacheArena, this.interpreter));
      resetCpu(core, { el: 2, pc: 0, x0: 0 });
      core.cpu.halt = HALT.OFF;
    }
  }

  /** Whether this worker runs the CPU. */
  isOwn({ index }: Cpu): boolean {
    return this.team === undefined || this.team.workerOf(index) === this.team.worker;
  }

  #linesChanged(cpu: number): void {
    const core = this.cores?.[cpu];
    if (!core) return;
    refreshInterrupts(core);
    if (!this.isOwn(core.cpu)) return this.#ringFor(core.cpu);
    // What runs alone has a long slice: not while another CPU has something to do.
    if (this.#alone >= 0 && this.#alone !== cpu && core.cpu.irqLines !== 0) {
      this.onEndSlice(core.cpu, true);
    }
  }

  /** Set while TypeScript is the software at EL2. */
  get el2(): El2Software | undefined {
    return this.#el2;
  }
  set el2(software: El2Software | undefined) {
    this.#el2 = software;
    this.platform.hostAtEl2 = software !== undefined;
  }

  // Hooks

  onInstructionCacheInvalidate(pa: number | "all", broadcast: boolean): void {
    if (pa === "all") this.interpreter.invalidateAll();
    else this.interpreter.invalidateLine(pa);
    if (this.team === undefined || !broadcast) return;
    const at = pa === "all" ? -1 : ramOffset(this.ram, pa - pa % CACHE_LINE, CACHE_LINE);
    this.team.sendCode(Math.max(at, 0), at < 0 ? 0 : CACHE_LINE);
  }
  onEndSlice(cpu: Cpu, sameTimers = false): void {
    if (!this.isOwn(cpu)) this.#ringFor(cpu);
    else if (sameTimers) this.platform.clock.cutSlice();
    else this.rearm();
  }
  onMaintenance(cpu: Cpu): void {
    if (this.team?.noteMaintenance()) cpu.maintenance = 1;
  }
  onDsb(cpu: Cpu, inHost: boolean): void {
    cpu.maintenance = 0;
    this.team?.awaitMaintenance(!inHost);
  }
  /** Something has changed for a CPU of another worker. */
  #ringFor(cpu: Cpu): void {
    this.team?.ring(this.team.workerOf(cpu.index));
  }
  onPower(event: PowerEvent): void {
    this.power = event;
  }
  onVirtualInterrupt(cpu: Cpu): void {
    if (this.virtualInterrupt === undefined) return;
    const virtual = this.platform.gic.virtualInterface(cpu.index);
    const n = virtual.highestPending();
    if (n >= 0) this.virtualInterrupt(cpu.index, virtual.intid(n));
  }

  // Access from outside

  /** What the firmware or a guest asked for, until whoever takes it sets it to undefined. */
  get power(): PowerEvent | undefined {
    return POWER_EVENTS[this.#self.power];
  }
  set power(event: PowerEvent | undefined) {
    this.#self.power = POWER_EVENTS.indexOf(event);
    this.team?.ringAll();
  }
  /** Virtual time in ns. */
  get nowNs(): number {
    return this.platform.clock.now();
  }
  /** Instructions retired by all CPUs. */
  get insns(): number {
    return this.#self.insns;
  }
  /** Turns taken so far. */
  get turns(): number {
    return this.#self.turns;
  }

  /** Writes bytes to physical memory from outside, as a loader does. RangeError outside RAM. */
  writeRam(pa: number, bytes: Uint8Array): void {
    const at = ramOffset(this.ram, pa, bytes.length);
    if (at < 0) throw new RangeError(`0x${pa.toString(16)}: ${bytes.length} bytes are not RAM`);
    this.memory.u8.set(bytes, at);
    this.ramWritten(at, bytes.length);
  }

  /**
   * `length` bytes of RAM at byte offset `at` of the memory were written, not by a CPU: what was
   * predecoded from there is stale. Whoever writes RAM from outside (loader, device, reset) calls this.
   */
  ramWritten(at: number, length: number): void {
    this.interpreter.invalidateRange(at - this.ram.at + this.ram.pa, length);
    this.team?.sendCode(at, length);
  }

  /** A device's next moment has changed. */
  alarmChanged(): void {
    this.onEndSlice(this.platform.cpus[0] as Cpu);
  }

  /** Starts CPU `index` at `pc` in exception level `el`. */
  start(index: number, el: 1 | 2, pc: number, x0: number): void {
    resetCpu(this.cores[index] as CpuCore, { el, pc, x0 });
  }

  /** An SError becomes pending at CPU `index`: an error of the system that no access waits for. */
  raiseSError(index: number): void {
    const core = this.cores[index] as CpuCore;
    core.cpu.irqLines |= LINE.SERROR;
    refreshInterrupts(core);
  }

  irqPending(index: number): boolean {
    return ((this.platform.cpus[index] as Cpu).irqLines & LINE.IRQ) !== 0;
  }

  // The run loop

  get deadlineNs(): number {
    return this.#deadlineNs;
  }
  /** Timers are to be looked at, and the running slice ends. */
  rearm(): void {
    this.#deadlineNs = 0;
    this.platform.clock.cutSlice();
  }

  /** Re-evaluates timers when one is due, and remembers when the next one is. */
  updateTimers(): void {
    const { clock, timer } = this.platform;
    const now = clock.now();
    if (now < this.#deadlineNs) return;
    const { alarms } = this;
    if (alarms && now >= alarms.nextNs) alarms.onTime(now);
    let next = alarms?.nextNs ?? Infinity;
    for (const { index } of this.ownCpus) {
      timer.update(index);
      next = Math.min(next, timer.nextDeadlineNs(index));
    }
    this.#deadlineNs = next;
  }

  /** Lets EL2 software have the CPU until it enters a guest or has nothing to do. True: the CPU is to run. */
  #stepEl2(index: number, cpu: Cpu, el2: El2Software): boolean {
    if (cpu.halt !== HALT.RUNNING) {
      if (!this.irqPending(index)) return false;
      cpu.halt = HALT.RUNNING;
      // It may give another CPU something to do, whose turn of this round is over, and idle again.
      this.#progress = true;
    }
    for (let i = 0; i < MAX_STEPS; i++) {
      const result = el2.step(index);
      // Its time has passed; writes of timer registers have set the deadline back (onEndSlice).
      this.updateTimers();
      if (result === "guest") return true;
      if (result === "idle") {
        cpu.halt = HALT.WFI;
        return false;
      }
    }
    this.#progress = true;
    return false;
  }

  #progress = false;

  /** Gives CPU `index` its turn: at most `budget` instructions. */
  #turn(index: number, budget: number): void {
    const core = this.cores[index] as CpuCore;
    const { cpu } = core;
    if (cpu.halt === HALT.OFF || cpu.halt === HALT.STOPPED) return;
    const { el2 } = this;
    if (el2 && this.#inHost(index)) {
      this.#progress ||= cpu.halt === HALT.RUNNING;
      if (!this.#stepEl2(index, cpu, el2)) return;
    } else if (!resumeIfWoken(core)) return;
    this.#progress = true;
    pollInterrupts(core);
    if (!this.#inHost(index)) this.#slice(index, cpu, budget);
    if (!el2 || !this.#inHost(index)) return;
    // The vCPU may go on elsewhere: as a context switch does, this completes what it has begun.
    if (cpu.maintenance !== 0) this.onDsb(cpu, false);
    el2.onEl2Exception(index, pcLo(cpu) & 0x7ff);
  }

  #inHost(index: number): boolean {
    const { el2 } = this;
    if (el2 === undefined) return false;
    const port = this.ports[index] as El2Port;
    return port.el === 2 || (el2.hostEl === 1 && port.inHost);
  }

  #slice(index: number, cpu: Cpu, budget: number): void {
    const { clock } = this.platform;
    const least = this.team ? TEAM_LEAST_SLICE : 1;
    const toDeadline = Math.max(least, Math.ceil(this.#deadlineNs - clock.now()));
    const core = this.cores[index] as CpuCore;
    const toOverflow = cpu.pmuActive !== 0 ? untilPmuInterrupt(core) : Infinity;
    clock.beginSlice(cpu, Math.min(budget, toDeadline, toOverflow));
    const started = this.team ? clock.now() : 0;
    this.interpreter.run(cpu, this.#executors[index] as Executor, this.#toOffset);
    const insns = clock.endSlice();
    add(this.memory.i32, this.#insnsWord, insns);
    if (this.team) this.#teamQuantum = nextQuantum(this.#teamQuantum, insns, clock.now() - started);
    if (cpu.pmuActive !== 0) syncPmu(core);
    // Another CPU's turn may write what this one has reserved.
    if (this.cores.length > 1) this.#closeMonitor(cpu);
    this.updateTimers();
  }

  /**
   * An open monitor does not outlive the turn, and that it closes is an event for WFE. That of a CPU
   * already in WFE stays: whether it was written to is looked at before each of its turns.
   */
  #closeMonitor(cpu: Cpu): void {
    if (cpu.monitorOpen === 0 || cpu.halt === HALT.WFE) return;
    cpu.monitorOpen = 0;
    cpu.eventRegister = 1;
  }

  /**
   * Runs until about `insns` more instructions are retired, virtual time reaches `limitNs`, a power
   * event comes, or nothing will ever happen again without outside input ("stalled").
   */
  run(insns: number, limitNs = Infinity): StopReason {
    if (this.team) {
      const reason = runMain(this, this.team, limitNs);
      this.beforeTurn?.();
      return reason;
    }
    const end = this.insns + insns;
    const { clock } = this.platform;
    this.#deadlineNs = 0;
    this.updateTimers();
    while (this.power === undefined) {
      if (clock.now() >= limitNs) return "limit";
      if (this.insns >= end) return "budget";
      if (this.round(limitNs)) continue;
      if (this.#deadlineNs === Infinity) return "stalled";
      clock.jumpTo(Math.min(this.#deadlineNs, limitNs));
      this.updateTimers();
    }
    return "power";
  }

  /** One turn for every CPU. False: none had anything to do. */
  round(limitNs: number, quantum = this.#quantum): boolean {
    this.#progress = false;
    for (const { index } of this.ownCpus) {
      if (this.power !== undefined) break;
      const left = limitNs - this.platform.clock.now();
      if (left <= 0) return true;
      this.#alone = quantum === undefined && !this.team && this.#othersHalted(index) ? index : -1;
      const most = quantum ??
        (this.team ? this.#teamQuantum : this.#alone < 0 ? QUANTUM : QUANTUM_ALONE);
      this.beforeTurn?.();
      this.#turn(index, Math.min(most, Math.ceil(left)));
    }
    add(this.memory.i32, this.#insnsWord + TURNS, 1);
    return this.#progress;
  }

  /** Whether all CPUs but one are off, or wait for an interrupt that has not come. */
  #othersHalted(index: number): boolean {
    const { cpus } = this.platform;
    for (let i = 0; i < cpus.length; i++) {
      if (i === index) continue;
      const { halt, irqLines } = cpus[i] as Cpu;
      if (halt === HALT.RUNNING || halt === HALT.WFE) return false;
      // Its turn is to come before the end of a run that is shorter than a long turn.
      if (halt === HALT.WFI && irqLines !== 0) return false;
    }
    return true;
  }

  /**
   * One turn of at most `insns` instructions for every CPU, or a jump of the clock when all wait. False:
   * nothing will ever happen without outside input. For stepping by hand.
   */
  stepRound(insns: number): boolean {
    this.#deadlineNs = 0;
    this.updateTimers();
    if (this.round(Infinity, insns)) return true;
    if (this.#deadlineNs === Infinity) return false;
    this.platform.clock.jumpTo(this.#deadlineNs);
    this.updateTimers();
    return true;
  }

  /** Runs this helper's CPUs until the team ends. Under the machine lock. */
  help(): void {
    if (this.team) runHelper(this, this.team);
  }

  /** Lets others have the machine until {@link acquire}: while the main worker does something else. */
  release(): void {
    this.team?.release();
  }
  acquire(): void {
    this.team?.acquire();
  }

  /** Nothing of the machine moves and no time passes until {@link thaw}, but for what this worker runs. */
  freeze(): void {
    this.team?.freeze();
    this.platform.clock.setPassing(false);
  }
  thaw(): void {
    this.platform.clock.setPassing(true);
    this.team?.thaw();
  }

  /** Zeroes all memory: this machine's objects are to be those of a worker whose machine another one makes. */
  leaveMemory(): void {
    const words = this.memory.u64;
    for (let at = 0; at < words.length; at += 512) {
      const page = words.subarray(at, at + 512);
      if (page.some((word) => word !== 0n)) page.fill(0n);
    }
  }

  // State

  /** The time of the host goes on whatever is restored, and other workers keep what they know of memory. */
  #requireOneWorker(): void {
    if (this.team) throw new UserError("snapshots are not possible with --threads");
  }

  /** A hash of all `arch` state. */
  stateHash(): string {
    return this.state.hash();
  }
  /**
   * A copy of all `arch` state. The software TLBs are emptied: what hardware writes into translation
   * tables depends on what is cached, and the run that goes on is to be the same as a restored one. UserError
   * where CPUs run in several workers.
   */
  snapshot(): Snapshot {
    this.#requireOneWorker();
    this.platform.mmu.reset(this.platform.cpus);
    return this.state.snapshot();
  }
  restore(snapshot: Snapshot): void {
    this.#requireOneWorker();
    this.state.restore(snapshot);
    this.interpreter.dropAll();
    for (const core of this.cores) {
      contextSwitched(core);
      refreshArmed(core);
      refreshPmu(core);
    }
  }
}
