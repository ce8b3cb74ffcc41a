/**
 * What the walks of both stages share: reading descriptors and taking them apart (4 KiB granule).
 * Source: DDI 0487 D8.3 "Translation table descriptor formats".
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

/** Bits 47 to 12 of a descriptor or table base, as an address. */
export function descriptorAddress(lo: number, hi: number): number {
  return ((lo & ~0xfff) >>> 0) + (hi & 0xffff) * TWO32;
}

/** The first address that the leaf descriptor of `level` maps to. */
export function leafAddress(lo: number, hi: number, level: number): number {
  return ((lo & (LEAF_MASK[level] as number)) >>> 0) + (hi & 0xffff) * TWO32;
}

/** The offset within a leaf of `level` of the address with low half `lo`. */
export function leafOffset(lo: number, level: number): number {
  return (lo & ~(LEAF_MASK[level] as number)) >>> 0;
}

/** The address of a first table of `mask + 1` entries from TTBR: its low bits are not address bits. */
export function firstTable(ttbrLo: number, ttbrHi: number, mask: number): number {
  return ((ttbrLo & ~(8 * mask + 7)) >>> 0) + (ttbrHi & 0xffff) * TWO32;
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

  /** Reads the descriptor at physical address `pa` (a multiple of 8); false when that is not RAM. */
  read(pa: number): boolean {
    const at = ramOffset(this.#ram, pa, 8);
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
