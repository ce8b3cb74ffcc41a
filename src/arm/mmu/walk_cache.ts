/**
 * What walks have found out about upper levels: for blocks of an address space the last table of the walk, so
 * that the next miss in the block reads one descriptor of each stage. Leaves are always read from memory, so
 * that permissions, access flags and dirty state are as exact as without; and where what is read is not
 * a leaf, the whole walk is made: a fault is never a cached one.
 *
 * Each translation context has one, emptied with it, and as a whole where TLB maintenance by address is
 * about more than the last level: a descriptor of an upper level may be behind any of the entries. It is of
 * the tables that TTBR and VTTBR named: with others it is empty.
 *
 * Blocks are what one table of level 3 maps: 2 MiB with pages of 4 KiB. The table may be of a lower
 * level, with a larger leaf in it. Tables that a walk begins with are not worth an entry.
 */
import type { Arena } from "../../base/arena.ts";
import type { SharedMemory } from "../../base/memory.ts";
import { array, layout, u32 } from "../../base/struct.ts";
import type { Controls } from "./regime.ts";

/** Entries for each stage; a power of two. */
const ENTRIES = 64;
const WORDS = 8;
/** Word offsets in an entry: address of the block; of the table as stage 1 names it, and physical; the high halves of both; APTable and so on; {@link mark}. */
const ENTRY = {
  BLOCK_LO: 0,
  BLOCK_HI: 1,
  TABLE_LO: 2,
  PA_LO: 3,
  TABLE_HI: 4,
  PA_HI: 5,
  PERMISSIONS: 6,
  MARK: 7,
} as const;

const WalkCacheLayout = layout("walk_cache", {
  /** Emptying changes it: entries of another epoch are not valid. 30 bits count. */
  epoch: u32("cache"),
  ttbr0Lo: u32("cache"),
  ttbr0Hi: u32("cache"),
  ttbr1Lo: u32("cache"),
  ttbr1Hi: u32("cache"),
  vttbrLo: u32("cache"),
  vttbrHi: u32("cache"),
  stage1: array("u32", ENTRIES * WORDS, "cache"),
  stage2: array("u32", ENTRIES * WORDS, "cache"),
});

/** Bytes that the walk cache of one context takes. */
export const WALK_CACHE_SIZE = WalkCacheLayout.size;
const STAGE1 = WalkCacheLayout.offset.stage1 >>> 2;
const STAGE2 = WalkCacheLayout.offset.stage2 >>> 2;

/** Word offset of the entry of the block of `2 ** shift` bytes around an address in halves; a tag in its top byte does not count. */
function slotOf(lo: number, hi: number, shift: number): number {
  const block = (lo >>> shift) | ((hi & 0x00ff_ffff) << (32 - shift));
  return ((block ^ (block >>> 6)) & (ENTRIES - 1)) * WORDS;
}

/** Says that an entry is valid in `epoch`, and the level of its table, 1 to 3. */
function mark(epoch: number, level: number): number {
  return (epoch << 2) | level;
}

/** The walk caches of all contexts. */
export class WalkCache {
  /** The table that was found: as stage 1 names it, and where it is. */
  tableLo = 0;
  tableHi = 0;
  paLo = 0;
  paHi = 0;
  /** Its level, and the high halves of the descriptors on the way to it, or together. */
  level = 0;
  permissions = 0;
  readonly #words: Int32Array;
  readonly #at: number;

  constructor(memory: SharedMemory, arena: Arena, contexts: number) {
    this.#words = memory.i32;
    this.#at = arena.allocate(WalkCacheLayout, contexts) >>> 2;
  }

  /** Lets translations under `c` use the cache of `context`. */
  select(c: Controls, context: number): void {
    const words = this.#words;
    const at = this.#at + context * (WALK_CACHE_SIZE >>> 2);
    const same = words[at + 1] === (c.ttbr0Lo | 0) && words[at + 2] === (c.ttbr0Hi | 0) &&
      words[at + 3] === (c.ttbr1Lo | 0) && words[at + 4] === (c.ttbr1Hi | 0) &&
      words[at + 5] === (c.vttbrLo | 0) && words[at + 6] === (c.vttbrHi | 0);
    if (!same) this.#begin(c, at);
    c.walks = at;
    c.walksEpoch = words[at] as number;
  }

