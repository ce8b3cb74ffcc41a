/**
 * The conformance images print on our machine what they printed on QEMU, apart from the differences that
 * are listed and explained one by one: one image for everything, one for the GICv2.
 */
import assert from "node:assert/strict";
import image from "../../fixtures/conformance/conformance.bin" with { type: "bytes" };
import expected from "../../fixtures/conformance/conformance.expected.txt" with { type: "text" };
import differences from "../../fixtures/conformance/differences.json" with { type: "json" };
import gicv2 from "../../fixtures/conformance/gicv2.bin" with { type: "bytes" };
import gicv2Expected from "../../fixtures/conformance/gicv2.expected.txt" with { type: "text" };
import gicv2Differences from "../../fixtures/conformance/gicv2.differences.json" with {
  type: "json",
};
import { BareRun } from "../support/bare_run.ts";

interface Conformance {
  readonly name: string;
  readonly image: Uint8Array;
  readonly expected: string;
  readonly differences: Readonly<Record<string, string>>;
  readonly gic: 2 | 3;
  /** Observations that must agree at least. */
  readonly least: number;
}

const IMAGES: readonly Conformance[] = [
  { name: "conformance", image, expected, differences, gic: 3, least: 3000 },
  {
    name: "GICv2",
    image: gicv2,
    expected: gicv2Expected,
    differences: gicv2Differences,
    gic: 2,
    least: 200,
  },
];

function observations(text: string): Map<string, string> {
  const lines = text.split(/\r?\n/).filter((line) => line.includes("="));
  return new Map(lines.map((line) => {
    const at = line.indexOf("=");
    return [line.slice(0, at), line.slice(at + 1)];
  }));
}

for (const { name, image, expected, differences, gic, least } of IMAGES) {
  const prefixes = Object.keys(differences);
  const explained = (name: string) => prefixes.some((prefix) => name.startsWith(prefix));
  const run = new BareRun(image, { el: 2, gic });
  const ours = observations(run.untilOff(40_000_000));
  const theirs = observations(expected);
  const all = [...new Set([...theirs.keys(), ...ours.keys()])];

  Deno.test(`${name}: the image runs to its end`, () => {
    assert.match(run.output, /^end\r?$/m);
  });

  Deno.test(`${name}: what it observes is what it observed on QEMU`, () => {
    const wrong = all
      .filter((name) => ours.get(name) !== theirs.get(name) && !explained(name))
      .map((name) => `${name}: QEMU ${theirs.get(name)}, here ${ours.get(name)}`);
    assert.deepEqual(wrong, []);
  });

  Deno.test(`${name}: at least ${least} observations agree`, () => {
    const agreeing = [...theirs].filter(([name, value]) => ours.get(name) === value).length;
    assert.ok(agreeing >= least, `${agreeing} agree`);
  });

  Deno.test(`${name}: every listed difference is one`, () => {
    const idle = prefixes.filter((prefix) =>
      !all.some((name) => name.startsWith(prefix) && ours.get(name) !== theirs.get(name))
    );
    assert.deepEqual(idle, []);
  });
}
