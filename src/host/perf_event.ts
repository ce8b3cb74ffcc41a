/**
 * Counting events of a thread by the CPU's performance monitors, as far as KVM uses perf: events made in
 * the kernel, pinned, that count in guests only and call a function each time a period is over. After
 * kernel/events/core.c, drivers/perf/arm_pmu.c and arch/arm64/kernel/perf_event.c.
 *
 * An event's counter is in the hardware while its thread runs on a CPU. What differs: 32-bit cycle
 * events take event counters first and leave the cycle counter to the 64-bit one; an event for which no
 * counter is free tries again when its thread is scheduled in next.
 */
import { type Arena, Slab } from "../base/arena.ts";
import { array, bool, i32, layout, u32, u64, type ViewOf } from "../base/struct.ts";

import {
  counterRegister,
  COUNTERS_MASK,
  CYCLE_COUNTER,
  PMCR,
  PMEVTYPER,
  PMU_EVENT,
  typeRegister,
} from "../arm/arch/pmu.ts";
import { R } from "../arm/arch/sysregs.ts";
import type { El2Port } from "../arm/el2_port.ts";
import type { HostHardware } from "./hardware.ts";
import type { HostThread, Threads } from "./threads.ts";

/** struct perf_event_attr: what is counted, and where not. */
export interface PerfEventAttr {
  readonly config: number;
  readonly excludeUser: boolean;
  readonly excludeKernel: boolean;
  /** Of a 64-bit counter (PERF_ATTR_CFG1_COUNTER_64BIT). */
  readonly wide: boolean;
  readonly disabled: boolean;
  /** Events from one call of the function to the next: 1 to 2^64. */
  readonly samplePeriod: bigint;
}

const STATE = { OFF: 0, INACTIVE: 1, ACTIVE: 2 } as const;

const PerfEventLayout = layout("perf_event", {
  /** The thread's next event. */
  next: u32(),
  thread: u32(),
  state: u32(),
  /** The counter while it is ACTIVE, else -1. */
  index: i32(),
  config: u32(),
  excludeUser: bool(),
  excludeKernel: bool(),
  wide: bool(),
  /** What it has counted up to the last look, and the counter then. */
  count: u64(),
  prevCount: u64(),
  samplePeriod: u64(),
  /** Events until the function is called; signed. */
  periodLeft: u64(),
  kind: u32(),
  arg: u32(),
  argIndex: u32(),
});
type PerfEvent = ViewOf<typeof PerfEventLayout>;

/** struct pmu_hw_events of one CPU. */
const HwEventsLayout = layout("pmu_hw_events", {
  usedMask: u32(),
  events: array("u32", 32),
});

/** What happens when a period is over: `event` is its handle, `arg` and `index` its creator's. */
export type PerfOverflow = (event: number, arg: number, index: number) => void;

/** KVM's part: events that count in guests only are switched on and off with them (kvm_set_pmu_events). */
export interface PerfGuestEvents {
  set(mask: number): void;
  clear(mask: number): void;
}

const MAX_PERIOD = 2n ** 63n - 1n;
const MASK32 = 0xffff_ffffn;
const MASK64 = 0xffff_ffff_ffff_ffffn;
const maxPeriod = (event: PerfEvent): bigint => event.wide ? MASK64 : MASK32;

export interface PerfServices {
  readonly hardware: HostHardware;
  readonly threads: Threads;
  readonly vhe: boolean;
  currentCpu(): number;
  /** The thread that runs on a CPU. */
  current(pcpu: number): HostThread | undefined;
}

/** The events of all threads and the counters of all CPUs. */
export class PerfEvents {
  readonly #slab;
  readonly #hw: ViewOf<typeof HwEventsLayout>[];
  readonly #handlers: PerfOverflow[] = [];
  guestEvents: PerfGuestEvents | undefined;

  constructor(readonly services: PerfServices, arena: Arena, capacity: number) {
    this.#slab = new Slab(arena, PerfEventLayout, capacity);
    const { pcpus } = services.hardware;
    this.#hw = Array.from({ length: pcpus }, () => arena.make(HwEventsLayout));
  }

