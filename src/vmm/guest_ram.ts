/**
 * Guest memory as devices reach it: by guest physical address, page by page (the host pages behind a
 * VM's memory need not be neighbours), with bounds checks. Every write from outside the CPUs, a
 * loader's or a device's, goes through {@link GuestRam.write} or one of its small sisters, which tell
 * the machine what was written: code that was predecoded from there is stale.
 */
import type { SharedMemory } from "../base/memory.ts";

const PAGE = 4096;

/** An access to what is no guest memory. */
export class NotGuestRam extends Error {
  override readonly name = "NotGuestRam";
  constructor(readonly pa: number) {
    super(`0x${pa.toString(16)} is not guest memory`);
  }
}

/** What lies behind guest memory. */
export interface RamBacking {
  readonly memory: SharedMemory;
  /** Byte offset in the shared memory of guest physical address `pa`, or -1; holds to the end of its 4 KiB page. */
  ramOffset(pa: number): number;
  /** `length` bytes at byte offset `at` of the shared memory, within a page, were written. */
  ramWritten(at: number, length: number): void;
}

/** Bounds-checked access. Every method throws {@link NotGuestRam} for bytes that are not all guest memory. */
export class GuestRam {
  constructor(readonly backing: RamBacking) {}

  #at(pa: number): number {
    const at = this.backing.ramOffset(pa);
    if (at < 0) throw new NotGuestRam(pa);
    return at;
  }

  /** Calls `use` with each piece of the range that lies in one page, and how far into the range it is. */
  #pieces(pa: number, length: number, use: (at: number, size: number, done: number) => void): void {
    if (pa + length > Number.MAX_SAFE_INTEGER) throw new NotGuestRam(pa);
    for (let done = 0; done < length;) {
      const here = pa + done;
      const size = Math.min(length - done, PAGE - (here % PAGE));
      use(this.#at(here), size, done);
      done += size;
    }
  }

  /** Whether `length` bytes at `pa` are all guest memory. */
  has(pa: number, length: number): boolean {
    const { backing } = this;
    // Sums are not exact there, and no memory is.
    if (pa + length > Number.MAX_SAFE_INTEGER) return false;
    for (let here = pa; here < pa + length; here += PAGE - (here % PAGE)) {
      if (backing.ramOffset(here) < 0) return false;
    }
    return true;
  }

  /** Fills `into` from guest memory. */
  read(pa: number, into: Uint8Array): void {
    const { u8 } = this.backing.memory;
    this.#pieces(
      pa,
      into.length,
      (at, size, done) => into.set(u8.subarray(at, at + size), done),
    );
  }

  /** Writes bytes from outside the CPUs. Nothing is written when they do not all fit. */
  write(pa: number, bytes: Uint8Array): void {
    if (!this.has(pa, bytes.length)) throw new NotGuestRam(pa);
    const { backing } = this;
    this.#pieces(pa, bytes.length, (at, size, done) => {
      backing.memory.u8.set(bytes.subarray(done, done + size), at);
      backing.ramWritten(at, size);
    });
  }

  /** A 16-bit word; `pa` is a multiple of 2, as for the following ones of their size. */
  ld16(pa: number): number {
    return this.backing.memory.ld16(this.#at(pa));
  }
  ld32(pa: number): number {
    return this.backing.memory.ld32(this.#at(pa));
  }
  st16(pa: number, value: number): void {
    const at = this.#at(pa);
    this.backing.memory.st16(at, value);
    this.backing.ramWritten(at, 2);
  }
  st32(pa: number, value: number): void {
    const at = this.#at(pa);
    this.backing.memory.st32(at, value);
    this.backing.ramWritten(at, 4);
  }
}
