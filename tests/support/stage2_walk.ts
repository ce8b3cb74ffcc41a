/**
 * An independent look at stage-2 tables, by the architecture alone: 4 KiB granule, 40-bit IPAs, level 1
 * made of two tables (Arm Architecture Reference Manual, D8.2). Shares no code with the hypervisor or
 * the MMU.
 */
import type { SharedMemory } from "../../src/base/memory.ts";
import type { RamRange } from "../../src/arm/arch/tlb_layout.ts";

export interface Mapping {
  readonly ipa: number;
  readonly pa: number;
  readonly bytes: number;
}

export interface Stage2Contents {
  readonly mappings: Mapping[];
  /** Physical addresses of the pages that the tables themselves take. */
  readonly tables: number[];
}

const PAGE = 4096;
const ADDRESS = 0xffff_ffff_f000n;

/** Everything that the tables at physical address `root` map. */
export function walkStage2(memory: SharedMemory, ram: RamRange, root: number): Stage2Contents {
  const out: Stage2Contents = { mappings: [], tables: [] };
  const visit = (table: number, level: number, ipa: number, entries: number): void => {
    for (let page = 0; page < entries / 512; page++) out.tables.push(table + page * PAGE);
    const bytes = 2 ** (12 + 9 * (3 - level));
    for (let i = 0; i < entries; i++) {
      const descriptor = memory.ld64(ram.at + (table - ram.pa) + 8 * i);
      if ((descriptor & 1n) === 0n) continue;
      const pa = Number(descriptor & ADDRESS), at = ipa + i * bytes;
      const isTable = (descriptor & 2n) !== 0n && level < 3;
      if (isTable) visit(pa, level + 1, at, 512);
      else out.mappings.push({ ipa: at, pa, bytes });
    }
  };
  visit(root, 1, 0, 1024);
  return out;
}
