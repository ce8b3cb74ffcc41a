/** A virtio driver in the test: sets a device up by its registers and builds its queues by hand. */
import assert from "node:assert/strict";
import type { VirtioFault } from "../../../src/trace/tracepoints.ts";
import {
  VIRTIO_MMIO as REG,
  VIRTIO_STATUS as STATUS,
  type VirtioDevice,
  VirtioMmio,
  VirtioMmioLayout,
} from "../../../src/vmm/virtio/mmio_transport.ts";
import { bytesAt, type DeviceRig, deviceRig, RAM_BASE } from "../device_rig.ts";

/** Where queue `n` has its parts, and where buffers may go. */
export const place = (n: number) => ({
  desc: RAM_BASE + 0x1_0000 * (n + 1),
  avail: RAM_BASE + 0x1_0000 * (n + 1) + 0x4000,
  used: RAM_BASE + 0x1_0000 * (n + 1) + 0x8000,
});
const BUFFERS = RAM_BASE + 0x10_0000;

/** A descriptor as it lies in memory. */
export interface Descriptor {
  readonly pa: number;
  readonly length: number;
  readonly flags: number;
  readonly next: number;
}
export const F = { NEXT: 1, WRITE: 2, INDIRECT: 4 } as const;

/** What a request is made of: bytes to be read, then lengths to be written. */
export interface Request {
  readonly out?: readonly Uint8Array[];
  readonly in?: readonly number[];
  readonly indirect?: boolean;
}

/** What came back: bytes of the writable pieces and the length that the device tells. */
export interface Reply {
  readonly bytes: Uint8Array;
  readonly written: number;
}

export interface DriverOptions {
  readonly queueSize?: number;
  /** Feature bits 0 to 31 to accept. */
  readonly features?: number;
}

/** A device behind its transport, with a driver. */
export class Driver {
  readonly rig: DeviceRig = deviceRig();
  readonly transport: VirtioMmio;
  readonly levels: boolean[] = [];
  readonly faults: VirtioFault[] = [];
  readonly size: number;
  readonly #next: number[];
  #free = BUFFERS;

  constructor(
    make: (rig: DeviceRig) => VirtioDevice,
    readonly options: DriverOptions = {},
  ) {
    this.size = options.queueSize ?? 8;
    const device = make(this.rig);
    this.#next = Array.from({ length: device.queueCount }, () => 0);
    this.transport = new VirtioMmio(
      this.rig.arena.make(VirtioMmioLayout),
      device,
      this.rig.ram,
      {
        setIrq: (level) => this.levels.push(level),
        broken: (_, fault) => this.faults.push(fault),
      },
    );
    this.transport.reset();
  }

  rd(offset: number): number {
    return this.transport.read(offset, 4);
  }
  wr(offset: number, value: number): void {
    this.transport.write(offset, 4, value);
  }
  get status(): number {
    return this.rd(REG.Status);
  }

  /** Section 3.1.1, up to FEATURES_OK. */
  negotiate(): void {
    this.wr(REG.Status, 0);
    this.wr(REG.Status, STATUS.ACKNOWLEDGE);
    this.wr(REG.Status, STATUS.ACKNOWLEDGE | STATUS.DRIVER);
    this.wr(REG.DriverFeaturesSel, 0);
    this.wr(REG.DriverFeatures, this.options.features ?? 0);
    this.wr(REG.DriverFeaturesSel, 1);
    this.wr(REG.DriverFeatures, 1);
    this.wr(REG.Status, this.status | STATUS.FEATURES_OK);
  }

  setQueue(n: number, at = place(n), size = this.size): void {
    this.wr(REG.QueueSel, n);
    this.wr(REG.QueueNum, size);
    const parts = [
      [REG.QueueDescLow, at.desc],
      [REG.QueueDriverLow, at.avail],
      [REG.QueueDeviceLow, at.used],
    ] as const;
    for (const [low, pa] of parts) {
      this.wr(low, pa % 2 ** 32);
      this.wr(low + 4, Math.floor(pa / 2 ** 32));
    }
    this.wr(REG.QueueReady, 1);
  }

