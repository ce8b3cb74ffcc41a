/**
 * Where EL2's half of the linear map is. Mirrors arch/arm64/kvm/va_layout.c.
 *
 *  63 ... 48 |     47     | 46 .. tag_lsb | tag_lsb - 1 .. 0
 *  ---------------------------------------------------------
 *  0000000   | hyp_va_msb |      tag      |  kern linear VA
 *
 * What differs: the kernel's linear address of a byte is {@link PAGE_OFFSET_HI} over its offset in the
 * shared memory, which is not more than 32 bits; the tag, random in a kernel, is always the same.
 */
import type { RamRange } from "../arm/arch/tlb_layout.ts";
import type { HypVaLayout } from "./hyp/kvm_asm.ts";

/** High half of every linear address of the kernel. */
export const PAGE_OFFSET_HI = 0xffff_0000;
const VABITS = 48;
const TAG = 0x5a3c_9d7e_61f2;

/** kvm_compute_layout: no hyp VA is an address of the identity map, which `idmapPa` belongs to. */
export function kvmComputeLayout(ram: RamRange, idmapPa: number): HypVaLayout {
  const top = 2 ** (VABITS - 1);
  const hypVaMsb = idmapPa >= top ? 0 : top;
  const tagLsb = 32 - Math.clz32(ram.at ^ (ram.at + ram.size - 1));
  const unit = 2 ** tagLsb;
  const tag = TAG % top;
  return { mask: (unit - 1) >>> 0, tag: hypVaMsb + tag - tag % unit };
}
