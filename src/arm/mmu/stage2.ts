/**
 * Stage 2: intermediate physical to physical addresses, 4 KiB granule, tables concatenated at the
 * start level. Source: DDI 0487 D8.2.5 "Stage 2 translation table lookup", VTCR_EL2, VTTBR_EL2.
 */
import { FSC, type TranslationFault } from "./fault.ts";
import { stage2Permissions } from "./permissions.ts";
import { type Controls, outputBits } from "./regime.ts";
import {
  addressHi,
  beyond,
  DESCRIPTOR_AF,
  descriptorKind,
  firstTableLo,
  KIND,
  leafLo,
  levelShift,
  tableIndex,
  tableLo,
  type TableReader,
} from "./walk.ts";

/** VTCR_EL2.SL0 to the start level; -1: reserved. */
const START_LEVEL = Int8Array.of(2, 1, 0, -1);

/** What VTCR_EL2 says, kept until another value is met. */
class Setup {
  vtcr = -1;
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
    this.level = START_LEVEL[(vtcr >>> 6) & 3] as number;
    this.outputBits = outputBits(vtcr >>> 16);
    const indexBits = inputBits - levelShift(this.level);
    this.mask = (1 << indexBits) - 1;
    const sizesFit = inputBits >= 25 && inputBits <= 48 && indexBits >= 1 && indexBits <= 13;
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
  /** PERM bits of the leaf. */
  permissions = 0;
  /** MemAttr[3:0] of the leaf. */
  memAttr = 0;
  shareability = 0;
  /** Level of the leaf. */
  level = 0;
  readonly #tables: TableReader;
  readonly #fault: TranslationFault;
  readonly #setup = new Setup();

  constructor(tables: TableReader, fault: TranslationFault) {
    this.#tables = tables;
    this.#fault = fault;
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
    return this.#walk(ipaLo, ipaHi, firstTableLo(c.vttbrLo, setup.mask), hi);
  }

  #walk(ipaLo: number, ipaHi: number, firstLo: number, firstHi: number): boolean {
    const tables = this.#tables;
    const { outputBits } = this.#setup;
    let lo = firstLo;
    let hi = firstHi;
    let mask = this.#setup.mask;
    for (let level = this.#setup.level;; level++) {
      if (!tables.read(lo + 8 * tableIndex(ipaLo, ipaHi, level, mask), hi)) {
        return this.#fault.second(FSC.EXTERNAL_ON_WALK + level, ipaLo, ipaHi);
      }
      const kind = descriptorKind(tables.lo, level);
      if (kind === KIND.INVALID) return this.#fault.second(FSC.TRANSLATION + level, ipaLo, ipaHi);
      lo = tableLo(tables.lo);
      hi = addressHi(tables.hi);
      if (beyond(hi, outputBits)) return this.#fault.second(FSC.ADDRESS_SIZE + level, ipaLo, ipaHi);
      if (kind === KIND.LEAF) return this.#leaf(ipaLo, ipaHi, level);
      mask = 511;
    }
  }

  #leaf(ipaLo: number, ipaHi: number, level: number): boolean {
    const { lo, hi } = this.#tables;
    if ((lo & DESCRIPTOR_AF) === 0) {
      return this.#fault.second(FSC.ACCESS_FLAG + level, ipaLo, ipaHi);
    }
    this.paLo = leafLo(lo, ipaLo, level);
    this.paHi = addressHi(hi);
    this.permissions = stage2Permissions(lo, hi);
    this.memAttr = (lo >>> 2) & 15;
    this.shareability = (lo >>> 8) & 3;
    this.level = level;
    return true;
  }
}
