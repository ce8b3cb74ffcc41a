/** What a machine is made of, and what it has to do with whoever sits above it. */
import type { CpuModel } from "./arch/features.ts";
import type { RegionOptions } from "./engine/regions.ts";
import type { TeamOptions } from "./parallel/team_machine.ts";

export interface MachineOptions {
  /** Physical CPUs, 1 to 16. */
  readonly pcpus: number;
  /** Bytes of RAM, a multiple of 64 KiB. */
  readonly ramSize: number;
  /** List registers of each CPU, 1 to 16. */
  readonly lrs?: number;
  /** What the physical CPUs implement: everything, if not said. */
  readonly cpu?: CpuModel;
  /** Version of the interrupt controller, 3 unless told; a GICv2 serves 8 CPUs at most. */
  readonly gic?: 2 | 3;
  /** Pages of code kept predecoded. */
  readonly codePages?: number;
  /** Instructions a turn lasts at most. */
  readonly quantum?: number;
  /** What is translated, and when. */
  readonly regions?: Partial<RegionOptions>;
  /** Bytes of memory for devices' contents (what a guest writes to its disk), which no CPU can reach. */
  readonly deviceBytes?: number;
  /** CPUs in parallel: this machine's worker. */
  readonly team?: TeamOptions;
}

/** Devices that act at a moment of virtual time, where no host kernel has timers for them. */
export interface DeviceAlarms {
  /** The next moment in ns; Infinity when there is none. */
  readonly nextNs: number;
  onTime(nowNs: number): void;
}

/**
 * What runs in TypeScript instead of instructions: everything at EL2, and with `hostEl` 1 a host kernel
 * without VHE at EL1, which is where HCR_EL2.VM is clear. EL1 under stage 2, and EL0, are guests'.
 */
export interface El2Software {
  /** The host kernel's level; 2 if left out. */
  readonly hostEl?: 1 | 2;
  /** Lets CPU `pcpu`, in the host, go on: "guest" it has done ERET, "idle" it waits for an interrupt, "again" there is more to do. */
  step(pcpu: number): "guest" | "idle" | "again";
  /** The CPU has taken an exception to EL2 through the vector at `vectorOffset`. */
  onEl2Exception(pcpu: number, vectorOffset: number): void;
}

/** Why a machine's `run` came back. */
export type StopReason = "budget" | "limit" | "stalled" | "power";
