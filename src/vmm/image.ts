/**
 * What can be booted: an arm64 Image (Documentation/arm64/booting.rst in the kernel's source), an
 * AArch64 ELF program, a flat binary, and each of them compressed with gzip.
 */

import { UserError } from "../base/errors.ts";
import { ByteReader, hex, toNumber } from "./byte_reader.ts";
import { type ElfFile, type ElfSegment, isElf, readElf, readElfSegments } from "./elf.ts";
import { alignUp, FLAT_BASE, FLAT_OFFSET, imageBase, VIRT_MAP } from "./virt_map.ts";

/** What a file turned out to be. */
export type ImageKind = "Image" | "elf" | "flat";

/** A piece of memory: `bytes` at `pa`, then zeros up to `memSize` bytes. */
export interface ImageSegment {
  pa: number;
  bytes: Uint8Array;
  memSize: number;
}

/** A file, ready to be placed. */
export interface LoadedImage {
  kind: ImageKind;
  segments: ImageSegment[];
  /** Address of the first instruction. */
  entry: number;
  /** What was added to the addresses in the file: not 0 only for position-independent ELF. */
  bias: number;
}

/** How a file is named in messages, and how large it may be. */
export interface LoadOptions {
  /** Default: "kernel". */
  label?: string;
  /** Most bytes that a compressed file may unpack to. Default: 1 GiB. */
  maxBytes?: number;
}

const DEFAULT_LABEL = "kernel";
const DEFAULT_MAX_BYTES = 2 ** 30;

/** Reads a kernel, unpacking gzip. UserError in one line for what cannot be booted. */
export async function loadImage(
  bytes: Uint8Array,
  options: LoadOptions = {},
): Promise<LoadedImage> {
  const label = options.label ?? DEFAULT_LABEL;
  if (!hasBytes(bytes, 0, GZIP_MAGIC)) return parseImage(bytes, label);
  return parseImage(await gunzip(bytes, label, options.maxBytes ?? DEFAULT_MAX_BYTES), label);
}

/** Reads a kernel that is not compressed. UserError in one line for what cannot be booted. */
export function parseImage(bytes: Uint8Array, label: string = DEFAULT_LABEL): LoadedImage {
  if (bytes.length === 0) throw new UserError(`${label}: the file is empty`);
  if (isElf(bytes)) return parseElfImage(readElf(bytes, label));
  if (hasBytes(bytes, IMAGE_MAGIC_OFFSET, IMAGE_MAGIC)) return parseArm64Image(bytes, label);
  refuseForeign(bytes, label);
  return parseFlat(bytes);
}

// Recognising files

const GZIP_MAGIC = [0x1f, 0x8b];
const IMAGE_MAGIC_OFFSET = 56;
const IMAGE_MAGIC = [..."ARMd"].map((character) => character.charCodeAt(0));
const IMAGE_HEADER_SIZE = 64;

/** Files given by mistake that would otherwise be run as flat binaries: offset, bytes, what it is. */
const FOREIGN: readonly (readonly [number, readonly number[], string])[] = [
  [0, GZIP_MAGIC, "compressed twice"],
  [0, [0x42, 0x5a, 0x68], "compressed with bzip2; unpack it first"],
  [0, [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00], "compressed with xz; unpack it first"],
  [0, [0x28, 0xb5, 0x2f, 0xfd], "compressed with zstd; unpack it first"],
  [0, [0x04, 0x22, 0x4d, 0x18], "compressed with lz4; unpack it first"],
  [0, [0x02, 0x21, 0x4c, 0x18], "compressed with lz4; unpack it first"],
  [0, [0x5d, 0x00, 0x00], "compressed with lzma; unpack it first"],
  [0, [0x27, 0x05, 0x19, 0x56], "a U-Boot uImage; take the Image out of it first"],
  [0, [0xd0, 0x0d, 0xfe, 0xed], "a device tree, not a kernel"],
  [0, [0x50, 0x4b, 0x03, 0x04], "a zip archive, not a kernel"],
  [0, [0x21, 0x3c, 0x61, 0x72, 0x63, 0x68, 0x3e], "an archive (ar, deb), not a kernel"],
  [0, [0x30, 0x37, 0x30, 0x37, 0x30], "a cpio archive (an initrd?), not a kernel"],
  [0, [0xcf, 0xfa, 0xed, 0xfe], "a Mach-O program, not a kernel"],
  [0x24, [0x18, 0x28, 0x6f, 0x01], "a zImage for 32-bit Arm, not for AArch64"],
  [0x202, [0x48, 0x64, 0x72, 0x53], "a kernel for x86, not for AArch64"],
  [4, [0x7a, 0x69, 0x6d, 0x67], "a compressed EFI program; take the Image out of it first"],
  [0, [0x4d, 0x5a], "an EFI or Windows program, or an arm64 Image cut short"],
];

function hasBytes(bytes: Uint8Array, offset: number, expected: readonly number[]): boolean {
  return expected.every((byte, index) => bytes[offset + index] === byte);
}

function refuseForeign(bytes: Uint8Array, label: string): void {
  const match = FOREIGN.find(([offset, expected]) => hasBytes(bytes, offset, expected));
  if (match) throw new UserError(`${label}: ${match[2]}`);
}

// gzip

