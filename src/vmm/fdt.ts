/**
 * Flattened device trees, version 17 (Devicetree Specification v0.4, chapter 5): a tree of nodes, the
 * writer that makes a blob from it, and a reader that trusts nothing in a blob.
 */

import { UserError } from "../base/errors.ts";
import { ByteReader, hex } from "./byte_reader.ts";

/** First word of every blob. */
const FDT_MAGIC = 0xd00d_feed;
const VERSION = 17;
const LAST_COMPATIBLE_VERSION = 16;
const HEADER_SIZE = 40;
const RESERVATION_SIZE = 16;
/** Deeper trees are refused; real ones stay below ten. */
const MAX_DEPTH = 64;

const TOKEN = { BEGIN_NODE: 1, END_NODE: 2, PROP: 3, NOP: 4, END: 9 } as const;

/** Value of a property: its bytes; see {@link cells}, {@link text}, {@link flag}. */
export type FdtValue = Uint8Array;

/** A node; properties keep the order in which they were added. The root's name is empty. */
export interface FdtNode {
  name: string;
  properties: Map<string, FdtValue>;
  children: FdtNode[];
}

/** A range of memory that the kernel must leave alone, in bytes. */
export interface FdtReservation {
  address: bigint;
  size: bigint;
}

/** Everything that a blob says. */
export interface FdtTree {
  root: FdtNode;
  reservations: FdtReservation[];
  /** Physical id of the CPU that boots. */
  bootCpu: number;
}

/** A node from its parts. */
export function node(
  name: string,
  properties: Readonly<Record<string, FdtValue>>,
  children: readonly FdtNode[] = [],
): FdtNode {
  return { name, properties: new Map(Object.entries(properties)), children: [...children] };
}

/** A value made of 32-bit cells, taken modulo 2^32. */
export function cells(...values: readonly number[]): FdtValue {
  const bytes = new Uint8Array(4 * values.length);
  const view = new DataView(bytes.buffer);
  values.forEach((value, index) => view.setUint32(4 * index, value));
  return bytes;
}

/** A value made of 64-bit numbers (exact, below 2^53), two cells each. */
export function cells64(...values: readonly number[]): FdtValue {
  return cells(...values.flatMap((value) => [Math.floor(value / 2 ** 32), value]));
}

/** A value made of texts, each with its final NUL. UserError when a text has one inside. */
export function text(...values: readonly string[]): FdtValue {
  for (const value of values) {
    if (value.includes("\0")) throw new UserError("device tree: a text has a NUL character in it");
  }
  return new TextEncoder().encode(values.map((value) => `${value}\0`).join(""));
}

/** The value of a property that only is there or not. */
export function flag(): FdtValue {
  return new Uint8Array(0);
}

/** The cells of a value; UserError when its length is no multiple of four. */
export function readCells(value: FdtValue): number[] {
  const reader = new ByteReader(value, "device tree: cells", false);
  if (value.length % 4 !== 0) reader.fail("length is no multiple of four");
  return Array.from({ length: value.length / 4 }, (_, index) => reader.u32(4 * index));
}

/** The texts of a value; UserError when the last one has no NUL. */
export function readTexts(value: FdtValue): string[] {
  const parts = new TextDecoder().decode(value).split("\0");
  if (parts.pop() !== "") throw new UserError("device tree: text without an end");
  return parts;
}

/** The node at a path such as "/cpus/cpu@0"; undefined when there is none. */
export function findNode(root: FdtNode, path: string): FdtNode | undefined {
  let found: FdtNode | undefined = root;
  for (const name of path.split("/").filter((part) => part !== "")) {
    found = found?.children.find((child) => child.name === name);
  }
  return found;
}

// Writing

/** Collects big-endian words and bytes. */
class BlobWriter {
  #bytes = new Uint8Array(4096);
  #length = 0;

  get length(): number {
    return this.#length;
  }

  word(value: number): void {
    this.append(cells(value));
  }

  append(piece: Uint8Array): void {
    this.#reserve(piece.length);
    this.#bytes.set(piece, this.#length);
    this.#length += piece.length;
  }

