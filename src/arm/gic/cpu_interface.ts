/**
 * The physical CPU interface of one CPU: what GICC of a GICv2 and ICC_* of a GICv3 have in common (IHI
 * 0048, 4.4; IHI 0069, 4.8). One Security state. Choices where behaviour is unpredictable: an EOI whose
 * group is not that of the highest active priority is ignored, and so is DIR while EOImode is 0.
 */
import type { Arena } from "../../base/arena.ts";
import { layout, u32, type ViewOf } from "../../base/struct.ts";
import { INTID } from "../arch/gic.ts";
import type { Bank } from "./bank.ts";
import type { CpuLines } from "./cpu_lines.ts";
import { type Interrupts, NOTHING } from "./interrupts.ts";
import * as priorities from "./priorities.ts";
import { binaryPoint, type BinaryPoints, MIN_BPR0, MIN_BPR1 } from "./priorities.ts";

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

// V8 folds what it knows of a constant of the module itself, and has to look up imported ones: functions, too.
const { activeBit, groupMask0, groupMask1, preempts, runningGroup, runningPriority } = priorities;
const NONE = NOTHING, SPURIOUS = INTID.SPURIOUS, FIRST_SPI = INTID.FIRST_SPI;
/** Words of a state. */
const WORD = {
  CTLR: GiccLayout.offset.ctlr >>> 2,
  PMR: GiccLayout.offset.pmr >>> 2,
  BPR0: GiccLayout.offset.bpr0 >>> 2,
  BPR1: GiccLayout.offset.bpr1 >>> 2,
  AP0R: GiccLayout.offset.ap0r >>> 2,
  AP1R: GiccLayout.offset.ap1r >>> 2,
  PENDING: GiccLayout.offset.pending >>> 2,
  PRIORITY: GiccLayout.offset.pendingPriority >>> 2,
  GROUP: GiccLayout.offset.pendingGroup >>> 2,
} as const;

/** Bits of the control register, whose places GICv2 and GICv3 do not share. */
export interface ControlBits {
  readonly CBPR: number;
  readonly EOImode: number;
}

/** A view of one CPU interface. What changes it leaves the CPU's lines to {@link refresh} and {@link signal}. */
export abstract class CpuInterface implements BinaryPoints {
  // V8 knows what a field holds, if that is the first it has held: without "declare" that were undefined.
  declare readonly state: ViewOf<typeof GiccLayout>;
  declare readonly interrupts: Interrupts;
  declare readonly lines: CpuLines;
  /** The CPU's SGIs and PPIs. */
  declare readonly bank: Bank;
  /** The state's words. */
  declare private readonly words: Int32Array;
  declare private readonly cbpr: number;
  declare private readonly eoiMode: number;

  constructor(arena: Arena, interrupts: Interrupts, lines: CpuLines, bits: ControlBits) {
    this.state = arena.make(GiccLayout);
    this.interrupts = interrupts;
    this.lines = lines;
    this.bank = interrupts.privates[lines.cpuIndex] as Bank;
    const { buffer } = arena.memory.i32;
    this.words = new Int32Array(buffer, this.state.base, GiccLayout.size >>> 2);
    this.cbpr = bits.CBPR;
    this.eoiMode = bits.EOImode;
  }

  get cpu(): number {
    return this.lines.cpuIndex;
  }

  /** Group 1 uses BPR0 too (CBPR). */
  get common(): boolean {
    return ((this.words[WORD.CTLR] as number) & this.cbpr) !== 0;
  }

  /** EOI only drops the priority (EOImode). */
  #splitsEoi(): boolean {
    return ((this.words[WORD.CTLR] as number) & this.eoiMode) !== 0;
  }

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

  /** The groups (bit 0 and 1) that are forwarded to this interface at all. */
  protected abstract get forwarded(): number;

  /** Takes over the highest pending interrupt, and signals it. */
  refresh(): void {
    const { words, interrupts, bank, lines } = this;
    const found = interrupts.isQuiet(bank)
      ? NONE
      : interrupts.highestPending(lines.cpuIndex, bank, this.forwarded);
    words[WORD.PENDING] = found & 0x3ff;
    if (found === NONE) return lines.drivePhysical(0);
    words[WORD.PRIORITY] = found >>> 16;
    words[WORD.GROUP] = (found >>> 15) & 1;
    this.signal();
  }

  /**
   * Signals the pending interrupt of the last {@link refresh}, as priorities are masked now: where the interrupts
   * are as they were.
   */
  signal(): void {
    const { words, lines } = this;
    const passes = words[WORD.PENDING] !== SPURIOUS && this.#passes();
    lines.drivePhysical(passes ? this.lineOf(words[WORD.GROUP] as number) : 0);
  }

  /** Whether the pending interrupt passes the mask and the running priority. */
  #passes(): boolean {
    const words = this.words, priority = words[WORD.PRIORITY] as number;
    if (priority >= (words[WORD.PMR] as number)) return false;
    const active = (words[WORD.AP0R] as number) | (words[WORD.AP1R] as number);
    return active === 0 || preempts(priority, active, this.#mask());
  }

  /** The mask of the group priority bits of the pending interrupt. */
  #mask(): number {
    const words = this.words;
    return words[WORD.GROUP] === 0 || this.common
      ? groupMask0(words[WORD.BPR0] as number)
      : groupMask1(words[WORD.BPR1] as number);
  }

  /** Whether an interrupt of `group` is pending that passes the mask and the running priority. */
  signals(group: number): boolean {
    return this.pending(group) !== SPURIOUS && this.#passes();
  }

  /** The pending interrupt if it is of `group`, or 1023. */
  pending(group: number): number {
    const words = this.words;
    return words[WORD.GROUP] === group ? words[WORD.PENDING] as number : SPURIOUS;
  }

  /** Takes the pending interrupt of `group`: what the acknowledge register reads as, 1023 for none. */
  acknowledge(group: number): number {
    const intid = this.pending(group);
    if (intid === SPURIOUS || !this.#passes()) return SPURIOUS;
    const words = this.words, at = group === 0 ? WORD.AP0R : WORD.AP1R;
    words[at] = (words[at] as number) |
      activeBit((words[WORD.PRIORITY] as number) & this.#mask());
    return this.interrupts.acknowledge(this.lines.cpuIndex, intid);
  }

  /** Group of the highest active priority, or -1. */
  get runningGroup(): -1 | 0 | 1 {
    return runningGroup(this.state.ap0r, this.state.ap1r);
  }

  /** Drops the running priority, and deactivates unless EOImode splits that off. */
  endOfInterrupt(group: number, intid: number): void {
    const words = this.words;
    if (intid >= FIRST_SPI && !this.interrupts.hasSpi(intid)) return;
    if (runningGroup(words[WORD.AP0R] as number, words[WORD.AP1R] as number) !== group) return;
    const at = group === 0 ? WORD.AP0R : WORD.AP1R, active = words[at] as number;
    words[at] = active & (active - 1);
    if (!this.#splitsEoi()) this.interrupts.deactivate(this.lines.cpuIndex, intid);
  }

  /** Deactivates, while EOImode splits that off the EOI. */
  deactivate(intid: number): void {
    if (this.#splitsEoi()) this.interrupts.deactivate(this.lines.cpuIndex, intid);
  }

  /** Writes the binary point of group 1: ignored with CBPR. */
  writeBpr1(value: number): void {
    if (!this.common) this.state.bpr1 = binaryPoint(value, MIN_BPR1);
  }
}
