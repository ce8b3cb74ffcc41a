/**
 * Soft timers: one queue per physical CPU, sorted by expiry, which programs the physical timer of the
 * host's level (CNTHP at EL2, CNTP at EL1) and is delivered as its private interrupt. There is no other
 * source of time events. After kernel/time/hrtimer.c and drivers/clocksource/arm_arch_timer.c, which
 * makes the same choice.
 */
import { type Arena, Slab } from "../base/arena.ts";
import { assert, InternalError } from "../base/errors.ts";
import {
  listAdd,
  listDel,
  listEmpty,
  listInit,
  listNext,
  listNode,
  listPrev,
} from "../base/list.ts";
import type { Locks } from "../base/lock.ts";
import { layout, u32, u53, type ViewOf } from "../base/struct.ts";
import { TIMER_CTL } from "../arm/arch/fields.ts";
import { R } from "../arm/arch/sysregs.ts";
import { type HostHardware, TICK_NS } from "./hardware.ts";

/** One soft timer. */
const HrtimerLayout = layout("hrtimer", {
  node: listNode(),
  expiresNs: u53(),
  kind: u32(),
  arg: u32(),
  /** Physical CPU whose queue it is in, plus 1; 0: not armed. */
  armedOn: u32(),
});
export type Hrtimer = ViewOf<typeof HrtimerLayout>;
const { armedOn: ARMED_ON } = HrtimerLayout.offset;

const QueueLayout = layout("hrtimer_queue", {
  lock: u32(),
  head: listNode(),
  /** Tick the hardware is set to; 0: switched off. */
  programmed: u53(),
  expired: u53("observe"),
});

/** Registers of the timer that is programmed. */
export interface ClockEventRegisters {
  readonly ctl: number;
  readonly cval: number;
}

/** What a timer does when it expires: the new expiry in ns to be armed again, or 0. Runs with interrupts off. */
export type HrtimerFunction = (arg: number, nowNs: number) => number;

/** The soft timers of all physical CPUs. */
export class Hrtimers {
  readonly #functions: HrtimerFunction[] = [];
  readonly #slab;
  readonly #queues: ViewOf<typeof QueueLayout>[];

  constructor(
    readonly hardware: HostHardware,
    readonly locks: Locks,
    arena: Arena,
    capacity: number,
    /** The physical CPU that is executing. */
    readonly currentCpu: () => number,
    readonly registers: ClockEventRegisters = { ctl: R.CNTHP_CTL_EL2, cval: R.CNTHP_CVAL_EL2 },
  ) {
    this.#slab = new Slab(arena, HrtimerLayout, capacity);
    this.#queues = Array.from({ length: hardware.pcpus }, () => arena.make(QueueLayout));
    for (const q of this.#queues) listInit(hardware.memory, q.head);
  }

  /** Registers what timers of a new kind do; the kind's number. */
  register(run: HrtimerFunction): number {
    return this.#functions.push(run) - 1;
  }

  /** Makes a timer, not armed; its handle. InternalError when there are too many. */
  create(kind: number, arg: number): number {
    const at = this.#slab.allocate();
    if (at === 0) throw new InternalError("too many soft timers");
    const timer = this.#timer(at);
    timer.kind = kind;
    timer.arg = arg;
    return at;
  }

  destroy(handle: number): void {
    this.cancel(handle);
    this.#slab.release(handle);
  }

  #timer(handle: number): Hrtimer {
    return HrtimerLayout.at(this.hardware.memory, handle);
  }

