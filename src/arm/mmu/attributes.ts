/**
 * Memory attributes in the encoding of a MAIR_ELx byte (and of PAR_EL1.ATTR): the high nibble is 0 for
 * Device memory, else outer and inner cacheability. Source: DDI 0487 D8.5 "Memory region attributes",
 * D8.6.5 "Combining stage 1 and stage 2 memory type attributes".
 */
import type { Controls } from "./regime.ts";

export const ATTR = {
  DEVICE_NGNRNE: 0x00,
  NON_CACHEABLE: 0x44,
  WRITE_THROUGH: 0xaa,
  WRITE_BACK: 0xff,
} as const;

/** Shareability, as in SH fields. */
export const SH = { NONE: 0, OUTER: 2, INNER: 3 } as const;

/** Whether an attribute byte is Normal memory. */
export function isNormal(attr: number): boolean {
  return (attr & 0xf0) !== 0;
}

/** The MAIR_ELx byte that AttrIndx of a leaf (its low half) selects. */
export function mairAttr(c: Controls, leafLo: number): number {
  const index = (leafLo >>> 2) & 7;
  return ((index < 4 ? c.mairLo : c.mairHi) >>> (8 * (index & 3))) & 0xff;
}

/** Whether MemAttr[3:0] of stage 2 is Device memory. */
export function stage2IsDevice(memAttr: number): boolean {
  return (memAttr & 0xc) === 0;
}

/** One nibble of stage 1 weakened by two bits of stage 2 (1: Non-cacheable, 2: Write-Through, 3: Write-Back). */
function combineNibble(s1: number, s2: number): number {
  if (s1 === 4 || s2 === 1) return 4;
  const writeThrough = (s1 & 4) === 0;
  if (writeThrough || s2 !== 2) return s1;
  return 8 | (s1 & 3);
}

/** Stage 1's attribute byte combined with stage 2's MemAttr[3:0]: the weaker of the two. */
export function combineAttr(s1: number, memAttr: number): number {
  const s2Device = stage2IsDevice(memAttr);
  if (!isNormal(s1)) return s2Device ? Math.min(s1 & 0xc, (memAttr & 3) << 2) : s1;
  if (s2Device) return (memAttr & 3) << 2;
  return (combineNibble(s1 >>> 4, memAttr >>> 2) << 4) | combineNibble(s1 & 15, memAttr & 3);
}

/** The wider of two shareabilities. */
export function combineShareability(s1: number, s2: number): number {
  if (s1 === SH.OUTER || s2 === SH.OUTER) return SH.OUTER;
  return s1 === SH.INNER || s2 === SH.INNER ? SH.INNER : SH.NONE;
}

/** PAR_EL1.SH: Device and Non-cacheable memory is always Outer Shareable. */
export function parShareability(attr: number, shareability: number): number {
  return !isNormal(attr) || attr === ATTR.NON_CACHEABLE || attr === 0x40 ? SH.OUTER : shareability;
}
