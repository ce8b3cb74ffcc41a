/**
 * What a descriptor permits. Source: DDI 0487 D8.4 "Memory access control".
 */
import type { Controls } from "./regime.ts";

/** Permission bits, in the order of ACCESS: `1 << access`. */
export const PERM = { R: 1, W: 2, X: 4, ALL: 7 } as const;

/** By AP[2:1]: what EL1 (or EL2) may do, and what EL0 may do, as data accesses. */
const PRIVILEGED = Uint8Array.of(PERM.R | PERM.W, PERM.R | PERM.W, PERM.R, PERM.R);
const USER = Uint8Array.of(0, PERM.R | PERM.W, 0, PERM.R);

/** Bits of the high half: in a leaf PXN and UXN (XN with one range), in a table the hierarchical ones. */
const LEAF = { PXN: 1 << 21, UXN: 1 << 22 } as const;
const TABLE = { PXN: 1 << 27, UXN: 1 << 28, NO_EL0: 1 << 29, READ_ONLY: 1 << 30 } as const;

/** AP[2] of a leaf: read-only. */
export const AP_READ_ONLY = 1 << 7;

/** AP[2:1] of a leaf narrowed by APTable of the tables on the way. */
function accessPermissions(leafLo: number, tablesHi: number): number {
  let ap = (leafLo >>> 6) & 3;
  if ((tablesHi & TABLE.NO_EL0) !== 0) ap &= ~1;
  if ((tablesHi & TABLE.READ_ONLY) !== 0) ap |= 2;
  return ap;
}

function never(leafHi: number, leafBit: number, tablesHi: number, tableBit: number): boolean {
  return (leafHi & leafBit) !== 0 || (tablesHi & tableBit) !== 0;
}

function userPermissions(c: Controls, ap: number, leafHi: number, tablesHi: number): number {
  const data = USER[ap] as number;
  const xn = never(leafHi, LEAF.UXN, tablesHi, TABLE.UXN) || (c.wxn && (data & PERM.W) !== 0);
  return xn ? data : data | PERM.X;
}

/** EL1 never executes what EL0 can write; PAN takes away data accesses to what EL0 can read. */
function privilegedPermissions(c: Controls, ap: number, leafHi: number, tablesHi: number): number {
  const data = PRIVILEGED[ap] as number;
  const user = USER[ap] as number;
  const xn = never(leafHi, LEAF.PXN, tablesHi, TABLE.PXN) || (user & PERM.W) !== 0 ||
    (c.wxn && (data & PERM.W) !== 0);
  const allowed = c.pan && user !== 0 ? 0 : data;
  return xn ? allowed : allowed | PERM.X;
}

/** With one VA range there is no EL0: AP[1] is RES1, bit 54 is XN. */
function singlePermissions(c: Controls, ap: number, leafHi: number, tablesHi: number): number {
  const data = PRIVILEGED[ap] as number;
  const xn = never(leafHi, LEAF.UXN, tablesHi, TABLE.UXN) || (c.wxn && (data & PERM.W) !== 0);
  return xn ? data : data | PERM.X;
}

/**
 * The {@link PERM} bits of a stage 1 leaf (its halves) under tables whose high halves or together to
 * `tablesHi`, for the privilege in `c`.
 */
export function stage1Permissions(
  c: Controls,
  leafLo: number,
  leafHi: number,
  tablesHi: number,
): number {
  const ap = accessPermissions(leafLo, tablesHi);
  if (!c.twoRanges) return singlePermissions(c, ap, leafHi, tablesHi);
  if (c.user) return userPermissions(c, ap, leafHi, tablesHi);
  return privilegedPermissions(c, ap, leafHi, tablesHi);
}

/** S2AP[1] of a stage 2 leaf: writable. */
export const S2AP_WRITE = 1 << 7;

/**
 * The {@link PERM} bits of a stage 2 leaf: S2AP, and XN in bit 54. With `xnx`, XN[1:0] in bits 54 and
 * 53 is 0: anyone executes, 1: EL0 does, 2: nobody, 3: EL1 does.
 */
export function stage2Permissions(
  leafLo: number,
  leafHi: number,
  xnx: boolean,
  user: boolean,
): number {
  const data = (leafLo >>> 6) & 3;
  const first = (leafHi & LEAF.UXN) !== 0;
  const second = xnx && (leafHi & LEAF.PXN) !== 0;
  const xn = user || !second ? first : !first;
  return xn ? data : data | PERM.X;
}
