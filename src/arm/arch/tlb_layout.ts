/**
 * The software TLBs that generated code looks into. They are `cache` state: filled by the MMU, dropped
 * by TLB maintenance, never hashed.
 *
 * Data TLB, direct mapped by the low bits of the virtual page number. A read of `size` bytes at `va`
 * hits when `((va + size - 1) & ~0xfff) | (va & (size - 1) & alignMask)` equals the entry's read tag:
 * the page of the last byte is compared, so an access that crosses a page misses, and so does a
 * misaligned one where alignment is checked. The byte then lies at `low32(va) + addend` of the memory.
 * Only RAM is ever entered; Device memory and memory-mapped devices always miss.
 */

/**
 * Entries of one data TLB; a power of two. They reach over 16 MiB, so that what a program walks through
 * at random has its pages side by side.
 */
export const DATA_TLB_ENTRIES = 4096;
/** Bytes of one data TLB entry. */
export const DATA_TLB_ENTRY = 32;
export const DATA_TLB_SIZE = DATA_TLB_ENTRIES * DATA_TLB_ENTRY;
/** Offsets within an entry: 64-bit tags, 32-bit addend, 64-bit physical page address. */
export const DATA_TLB = { READ_TAG: 0, WRITE_TAG: 8, ADDEND: 16, PA: 24 } as const;

/** Entries of one code TLB; a power of two. */
export const CODE_TLB_ENTRIES = 512;
/** Bytes of one code TLB entry. */
export const CODE_TLB_ENTRY = 16;
export const CODE_TLB_SIZE = CODE_TLB_ENTRIES * CODE_TLB_ENTRY;
/** Offsets within an entry: 64-bit tag (the virtual page address), 32-bit address of the page's predecoded records. */
export const CODE_TLB = { TAG: 0, RECORDS: 8 } as const;

/** A tag that no access matches: its low bits are all ones. Both halves of an empty tag are this. */
export const NO_TAG_HALF = 0xffff_ffff;

/** How memory is accessed, for translation and fault reports. */
export const ACCESS = { READ: 0, WRITE: 1, EXECUTE: 2 } as const;
export type Access = (typeof ACCESS)[keyof typeof ACCESS];

/** The machine's one range of RAM: physical base, bytes, and where it lies in the shared memory. */
export interface RamRange {
  readonly pa: number;
  readonly size: number;
  readonly at: number;
}

/** Byte offset in the shared memory of `size` bytes of RAM at `pa`, or -1 if they are not all RAM. */
export function ramOffset(ram: RamRange, pa: number, size: number): number {
  const offset = pa - ram.pa;
  return offset >= 0 && offset + size <= ram.size ? ram.at + offset : -1;
}
