/**
 * What the walks of both stages share: reading descriptors and taking them apart, in all granules.
 * Source: DDI 0487 D8.3 "Translation table descriptor formats".
 *
 * Addresses are pairs of 32-bit halves here: as numbers above 2^31 they would be boxed at each call.
 */
import type { SharedMemory } from "../../base/memory.ts";
import { TWO32 } from "../../base/bits.ts";
import { ramOffset, type RamRange } from "../arch/tlb_layout.ts";

/** Descriptor bit AF, in the low half. */
export const DESCRIPTOR_AF = 1 << 10;
/** Descriptor bit DBM (dirty bit modifier), in the high half. */
export const DESCRIPTOR_DBM = 1 << 19;

/** What a descriptor is at its level. */
export const KIND = { INVALID: 0, TABLE: 1, LEAF: 2 } as const;

const { INVALID, TABLE, LEAF } = KIND;
/** By `level * 4 + bits 1 to 0`: at level 3 only pages, at levels 0 and 1 blocks only with 4 KiB pages at level 1. */
const KINDS_4K = Uint8Array.of(
  ...[INVALID, INVALID, INVALID, TABLE],
  ...[INVALID, LEAF, INVALID, TABLE],
  ...[INVALID, LEAF, INVALID, TABLE],
  ...[INVALID, INVALID, INVALID, LEAF],
);
const KINDS_LARGER = Uint8Array.of(
  ...[INVALID, INVALID, INVALID, TABLE],
  ...[INVALID, INVALID, INVALID, TABLE],
  ...[INVALID, LEAF, INVALID, TABLE],
  ...[INVALID, INVALID, INVALID, LEAF],
);

/** A translation granule, as the logarithm of its page size: 4, 16 or 64 KiB. */
export const GRANULE = { K4: 12, K16: 14, K64: 16 } as const;
export type Granule = (typeof GRANULE)[keyof typeof GRANULE];

/** By TG0 (TCR_ELx and VTCR_EL2 bits 15 to 14), and by TG1 (TCR_ELx bits 31 to 30). A reserved value counts as 4 KiB. */
const TG0: readonly Granule[] = [GRANULE.K4, GRANULE.K64, GRANULE.K16, GRANULE.K4];
const TG1: readonly Granule[] = [GRANULE.K4, GRANULE.K16, GRANULE.K4, GRANULE.K64];

/** The granule of the lower range, or of stage 2. */
export function lowerGranule(tcrLo: number): Granule {
  return TG0[(tcrLo >>> 14) & 3] as Granule;
}

/** The granule of the upper range. */
export function upperGranule(tcrLo: number): Granule {
  return TG1[tcrLo >>> 30] as Granule;
}

/** One of {@link KIND} for the descriptor with low half `lo` at `level`. */
export function descriptorKind(granule: Granule, lo: number, level: number): number {
  const kinds = granule === GRANULE.K4 ? KINDS_4K : KINDS_LARGER;
  return kinds[level * 4 + (lo & 3)] as number;
}

/** Address bits that one level resolves. */
export function stride(granule: Granule): number {
  return granule - 3;
}

/** Address bits below the index of `level`: the size of a leaf there, as a power of two. */
export function levelShift(granule: Granule, level: number): number {
  return granule + (3 - level) * (granule - 3);
}

/** The level at which a walk of `inputBits` (25 to 48) address bits starts in stage 1. */
export function startLevel(granule: Granule, inputBits: number): number {
  return 4 - Math.ceil((inputBits - granule) / (granule - 3));
}

/** The index into a table whose leaves have `2 ** shift` bytes (`mask`: number of its entries less one) for an address in halves. */
export function tableIndex(lo: number, hi: number, shift: number, mask: number): number {
  if (shift >= 32) return (hi >>> (shift - 32)) & mask;
  return ((lo >>> shift) | (hi << (32 - shift))) & mask;
}

/** Bits 47 to 32 of the address in a descriptor, TTBR or VTTBR. */
export function addressHi(hi: number): number {
  return hi & 0xffff;
}

/** Whether an address with this high half is beyond `bits` (32 to 48) bits. */
export function beyond(hi: number, bits: number): boolean {
  return hi >>> (bits - 32) !== 0;
}

/** The low half of the address of the next table, from a table descriptor's. */
export function tableLo(granule: Granule, lo: number): number {
  return lo & -(1 << granule);
}

/** The low half of the address of a first table of `mask + 1` entries: the low bits of a TTBR are not its. */
export function firstTableLo(ttbrLo: number, mask: number): number {
  return ttbrLo & ~(8 * mask + 7);
}

/** The low half of what the address with low half `at` maps to by a leaf of `2 ** shift` (at most 2^30) bytes. */
export function leafLo(lo: number, at: number, shift: number): number {
  const mask = -(1 << shift);
  return (lo & mask) | (at & ~mask);
}

/** An address in halves as a number. */
export function joinAddress(lo: number, hi: number): number {
  return (lo >>> 0) + hi * TWO32;
}

/** Reads descriptors from RAM and updates them, little-endian (SCTLR_ELx.EE is RES0 here). */
export class TableReader {
  /** The halves of the last descriptor read. */
  lo = 0;
  hi = 0;
  readonly #ram: RamRange;
  readonly #words: Uint32Array;
  readonly #descriptors: BigUint64Array;

  /** `parallel`: CPUs of other workers write tables meanwhile. */
  constructor(memory: SharedMemory, ram: RamRange, readonly parallel = true) {
    this.#words = memory.u32;
    this.#descriptors = memory.u64;
    this.#ram = ram;
  }

  /** Reads the descriptor at a physical address in halves (a multiple of 8); false when that is not RAM. */
  read(paLo: number, paHi: number): boolean {
    const at = ramOffset(this.#ram, joinAddress(paLo, paHi), 8);
    if (at < 0) return false;
    const words = this.#words, index = at >>> 2;
    if (this.parallel) this.#readWhole(index);
    else {
      this.lo = words[index] as number;
      this.hi = words[index + 1] as number;
    }
    return true;
  }

  /** A descriptor is single-copy atomic: the halves must be of one store. */
  #readWhole(index: number): void {
    do {
      this.lo = Atomics.load(this.#words, index);
      this.hi = Atomics.load(this.#words, index + 1);
    } while (Atomics.load(this.#words, index) !== this.lo);
  }

  /**
   * Replaces the low half of the descriptor at a physical address that was read as (`lo`, `hi`), if it
   * still is that. False: it is not, and the walk is to be made again.
   */
  replaceLo(paLo: number, paHi: number, lo: number, hi: number, by: number): boolean {
    const index = ramOffset(this.#ram, joinAddress(paLo, paHi), 8) >>> 3;
    const upper = BigInt(hi >>> 0) << 32n;
    const was = upper | BigInt(lo >>> 0);
    return Atomics.compareExchange(this.#descriptors, index, was, upper | BigInt(by >>> 0)) === was;
  }
}
