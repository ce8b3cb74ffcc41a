import assert from "node:assert/strict";
import {
  VIRTIO_F_EVENT_IDX,
  VIRTIO_F_INDIRECT_DESC,
  VIRTIO_INT,
  VIRTIO_MMIO as REG,
  VIRTIO_STATUS as STATUS,
  type VirtioDevice,
} from "../../../src/vmm/virtio/mmio_transport.ts";
import { QUEUE_NUM_MAX, type Virtqueue } from "../../../src/vmm/virtio/virtqueue.ts";
import { RAM_BASE, RAM_SIZE } from "../device_rig.ts";
import { Driver, F, place } from "./driver.ts";

/** Gives every chain back unchanged. */
class Mirror implements VirtioDevice {
  readonly id = 4;
  readonly queueCount = 1;
  readonly features = 1 << 3;
  config = () => Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8);
  notify([queue]: readonly Virtqueue[]): void {
    for (let chain = queue?.pop(); queue && chain; chain = queue.pop()) {
      const bytes = queue.gather(chain.readable);
      queue.push(chain, queue.scatter(chain.writable, bytes));
    }
  }
}
const mirror = (features = 0) => new Driver(() => new Mirror(), { features });
const TEXT = new TextEncoder().encode("twelve bytes");

Deno.test("a slot names itself, offers its features and shows its configuration", () => {
  const driver = mirror();
  assert.deepEqual([0, 4, 8, 12].map((r) => driver.rd(r)), [0x7472_6976, 2, 4, 0x554d_4551]);
  assert.equal(driver.rd(REG.DeviceFeatures), VIRTIO_F_EVENT_IDX | VIRTIO_F_INDIRECT_DESC | 8);
  driver.wr(REG.DeviceFeaturesSel, 1);
  assert.equal(driver.rd(REG.DeviceFeatures), 1, "VIRTIO_F_VERSION_1");
  driver.wr(REG.DeviceFeaturesSel, 2);
  assert.equal(driver.rd(REG.DeviceFeatures), 0);
  assert.equal(driver.rd(REG.QueueNumMax), QUEUE_NUM_MAX);
  driver.wr(REG.QueueSel, 1);
  assert.equal(driver.rd(REG.QueueNumMax), 0, "there is no second queue");
  assert.equal(driver.rd(REG.SHMLenLow), 0xffff_ffff);
  assert.equal(driver.transport.read(REG.Config + 1, 2), 0x0302);
  assert.equal(driver.transport.read(REG.Config + 6, 4), 0x0000_0807);
});

Deno.test("FEATURES_OK does not stick without VERSION_1 or with what was not offered", () => {
  for (const [lo, hi, ok] of [[0, 1, true], [0, 0, false], [1, 1, false], [8, 1, true]] as const) {
    const driver = mirror();
    driver.wr(REG.Status, STATUS.ACKNOWLEDGE | STATUS.DRIVER);
    driver.wr(REG.DriverFeatures, lo);
    driver.wr(REG.DriverFeaturesSel, 1);
    driver.wr(REG.DriverFeatures, hi);
    driver.wr(REG.Status, driver.status | STATUS.FEATURES_OK);
    assert.equal((driver.status & STATUS.FEATURES_OK) !== 0, ok, `${lo} ${hi}`);
  }
});

Deno.test("a request goes through direct and indirect descriptors in pieces", () => {
  for (const indirect of [false, true]) {
    const driver = mirror(VIRTIO_F_INDIRECT_DESC).start();
    const out = [TEXT.subarray(0, 1), TEXT.subarray(1, 5), TEXT.subarray(5)];
    const reply = driver.request(0, { out, in: [7, 10], indirect });
    assert.deepEqual(reply.bytes.subarray(0, 12), TEXT);
    assert.equal(reply.written, 12);
  }
});

Deno.test("the line is high from a used buffer to its acknowledgement", () => {
  const driver = mirror().start();
  driver.request(0, { out: [TEXT], in: [12] });
  assert.deepEqual(driver.levels, [true]);
  assert.equal(driver.rd(REG.InterruptStatus), VIRTIO_INT.USED);
  driver.wr(REG.InterruptACK, VIRTIO_INT.CONFIG);
  assert.deepEqual(driver.levels, [true]);
  assert.equal(driver.acknowledge(), VIRTIO_INT.USED);
  assert.deepEqual(driver.levels, [true, false]);
});

