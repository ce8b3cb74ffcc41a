/** The table of records by instruction word. */
import assert from "node:assert/strict";
import { SharedMemory } from "../../../src/base/memory.ts";
import { RECORD_SIZE } from "../../../src/arm/engine/records.ts";
import { Templates } from "../../../src/arm/engine/templates.ts";

const AT = 64, TO = 1024;

/** Writes a record that depends on `word`. */
function record(memory: SharedMemory, word: number): number[] {
  const words = Array.from({ length: RECORD_SIZE / 4 }, (_, i) => (word ^ (i * 0x1111_1111)) >>> 0);
  words.forEach((value, i) => memory.st32(AT + 4 * i, value));
  return words;
}

Deno.test("a word's record is written again as it was, however many there are", () => {
  const memory = SharedMemory.create(65536);
  const templates = new Templates(memory);
  const wordOf = (n: number) => Math.imul(n, 0x0101_0041) >>> 0;
  const COUNT = 40_000;
  for (let n = 0; n < COUNT; n++) {
    assert.equal(templates.write(wordOf(n), TO), false);
    record(memory, wordOf(n));
    templates.add(wordOf(n), AT);
  }
  for (let n = 0; n < COUNT; n += 7) {
    assert.equal(templates.write(wordOf(n), TO), true);
    const expected = record(memory, wordOf(n));
    assert.deepEqual(expected.map((_, i) => memory.ld32(TO + 4 * i)), expected);
  }
});

Deno.test("when there are too many it begins anew", () => {
  const memory = SharedMemory.create(65536);
  const templates = new Templates(memory);
  const MAX = 1 << 19;
  for (let n = 0; n <= MAX; n++) templates.add(n, AT);
  assert.equal(templates.write(0, TO), false);
  assert.equal(templates.write(MAX, TO), true);
});
