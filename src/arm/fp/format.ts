/**
 * Floating-point formats and the state an operation works with, after the Arm manual's pseudocode
 * (DDI 0487, shared/functions/float): slow and obvious, in bigints. Everything here is the reference
 * that generated code is compared with, and what executes each instruction that generated code leaves.
 *
 * An element is its bits as an unsigned bigint. A number is `mantissa * 2^exponent`, exactly.
 */

/** Width of an element in bits. */
export type FpSize = 16 | 32 | 64;

/** Bits of FPCR. */
export const FPCR = {
  FZ16: 1 << 19,
  RMODE_SHIFT: 22,
  FZ: 1 << 24,
  DN: 1 << 25,
  AHP: 1 << 26,
} as const;

/** Cumulative bits of FPSR. */
export const FPSR = {
  IOC: 1 << 0,
  DZC: 1 << 1,
  OFC: 1 << 2,
  UFC: 1 << 3,
  IXC: 1 << 4,
  IDC: 1 << 7,
} as const;

/** Bits that there are: AHP, DN, FZ, RMode, FZ16 (no exception traps); QC and the cumulative ones. */
export const FPCR_MASK = 0x07c8_0000;
export const FPSR_MASK = 0x0800_009f;

/** FPRounding: FPCR.RMode's four, and those that only instructions name. */
export type Rounding = "even" | "up" | "down" | "zero" | "away" | "odd";

const MODES = ["even", "up", "down", "zero"] as const;

/** What an operation reads (FPCR) and accumulates (FPSR's bits). */
export class FpState {
  flags = 0;
  constructor(readonly fpcr: number) {}

  raise(flag: number): void {
    this.flags |= flag;
  }
  get rounding(): Rounding {
    return MODES[(this.fpcr >>> FPCR.RMODE_SHIFT) & 3] as Rounding;
  }
  get defaultNaN(): boolean {
    return (this.fpcr & FPCR.DN) !== 0;
  }
  get alternativeHalf(): boolean {
    return (this.fpcr & FPCR.AHP) !== 0;
  }
  /** Whether subnormal numbers of this size are flushed. */
  flushes(size: FpSize): boolean {
    return (this.fpcr & (size === 16 ? FPCR.FZ16 : FPCR.FZ)) !== 0;
  }
}

/** A format: fraction bits, exponent bits, and the exponent of the smallest normal number. */
export interface Format {
  readonly size: FpSize;
  readonly fraction: number;
  readonly exponent: number;
  readonly minimum: number;
}

const FORMATS: Readonly<Record<FpSize, Format>> = {
  16: { size: 16, fraction: 10, exponent: 5, minimum: -14 },
  32: { size: 32, fraction: 23, exponent: 8, minimum: -126 },
  64: { size: 64, fraction: 52, exponent: 11, minimum: -1022 },
};

export function formatOf(size: FpSize): Format {
  return FORMATS[size];
}

/** The low `bits` ones. */
export function ones(bits: number): bigint {
  return (1n << BigInt(bits)) - 1n;
}

/** An element from its three fields. */
export function pack(size: FpSize, sign: number, exponent: number, fraction: bigint): bigint {
  const f = FORMATS[size];
  const top = (BigInt(sign) << BigInt(f.exponent)) | BigInt(exponent);
  return (top << BigInt(f.fraction)) | fraction;
}

/** The three fields of an element. */
export function fieldsOf(
  size: FpSize,
  bits: bigint,
): { sign: 0 | 1; exponent: number; fraction: bigint } {
  const f = FORMATS[size];
  return {
    sign: (bits >> BigInt(size - 1)) & 1n ? 1 : 0,
    exponent: Number((bits >> BigInt(f.fraction)) & ones(f.exponent)),
    fraction: bits & ones(f.fraction),
  };
}