  /** The whole of section 3.1.1. */
  start(): this {
    this.negotiate();
    assert.ok(this.status & STATUS.FEATURES_OK);
    for (const n of this.#next.keys()) this.setQueue(n);
    this.wr(REG.Status, this.status | STATUS.DRIVER_OK);
    return this;
  }

  /** Guest memory for a buffer of the driver. */
  buffer(length: number): number {
    const pa = this.#free;
    this.#free += length;
    return pa;
  }

  writeDescriptor(table: number, n: number, { pa, length, flags, next }: Descriptor): void {
    const bytes = new DataView(new ArrayBuffer(16));
    bytes.setBigUint64(0, BigInt(pa), true);
    bytes.setUint32(8, length, true);
    bytes.setUint16(12, flags, true);
    bytes.setUint16(14, next, true);
    this.rig.ram.write(table + 16 * n, new Uint8Array(bytes.buffer));
  }

  /** Makes the chain that starts at descriptor `head` available, without a kick. */
  offer(queue: number, head: number): void {
    const { ram } = this.rig;
    const { avail } = place(queue);
    const idx = this.#next[queue] as number;
    ram.st16(avail + 4 + 2 * (idx % this.size), head);
    this.#next[queue] = (idx + 1) & 0xffff;
    ram.st16(avail + 2, (idx + 1) & 0xffff);
  }

  kick(queue: number): void {
    this.wr(REG.QueueNotify, queue);
  }

  /** Builds a request from descriptor `first` on and makes it available; its writable pieces. */
  add(queue: number, request: Request, first = 0): { pa: number; length: number }[] {
    const out = (request.out ?? []).map((bytes) => {
      const pa = this.buffer(bytes.length);
      this.rig.ram.write(pa, bytes);
      return { pa, length: bytes.length, flags: 0 };
    });
    const into = (request.in ?? []).map((length) => ({
      pa: this.buffer(length),
      length,
      flags: F.WRITE,
    }));
    const pieces = [...out, ...into];
    const table = request.indirect ? this.buffer(16 * pieces.length) : place(queue).desc;
    const base = request.indirect ? 0 : first;
    pieces.forEach((piece, i) => {
      const more = i < pieces.length - 1 ? F.NEXT : 0;
      this.writeDescriptor(table, base + i, {
        ...piece,
        flags: piece.flags | more,
        next: more ? base + i + 1 : 0,
      });
    });
    if (request.indirect) {
      const length = 16 * pieces.length;
      this.writeDescriptor(place(queue).desc, first, {
        pa: table,
        length,
        flags: F.INDIRECT,
        next: 0,
      });
    }
    this.offer(queue, first);
    return into;
  }

  /** Entries of the used ring so far, modulo 2^16. */
  used(queue: number): number {
    return this.rig.ram.ld16(place(queue).used + 2);
  }
  /** The `n`-th used element: chain and length. */
  usedElement(queue: number, n: number): [id: number, length: number] {
    const at = place(queue).used + 4 + 8 * (n % this.size);
    return [this.rig.ram.ld32(at), this.rig.ram.ld32(at + 4)];
  }

  /** Sends one request and returns what came back. */
  request(queue: number, request: Request): Reply {
    const before = this.used(queue);
    const into = this.add(queue, request);
    this.kick(queue);
    assert.equal(this.used(queue), (before + 1) & 0xffff, "the request came back");
    const [id, written] = this.usedElement(queue, before);
    assert.equal(id, 0);
    const bytes = into.flatMap(({ pa, length }) => [...bytesAt(this.rig.ram, pa, length)]);
    return { bytes: Uint8Array.from(bytes), written };
  }

  /** Reads and acknowledges the interrupt status. */
  acknowledge(): number {
    const status = this.rd(REG.InterruptStatus);
    this.wr(REG.InterruptACK, status);
    return status;
  }
}
