/**
 * The host kernel: what runs on every physical CPU when no guest does, at EL2 with VHE, or at EL1 with
 * the hypervisor's own code at EL2. The run loop of the machine gives it a CPU by {@link Host.step} and
 * tells it of exceptions to EL2 by {@link Host.onEl2Exception}.
 *
 * Interrupts: a CPU executing host code takes them where a phase begins with PSTATE.I clear, and where
 * code asks for it ({@link Host.takeInterrupts}); a phase is short, so that these are the places where
 * a kernel that opens interrupts would take them.
 */
import type { Arena } from "../base/arena.ts";
import { assert, InternalError } from "../base/errors.ts";
import type { Locks } from "../base/lock.ts";
import type { TraceRing } from "../trace/tracepoints.ts";
import { R } from "../arm/arch/sysregs.ts";
import type { El2Port } from "../arm/el2_port.ts";
import { El2Code } from "./el2_code.ts";
import * as el2Setup from "./el2_setup.ts";
import * as hardwareModule from "./hardware.ts";
import type { HostHardware } from "./hardware.ts";
import { HostCpu } from "./host_cpu.ts";
import { Hrtimers } from "./hrtimer.ts";
import * as hypStub from "./hyp_stub.ts";
import * as irq from "./irq.ts";
import { Irqs, PPI } from "./irq.ts";
import { type PageRange, Pages } from "./pages.ts";
import { PerfEvents } from "./perf_event.ts";
import { type CpuQueue, Scheduler } from "./scheduler.ts";
import * as hostThreads from "./threads.ts";
import { type HostThread, Threads } from "./threads.ts";

// Of the module itself: what is imported V8 looks up and checks at each use.
const { dropToEl1, initEl2, KERNEL } = el2Setup;
const { DOORBELL_INTID } = hardwareModule;
const { hypStubVectors } = hypStub;
const { IPI } = irq;
const { SUSPEND, suspend, THREAD_STATE } = hostThreads;

/** Bytes, and alignment, of a vector table. */
const VECTOR_TABLE_BYTES = 0x800;
const MAX_THREADS = 160;
const MAX_TIMERS = 640;
const MAX_PERF_EVENTS = 512;

/** What a CPU does after a step: execute its guest, wait for an interrupt, or be stepped again. */
export type StepResult = "guest" | "idle" | "again";

/** Vector of an interrupt within a level, from its own stack. */
const VECTOR_CURRENT_IRQ = 0x280;

/** Threads' priorities: those that serve outside work, and all others. */
export const PRIORITY = { SERVICE: 0, NORMAL: 1 } as const;

/** The host's time of day at virtual time 0: 2024-01-01T00:00:00Z, in ns since 1970; the board's clock has the same. */
export const BOOT_REAL_NS = 1_704_067_200_000_000_000n;

/** Whether the kernel is at EL2 with VHE, or at EL1. */
export type HostMode = "vhe" | "nvhe";

export interface HostOptions {
  readonly hardware: HostHardware;
  /** The kernel's level: EL2 (the default) or EL1. */
  readonly mode?: HostMode;
  readonly locks: Locks;
  readonly trace: TraceRing;
  /** Kernel structures, within the machine's RAM. */
  readonly arena: Arena;
  /** The rest of the RAM, by pages. */
  readonly pages: PageRange;
  /** Physical CPUs on which work from outside may be done, one bit each; all if left out. */
  readonly workCpus?: number;
}

/** A physical CPU with its run queue. */
class Seat extends HostCpu {
  constructor(hardware: HostHardware, index: number, readonly run: CpuQueue) {
    super(hardware, index);
  }
}

function spinlockHeld(): never {
  throw new InternalError("a spinlock is held across a suspension");
}

