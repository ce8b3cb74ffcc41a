/**
 * A split virtqueue from the device's side (Virtio 1.2, section 2.7): descriptor chains, indirect
 * tables, notification suppression by flags or by event index.
 *
 * All that is read here was written by the guest. Whatever breaks a rule that the device relies on is
 * a {@link VirtioError}; the transport then marks the device as needing a reset.
 */
import { layout, u32, type ViewOf } from "../../base/struct.ts";
import { type VirtioFault } from "../../trace/tracepoints.ts";
import { type GuestRam, NotGuestRam } from "../guest_ram.ts";

/** The most descriptors of a queue. */
export const QUEUE_NUM_MAX = 256;
/** The most bytes of one chain: more is nothing that a driver of these devices sends. */
const MAX_CHAIN_BYTES = 1 << 26;

/** The most descriptors of an indirect table. */
const MAX_INDIRECT = 1024;

const DESC = { SIZE: 16, LEN: 8, FLAGS: 12, NEXT: 14 } as const;
const DESC_F = { NEXT: 1, WRITE: 2, INDIRECT: 4 } as const;
const AVAIL = { FLAGS: 0, IDX: 2, RING: 4 } as const;
const AVAIL_F_NO_INTERRUPT = 1;
const USED = { FLAGS: 0, IDX: 2, RING: 4, ELEMENT: 8 } as const;

/** A queue's registers, and how far the device has come. */
export const VirtqueueLayout = layout("virtqueue", {
  num: u32(),
  ready: u32(),
  descLo: u32(),
  descHi: u32(),
  driverLo: u32(),
  driverHi: u32(),
  deviceLo: u32(),
  deviceHi: u32(),
  /** Chains taken and chains given back, modulo 2^16. */
  lastAvail: u32(),
  usedIdx: u32(),
  /** `usedIdx` when the driver was last told. */
  signalled: u32(),
});

/** The driver broke a rule. */
export class VirtioError extends Error {
  override readonly name = "VirtioError";
  constructor(readonly fault: VirtioFault) {
    super(fault);
  }
}

/** A piece of guest memory. */
export interface Segment {
  readonly pa: number;
  readonly length: number;
}

/** A descriptor chain taken from the queue: what the device reads, then what it writes. */
export interface Chain {
  /** Number of its first descriptor. */
  readonly head: number;
  readonly readable: readonly Segment[];
  readonly writable: readonly Segment[];
}

/** What was negotiated that concerns queues. */
export interface QueueFeatures {
  readonly indirect: boolean;
  readonly eventIdx: boolean;
}

/** Bytes of some pieces of memory. */
export function lengthOf(segments: readonly Segment[]): number {
  return segments.reduce((sum, { length }) => sum + length, 0);
}

/** vring_need_event: whether `event` lies in what has happened from `old` up to `now`. */
function needEvent(event: number, now: number, old: number): boolean {
  return ((now - event - 1) & 0xffff) < ((now - old) & 0xffff);
}

/** A table of descriptors while a chain is collected from it. */
interface Walk {
  readonly table: number;
  readonly count: number;
  readonly indirect: boolean;
  readonly readable: Segment[];
  readonly writable: Segment[];
  /** Bytes so far. */
  readonly sum: { bytes: number };
}

/** One queue over state that the transport owns. */
export class Virtqueue {
  constructor(
    readonly state: ViewOf<typeof VirtqueueLayout>,
    readonly ram: GuestRam,
    readonly features: () => QueueFeatures,
  ) {}

