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
  readonly group: number;
  readonly enable: number;
  readonly latch: number;
  readonly level: number;
  readonly active: number;
  readonly edge: number;
  readonly priority: number;
  readonly words: Int32Array;

  constructor(
    readonly memory: SharedMemory,
    at: Readonly<Record<BitmapName | "priority", number>>,
    /** First word of 32 interrupts implemented, and one past the last. */
    readonly first: number,
    readonly end: number,
  ) {
    this.words = memory.i32;
    this.group = at.group;
    this.enable = at.enable;
    this.latch = at.latch;
    this.level = at.level;
    this.active = at.active;
    this.edge = at.edge;
    this.priority = at.priority;
  }

  /** Whether word `w` is of implemented interrupts. */
  has(w: number): boolean {
    return w >= this.first && w < this.end;
  }

  /** 32 interrupts' bits of the bitmap at `map`, unsigned. */
  word(map: number, w: number): number {
    return this.has(w) ? this.memory.ld32(map + 4 * w) : 0;
  }

  /** Replaces the bits in `mask` of word `w`. */
  setWord(map: number, w: number, value: number, mask = 0xffff_ffff): void {
    if (!this.has(w)) return;
    const at = map + 4 * w;
    this.memory.st32(at, (this.memory.ld32(at) & ~mask) | (value & mask));
  }

  /** The interrupt's bit in the bitmap at `map`. */
  test(map: number, intid: number): boolean {
    return ((this.memory.ld32(map + 4 * (intid >>> 5)) >>> (intid & 31)) & 1) !== 0;
  }

  /** Sets or clears the interrupt's bit in the bitmap at `map`. */
  put(map: number, intid: number, on: boolean): void {
    const at = map + 4 * (intid >>> 5);
    const bit = 1 << (intid & 31);
    this.memory.st32(at, on ? this.memory.ld32(at) | bit : this.memory.ld32(at) & ~bit);
  }

  /** Pending bits of word `w`: the latch, or the line where level-sensitive. */
  pendingWord(w: number): number {
    return (this.word(this.latch, w) | (this.word(this.level, w) & ~this.word(this.edge, w))) >>> 0;
  }

  /** Bits of word `w` that could be signalled: enabled, and pending but not active. */
  candidateWord(w: number): number {
    const { words } = this;
    const line = (words[((this.level >>> 2) + w) | 0] as number) &
      ~(words[((this.edge >>> 2) + w) | 0] as number);
    const pending = (words[((this.latch >>> 2) + w) | 0] as number) | line;
    return pending & (words[((this.enable >>> 2) + w) | 0] as number) &
      ~(words[((this.active >>> 2) + w) | 0] as number);
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
    this.put(this.active, intid, true);
    this.put(this.latch, intid, false);
  }
}
