/**
 * Memory-mapped registers as tables of regions: where, how wide per interrupt, what to read and
 * write. Everything outside the regions, and every access of a size that a region does not take, is
 * RAZ/WI (IHI 0069, 12.1.3: accesses of other sizes are UNPREDICTABLE).
 */
import { type Bank, PRIORITY_MASK } from "./bank.ts";

/** Access sizes a region takes besides 32 bits. */
export type ExtraSize = "byte" | "doubleword" | "none";

/** A run of registers. Reads and writes are by 32-bit word; `index` counts words from the region's start. */
export interface Region<T> {
  /** The manual's name of the registers. */
  readonly name: string;
  readonly offset: number;
  /** Bytes covered. */
  readonly size: number;
  readonly extra: ExtraSize;
  /** A byte written is for its own bits alone, as where ones set or clear; else it is merged into the word. */
  readonly byteAlone?: boolean;
  /** Bits 31 to 0 of word `index`. */
  readonly read: (owner: T, index: number) => number;
  /** Writes word `index`; read-only regions ignore it. */
  readonly write: (owner: T, index: number, value: number) => void;
}

/** What owns a bank of interrupts. */
export interface BankOwner {
  readonly bank: Bank;
}

/** Offsets of the registers-by-interrupt, which the distributor and SGI_base have in common. */
export interface BankOffsets {
  readonly IGROUPR: number;
  readonly ISENABLER: number;
  readonly ICENABLER: number;
  readonly ISPENDR: number;
  readonly ICPENDR: number;
  readonly ISACTIVER: number;
  readonly ICACTIVER: number;
  readonly IPRIORITYR: number;
  readonly ICFGR: number;
}

const ignore = (): void => {};

/** One 32-bit register. Without `write` it is read-only. */
export function register<T>(
  name: string,
  offset: number,
  read: (owner: T) => number,
  write: (owner: T, value: number) => void = ignore,
): Region<T> {
  return {
    name,
    offset,
    size: 4,
    extra: "none",
    read,
    write: (owner, _index, value) => write(owner, value),
  };
}

/** `size` bytes of known registers that read as zero and ignore writes. */
export function razWi<T>(
  name: string,
  offset: number,
  size: number,
  extra: ExtraSize = "none",
): Region<T> {
  return { name, offset, size, extra, read: () => 0, write: ignore };
}

/** The twelve identification registers from PIDR4 to CIDR3, `pidr0` telling the component, of a GICv2 or GICv3. */
export function identification<T>(offset: number, pidr0: number, version: 2 | 3 = 3): Region<T> {
  // PIDR4 to 7 (frame size and designer), PIDR0 to 3 (PIDR2.ArchRev in bits 7:4; Arm), CIDR0 to 3.
  const size = version === 3 ? 0x44 : 0x04;
  const values = [size, 0, 0, 0, pidr0, 0xb4, (version << 4) | 0xb, 0, 0x0d, 0xf0, 0x05, 0xb1];
  return {
    name: "PIDR and CIDR",
    offset,
    size: 4 * values.length,
    extra: "none",
    read: (_owner, index) => values[index] ?? 0,
    write: ignore,
  };
}

type BankRead = (bank: Bank, index: number) => number;
type BankWrite = (bank: Bank, index: number, value: number) => void;
type BitmapOf = (bank: Bank) => number;

const readBits = (map: BitmapOf): BankRead => (bank, w) => bank.word(map(bank), w);
const setBits = (map: BitmapOf): BankWrite => (bank, w, v) => bank.setWord(map(bank), w, v, v);
const clearBits = (map: BitmapOf): BankWrite => (bank, w, v) => bank.setWord(map(bank), w, 0, v);
const group: BitmapOf = (bank) => bank.group;
const enable: BitmapOf = (bank) => bank.enable;
const latch: BitmapOf = (bank) => bank.latch;
const active: BitmapOf = (bank) => bank.active;

function readPriorities(bank: Bank, index: number): number {
  return bank.has(index >> 3) ? bank.memory.ld32(bank.priority + 4 * index) : 0;
}

function writePriorities(bank: Bank, index: number, value: number): void {
  const mask = PRIORITY_MASK * 0x0101_0101;
  if (bank.has(index >> 3)) bank.memory.st32(bank.priority + 4 * index, value & mask);
}

/** The low 16 bits moved to the odd positions: ICFGR's field is two bits, of which the upper counts. */
function spread(bits: number): number {
  let x = bits & 0xffff;
  x = (x | (x << 8)) & 0x00ff_00ff;
  x = (x | (x << 4)) & 0x0f0f_0f0f;
  x = (x | (x << 2)) & 0x3333_3333;
  x = (x | (x << 1)) & 0x5555_5555;
  return (x << 1) >>> 0;
}

