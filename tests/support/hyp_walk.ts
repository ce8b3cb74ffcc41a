/**
 * An independent look at EL2's stage-1 tables, by the architecture alone: 4 KiB granule, 48-bit VAs, a
 * regime without EL0 (Arm Architecture Reference Manual, D8.3). Shares no code with the hypervisor or
 * the MMU.
 */
import type { SharedMemory } from "../../src/base/memory.ts";
import type { RamRange } from "../../src/arm/arch/tlb_layout.ts";

export interface HypMapping {
  readonly va: number;
  readonly pa: number;
  readonly writable: boolean;
  readonly executable: boolean;
}

const ADDRESS = 0xffff_ffff_f000n;
const AP2 = 1n << 7n;
const XN = 1n << 54n;

/** Every page that the tables at physical address `root` map. */
export function walkHyp(memory: SharedMemory, ram: RamRange, root: number): HypMapping[] {
  const out: HypMapping[] = [];
  const visit = (table: number, level: number, va: number): void => {
    for (let i = 0; i < 512; i++) {
      const descriptor = memory.ld64(ram.at + (table - ram.pa) + 8 * i);
      if ((descriptor & 1n) === 0n) continue;
      const pa = Number(descriptor & ADDRESS), at = va + i * 2 ** (12 + 9 * (3 - level));
      if (level < 3) visit(pa, level + 1, at);
      else {
        out.push({
          va: at,
          pa,
          writable: (descriptor & AP2) === 0n,
          executable: (descriptor & XN) === 0n,
        });
      }
    }
  };
  visit(root, 0, 0);
  return out;
}
