/**
 * The machine's interrupt controller: a GICv3 with virtualization, one Security state, affinity
 * routing always on, no LPIs (IHI 0069). All state lies in the arena; after memory was changed from
 * outside (a snapshot put back) {@link Gicv3.updateAll} rebuilds what is derived from it.
 *
 * Every entry point leaves the CPUs' interrupt lines and the maintenance interrupts up to date, so
 * nobody has to ask. What an operation can reach decides who is refreshed: registers of a CPU and
 * lines refresh the CPU concerned, writes to the distributor all of them.
 */
import type { Arena } from "../../base/arena.ts";
import { assert } from "../../base/errors.ts";
import type { SharedMemory } from "../../base/memory.ts";
import { type Cpu, LINE } from "../arch/cpu_state.ts";
import {
  GICR_FRAME_SIZE,
  GICR_SIZE,
  INTID,
  MAINTENANCE_INTID,
  packedAffinity,
} from "../arch/gic.ts";
import { CpuInterface, ICC_REGISTERS } from "./cpu_interface.ts";
import { Distributor, DISTRIBUTOR_REGIONS } from "./distributor.ts";
import { Interrupts } from "./interrupts.ts";
import { Redistributor, REDISTRIBUTOR_REGIONS } from "./redistributor.ts";
import type { RegisterTable } from "./register_table.ts";
import { MAX_LRS, VirtualInterface } from "./virtual_interface.ts";
import { ichRegisters, ICV_REGISTERS } from "./virtual_registers.ts";

/** Machine parameters of the interrupt controller. */
export interface Gicv3Options {
  /** The CPUs in order of their number, `mpidr` already set and distinct. */
  readonly cpus: readonly Cpu[];
  /** List registers per CPU, 1 to 16. */
  readonly lrs: number;
  /** SPIs, a multiple of 32 from 32 to 960; 224 unless told. */
  readonly spis?: number;
  /** Whether SGIs can name Aff0 above 15 (RSS). */
  readonly rangeSelector?: boolean;
  /** Make views of a controller that already lies in the arena's memory, instead of resetting it. */
  readonly attach?: boolean;
}

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
const PHYSICAL = LINE.IRQ | LINE.FIQ;
const VIRTUAL = LINE.VIRQ | LINE.VFIQ;

/** The interrupt controller. Values are in 32-bit halves. */
export class Gicv3 {
  /** Bits 63 to 32 of what the last read gave; the read's result is bits 31 to 0. */
  hi = 0;
  /** Called when the lines of a CPU changed, after `cpu.irqLines` is set. */
  linesChanged: (cpuIndex: number) => void = () => {};
  /** Called when a guest acknowledges a virtual interrupt, and when it deactivates one. For whoever watches. */
  virtualAcknowledged: ((cpuIndex: number, intid: number) => void) | undefined;
  virtualDeactivated: ((cpuIndex: number, intid: number) => void) | undefined;

  readonly lrs: number;
  readonly dist: Distributor;
  readonly redists: readonly Redistributor[];
  readonly interrupts: Interrupts;
  readonly #cpus: readonly Cpu[];
  readonly #interfaces: readonly CpuInterface[];
  readonly #virtuals: readonly VirtualInterface[];
  readonly #ich: RegisterTable<VirtualInterface>;

