/**
 * The machine's interrupt controller as a GICv2 with virtualization extensions and without Security
 * Extensions (IHI 0048): all of it is memory, of which each CPU sees its own GICC, GICH and GICV, and its
 * own private interrupts in GICD. Up to eight CPUs. There are no system registers.
 *
 * As with the GICv3, every access leaves the CPUs' lines up to date.
 */
import type { Arena } from "../../base/arena.ts";
import { assert, InternalError } from "../../base/errors.ts";
import { INTID } from "../arch/gic.ts";
import { GICC, GICC_IAR, GICV2_MAX_CPUS } from "../arch/gicv2.ts";
import { checkedSpis, Gic, type GicOptions } from "./controller.ts";
import { GICC_REGIONS, Gicv2CpuInterface } from "./gicv2_cpu_interface.ts";
import {
  type DistributorAccess,
  GICV2_DISTRIBUTOR_REGIONS,
  Gicv2Distributor,
} from "./gicv2_distributor.ts";
import { Gicv2Interrupts } from "./gicv2_interrupts.ts";
import { GICH_REGIONS, GICV_REGIONS } from "./gicv2_virtual.ts";
import { lowestBit } from "./priorities.ts";
import { VirtualInterface } from "./virtual_interface.ts";

const NO_SYSTEM_REGISTERS = "a GICv2 has no system registers";
const INTID_BITS = (1 << GICC_IAR.INTID.width) - 1;

/** A GICv2. `cpu` is always the CPU that makes the access; sizes are 1, 2, 4 or 8 bytes. */
export class Gicv2 extends Gic {
  override readonly version = 2;
  readonly dist: Gicv2Distributor;
  override readonly interrupts: Gicv2Interrupts;
  readonly #interfaces: readonly Gicv2CpuInterface[];
  readonly #virtuals: readonly VirtualInterface[];
  readonly #accesses: readonly DistributorAccess[];

  /** InternalError for more than eight CPUs. */
  constructor(arena: Arena, options: GicOptions) {
    const { cpus, lrs, attach = false } = options;
    assert(cpus.length <= GICV2_MAX_CPUS, `a GICv2 for ${cpus.length} CPUs: 8 are possible`);
    super(cpus, lrs);
    this.dist = new Gicv2Distributor(arena, checkedSpis(options), cpus.length);
    const interrupts = new Gicv2Interrupts(this.dist);
    this.interrupts = interrupts;
    this.#interfaces = this.lines.map((lines) => new Gicv2CpuInterface(arena, interrupts, lines));
    this.#virtuals = this.lines.map((lines) =>
      new VirtualInterface(arena, {
        lrs,
        rangeSelector: false,
        mapped: true,
        interrupts,
        lines,
        watcher: this,
      })
    );
    interrupts.connect(this.#interfaces);
    this.#accesses = cpus.map((_, cpu) => ({
      dist: this.dist,
      cpu,
      sendSgi: (value) => this.interrupts.sendSgi(cpu, value),
    }));
    if (!attach) this.reset();
  }

  override reset(): void {
    this.dist.reset();
    for (const cpuInterface of this.#interfaces) cpuInterface.reset();
    for (const virtual of this.#virtuals) virtual.reset();
    this.updateAll();
  }

  override cpuInterface(cpuIndex: number): Gicv2CpuInterface {
    return this.#interfaces[cpuIndex] as Gicv2CpuInterface;
  }

  override virtualInterface(cpuIndex: number): VirtualInterface {
    return this.#virtuals[cpuIndex] as VirtualInterface;
  }

  /** The lowest numbered of the CPUs an SPI is for. */
  protected override targetOf(cpuIndex: number, intid: number): number {
    if (intid < INTID.FIRST_SPI) return cpuIndex;
    const targets = this.dist.targets(intid);
    return targets === 0 ? -1 : lowestBit(targets);
  }

  distRead(cpu: number, offset: number, size: number): number {
    const access = this.#accesses[cpu] as DistributorAccess;
    return GICV2_DISTRIBUTOR_REGIONS.read(access, offset, size) >>> 0;
  }

  distWrite(cpu: number, offset: number, size: number, value: number): void {
    const access = this.#accesses[cpu] as DistributorAccess;
    if (!GICV2_DISTRIBUTOR_REGIONS.write(access, offset, size, value, 0)) return;
    this.interrupts.everyCpuChanged();
  }

  /** Reads the GICC frame: an acknowledge register takes the interrupt. */
  giccRead(cpu: number, offset: number, size: number): number {
    const value = GICC_REGIONS.read(this.cpuInterface(cpu), offset, size);
    if (acknowledges(offset)) this.interrupts.changed(cpu);
    return value >>> 0;
  }

  giccWrite(cpu: number, offset: number, size: number, value: number): void {
    GICC_REGIONS.write(this.cpuInterface(cpu), offset, size, value, 0);
    this.interrupts.changed(cpu);
  }

  gichRead(cpu: number, offset: number, size: number): number {
    return GICH_REGIONS.read(this.virtualInterface(cpu), offset, size) >>> 0;
  }

  gichWrite(cpu: number, offset: number, size: number, value: number): void {
    GICH_REGIONS.write(this.virtualInterface(cpu), offset, size, value, 0);
    this.virtualInterface(cpu).refresh();
  }

  /** Reads the GICV frame, as GICC. */
  gicvRead(cpu: number, offset: number, size: number): number {
    const value = GICV_REGIONS.read(this.virtualInterface(cpu), offset, size) >>> 0;
    if (!acknowledges(offset)) return value;
    this.virtualInterface(cpu).refresh();
    const intid = value & INTID_BITS;
    if (size === 4 && intid < INTID.FIRST_SPECIAL) this.virtualAcknowledged?.(cpu, intid);
    return value;
  }

  gicvWrite(cpu: number, offset: number, size: number, value: number): void {
    GICV_REGIONS.write(this.virtualInterface(cpu), offset, size, value, 0);
    this.virtualInterface(cpu).refresh();
  }

  override implemented(_reg: number): boolean {
    return false;
  }
  override isVirtualizable(_reg: number): boolean {
    return false;
  }
  override iccRead(): number {
    throw new InternalError(NO_SYSTEM_REGISTERS);
  }
  override iccWrite(): void {
    throw new InternalError(NO_SYSTEM_REGISTERS);
  }
  override icvRead(): number {
    throw new InternalError(NO_SYSTEM_REGISTERS);
  }
  override icvWrite(): void {
    throw new InternalError(NO_SYSTEM_REGISTERS);
  }
  override ichRead(): number {
    throw new InternalError(NO_SYSTEM_REGISTERS);
  }
  override ichWrite(): void {
    throw new InternalError(NO_SYSTEM_REGISTERS);
  }
}

function acknowledges(offset: number): boolean {
  return offset === GICC.IAR || offset === GICC.AIAR;
}
