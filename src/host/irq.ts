/**
 * Physical interrupts of the host: the GICv3 driver and the table of handlers. After
 * drivers/irqchip/irq-gic-v3.c as a KVM host runs it, with EOImode 1: the priority drops on EOI, and
 * the deactivation is a step of its own, left to the guest for interrupts forwarded to it.
 */
import { InternalError } from "../base/errors.ts";
import {
  GICD,
  GICD_CTLR,
  GICD_IROUTER,
  GICR,
  GICR_SGI,
  GICR_WAKER,
  ICC_CTLR,
  ICC_SRE,
  INTID,
} from "../arm/arch/gic.ts";
import { R } from "../arm/arch/sysregs.ts";
import type { HostHardware } from "./hardware.ts";

/** Software-generated interrupts between physical CPUs, by Linux's numbers. */
export const IPI = { RESCHEDULE: 0, CALL_FUNC: 1 } as const;

/** Private interrupts of the host and of what KVM gives to guests. */
export const PPI = { MAINTENANCE: 25, HYP_TIMER: 26, VTIMER: 27, PTIMER: 30 } as const;

/** The priority of every host interrupt, and the mask that lets it through. */
const DEFAULT_PRIORITY = 0xa0;
const PRIORITY_MASK = 0xf0;

/** A handler, run with interrupts off on the CPU that took the interrupt. */
export type IrqHandler = (intid: number, pcpu: number) => void;

interface IrqDescriptor {
  readonly handler: IrqHandler;
  /** Deactivated by the guest that it is forwarded to (irq_set_vcpu_affinity). */
  readonly forwarded: boolean;
}

/** Interrupts of all physical CPUs. */
export class Irqs {
  readonly #table = new Map<number, IrqDescriptor>();
  readonly #affinities: number[] = [];

  constructor(readonly hardware: HostHardware) {}

  /** request_irq: a handler for `intid`; with `forwarded`, the guest deactivates it. */
  request(intid: number, handler: IrqHandler, forwarded = false): void {
    if (this.#table.has(intid)) throw new InternalError(`interrupt ${intid} has a handler`);
    this.#table.set(intid, { handler, forwarded });
  }

  /** The distributor, once: affinity routing, group 1 on, all SPIs in group 1 and off. */
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
  initCpu(pcpu: number, enabled: readonly number[], vhe = true): void {
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

  /** Turns an SPI on, routed to physical CPU `target`. */
  enableSpi(pcpu: number, intid: number, target: number): void {
    const d = this.hardware.gicdPa;
    const affinity = this.#affinities[target] ?? 0;
    this.hardware.mmioWrite(pcpu, d + GICD.IROUTER + 8 * intid, affinity & GICD_IROUTER.AFF210);
    this.hardware.mmioWrite(pcpu, d + GICD.ISENABLER + 4 * (intid >> 5), (1 << (intid & 31)) >>> 0);
  }

  /** Takes every interrupt that is pending on this CPU: acknowledge, drop the priority, handle, deactivate. */
  dispatch(pcpu: number): void {
    const port = this.hardware.port(pcpu);
    while (this.hardware.irqPending(pcpu)) {
      const intid = port.readLo(R.ICC_IAR1_EL1) & 0xff_ffff;
      if (intid >= INTID.FIRST_SPECIAL && intid < INTID.END_SPECIAL) return;
      const irq = this.#table.get(intid);
      port.write(R.ICC_EOIR1_EL1, intid, 0);
      port.isb();
      irq?.handler(intid, pcpu);
      if (irq === undefined || !irq.forwarded) port.write(R.ICC_DIR_EL1, intid, 0);
    }
  }

  /** Sends software-generated interrupt `ipi` from CPU `from` to CPU `to`. */
  sendIpi(from: number, to: number, ipi: number): void {
    const affinity = this.#affinities[to];
    if (affinity === undefined) throw new InternalError(`no physical CPU ${to}`);
    const lo = (1 << (affinity & 15)) | (((affinity >>> 8) & 0xff) << 16) | (ipi << 24);
    const range = (affinity >>> 4) & 15;
    const port = this.hardware.port(from);
    port.dsb();
    port.write(R.ICC_SGI1R_EL1, lo >>> 0, ((affinity >>> 16) & 0xff) | (range << 12));
    port.isb();
  }

  /** irq_set_irqchip_state(IRQCHIP_STATE_ACTIVE): private interrupts are those of CPU `pcpu`. */
  setActive(pcpu: number, intid: number, active: boolean): void {
    const set = active ? GICR_SGI.ISACTIVER0 : GICR_SGI.ICACTIVER0;
    const spiSet = active ? GICD.ISACTIVER : GICD.ICACTIVER;
    this.hardware.mmioWrite(pcpu, this.#bitRegister(pcpu, intid, set, spiSet), this.#bit(intid));
  }

  /** irq_set_irqchip_state(IRQCHIP_STATE_PENDING). */
  setPending(pcpu: number, intid: number, pending: boolean): void {
    const set = pending ? GICR_SGI.ISPENDR0 : GICR_SGI.ICPENDR0;
    const spiSet = pending ? GICD.ISPENDR : GICD.ICPENDR;
    this.hardware.mmioWrite(pcpu, this.#bitRegister(pcpu, intid, set, spiSet), this.#bit(intid));
  }

  /** irq_get_irqchip_state(IRQCHIP_STATE_ACTIVE). */
  getActive(pcpu: number, intid: number): boolean {
    return this.#get(pcpu, intid, GICR_SGI.ISACTIVER0, GICD.ISACTIVER);
  }

  /** irq_get_irqchip_state(IRQCHIP_STATE_PENDING). */
  getPending(pcpu: number, intid: number): boolean {
    return this.#get(pcpu, intid, GICR_SGI.ISPENDR0, GICD.ISPENDR);
  }

  #get(pcpu: number, intid: number, privateOffset: number, spiOffset: number): boolean {
    const pa = this.#bitRegister(pcpu, intid, privateOffset, spiOffset);
    return (this.hardware.mmioRead(pcpu, pa) & this.#bit(intid)) !== 0;
  }

  #bit(intid: number): number {
    return (1 << (intid & 31)) >>> 0;
  }

  #bitRegister(pcpu: number, intid: number, privateOffset: number, spiOffset: number): number {
    if (intid < INTID.FIRST_SPI) return this.#redistributor(pcpu) + privateOffset;
    return this.hardware.gicdPa + spiOffset + 4 * (intid >> 5);
  }
}
