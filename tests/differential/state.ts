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

const SCRATCH = { gpr: new Uint32Array(64), v: new Uint32Array(128) };

/** The contents of the data page at the start of every case. */
export const INITIAL_DATA: Uint8Array = Uint8Array.from({ length: DATA_SIZE }, (_, i) => {
  const random = mix(0x5eed, i);
  return [0, 0xff, 0x80, 0x7f][random & 15] ?? (random >>> 8) & 255;
});

/**
 * What the vector registers hold: any bits; lanes of all widths at the limits of integers; lanes at
 * the special values of floating-point numbers. The last two also vary FPSR, and "float" FPCR.
 */
export type Operands = "general" | "vector" | "float";

/** Bits of FPSR: QC, IDC, IXC, UFC, OFC, DZC, IOC. */
const FPSR_BITS = 0x0800_009f;
/** Bits of FPCR that every implementation of Armv8.0 has: AHP, DN, FZ, RMode. */
const FPCR_BITS = 0x07c0_0000;

/** A number of `bits` (at most 32) bits near a limit, a shift amount, a single bit, or anything. */
function specialInteger(bits: number, a: number, kind: number): number {
  const near = (a % 5) - 2;
  switch (kind % 8) {
    case 0:
      return near;
    case 1:
      return 2 ** (bits - 1) + near;
    case 2:
      return 2 ** bits + near;
    case 3:
      return (a % (2 * bits + 6)) - bits - 3;
    case 4:
      return 2 ** (a % bits);
    case 5:
      return -(2 ** (a % bits));
    default:
      return a;
  }
}

/** Sign, exponent and fraction widths of the floating-point formats. */
const FORMATS = { 16: [5, 10], 32: [8, 23], 64: [11, 52] } as const;

/**
 * A floating-point number of `bits` bits as its high and low word: zero, subnormal, the ends of the
 * normal range, near 1, infinite, quiet or signalling NaN, or anything.
 */
function specialFloat(bits: 16 | 32 | 64, a: number, b: number, kind: number): [number, number] {
  const [exponentBits, fractionBits] = FORMATS[bits];
  const top = 2 ** exponentBits - 1;
  const bias = top >> 1;
  const near = (a >>> 8) % 5 - 2;
  const exponents = [0, 0, 1, top - 1, bias + near, bias + fractionBits + near, top, top];
  const exponent = exponents[kind % 16] ?? (a >>> 4) & top;
  const highBits = bits === 64 ? fractionBits - 32 : fractionBits;
  const fractions = [0, b, 1, -1, 2 ** (highBits - 1)];
  const fraction = (fractions[(kind >>> 4) % 8] ?? b) & (2 ** highBits - 1);
  const word = ((a & 1) * 2 ** (bits === 64 ? 31 : bits - 1)) + exponent * 2 ** highBits + fraction;
  const low = [0, 0, -1, 1][(kind >>> 7) % 8] ?? Math.imul(b, 0x9e3779b9);
  return [word, low];
}

/** Writes the V register at words `at` to `at + 3`. */
type WriteRegister = (words: Uint32Array, at: number, seed: number) => void;

const REGISTER_BYTES = 16;

function writeLanes(
  words: Uint32Array,
  at: number,
  bits: number,
  lane: (index: number) => readonly [number, number],
): void {
  const view = new DataView(words.buffer, 4 * at, REGISTER_BYTES);
  for (let i = 0; i < 128 / bits; i++) {
    const [high, low] = lane(i);
    if (bits === 8) view.setUint8(i, high);
    else if (bits === 16) view.setUint16(2 * i, high, true);
    else if (bits === 32) view.setUint32(4 * i, high, true);
    else {
      view.setUint32(8 * i, low, true);
      view.setUint32(8 * i + 4, high, true);
    }
  }
}

const writeInteger: WriteRegister = (words, at, seed) => {
  const kind = mix(seed, 0) % 7;
  const bits = [8, 16, 32, 64][kind];
  if (bits === undefined) {
    for (let i = 0; i < 4; i++) words[at + i] = mix(seed, i + 1);
    return;
  }
  writeLanes(words, at, bits, (i) => {
    const value = specialInteger(Math.min(bits, 32), mix(seed, 2 * i + 1), mix(seed, 2 * i + 2));
    if (bits < 64) return [value, 0];
    // Half of the lanes at a limit of 64 bits, half at one of the lower word.
    const low = mix(seed, 40 + i);
    return low & 1 ? [value, value < 0 ? -1 : value & 1 ? -1 : 0] : [value < 0 ? -1 : 0, value];
  });
};

const writeFloat: WriteRegister = (words, at, seed) => {
  const bits = ([16, 32, 64, 32, 64, 32, 64] as const)[mix(seed, 0) & 7];
  if (bits === undefined) return writeInteger(words, at, seed);
  writeLanes(
    words,
    at,
    bits,
    (i) => specialFloat(bits, mix(seed, 3 * i + 1), mix(seed, 3 * i + 2), mix(seed, 3 * i + 3)),
  );
};

const WRITERS: Readonly<Record<"vector" | "float", WriteRegister>> = {
  vector: writeInteger,
  float: writeFloat,
};

function fillVectors(v: Uint32Array, seed: number, operands: Operands): void {
  if (operands === "general") {
    for (let i = 0; i < 128; i++) v[i] = mix(seed, 200 + i);
    return;
  }
  const write = WRITERS[operands];
  for (let i = 0; i < 32; i++) write(v, 4 * i, mix(seed, 200 + i));
}

/** Overwrites `state` with the initial state of case `number`. */
export function resetState(state: MachineState, number: number, operands: Operands): void {
  const { gpr, v } = SCRATCH;
  const seed = mix(0xca5e, number);
  for (let i = 0; i < 32; i++) {
    writeBiased(gpr, 2 * i, mix(seed, 3 * i), mix(seed, 3 * i + 1), mix(seed, 3 * i + 2) & 7);
  }
  fillVectors(v, seed, operands);
  state.gpr.set(new BigUint64Array(gpr.buffer));
  state.gpr[SP] = BigInt(DATA + 16 * (mix(seed, 100) & 255));
  state.v.set(new BigUint64Array(v.buffer));
  state.data.set(INITIAL_DATA);
  state.pc = CODE;
  state.nzcv = mix(seed, 101) & 15;
  const kind = mix(seed, 102);
  const some = (bits: number, chance: number) => chance & 3 ? 0 : (mix(seed, 103) & bits) >>> 0;
  state.fpcr = operands === "float" ? some(FPCR_BITS, kind) : 0;
  state.fpsr = operands === "general" ? 0 : some(FPSR_BITS, kind >>> 2);
}