Deno.test("indices wrap at 2^16, the ring at its size", () => {
  const driver = mirror().start();
  const pa = driver.buffer(16);
  driver.writeDescriptor(place(0).desc, 3, { pa, length: 16, flags: F.WRITE, next: 0 });
  for (let n = 0; n < 0x1_0005; n++) {
    driver.offer(0, 3);
    driver.kick(0);
  }
  assert.equal(driver.used(0), 5);
  assert.deepEqual(driver.usedElement(0, 4), [3, 0]);
});

Deno.test("without event index VRING_AVAIL_F_NO_INTERRUPT keeps the line low", () => {
  const driver = mirror().start();
  driver.rig.ram.st16(place(0).avail, 1);
  driver.request(0, { out: [TEXT], in: [12] });
  assert.deepEqual(driver.levels, []);
  driver.rig.ram.st16(place(0).avail, 0);
  driver.request(0, { out: [TEXT], in: [12] });
  assert.deepEqual(driver.levels, [true]);
});

Deno.test("with event index the driver is told when used_event is passed, and tells when avail_event is", () => {
  const driver = mirror(VIRTIO_F_EVENT_IDX).start();
  const usedEvent = place(0).avail + 4 + 2 * driver.size;
  const availEvent = place(0).used + 4 + 8 * driver.size;
  driver.rig.ram.st16(usedEvent, 2);
  driver.rig.ram.st16(place(0).avail, 1);
  for (const expected of [[], [], [true]]) {
    driver.request(0, { out: [TEXT], in: [12] });
    assert.deepEqual(driver.levels, expected);
  }
  driver.acknowledge();
  driver.request(0, { out: [TEXT], in: [12] });
  assert.deepEqual(driver.levels, [true, false]);
  assert.equal(driver.rig.ram.ld16(availEvent), 4);
});

Deno.test("a reset forgets everything and lowers the line", () => {
  const driver = mirror(VIRTIO_F_INDIRECT_DESC).start();
  driver.request(0, { out: [TEXT], in: [12] });
  driver.wr(REG.Status, 0);
  assert.deepEqual(driver.levels, [true, false]);
  driver.wr(REG.QueueSel, 0);
  for (const r of [REG.Status, REG.InterruptStatus, REG.QueueReady]) assert.equal(driver.rd(r), 0);
  assert.equal(driver.transport.negotiated, 0);
});

Deno.test("before DRIVER_OK and without a ready queue a kick does nothing", () => {
  const driver = mirror();
  driver.negotiate();
  driver.setQueue(0);
  driver.add(0, { out: [TEXT], in: [12] });
  driver.kick(0);
  assert.equal(driver.used(0), 0);
  driver.wr(REG.Status, driver.status | STATUS.DRIVER_OK);
  driver.kick(1);
  driver.kick(0xffff_ffff);
  assert.equal(driver.used(0), 0);
  driver.kick(0);
  assert.equal(driver.used(0), 1);
});

Deno.test("queue addresses and size do not change while the queue is ready", () => {
  const driver = mirror().start();
  driver.wr(REG.QueueDescLow, 0);
  driver.wr(REG.QueueNum, 2);
  assert.equal(driver.request(0, { out: [TEXT], in: [12] }).written, 12);
});

