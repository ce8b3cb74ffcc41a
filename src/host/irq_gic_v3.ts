/**
 * The driver of a GICv3. After drivers/irqchip/irq-gic-v3.c.
 */
import { InternalError } from "../base/errors.ts";
import {
  GICD,
  GICD_CTLR,
  GICD_IROUTER,
  GICR,
  GICR_FRAME_SIZE,
  GICR_SGI,
  GICR_WAKER,
  ICC_CTLR,
  ICC_SRE,
  INTID,
} from "../arm/arch/gic.ts";
import * as sysregs from "../arm/arch/sysregs.ts";
import type { El2Port } from "../arm/el2_port.ts";
import type { HostHardware } from "./hardware.ts";
import type { IrqChip } from "./irq.ts";

// Of the module itself: what is imported V8 looks up and checks at each use.
const { R } = sysregs;

/** The priority of every host interrupt, and the mask that lets it through. */
const DEFAULT_PRIORITY = 0xa0;
const PRIORITY_MASK = 0xf0;

/** A GICv3: distributor, redistributors, CPU interfaces by system register. */
export class GicV3Chip implements IrqChip {
  readonly #affinities: number[] = [];
  // V8 knows what a field holds, if that is the first it has held: without "declare" that were undefined.
  declare readonly hardware: HostHardware;
  declare private readonly ports: readonly El2Port[];

  constructor(hardware: HostHardware) {
    this.hardware = hardware;
    this.ports = Array.from({ length: hardware.pcpus }, (_, pcpu) => hardware.port(pcpu));
  }

  /** Affinity routing, group 1 on, all SPIs in group 1 and off. */
  initDistributor(): void {
    const d = this.hardware.gicdPa;
    const write = (offset: number, value: number) => this.hardware.mmioWrite(0, d + offset, value);
    write(GICD.CTLR, 0);
    const lines = 32 * ((this.hardware.mmioRead(0, d + GICD.TYPER) & 31) + 1);
    for (let intid = 32; intid < lines; intid += 32) {
      write(GICD.IGROUPR + intid / 8, 0xffff_ffff);
      write(GICD.ICENABLER + intid / 8, 0xffff_ffff);
      write(GICD.ICACTIVER + intid / 8, 0xffff_ffff);
    }
    for (let intid = 32; intid < lines; intid += 4) {
      write(GICD.IPRIORITYR + intid, DEFAULT_PRIORITY * 0x0101_0101);
    }
    write(GICD.CTLR, GICD_CTLR.ARE | GICD_CTLR.EnableGrp1);
  }

  /**
   * One CPU's redistributor and CPU interface, with the private interrupts of `enabled` on. A kernel at
   * EL2 opens the system registers to EL1 as well; one at EL1 found them opened before it left EL2.
   */
  initCpu(pcpu: number, enabled: readonly number[], vhe: boolean): void {
    const base = this.#redistributor(pcpu);
    const write = (offset: number, v: number) => this.hardware.mmioWrite(pcpu, base + offset, v);
    write(GICR.WAKER, this.hardware.mmioRead(pcpu, base + GICR.WAKER) & ~GICR_WAKER.ProcessorSleep);
    write(GICR_SGI.IGROUPR0, 0xffff_ffff);
    write(GICR_SGI.ICENABLER0, 0xffff_ffff);
    write(GICR_SGI.ICACTIVER0, 0xffff_ffff);
    for (let i = 0; i < 32; i += 4) {
      write(GICR_SGI.IPRIORITYR + i, DEFAULT_PRIORITY * 0x0101_0101);
    }
    write(GICR_SGI.ISENABLER0, enabled.reduce((mask, intid) => (mask | (1 << intid)) >>> 0, 0));
    const port = this.hardware.port(pcpu);
    this.#affinities[pcpu] = port.readLo(R.MPIDR_EL1) & 0x00ff_ffff;
    const sre = ICC_SRE.SRE | ICC_SRE.DFB | ICC_SRE.DIB;
    if (vhe) port.write(R.ICC_SRE_EL2, sre | ICC_SRE.Enable, 0);
    else port.write(R.ICC_SRE_EL1, sre, 0);
    port.isb();
    port.write(R.ICC_PMR_EL1, PRIORITY_MASK, 0);
    port.write(R.ICC_BPR1_EL1, 0, 0);
    port.write(R.ICC_CTLR_EL1, ICC_CTLR.EOImode, 0);
    port.write(R.ICC_IGRPEN1_EL1, 1, 0);
    port.isb();
  }

  #redistributor(pcpu: number): number {
    return this.hardware.gicrPa + pcpu * this.hardware.gicrStride;
  }

  enableSpi(pcpu: number, intid: number, target: number): void {
    const d = this.hardware.gicdPa;
    const affinity = this.#affinities[target] ?? 0;
    this.hardware.mmioWrite(pcpu, d + GICD.IROUTER + 8 * intid, affinity & GICD_IROUTER.AFF210);
    this.hardware.mmioWrite(pcpu, d + GICD.ISENABLER + 4 * (intid >> 5), (1 << (intid & 31)) >>> 0);
  }

  acknowledge(port: El2Port): number {
    return port.readIcc(R.ICC_IAR1_EL1);
  }

  intidOf(irqstat: number): number {
    return irqstat & 0xff_ffff;
  }

  eoi(port: El2Port, irqstat: number): void {
    port.writeIcc(R.ICC_EOIR1_EL1, irqstat, 0);
  }

  deactivate(port: El2Port, irqstat: number): void {
    port.writeIcc(R.ICC_DIR_EL1, irqstat, 0);
  }

  sendIpi(from: number, to: number, ipi: number): void {
    const affinity = this.#affinities[to];
    if (affinity === undefined) throw new InternalError(`no physical CPU ${to}`);
    const lo = (1 << (affinity & 15)) | (((affinity >>> 8) & 0xff) << 16) | (ipi << 24);
    const range = (affinity >>> 4) & 15;
    const port = this.ports[from] as El2Port;
    port.dsb();
    port.writeIcc(R.ICC_SGI1R_EL1, lo, ((affinity >>> 16) & 0xff) | (range << 12));
    port.isb();
  }

  /** SGI_base has the distributor's offsets. */
  bitRegister(pcpu: number, intid: number, offset: number): number {
    if (intid < INTID.FIRST_SPI) return this.#redistributor(pcpu) + GICR_FRAME_SIZE + offset;
    return this.hardware.gicdPa + offset + 4 * (intid >> 5);
  }
}
