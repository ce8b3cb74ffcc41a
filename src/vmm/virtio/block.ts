/**
 * The block device (Virtio 1.2, section 5.2). Requests are carried out at once, so that FLUSH has
 * nothing left to do.
 */
import { UserError } from "../../base/errors.ts";
import { type Disk, sectorsOf } from "./disk.ts";
import type { VirtioDevice } from "./mmio_transport.ts";
import { type Chain, lengthOf, VirtioError, type Virtqueue } from "./virtqueue.ts";

const SECTOR = 512;
const F = {
  SEG_MAX: 1 << 2,
  RO: 1 << 5,
  BLK_SIZE: 1 << 6,
  FLUSH: 1 << 9,
  DISCARD: 1 << 13,
  WRITE_ZEROES: 1 << 14,
} as const;
const TYPE = { IN: 0, OUT: 1, FLUSH: 4, GET_ID: 8, DISCARD: 11, WRITE_ZEROES: 13 } as const;
/** What a request's last byte says. */
export const VIRTIO_BLK_S = { OK: 0, IOERR: 1, UNSUPP: 2 } as const;
const HEADER = 16;
const ID_BYTES = 20;
const CONFIG_SIZE = 60;
/** Pieces of a request besides header and status. */
const SEG_MAX = 254;
/** Sectors and ranges of one DISCARD or WRITE_ZEROES. */
const MAX_ZERO_SECTORS = 1 << 13;
const MAX_ZERO_RANGES = 16;
const RANGE = 16;
const UNMAP = 1;

/** A request's answer: its status and the bytes written before it. */
interface Answer {
  readonly status: number;
  readonly written: number;
}
const answer = (status: number, written = 0): Answer => ({ status, written });
const IOERR = answer(VIRTIO_BLK_S.IOERR);
const UNSUPP = answer(VIRTIO_BLK_S.UNSUPP);

/** The device; `id` is what GET_ID tells, up to 20 ASCII characters. It has no state of its own. */
export class VirtioBlock implements VirtioDevice {
  readonly id = 2;
  readonly queueCount = 1;
  readonly features: number;
  readonly sectors: number;

  constructor(readonly disk: Disk, readonly serial: string) {
    this.sectors = sectorsOf(disk.size);
    const writing = disk.readOnly ? F.RO : F.DISCARD | F.WRITE_ZEROES;
    this.features = F.SEG_MAX | F.BLK_SIZE | F.FLUSH | writing;
  }

  config(): Uint8Array {
    const bytes = new Uint8Array(CONFIG_SIZE);
    const view = new DataView(bytes.buffer);
    view.setBigUint64(0, BigInt(this.sectors), true);
    view.setUint32(12, SEG_MAX, true);
    view.setUint32(20, SECTOR, true);
    if (this.disk.readOnly) return bytes;
    view.setUint32(36, MAX_ZERO_SECTORS, true);
    view.setUint32(40, MAX_ZERO_RANGES, true);
    view.setUint32(44, 1, true);
    view.setUint32(48, MAX_ZERO_SECTORS, true);
    view.setUint32(52, MAX_ZERO_RANGES, true);
    return bytes;
  }

  notify([queue]: readonly Virtqueue[]): void {
    for (let chain = queue?.pop(); queue && chain; chain = queue.pop()) this.#request(queue, chain);
  }

  /** The status goes into the last writable byte, wherever the pieces end (section 2.7.4). */
  #request(queue: Virtqueue, chain: Chain): void {
    const room = lengthOf(chain.writable) - 1;
    if (lengthOf(chain.readable) < HEADER) throw new VirtioError("request without a header");
    if (room < 0) throw new VirtioError("request without room for its status");
    const { status, written } = this.#attempt(queue, chain, room);
    queue.scatter(chain.writable, Uint8Array.of(status), room);
    // What is told as written counts from the start: with a gap before the status, only what lies before.
    queue.push(chain, written === room ? written + 1 : written);
  }

  #attempt(queue: Virtqueue, chain: Chain, room: number): Answer {
    try {
      return this.#carryOut(queue, chain, room);
    } catch (error) {
      // The host cannot read the file any more.
      if (error instanceof UserError) return IOERR;
      throw error;
    }
  }

  #carryOut(queue: Virtqueue, chain: Chain, room: number): Answer {
    const bytes = queue.gather(chain.readable);
    const view = new DataView(bytes.buffer);
    const data = bytes.subarray(HEADER);
    const sector = view.getUint32(8, true) + view.getUint32(12, true) * 2 ** 32;
    switch (view.getUint32(0, true)) {
      case TYPE.IN:
        return this.#read(queue, chain, sector, room);
      case TYPE.OUT:
        return this.#write(sector, data);
      case TYPE.FLUSH:
        return answer(VIRTIO_BLK_S.OK);
      case TYPE.GET_ID:
        return this.#getId(queue, chain, room);
      case TYPE.DISCARD:
      case TYPE.WRITE_ZEROES:
        return this.#zero(data, view.getUint32(0, true));
      default:
        return UNSUPP;
    }
  }

  /** Whether whole sectors of the disk are meant. */
  #valid(sector: number, bytes: number): boolean {
    return bytes % SECTOR === 0 && sector + bytes / SECTOR <= this.sectors;
  }

  #read(queue: Virtqueue, chain: Chain, sector: number, length: number): Answer {
    if (!this.#valid(sector, length)) return IOERR;
    const bytes = new Uint8Array(length);
    this.disk.read(sector * SECTOR, bytes);
    return answer(VIRTIO_BLK_S.OK, queue.scatter(chain.writable, bytes));
  }

  #write(sector: number, data: Uint8Array): Answer {
    if (!this.#valid(sector, data.length)) return IOERR;
    return this.disk.write(sector * SECTOR, data) ? answer(VIRTIO_BLK_S.OK) : IOERR;
  }

  #getId(queue: Virtqueue, chain: Chain, room: number): Answer {
    if (room < ID_BYTES) return IOERR;
    const bytes = new Uint8Array(ID_BYTES);
    bytes.set(new TextEncoder().encode(this.serial).subarray(0, ID_BYTES));
    return answer(VIRTIO_BLK_S.OK, queue.scatter(chain.writable, bytes));
  }

  /** DISCARD and WRITE_ZEROES: ranges of sectors that read as zeros from now on. */
  #zero(data: Uint8Array, type: number): Answer {
    if (this.disk.readOnly) return UNSUPP;
    if (data.length === 0 || data.length % RANGE || data.length > MAX_ZERO_RANGES * RANGE) {
      return IOERR;
    }
    const view = new DataView(data.buffer, data.byteOffset, data.length);
    for (let at = 0; at < data.length; at += RANGE) {
      const sector = view.getUint32(at, true) + view.getUint32(at + 4, true) * 2 ** 32;
      const count = view.getUint32(at + 8, true);
      const flags = view.getUint32(at + 12, true);
      // A discard may unmap by its nature; the bit is reserved there, and so are all others.
      if (flags & ~UNMAP || (type === TYPE.DISCARD && flags !== 0)) return UNSUPP;
      if (count > MAX_ZERO_SECTORS) return IOERR;
      const { status } = this.#write(sector, new Uint8Array(count * SECTOR));
      if (status !== VIRTIO_BLK_S.OK) return IOERR;
    }
    return answer(VIRTIO_BLK_S.OK);
  }
}
