/** Every recorded case on every driver, and that the record covers every row and shape. */
import assert from "node:assert/strict";
import { shapeKey, shapesOf } from "../../src/arm/isa/random.ts";
import { DECODER } from "../../src/arm/isa/table.ts";
import { isRecorded } from "./cases.ts";
import { type Driver, EvaluatorDriver } from "./driver.ts";
import { FAMILIES, type Family, type FamilySpec } from "./families.ts";
import { vectorFile } from "./files.ts";
import { InterpreterDriver } from "./interpreter_driver.ts";
import { KNOWN_DIFFERENCES, knownDifference } from "./known_differences.ts";
import { replay } from "./replay.ts";
import { CODE, type MachineState } from "./state.ts";
import { decodeVectors, type Vector } from "./vector.ts";

const DRIVERS: readonly (() => Driver)[] = [
  () => new EvaluatorDriver(),
  () => new InterpreterDriver(),
];
const NAMES = Object.keys(FAMILIES) as Family[];
const SPECS: Readonly<Record<Family, FamilySpec>> = FAMILIES;

for (const make of DRIVERS) {
  const driver = make();
  for (const family of NAMES) {
    Deno.test(`${driver.name}: ${family} does what was recorded`, async () => {
      const result = replay(
        driver,
        await vectorFile(family),
        SPECS[family].operands,
        (vector, before) => knownDifference(vector, before) === undefined,
      );
      assert.ok(result.cases > 0);
      assert.deepEqual(result.first, []);
    });
  }
}

Deno.test("every known difference is one, and rare", async () => {
  const driver = new EvaluatorDriver();
  for (const known of KNOWN_DIFFERENCES) {
    const family = NAMES.find((f) => SPECS[f].rows.some((r) => r.name === known.row)) as Family;
    const { operands } = SPECS[family];
    const accept = (vector: Vector, before: MachineState) =>
      knownDifference(vector, before) === known;
    const { cases, failures } = replay(driver, await vectorFile(family), operands, accept);
    assert.ok(failures > 0 && cases < 200, `${known.row}: ${failures} of ${cases}`);
  }
});

/** Recorded cases by row and shape; of a case of two words the last one counts. */
async function count(family: Family): Promise<Map<string, number>> {
  const counts = new Map<string, number>();
  for (const { words } of decodeVectors(await vectorFile(family))) {
    const found = DECODER.decode(words.at(-1) ?? 0);
    if (!found) continue;
    const key = `${found.row.name} ${shapeKey(found.decoded.shape)}`;
    counts.set(key, (counts.get(key) ?? 0) + 1);
  }
  return counts;
}

Deno.test("every row and shape that can run at EL0 has its number of cases", async () => {
  const missing: string[] = [];
  for (const family of NAMES) {
    const counts = await count(family);
    const { rows, cases } = SPECS[family];
    assert.ok(cases >= 200);
    for (const row of rows.filter(isRecorded)) {
      // The shape of these is a register, of which EL0 has few.
      const byKey = row.name === "MRS" || row.name === "MSR_reg";
      const keys = byKey
        ? [...counts.keys()].filter((k) => k.startsWith(`${row.name} `))
        : [...shapesOf(row).keys()].map((shape) => `${row.name} ${shape}`);
      assert.ok(keys.length > 0, row.name);
      missing.push(...keys.filter((key) => (counts.get(key) ?? 0) < cases));
    }
  }
  assert.deepEqual(missing, []);
});

/** Makes every result wrong in one way. */
class Spoiled implements Driver {
  readonly name = "spoiled";
  readonly #inner = new EvaluatorDriver();
  constructor(readonly spoil: (state: MachineState) => void) {}
  run(words: readonly number[], state: MachineState): void {
    this.#inner.run(words, state);
    this.spoil(state);
  }
}

Deno.test("a wrong register, flag, pc, byte or vector half is found in every case", async () => {
  const file = await vectorFile("branches");
  const spoils: ((state: MachineState) => void)[] = [
    (s) => s.gpr[17] = (s.gpr[17] as bigint) ^ (1n << 63n),
    (s) => s.v[63] = (s.v[63] as bigint) ^ 1n,
    (s) => s.nzcv ^= 1,
    (s) => s.pc = s.pc === CODE ? 0 : s.pc ^ 1,
    (s) => s.data[4095] = (s.data[4095] as number) ^ 1,
  ];
  for (const spoil of spoils) {
    const result = replay(new Spoiled(spoil), file, "general");
    assert.equal(result.failures, result.cases);
  }
});
