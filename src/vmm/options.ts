/**
 * The options of `run` and `start` as plain values: parsing of sizes and durations, defaults, and the
 * checks that can be made before anything is started. Every mistake is one UserError.
 */
import type { CpuModel } from "../arm/arch/features.ts";
import type { MachineOptions } from "../arm/machine_options.ts";
import { UserError } from "../base/errors.ts";
import type { DeviceConfig } from "./device_options.ts";

/** What a machine is to be like and to run. */
export interface MachineConfig {
  readonly vcpus: number;
  readonly pcpus: number;
  /** Guest RAM in bytes. */
  readonly memory: number;
  readonly lrs: number;
  /** What a guest's identification registers show; of a bare image: what its CPUs are. */
  readonly cpu: CpuModel;
  /** Version of the interrupt controller. */
  readonly gic: 2 | 3;
  /** The world switch: the host kernel at EL2, or at EL1. */
  readonly mode: "vhe" | "nvhe";
  readonly clock: "paced" | "fast";
  /** Virtual time to run for, in ns; Infinity without a limit. */
  readonly forNs: number;
  readonly append: string;
  /** Run on the machine itself, from this exception level; 0 under KVM. */
  readonly bareEl: 0 | 1 | 2;
  /** Shuffle the host pages behind guest memory: 0 no, else the seed. */
  readonly shuffle: number;
  /** Seed of `kaslr-seed` and `rng-seed` in the machine's own device tree; none: no such properties. */
  readonly kaslrSeed?: number;
  /** Workers that run the physical CPUs; 1 if left out, the deterministic mode. */
  readonly threads?: number;
  /** What of the code is translated, and when; the engine's own choice if left out. */
  readonly regions?: MachineOptions["regions"];
  /** Choices about devices; the default ones if left out. */
  readonly devices?: DeviceConfig;
}

const KIB = 1024;
const SIZE_UNITS: Readonly<Record<string, number>> = {
  "": 1,
  K: KIB,
  M: KIB ** 2,
  G: KIB ** 3,
};
const DURATION_UNITS: Readonly<Record<string, number>> = {
  ns: 1,
  us: 1e3,
  ms: 1e6,
  s: 1e9,
  m: 60e9,
};

/** Bytes of `256M`, `1G`, `65536`. UserError for anything else. */
export function parseSize(text: string): number {
  const match = /^(\d{1,12})([KMG]?)(i?B)?$/i.exec(text);
  if (!match) throw new UserError(`not a size: ${text} (examples: 512M, 1G)`);
  return Number(match[1]) * (SIZE_UNITS[(match[2] as string).toUpperCase()] as number);
}

/** Nanoseconds of `10s`, `250ms`, `5m`. UserError for anything else. */
export function parseDuration(text: string): number {
  const match = /^(\d{1,12}(?:\.\d{1,9})?)(ns|us|ms|s|m)$/.exec(text);
  if (!match) throw new UserError(`not a duration: ${text} (examples: 10s, 250ms, 5m)`);
  return Math.round(Number(match[1]) * (DURATION_UNITS[match[2] as string] as number));
}

/** A whole number from `least` to `most`. UserError naming `what` otherwise. */
export function parseCount(what: string, text: string, least: number, most: number): number {
  const value = /^\d{1,9}$/.test(text) ? Number(text) : NaN;
  if (!(value >= least && value <= most)) {
    throw new UserError(`${what}: a whole number from ${least} to ${most}, not ${text}`);
  }
  return value;
}

const MIB = 1 << 20;
/** The least and the most guest RAM, in bytes. */
const MEMORY_RANGE = { least: 16 * MIB, most: 2560 * MIB } as const;

/** Guest RAM in bytes. UserError where the machine cannot have it. */
export function parseMemory(text: string): number {
  const bytes = parseSize(text);
  const { least, most } = MEMORY_RANGE;
  if (bytes < least || bytes > most || bytes % (2 * MIB) !== 0) {
    throw new UserError(
      `--memory: from ${least / MIB}M to ${most / MIB}M in steps of 2M, not ${text}`,
    );
  }
  return bytes;
}

/** CPUs that a GICv2 can serve. */
const GICV2_MAX_CPUS = 8;

/** `--gic`. UserError where a GICv2 is to serve more CPUs than it can, of the machine or of the guest. */
export function parseGic(text: string, vcpus: number, pcpus: number): 2 | 3 {
  if (text === "3") return 3;
  const [what, count] = pcpus > GICV2_MAX_CPUS ? ["--pcpus", pcpus] : ["--vcpus", vcpus];
  if (count > GICV2_MAX_CPUS) {
    throw new UserError(`${what} ${count}: a GICv2 serves at most ${GICV2_MAX_CPUS} (use --gic 3)`);
  }
  return 2;
}

/** Exit codes of the program (documented in `--help`). */
export const EXIT_CODE = {
  POWER_OFF: 0,
  INTERNAL_ERROR: 1,
  USER_ERROR: 2,
  /** `--for` was reached. */
  TIME_LIMIT: 3,
  /** The guest asked for a reset more often than is sensible. */
  RESET_LOOP: 4,
  /** Nothing can ever happen again without input from outside. */
  STALLED: 5,
  INTERRUPTED: 130,
} as const;
