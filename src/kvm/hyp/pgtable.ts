/**
 * Stage-2 translation tables: the walker and what is done to entries. Mirrors
 * arch/arm64/kvm/hyp/pgtable.c for stage 2, 4 KiB granule, 40-bit IPAs, starting at level 1.
 *
 * What differs: tables are freed where they become empty of purpose (a block put over them, the VM
 * destroyed), without reference counts; hardware access flag updates are not used.
 */
import type { SharedMemory } from "../../base/memory.ts";
import { assert } from "../../base/errors.ts";
import { ramOffset, type RamRange } from "../../arm/arch/tlb_layout.ts";
import { KVM_IPA_BITS } from "../kvm_host.ts";

const PAGE = 4096;
const TWO32 = 0x1_0000_0000;
/** Level 1 of a 40-bit space: two tables side by side. */
const PGD_PAGES = 2;
const LAST_LEVEL = 3;
const START_LEVEL = 1;

/** What may be done with a mapping (enum kvm_pgtable_prot). */
export const PROT = { X: 1, W: 2, R: 4, DEVICE: 8 } as const;

/** Fields of a stage-2 descriptor, in its low and high half. */
export const PTE = {
  VALID: 1,
  /** A table above level 3, a page at level 3. */
  TABLE: 2,
  ATTR_SHIFT: 2,
  MEMATTR_NORMAL: 0xf << 2,
  MEMATTR_DEVICE: 1 << 2,
  S2AP_R: 1 << 6,
  S2AP_W: 1 << 7,
  SH_IS: 3 << 8,
  AF: 1 << 10,
  XN_HI: 1 << 22,
  ADDRESS_HI: 0xffff,
} as const;

/**
 * VTCR_EL2 for these tables (kvm_get_vtcr): 40-bit IPA and PA, cacheable and inner-shareable walks, 8-bit
 * VMIDs. HA is set on every core; one that has no hardware access flag ignores it, and faults instead.
 */
export const VTCR =
  (0x8000_0000 | (1 << 21) | (2 << 16) | (3 << 12) | (1 << 10) | (1 << 8) | (1 << 6) |
    (64 - KVM_IPA_BITS)) >>> 0;

/** What the walker needs of the world (struct kvm_pgtable_mm_ops). */
export interface PgtableOps {
  readonly memory: SharedMemory;
  readonly ram: RamRange;
  /** `pages` zeroed pages, their start aligned to their size: physical address, or -1. */
  zalloc(pages: number): number;
  free(pa: number, pages: number): void;
  /** Drops what TLBs hold of the IPA, after its entry has been made invalid. */
  tlbFlushIpa(ipa: number, level: number): void;
  tlbFlushAll(): void;
  /** Makes `size` bytes of code at `pa` visible to instruction fetch. */
  icacheInvalidate(pa: number, size: number): void;
}

/** Bytes that one entry of a level covers. */
export function granule(level: number): number {
  return PAGE * 512 ** (LAST_LEVEL - level);
}

/** The entry found for an IPA. */
export interface Leaf {
  /** Byte offset of the descriptor in the shared memory. */
  readonly at: number;
  readonly level: number;
}

/** One VM's stage-2 tables. */
export class Stage2 {
  constructor(readonly ops: PgtableOps, readonly pgdPa: number) {}

  /** kvm_pgtable_stage2_init: an empty root; its physical address, or -1 when memory is out. */
  static allocatePgd(ops: PgtableOps): number {
    return ops.zalloc(PGD_PAGES);
  }