  pad(align: number): void {
    const size = (align - this.#length % align) % align;
    this.append(new Uint8Array(size));
  }

  finish(): Uint8Array {
    return this.#bytes.slice(0, this.#length);
  }

  #reserve(size: number): void {
    if (this.#length + size <= this.#bytes.length) return;
    const larger = new Uint8Array(2 * (this.#length + size));
    larger.set(this.#bytes);
    this.#bytes = larger;
  }
}

/** The strings block: each property name once. */
class StringTable {
  readonly block: BlobWriter = new BlobWriter();
  readonly #offsets = new Map<string, number>();

  offsetOf(name: string): number {
    const known = this.#offsets.get(name);
    if (known !== undefined) return known;
    const offset = this.block.length;
    this.#offsets.set(name, offset);
    this.block.append(nameBytes(name));
    return offset;
  }
}

/** Names are bytes: the reader takes one character for each, and so does the writer. */
function nameBytes(name: string): Uint8Array {
  const bytes = Uint8Array.from(name, (character) => character.charCodeAt(0));
  if (bytes.includes(0)) throw new UserError("device tree: a name has a NUL character in it");
  return Uint8Array.of(...bytes, 0);
}

/** Writes a tree as a blob. UserError for a tree that no reader would take. */
export function writeFdt(tree: FdtTree): Uint8Array {
  const strings = new StringTable();
  const struct = new BlobWriter();
  writeNode(struct, strings, tree.root, 0);
  struct.word(TOKEN.END);
  return joinBlocks(tree, struct.finish(), strings.block.finish());
}

function writeNode(struct: BlobWriter, strings: StringTable, item: FdtNode, depth: number): void {
  if (depth >= MAX_DEPTH) throw new UserError("device tree: nodes are nested too deeply");
  struct.word(TOKEN.BEGIN_NODE);
  struct.append(nameBytes(item.name));
  struct.pad(4);
  for (const [name, value] of item.properties) {
    struct.append(cells(TOKEN.PROP, value.length, strings.offsetOf(name)));
    struct.append(value);
    struct.pad(4);
  }
  for (const child of item.children) writeNode(struct, strings, child, depth + 1);
  struct.word(TOKEN.END_NODE);
}

function joinBlocks(tree: FdtTree, struct: Uint8Array, strings: Uint8Array): Uint8Array {
  const reservationsSize = RESERVATION_SIZE * (tree.reservations.length + 1);
  const structOffset = HEADER_SIZE + reservationsSize;
  const stringsOffset = structOffset + struct.length;
  const blob = new BlobWriter();
  blob.append(cells(
    FDT_MAGIC,
    stringsOffset + strings.length,
    structOffset,
    stringsOffset,
    HEADER_SIZE,
    VERSION,
    LAST_COMPATIBLE_VERSION,
    tree.bootCpu,
    strings.length,
    struct.length,
  ));
  for (const entry of [...tree.reservations, { address: 0n, size: 0n }]) writeEntry(blob, entry);
  blob.append(struct);
  blob.append(strings);
  return blob.finish();
}

function writeEntry(blob: BlobWriter, entry: FdtReservation): void {
  for (const value of [entry.address, entry.size]) {
    blob.append(cells(Number(value >> 32n), Number(value & 0xffff_ffffn)));
  }
}

// Reading

interface Header {
  totalSize: number;
  structOffset: number;
  structEnd: number;
  stringsOffset: number;
  stringsEnd: number;
  reservationsOffset: number;
  bootCpu: number;
}

/** The size in bytes that a blob says it has. UserError when it is no device tree or is cut short. */
export function fdtTotalSize(bytes: Uint8Array): number {
  return readHeader(new ByteReader(bytes, "device tree", false)).totalSize;
}

/** Reads a blob; bytes behind its end are ignored. UserError, in one line, for any damage. */
export function readFdt(bytes: Uint8Array): FdtTree {
  const header = readHeader(new ByteReader(bytes, "device tree", false));
  const reader = new ByteReader(bytes.subarray(0, header.totalSize), "device tree", false);
  return {
    root: new StructReader(reader, header).readTree(),
    reservations: readReservations(reader, header.reservationsOffset),
    bootCpu: header.bootCpu,
  };
}

function readHeader(reader: ByteReader): Header {
  if (reader.bytes.length < HEADER_SIZE) reader.fail("shorter than its header");
  if (reader.u32(0) !== FDT_MAGIC) reader.fail(`magic is ${hex(reader.u32(0))}, not d00dfeed`);
  if (reader.u32(20) < VERSION || reader.u32(24) > VERSION) reader.fail("not version 17");
  const [structOffset, stringsOffset] = [reader.u32(8), reader.u32(12)];
  const header = {
    totalSize: reader.u32(4),
    structOffset,
    structEnd: structOffset + reader.u32(36),
    stringsOffset,
    stringsEnd: stringsOffset + reader.u32(32),
    reservationsOffset: reader.u32(16),
    bootCpu: reader.u32(28),
  };
  checkHeader(reader, header);
  return header;
}

function checkHeader(reader: ByteReader, header: Header): void {
  const { totalSize, structOffset, structEnd, stringsEnd, reservationsOffset } = header;
  if (totalSize > reader.bytes.length) reader.fail("cut short");
  if (Math.max(structEnd, stringsEnd, reservationsOffset, HEADER_SIZE) > totalSize) {
    reader.fail("a block lies outside");
  }
  if (structOffset % 4 !== 0 || reservationsOffset % 8 !== 0) reader.fail("a block is not aligned");
}

function readReservations(reader: ByteReader, start: number): FdtReservation[] {
  const entries: FdtReservation[] = [];
  for (let offset = start;; offset += RESERVATION_SIZE) {
    const entry = { address: reader.u64(offset), size: reader.u64(offset + 8) };
    if (entry.address === 0n && entry.size === 0n) return entries;
    entries.push(entry);
  }
}

/** Walks the structure block with a stack of its own, so that no blob can exhaust ours. */
class StructReader {
  readonly #reader: ByteReader;
  readonly #header: Header;
  #offset: number;

  constructor(reader: ByteReader, header: Header) {
    this.#reader = reader;
    this.#header = header;
    this.#offset = header.structOffset;
  }

  readTree(): FdtNode {
    if (this.#token() !== TOKEN.BEGIN_NODE) this.#reader.fail("does not begin with a node");
    const root = this.#beginNode();
    const open: FdtNode[] = [root];
    for (let top = open.at(-1); top !== undefined; top = open.at(-1)) this.#step(open, top);
    if (this.#token() !== TOKEN.END) this.#reader.fail("more than one root");
    return root;
  }

  #step(open: FdtNode[], top: FdtNode): void {
    const token = this.#token();
    if (token === TOKEN.PROP) this.#property(top);
    else if (token === TOKEN.BEGIN_NODE) this.#child(open, top);
    else if (token === TOKEN.END_NODE) open.pop();
    else this.#reader.fail(`unexpected token ${hex(token)} at ${hex(this.#offset - 4)}`);
  }

  #child(open: FdtNode[], top: FdtNode): void {
    if (open.length >= MAX_DEPTH) this.#reader.fail("nodes are nested too deeply");
    const child = this.#beginNode();
    top.children.push(child);
    open.push(child);
  }

  #token(): number {
    for (;;) {
      const token = this.#word();
      if (token !== TOKEN.NOP) return token;
    }
  }

  #word(): number {
    return this.#reader.u32(this.#advance(4));
  }

  #advance(size: number): number {
    const start = this.#offset;
    this.#offset = start + Math.ceil(size / 4) * 4;
    if (this.#offset > this.#header.structEnd) this.#reader.fail("structure block ends too early");
    return start;
  }

  #beginNode(): FdtNode {
    const name = this.#reader.cString(this.#offset, this.#header.structEnd);
    this.#advance(name.length + 1);
    return { name, properties: new Map(), children: [] };
  }

  #property(top: FdtNode): void {
    if (top.children.length > 0) this.#reader.fail("a property follows a child node");
    const size = this.#word();
    const name = this.#propertyName(this.#word());
    if (top.properties.has(name)) this.#reader.fail(`property ${name} is there twice`);
    top.properties.set(name, this.#reader.slice(this.#advance(size), size).slice());
  }

  #propertyName(offset: number): string {
    const { stringsOffset, stringsEnd } = this.#header;
    if (stringsOffset + offset >= stringsEnd) this.#reader.fail("a property name lies outside");
    return this.#reader.cString(stringsOffset + offset, stringsEnd);
  }
}
