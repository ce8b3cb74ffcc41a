/** The port of a physical CPU of {@link World}, which executes nothing. */
import { R } from "../../../src/arm/arch/sysregs.ts";
import type { Sequence } from "../../../src/arm/el2_port.ts";
import type { Gic } from "../../../src/arm/gic/controller.ts";
import type { Gicv2 } from "../../../src/arm/gic/gicv2.ts";
import type { SharedMemory } from "../../../src/base/memory.ts";
import { doSteps, type StepPort } from "../sequence_steps.ts";

export const GICH_PA = 0x0803_0000;

/** What the vgic did at a port: `"read ICH_VTR_EL2"`. */
export type PortEvent = string;

const NAMES = Object.entries(R).reduce<string[]>((names, [name, index]) => {
  names[index] = name;
  return names;
}, []);

/** The registers of the GIC as EL2 reaches them, plain storage for the rest, and PSTATE.I. */
export class FakePort implements StepPort {
  readonly events: PortEvent[] = [];
  readonly stored = new Map<number, number>();
  irqsOff = false;
  /** Register writes that are lost on their way (`"ICH_LR"`: those whose names begin so). */
  dropped: string | undefined;

  constructor(readonly memory: SharedMemory, readonly gic: Gic, readonly cpuIndex: number) {}

  /** A GICv2's GICH. */
  mmioRead(pa: number): number {
    this.events.push(`read GICH+0x${(pa - GICH_PA).toString(16)}`);
    return (this.gic as Gicv2).gichRead(this.cpuIndex, pa - GICH_PA, 4);
  }
  mmioWrite(pa: number, value: number): void {
    this.events.push(`write GICH+0x${(pa - GICH_PA).toString(16)}`);
    (this.gic as Gicv2).gichWrite(this.cpuIndex, pa - GICH_PA, 4, value >>> 0);
  }
  tlbi(): void {}
  dsb(): void {}
  isb(): void {}

  readLo(reg: number): number {
    this.events.push(`read ${NAMES[reg]}`);
    return this.gic.implemented(reg) && NAMES[reg]?.startsWith("ICH")
      ? this.gic.ichRead(this.cpuIndex, reg)
      : this.stored.get(reg) ?? 0;
  }
  write(reg: number, lo: number, hi: number): void {
    this.events.push(`write ${NAMES[reg]}`);
    if (this.dropped && NAMES[reg]?.startsWith(this.dropped)) return;
    if (NAMES[reg]?.startsWith("ICH")) this.gic.ichWrite(this.cpuIndex, reg, lo, hi);
    else this.stored.set(reg, lo);
  }
  save(reg: number, to: number): void {
    this.memory.st32(to, this.readLo(reg));
    this.memory.st32(to + 4, this.gic.hi);
  }
  restore(reg: number, from: number): void {
    this.write(reg, this.memory.ld32(from), this.memory.ld32(from + 4));
  }
  told = 0;
  looked = 0;
  /** The sequences of the interface: all have one argument. */
  run(sequence: Sequence, argument: number): void {
    doSteps(this, sequence, argument);
  }
  irqSave(): number {
    const before = this.irqsOff;
    this.irqsOff = true;
    return before ? 1 : 0;
  }
  irqRestore(flags: number): void {
    this.irqsOff = flags !== 0;
  }
  irqPass(): void {}
  irqsDisabled(): boolean {
    return this.irqsOff;
  }
}