  #table(pa: number): number {
    const at = ramOffset(this.ops.ram, pa, PAGE);
    assert(at >= 0, "stage-2 table outside RAM");
    return at;
  }

  #index(ipa: number, level: number): number {
    const index = Math.floor(ipa / granule(level));
    return level === START_LEVEL ? index : index % 512;
  }

  #lo(at: number): number {
    return this.ops.memory.ld32(at);
  }

  /** Output address of the descriptor at `at`: a number, being below 2^48. */
  #outputPa(at: number): number {
    const m = this.ops.memory;
    return (m.ld32(at + 4) & PTE.ADDRESS_HI) * TWO32 + ((m.ld32(at) & ~(PAGE - 1)) >>> 0);
  }

  #isTable(at: number, level: number): boolean {
    return level < LAST_LEVEL && (this.#lo(at) & 3) === 3;
  }

  /** The last entry on the way to `ipa`: a leaf, or an invalid entry. */
  lookup(ipa: number): Leaf {
    assert(ipa >= 0 && ipa < 2 ** KVM_IPA_BITS, "IPA out of range");
    let table = this.#table(this.pgdPa);
    for (let level = START_LEVEL;; level++) {
      const at = table + 8 * this.#index(ipa, level);
      if (!this.#isTable(at, level)) return { at, level };
      table = this.#table(this.#outputPa(at));
    }
  }

  #set(at: number, lo: number, hi: number): void {
    this.ops.memory.st32(at + 4, hi);
    this.ops.memory.st32(at, lo >>> 0);
  }

  /** Break-before-make: the entry becomes invalid, the TLBs forget it, and a table under it is freed. */
  #breakEntry(at: number, level: number, ipa: number): void {
    if ((this.#lo(at) & PTE.VALID) === 0) return;
    const table = this.#isTable(at, level) ? this.#outputPa(at) : -1;
    this.#set(at, 0, 0);
    if (table < 0) return this.ops.tlbFlushIpa(ipa, level);
    this.ops.tlbFlushAll();
    this.#freeTable(table, level + 1);
  }

  #freeTable(pa: number, level: number): void {
    const table = this.#table(pa);
    for (let i = 0; level < LAST_LEVEL && i < 512; i++) {
      const at = table + 8 * i;
      if (this.#isTable(at, level)) this.#freeTable(this.#outputPa(at), level + 1);
    }
    this.ops.free(pa, 1);
  }

  /** The entry of `ipa` at `level`, with the tables above it made where missing; -1 when memory is out. */
  #descend(ipa: number, level: number): number {
    let table = this.#table(this.pgdPa);
    for (let l = START_LEVEL; l < level; l++) {
      const at = table + 8 * this.#index(ipa, l);
      if (!this.#isTable(at, l)) {
        const pa = this.ops.zalloc(1);
        if (pa < 0) return -1;
        this.#breakEntry(at, l, ipa);
        this.#set(at, (pa % TWO32) | 3, Math.floor(pa / TWO32));
      }
      table = this.#table(this.#outputPa(at));
    }
    return table + 8 * this.#index(ipa, level);
  }

  /**
   * kvm_pgtable_stage2_map of one page (4096) or block (2 MiB): false when memory is out. `ipa` and
   * `pa` are multiples of `size`. Whatever was mapped there before is replaced.
   */
  map(ipa: number, size: number, pa: number, prot: number): boolean {
    assert(ipa % size === 0 && pa % size === 0, "stage-2 mapping not aligned");
    const level = size === PAGE ? LAST_LEVEL : LAST_LEVEL - 1;
    assert(size === granule(level), "stage-2 mapping of an unknown size");
    const at = this.#descend(ipa, level);
    if (at < 0) return false;
    const { lo, hi } = leafOf(pa, level, prot);
    if (this.#lo(at) === lo && this.ops.memory.ld32(at + 4) === hi) return true;
    this.#breakEntry(at, level, ipa);
    if ((prot & PROT.X) !== 0) this.ops.icacheInvalidate(pa, size);
    this.#set(at, lo, hi);
    return true;
  }

  /** Calls `visit` for each valid leaf within the range. Tables that are missing are stepped over. */
  #eachLeaf(ipa: number, size: number, visit: (leaf: Leaf, ipa: number) => void): void {
    const end = ipa + size;
    for (let at = ipa; at < end;) {
      const leaf = this.lookup(at);
      const bytes = granule(leaf.level);
      const start = at - at % bytes;
      if ((this.#lo(leaf.at) & PTE.VALID) !== 0) visit(leaf, start);
      at = start + bytes;
    }
  }

  /** kvm_pgtable_stage2_unmap: nothing in the range is mapped any more (whole blocks that it touches go). */
  unmap(ipa: number, size: number): void {
    this.#eachLeaf(ipa, size, (leaf, at) => this.#breakEntry(leaf.at, leaf.level, at));
  }

  /** kvm_pgtable_stage2_wrprotect: the range's pages are read-only, once the TLBs are flushed. */
  wrprotect(ipa: number, size: number): void {
    this.#eachLeaf(ipa, size, (leaf) => this.#update(leaf, 0, PTE.S2AP_W, 0));
  }

  /** kvm_flush_remote_tlbs. */
  flushTlbs(): void {
    this.ops.tlbFlushAll();
  }

  #update(leaf: Leaf, set: number, clear: number, clearHi: number): void {
    const m = this.ops.memory;
    m.st32(leaf.at, ((this.#lo(leaf.at) | set) & ~clear) >>> 0);
    m.st32(leaf.at + 4, m.ld32(leaf.at + 4) & ~clearHi);
  }

  #valid(ipa: number): Leaf | undefined {
    const leaf = this.lookup(ipa);
    return (this.#lo(leaf.at) & PTE.VALID) === 0 ? undefined : leaf;
  }

  /** kvm_pgtable_stage2_mkyoung: sets the access flag; false when nothing is mapped. */
  mkyoung(ipa: number): boolean {
    const leaf = this.#valid(ipa);
    if (leaf !== undefined) this.#update(leaf, PTE.AF, 0, 0);
    return leaf !== undefined;
  }

  /** kvm_pgtable_stage2_mkold: clears the access flag; whether it was set. */
  mkold(ipa: number): boolean {
    const leaf = this.#valid(ipa);
    if (leaf === undefined) return false;
    const young = (this.#lo(leaf.at) & PTE.AF) !== 0;
    this.#update(leaf, 0, PTE.AF, 0);
    this.ops.tlbFlushIpa(ipa, leaf.level);
    return young;
  }

  /** kvm_pgtable_stage2_relax_perms: adds `prot` to what is allowed; false when nothing is mapped. */
  relaxPerms(ipa: number, prot: number): boolean {
    const leaf = this.#valid(ipa);
    if (leaf === undefined) return false;
    const set = ((prot & PROT.R) !== 0 ? PTE.S2AP_R : 0) | ((prot & PROT.W) !== 0 ? PTE.S2AP_W : 0);
    if ((prot & PROT.X) !== 0) {
      this.ops.icacheInvalidate(this.#outputPa(leaf.at), granule(leaf.level));
    }
    this.#update(leaf, set, 0, (prot & PROT.X) !== 0 ? PTE.XN_HI : 0);
    this.ops.tlbFlushIpa(ipa, leaf.level);
    return true;
  }

  /** kvm_pgtable_stage2_destroy: frees every table, the root too. */
  destroy(): void {
    const root = this.#table(this.pgdPa);
    for (let i = 0; i < 512 * PGD_PAGES; i++) {
      const at = root + 8 * i;
      if (this.#isTable(at, START_LEVEL)) this.#freeTable(this.#outputPa(at), START_LEVEL + 1);
    }
    this.ops.free(this.pgdPa, PGD_PAGES);
  }
}

/** A leaf descriptor: executable only when asked for, accessed from the start. */
function leafOf(pa: number, level: number, prot: number): { lo: number; hi: number } {
  const device = (prot & PROT.DEVICE) !== 0;
  const lo = (pa % TWO32) | PTE.VALID | (level === LAST_LEVEL ? PTE.TABLE : 0) | PTE.AF |
    PTE.SH_IS | (device ? PTE.MEMATTR_DEVICE : PTE.MEMATTR_NORMAL) |
    ((prot & PROT.R) !== 0 ? PTE.S2AP_R : 0) | ((prot & PROT.W) !== 0 ? PTE.S2AP_W : 0);
  const hi = Math.floor(pa / TWO32) | ((prot & PROT.X) !== 0 ? 0 : PTE.XN_HI);
  return { lo: lo >>> 0, hi };
}
