/**
 * The built-in firmware of `--bare`: PSCI 1.1 answered directly, as if by EL3, without emulated
 * firmware code. By SMC for an image that starts at EL2, by HVC for one that starts at EL1. Source:
 * Power State Coordination Interface (DEN 0022), SMC Calling Convention (DEN 0028).
 */
import { HALT } from "./arch/cpu_state.ts";
import { AFFINITY, NO_TRUSTED_OS, PSCI, PSCI_RESULT, SMCCC, VERSION_1_1 } from "./arch/psci.ts";
import type { Core } from "./parts.ts";
import { resetCpu } from "./reset.ts";

/** The instruction that calls the firmware, and the level CPUs start at. */
export type Conduit = "smc" | "hvc";

const AFFINITY_MASK = 0xff_00ff_ffff;

/** A call's arguments X1 to X3 as numbers (exact below 2^53, more than any address). */
interface Call {
  readonly core: Core;
  readonly x1: number;
  readonly x2: number;
  readonly x3: number;
}

type Service = (call: Call, firmware: Firmware) => number;

function coreAt(core: Core, mpidr: number): Core | undefined {
  return core.platform.cores.find((c) => affinityOf(c.cpu.mpidr) === affinityOf(mpidr));
}

/** The affinity fields of an MPIDR value, without its flags. */
function affinityOf(mpidr: number): number {
  const low = mpidr % 0x100_0000;
  return low + (Math.floor(mpidr / 0x1_0000_0000) % 0x100) * 0x1_0000_0000;
}

const isAffinity = (value: number) => value <= AFFINITY_MASK && affinityOf(value) === value;

function cpuOn({ core, x1, x2, x3 }: Call, firmware: Firmware): number {
  const target = isAffinity(x1) ? coreAt(core, x1) : undefined;
  if (target === undefined) return PSCI_RESULT.INVALID_PARAMETERS;
  if (target.cpu.halt !== HALT.OFF) return PSCI_RESULT.ALREADY_ON;
  firmware.startCpu(target, x2, x3);
  core.platform.hooks.onEndSlice(core.cpu);
  core.platform.hooks.onEndSlice(target.cpu);
  return PSCI_RESULT.SUCCESS;
}

function affinityInfo({ core, x1, x2 }: Call): number {
  // Levels above 0 need not be supported.
  const target = x2 === 0 && isAffinity(x1) ? coreAt(core, x1) : undefined;
  if (target === undefined) return PSCI_RESULT.INVALID_PARAMETERS;
  return target.cpu.halt === HALT.OFF ? AFFINITY.OFF : AFFINITY.ON;
}

function stop(core: Core): number {
  core.cpu.halt = HALT.OFF;
  core.platform.hooks.onEndSlice(core.cpu);
  return PSCI_RESULT.SUCCESS;
}

const SERVICES: ReadonlyMap<number, Service> = new Map<number, Service>([
  [PSCI.VERSION, () => VERSION_1_1],
  [PSCI.CPU_OFF, ({ core }) => {
    core.platform.gic.cpuPower(core.cpu.index, false);
    return stop(core);
  }],
  [PSCI.CPU_ON_32, cpuOn],
  [PSCI.CPU_ON_64, cpuOn],
  [PSCI.AFFINITY_INFO_32, affinityInfo],
  [PSCI.AFFINITY_INFO_64, affinityInfo],
  [PSCI.MIGRATE_INFO_TYPE, () => NO_TRUSTED_OS],
  [PSCI.SYSTEM_OFF, ({ core }) => {
    core.platform.hooks.onPower("off");
    return stop(core);
  }],
  [PSCI.SYSTEM_RESET, ({ core }) => {
    core.platform.hooks.onPower("reset");
    return stop(core);
  }],
  [PSCI.FEATURES, ({ x1 }) => {
    const known = SERVICES.has(x1 % 0x1_0000_0000) || x1 % 0x1_0000_0000 === SMCCC.VERSION;
    return known ? 0 : PSCI_RESULT.NOT_SUPPORTED;
  }],
  [SMCCC.VERSION, () => VERSION_1_1],
  [SMCCC.ARCH_FEATURES, ({ x1 }) => {
    const asked = x1 % 0x1_0000_0000;
    const known = asked === SMCCC.VERSION || asked === SMCCC.ARCH_FEATURES;
    return known ? 0 : PSCI_RESULT.NOT_SUPPORTED;
  }],
]);

/** Answers calls of one conduit. */
export class Firmware {
  constructor(readonly conduit: Conduit) {}

  /** Starts a CPU at `pc` with `x0`, its interrupts connected (in TF-A by gicv3_cpuif_enable). */
  startCpu(core: Core, pc: number, x0: number): void {
    resetCpu(core, { el: this.conduit === "smc" ? 2 : 1, pc, x0 });
    core.platform.gic.cpuPower(core.cpu.index, true);
  }

  /** Switches a CPU off, as it is after power on. */
  stopCpu(core: Core): void {
    this.startCpu(core, 0, 0);
    stop(core);
  }

  /** Serves the call whose number and arguments are in X0 to X3; the result goes to X0. */
  call(core: Core): void {
    const { memory } = core.platform;
    const x0 = core.cpu.gpr;
    const id = memory.ld32(x0);
    // The 32-bit convention passes 32-bit arguments.
    const wide = (id & 0x4000_0000) !== 0;
    const argument = (n: number) => wide ? memory.ld53(x0 + 8 * n) : memory.ld32(x0 + 8 * n);
    const call = { core, x1: argument(1), x2: argument(2), x3: argument(3) };
    const result = SERVICES.get(id)?.(call, this) ?? PSCI_RESULT.NOT_SUPPORTED;
    memory.st32(x0, result);
    memory.st32(x0 + 4, result < 0 ? 0xffff_ffff : 0);
  }
}
