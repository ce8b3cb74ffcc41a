/**
 * What a physical core implements: the one place that says so. Its identification registers, its
 * instructions, and which registers, fields and operations exist all follow from the features listed
 * here and from the rows there are. Source: Arm Architecture Reference Manual (DDI 0487), D19.
 *
 * A core of model `v8.0` has Armv8.0 and what a kernel at EL2 needs of Armv8.1 (VHE, PAN, LORegions
 * without descriptors, the debug architecture of v8.1); one of model `max` has everything.
 */
import { BREAKPOINTS, CONTEXT_BREAKPOINTS, WATCHPOINTS } from "./arch/debug_registers.ts";
import {
  type CpuModel,
  type FeatureName,
  FEATURES,
  idField,
  withIdField,
} from "./arch/features.ts";
import { SPSR } from "./arch/fields.ts";
import { FPCR } from "./fp/format.ts";
import { EVENT_COUNTERS } from "./arch/pmu.ts";
import { R, type SysregName, SYSREGS } from "./arch/sysregs.ts";
import type { Consts, Decoded, Row, Shape, Slots } from "./isa/row.ts";
import { Decoder, ROWS } from "./isa/table.ts";

/** MIDR_EL1: implementer 0 (reserved for software), architecture by the ID registers, no known part. */
export const MIDR = 0x000f_0570;

/** Bytes that DC ZVA clears. */
export const ZVA_BYTES = 64;

/** MPIDR_EL1 of CPU `index`: 16 per cluster, as many as an SGI's target list reaches. */
export function mpidrOf(index: number): number {
  return 0x8000_0000 + (index >> 4) * 0x100 + (index & 15);
}

/** Identification without the optional features; registers not named here start from zero. */
const BASE: Readonly<Partial<Record<SysregName, bigint>>> = {
  // EL0, EL1, EL2 in AArch64 only, no EL3; FP, AdvSIMD; GIC 1; nothing speculates: CSV2 1, CSV3 1
  ID_AA64PFR0_EL1: 0x1100_0000_0100_0111n,
  // Debug version 6, no trace; BRPs, WRPs and CTX_CMPs are the count minus one
  ID_AA64DFR0_EL1: BigInt(
    6 | ((BREAKPOINTS - 1) << 12) | ((WATCHPOINTS - 1) << 20) | ((CONTEXT_BREAKPOINTS - 1) << 28),
  ),
  // PARange 5 (48 bits), ASIDBits 2 (16), granules of 4, 16 and 64 KiB
  ID_AA64MMFR0_EL1: 0x0010_0025n,
  // Lines of 64 bytes, L1Ip PIPT, IDC (no clean needed to fetch what was written), not DIC
  CTR_EL0: 0x9444_c004n,
  // Separate level 1, unified level 2; LoC 2, LoUU and LoUIS 1
  CLIDR_EL1: 0x0a20_0023n,
};

/** Features that are implemented though no instruction row names them. */
const SYSTEM_FEATURES: readonly FeatureName[] = [
  "FEAT_VHE",
  "FEAT_Debugv8p1",
  "FEAT_LOR",
  "FEAT_PMUv3",
  "FEAT_PAN2",
  "FEAT_DPB",
  "FEAT_DPB2",
  "FEAT_TTL",
  "FEAT_HAFDBS",
  "FEAT_HPDS",
  "FEAT_XNX",
];

/** Registers, and fields of registers (bits of the low and the high half), that exist with a feature only. */
const REGISTER_FEATURES: readonly (readonly [SysregName, FeatureName])[] = [
  ["UAO", "FEAT_UAO"],
  ["DIT", "FEAT_DIT"],
];
type TcrLayout = "two ranges" | "one range";
const FIELD_FEATURES: readonly (readonly [
  SysregName,
  FeatureName,
  lo: number,
  hi: number,
  TcrLayout?,
])[] = [
  // HA and HD, HPD0 and HPD1; the same of one range
  ["TCR_EL1", "FEAT_HAFDBS", 0, 0x180],
  ["TCR_EL1", "FEAT_HPDS", 0, 0x600],
  ["TCR_EL2", "FEAT_HAFDBS", 0, 0x180, "two ranges"],
  ["TCR_EL2", "FEAT_HPDS", 0, 0x600, "two ranges"],
  ["TCR_EL2", "FEAT_HAFDBS", 3 << 21, 0, "one range"],
  ["TCR_EL2", "FEAT_HPDS", 1 << 24, 0, "one range"],
  ["VTCR_EL2", "FEAT_HAFDBS", 3 << 21, 0],
  ["SPSR_EL1", "FEAT_UAO", SPSR.UAO, 0],
  ["SPSR_EL2", "FEAT_UAO", SPSR.UAO, 0],
  ["SPSR_EL1", "FEAT_DIT", SPSR.DIT, 0],
  ["SPSR_EL2", "FEAT_DIT", SPSR.DIT, 0],
  ["FPCR", "FEAT_FP16", FPCR.FZ16, 0],
];

const LEVELS = { "v8.0": ["v8.0", "vhe"], max: ["v8.0", "vhe", "max"] } as const;

type DecodedRow = { row: Row; decoded: Decoded<Shape, Slots, Consts> };

/** Words kept decoded. */
const MAX_DECODED = 1 << 14;

