/** `--dump-regions`: the files, their counts, and that the run is the same with them. */
import assert from "node:assert/strict";
import { RegionDump } from "../../src/vmm/region_dump.ts";
import { assertUserError } from "./user_error.ts";
import { smpGuest } from "./smp_guest.ts";

const ignore = Deno.permissions.querySync({ name: "write" }).state !== "granted";
const OPTIONS = {
  vcpus: 2,
  pcpus: 2,
  append: 'cmd="hvc 5;ipi 3;storm 3;off"',
  regions: { hotAfter: 1, batch: 1 },
} as const;

async function run(directory: string | undefined): Promise<string> {
  const { guest, text } = await smpGuest(OPTIONS);
  const dump = directory === undefined ? undefined : new RegionDump(guest, directory);
  assert.equal(guest.machine.run(400_000_000), "power", text());
  dump?.finish();
  return `${guest.machine.insns} ${guest.machine.stateHash()}`;
}

Deno.test(
  "each region has a file: code, WebAssembly, how often it was entered",
  { ignore },
  async () => {
    const directory = await Deno.makeTempDir();
    try {
      const withDump = await run(directory);
      const read = (name: string) => Deno.readTextFileSync(`${directory}/${name}`);
      const files = [...Deno.readDirSync(directory)].map(({ name }) => name).sort();
      const list = files.pop() ?? "";
      assert.equal(list, "regions.tsv");
      const [head, ...rows] = read(list).trimEnd().split("\n").map((line) => line.split("\t"));
      assert.deepEqual(head, ["entered", "instructions", "virtual address", "file"]);
      assert.deepEqual(rows.map((row) => row[3]).sort(), files);
      for (const [entered, insns, va, file] of rows) {
        const text = read(file ?? "");
        assert.match(text, new RegExp(`^region at ${va}\n`));
        assert.match(text, /^guest physical page 0x4[0-9a-f]{7}$/m);
        assert.match(text, new RegExp(`^${insns} instructions in \\d+ blocks`, "m"));
        assert.equal(text.match(/^ {2}[0-9a-f]+ {2}[0-9a-f]{8} {2}\S/gm)?.length, Number(insns));
        assert.match(text, /^\(func \$r\d+ \(param \$0 i32\)[^]*^\)$/m);
        assert.match(text, new RegExp(`\nentered ${entered} times\n$`));
      }
      const entered = rows.map(([count]) => Number(count));
      assert.deepEqual(entered, entered.toSorted((a, b) => b - a));
      assert.ok((entered[0] ?? 0) > 10, `${entered}`);
      assert.equal(withDump, await run(undefined), "the run is the same without");
      assertUserError(() => new RegionDump({} as never, directory), /something in it already$/);
    } finally {
      await Deno.remove(directory, { recursive: true });
    }
  },
);
