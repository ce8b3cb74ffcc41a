import assert from "node:assert/strict";
import fc from "fast-check";
import { SymbolTable } from "../../src/vmm/elf_symbols.ts";
import { GuestSymbols, symbolsFor } from "../../src/vmm/guest_symbols.ts";
import { findKallsyms } from "../../src/vmm/kallsyms.ts";
import { debianKernel } from "../support/debian_kernel.ts";
import { damaged } from "./user_error.ts";

const COUNT = 1200;
const BASE = 0xffff_8000_0801_0000n;
const align8 = (bytes: number[]): void => {
  while (bytes.length % 8) bytes.push(0);
};
const word = (n: number): number[] => [n & 255, (n >> 8) & 255, (n >> 16) & 255, n >>> 24];

interface Layout {
  /** Offsets behind the token index, as from Linux 6.4 on. */
  readonly late?: boolean;
  /** Bytes between markers and tokens, as from Linux 6.2 on. */
  readonly between?: number;
  /** The base is in a relocation only. */
  readonly relocated?: boolean;
}

/** Names of the symbols of {@link image}, with their types. */
const NAMES = Array.from({ length: COUNT }, (_, i) => i === 3 ? "Tvectors" : `tfunction_${i}`);
NAMES[1] = `t${"long".repeat(50)}`;
NAMES[5] = "dsome_data";

/** Bytes as scripts/kallsyms.c writes them; every character is its own token but "function". */
function image({ late = false, between = 0, relocated = false }: Layout = {}): Uint8Array {
  const bytes = new Array<number>(0x1000).fill(0);
  const offsets = (): number => {
    const at = bytes.length;
    for (let i = 0; i < COUNT; i++) bytes.push(...word(0x40 * i));
    align8(bytes);
    for (let i = 0; i < 8; i++) bytes.push(relocated ? 0 : Number((BASE >> BigInt(8 * i)) & 255n));
    return at + COUNT * 4;
  };
  const baseAt = late ? 0 : offsets();
  bytes.push(...word(COUNT));
  align8(bytes);
  const start = bytes.length;
  const markers: number[] = [];
  NAMES.forEach((name, i) => {
    if (i % 256 === 0) markers.push(bytes.length - start);
    const tokens = [...name.replace("function", "\x01")].map((c) => c.charCodeAt(0));
    const { length } = tokens;
    bytes.push(...length < 128 ? [length] : [(length & 127) | 128, length >> 7], ...tokens);
  });
  align8(bytes);
  bytes.push(...markers.flatMap(word));
  for (let i = 0; i < between; i++) bytes.push(0xff);
  align8(bytes);
  const index: number[] = [];
  const table = bytes.length;
  for (let i = 0; i < 256; i++) {
    index.push(bytes.length - table);
    const token = i === 1 ? "function" : i === 0 ? "" : String.fromCharCode(i);
    bytes.push(...[...token].map((c) => c.charCodeAt(0)), 0);
  }
  align8(bytes);
  for (const n of index) bytes.push(n & 255, n >> 8);
  if (late) offsets();
  align8(bytes);
  if (relocated) {
    const le = (n: bigint) =>
      Array.from({ length: 8 }, (_, i) => Number((n >> BigInt(8 * i)) & 255n));
    const link = BASE - 0x1_0000n;
    const at = Math.ceil(baseAt / 8) * 8;
    bytes.push(...le(link + BigInt(at)), ...le(0x403n), ...le(BASE));
  }
  return Uint8Array.from(bytes);
}

const LAYOUTS: readonly Layout[] = [
  {},
  { between: 3 * COUNT },
  { late: true },
  { late: true, between: 8 },
  { relocated: true },
];

