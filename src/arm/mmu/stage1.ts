/**
 * Stage 1: virtual to intermediate (or, without stage 2, physical) addresses. Source: DDI 0487 D8.2
 * "Translation process", D8.4 "Hardware management of the Access flag and dirty state".
 */
import * as tlbLayout from "../arch/tlb_layout.ts";
import type { Access } from "../arch/tlb_layout.ts";
import * as attributes from "./attributes.ts";
import { ATTR, SH } from "./attributes.ts";
import * as faultModule from "./fault.ts";
import type { TranslationFault } from "./fault.ts";
import * as permissionsModule from "./permissions.ts";
import * as regime from "./regime.ts";
import type { Controls } from "./regime.ts";
import type { Stage2 } from "./stage2.ts";
import * as walkModule from "./walk.ts";
import { DESCRIPTOR_AF, type Granule, lowerGranule, type TableReader } from "./walk.ts";
import type { WalkCache } from "./walk_cache.ts";

// Of the module itself: what is imported V8 looks up and checks at each use.
const { ACCESS } = tlbLayout;
const { mairAttr, stage2IsDevice } = attributes;
const { FSC } = faultModule;
const { AP_READ_ONLY, PERM, stage1Permissions } = permissionsModule;
const { PA_BITS, SCTLR } = regime;
const {
  addressHi,
  beyond,
  DESCRIPTOR_DBM,
  descriptorKind,
  firstTableLo,
  GRANULE,
  KIND,
  leafLo,
  levelShift,
  startLevel,
  stride,
  tableIndex,
  tableLo,
  upperGranule,
} = walkModule;

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
  /**
   * PERM bits for the privilege that was asked for; not W while the page is clean and hardware is to say
   * when it no longer is.
   */
  permissions = 0;
  /** Attributes as a MAIR byte. */
  attr = 0;
  shareability = 0;
  /** Level of the leaf. */
  level = 0;
  /** Size of the mapping, as a power of two: 12 to 30. */
  shift = 12;
  /** The leaf's descriptor, and where it was read: as stage 1 names it, and physically. */
  #leafLo = 0;
  #leafHi = 0;
  #leafIpaLo = 0;
  #leafIpaHi = 0;
  #leafAtLo = 0;
  #leafAtHi = 0;
  /** The leaf is clean: a write is allowed and makes it writable. */
  #clean = false;
  readonly #tables: TableReader;
  readonly #stage2: Stage2;
  readonly #fault: TranslationFault;
  readonly #walks: WalkCache;

  constructor(tables: TableReader, stage2: Stage2, fault: TranslationFault, walks: WalkCache) {
    this.#walks = walks;
    this.#tables = tables;
    this.#stage2 = stage2;
    this.#fault = fault;
  }

  /** {@link translate}, with the permission for `access` checked and the leaf's access flag and dirty state updated. */
  access(c: Controls, vaLo: number, vaHi: number, access: Access): boolean {
    if (!this.translate(c, vaLo, vaHi, access === ACCESS.EXECUTE)) return false;
    const write = access === ACCESS.WRITE;
    const allowed = write && this.#clean ? PERM.W : this.permissions;
    if ((allowed & (1 << access)) === 0) return this.#fault.stage1(FSC.PERMISSION + this.level);
    if (!c.stage1 || !c.updates) return true;
    const old = this.#leafLo;
    const lo = ((old | DESCRIPTOR_AF) & ~(write && this.#clean ? AP_READ_ONLY : 0)) >>> 0;
    if (write && this.#clean) this.permissions |= PERM.W;
    if (lo === old) return true;
    if (!this.#mayUpdate(c)) return false;
    return this.#tables.replaceLo(this.#leafAtLo, this.#leafAtHi, old, this.#leafHi, lo) ||
      this.access(c, vaLo, vaHi, access);
  }

  /** Whether stage 2 lets the leaf's descriptor be written. */
  #mayUpdate(c: Controls): boolean {
    if (!c.stage2) return true;
    if (this.#stage2.access(c, this.#leafIpaLo, this.#leafIpaHi, ACCESS.WRITE)) return true;
    this.#fault.s1ptw = true;
    this.#fault.write = true;
    return false;
  }

  /** Finds what an address maps to. False: the fault is recorded. Permissions are not checked. */
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
    const granule = upper === 1 ? upperGranule(c.tcrLo) : lowerGranule(c.tcrLo);
    return this.#walk(c, vaLo, vaHi, inputBits, upper === 1, granule);
  }

  /** Stage 1 off: the address is the output; data is Device, instructions are Normal memory. */
  #flat(c: Controls, vaLo: number, vaHi: number, tbi: boolean, fetch: boolean): boolean {
    if (!topIsZero(vaLo, vaHi, PA_BITS, tbi)) return this.#fault.stage1(FSC.ADDRESS_SIZE);
    this.outLo = vaLo;
    this.outHi = addressHi(vaHi);
    this.permissions = PERM.ALL;
    this.#clean = false;
    this.level = 0;
    this.shift = 12;
    this.shareability = c.defaultCacheable ? SH.NONE : SH.OUTER;
    if (c.defaultCacheable) this.attr = ATTR.WRITE_BACK;
    else if (!fetch) this.attr = ATTR.DEVICE_NGNRNE;
    else this.attr = (c.sctlr & SCTLR.I) !== 0 ? ATTR.WRITE_THROUGH : ATTR.NON_CACHEABLE;
    return true;
  }

  #walk(
    c: Controls,
    vaLo: number,
    vaHi: number,
    inputBits: number,
    upper: boolean,
    granule: Granule,
  ): boolean {
    if (c.walks !== 0 && this.#shortWalk(c, vaLo, vaHi, upper, granule)) return true;
    const tables = this.#tables;
    const { outputBits } = c;
    const first = startLevel(granule, inputBits);
    let mask = (1 << (inputBits - levelShift(granule, first))) - 1;
    let lo = firstTableLo(upper ? c.ttbr1Lo : c.ttbr0Lo, mask);
    let hi = addressHi(upper ? c.ttbr1Hi : c.ttbr0Hi);
    if (beyond(hi, outputBits)) return this.#fault.stage1(FSC.ADDRESS_SIZE);
    let tablesHi = 0;
    for (let level = first;; level++) {
      const shift = levelShift(granule, level);
      const atLo = lo + 8 * tableIndex(vaLo, vaHi, shift, mask);
      if (!this.#read(c, atLo, hi, level)) return false;
      const kind = descriptorKind(granule, tables.lo, level);
      if (kind === KIND.INVALID) return this.#fault.stage1(FSC.TRANSLATION + level);
      if (beyond(addressHi(tables.hi), outputBits)) {
        return this.#fault.stage1(FSC.ADDRESS_SIZE + level);
      }
      if (kind === KIND.LEAF) {
        this.#leafIpaLo = atLo;
        this.#leafIpaHi = hi;
        if (c.walks !== 0 && level > first) this.#note(c, vaLo, vaHi, level, granule, tablesHi);
        const disabled = c.ignoresTablePermissions(upper);
        return this.#leaf(c, vaLo, level, shift, disabled ? 0 : tablesHi);
      }
      lo = tableLo(granule, tables.lo);
      hi = addressHi(tables.hi);
      tablesHi |= tables.hi;
      mask = (1 << stride(granule)) - 1;
    }
  }

  /** The walk from the last table on, if that is known. False: the whole walk is to be made. */
  #shortWalk(
    c: Controls,
    vaLo: number,
    vaHi: number,
    upper: boolean,
    granule: Granule,
  ): boolean {
    const walks = this.#walks, tables = this.#tables;
    if (!walks.findStage1(c, vaLo, vaHi, levelShift(granule, 2))) return false;
    const { level } = walks;
    const shift = levelShift(granule, level);
    const offset = 8 * tableIndex(vaLo, vaHi, shift, (1 << stride(granule)) - 1);
    this.#leafIpaLo = walks.tableLo + offset;
    this.#leafIpaHi = walks.tableHi;
    this.#leafAtLo = walks.paLo + offset;
    this.#leafAtHi = walks.paHi;
    if (!tables.read(this.#leafAtLo, this.#leafAtHi)) return false;
    if (descriptorKind(granule, tables.lo, level) !== KIND.LEAF) return false;
    if (beyond(addressHi(tables.hi), c.outputBits)) return false;
    // No fault is to be recorded here: the whole walk may find none.
    if ((tables.lo & DESCRIPTOR_AF) === 0 && !c.stage1SetsAf) return false;
    const permissions = c.ignoresTablePermissions(upper) ? 0 : walks.permissions;
    return this.#leaf(c, vaLo, level, shift, permissions);
  }

  /** Notes the table in which a leaf was found. */
  #note(
    c: Controls,
    vaLo: number,
    vaHi: number,
    level: number,
    granule: Granule,
    tablesHi: number,
  ): void {
    // A larger table may be scattered by stage 2.
    if (c.stage2 && granule !== GRANULE.K4) return;
    const walks = this.#walks;
    walks.level = level;
    walks.tableLo = tableLo(granule, this.#leafIpaLo);
    walks.tableHi = this.#leafIpaHi;
    walks.paLo = tableLo(granule, this.#leafAtLo);
    walks.paHi = this.#leafAtHi;
    walks.permissions = tablesHi;
    walks.noteStage1(c, vaLo, vaHi, levelShift(granule, 2));
  }

  /** Reads a descriptor of stage 1: a data read through stage 2. */
  #read(c: Controls, atLo: number, atHi: number, level: number): boolean {
    const s2 = this.#stage2;
    if (c.stage2 && !this.#throughStage2(c, atLo, atHi)) return false;
    this.#leafAtLo = c.stage2 ? s2.paLo : atLo;
    this.#leafAtHi = c.stage2 ? s2.paHi : atHi;
    const read = this.#tables.read(this.#leafAtLo, this.#leafAtHi);
    return read || this.#fault.stage1(FSC.EXTERNAL_ON_WALK + level);
  }

  #throughStage2(c: Controls, ipaLo: number, ipaHi: number): boolean {
    const s2 = this.#stage2;
    const found = s2.access(c, ipaLo, ipaHi, ACCESS.READ);
    const refused = found && c.ptw && stage2IsDevice(s2.memAttr);
    if (refused) this.#fault.second(FSC.PERMISSION + s2.level, ipaLo, ipaHi);
    if (found && !refused) return true;
    this.#fault.s1ptw = true;
    return false;
  }

  #leaf(c: Controls, vaLo: number, level: number, shift: number, tablesHi: number): boolean {
    const { lo, hi } = this.#tables;
    if ((lo & DESCRIPTOR_AF) === 0 && !c.stage1SetsAf) {
      return this.#fault.stage1(FSC.ACCESS_FLAG + level);
    }
    this.#leafLo = lo;
    this.#leafHi = hi;
    this.outLo = leafLo(lo, vaLo, shift);
    this.outHi = addressHi(hi);
    this.#permit(c, tablesHi);
    this.attr = mairAttr(c, lo);
    this.shareability = (lo >>> 8) & 3;
    this.level = level;
    this.shift = shift;
    return true;
  }

  /** Where hardware manages the dirty state, a read-only leaf with DBM is a writable one that is clean. */
  #permit(c: Controls, tablesHi: number): void {
    const lo = this.#leafLo, hi = this.#leafHi;
    const managed = (hi & DESCRIPTOR_DBM) !== 0 && c.stage1SetsDirty;
    const permissions = stage1Permissions(c, managed ? lo & ~AP_READ_ONLY : lo, hi, tablesHi);
    this.#clean = managed && (lo & AP_READ_ONLY) !== 0 && (permissions & PERM.W) !== 0;
    this.permissions = this.#clean ? permissions & ~PERM.W : permissions;
  }
}
