import assert from "node:assert/strict";
import { kernHypVa } from "../../src/kvm/hyp/kvm_asm.ts";
import { kvmComputeLayout } from "../../src/kvm/va_layout.ts";

const MIB = 2 ** 20;

Deno.test("hyp VAs: linear, of 48 bits, in the half that the identity map is not in", () => {
  for (const [at, size] of [[64 * MIB, 32 * MIB], [24 * MIB, 1024 * MIB], [17 * MIB, 2560 * MIB]]) {
    assert(at !== undefined && size !== undefined);
    const ram = { pa: 0x4000_0000, at, size };
    const layout = kvmComputeLayout(ram, ram.pa + 0x5000);
    const first = kernHypVa(layout, at), last = kernHypVa(layout, at + size - 1);
    assert.equal(last - first, size - 1, "the whole of RAM is one range");
    assert.ok(first >= 2 ** 47 && last < 2 ** 48);
    assert.equal(first % 4096, at % 4096);
    // The kernel's own addresses do not get through.
    assert.notEqual(first, at);
  }
});

Deno.test("hyp VAs: an identity map in the upper half leaves them the lower one", () => {
  const ram = { pa: 2 ** 47, at: 64 * MIB, size: 64 * MIB };
  const layout = kvmComputeLayout(ram, 2 ** 47 + 0x1000);
  assert.ok(kernHypVa(layout, ram.at) < 2 ** 47);
});
