import assert from "node:assert/strict";
import { planRecord, RECORD, RECORD_SIZE, writeRecord } from "../../../src/arm/engine/records.ts";
import { SharedMemory } from "../../../src/base/memory.ts";

Deno.test("slots lie in order, constants at their natural alignment, nothing overlaps", () => {
  const slots = { d: 8, n: 16, m: 0x1f0, a: 0xffff };
  const consts = { first: -2, big: 0x1234_5678_9abc_def0n, last: 7 };
  const plan = planRecord(slots, consts);
  const used = new Set<number>();
  const take = (at: number, length: number): void => {
    assert.equal(at % length, 0);
    assert.ok(at + length <= RECORD_SIZE);
    for (let i = at; i < at + length; i++) {
      assert.ok(!used.has(i), `byte ${i} twice`);
      used.add(i);
    }
  };
  take(RECORD.HANDLER, 2);
  take(RECORD.COUNT, 2);
  for (const at of plan.slots.values()) take(at, 2);
  for (const { offset, type } of plan.consts.values()) take(offset, type === "i64" ? 8 : 4);

  const m = SharedMemory.create(4096);
  m.u8.fill(0xaa, 0, 4096);
  writeRecord(m, 64, 41, plan, slots, consts);
  assert.equal(m.ld16(64 + RECORD.HANDLER), 41);
  for (const [name, at] of plan.slots) {
    assert.equal(m.ld16(64 + at), slots[name as keyof typeof slots]);
  }
  const at = (name: string): number => 64 + (plan.consts.get(name)?.offset ?? -64);
  assert.equal(m.ldi32(at("first")), -2);
  assert.equal(m.ld64(at("big")), 0x1234_5678_9abc_def0n);
  assert.equal(m.ld32(at("last")), 7);
  assert.equal(m.ld8(63), 0xaa);
  assert.equal(m.ld8(64 + RECORD_SIZE), 0xaa);
});

Deno.test("a negative 64-bit constant is stored modulo 2^64", () => {
  const plan = planRecord({}, { c: -4n });
  const m = SharedMemory.create(4096);
  writeRecord(m, 0, 3, plan, {}, { c: -4n });
  assert.equal(m.ld64(plan.consts.get("c")?.offset ?? -1), 0xffff_ffff_ffff_fffcn);
});

Deno.test("as much as fits: four slots, two 64-bit constants and a 32-bit one, or five 32-bit ones", () => {
  const slots = { a: 0, b: 0, c: 0, d: 0 };
  assert.equal(planRecord(slots, { x: 0n, y: 0n, z: 0 }).consts.size, 3);
  assert.equal(planRecord(slots, { a: 0, b: 0, c: 0, d: 0, e: 0 }).consts.size, 5);
});

Deno.test("two more slots take the place of a 32-bit constant", () => {
  const slots = { a: 0, b: 0, c: 0, d: 0, e: 0, f: 0 };
  const plan = planRecord(slots, { x: 0n, y: 0, z: 0 });
  assert.deepEqual([...plan.slots.values()], [4, 6, 8, 10, 12, 14]);
  assert.deepEqual([...plan.consts.values()].map((c) => c.offset), [16, 24, 28]);
});

Deno.test("more than fits is an error", () => {
  assert.throws(() => planRecord({ a: 0, b: 0, c: 0, d: 0, e: 0, f: 0, g: 0 }, {}), RangeError);
  const five = { a: 0, b: 0, c: 0, d: 0, e: 0 };
  assert.throws(() => planRecord(five, { x: 0n, y: 0n, z: 0 }), RangeError);
  assert.throws(() => planRecord({}, { x: 0n, y: 0n, z: 0n }), RangeError);
  assert.throws(() => planRecord({}, { x: 0n, y: 0n, z: 0, w: 0 }), RangeError);
  assert.throws(() => planRecord({}, { a: 0, b: 0, c: 0, d: 0, e: 0, f: 0 }), RangeError);
});
