/**
 * Translation contexts: per CPU a small pool of software TLBs, each holding translations made under
 * one key. The key has everything that a translation depends on besides the tables in memory (regime,
 * privilege, PAN, ASID, VMID and the values of the control registers), so that no register write ever
 * has to flush: it selects another context. Only TLB maintenance and reuse of a context empty one.
 *
 * TTBR and VTTBR addresses are not in the key: as on hardware, ASID and VMID stand for them.
 */
import type { Arena } from "../../base/arena.ts";
import type { SharedMemory } from "../../base/memory.ts";
import { array, layout, u32 } from "../../base/struct.ts";
import { CODE_TLB_SIZE, DATA_TLB_SIZE } from "../arch/tlb_layout.ts";
import { asidMask, type Controls, type Regime, SCTLR } from "./regime.ts";
import {
  clearCodeBlock,
  clearCodeEntry,
  clearDataBlock,
  clearDataEntry,
  DATA_TLB_GROUPS,
  dataGroup,
  Emptier,
  EMPTY_TLB_SIZE,
} from "./tlb.ts";
import { WALK_CACHE_SIZE, WalkCache } from "./walk_cache.ts";

/** Contexts in one CPU's pool. */
const CONTEXTS_PER_CPU = 16;

/**
 * Pages of one block are dropped together, so a context remembers which blocks it has entered anything
 * of: bits of a hash of their numbers, never cleared but by emptying the context.
 */
const FILTER_BITS = 4096;
/** Sizes of blocks, and the largest whose pages are looked for instead of emptying the context. */
const BLOCK_SHIFTS = [21, 25, 29, 30] as const;
const SEARCHED_SHIFT = 21;
/** As many bits as a searched block has groups of entries: they are the bits of one word. */
const BLOCK_GROUPS = (1 << dataGroup(1 << SEARCHED_SHIFT)) - 1;
/** Pages up to this size (64 KiB) are dropped by their neighbours without asking. */
const SMALL_SHIFT = 16;

/** One context's directory entry. The seven words of the key come first. */
const TlbContextLayout = layout("tlb_context", {
  /** {@link FLAG} bits; 0: never used. */
  flags: u32("cache"),
  /** VMID in bits 7 to 0, ASID in bits 31 to 16. */
  ids: u32("cache"),
  tcrLo: u32("cache"),
  tcrHi: u32("cache"),
  mairLo: u32("cache"),
  mairHi: u32("cache"),
  vtcr: u32("cache"),
  /** When it was last selected. */
  stamp: u32("cache"),
  /** Not 0 when there may be entries since it was emptied. */
  codeUsed: u32("cache"),
  /** A bit for each group of the data TLB's entries in which there may be entries. */
  dataUsed: array("u32", DATA_TLB_GROUPS / 32, "cache"),
  /** Sizes of mappings entered, `1 << shift` or'ed together, of those above 4 KiB. */
  shifts: u32("cache"),
  blocks: array("u32", FILTER_BITS / 32, "cache"),
});

const SIZE = TlbContextLayout.size;
const OFFSET = TlbContextLayout.offset;
const FLAGS = OFFSET.flags >>> 2;
const IDS = OFFSET.ids >>> 2;
const TCR_HI = OFFSET.tcrHi >>> 2;
const STAMP = OFFSET.stamp >>> 2;
const DATA_USED = OFFSET.dataUsed >>> 2;
const CODE_USED = OFFSET.codeUsed >>> 2;
const SHIFTS = OFFSET.shifts >>> 2;
const BLOCKS = OFFSET.blocks >>> 2;

const FLAG = {
  VALID: 1,
  USER: 1 << 3,
  PAN: 1 << 4,
  STAGE1: 1 << 5,
  STAGE2: 1 << 6,
  DC: 1 << 7,
  PTW: 1 << 8,
  WXN: 1 << 9,
} as const;
/** The regime is in bits 2 to 1. */
const REGIME_SHIFT = 1;

/** The place in the filter of the block of `2 ** shift` bytes around an address in halves (bits 55 and down count). */
function filterBit(lo: number, hi: number, shift: number): number {
  const block = (lo >>> shift) | ((hi & 0x00ff_ffff) << (32 - shift));
  return Math.imul(block ^ shift, 0x9e37_79b1) >>> (32 - Math.log2(FILTER_BITS));
}

/** A key as the words of the layout. */
class Key {
  flags = 0;
  ids = 0;
  tcrLo = 0;
  tcrHi = 0;
  mairLo = 0;
  mairHi = 0;
  vtcr = 0;

