/**
 * A small device of our own: an interrupt line that the guest or the user raises and the guest
 * acknowledges, so that the way of one level interrupt can be watched from end to end.
 *
 * | offset | name | access | meaning |
 * | --- | --- | --- | --- |
 * | 0x00 | ID | RO | 0x57530001: "WS" and the version |
 * | 0x04 | LINE | RW | read: level of the interrupt line; write: bit 0 is the new level |
 * | 0x08 | ACK | WO | a write of any value lowers the line and adds one to COUNT; reads as zero |
 * | 0x0c | COUNT | RO | writes to ACK since reset, modulo 2^32 |
 * | 0x10 - 0x1f | SCRATCH | RW | four words without effect |
 *
 * Everything else reads as zero and ignores writes.
 */

import { type AccessSize, mergeWord, type MmioDevice, wordPart } from "./mmio.ts";

/** Value of the ID register. */
export const TEST_DEVICE_ID = 0x5753_0001;
/** Words of SCRATCH. */
export const TEST_DEVICE_SCRATCH_WORDS = 4;

/** Byte offsets of the registers. */
export const TEST_DEVICE_REG = {
  ID: 0x00,
  LINE: 0x04,
  ACK: 0x08,
  COUNT: 0x0c,
  SCRATCH: 0x10,
} as const;

const SCRATCH_END = TEST_DEVICE_REG.SCRATCH + 4 * TEST_DEVICE_SCRATCH_WORDS;

/** All state of the device; may be a view of shared memory. */
export interface TestDeviceState {
  /** Level of the line: 0 or 1. */
  line: number;
  /** Acknowledgements, an unsigned 32-bit number. */
  count: number;
  /** {@link TEST_DEVICE_SCRATCH_WORDS} words. */
  readonly scratch: Uint32Array;
}

/** Fresh state outside shared memory. */
export function createTestDeviceState(): TestDeviceState {
  return { line: 0, count: 0, scratch: new Uint32Array(TEST_DEVICE_SCRATCH_WORDS) };
}

/** The device; `setIrq` hears the level at every write that sets it, also when it stays the same. */
export class TestDevice implements MmioDevice {
  readonly #state: TestDeviceState;
  readonly #setIrq: (level: boolean) => void;

  /** Makes the device over `state`, which is left as it is. */
  constructor(state: TestDeviceState, setIrq: (level: boolean) => void) {
    this.#state = state;
    this.#setIrq = setIrq;
  }

  /** Power-on values; the line goes low. */
  reset(): void {
    this.#state.count = 0;
    this.#state.scratch.fill(0);
    this.setLine(false);
  }

  /** Drives the line from outside the guest, as a write of LINE does. */
  setLine(level: boolean): void {
    this.#state.line = level ? 1 : 0;
    this.#setIrq(level);
  }

  /** See the table above. */
  read(offset: number, size: AccessSize): number {
    return wordPart(this.#word(offset & ~3), offset, size);
  }

  /** See the table above. Only SCRATCH can be written in part; others take their first byte. */
  write(offset: number, size: AccessSize, value: number): void {
    if (offset === TEST_DEVICE_REG.LINE) this.setLine((value & 1) === 1);
    else if (offset === TEST_DEVICE_REG.ACK) this.#acknowledge();
    else if (isScratch(offset)) this.#writeScratch(offset, size, value);
  }

  #word(offset: number): number {
    if (offset === TEST_DEVICE_REG.ID) return TEST_DEVICE_ID;
    if (offset === TEST_DEVICE_REG.LINE) return this.#state.line;
    if (offset === TEST_DEVICE_REG.COUNT) return this.#state.count;
    if (isScratch(offset)) return this.#state.scratch[scratchIndex(offset)] ?? 0;
    return 0;
  }

  #acknowledge(): void {
    this.#state.count = (this.#state.count + 1) >>> 0;
    // Lowered even when this device did not raise it: the user may have raised the same SPI by hand.
    this.setLine(false);
  }

  #writeScratch(offset: number, size: AccessSize, value: number): void {
    const index = scratchIndex(offset);
    this.#state.scratch[index] = mergeWord(this.#state.scratch[index] ?? 0, offset, size, value);
  }
}

function isScratch(offset: number): boolean {
  return offset >= TEST_DEVICE_REG.SCRATCH && offset < SCRATCH_END;
}

function scratchIndex(offset: number): number {
  return (offset - TEST_DEVICE_REG.SCRATCH) >>> 2;
}
