/** Files and options that cannot work, given to the real command: one line, exit code 2, nothing started. */
import assert from "node:assert/strict";
import { cells, node, writeFdt } from "../../src/vmm/fdt.ts";
import { buildElf } from "../vmm/elf_builder.ts";

const decoder = new TextDecoder();
const canRun =
  Deno.permissions.querySync({ name: "run", command: Deno.execPath() }).state === "granted" &&
  Deno.permissions.querySync({ name: "write" }).state === "granted";

interface Outcome {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

async function worldswitch(...args: string[]): Promise<Outcome> {
  const main = new URL("../../main.ts", import.meta.url).pathname;
  const command = ["run", "-q", "-P=run", "--no-prompt", main, "run", ...args];
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), { args: command })
    .output();
  return { code, stdout: decoder.decode(stdout), stderr: decoder.decode(stderr) };
}

/** Writes the files beside each other, runs with their paths in place of `{name}`. */
async function refused(
  files: Readonly<Record<string, Uint8Array>>,
  args: readonly string[],
  line: RegExp,
): Promise<void> {
  const folder = Deno.makeTempDirSync();
  try {
    for (const [name, bytes] of Object.entries(files)) {
      Deno.writeFileSync(`${folder}/${name}`, bytes);
    }
    const { code, stdout, stderr } = await worldswitch(
      ...args.map((arg) => arg.replace("@", `${folder}/`)),
    );
    assert.equal(code, 2, stderr);
    assert.equal(stdout, "");
    assert.match(stderr, /^worldswitch: [^\n]+\n$/);
    assert.match(stderr, line);
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
}

/** The first bytes of an arm64 Image whose header says that it is `size` bytes. */
function image(size: number, present: number): Uint8Array {
  const bytes = new Uint8Array(present);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, 0x1400_0000, true);
  if (present >= 64) {
    view.setBigUint64(16, BigInt(size), true);
    bytes.set([..."ARMd"].map((c) => c.charCodeAt(0)), 56);
  }
  return bytes;
}

const FLAT = new Uint8Array(4096).fill(1);

const CASES: readonly (readonly [string, Record<string, Uint8Array>, string[], RegExp])[] = [
  [
    "an Image cut short within its header",
    { k: new Uint8Array([0x4d, 0x5a, ...image(4096, 60)]) },
    ["--kernel", "@k"],
    /Image cut short/,
  ],
  [
    "an Image larger than memory",
    { k: image(64 << 20, 4096) },
    ["--kernel", "@k", "--memory", "32M"],
    /kernel: needs 0x4\w+ to 0x4\w+, memory is 0x40000000 to 0x42000000/,
  ],
  ["an ELF file for another architecture", { k: buildElf({ machine: 62 }) }, [
    "--kernel",
    "@k",
  ], /AArch64/],
  [
    "an initrd larger than memory",
    { k: FLAT, i: new Uint8Array(20 << 20) },
    ["--kernel", "@k", "--initrd", "@i", "--memory", "16M"],
    /initrd: needs .* memory is/,
  ],
  [
    "an empty initrd",
    { k: FLAT, i: new Uint8Array(0) },
    ["--kernel", "@k", "--initrd", "@i"],
    /initrd: the file is empty/,
  ],
  [
    "a device tree with a wrong magic number",
    { k: FLAT, d: new Uint8Array(256) },
    ["--kernel", "@k", "--dtb", "@d"],
    /device tree: .*magic/,
  ],
  [
    "a device tree that is cut short",
    {
      k: FLAT,
      d: writeFdt({ root: node("", { x: cells(1) }), reservations: [], bootCpu: 0 }).subarray(
        0,
        60,
      ),
    },
    ["--kernel", "@k", "--dtb", "@d"],
    /device tree: /,
  ],
  ["more vCPUs than there can be", {}, ["--vcpus", "65"], /--vcpus: a whole number from 1 to 64/],
  [
    "more vCPUs than a GICv2 serves",
    {},
    ["--gic", "2", "--vcpus", "9"],
    /--gic 2.*--vcpus|--vcpus.*8/,
  ],
  ["too much memory", {}, ["--memory", "64G"], /--memory: from 16M to/],
  ["memory that is no multiple of 2M", {}, ["--memory", "17M"], /steps of 2M/],
  ["a kernel that is not there", {}, ["--kernel", "@k"], /k: no such file/],
  ["a folder as kernel", {}, ["--kernel", "@"], /: /],
];

for (const [what, files, args, line] of CASES) {
  Deno.test({ name: `bad input: ${what}`, ignore: !canRun, fn: () => refused(files, args, line) });
}
