/**
 * The SYS instructions as data: DC and IC here, AT and TLBI from the MMU's tables. Source: Arm
 * Architecture Reference Manual (DDI 0487), C5 "The A64 System Instruction Class".
 */
import type { FeatureName } from "./arch/features.ts";
import { sysregFields, sysregKey } from "./arch/sysregs.ts";
import { AT_OPS, type AtName } from "./mmu/at.ts";
import { TLBI_OPS, type TlbiName } from "./mmu/tlbi.ts";

export type DcName =
  | "IVAC"
  | "ISW"
  | "CSW"
  | "CISW"
  | "ZVA"
  | "CVAC"
  | "CVAU"
  | "CIVAC"
  | "CVAP"
  | "CVADP";
export type IcName = "IALLUIS" | "IALLU" | "IVAU";
export type { AtName, TlbiName };

interface Place {
  readonly key: number;
  /** Without it the operation does not exist. */
  readonly feature: FeatureName | undefined;
  /** The lowest exception level that op1 lets in, before traps. */
  readonly minEl: 0 | 1 | 2;
}

/** One SYS instruction. */
export type SystemOperation =
  & Place
  & (
    | { readonly kind: "dc"; readonly name: DcName }
    | { readonly kind: "ic"; readonly name: IcName }
    | { readonly kind: "at"; readonly name: AtName }
    | { readonly kind: "tlbi"; readonly name: TlbiName }
  );

const CACHE_ROWS = [
  ["dc", "IVAC", 0, 6, 1],
  ["dc", "ISW", 0, 6, 2],
  ["dc", "CSW", 0, 10, 2],
  ["dc", "CISW", 0, 14, 2],
  ["dc", "ZVA", 3, 4, 1],
  ["dc", "CVAC", 3, 10, 1],
  ["dc", "CVAP", 3, 12, 1],
  ["dc", "CVADP", 3, 13, 1],
  ["dc", "CVAU", 3, 11, 1],
  ["dc", "CIVAC", 3, 14, 1],
  ["ic", "IALLUIS", 0, 1, 0],
  ["ic", "IALLU", 0, 5, 0],
  ["ic", "IVAU", 3, 5, 1],
] as const;

const OPERATION_FEATURES: Readonly<Record<string, FeatureName>> = {
  CVAP: "FEAT_DPB",
  CVADP: "FEAT_DPB2",
  S1E1RP: "FEAT_PAN2",
  S1E1WP: "FEAT_PAN2",
};

function place(key: number, name: string): Place {
  const { op1 } = sysregFields(key);
  return { key, feature: OPERATION_FEATURES[name], minEl: op1 === 3 ? 0 : op1 === 4 ? 2 : 1 };
}

/** Every SYS instruction that exists. */
export const SYSTEM_OPERATIONS: readonly SystemOperation[] = [
  ...CACHE_ROWS.map(([kind, name, op1, crm, op2]): SystemOperation =>
    ({ ...place(sysregKey(1, op1, 7, crm, op2), name), kind, name }) as SystemOperation
  ),
  ...AT_OPS.map((op): SystemOperation => ({
    ...place(op.key, op.name),
    kind: "at",
    name: op.name,
  })),
  ...TLBI_OPS.map((op): SystemOperation => ({
    ...place(op.key, op.name),
    kind: "tlbi",
    name: op.name,
  })),
];

const BY_KEY = new Map(SYSTEM_OPERATIONS.map((o) => [o.key, o]));

/** The operation with this encoding, or undefined: UNDEFINED. */
export function systemOperationByKey(key: number): SystemOperation | undefined {
  return BY_KEY.get(key);
}
