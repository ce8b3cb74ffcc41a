/**
 * What the walks of both stages share: reading descriptors and taking them apart (4 KiB granule).
 * Source: DDI 0487 D8.3 "Translation table descriptor formats".
 *
 * Addresses are pairs of 32-bit halves here: as numbers above 2^31 they would be boxed at each call.
 */
import type { SharedMemory } from "../../base/memory.ts";
import { TWO32 } from "../../base/bits.ts";
import { ramOffset, type RamRange } from "../arch/tlb_layout.ts";

/** Descriptor bit AF, in the low half. */
export const DESCRIPTOR_AF = 1 << 10;

/** What a descriptor is at its level. */
export const KIND = { INVALID: 0, TABLE: 1, LEAF: 2 } as const;

/** By `level * 4 + bits 1 to 0`: no blocks at level 0, and at level 3 only pages. */
const KINDS = Uint8Array.of(
  ...[KIND.INVALID, KIND.INVALID, KIND.INVALID, KIND.TABLE],
  ...[KIND.INVALID, KIND.LEAF, KIND.INVALID, KIND.TABLE],
  ...[KIND.INVALID, KIND.LEAF, KIND.INVALID, KIND.TABLE],
  ...[KIND.INVALID, KIND.INVALID, KIND.INVALID, KIND.LEAF],
);

/** One of {@link KIND} for the descriptor with low half `lo` at `level`. */
export function descriptorKind(lo: number, level: number): number {
  return KINDS[level * 4 + (lo & 3)] as number;
}

/** Address bits below the index of `level`: the size of a leaf there, as a power of two. */
export function levelShift(level: number): number {
  return 39 - 9 * level;
}

/** The level at which a walk of `inputBits` (25 to 48) address bits starts in stage 1. */
export function startLevel(inputBits: number): number {
  return 4 - Math.ceil((inputBits - 12) / 9);
}

/** The index into a table of `level` (`mask`: number of its entries less one) for an address in halves. */
export function tableIndex(lo: number, hi: number, level: number, mask: number): number {
  if (level === 3) return (lo >>> 12) & mask;
  if (level === 2) return ((lo >>> 21) | (hi << 11)) & mask;
  if (level === 1) return ((lo >>> 30) | (hi << 2)) & mask;
  return (hi >>> 7) & mask;
}

const LEAF_MASK = Int32Array.of(0, 0xc000_0000, 0xffe0_0000, 0xffff_f000);

/** Bits 47 to 32 of the address in a descriptor, TTBR or VTTBR. */
export function addressHi(hi: number): number {
  return hi & 0xffff;
}

/** Whether an address with this high half is beyond `bits` (32 to 48) bits. */
export function beyond(hi: number, bits: number): boolean {
  return hi >>> (bits - 32) !== 0;
}

/** The low half of the address of the next table, from a table descriptor's. */
export function tableLo(lo: number): number {
  return lo & ~0xfff;
}

/** The low half of the address of a first table of `mask + 1` entries: the low bits of a TTBR are not its. */
export function firstTableLo(ttbrLo: number, mask: number): number {
  return ttbrLo & ~(8 * mask + 7);
}

/** The low half of what the address with low half `at` maps to by a leaf of `level`. */
export function leafLo(lo: number, at: number, level: number): number {
  const mask = LEAF_MASK[level] as number;
  return (lo & mask) | (at & ~mask);
}

/** An address in halves as a number. */
export function joinAddress(lo: number, hi: number): number {
  return (lo >>> 0) + hi * TWO32;
}

/** Reads descriptors from RAM, little-endian (SCTLR_ELx.EE is RES0 here). */
export class TableReader {
  /** The halves of the last descriptor read. */
  lo = 0;
  hi = 0;
  readonly #ram: RamRange;
  readonly #words: Uint32Array;

  constructor(memory: SharedMemory, ram: RamRange) {
    this.#words = memory.u32;
    this.#ram = ram;
  }

  /** Reads the descriptor at a physical address in halves (a multiple of 8); false when that is not RAM. */
  read(paLo: number, paHi: number): boolean {
    const at = ramOffset(this.#ram, joinAddress(paLo, paHi), 8);
    if (at < 0) return false;
    const index = at >>> 2;
    // A descriptor is single-copy atomic: with CPUs in parallel the halves must be of one store.
    do {
      this.lo = this.#words[index] as number;
      this.hi = this.#words[index + 1] as number;
    } while ((this.#words[index] as number) !== this.lo);
    return true;
  }
}
