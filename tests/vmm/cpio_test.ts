/** The archives are what cpio's "newc" kind says, and the committed initial RAM disk is up to date. */
import assert from "node:assert/strict";
import { FILE_TYPE, packCpio } from "../../src/vmm/cpio.ts";
import { packInitrd } from "../../fixtures/initrd/pack.ts";
import initrd from "../../fixtures/initrd/initrd.cpio" with { type: "bytes" };
import init from "../../fixtures/initrd/init.bin" with { type: "bytes" };

interface Member {
  readonly name: string;
  readonly fields: readonly number[];
  readonly data: Uint8Array;
}

/** Reads an archive by the format's description: 6 characters of magic, 13 fields of 8 hexadecimal digits. */
function readCpio(bytes: Uint8Array): Member[] {
  const text = (from: number, to: number) => new TextDecoder().decode(bytes.subarray(from, to));
  const members: Member[] = [];
  for (let at = 0;;) {
    assert.equal(text(at, at + 6), "070701");
    const fields = Array.from(
      { length: 13 },
      (_, i) => parseInt(text(at + 6 + 8 * i, at + 14 + 8 * i), 16),
    );
    const nameEnd = at + 110 + (fields[11] as number);
    const name = text(at + 110, nameEnd - 1);
    assert.equal(bytes[nameEnd - 1], 0);
    const dataAt = (nameEnd + 3) & ~3;
    const size = fields[6] as number;
    if (name === "TRAILER!!!") return members;
    members.push({ name, fields, data: bytes.subarray(dataAt, dataAt + size) });
    at = (dataAt + size + 3) & ~3;
  }
}

Deno.test("members keep their order, names, modes, devices and data", () => {
  const data = Uint8Array.of(1, 2, 3, 4, 5);
  const members = readCpio(packCpio([
    { path: "dev", mode: FILE_TYPE.directory | 0o755 },
    { path: "dev/console", mode: FILE_TYPE.character | 0o600, device: { major: 5, minor: 1 } },
    { path: "a", mode: FILE_TYPE.file | 0o644, data },
    { path: "empty", mode: FILE_TYPE.file | 0o600 },
  ]));
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
  assert.deepEqual(initrd, packInitrd());
  assert.deepEqual(readCpio(initrd).find((m) => m.name === "init")?.data, init);
});
