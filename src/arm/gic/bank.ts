/**
 * The state of a run of interrupts: one bit each for what is a bit, one byte for the priority. The
 * distributor's bank holds the SPIs, each redistributor's its own SGIs and PPIs; both are reached
 * through the same registers-by-interrupt (regions.ts).
 *
 * An interrupt is pending when its latch is set, or when it is level-sensitive and its line is high:
 * the line is never copied into the latch (IHI 0069, 4.1).
 */
import type { SharedMemory } from "../../base/memory.ts";
import { type ArrayAddress, type Field, space } from "../../base/struct.ts";

/** Priority bits implemented, the upper ones of eight: 32 levels. */
export const PRIBITS = 5;
/** The implemented bits of a priority. */
export const PRIORITY_MASK = (0xff << (8 - PRIBITS)) & 0xff;

/** A bitmap of a bank; its value is the property's name in the layouts. */
export type BitmapName = "group" | "enable" | "latch" | "level" | "active" | "edge";

type BankFields = Record<BitmapName | "priority", Field<ArrayAddress>>;

/** Layout fields of a bank of `words` * 32 interrupts. */
export function bankFields(words: number): BankFields {
  return {
    /** 1: Group 1. */
    group: space(4 * words),
    enable: space(4 * words),
    /** The pending latch: an edge, or software's write of ISPENDR. */
    latch: space(4 * words),
    /** The input line now. */
    level: space(4 * words),
    active: space(4 * words),
    /** 1: edge-triggered. */
    edge: space(4 * words),
    priority: space(32 * words),
  };
}

/** A view of one bank. Interrupts are numbered by INTID; words outside `first` to `end` - 1 are RAZ/WI. */
export class Bank {
  // V8 knows what a field holds, if that is the first it has held: without "declare" that were undefined.
  declare readonly memory: SharedMemory;
  /** The memory's words. */
  declare readonly words: Int32Array;
  /** First word of 32 interrupts implemented, and one past the last. */
  declare readonly first: number;
  declare readonly end: number;
  /** The places of the bitmaps' first words in {@link words}. */
  declare readonly group: number;
  declare readonly enable: number;
  declare readonly latch: number;
  declare readonly level: number;
  declare readonly active: number;
  declare readonly edge: number;
  /** The byte address of the priorities. */
  declare readonly priority: number;
  /** The place of {@link quiet}'s word, 0 for none. */
  declare private readonly quietAt: number;

  /** `quietAt`: the byte address of a word for {@link quiet}, 0 where that is not wanted. */
  constructor(
    memory: SharedMemory,
    at: Readonly<Record<BitmapName | "priority", number>>,
    first: number,
    end: number,
    quietAt = 0,
  ) {
    this.memory = memory;
    this.words = memory.i32;
    this.first = first;
    this.end = end;
    this.group = at.group >>> 2;
    this.enable = at.enable >>> 2;
    this.latch = at.latch >>> 2;
    this.level = at.level >>> 2;
    this.active = at.active >>> 2;
    this.edge = at.edge >>> 2;
    this.priority = at.priority;
    this.quietAt = quietAt >>> 2;
  }

  /** The byte address of the input lines' first word. */
  get levelAt(): number {
    return 4 * this.level;
  }

  /** Whether word `w` is of implemented interrupts. */
  has(w: number): boolean {
    return w >= this.first && w < this.end;
  }

  /**
   * Bit w: word `w` has been found without a {@link candidateWord | candidate}, and has not been touched since.
   * Most of the machine's interrupts never are pending, and are not to be searched for those that are.
   */
  get quiet(): number {
    return this.words[this.quietAt] as number;
  }

  /** No word is known to be without candidates. */
  forget(): void {
    if (this.quietAt !== 0) this.words[this.quietAt] = 0;
  }

  /** Notes that word `w` has been found without a candidate. */
  noteQuiet(w: number): void {
    this.words[this.quietAt] = this.quiet | (1 << w);
  }

  #touch(w: number): void {
    const at = this.quietAt;
    if (at !== 0) this.words[at] = (this.words[at] as number) & ~(1 << w);
  }

  /** 32 interrupts' bits of the bitmap at `map`, unsigned. */
  word(map: number, w: number): number {
    return this.has(w) ? (this.words[map + w] as number) >>> 0 : 0;
  }

  /** Replaces the bits in `mask` of word `w`. */
  setWord(map: number, w: number, value: number, mask = 0xffff_ffff): void {
    if (!this.has(w)) return;
    const { words } = this;
    words[map + w] = ((words[map + w] as number) & ~mask) | (value & mask);
    this.#touch(w);
  }

  /** The interrupt's bit in the bitmap at `map`. */
  test(map: number, intid: number): boolean {
    return (((this.words[(map + (intid >>> 5)) | 0] as number) >>> (intid & 31)) & 1) !== 0;
  }

  /** Sets or clears the interrupt's bit in the bitmap at `map`. */
  put(map: number, intid: number, on: boolean): void {
    const { words } = this, w = intid >>> 5, at = (map + w) | 0;
    const bit = 1 << (intid & 31), before = words[at] as number;
    words[at] = on ? before | bit : before & ~bit;
    this.#touch(w);
  }

  /** Pending bits of word `w`: the latch, or the line where level-sensitive. */
  pendingWord(w: number): number {
    return (this.word(this.latch, w) | (this.word(this.level, w) & ~this.word(this.edge, w))) >>> 0;
  }

  /** Bits of word `w` that could be signalled: enabled, and pending but not active. */
  candidateWord(w: number): number {
    const { words } = this;
    const line = (words[(this.level + w) | 0] as number) & ~(words[(this.edge + w) | 0] as number);
    const pending = (words[(this.latch + w) | 0] as number) | line;
    return pending & (words[(this.enable + w) | 0] as number) &
      ~(words[(this.active + w) | 0] as number);
  }

  /** The interrupt's priority: 0 is the highest. */
  priorityOf(intid: number): number {
    return this.memory.ld8(this.priority + intid);
  }

  /**
   * Drives the input line; a rising edge of an edge-triggered interrupt sets its latch. Returns
   * whether the line changed.
   */
  drive(intid: number, level: boolean): boolean {
    if (this.test(this.level, intid) === level) return false;
    this.put(this.level, intid, level);
    if (level && this.test(this.edge, intid)) this.put(this.latch, intid, true);
    return true;
  }

  /** Pending to active (or to active and pending, where the line is still high). */
  acknowledge(intid: number): void {
    const { words } = this, w = intid >>> 5, bit = 1 << (intid & 31);
    const active = (this.active + w) | 0, latch = (this.latch + w) | 0;
    words[active] = (words[active] as number) | bit;
    words[latch] = (words[latch] as number) & ~bit;
    this.#touch(w);
  }

  /** Sets the latch of a private interrupt that is of `group`. Returns whether it is. */
  makePending(intid: number, group: number): boolean {
    const { words } = this, { latch } = this;
    if ((((words[this.group] as number) >>> intid) & 1) !== group) return false;
    words[latch] = (words[latch] as number) | (1 << intid);
    return true;
  }

  /** Active to inactive, or active and pending to pending. Returns whether it could be signalled now. */
  deactivate(intid: number): boolean {
    const { words } = this, w = intid >>> 5, bit = 1 << (intid & 31);
    const at = (this.active + w) | 0, active = words[at] as number;
    if ((active & bit) === 0) return false;
    words[at] = active & ~bit;
    this.#touch(w);
    return (this.candidateWord(w) & bit) !== 0;
  }
}
