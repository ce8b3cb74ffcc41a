/**
 * The machine: its memory, CPUs, interrupt controller, timers and RAM put together, and the loop that
 * runs the CPUs by turns in a fixed order. Whoever sits above (the host kernel with KVM, or nothing in
 * `--bare`) takes the CPUs that are at EL2 through {@link El2Software}.
 */
import { Arena } from "../base/arena.ts";
import { alignUp } from "../base/bits.ts";
import { assert } from "../base/errors.ts";
import { SharedMemory, WASM_PAGE } from "../base/memory.ts";
import { layout, u32, u53, type ViewOf } from "../base/struct.ts";
import { type Cpu, CpuLayout, HALT, LINE } from "./arch/cpu_state.ts";
import type { CpuModel } from "./arch/features.ts";
import { ACCESS, type Access, ramOffset, type RamRange } from "./arch/tlb_layout.ts";
import { BOARD, placeGic } from "./board.ts";
import { Bus } from "./bus.ts";
import { Clock } from "./clock.ts";
import { CpuCore } from "./cpu.ts";
import { CROSSING_BYTES, CrossingAccess } from "./crossing_access.ts";
import { refreshArmed } from "./debug.ts";
import { refreshSingle } from "./debug_enable.ts";
import { El2Port } from "./el2_port.ts";
import { type ExecutionHost, Interpreter, InterpreterCode } from "./engine/interpreter.ts";
import type { RegionOptions } from "./engine/regions.ts";
import { RECORD_PAGE_SIZE } from "./engine/records.ts";
import { UNPRIVILEGED_ACCESS } from "./engine/wasm_builder.ts";
import { contextSwitched, pollInterrupts, refreshInterrupts, untagPc } from "./exceptions.ts";
import type { Firmware } from "./firmware.ts";
import { GenericTimer } from "./generic_timer.ts";
import { type CoreModel, coreModel } from "./id_registers.ts";
import { Team } from "./parallel/team.ts";
import {
  hostClock,
  joinTeam,
  nextQuantum,
  runHelper,
  runMain,
  TEAM_LEAST_SLICE,
  TEAM_QUANTUM,
  teamCodePages,
  type TeamMachine,
  type TeamOptions,
} from "./parallel/team_machine.ts";
import { isBreakpointPage } from "./mmu/debug_pages.ts";
import { contextBytes, FILL, Mmu } from "./mmu/mmu.ts";
import type { Hooks, Platform, PowerEvent } from "./parts.ts";
import { refreshPmu, syncPmu, untilPmuInterrupt } from "./pmu.ts";
import { pcHi, pcLo } from "./pstate.ts";
import { resetCpu } from "./reset.ts";
import { MachineState, type Snapshot } from "./state.ts";
import { resumeIfWoken } from "./waiting.ts";

export { BOARD } from "./board.ts";

const MIB = 1 << 20;
/** Bytes for CPUs, interrupt controller and timers, and for counters and rings. */
const ARCH_BYTES = 2 * MIB;
const OBSERVE_BYTES = 16 * MIB;

/** Instructions a CPU runs before the next one's turn. */
const QUANTUM = 10_000;
/** The same where no other CPU waits for its turn. */
const QUANTUM_ALONE = 100_000;
/** Pages of code kept predecoded. */
const CODE_PAGES = 3072;

export interface MachineOptions {
  /** Physical CPUs, 1 to 16. */
  readonly pcpus: number;
  /** Bytes of RAM, a multiple of 64 KiB. */
  readonly ramSize: number;
  /** List registers of each CPU, 1 to 16. */
  readonly lrs?: number;
  /** What the physical CPUs implement: everything, if not said. */
  readonly cpu?: CpuModel;
  /** Version of the interrupt controller, 3 unless told; a GICv2 serves 8 CPUs at most. */
  readonly gic?: 2 | 3;
  /** Pages of code kept predecoded. */
  readonly codePages?: number;
  /** Instructions a turn lasts at most. */
  readonly quantum?: number;
  /** What is translated, and when. */
  readonly regions?: Partial<RegionOptions>;
  /** Bytes of memory for devices' contents (what a guest writes to its disk), which no CPU can reach. */
  readonly deviceBytes?: number;
  /** CPUs in parallel: this machine's worker. */
  readonly team?: TeamOptions;
}

