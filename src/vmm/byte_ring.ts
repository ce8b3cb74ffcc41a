/**
 * A bounded byte ring in the shared memory between one producer and one consumer: a VM's console
 * output or input. What does not fit is refused, so the producer keeps it and nothing is lost.
 *
 * `head` counts the bytes ever written and `tail` those ever read, both modulo 2^32. Each is written
 * by one side only, with Atomics, after the bytes it covers.
 */
import { assert } from "../base/errors.ts";
import type { SharedMemory } from "../base/memory.ts";
import { layout, u32 } from "../base/struct.ts";

/** The ring's two counters; the bytes follow. */
export const ByteRingHead = layout("byte_ring", { head: u32("observe"), tail: u32("observe") });

/** Bytes of shared memory that a ring of `capacity` bytes takes. */
export function byteRingSize(capacity: number): number {
  return ByteRingHead.size + capacity;
}

/** One end of a ring at byte address `base` (a multiple of 8, zeroed once); `capacity` is a power of two up to 2^30. */
export class ByteRing {
  readonly #head: number;
  readonly #tail: number;
  readonly #data: number;

  constructor(readonly memory: SharedMemory, base: number, readonly capacity: number) {
    const powerOfTwo = capacity > 0 && capacity <= 2 ** 30 && (capacity & (capacity - 1)) === 0;
    assert(powerOfTwo, `byte ring of ${capacity} bytes: not a power of two`);
    this.#head = (base + ByteRingHead.offset.head) >>> 2;
    this.#tail = (base + ByteRingHead.offset.tail) >>> 2;
    this.#data = base + ByteRingHead.size;
  }

  /** Bytes written and not yet read. */
  get length(): number {
    const { i32 } = this.memory;
    return (Atomics.load(i32, this.#head) - Atomics.load(i32, this.#tail)) >>> 0;
  }

  /** Bytes that a write would take now. */
  get free(): number {
    return this.capacity - this.length;
  }

  /** Producer: takes as many of the bytes as fit and returns how many; the caller keeps the rest. */
  write(bytes: Uint8Array): number {
    const count = Math.min(bytes.length, this.free);
    if (count === 0) return 0;
    const head = Atomics.load(this.memory.i32, this.#head) >>> 0;
    const at = head & (this.capacity - 1);
    const first = Math.min(count, this.capacity - at);
    this.memory.u8.set(bytes.subarray(0, first), this.#data + at);
    this.memory.u8.set(bytes.subarray(first, count), this.#data);
    Atomics.store(this.memory.i32, this.#head, (head + count) | 0);
    Atomics.notify(this.memory.i32, this.#head);
    return count;
  }

  /** Producer: one byte (0 to 255); false when the ring is full. */
  writeByte(byte: number): boolean {
    if (this.free === 0) return false;
    const head = Atomics.load(this.memory.i32, this.#head) >>> 0;
    this.memory.u8[this.#data + (head & (this.capacity - 1))] = byte;
    Atomics.store(this.memory.i32, this.#head, (head + 1) | 0);
    Atomics.notify(this.memory.i32, this.#head);
    return true;
  }

  /** Consumer: takes out up to `max` bytes, as a copy. */
  read(max: number = this.capacity): Uint8Array {
    const count = Math.min(max, this.length);
    const bytes = new Uint8Array(count);
    const tail = Atomics.load(this.memory.i32, this.#tail) >>> 0;
    const at = tail & (this.capacity - 1);
    const first = Math.min(count, this.capacity - at);
    bytes.set(this.memory.u8.subarray(this.#data + at, this.#data + at + first));
    bytes.set(this.memory.u8.subarray(this.#data, this.#data + count - first), first);
    if (count > 0) Atomics.store(this.memory.i32, this.#tail, (tail + count) | 0);
    return bytes;
  }

  /** Consumer: the next byte, or -1 when there is none. */
  readByte(): number {
    if (this.length === 0) return -1;
    const tail = Atomics.load(this.memory.i32, this.#tail) >>> 0;
    const byte = this.memory.u8[this.#data + (tail & (this.capacity - 1))] as number;
    Atomics.store(this.memory.i32, this.#tail, (tail + 1) | 0);
    return byte;
  }
}
