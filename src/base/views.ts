/**
 * Views of a layout's instances by their address: for structures of which there are many, and that code
 * has by address only.
 */
import type { SharedMemory } from "./memory.ts";
import type { Fields, Layout, Struct } from "./struct.ts";

/** Views looked up without a map. */
const RECENT = 256;

/** One view for each instance, the same each time, as long as its memory lives. */
export class ViewsByBase<F extends Fields> {
  readonly #known = new WeakMap<SharedMemory, Map<number, Struct<F>>>();
  /** Those asked for lately, by their address, all of one memory: no other is kept alive by them. */
  readonly #recent: (Struct<F> | undefined)[] = new Array<undefined>(RECENT).fill(undefined);
  #memory: SharedMemory | undefined;

  constructor(readonly layout: Layout<F>) {}

  /** The view of the instance at byte address `base`. */
  at(memory: SharedMemory, base: number): Struct<F> {
    if (memory === this.#memory) {
      const recent = this.#recent[(base >>> 3) & (RECENT - 1)];
      if (recent !== undefined && recent.base === base) return recent;
    }
    return this.#find(memory, base);
  }

  #find(memory: SharedMemory, base: number): Struct<F> {
    if (memory !== this.#memory) {
      this.#memory = memory;
      this.#recent.fill(undefined);
    }
    return this.#recent[(base >>> 3) & (RECENT - 1)] = this.#kept(memory, base);
  }

  #kept(memory: SharedMemory, base: number): Struct<F> {
    let views = this.#known.get(memory);
    if (!views) this.#known.set(memory, views = new Map());
    let view = views.get(base);
    if (!view) views.set(base, view = this.layout.at(memory, base));
    return view;
  }
}
