/** Emptying TLBs that another worker may be looking up. */
import assert from "node:assert/strict";
import { CODE_TLB, DATA_TLB, DATA_TLB_SIZE } from "../../../src/arm/arch/tlb_layout.ts";
import { Emptier, EMPTY_TLB_SIZE, fillDataEntry } from "../../../src/arm/mmu/tlb.ts";
import { PERM } from "../../../src/arm/mmu/permissions.ts";
import { SharedMemory } from "../../../src/base/memory.ts";

Deno.test("what has compared a tag finds the rest of its entry, however the TLB is emptied meanwhile", () => {
  const memory = SharedMemory.create(1 << 20);
  const emptier = new Emptier(memory, 0x1_0000, true);
  const data = 0x1_0000 + EMPTY_TLB_SIZE, code = data + DATA_TLB_SIZE;
  fillDataEntry(memory, data, 0, 0, 0x4000_0000, 0x8000, PERM.R | PERM.W);
  memory.st32(code + CODE_TLB.TAG, 0);
  memory.st32(code + CODE_TLB.RECORDS, 0x1234);
  emptier.dataGroups(data, 0, 1);
  emptier.code(code);
  const tags = [data + DATA_TLB.READ_TAG, data + DATA_TLB.WRITE_TAG, code + CODE_TLB.TAG];
  for (const tag of tags) assert.equal(memory.ld64(tag), 0xffff_ffff_ffff_ffffn);
  assert.equal(memory.ld32(data + DATA_TLB.ADDEND), 0x8000);
  assert.equal(memory.ld32(code + CODE_TLB.RECORDS), 0x1234);
});
