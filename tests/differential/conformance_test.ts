/**
 * The conformance image prints on our machine what it printed on QEMU, apart from the differences that
 * are listed and explained one by one.
 */
import assert from "node:assert/strict";
import image from "../../fixtures/conformance/conformance.bin" with { type: "bytes" };
import expected from "../../fixtures/conformance/conformance.expected.txt" with { type: "text" };
import differences from "../../fixtures/conformance/differences.json" with { type: "json" };
import { BareRun } from "../support/bare_run.ts";

const EXPLAINED = Object.keys(differences);

function observations(text: string): Map<string, string> {
  const lines = text.split(/\r?\n/).filter((line) => line.includes("="));
  return new Map(lines.map((line) => {
    const at = line.indexOf("=");
    return [line.slice(0, at), line.slice(at + 1)];
  }));
}

const explained = (name: string) => EXPLAINED.some((prefix) => name.startsWith(prefix));

const run = new BareRun(image, { el: 2 });
const ours = observations(run.untilOff(40_000_000));
const theirs = observations(expected);

Deno.test("the image runs to its end", () => {
  assert.match(run.output, /^end\r?$/m);
});

Deno.test("what it observes is what it observed on QEMU", () => {
  const wrong = [...new Set([...theirs.keys(), ...ours.keys()])]
    .filter((name) => ours.get(name) !== theirs.get(name) && !explained(name))
    .map((name) => `${name}: QEMU ${theirs.get(name)}, here ${ours.get(name)}`);
  assert.deepEqual(wrong, []);
});

Deno.test("at least 300 observations agree", () => {
  const agreeing = [...theirs].filter(([name, value]) => ours.get(name) === value).length;
  assert.ok(agreeing >= 3000, `${agreeing} agree`);
});

Deno.test("every listed difference is one", () => {
  const idle = EXPLAINED.filter((prefix) =>
    ![...theirs.keys(), ...ours.keys()].some((name) =>
      name.startsWith(prefix) && ours.get(name) !== theirs.get(name)
    )
  );
  assert.deepEqual(idle, []);
});
