/**
 * The host kernel: what runs at EL2 with VHE on every physical CPU when no guest does. The run loop of
 * the machine gives it a CPU by {@link Host.step} and tells it of exceptions to EL2 by
 * {@link Host.onEl2Exception}.
 *
 * Interrupts: a CPU executing host code takes them where a phase begins with PSTATE.I clear, and where
 * code asks for it ({@link Host.takeInterrupts}); a phase is short, so that these are the places where
 * a kernel that opens interrupts would take them.
 */
import type { Arena } from "../base/arena.ts";
import { assert, InternalError } from "../base/errors.ts";
import type { Locks } from "../base/lock.ts";
import type { TraceRing } from "../trace/tracepoints.ts";
import { MDSCR } from "../arm/arch/debug_registers.ts";
import { HCR, HCR_HI } from "../arm/arch/fields.ts";
import { R } from "../arm/arch/sysregs.ts";
import type { El2Port } from "../arm/el2_port.ts";
import { DOORBELL_INTID, type HostHardware } from "./hardware.ts";
import { Hrtimers } from "./hrtimer.ts";
import { IPI, Irqs, PPI } from "./irq.ts";
import { type PageRange, Pages } from "./pages.ts";
import { Scheduler } from "./scheduler.ts";
import { type HostThread, SUSPEND, suspend, THREAD_STATE, Threads } from "./threads.ts";

/** What a CPU does after a step: execute its guest, wait for an interrupt, or be stepped again. */
export type StepResult = "guest" | "idle" | "again";

/** HCR_EL2 while the host runs (HCR_HOST_VHE_FLAGS). */
export const HCR_HOST_VHE = { lo: (HCR.RW | HCR.TGE) >>> 0, hi: HCR_HI.E2H } as const;

/** CPTR_EL2 while the host runs, with E2H: FP and SVE not trapped (CPACR_EL1_DEFAULT). */
export const CPACR_EL1_DEFAULT = (3 << 20) | (1 << 16);

/** VBAR_EL2 while the host runs. Nothing is ever fetched there: the machine hands exceptions to the host. */
export const HOST_VECTORS = 0x1000_0000;

/** Threads' priorities: those that serve outside work, and all others. */
export const PRIORITY = { SERVICE: 0, NORMAL: 1 } as const;

/** The host's time of day at virtual time 0: 2024-01-01T00:00:00Z, in ns since 1970; the board's clock has the same. */
export const BOOT_REAL_NS = 1_704_067_200_000_000_000n;

export interface HostOptions {
  readonly hardware: HostHardware;
  readonly locks: Locks;
  readonly trace: TraceRing;
  /** Kernel structures, within the machine's RAM. */
  readonly arena: Arena;
  /** The rest of the RAM, by pages. */
  readonly pages: PageRange;
  readonly maxThreads?: number;
  readonly maxTimers?: number;
}

/** The host kernel. */
export class Host {
  readonly hardware: HostHardware;
  readonly locks: Locks;
  readonly trace: TraceRing;
  readonly arena: Arena;
  readonly pages: Pages;
  readonly threads: Threads;
  readonly hrtimers: Hrtimers;
  readonly irqs: Irqs;
  readonly scheduler: Scheduler;
  readonly #work: (() => void)[] = [];
  readonly #workThread: HostThread;
  #pcpu = 0;
  #executing = false;
  #booted = false;

