/**
 * The host's page allocator: 4 KiB pages of a range of RAM. A bitmap says which pages are in use. Single
 * ones are given from a stack of those that were given back, and then in the order of their numbers; or all
 * are on the stack from the start in an order that is shuffled, so that nothing can rely on neighbours or
 * on identity. Free pages are zero: they are cleared when they are given back, so that a machine does not
 * start by writing all of its memory.
 */
import { alignUp } from "../base/bits.ts";
import { assert, InternalError } from "../base/errors.ts";
import type { Arena } from "../base/arena.ts";
import type { SharedMemory } from "../base/memory.ts";
import { layout, u32, u53, type ViewOf } from "../base/struct.ts";
import type { RamRange } from "../arm/arch/tlb_layout.ts";

export const PAGE_SIZE = 4096;

const HeadLayout = layout("page_allocator", {
  /** Page frame number of the first page, and pages in all. */
  firstPfn: u53(),
  pages: u32(),
  /** Entries on the stack. */
  stack: u32(),
  /** From this page on none is on the stack: those not in use are given, the lowest first, when that is empty. */
  fresh: u32(),
  free: u32(),
});

/** Where pages come from: `start` and `end` are physical addresses, multiples of 4096. */
export interface PageRange {
  readonly start: number;
  readonly end: number;
  /** Seed of the order in which single pages are given; 0: lowest first. */
  readonly shuffle?: number;
}

/** Pages of host RAM. */
export class Pages {
  readonly #memory: SharedMemory;
  readonly #head: ViewOf<typeof HeadLayout>;
  readonly #bitmap: number;
  readonly #stack: number;

  constructor(arena: Arena, readonly ram: RamRange, range: PageRange) {
    const pages = (range.end - range.start) / PAGE_SIZE;
    assert(Number.isInteger(pages) && pages > 0, "page range: not whole pages");
    this.#memory = arena.memory;
    this.#head = arena.make(HeadLayout);
    this.#head.firstPfn = range.start / PAGE_SIZE;
    this.#head.pages = pages;
    this.#bitmap = arena.reserve(Math.ceil(pages / 32) * 4);
    this.#stack = arena.reserve(pages * 4);
    this.#head.free = pages;
    const { shuffle = 0 } = range;
    if (shuffle !== 0) this.#fillStack(pages, shuffle);
  }

  /** Pages not in use. */
  get free(): number {
    return this.#head.free;
  }