  load(c: Controls): void {
    this.flags = FLAG.VALID | (c.regime << REGIME_SHIFT) |
      (c.user ? FLAG.USER : 0) |
      (c.pan && c.stage1 ? FLAG.PAN : 0) |
      (c.stage1 ? FLAG.STAGE1 : 0) |
      (c.stage2 ? FLAG.STAGE2 : 0) |
      (c.defaultCacheable ? FLAG.DC : 0) |
      (c.stage2 && c.ptw ? FLAG.PTW : 0) |
      ((c.sctlr & SCTLR.WXN) !== 0 ? FLAG.WXN : 0);
    this.ids = c.vmid | (c.stage1 ? c.asid << 16 : 0);
    this.tcrLo = c.tcrLo | 0;
    this.tcrHi = c.tcrHi | 0;
    this.mairLo = c.stage1 ? c.mairLo | 0 : 0;
    this.mairHi = c.stage1 ? c.mairHi | 0 : 0;
    this.vtcr = c.stage2 ? c.vtcr | 0 : 0;
  }

  equals(words: Int32Array, at: number): boolean {
    return words[at] === this.flags && words[at + 1] === this.ids &&
      words[at + 2] === this.tcrLo && words[at + 3] === this.tcrHi &&
      words[at + 4] === this.mairLo && words[at + 5] === this.mairHi &&
      words[at + 6] === this.vtcr;
  }

  store(words: Int32Array, at: number): void {
    words[at] = this.flags;
    words[at + 1] = this.ids;
    words[at + 2] = this.tcrLo;
    words[at + 3] = this.tcrHi;
    words[at + 4] = this.mairLo;
    words[at + 5] = this.mairHi;
    words[at + 6] = this.vtcr;
  }
}

/** Bytes of the words that stamps and generations are taken from. */
const CLOCK_BYTES = 8;

/** Bytes of memory that the contexts of `cpuCount` CPUs take. */
export function contextBytes(cpuCount: number): number {
  const alignment = 4 * 64;
  const each = SIZE + WALK_CACHE_SIZE + DATA_TLB_SIZE + CODE_TLB_SIZE;
  return cpuCount * CONTEXTS_PER_CPU * each + EMPTY_TLB_SIZE + CLOCK_BYTES + alignment;
}

/** The pools of all CPUs. A context is named by its number: `cpu * CONTEXTS_PER_CPU + i`. */
export class Contexts {
  readonly #memory: SharedMemory;
  readonly #words: Int32Array;
  readonly #directory: number;
  readonly #data: number;
  readonly #code: number;
  readonly #emptier: Emptier;
  readonly #key = new Key();
  readonly #count: number;
  /** Word number of what stamps are taken from, and of {@link generation}. */
  readonly #clock: number;
  /** What each context knows of upper levels. */
  readonly walks: WalkCache;

