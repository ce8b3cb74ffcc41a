/**
 * Records of instruction words that were decoded before, as they are written again wherever the word is
 * met: a hash table by word, open addressing, in typed arrays.
 */
import type { SharedMemory } from "../../base/memory.ts";
import { RECORD_SIZE } from "./records.ts";

const WORDS = RECORD_SIZE / 4;
/** Words that are remembered at most; then it begins anew. */
const MAX = 1 << 19;

export class Templates {
  /** Places, a power of two; at most half of them are taken. */
  #size = 1 << 14;
  #keys = new Uint32Array(this.#size);
  /** Number of the word's record, from 1; 0: the place is free. */
  #numbers = new Uint32Array(this.#size);
  #records = new Uint32Array(this.#size / 2 * WORDS);
  #count = 0;

  constructor(readonly memory: SharedMemory) {}

  /** The place of `word`, or the free one where it would be. */
  #place(word: number): number {
    const mask = this.#size - 1;
    let at = (Math.imul(word, 0x9e37_79b1) >>> 12) & mask;
    while (this.#numbers[at] !== 0 && this.#keys[at] !== word) at = (at + 1) & mask;
    return at;
  }

  /** Writes the record of `word` at byte address `at`; false if it is not known. */
  write(word: number, at: number): boolean {
    const number = this.#numbers[this.#place(word)] as number;
    if (number === 0) return false;
    const { u32 } = this.memory;
    const from = (number - 1) * WORDS, to = at >>> 2;
    for (let i = 0; i < WORDS; i++) u32[to + i] = this.#records[from + i] as number;
    return true;
  }

  /** Remembers that the record at byte address `at` is that of `word`, which is not known. */
  add(word: number, at: number): void {
    if (this.#count === this.#size / 2) this.#grow();
    const place = this.#place(word);
    this.#keys[place] = word;
    this.#numbers[place] = ++this.#count;
    const from = at >>> 2;
    this.#records.set(
      this.memory.u32.subarray(from, from + WORDS),
      (this.#count - 1) * WORDS,
    );
  }

  #grow(): void {
    if (this.#count >= MAX) {
      this.#numbers.fill(0);
      this.#count = 0;
      return;
    }
    const keys = this.#keys, numbers = this.#numbers, records = this.#records;
    this.#size *= 2;
    this.#keys = new Uint32Array(this.#size);
    this.#numbers = new Uint32Array(this.#size);
    this.#records = new Uint32Array(this.#size / 2 * WORDS);
    this.#records.set(records);
    for (let i = 0; i < keys.length; i++) {
      if (numbers[i] === 0) continue;
      const place = this.#place(keys[i] as number);
      this.#keys[place] = keys[i] as number;
      this.#numbers[place] = numbers[i] as number;
    }
  }
}
