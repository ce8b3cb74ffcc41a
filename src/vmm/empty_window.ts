/**
 * The virtio-mmio window with nothing plugged in.
 *
 * A driver that probes a slot finds a transport (magic and version) whose device id 0 means that no
 * device is there, and leaves it alone. Source: Virtio 1.2, section 4.2.2.
 */

import { type AccessSize, type MmioDevice, wordPart } from "./mmio.ts";
import { VIRTIO_MMIO_SLOT_SIZE } from "./virt_map.ts";

/** "virt", little-endian. */
export const VIRTIO_MMIO_MAGIC = 0x7472_6976;
/** The non-legacy register layout. */
export const VIRTIO_MMIO_VERSION = 2;
/** "QEMU", little-endian: what guests of this board are used to. */
export const VIRTIO_MMIO_VENDOR = 0x554d_4551;

/** The four identification words at offset 0 of each slot; every other register reads as zero. */
const SLOT_WORDS: readonly number[] = [
  VIRTIO_MMIO_MAGIC,
  VIRTIO_MMIO_VERSION,
  0,
  VIRTIO_MMIO_VENDOR,
];

/** Answers for every slot of the window; has no state, ignores writes. */
export class EmptyVirtioWindow implements MmioDevice {
  /** The register at `offset` bytes into the window. */
  read(offset: number, size: AccessSize): number {
    const register = offset % VIRTIO_MMIO_SLOT_SIZE;
    return wordPart(SLOT_WORDS[register >>> 2] ?? 0, offset, size);
  }

  /** Ignored: a driver resets a slot before it looks at the device id. */
  write(_offset: number, _size: AccessSize, _value: number): void {}
}
