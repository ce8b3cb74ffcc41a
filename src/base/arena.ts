/**
 * Arenas: fixed ranges of the shared memory from which instances of layouts are handed out. What is
 * allocated is remembered as a placement, so that hashing and snapshots know every byte's role.
 */
import { alignUp } from "./bits.ts";
import { assert, InternalError } from "./errors.ts";
import type { SharedMemory } from "./memory.ts";
import { type Fields, type Layout, layout, type Struct, u32 } from "./struct.ts";

/** `count` instances of `layout` in a row from `base`. */
export interface Placement {
  readonly layout: Layout<Fields>;
  readonly base: number;
  readonly count: number;
}

/** A bump allocator over the bytes from `start` to `end` of a memory. */
export class Arena {
  readonly placements: Placement[] = [];
  #next: number;

  constructor(
    readonly name: string,
    readonly memory: SharedMemory,
    readonly start: number,
    readonly end: number,
  ) {
    this.#next = start;
  }

  /** Bytes still free. */
  get free(): number {
    return this.end - this.#next;
  }

  /** Reserves `bytes` at alignment `align` and returns their address; InternalError when the arena is full. */
  reserve(bytes: number, align = 16): number {
    const base = alignUp(this.#next, align);
    if (base + bytes > this.end) {
      throw new InternalError(
        `arena ${this.name} is full: ${bytes} bytes wanted, ${this.free} left`,
      );
    }
    this.#next = base + bytes;
    return base;
  }

  /** Places `count` instances of `layout` and returns the first one's address. */
  allocate<F extends Fields>(of: Layout<F>, count = 1): number {
    const base = this.reserve(of.size * count);
    this.placements.push({ layout: of as unknown as Layout<Fields>, base, count });
    return base;
  }

  /** Places one instance of `layout` and returns a view of it. */
  make<F extends Fields>(of: Layout<F>): Struct<F> {
    return of.at(this.memory, this.allocate(of));
  }
}

const SlabHead = layout("slab", {
  /** The first of those that were given back, 0 for none; each begins with the next one's address. */
  firstFree: u32(),
  used: u32(),
  /** From this one on none has been handed out yet. */
  fresh: u32(),
});

/**
 * A pool of `capacity` equal instances with a free list that itself lies in the memory. An instance
 * handed out is zeroed.
 */
export class Slab<F extends Fields> {
  readonly #head;
  readonly #base: number;

  constructor(arena: Arena, readonly layout: Layout<F>, readonly capacity: number) {
    assert(layout.size >= 8, `${layout.name} is too small for a slab`);
    this.#head = arena.make(SlabHead);
    this.#base = arena.allocate(layout, capacity);
  }

  /** Instances in use. */
  get used(): number {
    return this.#head.used;
  }

  /** The address of a zeroed instance, or 0 when all are in use. */
  allocate(): number {
    const head = this.#head, { size } = this.layout;
    let at = head.firstFree;
    if (at !== 0) head.firstFree = head.memory.ld32(at);
    else if (head.fresh === this.capacity) return 0;
    else at = this.#base + size * head.fresh++;
    head.memory.u8.fill(0, at, at + size);
    head.used++;
    return at;
  }

  /** Gives an instance back; InternalError if `at` is not one of this slab's. */
  release(at: number): void {
    const offset = at - this.#base;
    const mine = offset >= 0 && offset % this.layout.size === 0 &&
      offset / this.layout.size < this.capacity;
    assert(mine, `${this.layout.name} slab: ${at} is not one of its instances`);
    this.#head.memory.st32(at, this.#head.firstFree);
    this.#head.firstFree = at;
    this.#head.used--;
  }
}
