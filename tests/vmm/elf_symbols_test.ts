import assert from "node:assert/strict";
import fc from "fast-check";
import { SymbolTable } from "../../src/vmm/elf_symbols.ts";
import { buildElf, GLOBAL, STT, type TestElf } from "./elf_builder.ts";
import { assertOnlyUserErrors, assertUserError, damaged } from "./user_error.ts";

const PROGRAM: TestElf = {
  textAddress: 0x4000_0000n,
  textSize: 0x1000n,
  symbols: [
    { name: "tail", value: 0x4000_0800n, info: GLOBAL | STT.NOTYPE },
    { name: "main", value: 0x4000_0100n, size: 0x40n },
    { name: "_start", value: 0x4000_0000n, size: 0n, info: GLOBAL | STT.NOTYPE },
    { name: "main_alias", value: 0x4000_0100n, size: 0x40n, info: STT.FUNC },
    { name: "$x", value: 0x4000_0120n, info: STT.NOTYPE },
    { name: ".L7", value: 0x4000_0124n, info: STT.NOTYPE },
    { name: "undefined", value: 0x4000_0128n, section: 0 },
    { name: "absolute", value: 0x4000_012cn, section: 0xfff1 },
    { name: "section", value: 0x4000_0130n, info: STT.SECTION },
    { name: "", value: 0x4000_0134n },
  ],
};

Deno.test("an address is shown as symbol and offset, the start as the symbol alone", () => {
  const table = SymbolTable.fromElf(buildElf(PROGRAM));
  assert.equal(table.size, 3);
  assert.equal(table.lookup(0x4000_0100, 0), "main");
  assert.equal(table.lookup(0x4000_013c, 0), "main+0x3c");
  assert.equal(table.lookup(0x4000_00fc, 0), "_start+0xfc");
});

Deno.test("an address outside all symbols has no name", () => {
  const table = SymbolTable.fromElf(buildElf(PROGRAM));
  assert.equal(table.lookup(0x4000_0140, 0), undefined, "behind main, which has a size");
  assert.equal(table.lookup(0x3fff_ffff, 0), undefined, "below all");
  assert.equal(table.lookup(0x4000_0100, 1), undefined, "another upper half");
  assert.equal(table.lookup(0x4000_0ffc, 0), "tail+0x7fc", "to the end of the section");
  assert.equal(table.lookup(0x4000_1000, 0), undefined, "behind the section");
});

Deno.test("kernel addresses keep all 64 bits, and signed halves are taken as unsigned", () => {
  const symbols = [{ name: "vectors", value: 0xffff_8000_8801_0801n, size: 8n }];
  const table = SymbolTable.fromElf(buildElf({ symbols }));
  assert.equal(table.lookup(0x8801_0802, 0xffff_8000), "vectors+0x1");
  assert.equal(table.lookup(0x8801_0802 | 0, 0xffff_8000 | 0), "vectors+0x1");
});

Deno.test("a file that was moved when loaded has moved symbols", () => {
  const table = SymbolTable.fromElf(buildElf(PROGRAM), "kernel", 0x1000);
  assert.equal(table.lookup(0x4000_1104, 0), "main+0x4");
});

Deno.test("a file without symbols knows no name", () => {
  assert.equal(SymbolTable.fromElf(buildElf({})).size, 0);
  assert.equal(SymbolTable.EMPTY.lookup(0, 0), undefined);
});

Deno.test("damage is a user error", () => {
  assertUserError(() => SymbolTable.fromElf(Uint8Array.of(1), "k"), /^k: not an ELF file/);
  assertUserError(() => SymbolTable.fromElf(buildElf(PROGRAM).slice(0, -1)), /cut short/);
});

Deno.test("random damage throws nothing but a user error", () => {
  fc.assert(
    fc.property(damaged(buildElf(PROGRAM)), (bytes) => {
      assertOnlyUserErrors(() => SymbolTable.fromElf(bytes).lookup(0x4000_0100, 0));
    }),
    { numRuns: 1000 },
  );
});

Deno.test("lookup finds what a search through all symbols finds", () => {
  const sizes = fc.array(fc.integer({ min: 1, max: 16 }), { minLength: 1, maxLength: 30 });
  fc.assert(fc.property(sizes, fc.nat(500), (list, address) => {
    let at = 0;
    const symbols = list.map((size, index) => {
      const symbol = { name: `s${index}`, value: BigInt(at), size: BigInt(size) };
      at += size + 1;
      return symbol;
    });
    const table = SymbolTable.fromElf(buildElf({ symbols }));
    const home = symbols.find(({ value, size }) => {
      return BigInt(address) >= value && BigInt(address) < value + size;
    });
    assert.equal(table.lookup(address, 0)?.split("+")[0], home?.name);
  }));
});
