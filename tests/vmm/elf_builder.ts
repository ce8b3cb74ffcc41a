/** Small ELF files for tests, with every field that a test may want to be wrong. */

export interface TestSegment {
  va: bigint;
  pa: bigint;
  bytes: Uint8Array;
  memSize: bigint;
  type?: number;
  align?: bigint;
}

export interface TestSymbol {
  name: string;
  value: bigint;
  size?: bigint;
  /** st_info; default: a global function. */
  info?: number;
  /** Section; default: 1, the text. */
  section?: number;
}

export interface TestElf {
  type?: number;
  machine?: number;
  entry?: bigint;
  segments?: TestSegment[];
  /** Makes .text (section 1, at `textAddress`), .symtab and .strtab. */
  symbols?: TestSymbol[];
  textAddress?: bigint;
  textSize?: bigint;
}

export const STT = { NOTYPE: 0, OBJECT: 1, FUNC: 2, SECTION: 3 } as const;
export const GLOBAL = 0x10;

const EHDR = 64;
const PHDR = 56;
const SHDR = 64;

/** The file. Layout: header, program headers, their bytes, symbols, names, section headers. */
export function buildElf(elf: TestElf): Uint8Array {
  const segments = elf.segments ?? [];
  const parts: Uint8Array[] = [];
  let offset = EHDR + PHDR * segments.length;
  const place = (bytes: Uint8Array): number => {
    const at = offset;
    parts.push(bytes);
    offset += bytes.length;
    return at;
  };
  const programs = segments.map((segment) => programHeader(segment, place(segment.bytes)));
  const sections = elf.symbols ? symbolSections(elf, elf.symbols, place) : [];
  const header = elfHeader(elf, segments.length, sections.length, offset);
  return concat([header, ...programs, ...parts, ...sections]);
}

function elfHeader(elf: TestElf, programs: number, sections: number, end: number): Uint8Array {
  return fields(EHDR, (view) => {
    view.setUint32(0, 0x7f454c46);
    [2, 1, 1].forEach((byte, index) => view.setUint8(4 + index, byte));
    view.setUint16(16, elf.type ?? 2, true);
    view.setUint16(18, elf.machine ?? 183, true);
    view.setUint32(20, 1, true);
    view.setBigUint64(24, elf.entry ?? 0n, true);
    view.setBigUint64(32, BigInt(EHDR), true);
    view.setBigUint64(40, sections ? BigInt(end) : 0n, true);
    view.setUint16(52, EHDR, true);
    view.setUint16(54, PHDR, true);
    view.setUint16(56, programs, true);
    view.setUint16(58, SHDR, true);
    view.setUint16(60, sections, true);
  });
}

function programHeader(segment: TestSegment, offset: number): Uint8Array {
  return fields(PHDR, (view) => {
    view.setUint32(0, segment.type ?? 1, true);
    view.setBigUint64(8, BigInt(offset), true);
    view.setBigUint64(16, segment.va, true);
    view.setBigUint64(24, segment.pa, true);
    view.setBigUint64(32, BigInt(segment.bytes.length), true);
    view.setBigUint64(40, segment.memSize, true);
    view.setBigUint64(48, segment.align ?? 4n, true);
  });
}

function symbolSections(
  elf: TestElf,
  symbols: TestSymbol[],
  place: (bytes: Uint8Array) => number,
): Uint8Array[] {
  let names = "\0";
  const entries = symbols.map((symbol) => {
    const at = names.length;
    names += `${symbol.name}\0`;
    return symbolEntry(symbol, at);
  });
  const table = concat([new Uint8Array(24), ...entries]);
  const [tableAt, namesAt] = [place(table), place(new TextEncoder().encode(names))];
  return [
    new Uint8Array(SHDR),
    sectionHeader(1, elf.textAddress ?? 0n, 0, elf.textSize ?? 0n, 0),
    sectionHeader(2, 0n, tableAt, BigInt(table.length), 3),
    sectionHeader(3, 0n, namesAt, BigInt(names.length), 0),
  ];
}

function symbolEntry(symbol: TestSymbol, name: number): Uint8Array {
  return fields(24, (view) => {
    view.setUint32(0, name, true);
    view.setUint8(4, symbol.info ?? (GLOBAL | STT.FUNC));
    view.setUint16(6, symbol.section ?? 1, true);
    view.setBigUint64(8, symbol.value, true);
    view.setBigUint64(16, symbol.size ?? 0n, true);
  });
}

function sectionHeader(
  type: number,
  address: bigint,
  offset: number,
  size: bigint,
  link: number,
): Uint8Array {
  return fields(SHDR, (view) => {
    view.setUint32(4, type, true);
    view.setBigUint64(16, address, true);
    view.setBigUint64(24, BigInt(offset), true);
    view.setBigUint64(32, size, true);
    view.setUint32(40, link, true);
  });
}

function fields(size: number, fill: (view: DataView) => void): Uint8Array {
  const bytes = new Uint8Array(size);
  fill(new DataView(bytes.buffer));
  return bytes;
}

function concat(parts: Uint8Array[]): Uint8Array {
  return Uint8Array.from(parts.flatMap((part) => [...part]));
}
