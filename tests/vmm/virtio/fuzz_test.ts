/** Drivers that write anything anywhere: no device ever throws, writes outside its buffers, or hangs. */
import fc from "fast-check";
import assert from "node:assert/strict";
import { SharedMemory } from "../../../src/base/memory.ts";
import { VirtioBlock } from "../../../src/vmm/virtio/block.ts";
import { VirtioConsole } from "../../../src/vmm/virtio/console.ts";
import { type DiskImage, OverlaidDisk, overlaySize } from "../../../src/vmm/virtio/disk.ts";
import { ECHO_PEER } from "../../../src/vmm/virtio/echo_peer.ts";
import { VirtioNet } from "../../../src/vmm/virtio/net.ts";
import { VirtioRng, VirtioRngLayout } from "../../../src/vmm/virtio/rng.ts";
import { VIRTIO_STATUS } from "../../../src/vmm/virtio/mmio_transport.ts";
import { type DeviceRig, RAM_BASE, RAM_SIZE } from "../device_rig.ts";
import { Driver, place } from "./driver.ts";

const IMAGE: DiskImage = { size: 1 << 16, read: (_, into) => void into.fill(7) };

const DEVICES = {
  entropy: ({ arena }: DeviceRig) => new VirtioRng(arena.make(VirtioRngLayout)),
  console: () => new VirtioConsole(() => {}),
  net: () => new VirtioNet(ECHO_PEER),
  block: () => {
    const memory = SharedMemory.create(4096 + overlaySize(IMAGE.size));
    return new VirtioBlock(new OverlaidDisk(memory, 4096, IMAGE), "fuzz");
  },
};

const address = fc.oneof(
  fc.integer({ min: RAM_BASE, max: RAM_BASE + RAM_SIZE + 16 }),
  fc.constantFrom(0, RAM_BASE - 1, RAM_BASE + RAM_SIZE - 1, 2 ** 40, 2 ** 63, 2 ** 64 - 2048),
);
const length = fc.oneof(
  fc.integer({ min: 0, max: 2000 }),
  fc.constantFrom(1, 16, 512, 0xffff_ffff, 0x8000_0000, 1 << 26),
);
const descriptor = fc.record({
  pa: address,
  length,
  flags: fc.integer({ min: 0, max: 7 }),
  next: fc.oneof(fc.integer({ min: 0, max: 7 }), fc.constant(65535)),
});
const step = fc.record({
  table: fc.array(descriptor, { minLength: 8, maxLength: 8 }),
  heads: fc.array(fc.integer({ min: 0, max: 9 }), { minLength: 1, maxLength: 10 }),
  queue: fc.integer({ min: 0, max: 1 }),
  register: fc.tuple(fc.integer({ min: 0, max: 0x180 }), fc.integer({ min: 0, max: 0xffff_ffff })),
});

for (const [name, make] of Object.entries(DEVICES)) {
  Deno.test(`${name}: a driver that writes anything anywhere`, () => {
    fc.assert(
      fc.property(fc.array(step, { minLength: 1, maxLength: 5 }), fc.boolean(), (steps, touch) => {
        const driver = new Driver(make, { features: 0x3000_0000 }).start();
        for (const { table, heads, queue, register } of steps) {
          table.forEach((d, i) => driver.writeDescriptor(place(queue).desc, i, d));
          for (const head of heads) if (driver.transport.queues[queue]) driver.offer(queue, head);
          if (touch) driver.wr(register[0] & ~3, register[1]);
          driver.kick(queue);
          if (driver.faults.length > 0) break;
        }
        if (driver.faults.length > 0) {
          assert.ok(driver.status & VIRTIO_STATUS.NEEDS_RESET);
          driver.start();
          assert.equal(driver.status & VIRTIO_STATUS.NEEDS_RESET, 0);
        }
      }),
      { numRuns: 300 },
    );
  });
}
