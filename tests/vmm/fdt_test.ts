import assert from "node:assert/strict";
import fc from "fast-check";
import {
  cells,
  cells64,
  type FdtNode,
  fdtTotalSize,
  type FdtTree,
  findNode,
  flag,
  node,
  readCells,
  readFdt,
  readTexts,
  text,
  writeFdt,
} from "../../src/vmm/fdt.ts";
import { assertOnlyUserErrors, assertUserError, damaged } from "./user_error.ts";

const SAMPLE: FdtTree = {
  root: node("", { model: text("sample"), "#address-cells": cells(2) }, [
    node("cpus", { empty: flag() }, [
      node("cpu@0", { reg: cells(0), odd: Uint8Array.of(1, 2, 3) }),
    ]),
    node("chosen", { model: text("a", "b") }),
  ]),
  reservations: [{ address: 0x1_4000_0000n, size: 0x1000n }],
  bootCpu: 3,
};

/** The sample with one 32-bit word of its blob replaced. */
function patched(offset: number, value: number): Uint8Array {
  const blob = writeFdt(SAMPLE);
  new DataView(blob.buffer).setUint32(offset, value);
  return blob;
}

Deno.test("the writer makes the words of the specification", () => {
  const blob = writeFdt({ root: node("", { a: cells(7) }), reservations: [], bootCpu: 0 });
  const header = [0xd00dfeed, 90, 56, 88, 40, 17, 16, 0, 2, 32];
  const reservations = [0, 0, 0, 0];
  const struct = [1, 0, 3, 4, 0, 7, 2, 9];
  assert.deepEqual(readCells(blob.slice(0, 88)), [...header, ...reservations, ...struct]);
  assert.deepEqual([...blob.slice(88)], [97, 0]);
});

Deno.test("what is written is read back", () => {
  assert.deepEqual(readFdt(writeFdt(SAMPLE)), SAMPLE);
});

Deno.test("any tree comes back from its blob", () => {
  const name = fc.stringMatching(/^[a-z][a-z,._@#0-9-]{0,20}$/);
  const properties = fc.dictionary(name, fc.uint8Array({ maxLength: 20 }), { maxKeys: 4 });
  const tree = fc.letrec<{ node: FdtNode }>((tie) => ({
    node: fc.record({
      name,
      properties: properties.map((values) => new Map(Object.entries(values))),
      children: fc.oneof(
        { maxDepth: 4 },
        fc.constant<FdtNode[]>([]),
        fc.array(tie("node"), { maxLength: 3 }),
      ),
    }, { noNullPrototype: true }),
  })).node;
  fc.assert(fc.property(tree, (root) => {
    const whole: FdtTree = { root, reservations: [], bootCpu: 0 };
    assert.deepEqual(readFdt(writeFdt(whole)), whole);
  }));
});

Deno.test("values: cells wrap, 64-bit numbers take two, texts end with NUL", () => {
  assert.deepEqual(readCells(cells(-1, 5)), [0xffff_ffff, 5]);
  assert.deepEqual(readCells(cells64(0x40_8000_0000)), [0x40, 0x8000_0000]);
  assert.deepEqual(readTexts(text("a", "", "é")), ["a", "", "é"]);
  assertUserError(() => readCells(Uint8Array.of(1)), /multiple of four/);
  assertUserError(() => readTexts(Uint8Array.of(97)), /without an end/);
  assertUserError(() => text("a\0b"), /NUL/);
});

Deno.test("nodes are found by path", () => {
  assert.equal(findNode(SAMPLE.root, "/cpus/cpu@0")?.name, "cpu@0");
  assert.equal(findNode(SAMPLE.root, "/"), SAMPLE.root);
  assert.equal(findNode(SAMPLE.root, "/cpus/cpu@1/x"), undefined);
});

Deno.test("bytes behind the blob are ignored, its size is what it says", () => {
  const blob = writeFdt(SAMPLE);
  const longer = Uint8Array.of(...blob, 1, 2, 3);
  assert.equal(fdtTotalSize(longer), blob.length);
  assert.deepEqual(readFdt(longer), SAMPLE);
});

const STRUCT = 40 + 32;
const DAMAGE: readonly (readonly [string, Uint8Array, RegExp])[] = [
  ["empty", new Uint8Array(0), /shorter than its header/],
  ["magic", patched(0, 0xedfe0dd0), /magic is 0xedfe0dd0/],
  ["cut", writeFdt(SAMPLE).slice(0, -1), /cut short/],
  ["version", patched(20, 16), /not version 17/],
  ["struct size", patched(36, 0x1000_0000), /block lies outside/],
  ["strings offset", patched(12, 0xffff_fff0), /block lies outside/],
  ["struct alignment", patched(8, STRUCT + 1), /not aligned/],
  ["reservations without end", patched(16, writeFdt(SAMPLE).length & ~7), /cut short/],
  ["first token", patched(STRUCT, 2), /does not begin with a node/],
  ["unknown token", patched(STRUCT + 8, 0x77), /unexpected token 0x77/],
  ["property size", patched(STRUCT + 12, 0x7fff_ffff), /structure block ends too early/],
  ["property name", patched(STRUCT + 16, 0x7fff_ffff), /property name lies outside/],
];

for (const [name, blob, message] of DAMAGE) {
  Deno.test(`a damaged blob is one clear error: ${name}`, () => {
    assertUserError(() => readFdt(blob), message);
  });
}

Deno.test("a tree that is nested without bound is refused, written or read", () => {
  const root = node("", {});
  for (let depth = 0, top = root; depth < 64; depth++) {
    const child = node("n", {});
    top.children.push(child);
    top = child;
  }
  assertUserError(() => writeFdt({ ...SAMPLE, root }), /nested too deeply/);
  const begins = Array.from({ length: 5000 }, () => [1, 0]).flat();
  const size = 56 + 4 * begins.length;
  const header = [0xd00dfeed, size, 56, size, 40, 17, 16, 0, 0, 4 * begins.length];
  assertUserError(() => readFdt(cells(...header, 0, 0, 0, 0, ...begins)), /nested too deeply/);
});

Deno.test("random and nearly valid bytes throw nothing but a user error", () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
    assertOnlyUserErrors(() => readFdt(bytes));
  }));
  fc.assert(
    fc.property(damaged(writeFdt(SAMPLE)), (bytes) => assertOnlyUserErrors(() => readFdt(bytes))),
    { numRuns: 1000 },
  );
});
