import assert from "node:assert/strict";
import { KEYMAP } from "../../../src/dashboard/keymap.ts";
import { fuzzyScore, PALETTE, paletteMatches } from "../../../src/dashboard/model/palette.ts";

Deno.test("a few letters find a command", () => {
  assert.match(paletteMatches("migr")[0]?.title ?? "", /^Migrates/);
  assert.match(paletteMatches("sgi")[0]?.title ?? "", /^Sends an SGI/);
  assert.equal(paletteMatches("real time")[0]?.title, "Clock: real time");
  assert.equal(paletteMatches("trace")[0]?.title, "Panel: Trace");
  assert.equal(paletteMatches("xyzzy").length, 0);
  assert.equal(paletteMatches("").length, PALETTE.length);
});

Deno.test("letters must come in their order; whole words win", () => {
  assert.equal(fuzzyScore("ba", "abc"), undefined);
  assert.ok((fuzzyScore("trace", "Panel: Trace") ?? 0) > (fuzzyScore("trace", "t r a c e") ?? 0));
});

Deno.test("every action that stands alone is there, once", () => {
  const keyed = PALETTE.flatMap((e) => "action" in e.run ? [e.run.action] : []);
  assert.equal(new Set(keyed).size, keyed.length);
  for (const { action, label } of KEYMAP) {
    const alone = label !== "" &&
      !/^(accept|cancel|down|right|releaseConsole|palette)$/.test(action);
    if (alone) assert.ok(keyed.includes(action as never), action);
  }
});
