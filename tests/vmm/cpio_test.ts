/** The archives are what cpio's "newc" kind says, and the committed initial RAM disk is up to date. */
import assert from "node:assert/strict";
import { FILE_TYPE, packCpio } from "../../src/vmm/cpio.ts";
import { readCpio } from "../support/cpio_reader.ts";
import { INITRD_ENTRIES } from "../../fixtures/initrd/pack.ts";
import initrd from "../../fixtures/initrd/initrd.cpio" with { type: "bytes" };
import init from "../../fixtures/initrd/init.bin" with { type: "bytes" };

Deno.test("members keep their order, names, modes, devices and data", () => {
  const data = Uint8Array.of(1, 2, 3, 4, 5);
  const members = [...readCpio(packCpio([
    { path: "dev", mode: FILE_TYPE.directory | 0o755 },
    { path: "dev/console", mode: FILE_TYPE.character | 0o600, device: { major: 5, minor: 1 } },
    { path: "a", mode: FILE_TYPE.file | 0o644, data },
    { path: "empty", mode: FILE_TYPE.file | 0o600 },
  ]))];
  assert.deepEqual(members.map((m) => m.name), ["dev", "dev/console", "a", "empty"]);
  assert.deepEqual(members.map((m) => m.fields[1]), [0o40755, 0o20600, 0o100644, 0o100600]);
  assert.deepEqual(members[1]?.fields.slice(9, 11), [5, 1]);
  assert.deepEqual([...members[2]?.data ?? []], [1, 2, 3, 4, 5]);
  assert.equal(members[3]?.data.length, 0);
  assert.equal(new Set(members.map((m) => m.fields[0])).size, 4, "inode numbers are distinct");
});

Deno.test("an archive is whole blocks, and the same entries give the same bytes", () => {
  const make = () => packCpio([{ path: "x", mode: FILE_TYPE.file, data: new Uint8Array(1000) }]);
  assert.equal(make().length % 512, 0);
  assert.deepEqual(make(), make());
});

Deno.test("the committed initial RAM disk has the committed init", () => {
  assert.deepEqual(initrd, packCpio(INITRD_ENTRIES));
  assert.deepEqual([...readCpio(initrd)].find((m) => m.name === "init")?.data, init);
});