/** Devices that act at a moment of virtual time, where no host kernel has timers for them. */
export interface DeviceAlarms {
  /** The next moment in ns; Infinity when there is none. */
  readonly nextNs: number;
  onTime(nowNs: number): void;
}

/**
 * What runs in TypeScript instead of instructions: everything at EL2, and with `hostEl` 1 a host kernel
 * without VHE at EL1, which is where HCR_EL2.VM is clear. EL1 under stage 2, and EL0, are guests'.
 */
export interface El2Software {
  /** The host kernel's level; 2 if left out. */
  readonly hostEl?: 1 | 2;
  /** Lets CPU `pcpu`, in the host, go on: "guest" it has done ERET, "idle" it waits for an interrupt, "again" there is more to do. */
  step(pcpu: number): "guest" | "idle" | "again";
  /** The CPU has taken an exception to EL2 through the vector at `vectorOffset`. */
  onEl2Exception(pcpu: number, vectorOffset: number): void;
}

/** Why {@link Machine.run} came back. */
export type StopReason = "budget" | "limit" | "stalled" | "power";

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

const POWER_EVENTS: readonly (PowerEvent | undefined)[] = [undefined, "off", "reset"];

/**
 * Compiled interpreters by model and memory size in WebAssembly pages: making one costs more than all
 * the rest of a machine.
 */
const INTERPRETERS = new Map<string, InterpreterCode>();

function interpreterCode(model: CoreModel, pages: number, parallel: boolean): InterpreterCode {
  const key = `${model.name} ${pages} ${parallel}`;
  const known = INTERPRETERS.get(key);
  if (known) return known;
  const code = new InterpreterCode(model.rows, pages, parallel);
  INTERPRETERS.set(key, code);
  return code;
}

/** One CPU as the interpreter runs it. */
class Executor implements ExecutionHost {
  #missVaLo = 0;
  #missAt = -1;
  /** The last miss was a stage 2 fault, which the MMU still describes. */
  #faulted = false;

  readonly #crossing: CrossingAccess;

  constructor(readonly core: CpuCore, readonly machine: Machine) {
    const { cacheArena, interpreter } = machine;
    this.#crossing = new CrossingAccess(cacheArena, core.cpu, core.platform.mmu, interpreter);
  }

  get stopped(): boolean {
    const { cpu } = this.core;
    return cpu.halt !== HALT.RUNNING || (cpu.el === 2 && this.machine.el2 !== undefined);
  }

  fetch(): number {
    const { cpu, platform } = this.core;
    untagPc(this.core);
    const lo = pcLo(cpu);
    if (cpu.debugArmed !== 0 && isBreakpointPage(cpu.memory, cpu, lo, pcHi(cpu))) return -1;
    if (lo & 3 || !platform.mmu.translateCode(cpu, lo, pcHi(cpu))) return -1;
    const { pa } = platform.mmu;
    return ramOffset(platform.ram, pa, 4) < 0 ? -1 : pa;
  }

