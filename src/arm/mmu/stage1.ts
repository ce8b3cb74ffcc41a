/**
 * Stage 1: virtual to intermediate (or, without stage 2, physical) addresses, 4 KiB granule; TG fields
 * that select another granule count as 4 KiB. Source: DDI 0487 D8.2 "Translation process".
 */
import { TWO32 } from "../../base/bits.ts";
import { ATTR, mairAttr, SH, stage2IsDevice } from "./attributes.ts";
import { FSC, type TranslationFault } from "./fault.ts";
import { PERM, stage1Permissions } from "./permissions.ts";
import { type Controls, PA_BITS, SCTLR } from "./regime.ts";
import type { Stage2 } from "./stage2.ts";
import {
  DESCRIPTOR_AF,
  descriptorAddress,
  descriptorKind,
  firstTable,
  KIND,
  leafAddress,
  leafOffset,
  levelShift,
  startLevel,
  tableIndex,
  type TableReader,
} from "./walk.ts";

const MIN_TSZ = 16;
const MAX_TSZ = 39;
/** TCR bit EPD0, and how far EPD1, T1SZ are above EPD0, T0SZ. */
const TCR_EPD0 = 1 << 7;
const UPPER_SHIFT = 16;

/** Whether bits above `inputBits` (up to 63, or 55 with TBI) of the address in halves are all zero. */
function topIsZero(lo: number, hi: number, inputBits: number, tbi: boolean): boolean {
  const top = tbi ? hi & 0x00ff_ffff : hi;
  if (inputBits >= 32) return top >>> (inputBits - 32) === 0;
  return top === 0 && lo >>> inputBits === 0;
}

/** The walker of stage 1. Results are in its fields, valid until the next translation. */
export class Stage1 {
  /** The output: an IPA when stage 2 is on, else a PA. */
  out = 0;
  /** PERM bits for the privilege that was asked for. */
  permissions = 0;
  /** Attributes as a MAIR byte. */
  attr = 0;
  shareability = 0;
  /** Level of the leaf. */
  level = 0;
  /** Size of the mapping, as a power of two: 12, 21 or 30. */
  shift = 12;
  readonly #tables: TableReader;
  readonly #stage2: Stage2;
  readonly #fault: TranslationFault;

  constructor(tables: TableReader, stage2: Stage2, fault: TranslationFault) {
    this.#tables = tables;
    this.#stage2 = stage2;
    this.#fault = fault;
  }

  /** Finds what an address maps to. False: the fault is recorded. Permissions are for the caller to check. */
  translate(c: Controls, vaLo: number, vaHi: number, fetch: boolean): boolean {
    const tbi = c.topByteIgnored(vaHi);
    if (!c.stage1) return this.#flat(c, vaLo, vaHi, tbi, fetch);
    const upper = c.twoRanges ? (vaHi >>> 23) & 1 : 0;
    const tcr = upper === 1 ? c.tcrLo >>> UPPER_SHIFT : c.tcrLo;
    const tsz = tcr & 0x3f;
    const inputBits = 64 - tsz;
    const flip = -upper;
    // A size out of range is CONSTRAINED UNPREDICTABLE: a level 0 translation fault here.
    const reachable = tsz >= MIN_TSZ && tsz <= MAX_TSZ &&
      topIsZero(vaLo ^ flip, vaHi ^ flip, inputBits, tbi) &&
      !(c.twoRanges && (tcr & TCR_EPD0) !== 0);
    if (!reachable) return this.#fault.stage1(FSC.TRANSLATION);
    return this.#walk(c, vaLo, vaHi, inputBits, upper === 1);
  }

  /** Stage 1 off: the address is the output; data is Device, instructions are Normal memory. */
  #flat(c: Controls, vaLo: number, vaHi: number, tbi: boolean, fetch: boolean): boolean {
    if (!topIsZero(vaLo, vaHi, PA_BITS, tbi)) return this.#fault.stage1(FSC.ADDRESS_SIZE);
    this.out = (vaLo >>> 0) + (vaHi & 0xffff) * TWO32;
    this.permissions = PERM.ALL;
    this.level = 0;
    this.shift = 12;
    this.shareability = c.defaultCacheable ? SH.NONE : SH.OUTER;
    if (c.defaultCacheable) this.attr = ATTR.WRITE_BACK;
    else if (!fetch) this.attr = ATTR.DEVICE_NGNRNE;
    else this.attr = (c.sctlr & SCTLR.I) !== 0 ? ATTR.WRITE_THROUGH : ATTR.NON_CACHEABLE;
    return true;
  }

  #walk(c: Controls, vaLo: number, vaHi: number, inputBits: number, upper: boolean): boolean {
    const limit = c.outputLimit;
    const first = startLevel(inputBits);
    let mask = (1 << (inputBits - levelShift(first))) - 1;
    let table = upper
      ? firstTable(c.ttbr1Lo, c.ttbr1Hi, mask)
      : firstTable(c.ttbr0Lo, c.ttbr0Hi, mask);
    if (table >= limit) return this.#fault.stage1(FSC.ADDRESS_SIZE);
    let tablesHi = 0;
    for (let level = first;; level++) {
      if (!this.#read(c, table + 8 * tableIndex(vaLo, vaHi, level, mask), level)) return false;
      const { lo, hi } = this.#tables;
      const kind = descriptorKind(lo, level);
      if (kind === KIND.INVALID) return this.#fault.stage1(FSC.TRANSLATION + level);
      if (kind === KIND.LEAF) return this.#leaf(c, vaLo, level, tablesHi, limit);
      table = descriptorAddress(lo, hi);
      if (table >= limit) return this.#fault.stage1(FSC.ADDRESS_SIZE + level);
      tablesHi |= hi;
      mask = 511;
    }
  }

  /** Reads a descriptor of stage 1: a data read through stage 2. */
  #read(c: Controls, at: number, level: number): boolean {
    const pa = c.stage2 ? this.#throughStage2(c, at) : at;
    if (pa < 0) return false;
    return this.#tables.read(pa) || this.#fault.stage1(FSC.EXTERNAL_ON_WALK + level);
  }

  #throughStage2(c: Controls, ipa: number): number {
    const s2 = this.#stage2;
    const found = s2.translate(c, ipa);
    const refused = found && ((s2.permissions & PERM.R) === 0 ||
      (c.ptw && stage2IsDevice(s2.memAttr)));
    if (refused) this.#fault.second(FSC.PERMISSION + s2.level, ipa);
    if (found && !refused) return s2.pa;
    this.#fault.s1ptw = true;
    return -1;
  }

  #leaf(c: Controls, vaLo: number, level: number, tablesHi: number, limit: number): boolean {
    const { lo, hi } = this.#tables;
    const base = leafAddress(lo, hi, level);
    if (base >= limit) return this.#fault.stage1(FSC.ADDRESS_SIZE + level);
    if ((lo & DESCRIPTOR_AF) === 0) return this.#fault.stage1(FSC.ACCESS_FLAG + level);
    this.out = base + leafOffset(vaLo, level);
    this.permissions = stage1Permissions(c, lo, hi, tablesHi);
    this.attr = mairAttr(c, lo);
    this.shareability = (lo >>> 8) & 3;
    this.level = level;
    this.shift = levelShift(level);
    return true;
  }
}
