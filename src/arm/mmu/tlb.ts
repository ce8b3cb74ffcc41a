/**
 * Entries of the software TLBs that generated code looks into (layout in `arch/tlb_layout.ts`):
 * writing one, clearing one, clearing all.
 */
import { TWO32 } from "../../base/bits.ts";
import type { SharedMemory } from "../../base/memory.ts";
import {
  CODE_TLB,
  CODE_TLB_ENTRIES,
  CODE_TLB_ENTRY,
  CODE_TLB_SIZE,
  DATA_TLB,
  DATA_TLB_ENTRIES,
  DATA_TLB_ENTRY,
  DATA_TLB_SIZE,
  NO_TAG_HALF,
} from "../arch/tlb_layout.ts";
import { PERM } from "./permissions.ts";

/** Groups of neighbouring entries in which a data TLB is emptied; a multiple of 32. */
export const DATA_TLB_GROUPS = 64;
const GROUP_ENTRIES = DATA_TLB_ENTRIES / DATA_TLB_GROUPS;
const GROUP_BYTES = GROUP_ENTRIES * DATA_TLB_ENTRY;

/** The group of the data TLB entry of the page that contains `vaLo`. */
export function dataGroup(vaLo: number): number {
  return ((vaLo >>> 12) & (DATA_TLB_ENTRIES - 1)) / GROUP_ENTRIES | 0;
}

/** Word index of the data TLB entry of the page that contains `vaLo`. */
function dataEntry(tlb: number, vaLo: number): number {
  return (tlb + ((vaLo >>> 12) & (DATA_TLB_ENTRIES - 1)) * DATA_TLB_ENTRY) >>> 2;
}

function setTag(words: Uint32Array, at: number, lo: number, hi: number): void {
  words[at] = lo;
  words[at + 1] = hi;
}

/**
 * Enters the page of an address in halves into the data TLB at `tlb`. `pa`: physical address of the
 * page; `at`: its byte offset in the shared memory; `permissions`: PERM bits, of which R and W decide
 * which tags the page gets.
 */
export function fillDataEntry(
  memory: SharedMemory,
  tlb: number,
  vaLo: number,
  vaHi: number,
  pa: number,
  at: number,
  permissions: number,
): void {
  const words = memory.u32;
  const entry = dataEntry(tlb, vaLo);
  const page = vaLo & ~0xfff;
  words[entry + (DATA_TLB.ADDEND >>> 2)] = at - page;
  setTag(words, entry + (DATA_TLB.PA >>> 2), pa, pa / TWO32);
  const read = (permissions & PERM.R) !== 0;
  const write = (permissions & PERM.W) !== 0;
  setTag(
    words,
    entry + (DATA_TLB.READ_TAG >>> 2),
    read ? page : NO_TAG_HALF,
    read ? vaHi : NO_TAG_HALF,
  );
  setTag(
    words,
    entry + (DATA_TLB.WRITE_TAG >>> 2),
    write ? page : NO_TAG_HALF,
    write ? vaHi : NO_TAG_HALF,
  );
}

/** Empties the data TLB entry where virtual page number `page` (its low 32 bits) would be. */
export function clearDataEntry(memory: SharedMemory, tlb: number, page: number): void {
  const entry = (tlb + (page & (DATA_TLB_ENTRIES - 1)) * DATA_TLB_ENTRY) >>> 2;
  setTag(memory.u32, entry + (DATA_TLB.READ_TAG >>> 2), NO_TAG_HALF, NO_TAG_HALF);
  setTag(memory.u32, entry + (DATA_TLB.WRITE_TAG >>> 2), NO_TAG_HALF, NO_TAG_HALF);
}

/** Empties the code TLB entry where virtual page number `page` (its low 32 bits) would be. */
export function clearCodeEntry(memory: SharedMemory, tlb: number, page: number): void {
  const entry = (tlb + (page & (CODE_TLB_ENTRIES - 1)) * CODE_TLB_ENTRY) >>> 2;
  setTag(memory.u32, entry + (CODE_TLB.TAG >>> 2), NO_TAG_HALF, NO_TAG_HALF);
}

/** Empties what a TLB of `entries` entries of `2 ** log` bytes, a tag first, holds of the block of `2 ** shift` bytes around an address. */
function clearBlock(
  words: Uint32Array,
  tlb: number,
  entries: number,
  log: number,
  vaLo: number,
  vaHi: number,
  shift: number,
  clear: (entry: number) => void,
): void {
  const first = (vaLo >>> shift) << (shift - 12);
  const count = Math.min(entries, 1 << (shift - 12));
  for (let page = first; page < first + count; page++) {
    const entry = (tlb + ((page & (entries - 1)) << log)) >>> 2;
    const lo = words[entry] as number, hi = words[entry + 1] as number;
    // The top byte may be a tag.
    const inside = lo >>> shift === vaLo >>> shift && ((hi ^ vaHi) & 0x00ff_ffff) === 0;
    if (inside) clear(entry);
  }
}