  get #desc(): number {
    return this.state.descHi * 2 ** 32 + this.state.descLo;
  }
  get #avail(): number {
    return this.state.driverHi * 2 ** 32 + this.state.driverLo;
  }
  get #used(): number {
    return this.state.deviceHi * 2 ** 32 + this.state.deviceLo;
  }

  get ready(): boolean {
    return this.state.ready !== 0;
  }

  /** VirtioError unless the three parts lie in guest memory, aligned, and the size is a power of two. */
  check(): void {
    const { num } = this.state;
    if (num === 0 || num > QUEUE_NUM_MAX || (num & (num - 1)) !== 0) {
      throw new VirtioError("bad queue size");
    }
    this.#part(this.#desc, 16, DESC.SIZE * num);
    this.#part(this.#avail, 2, AVAIL.RING + 2 * num + 2);
    this.#part(this.#used, 4, USED.RING + USED.ELEMENT * num + 2);
  }

  #part(pa: number, align: number, size: number): void {
    if (pa % align !== 0 || !this.ram.has(pa, size)) throw new VirtioError("bad queue address");
  }

  /** Chains that the driver has made available and the device has not taken. VirtioError when they cannot be so many. */
  get available(): number {
    if (!this.ready) return 0;
    const waiting = (this.ram.ld16(this.#avail + AVAIL.IDX) - this.state.lastAvail) & 0xffff;
    if (waiting > this.state.num) throw new VirtioError("avail index jumped");
    return waiting;
  }

  /** Takes the next chain; undefined when there is none. */
  pop(): Chain | undefined {
    const chain = this.peek();
    if (chain === undefined) return undefined;
    const { state, ram } = this;
    state.lastAvail = (state.lastAvail + 1) & 0xffff;
    // The driver is to tell when it has added one more than the device has taken.
    if (this.features().eventIdx) {
      ram.st16(this.#used + USED.RING + USED.ELEMENT * state.num, state.lastAvail);
    }
    return chain;
  }

  /** The next chain, which stays in the queue. */
  peek(): Chain | undefined {
    if (this.available === 0) return undefined;
    const { num, lastAvail } = this.state;
    const head = this.ram.ld16(this.#avail + AVAIL.RING + 2 * (lastAvail % num));
    if (head >= num) throw new VirtioError("descriptor number out of range");
    return this.#collect(head);
  }

  #collect(head: number): Chain {
    const walk = {
      table: this.#desc,
      count: this.state.num,
      indirect: false,
      readable: [],
      writable: [],
      sum: { bytes: 0 },
    };
    this.#follow(walk, head);
    return { head, readable: walk.readable, writable: walk.writable };
  }

  /** Collects the chain that starts at descriptor `first`. No chain is longer than its table. */
  #follow(walk: Walk, first: number): void {
    const descriptor = new DataView(new ArrayBuffer(DESC.SIZE));
    const bytes = new Uint8Array(descriptor.buffer);
    let index = first;
    for (let i = 0; i < walk.count; i++) {
      // An indirect table may lie anywhere, so that no descriptor is read in words.
      this.ram.read(walk.table + DESC.SIZE * index, bytes);
      const pa = descriptor.getUint32(0, true) + descriptor.getUint32(4, true) * 2 ** 32;
      const length = descriptor.getUint32(DESC.LEN, true);
      const flags = descriptor.getUint16(DESC.FLAGS, true);
      if (flags & DESC_F.INDIRECT) return this.#followIndirect(walk, pa, length, flags);
      this.#addSegment(walk, pa, length, flags);
      if (!(flags & DESC_F.NEXT)) return;
      index = descriptor.getUint16(DESC.NEXT, true);
      if (index >= walk.count) throw new VirtioError("descriptor number out of range");
    }
    throw new VirtioError("descriptor chain loops");
  }

  #followIndirect(walk: Walk, table: number, bytes: number, flags: number): void {
    const allowed = this.features().indirect && !walk.indirect && !(flags & DESC_F.NEXT);
    if (!allowed) throw new VirtioError("indirect descriptor not allowed");
    const valid = bytes > 0 && bytes % DESC.SIZE === 0 && bytes / DESC.SIZE <= MAX_INDIRECT;
    if (!valid || !this.ram.has(table, bytes)) throw new VirtioError("bad indirect table");
    this.#follow({ ...walk, table, count: bytes / DESC.SIZE, indirect: true }, 0);
  }

  #addSegment(walk: Walk, pa: number, length: number, flags: number): void {
    const { readable, writable } = walk;
    if (length === 0) throw new VirtioError("empty buffer");
    walk.sum.bytes += length;
    if (walk.sum.bytes > MAX_CHAIN_BYTES) throw new VirtioError("chain too long");
    if (!this.ram.has(pa, length)) throw new VirtioError("buffer outside memory");
    if (flags & DESC_F.WRITE) writable.push({ pa, length });
    else if (writable.length > 0) throw new VirtioError("readable buffer behind a writable one");
    else readable.push({ pa, length });
  }

  /** Gives a chain back, of which the device has written the first `written` bytes of what is writable. */
  push({ head }: Chain, written: number): void {
    const { state, ram } = this;
    const at = this.#used + USED.RING + USED.ELEMENT * (state.usedIdx % state.num);
    ram.st32(at, head);
    ram.st32(at + 4, written);
    state.usedIdx = (state.usedIdx + 1) & 0xffff;
    // Last: the driver may look at the element once the index covers it.
    ram.st16(this.#used + USED.IDX, state.usedIdx);
  }

  /** Whether the driver wants to be told of what was given back since it was told last. */
  takeSignal(): boolean {
    const { state, ram } = this;
    const { usedIdx, signalled, num } = state;
    if (usedIdx === signalled) return false;
    state.signalled = usedIdx;
    if (!this.features().eventIdx) {
      return !(ram.ld16(this.#avail + AVAIL.FLAGS) & AVAIL_F_NO_INTERRUPT);
    }
    return needEvent(ram.ld16(this.#avail + AVAIL.RING + 2 * num), usedIdx, signalled);
  }

  /** The bytes of some pieces, `most` at most. */
  gather(segments: readonly Segment[], most: number = Infinity): Uint8Array {
    const bytes = new Uint8Array(Math.min(most, lengthOf(segments)));
    let done = 0;
    for (const { pa, length } of segments) {
      const part = bytes.subarray(done, done + length);
      this.ram.read(pa, part);
      done += part.length;
    }
    return bytes;
  }

  /** Writes bytes into some pieces, from byte `from` of them on; how many there was room for. */
  scatter(segments: readonly Segment[], bytes: Uint8Array, from = 0): number {
    let skip = from;
    let done = 0;
    for (const { pa, length } of segments) {
      const here = Math.min(skip, length);
      skip -= here;
      const part = bytes.subarray(done, done + length - here);
      if (part.length > 0) this.ram.write(pa + here, part);
      done += part.length;
    }
    return done;
  }
}

/** What went wrong when `error` is the guest's doing; undefined for everything else. */
export function faultOf(error: unknown): VirtioFault | undefined {
  if (error instanceof VirtioError) return error.fault;
  return error instanceof NotGuestRam ? "buffer outside memory" : undefined;
}
