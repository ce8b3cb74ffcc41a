/**
 * The physical CPU interface of one CPU, ICC_*_EL1 and EL2 (IHI 0069, 4.8 and 12.2). One Security
 * state; system registers only, so the SRE bits read as one; group 0 is signalled as FIQ, group 1 as
 * IRQ. Choices where behaviour is unpredictable: an EOI whose group is not that of the highest active
 * priority is ignored, and so is DIR while ICC_CTLR_EL1.EOImode is 0.
 */
import type { Arena } from "../../base/arena.ts";
import { layout, u32, type ViewOf } from "../../base/struct.ts";
import { ICC_CTLR, ICC_SRE, INTID, INTID_MASK } from "../arch/gic.ts";
import { LINE } from "../arch/cpu_state.ts";
import { PRIBITS, PRIORITY_MASK } from "./bank.ts";
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
  visibleBpr1,
} from "./priorities.ts";
import { type RegisterRow, RegisterTable } from "./register_table.ts";

/** State of one CPU interface. ICC_IGRPEN0/1_EL1 are kept by the redistributor. */
export const GiccLayout = layout("gicc", {
  /** ICC_CTLR_EL1: CBPR and EOImode. */
  ctlr: u32(),
  pmr: u32(),
  bpr0: u32(),
  bpr1: u32(),
  /** ICC_AP0R0_EL1 and ICC_AP1R0_EL1: bit n stands for priority 8n. */
  ap0r: u32(),
  ap1r: u32(),
  /** The highest pending interrupt forwarded, or 1023, with its priority and group. */
  pending: u32("cache"),
  pendingPriority: u32("cache"),
  pendingGroup: u32("cache"),
});

const CTLR_WRITABLE = ICC_CTLR.CBPR | ICC_CTLR.EOImode;
const CTLR_FIXED = ICC_CTLR.A3V | ((PRIBITS - 1) << ICC_CTLR.PRIbits.shift) |
  (1 << ICC_CTLR.IDbits.shift);

/** A view of one CPU interface. Methods change state only; the Gicv3 refreshes the lines afterwards. */
export class CpuInterface implements BinaryPoints {
  readonly state: ViewOf<typeof GiccLayout>;

