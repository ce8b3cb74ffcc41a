import assert from "node:assert/strict";
import fc from "fast-check";
import {
  cells,
  cells64,
  findNode,
  node,
  readFdt,
  readTexts,
  text,
  writeFdt,
} from "../../src/vmm/fdt.ts";
import { completeDtb } from "../../src/vmm/user_dtb.ts";
import { buildVirtDtb } from "../../src/vmm/virt_dtb.ts";
import { assertOnlyUserErrors, assertUserError, damaged } from "./user_error.ts";

const ADDITIONS = {
  ram: { base: 0x4000_0000, size: 0x800_0000 },
  bootargs: "quiet",
  initrd: { start: 0x4400_0000, end: 0x4400_1000 },
};
const OWN = buildVirtDtb({ vcpus: 2, ramSize: 0x1000_0000, bootargs: "old" });

Deno.test("dtb: memory, command line and initrd are this run's, all else is the user's", () => {
  const before = readFdt(OWN), after = readFdt(completeDtb(OWN, ADDITIONS));
  const names = (tree: typeof before) => tree.root.children.map(({ name }) => name).toSorted();
  assert.deepEqual(names(after), names(before));
  assert.deepEqual(findNode(after.root, "/cpus"), findNode(before.root, "/cpus"));
  const memory = findNode(after.root, "/memory@40000000");
  assert.deepEqual(memory?.properties.get("reg"), cells64(0x4000_0000, 0x800_0000));
  const chosen = findNode(after.root, "/chosen");
  assert.deepEqual(readTexts(chosen?.properties.get("bootargs") ?? text()), ["quiet"]);
  assert.deepEqual(chosen?.properties.get("linux,initrd-start"), cells64(0x4400_0000));
  assert.deepEqual(chosen?.properties.get("linux,initrd-end"), cells64(0x4400_1000));
});

Deno.test("dtb: without a command line the tree's own stays", () => {
  const after = readFdt(completeDtb(OWN, { ...ADDITIONS, bootargs: "", initrd: undefined }));
  const chosen = findNode(after.root, "/chosen");
  assert.deepEqual(readTexts(chosen?.properties.get("bootargs") ?? text()), ["old"]);
  assert.equal(chosen?.properties.has("linux,initrd-start"), false);
});

Deno.test("dtb: one cell for addresses and sizes, and no /chosen", () => {
  const root = node("", { "#address-cells": cells(1), "#size-cells": cells(1) }, [
    node("memory", { reg: cells(1, 2) }),
  ]);
  const blob = writeFdt({ root, reservations: [], bootCpu: 0 });
  const after = readFdt(completeDtb(blob, ADDITIONS));
  assert.equal(findNode(after.root, "/memory"), undefined);
  const reg = findNode(after.root, "/memory@40000000")?.properties.get("reg");
  assert.deepEqual(reg, cells(0x4000_0000, 0x800_0000));
  assert.deepEqual(
    readTexts(findNode(after.root, "/chosen")?.properties.get("bootargs") ?? text()),
    ["quiet"],
  );
});

Deno.test("dtb: damage is one line", () => {
  assertUserError(() => completeDtb(new Uint8Array(64), ADDITIONS), /device tree: .*magic/);
  const odd = writeFdt({
    root: node("", { "#size-cells": cells(3) }),
    reservations: [],
    bootCpu: 0,
  });
  assertUserError(() => completeDtb(odd, ADDITIONS), /#size-cells of the root is 3/);
  fc.assert(
    fc.property(damaged(OWN), (blob) => assertOnlyUserErrors(() => completeDtb(blob, ADDITIONS))),
  );
});
