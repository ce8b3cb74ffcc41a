/**
 * The network device (Virtio 1.2, section 5.1) with one pair of queues and no offloads. What it is
 * plugged into is a {@link Network}; a frame that finds no receive buffer is lost, as on a wire.
 */
import type { VirtioDevice } from "./mmio_transport.ts";
import { lengthOf, type Virtqueue } from "./virtqueue.ts";

const F_MAC = 1 << 5;
const F_STATUS = 1 << 16;
const STATUS_LINK_UP = 1;
const TRANSMIT = 1;
/** struct virtio_net_hdr with num_buffers. */
const HEADER = 12;
const NUM_BUFFERS = 10;
/** Longest frame: 1500 bytes, the Ethernet header and a VLAN tag. */
export const MAX_FRAME = 1518;

/** What a network card is plugged into: the frames that come back for one that is sent. */
export interface Network {
  send(frame: Uint8Array): readonly Uint8Array[];
}

/** Every frame comes back. */
export const LOOPBACK: Network = { send: (frame) => [frame] };

/** The guest's address: the first that QEMU gives out. */
export const GUEST_MAC: Uint8Array = Uint8Array.of(0x52, 0x54, 0x00, 0x12, 0x34, 0x56);

/** The device; it has no state of its own. */
export class VirtioNet implements VirtioDevice {
  readonly id = 1;
  readonly queueCount = 2;
  readonly features = F_MAC | F_STATUS;
  readonly #config: Uint8Array;

  constructor(readonly network: Network, mac: Uint8Array = GUEST_MAC) {
    this.#config = Uint8Array.of(...mac, STATUS_LINK_UP, 0);
  }

  config(): Uint8Array {
    return this.#config;
  }

  notify(queues: readonly Virtqueue[], index: number): void {
    const [receive, queue] = queues;
    if (index !== TRANSMIT || receive === undefined || queue === undefined) return;
    for (let chain = queue.pop(); chain; chain = queue.pop()) {
      const frame = queue.gather(chain.readable, HEADER + MAX_FRAME + 1).subarray(HEADER);
      queue.push(chain, 0);
      if (frame.length === 0 || frame.length > MAX_FRAME) continue;
      for (const back of this.network.send(frame)) deliver(receive, back);
    }
  }
}

function deliver(queue: Virtqueue, frame: Uint8Array): void {
  const chain = queue.pop();
  if (chain === undefined) return;
  const bytes = new Uint8Array(HEADER + frame.length);
  bytes[NUM_BUFFERS] = 1;
  bytes.set(frame, HEADER);
  const fits = lengthOf(chain.writable) >= bytes.length;
  queue.push(chain, fits ? queue.scatter(chain.writable, bytes) : 0);
}
