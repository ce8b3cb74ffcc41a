import assert from "node:assert/strict";
import { Bus, type Device } from "../../src/arm/bus.ts";
import { InternalError } from "../../src/base/errors.ts";

const device = (): Device => ({ read: () => 0, write: () => {} });

Deno.test("the device of an address, and none at the edges and in between", () => {
  const bus = new Bus();
  const [a, b] = [device(), device()];
  bus.add("b", 0x2000, 0x100, b);
  bus.add("a", 0x1000, 0x100, a);
  assert.equal(bus.find(0x1000, 4)?.device, a);
  assert.equal(bus.find(0x10fc, 4)?.device, a);
  assert.equal(bus.find(0x10fd, 4), undefined);
  assert.equal(bus.find(0x20ff, 1)?.base, 0x2000);
  for (const pa of [0, 0xfff, 0x1100, 0x1fff, 0x2100]) assert.equal(bus.find(pa, 1), undefined);
});

Deno.test("devices may not overlap", () => {
  const bus = new Bus();
  bus.add("a", 0x1000, 0x100, device());
  assert.throws(() => bus.add("b", 0x10ff, 1, device()), InternalError);
  bus.add("c", 0x1100, 1, device());
});
