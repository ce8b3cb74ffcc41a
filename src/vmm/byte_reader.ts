/** Little-endian and big-endian reads of files that may be damaged: no read leaves the bytes. */

import { UserError } from "../base/errors.ts";

/** Names in device trees and symbol tables are far shorter. */
const MAX_TEXT = 4096;

/** Reads numbers and pieces of `bytes`; what does not fit is a UserError that begins with `label`. */
export class ByteReader {
  /** The bytes that are read. */
  readonly bytes: Uint8Array;
  /** What the bytes are, for messages: "kernel", "device tree". */
  readonly label: string;
  readonly #view: DataView;
  readonly #littleEndian: boolean;

  /** Makes a reader; numbers are little-endian or big-endian. */
  constructor(bytes: Uint8Array, label: string, littleEndian: boolean) {
    this.bytes = bytes;
    this.label = label;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#littleEndian = littleEndian;
  }

  /** The unsigned 16-bit number at `offset`. */
  u16(offset: number): number {
    this.#require(offset, 2);
    return this.#view.getUint16(offset, this.#littleEndian);
  }

  /** The unsigned 32-bit number at `offset`. */
  u32(offset: number): number {
    this.#require(offset, 4);
    return this.#view.getUint32(offset, this.#littleEndian);
  }

  /** The unsigned 64-bit number at `offset`. */
  u64(offset: number): bigint {
    this.#require(offset, 8);
    return this.#view.getBigUint64(offset, this.#littleEndian);
  }

  /** A view of `size` bytes at `offset`. */
  slice(offset: number, size: number): Uint8Array {
    this.#require(offset, size);
    return this.bytes.subarray(offset, offset + size);
  }

  /** The text from `offset` up to a NUL that lies before `end`, one character for each byte. */
  cString(offset: number, end: number): string {
    this.#require(offset, 0);
    const limit = Math.min(end, this.bytes.length);
    const nul = this.bytes.subarray(0, limit).indexOf(0, offset);
    if (nul < 0) this.fail("text without an end");
    if (nul - offset > MAX_TEXT) this.fail(`text longer than ${MAX_TEXT} bytes`);
    return String.fromCharCode(...this.bytes.subarray(offset, nul));
  }

  /** Reports damage, in a few words. */
  fail(what: string): never {
    throw new UserError(`${this.label}: ${what}`);
  }

  #require(offset: number, size: number): void {
    if (offset < 0 || size < 0 || offset + size > this.bytes.length) {
      this.fail(`cut short: ${size} bytes at ${hex(offset)} end beyond ${hex(this.bytes.length)}`);
    }
  }
}

/** A number as 0x..., for messages; infinity stands for what {@link toNumber} could not hold. */
export function hex(value: number | bigint): string {
  if (value === Number.POSITIVE_INFINITY) return "the end of all addresses";
  return `0x${value.toString(16)}`;
}

/** A 64-bit number from a file as a `number`; values that are not exact stay out of every range. */
export function toNumber(value: bigint): number {
  return value > BigInt(Number.MAX_SAFE_INTEGER) ? Number.POSITIVE_INFINITY : Number(value);
}
