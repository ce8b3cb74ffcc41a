/**
 * The machine: its memory, CPUs, interrupt controller, timers and RAM put together, and what runs it; the loop
 * that runs the CPUs by turns is in turns.ts. Whoever sits above (the host kernel with KVM, or nothing in
 * `--bare`) takes the CPUs that are at EL2 through {@link El2Software}.
 */
import type { Arena } from "../base/arena.ts";
import { assert, UserError } from "../base/errors.ts";
import type { SharedMemory } from "../base/memory.ts";
import type { ViewOf } from "../base/struct.ts";
import { type Cpu, HALT, LINE } from "./arch/cpu_state.ts";
import { ramOffset, type RamRange } from "./arch/tlb_layout.ts";
import { CpuCore } from "./cpu.ts";
import { refreshArmed } from "./debug.ts";
import { El2Port } from "./el2_port.ts";
import { CACHE_LINE, type Interpreter } from "./engine/interpreter.ts";
import { contextSwitched, refreshInterrupts } from "./exceptions.ts";
import { Executor } from "./executor.ts";
import type { Firmware } from "./firmware.ts";
import { divideMemory } from "./machine_memory.ts";
import type { DeviceAlarms, El2Software, MachineOptions, StopReason } from "./machine_options.ts";
import { makeInterpreter, makePlatform } from "./machine_parts.ts";
import { Team } from "./parallel/team.ts";
import { joinTeam, runHelper, runMain, type TeamMachine } from "./parallel/team_machine.ts";
import type { Hooks, Platform, PowerEvent } from "./parts.ts";
import { refreshPmu } from "./pmu.ts";
import { RegisterCalls } from "./register_calls.ts";
import { resetCpu } from "./reset.ts";
import { MachineState, type Snapshot } from "./state.ts";
import { MachineLayout } from "./turn_words.ts";
import { QUANTUM, Turns } from "./turns.ts";

