/** Bytes compared by generated code. */
import assert from "node:assert/strict";
import { SAME_BYTES_STEP, type SameBytes, sameBytes } from "../../../src/arm/engine/same_bytes.ts";
import { ModuleAssembler } from "../../../src/arm/engine/wasm_module.ts";
import { SharedMemory } from "../../../src/base/memory.ts";

const A = 4096, B = 3 * 4096 + 4, BYTES = 4096;

function make(): { same: SameBytes; u8: Uint8Array } {
  const memory = SharedMemory.create(65536);
  const module = new ModuleAssembler(1);
  module.add(sameBytes(), "same");
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(module.bytes()), {
    env: { memory: memory.memory },
  });
  const { u8 } = memory;
  for (let i = 0; i < BYTES; i++) u8[A + i] = u8[B + i] = (i * 37) % 251;
  return { same: exports["same"] as SameBytes, u8 };
}

Deno.test("what is the same is the same, whatever is around it", () => {
  const { same, u8 } = make();
  u8[A - 1] = u8[A + BYTES] = 1;
  u8[B - 1] = u8[B + BYTES] = 2;
  for (let bytes = SAME_BYTES_STEP; bytes <= BYTES; bytes += SAME_BYTES_STEP) {
    assert.equal(same(A, B, bytes), 1);
  }
});

Deno.test("one bit that differs is found at any byte", () => {
  const { same, u8 } = make();
  for (let i = 0; i < BYTES; i++) {
    const at = B + i, bit = 1 << (i % 8), was = u8[at] as number;
    u8[at] = was ^ bit;
    assert.equal(same(A, B, BYTES), 0, `byte ${i}`);
    u8[at] = was;
  }
});
