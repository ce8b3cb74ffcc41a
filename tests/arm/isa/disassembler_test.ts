/** The disassembler against objdump: recorded texts always, a million words where objdump can be run. */
import assert from "node:assert/strict";
import recorded from "../../../fixtures/vectors/disassembly.tsv.gz" with { type: "bytes" };
import { disassemble } from "../../../src/arm/isa/table.ts";
import { disagreements, type Listed, listing, OBJDUMP, randomWords, TEMPORARY } from "./objdump.ts";

const KERNELS = [
  "/usr/lib/debian-installer/images/12/arm64/text/debian-installer/arm64/linux",
  "/usr/share/debian-installer/images/12/arm64/text/debian-installer/arm64/linux",
] as const;

async function* recordedLines(): AsyncGenerator<Listed> {
  const stream = new Blob([recorded]).stream().pipeThrough(new DecompressionStream("gzip"));
  const text = await new Response(stream).text();
  let address = 0;
  for (const line of text.trimEnd().split("\n")) {
    const tab = line.indexOf("\t");
    yield { address, word: parseInt(line.slice(0, tab), 16), text: line.slice(tab + 1) };
    address += 4;
  }
}

Deno.test("recorded words read as objdump prints them", async () => {
  const lines = await Array.fromAsync(recordedLines());
  const { compared, wrong } = disagreements(lines);
  assert.ok(compared > 10_000, `${compared} compared`);
  assert.deepEqual(wrong.slice(0, 20), []);
});

Deno.test("a text that differs is reported", () => {
  assert.deepEqual(disagreements([{ address: 0, word: 0xd503201f, text: "nop" }]).wrong, []);
  assert.equal(disagreements([{ address: 0, word: 0xd503201f, text: "yield" }]).wrong.length, 1);
});

Deno.test("targets are absolute and wrap", () => {
  assert.equal(disassemble(0x17ffffff, 0), "b\t0xfffffffffffffffc");
  assert.equal(disassemble(0x14000001, 0x4008_0000), "b\t0x40080004");
});

Deno.test("what is not implemented has no text", () => {
  for (const word of [0, 0xffff_ffff, 0xffff_fffe, 0xd69f_0bff /* eretaa */]) {
    assert.equal(disassemble(word, 0), null);
  }
});

/** Whether this process may do something, without asking. */
function may(permission: Deno.PermissionDescriptor): boolean {
  return Deno.permissions.querySync(permission).state === "granted";
}

function readable(path: string): boolean {
  if (!may({ name: "read", path })) return false;
  try {
    return Deno.statSync(path).isFile;
  } catch {
    return false;
  }
}

function installed(): boolean {
  if (!may({ name: "run", command: OBJDUMP }) || !may({ name: "write", path: TEMPORARY })) {
    return false;
  }
  try {
    return new Deno.Command(OBJDUMP, { args: ["--version"], stdout: "null" }).outputSync().success;
  } catch {
    return false;
  }
}

const kernel = KERNELS.find(readable);

/** The words of the kernel's text: a raw Image, whose first 64 KiB are its header. */
function kernelWords(path: string, count: number): number[] {
  const file = Deno.readFileSync(path);
  const view = new DataView(file.buffer);
  return Array.from({ length: count }, (_, i) => view.getUint32(0x10000 + 4 * i, true));
}

Deno.test({
  name: "a million words read as objdump prints them, the Debian kernel's text among them",
  ignore: !installed() || kernel === undefined,
  fn: async () => {
    const words = [...randomWords(2, 2000), ...kernelWords(kernel ?? "", 1_000_000)];
    let total = 0;
    for (let from = 0; from < words.length; from += 250_000) {
      const part = Uint32Array.from(words.slice(from, from + 250_000));
      const lines = await listing(part);
      assert.equal(lines.length, part.length);
      const { compared, wrong } = disagreements(lines);
      assert.deepEqual(wrong.slice(0, 20), []);
      total += compared;
    }
    assert.ok(total >= 1_000_000, `${total} compared`);
  },
});