/** Empties the data TLB entries of pages in the block of `2 ** shift` bytes around an address in halves. */
export function clearDataBlock(
  memory: SharedMemory,
  tlb: number,
  vaLo: number,
  vaHi: number,
  shift: number,
): void {
  const words = memory.u32;
  clearBlock(
    words,
    tlb,
    DATA_TLB_ENTRIES,
    Math.log2(DATA_TLB_ENTRY),
    vaLo,
    vaHi,
    shift,
    (entry) => {
      setTag(words, entry + (DATA_TLB.READ_TAG >>> 2), NO_TAG_HALF, NO_TAG_HALF);
      setTag(words, entry + (DATA_TLB.WRITE_TAG >>> 2), NO_TAG_HALF, NO_TAG_HALF);
    },
  );
}

/** The same in the code TLB. */
export function clearCodeBlock(
  memory: SharedMemory,
  tlb: number,
  vaLo: number,
  vaHi: number,
  shift: number,
): void {
  const words = memory.u32;
  clearBlock(
    words,
    tlb,
    CODE_TLB_ENTRIES,
    Math.log2(CODE_TLB_ENTRY),
    vaLo,
    vaHi,
    shift,
    (entry) => {
      setTag(words, entry + (CODE_TLB.TAG >>> 2), NO_TAG_HALF, NO_TAG_HALF);
    },
  );
}

/** Bytes that {@link Emptier} needs of its own. */
export const EMPTY_TLB_SIZE = Math.max(DATA_TLB_SIZE, CODE_TLB_SIZE);

/** Makes `size` bytes at `at` a TLB without entries; `size` is a multiple of 8. For those that never were one: it doubles what is done. */
export function makeEmpty(memory: SharedMemory, at: number, size: number): void {
  setTag(memory.u32, at >>> 2, NO_TAG_HALF, NO_TAG_HALF);
  for (let done = 8; done < size; done *= 2) {
    memory.u8.copyWithin(at + done, at, at + Math.min(done, size - done));
  }
}

/**
 * Empties whole TLBs by copying an empty one over them: on shared memory that is 8 times faster than `fill`.
 * Where another worker may be looking one of them up, only the tags go: it may have compared the tag
 * already, and what it takes from the entry then must still be what belongs to it.
 */
export class Emptier {
  readonly #memory: SharedMemory;
  /** Address of the empty TLB. */
  readonly empty: number;

  /** `empty`: address of {@link EMPTY_TLB_SIZE} bytes; `tagsOnly`: other workers look TLBs up meanwhile. */
  constructor(memory: SharedMemory, empty: number, readonly tagsOnly = false) {
    this.#memory = memory;
    this.empty = empty;
    makeEmpty(memory, empty, EMPTY_TLB_SIZE);
  }

  /** Empties the groups of a data TLB that are set in `groups`, the first of which is number `first`. */
  dataGroups(tlb: number, first: number, groups: number): void {
    for (let i = 0; i < 32;) {
      // Neighbours go together.
      let end = i;
      while (end < 32 && (groups & (1 << end)) !== 0) end++;
      if (end > i) {
        this.#data(tlb + (first + i) * GROUP_BYTES, (end - i) * GROUP_BYTES);
      }
      i = end + 1;
    }
  }

  #data(at: number, size: number): void {
    if (!this.tagsOnly) {
      this.#memory.u8.copyWithin(at, this.empty, this.empty + size);
      return;
    }
    const words = this.#memory.u32;
    for (let entry = at >>> 2; entry < (at + size) >>> 2; entry += DATA_TLB_ENTRY >>> 2) {
      setTag(words, entry + (DATA_TLB.READ_TAG >>> 2), NO_TAG_HALF, NO_TAG_HALF);
      setTag(words, entry + (DATA_TLB.WRITE_TAG >>> 2), NO_TAG_HALF, NO_TAG_HALF);
    }
  }

  code(tlb: number): void {
    if (this.tagsOnly) {
      for (let page = 0; page < CODE_TLB_ENTRIES; page++) clearCodeEntry(this.#memory, tlb, page);
      return;
    }
    this.#memory.u8.copyWithin(tlb, this.empty, this.empty + CODE_TLB_SIZE);
  }
}
