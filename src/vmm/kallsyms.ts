/**
 * The symbols that a Linux kernel carries in its own image (CONFIG_KALLSYMS), found without any other
 * file: kernel/kallsyms.c and scripts/kallsyms.c say how they lie there.
 *
 * Names are strings over a table of 256 tokens, whose index makes the table recognisable; before it lie
 * the names, their number and a marker for every 256th. Offsets from one base lie before the names (up
 * to Linux 6.3) or behind the token index. What does not fit together in every part is not taken.
 */

/** A kernel's symbols: those of code by rising offset from `base`. */
export interface Kallsyms {
  readonly symbols: readonly { readonly name: string; readonly offset: number }[];
  /** The address that offsets count from, as linked; undefined where the image does not say. */
  readonly base: bigint | undefined;
}

const TOKENS = 256;
/** Tokens "0" to "9" are themselves, since no name is without digits; this is how they lie in the table. */
const DIGITS = Uint8Array.from([..."0123456789"].flatMap((c) => [c.charCodeAt(0), 0]));
const FIRST_DIGIT = 0x30;
const MARKER_STEP = 256;
/** Fewer symbols are no kernel; names take no more bytes than this. */
const MIN_SYMBOLS = 1000;
const MAX_SYMBOLS = 1 << 21;
const MAX_NAMES_BYTES = 32 << 20;
const R_AARCH64_RELATIVE = 0x403;
const IMAGE_ALIGN = 0x20_0000n;

const align8 = (n: number): number => Math.ceil(n / 8) * 8;

/** The bytes as numbers; nothing outside them is read. */
class Bytes {
  readonly view: DataView;
  constructor(readonly u8: Uint8Array) {
    this.view = new DataView(u8.buffer, u8.byteOffset, u8.byteLength);
  }
  get length(): number {
    return this.u8.length;
  }
  u16(at: number): number {
    return at >= 0 && at + 2 <= this.length ? this.view.getUint16(at, true) : -1;
  }
  u32(at: number): number {
    return at >= 0 && at + 4 <= this.length ? this.view.getUint32(at, true) : -1;
  }
  u64(at: number): bigint {
    return at >= 0 && at + 8 <= this.length ? this.view.getBigUint64(at, true) : -1n;
  }
}

/** Where `what` lies in `bytes` from `from` on, or -1. */
function indexOf(bytes: Uint8Array, what: Uint8Array, from: number): number {
  for (let at = bytes.indexOf(what[0] as number, from); at >= 0;) {
    let i = 1;
    while (i < what.length && bytes[at + i] === what[i]) i++;
    if (i === what.length) return at;
    at = bytes.indexOf(what[0] as number, at + 1);
  }
  return -1;
}

/** The token table: its place, the tokens, and the end of its index. */
interface TokenTable {
  readonly at: number;
  readonly tokens: readonly string[];
  readonly end: number;
}

/** The table whose digits lie at `digits`, if there is one: its index says so. */
function tokenTable(image: Bytes, digits: number): TokenTable | undefined {
  let at = digits;
  for (let i = 0; i < FIRST_DIGIT && at > 0; i++) at = image.u8.lastIndexOf(0, at - 2) + 1;
  const tokens: string[] = [];
  const offsets: number[] = [];
  let next = at;
  for (let i = 0; i < TOKENS; i++) {
    const end = image.u8.indexOf(0, next);
    if (end < 0) return undefined;
    offsets.push(next - at);
    tokens.push(String.fromCharCode(...image.u8.subarray(next, end)));
    next = end + 1;
  }
  const index = align8(next);
  if (!offsets.every((offset, i) => image.u16(index + 2 * i) === offset)) return undefined;
  return { at, tokens, end: index + 2 * TOKENS };
}

function findTokens(image: Bytes): TokenTable | undefined {
  for (let at = indexOf(image.u8, DIGITS, 0); at >= 0; at = indexOf(image.u8, DIGITS, at + 1)) {
    const table = tokenTable(image, at);
    if (table !== undefined) return table;
  }
  return undefined;
}

