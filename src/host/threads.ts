/**
 * Host threads. A thread is a record in the shared memory with a numbered phase; its kind is a table
 * of phase functions. Host code runs to completion between suspension points: a phase function returns
 * what comes next, a phase or a suspension with the phase to go on with. No JavaScript frame outlives
 * it, so a snapshot can be taken at any suspension.
 */
import { type Arena, Slab } from "../base/arena.ts";
import { assert, InternalError } from "../base/errors.ts";
import { listNode } from "../base/list.ts";
import type { SharedMemory } from "../base/memory.ts";
import type { El2Port } from "../arm/el2_port.ts";
import * as struct from "../base/struct.ts";
import { bool, i32, u32, u53, type ViewOf } from "../base/struct.ts";

// Of the module itself: what is imported V8 looks up and checks at each use.
const { layout } = struct;

/** Why a phase gives up the CPU. */
export const SUSPEND = {
  /** Not at all: the next phase follows. */
  NONE: 0,
  /** The CPU has been sent into a guest by ERET; the next phase runs after its exit. */
  GUEST: 1,
  /** Until {@link THREAD_STATE} is set to runnable by a wake-up: halt, sleep, contended mutex, acknowledgement. */
  BLOCK: 2,
  /** Behind the other runnable threads. */
  RESCHED: 3,
  /** For ever. */
  EXIT: 4,
} as const;

/** A phase's result: the number of the next phase plus 256 times a {@link SUSPEND}. */
export type Next = number;

/** The result "suspend as `how`, then go on with `phase`" (0 to 255). */
export function suspend(how: number, phase: number): Next {
  return how * 256 + phase;
}

export const THREAD_STATE = { FREE: 0, RUNNABLE: 1, BLOCKED: 2, DEAD: 3 } as const;

/** One host thread. */
const ThreadLayout = layout("host_thread", {
  /** Links it into a run queue; both words 0 when in none. */
  runNode: listNode(),
  id: u32(),
  kind: u32(),
  phase: u32(),
  state: u32(),
  /** Physical CPU it is on, or was on last. */
  pcpu: u32(),
  /** Physical CPUs it may run on, one bit each; 0: all. */
  affinity: u32(),
  /** It is the current thread of its physical CPU. */
  current: bool(),
  /** It has entered a guest and not come back. */
  inGuest: bool(),
  /** A wake-up came before it blocked. */
  wakePending: bool(),
  /** Its kind wants to know when it is scheduled in and out (a preempt notifier is registered). */
  notify: bool(),
  /** 0 is more urgent than 1. */
  priority: u32(),
  /** Belongs to the kind: the address of the vCPU, ... */
  arg: u32(),
  /** The first of its perf events, or 0. */
  perfEvents: u32(),
  /** Exception vector by which the guest was left. */
  vector: u32(),
  /** Runnable, but not running, since then (sched_info.last_queued); 0: not waiting. */
  queuedNs: u53(),
  /** Virtual ns spent so (sched_info.run_delay). */
  runDelayNs: u53(),
  switches: u53("observe"),
  lastPcpu: i32(),
});
export type HostThread = ViewOf<typeof ThreadLayout>;

/** A kind of thread: what it does, phase by phase. One function, since calls by a table cost as much as a phase. */
export interface ThreadKind {
  readonly name: string;
  /** What it does in phase `phase`, from 0 up. */
  run(thread: HostThread, phase: number): Next;
  /** Preempt notifiers: called around every change of the current thread while `notify` is set. */
  schedIn?(thread: HostThread): void;
  schedOut?(thread: HostThread): void;
  /** For measurements: its guest has just been left, on the CPU of `port`, and entered again without the host kernel's having seen it. */
  guestLeft?(thread: HostThread, port: El2Port): void;
  guestReentered?(thread: HostThread): void;
}

/** All threads of the host and their kinds. */
export class Threads {
  readonly #kinds: ThreadKind[] = [];
  readonly #slab;
  readonly #views = new Map<number, HostThread>();
  #nextId = 1;

  constructor(readonly memory: SharedMemory, arena: Arena, capacity: number) {
    this.#slab = new Slab(arena, ThreadLayout, capacity);
  }

  /** Registers a kind; its number. Registered in a fixed order, the numbers in snapshots stay valid. */
  register(kind: ThreadKind): number {
    return this.#kinds.push(kind) - 1;
  }

  kindOf(thread: HostThread): ThreadKind {
    const kind = this.#kinds[thread.kind];
    if (kind === undefined) throw new InternalError(`thread ${thread.id}: no kind ${thread.kind}`);
    return kind;
  }

  /** Makes a blocked thread that will start with phase 0 when woken. InternalError when there are too many. */
  create(kind: number, arg: number, priority: number, pcpu = 0): HostThread {
    const at = this.#slab.allocate();
    if (at === 0) throw new InternalError("too many host threads");
    const thread = this.at(at);
    thread.id = this.#nextId++;
    thread.kind = kind;
    thread.arg = arg;
    thread.priority = priority;
    thread.pcpu = pcpu;
    thread.state = THREAD_STATE.BLOCKED;
    thread.lastPcpu = -1;
    return thread;
  }

  /** Frees a thread that is in no run queue. */
  destroy(thread: HostThread): void {
    assert(
      !thread.current && this.memory.ld32(thread.runNode) === 0,
      "thread destroyed while queued",
    );
    thread.state = THREAD_STATE.FREE;
    this.#slab.release(thread.base);
  }

  /** The view of the thread at `address`. */
  at(address: number): HostThread {
    return this.#last?.base === address ? this.#last : this.#last = this.#known(address);
  }

  #last: HostThread | undefined;

  #known(address: number): HostThread {
    let view = this.#views.get(address);
    if (view === undefined) {
      view = ThreadLayout.at(this.memory, address);
      this.#views.set(address, view);
    }
    return view;
  }

  /** Runs the thread's phase and stores the next; the {@link SUSPEND} it ended with. */
  runPhase(thread: HostThread): number {
    const next = this.kindOf(thread).run(thread, thread.phase);
    thread.phase = next & 255;
    return next >>> 8;
  }
}
