/** System registers and operations that compiled code reaches itself. */
import { CpuLayout, sysregOffset } from "../arch/cpu_state.ts";
import { HCR, SPSR } from "../arch/fields.ts";
import { sysreg, sysregKey } from "../arch/sysregs.ts";

const O = CpuLayout.offset;

/** System registers that MRS/MSR reach without leaving: exception levels they are plain storage at. */
export interface Inline {
  readonly offset: number;
  readonly size: 4 | 8;
  readonly shift: number;
  /** Least EL, and the only EL if `onlyEl1`. */
  readonly readFrom: 0 | 1;
  readonly writeFrom: 0 | 1 | undefined;
  readonly onlyEl1?: boolean;
  /** Bits of HCR_EL2 (31 to 0) that trap it. */
  readonly unlessHcr?: number;
  readonly spsel?: boolean;
  /** The bits that a value may have to be written here; with others it is left to the register's own rules. */
  readonly plainBits?: number;
  /** Traps as FP does. */
  readonly fp?: boolean;
}

const stored = (
  name: Parameters<typeof sysreg>[0],
  more: Omit<Inline, "offset" | "size" | "shift">,
): [number, Inline] => [
  sysreg(name).key,
  { offset: sysregOffset(sysreg(name).index), size: 8, shift: 0, ...more },
];

/** What SPSR_EL1 has on every core: not all have UAO and DIT. */
const SPSR_BITS = ((0xf << SPSR.NZCV_SHIFT) | SPSR.PAN | SPSR.SS | SPSR.IL | 0x3df) >>> 0;

/** The registers an operating system touches at every turn; all others go through the evaluator. */
export const INLINE = new Map<number, Inline>([
  stored("TPIDR_EL0", { readFrom: 0, writeFrom: 0 }),
  stored("TPIDRRO_EL0", { readFrom: 0, writeFrom: 1 }),
  stored("TPIDR_EL1", { readFrom: 1, writeFrom: 1 }),
  stored("SP_EL0", { readFrom: 1, writeFrom: 1, spsel: true }),
  stored("CTR_EL0", { readFrom: 1, writeFrom: undefined, unlessHcr: HCR.TID2 }),
  stored("DCZID_EL0", { readFrom: 1, writeFrom: undefined, unlessHcr: HCR.TDZ }),
  stored("ELR_EL1", { readFrom: 1, writeFrom: 1, onlyEl1: true }),
  stored("SPSR_EL1", { readFrom: 1, writeFrom: 1, onlyEl1: true, plainBits: SPSR_BITS }),
  stored("ESR_EL1", { readFrom: 1, writeFrom: undefined, onlyEl1: true, unlessHcr: HCR.TRVM }),
  stored("FAR_EL1", { readFrom: 1, writeFrom: undefined, onlyEl1: true, unlessHcr: HCR.TRVM }),
  [sysreg("NZCV").key, { offset: O.nzcv, size: 4, shift: 28, readFrom: 0, writeFrom: undefined }],
  [sysreg("FPCR").key, {
    offset: O.fpcr,
    size: 4,
    shift: 0,
    readFrom: 0,
    writeFrom: undefined,
    fp: true,
  }],
  [sysreg("FPSR").key, {
    offset: O.fpsr,
    size: 4,
    shift: 0,
    readFrom: 0,
    writeFrom: undefined,
    fp: true,
  }],
  [sysreg("DAIF").key, { offset: O.daif, size: 4, shift: 6, readFrom: 1, writeFrom: undefined }],
  [sysreg("CurrentEL").key, { offset: O.el, size: 4, shift: 2, readFrom: 1, writeFrom: undefined }],
]);

/** DC ZVA as SYS names it, and its block (DCZID_EL0.BS 4). */
export const DC_ZVA = sysregKey(1, 3, 7, 4, 1);
export const ZVA_BYTES = 64;

/** DC by address that cleans, by what traps it: without caches there is nothing to do but to translate. */
export const CLEANING = new Map<number, number>([
  [sysregKey(1, 3, 7, 10, 1), HCR.TPCP],
  [sysregKey(1, 3, 7, 11, 1), HCR.TPU],
  [sysregKey(1, 3, 7, 14, 1), HCR.TPCP],
]);

/** Whether the access to system register or operation `key` is compiled; all others leave to the evaluator. */
export function reachedInline(key: number): boolean {
  return key === DC_ZVA || CLEANING.has(key) || INLINE.has(key);
}