/** Length of a name in tokens and where these begin; from 128 on it takes two bytes. */
function entry(image: Bytes, at: number): { readonly tokens: number; readonly from: number } {
  const first = image.u8[at] ?? 0;
  if (first < 0x80) return { tokens: first, from: at + 1 };
  return { tokens: (first & 0x7f) | ((image.u8[at + 1] ?? 0) << 7), from: at + 2 };
}

/** Whether `count` names from `names` on lie before `limit` with their markers behind them. */
function fitsTogether(image: Bytes, names: number, count: number, limit: number): boolean {
  const markers: number[] = [];
  let at = names;
  for (let i = 0; i < count; i++) {
    if (i % MARKER_STEP === 0) markers.push(at - names);
    if (at >= limit) return false;
    const { tokens, from } = entry(image, at);
    if (tokens === 0) return false;
    at = from + tokens;
  }
  const first = align8(at);
  return markers.every((marker, i) => image.u32(first + 4 * i) === marker);
}

/** Where the names begin, and how many there are; their number stands before them. */
function findNames(image: Bytes, table: number): { at: number; count: number } | undefined {
  const least = Math.max(8, table - MAX_NAMES_BYTES);
  for (let at = table - (table % 8) - 8; at >= least; at -= 8) {
    const count = image.u32(at - 8);
    if (count < MIN_SYMBOLS || count > MAX_SYMBOLS || image.u32(at - 4) !== 0) continue;
    if (fitsTogether(image, at, count, table)) return { at, count };
  }
  return undefined;
}

/** `count` offsets at `at` when they rise; undefined when what lies there are none. */
function offsetsAt(image: Bytes, at: number, count: number): Uint32Array | undefined {
  if (at < 0 || at + 4 * count > image.length) return undefined;
  const offsets = Uint32Array.from({ length: count }, (_, i) => image.u32(at + 4 * i));
  const rises = offsets.every((offset, i) => i === 0 || offset >= (offsets[i - 1] as number));
  return rises && offsets[count - 1] !== 0 ? offsets : undefined;
}

/**
 * The link address in the word at `at`. A relocatable kernel has it in a relocation instead, which is
 * recognised by its own place: as far into the kernel as `at` is into the image.
 */
function linkAddress(image: Bytes, at: number): bigint | undefined {
  const stored = image.u64(at);
  if (stored !== 0n) return stored;
  for (let info = 8; info + 16 <= image.length; info += 8) {
    if (image.u32(info) !== R_AARCH64_RELATIVE || image.u32(info + 4) !== 0) continue;
    const start = image.u64(info - 8) - BigInt(at);
    const base = image.u64(info + 8);
    // The image begins on a multiple of 2 MiB of the kernel's half of the addresses, its code soon after.
    const near = base >= start && base - start < IMAGE_ALIGN;
    if (start >> 48n === 0xffffn && start % IMAGE_ALIGN === 0n && near) return base;
  }
  return undefined;
}

function readNames(image: Bytes, at: number, count: number, tokens: readonly string[]): string[] {
  const names: string[] = [];
  let next = at;
  for (let i = 0; i < count; i++) {
    const { tokens: length, from } = entry(image, next);
    let name = "";
    for (let k = 0; k < length; k++) name += tokens[image.u8[from + k] as number];
    names.push(name);
    next = from + length;
  }
  return names;
}

/** The symbols in an unpacked kernel image; undefined when there are none to be found. */
export function findKallsyms(bytes: Uint8Array): Kallsyms | undefined {
  const image = new Bytes(bytes);
  const table = findTokens(image);
  const names = table && findNames(image, table.at);
  if (table === undefined || names === undefined) return undefined;
  const { at, count } = names;
  const before = at - 16 - align8(4 * count);
  const behind = align8(table.end);
  const early = offsetsAt(image, before, count);
  const offsets = early ?? offsetsAt(image, behind, count);
  if (offsets === undefined) return undefined;
  const base = linkAddress(image, early ? at - 16 : behind + align8(4 * count));
  // The first character is the type, as nm prints it.
  const symbols = readNames(image, at, count, table.tokens)
    .map((name, i) => ({ type: name[0] ?? "", name: name.slice(1), offset: offsets[i] as number }))
    .filter(({ type }) => /[tTwW]/.test(type));
  return { symbols, base };
}
