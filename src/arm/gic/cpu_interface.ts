/**
 * The physical CPU interface of one CPU: what GICC of a GICv2 and ICC_* of a GICv3 have in common (IHI
 * 0048, 4.4; IHI 0069, 4.8). One Security state. Choices where behaviour is unpredictable: an EOI whose
 * group is not that of the highest active priority is ignored, and so is DIR while EOImode is 0.
 */
import type { Arena } from "../../base/arena.ts";
import { layout, u32, type ViewOf } from "../../base/struct.ts";
import { INTID } from "../arch/gic.ts";
import type { Interrupts } from "./interrupts.ts";
import {
  activeBit,
  binaryPoint,
  type BinaryPoints,
  groupMask,
  MIN_BPR0,
  MIN_BPR1,
  preempts,
  runningGroup,
  runningPriority,
} from "./priorities.ts";

/** State of one CPU interface. A GICv3's ICC_IGRPEN0/1_EL1 are kept by the redistributor. */
const GiccLayout = layout("gicc", {
  /** ICC_CTLR_EL1 (CBPR and EOImode) or GICC_CTLR. */
  ctlr: u32(),
  pmr: u32(),
  bpr0: u32(),
  bpr1: u32(),
  /** ICC_AP0R0_EL1 and ICC_AP1R0_EL1, or GICC_APR0 and GICC_NSAPR0: bit n stands for priority 8n. */
  ap0r: u32(),
  ap1r: u32(),
  /** The highest pending interrupt forwarded, or 1023, with its priority and group. */
  pending: u32("cache"),
  pendingPriority: u32("cache"),
  pendingGroup: u32("cache"),
});

// V8 folds what it knows of a constant of the module itself, and has to look up imported ones.
const SPURIOUS = INTID.SPURIOUS;
/** Words of a state. */
const WORD = {
  PENDING: GiccLayout.offset.pending >>> 2,
  PRIORITY: GiccLayout.offset.pendingPriority >>> 2,
  GROUP: GiccLayout.offset.pendingGroup >>> 2,
} as const;

/** A view of one CPU interface. Methods change state only; the controller refreshes the lines afterwards. */
export abstract class CpuInterface implements BinaryPoints {
  readonly state: ViewOf<typeof GiccLayout>;
  /** The state's words. */
  readonly #words: Int32Array;

  constructor(arena: Arena, readonly cpu: number, readonly interrupts: Interrupts) {
    this.state = arena.make(GiccLayout);
    const { buffer } = arena.memory.i32;
    this.#words = new Int32Array(buffer, this.state.base, GiccLayout.size >>> 2);
  }

  /** Group 1 uses BPR0 too (CBPR). */
  abstract get common(): boolean;

  /** EOI only drops the priority (EOImode). */
  protected abstract get splitsEoi(): boolean;

  /** The LINE bit by which interrupts of `group` are signalled. */
  protected abstract lineOf(group: number): number;

  /** Puts the registers to their reset values. */
  reset(): void {
    const { state } = this;
    state.memory.u8.fill(0, state.base, state.base + GiccLayout.size);
    state.bpr0 = MIN_BPR0;
    state.bpr1 = MIN_BPR1;
    state.pending = INTID.SPURIOUS;
  }

  get bpr0(): number {
    return this.state.bpr0;
  }
  get bpr1(): number {
    return this.state.bpr1;
  }

  /** The running priority. */
  get running(): number {
    return runningPriority(this.state.ap0r, this.state.ap1r);
  }

  /** Takes over the highest pending interrupt and returns the LINE bits it raises, 0 for none. */
  refresh(): number {
    const words = this.#words, { interrupts, cpu } = this;
    const intid = interrupts.highestPending(cpu);
    words[WORD.PENDING] = intid;
    if (intid === SPURIOUS) return 0;
    words[WORD.PRIORITY] = interrupts.foundPriority;
    words[WORD.GROUP] = interrupts.groupOf(cpu, intid);
    return this.lines();
  }

  /** The LINE bits that the pending interrupt of the last {@link refresh} raises, as priorities are masked now. */
  lines(): number {
    const words = this.#words;
    if (words[WORD.PENDING] === SPURIOUS) return 0;
    const group = words[WORD.GROUP] as number;
    return this.signals(group) ? this.lineOf(group) : 0;
  }

  /** Whether an interrupt of `group` is pending that passes the mask and the running priority. */
  signals(group: number): boolean {
    const { state } = this;
    if (this.pending(group) === INTID.SPURIOUS) return false;
    return preempts(state.pendingPriority, state.pmr, this.running, groupMask(this, group));
  }

  /** The pending interrupt if it is of `group`, or 1023. */
  pending(group: number): number {
    return this.state.pendingGroup === group ? this.state.pending : INTID.SPURIOUS;
  }

  /** Takes the pending interrupt of `group`: what the acknowledge register reads as, 1023 for none. */
  acknowledge(group: number): number {
    const { state } = this;
    if (!this.signals(group)) return INTID.SPURIOUS;
    const bit = activeBit(state.pendingPriority & groupMask(this, group));
    if (group === 0) state.ap0r |= bit;
    else state.ap1r |= bit;
    return this.interrupts.acknowledge(this.cpu, state.pending);
  }

  /** Group of the highest active priority, or -1. */
  get runningGroup(): -1 | 0 | 1 {
    return runningGroup(this.state.ap0r, this.state.ap1r);
  }

  /** Drops the running priority, and deactivates unless EOImode splits that off. */
  endOfInterrupt(group: number, intid: number): void {
    const { state } = this;
    if (!this.interrupts.bankOf(this.cpu, intid)) return;
    if (this.runningGroup !== group) return;
    if (group === 0) state.ap0r &= state.ap0r - 1;
    else state.ap1r &= state.ap1r - 1;
    if (!this.splitsEoi) this.interrupts.deactivate(this.cpu, intid);
  }

  /** Deactivates, while EOImode splits that off the EOI. */
  deactivate(intid: number): void {
    if (this.splitsEoi) this.interrupts.deactivate(this.cpu, intid);
  }

  /** Writes the binary point of group 1: ignored with CBPR. */
  writeBpr1(value: number): void {
    if (!this.common) this.state.bpr1 = binaryPoint(value, MIN_BPR1);
  }
}