export { BOARD } from "./board.ts";

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
  readonly #self: ViewOf<typeof MachineLayout>;
  readonly #turns: Turns;
  /** Instructions of a turn, while others wait for theirs. */
  readonly quantum: number;

  constructor(readonly options: MachineOptions, firmware?: Firmware) {
    const { pcpus, team } = options;
    assert(pcpus >= 1 && pcpus <= 16, `${pcpus} physical CPUs: 1 to 16 are possible`);
    this.quantum = options.quantum ?? QUANTUM;
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
    this.team = team && new Team(memory, this.observeArena, team);
    const place = { memory, ram, arena, cacheArena, hooks: this };
    this.platform = makePlatform(place, options);
    this.cores = this.platform.cpus.map((cpu) => new CpuCore(this.platform, cpu, firmware));
    this.platform.gic.linesChanged = (cpu) => this.#linesChanged(this.cores[cpu] as CpuCore);
    this.platform.cores.push(...this.cores);
    this.ports = this.cores.map((core) => new El2Port(core, this.observeArena));
    this.ownCpus = this.platform.cpus.filter((cpu) => this.isOwn(cpu));
    this.interpreter = makeInterpreter(place, options, this.platform.model, parts.codePages);
    this.interpreter.onCheckAll = () => this.platform.mmu.dropCode(this.ownCpus);
    this.interpreter.onDropAll = () => this.platform.mmu.reset(this.ownCpus);
    if (this.team) joinTeam(this, this.team);
    this.#turns = this.#makeTurns();
    if (this.team === undefined) {
      const { clock } = this.platform;
      this.interpreter.regions.surroundings = new RegisterCalls(this.cores, clock);
    }
    for (const core of this.cores) {
      resetCpu(core, { el: 2, pc: 0, x0: 0 });
      core.cpu.halt = HALT.OFF;
    }
  }

  #makeTurns(): Turns {
    const { platform, interpreter, team, cores, cacheArena, options: { quantum } } = this;
    const executors = cores.map((core) => new Executor(core, cacheArena, interpreter));
    const isOwn = ({ cpu }: CpuCore) => this.isOwn(cpu);
    return new Turns({
      platform,
      interpreter,
      team,
      cores: cores.filter(isOwn),
      executors: executors.filter(({ core }) => isOwn(core)),
      countsAt: this.#self.base,
      quantum,
    });
  }

  /** Whether this worker runs the CPU. */
  isOwn(cpu: Cpu): boolean {
    return this.team === undefined || this.team.workerOf(cpu.index) === this.team.worker;
  }

  #linesChanged(core: CpuCore): void {
    refreshInterrupts(core);
    if (this.team === undefined || this.isOwn(core.cpu)) this.#turns.linesChanged(core);
    else this.#ringFor(core.cpu);
  }

  /** Set while TypeScript is the software at EL2. */
  get el2(): El2Software | undefined {
    return this.#turns.el2;
  }
  set el2(software: El2Software | undefined) {
    this.#turns.el2 = software;
    this.platform.hostAtEl2 = software !== undefined;
  }
  /** Asked for its next moment whenever timers are. */
  set alarms(alarms: DeviceAlarms | undefined) {
    this.#turns.alarms = alarms;
  }
  /** Called before each turn of a CPU. */
  set beforeTurn(called: (() => void) | undefined) {
    this.#turns.beforeTurn = called;
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
    if (this.team !== undefined && !this.isOwn(cpu)) this.#ringFor(cpu);
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

  /** Earliest moment at which something happens of itself; Infinity if never. */
  get deadlineNs(): number {
    return this.#turns.deadlineNs;
  }
  /** Timers are to be looked at, and the running slice ends. */
  rearm(): void {
    this.#turns.rearm();
  }
  /** Whether {@link updateTimers} would look at them. */
  get timersDue(): boolean {
    return this.#turns.timersDue;
  }
  /** Re-evaluates timers when one is due, and remembers when the next one is. */
  updateTimers(): void {
    this.#turns.updateTimers();
  }
  /** One turn for every CPU. False: none had anything to do. */
  round(limitNs: number, quantum?: number): boolean {
    return this.#turns.round(limitNs, quantum);
  }

  /**
   * Runs until about `insns` more instructions are retired, virtual time reaches `limitNs`, a power
   * event comes, or nothing will ever happen again without outside input ("stalled").
   */
  run(insns: number, limitNs = Infinity): StopReason {
    const turns = this.#turns;
    if (this.team) {
      const reason = runMain(this, this.team, limitNs);
      turns.beforeTurn?.();
      return reason;
    }
    const end = this.insns + insns;
    const { clock } = this.platform;
    turns.rearm();
    turns.updateTimers();
    while (this.#self.power === 0) {
      if (clock.now() >= limitNs) return "limit";
      if (this.insns >= end) return "budget";
      if (turns.round(limitNs, undefined, end)) continue;
      if (turns.deadlineNs === Infinity) return "stalled";
      clock.jumpTo(Math.min(turns.deadlineNs, limitNs));
      turns.updateTimers();
    }
    return "power";
  }

  /**
   * One turn of at most `insns` instructions, up to an exit, for every CPU, or a jump of the clock when all wait. False:
   * nothing will ever happen without outside input. For stepping by hand.
   */
  stepRound(insns: number): boolean {
    const turns = this.#turns;
    turns.rearm();
    turns.updateTimers();
    const progress = turns.step(insns);
    if (progress) return true;
    if (turns.deadlineNs === Infinity) return false;
    this.platform.clock.jumpTo(turns.deadlineNs);
    turns.updateTimers();
    return true;
  }

  /** Runs this helper's CPUs until `untilMs` ({@link runHelper}), or the team ends. Under the machine lock. */
  help(untilMs: number): void {
    if (this.team) runHelper(this, this.team, untilMs);
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
    this.memory.clear(0, this.memory.size);
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
    this.platform.gic.updateAll();
    for (const core of this.cores) {
      contextSwitched(core);
      refreshArmed(core);
      refreshPmu(core);
    }
  }
}
