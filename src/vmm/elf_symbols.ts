/** Names for addresses, from the symbol table of an ELF file: what a program counter is shown with. */

import type { ByteReader } from "./byte_reader.ts";
import { type ElfFile, type ElfSection, readElf, readElfSections, sectionReader } from "./elf.ts";

const SHT_SYMTAB = 2;
const SYMBOL_SIZE = 24;
const SHN_UNDEF = 0;
const SHN_LORESERVE = 0xff00;
const STT = { NOTYPE: 0, OBJECT: 1, FUNC: 2 } as const;
const STB_LOCAL = 0;
/** What the last of symbols without sizes is taken to have, in bytes. */
const LAST_SIZE = 4096n;
const MASK64 = (1n << 64n) - 1n;

/** A symbol that names the addresses from `start` up to, not including, `end`. */
interface Symbol {
  name: string;
  start: bigint;
  end: bigint;
  /** Which of several names for one address wins: the lowest. */
  rank: number;
}

/** Sorted symbols, each with the range that it names. */
export class SymbolTable {
  readonly #symbols: readonly Symbol[];
  readonly #starts: BigUint64Array;

  private constructor(symbols: readonly Symbol[]) {
    this.#symbols = symbols;
    this.#starts = BigUint64Array.from(symbols, (symbol) => symbol.start);
  }

  /** A table that knows no name. */
  static readonly EMPTY: SymbolTable = new SymbolTable([]);

  /**
   * The functions, objects and labels of .symtab; none when the file has no .symtab.
   *
   * `bias` is what was added to the file's addresses when it was loaded. UserError when the bytes are
   * no AArch64 ELF file or are damaged.
   */
  static fromElf(bytes: Uint8Array, label = "symbols", bias = 0): SymbolTable {
    const elf = readElf(bytes, label);
    const sections = readElfSections(elf);
    const table = sections.find((section) => section.type === SHT_SYMTAB);
    if (table === undefined) return SymbolTable.EMPTY;
    return new SymbolTable(inOrder(readSymbols(elf, sections, table, BigInt(bias))));
  }

  /**
   * Code symbols of a listing as `nm` prints it (and Linux's System.map is): address, type, name. A
   * symbol reaches to the next one. Lines of another form are passed over.
   */
  static fromNm(text: string): SymbolTable {
    const symbols = text.split("\n").flatMap((line): Symbol[] => {
      const match = /^([0-9a-f]{1,16}) ([A-Za-z]) (\S+)/.exec(line);
      if (!match) return [];
      const start = BigInt(`0x${match[1]}`);
      const code = /[tTwW]/.test(match[2] as string);
      return [{ name: code ? match[3] as string : "", start, end: start, rank: code ? 0 : 1 }];
    });
    symbols.sort((a, b) => (a.start < b.start ? -1 : a.start > b.start ? 1 : a.rank - b.rank));
    const last = symbols.at(-1);
    symbols.forEach((symbol, i) => symbol.end = symbols[i + 1]?.start ?? symbol.start);
    if (last) last.end = last.start + LAST_SIZE;
    return new SymbolTable(symbols.filter((s) => s.name !== "" && s.end > s.start));
  }

  /** Symbols in the order of their addresses; each reaches to the next one. */
  static fromSorted(
    found: readonly { readonly name: string; readonly address: bigint }[],
  ): SymbolTable {
    const symbols = found.map(({ name, address }, i): Symbol => ({
      name,
      start: address,
      end: found[i + 1]?.address ?? address + LAST_SIZE,
      rank: 0,
    }));
    return new SymbolTable(symbols.filter((symbol) => symbol.end > symbol.start));
  }

  /** Number of addresses that have a name. */
  get size(): number {
    return this.#symbols.length;
  }

  /** "name" or "name+0x12" for a 64-bit address given in two halves; undefined outside all symbols. */
  lookup(lo: number, hi: number): string | undefined {
    const address = (BigInt(hi >>> 0) << 32n) | BigInt(lo >>> 0);
    const symbol = this.#symbols[this.#lastAtOrBelow(address)];
    if (symbol === undefined || address >= symbol.end) return undefined;
    const offset = address - symbol.start;
    return offset === 0n ? symbol.name : `${symbol.name}+0x${offset.toString(16)}`;
  }

  /** Index of the last symbol that starts at or below `address`; -1 when all start above. */
  #lastAtOrBelow(address: bigint): number {
    let [low, high] = [0, this.#starts.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#starts[middle] ?? 0n) <= address) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }
}

function readSymbols(
  elf: ElfFile,
  sections: readonly ElfSection[],
  table: ElfSection,
  bias: bigint,
): Symbol[] {
  const nameSection = sections[table.link];
  if (nameSection === undefined) return elf.reader.fail("symbol table without names");
  const names = sectionReader(elf, nameSection);
  const entries = sectionReader(elf, table);
  const found: Symbol[] = [];
  for (let at = 0; at + SYMBOL_SIZE <= entries.bytes.length; at += SYMBOL_SIZE) {
    const section = sections[entries.u16(at + 6)];
    if (namesAddress(entries, at) && section) {
      found.push(readSymbol(entries, at, names, section, bias));
    }
  }
  return found.filter((symbol) => isVisible(symbol.name));
}

function namesAddress(entries: ByteReader, at: number): boolean {
  const index = entries.u16(at + 6);
  const type = symbolInfo(entries, at) & 0xf;
  return index !== SHN_UNDEF && index < SHN_LORESERVE && type <= STT.FUNC;
}

/** st_info: binding in the high four bits, type in the low four. */
function symbolInfo(entries: ByteReader, at: number): number {
  return entries.u16(at + 4) & 0xff;
}

/** Mapping symbols ($x, $d) and assembler-local labels say nothing to a reader. */
function isVisible(name: string): boolean {
  return name !== "" && !name.startsWith("$") && !name.startsWith(".L");
}

function readSymbol(
  entries: ByteReader,
  at: number,
  names: ByteReader,
  section: ElfSection,
  bias: bigint,
): Symbol {
  const value = entries.u64(at + 8);
  const size = entries.u64(at + 16);
  // A label without a size may name everything up to the end of its section.
  const end = size > 0n ? value + size : section.address + BigInt(section.size);
  return {
    name: names.cString(entries.u32(at), names.bytes.length),
    start: (value + bias) & MASK64,
    end: end + bias,
    rank: rankOf(symbolInfo(entries, at)),
  };
}

/** Functions before objects before labels, and global before local. */
function rankOf(info: number): number {
  const local = info >> 4 === STB_LOCAL ? 1 : 0;
  return 2 * (STT.FUNC - (info & 0xf)) + local;
}

function inOrder(symbols: Symbol[]): Symbol[] {
  symbols.sort((a, b) => (a.start < b.start ? -1 : a.start > b.start ? 1 : a.rank - b.rank));
  return symbols.filter((symbol, index) => symbols[index - 1]?.start !== symbol.start);
}
