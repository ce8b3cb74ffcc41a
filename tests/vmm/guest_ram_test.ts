import assert from "node:assert/strict";
import { NotGuestRam } from "../../src/vmm/guest_ram.ts";
import { bytesAt, deviceRig, RAM_BASE, RAM_SIZE } from "./device_rig.ts";

const END = RAM_BASE + RAM_SIZE;

Deno.test("bytes across pages that are no neighbours read as they were written", () => {
  const { ram, written } = deviceRig();
  const bytes = Uint8Array.from({ length: 10_000 }, (_, i) => i % 251);
  ram.write(RAM_BASE + 4000, bytes);
  assert.deepEqual(bytesAt(ram, RAM_BASE + 4000, bytes.length), bytes);
  assert.deepEqual(written, [
    [RAM_BASE + 4000, 96],
    [RAM_BASE + 4096, 4096],
    [RAM_BASE + 8192, 4096],
    [RAM_BASE + 12288, 1712],
  ]);
});

Deno.test("what is not all guest memory is refused whole", () => {
  const { ram, written } = deviceRig();
  const bytes = new Uint8Array(8192).fill(1);
  for (const pa of [0, RAM_BASE - 1, END - 4096, END, 2 ** 53, 2 ** 64]) {
    assert.equal(ram.has(pa, 8192), false);
    assert.throws(() => ram.write(pa, bytes), NotGuestRam);
    assert.throws(() => ram.read(pa, bytes), NotGuestRam);
  }
  assert.deepEqual(written, []);
  assert.ok(ram.has(END - 8192, 8192));
  assert.throws(() => ram.ld32(END), NotGuestRam);
  assert.throws(() => ram.st16(RAM_BASE - 2, 1), NotGuestRam);
});

Deno.test("words are little-endian, and their writes are told too", () => {
  const { ram, written } = deviceRig();
  ram.st32(RAM_BASE + 8, 0x1234_5678);
  ram.st16(RAM_BASE + 12, 0xabcd);
  assert.deepEqual([...bytesAt(ram, RAM_BASE + 8, 6)], [0x78, 0x56, 0x34, 0x12, 0xcd, 0xab]);
  assert.equal(ram.ld16(RAM_BASE + 10), 0x1234);
  assert.deepEqual(written, [[RAM_BASE + 8, 4], [RAM_BASE + 12, 2]]);
});
