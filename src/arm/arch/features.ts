/**
 * Optional features of the architecture by their FEAT_ names: which fields of the identification
 * registers announce each, and from which model of core on it is there. Source: Arm Architecture
 * Reference Manual (DDI 0487), A2 "Armv8-A Architecture Extensions" and D19.
 *
 * What this project's core implements of them is decided in `id_registers.ts`.
 */
import { once } from "../../base/once.ts";
import type { SysregName } from "./sysregs.ts";

/** A core of Armv8.0 (with its optional extensions), or everything that is implemented. */
export type CpuModel = "v8.0" | "max";

/** `v8.0`: of every core; `vhe`: of every physical core here, since its EL2 hosts a kernel; `max`: of that model only. */
export type FeatureLevel = "v8.0" | "vhe" | "max";

/** One 4-bit field: register, its lowest bit, the least value that announces the feature. */
export type IdField = readonly [register: SysregName, shift: number, value: number];

const PFR0 = "ID_AA64PFR0_EL1";
const DFR0 = "ID_AA64DFR0_EL1";
const ISAR0 = "ID_AA64ISAR0_EL1";
const ISAR1 = "ID_AA64ISAR1_EL1";
const MMFR1 = "ID_AA64MMFR1_EL1";
const MMFR2 = "ID_AA64MMFR2_EL1";

const ROWS = {
  FEAT_AES: ["v8.0", [ISAR0, 4, 1]],
  FEAT_PMULL: ["v8.0", [ISAR0, 4, 2]],
  FEAT_SHA1: ["v8.0", [ISAR0, 8, 1]],
  FEAT_SHA256: ["v8.0", [ISAR0, 12, 1]],
  FEAT_CRC32: ["v8.0", [ISAR0, 16, 1]],
  FEAT_PMUv3: ["v8.0", [DFR0, 8, 1]],
  FEAT_VHE: ["vhe", [MMFR1, 8, 1]],
  FEAT_Debugv8p1: ["vhe", [DFR0, 0, 7]],
  FEAT_LOR: ["vhe", [MMFR1, 16, 1]],
  FEAT_PAN: ["vhe", [MMFR1, 20, 1]],
  FEAT_LSE: ["max", [ISAR0, 20, 2]],
  FEAT_RDM: ["max", [ISAR0, 28, 1]],
  FEAT_SHA512: ["max", [ISAR0, 12, 2]],
  FEAT_SHA3: ["max", [ISAR0, 32, 1]],
  FEAT_SM3: ["max", [ISAR0, 36, 1]],
  FEAT_SM4: ["max", [ISAR0, 40, 1]],
  FEAT_DotProd: ["max", [ISAR0, 44, 1]],
  FEAT_FHM: ["max", [ISAR0, 48, 1]],
  FEAT_FlagM: ["max", [ISAR0, 52, 1]],
  FEAT_FlagM2: ["max", [ISAR0, 52, 2]],
  FEAT_DPB: ["max", [ISAR1, 0, 1]],
  FEAT_DPB2: ["max", [ISAR1, 0, 2]],
  FEAT_JSCVT: ["max", [ISAR1, 12, 1]],
  FEAT_FCMA: ["max", [ISAR1, 16, 1]],
  FEAT_LRCPC: ["max", [ISAR1, 20, 1]],
  FEAT_LRCPC2: ["max", [ISAR1, 20, 2]],
  FEAT_FRINTTS: ["max", [ISAR1, 32, 1]],
  FEAT_SB: ["max", [ISAR1, 36, 1]],
  FEAT_BF16: ["max", [ISAR1, 44, 1]],
  FEAT_I8MM: ["max", [ISAR1, 52, 1]],
  FEAT_FP16: ["max", [PFR0, 16, 1], [PFR0, 20, 1]],
  FEAT_DIT: ["max", [PFR0, 48, 1]],
  FEAT_HAFDBS: ["max", [MMFR1, 0, 2]],
  FEAT_VMID16: ["max", [MMFR1, 4, 2]],
  FEAT_HPDS: ["max", [MMFR1, 12, 1]],
  FEAT_PAN2: ["max", [MMFR1, 20, 2]],
  FEAT_XNX: ["max", [MMFR1, 28, 1]],
  FEAT_TTCNP: ["max", [MMFR2, 0, 1]],
  FEAT_UAO: ["max", [MMFR2, 4, 1]],
  FEAT_TTL: ["max", [MMFR2, 48, 1]],
} as const satisfies Record<string, readonly [FeatureLevel, ...IdField[]]>;

export type FeatureName = keyof typeof ROWS;

/** One feature. */
export interface Feature {
  readonly name: FeatureName;
  readonly level: FeatureLevel;
  readonly fields: readonly IdField[];
}

/** Every feature that this project knows of. */
export const FEATURES: readonly Feature[] = Object.entries(ROWS).map(
  ([name, [level, ...fields]]) => ({ name: name as FeatureName, level, fields }),
);

/** Fields whose value without any optional feature is not 0: the debug version. */
const LEAST: readonly IdField[] = [[DFR0, 0, 6]];

/** The field of `register` at bit `shift`. */
export function idField(value: bigint, shift: number): number {
  return Number((value >> BigInt(shift)) & 15n);
}

/** `value` with the field at bit `shift` replaced. */
export function withIdField(value: bigint, shift: number, field: number): bigint {
  return (value & ~(15n << BigInt(shift))) | (BigInt(field) << BigInt(shift));
}

/** What fields may say at most on a core of Armv8.0: by register and bit, 0 where there is nothing. */
const limits = once(() => {
  const most = new Map<string, number>();
  const base = FEATURES.filter((f) => f.level === "v8.0").flatMap((f) => f.fields);
  for (const [register, shift, value] of [...base, ...LEAST]) {
    const key = `${register} ${shift}`;
    most.set(key, Math.max(most.get(key) ?? 0, value));
  }
  return most;
});

/** An identification register's value as a core of `model` may show it: no feature that the model has not. */
export function limitIdRegister(register: SysregName, value: bigint, model: CpuModel): bigint {
  if (model === "max") return value;
  let limited = value;
  for (const { fields } of FEATURES) {
    for (const [name, shift] of fields) {
      if (name !== register) continue;
      const most = limits().get(`${name} ${shift}`) ?? 0;
      if (idField(limited, shift) > most) limited = withIdField(limited, shift, most);
    }
  }
  return limited;
}