async function gunzip(bytes: Uint8Array, label: string, maxBytes: number): Promise<Uint8Array> {
  const source = new Blob([bytes.slice()]).stream();
  const pieces: Uint8Array[] = [];
  let size = 0;
  try {
    for await (const piece of source.pipeThrough(new DecompressionStream("gzip"))) {
      size += piece.length;
      if (size > maxBytes) break;
      pieces.push(piece);
    }
  } catch (cause) {
    throw new UserError(`${label}: gzip data is damaged or cut short`, { cause });
  }
  if (size > maxBytes) throw new UserError(`${label}: unpacks to more than ${maxBytes} bytes`);
  return joinPieces(pieces, size);
}

function joinPieces(pieces: readonly Uint8Array[], size: number): Uint8Array {
  const whole = new Uint8Array(size);
  let offset = 0;
  for (const piece of pieces) {
    whole.set(piece, offset);
    offset += piece.length;
  }
  return whole;
}

// Flat binaries

function parseFlat(bytes: Uint8Array): LoadedImage {
  const segment = { pa: FLAT_BASE, bytes, memSize: bytes.length };
  return { kind: "flat", segments: [segment], entry: FLAT_BASE, bias: 0 };
}

// arm64 Image

/** Page size by bits 1 and 2 of the flags; the machine has 4 KiB. */
const PAGE_SIZES: readonly string[] = ["", "", "16 KiB", "64 KiB"];

function parseArm64Image(bytes: Uint8Array, label: string): LoadedImage {
  const reader = new ByteReader(bytes, label, true);
  reader.slice(0, IMAGE_HEADER_SIZE);
  checkImageFlags(reader);
  checkPeSections(reader);
  const imageSize = toNumber(reader.u64(16));
  // Kernels before 3.17 leave image_size zero and mean the offset that all had then.
  const textOffset = imageSize === 0 ? FLAT_OFFSET : toNumber(reader.u64(8));
  const pa = imageBase(textOffset, VIRT_MAP.ram.base);
  const segment = { pa, bytes, memSize: Math.max(imageSize, bytes.length) };
  return { kind: "Image", segments: [segment], entry: pa, bias: 0 };
}

function checkImageFlags(reader: ByteReader): void {
  const flags = reader.u32(24);
  if (flags & 1) reader.fail("the kernel is big-endian; the machine is little-endian");
  const pageSize = PAGE_SIZES[(flags >> 1) & 3];
  if (pageSize) reader.fail(`the kernel uses pages of ${pageSize}; the machine has 4 KiB only`);
}

/** image_size counts zeros behind the file, so only the EFI header tells a file that is cut short. */
function checkPeSections(reader: ByteReader): void {
  if (!hasBytes(reader.bytes, 0, [0x4d, 0x5a])) return;
  const pe = reader.u32(60);
  if (reader.u32(pe) !== 0x4550) return;
  const count = reader.u16(pe + 6);
  const table = pe + 24 + reader.u16(pe + 20);
  for (let index = 0; index < count; index++) {
    const section = table + 40 * index;
    reader.slice(reader.u32(section + 20), reader.u32(section + 16));
  }
}

// ELF

const MAX_ALIGN = 1n << 30n;

function parseElfImage(elf: ElfFile): LoadedImage {
  const { reader } = elf;
  const found = readElfSegments(elf);
  if (found.length === 0) reader.fail("ELF has nothing to load");
  for (const segment of found) checkAddress(reader, segment);
  const bias = elf.type === "dyn" ? loadBias(reader, found) : 0;
  const segments = found.map((segment) => ({
    pa: Number(segment.pa) + bias,
    bytes: segment.bytes,
    memSize: toNumber(segment.memSize),
  }));
  return { kind: "elf", segments, entry: entryPa(elf, found) + bias, bias };
}

function checkAddress(reader: ByteReader, segment: ElfSegment): void {
  if (toNumber(segment.pa) === Number.POSITIVE_INFINITY) {
    reader.fail(`ELF segment at ${hex(segment.pa)} is no physical address (vmlinux? use Image)`);
  }
}

/** Position-independent files linked below RAM go where flat binaries go. */
function loadBias(reader: ByteReader, segments: readonly ElfSegment[]): number {
  const lowest = Math.min(...segments.map((segment) => Number(segment.pa)));
  if (lowest >= VIRT_MAP.ram.base) return 0;
  const align = segments.reduce((most, { align }) => align > most ? align : most, 1n);
  if (align > MAX_ALIGN || (align & (align - 1n)) !== 0n) {
    reader.fail(`ELF segment alignment ${hex(align)} is not possible`);
  }
  return alignUp(FLAT_BASE, Number(align)) - lowest + lowest % Number(align);
}

/** Boot happens with the MMU off: the entry's virtual address becomes the physical one. */
function entryPa(elf: ElfFile, segments: readonly ElfSegment[]): number {
  const { entry, reader } = elf;
  const home = segments.find(({ va, memSize }) => entry >= va && entry < va + memSize);
  if (home === undefined) return reader.fail(`ELF entry point ${hex(entry)} is in no segment`);
  if (entry % 4n !== 0n) reader.fail(`ELF entry point ${hex(entry)} is not aligned`);
  return toNumber(entry - home.va + home.pa);
}
