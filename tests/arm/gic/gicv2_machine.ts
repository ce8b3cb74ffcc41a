/** A GICv2 with its CPUs, and short names for what tests do to it. */
import { Arena } from "../../../src/base/arena.ts";
import { SharedMemory } from "../../../src/base/memory.ts";
import { type Cpu, CpuLayout } from "../../../src/arm/arch/cpu_state.ts";
import { GICD } from "../../../src/arm/arch/gic.ts";
import { GICC, GICC_CTLR, GICH } from "../../../src/arm/arch/gicv2.ts";
import { Gicv2 } from "../../../src/arm/gic/gicv2.ts";

export interface Setup {
  readonly cpus?: number;
  readonly lrs?: number;
  readonly spis?: number;
  /** Leave everything as after reset. */
  readonly cold?: boolean;
}

export class Machine {
  readonly memory = SharedMemory.create(1 << 20);
  readonly arena = new Arena("test", this.memory, 64, 1 << 20);
  readonly cpus: Cpu[];
  readonly gic: Gicv2;

  constructor({ cpus = 2, lrs = 4, spis = 96, cold = false }: Setup = {}) {
    this.cpus = Array.from({ length: cpus }, (_, n) => {
      const cpu = this.arena.make(CpuLayout);
      cpu.index = n;
      return cpu;
    });
    this.gic = new Gicv2(this.arena, { cpus: this.cpus, lrs, spis });
    if (!cold) this.warm();
  }

  /** As Linux sets it up: group 0, IRQs, no priority masked. */
  warm(): void {
    this.gicd(GICD.CTLR, 3);
    this.cpus.forEach((_, n) => {
      this.gicc("PMR", 0xff, n);
      this.gicc("CTLR", GICC_CTLR.EnableGrp0 | GICC_CTLR.EnableGrp1, n);
      this.gich("HCR", 1, n);
      this.gicv("PMR", 0xf8, n);
      this.gicv("CTLR", GICC_CTLR.EnableGrp0 | GICC_CTLR.EnableGrp1, n);
    });
  }

  /** Reads, or with a value writes, a word of the distributor as CPU `cpu`. */
  gicd(offset: number, value?: number, cpu = 0): number {
    if (value === undefined) return this.gic.distRead(cpu, offset, 4);
    this.gic.distWrite(cpu, offset, 4, value);
    return 0;
  }

  gicc(name: keyof typeof GICC, value?: number, cpu = 0): number {
    if (value === undefined) return this.gic.giccRead(cpu, GICC[name], 4);
    this.gic.giccWrite(cpu, GICC[name], 4, value);
    return 0;
  }

  gicv(name: keyof typeof GICC, value?: number, cpu = 0): number {
    if (value === undefined) return this.gic.gicvRead(cpu, GICC[name], 4);
    this.gic.gicvWrite(cpu, GICC[name], 4, value);
    return 0;
  }

  gich(name: keyof typeof GICH, value?: number, cpu = 0): number {
    if (value === undefined) return this.gic.gichRead(cpu, GICH[name], 4);
    this.gic.gichWrite(cpu, GICH[name], 4, value);
    return 0;
  }

  lr(n: number, value?: number, cpu = 0): number {
    if (value === undefined) return this.gic.gichRead(cpu, GICH.LR0 + 4 * n, 4);
    this.gic.gichWrite(cpu, GICH.LR0 + 4 * n, 4, value);
    return 0;
  }

  /** Enables an interrupt of CPU 0 with this priority; an SPI for the CPUs of `targets`. */
  enable(intid: number, priority = 0x80, targets = 1, cpu = 0): void {
    this.gic.distWrite(cpu, GICD.IPRIORITYR + intid, 1, priority);
    if (intid >= 32) this.gic.distWrite(cpu, GICD.ITARGETSR + intid, 1, targets);
    this.gicd(GICD.ISENABLER + 4 * (intid >> 5), (1 << (intid & 31)) >>> 0, cpu);
  }

  lines(cpu = 0): number {
    return (this.cpus[cpu] as Cpu).irqLines;
  }
}
