/**
 * The model: successive frames turned into rates, changes and histories. `advance` is a pure function;
 * nothing here knows of the screen.
 */
import { type LrFields, lrFields } from "../../arm/arch/gic.ts";
import { EXCEPTION_CLASS_NAMES } from "../../trace/tracepoints.ts";
import type { Frame, FrameExit, FrameIrq, FrameTimer, FrameVcpu } from "../../vmm/frame.ts";
import { EXIT_IRQ, EXIT_SERROR, VCPU_STATES, type VcpuStateName } from "../../vmm/frame_layout.ts";

/** How counters are shown: change since the last frame, per second of wall time, or all since the reset. */
export type CounterMode = "delta" | "rate" | "total";
export const COUNTER_MODES: readonly CounterMode[] = ["total", "rate", "delta"];

/** Rates are taken over this much wall time. */
const WINDOW_NS = 1e9;
/** A history gets a sample each this much wall time, and keeps this many. */
const SAMPLE_NS = 250e6;
const HISTORY_LENGTH = 240;

/** Histories by key: "mips", "exits", "exit:24", "vcpu:0.1". Oldest first, a value per second. */
export type Histories = ReadonlyMap<string, readonly number[]>;

/** Everything known about the machine. */
export interface Model {
  readonly frame: Frame | undefined;
  /** The frames of the last second, this one included, oldest first. */
  readonly window: readonly Frame[];
  /** The frame at the last reset: totals count from there. */
  readonly baseline: Frame | undefined;
  readonly histories: Histories;
  /** The frame of the last history sample. */
  readonly sampled: Frame | undefined;
}

export const EMPTY_MODEL: Model = {
  frame: undefined,
  window: [],
  baseline: undefined,
  histories: new Map(),
  sampled: undefined,
};

/** The model with one more frame. */
export function advance(model: Model, frame: Frame): Model {
  // Time going back is another run: nothing of the old one counts.
  const fresh = model.frame !== undefined && frame.wallNs < model.frame.wallNs;
  const old = fresh ? EMPTY_MODEL : model;
  const recent = old.window.filter((f) => frame.wallNs - f.wallNs <= WINDOW_NS);
  const window = [...recent.length === 0 ? old.window.slice(-1) : recent, frame];
  return { ...sample(old, frame), frame, window, baseline: old.baseline };
}

/** Totals start from zero here; the histories too. */
export function resetTotals(model: Model): Model {
  return { ...model, baseline: model.frame, histories: new Map() };
}

function sample(model: Model, frame: Frame): Model {
  const before = model.sampled;
  if (before === undefined) return { ...model, sampled: frame };
  const elapsedNs = frame.wallNs - before.wallNs;
  if (elapsedNs < SAMPLE_NS) return model;
  const histories = new Map(model.histories);
  const push = (key: string, now: number, then: number): void => {
    const value = Math.max(0, now - then) * 1e9 / elapsedNs;
    histories.set(key, [...(histories.get(key) ?? []).slice(1 - HISTORY_LENGTH), value]);
  };
  push("mips", frame.insns / 1e6, before.insns / 1e6);
  push("exits", exitsOf(frame), exitsOf(before));
  for (const e of frame.exits) push(`exit:${e.reason}`, e.count, findExit(before, e)?.count ?? 0);
  for (const v of frame.vcpus) push(`vcpu:${vcpuKey(v)}`, v.insns, findVcpu(before, v)?.insns ?? 0);
  return { ...model, histories, sampled: frame };
}

/** A value of this frame and of an earlier one. */
export type Pick = (frame: Frame) => number | undefined;

/** The change of `pick` per second of wall time, over the last second. */
export function rateOf(model: Model, pick: Pick): number {
  const first = model.window[0];
  const { frame } = model;
  if (frame === undefined || first === undefined || frame.wallNs <= first.wallNs) return 0;
  return change(frame, first, pick) * 1e9 / (frame.wallNs - first.wallNs);
}

/** A counter that went down was zeroed in the machine: it counts from zero. */
function change(now: Frame, then: Frame | undefined, pick: Pick): number {
  const value = pick(now) ?? 0;
  const before = then === undefined ? 0 : pick(then) ?? 0;
  return value >= before ? value - before : value;
}

/** A counter as the mode wants it. */
export function counter(model: Model, mode: CounterMode, pick: Pick): number {
  if (model.frame === undefined) return 0;
  if (mode === "rate") return rateOf(model, pick);
  const then = mode === "total" ? model.baseline : model.window.at(-2);
  return change(model.frame, then, pick);
}

/** Virtual time per wall time over the last second: 1 is real time. */
export function paceOf(model: Model): number {
  return rateOf(model, (f) => f.virtualNs) / 1e9;
}

export const exitsOf = (frame: Frame): number => frame.vcpus.reduce((sum, v) => sum + v.exits, 0);

