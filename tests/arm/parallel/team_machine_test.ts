/** How long turns become where CPUs run in parallel. */
import assert from "node:assert/strict";
import { nextQuantum } from "../../../src/arm/parallel/team_machine.ts";

Deno.test("a turn that was used up in no time is followed by a longer one, up to a bound", () => {
  assert.equal(nextQuantum(20_000, 20_000, 5_000), 40_000);
  assert.equal(nextQuantum(1_000_000, 1_000_000, 5_000), 1_000_000);
});

Deno.test("a turn that was not used up, or took as long as it may, stays", () => {
  assert.equal(nextQuantum(20_000, 10, 100), 20_000);
  assert.equal(nextQuantum(20_000, 20_000, 70_000), 20_000);
});

Deno.test("a turn that took too long is followed by a shorter one, down to a bound", () => {
  assert.equal(nextQuantum(20_000, 20_000, 300_000), 10_000);
  assert.equal(nextQuantum(5_000, 1_000, 300_000), 5_000);
});
