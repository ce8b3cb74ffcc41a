/**
 * The entropy device (Virtio 1.2, section 5.4). Its bytes follow from a seed: the same run reads the
 * same numbers. Nothing that must be secret may depend on them.
 */
import { layout, u32, type ViewOf } from "../../base/struct.ts";
import type { VirtioDevice } from "./mmio_transport.ts";
import { lengthOf, type Virtqueue } from "./virtqueue.ts";

/** The generator's state (sfc32). */
export const VirtioRngLayout = layout("virtio_rng", { a: u32(), b: u32(), c: u32(), n: u32() });

/** Bytes that one buffer gets at most; a device need not fill it. */
const MOST = 4096;
/** Numbers thrown away at the start, until the seed has spread. */
const WARM_UP = 12;

/** The device over state that the caller owns. */
export class VirtioRng implements VirtioDevice {
  readonly id = 4;
  readonly queueCount = 1;
  readonly features = 0;

  constructor(readonly state: ViewOf<typeof VirtioRngLayout>) {}

  /** Starts the sequence that belongs to `seed` (32 bits). */
  seed(seed: number): void {
    const { state } = this;
    state.a = 0;
    state.b = seed >>> 0;
    state.c = 0x9e37_79b9;
    state.n = 1;
    for (let i = 0; i < WARM_UP; i++) this.#next();
  }

  /** Chris Doty-Humphrey's sfc32: passes PractRand, four words of state. */
  #next(): number {
    const { state } = this;
    const { a, b, c, n } = state;
    const result = (a + b + n) | 0;
    state.n = n + 1;
    state.a = b ^ (b >>> 9);
    state.b = (c + (c << 3)) | 0;
    state.c = ((c << 21) | (c >>> 11)) + result;
    return result;
  }

  config(): Uint8Array {
    return new Uint8Array(0);
  }

  notify([queue]: readonly Virtqueue[]): void {
    for (let chain = queue?.pop(); queue && chain; chain = queue.pop()) {
      const bytes = new Uint8Array(Math.min(MOST, lengthOf(chain.writable)));
      for (let i = 0; i < bytes.length; i += 4) {
        const word = this.#next();
        for (let k = 0; k < 4 && i + k < bytes.length; k++) bytes[i + k] = word >>> (8 * k);
      }
      queue.push(chain, queue.scatter(chain.writable, bytes));
    }
  }
}
