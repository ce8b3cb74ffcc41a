/**
 * Loads and stores that cross a page, made by generated code all the same. They never hit a TLB, since
 * two pages need not lie side by side in the memory. So the one instruction is executed under a data TLB
 * of its own, in which nothing but this access hits: the entry of its first page, tagged with the page of its
 * last byte (see `arch/tlb_layout.ts`), leads to a few bytes where the end of one page and the beginning
 * of the other are brought together. Both pages have been translated before that, so nothing is loaded or
 * stored unless both allow it. Whatever no TLB may hold (a device, a page that is watched), faults, and
 * accesses that must be aligned are left to the evaluator.
 */
import type { Arena } from "../base/arena.ts";
import type { SharedMemory } from "../base/memory.ts";
import { type Cpu, CpuLayout } from "./arch/cpu_state.ts";
import {
  ACCESS,
  type Access,
  DATA_TLB,
  DATA_TLB_ENTRIES,
  DATA_TLB_ENTRY,
  DATA_TLB_SIZE,
  NO_TAG_HALF,
} from "./arch/tlb_layout.ts";
import { UNPRIVILEGED_ACCESS } from "./engine/wasm_frame.ts";
import { FILL, type Mmu } from "./mmu/mmu.ts";
import { makeEmpty } from "./mmu/tlb.ts";

const PAGE = 4096;
/** The most bytes that one instruction looks up at once; as many are brought together of either page. */
const LONGEST = 64;

/** Bytes of `cache` memory for one CPU. */
export const CROSSING_BYTES = DATA_TLB_SIZE + 2 * LONGEST + 64;

/** What executes one instruction in generated code: false if that left before it was executed. */
interface Stepper {
  step(cpu: Cpu): boolean;
}

/** The accesses of one CPU that cross a page. */
export class CrossingAccess {
  readonly #memory: SharedMemory;
  /** The TLB, and where the bytes of the two pages meet. */
  readonly #tlb: number;
  readonly #meeting: number;

  /** `arena`: where {@link CROSSING_BYTES} are free. */
  constructor(
    arena: Arena,
    readonly cpu: Cpu,
    readonly mmu: Mmu,
    readonly stepper: Stepper,
  ) {
    this.#memory = cpu.memory;
    this.#tlb = arena.reserve(DATA_TLB_SIZE, 64);
    this.#meeting = arena.reserve(2 * LONGEST, 8) + LONGEST;
    makeEmpty(this.#memory, this.#tlb, DATA_TLB_SIZE);
  }

  /**
   * Executes the instruction at pc, which has missed with an access of `cpu.faultSize` bytes at
   * `cpu.faultVa` that crosses a page. False: nothing has happened that a later attempt would not repeat.
   */
  make(): boolean {
    const { cpu } = this;
    const size = cpu.faultSize;
    if (size > LONGEST || cpu.alignMask !== 0) return false;
    const words = this.#memory.u32;
    const faultVa = (cpu.base + CpuLayout.offset.faultVa) >>> 2;
    const lo = words[faultVa] as number, hi = words[faultVa + 1] as number;
    const next = ((lo & -PAGE) + PAGE) >>> 0;
    const nextHi = next === 0 ? (hi + 1) >>> 0 : hi;
    const first = this.#pageAt(lo, hi);
    if (first < 0) return false;
    const second = this.#pageAt(next, nextHi);
    if (second < 0) return false;
    return this.#execute(lo, next, nextHi, first + PAGE, second, size);
  }

  /** Byte offset in the memory of the page of an address in halves, if the access to it needs no more than that; else -1. */
  #pageAt(lo: number, hi: number): number {
    const { cpu } = this;
    const words = this.#memory.u32;
    const access = (cpu.faultAccess & ACCESS.WRITE) as Access;
    const unprivileged = (cpu.faultAccess & UNPRIVILEGED_ACCESS) !== 0;
    const page = (lo & -PAGE) >>> 0;
    const entry = entryOf(unprivileged ? cpu.tlbUnprivileged : cpu.tlb, page);
    const tag = entry + ((access === ACCESS.READ ? DATA_TLB.READ_TAG : DATA_TLB.WRITE_TAG) >>> 2);
    if (words[tag] !== page || words[tag + 1] !== hi) {
      if (this.mmu.fillData(cpu, lo, hi, access, 1, unprivileged) !== FILL.RAM) return -1;
    }
    return ((words[entry + (DATA_TLB.ADDEND >>> 2)] as number) + page) >>> 0;
  }

  /** `end`, `second`: byte offsets of the end of the first page and of the beginning of the second. */
  #execute(
    lo: number,
    next: number,
    nextHi: number,
    end: number,
    second: number,
    size: number,
  ): boolean {
    const { cpu } = this;
    const meeting = this.#meeting;
    const before = PAGE - (lo & (PAGE - 1));
    this.#copy(meeting - before, end - before, before);
    this.#copy(meeting, second, size - before);
    const entry = entryOf(this.#tlb, lo);
    this.#enter(entry, meeting - next, next, nextHi);
    const { tlb, tlbUnprivileged } = cpu;
    cpu.tlb = cpu.tlbUnprivileged = this.#tlb;
    const done = this.stepper.step(cpu);
    cpu.tlb = tlb;
    cpu.tlbUnprivileged = tlbUnprivileged;
    this.#enter(entry, 0, NO_TAG_HALF, NO_TAG_HALF);
    if (done && (cpu.faultAccess & ACCESS.WRITE) !== 0) {
      this.#copy(end - before, meeting - before, before);
      this.#copy(second, meeting, size - before);
    }
    return done;
  }

  /** Only the tag of the access at hand matters, but it need not be told from the other. */
  #enter(entry: number, addend: number, tagLo: number, tagHi: number): void {
    const words = this.#memory.u32;
    words[entry + (DATA_TLB.ADDEND >>> 2)] = addend;
    words[entry + (DATA_TLB.READ_TAG >>> 2)] = words[entry + (DATA_TLB.WRITE_TAG >>> 2)] = tagLo;
    words[entry + (DATA_TLB.READ_TAG >>> 2) + 1] = tagHi;
    words[entry + (DATA_TLB.WRITE_TAG >>> 2) + 1] = tagHi;
  }

  /** A few bytes: a loop is faster than a call. */
  #copy(to: number, from: number, length: number): void {
    const { u8 } = this.#memory;
    for (let i = 0; i < length; i++) u8[to + i] = u8[from + i] as number;
  }
}

/** Word index of the entry of the page of `lo`. */
function entryOf(tlb: number, lo: number): number {
  return (tlb + ((lo >>> 12) & (DATA_TLB_ENTRIES - 1)) * DATA_TLB_ENTRY) >>> 2;
}