  dataMiss(): boolean {
    const { cpu, platform } = this.core;
    const at = cpu.base + CpuLayout.offset.faultVa;
    const lo = cpu.memory.ld32(at);
    // What misses again right after it was filled is misaligned.
    if (lo === this.#missVaLo && this.#missAt === cpu.budget) return this.#missAgain();
    const size = cpu.faultSize;
    if ((lo & 0xfff) + size > 0x1000) return this.#crossing.make();
    this.#missVaLo = lo;
    this.#missAt = cpu.budget;
    const access = (cpu.faultAccess & ACCESS.WRITE) as Access;
    const unprivileged = (cpu.faultAccess & UNPRIVILEGED_ACCESS) !== 0;
    const hi = cpu.memory.ld32(at + 4);
    const fill = platform.mmu.fillData(cpu, lo, hi, access, size, unprivileged);
    this.#faulted = fill === FILL.FAULT && platform.mmu.fault.stage2;
    return fill === FILL.RAM;
  }

  #missAgain(): boolean {
    this.#missAt = -1;
    return false;
  }

  executeSlow(): void {
    this.#missAt = -1;
    const faulted = this.#faulted;
    this.#faulted = false;
    // Most often what the guest is to find there is a device, and the walk is not to be made twice.
    if (!faulted || !this.core.takeStage2Fault()) this.core.executeSlow();
    // ERET, MSR and the like may have opened the way for what was pending.
    if (this.core.cpu.checkIrq !== 0) pollInterrupts(this.core);
  }

