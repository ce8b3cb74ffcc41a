/**
 * Stage 1: virtual to intermediate (or, without stage 2, physical) addresses, 4 KiB granule; TG fields
 * that select another granule count as 4 KiB. Source: DDI 0487 D8.2 "Translation process".
 */
import { ATTR, mairAttr, SH, stage2IsDevice } from "./attributes.ts";
import { FSC, type TranslationFault } from "./fault.ts";
import { PERM, stage1Permissions } from "./permissions.ts";
import { type Controls, PA_BITS, SCTLR } from "./regime.ts";
import type { Stage2 } from "./stage2.ts";
import {
  addressHi,
  beyond,
  DESCRIPTOR_AF,
  descriptorKind,
  firstTableLo,
  KIND,
  leafLo,
  levelShift,
  startLevel,
  tableIndex,
  tableLo,
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
  /** The output in halves: an IPA when stage 2 is on, else a PA. */
  outLo = 0;
  outHi = 0;
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
    this.outLo = vaLo;
    this.outHi = addressHi(vaHi);
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
    const tables = this.#tables;
    const { outputBits } = c;
    const first = startLevel(inputBits);
    let mask = (1 << (inputBits - levelShift(first))) - 1;
    let lo = firstTableLo(upper ? c.ttbr1Lo : c.ttbr0Lo, mask);
    let hi = addressHi(upper ? c.ttbr1Hi : c.ttbr0Hi);
    if (beyond(hi, outputBits)) return this.#fault.stage1(FSC.ADDRESS_SIZE);
    let tablesHi = 0;
    for (let level = first;; level++) {
      if (!this.#read(c, lo + 8 * tableIndex(vaLo, vaHi, level, mask), hi, level)) return false;
      const kind = descriptorKind(tables.lo, level);
      if (kind === KIND.INVALID) return this.#fault.stage1(FSC.TRANSLATION + level);
      lo = tableLo(tables.lo);
      hi = addressHi(tables.hi);
      if (beyond(hi, outputBits)) return this.#fault.stage1(FSC.ADDRESS_SIZE + level);
      if (kind === KIND.LEAF) return this.#leaf(c, vaLo, level, tablesHi);
      tablesHi |= tables.hi;
      mask = 511;
    }
  }

  /** Reads a descriptor of stage 1: a data read through stage 2. */
  #read(c: Controls, atLo: number, atHi: number, level: number): boolean {
    const s2 = this.#stage2;
    if (c.stage2 && !this.#throughStage2(c, atLo, atHi)) return false;
    const read = c.stage2 ? this.#tables.read(s2.paLo, s2.paHi) : this.#tables.read(atLo, atHi);
    return read || this.#fault.stage1(FSC.EXTERNAL_ON_WALK + level);
  }

  #throughStage2(c: Controls, ipaLo: number, ipaHi: number): boolean {
    const s2 = this.#stage2;
    const found = s2.translate(c, ipaLo, ipaHi);
    const refused = found && ((s2.permissions & PERM.R) === 0 ||
      (c.ptw && stage2IsDevice(s2.memAttr)));
    if (refused) this.#fault.second(FSC.PERMISSION + s2.level, ipaLo, ipaHi);
    if (found && !refused) return true;
    this.#fault.s1ptw = true;
    return false;
  }

  #leaf(c: Controls, vaLo: number, level: number, tablesHi: number): boolean {
    const { lo, hi } = this.#tables;
    if ((lo & DESCRIPTOR_AF) === 0) return this.#fault.stage1(FSC.ACCESS_FLAG + level);
    this.outLo = leafLo(lo, vaLo, level);
    this.outHi = addressHi(hi);
    this.permissions = stage1Permissions(c, lo, hi, tablesHi);
    this.attr = mairAttr(c, lo);
    this.shareability = (lo >>> 8) & 3;
    this.level = level;
    this.shift = levelShift(level);
    return true;
  }
}