/** The host kernel. */
export class Host {
  readonly hardware: HostHardware;
  readonly mode: HostMode;
  /** The kernel's exception level. */
  readonly hostEl: 1 | 2;
  /** What is at EL2 below a kernel at EL1. */
  readonly el2Code = new El2Code();
  readonly #stubPa: number;
  readonly locks: Locks;
  readonly trace: TraceRing;
  readonly arena: Arena;
  readonly pages: Pages;
  readonly threads: Threads;
  readonly hrtimers: Hrtimers;
  readonly irqs: Irqs;
  readonly scheduler: Scheduler;
  readonly perf: PerfEvents;
  readonly #work: (() => void)[] = [];
  readonly #workThread: HostThread;
  readonly #seats: readonly Seat[];
  /** The CPU that is executing host code, and its {@link Seat}. */
  #pcpu = 0;
  #seat: Seat;
  #executing = false;
  #booted = false;

  constructor(options: HostOptions) {
    const { hardware, locks, trace, arena } = options;
    this.hardware = hardware;
    this.mode = options.mode ?? "vhe";
    this.hostEl = this.mode === "vhe" ? 2 : 1;
    this.locks = locks;
    this.trace = trace;
    this.arena = arena;
    this.pages = new Pages(arena, hardware.ram, options.pages);
    const currentCpu = () => this.#pcpu;
    this.threads = new Threads(hardware.memory, arena, MAX_THREADS);
    this.hrtimers = new Hrtimers(
      hardware,
      locks,
      arena,
      MAX_TIMERS,
      currentCpu,
      this.mode === "vhe"
        ? { ctl: R.CNTHP_CTL_EL2, cval: R.CNTHP_CVAL_EL2 }
        : { ctl: R.CNTP_CTL_EL0, cval: R.CNTP_CVAL_EL0 },
    );
    this.irqs = new Irqs(hardware);
    this.scheduler = new Scheduler({
      hardware,
      locks,
      threads: this.threads,
      hrtimers: this.hrtimers,
      currentCpu,
      perfSchedIn: (thread) => this.perf.schedIn(thread),
      perfSchedOut: (thread) => this.perf.schedOut(thread),
      sendReschedule: (pcpu) => this.irqs.sendIpi(this.#pcpu, pcpu, IPI.RESCHEDULE),
    }, arena);
    this.#seats = Array.from(
      { length: hardware.pcpus },
      (_, pcpu) => new Seat(hardware, pcpu, this.scheduler.cpu(pcpu)),
    );
    this.#seat = this.#seats[0] as Seat;
    this.perf = new PerfEvents(
      {
        hardware,
        threads: this.threads,
        vhe: this.mode === "vhe",
        currentCpu,
        current: (pcpu) => this.scheduler.current(pcpu),
      },
      arena,
      MAX_PERF_EVENTS,
    );
    locks.irqsOff = () => this.#seat.irqsOff;
    trace.timeNs = () => hardware.nowNs();
    trace.stamp = hardware.stampNow;
    trace.timeAt = hardware.timeAt;
    this.#workThread = this.#makeWorkThread();
    this.#workThread.affinity = options.workCpus ?? 0;
    this.#stubPa = this.mode === "vhe" ? 0 : this.#installStub();
    this.#requestIrqs();
  }

