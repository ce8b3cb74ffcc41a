/**
 * The machine's interrupt controller: a GICv3 with virtualization, one Security state, affinity
 * routing always on, no LPIs (IHI 0069).
 *
 * Every entry point leaves the CPUs' interrupt lines and the maintenance interrupts up to date, so
 * nobody has to ask. What an operation can reach decides who is refreshed: registers of a CPU and
 * lines refresh the CPU concerned, writes to the distributor all of them.
 */
import type { Arena } from "../../base/arena.ts";
import type { SharedMemory } from "../../base/memory.ts";
import {
  GICR_FRAME_SIZE,
  GICR_SGI,
  GICR_SIZE,
  GICR_WAKER,
  INTID,
  packedAffinity,
} from "../arch/gic.ts";
import { R } from "../arch/sysregs.ts";
import { checkedSpis, Gic, type GicOptions } from "./controller.ts";
import { Distributor, DISTRIBUTOR_REGIONS } from "./distributor.ts";
import { Gicv3CpuInterface, ICC_REGISTERS } from "./gicv3_cpu_interface.ts";
import { Gicv3Interrupts } from "./gicv3_interrupts.ts";
import { Redistributor, REDISTRIBUTOR_REGIONS } from "./redistributor.ts";
import type { RegisterTable } from "./register_table.ts";
import { isSpecial as isSpecialIntid, VirtualInterface } from "./virtual_interface.ts";
import { ichRegisters, ICV_REGISTERS } from "./virtual_registers.ts";

// V8 folds what it knows of a constant of the module itself, and has to look up imported ones: functions, too.
const IAR0 = R.ICC_IAR0_EL1, IAR1 = R.ICC_IAR1_EL1, EOIR1 = R.ICC_EOIR1_EL1;
const DIR = R.ICC_DIR_EL1, SGI1R = R.ICC_SGI1R_EL1;
const isSpecial = isSpecialIntid;

/** Machine parameters of a GICv3. */
export interface Gicv3Options extends GicOptions {
  /** Whether SGIs can name Aff0 above 15 (RSS). */
  readonly rangeSelector?: boolean;
}

/** A GICv3. */
export class Gicv3 extends Gic {
  override readonly version = 3;
  // V8 knows what a field holds, if that is the first it has held: without "declare" that were undefined.
  declare readonly dist: Distributor;
  declare readonly redists: readonly Redistributor[];
  declare readonly interrupts: Gicv3Interrupts;
  declare private readonly interfaces: readonly Gicv3CpuInterface[];
  declare private readonly virtuals: readonly VirtualInterface[];
  readonly #ich: RegisterTable<VirtualInterface>;

  constructor(_memory: SharedMemory, arena: Arena, options: Gicv3Options) {
    const { cpus, lrs, rangeSelector = false, attach = false } = options;
    const spis = checkedSpis(options);
    super(cpus, lrs);
    this.dist = new Distributor(arena, { spis, rangeSelector });
    this.redists = cpus.map((cpu, n) =>
      new Redistributor(arena, n, packedAffinity(cpu.mpidr), n === cpus.length - 1)
    );
    const interrupts = new Gicv3Interrupts(this.dist, this.redists, rangeSelector);
    this.interrupts = interrupts;
    this.interfaces = this.lines.map((lines) => new Gicv3CpuInterface(arena, interrupts, lines));
    this.virtuals = this.lines.map((lines) =>
      new VirtualInterface(arena, {
        lrs,
        rangeSelector,
        mapped: false,
        interrupts,
        lines,
        watcher: this,
      })
    );
    interrupts.connect(this.interfaces);
    this.#ich = ichRegisters(lrs);
    if (!attach) this.reset();
  }

  /** Puts the whole controller to its reset state; input lines go low. */
  override reset(): void {
    this.dist.reset();
    for (const redist of this.redists) redist.reset();
    for (const cpuInterface of this.interfaces) cpuInterface.reset();
    for (const virtual of this.virtuals) virtual.reset();
    this.updateAll();
  }

  override cpuPower(cpuIndex: number, on: boolean): void {
    this.redists[cpuIndex]?.writeWaker(on ? 0 : GICR_WAKER.ProcessorSleep);
    this.interrupts.everyCpuChanged();
  }

  override cpuInterface(cpuIndex: number): Gicv3CpuInterface {
    return this.interfaces[cpuIndex] as Gicv3CpuInterface;
  }