export const vcpuKey = (v: FrameVcpu): string => `${v.vm}.${v.vcpuIdx}`;
export const timerKey = (t: FrameTimer): string => `${t.vm}.${t.vcpuIdx}.${t.index}`;
export const irqKey = (irq: FrameIrq): string => `${irq.vm}.${irq.ownerVcpu}.${irq.intid}`;

type Index = { readonly irqs: ReadonlyMap<string, FrameIrq> };
const INDEXES = new WeakMap<Frame, Index>();

function indexOf(frame: Frame): Index {
  let index = INDEXES.get(frame);
  if (index === undefined) {
    index = { irqs: new Map(frame.irqs.map((irq) => [irqKey(irq), irq])) };
    INDEXES.set(frame, index);
  }
  return index;
}

/** The same vCPU in another frame. */
export function findVcpu(frame: Frame, v: FrameVcpu): FrameVcpu | undefined {
  return vcpuOf(frame, v.vm, v.vcpuIdx);
}

/** vCPU `vcpuIdx` of a VM. */
export function vcpuOf(frame: Frame, vm: number, vcpuIdx: number): FrameVcpu | undefined {
  return frame.vcpus.find((v) => v.vm === vm && v.vcpuIdx === vcpuIdx);
}

/** The same exit reason in another frame. */
export function findExit(frame: Frame, e: FrameExit): FrameExit | undefined {
  return frame.exits.find((other) => other.reason === e.reason);
}

/** The interrupt of that key. */
export function irqOf(frame: Frame, key: string): FrameIrq | undefined {
  return indexOf(frame).irqs.get(key);
}

/** The timer of that key. */
export function timerOf(frame: Frame, key: string): FrameTimer | undefined {
  return frame.timers.find((t) => timerKey(t) === key);
}

/** The name of a vCPU's state. */
export function stateOf(v: FrameVcpu): VcpuStateName {
  return VCPU_STATES[v.state] ?? "blocked";
}

/** KVM's name of an exit reason. */
export function exitName(reason: number): string {
  if (reason === EXIT_IRQ) return "IRQ";
  if (reason === EXIT_SERROR) return "SERROR";
  return EXCEPTION_CLASS_NAMES[reason] ?? `EC 0x${reason.toString(16)}`;
}

/** "SGI", "PPI" or "SPI". */
export function irqType(intid: number): "SGI" | "PPI" | "SPI" {
  return intid < 16 ? "SGI" : intid < 32 ? "PPI" : "SPI";
}

/** "PPI 27 of vCPU 1", "SPI 40". */
export function irqName(irq: FrameIrq): string {
  const owner = irq.ownerVcpu >= 0 ? ` of vCPU ${irq.ownerVcpu}` : "";
  return `${irqType(irq.intid)} ${irq.intid}${owner}`;
}

/** Pending by its latch, or a level-triggered one by its line (irq_is_pending). */
export function irqIsPending(irq: FrameIrq): boolean {
  return irq.pendingLatch || (irq.config === 1 && irq.lineLevel);
}

/** An interrupt's state with what a list register of its vCPU says. */
export interface LiveState {
  /** The vCPU that has it or is to have it: where it is listed, else where it is to go. */
  readonly vcpu: FrameVcpu | undefined;
  /** The list register that holds it, or -1, and its state. */
  readonly lr: number;
  readonly lrState: LrFields["state"];
  readonly pending: boolean;
  readonly active: boolean;
}

/** The list register of a vCPU that holds the interrupt, looked for in the registers themselves. */
function findLr(vcpu: FrameVcpu | undefined, intid: number): number {
  if (vcpu === undefined) return -1;
  return vcpu.lr.slice(0, vcpu.usedLrs).findIndex(({ lo, hi }) => {
    const fields = lrFields(lo, hi);
    return fields.intid === intid && fields.state !== "invalid";
  });
}

/**
 * The state of an interrupt now. In the guest a list register is the truth: flushing an edge took its
 * latch (and a mapped level its line), and the guest may have acted since.
 */
export function liveState(frame: Frame, irq: FrameIrq): LiveState {
  const where = irq.vcpu >= 0 ? irq.vcpu : irq.targetVcpu >= 0 ? irq.targetVcpu : irq.ownerVcpu;
  const vcpu = where < 0 ? undefined : vcpuOf(frame, irq.vm, where);
  const lr = findLr(vcpu, irq.intid);
  const held = vcpu?.lr[lr];
  const lrState = held === undefined ? "invalid" : lrFields(held.lo, held.hi).state;
  const live = lr >= 0 && vcpu?.inGuest === true;
  const lrActive = lrState === "active" || lrState === "pending and active";
  return {
    vcpu,
    lr,
    lrState,
    pending: irqIsPending(irq) || lrState === "pending" || lrState === "pending and active",
    active: live ? lrActive : irq.active || lrActive,
  };
}