  constructor(options: HostOptions) {
    const { hardware, locks, trace, arena } = options;
    this.hardware = hardware;
    this.locks = locks;
    this.trace = trace;
    this.arena = arena;
    this.pages = new Pages(arena, hardware.ram, options.pages);
    const currentCpu = () => this.#pcpu;
    this.threads = new Threads(hardware.memory, arena, options.maxThreads ?? 160);
    this.hrtimers = new Hrtimers(hardware, locks, arena, options.maxTimers ?? 640, currentCpu);
    this.irqs = new Irqs(hardware);
    this.scheduler = new Scheduler({
      hardware,
      locks,
      threads: this.threads,
      hrtimers: this.hrtimers,
      currentCpu,
      sendReschedule: (pcpu) => this.irqs.sendIpi(this.#pcpu, pcpu, IPI.RESCHEDULE),
    }, arena);
    locks.irqsOff = () => this.port().irqsDisabled();
    trace.timeNs = () => hardware.nowNs();
    this.#workThread = this.#makeWorkThread();
    this.#requestIrqs();
  }

  #makeWorkThread(): HostThread {
    const kind = this.threads.register({
      name: "user-space work",
      phases: [() => this.#runWork()],
    });
    return this.threads.create(kind, 0, PRIORITY.SERVICE);
  }

  #requestIrqs(): void {
    this.irqs.request(IPI.RESCHEDULE, (_, pcpu) => this.scheduler.rescheduleInterrupt(pcpu));
    // Being interrupted is the whole effect: it is out of the guest.
    this.irqs.request(IPI.CALL_FUNC, () => {});
    this.irqs.request(PPI.HYP_TIMER, () => this.hrtimers.interrupt());
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
    return this.hardware.port(this.#pcpu);
  }

  /** Brings every physical CPU up: EL2 set up for a VHE host, interrupt controller, interrupts open. Once. */
  boot(): void {
    assert(!this.#booted, "the host is booted already");
    this.#booted = true;
    for (let pcpu = 0; pcpu < this.hardware.pcpus; pcpu++) {
      this.#enter(pcpu);
      this.#initEl2(this.port());
      if (pcpu === 0) this.irqs.initDistributor();
      this.irqs.initCpu(pcpu, [
        ...Array.from({ length: 16 }, (_, sgi) => sgi),
        PPI.MAINTENANCE,
        PPI.HYP_TIMER,
        PPI.VTIMER,
        PPI.PTIMER,
      ]);
      this.port().irqEnable();
    }
    this.#enter(0);
    this.irqs.enableSpi(0, DOORBELL_INTID, 0);
  }

  /** What arch/arm64/kernel/head.S and el2_setup.h leave behind on a VHE host. */
  #initEl2(port: El2Port): void {
    port.irqDisable();
    port.write(R.HCR_EL2, HCR_HOST_VHE.lo, HCR_HOST_VHE.hi);
    port.isb();
    port.write(R.CPTR_EL2, CPACR_EL1_DEFAULT, 0);
    port.write(R.MDCR_EL2, 0, 0);
    port.write(R.HSTR_EL2, 0, 0);
    port.write(R.CNTVOFF_EL2, 0, 0);
    port.write(R.VTTBR_EL2, 0, 0);
    port.write(R.VPIDR_EL2, port.readLo(R.MIDR_EL1), port.readHi(R.MIDR_EL1));
    port.write(R.VMPIDR_EL2, port.readLo(R.MPIDR_EL1), port.readHi(R.MPIDR_EL1));
    port.writeNum(R.VBAR_EL2, HOST_VECTORS);
    port.write(R.CNTHP_CTL_EL2, 0, 0);
    // __cpu_setup and debug_monitors_init: no DCC for EL0, and the OS lock that reset leaves held goes.
    port.write(R.MDSCR_EL1, MDSCR.TDCC, 0);
    port.write(R.OSDLR_EL1, 0, 0);
    port.write(R.OSLAR_EL1, 0, 0);
    port.isb();
  }

  #enter(pcpu: number): void {
    this.#pcpu = pcpu;
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
    if (!this.hardware.irqPending(this.#pcpu)) return;
    const port = this.port();
    if (port.irqsDisabled()) return;
    const flags = port.irqSave();
    this.irqs.dispatch(this.#pcpu);
    port.irqRestore(flags);
  }

  /**
   * Gives CPU `pcpu`, which is at EL2, to the host: at most one phase of one thread. "guest": the CPU
   * has done ERET; "idle": it waits for an interrupt (WFI); "again": there is more to do.
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
    this.takeInterrupts();
    const thread = this.#pick(pcpu);
    if (thread === undefined) return this.hardware.irqPending(pcpu) ? "again" : "idle";
    if (thread.inGuest) return "guest";
    const how = this.threads.runPhase(thread);
    assert(this.locks.heldCount === 0, "a spinlock is held across a suspension");
    return this.#suspend(pcpu, thread, how);
  }

  #pick(pcpu: number): HostThread | undefined {
    const current = this.scheduler.current(pcpu);
    if (current === undefined) return this.scheduler.schedule(pcpu);
    const preempt = this.scheduler.queue(pcpu).needResched && !current.inGuest &&
      !this.port().irqsDisabled();
    return preempt ? this.scheduler.schedule(pcpu) : current;
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
    const thread = this.scheduler.current(pcpu);
    if (thread === undefined || !thread.inGuest) {
      throw new InternalError(
        `exception to EL2 of the host itself: CPU ${pcpu}, vector 0x${vectorOffset.toString(16)}`,
      );
    }
    thread.inGuest = false;
    thread.vector = vectorOffset;
    thread.leftNs = this.hardware.nowNs();
  }

  /** need_resched of the current CPU. */
  get needResched(): boolean {
    return this.scheduler.queue(this.#pcpu).needResched;
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