/** Manual: FPZero, FPInfinity, FPMaxNormal, FPDefaultNaN; then FPTwo and FPOnePointFive by value. */
export function fpZero(size: FpSize, sign: number): bigint {
  return pack(size, sign, 0, 0n);
}
export function fpInfinity(size: FpSize, sign: number): bigint {
  return pack(size, sign, Number(ones(FORMATS[size].exponent)), 0n);
}
export function fpMaxNormal(size: FpSize, sign: number): bigint {
  const f = FORMATS[size];
  return pack(size, sign, Number(ones(f.exponent)) - 1, ones(f.fraction));
}
export function fpDefaultNaN(size: FpSize): bigint {
  const f = FORMATS[size];
  return pack(size, 0, Number(ones(f.exponent)), 1n << BigInt(f.fraction - 1));
}
export function fpTwo(size: FpSize, sign: number): bigint {
  return pack(size, sign, 1 - FORMATS[size].minimum + 1, 0n);
}
export function fpOnePointFive(size: FpSize, sign: number): bigint {
  const f = FORMATS[size];
  return pack(size, sign, 1 - f.minimum, 1n << BigInt(f.fraction - 1));
}

/** Manual: FPNeg, FPAbs. No operation on the number: NaNs are changed too, nothing is raised. */
export function fpNeg(size: FpSize, bits: bigint): bigint {
  return bits ^ (1n << BigInt(size - 1));
}
export function fpAbs(size: FpSize, bits: bigint): bigint {
  return bits & ones(size - 1);
}

/** What an element is. `zero` has mantissa 0; `finite` are all other numbers. */
export type FpType = "zero" | "finite" | "infinity" | "quiet" | "signalling";

export interface Unpacked {
  readonly bits: bigint;
  readonly type: FpType;
  readonly sign: 0 | 1;
  readonly mantissa: bigint;
  readonly exponent: number;
}

/**
 * Manual: FPUnpackBase. `conversion` is FPUnpackCV's way: half precision may be the alternative format,
 * and FPCR.FZ16 does not apply.
 */
export function unpack(
  state: FpState,
  size: FpSize,
  bits: bigint,
  conversion = false,
): Unpacked {
  const f = FORMATS[size];
  const { sign, exponent, fraction } = fieldsOf(size, bits);
  const alternative = conversion && size === 16 && state.alternativeHalf;
  const none = { bits, sign, mantissa: 0n, exponent: 0 };
  if (exponent === Number(ones(f.exponent)) && !alternative) {
    if (fraction === 0n) return { ...none, type: "infinity" };
    const quiet = (fraction >> BigInt(f.fraction - 1)) === 1n;
    return { ...none, type: quiet ? "quiet" : "signalling" };
  }
  if (exponent === 0) {
    if (fraction === 0n || isFlushed(state, size, conversion)) return { ...none, type: "zero" };
    return { bits, type: "finite", sign, mantissa: fraction, exponent: f.minimum - f.fraction };
  }
  const mantissa = fraction | (1n << BigInt(f.fraction));
  return { bits, type: "finite", sign, mantissa, exponent: exponent - 1 + f.minimum - f.fraction };
}

/** Whether a subnormal operand counts as zero; raises Input Denormal where that does. */
function isFlushed(state: FpState, size: FpSize, conversion: boolean): boolean {
  if (size === 16) return !conversion && state.flushes(16);
  if (!state.flushes(size)) return false;
  state.raise(FPSR.IDC);
  return true;
}

export function isNaN(u: Unpacked): boolean {
  return u.type === "quiet" || u.type === "signalling";
}

/** Manual: FPProcessNaN. */
export function processNaN(state: FpState, size: FpSize, u: Unpacked): bigint {
  if (u.type === "signalling") state.raise(FPSR.IOC);
  if (state.defaultNaN) return fpDefaultNaN(size);
  return u.bits | (1n << BigInt(FORMATS[size].fraction - 1));
}

/** Manual: FPProcessNaNs, FPProcessNaNs3: the first signalling operand, else the first quiet one; else null. */
export function processNaNs(state: FpState, size: FpSize, ...operands: Unpacked[]): bigint | null {
  const found = operands.find((u) => u.type === "signalling") ??
    operands.find((u) => u.type === "quiet");
  return found ? processNaN(state, size, found) : null;
}

/** The default NaN, with Invalid Operation. */
export function invalid(state: FpState, size: FpSize): bigint {
  state.raise(FPSR.IOC);
  return fpDefaultNaN(size);
}
