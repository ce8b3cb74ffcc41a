/** Documents that are made from the code are up to date. */
import assert from "node:assert/strict";
import { keysPage } from "../docs/generate_keys.ts";
import keys from "../docs/keys.md" with { type: "text" };
import readme from "../README.md" with { type: "text" };
import manifest from "../deno.json" with { type: "json" };

Deno.test("docs/keys.md is made from the key table", () => {
  assert.equal(keys.trimEnd(), keysPage().trimEnd());
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
