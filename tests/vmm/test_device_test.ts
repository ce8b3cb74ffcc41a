import assert from "node:assert/strict";
import fc from "fast-check";
import type { AccessSize } from "../../src/vmm/mmio.ts";
import {
  createTestDeviceState,
  TEST_DEVICE_ID,
  TEST_DEVICE_REG as REG,
  TestDevice,
  type TestDeviceState,
} from "../../src/vmm/test_device.ts";

interface Bench {
  device: TestDevice;
  state: TestDeviceState;
  levels: boolean[];
}

function bench(): Bench {
  const state = createTestDeviceState();
  const levels: boolean[] = [];
  return { device: new TestDevice(state, (level) => levels.push(level)), state, levels };
}

Deno.test("ID names the device and cannot be written", () => {
  const { device } = bench();
  device.write(REG.ID, 4, 0);
  assert.equal(device.read(REG.ID, 4), TEST_DEVICE_ID);
  const bytes = [0, 1, 2, 3].map((offset) => device.read(offset, 1));
  assert.deepEqual(bytes, [0x01, 0x00, 0x53, 0x57]);
});

Deno.test("LINE raises and lowers the interrupt line and reads its level", () => {
  const { device, levels } = bench();
  device.write(REG.LINE, 4, 1);
  assert.equal(device.read(REG.LINE, 4), 1);
  device.write(REG.LINE, 4, 0xffff_fffe);
  assert.equal(device.read(REG.LINE, 4), 0);
  assert.deepEqual(levels, [true, false]);
});

Deno.test("ACK lowers the line and counts, also when the line was raised by hand", () => {
  const { device, levels } = bench();
  device.setLine(true);
  device.write(REG.ACK, 4, 0);
  assert.equal(device.read(REG.LINE, 4), 0);
  device.write(REG.ACK, 1, 0xff);
  assert.deepEqual(levels, [true, false, false]);
  assert.equal(device.read(REG.COUNT, 4), 2);
  assert.equal(device.read(REG.ACK, 4), 0);
  device.write(REG.COUNT, 4, 77);
  assert.equal(device.read(REG.COUNT, 4), 2);
});

Deno.test("COUNT wraps at 32 bits", () => {
  const { device, state } = bench();
  state.count = 0xffff_ffff;
  device.write(REG.ACK, 4, 1);
  assert.equal(device.read(REG.COUNT, 4), 0);
});

Deno.test("SCRATCH is sixteen bytes of memory, in any access size", () => {
  const access = fc.record({
    offset: fc.nat(15),
    size: fc.constantFrom<AccessSize>(1, 2, 4),
    value: fc.nat(0xffff_ffff),
  });
  fc.assert(fc.property(fc.array(access), (list) => {
    const { device } = bench();
    const memory = new Uint8Array(16);
    for (const { offset, size, value } of list) {
      const at = offset & ~(size - 1);
      device.write(REG.SCRATCH + at, size, value);
      for (let byte = 0; byte < size; byte++) memory[at + byte] = value >>> (8 * byte);
    }
    const seen = Array.from(memory, (_, offset) => device.read(REG.SCRATCH + offset, 1));
    assert.deepEqual(seen, [...memory]);
  }));
});

Deno.test("the rest of the page reads as zero and ignores writes", () => {
  const { device, levels } = bench();
  for (let offset = 0x20; offset < 0x1000; offset += 4) {
    device.write(offset, 4, 0xffff_ffff);
    assert.equal(device.read(offset, 4), 0);
  }
  assert.deepEqual(levels, []);
});

Deno.test("reset brings the power-on values and lowers the line", () => {
  const { device, levels, state } = bench();
  device.write(REG.ACK, 4, 0);
  device.write(REG.SCRATCH, 4, 5);
  device.setLine(true);
  device.reset();
  assert.deepEqual(state, createTestDeviceState());
  assert.equal(levels.at(-1), false);
});
