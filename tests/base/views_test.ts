import assert from "node:assert/strict";
import { SharedMemory } from "../../src/base/memory.ts";
import { layout, u32, u53 } from "../../src/base/struct.ts";
import { ViewsByBase } from "../../src/base/views.ts";

const Thing = layout("thing", { number: u32(), other: u53() });
/** Instances that far apart share a place among the recent ones. */
const SAME_PLACE = 8 * 256;

Deno.test("one view for each instance, whatever was asked for in between", () => {
  const memory = SharedMemory.create(65536);
  const views = new ViewsByBase(Thing);
  const bases = [64, 64 + SAME_PLACE, 80, 64 + 2 * SAME_PLACE];
  const first = bases.map((base) => views.at(memory, base));
  first.forEach((view, i) => view.number = i);
  assert.deepEqual(first.map((view) => view.base), bases);
  assert.deepEqual(bases.map((base) => views.at(memory, base) === views.at(memory, base)), [
    true,
    true,
    true,
    true,
  ]);
  bases.forEach((base, i) => assert.equal(views.at(memory, base), first[i]));
  assert.deepEqual(bases.map((base) => memory.ld32(base)), [0, 1, 2, 3]);
});

Deno.test("memories have views of their own", () => {
  const [a, b] = [SharedMemory.create(65536), SharedMemory.create(65536)];
  const views = new ViewsByBase(Thing);
  const inA = views.at(a, 64), inB = views.at(b, 64);
  inA.number = 1;
  inB.number = 2;
  assert.equal(a.ld32(64), 1);
  assert.equal(b.ld32(64), 2);
  assert.equal(views.at(a, 64), inA);
  assert.equal(views.at(b, 64), inB);
});