  override virtualInterface(cpuIndex: number): VirtualInterface {
    return this.virtuals[cpuIndex] as VirtualInterface;
  }

  protected override targetOf(cpuIndex: number, intid: number): number {
    return intid < INTID.FIRST_SPI ? cpuIndex : this.interrupts.target(intid);
  }

  override implemented(reg: number): boolean {
    return ICC_REGISTERS.has(reg) || this.#ich.has(reg);
  }

  override isVirtualizable(reg: number): boolean {
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
    if (redist && size === 4 && isSoAlready(redist, inFrames, lo)) return;
    if (!redist || !REDISTRIBUTOR_REGIONS.write(redist, inFrames, size, lo, hi)) return;
    // Waking up or going to sleep moves 1-of-N interrupts; the SGI frame concerns its CPU alone.
    if (inFrames < GICR_FRAME_SIZE) this.interrupts.everyCpuChanged();
    else this.interrupts.changed(redist.index);
  }

  /** Reads an ICC register of the physical interface. */
  override iccRead(cpuIndex: number, reg: number): number {
    const cpuInterface = this.interfaces[cpuIndex] as Gicv3CpuInterface;
    this.hi = 0;
    if (reg !== IAR1 && reg !== IAR0) {
      const { read } = ICC_REGISTERS.row(reg);
      return read === undefined ? 0 : read(cpuInterface) >>> 0;
    }
    const intid = cpuInterface.acknowledge(reg === IAR1 ? 1 : 0);
    cpuInterface.refresh();
    return intid;
  }

  /** Writes an ICC register of the physical interface. What every interrupt comes by is first. */
  override iccWrite(cpuIndex: number, reg: number, lo: number, hi: number): void {
    const cpuInterface = this.interfaces[cpuIndex] as Gicv3CpuInterface;
    if (reg === EOIR1) cpuInterface.writeEoir(1, lo);
    else if (reg === DIR) cpuInterface.writeDir(lo);
    else if (reg === SGI1R) cpuInterface.sendSgi(1, lo, hi);
    else ICC_REGISTERS.row(reg).write?.(cpuInterface, lo, hi);
  }

  /** Reads the ICV register that stands behind an ICC name for the guest. */
  override icvRead(cpuIndex: number, reg: number): number {
    const virtual = this.virtuals[cpuIndex] as VirtualInterface;
    this.hi = 0;
    if (reg !== IAR1 && reg !== IAR0) {
      const { read } = ICV_REGISTERS.row(reg);
      return read === undefined ? 0 : read(virtual) >>> 0;
    }
    const intid = virtual.acknowledge(reg === IAR1 ? 1 : 0);
    virtual.refresh();
    const told = this.virtualAcknowledged;
    if (told !== undefined && !isSpecial(intid)) told(cpuIndex, intid);
    return intid;
  }

  /** Writes the ICV register that stands behind an ICC name for the guest. */
  override icvWrite(cpuIndex: number, reg: number, lo: number, hi: number): void {
    const virtual = this.virtuals[cpuIndex] as VirtualInterface;
    if (reg === EOIR1) virtual.endOfInterrupt(1, lo);
    else ICV_REGISTERS.row(reg).write?.(virtual, lo, hi);
    virtual.refresh();
  }

  /** Reads an ICH register: bits 31 to 0, the upper half in `hi`. */
  override ichRead(cpuIndex: number, reg: number): number {
    const row = this.#ich.row(reg);
    const virtual = this.virtualInterface(cpuIndex);
    this.hi = row.readHi ? row.readHi(virtual) : 0;
    return row.read ? row.read(virtual) >>> 0 : 0;
  }

  /** Writes an ICH register. */
  override ichWrite(cpuIndex: number, reg: number, lo: number, hi: number): void {
    const virtual = this.virtualInterface(cpuIndex);
    const wasOn = virtual.on;
    this.#ich.row(reg).write?.(virtual, lo, hi);
    // While it is off it signals nothing, whatever is in its registers.
    if (wasOn || virtual.on) virtual.refresh();
  }
}

/** Whether a write changes no active bit: a host says at each load of a vCPU what its timers' are. */
function isSoAlready(redist: Redistributor, inFrames: number, lo: number): boolean {
  const { bank } = redist;
  if (inFrames === GICR_SGI.ICACTIVER0) return (lo & bank.word(bank.active, 0)) === 0;
  return inFrames === GICR_SGI.ISACTIVER0 && (lo & ~bank.word(bank.active, 0)) === 0;
}
