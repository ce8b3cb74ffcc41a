import assert from "node:assert/strict";
import fc from "fast-check";
import { InternalError } from "../../src/base/errors.ts";
import { SharedMemory } from "../../src/base/memory.ts";
import { ByteRing, ByteRingHead, byteRingSize } from "../../src/vmm/byte_ring.ts";

const BASE = 64;

Deno.test("two ends over the same memory: what goes in comes out, in order, whatever the pieces", () => {
  const step = fc.oneof(
    fc.record({ write: fc.uint8Array({ maxLength: 40 }) }),
    fc.record({ read: fc.integer({ min: 0, max: 40 }) }),
    fc.record({ byte: fc.integer({ min: 0, max: 255 }) }),
    fc.constant({ take: true }),
  );
  fc.assert(fc.property(fc.array(step, { maxLength: 60 }), fc.nat(), (steps, start) => {
    const memory = SharedMemory.create(4096);
    // The counters wrap at 2^32.
    for (const at of [0, 4]) memory.st32(BASE + at, 0xffff_fff0 + start % 16);
    const [producer, consumer] = [new ByteRing(memory, BASE, 32), new ByteRing(memory, BASE, 32)];
    const model: number[] = [];
    for (const s of steps) {
      if ("write" in s) {
        const taken = producer.write(s.write);
        assert.equal(taken, Math.min(s.write.length, 32 - model.length));
        model.push(...s.write.subarray(0, taken));
      } else if ("read" in s) {
        assert.deepEqual([...consumer.read(s.read)], model.splice(0, s.read));
      } else if ("byte" in s) {
        assert.equal(producer.writeByte(s.byte), model.length < 32);
        if (model.length < 32) model.push(s.byte);
      } else assert.equal(consumer.readByte(), model.shift() ?? -1);
      assert.equal(producer.length, model.length);
      assert.equal(producer.free, 32 - model.length);
    }
  }));
});

Deno.test("a ring stays inside its bytes", () => {
  const memory = SharedMemory.create(4096);
  const ring = new ByteRing(memory, BASE, 16);
  for (let i = 0; i < 5; i++) {
    ring.write(new Uint8Array(11).fill(0xff));
    ring.read();
  }
  const end = BASE + byteRingSize(16);
  assert.ok(memory.u8.subarray(end, end + 64).every((b) => b === 0));
  assert.ok(memory.u8.subarray(0, BASE).every((b) => b === 0));
  assert.equal(byteRingSize(16), ByteRingHead.size + 16);
});

Deno.test("the size is a power of two", () => {
  const memory = SharedMemory.create(4096);
  for (const size of [0, 3, 100, -8]) {
    assert.throws(() => new ByteRing(memory, BASE, size), InternalError);
  }
});
