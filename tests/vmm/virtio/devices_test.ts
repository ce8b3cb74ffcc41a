/** Entropy, console and block devices by a driver. */
import assert from "node:assert/strict";
import { VIRTIO_BLK_S as S, VirtioBlock } from "../../../src/vmm/virtio/block.ts";
import { VirtioConsole } from "../../../src/vmm/virtio/console.ts";
import {
  CLUSTER,
  type DiskImage,
  OverlaidDisk,
  overlaySize,
  ReadOnlyDisk,
} from "../../../src/vmm/virtio/disk.ts";
import { VIRTIO_MMIO as REG } from "../../../src/vmm/virtio/mmio_transport.ts";
import { VirtioRng, VirtioRngLayout } from "../../../src/vmm/virtio/rng.ts";
import { SharedMemory } from "../../../src/base/memory.ts";
import { UserError } from "../../../src/base/errors.ts";
import { Driver } from "./driver.ts";

// Entropy

function rng(seed: number): Driver {
  return new Driver(({ arena }) => {
    const device = new VirtioRng(arena.make(VirtioRngLayout));
    device.seed(seed);
    return device;
  }).start();
}

Deno.test("entropy: a seed's bytes are the same in every run, another seed's are others", () => {
  const read = (seed: number) => rng(seed).request(0, { in: [5, 64, 1] });
  assert.deepEqual(read(1), read(1));
  assert.notDeepEqual(read(1).bytes, read(2).bytes);
  assert.equal(read(1).written, 70);
});

Deno.test("entropy: successive reads go on in the sequence, whatever their sizes", () => {
  const whole = rng(3).request(0, { in: [16] }).bytes;
  const driver = rng(3);
  const parts = [driver.request(0, { in: [4] }), driver.request(0, { in: [12] })];
  assert.deepEqual(parts.flatMap(({ bytes }) => [...bytes]), [...whole]);
});

Deno.test("entropy: no byte is far from as frequent as the others; a huge buffer is filled in part", () => {
  const { bytes, written } = rng(9).request(0, { in: [100_000] });
  assert.equal(written, 4096);
  const counts = new Array<number>(256).fill(0);
  for (const byte of bytes.subarray(0, written)) counts[byte] = (counts[byte] ?? 0) + 1;
  assert.ok(Math.max(...counts) < 40 && Math.min(...counts) > 2);
});

// Console

function consoleBench() {
  let output = "";
  const device = new VirtioConsole((byte) => output += String.fromCharCode(byte));
  const driver = new Driver(() => device);
  const { queues } = driver.transport;
  return { device, driver, queues, text: () => output };
}

Deno.test("console: what the driver transmits comes out in order", () => {
  const { driver, text } = consoleBench();
  driver.start();
  const piece = (s: string) => new TextEncoder().encode(s);
  driver.request(1, { out: [piece("Hello, "), piece("world")] });
  driver.request(1, { out: [piece("\r\n")] });
  assert.equal(text(), "Hello, world\r\n");
});

Deno.test("console: characters come out before the driver is set up, by the emergency write", () => {
  const { driver, text } = consoleBench();
  driver.wr(REG.Config + 8, 0x41);
  driver.transport.write(REG.Config + 8, 1, 0x42);
  assert.equal(text(), "AB");
});

Deno.test("console: input goes to one buffer after the other, never more than there is room for", () => {
  const { device, driver, queues } = consoleBench();
  driver.start();
  assert.equal(device.room(queues), 0);
  driver.add(0, { in: [3] }, 0);
  driver.add(0, { in: [10] }, 1);
  assert.equal(device.room(queues), 3);
  const bytes = new TextEncoder().encode("abcdefg");
  const give = (from: number) => device.receive(queues, bytes.subarray(from));
  driver.transport.run(() => assert.equal(give(0), 3));
  assert.deepEqual(driver.levels, [true]);
  assert.equal(device.room(queues), 10);
  driver.transport.run(() => assert.equal(give(3), 4));
  assert.deepEqual([driver.usedElement(0, 0), driver.usedElement(0, 1)], [[0, 3], [1, 4]]);
  driver.transport.run(() => assert.equal(give(0), 0));
});

// Block

