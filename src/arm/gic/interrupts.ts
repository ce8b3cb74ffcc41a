/**
 * All interrupts of the machine: which is the highest pending one of a CPU, and the transitions that
 * lines, acknowledgement and deactivation make (IHI 0069, 4.1; IHI 0048, 3.2). What a GICv2 and a GICv3
 * do differently (which CPU an SPI is for, SGIs) is in gicv2_interrupts.ts and gicv3_interrupts.ts.
 * Whatever changes an interrupt tells the CPU concerned.
 */
import { INTID } from "../arch/gic.ts";
import type { Bank } from "./bank.ts";
import type { CpuInterface } from "./cpu_interface.ts";
import * as priorities from "./priorities.ts";

// V8 folds what it knows of a constant of the module itself, and has to look up imported ones: functions, too.
const { lowestBit } = priorities;
const SPURIOUS = INTID.SPURIOUS, FIRST_SPI = INTID.FIRST_SPI, END_SPI = INTID.END_SPI;

/** What a search has found: INTID in bits 9 to 0, group in bit 15, priority from bit 16 on. Less is of higher priority. */
export type Found = number;
/** Nothing: below every priority. */
export const NOTHING: Found = (0x100 << 16) | SPURIOUS;
const NONE = NOTHING;

/** The interrupts of one controller. */
export abstract class Interrupts {
  // V8 knows what a field holds, if that is the first it has held: without "declare" that were undefined.
  /** The SPIs; and each CPU's SGIs and PPIs. */
  declare readonly spis: Bank;
  declare readonly privates: readonly Bank[];
  /** The SPIs' {@link Bank.quiet} where none is a candidate. */
  declare private readonly allQuiet: number;
  /** The CPUs' interfaces, by number. */
  #interfaces: readonly CpuInterface[] = [];

  constructor(spis: Bank, privates: readonly Bank[]) {
    this.spis = spis;
    this.privates = privates;
    let all = 0;
    for (let w = spis.first; w < spis.end; w++) all |= 1 << w;
    this.allQuiet = all;
  }

  /** Names the CPUs' interfaces, in order of their number. */
  connect(interfaces: readonly CpuInterface[]): void {
    this.#interfaces = interfaces;
  }

  /** Recomputes what CPU `cpu` is told. */
  changed(cpu: number): void {
    (this.#interfaces[cpu] as CpuInterface).refresh();
  }

  /** Whether SPI `intid` is for CPU `cpu` now. */
  protected abstract isFor(cpu: number, intid: number): boolean;

  /** Tells the CPUs that SPI `intid` is for. */
  protected abstract tellTargets(intid: number): void;

  /** Whether `intid` is an implemented SPI. */
  hasSpi(intid: number): boolean {
    return intid < END_SPI && this.spis.has(intid >>> 5);
  }

  /** The bank that holds `intid` as CPU `cpu` sees it, or undefined when not implemented. */
  bankOf(cpu: number, intid: number): Bank | undefined {
    if (intid < FIRST_SPI) return this.privates[cpu];
    return this.hasSpi(intid) ? this.spis : undefined;
  }

  /** Whether nothing can be pending for the CPU whose private interrupts are `own`. */
  isQuiet(own: Bank): boolean {
    return (own.candidateWord(0) | (~this.spis.quiet & this.allQuiet)) === 0;
  }

  /**
   * The highest priority interrupt that is pending, not active, enabled, of the groups (bits 0 and 1) that are
   * forwarded to CPU `cpu`, and for that: one of `own` or an SPI, the lowest INTID among equals. An interrupt of a
   * group that the CPU interface disables is not forwarded, so it hides no other.
   */
  highestPending(cpu: number, own: Bank, groups: number): Found {
    if (groups === 0) return NONE;
    const loud = ~this.spis.quiet & this.allQuiet, candidates = own.candidateWord(0);
    const found = candidates === 0 ? NONE : this.#better(NONE, own, 0, candidates, groups, -1);
    return loud === 0 ? found : this.#betterSpi(found, loud, groups, cpu);
  }

  /** Looks at the SPIs of these words. */
  #betterSpi(than: Found, words: number, groups: number, cpu: number): Found {
    const { spis } = this;
    let found = than;
    for (let left = words; left !== 0; left &= left - 1) {
      const w = lowestBit(left), candidates = spis.candidateWord(w);
      if (candidates === 0) spis.noteQuiet(w);
      else found = this.#better(found, spis, w, candidates, groups, cpu);
    }
    return found;
  }

  /** Looks at these of 32 interrupts; `cpu`: the one that an SPI must be for, -1 for private interrupts. */
  #better(than: Found, bank: Bank, w: number, of: number, groups: number, cpu: number): Found {
    let candidates = of, found = than;
    const ofGroup1 = bank.words[(bank.group + w) | 0] as number;
    if ((groups & 1) === 0) candidates &= ofGroup1;
    if ((groups & 2) === 0) candidates &= ~ofGroup1;
    for (; candidates !== 0; candidates &= candidates - 1) {
      const at = lowestBit(candidates), intid = (w << 5) | at;
      const priority = bank.priorityOf(intid);
      if (priority >= found >>> 16) continue;
      if (cpu >= 0 && !this.isFor(cpu, intid)) continue;
      found = (priority << 16) | (((ofGroup1 >>> at) & 1) << 15) | intid;
    }
    return found;
  }

  #tell(cpu: number, intid: number): void {
    if (intid < FIRST_SPI) this.changed(cpu);
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
    // What is not pending besides concerns nobody now.
    if (bank !== undefined && bank.deactivate(intid)) this.#tell(cpu, intid);
  }

  /** Nothing is known of what is pending: the memory may have been changed from outside. */
  forget(): void {
    this.spis.forget();
  }

  /** What may concern any CPU has changed. */
  everyCpuChanged(): void {
    for (let cpu = 0; cpu < this.privates.length; cpu++) this.changed(cpu);
  }
}
