/**
 * The console device with one port (Virtio 1.2, section 5.3): a receive and a transmit queue, and
 * the emergency write. Linux has it as /dev/hvc0. It tells no size: as on a serial line, a program that
 * wants to know it asks the terminal.
 */
import type { AccessSize } from "../mmio.ts";
import type { VirtioDevice } from "./mmio_transport.ts";
import { lengthOf, type Virtqueue } from "./virtqueue.ts";

const F_EMERG_WRITE = 1 << 2;
const EMERG_WR = 8;
const RECEIVE = 0;
const TRANSMIT = 1;

/** The device; it has no state of its own. */
export class VirtioConsole implements VirtioDevice {
  readonly id = 3;
  readonly queueCount = 2;
  readonly features = F_EMERG_WRITE;

  constructor(readonly transmit: (byte: number) => void) {}

  /** No size, one port. */
  config(): Uint8Array {
    return Uint8Array.of(0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0);
  }

  /** Before its driver is set up, a guest can print characters by this. */
  configWrite(offset: number, _size: AccessSize, value: number): void {
    if (offset === EMERG_WR) this.transmit(value & 0xff);
  }

  notify(queues: readonly Virtqueue[], index: number): void {
    const queue = queues[TRANSMIT];
    // What is waiting to be received is offered again when the machine looks for room.
    if (index !== TRANSMIT || queue === undefined) return;
    for (let chain = queue.pop(); chain; chain = queue.pop()) {
      for (const byte of queue.gather(chain.readable)) this.transmit(byte);
      queue.push(chain, 0);
    }
  }

  /** Bytes that {@link receive} takes now: the driver's next buffer. */
  room(queues: readonly Virtqueue[]): number {
    const chain = queues[RECEIVE]?.peek();
    return chain === undefined ? 0 : lengthOf(chain.writable);
  }

  /** Bytes arrive; how many found room in the driver's next buffer. */
  receive(queues: readonly Virtqueue[], bytes: Uint8Array): number {
    const queue = queues[RECEIVE];
    const chain = bytes.length > 0 ? queue?.pop() : undefined;
    if (queue === undefined || chain === undefined) return 0;
    const taken = queue.scatter(chain.writable, bytes);
    queue.push(chain, taken);
    return taken;
  }
}
