/**
 * The machine's state as a whole: which bytes of the shared memory are `arch`, their hash, a snapshot
 * of them and its restoration (DESIGN: memory and state).
 */
import type { Arena } from "../base/arena.ts";
import type { SharedMemory } from "../base/memory.ts";
import { rangesOf } from "../base/struct.ts";

/** A run of bytes of the shared memory. */
interface Range {
  readonly at: number;
  readonly length: number;
}

/** A copy of all `arch` bytes. RAM pages that were all zero are left out. */
export interface Snapshot {
  readonly ranges: readonly { at: number; bytes: Uint8Array<ArrayBuffer> }[];
  readonly pages: ReadonlyMap<number, Uint8Array<ArrayBuffer>>;
}

const PAGE = 4096;

/** Two 32-bit lanes of a multiply-xor-rotate hash over words. */
class Hasher {
  #a = 0x243f6a88;
  #b = 0x85a308d3;

  word(w: number): void {
    this.#a = Math.imul(this.#a ^ w, 0x9e3779b1);
    this.#a = (this.#a << 13) | (this.#a >>> 19);
    this.#b = Math.imul(this.#b + w, 0x85ebca6b) ^ this.#a;
    this.#b = (this.#b << 17) | (this.#b >>> 15);
  }
  words(m: SharedMemory, at: number, length: number): void {
    const u32 = m.u32;
    for (let i = at >>> 2, end = (at + length) >>> 2; i < end; i++) this.word(u32[i] as number);
  }
  digest(): string {
    return [this.#a, this.#b].map((x) => (x >>> 0).toString(16).padStart(8, "0")).join("");
  }
}

/** The `arch` bytes of a set of arenas and of large areas (RAM), of which only the pages that are not all zero count. */
export class MachineState {
  constructor(
    readonly memory: SharedMemory,
    readonly arenas: readonly Arena[],
    readonly areas: readonly { readonly at: number; readonly size: number }[],
  ) {}

  /** The `arch` ranges of everything placed in the arenas now. */
  archRanges(): Range[] {
    const out: Range[] = [];
    for (const arena of this.arenas) {
      for (const { layout, base, count } of arena.placements) {
        const ranges = rangesOf(layout, "arch");
        for (let i = 0; i < count; i++) {
          for (const r of ranges) {
            out.push({ at: base + i * layout.size + r.offset, length: r.length });
          }
        }
      }
    }
    return out;
  }

  #zero(at: number): boolean {
    const u32 = this.memory.u32;
    for (let i = at >>> 2, end = (at + PAGE) >>> 2; i < end; i++) if (u32[i] !== 0) return false;
    return true;
  }

  /** Addresses of the areas' pages that are not all zero. */
  #touched(): number[] {
    const out: number[] = [];
    for (const { at: start, size } of this.areas) {
      for (let at = start; at < start + size; at += PAGE) if (!this.#zero(at)) out.push(at);
    }
    return out;
  }

  /** A 64-bit hash, 16 hexadecimal digits, of all `arch` state: equal for equal states. */
  hash(): string {
    const h = new Hasher();
    for (const { at, length } of this.archRanges()) {
      // Fields are packed to their own width: a range may start or end within a word.
      if ((at | length) % 4 === 0) h.words(this.memory, at, length);
      else for (let i = at; i < at + length; i++) h.word(this.memory.ld8(i));
    }
    for (const at of this.#touched()) {
      h.word((at - (this.areas[0]?.at ?? 0)) / PAGE);
      h.words(this.memory, at, PAGE);
    }
    return h.digest();
  }

  snapshot(): Snapshot {
    const copy = (at: number, length: number) => this.memory.u8.slice(at, at + length);
    return {
      ranges: this.archRanges().map(({ at, length }) => ({ at, bytes: copy(at, length) })),
      pages: new Map(this.#touched().map((at) => [at, copy(at, PAGE)])),
    };
  }

  /** Puts a snapshot's bytes back. Whoever holds caches (TLBs, predecoded code, views of contexts) must drop them after. */
  restore(snapshot: Snapshot): void {
    for (const { at, bytes } of snapshot.ranges) this.memory.u8.set(bytes, at);
    for (const { at, size } of this.areas) this.memory.u8.fill(0, at, at + size);
    for (const [at, bytes] of snapshot.pages) this.memory.u8.set(bytes, at);
  }
}