  #installStub(): number {
    const at = this.arena.reserve(VECTOR_TABLE_BYTES, VECTOR_TABLE_BYTES);
    const { ram } = this.hardware;
    this.el2Code.install(at - ram.at + ram.pa, hypStubVectors);
    return at - ram.at + ram.pa;
  }

  /** __hyp_stub_vectors, a physical address: VBAR_EL2 of a kernel at EL1 without a hypervisor. */
  get hypStubPa(): number {
    return this.#stubPa;
  }

  /** The private interrupt of the timer that the kernel programs. */
  get #clockEventPpi(): number {
    return this.mode === "vhe" ? PPI.HYP_TIMER : PPI.PTIMER;
  }

  #makeWorkThread(): HostThread {
    const kind = this.threads.register({
      name: "user-space work",
      run: () => this.#runWork(),
    });
    return this.threads.create(kind, 0, PRIORITY.SERVICE);
  }

  #requestIrqs(): void {
    this.irqs.request(IPI.RESCHEDULE, (_, pcpu) => this.scheduler.rescheduleInterrupt(pcpu));
    this.irqs.request(PPI.PMU, () => this.perf.interrupt());
    // Being interrupted is the whole effect: it is out of the guest.
    this.irqs.request(IPI.CALL_FUNC, () => {});
    this.irqs.request(this.#clockEventPpi, () => this.hrtimers.interrupt());
    this.irqs.request(DOORBELL_INTID, () => {
      this.hardware.doorbell(false);
      this.scheduler.wake(this.#workThread);
    });
  }

  /** The physical CPU that is executing host code. */
  get currentCpu(): number {
    return this.#pcpu;
  }

  /** The port of the physical CPU that is executing host code. */
  port(): El2Port {
    return this.#seat.port;
  }

  /** Brings every physical CPU up, from EL2 where it starts: EL2 set up, interrupt controller, interrupts open. Once. */
  boot(): void {
    assert(!this.#booted, "the host is booted already");
    this.#booted = true;
    for (let pcpu = 0; pcpu < this.hardware.pcpus; pcpu++) {
      this.#enter(pcpu);
      if (this.mode === "vhe") initEl2(this.port());
      else dropToEl1(this.port(), this.#stubPa, this.hardware.gic.type);
      if (pcpu === 0) this.irqs.initDistributor();
      this.irqs.initCpu(pcpu, [
        ...Array.from({ length: 16 }, (_, sgi) => sgi),
        PPI.PMU,
        PPI.MAINTENANCE,
        PPI.HYP_TIMER,
        PPI.VTIMER,
        PPI.PTIMER,
      ], this.mode === "vhe");
      this.perf.initCpu(this.port());
      this.port().irqEnable();
    }
    this.#enter(0);
    this.irqs.enableSpi(0, DOORBELL_INTID, 0);
  }

  /**
   * HVC of the kernel at EL1 with X0, X1 and so on as they are set: EL2's code has run when it
   * returns, and the CPU is at EL1 again or in a guest.
   */
  hvc(port: El2Port): void {
    port.branch(KERNEL.hvcLo, KERNEL.hi);
    port.hvc();
    this.el2Code.run(port);
  }

  #enter(pcpu: number): void {
    this.#pcpu = pcpu;
    this.#seat = this.#seats[pcpu] as Seat;
    this.trace.pcpu = pcpu;
  }

  /**
   * Runs `body` with CPU `pcpu` as the current one, for setting things up. The CPU must be at EL2; it may be
   * idle, so that what is to wake it goes by {@link asHost}.
   */
  runAs<T>(pcpu: number, body: () => T): T {
    const was = this.#pcpu;
    this.#enter(pcpu);
    try {
      return body();
    } finally {
      this.#enter(was);
    }
  }

  /** Takes what interrupts are pending on the current CPU, if they are open. */
  takeInterrupts(): void {
    const seat = this.#seat;
    if (seat.irqPending && !seat.irqsOff) this.#takeInterrupts();
  }

  #takeInterrupts(): void {
    const port = this.port();
    if (!port.takeInterrupt()) return;
    const offset = port.pcLo() & (VECTOR_TABLE_BYTES - 1);
    if (port.el !== this.hostEl || offset !== VECTOR_CURRENT_IRQ) {
      throw new InternalError(`the host's interrupt arrives at EL${port.el}, vector ${offset}`);
    }
    this.irqs.dispatch(this.#pcpu);
    port.eret();
  }

  /**
   * Gives CPU `pcpu`, which is in the host, to it: one phase of one thread at most, or two where nothing comes
   * between them ({@link goesOn}). "guest": the CPU has done ERET; "idle": it waits for an interrupt (WFI); "again":
   * there is more to do.
   */
  step(pcpu: number): StepResult {
    this.#enter(pcpu);
    this.#executing = true;
    try {
      return this.#step(pcpu);
    } finally {
      this.#executing = false;
    }
  }

  #step(pcpu: number): StepResult {
    const seat = this.#seat;
    if (seat.irqPending && !seat.irqsOff) this.#takeInterrupts();
    const thread = this.#pick(pcpu, seat);
    if (thread === undefined) return seat.irqPending ? "again" : "idle";
    if (thread.inGuest) return "guest";
    const how = this.threads.runPhase(thread);
    if (this.locks.heldCount !== 0) spinlockHeld();
    return this.#suspend(pcpu, thread, how);
  }

  #pick(pcpu: number, seat: Seat): HostThread | undefined {
    const { run } = seat, { current } = run;
    if (current === undefined) return this.scheduler.schedule(pcpu);
    if (!run.queue.needResched || current.inGuest) return current;
    return seat.irqsOff ? current : this.scheduler.schedule(pcpu);
  }

  /**
   * Whether nothing would come before the next phase of the current thread if it were left to {@link step}: no
   * interrupt, no other thread, no timer. A phase may then go on with it itself.
   */
  get goesOn(): boolean {
    const { hardware } = this, seat = this.#seat;
    return !seat.irqPending && !seat.run.queue.needResched &&
      hardware.timersDue !== undefined && !hardware.timersDue();
  }

  #suspend(pcpu: number, thread: HostThread, how: number): StepResult {
    if (how === SUSPEND.NONE) return "again";
    if (how === SUSPEND.GUEST) {
      thread.inGuest = true;
      return "guest";
    }
    if (how === SUSPEND.BLOCK) thread.state = THREAD_STATE.BLOCKED;
    if (how === SUSPEND.EXIT) thread.state = THREAD_STATE.DEAD;
    this.scheduler.schedule(pcpu);
    return "again";
  }

  /** CPU `pcpu` has taken an exception to EL2 through the vector at `vectorOffset` (0 to 0x780). */
  onEl2Exception(pcpu: number, vectorOffset: number): void {
    const { port, run } = this.#seats[pcpu] as Seat, thread = run.current;
    if (thread === undefined || !thread.inGuest) {
      throw new InternalError(
        `exception to EL2 of the host itself: CPU ${pcpu}, vector 0x${vectorOffset.toString(16)}`,
      );
    }
    const kind = this.threads.kindOf(thread);
    kind.guestLeft?.(thread, port);
    // A kernel at EL1 has the CPU again once EL2's code gives it back.
    if (this.hostEl === 1 && !this.#runEl2(pcpu)) return kind.guestReentered?.(thread);
    thread.inGuest = false;
    thread.vector = vectorOffset;
  }

  /** Runs EL2's code on a CPU that has arrived there: whether it has gone back to the host. */
  #runEl2(pcpu: number): boolean {
    const port = this.hardware.port(pcpu);
    this.el2Code.run(port);
    return port.inHost;
  }

  /** need_resched of the current CPU. */
  get needResched(): boolean {
    return this.#seat.run.queue.needResched;
  }

  /**
   * Runs `work` soon, in a host thread of its own on some CPU: the way of everything that comes from
   * outside while guests run (a line raised, a vCPU moved). The doorbell interrupt gets the host out
   * of whatever guest is running.
   */
  queueWork(work: () => void): void {
    this.#work.push(work);
    this.hardware.doorbell(true);
  }

  /** Runs `body` at once when host code is executing on a CPU, else as {@link queueWork}. */
  asHost(body: () => void): void {
    if (this.#executing) body();
    else this.queueWork(body);
  }

  /** Whether outside work has still to be done: not a moment for a snapshot. */
  get hasWork(): boolean {
    return this.#work.length > 0;
  }

  #runWork(): number {
    for (let work = this.#work.shift(); work !== undefined; work = this.#work.shift()) work();
    return suspend(SUSPEND.BLOCK, 0);
  }
}
