/**
 * The state a case starts from, made from its number alone, so that the recorded vectors need not
 * hold it. Changing anything here makes the recorded vectors wrong: record them anew.
 */

/** One page of code, and one of data behind it. */
export const CODE_PAGE = 0x4800_0000;
/** Address of the first instruction: in the middle of its page, so that ADRP has something to clear. */
export const CODE = CODE_PAGE + 0x7f8;
export const DATA = 0x4800_1000;
export const DATA_SIZE = 4096;
/** Around both nothing is accessible: branches may go anywhere here. */
export const RESERVED = 0x4000_0000;
export const RESERVED_END = 0x5000_0000;

/** Index of SP in {@link MachineState.gpr}. */
export const SP = 31;

/** What an instruction at EL0 can see and change. */
export interface MachineState {
  /** X0 to X30 and SP. */
  readonly gpr: BigUint64Array;
  /** V0 to V31, low half first. */
  readonly v: BigUint64Array;
  readonly data: Uint8Array;
  pc: number;
  /** Bits 3 to 0. */
  nzcv: number;
  fpcr: number;
  fpsr: number;
}

/** A fresh state of zeros. */
export function emptyState(): MachineState {
  return {
    gpr: new BigUint64Array(32),
    v: new BigUint64Array(64),
    data: new Uint8Array(DATA_SIZE),
    pc: CODE,
    nzcv: 0,
    fpcr: 0,
    fpsr: 0,
  };
}

/** Makes `to` what `from` is. */
export function copyState(from: MachineState, to: MachineState): void {
  to.gpr.set(from.gpr);
  to.v.set(from.v);
  to.data.set(from.data);
  to.pc = from.pc;
  to.nzcv = from.nzcv;
  to.fpcr = from.fpcr;
  to.fpsr = from.fpsr;
}

/** 32-bit mixing function: the n-th number of stream `seed`. */
function mix(seed: number, n: number): number {
  let x = (seed + Math.imul(n, 0x9e3779b9)) | 0;
  x = Math.imul(x ^ (x >>> 16), 0x21f0aaad);
  x = Math.imul(x ^ (x >>> 15), 0x735a2d97);
  return (x ^ (x >>> 15)) >>> 0;
}

/** Writes a biased 64-bit value: small, negative, at the limits of 8 to 64 bits, single bits, anything. */
function writeBiased(words: Uint32Array, at: number, a: number, b: number, kind: number): void {
  let lo = a, hi = b;
  if (kind < 2) {
    lo = a & 15;
    hi = 0;
    if (kind === 1) [lo, hi] = [~lo, -1];
  } else if (kind === 2) {
    [lo, hi] = [(-1 << (a & 31)) + (b & 1), b & 2 ? -1 : 0];
  } else if (kind === 3) {
    const bit = a & 63;
    [lo, hi] = bit < 32 ? [1 << bit, 0] : [0, 1 << (bit - 32)];
  } else if (kind === 4) {
    [lo, hi] = [a & 1 ? -1 : 0, b & 1 ? 0x7fff_ffff : 0x8000_0000];
  } else if (kind === 5) {
    hi = b & 1 ? -1 : 0;
  }
  words[at] = lo;
  words[at + 1] = hi;
}

const GPR = new Uint32Array(64);
const V = new Uint32Array(128);
/** Where registers are made, as elements of several widths. */
const SCRATCH = {
  gpr: GPR,
  gpr64: new BigUint64Array(GPR.buffer),
  v: V,
  v64: new BigUint64Array(V.buffer),
  bytes: new Uint8Array(V.buffer),
  halves: new Uint16Array(V.buffer),
} as const;

/** The contents of the data page at the start of every case. */
export const INITIAL_DATA: Uint8Array = Uint8Array.from({ length: DATA_SIZE }, (_, i) => {
  const random = mix(0x5eed, i);
  return [0, 0xff, 0x80, 0x7f][random & 15] ?? (random >>> 8) & 255;
});

