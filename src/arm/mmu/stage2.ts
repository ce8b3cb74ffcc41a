/**
 * Stage 2: intermediate physical to physical addresses, 4 KiB granule, tables concatenated at the
 * start level. Source: DDI 0487 D8.2.5 "Stage 2 translation table lookup", VTCR_EL2, VTTBR_EL2.
 */
import { TWO32 } from "../../base/bits.ts";
import { FSC, type TranslationFault } from "./fault.ts";
import { stage2Permissions } from "./permissions.ts";
import { type Controls, outputLimit } from "./regime.ts";
import {
  DESCRIPTOR_AF,
  descriptorAddress,
  descriptorKind,
  firstTable,
  KIND,
  leafAddress,
  leafOffset,
  levelShift,
  tableIndex,
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
  inputLimit = 0;
  outputLimit = 0;

  /** Reserved and inconsistent sizes are CONSTRAINED UNPREDICTABLE: a level 0 translation fault here. */
  load(vtcr: number): void {
    const inputBits = 64 - (vtcr & 0x3f);
    this.vtcr = vtcr;
    this.level = START_LEVEL[(vtcr >>> 6) & 3] as number;
    this.inputLimit = 2 ** inputBits;
    this.outputLimit = outputLimit(vtcr >>> 16);
    const indexBits = inputBits - levelShift(this.level);
    this.mask = (1 << indexBits) - 1;
    const sizesFit = inputBits >= 25 && inputBits <= 48 && indexBits >= 1 && indexBits <= 13;
    const levelFits = this.level > 0 || (this.level === 0 && this.outputLimit > 2 ** 42);
    this.valid = sizesFit && levelFits && this.inputLimit <= this.outputLimit;
  }
}

/** The walker of stage 2. Results are in its fields, valid until the next translation. */
export class Stage2 {
  pa = 0;
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

  /** Finds what `ipa` maps to. False: the fault is recorded. Permissions are for the caller to check. */
  translate(c: Controls, ipa: number): boolean {
    const setup = this.#setup;
    if (setup.vtcr !== c.vtcr) setup.load(c.vtcr);
    if (!setup.valid || ipa >= setup.inputLimit) return this.#fault.second(FSC.TRANSLATION, ipa);
    const table = firstTable(c.vttbrLo, c.vttbrHi, setup.mask);
    if (table >= setup.outputLimit) return this.#fault.second(FSC.ADDRESS_SIZE, ipa);
    return this.#walk(ipa, table);
  }

  #walk(ipa: number, firstTable: number): boolean {
    const lo = ipa >>> 0;
    const hi = (ipa / TWO32) >>> 0;
    const tables = this.#tables;
    const limit = this.#setup.outputLimit;
    let table = firstTable;
    let mask = this.#setup.mask;
    for (let level = this.#setup.level;; level++) {
      if (!tables.read(table + 8 * tableIndex(lo, hi, level, mask))) {
        return this.#fault.second(FSC.EXTERNAL_ON_WALK + level, ipa);
      }
      const kind = descriptorKind(tables.lo, level);
      if (kind === KIND.INVALID) return this.#fault.second(FSC.TRANSLATION + level, ipa);
      if (kind === KIND.LEAF) return this.#leaf(ipa, lo, level);
      table = descriptorAddress(tables.lo, tables.hi);
      if (table >= limit) return this.#fault.second(FSC.ADDRESS_SIZE + level, ipa);
      mask = 511;
    }
  }

  #leaf(ipa: number, ipaLo: number, level: number): boolean {
    const { lo, hi } = this.#tables;
    const base = leafAddress(lo, hi, level);
    if (base >= this.#setup.outputLimit) return this.#fault.second(FSC.ADDRESS_SIZE + level, ipa);
    if ((lo & DESCRIPTOR_AF) === 0) return this.#fault.second(FSC.ACCESS_FLAG + level, ipa);
    this.pa = base + leafOffset(ipaLo, level);
    this.permissions = stage2Permissions(lo, hi);
    this.memAttr = (lo >>> 2) & 15;
    this.shareability = (lo >>> 8) & 3;
    this.level = level;
    return true;
  }
}
