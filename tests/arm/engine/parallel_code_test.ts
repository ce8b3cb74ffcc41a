/** Generated code for CPUs in parallel: alone it does what the evaluator does. */
import assert from "node:assert/strict";
import { InterpreterCode } from "../../../src/arm/engine/interpreter.ts";
import type { RegionOptions } from "../../../src/arm/engine/regions.ts";
import { Random, randomInstruction } from "../../../src/arm/isa/random.ts";
import { ROWS } from "../../../src/arm/isa/table.ts";
import { CODE_PAGES, FoldedLab, LAB_MEMORY_PAGES } from "./folded_lab.ts";

const CODE = new InterpreterCode(ROWS, LAB_MEMORY_PAGES, true);
const ATOMIC = ROWS.filter((row) =>
  /^(LDX|STX|CLREX|STLR|LDAR|LD_atomic|SWP|CAS|LDAP|STLL|LDLA|DMB|DSB)/.test(row.name)
);

/** b .+4 */
const BRANCH_TO_NEXT = 0x1400_0001;

const TIERS: Readonly<Record<string, Partial<RegionOptions>>> = {
  interpreted: { hotAfter: 0 },
  translated: { hotAfter: 1, batch: 1 },
};

function labs(random: Random, tier: Partial<RegionOptions>): [FoldedLab, FoldedLab] {
  const words = Array.from(
    { length: CODE_PAGES * 1024 },
    // Regions begin where branches lead to.
    (_, i) => i % 8 === 7 ? BRANCH_TO_NEXT : randomInstruction(random.pick(ATOMIC), random).word,
  );
  const made = [new FoldedLab(CODE, undefined, tier), new FoldedLab()] as const;
  for (const lab of made) lab.loadCode(words);
  return [...made];
}

for (const [name, tier] of Object.entries(TIERS)) {
  Deno.test(`${name}: atomics, exclusives and ordered accesses do what the evaluator does`, () => {
    const random = new Random(77);
    const [fast, reference] = labs(random, tier);
    for (let n = 0; n < 800; n++) {
      const at = 16n * BigInt(random.below(500));
      reference.randomize(random);
      for (let x = 0; x < 31; x++) {
        // Addresses, close together so that exclusives meet; and operands.
        const value = random.below(3) ? at + BigInt(random.pick([0, 0, 0, 8])) : random.value();
        reference.memory.st64(reference.cpu.gpr + 8 * x, value);
      }
      fast.copyFrom(reference);
      const count = 24;
      assert.equal(fast.run(count), count);
      for (let i = 0; i < count; i++) reference.evaluate();
      assert.equal(fast.difference(reference), undefined, `episode ${n}`);
    }
    const never = ATOMIC.filter((row) => !reference.evaluated.has(row.name)).map((r) => r.name);
    assert.deepEqual(never, []);
    assert.equal(fast.translated > 0, tier.hotAfter !== 0);
  });
}