/**
 * What the vector registers hold: any bits; lanes of all widths at the limits of integers; lanes at
 * the special values of floating-point numbers, which each case fills in ({@link fillFloats}). The
 * last two also vary FPSR, and "float" FPCR.
 */
export type Operands = "general" | "vector" | "float";

/** Bits of FPSR: QC, IDC, IXC, UFC, OFC, DZC, IOC. */
const FPSR_BITS = 0x0800_009f;
const FPSR_IXC = 0x10;
/** Bits of FPCR: AHP, DN, FZ, RMode, FZ16. */
const FPCR_BITS = 0x07c8_0000;

const POWERS: readonly number[] = Array.from({ length: 33 }, (_, i) => 2 ** i);
const power = (exponent: number): number => POWERS[exponent] as number;

/** A number of `bits` (at most 32) bits near a limit, a shift amount, a single bit, or anything. */
function specialInteger(bits: number, a: number, kind: number): number {
  const near = (a % 5) - 2;
  switch (kind % 8) {
    case 0:
      return near;
    case 1:
      return power(bits - 1) + near;
    case 2:
      return power(bits) + near;
    case 3:
      return (a % (2 * bits + 6)) - bits - 3;
    case 4:
      return power(a % bits);
    case 5:
      return -power(a % bits);
    default:
      return a;
  }
}

/** Exponent and fraction widths of the floating-point formats. */
const FORMATS = { 16: [5, 10], 32: [8, 23], 64: [11, 52] } as const;
export type FloatBits = keyof typeof FORMATS;

/** Exponents around these powers of two are limits of integers. */
const INTEGER_LIMITS = [6, 7, 8, 14, 15, 16, 30, 31, 32, 52, 53, 62, 63, 64] as const;

/** A biased exponent of each kind that finds mistakes. */
function specialExponent(bits: FloatBits, random: number, kind: number): number {
  const [exponentBits, fractionBits] = FORMATS[bits];
  const top = 2 ** exponentBits - 1;
  const bias = top >> 1;
  const near = random % 7 - 3;
  const kinds = [
    0, // zero and subnormal
    0,
    top, // infinity and NaN
    1 + (random & 1),
    top - 1 - (random & 1),
    1 + random % (fractionBits + 3),
    (bias >> 1) + near, // products and roots at the ends of the range
    bias + (bias >> 1) + near,
    bias + (INTEGER_LIMITS[random % INTEGER_LIMITS.length] ?? 0),
    bias + near * (fractionBits >> 2),
    bias + fractionBits + near,
    random & top,
  ];
  return Math.max(0, Math.min(top, kinds[kind] ?? bias + near));
}

/**
 * A floating-point number of `bits` bits as its high and low word: zero, subnormal, the ends of the
 * normal range, halves and the limits of integers, near 1, infinite, quiet or signalling NaN, a
 * small integer's bits, or anything.
 */
function specialFloat(bits: FloatBits, seed: number): readonly [number, number] {
  const [exponentBits, fractionBits] = FORMATS[bits];
  const random = mix(seed, 1);
  const kind = mix(seed, 0) % 20;
  if (kind === 19) return [bits === 64 ? (random & 1) - 1 : (random & 15) - 8, random & 15];
  const highBits = bits === 64 ? fractionBits - 32 : fractionBits;
  const low = mix(seed, 2);
  const high = mix(seed, 3);
  // Nothing, all ones, one bit at the top or the bottom, a few at the top, or anything.
  const [fraction, lowWord] = ([
    [0, 0],
    [0, 0],
    [-1, -1],
    [2 ** (highBits - 1), 0],
    [0, bits === 64 ? 1 + (low & 3) : 0],
    [high << (highBits - 4), 0],
    [high << (highBits - 4), bits === 64 ? low & 1 : 0],
  ] as const)[(random >>> 12) & 15] ?? [high, low];
  const exponent = specialExponent(bits, random >>> 16, kind);
  const sign = random & 1;
  const word = (sign * 2 ** exponentBits + exponent) * 2 ** highBits +
    ((fraction & (2 ** highBits - 1)) >>> 0);
  return [word, lowWord];
}

