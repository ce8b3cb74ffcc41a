/**
 * The scheduler: a run queue per physical CPU, served round robin within two priorities, with a time
 * slice only while more than one thread is runnable there. After kernel/sched/core.c in what KVM sees
 * of it: preempt notifiers around every change of thread, wake-ups, reschedule interrupts, affinity.
 */
import type { Arena } from "../base/arena.ts";
import { assert, InternalError } from "../base/errors.ts";
import * as list from "../base/list.ts";
import { listNode } from "../base/list.ts";
import type { LockClass, Locks } from "../base/lock.ts";
import * as struct from "../base/struct.ts";
import { bool, u32, u53, type ViewOf } from "../base/struct.ts";
import type { HostHardware } from "./hardware.ts";
import type { Hrtimers } from "./hrtimer.ts";
import * as hostThreads from "./threads.ts";
import type { HostThread, Threads } from "./threads.ts";

// Of the module itself: what is imported V8 looks up and checks at each use.
const { listAdd, listAddTail, listDel, listEmpty, listInit, listNext } = list;
const { layout } = struct;
const { THREAD_STATE } = hostThreads;

/** How long a thread runs while others wait, in virtual nanoseconds. */
export const SLICE_NS = 2_000_000;

/** Wake-ups come from anywhere, under any lock: the run queue's is as deep as a timer queue's. */
const LOCK: LockClass = "runQueue";

/** One physical CPU as the scheduler sees it. */
const RunQueueLayout = layout("run_queue", {
  lock: u32(),
  head: listNode(),
  /** Runnable threads here, the current one included (nr_running). */
  running: u32(),
  /** Address of the current thread; 0: idle. */
  current: u32(),
  needResched: bool(),
  /** Handle of the slice timer. */
  sliceTimer: u32(),
  switches: u53("observe"),
  idles: u53("observe"),
});
export type RunQueue = ViewOf<typeof RunQueueLayout>;

/** What the scheduler needs of the rest of the host. */
export interface SchedulerServices {
  readonly hardware: HostHardware;
  readonly locks: Locks;
  readonly threads: Threads;
  readonly hrtimers: Hrtimers;
  currentCpu(): number;
  /** perf_event_task_sched_in and _out, of a thread that has events. */
  perfSchedIn?(thread: HostThread): void;
  perfSchedOut?(thread: HostThread): void;
  /** Interrupts another CPU so that it looks at its run queue. */
  sendReschedule(pcpu: number): void;
}

/** A physical CPU's run queue, as whoever looks at it often has it. */
export class CpuQueue {
  /** The view that {@link current} has given last. */
  #last: HostThread | undefined;

  constructor(readonly queue: RunQueue, readonly threads: Threads) {}

  /** The thread that the CPU runs, if it is not idle. */
  get current(): HostThread | undefined {
    const at = this.queue.current, last = this.#last;
    return last !== undefined && last.base === at ? last : this.#find(at);
  }

  #find(at: number): HostThread | undefined {
    return at === 0 ? undefined : this.#last = this.threads.at(at);
  }
}

/** The run queues of all physical CPUs. */
export class Scheduler {
  readonly #queues: RunQueue[];
  readonly #cpus: CpuQueue[];

