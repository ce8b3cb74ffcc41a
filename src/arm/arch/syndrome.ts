/**
 * Exception syndromes: the classes and ISS encodings of ESR_ELx. Source: Arm Architecture Reference
 * Manual (DDI 0487), "ESR_EL1, Exception Syndrome Register". Class names are those of KVM's traces.
 */

/** ESR_ELx.EC by the names that KVM's tracepoints print. */
export const EC = {
  UNKNOWN: 0x00,
  WFx: 0x01,
  CP15_32: 0x03,
  CP15_64: 0x04,
  CP14_MR: 0x05,
  CP14_LS: 0x06,
  FP_ASIMD: 0x07,
  CP10_ID: 0x08,
  PAC: 0x09,
  CP14_64: 0x0c,
  BTI: 0x0d,
  ILL: 0x0e,
  SVC32: 0x11,
  HVC32: 0x12,
  SMC32: 0x13,
  SVC64: 0x15,
  HVC64: 0x16,
  SMC64: 0x17,
  SYS64: 0x18,
  SVE: 0x19,
  ERET: 0x1a,
  IMP_DEF: 0x1f,
  IABT_LOW: 0x20,
  IABT_CUR: 0x21,
  PC_ALIGN: 0x22,
  DABT_LOW: 0x24,
  DABT_CUR: 0x25,
  SP_ALIGN: 0x26,
  FP_EXC32: 0x28,
  FP_EXC64: 0x2c,
  SERROR: 0x2f,
  BREAKPT_LOW: 0x30,
  BREAKPT_CUR: 0x31,
  SOFTSTP_LOW: 0x32,
  SOFTSTP_CUR: 0x33,
  WATCHPT_LOW: 0x34,
  WATCHPT_CUR: 0x35,
  BKPT32: 0x38,
  VECTOR32: 0x3a,
  BRK64: 0x3c,
} as const;

export type EcName = keyof typeof EC;

/** The class name for ESR_ELx.EC (0 to 63), or undefined for a reserved value. */
export const EC_NAMES: readonly (EcName | undefined)[] = Array.from(
  { length: 64 },
  (_, ec) => (Object.keys(EC) as EcName[]).find((name) => EC[name] === ec),
);

/** ESR_ELx.IL: a 32-bit instruction, or a class for which the bit is always set. */
export const ESR_IL = 1 << 25;

/** An ESR_ELx value (unsigned 32-bit) of class `ec` with IL set; `iss` is 25 bits. */
export function esr(ec: number, iss: number): number {
  return ((ec << 26) | ESR_IL | iss) >>> 0;
}

/** ESR_ELx.EC of a syndrome. */
export function ecOf(value: number): number {
  return value >>> 26;
}

/** ISS of classes with a condition field when raised from AArch64: CV set, COND 0b1110. */
export const ISS_CONDITION = 0x1e0_0000;

/** ISS.TI of WFx. */
export const WFX = { WFI: 0, WFE: 1 } as const;

/** ISS of class WFx; `ti` is one of {@link WFX}. */
export function issWfx(ti: number): number {
  return ISS_CONDITION | ti;
}

/**
 * ISS of class SYS64 for the encoding `key` (see `sysregKey`): Op0, Op2, Op1, CRn, Rt, CRm, direction
 * (1: a read, MRS or SYSL).
 */
export function issSys64(key: number, rt: number, read: boolean): number {
  const op0 = key >> 14, op1 = (key >> 11) & 7, crn = (key >> 7) & 15;
  const crm = (key >> 3) & 15, op2 = key & 7;
  return (op0 << 20) | (op2 << 17) | (op1 << 14) | (crn << 10) | (rt << 5) | (crm << 1) |
    (read ? 1 : 0);
}

/** Bits of the ISS of data and instruction aborts. */
export const ABORT = {
  ISV: 1 << 24,
  SAS_SHIFT: 22,
  SSE: 1 << 21,
  SRT_SHIFT: 16,
  SF: 1 << 15,
  AR: 1 << 14,
  FNV: 1 << 10,
  EA: 1 << 9,
  CM: 1 << 8,
  S1PTW: 1 << 7,
  WNR: 1 << 6,
} as const;

/**
 * The instruction part (ISV, SAS, SSE, SRT, SF, AR) of a data abort's ISS for the instruction `word`,
 * or 0 where the manual leaves ISV clear: anything but a load or store of one general register
 * without write-back, exclusives excluded.
 */
export function abortIss(word: number): number {
  // LDAPR, among the atomic operations.
  if ((word & 0x3fff_fc00) === 0x38bf_c000) return orderedIss(word);
  // Load/store register: unscaled, unprivileged, register offset (bits 11:10 say which), unsigned offset.
  if ((word & 0x3f00_0000) === 0x3800_0000) {
    const scaled = (word >>> 21) & 1, form = (word >>> 10) & 3;
    const single = scaled ? form === 2 : form === 0 || form === 2;
    return single ? registerIss(word) : 0;
  }
  if ((word & 0x3f00_0000) === 0x3900_0000) return registerIss(word);
  if ((word & 0x3f00_0000) === 0x1800_0000) return literalIss(word);
  // Load-acquire, store-release and their LORegion forms: o2 set, o1 clear.
  if ((word & 0x3fa0_0000) === 0x0880_0000) return orderedIss(word);
  // LDAPUR and STLUR.
  if ((word & 0x3f20_0c00) === 0x1900_0000) return registerIss(word) | ABORT.AR;
  return 0;
}

function issOf(size: number, signed: number, rt: number, wide: number, ordered: number): number {
  return ABORT.ISV | (size << ABORT.SAS_SHIFT) | (signed ? ABORT.SSE : 0) |
    (rt << ABORT.SRT_SHIFT) | (wide ? ABORT.SF : 0) | (ordered ? ABORT.AR : 0);
}

function registerIss(word: number): number {
  const size = word >>> 30, opc = (word >>> 22) & 3;
  if (size === 3 && opc === 2) return 0; // prefetch
  const signed = opc >> 1;
  const wide = signed ? (opc === 2 ? 1 : 0) : size === 3 ? 1 : 0;
  return issOf(size, signed, word & 31, wide, 0);
}

function literalIss(word: number): number {
  const opc = word >>> 30;
  if (opc === 3) return 0; // prefetch
  return opc === 2 ? issOf(2, 1, word & 31, 1, 0) : issOf(2 + opc, 0, word & 31, opc, 0);
}

function orderedIss(word: number): number {
  const size = word >>> 30;
  return issOf(size, 0, word & 31, size === 3 ? 1 : 0, 1);
}
