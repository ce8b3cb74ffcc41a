/**
 * Stage 2: intermediate physical to physical addresses, tables concatenated at the start level.
 * Source: DDI 0487 D8.2.5 "Stage 2 translation table lookup", D8.4 "Hardware management of the Access
 * flag and dirty state", VTCR_EL2, VTTBR_EL2.
 */
import * as tlbLayout from "../arch/tlb_layout.ts";
import type { Access } from "../arch/tlb_layout.ts";
import * as faultModule from "./fault.ts";
import type { TranslationFault } from "./fault.ts";
import * as permissionsModule from "./permissions.ts";
import * as regime from "./regime.ts";
import type { Controls } from "./regime.ts";
import * as walkModule from "./walk.ts";
import { DESCRIPTOR_AF, type Granule, type TableReader } from "./walk.ts";
import type { WalkCache } from "./walk_cache.ts";

// Of the module itself: what is imported V8 looks up and checks at each use.
const { ACCESS } = tlbLayout;
const { FSC } = faultModule;
const { PERM, S2AP_WRITE, stage2Permissions } = permissionsModule;
const { outputBits } = regime;
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
  lowerGranule,
  stride,
  tableIndex,
  tableLo,
} = walkModule;

/** VTCR_EL2.SL0 to the start level, with 4 KiB pages and with larger ones; -1: reserved. */
const START_LEVEL_4K = Int8Array.of(2, 1, 0, -1);
const START_LEVEL_LARGER = Int8Array.of(3, 2, 1, -1);

/** What VTCR_EL2 says, kept until another value is met. */
class Setup {
  vtcr = -1;
  granule: Granule = GRANULE.K4;
  valid = false;
  level = 0;
  mask = 0;
  inputBits = 0;
  outputBits = 0;

  /** Reserved and inconsistent sizes are CONSTRAINED UNPREDICTABLE: a level 0 translation fault here. */
  load(vtcr: number): void {
    const inputBits = 64 - (vtcr & 0x3f);
    this.vtcr = vtcr;
    this.inputBits = inputBits;
    this.granule = lowerGranule(vtcr);
    const levels = this.granule === GRANULE.K4 ? START_LEVEL_4K : START_LEVEL_LARGER;
    this.level = levels[(vtcr >>> 6) & 3] as number;
    this.outputBits = outputBits(vtcr >>> 16);
    const indexBits = inputBits - levelShift(this.granule, this.level);
    this.mask = (1 << indexBits) - 1;
    // At most 16 tables are concatenated.
    const sizesFit = inputBits >= 25 && inputBits <= 48 && indexBits >= 1 &&
      indexBits <= stride(this.granule) + 4;
    const levelFits = this.level > 0 || (this.level === 0 && this.outputBits > 42);
    this.valid = sizesFit && levelFits && inputBits <= this.outputBits;
  }

  isBeyondInput(ipaLo: number, ipaHi: number): boolean {
    const bits = this.inputBits;
    if (bits >= 32) return beyond(ipaHi, bits);
    return ipaHi !== 0 || ipaLo >>> bits !== 0;
  }
}

/** The walker of stage 2. Results are in its fields, valid until the next translation. */
export class Stage2 {
  /** The physical address in halves. */
  paLo = 0;
  paHi = 0;
  /** PERM bits of the leaf; not W while it is clean and hardware is to say when it no longer is. */
  permissions = 0;
  /** MemAttr[3:0] of the leaf. */
  memAttr = 0;
  shareability = 0;
  /** Level of the leaf. */
  level = 0;
  readonly #tables: TableReader;
  readonly #fault: TranslationFault;
  readonly #setup = new Setup();
  readonly #xnx: boolean;
  readonly #walks: WalkCache;
  /** The leaf's descriptor and where it was read. */
  #leafLo = 0;
  #leafHi = 0;
  #leafAtLo = 0;
  #leafAtHi = 0;

  /** `xnx`: execution is denied to EL1 and EL0 separately (FEAT_XNX). */
  constructor(tables: TableReader, fault: TranslationFault, xnx: boolean, walks: WalkCache) {
    this.#walks = walks;
    this.#tables = tables;
    this.#fault = fault;
    this.#xnx = xnx;
  }

  /** {@link translate}, with the permission for `access` checked and the leaf's access flag and dirty state updated. */
  access(c: Controls, ipaLo: number, ipaHi: number, access: Access): boolean {
    if (!this.translate(c, ipaLo, ipaHi)) return false;
    const allowed = access === ACCESS.WRITE && this.#isClean(c) ? PERM.W : this.permissions;
    if ((allowed & (1 << access)) === 0) {
      return this.#fault.second(FSC.PERMISSION + this.level, ipaLo, ipaHi);
    }
    return !c.updates || this.#update(c, access) || this.access(c, ipaLo, ipaHi, access);
  }

  /** Not written yet, and to be made writable by the first write. */
  #isClean(c: Controls): boolean {
    return (this.#leafLo & S2AP_WRITE) === 0 && (this.#leafHi & DESCRIPTOR_DBM) !== 0 &&
      c.stage2SetsDirty;
  }