/** Writes lane `index` of register `n`: of 64 bits, `low` is the lower word. */
function writeLane(n: number, bits: number, index: number, high: number, low: number): void {
  const { bytes, halves, v } = SCRATCH;
  if (bits === 8) bytes[16 * n + index] = high;
  else if (bits === 16) halves[8 * n + index] = high;
  else if (bits === 32) v[4 * n + index] = high;
  else {
    v[4 * n + 2 * index] = low;
    v[4 * n + 2 * index + 1] = high;
  }
}

/** A lane of 64 bits: half of them at a limit of 64 bits, half at one of the lower word. */
function writeWide(n: number, index: number, value: number, choice: number): void {
  const above = value < 0 ? -1 : 0;
  if (choice & 1) writeLane(n, 64, index, value, value & 1 ? -1 : above);
  else writeLane(n, 64, index, above, value);
}

const LANE_BITS = [8, 16, 32, 64] as const;

/** Fills register `n` with lanes at the limits of integers, or with anything. */
function writeInteger(n: number, seed: number): void {
  const bits = LANE_BITS[mix(seed, 0) % 7];
  if (bits === undefined) {
    for (let i = 0; i < 4; i++) SCRATCH.v[4 * n + i] = mix(seed, i + 1);
    return;
  }
  for (let i = 0; i < 128 / bits; i++) {
    const value = specialInteger(Math.min(bits, 32), mix(seed, 2 * i + 1), mix(seed, 2 * i + 2));
    if (bits === 64) writeWide(n, i, value, mix(seed, 40 + i));
    else writeLane(n, bits, i, value, 0);
  }
}

/** Overwrites the V registers with special numbers of `bits` bits in all lanes. */
export function fillFloats(v: BigUint64Array, bits: FloatBits, seed: number): void {
  for (let i = 0; i < 32; i++) {
    const register = mix(seed, 300 + i);
    for (let lane = 0; lane < 128 / bits; lane++) {
      const [high, low] = specialFloat(bits, mix(register, lane));
      writeLane(i, bits, lane, high, low);
    }
  }
  v.set(SCRATCH.v64);
}

/** "float" is as "general" here: which width the lanes have depends on the instruction. */
function fillVectors(v: Uint32Array, seed: number, operands: Operands): void {
  if (operands === "vector") {
    for (let i = 0; i < 32; i++) writeInteger(i, mix(seed, 200 + i));
  } else for (let i = 0; i < 128; i++) v[i] = mix(seed, 200 + i);
}

/** FPSR at the start of a "float" case: mostly Inexact alone, or nothing. */
function floatFpsr(seed: number): number {
  return [0, FPSR_IXC, FPSR_IXC, mix(seed, 104) & FPSR_BITS][mix(seed, 102) & 3] as number;
}

/** Overwrites `state` with the initial state of case `number`. */
export function resetState(state: MachineState, number: number, operands: Operands): void {
  const { gpr, v } = SCRATCH;
  const seed = mix(0xca5e, number);
  for (let i = 0; i < 32; i++) {
    writeBiased(gpr, 2 * i, mix(seed, 3 * i), mix(seed, 3 * i + 1), mix(seed, 3 * i + 2) & 7);
  }
  fillVectors(v, seed, operands);
  state.gpr.set(SCRATCH.gpr64);
  state.gpr[SP] = BigInt(DATA + 16 * (mix(seed, 100) & 255));
  state.v.set(SCRATCH.v64);
  state.data.set(INITIAL_DATA);
  state.pc = CODE;
  state.nzcv = mix(seed, 101) & 15;
  const kind = mix(seed, 102);
  const some = (bits: number, chance: number) => chance & 3 ? 0 : (mix(seed, 103) & bits) >>> 0;
  state.fpcr = operands === "float" && kind & 8 ? (mix(seed, 103) & FPCR_BITS) >>> 0 : 0;
  state.fpsr = operands === "float"
    ? floatFpsr(seed)
    : operands === "general"
    ? 0
    : some(FPSR_BITS, kind >>> 2);
}
