/**
 * The driver of a GICv2. After drivers/irqchip/irq-gic.c: all interrupts stay in group 0. The CPU interface
 * is memory, reached by the port, so that its accesses count as those of a GICv3's system registers do.
 */
import { fieldOf, GICD, GICD_CTLR } from "../arm/arch/gic.ts";
import { GICC, GICC_CTLR, GICC_IAR, GICD_SGIR } from "../arm/arch/gicv2.ts";
import type { El2Port } from "../arm/el2_port.ts";
import type { HostHardware } from "./hardware.ts";
import type { IrqChip } from "./irq.ts";

/** The priority of every host interrupt, and the mask that lets it through. */
const DEFAULT_PRIORITY = 0xa0;
const PRIORITY_MASK = 0xf0;
const BYTES = 0x0101_0101;

/** A GICv2: distributor and CPU interfaces. */
export class GicV2Chip implements IrqChip {
  /** gic_cpu_map: each CPU's bit in GICD_ITARGETSR. */
  readonly #cpuMap: number[] = [];

  constructor(readonly hardware: HostHardware) {}

  #write(pcpu: number, offset: number, value: number): void {
    this.hardware.mmioWrite(pcpu, this.hardware.gicdPa + offset, value);
  }

  #read(pcpu: number, offset: number): number {
    return this.hardware.mmioRead(pcpu, this.hardware.gicdPa + offset);
  }

  #writeInterface(port: El2Port, register: keyof typeof GICC, value: number): void {
    port.mmioWrite(this.hardware.giccPa + GICC[register], value);
  }

  /** gic_get_cpumask: what the read-only GICD_ITARGETSR of private interrupts say; 0 with a single CPU. */
  #cpuMask(pcpu: number): number {
    const word = this.#read(pcpu, GICD.ITARGETSR);
    return (word | (word >>> 8) | (word >>> 16) | (word >>> 24)) & 0xff;
  }

  /** gic_dist_init: all SPIs for this CPU, level, off. */
  initDistributor(): void {
    this.#write(0, GICD.CTLR, 0);
    const lines = 32 * ((this.#read(0, GICD.TYPER) & 31) + 1);
    const mask = this.#cpuMask(0) * BYTES;
    for (let intid = 32; intid < lines; intid += 4) {
      this.#write(0, GICD.ITARGETSR + intid, mask);
      this.#write(0, GICD.IPRIORITYR + intid, DEFAULT_PRIORITY * BYTES);
    }
    for (let intid = 32; intid < lines; intid += 16) this.#write(0, GICD.ICFGR + intid / 4, 0);
    for (let intid = 32; intid < lines; intid += 32) {
      this.#write(0, GICD.ICACTIVER + intid / 8, 0xffff_ffff);
      this.#write(0, GICD.ICENABLER + intid / 8, 0xffff_ffff);
    }
    this.#write(0, GICD.CTLR, GICD_CTLR.EnableGrp0);
  }

  /** gic_cpu_init. */
  initCpu(pcpu: number, enabled: readonly number[]): void {
    this.#cpuMap[pcpu] = this.#cpuMask(pcpu);
    this.#write(pcpu, GICD.ICACTIVER, 0xffff_ffff);
    this.#write(pcpu, GICD.ICENABLER, 0xffff_0000);
    for (let i = 0; i < 32; i += 4) {
      this.#write(pcpu, GICD.IPRIORITYR + i, DEFAULT_PRIORITY * BYTES);
    }
    const on = enabled.reduce((mask, intid) => (mask | (1 << intid)) >>> 0, 0);
    this.#write(pcpu, GICD.ISENABLER, on);
    const port = this.hardware.port(pcpu);
    this.#writeInterface(port, "PMR", PRIORITY_MASK);
    this.#writeInterface(port, "APR0", 0);
    this.#writeInterface(port, "CTLR", GICC_CTLR.EOImode | GICC_CTLR.EnableGrp0);
  }

  enableSpi(pcpu: number, intid: number, target: number): void {
    const at = GICD.ITARGETSR + (intid & ~3);
    const shift = 8 * (intid & 3);
    const others = this.#read(pcpu, at) & ~(0xff << shift);
    this.#write(pcpu, at, (others | ((this.#cpuMap[target] ?? 0) << shift)) >>> 0);
    this.#write(pcpu, GICD.ISENABLER + 4 * (intid >> 5), (1 << (intid & 31)) >>> 0);
  }

  acknowledge(port: El2Port): number {
    return port.mmioRead(this.hardware.giccPa + GICC.IAR);
  }

  intidOf(irqstat: number): number {
    return fieldOf(irqstat, GICC_IAR.INTID);
  }

  /** With the sender of an SGI, as it was read. */
  eoi(port: El2Port, irqstat: number): void {
    this.#writeInterface(port, "EOIR", irqstat);
  }

  deactivate(port: El2Port, irqstat: number): void {
    this.#writeInterface(port, "DIR", irqstat);
  }

  /** gic_ipi_send_mask. */
  sendIpi(from: number, to: number, ipi: number): void {
    const port = this.hardware.port(from);
    port.dmb();
    const targets = (this.#cpuMap[to] ?? 0) << GICD_SGIR.CPUTargetList.shift;
    port.mmioWrite(this.hardware.gicdPa + GICD.SGIR, targets | ipi);
  }

  /** Private interrupts are at the distributor's first words, each CPU's for itself. */
  bitRegister(_pcpu: number, intid: number, offset: number): number {
    return this.hardware.gicdPa + offset + 4 * (intid >> 5);
  }
}