const SECTORS = 64;
const IMAGE_BYTES = Uint8Array.from({ length: 512 * SECTORS - 100 }, (_, i) => (i >> 3) % 256);

const IMAGE: DiskImage = {
  size: IMAGE_BYTES.length,
  read: (offset, into) => {
    into.fill(0);
    into.set(IMAGE_BYTES.subarray(offset, offset + into.length));
  },
};

function overlaid(image: DiskImage = IMAGE): OverlaidDisk {
  return new OverlaidDisk(SharedMemory.create(4096 + overlaySize(image.size)), 4096, image);
}

function block(disk: ReadOnlyDisk | OverlaidDisk): Driver {
  return new Driver(() => new VirtioBlock(disk, "serial")).start();
}

const TYPE = { IN: 0, OUT: 1, FLUSH: 4, GET_ID: 8, DISCARD: 11, WRITE_ZEROES: 13 };

function header(type: number, sector: number): Uint8Array {
  const view = new DataView(new ArrayBuffer(16));
  view.setUint32(0, type, true);
  view.setBigUint64(8, BigInt(sector), true);
  return new Uint8Array(view.buffer);
}

/** One request; its data and its status. */
function ask(driver: Driver, type: number, sector: number, out: Uint8Array[], length = 0) {
  const pieces = length > 0 ? [length, 1] : [1];
  const { bytes, written } = driver.request(0, { out: [header(type, sector), ...out], in: pieces });
  return { data: bytes.subarray(0, length), status: bytes[length], written };
}

function range(sector: number, count: number, flags = 0): Uint8Array {
  const view = new DataView(new ArrayBuffer(16));
  view.setBigUint64(0, BigInt(sector), true);
  view.setUint32(8, count, true);
  view.setUint32(12, flags, true);
  return new Uint8Array(view.buffer);
}

Deno.test("block: capacity, and a last sector filled up with zeros", () => {
  const driver = block(overlaid());
  assert.equal(driver.rd(REG.Config), SECTORS);
  assert.equal(driver.rd(REG.Config + 20), 512);
  const { data, status } = ask(driver, TYPE.IN, SECTORS - 1, [], 512);
  assert.equal(status, S.OK);
  assert.deepEqual(data.subarray(0, 412), IMAGE_BYTES.subarray(512 * (SECTORS - 1)));
  assert.deepEqual(data.subarray(412), new Uint8Array(100));
});

Deno.test("block: reads what was written, elsewhere what the image has; the image stays", () => {
  const disk = overlaid();
  const driver = block(disk);
  const before = IMAGE_BYTES.slice();
  const bytes = new Uint8Array(1024).fill(0xaa);
  assert.equal(ask(driver, TYPE.OUT, 7, [bytes.subarray(0, 1), bytes.subarray(1)]).status, S.OK);
  const { data, written } = ask(driver, TYPE.IN, 6, [], 2048);
  assert.equal(written, 2049);
  const expected = IMAGE_BYTES.slice(6 * 512, 10 * 512);
  expected.set(bytes, 512);
  assert.deepEqual(data, expected);
  assert.deepEqual(IMAGE_BYTES, before);
  assert.equal(disk.written, 2, "sectors 7 and 8 lie in two clusters");
  assert.equal(ask(driver, TYPE.FLUSH, 0, []).status, S.OK);
});

Deno.test("block: header, data and status may lie in any pieces", () => {
  const driver = block(overlaid());
  const head = header(TYPE.IN, 3);
  const out = [head.subarray(0, 5), head.subarray(5)];
  const { bytes, written } = driver.request(0, { out, in: [500, 13] });
  assert.deepEqual(bytes.subarray(0, 512), IMAGE_BYTES.subarray(3 * 512, 4 * 512));
  assert.equal(bytes[512], S.OK);
  assert.equal(written, 513);
});

Deno.test("block: what lies beyond the disk or is no whole sector fails", () => {
  const driver = block(overlaid());
  for (const [sector, length] of [[SECTORS, 512], [SECTORS - 1, 1024], [0, 100], [2 ** 52, 512]]) {
    const at = sector as number;
    assert.equal(ask(driver, TYPE.IN, at, [], length).status, S.IOERR, `read ${sector}`);
    const bytes = new Uint8Array(length as number);
    assert.equal(ask(driver, TYPE.OUT, at, [bytes]).status, S.IOERR, `write ${sector}`);
  }
  assert.equal(ask(driver, 77, 0, [], 512).status, S.UNSUPP);
});

