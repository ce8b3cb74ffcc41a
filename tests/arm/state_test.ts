/** Which bytes are `arch`, their hash, snapshot and restoration. */
import assert from "node:assert/strict";
import { MachineState } from "../../src/arm/state.ts";
import { Arena } from "../../src/base/arena.ts";
import { SharedMemory } from "../../src/base/memory.ts";
import { array, layout, u16, u32, u53, u8 } from "../../src/base/struct.ts";

const PAGE = 4096;

const Odd = layout("odd", {
  small: u8(),
  seen: u8("observe"),
  half: u16(),
  cached: u32("cache"),
  words: array("u32", 3),
  count: u53("observe"),
  end: u8(),
});

function world(pages = 4) {
  const memory = SharedMemory.create(65536 + pages * PAGE);
  const arena = new Arena("arch", memory, 64, 4096);
  const ram = { pa: 0x4000_0000, at: 65536, size: pages * PAGE };
  const first = Odd.at(memory, arena.allocate(Odd, 4));
  const state = new MachineState(memory, [arena], [ram]);
  return { memory, arena, ram, state, first };
}

/** Byte offsets of `Odd` that are arch. */
const ARCH_BYTES = new Set([
  Odd.offset.small,
  Odd.offset.half,
  Odd.offset.half + 1,
  ...Array.from({ length: 12 }, (_, i) => Odd.offset.words + i),
  Odd.offset.end,
]);

Deno.test("a flip of any arch byte changes the hash, of any other byte does not", () => {
  const { memory, first, state } = world();
  const before = state.hash();
  for (let i = 0; i < 4 * Odd.size; i++) {
    const at = first.base + i;
    memory.st8(at, memory.ld8(at) ^ (1 << (i % 8)));
    const changed = state.hash() !== before;
    assert.equal(changed, ARCH_BYTES.has(i % Odd.size), `byte ${i}`);
    memory.st8(at, memory.ld8(at) ^ (1 << (i % 8)));
  }
  assert.equal(state.hash(), before);
});

Deno.test("what is placed after the state was made is covered", () => {
  const { arena, state } = world();
  const late = arena.make(Odd);
  const before = state.hash();
  late.half = 1;
  assert.notEqual(state.hash(), before);
});

Deno.test("a flip of any bit of RAM changes the hash, and so does where a page's contents lie", () => {
  const { memory, ram, state } = world();
  const empty = state.hash();
  const seen = new Set([empty]);
  for (let at = ram.at; at < ram.at + ram.size; at += 508) {
    memory.st8(at, 0x80);
    seen.add(state.hash());
    memory.st8(at, 0);
  }
  assert.equal(seen.size, 1 + Math.ceil(ram.size / 508));
  assert.equal(state.hash(), empty);
});

Deno.test("the hash is 16 hexadecimal digits", () => {
  assert.match(world().state.hash(), /^[0-9a-f]{16}$/);
});

Deno.test("restore puts back arch bytes and RAM and leaves the rest", () => {
  const { memory, first, ram, state } = world();
  first.small = 7;
  first.half = 0xbeef;
  first.seen = 1;
  first.cached = 1;
  memory.st32(ram.at + PAGE + 8, 0x1234);
  const hash = state.hash();
  const snapshot = state.snapshot();
  assert.equal(snapshot.pages.size, 1, "only the page that is not zero");

  Object.assign(first, { small: 1, half: 2, seen: 3, cached: 4, end: 5 });
  memory.st32(ram.at + PAGE + 8, 0);
  memory.st32(ram.at + 3 * PAGE, 99);
  assert.notEqual(state.hash(), hash);
  state.restore(snapshot);
  assert.equal(state.hash(), hash);
  assert.deepEqual([first.small, first.half, first.seen, first.cached, first.end], [
    7,
    0xbeef,
    3,
    4,
    0,
  ]);
  assert.equal(memory.ld32(ram.at + PAGE + 8), 0x1234);
  assert.equal(memory.ld32(ram.at + 3 * PAGE), 0);
});

Deno.test("a snapshot is a copy: later writes do not reach it", () => {
  const { memory, ram, state, first } = world();
  memory.st32(ram.at, 1);
  first.end = 1;
  const snapshot = state.snapshot();
  memory.st32(ram.at, 2);
  first.end = 2;
  state.restore(snapshot);
  assert.equal(memory.ld32(ram.at), 1);
  assert.equal(first.end, 1);
});
