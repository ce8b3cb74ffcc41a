import assert from "node:assert/strict";
import { bitfieldMask, logicalImmediate } from "../../../src/arm/isa/bit_masks.ts";

function allImmediates(sf: number): bigint[] {
  const values: bigint[] = [];
  for (let n = 0; n < 2; n++) {
    for (let immr = 0; immr < 64; immr++) {
      for (let imms = 0; imms < 64; imms++) {
        const value = logicalImmediate(sf, n, immr, imms);
        if (value !== null) values.push(value);
      }
    }
  }
  return values;
}

Deno.test("there are 5334 logical immediates of 64 bits and 1302 of 32", () => {
  assert.equal(new Set(allImmediates(1)).size, 5334);
  assert.equal(new Set(allImmediates(0)).size, 1302);
});

Deno.test("no logical immediate is all zeros or all ones", () => {
  const all = new Set([...allImmediates(1), ...allImmediates(0)]);
  assert.ok(!all.has(0n));
  assert.ok(!all.has(0xffff_ffff_ffff_ffffn));
});

Deno.test("logical immediates as the manual constructs them", () => {
  assert.equal(logicalImmediate(1, 1, 0, 7), 0xffn);
  assert.equal(logicalImmediate(1, 0, 0, 0b111100), 0x5555_5555_5555_5555n);
  assert.equal(logicalImmediate(0, 0, 1, 0), 0x8000_0000n);
  assert.equal(logicalImmediate(0, 1, 0, 0), null);
  assert.equal(logicalImmediate(1, 1, 0, 63), null);
});

Deno.test("bit-field masks: extract at the bottom, insert at width - immr", () => {
  assert.equal(bitfieldMask(1, 8, 15), 0xffn);
  assert.equal(bitfieldMask(1, 60, 3), 0xf0n);
  assert.equal(bitfieldMask(0, 31, 0), 2n);
  assert.equal(bitfieldMask(1, 0, 63), 0xffff_ffff_ffff_ffffn);
});