for (const layout of LAYOUTS) {
  Deno.test(`a kernel's own symbols are found: ${JSON.stringify(layout)}`, () => {
    const found = findKallsyms(image(layout));
    assert.equal(found?.base, BASE);
    assert.equal(found.symbols.length, COUNT - 1, "data is left out");
    assert.deepEqual(found.symbols[0], { name: "function_0", offset: 0, type: "t" });
    assert.equal(found.symbols[1]?.name, "long".repeat(50));
    assert.deepEqual(found.symbols.at(-1)?.name, `function_${COUNT - 1}`);
    assert.equal(found.symbols.at(-1)?.offset, 0x40 * (COUNT - 1));
  });
}

Deno.test("damaged and other images have no symbols, or some, but no error", () => {
  assert.equal(findKallsyms(new Uint8Array(0)), undefined);
  assert.equal(findKallsyms(new Uint8Array(100_000)), undefined);
  fc.assert(
    fc.property(damaged(image()), (bytes) => void findKallsyms(bytes)),
    { numRuns: 60 },
  );
});

// The slide

const VECTORS = BASE + 3n * 0x40n;

Deno.test("the slide is what VBAR_EL1 is away from the vectors; a trampoline changes nothing", () => {
  const symbols = GuestSymbols.fromImage(image(), 0x4020_0000);
  assert.ok(symbols);
  assert.equal(symbols.lookup(BASE + 0x44n), undefined, "not known where it is");
  // Not yet translated: physical addresses.
  assert.equal(symbols.lookup(0x4021_0044n), `${"long".repeat(50)}+0x4`);
  const slide = 0x2f4_5a20_0000n;
  symbols.observe(VECTORS + slide);
  assert.equal(symbols.slide, slide);
  assert.equal(symbols.lookup(BASE + slide + 0x88n), "function_2+0x8");
  assert.equal(symbols.lookup(BASE + 0x88n), undefined);
  const aligned = 0xffff_fbff_fe80_0000n + VECTORS % 0x1_0000n;
  for (const trampoline of [0xffff_fbff_fe80_0800n, aligned, 0n, VECTORS + slide + 8n]) {
    symbols.observe(trampoline);
    assert.equal(symbols.slide, slide);
  }
});

Deno.test("System.map slides too, other listings do not", () => {
  const line = (address: bigint, name: string) => `${address.toString(16)} T ${name}\n`;
  const map = GuestSymbols.fromNm(line(BASE, "_text") + line(VECTORS, "vectors"));
  map.observe(VECTORS + 0x20_0000n);
  assert.equal(map.lookup(VECTORS + 0x20_0004n), "vectors+0x4");
  const plain = GuestSymbols.fromNm("0000000040080000 T main\n0000000040080100 T other\n");
  assert.equal(plain.lookup(0x4008_0010n), "main+0x10");
  plain.observe(0x1234_0000n);
  assert.equal(plain.lookup(0x4008_0010n), "main+0x10");
});

Deno.test("symbols of a file, of an image, and of a file that has none", async () => {
  const kernel = { name: "kernel", bytes: Uint8Array.of(1, 2, 3, 4) };
  assert.equal((await symbolsFor(kernel, undefined)).table.size, 0);
  const listing = { name: "map", bytes: new TextEncoder().encode("0000000040080000 t f\n") };
  assert.equal((await symbolsFor(kernel, listing)).lookup(0x4008_0004n), "f+0x4");
  const none = { name: "map", bytes: new TextEncoder().encode("hello") };
  await assert.rejects(() => symbolsFor(kernel, none), /map: no symbols/);
  assert.equal(SymbolTable.fromSorted([]).size, 0);
});

const debian = debianKernel();

Deno.test("Debian's kernel has its symbols", { ignore: debian === undefined }, () => {
  const found = findKallsyms(debian as Uint8Array);
  assert.ok(found && found.symbols.length > 40_000);
  assert.equal(found.base, 0xffff_8000_0801_0000n);
  const offsetOf = (name: string) => found.symbols.find((s) => s.name === name)?.offset;
  assert.equal(offsetOf("_stext"), 0);
  assert.equal(offsetOf("vectors"), 0x800);
  for (const name of ["schedule", "cpu_do_idle", "do_idle"]) assert.ok(offsetOf(name), name);
});
