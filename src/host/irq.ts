/**
 * Physical interrupts of the host: the table of handlers, and the driver of the interrupt controller the
 * machine has (irq_gic.ts, irq_gic_v3.ts). After the kernel's drivers as a KVM host runs them, with
 * EOImode 1: the priority drops on EOI, and the deactivation is a step of its own, left to the guest for
 * interrupts forwarded to it.
 */
import { InternalError } from "../base/errors.ts";
import * as gicModule from "../arm/arch/gic.ts";
import { GICD } from "../arm/arch/gic.ts";
import type { El2Port } from "../arm/el2_port.ts";
import type { HostHardware } from "./hardware.ts";
import { HostCpu } from "./host_cpu.ts";
import { GicV2Chip } from "./irq_gic.ts";
import { GicV3Chip } from "./irq_gic_v3.ts";

// Of the module itself: what is imported V8 looks up and checks at each use.
const { INTID } = gicModule;
/** Interrupts that can have handlers: all but LPIs. */
const INTIDS = gicModule.INTID.FIRST_SPECIAL;

/** Software-generated interrupts between physical CPUs, by Linux's numbers. */
export const IPI = { RESCHEDULE: 0, CALL_FUNC: 1 } as const;

/** Private interrupts of the host and of what KVM gives to guests. */
export const PPI = { PMU: 23, MAINTENANCE: 25, HYP_TIMER: 26, VTIMER: 27, PTIMER: 30 } as const;

/** A handler, run with interrupts off on the CPU that took the interrupt. */
export type IrqHandler = (intid: number, pcpu: number) => void;

interface IrqDescriptor {
  readonly handler: IrqHandler;
  /** Deactivated by the guest that it is forwarded to (irq_set_vcpu_affinity). */
  readonly forwarded: boolean;
}

/** struct irq_chip: what a driver does. `irqstat` is what its acknowledge register gave. */
export interface IrqChip {
  /** The distributor, once: all SPIs off. */
  initDistributor(): void;
  /** One CPU's private interrupts and its CPU interface, with the interrupts of `enabled` on; `vhe`: at EL2. */
  initCpu(pcpu: number, enabled: readonly number[], vhe: boolean): void;
  /** Turns an SPI on, routed to physical CPU `target`. */
  enableSpi(pcpu: number, intid: number, target: number): void;
  acknowledge(port: El2Port): number;
  intidOf(irqstat: number): number;
  /** Drops the priority. */
  eoi(port: El2Port, irqstat: number): void;
  deactivate(port: El2Port, irqstat: number): void;
  sendIpi(from: number, to: number, ipi: number): void;
  /** Physical address of the word with the interrupt's bit, of the registers at `offset` of the distributor. */
  bitRegister(pcpu: number, intid: number, offset: number): number;
}

/** Interrupts of all physical CPUs. */
export class Irqs {
  /** By interrupt. */
  readonly #table: (IrqDescriptor | undefined)[] = new Array<undefined>(INTIDS).fill(undefined);
  readonly #chip: IrqChip;
  readonly #cpus: readonly HostCpu[];

  constructor(readonly hardware: HostHardware) {
    const { pcpus } = hardware;
    this.#cpus = Array.from({ length: pcpus }, (_, pcpu) => new HostCpu(hardware, pcpu));
    this.#chip = hardware.gic.type === 2 ? new GicV2Chip(hardware) : new GicV3Chip(hardware);
  }

  /** request_irq: a handler for `intid`; with `forwarded`, the guest deactivates it. */
  request(intid: number, handler: IrqHandler, forwarded = false): void {
    if (this.#table[intid] !== undefined) {
      throw new InternalError(`interrupt ${intid} has a handler`);
    }
    this.#table[intid] = { handler, forwarded };
  }

  /** The distributor, once. */
  initDistributor(): void {
    this.#chip.initDistributor();
  }

  /** One CPU's side, with the private interrupts of `enabled` on. `vhe`: the kernel is at EL2. */
  initCpu(pcpu: number, enabled: readonly number[], vhe = true): void {
    this.#chip.initCpu(pcpu, enabled, vhe);
  }

  /** Turns an SPI on, routed to physical CPU `target`. */
  enableSpi(pcpu: number, intid: number, target: number): void {
    this.#chip.enableSpi(pcpu, intid, target);
  }

  /** Takes every interrupt that is pending on this CPU: acknowledge, drop the priority, handle, deactivate. */
  dispatch(pcpu: number): void {
    const chip = this.#chip, cpu = this.#cpus[pcpu] as HostCpu, { port } = cpu;
    while (cpu.irqPending) {
      const irqstat = chip.acknowledge(port);
      const intid = chip.intidOf(irqstat);
      if (intid >= INTID.FIRST_SPECIAL && intid < INTID.END_SPECIAL) return;
      const irq = intid < INTIDS ? this.#table[intid] : undefined;
      chip.eoi(port, irqstat);
      port.isb();
      irq?.handler(intid, pcpu);
      if (irq === undefined || !irq.forwarded) chip.deactivate(port, irqstat);
    }
  }

  /** Sends software-generated interrupt `ipi` from CPU `from` to CPU `to`. */
  sendIpi(from: number, to: number, ipi: number): void {
    this.#chip.sendIpi(from, to, ipi);
  }

  /** irq_set_irqchip_state(IRQCHIP_STATE_ACTIVE): private interrupts are those of CPU `pcpu`. */
  setActive(pcpu: number, intid: number, active: boolean): void {
    this.#set(pcpu, intid, active ? GICD.ISACTIVER : GICD.ICACTIVER);
  }

  /** irq_set_irqchip_state(IRQCHIP_STATE_PENDING). */
  setPending(pcpu: number, intid: number, pending: boolean): void {
    this.#set(pcpu, intid, pending ? GICD.ISPENDR : GICD.ICPENDR);
  }

  /** irq_get_irqchip_state(IRQCHIP_STATE_ACTIVE). */
  getActive(pcpu: number, intid: number): boolean {
    return this.#get(pcpu, intid, GICD.ISACTIVER);
  }

  /** irq_get_irqchip_state(IRQCHIP_STATE_PENDING). */
  getPending(pcpu: number, intid: number): boolean {
    return this.#get(pcpu, intid, GICD.ISPENDR);
  }

  #set(pcpu: number, intid: number, offset: number): void {
    this.hardware.mmioWrite(pcpu, this.#chip.bitRegister(pcpu, intid, offset), bit(intid));
  }

  #get(pcpu: number, intid: number, offset: number): boolean {
    const word = this.hardware.mmioRead(pcpu, this.#chip.bitRegister(pcpu, intid, offset));
    return (word & bit(intid)) !== 0;
  }
}

const bit = (intid: number): number => (1 << (intid & 31)) >>> 0;