  #begin(c: Controls, at: number): void {
    const words = this.#words;
    this.#empty(at);
    words[at + 1] = c.ttbr0Lo;
    words[at + 2] = c.ttbr0Hi;
    words[at + 3] = c.ttbr1Lo;
    words[at + 4] = c.ttbr1Hi;
    words[at + 5] = c.vttbrLo;
    words[at + 6] = c.vttbrHi;
  }

  /** Empties the cache of a context. */
  flush(context: number): void {
    this.#empty(this.#at + context * (WALK_CACHE_SIZE >>> 2));
  }

  #empty(at: number): void {
    const words = this.#words;
    const epoch = ((words[at] as number) + 1) & 0x3fff_ffff;
    words[at] = epoch;
    // What is left of the last time round must not come back.
    if (epoch === 0) words.fill(0, at + STAGE1, at + STAGE2 + ENTRIES * WORDS);
  }

  /** Whether the table is known that has the leaf of a virtual address in halves: then the fields say which. */
  findStage1(c: Controls, lo: number, hi: number, shift: number): boolean {
    return this.#find(c, c.walks + STAGE1 + slotOf(lo, hi, shift), lo & -(1 << shift), hi);
  }

  /** The same of an intermediate physical address. */
  findStage2(c: Controls, lo: number, hi: number, shift: number): boolean {
    return this.#find(c, c.walks + STAGE2 + slotOf(lo, hi, shift), lo & -(1 << shift), hi);
  }

  #find(c: Controls, entry: number, blockLo: number, blockHi: number): boolean {
    const words = this.#words;
    const marked = words[entry + ENTRY.MARK] as number;
    const found = marked >>> 2 === c.walksEpoch && (marked & 3) !== 0 &&
      words[entry + ENTRY.BLOCK_LO] === blockLo && words[entry + ENTRY.BLOCK_HI] === (blockHi | 0);
    if (!found) return false;
    this.level = marked & 3;
    this.tableLo = words[entry + ENTRY.TABLE_LO] as number;
    this.tableHi = words[entry + ENTRY.TABLE_HI] as number;
    this.paLo = words[entry + ENTRY.PA_LO] as number;
    this.paHi = words[entry + ENTRY.PA_HI] as number;
    this.permissions = words[entry + ENTRY.PERMISSIONS] as number;
    return true;
  }

  /** Notes the table in the fields for a virtual address in halves. */
  noteStage1(c: Controls, lo: number, hi: number, shift: number): void {
    this.#note(c, c.walks + STAGE1 + slotOf(lo, hi, shift), lo & -(1 << shift), hi);
  }

  /** The same for an intermediate physical address. */
  noteStage2(c: Controls, lo: number, hi: number, shift: number): void {
    this.#note(c, c.walks + STAGE2 + slotOf(lo, hi, shift), lo & -(1 << shift), hi);
  }

  /** Marked with the epoch in which the walk began: if the cache was emptied meanwhile, the entry is never valid. */
  #note(c: Controls, entry: number, blockLo: number, blockHi: number): void {
    const words = this.#words;
    words[entry + ENTRY.MARK] = 0;
    words[entry + ENTRY.BLOCK_LO] = blockLo;
    words[entry + ENTRY.BLOCK_HI] = blockHi;
    words[entry + ENTRY.TABLE_LO] = this.tableLo;
    words[entry + ENTRY.TABLE_HI] = this.tableHi;
    words[entry + ENTRY.PA_LO] = this.paLo;
    words[entry + ENTRY.PA_HI] = this.paHi;
    words[entry + ENTRY.PERMISSIONS] = this.permissions;
    words[entry + ENTRY.MARK] = mark(c.walksEpoch, this.level);
  }
}
