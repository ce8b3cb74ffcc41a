import assert from "node:assert/strict";
import { EmptyVirtioWindow } from "../../src/vmm/empty_window.ts";
import { VIRTIO_MMIO_SLOT_SIZE, VIRTIO_MMIO_SLOTS } from "../../src/vmm/virt_map.ts";

Deno.test("a driver that probes finds a transport without a device in each slot", () => {
  const window = new EmptyVirtioWindow();
  for (let slot = 0; slot < VIRTIO_MMIO_SLOTS; slot++) {
    const base = slot * VIRTIO_MMIO_SLOT_SIZE;
    const words = [0, 4, 8, 0xc].map((offset) => window.read(base + offset, 4));
    assert.deepEqual(words, [0x74726976, 2, 0, 0x554d4551]);
  }
});

Deno.test("all other registers read as zero, bytes are parts of the words", () => {
  const window = new EmptyVirtioWindow();
  for (let offset = 0x10; offset < VIRTIO_MMIO_SLOT_SIZE; offset += 4) {
    assert.equal(window.read(0x200 + offset, 4), 0);
  }
  const magic = [0, 1, 2, 3].map((offset) => String.fromCharCode(window.read(offset, 1)));
  assert.equal(magic.join(""), "virt");
});

Deno.test("writes change nothing", () => {
  const window = new EmptyVirtioWindow();
  for (let offset = 0; offset < VIRTIO_MMIO_SLOT_SIZE; offset += 4) window.write(offset, 4, 0xffff);
  assert.equal(window.read(0, 4), 0x74726976);
  assert.equal(window.read(8, 4), 0);
  assert.equal(window.read(0x70, 4), 0);
});
