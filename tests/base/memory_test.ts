import assert from "node:assert/strict";
import { MEMORY_LIMIT, SharedMemory, WASM_PAGE } from "../../src/base/memory.ts";

Deno.test("a fresh memory is shared, zero, and rounded up to a WebAssembly page", () => {
  const m = SharedMemory.create(WASM_PAGE + 1);
  assert.equal(m.size, 2 * WASM_PAGE);
  assert.ok(m.memory.buffer instanceof SharedArrayBuffer);
  assert.ok(m.u32.every((word) => word === 0));
});

Deno.test("sizes that cannot be are refused", () => {
  for (const bytes of [0, -1, NaN, MEMORY_LIMIT + 1, Infinity]) {
    assert.throws(() => SharedMemory.create(bytes), RangeError, String(bytes));
  }
});

Deno.test("aligned accessors are little-endian and cut to their width", () => {
  const m = SharedMemory.create(4096);
  m.st64(8, 0x8877_6655_4433_2211n);
  assert.equal(m.ld8(8), 0x11);
  assert.equal(m.ld16(10), 0x4433);
  assert.equal(m.ld32(12), 0x88776655);
  assert.equal(m.ldi32(12), 0x88776655 | 0);
  assert.equal(m.ld64(8), 0x8877_6655_4433_2211n);
  m.st8(8, 0x1ff);
  m.st16(10, 0x12345);
  m.st32(12, -1);
  assert.equal(m.ld64(8), 0xffff_ffff_2345_22ffn);
  m.st64(16, -1n);
  assert.equal(m.ld64(16), 0xffff_ffff_ffff_ffffn);
});

Deno.test("64-bit words as numbers: exact up to 2^53, neighbours untouched", () => {
  const m = SharedMemory.create(4096);
  for (const value of [0, 1, 0xffff_ffff, 0x1_0000_0000, 2 ** 40 + 7, Number.MAX_SAFE_INTEGER]) {
    m.u8.fill(0xaa, 0, 64);
    m.st53(16, value);
    assert.equal(m.ld53(16), value);
    assert.equal(m.ld64(16), BigInt(value));
    assert.equal(m.ld32(12), 0xaaaaaaaa);
    assert.equal(m.ld32(24), 0xaaaaaaaa);
  }
});

Deno.test("copy64 copies one word", () => {
  const m = SharedMemory.create(4096);
  m.st64(16, 0x0123_4567_89ab_cdefn);
  m.copy64(40, 16);
  assert.equal(m.ld64(40), 0x0123_4567_89ab_cdefn);
  assert.equal(m.ld64(48), 0n);
  assert.equal(m.ld64(32), 0n);
});

Deno.test("unaligned accessors at every offset and size", () => {
  const m = SharedMemory.create(4096);
  for (const size of [1, 2, 4, 8]) {
    for (let at = 64; at < 73; at++) {
      m.u8.fill(0xaa, 0, 128);
      const value = BigInt.asUintN(8 * size, 0xf1e2_d3c4_b5a6_9788n);
      m.setUnsigned(at, size, 0xf1e2_d3c4_b5a6_9788n);
      assert.equal(m.getUnsigned(at, size), value);
      assert.equal(m.ld8(at - 1), 0xaa);
      assert.equal(m.ld8(at + size), 0xaa);
    }
  }
  m.set16(65, 0x8001);
  m.set32(67, 0x8000_0001);
  m.set64(71, -2n);
  assert.deepEqual([m.get16(65), m.get32(67), m.get64(71)], [
    0x8001,
    0x8000_0001,
    0xffff_ffff_ffff_fffen,
  ]);
});

Deno.test("two views of one WebAssembly memory share its bytes", () => {
  const m = SharedMemory.create(4096);
  const other = new SharedMemory(m.memory);
  m.st32(100, 42);
  assert.equal(other.ld32(100), 42);
});

Deno.test("what is cleared is zero, and its neighbours stay", () => {
  const memory = SharedMemory.create(WASM_PAGE);
  memory.u8.fill(7, 4090, 20_000);
  assert.equal(memory.clear(4092, 12_000), true);
  assert.ok(memory.u8.subarray(4092, 16_092).every((byte) => byte === 0));
  const stays = (from: number, to: number) => memory.u8.subarray(from, to).every((b) => b === 7);
  assert.ok(stays(4090, 4092) && stays(16_092, 20_000));
  assert.equal(memory.clear(4092, 12_000), false);
});