  constructor(readonly services: SchedulerServices, arena: Arena) {
    const { hardware, hrtimers } = services;
    const kind = hrtimers.register((arg) => this.#sliceEnd(arg));
    this.#queues = Array.from({ length: hardware.pcpus }, (_, pcpu) => {
      const queue = arena.make(RunQueueLayout);
      listInit(hardware.memory, queue.head);
      queue.sliceTimer = hrtimers.create(kind, pcpu);
      return queue;
    });
    this.#cpus = this.#queues.map((queue) => new CpuQueue(queue, services.threads));
  }

  /** The run queue of a physical CPU. */
  queue(pcpu: number): RunQueue {
    const queue = this.#queues[pcpu];
    if (queue === undefined) throw new InternalError(`no physical CPU ${pcpu}`);
    return queue;
  }

  /** The same with its current thread. */
  cpu(pcpu: number): CpuQueue {
    const cpu = this.#cpus[pcpu];
    if (cpu === undefined) throw new InternalError(`no physical CPU ${pcpu}`);
    return cpu;
  }

  /** The thread that the CPU runs, if it is not idle. */
  current(pcpu: number): HostThread | undefined {
    return this.cpu(pcpu).current;
  }

  /** single_task_running: nobody else wants this CPU. */
  singleTaskRunning(pcpu: number): boolean {
    return this.queue(pcpu).running <= 1;
  }

  #locked<T>(queue: RunQueue, body: () => T): T {
    const port = this.services.hardware.port(this.services.currentCpu());
    const flags = port.irqSave();
    const result = this.services.locks.with(LOCK, queue.base, body);
    port.irqRestore(flags);
    return result;
  }

  #allowed(thread: HostThread, pcpu: number): boolean {
    return thread.affinity === 0 || ((thread.affinity >>> pcpu) & 1) === 1;
  }

  /** Where a thread that becomes runnable goes: where it was, unless another CPU it may use is emptier. */
  #choose(thread: HostThread): number {
    let best = -1;
    const last = thread.pcpu;
    if (this.#allowed(thread, last) && this.queue(last).running === 0) return last;
    for (let pcpu = 0; pcpu < this.#queues.length; pcpu++) {
      if (!this.#allowed(thread, pcpu)) continue;
      if (best < 0 || this.queue(pcpu).running < this.queue(best).running) best = pcpu;
    }
    assert(best >= 0, `thread ${thread.id} may run nowhere`);
    const stay = this.#allowed(thread, last) &&
      this.queue(last).running <= this.queue(best).running;
    return stay ? last : best;
  }

  /**
   * Makes a blocked thread runnable; false when it was not blocked (a later block returns at once, as a
   * wake-up between check and sleep must not be lost).
   */
  wake(thread: HostThread): boolean {
    if (thread.state !== THREAD_STATE.BLOCKED) {
      if (thread.state === THREAD_STATE.RUNNABLE && thread.current) thread.wakePending = true;
      return false;
    }
    thread.state = THREAD_STATE.RUNNABLE;
    this.#enqueue(thread, this.#choose(thread), false);
    return true;
  }

  #enqueue(thread: HostThread, pcpu: number, front: boolean): void {
    const queue = this.queue(pcpu);
    thread.pcpu = pcpu;
    this.#schedInfoQueued(thread);
    const preempts = this.#locked(queue, () => {
      this.#insert(queue, thread, front);
      queue.running++;
      return this.#preempts(queue, thread);
    });
    if (preempts) this.resched(pcpu);
    else if (pcpu === this.services.currentCpu()) this.#armSlice(pcpu);
    else this.#poke(pcpu);
  }

  /** More urgent threads first, in order of arrival. */
  #insert(queue: RunQueue, thread: HostThread, front: boolean): void {
    const m = this.services.hardware.memory;
    let at = listNext(m, queue.head);
    while (at !== queue.head) {
      const other = this.services.threads.at(at).priority;
      if (other > thread.priority || (front && other === thread.priority)) break;
      at = listNext(m, at);
    }
    if (at === queue.head) listAddTail(m, thread.runNode, queue.head);
    else listAdd(m, thread.runNode, m.ld32(at + 4));
  }

  #preempts(queue: RunQueue, thread: HostThread): boolean {
    if (queue.current === 0) return true;
    return this.services.threads.at(queue.current).priority > thread.priority;
  }

  /** The other CPU runs a thread alone and has no slice timer: it must arm one. */
  #poke(pcpu: number): void {
    if (this.queue(pcpu).running === 2) this.services.sendReschedule(pcpu);
  }

  /** Asks a CPU to look at its run queue (resched_curr). */
  resched(pcpu: number): void {
    this.queue(pcpu).needResched = true;
    if (pcpu !== this.services.currentCpu()) this.services.sendReschedule(pcpu);
  }

  /** The reschedule interrupt: there may be somebody to share the CPU with. */
  rescheduleInterrupt(pcpu: number): void {
    this.#armSlice(pcpu);
  }

  #armSlice(pcpu: number): void {
    const queue = this.queue(pcpu);
    const { hrtimers, hardware } = this.services;
    if (queue.running < 2 || queue.current === 0) return hrtimers.cancel(queue.sliceTimer);
    if (!hrtimers.isArmed(queue.sliceTimer)) {
      hrtimers.start(queue.sliceTimer, hardware.nowNs() + SLICE_NS);
    }
  }

  #sliceEnd(pcpu: number): number {
    this.queue(pcpu).needResched = true;
    return 0;
  }

  /**
   * Picks the next thread of a CPU whose current one suspended (or of an idle one), tells the kinds
   * concerned, and returns it; undefined when there is none: the CPU is idle. The current thread comes
   * back by itself when nobody else waits.
   */
  schedule(pcpu: number): HostThread | undefined {
    const queue = this.queue(pcpu);
    assert(this.services.locks.heldCount === 0, "a spinlock is held across a suspension");
    queue.needResched = false;
    const previous = this.current(pcpu);
    if (previous !== undefined) this.#putBack(queue, previous);
    const next = this.#take(queue) ?? this.#pull(pcpu);
    if (next !== previous) {
      if (previous !== undefined) this.#switchOut(queue, previous);
      if (next !== undefined) this.#switchIn(queue, next, pcpu);
      else queue.idles++;
    }
    this.services.hrtimers.cancel(queue.sliceTimer);
    this.#armSlice(pcpu);
    return next;
  }

  /** A current thread that may go on queues up again; one that must leave for another CPU goes there after the switch. */
  #putBack(queue: RunQueue, thread: HostThread): void {
    this.#locked(queue, () => {
      if (thread.state === THREAD_STATE.BLOCKED && thread.wakePending) {
        thread.state = THREAD_STATE.RUNNABLE;
      }
      thread.wakePending = false;
      if (thread.state !== THREAD_STATE.RUNNABLE) queue.running--;
      else if (this.#allowed(thread, thread.pcpu)) this.#insert(queue, thread, false);
      else queue.running--;
    });
  }

  #take(queue: RunQueue): HostThread | undefined {
    const m = this.services.hardware.memory;
    return this.#locked(queue, () => {
      if (listEmpty(m, queue.head)) return undefined;
      const thread = this.services.threads.at(listNext(m, queue.head));
      listDel(m, thread.runNode);
      return thread;
    });
  }

  /** A CPU about to go idle takes over the first waiting thread it may run (newidle_balance). */
  #pull(pcpu: number): HostThread | undefined {
    for (const from of this.#queues) {
      if (from.running < 2) continue;
      const thread = this.#locked(from, () => this.#takeFor(from, pcpu));
      if (thread === undefined) continue;
      const queue = this.queue(pcpu);
      this.#locked(queue, () => queue.running++);
      thread.pcpu = pcpu;
      return thread;
    }
    return undefined;
  }

  #takeFor(from: RunQueue, pcpu: number): HostThread | undefined {
    const m = this.services.hardware.memory;
    for (let at = listNext(m, from.head); at !== from.head; at = listNext(m, at)) {
      const thread = this.services.threads.at(at);
      if (!this.#allowed(thread, pcpu)) continue;
      listDel(m, at);
      from.running--;
      return thread;
    }
    return undefined;
  }

  #switchOut(queue: RunQueue, thread: HostThread): void {
    if (thread.perfEvents !== 0) this.services.perfSchedOut?.(thread);
    if (thread.notify) this.services.threads.kindOf(thread).schedOut?.(thread);
    thread.current = false;
    queue.current = 0;
    // It goes on waiting in a queue, that it was put back into already.
    if (thread.state === THREAD_STATE.RUNNABLE) this.#schedInfoQueued(thread);
    const leaves = thread.state === THREAD_STATE.RUNNABLE && !this.#allowed(thread, thread.pcpu);
    if (leaves) this.#enqueue(thread, this.#choose(thread), false);
  }

  /** sched_info_enqueue: from now on the thread waits for a CPU. */
  #schedInfoQueued(thread: HostThread): void {
    if (thread.queuedNs === 0) thread.queuedNs = this.services.hardware.nowNs();
  }

  /** sched_info_arrive: it has one. */
  #schedInfoArrive(thread: HostThread): void {
    if (thread.queuedNs === 0) return;
    thread.runDelayNs += this.services.hardware.nowNs() - thread.queuedNs;
    thread.queuedNs = 0;
  }

  #switchIn(queue: RunQueue, thread: HostThread, pcpu: number): void {
    queue.current = thread.base;
    queue.switches++;
    this.#schedInfoArrive(thread);
    thread.current = true;
    thread.pcpu = pcpu;
    thread.lastPcpu = pcpu;
    thread.switches++;
    if (thread.perfEvents !== 0) this.services.perfSchedIn?.(thread);
    if (thread.notify) this.services.threads.kindOf(thread).schedIn?.(thread);
  }

  /**
   * sched_setaffinity: the thread may run on the CPUs of `mask` (0: all) only. One that runs or waits
   * elsewhere moves there. Called by host code.
   */
  setAffinity(thread: HostThread, mask: number): void {
    thread.affinity = mask;
    if (this.#allowed(thread, thread.pcpu) || thread.state !== THREAD_STATE.RUNNABLE) return;
    if (thread.current) return this.resched(thread.pcpu);
    const queue = this.queue(thread.pcpu);
    this.#locked(queue, () => {
      listDel(this.services.hardware.memory, thread.runNode);
      queue.running--;
    });
    this.#enqueue(thread, this.#choose(thread), false);
  }
}
