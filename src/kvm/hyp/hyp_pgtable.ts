/**
 * EL2's own stage-1 translation tables. Mirrors the hyp part of arch/arm64/kvm/hyp/pgtable.c: 4 KiB
 * granule, 48-bit addresses, pages only; nothing is ever unmapped.
 */
import type { SharedMemory } from "../../base/memory.ts";
import { assert } from "../../base/errors.ts";
import { ramOffset, type RamRange } from "../../arm/arch/tlb_layout.ts";
import { PROT } from "./pgtable.ts";

const PAGE = 4096;
const TWO32 = 0x1_0000_0000;
const LAST_LEVEL = 3;

/** PAGE_HYP and its relatives. */
export const PAGE_HYP = PROT.R | PROT.W;
export const PAGE_HYP_EXEC = PROT.R | PROT.X;
export const PAGE_HYP_RO = PROT.R;

/** Fields of a leaf: attribute 0 (MT_NORMAL), AP for a regime without EL0, inner shareable, accessed. */
const PTE_PAGE = 3;
const AP_RW = 1 << 6;
const AP_RO = 3 << 6;
const SH_IS = 3 << 8;
const AF = 1 << 10;
const XN_HI = 1 << 22;

/** What the tables lie in (struct kvm_pgtable_mm_ops). */
export interface HypPgtableOps {
  readonly memory: SharedMemory;
  readonly ram: RamRange;
  /** A zeroed page: its physical address, or -1. */
  zallocPage(): number;
}

/** The tables of a machine's EL2; all CPUs use them. */
export class HypPgtable {
  readonly pgdPa: number;

  constructor(readonly ops: HypPgtableOps) {
    this.pgdPa = ops.zallocPage();
    assert(this.pgdPa >= 0, "no memory for EL2's tables");
  }

  #table(pa: number): number {
    return ramOffset(this.ops.ram, pa, PAGE);
  }

  /** The entry of `va` in the last level, its tables made where missing; -1 when memory is out. */
  #descend(va: number): number {
    const m = this.ops.memory;
    let table = this.#table(this.pgdPa);
    for (let level = 0;; level++) {
      const at = table + 8 * (Math.floor(va / (PAGE * 512 ** (LAST_LEVEL - level))) % 512);
      if (level === LAST_LEVEL) return at;
      if ((m.ld32(at) & 1) === 0) {
        const pa = this.ops.zallocPage();
        if (pa < 0) return -1;
        m.st53(at, pa + PTE_PAGE);
      }
      const pa = (m.ld32(at + 4) & 0xffff) * TWO32 + ((m.ld32(at) & ~(PAGE - 1)) >>> 0);
      table = this.#table(pa);
    }
  }

  /**
   * kvm_pgtable_hyp_map of the page at `va` to `pa`, both multiples of 4096: false when memory is out.
   * The same mapping may be made again, another one not.
   */
  map(va: number, pa: number, prot: number): boolean {
    assert((prot & (PROT.W | PROT.X)) !== (PROT.W | PROT.X), "EL2 mapping writable and executable");
    const at = this.#descend(va);
    if (at < 0) return false;
    const m = this.ops.memory;
    const lo = ((pa % TWO32) | PTE_PAGE | ((prot & PROT.W) !== 0 ? AP_RW : AP_RO) | SH_IS | AF) >>>
      0;
    const hi = Math.floor(pa / TWO32) | ((prot & PROT.X) !== 0 ? 0 : XN_HI);
    const same = m.ld32(at) === lo && m.ld32(at + 4) === hi;
    assert(same || (m.ld32(at) & 1) === 0, `EL2 mapping of 0x${va.toString(16)} changes`);
    m.st32(at + 4, hi);
    m.st32(at, lo);
    return true;
  }
}
