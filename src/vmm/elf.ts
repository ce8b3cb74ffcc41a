/** ELF64 files for AArch64: header, program headers, section headers. Source: ELF gABI, aaelf64. */

import { ByteReader } from "./byte_reader.ts";

/** Kind of file: at fixed addresses, or to be put anywhere. */
export type ElfType = "exec" | "dyn";

/** A PT_LOAD program header. Sizes in bytes; `bytes` is what the file holds of it. */
export interface ElfSegment {
  va: bigint;
  pa: bigint;
  bytes: Uint8Array;
  memSize: bigint;
  align: bigint;
}

/** A section header; `nameOffset` counts into the section name table. */
export interface ElfSection {
  type: number;
  address: bigint;
  offset: number;
  size: number;
  link: number;
  entrySize: number;
}

/** What {@link readElf} found. */
export interface ElfFile {
  reader: ByteReader;
  type: ElfType;
  /** Entry point, a virtual address. */
  entry: bigint;
}

const HEADER_SIZE = 64;
const PROGRAM_HEADER_SIZE = 56;
const SECTION_HEADER_SIZE = 64;
const PT_LOAD = 1;
const SHT_NOBITS = 8;
const EM_AARCH64 = 183;
const ESCAPED_COUNT = 0xffff;
const TYPES: ReadonlyMap<number, ElfType> = new Map([[2, "exec"], [3, "dyn"]]);

/** Machines that people give by mistake, by e_machine. */
const MACHINES: ReadonlyMap<number, string> = new Map([
  [3, "x86"],
  [8, "MIPS"],
  [20, "PowerPC"],
  [21, "PowerPC 64"],
  [40, "32-bit Arm"],
  [62, "x86-64"],
  [243, "RISC-V"],
  [258, "LoongArch"],
]);

/** Whether the bytes begin as an ELF file does. */
export function isElf(bytes: Uint8Array): boolean {
  return [0x7f, 0x45, 0x4c, 0x46].every((byte, index) => bytes[index] === byte);
}

/** Reads the header. UserError for anything but a little-endian AArch64 ELF64 program. */
export function readElf(bytes: Uint8Array, label: string): ElfFile {
  const reader: ByteReader = new ByteReader(bytes, label, true);
  if (!isElf(bytes)) reader.fail("not an ELF file");
  if (bytes.length < HEADER_SIZE) reader.fail("ELF header is cut short");
  checkMachine(reader);
  const type = TYPES.get(reader.u16(16));
  if (type === undefined) reader.fail(`ELF type ${reader.u16(16)} is no program that can be run`);
  return { reader, type, entry: reader.u64(24) };
}

function checkMachine(reader: ByteReader): void {
  const [elfClass, data] = [reader.bytes[4], reader.bytes[5]];
  if (data === 2) reader.fail("ELF is big-endian; the machine is little-endian");
  const machine = reader.u16(18);
  const name = MACHINES.get(machine) ?? `machine ${machine}`;
  if (machine !== EM_AARCH64) reader.fail(`ELF is for ${name}, not for AArch64`);
  if (elfClass !== 2 || data !== 1) reader.fail("not a little-endian 64-bit ELF");
}

/** The PT_LOAD segments that take memory, in file order. UserError when one leaves the file. */
export function readElfSegments(elf: ElfFile): ElfSegment[] {
  const { reader } = elf;
  const table = headerTable(reader, reader.u64(32), 54, PROGRAM_HEADER_SIZE);
  return table.filter((at) => reader.u32(at) === PT_LOAD).map((at) => readSegment(reader, at))
    .filter((segment) => segment.memSize > 0n);
}

function readSegment(reader: ByteReader, at: number): ElfSegment {
  const fileSize = reader.u64(at + 32);
  const memSize = reader.u64(at + 40);
  if (fileSize > memSize) reader.fail("an ELF segment is larger in the file than in memory");
  return {
    va: reader.u64(at + 16),
    pa: reader.u64(at + 24),
    bytes: reader.slice(Number(reader.u64(at + 8)), Number(fileSize)),
    memSize,
    align: reader.u64(at + 48),
  };
}

/** All section headers; empty when the file has none. */
export function readElfSections(elf: ElfFile): ElfSection[] {
  const { reader } = elf;
  const start = reader.u64(40);
  if (start === 0n) return [];
  return headerTable(reader, start, 58, SECTION_HEADER_SIZE).map((at) => ({
    type: reader.u32(at + 4),
    address: reader.u64(at + 16),
    offset: Number(reader.u64(at + 24)),
    size: Number(reader.u64(at + 32)),
    link: reader.u32(at + 40),
    entrySize: Number(reader.u64(at + 56)),
  }));
}

/** The bytes of a section. UserError when it leaves the file. */
export function sectionReader(elf: ElfFile, section: ElfSection): ByteReader {
  const { reader } = elf;
  const size = section.type === SHT_NOBITS ? 0 : section.size;
  return new ByteReader(reader.slice(section.offset, size), reader.label, true);
}

/** Offsets of the entries of a header table; entry size and count lie at `fields` of the header. */
function headerTable(reader: ByteReader, start: bigint, fields: number, least: number): number[] {
  const [entrySize, count] = [reader.u16(fields), reader.u16(fields + 2)];
  if (count === 0) return [];
  if (count === ESCAPED_COUNT) reader.fail("ELF has too many headers");
  if (entrySize < least) reader.fail(`ELF header entries of ${entrySize} bytes`);
  const first = Number(start);
  reader.slice(first, entrySize * count);
  return Array.from({ length: count }, (_, index) => first + index * entrySize);
}
