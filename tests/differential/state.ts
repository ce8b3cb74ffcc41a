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

/** Overwrites `state` with the initial state of case `number`. */
export function resetState(state: MachineState, number: number): void {
  const { gpr, v } = SCRATCH;
  const seed = mix(0xca5e, number);
  for (let i = 0; i < 32; i++) {
    writeBiased(gpr, 2 * i, mix(seed, 3 * i), mix(seed, 3 * i + 1), mix(seed, 3 * i + 2) & 7);
  }
  for (let i = 0; i < 128; i++) v[i] = mix(seed, 200 + i);
  state.gpr.set(new BigUint64Array(gpr.buffer));
  state.gpr[SP] = BigInt(DATA + 16 * (mix(seed, 100) & 255));
  state.v.set(new BigUint64Array(v.buffer));
  state.data.set(INITIAL_DATA);
  state.pc = CODE;
  state.nzcv = mix(seed, 101) & 15;
  state.fpcr = 0;
  state.fpsr = 0;
}
