/**
 * The CPU interface of a GICv2 without Security Extensions: the GICC frame (IHI 0048, 4.4). Interrupts of
 * group 0 are signalled as FIQ only with FIQEn; the FIQ and IRQ bypass is not implemented. GICC_EOIR ends
 * what is active of group 0, and with AckCtl of either group.
 */
import type { Arena } from "../../base/arena.ts";
import { fieldOf, INTID } from "../arch/gic.ts";
import { GICC, GICC_CTLR, GICC_IAR, INTID_GROUP1 } from "../arch/gicv2.ts";
import { LINE } from "../arch/cpu_state.ts";
import { PRIORITY_MASK } from "./bank.ts";
import { CpuInterface } from "./cpu_interface.ts";
import type { CpuLines } from "./cpu_lines.ts";
import type { Gicv2Interrupts } from "./gicv2_interrupts.ts";
import { binaryPoint, MIN_BPR0, visibleBpr1 } from "./priorities.ts";
import { type Region, RegionTable, register } from "./regions.ts";

const CTLR_WRITABLE = GICC_CTLR.EnableGrp0 | GICC_CTLR.EnableGrp1 | GICC_CTLR.AckCtl |
  GICC_CTLR.FIQEn | GICC_CTLR.CBPR | GICC_CTLR.EOImode;
const GROUPS = GICC_CTLR.EnableGrp0 | GICC_CTLR.EnableGrp1;
/** GICC_IIDR and GICV_IIDR: GICv2, designer Arm. */
export const GICC_IIDR = 0x0002_043b;

/** A view of one CPU interface. */
export class Gicv2CpuInterface extends CpuInterface implements MappedInterface {
  declare readonly interrupts: Gicv2Interrupts;

  constructor(arena: Arena, interrupts: Gicv2Interrupts, lines: CpuLines) {
    super(arena, interrupts, lines, GICC_CTLR);
  }

  protected override get forwarded(): number {
    return this.interrupts.dist.groups & this.state.ctlr & GROUPS;
  }

  protected override lineOf(group: number): number {
    return group === 0 && (this.state.ctlr & GICC_CTLR.FIQEn) !== 0 ? LINE.FIQ : LINE.IRQ;
  }

  get ackCtl(): boolean {
    return (this.state.ctlr & GICC_CTLR.AckCtl) !== 0;
  }

  /** The sending CPU of an SGI that is pending, where GICC_IAR would show it. */
  withSource(intid: number): number {
    if (intid >= INTID.FIRST_PPI) return intid;
    return intid | (this.interrupts.sourceOf(this.cpu, intid) << GICC_IAR.CPUID.shift);
  }
}

/** What a memory-mapped CPU interface does, physical or virtual. */
export interface MappedInterface {
  readonly ackCtl: boolean;
  /** Whether an interrupt of `group` is pending that would be taken now. */
  signals(group: number): boolean;
  pending(group: number): number;
  acknowledge(group: number): number;
  endOfInterrupt(group: number, value: number): void;
}

/** GICC_IAR and GICV_IAR: an interrupt of group 1 only with AckCtl. */
export function readIar(c: MappedInterface): number {
  if (!c.signals(1)) return c.acknowledge(0);
  return c.ackCtl ? c.acknowledge(1) : INTID_GROUP1;
}

/** GICC_HPPIR and GICV_HPPIR, the same without taking it. */
export function readHppir(c: MappedInterface): number {
  const ofGroup1 = c.pending(1);
  if (ofGroup1 === INTID.SPURIOUS) return c.pending(0);
  return c.ackCtl ? ofGroup1 : INTID_GROUP1;
}

const intidOf = (value: number): number => fieldOf(value, GICC_IAR.INTID);

function writeEoir(c: Gicv2CpuInterface, value: number): void {
  const group = c.ackCtl ? c.runningGroup : 0;
  if (group >= 0) c.endOfInterrupt(group, intidOf(value));
}

type Row = Region<Gicv2CpuInterface>;
const row = (
  name: keyof typeof GICC,
  read: (c: Gicv2CpuInterface) => number,
  write?: (c: Gicv2CpuInterface, value: number) => void,
): Row => register(`GICC_${name}`, GICC[name], read, write);

const none = (): number => 0;

/** The GICC frame. */
export const GICC_REGIONS: RegionTable<Gicv2CpuInterface> = new RegionTable<Gicv2CpuInterface>([
  row("CTLR", (c) => c.state.ctlr, (c, value) => c.state.ctlr = value & CTLR_WRITABLE),
  row("PMR", (c) => c.state.pmr, (c, value) => c.state.pmr = value & PRIORITY_MASK),
  row("BPR", (c) => c.bpr0, (c, value) => c.state.bpr0 = binaryPoint(value, MIN_BPR0)),
  row("IAR", readIar),
  row("EOIR", none, writeEoir),
  row("RPR", (c) => c.running),
  row("HPPIR", (c) => c.withSource(readHppir(c))),
  row("ABPR", visibleBpr1, (c, value) => c.writeBpr1(value)),
  row("AIAR", (c) => c.acknowledge(1)),
  row("AEOIR", none, (c, value) => c.endOfInterrupt(1, intidOf(value))),
  row("AHPPIR", (c) => c.withSource(c.pending(1))),
  row("APR0", (c) => c.state.ap0r, (c, value) => c.state.ap0r = value),
  row("NSAPR0", (c) => c.state.ap1r, (c, value) => c.state.ap1r = value),
  row("IIDR", () => GICC_IIDR),
  row("DIR", none, (c, value) => c.deactivate(intidOf(value))),
]);
