import assert from "node:assert/strict";
import { InternalError } from "../../../src/base/errors.ts";
import { SharedMemory } from "../../../src/base/memory.ts";
import {
  HypPgtable,
  PAGE_HYP,
  PAGE_HYP_EXEC,
  PAGE_HYP_RO,
} from "../../../src/kvm/hyp/hyp_pgtable.ts";
import { walkHyp } from "../../support/hyp_walk.ts";

const PAGE = 4096;
const RAM = { pa: 0x4000_0000, at: 0x1_0000, size: 64 * PAGE };

function tables(pages = 60): { pgtable: HypPgtable; walk: () => ReturnType<typeof walkHyp> } {
  const memory = SharedMemory.create(RAM.at + RAM.size);
  let next = 0;
  const pgtable = new HypPgtable({
    memory,
    ram: RAM,
    zallocPage: () => next < pages ? RAM.pa + PAGE * next++ : -1,
  });
  return { pgtable, walk: () => walkHyp(memory, RAM, pgtable.pgdPa) };
}

Deno.test("hyp tables: each page as asked for, near and far from each other", () => {
  const { pgtable, walk } = tables();
  const VA = 0xda3c_9b85_c000;
  assert.ok(pgtable.map(VA, 0x4000_5000, PAGE_HYP));
  assert.ok(pgtable.map(VA + PAGE, 0x4000_9000, PAGE_HYP_RO));
  assert.ok(pgtable.map(0x4000_1000, 0x4000_1000, PAGE_HYP_EXEC));
  assert.deepEqual(walk(), [
    { va: 0x4000_1000, pa: 0x4000_1000, writable: false, executable: true },
    { va: VA, pa: 0x4000_5000, writable: true, executable: false },
    { va: VA + PAGE, pa: 0x4000_9000, writable: false, executable: false },
  ]);
});

Deno.test("hyp tables: the same mapping again is fine, another or a writable text is a mistake", () => {
  const { pgtable, walk } = tables();
  assert.ok(pgtable.map(0x8000_0000_0000, 0x4000_5000, PAGE_HYP));
  assert.ok(pgtable.map(0x8000_0000_0000, 0x4000_5000, PAGE_HYP));
  assert.throws(() => pgtable.map(0x8000_0000_0000, 0x4000_6000, PAGE_HYP), InternalError);
  assert.throws(() => pgtable.map(0x8000_0000_0000, 0x4000_5000, PAGE_HYP_RO), InternalError);
  assert.throws(
    () => pgtable.map(0x8000_0000_1000, 0x4000_5000, PAGE_HYP | PAGE_HYP_EXEC),
    InternalError,
  );
  assert.equal(walk().length, 1);
});

Deno.test("hyp tables: without memory for a table nothing is mapped", () => {
  const { pgtable, walk } = tables(3);
  assert.equal(pgtable.map(0x8000_0000_0000, 0x4000_5000, PAGE_HYP), false);
  assert.deepEqual(walk(), []);
});
