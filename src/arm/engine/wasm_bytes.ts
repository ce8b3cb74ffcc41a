/** Most that are made stay empty, or small: nothing is reserved before there is something. */
const NONE = new Uint8Array(0);
const LEAST = 256;

/** A growing run of bytes with the number encodings of WebAssembly (LEB128). */
export class Bytes {
  #bytes = NONE;
  length = 0;

  #room(count: number): void {
    const wanted = this.length + count;
    if (wanted <= this.#bytes.length) return;
    const larger = new Uint8Array(Math.max(2 * this.#bytes.length, wanted, LEAST));
    larger.set(this.#bytes);
    this.#bytes = larger;
  }

  push(...bytes: number[]): this {
    this.#room(bytes.length);
    for (const byte of bytes) this.#bytes[this.length++] = byte;
    return this;
  }

  byte(value: number): this {
    if (this.length === this.#bytes.length) this.#room(1);
    this.#bytes[this.length++] = value;
    return this;
  }

  /** A whole number from 0 to 2^53 - 1. */
  unsigned(value: number): this {
    while (value >= 0x80) {
      this.byte((value % 0x80) | 0x80);
      value = Math.floor(value / 0x80);
    }
    return this.byte(value);
  }

  /** A 32-bit number, signed. */
  signed(value: number): this {
    value |= 0;
    for (;;) {
      const low = value & 0x7f;
      value >>= 7;
      if ((value === 0 && low < 0x40) || (value === -1 && low >= 0x40)) return this.byte(low);
      this.byte(low | 0x80);
    }
  }

  /** A 64-bit number, signed. */
  signed64(value: bigint): this {
    value = BigInt.asIntN(64, value);
    if (value >= -0x8000_0000n && value < 0x8000_0000n) return this.signed(Number(value));
    for (;;) {
      const low = Number(value & 0x7fn);
      value >>= 7n;
      if ((value === 0n && low < 0x40) || (value === -1n && low >= 0x40)) return this.byte(low);
      this.byte(low | 0x80);
    }
  }

  text(value: string): this {
    const utf8 = new TextEncoder().encode(value);
    return this.unsigned(utf8.length).append(utf8);
  }

  append(bytes: Uint8Array | Bytes): this {
    const view = bytes instanceof Bytes ? bytes.view() : bytes;
    this.#room(view.length);
    this.#bytes.set(view, this.length);
    this.length += view.length;
    return this;
  }

  /** Starts over, with the room there is. */
  clear(): void {
    this.length = 0;
  }

  /** The bytes so far, valid until more are added. */
  view(): Uint8Array<ArrayBuffer> {
    return this.#bytes.subarray(0, this.length);
  }
}
