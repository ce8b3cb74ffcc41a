/**
 * The physical address map outside RAM: which device answers where. What nobody answers is an external
 * abort.
 */
import { InternalError } from "../base/errors.ts";

/** A memory-mapped device. `offset` is from its region's start; `size` is 1, 2, 4 or 8 bytes, not necessarily aligned. */
export interface Device {
  /** The value read, below 2^(8 * size). */
  read(offset: number, size: number, cpuIndex: number): bigint | number;
  write(offset: number, size: number, value: bigint, cpuIndex: number): void;
  /** {@link write} of four bytes, where that can be had without a bigint. */
  write32?(offset: number, value: number, cpuIndex: number): void;
}

interface Region {
  readonly base: number;
  readonly end: number;
  readonly name: string;
  readonly device: Device;
}

/** Devices by physical address. */
export class Bus {
  #regions: Region[] = [];

  /** Adds a device at `base` to `base + size - 1`. InternalError where it overlaps another. */
  add(name: string, base: number, size: number, device: Device): void {
    const end = base + size;
    const other = this.#regions.find((r) => base < r.end && r.base < end);
    if (other) throw new InternalError(`device ${name} overlaps ${other.name}`);
    this.#regions.push({ base, end, name, device });
    this.#regions.sort((a, b) => a.base - b.base);
  }

  /** The device that answers all of `size` bytes at `pa`, or undefined. */
  find(pa: number, size: number): { readonly base: number; readonly device: Device } | undefined {
    let low = 0, high = this.#regions.length - 1;
    while (low <= high) {
      const middle = (low + high) >> 1;
      const region = this.#regions[middle] as Region;
      if (pa < region.base) high = middle - 1;
      else if (pa >= region.end) low = middle + 1;
      else return pa + size <= region.end ? region : undefined;
    }
    return undefined;
  }
}