  /** `parallel`: CPUs run in several workers. */
  constructor(memory: SharedMemory, arena: Arena, cpuCount: number, parallel = false) {
    this.#memory = memory;
    this.#words = memory.i32;
    this.#count = cpuCount * CONTEXTS_PER_CPU;
    this.#directory = arena.allocate(TlbContextLayout, this.#count);
    this.#clock = arena.reserve(CLOCK_BYTES) >>> 2;
    this.#data = arena.reserve(this.#count * DATA_TLB_SIZE, 64);
    this.#code = arena.reserve(this.#count * CODE_TLB_SIZE, 64);
    this.walks = new WalkCache(memory, arena, this.#count);
    this.#emptier = new Emptier(memory, arena.reserve(EMPTY_TLB_SIZE, 64), parallel);
    this.reset();
  }

  /** Address of a context's data TLB. */
  dataTlb(context: number): number {
    return this.#data + context * DATA_TLB_SIZE;
  }

  /** Address of a context's code TLB. */
  codeTlb(context: number): number {
    return this.#code + context * CODE_TLB_SIZE;
  }

  /** Address of a data TLB that is always empty: it must not be written to. */
  get emptyTlb(): number {
    return this.#emptier.empty;
  }

  /** The context that a code TLB address belongs to. */
  contextOfCode(codeTlb: number): number {
    return (codeTlb - this.#code) / CODE_TLB_SIZE;
  }

  /** The context that a data TLB address belongs to. */
  contextOf(dataTlb: number): number {
    return (dataTlb - this.#data) / DATA_TLB_SIZE;
  }

  #at(context: number): number {
    return (this.#directory + context * SIZE) >>> 2;
  }

  /**
   * Forgets all contexts of all CPUs (they must be selected anew): after a snapshot was restored. A
   * context is emptied when it is selected, and most never are.
   */
  reset(): void {
    for (let cpu = 0; cpu * CONTEXTS_PER_CPU < this.#count; cpu++) this.resetCpu(cpu);
  }

  /** Changes whenever a context is given to another key, or all of a CPU are forgotten: by any worker. */
  get generation(): number {
    return this.#words[this.#clock + 1] as number;
  }
  #changeGeneration(): void {
    this.#words[this.#clock + 1] = this.generation + 1;
  }

  /** The same of one CPU. */
  resetCpu(cpu: number): void {
    this.#changeGeneration();
    const first = cpu * CONTEXTS_PER_CPU;
    for (let context = first; context < first + CONTEXTS_PER_CPU; context++) {
      const at = this.#at(context);
      this.#words.fill(0, at, at + SIZE / 4);
      this.#words[at + CODE_USED] = 1;
      this.#words.fill(-1, at + DATA_USED, at + DATA_USED + DATA_TLB_GROUPS / 32);
    }
  }

  /**
   * The context of CPU number `cpu` for the key in `c`. When there is none, the least recently selected
   * one is emptied and reused: so of several that are in use at once, all stay valid.
   */
  select(cpu: number, c: Controls): number {
    const key = this.#key;
    key.load(c);
    const first = cpu * CONTEXTS_PER_CPU;
    let context = this.#find(first);
    if (context < 0) {
      context = this.#oldest(first);
      this.#changeGeneration();
      this.flush(context);
      key.store(this.#words, this.#at(context));
    }
    this.touch(context);
    return context;
  }

  /** Whether the context has a key; a CPU of another thread may have had all of them forgotten. */
  isUsed(context: number): boolean {
    return this.#words[this.#at(context) + FLAGS] !== 0;
  }

  /** The context is selected again, by whoever knows that it is the right one. */
  touch(context: number): void {
    const now = ((this.#words[this.#clock] as number) + 1) | 0;
    this.#words[this.#clock] = now;
    this.#words[this.#at(context) + STAMP] = now;
  }

  #find(first: number): number {
    for (let context = first; context < first + CONTEXTS_PER_CPU; context++) {
      if (this.#key.equals(this.#words, this.#at(context))) return context;
    }
    return -1;
  }

  #oldest(first: number): number {
    let oldest = first;
    let age = -1;
    const now = this.#words[this.#clock] as number;
    for (let context = first; context < first + CONTEXTS_PER_CPU; context++) {
      const stamp = this.#words[this.#at(context) + STAMP] as number;
      const hisAge = (now - stamp) >>> 0;
      if (hisAge > age) {
        oldest = context;
        age = hisAge;
      }
    }
    return oldest;
  }

  /** Notes that an entry for a data page is about to be written: VA in halves, mapping of `2 ** shift` bytes. */
  noteData(context: number, vaLo: number, vaHi: number, shift: number): void {
    const group = dataGroup(vaLo);
    (this.#words[this.#at(context) + DATA_USED + (group >>> 5)] as number) |= 1 << (group & 31);
    if (shift > 12) this.#noteLarge(context, vaLo, vaHi, shift);
  }

  /** The same for a code page. */
  noteCode(context: number, vaLo: number, vaHi: number, shift: number): void {
    this.#words[this.#at(context) + CODE_USED] = 1;
    if (shift > 12) this.#noteLarge(context, vaLo, vaHi, shift);
  }

  #noteLarge(context: number, vaLo: number, vaHi: number, shift: number): void {
    const at = this.#at(context);
    const words = this.#words;
    (words[at + SHIFTS] as number) |= 1 << shift;
    if (shift <= SMALL_SHIFT) return;
    const bit = filterBit(vaLo, vaHi, shift);
    (words[at + BLOCKS + (bit >>> 5)] as number) |= 1 << (bit & 31);
  }

  #forgetLarge(context: number): void {
    const at = this.#at(context);
    if (this.#words[at + SHIFTS] === 0) return;
    this.#words[at + SHIFTS] = 0;
    this.#words.fill(0, at + BLOCKS, at + BLOCKS + FILTER_BITS / 32);
  }

  /** Empties one context. */
  flush(context: number): void {
    const at = this.#at(context);
    this.#emptyData(context);
    if (this.#words[at + CODE_USED] !== 0) this.#emptier.code(this.codeTlb(context));
    this.#words[at + CODE_USED] = 0;
    this.walks.flush(context);
    this.#forgetLarge(context);
  }

  #emptyData(context: number): void {
    const words = this.#words;
    const tlb = this.dataTlb(context);
    const used = this.#at(context) + DATA_USED;
    for (let i = 0; i < DATA_TLB_GROUPS / 32; i++) {
      const groups = words[used + i] as number;
      if (groups === 0) continue;
      words[used + i] = 0;
      this.#emptier.dataGroups(tlb, 32 * i, groups);
    }
  }

  /** Empties the code TLB of every context of CPU number `cpu`: predecoded code is looked at again before it is used. */
  dropCode(cpu: number): void {
    const first = cpu * CONTEXTS_PER_CPU;
    for (let context = first; context < first + CONTEXTS_PER_CPU; context++) {
      const at = this.#at(context) + CODE_USED;
      if (this.#words[at] === 0) continue;
      this.#emptier.code(this.codeTlb(context));
      this.#words[at] = 0;
    }
  }

  /** Drops virtual page `page` (VA bits 48 to 12) of one CPU's code TLBs, in all contexts; -1 for all of them. */
  forgetCode(cpu: number, page: number): void {
    const first = cpu * CONTEXTS_PER_CPU;
    for (let context = first; context < first + CONTEXTS_PER_CPU; context++) {
      if (page < 0) this.#emptier.code(this.codeTlb(context));
      else clearCodeEntry(this.#memory, this.codeTlb(context), page >>> 0);
    }
  }

  /** The same of its data TLBs. */
  forgetData(cpu: number, page: number): void {
    const first = cpu * CONTEXTS_PER_CPU;
    for (let context = first; context < first + CONTEXTS_PER_CPU; context++) {
      if (page < 0) this.#emptyData(context);
      else clearDataEntry(this.#memory, this.dataTlb(context), page >>> 0);
    }
  }

  /** Drops what was entered for the virtual page at an address in halves, and for the rest of its block. */
  #flushPage(context: number, vaLo: number, vaHi: number): void {
    const at = this.#at(context);
    const shifts = this.#words[at + SHIFTS] as number;
    for (const shift of BLOCK_SHIFTS) {
      if ((shifts & (1 << shift)) === 0) continue;
      const bit = filterBit(vaLo, vaHi, shift);
      const entered = (this.#words[at + BLOCKS + (bit >>> 5)] as number) & (1 << (bit & 31));
      if (entered === 0) continue;
      if (shift > SEARCHED_SHIFT) return this.flush(context);
      this.#flushBlock(context, vaLo, vaHi);
    }
    // The largest page size that there may be here: 4, 16 or 64 KiB.
    const log = shifts & (1 << SMALL_SHIFT) ? 4 : shifts & (1 << 14) ? 2 : 0;
    const page = vaLo >>> 12;
    const first = page & -(1 << log);
    for (let i = first; i < first + (1 << log); i++) {
      clearDataEntry(this.#memory, this.dataTlb(context), i);
      clearCodeEntry(this.#memory, this.codeTlb(context), i);
    }
  }

  /** Whether a group is used where the pages of a block of `2 ** SEARCHED_SHIFT` bytes would be. */
  #mayHoldBlock(at: number, vaLo: number): boolean {
    const first = dataGroup(vaLo & -(1 << SEARCHED_SHIFT));
    const groups = this.#words[at + DATA_USED + (first >>> 5)] as number;
    return ((groups >>> (first & 31)) & BLOCK_GROUPS) !== 0;
  }

  #flushBlock(context: number, vaLo: number, vaHi: number): void {
    const at = this.#at(context);
    if (this.#mayHoldBlock(at, vaLo)) {
      clearDataBlock(this.#memory, this.dataTlb(context), vaLo, vaHi, SEARCHED_SHIFT);
    }
    if (this.#words[at + CODE_USED] !== 0) {
      clearCodeBlock(this.#memory, this.codeTlb(context), vaLo, vaHi, SEARCHED_SHIFT);
    }
  }

  /**
   * TLB maintenance on CPU number `cpu`: empties every context of `regime` with this VMID and ASID (-1:
   * any).
   */
  invalidateAll(cpu: number, regime: Regime, vmid: number, asid: number): void {
    const first = cpu * CONTEXTS_PER_CPU;
    for (let context = first; context < first + CONTEXTS_PER_CPU; context++) {
      if (this.#matches(context, regime, vmid, asid)) this.flush(context);
    }
  }

  /**
   * The same for the page at a virtual address in halves (bits 55 to 12 count), under every ASID.
   * `lastLevel`: tables on the way to it stay what they are.
   */
  invalidatePage(
    cpu: number,
    regime: Regime,
    vmid: number,
    vaLo: number,
    vaHi: number,
    lastLevel: boolean,
  ): void {
    const first = cpu * CONTEXTS_PER_CPU;
    for (let context = first; context < first + CONTEXTS_PER_CPU; context++) {
      if (!this.#matches(context, regime, vmid, -1)) continue;
      if (!lastLevel) this.walks.flush(context);
      this.#flushPage(context, vaLo, vaHi);
    }
  }

  #matches(context: number, regime: Regime, vmid: number, asid: number): boolean {
    const at = this.#at(context);
    const flags = this.#words[at + FLAGS] as number;
    const ids = this.#words[at + IDS] as number;
    if ((flags & FLAG.VALID) === 0 || ((flags >>> REGIME_SHIFT) & 3) !== regime) return false;
    if (vmid >= 0 && (ids & 0xff) !== vmid) return false;
    return asid < 0 || ids >>> 16 === (asid & asidMask(this.#words[at + TCR_HI] as number));
  }
}