  #queue(pcpu: number): ViewOf<typeof QueueLayout> {
    const queue = this.#queues[pcpu];
    if (queue === undefined) throw new InternalError(`no physical CPU ${pcpu}`);
    return queue;
  }

  isArmed(handle: number): boolean {
    return this.hardware.memory.ld32(handle + ARMED_ON) !== 0;
  }

  /** Arms the timer on the current CPU for `expiresNs` (absolute); moves it if it was armed. */
  start(handle: number, expiresNs: number): void {
    assert(expiresNs >= 0 && Number.isFinite(expiresNs), "timer expiry out of range");
    this.cancel(handle);
    const pcpu = this.currentCpu();
    const timer = this.#timer(handle);
    timer.expiresNs = expiresNs;
    timer.armedOn = pcpu + 1;
    this.#locked(pcpu, (queue) => {
      this.#insert(queue.head, timer);
      this.#program(pcpu);
    });
  }

  /** Disarms the timer if it is armed. One armed on another CPU may still let that CPU's interrupt come early. */
  cancel(handle: number): void {
    if (!this.isArmed(handle)) return;
    const timer = this.#timer(handle);
    const pcpu = timer.armedOn - 1;
    this.#locked(pcpu, () => {
      listDel(this.hardware.memory, timer.node);
      timer.armedOn = 0;
      if (pcpu === this.currentCpu()) this.#program(pcpu);
    });
  }

  #locked(pcpu: number, body: (queue: ViewOf<typeof QueueLayout>) => void): void {
    const port = this.hardware.port(this.currentCpu());
    const flags = port.irqSave();
    const queue = this.#queue(pcpu);
    this.locks.with("timerQueue", queue.base, () => body(queue));
    port.irqRestore(flags);
  }

  /** After all that expire no later: equal expiries run in the order they were armed. */
  #insert(head: number, timer: Hrtimer): void {
    const m = this.hardware.memory;
    let before = listPrev(m, head);
    while (before !== head && this.#timer(before).expiresNs > timer.expiresNs) {
      before = listPrev(m, before);
    }
    listAdd(m, timer.node, before);
  }

  /** The hardware compares ticks: the first tick at or after the expiry. */
  #program(pcpu: number, force = false): void {
    const queue = this.#queue(pcpu);
    const port = this.hardware.port(pcpu);
    const first = listNext(this.hardware.memory, queue.head);
    const tick = first === queue.head
      ? 0
      : Math.max(1, Math.ceil(this.#timer(first).expiresNs / TICK_NS));
    if (tick === queue.programmed && !force) return;
    queue.programmed = tick;
    const { ctl, cval } = this.registers;
    if (tick === 0) return port.write(ctl, 0, 0);
    port.writeNum(cval, tick);
    port.write(ctl, TIMER_CTL.ENABLE, 0);
  }

  /** The timer interrupt of the current CPU: runs everything that has expired. Interrupts are off. */
  interrupt(): void {
    const pcpu = this.currentCpu();
    const queue = this.#queue(pcpu);
    const m = this.hardware.memory;
    for (;;) {
      const now = this.hardware.nowNs();
      const first = listNext(m, queue.head);
      if (first === queue.head || this.#timer(first).expiresNs > now) break;
      this.#expire(queue, this.#timer(first), now);
    }
    // The level stays up until the comparator moves: program even what is programmed already.
    this.locks.with("timerQueue", queue.base, () => this.#program(pcpu, true));
  }

  #expire(queue: ViewOf<typeof QueueLayout>, timer: Hrtimer, now: number): void {
    const run = this.#functions[timer.kind];
    if (run === undefined) throw new InternalError(`no soft timer kind ${timer.kind}`);
    this.locks.with("timerQueue", queue.base, () => {
      listDel(this.hardware.memory, timer.node);
      timer.armedOn = 0;
    });
    queue.expired++;
    const again = run(timer.arg, now);
    if (again === 0 || timer.armedOn !== 0) return;
    this.locks.with("timerQueue", queue.base, () => {
      timer.expiresNs = Math.max(again, now + 1);
      timer.armedOn = this.currentCpu() + 1;
      this.#insert(queue.head, timer);
    });
  }

  /** Expiry of the earliest timer of a CPU, or undefined. */
  nextNs(pcpu: number): number | undefined {
    const { head } = this.#queue(pcpu);
    const m = this.hardware.memory;
    return listEmpty(m, head) ? undefined : this.#timer(listNext(m, head)).expiresNs;
  }
}
