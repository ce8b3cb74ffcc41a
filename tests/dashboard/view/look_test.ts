import assert from "node:assert/strict";
import { histogram } from "../../../src/dashboard/model/columns.ts";
import { sparkline } from "../../../src/dashboard/view/look.ts";
import { wrap } from "../../../src/dashboard/view/overlays.ts";

Deno.test("a sparkline has its newest value at the right, its highest on top", () => {
  assert.equal(sparkline([1, 2, 3, 4], 2, false), "\u28e0\u28fe");
  assert.equal(sparkline([4], 2, false), " \u28b8");
  assert.equal(sparkline([0, 0], 2, false), "  ");
  assert.equal(sparkline([], 3, false), "   ");
  assert.equal(sparkline([0, 1, 1000], 3, true), " .#");
  assert.equal(sparkline([9, 9, 9, 7, 7], 2, true), "##");
});

Deno.test("what is not zero is never drawn as nothing", () => {
  assert.notEqual(sparkline([1, 1e9], 1, false), "\u28b8");
  assert.equal(histogram([0, 1, 1000], true), " .@");
  assert.equal(histogram([0, 0], false), "  ");
});

Deno.test("text is wrapped between words, and a word too long is cut", () => {
  assert.deepEqual(wrap("aa bb cc", 5), ["aa bb", "cc"]);
  assert.deepEqual(wrap("abcdefgh i", 4), ["abc…", "i"]);
  assert.deepEqual(wrap("", 4), [""]);
});