/** What cores of one model implement. */
export class CoreModel {
  readonly features: ReadonlySet<FeatureName>;
  /** The instruction rows that are not UNDEFINED. */
  readonly rows: readonly Row[];
  /** Value of each identification register, by register-file index. */
  readonly ids: readonly bigint[];
  /** By register-file index: 1 for a register that only an absent feature has. */
  readonly absent: Uint8Array = new Uint8Array(SYSREGS.length);
  /**
   * By twice the register-file index, low half and high half: fields that only absent features have, with
   * HCR_EL2.E2H set and clear (which changes the layout of TCR_EL2).
   */
  readonly res0 = [
    new Uint32Array(2 * SYSREGS.length),
    new Uint32Array(2 * SYSREGS.length),
  ] as const;
  readonly #decoder: Decoder;
  /** Words decoded before: a cache, emptied when it is full. */
  readonly #decoded = new Map<number, DecodedRow | null>();

  constructor(readonly name: CpuModel) {
    const levels: readonly string[] = LEVELS[name];
    const implemented = new Set([...SYSTEM_FEATURES, ...ROWS.map((r) => r.feature)]);
    const features = FEATURES.filter((f) => implemented.has(f.name) && levels.includes(f.level));
    this.features = new Set(features.map((f) => f.name));
    this.rows = ROWS.filter((r) => r.feature === undefined || this.features.has(r.feature));
    this.#decoder = new Decoder(this.rows);
    const ids = SYSREGS.map((r) => BASE[r.name] ?? 0n);
    for (const [name, shift, value] of features.flatMap((f) => f.fields)) {
      const old = ids[R[name]] as bigint;
      if (value > idField(old, shift)) ids[R[name]] = withIdField(old, shift, value);
    }
    this.ids = ids;
    for (const [register, feature] of REGISTER_FEATURES) {
      if (!this.features.has(feature)) this.absent[R[register]] = 1;
    }
    for (const [register, feature, lo, hi, layout] of FIELD_FEATURES) {
      if (this.features.has(feature)) continue;
      const at = 2 * R[register];
      for (const res0 of layoutsOf(this.res0, layout)) {
        (res0[at] as number) |= lo;
        (res0[at + 1] as number) |= hi;
      }
    }
  }

  /** Row and operands of an instruction word (unsigned 32-bit), or null where it is UNDEFINED. */
  decode(word: number): DecodedRow | null {
    const known = this.#decoded.get(word);
    if (known !== undefined) return known;
    if (this.#decoded.size >= MAX_DECODED) this.#decoded.clear();
    const fresh = this.#decoder.decode(word) ?? null;
    this.#decoded.set(word, fresh);
    return fresh;
  }
}

function layoutsOf(
  [e2h, plain]: readonly [Uint32Array, Uint32Array],
  layout: TcrLayout | undefined,
): Uint32Array[] {
  if (layout === undefined) return [e2h, plain];
  return [layout === "two ranges" ? e2h : plain];
}

const MODELS = new Map<CpuModel, CoreModel>();

/** The model called `name`; made once. */
export function coreModel(name: CpuModel): CoreModel {
  const known = MODELS.get(name);
  if (known) return known;
  const model = new CoreModel(name);
  MODELS.set(name, model);
  return model;
}

function cacheSize(kib: number, ways: number): number {
  const sets = (kib * 1024) / 64 / ways;
  return ((sets - 1) << 13) | ((ways - 1) << 3) | 2;
}

/** CCSIDR_EL1 by CSSELR_EL1 (level - 1 in bits 3 to 1, instruction cache in bit 0). */
const CACHE_SIZES: readonly number[] = [cacheSize(32, 4), cacheSize(32, 4), cacheSize(1024, 16)];

/** CCSIDR_EL1 for a selector; 0 (UNKNOWN) for a cache that CLIDR_EL1 does not have. */
export function ccsidr(csselr: number): number {
  return CACHE_SIZES[csselr & 15] ?? 0;
}

/** Registers that the implemented features leave out: UNDEFINED at every level. */
export const ABSENT: ReadonlySet<SysregName> = new Set<SysregName>([
  // Only reachable from EL3
  "SP_EL2",
  // Only where EL1 or EL0 can use AArch32
  "DACR32_EL2",
  "IFSR32_EL2",
  "FPEXC32_EL2",
  "DBGVCR32_EL2",
  "SPSR_abt",
  "SPSR_fiq",
  "SPSR_irq",
  "SPSR_und",
  // 5 priority bits: one active-priority register per group
  ...([1, 2, 3] as const).flatMap((n): SysregName[] => [
    `ICC_AP0R${n}_EL1`,
    `ICC_AP1R${n}_EL1`,
    `ICH_AP0R${n}_EL2`,
    `ICH_AP1R${n}_EL2`,
  ]),
  ...range(EVENT_COUNTERS, 31).flatMap((n): SysregName[] => [
    `PMEVCNTR${n}_EL0` as SysregName,
    `PMEVTYPER${n}_EL0` as SysregName,
  ]),
  ...range(BREAKPOINTS, 16).flatMap((n): SysregName[] => [
    `DBGBVR${n}_EL1` as SysregName,
    `DBGBCR${n}_EL1` as SysregName,
  ]),
  ...range(WATCHPOINTS, 16).flatMap((n): SysregName[] => [
    `DBGWVR${n}_EL1` as SysregName,
    `DBGWCR${n}_EL1` as SysregName,
  ]),
]);

function range(from: number, to: number): number[] {
  return Array.from({ length: to - from }, (_, i) => from + i);
}
