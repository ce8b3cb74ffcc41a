/**
 * What the host kernel needs of the machine it runs on. The machine gives one of these; unit tests
 * bring their own.
 */
import type { El2Port } from "../arm/el2_port.ts";
import type { RamRange } from "../arm/arch/tlb_layout.ts";
import type { SharedMemory } from "../base/memory.ts";

/** The machine under the host kernel. */
export interface HostHardware {
  readonly memory: SharedMemory;
  readonly ram: RamRange;
  /** Physical CPUs: 1 to 16. */
  readonly pcpus: number;
  /** The interrupt controller: its version, and of a GICv2 the physical addresses of GICH and GICV (else 0). */
  readonly gic: { readonly type: 2 | 3; readonly vctrl: number; readonly vcpu: number };
  /** Physical addresses of the interrupt controller's frames: GICC of a GICv2, GICR of a GICv3. */
  readonly gicdPa: number;
  readonly giccPa: number;
  readonly gicrPa: number;
  /** Bytes of redistributor frames per CPU. */
  readonly gicrStride: number;
  /** The port of physical CPU `index`: the same object each time. */
  port(index: number): El2Port;
  /**
   * Whether the interrupt input of the CPU is asserted now: what the hardware looks at between two
   * instructions. Not an operation of the CPU: costs nothing and is not counted.
   */
  irqPending(index: number): boolean;
  /**
   * The words of the CPU's state (CpuLayout), which say the same, and whether it masks interrupts: for whoever asks
   * often. Without it {@link irqPending} and the port are asked.
   */
  cpuWords?(index: number): Int32Array;
  /** Whether a timer is to be looked at before anything else is done; without it, one may be. */
  timersDue?(): boolean;
  /** A 32-bit access of the CPU to a device (Device-nGnRE memory). */
  mmioRead(index: number, pa: number): number;
  mmioWrite(index: number, pa: number, value: number): void;
  /** Virtual nanoseconds now; the system counter is this divided by 16. */
  nowNs(): number;
  /** The same without a number that would be boxed: into `cell`; as two words of `words`, the shared memory's, from `at` on. */
  stamp?(cell: Float64Array): void;
  stampNow?(words: Int32Array, at: number): void;
  /**
   * Byte addresses of a 64-bit word that is {@link nowNs} as long as another, of 32 bits, is 0: as it is while no
   * CPU executes instructions. Absent where there is none.
   */
  readonly timeAt?: { readonly ns: number; readonly unless: number } | undefined;
  /**
   * Byte address of the 64-bit word that counts instructions the CPU has retired since the start: for statistics
   * only.
   */
  insnsAt(index: number): number;
  /** Of these, those that ran as translated code: for statistics only. */
  insnsTranslated(index: number): number;
  /** Raises or lowers the line of {@link DOORBELL_INTID}: user-space work has come from outside. */
  doorbell(level: boolean): void;
}

/** The SPI by which work from outside the machine (keys, console input) reaches the host kernel. */
export const DOORBELL_INTID = 32 + 31;

/** Nanoseconds of one tick of the system counter. */
export const TICK_NS = 16;
