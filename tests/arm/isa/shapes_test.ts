import assert from "node:assert/strict";
import { examplesOf, shapeKey } from "../../../src/arm/isa/shapes.ts";
import { ROWS } from "../../../src/arm/isa/table.ts";

/** A fixed sequence of numbers from 0 to `below` - 1. */
function numbers(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state = (state ^ (state << 5)) >>> 0;
    return state % below;
  };
}

Deno.test("whatever an instruction's fields are, its shape is among the examples", () => {
  const next = numbers(1);
  for (const row of ROWS) {
    const examples = examplesOf(row);
    for (let i = 0; i < 400; i++) {
      const fields = Object.fromEntries(
        row.fields.map(({ letter, bits }) => [letter, next(2 ** bits.length)]),
      );
      const shape = row.predecode(fields)?.shape;
      // Shapes that are registers or operations can only be sampled.
      if (shape === undefined || "key" in shape) continue;
      assert.ok(examples.has(shapeKey(shape)), `${row.name}: ${shapeKey(shape)}`);
    }
  }
});

Deno.test("an example decodes to its shape", () => {
  for (const row of ROWS) {
    for (const [key, { fields }] of examplesOf(row)) {
      assert.equal(shapeKey(row.predecode(fields)?.shape ?? {}), key);
    }
  }
});