Deno.test("block: GET_ID", () => {
  const { data, status } = ask(block(overlaid()), TYPE.GET_ID, 0, [], 20);
  assert.equal(status, S.OK);
  assert.equal(new TextDecoder().decode(data).replace(/\0+$/, ""), "serial");
});

Deno.test("block: DISCARD and WRITE_ZEROES leave zeros", () => {
  const driver = block(overlaid());
  assert.equal(ask(driver, TYPE.DISCARD, 0, [range(1, 2), range(20, 1)]).status, S.OK);
  assert.equal(ask(driver, TYPE.WRITE_ZEROES, 0, [range(4, 1, 1)]).status, S.OK);
  for (const sector of [1, 2, 4, 20]) {
    assert.deepEqual(ask(driver, TYPE.IN, sector, [], 512).data, new Uint8Array(512));
  }
  const kept = ask(driver, TYPE.IN, 3, [], 512).data;
  assert.deepEqual(kept, IMAGE_BYTES.subarray(3 * 512, 4 * 512));
  assert.equal(ask(driver, TYPE.DISCARD, 0, [range(1, 1, 1)]).status, S.UNSUPP);
  assert.equal(ask(driver, TYPE.WRITE_ZEROES, 0, [range(SECTORS, 1)]).status, S.IOERR);
  assert.equal(ask(driver, TYPE.DISCARD, 0, [new Uint8Array(10)]).status, S.IOERR);
});

Deno.test("block: a read-only disk says so and takes no writes", () => {
  const driver = block(new ReadOnlyDisk(IMAGE));
  const features = driver.rd(REG.DeviceFeatures);
  assert.equal(features & (1 << 5), 1 << 5);
  assert.equal(features & (1 << 13 | 1 << 14), 0);
  assert.equal(ask(driver, TYPE.OUT, 0, [new Uint8Array(512)]).status, S.IOERR);
  assert.equal(ask(driver, TYPE.DISCARD, 0, [range(0, 1)]).status, S.UNSUPP);
  assert.deepEqual(ask(driver, TYPE.IN, 0, [], 512).data, IMAGE_BYTES.subarray(0, 512));
});

Deno.test("block: a host that cannot read its file is an I/O error", () => {
  const gone: DiskImage = {
    size: 4096,
    read: () => {
      throw new UserError("gone");
    },
  };
  assert.equal(ask(block(new ReadOnlyDisk(gone)), TYPE.IN, 0, [], 512).status, S.IOERR);
  assert.equal(ask(block(overlaid(gone)), TYPE.OUT, 0, [new Uint8Array(512)]).status, S.IOERR);
});

Deno.test("block: requests without a header or without room for a status break the device", () => {
  for (
    const [request, fault] of [
      [{ out: [new Uint8Array(8)], in: [1] }, "request without a header"],
      [{ out: [header(TYPE.FLUSH, 0)] }, "request without room for its status"],
    ] as const
  ) {
    const driver = block(overlaid());
    driver.add(0, request);
    driver.kick(0);
    assert.deepEqual(driver.faults, [fault]);
  }
});

Deno.test("a disk larger than what may be written over it takes writes until that is full", () => {
  const size = 1 << 30;
  const image: DiskImage = { size, read: (_, into) => void into.fill(0x11) };
  assert.ok(overlaySize(size) < size / 4);
  const disk = overlaid(image);
  const bytes = new Uint8Array(1 << 20);
  let taken = 0;
  while (taken < size && disk.write(taken, bytes)) taken += bytes.length;
  assert.equal(taken, 128 << 20);
  const back = new Uint8Array(2 * CLUSTER);
  disk.read(taken - CLUSTER, back);
  assert.deepEqual([back[0], back[CLUSTER - 1], back[CLUSTER]], [0, 0, 0x11]);
  assert.ok(disk.write(0, bytes), "a place written before still takes writes");
});
