import assert from "node:assert/strict";
import fc from "fast-check";
import { Arena, Slab } from "../../src/base/arena.ts";
import { InternalError } from "../../src/base/errors.ts";
import { SharedMemory } from "../../src/base/memory.ts";
import { layout, u32, u64, u8 } from "../../src/base/struct.ts";

const Item = layout("item", { a: u64(), b: u32(), c: u8() });
const Tiny = layout("tiny", {});

function arenaOf(bytes: number): Arena {
  return new Arena("test", SharedMemory.create(65536), 64, 64 + bytes);
}

Deno.test("what is reserved is aligned, in order, within the arena, and does not overlap", () => {
  const request = fc.tuple(fc.integer({ min: 1, max: 100 }), fc.constantFrom(1, 8, 16, 64, 4096));
  fc.assert(fc.property(fc.array(request, { maxLength: 20 }), (requests) => {
    const arena = arenaOf(20_000);
    let end = 64;
    for (const [bytes, align] of requests) {
      const at = Math.ceil(end / align) * align;
      if (at + bytes > arena.end) {
        assert.throws(() => arena.reserve(bytes, align), InternalError);
        continue;
      }
      assert.equal(arena.reserve(bytes, align), at);
      end = at + bytes;
      assert.equal(arena.free, arena.end - end);
    }
  }));
});

Deno.test("an arena can be filled to its last byte, and no further", () => {
  const arena = arenaOf(64);
  arena.reserve(64);
  assert.equal(arena.free, 0);
  assert.throws(() => arena.reserve(1), /arena test is full: 1 bytes wanted, 0 left/);
});

Deno.test("what is allocated is remembered as a placement", () => {
  const arena = arenaOf(4096);
  const one = arena.make(Item);
  const at = arena.allocate(Item, 5);
  arena.reserve(16);
  assert.deepEqual(arena.placements.map(({ layout, base, count }) => [layout.name, base, count]), [
    ["item", one.base, 1],
    ["item", at, 5],
  ]);
});

Deno.test("a slab hands out each instance once, zeroed, then nothing; released ones come back", () => {
  const arena = arenaOf(4096);
  const slab = new Slab(arena, Item, 3);
  const { u8 } = arena.memory;
  const got = [slab.allocate(), slab.allocate(), slab.allocate()];
  assert.equal(new Set(got).size, 3);
  assert.ok(got.every((at) => at > 0));
  assert.equal(slab.used, 3);
  assert.equal(slab.allocate(), 0);
  const [first = 0, second = 0] = got;
  u8.fill(0xff, second, second + Item.size);
  slab.release(second);
  assert.equal(slab.used, 2);
  assert.equal(slab.allocate(), second);
  assert.ok(u8.subarray(second, second + Item.size).every((byte) => byte === 0));
  assert.equal(slab.allocate(), 0);
  slab.release(first);
  assert.equal(slab.allocate(), first);
});

Deno.test("a slab refuses addresses that are not its own", () => {
  const arena = arenaOf(4096);
  const slab = new Slab(arena, Item, 2);
  const at = slab.allocate();
  for (const wrong of [0, at + 8, at - Item.size, at + 2 * Item.size]) {
    assert.throws(() => slab.release(wrong), InternalError, String(wrong - at));
  }
});

Deno.test("a layout too small for the free list is refused", () => {
  assert.throws(() => new Slab(arenaOf(4096), Tiny, 2), InternalError);
});

Deno.test("a slab behaves as a set, over random allocations and releases", () => {
  fc.assert(fc.property(fc.array(fc.option(fc.nat(9)), { maxLength: 60 }), (steps) => {
    const slab = new Slab(arenaOf(4096), Item, 6);
    const held: number[] = [];
    for (const step of steps) {
      if (step === null) {
        const at = slab.allocate();
        assert.equal(at === 0, held.length === 6);
        assert.ok(!held.includes(at));
        if (at) held.push(at);
      } else if (held.length > 0) {
        slab.release(held.splice(step % held.length, 1)[0] as number);
      }
      assert.equal(slab.used, held.length);
    }
  }));
});
