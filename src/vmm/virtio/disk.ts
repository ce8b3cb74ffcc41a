/**
 * What a block device is a disk of: a raw image that is never written, and over it, when the guest may
 * write, the clusters it has written. These lie in the shared memory: they are state of the machine,
 * covered by its hash and its snapshots.
 */
import { alignUp } from "../../base/bits.ts";
import type { SharedMemory } from "../../base/memory.ts";

/** An image. The same bytes for the whole of a run, else no run can be repeated. */
export interface DiskImage {
  /** Bytes. */
  readonly size: number;
  /** Fills `into` with the bytes from `offset` on; what lies behind the end reads as zeros. Throws when the host cannot read. */
  read(offset: number, into: Uint8Array): void;
}

/** Bytes of a cluster. */
export const CLUSTER = 4096;
/** The most that a guest may write to different places of one disk, in bytes. */
const OVERLAY_BYTES = 128 << 20;

const SECTOR = 512;

/** Sectors of an image; the last one may be filled up with zeros. */
export function sectorsOf(size: number): number {
  return Math.ceil(size / SECTOR);
}

function clustersOf(size: number): number {
  return Math.ceil(size / CLUSTER);
}

/** Bytes of shared memory for what a guest writes over an image of `size` bytes. */
export function overlaySize(size: number): number {
  const clusters = clustersOf(size);
  return alignUp(4 * (clusters + 1), CLUSTER) + Math.min(clusters * CLUSTER, OVERLAY_BYTES);
}

/** A disk that can be read. */
export interface Disk {
  readonly size: number;
  readonly readOnly: boolean;
  read(offset: number, into: Uint8Array): void;
  /** False: read-only, or no more can be written to new places. */
  write(offset: number, bytes: Uint8Array): boolean;
}

/** An image as it is. */
export class ReadOnlyDisk implements Disk {
  readonly readOnly = true;
  constructor(readonly image: DiskImage) {}
  get size(): number {
    return this.image.size;
  }
  read(offset: number, into: Uint8Array): void {
    this.image.read(offset, into);
  }
  write(): boolean {
    return false;
  }
}

/**
 * An image with what was written over it: at `at` of the memory {@link overlaySize} bytes, zeroed once.
 * First a word that counts the clusters written, then one for each cluster of the disk with the number
 * of its copy, from 1; the copies follow.
 */
export class OverlaidDisk implements Disk {
  readonly readOnly = false;
  readonly #table: number;
  readonly #copies: number;
  readonly #capacity: number;

  constructor(readonly memory: SharedMemory, readonly at: number, readonly image: DiskImage) {
    const clusters = clustersOf(image.size);
    this.#table = at + 4;
    this.#copies = at + alignUp(4 * (clusters + 1), CLUSTER);
    this.#capacity = Math.min(clusters, OVERLAY_BYTES / CLUSTER);
  }

  get size(): number {
    return this.image.size;
  }

  /** Clusters that differ from the image. */
  get written(): number {
    return this.memory.ld32(this.at);
  }

  #copyOf(cluster: number): number {
    const number = this.memory.ld32(this.#table + 4 * cluster);
    return number === 0 ? -1 : this.#copies + (number - 1) * CLUSTER;
  }

  /** Calls `use` with each piece of the range that lies in one cluster. */
  #pieces(
    offset: number,
    length: number,
    use: (cluster: number, from: number, size: number, done: number) => boolean,
  ): boolean {
    for (let done = 0; done < length;) {
      const here = offset + done;
      const from = here % CLUSTER;
      const size = Math.min(length - done, CLUSTER - from);
      if (!use((here - from) / CLUSTER, from, size, done)) return false;
      done += size;
    }
    return true;
  }

  read(offset: number, into: Uint8Array): void {
    this.image.read(offset, into);
    const { u8 } = this.memory;
    this.#pieces(offset, into.length, (cluster, from, size, done) => {
      const copy = this.#copyOf(cluster);
      if (copy >= 0) into.set(u8.subarray(copy + from, copy + from + size), done);
      return true;
    });
  }

  write(offset: number, bytes: Uint8Array): boolean {
    return this.#pieces(offset, bytes.length, (cluster, from, size, done) => {
      const copy = this.#writable(cluster);
      if (copy < 0) return false;
      this.memory.u8.set(bytes.subarray(done, done + size), copy + from);
      return true;
    });
  }

  /** The cluster's copy, made now if there is none; -1 when there is no room for it. */
  #writable(cluster: number): number {
    const known = this.#copyOf(cluster);
    if (known >= 0) return known;
    const { memory } = this;
    const number = memory.ld32(this.at) + 1;
    if (number > this.#capacity) return -1;
    const bytes = new Uint8Array(CLUSTER);
    this.image.read(cluster * CLUSTER, bytes);
    memory.st32(this.at, number);
    memory.st32(this.#table + 4 * cluster, number);
    const copy = this.#copyOf(cluster);
    memory.u8.set(bytes, copy);
    return copy;
  }
}
