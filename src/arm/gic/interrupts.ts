/**
 * All interrupts of the machine: which is the highest pending one of a CPU, and the transitions that
 * lines, acknowledgement and deactivation make (IHI 0069, 4.1; IHI 0048, 3.2). What a GICv2 and a GICv3
 * do differently (which CPU an SPI is for, SGIs) is in gicv2_interrupts.ts and gicv3_interrupts.ts.
 * Whatever changes an interrupt tells the CPU concerned through `changed`.
 */
import { INTID } from "../arch/gic.ts";
import type { Bank } from "./bank.ts";
import { lowestBit } from "./priorities.ts";

// V8 folds what it knows of a constant of the module itself, and has to look up imported ones.
const SPURIOUS = INTID.SPURIOUS;
/** Below every priority. */
const NO_PRIORITY = 0x100;

/** The interrupts of one controller. */
export abstract class Interrupts {
  /** Priority of what {@link highestPending} found. */
  foundPriority = NO_PRIORITY;
  #found: number = SPURIOUS;

  constructor(
    /** The SPIs; and each CPU's SGIs and PPIs. */
    readonly spis: Bank,
    readonly privates: readonly Bank[],
    /** Recomputes what the CPU with this number is told. */
    readonly changed: (cpu: number) => void,
  ) {}

  /** The groups (bit 0 and 1) that are forwarded to CPU `cpu` at all. */
  protected abstract forwarded(cpu: number): number;

  /** Whether SPI `intid` is for CPU `cpu` now. */
  protected abstract isFor(cpu: number, intid: number): boolean;

  /** Tells the CPUs that SPI `intid` is for. */
  protected abstract tellTargets(intid: number): void;

  /** Whether `intid` is an implemented SPI. */
  #hasSpi(intid: number): boolean {
    return intid < INTID.END_SPI && this.spis.has(intid >>> 5);
  }

  /** The bank that holds `intid` as CPU `cpu` sees it, or undefined when not implemented. */
  bankOf(cpu: number, intid: number): Bank | undefined {
    if (intid < INTID.FIRST_SPI) return this.privates[cpu];
    return this.#hasSpi(intid) ? this.spis : undefined;
  }

  /**
   * The highest priority interrupt that is pending, not active, enabled, of an enabled group and for
   * CPU `cpu`, the lowest INTID among equals; SPURIOUS if there is none. An interrupt of a group that
   * the CPU interface disables is not forwarded, so it hides no other.
   */
  highestPending(cpu: number): number {
    this.#found = SPURIOUS;
    this.foundPriority = NO_PRIORITY;
    const groups = this.forwarded(cpu);
    if (groups === 0) return SPURIOUS;
    const own = this.privates[cpu] as Bank;
    const candidates = own.candidateWord(0);
    if (candidates !== 0) this.#choose(own, 0, candidates, groups, -1);
    this.#chooseSpi(groups, cpu);
    return this.#found;
  }

  #chooseSpi(groups: number, cpu: number): void {
    const { spis } = this;
    const { words, end } = spis, enable = spis.enable >>> 2;
    for (let w = spis.first; w < end; w++) {
      // Most words have no interrupt that is enabled.
      if (words[(enable + w) | 0] === 0) continue;
      const candidates = spis.candidateWord(w);
      if (candidates !== 0) this.#choose(spis, w, candidates, groups, cpu);
    }
  }

  /** Looks at these of 32 interrupts; `cpu`: the one that an SPI must be for, -1 for private interrupts. */
  #choose(bank: Bank, w: number, of: number, groups: number, cpu: number): void {
    let candidates = of;
    const ofGroup1 = bank.memory.ldi32(bank.group + 4 * w);
    if ((groups & 1) === 0) candidates &= ofGroup1;
    if ((groups & 2) === 0) candidates &= ~ofGroup1;
    for (; candidates !== 0; candidates &= candidates - 1) {
      const intid = 32 * w + lowestBit(candidates);
      const priority = bank.priorityOf(intid);
      if (priority >= this.foundPriority) continue;
      if (cpu >= 0 && !this.isFor(cpu, intid)) continue;
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
    if (intid < INTID.FIRST_SPI) this.changed(cpu);
    else this.tellTargets(intid);
  }

  /** Drives the line of `intid`, of CPU `cpu` if private. Not implemented ones and SGIs have none. */
  drive(cpu: number, intid: number, level: boolean): void {
    if (intid < INTID.FIRST_PPI) return;
    if (this.bankOf(cpu, intid)?.drive(intid, level)) this.#tell(cpu, intid);
  }

  /** CPU `cpu` acknowledges `intid`: active, latch cleared. What its acknowledge register reads as. */
  acknowledge(cpu: number, intid: number): number {
    this.bankOf(cpu, intid)?.acknowledge(intid);
    return intid;
  }

  /** Active to inactive, or active and pending to pending; other states stay. */
  deactivate(cpu: number, intid: number): void {
    const bank = this.bankOf(cpu, intid);
    if (!bank || !bank.test(bank.active, intid)) return;
    bank.put(bank.active, intid, false);
    // What is not pending besides concerns nobody now.
    if ((bank.candidateWord(intid >>> 5) & (1 << (intid & 31))) !== 0) this.#tell(cpu, intid);
  }

  /** What may concern any CPU has changed. */
  everyCpuChanged(): void {
    for (let cpu = 0; cpu < this.privates.length; cpu++) this.changed(cpu);
  }
}
