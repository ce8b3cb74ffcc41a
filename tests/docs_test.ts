/** Documents that are made from the code are up to date. */
import assert from "node:assert/strict";
import { FEATURES } from "../src/arm/arch/features.ts";
import { coreModel } from "../src/arm/id_registers.ts";
import { keysPage } from "../docs/generate_keys.ts";
import models from "../docs/cpu-models.md" with { type: "text" };
import keys from "../docs/keys.md" with { type: "text" };
import readme from "../README.md" with { type: "text" };
import manifest from "../deno.json" with { type: "json" };

Deno.test("docs/keys.md is made from the key table", () => {
  assert.equal(keys.trimEnd(), keysPage().trimEnd());
});

Deno.test("docs/cpu-models.md lists the features of the models, and no other", () => {
  const rows = models.split("\n").filter((line) => line.startsWith("| FEAT_"))
    .map((line) => line.split("|").map((cell) => cell.trim()));
  const words = { "v8.0": "yes", vhe: "physical", max: "" } as const;
  const { features } = coreModel("max");
  const expected = FEATURES.filter((f) => features.has(f.name)).map((
    f,
  ) => [f.name, words[f.level]]);
  const byName = (a: string[], b: string[]) => (a[0] as string).localeCompare(b[0] as string);
  const listed = rows.map(([, name, level]) => [name as string, level as string]);
  assert.deepEqual(listed.sort(byName), expected.sort(byName));
});

Deno.test("the README names every dependency with its exact version", () => {
  for (const specifier of Object.values(manifest.imports)) {
    const match = /^npm:(.+)@(\d+\.\d+\.\d+)$/.exec(specifier);
    assert.ok(match, specifier);
    const [, name, version] = match;
    const row = readme.split("\n").find((line) => line.startsWith(`| ${name} `));
    assert.ok(row?.includes(`| ${version} `), `${name} ${version}`);
  }
});
