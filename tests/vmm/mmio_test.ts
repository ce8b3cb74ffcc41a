import assert from "node:assert/strict";
import { accessMask, mergeWord, wordPart } from "../../src/vmm/mmio.ts";

Deno.test("masks are as wide as the access", () => {
  assert.deepEqual([accessMask(1), accessMask(2), accessMask(4)], [0xff, 0xffff, 0xffff_ffff]);
});

Deno.test("an access reads its part of a word, unsigned", () => {
  assert.equal(wordPart(0x8765_4321, 0, 4), 0x8765_4321);
  assert.equal(wordPart(0x8765_4321, 2, 2), 0x8765);
  assert.equal(wordPart(0x8765_4321, 7, 1), 0x87);
});

Deno.test("an access writes its part of a word and keeps the rest", () => {
  assert.equal(mergeWord(0x8765_4321, 3, 1, 0xff), 0xff65_4321);
  assert.equal(mergeWord(0x8765_4321, 0, 2, 0xabcd_1234), 0x8765_1234);
  assert.equal(mergeWord(1, 0, 4, 0xffff_fffe), 0xffff_fffe);
});