/** The opposite of {@link spread}. */
function gather(word: number): number {
  let x = (word >>> 1) & 0x5555_5555;
  x = (x | (x >>> 1)) & 0x3333_3333;
  x = (x | (x >>> 2)) & 0x0f0f_0f0f;
  x = (x | (x >>> 4)) & 0x00ff_00ff;
  return (x | (x >>> 8)) & 0xffff;
}

function readConfig(bank: Bank, index: number): number {
  return spread(bank.word(bank.edge, index >> 1) >>> (16 * (index & 1)));
}

/** SGIs, word 0 of a bank that has them, are edge-triggered for good. */
function writeConfig(bank: Bank, index: number, value: number): void {
  if (index === 0) return;
  const shift = 16 * (index & 1);
  bank.setWord(bank.edge, index >> 1, gather(value) << shift, 0xffff << shift);
}

/** The regions of the registers-by-interrupt at `at`, covering `words` * 32 interrupts of the owner's bank. */
export function bankRegions<T extends BankOwner>(at: BankOffsets, words: number): Region<T>[] {
  return regionsOfBank(at, (owner: T) => owner.bank, 0, words);
}

/** The same for the interrupts from 32 * `first` on, of the bank that `bankOf` gives. */
export function regionsOfBank<T>(
  at: BankOffsets,
  bankOf: (owner: T) => Bank,
  first: number,
  words: number,
): Region<T>[] {
  const rows: readonly [keyof BankOffsets, bits: number, BankRead, BankWrite][] = [
    ["IGROUPR", 1, readBits(group), (bank, w, v) => bank.setWord(bank.group, w, v)],
    ["ISENABLER", 1, readBits(enable), setBits(enable)],
    ["ICENABLER", 1, readBits(enable), clearBits(enable)],
    ["ISPENDR", 1, (bank, w) => bank.pendingWord(w), setBits(latch)],
    ["ICPENDR", 1, (bank, w) => bank.pendingWord(w), clearBits(latch)],
    ["ISACTIVER", 1, readBits(active), setBits(active)],
    ["ICACTIVER", 1, readBits(active), clearBits(active)],
    ["IPRIORITYR", 8, readPriorities, writePriorities],
    ["ICFGR", 2, readConfig, writeConfig],
  ];
  return rows.map(([name, bits, read, write]) => ({
    name,
    offset: at[name] + 4 * first * bits,
    size: 4 * words * bits,
    extra: bits === 8 ? "byte" : "none",
    read: (owner, index) => read(bankOf(owner), index + first * bits),
    write: (owner, index, value) => write(bankOf(owner), index + first * bits, value),
  }));
}

/** A device's regions, looked up by offset. */
export class RegionTable<T> {
  /** Bits 63 to 32 of the last doubleword read. */
  hi = 0;
  readonly #regions: readonly Region<T>[];

  /** `regions` in any order, not overlapping. */
  constructor(regions: readonly Region<T>[]) {
    this.#regions = [...regions].sort((a, b) => a.offset - b.offset);
  }

  /** The region an access of `size` bytes at `offset` reaches, or undefined: RAZ/WI. */
  find(offset: number, size: number): Region<T> | undefined {
    if (offset % size !== 0) return undefined;
    for (const region of this.#regions) {
      if (offset < region.offset) return undefined;
      if (offset < region.offset + region.size) {
        const takes = size === 4 || (size === 1 && region.extra === "byte") ||
          (size === 8 && region.extra === "doubleword");
        return takes ? region : undefined;
      }
    }
    return undefined;
  }

  /** Reads `size` (1, 2, 4 or 8) bytes: bits 31 to 0, with bits 63 to 32 in `hi`. */
  read(owner: T, offset: number, size: number): number {
    this.hi = 0;
    const region = this.find(offset, size);
    if (!region) return 0;
    const index = (offset - region.offset) >> 2;
    const word = region.read(owner, index);
    if (size === 8) this.hi = region.read(owner, index + 1);
    return size === 1 ? (word >>> (8 * (offset & 3))) & 0xff : word;
  }

  /** Writes `size` bytes; returns whether a register took them. */
  write(owner: T, offset: number, size: number, lo: number, hi: number): boolean {
    const region = this.find(offset, size);
    if (!region) return false;
    const index = (offset - region.offset) >> 2;
    if (size === 1) {
      const others = region.byteAlone ? 0 : region.read(owner, index);
      region.write(owner, index, withByte(others, offset & 3, lo));
    } else region.write(owner, index, lo >>> 0);
    if (size === 8) region.write(owner, index + 1, hi >>> 0);
    return true;
  }
}

/** `word` with byte `at` (0 to 3) replaced. */
function withByte(word: number, at: number, value: number): number {
  return ((word & ~(0xff << (8 * at))) | ((value & 0xff) << (8 * at))) >>> 0;
}
