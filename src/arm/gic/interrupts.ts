/**
 * All interrupts of the machine: which CPU an interrupt is for, which is the highest pending one, and
 * the transitions that lines, acknowledgement, deactivation and SGIs make (IHI 0069, 4.1 and 4.6).
 * Whatever changes an interrupt tells the CPU concerned through `changed`.
 */
import { fieldOf, INTID, SGIR_HI, SGIR_LO } from "../arch/gic.ts";
import type { Bank } from "./bank.ts";
import type { Distributor } from "./distributor.ts";
import { lowestBit } from "./priorities.ts";
import type { Redistributor } from "./redistributor.ts";

/** Below every priority. */
const NO_PRIORITY = 0x100;

/** The distributor and redistributors together. */
export class Interrupts {
  /** Priority of what {@link highestPending} found. */
  foundPriority = NO_PRIORITY;
  #found: number = INTID.SPURIOUS;

  constructor(
    readonly dist: Distributor,
    readonly redists: readonly Redistributor[],
    /** Whether ICC_SGI*R_EL1.RS is looked at. */
    readonly rangeSelector: boolean,
    /** Recomputes what the CPU with this number is told. */
    readonly changed: (cpu: number) => void,
  ) {}

  /** The redistributor of CPU `cpu`. */
  redist(cpu: number): Redistributor {
    return this.redists[cpu] as Redistributor;
  }

  /** The bank that holds `intid` as CPU `cpu` sees it, or undefined when not implemented. */
  bankOf(cpu: number, intid: number): Bank | undefined {
    if (intid < INTID.FIRST_SPI) return this.redist(cpu).bank;
    return this.dist.has(intid) ? this.dist.bank : undefined;
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
      const redist = this.redist(cpu);
      if (redist.awake && (redist.state.groups & group) !== 0) return cpu;
    }
    return -1;
  }

  /**
   * The highest priority interrupt that is pending, not active, enabled, of an enabled group and for
   * CPU `cpu`, the lowest INTID among equals; SPURIOUS if there is none. An interrupt of a group that
   * the CPU interface disables is not forwarded, so it hides no other.
   */
  highestPending(cpu: number): number {
    this.#found = INTID.SPURIOUS;
    this.foundPriority = NO_PRIORITY;
    const redist = this.redist(cpu);
    const groups = this.dist.groups & redist.state.groups;
    if (groups === 0 || !redist.awake) return INTID.SPURIOUS;
    this.#scan(redist.bank, 0, groups, -1);
    const { bank } = this.dist;
    for (let w = bank.first; w < bank.end; w++) this.#scan(bank, w, groups, cpu);
    return this.#found;
  }

  /** Looks at 32 interrupts; `cpu`: the one that an SPI must be for, -1 for private interrupts. */
  #scan(bank: Bank, w: number, groups: number, cpu: number): void {
    let candidates = bank.candidateWord(w);
    if (candidates === 0) return;
    const ofGroup1 = bank.memory.ldi32(bank.group + 4 * w);
    if ((groups & 1) === 0) candidates &= ofGroup1;
    if ((groups & 2) === 0) candidates &= ~ofGroup1;
    for (; candidates !== 0; candidates &= candidates - 1) {
      const intid = 32 * w + lowestBit(candidates);
      const priority = bank.priorityOf(intid);
      if (priority >= this.foundPriority) continue;
      if (cpu >= 0 && this.target(intid) !== cpu) continue;
      this.#found = intid;
      this.foundPriority = priority;
    }
  }

  /** 0 or 1. */
  groupOf(cpu: number, intid: number): number {
    const bank = this.bankOf(cpu, intid);
    return bank && bank.test(bank.group, intid) ? 1 : 0;
  }

  #tell(cpu: number, intid: number): void {
    const to = intid < INTID.FIRST_SPI ? cpu : this.target(intid);
    if (to >= 0) this.changed(to);
  }

  /** Drives the line of `intid`, of CPU `cpu` if private. Not implemented ones and SGIs have none. */
  drive(cpu: number, intid: number, level: boolean): void {
    if (intid < INTID.FIRST_PPI) return;
    if (this.bankOf(cpu, intid)?.drive(intid, level)) this.#tell(cpu, intid);
  }

  /** CPU `cpu` acknowledges `intid`: active, latch cleared. */
  acknowledge(cpu: number, intid: number): void {
    this.bankOf(cpu, intid)?.acknowledge(intid);
  }

  /** Active to inactive, or active and pending to pending; other states stay. */
  deactivate(cpu: number, intid: number): void {
    const bank = this.bankOf(cpu, intid);
    if (!bank || !bank.test(bank.active, intid)) return;
    bank.put(bank.active, intid, false);
    this.#tell(cpu, intid);
  }

  /** CPU `cpu` changed what it takes: where 1-of-N interrupts go may have changed for all. */
  everyCpuChanged(): void {
    for (let cpu = 0; cpu < this.redists.length; cpu++) this.changed(cpu);
  }

  /**
   * An SGI from CPU `from` as written to ICC_SGI0R_EL1 or ASGI1R_EL1 (`group` 0) or SGI1R_EL1 (1): it
   * becomes pending where its INTID is configured for that group (IHI 0069, table 12-18, DS = 1).
   */
  sendSgi(from: number, lo: number, hi: number, group: number): void {
    const intid = fieldOf(lo, SGIR_LO.INTID);
    for (let cpu = 0; cpu < this.redists.length; cpu++) {
      if (!this.#isSgiTarget(cpu, from, lo, hi) || this.groupOf(cpu, intid) !== group) continue;
      const { bank } = this.redist(cpu);
      bank.put(bank.latch, intid, true);
      this.changed(cpu);
    }
  }

  #isSgiTarget(cpu: number, from: number, lo: number, hi: number): boolean {
    if (hi & SGIR_HI.IRM) return cpu !== from;
    const { affinity } = this.redist(cpu);
    const aff321 = (fieldOf(hi, SGIR_HI.Aff3) << 16) | (fieldOf(hi, SGIR_HI.Aff2) << 8) |
      fieldOf(lo, SGIR_LO.Aff1);
    const range = this.rangeSelector ? fieldOf(hi, SGIR_HI.RS) : 0;
    const at = (affinity & 0xff) - 16 * range;
    return affinity >>> 8 === aff321 && at >= 0 && at < 16 && ((lo >>> at) & 1) !== 0;
  }
}
