/**
 * What the machine has of an interrupt controller, whichever version it is: lines in, lines of the CPUs
 * out, and the virtual CPU interfaces.
 */
import { assert } from "../../base/errors.ts";
import type { Cpu } from "../arch/cpu_state.ts";
import { INTID } from "../arch/gic.ts";
import type { CpuInterface } from "./cpu_interface.ts";
import { CpuLines, type LinesListener } from "./cpu_lines.ts";
import type { Interrupts } from "./interrupts.ts";
import type { VirtualInterface, VirtualWatcher } from "./virtual_interface.ts";
import { MAX_LRS } from "./virtual_layout.ts";

/** What is known of one interrupt, for people. */
export interface InterruptView {
  readonly intid: number;
  readonly group: 0 | 1;
  readonly enabled: boolean;
  /** The pending latch, apart from the line. */
  readonly latch: boolean;
  readonly level: boolean;
  readonly pending: boolean;
  readonly active: boolean;
  readonly edge: boolean;
  readonly priority: number;
  /** The CPU it goes to now, or -1. */
  readonly target: number;
}

/** The most SPIs in whole words below the special INTIDs. */
const MAX_SPIS = 960;
/** Machine parameters of an interrupt controller. */
export interface GicOptions {
  /** The CPUs in order of their number, `mpidr` already set and distinct. */
  readonly cpus: readonly Cpu[];
  /** List registers per CPU, 1 to 16. */
  readonly lrs: number;
  /** SPIs, a multiple of 32 from 32 to 960; 224 unless told. */
  readonly spis?: number;
  /** Make views of a controller that already lies in the arena's memory, instead of resetting it. */
  readonly attach?: boolean;
}

/** Checks what all versions ask of {@link GicOptions}, and gives the number of SPIs. */
export function checkedSpis({ lrs, spis = 224 }: GicOptions): number {
  assert(lrs >= 1 && lrs <= MAX_LRS, `${lrs} list registers: 1 to ${MAX_LRS} are possible`);
  assert(
    spis >= 32 && spis <= MAX_SPIS && spis % 32 === 0,
    `${spis} SPIs: a multiple of 32 to ${MAX_SPIS}`,
  );
  return spis;
}

/**
 * An interrupt controller. All state lies in the arena; after memory was changed from outside (a snapshot
 * put back) {@link Gic.updateAll} rebuilds what is derived from it. Values are in 32-bit halves.
 */
export abstract class Gic implements LinesListener, VirtualWatcher {
  /** Bits 63 to 32 of what the last read gave; the read's result is bits 31 to 0. */
  hi = 0;
  /** Called when the lines of a CPU changed, after `cpu.irqLines` is set. */
  linesChanged: (cpuIndex: number) => void = () => {};
  /** Called when a guest acknowledges a virtual interrupt, and when it deactivates one. For whoever watches. */
  virtualAcknowledged: ((cpuIndex: number, intid: number) => void) | undefined;
  virtualDeactivated: ((cpuIndex: number, intid: number) => void) | undefined;

  abstract readonly version: 2 | 3;
  abstract readonly interrupts: Interrupts;

  /** The lines of {@link cpus}. */
  protected readonly lines: readonly CpuLines[];

  constructor(readonly cpus: readonly Cpu[], readonly lrs: number) {
    this.lines = cpus.map((cpu, n) => new CpuLines(cpu, n, this));
  }

  /** The physical CPU interface of a CPU. */
  abstract cpuInterface(cpuIndex: number): CpuInterface;

  /** The virtual CPU interface of a CPU. */
  abstract virtualInterface(cpuIndex: number): VirtualInterface;

  /** Puts the whole controller to its reset state; input lines go low. */
  abstract reset(): void;

  /**
   * What firmware does at the controller when it switches a CPU on or off: the CPU's redistributor wakes,
   * or goes to sleep. A GICv2 has none.
   */
  cpuPower(_cpuIndex: number, _on: boolean): void {}

  /** The CPU an interrupt goes to now, as CPU `cpuIndex` sees it; -1 for none. */
  protected abstract targetOf(cpuIndex: number, intid: number): number;

  // System registers: none but a GICv3's.

  /** Whether the ICC or ICH register exists in this machine; an access to one that does not is UNDEFINED. */
  abstract implemented(reg: number): boolean;
  /** Whether an access to this ICC register can be redirected to the virtual interface. */
  abstract isVirtualizable(reg: number): boolean;
  abstract iccRead(cpuIndex: number, reg: number): number;
  abstract iccWrite(cpuIndex: number, reg: number, lo: number, hi: number): void;
  abstract icvRead(cpuIndex: number, reg: number): number;
  abstract icvWrite(cpuIndex: number, reg: number, lo: number, hi: number): void;
  abstract ichRead(cpuIndex: number, reg: number): number;
  abstract ichWrite(cpuIndex: number, reg: number, lo: number, hi: number): void;

  /** Recomputes `irqLines` (IRQ, FIQ, VIRQ, VFIQ) and the maintenance interrupt of a CPU. */
  update(cpuIndex: number): void {
    this.cpuInterface(cpuIndex).refresh();
    this.virtualInterface(cpuIndex).refresh();
  }

  /** The state of a CPU's virtual interface was changed by whoever knows where it lies. */
  virtualChanged(cpuIndex: number): void {
    this.virtualInterface(cpuIndex).refresh();
  }

  /** {@link update} for every CPU. */
  updateAll(): void {
    this.interrupts.forget();
    for (let n = 0; n < this.cpus.length; n++) this.update(n);
  }

  /** Drives the input line of an SPI; INTIDs that are not one are ignored. */
  setSpi(intid: number, level: boolean): void {
    if (intid >= INTID.FIRST_SPI) this.interrupts.drive(0, intid, level);
  }

  /** Drives the input line of a PPI (16 to 31) of a CPU. */
  setPpi(cpuIndex: number, intid: number, level: boolean): void {
    if (intid < INTID.FIRST_SPI) this.interrupts.drive(cpuIndex, intid, level);
  }

  /** One interrupt as CPU `cpuIndex` sees it, or undefined when not implemented. */
  interrupt(cpuIndex: number, intid: number): InterruptView | undefined {
    const bank = this.interrupts.bankOf(cpuIndex, intid);
    if (!bank) return undefined;
    const latch = bank.test(bank.latch, intid);
    const level = bank.test(bank.level, intid);
    const edge = bank.test(bank.edge, intid);
    return {
      intid,
      group: bank.test(bank.group, intid) ? 1 : 0,
      enabled: bank.test(bank.enable, intid),
      latch,
      level,
      pending: latch || (level && !edge),
      active: bank.test(bank.active, intid),
      edge,
      priority: bank.priorityOf(intid),
      target: this.targetOf(cpuIndex, intid),
    };
  }
}