  #fillStack(pages: number, seed: number): void {
    const m = this.#memory;
    const words = m.u32, first = this.#stack >>> 2;
    for (let i = 0; i < pages; i++) words[first + i] = pages - 1 - i;
    this.#head.stack = this.#head.fresh = pages;
    let state = seed >>> 0;
    for (let i = pages - 1; i > 0; i--) {
      // xorshift32: a fixed order for a seed is all that is wanted.
      state ^= state << 13;
      state ^= state >>> 17;
      state = (state ^ (state << 5)) >>> 0;
      const a = this.#stack + 4 * i, b = this.#stack + 4 * (state % (i + 1));
      const was = m.ld32(a);
      m.st32(a, m.ld32(b));
      m.st32(b, was);
    }
  }

  #used(page: number): boolean {
    return ((this.#memory.ld32(this.#bitmap + (page >> 5) * 4) >>> (page & 31)) & 1) === 1;
  }

  #mark(page: number, used: boolean): void {
    const at = this.#bitmap + (page >> 5) * 4;
    const mask = 1 << (page & 31);
    const word = this.#memory.ld32(at);
    this.#memory.st32(at, used ? word | mask : word & ~mask);
    this.#head.free += used ? -1 : 1;
  }

  /** The byte offset in the shared memory of page frame `pfn`. */
  addressOf(pfn: number): number {
    return this.ram.at + pfn * PAGE_SIZE - this.ram.pa;
  }

  #zero(pfn: number, count: number): void {
    const at = this.addressOf(pfn);
    this.#memory.u8.fill(0, at, at + count * PAGE_SIZE);
  }

  /** One zeroed page: its page frame number, or -1 when none is left. */
  allocate(): number {
    if (this.#head.stack > 0) {
      this.#head.stack--;
      const page = this.#memory.ld32(this.#stack + 4 * this.#head.stack);
      this.#mark(page, true);
      return this.#head.firstPfn + page;
    }
    return this.#allocateFresh();
  }

  #allocateFresh(): number {
    const { fresh, pages, firstPfn } = this.#head;
    const page = this.#nextUnused(fresh);
    if (page >= pages) return -1;
    this.#head.fresh = page + 1;
    this.#mark(page, true);
    return firstPfn + page;
  }

  /** `count` consecutive zeroed pages starting at a multiple of `align` pages (of physical memory): the first's frame number, or -1. */
  allocateRun(count: number, align = 1): number {
    const first = this.#findRun(count, align);
    if (first < 0) return -1;
    this.#markRun(first, count);
    this.#dropTaken();
    return this.#head.firstPfn + first;
  }

  #findRun(count: number, align: number): number {
    const { pages, firstPfn } = this.#head;
    let at = alignUp(firstPfn, align) - firstPfn;
    while (at + count <= pages) {
      const length = this.#unused(at, count);
      if (length === count) return at;
      at = alignUp(this.#nextUnused(at + length) + firstPfn, align) - firstPfn;
    }
    return -1;
  }

  /** The first page from `page` on that is not in use, or one behind the last. */
  #nextUnused(page: number): number {
    const words = this.#memory.u32, bitmap = this.#bitmap >>> 2;
    const { pages } = this.#head;
    let here = page;
    while (here < pages) {
      const word = words[bitmap + (here >>> 5)] as number;
      if (word === 0xffff_ffff) here += 32 - (here & 31);
      else if ((word >>> (here & 31)) & 1) here++;
      else return here;
    }
    return here;
  }

  /** How many of `count` pages from `page` on are not in use, up to the first that is. */
  #unused(page: number, count: number): number {
    const words = this.#memory.u32, bitmap = this.#bitmap >>> 2;
    let length = 0;
    while (length < count) {
      const here = page + length;
      const word = words[bitmap + (here >>> 5)] as number;
      if (word === 0) length += 32 - (here & 31);
      else if ((word >>> (here & 31)) & 1) return length;
      else length++;
    }
    return count;
  }

  /** Marks `count` pages from `page` on, none of which is in use. */
  #markRun(page: number, count: number): void {
    const words = this.#memory.u32, bitmap = this.#bitmap >>> 2;
    const end = page + count;
    for (let here = page; here < end;) {
      const size = Math.min(32 - (here & 31), end - here);
      const at = bitmap + (here >>> 5);
      words[at] = (words[at] as number) | ((size === 32 ? -1 : (1 << size) - 1) << (here & 31));
      here += size;
    }
    this.#head.free -= count;
  }

  /** Entries of pages that a run took must go, lest a page be on the stack twice once it is free again. */
  #dropTaken(): void {
    const words = this.#memory.u32, first = this.#stack >>> 2, bitmap = this.#bitmap >>> 2;
    const { stack } = this.#head;
    let kept = 0;
    for (let i = 0; i < stack; i++) {
      const page = words[first + i] as number;
      const used = (words[bitmap + (page >>> 5)] as number) >>> (page & 31);
      if (used & 1) continue;
      words[first + kept] = page;
      kept++;
    }
    this.#head.stack = kept;
  }

  /** Gives `count` pages from frame `pfn` back; InternalError if one is not in use. */
  release(pfn: number, count = 1): void {
    for (let i = 0; i < count; i++) {
      const page = pfn + i - this.#head.firstPfn;
      if (page < 0 || page >= this.#head.pages || !this.#used(page)) {
        throw new InternalError(`page ${pfn + i} released but not in use`);
      }
      this.#mark(page, false);
      if (page >= this.#head.fresh) continue;
      this.#memory.st32(this.#stack + 4 * this.#head.stack, page);
      this.#head.stack++;
    }
    this.#zero(pfn, count);
  }
}