  checkInterrupts(): void {
    refreshSingle(this.core);
    pollInterrupts(this.core);
  }
}

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
    const { pcpus, ramSize, lrs = 4, cpu = "max", deviceBytes = 0, team } = options;
    assert(pcpus >= 1 && pcpus <= 16, `${pcpus} physical CPUs: 1 to 16 are possible`);
    this.#quantum = options.quantum;
    this.quantum = this.#quantum ?? QUANTUM;
    const workers = team?.workers ?? 1;
    const codePages = teamCodePages(options.codePages ?? CODE_PAGES, workers);
    const cacheBytes = contextBytes(pcpus) + CROSSING_BYTES * pcpus +
      workers * codePages * RECORD_PAGE_SIZE + MIB;
    const ramAt = alignUp(4096 + ARCH_BYTES + cacheBytes + OBSERVE_BYTES, WASM_PAGE);
    this.memory = team?.memory ?? SharedMemory.create(ramAt + ramSize + deviceBytes);
    this.ram = { pa: BOARD.ram, size: ramSize, at: ramAt };
    this.deviceArea = { at: ramAt + ramSize, size: deviceBytes };
    // Address 0 stays unused: it is the null of lists and slabs.
    const observeAt = 4096 + ARCH_BYTES;
    this.arena = new Arena("arch", this.memory, 4096, observeAt);
    this.observeArena = new Arena("observe", this.memory, observeAt, observeAt + OBSERVE_BYTES);
    this.cacheArena = new Arena("cache", this.memory, observeAt + OBSERVE_BYTES, ramAt);
    this.state = new MachineState(this.memory, [this.arena], [this.ram, this.deviceArea]);
    this.#self = this.arena.make(MachineLayout);
    this.team = team && new Team(this.memory, this.observeArena, team);
    this.platform = this.#makePlatform(pcpus, lrs, coreModel(cpu));
    this.cores = this.platform.cpus.map((cpu) => new CpuCore(this.platform, cpu, firmware));
    this.platform.cores.push(...this.cores);
    this.ports = this.cores.map((core) => new El2Port(core, this.observeArena));
    this.ownCpus = this.platform.cpus.filter((cpu) => this.isOwn(cpu));
    this.interpreter = this.#makeInterpreter(codePages);
    if (this.team) joinTeam(this, this.team);
    this.#toOffset = (pa) => ramOffset(this.ram, pa, 4);
    for (const core of this.cores) {
      this.#executors.push(new Executor(core, this));
      resetCpu(core, { el: 2, pc: 0, x0: 0 });
      core.cpu.halt = HALT.OFF;
    }
  }

  /** Each worker has predecoded pages of its own. */
  #makeInterpreter(codePages: number): Interpreter {
    const { team, platform, cacheArena } = this;
    const pages = this.memory.size / WASM_PAGE;
    const code = interpreterCode(platform.model, pages, team !== undefined);
    const { worker = 0, workers = 1 } = team ?? {};
    cacheArena.reserve(worker * codePages * RECORD_PAGE_SIZE, 64);
    const made = new Interpreter(code, this.memory, cacheArena, codePages, this.options.regions);
    cacheArena.reserve((workers - 1 - worker) * codePages * RECORD_PAGE_SIZE, 64);
    made.onCheckAll = () => platform.mmu.dropCode(this.ownCpus);
    made.onDropAll = () => platform.mmu.reset(this.ownCpus);
    return made;
  }

  /** Whether this worker runs the CPU. */
  isOwn({ index }: Cpu): boolean {
    return this.team === undefined || this.team.workerOf(index) === this.team.worker;
  }

  #makePlatform(pcpus: number, lrs: number, model: CoreModel): Platform {
    const cpus = Array.from({ length: pcpus }, (_, index) => this.#makeCpu(index));
    const { team } = this.options;
    const clock = new Clock(this.arena, team && hostClock(team));
    const bus = new Bus();
    const gic = placeGic(bus, this.options.gic ?? 3, this.memory, this.arena, {
      cpus,
      lrs,
      endSlice: (cpu) => this.onEndSlice(cpus[cpu] as Cpu),
    });
    const timer = new GenericTimer(
      this.arena,
      cpus,
      clock,
      (cpu, intid, level) => gic.setPpi(cpu, intid, level),
    );
    gic.linesChanged = (cpu) => {
      const core = this.cores?.[cpu];
      if (!core) return;
      refreshInterrupts(core);
      if (!this.isOwn(core.cpu)) return this.#ringFor(core.cpu);
      // What runs alone has a long slice: not while another CPU has something to do.
      if (this.#alone >= 0 && this.#alone !== cpu && core.cpu.irqLines !== 0) {
        this.onEndSlice(core.cpu);
      }
    };
    const mmu = new Mmu(this.memory, this.ram, this.cacheArena, pcpus, {
      xnx: model.features.has("FEAT_XNX"),
    });
    return {
      memory: this.memory,
      ram: this.ram,
      mmu,
      gic,
      clock,
      timer,
      bus,
      hooks: this,
      model,
      cores: [],
      cpus,
      hostAtEl2: false,
    };
  }

  #makeCpu(index: number): Cpu {
    const cpu = this.arena.make(CpuLayout);
    cpu.index = index;
    // 16 CPUs share Aff1; bit 31 is RES1.
    cpu.mpidr = 0x8000_0000 + (Math.floor(index / 16) << 8) + (index % 16);
    return cpu;
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

  onInstructionCacheInvalidate(pa: number | "all"): void {
    if (pa === "all") this.interpreter.invalidateAll();
    else this.interpreter.invalidateLine(pa);
    if (this.team === undefined) return;
    const at = pa === "all" ? -1 : ramOffset(this.ram, pa, 1);
    this.team.sendCode(Math.max(at, 0), at < 0 ? 0 : 1);
  }
  onEndSlice(cpu: Cpu): void {
    if (this.isOwn(cpu)) this.rearm();
    else this.#ringFor(cpu);
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
    this.#self.insns += insns;
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
    this.#self.turns++;
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

  /** A hash of all `arch` state. */
  stateHash(): string {
    return this.state.hash();
  }
  /**
   * A copy of all `arch` state. The software TLBs are emptied: what hardware writes into translation
   * tables depends on what is cached, and the run that goes on is to be the same as a restored one.
   */
  snapshot(): Snapshot {
    this.platform.mmu.reset(this.platform.cpus);
    return this.state.snapshot();
  }
  restore(snapshot: Snapshot): void {
    this.state.restore(snapshot);
    this.interpreter.dropAll();
    for (const core of this.cores) {
      contextSwitched(core);
      refreshArmed(core);
      refreshPmu(core);
    }
  }
}
