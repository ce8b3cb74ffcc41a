/**
 * The address translation instructions as a table, and PAR_EL1. Source: DDI 0487 C5.4, D8.2.12
 * "Address translation instructions", D19 PAR_EL1.
 */
import { ACCESS, type Access } from "../arch/tlb_layout.ts";
import { sysregKey } from "../arch/sysregs.ts";
import { TWO32 } from "../../base/bits.ts";
import { parShareability } from "./attributes.ts";
import { FSC, isFault, type TranslationFault } from "./fault.ts";

type Row = readonly [
  name: string,
  op1: number,
  crm: number,
  op2: number,
  el: 0 | 1 | 2,
  stages: 1 | 2,
  access: Access,
  pan: boolean,
];

const { READ, WRITE } = ACCESS;

const ROWS = [
  ["S1E1R", 0, 8, 0, 1, 1, READ, false],
  ["S1E1W", 0, 8, 1, 1, 1, WRITE, false],
  ["S1E0R", 0, 8, 2, 0, 1, READ, false],
  ["S1E0W", 0, 8, 3, 0, 1, WRITE, false],
  ["S1E1RP", 0, 9, 0, 1, 1, READ, true],
  ["S1E1WP", 0, 9, 1, 1, 1, WRITE, true],
  ["S1E2R", 4, 8, 0, 2, 1, READ, false],
  ["S1E2W", 4, 8, 1, 2, 1, WRITE, false],
  ["S12E1R", 4, 8, 4, 1, 2, READ, false],
  ["S12E1W", 4, 8, 5, 1, 2, WRITE, false],
  ["S12E0R", 4, 8, 6, 0, 2, READ, false],
  ["S12E0W", 4, 8, 7, 0, 2, WRITE, false],
] as const satisfies readonly Row[];

export type AtName = (typeof ROWS)[number][0];

/** One address translation instruction. */
export interface AtOp {
  readonly name: AtName;
  /** Its encoding as the system-register layer packs it (op0 is 1, CRn 7). */
  readonly key: number;
  /** Translated as an access from there (EL1 means EL2 when HCR_EL2.{E2H,TGE} is {1,1}). */
  readonly el: 0 | 1 | 2;
  /** The output: of stage 1 alone, or of both stages. */
  readonly stages: 1 | 2;
  readonly access: Access;
  /** PSTATE.PAN is looked at. */
  readonly pan: boolean;
}

/** Every address translation instruction there is. */
export const AT_OPS: readonly AtOp[] = ROWS.map(
  ([name, op1, crm, op2, el, stages, access, pan]) => ({
    name,
    key: sysregKey(1, op1, 7, crm, op2),
    el,
    stages,
    access,
    pan,
  }),
);

const BY_NAME = new Map(AT_OPS.map((op) => [op.name, op]));
const BY_KEY = new Map(AT_OPS.map((op) => [op.key, op]));

/** The instruction with this encoding, or undefined. */
export function atByKey(key: number): AtOp | undefined {
  return BY_KEY.get(key);
}

/** The instruction called `name`. */
export function atByName(name: AtName): AtOp {
  return BY_NAME.get(name) as AtOp;
}

/** PAR_EL1 bits: F, PTW, S, and for a success NS; bit 11 is RES1. */
const PAR = { F: 1, PTW: 1 << 8, S: 1 << 9, NS: 1 << 9, RES1: 1 << 11 } as const;

/** Low half of PAR_EL1 after a translation to `pa`. */
export function parSuccessLo(pa: number, attr: number, shareability: number): number {
  return ((pa & ~0xfff) | PAR.RES1 | PAR.NS | (parShareability(attr, shareability) << 7)) >>> 0;
}

/** High half of PAR_EL1 after a translation to `pa`. */
export function parSuccessHi(pa: number, attr: number): number {
  return (Math.floor(pa / TWO32) | (attr << 24)) >>> 0;
}

/** Low half of PAR_EL1 after a fault (the high half is 0). */
export function parFault(fault: TranslationFault): number {
  return PAR.F | (fault.fsc << 1) | (fault.s1ptw ? PAR.PTW : 0) | (fault.stage2 ? PAR.S : 0) |
    PAR.RES1;
}

/**
 * Whether a fault of the instruction is taken as an exception instead of reported in PAR_EL1: an
 * external abort on the walk, and at EL1 a stage 2 fault on the walk (taken to EL2).
 */
export function atTakesException(fault: TranslationFault, currentEl: number): boolean {
  return isFault(fault.fsc, FSC.EXTERNAL_ON_WALK) || (fault.s1ptw && currentEl === 1);
}