/** A fault of the driver: what it does after the start, and what the device says of it. */
const FAULTS: readonly [string, (driver: Driver) => void][] = [
  ["avail index jumped", (d) => d.rig.ram.st16(place(0).avail + 2, d.size + 1)],
  ["descriptor number out of range", (d) => d.offer(0, d.size)],
  ["descriptor number out of range", (d) => {
    d.writeDescriptor(place(0).desc, 0, { pa: RAM_BASE, length: 1, flags: F.NEXT, next: 99 });
    d.offer(0, 0);
  }],
  ["descriptor chain loops", (d) => {
    const loop = { pa: RAM_BASE, length: 1, flags: F.NEXT };
    d.writeDescriptor(place(0).desc, 0, { ...loop, next: 1 });
    d.writeDescriptor(place(0).desc, 1, { ...loop, next: 0 });
    d.offer(0, 0);
  }],
  ["buffer outside memory", (d) => {
    const pa = RAM_BASE + RAM_SIZE - 4;
    d.writeDescriptor(place(0).desc, 0, { pa, length: 8, flags: 0, next: 0 });
    d.offer(0, 0);
  }],
  ["buffer outside memory", (d) => {
    const pa = 0xffff_ffff_ffff_f000;
    d.writeDescriptor(place(0).desc, 0, { pa, length: 0x2000, flags: F.WRITE, next: 0 });
    d.offer(0, 0);
  }],
  ["chain too long", (d) => {
    const pa = RAM_BASE;
    d.writeDescriptor(place(0).desc, 0, { pa, length: 0xffff_ffff, flags: F.WRITE, next: 0 });
    d.offer(0, 0);
  }],
  ["empty buffer", (d) => {
    d.writeDescriptor(place(0).desc, 0, { pa: RAM_BASE, length: 0, flags: 0, next: 0 });
    d.offer(0, 0);
  }],
  ["readable buffer behind a writable one", (d) => {
    const flags = F.WRITE | F.NEXT;
    d.writeDescriptor(place(0).desc, 0, { pa: RAM_BASE, length: 4, flags, next: 1 });
    d.writeDescriptor(place(0).desc, 1, { pa: RAM_BASE, length: 4, flags: 0, next: 0 });
    d.offer(0, 0);
  }],
  ["bad indirect table", (d) => {
    d.writeDescriptor(place(0).desc, 0, { pa: RAM_BASE, length: 24, flags: F.INDIRECT, next: 0 });
    d.offer(0, 0);
  }],
  ["bad indirect table", (d) => {
    d.writeDescriptor(place(0).desc, 0, { pa: 0, length: 16, flags: F.INDIRECT, next: 0 });
    d.offer(0, 0);
  }],
  ["indirect descriptor not allowed", (d) => {
    const flags = F.INDIRECT | F.NEXT;
    d.writeDescriptor(place(0).desc, 0, { pa: RAM_BASE, length: 16, flags, next: 1 });
    d.offer(0, 0);
  }],
  ["indirect descriptor not allowed", (d) => {
    const table = d.buffer(16);
    const indirect = { length: 16, flags: F.INDIRECT, next: 0 };
    d.writeDescriptor(table, 0, { pa: RAM_BASE, ...indirect });
    d.writeDescriptor(place(0).desc, 0, { pa: table, ...indirect });
    d.offer(0, 0);
  }],
];

FAULTS.forEach(([fault, act], n) => {
  Deno.test(`${fault} (${n}): the device needs a reset, says so, and works again after it`, () => {
    const driver = mirror(VIRTIO_F_INDIRECT_DESC).start();
    act(driver);
    driver.kick(0);
    assert.deepEqual(driver.faults, [fault]);
    assert.ok(driver.status & STATUS.NEEDS_RESET);
    assert.equal(driver.rd(REG.InterruptStatus), VIRTIO_INT.CONFIG);
    driver.kick(0);
    assert.equal(driver.faults.length, 1, "told once");
    assert.equal(driver.used(0), 0);
    driver.rig.ram.write(RAM_BASE, new Uint8Array(0x10_0000));
    const again = mirror().start();
    assert.equal(again.request(0, { out: [TEXT], in: [12] }).written, 12);
  });
});

const PLACES: readonly [string, Partial<ReturnType<typeof place>>, number][] = [
  ["bad queue size", {}, 0],
  ["bad queue size", {}, 6],
  ["bad queue size", {}, 2 * QUEUE_NUM_MAX],
  ["bad queue address", { desc: RAM_BASE + 8 }, 8],
  ["bad queue address", { avail: RAM_BASE + 1 }, 8],
  ["bad queue address", { used: RAM_BASE + 2 }, 8],
  ["bad queue address", { desc: 0 }, 8],
  ["bad queue address", { used: RAM_BASE + RAM_SIZE - 4 }, 8],
  ["bad queue address", { avail: 2 ** 63 }, 8],
];

PLACES.forEach(([fault, change, size], n) => {
  Deno.test(`${fault} (${n}): the queue does not become ready`, () => {
    const driver = mirror();
    driver.negotiate();
    driver.setQueue(0, { ...place(0), ...change }, size);
    assert.equal(driver.rd(REG.QueueReady), 0);
    assert.deepEqual(driver.faults, [fault]);
    assert.ok(driver.status & STATUS.NEEDS_RESET);
    driver.wr(REG.Status, 0);
    driver.start();
    assert.equal(driver.request(0, { out: [TEXT], in: [12] }).written, 12);
  });
});
