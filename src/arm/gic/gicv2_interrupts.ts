/**
 * What is GICv2's own about interrupts: SPIs for a set of CPUs (GICD_ITARGETSR), and SGIs that are
 * pending once for each CPU that sent them (IHI 0048, 3.2 and 4.3).
 *
 * Choices where it is implementation defined: an SPI for several CPUs is shown to all of them, and the
 * first to acknowledge it has it; of an SGI sent by several CPUs the lowest numbered one's is taken
 * first; an SGI is active or not, whoever sent it.
 */
import { fieldOf, INTID } from "../arch/gic.ts";
import { GICC_IAR, GICD_SGIR, SGIR_FILTER } from "../arch/gicv2.ts";
import type { Gicv2Distributor } from "./gicv2_distributor.ts";
import { Interrupts } from "./interrupts.ts";
import { lowestBit } from "./priorities.ts";

/** The distributor's interrupts as the CPU interfaces see them. */
export class Gicv2Interrupts extends Interrupts {
  constructor(readonly dist: Gicv2Distributor) {
    super(dist.bank, dist.cpus.map(({ bank }) => bank));
  }

  protected override isFor(cpu: number, intid: number): boolean {
    return ((this.dist.targets(intid) >>> cpu) & 1) !== 0;
  }

  protected override tellTargets(intid: number): void {
    for (let mask = this.dist.targets(intid); mask !== 0; mask &= mask - 1) {
      this.changed(lowestBit(mask));
    }
  }

  override acknowledge(cpu: number, intid: number): number {
    if (intid < INTID.FIRST_PPI) return this.#acknowledgeSgi(cpu, intid);
    super.acknowledge(cpu, intid);
    if (intid >= INTID.FIRST_SPI) this.tellTargets(intid);
    return intid;
  }

  /** The CPU whose SGI `intid` CPU `cpu` would take next. */
  sourceOf(cpu: number, intid: number): number {
    return lowestBit(this.dist.sources(cpu, intid));
  }

  #acknowledgeSgi(cpu: number, intid: number): number {
    const { bank } = this.dist.cpu(cpu);
    const sources = this.dist.sources(cpu, intid);
    bank.put(bank.active, intid, true);
    this.dist.setSources(cpu, intid, sources & (sources - 1));
    return intid | (lowestBit(sources) << GICC_IAR.CPUID.shift);
  }

  /** CPU `from` writes GICD_SGIR. */
  sendSgi(from: number, value: number): void {
    const intid = fieldOf(value, GICD_SGIR.INTID);
    const filter = fieldOf(value, GICD_SGIR.TargetListFilter);
    let targets = fieldOf(value, GICD_SGIR.CPUTargetList);
    if (filter === SGIR_FILTER.OTHERS) targets = ~(1 << from);
    else if (filter === SGIR_FILTER.SELF) targets = 1 << from;
    else if (filter !== SGIR_FILTER.LIST) return;
    for (let cpu = 0; cpu < this.privates.length; cpu++) {
      if (((targets >>> cpu) & 1) === 0) continue;
      this.dist.setSources(cpu, intid, this.dist.sources(cpu, intid) | (1 << from));
      this.changed(cpu);
    }
  }
}