  constructor(arena: Arena, readonly cpu: number, readonly interrupts: Interrupts) {
    this.state = arena.make(GiccLayout);
  }

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
  get common(): boolean {
    return (this.state.ctlr & ICC_CTLR.CBPR) !== 0;
  }
  get #splitsEoi(): boolean {
    return (this.state.ctlr & ICC_CTLR.EOImode) !== 0;
  }

  /** ICC_RPR_EL1. */
  get running(): number {
    return runningPriority(this.state.ap0r, this.state.ap1r);
  }

  /** ICC_CTLR_EL1. */
  get ctlr(): number {
    return this.state.ctlr | CTLR_FIXED | (this.interrupts.rangeSelector ? ICC_CTLR.RSS : 0);
  }

  /** Takes over the highest pending interrupt and returns the LINE bits it raises, 0 for none. */
  refresh(): number {
    const { state } = this;
    const intid = this.interrupts.highestPending(this.cpu);
    state.pending = intid;
    if (intid === INTID.SPURIOUS) return 0;
    state.pendingPriority = this.interrupts.foundPriority;
    state.pendingGroup = this.interrupts.groupOf(this.cpu, intid);
    if (!this.#signals()) return 0;
    return state.pendingGroup === 0 ? LINE.FIQ : LINE.IRQ;
  }

  #signals(): boolean {
    const { state } = this;
    if (state.pending === INTID.SPURIOUS) return false;
    const mask = groupMask(this, state.pendingGroup);
    return preempts(state.pendingPriority, state.pmr, this.running, mask);
  }

  /** ICC_HPPIR<group>_EL1. */
  pending(group: number): number {
    return this.state.pendingGroup === group ? this.state.pending : INTID.SPURIOUS;
  }

  /** ICC_IAR<group>_EL1: takes the pending interrupt, or gives 1023. */
  acknowledge(group: number): number {
    const { state } = this;
    const intid = this.pending(group);
    if (intid === INTID.SPURIOUS || !this.#signals()) return INTID.SPURIOUS;
    const bit = activeBit(state.pendingPriority & groupMask(this, group));
    if (group === 0) state.ap0r |= bit;
    else state.ap1r |= bit;
    this.interrupts.acknowledge(this.cpu, intid);
    return intid;
  }

  /** ICC_EOIR<group>_EL1: drops the running priority, and deactivates unless EOImode splits that off. */
  endOfInterrupt(group: number, value: number): void {
    const { state } = this;
    const intid = value & INTID_MASK;
    if (!this.interrupts.bankOf(this.cpu, intid)) return;
    if (runningGroup(state.ap0r, state.ap1r) !== group) return;
    if (group === 0) state.ap0r &= state.ap0r - 1;
    else state.ap1r &= state.ap1r - 1;
    if (!this.#splitsEoi) this.interrupts.deactivate(this.cpu, intid);
  }

  /** ICC_DIR_EL1. */
  deactivate(value: number): void {
    if (this.#splitsEoi) this.interrupts.deactivate(this.cpu, value & INTID_MASK);
  }

  /** ICC_IGRPEN<group>_EL1. */
  enabled(group: number): number {
    return (this.interrupts.redist(this.cpu).state.groups >>> group) & 1;
  }

  /** Writes ICC_IGRPEN<group>_EL1. */
  enable(group: number, value: number): void {
    const { state } = this.interrupts.redist(this.cpu);
    state.groups = (state.groups & ~(1 << group)) | ((value & 1) << group);
    this.interrupts.everyCpuChanged();
  }

  /** Writes ICC_BPR1_EL1: ignored with CBPR. */
  writeBpr1(value: number): void {
    if (!this.common) this.state.bpr1 = binaryPoint(value, MIN_BPR1);
  }
}

type Row = RegisterRow<CpuInterface>;

const ofGroup = (group: 0 | 1): Row[] => [
  { name: `ICC_IAR${group}_EL1`, read: (c) => c.acknowledge(group), readActs: true },
  { name: `ICC_EOIR${group}_EL1`, write: (c, lo) => c.endOfInterrupt(group, lo) },
  { name: `ICC_HPPIR${group}_EL1`, read: (c) => c.pending(group) },
  {
    name: `ICC_IGRPEN${group}_EL1`,
    read: (c) => c.enabled(group),
    write: (c, lo) => c.enable(group, lo),
  },
];

const readOnlyBits = (): void => {};

/** The ICC registers that exist with five priority bits. */
export const ICC_REGISTERS: RegisterTable<CpuInterface> = new RegisterTable("ICC", [
  ...ofGroup(0),
  ...ofGroup(1),
  {
    name: "ICC_PMR_EL1",
    read: (c) => c.state.pmr,
    write: (c, lo) => c.state.pmr = lo & PRIORITY_MASK,
  },
  {
    name: "ICC_BPR0_EL1",
    read: (c) => c.bpr0,
    write: (c, lo) => c.state.bpr0 = binaryPoint(lo, MIN_BPR0),
  },
  { name: "ICC_BPR1_EL1", read: visibleBpr1, write: (c, lo) => c.writeBpr1(lo) },
  { name: "ICC_AP0R0_EL1", read: (c) => c.state.ap0r, write: (c, lo) => c.state.ap0r = lo },
  { name: "ICC_AP1R0_EL1", read: (c) => c.state.ap1r, write: (c, lo) => c.state.ap1r = lo },
  { name: "ICC_DIR_EL1", write: (c, lo) => c.deactivate(lo) },
  { name: "ICC_RPR_EL1", read: (c) => c.running },
  {
    name: "ICC_CTLR_EL1",
    read: (c) => c.ctlr,
    write: (c, lo) => c.state.ctlr = lo & CTLR_WRITABLE,
  },
  { name: "ICC_SGI0R_EL1", write: (c, lo, hi) => c.interrupts.sendSgi(c.cpu, lo, hi, 0) },
  // With one Security state the other state's group 1 is group 0.
  { name: "ICC_ASGI1R_EL1", write: (c, lo, hi) => c.interrupts.sendSgi(c.cpu, lo, hi, 0) },
  { name: "ICC_SGI1R_EL1", write: (c, lo, hi) => c.interrupts.sendSgi(c.cpu, lo, hi, 1) },
  {
    name: "ICC_SRE_EL1",
    read: () => ICC_SRE.SRE | ICC_SRE.DFB | ICC_SRE.DIB,
    write: readOnlyBits,
  },
  {
    name: "ICC_SRE_EL2",
    read: () => ICC_SRE.SRE | ICC_SRE.DFB | ICC_SRE.DIB | ICC_SRE.Enable,
    write: readOnlyBits,
  },
]);
