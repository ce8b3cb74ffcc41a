/**
 * What is GICv3's own about interrupts: affinity routing and SGIs by system register (IHI 0069, 4.6 and
 * 12.2).
 */
import { fieldOf, SGIR_HI, SGIR_LO } from "../arch/gic.ts";
import type { Bank } from "./bank.ts";
import type { Distributor } from "./distributor.ts";
import { Interrupts } from "./interrupts.ts";
import type { Redistributor } from "./redistributor.ts";

// V8 folds what it knows of a constant of the module itself, and has to look up imported ones: functions, too.
const LO = SGIR_LO, HI = SGIR_HI, field = fieldOf;

/** The distributor and redistributors together. */
export class Gicv3Interrupts extends Interrupts {
  declare readonly dist: Distributor;
  declare readonly redists: readonly Redistributor[];
  /** Whether ICC_SGI*R_EL1.RS is looked at. */
  declare readonly rangeSelector: boolean;
  /** The CPUs' packed affinities. */
  declare private readonly affinities: Int32Array;

  constructor(dist: Distributor, redists: readonly Redistributor[], rangeSelector: boolean) {
    super(dist.bank, redists.map(({ bank }) => bank));
    this.dist = dist;
    this.redists = redists;
    this.rangeSelector = rangeSelector;
    this.affinities = Int32Array.from(redists, ({ affinity }) => affinity);
  }

  /** The redistributor of CPU `cpu`. */
  redist(cpu: number): Redistributor {
    return this.redists[cpu] as Redistributor;
  }

  /** The CPU that SPI `intid` goes to now, or -1. */
  target(intid: number): number {
    if (this.dist.routedToAny(intid)) return this.#anyTarget(intid);
    const affinity = this.dist.route(intid);
    for (let cpu = 0; cpu < this.redists.length; cpu++) {
      if (this.redist(cpu).affinity === affinity) return cpu;
    }
    return -1;
  }

  #anyTarget(intid: number): number {
    const group = this.dist.bank.test(this.dist.bank.group, intid) ? 2 : 1;
    for (let cpu = 0; cpu < this.redists.length; cpu++) {
      if ((this.redist(cpu).forwarded & group) !== 0) return cpu;
    }
    return -1;
  }

  protected override isFor(cpu: number, intid: number): boolean {
    return this.target(intid) === cpu;
  }

  protected override tellTargets(intid: number): void {
    const to = this.target(intid);
    if (to >= 0) this.changed(to);
  }

  /**
   * An SGI from CPU `from` as written to ICC_SGI0R_EL1 or ASGI1R_EL1 (`group` 0) or SGI1R_EL1 (1): it
   * becomes pending where its INTID is configured for that group (IHI 0069, table 12-18, DS = 1).
   */
  sendSgi(from: number, lo: number, hi: number, group: number): void {
    const { affinities } = this, toOthers = (hi & HI.IRM) !== 0;
    const cluster = (field(hi, HI.Aff3) << 16) | (field(hi, HI.Aff2) << 8) |
      field(lo, LO.Aff1);
    const first = this.rangeSelector ? 16 * field(hi, HI.RS) : 0;
    for (let cpu = 0; cpu < affinities.length; cpu++) {
      const affinity = affinities[cpu] as number;
      const named = affinity >>> 8 === cluster && isListed(lo, (affinity & 0xff) - first);
      if (toOthers ? cpu !== from : named) this.#makePending(cpu, field(lo, LO.INTID), group);
    }
  }

  #makePending(cpu: number, intid: number, group: number): void {
    if ((this.privates[cpu] as Bank).makePending(intid, group)) this.changed(cpu);
  }
}

/** Whether TargetList, in bits 15 to 0, has bit `at`. */
function isListed(list: number, at: number): boolean {
  return at >= 0 && at < 16 && ((list >>> at) & 1) !== 0;
}
