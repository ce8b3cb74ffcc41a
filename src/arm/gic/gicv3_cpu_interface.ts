/**
 * The CPU interface of a GICv3: ICC_*_EL1 and EL2 (IHI 0069, 12.2). System registers only, so the SRE
 * bits read as one; group 0 is signalled as FIQ, group 1 as IRQ.
 */
import type { Arena } from "../../base/arena.ts";
import { ICC_CTLR, ICC_SRE, INTID_MASK } from "../arch/gic.ts";
import { LINE } from "../arch/cpu_state.ts";
import { PRIBITS, PRIORITY_MASK } from "./bank.ts";
import { CpuInterface } from "./cpu_interface.ts";
import type { CpuLines } from "./cpu_lines.ts";
import type { Distributor } from "./distributor.ts";
import type { Gicv3Interrupts } from "./gicv3_interrupts.ts";
import { binaryPoint, MIN_BPR0, visibleBpr1 } from "./priorities.ts";
import type { Redistributor } from "./redistributor.ts";
import { type RegisterRow, RegisterTable } from "./register_table.ts";

// V8 folds what it knows of a constant of the module itself, and has to look up imported ones.
const INTIDS = INTID_MASK, LINES = LINE;

const CTLR_WRITABLE = ICC_CTLR.CBPR | ICC_CTLR.EOImode;
const CTLR_FIXED = ICC_CTLR.A3V | ((PRIBITS - 1) << ICC_CTLR.PRIbits.shift) |
  (1 << ICC_CTLR.IDbits.shift);

/** A view of one CPU interface. */
export class Gicv3CpuInterface extends CpuInterface {
  declare readonly interrupts: Gicv3Interrupts;
  declare private readonly dist: Distributor;
  declare private readonly redist: Redistributor;

  constructor(arena: Arena, interrupts: Gicv3Interrupts, lines: CpuLines) {
    super(arena, interrupts, lines, ICC_CTLR);
    this.dist = interrupts.dist;
    this.redist = interrupts.redist(lines.cpuIndex);
  }

  protected override get forwarded(): number {
    return this.dist.groups & this.redist.forwarded;
  }

  protected override lineOf(group: number): number {
    return group === 0 ? LINES.FIQ : LINES.IRQ;
  }

  /** ICC_CTLR_EL1. */
  get ctlr(): number {
    return this.state.ctlr | CTLR_FIXED | (this.interrupts.rangeSelector ? ICC_CTLR.RSS : 0);
  }

  /** ICC_IGRPEN<group>_EL1. */
  enabled(group: number): number {
    return (this.redist.state.groups >>> group) & 1;
  }

  /** Writes ICC_IGRPEN<group>_EL1: where 1-of-N interrupts go may change for all. */
  enable(group: number, value: number): void {
    const { state } = this.redist;
    state.groups = (state.groups & ~(1 << group)) | ((value & 1) << group);
    this.interrupts.everyCpuChanged();
  }

  /** Writes ICC_EOIR<group>_EL1. */
  writeEoir(group: number, value: number): void {
    this.endOfInterrupt(group, value & INTIDS);
    this.signal();
  }

  /** Writes ICC_DIR_EL1: whom it concerns is told. */
  writeDir(value: number): void {
    this.deactivate(value & INTIDS);
  }

  /** Writes ICC_SGI0R_EL1 or ASGI1R_EL1 (`group` 0) or SGI1R_EL1 (1): whom it concerns is told. */
  sendSgi(group: number, lo: number, hi: number): void {
    this.interrupts.sendSgi(this.lines.cpuIndex, lo, hi, group);
  }
}

type Row = RegisterRow<Gicv3CpuInterface>;
type Write = NonNullable<Row["write"]>;

/** What may concern any interrupt. */
const refreshing = (write: Write): Write => (c, lo, hi) => {
  write(c, lo, hi);
  c.refresh();
};

const ofGroup = (group: 0 | 1): Row[] => [
  // Its reading acts: see Gicv3.iccRead.
  { name: `ICC_IAR${group}_EL1` },
  { name: `ICC_EOIR${group}_EL1`, write: (c, lo) => c.writeEoir(group, lo) },
  { name: `ICC_HPPIR${group}_EL1`, read: (c) => c.pending(group) },
  {
    name: `ICC_IGRPEN${group}_EL1`,
    read: (c) => c.enabled(group),
    write: (c, lo) => c.enable(group, lo),
  },
];

const sendSgi = (group: 0 | 1): Write => (c, lo, hi) => c.sendSgi(group, lo, hi);

const readOnlyBits = (): void => {};

/** The ICC registers that exist with five priority bits. A write leaves the CPU's lines as they must be. */
export const ICC_REGISTERS: RegisterTable<Gicv3CpuInterface> = new RegisterTable("ICC", [
  ...ofGroup(0),
  ...ofGroup(1),
  {
    name: "ICC_PMR_EL1",
    read: (c) => c.state.pmr,
    write: (c, lo) => {
      c.state.pmr = lo & PRIORITY_MASK;
      c.signal();
    },
  },
  {
    name: "ICC_BPR0_EL1",
    read: (c) => c.bpr0,
    write: refreshing((c, lo) => c.state.bpr0 = binaryPoint(lo, MIN_BPR0)),
  },
  { name: "ICC_BPR1_EL1", read: visibleBpr1, write: refreshing((c, lo) => c.writeBpr1(lo)) },
  {
    name: "ICC_AP0R0_EL1",
    read: (c) => c.state.ap0r,
    write: refreshing((c, lo) => c.state.ap0r = lo),
  },
  {
    name: "ICC_AP1R0_EL1",
    read: (c) => c.state.ap1r,
    write: refreshing((c, lo) => c.state.ap1r = lo),
  },
  { name: "ICC_DIR_EL1", write: (c, lo) => c.writeDir(lo) },
  { name: "ICC_RPR_EL1", read: (c) => c.running },
  {
    name: "ICC_CTLR_EL1",
    read: (c) => c.ctlr,
    write: refreshing((c, lo) => c.state.ctlr = lo & CTLR_WRITABLE),
  },
  { name: "ICC_SGI0R_EL1", write: sendSgi(0) },
  // With one Security state the other state's group 1 is group 0.
  { name: "ICC_ASGI1R_EL1", write: sendSgi(0) },
  { name: "ICC_SGI1R_EL1", write: sendSgi(1) },
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