  constructor(_memory: SharedMemory, arena: Arena, options: Gicv3Options) {
    const { cpus, lrs, spis = 224, rangeSelector = false, attach = false } = options;
    assert(lrs >= 1 && lrs <= MAX_LRS, `${lrs} list registers: 1 to ${MAX_LRS} are possible`);
    assert(
      spis >= 32 && spis <= MAX_SPIS && spis % 32 === 0,
      `${spis} SPIs: a multiple of 32 to ${MAX_SPIS}`,
    );
    this.lrs = lrs;
    this.#cpus = cpus;
    this.dist = new Distributor(arena, { spis, rangeSelector });
    this.redists = cpus.map((cpu, n) =>
      new Redistributor(arena, n, packedAffinity(cpu.mpidr), n === cpus.length - 1)
    );
    this.interrupts = new Interrupts(
      this.dist,
      this.redists,
      rangeSelector,
      (cpu) => this.#refreshPhysical(cpu),
    );
    const deactivate = (cpu: number, intid: number) => this.interrupts.deactivate(cpu, intid);
    this.#interfaces = cpus.map((_, n) => new CpuInterface(arena, n, this.interrupts));
    this.#virtuals = cpus.map((_, n) =>
      new VirtualInterface(arena, n, lrs, rangeSelector, deactivate)
    );
    this.#virtuals.forEach((virtual, n) => {
      virtual.deactivated = (intid) => this.virtualDeactivated?.(n, intid);
    });
    this.#ich = ichRegisters(lrs);
    if (!attach) this.reset();
  }

  /** Puts the whole controller to its reset state; input lines go low. */
  reset(): void {
    this.dist.reset();
    for (const redist of this.redists) redist.reset();
    for (const cpuInterface of this.#interfaces) cpuInterface.reset();
    for (const virtual of this.#virtuals) virtual.reset();
    this.updateAll();
  }

  /** The physical CPU interface of a CPU. */
  cpuInterface(cpuIndex: number): CpuInterface {
    return this.#interfaces[cpuIndex] as CpuInterface;
  }

  /** The virtual CPU interface of a CPU. */
  virtualInterface(cpuIndex: number): VirtualInterface {
    return this.#virtuals[cpuIndex] as VirtualInterface;
  }

  /** Recomputes `irqLines` (IRQ, FIQ, VIRQ, VFIQ) and the maintenance interrupt of a CPU. */
  update(cpuIndex: number): void {
    this.#refreshPhysical(cpuIndex);
    this.#refreshVirtual(cpuIndex);
  }

  /** The same for every CPU. */
  updateAll(): void {
    for (let n = 0; n < this.#cpus.length; n++) this.update(n);
  }

  #refreshPhysical(n: number): void {
    this.#setLines(n, PHYSICAL, this.cpuInterface(n).refresh());
  }

  #refreshVirtual(n: number): void {
    const virtual = this.virtualInterface(n);
    this.#setLines(n, VIRTUAL, virtual.lines());
    this.interrupts.drive(n, MAINTENANCE_INTID, virtual.maintenance);
  }

  #setLines(n: number, mask: number, lines: number): void {
    const cpu = this.#cpus[n] as Cpu;
    const before = cpu.irqLines;
    const after = (before & ~mask) | lines;
    if (after === before) return;
    cpu.irqLines = after;
    this.linesChanged(n);
  }

  /** Whether the ICC or ICH register exists in this machine; an access to one that does not is UNDEFINED. */
  implemented(reg: number): boolean {
    return ICC_REGISTERS.has(reg) || this.#ich.has(reg);
  }

  /** Whether an access to this ICC register can be redirected to the virtual interface. */
  isVirtualizable(reg: number): boolean {
    return ICV_REGISTERS.has(reg);
  }

  /** Reads `size` (1, 2, 4 or 8) bytes of the distributor: bits 31 to 0, the upper half in `hi`. */
  distRead(offset: number, size: number): number {
    const lo = DISTRIBUTOR_REGIONS.read(this.dist, offset, size);
    this.hi = DISTRIBUTOR_REGIONS.hi;
    return lo >>> 0;
  }

  /** Writes `size` bytes of the distributor; `hi` counts for 8 bytes. */
  distWrite(offset: number, size: number, lo: number, hi = 0): void {
    if (!DISTRIBUTOR_REGIONS.write(this.dist, offset, size, lo, hi)) return;
    this.interrupts.everyCpuChanged();
  }

  /** Reads the redistributor region, 128 KiB per CPU; outside it zero. */
  redistRead(offset: number, size: number): number {
    this.hi = 0;
    const redist = this.redists[Math.floor(offset / GICR_SIZE)];
    if (!redist) return 0;
    const lo = REDISTRIBUTOR_REGIONS.read(redist, offset % GICR_SIZE, size);
    this.hi = REDISTRIBUTOR_REGIONS.hi;
    return lo >>> 0;
  }

  /** Writes the redistributor region. */
  redistWrite(offset: number, size: number, lo: number, hi = 0): void {
    const redist = this.redists[Math.floor(offset / GICR_SIZE)];
    const inFrames = offset % GICR_SIZE;
    if (!redist || !REDISTRIBUTOR_REGIONS.write(redist, inFrames, size, lo, hi)) return;
    // Waking up or going to sleep moves 1-of-N interrupts; the SGI frame concerns its CPU alone.
    if (inFrames < GICR_FRAME_SIZE) this.interrupts.everyCpuChanged();
    else this.#refreshPhysical(redist.index);
  }

  /** Reads an ICC register of the physical interface. */
  iccRead(cpuIndex: number, reg: number): number {
    const row = ICC_REGISTERS.row(reg);
    this.hi = 0;
    const lo = row.read ? row.read(this.cpuInterface(cpuIndex)) : 0;
    if (row.readActs) this.#refreshPhysical(cpuIndex);
    return lo >>> 0;
  }

  /** Writes an ICC register of the physical interface. */
  iccWrite(cpuIndex: number, reg: number, lo: number, hi: number): void {
    ICC_REGISTERS.row(reg).write?.(this.cpuInterface(cpuIndex), lo, hi);
    this.#refreshPhysical(cpuIndex);
  }

  /** Reads the ICV register that stands behind an ICC name for the guest. */
  icvRead(cpuIndex: number, reg: number): number {
    const row = ICV_REGISTERS.row(reg);
    this.hi = 0;
    const lo = row.read ? row.read(this.virtualInterface(cpuIndex)) : 0;
    if (row.readActs) {
      this.#refreshVirtual(cpuIndex);
      const special = lo >= INTID.FIRST_SPECIAL && lo < INTID.END_SPECIAL;
      if (!special) this.virtualAcknowledged?.(cpuIndex, lo);
    }
    return lo >>> 0;
  }

  /** Writes the ICV register that stands behind an ICC name for the guest. */
  icvWrite(cpuIndex: number, reg: number, lo: number, hi: number): void {
    ICV_REGISTERS.row(reg).write?.(this.virtualInterface(cpuIndex), lo, hi);
    this.#refreshVirtual(cpuIndex);
  }

  /** Reads an ICH register: bits 31 to 0, the upper half in `hi`. */
  ichRead(cpuIndex: number, reg: number): number {
    const row = this.#ich.row(reg);
    const virtual = this.virtualInterface(cpuIndex);
    this.hi = row.readHi ? row.readHi(virtual) : 0;
    return row.read ? row.read(virtual) >>> 0 : 0;
  }

  /** Writes an ICH register. */
  ichWrite(cpuIndex: number, reg: number, lo: number, hi: number): void {
    this.#ich.row(reg).write?.(this.virtualInterface(cpuIndex), lo, hi);
    this.#refreshVirtual(cpuIndex);
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
      target: intid < INTID.FIRST_SPI ? cpuIndex : this.interrupts.target(intid),
    };
  }
}
