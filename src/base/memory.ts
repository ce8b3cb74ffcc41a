/**
 * The one shared memory. All state of the machine and of the hypervisor lies in it; everything in
 * JavaScript is a view that can be thrown away and rebuilt. It is sized once and never grown, since
 * views do not follow a grown memory.
 */

/** Size of a WebAssembly page in bytes. */
export const WASM_PAGE = 65536;

/** Words that {@link SharedMemory.clear} looks at together: those of a page of most hosts. */
const PAGE_WORDS = 1024;

/** The most a 32-bit memory may hold, in bytes: what stays addressable with room for our own state. */
export const MEMORY_LIMIT = 0xffff_0000;

/**
 * Typed views of one `WebAssembly.Memory` and little-endian accessors at byte addresses.
 *
 * Addresses are byte offsets into the memory (0 to 2^32 - 1). `ld*`/`st*` want natural alignment;
 * `get*`/`set*` take any alignment.
 */
export class SharedMemory {
  readonly size: number;
  readonly u8: Uint8Array;
  readonly u16: Uint16Array;
  readonly u32: Uint32Array;
  readonly i32: Int32Array;
  readonly u64: BigUint64Array;
  readonly view: DataView;

  constructor(readonly memory: WebAssembly.Memory) {
    const buffer = memory.buffer;
    this.size = buffer.byteLength;
    this.u8 = new Uint8Array(buffer);
    this.u16 = new Uint16Array(buffer);
    this.u32 = new Uint32Array(buffer);
    this.i32 = new Int32Array(buffer);
    this.u64 = new BigUint64Array(buffer);
    this.view = new DataView(buffer);
  }

  /** A fresh zeroed memory of at least `bytes`, rounded up to a WebAssembly page. RangeError above {@link MEMORY_LIMIT}. */
  static create(bytes: number): SharedMemory {
    if (!(bytes > 0 && bytes <= MEMORY_LIMIT)) {
      throw new RangeError(`memory of ${bytes} bytes: the limit is ${MEMORY_LIMIT}`);
    }
    const pages = Math.ceil(bytes / WASM_PAGE);
    return new SharedMemory(
      new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true }),
    );
  }

  /**
   * Zeroes `length` bytes from `at` on, both multiples of 4. Pages that are zero are only read, so that the
   * host need not have them. Whether anything changed.
   */
  clear(at: number, length: number): boolean {
    const words = this.i32, end = (at + length) >>> 2;
    let changed = false;
    for (let from = at >>> 2; from < end; from += PAGE_WORDS) {
      const to = Math.min(from + PAGE_WORDS, end);
      let i = from;
      while (i < to && words[i] === 0) i++;
      if (i === to) continue;
      words.fill(0, i, to);
      changed = true;
    }
    return changed;
  }

  /** The `count` words of 32 bits from `at` on, as an array of their own. */
  wordsAt(at: number, count: number): Uint32Array {
    return new Uint32Array(this.memory.buffer, at, count);
  }
  /** The same, signed. */
  signedAt(at: number, count: number): Int32Array {
    return new Int32Array(this.memory.buffer, at, count);
  }

  ld8(at: number): number {
    return this.u8[at] as number;
  }
  ld16(at: number): number {
    return this.u16[at >>> 1] as number;
  }
  ld32(at: number): number {
    return this.u32[at >>> 2] as number;
  }
  ldi32(at: number): number {
    return this.i32[at >>> 2] as number;
  }
  /** The 64-bit word at `at` as a bigint: cold paths only. */
  ld64(at: number): bigint {
    return this.u64[at >>> 3] as bigint;
  }
  /** The 64-bit word at `at` as a number: exact below 2^53. */
  ld53(at: number): number {
    return this.ld32(at) + this.ld32(at + 4) * 0x1_0000_0000;
  }
  st8(at: number, value: number): void {
    this.u8[at] = value;
  }
  st16(at: number, value: number): void {
    this.u16[at >>> 1] = value;
  }
  st32(at: number, value: number): void {
    this.u32[at >>> 2] = value;
  }
  /** Stores a bigint of any sign modulo 2^64: cold paths only. */
  st64(at: number, value: bigint): void {
    this.u64[at >>> 3] = value;
  }
  /** Stores a number from 0 to 2^53 - 1 as a 64-bit word. */
  st53(at: number, value: number): void {
    this.u32[at >>> 2] = value;
    this.u32[(at >>> 2) + 1] = value / 0x1_0000_0000;
  }
  /** Copies one aligned 64-bit word without making a bigint. */
  copy64(to: number, from: number): void {
    this.u32[to >>> 2] = this.u32[from >>> 2] as number;
    this.u32[(to >>> 2) + 1] = this.u32[(from >>> 2) + 1] as number;
  }
  get16(at: number): number {
    return this.view.getUint16(at, true);
  }
  get32(at: number): number {
    return this.view.getUint32(at, true);
  }
  get64(at: number): bigint {
    return this.view.getBigUint64(at, true);
  }
  set16(at: number, value: number): void {
    this.view.setUint16(at, value, true);
  }
  set32(at: number, value: number): void {
    this.view.setUint32(at, value, true);
  }
  set64(at: number, value: bigint): void {
    this.view.setBigUint64(at, BigInt.asUintN(64, value), true);
  }
  /** A little-endian unsigned value of 1, 2, 4 or 8 bytes at any alignment. */
  getUnsigned(at: number, size: number): bigint {
    if (size === 8) return this.get64(at);
    return BigInt(size === 1 ? this.ld8(at) : size === 2 ? this.get16(at) : this.get32(at));
  }
  /** Stores the low `size` (1, 2, 4 or 8) bytes of `value` at any alignment. */
  setUnsigned(at: number, size: number, value: bigint): void {
    if (size === 8) return this.set64(at, value);
    const low = Number(value & 0xffff_ffffn);
    if (size === 1) this.st8(at, low);
    else if (size === 2) this.set16(at, low);
    else this.set32(at, low);
  }
}

/** Adds an integer from 0 to 2^32 - 1 to the 64-bit word whose low half is word `at` of `words`. */
export function add53(words: Uint32Array, at: number, value: number): void {
  const sum = ((words[at] as number) + value) >>> 0;
  words[at] = sum;
  if (sum < value) words[at + 1] = (words[at + 1] as number) + 1;
}

/**
 * The same for an integer from 0 to 2^31 - 1, by signed words: no value on the way is one that V8 would have
 * to box or to take for a floating-point number.
 */
export function addSmall(words: Int32Array, at: number, value: number): void {
  const sum = ((words[at] as number) + value) | 0;
  words[at] = sum;
  // It has passed 2^32 when it is one of the `value` numbers from 0 on.
  if (sum >= 0 && sum < value) words[at + 1] = (words[at + 1] as number) + 1;
}
