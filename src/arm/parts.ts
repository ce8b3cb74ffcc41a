/** The machine as its CPUs see it, and one CPU as the functions on it see it. */
import type { SharedMemory } from "../base/memory.ts";
import type { Cpu, RegisterFile } from "./arch/cpu_state.ts";
import type { RamRange } from "./arch/tlb_layout.ts";
import type { Bus } from "./bus.ts";
import type { Clock } from "./clock.ts";
import type { GenericTimer } from "./generic_timer.ts";
import type { CoreModel } from "./id_registers.ts";
import type { Gic } from "./gic/controller.ts";
import type { Mmu } from "./mmu/mmu.ts";

/** A 64-bit register value in two halves. */
export interface Halves {
  lo: number;
  hi: number;
}

/** What a PSCI call or a guest's end asks of whoever runs the machine. */
export type PowerEvent = "off" | "reset";

/** What the CPUs tell the rest of the machine. */
export interface Hooks {
  /**
   * IC IVAU (physical address of the line) or IC IALLU ("all"): drop predecoded and translated code. `broadcast`:
   * that of all CPUs, not only of the one at hand.
   */
  onInstructionCacheInvalidate(pa: number | "all", broadcast: boolean): void;
  /**
   * The slice must end: a timer or interrupt-controller register was written, a CPU halted, woke or was switched
   * on. `sameTimers`: no timer's moment, and no event of WFE's, has changed with that.
   */
  onEndSlice(cpu: Cpu, sameTimers?: boolean): void;
  onPower(event: PowerEvent): void;
  /** TLB or instruction cache maintenance that reaches all CPUs has been done on `cpu`. */
  onMaintenance?(cpu: Cpu): void;
  /** A DSB on `cpu`: that maintenance is to be complete. `inHost`: of software that is TypeScript. */
  onDsb?(cpu: Cpu, inHost: boolean): void;
  /** A virtual IRQ or FIQ is being taken: the CPU is about to reach the guest's vector. */
  onVirtualInterrupt?(cpu: Cpu): void;
}

/** The machine as its CPUs see it. */
export interface Platform {
  readonly memory: SharedMemory;
  readonly ram: RamRange;
  readonly mmu: Mmu;
  readonly gic: Gic;
  readonly clock: Clock;
  readonly timer: GenericTimer;
  readonly bus: Bus;
  readonly hooks: Hooks;
  /** What the CPUs implement. */
  readonly model: CoreModel;
  /** All CPUs, by index; filled as they are made. */
  readonly cores: Core[];
  /** The states of {@link cores}, for broadcasts. */
  readonly cpus: Cpu[];
  /** The software at EL2 is not made of instructions: nothing need be recomputed for them on the way there. */
  hostAtEl2?: boolean;
}

/** One physical CPU: views of its state and the machine it is part of. */
export interface Core {
  readonly cpu: Cpu;
  /** The words of {@link cpu}: what is on the way of every exit reads fields by their constant places in it. */
  readonly words: Int32Array;
  readonly regs: RegisterFile;
  readonly platform: Platform;
}
