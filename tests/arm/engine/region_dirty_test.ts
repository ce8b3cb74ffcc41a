/** What a call has to store: the registers that the CPU state may not have. */
import assert from "node:assert/strict";
import { dirtyAtCalls } from "../../../src/arm/engine/region_dirty.ts";
import { CpuLayout } from "../../../src/arm/arch/cpu_state.ts";
import { type Asm, COND } from "../../support/asm.ts";
import { graphOf } from "./graph_of.ts";

const X = CpuLayout.offset.gpr;

/** Numbers of the general registers that may be dirty at the calls, by where the calling blocks begin. */
function dirty(make: (asm: Asm) => void): Record<number, number[]> {
  const calls = [...dirtyAtCalls(graphOf(make))];
  return Object.fromEntries(calls.map(([{ key }, slots]) => [
    key,
    [...slots].map((slot) => (slot - X) / 8).filter((n) => n < 30).sort((a, b) => a - b),
  ]));
}

/** A function on another page, so that it is not written in the call's place. */
const call = (a: Asm) => a.word(0x9400_1000);

Deno.test("what a block has written before its call is dirty, what it reads is not", () => {
  assert.deepEqual(dirty((a) => call(a.addReg(1, 2, 3).mov(4, 5)).ret()), { 0: [1, 4] });
});

Deno.test("a call's callee has stored all, so that only what comes behind it is dirty at the next one", () => {
  assert.deepEqual(dirty((a) => call(call(a.mov(1, 1)).mov(2, 2)).ret()), { 0: [1], 8: [2] });
});

Deno.test("what one way to a call has written is dirty there, though the other has not", () => {
  const found = dirty((a) =>
    call(a.cbz(0, "other").mov(1, 1).b("end").label("other").mov(2, 2).label("end")).ret()
  );
  assert.deepEqual(found, { 16: [1, 2] });
});

Deno.test("a way without a call keeps dirty what the other has stored", () => {
  const found = dirty((a) => {
    a.mov(1, 1).cbz(0, "end");
    call(a.mov(2, 2)).label("end").mov(3, 3);
    call(a).ret();
  });
  assert.deepEqual(found, { 8: [1, 2], 16: [1, 3] });
});

Deno.test("a loop brings what its end has written to the call at its head", () => {
  const found = dirty((a) =>
    call(a.mov(1, 1).label("head")).mov(2, 2).subs(3, 3, 1).bCond(COND.NE, "head").ret()
  );
  assert.deepEqual(found, { 4: [1, 2, 3] });
});