  get #port(): El2Port {
    return this.services.hardware.port(this.services.currentCpu());
  }
  get #cpu(): ViewOf<typeof HwEventsLayout> {
    return this.#hw[this.services.currentCpu()] as ViewOf<typeof HwEventsLayout>;
  }
  #event(handle: number): PerfEvent {
    return PerfEventLayout.at(this.services.hardware.memory, handle);
  }

  /** armv8pmu_reset, on each CPU once: nothing counts, and EL0 has no access. */
  initCpu(port: El2Port): void {
    port.write(R.PMCNTENCLR_EL0, COUNTERS_MASK, 0);
    port.write(R.PMINTENCLR_EL1, COUNTERS_MASK, 0);
    port.write(R.PMOVSCLR_EL0, COUNTERS_MASK, 0);
    port.write(R.PMUSERENR_EL0, 0, 0);
    port.write(R.PMCR_EL0, PMCR.P | PMCR.C | PMCR.LC, 0);
  }

  /** Registers what is called when periods of a kind of events are over; the kind's number. */
  register(overflow: PerfOverflow): number {
    return this.#handlers.push(overflow) - 1;
  }

  /** perf_event_create_kernel_counter for `thread`; the event's handle, 0 when there are too many. */
  create(attr: PerfEventAttr, thread: number, kind: number, arg: number, index: number): number {
    const at = this.#slab.allocate();
    if (at === 0) return 0;
    const event = this.#event(at);
    const { config, excludeUser, excludeKernel, wide } = attr;
    Object.assign(event, { config, excludeUser, excludeKernel, wide, kind, arg, thread });
    event.argIndex = index;
    event.index = -1;
    event.state = attr.disabled ? STATE.OFF : STATE.INACTIVE;
    this.setPeriod(at, attr.samplePeriod);
    event.periodLeft = event.samplePeriod;
    const owner = this.services.threads.at(thread);
    event.next = owner.perfEvents;
    owner.perfEvents = at;
    if (!attr.disabled) this.#installIfCurrent(event);
    return at;
  }

  /** perf_event_release_kernel. */
  release(handle: number): void {
    this.disable(handle);
    const event = this.#event(handle);
    const owner = this.services.threads.at(event.thread);
    if (owner.perfEvents === handle) owner.perfEvents = event.next;
    else {
      let previous = this.#event(owner.perfEvents);
      while (previous.next !== handle) previous = this.#event(previous.next);
      previous.next = event.next;
    }
    this.#slab.release(handle);
  }

  /** perf_event_enable. */
  enable(handle: number): void {
    const event = this.#event(handle);
    if (event.state !== STATE.OFF) return;
    event.state = STATE.INACTIVE;
    this.#installIfCurrent(event);
  }

  /** perf_event_disable. */
  disable(handle: number): void {
    const event = this.#event(handle);
    if (event.state === STATE.ACTIVE) this.#del(event);
    event.state = STATE.OFF;
  }

  /** perf_event_read_value: what it has counted so far. */
  readValue(handle: number): bigint {
    const event = this.#event(handle);
    if (event.state === STATE.ACTIVE) this.#update(event);
    return event.count;
  }

  /** From an overflow function: the count so far, and the period from now on. */
  setPeriod(handle: number, period: bigint): void {
    this.#event(handle).samplePeriod = period > MAX_PERIOD ? MAX_PERIOD : period;
  }

  /** pmu->stop with PERF_EF_UPDATE, and pmu->start with PERF_EF_RELOAD of a new period: around what such a function changes. */
  stop(handle: number): void {
    const event = this.#event(handle);
    this.#disableCounter(event);
    this.#update(event);
    event.periodLeft = 0n;
  }
  start(handle: number): void {
    this.#start(this.#event(handle));
  }

  // Scheduling

  /** perf_event_task_sched_in, of the thread that the current CPU runs from now on. */
  schedIn(thread: HostThread): void {
    for (let at = thread.perfEvents; at !== 0; at = this.#event(at).next) {
      const event = this.#event(at);
      if (event.state === STATE.INACTIVE) this.#add(event);
    }
  }

  /** perf_event_task_sched_out. */
  schedOut(thread: HostThread): void {
    for (let at = thread.perfEvents; at !== 0; at = this.#event(at).next) {
      const event = this.#event(at);
      if (event.state === STATE.ACTIVE) this.#del(event);
    }
  }

  #installIfCurrent(event: PerfEvent): void {
    if (this.services.current(this.services.currentCpu())?.base === event.thread) this.#add(event);
  }

  /** armpmu_add. */
  #add(event: PerfEvent): void {
    const index = this.#freeCounter(event);
    if (index < 0) return;
    const cpu = this.#cpu;
    cpu.usedMask = (cpu.usedMask | (1 << index)) >>> 0;
    cpu.memory.st32(cpu.events + 4 * index, event.base);
    event.index = index;
    event.state = STATE.ACTIVE;
    this.#start(event);
    this.#enablePmu(true);
  }

  /** armpmu_del. */
  #del(event: PerfEvent): void {
    this.#disableCounter(event);
    this.#update(event);
    const cpu = this.#cpu;
    cpu.usedMask = (cpu.usedMask & ~(1 << event.index)) >>> 0;
    cpu.memory.st32(cpu.events + 4 * event.index, 0);
    event.index = -1;
    event.state = STATE.INACTIVE;
    if (cpu.usedMask === 0) this.#enablePmu(false);
  }

  /** armv8pmu_get_event_idx, or -1. */
  #freeCounter(event: PerfEvent): number {
    const { usedMask } = this.#cpu;
    const cycles = event.config === PMU_EVENT.CPU_CYCLES && (usedMask >>> CYCLE_COUNTER) === 0;
    if (event.wide) return cycles ? CYCLE_COUNTER : -1;
    const counters = (this.#port.readLo(R.PMCR_EL0) >>> PMCR.N_SHIFT) & 31;
    for (let n = 0; n < counters; n++) if ((usedMask & (1 << n)) === 0) return n;
    return cycles ? CYCLE_COUNTER : -1;
  }

  #enablePmu(on: boolean): void {
    this.#port.write(R.PMCR_EL0, PMCR.LC | (on ? PMCR.E : 0), 0);
  }

  // One counter

  /** armpmu_start. */
  #start(event: PerfEvent): void {
    this.#reload(event);
    const port = this.#port;
    const mask = (1 << event.index) >>> 0;
    port.write(typeRegister(event.index), this.#filter(event), 0);
    port.write(R.PMINTENSET_EL1, mask, 0);
    this.guestEvents?.set(mask);
    // At EL1 the host would be counted, too: the world switch turns the counter on.
    if (this.services.vhe) port.write(R.PMCNTENSET_EL0, mask, 0);
  }

  #disableCounter(event: PerfEvent): void {
    const port = this.#port;
    const mask = (1 << event.index) >>> 0;
    this.guestEvents?.clear(mask);
    port.write(R.PMCNTENCLR_EL0, mask, 0);
    port.write(R.PMINTENCLR_EL1, mask, 0);
    port.write(R.PMOVSCLR_EL0, mask, 0);
  }

  /** armv8pmu_set_event_filter of an event that excludes the host and the hypervisor. */
  #filter(event: PerfEvent): number {
    const config = event.index === CYCLE_COUNTER ? 0 : event.config;
    // With VHE this is the host's EL0; KVM opens it while a guest is loaded.
    const noUser = event.excludeUser || this.services.vhe;
    return (config | (event.excludeKernel ? PMEVTYPER.P : 0) | (noUser ? PMEVTYPER.U : 0)) >>> 0;
  }

  /** armpmu_event_set_period: whether a period is over. */
  #reload(event: PerfEvent): boolean {
    const period = event.samplePeriod;
    let left = BigInt.asIntN(64, event.periodLeft);
    const over = left <= 0n;
    if (left <= -period) left = period;
    else if (over) left += period;
    event.periodLeft = BigInt.asUintN(64, left);
    const most = maxPeriod(event) >> 1n;
    const raw = BigInt.asUintN(64, -(left > most ? most : left)) & maxPeriod(event);
    event.prevCount = raw;
    // What overflows at 32 bits in the 64-bit counter starts near its end.
    const biased = event.index === CYCLE_COUNTER && !event.wide ? raw | (MASK32 << 32n) : raw;
    this.#port.write64(counterRegister(event.index), biased);
    return over;
  }

  /** armpmu_event_update. */
  #update(event: PerfEvent): void {
    const mask = maxPeriod(event);
    const raw = this.#port.read64(counterRegister(event.index)) & mask;
    const delta = (raw - event.prevCount) & mask;
    event.prevCount = raw;
    event.count += delta;
    event.periodLeft = BigInt.asUintN(64, event.periodLeft - delta);
  }

  /** armv8pmu_handle_irq. */
  interrupt(): void {
    const port = this.#port;
    const overflows = port.readLo(R.PMOVSCLR_EL0);
    if (overflows === 0) return;
    port.write(R.PMOVSCLR_EL0, overflows, 0);
    this.#enablePmu(false);
    const cpu = this.#cpu;
    for (let index = 0; index < 32; index++) {
      const at = overflows & (1 << index) ? cpu.memory.ld32(cpu.events + 4 * index) : 0;
      if (at !== 0) this.#overflowed(this.#event(at));
    }
    this.#enablePmu(cpu.usedMask !== 0);
  }

  #overflowed(event: PerfEvent): void {
    this.#update(event);
    if (!this.#reload(event)) return;
    this.#handlers[event.kind]?.(event.base, event.arg, event.argIndex);
  }
}
