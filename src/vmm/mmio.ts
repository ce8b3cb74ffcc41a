/** What the bus and user space expect of a device that answers at addresses. */

/** Size of one access, in bytes. The bus splits wider accesses, low word first. */
export type AccessSize = 1 | 2 | 4;

/** A device: registers at byte offsets from its base. Reads may have side effects. */
export interface MmioDevice {
  /** The value at `offset`, zero-extended from `size` bytes, as an unsigned 32-bit number. */
  read(offset: number, size: AccessSize): number;
  /** Writes the low `size` bytes of `value` at `offset`. */
  write(offset: number, size: AccessSize, value: number): void;
}

/** All ones in the low `size` bytes. */
export function accessMask(size: AccessSize): number {
  return size === 4 ? 0xffff_ffff : (1 << (8 * size)) - 1;
}

/** The part of a 32-bit register that an access of `size` bytes at `offset` sees, unsigned. */
export function wordPart(word: number, offset: number, size: AccessSize): number {
  return ((word >>> (8 * (offset & 3))) & accessMask(size)) >>> 0;
}

/** `word` with the part replaced that an access of `size` bytes at `offset` writes, unsigned. */
export function mergeWord(word: number, offset: number, size: AccessSize, value: number): number {
  const shift = 8 * (offset & 3);
  const mask = accessMask(size) << shift;
  return ((word & ~mask) | ((value << shift) & mask)) >>> 0;
}