  /** False: the descriptor has changed since it was read. */
  #update(c: Controls, access: Access): boolean {
    const old = this.#leafLo;
    const writes = access === ACCESS.WRITE && this.#isClean(c);
    const lo = (old | DESCRIPTOR_AF | (writes ? S2AP_WRITE : 0)) >>> 0;
    if (writes) this.permissions |= PERM.W;
    if (lo === old) return true;
    return this.#tables.replaceLo(this.#leafAtLo, this.#leafAtHi, old, this.#leafHi, lo);
  }

  /**
   * Finds what an IPA in halves (up to 48 bits) maps to. False: the fault is recorded. Permissions are
   * for the caller to check.
   */
  translate(c: Controls, ipaLo: number, ipaHi: number): boolean {
    const setup = this.#setup;
    if (setup.vtcr !== c.vtcr) setup.load(c.vtcr);
    if (!setup.valid || setup.isBeyondInput(ipaLo, ipaHi)) {
      return this.#fault.second(FSC.TRANSLATION, ipaLo, ipaHi);
    }
    const hi = addressHi(c.vttbrHi);
    if (beyond(hi, setup.outputBits)) return this.#fault.second(FSC.ADDRESS_SIZE, ipaLo, ipaHi);
    if (c.walks !== 0 && this.#shortWalk(c, ipaLo, ipaHi)) return true;
    return this.#walk(c, ipaLo, ipaHi, firstTableLo(c.vttbrLo, setup.mask), hi);
  }

  /** The walk from the last table on, if that is known. False: the whole walk is to be made. */
  #shortWalk(c: Controls, ipaLo: number, ipaHi: number): boolean {
    const walks = this.#walks, tables = this.#tables;
    const { outputBits, granule } = this.#setup;
    if (!walks.findStage2(c, ipaLo, ipaHi, levelShift(granule, 2))) return false;
    const { level } = walks;
    const shift = levelShift(granule, level);
    this.#leafAtLo = walks.paLo + 8 * tableIndex(ipaLo, ipaHi, shift, (1 << stride(granule)) - 1);
    this.#leafAtHi = walks.paHi;
    if (!tables.read(this.#leafAtLo, this.#leafAtHi)) return false;
    if (descriptorKind(granule, tables.lo, level) !== KIND.LEAF) return false;
    if (beyond(addressHi(tables.hi), outputBits)) return false;
    // No fault is to be recorded here: the whole walk may find none.
    if ((tables.lo & DESCRIPTOR_AF) === 0 && !c.stage2SetsAf) return false;
    return this.#leaf(c, ipaLo, ipaHi, level, shift);
  }

  /** Notes the table in which a leaf was found. */
  #note(c: Controls, ipaLo: number, ipaHi: number, level: number): void {
    const walks = this.#walks;
    const { granule } = this.#setup;
    walks.level = level;
    walks.tableLo = walks.paLo = tableLo(granule, this.#leafAtLo);
    walks.tableHi = walks.paHi = this.#leafAtHi;
    walks.permissions = 0;
    walks.noteStage2(c, ipaLo, ipaHi, levelShift(granule, 2));
  }

  #walk(
    c: Controls,
    ipaLo: number,
    ipaHi: number,
    firstLo: number,
    firstHi: number,
  ): boolean {
    const tables = this.#tables;
    const { outputBits, granule } = this.#setup;
    let lo = firstLo;
    let hi = firstHi;
    let mask = this.#setup.mask;
    for (let level = this.#setup.level;; level++) {
      const shift = levelShift(granule, level);
      const atLo = lo + 8 * tableIndex(ipaLo, ipaHi, shift, mask);
      if (!tables.read(atLo, hi)) {
        return this.#fault.second(FSC.EXTERNAL_ON_WALK + level, ipaLo, ipaHi);
      }
      const kind = descriptorKind(granule, tables.lo, level);
      if (kind === KIND.INVALID) return this.#fault.second(FSC.TRANSLATION + level, ipaLo, ipaHi);
      if (beyond(addressHi(tables.hi), outputBits)) {
        return this.#fault.second(FSC.ADDRESS_SIZE + level, ipaLo, ipaHi);
      }
      if (kind === KIND.LEAF) {
        this.#leafAtLo = atLo;
        this.#leafAtHi = hi;
        if (c.walks !== 0 && level > this.#setup.level) this.#note(c, ipaLo, ipaHi, level);
        return this.#leaf(c, ipaLo, ipaHi, level, shift);
      }
      lo = tableLo(granule, tables.lo);
      hi = addressHi(tables.hi);
      mask = (1 << stride(granule)) - 1;
    }
  }

  #leaf(c: Controls, ipaLo: number, ipaHi: number, level: number, shift: number): boolean {
    const { lo, hi } = this.#tables;
    if ((lo & DESCRIPTOR_AF) === 0 && !c.stage2SetsAf) {
      return this.#fault.second(FSC.ACCESS_FLAG + level, ipaLo, ipaHi);
    }
    this.#leafLo = lo;
    this.#leafHi = hi;
    this.paLo = leafLo(lo, ipaLo, shift);
    this.paHi = addressHi(hi);
    this.permissions = stage2Permissions(lo, hi, this.#xnx, c.user);
    this.memAttr = (lo >>> 2) & 15;
    this.shareability = (lo >>> 8) & 3;
    this.level = level;
    return true;
  }
}
