/** What must hold for every row and for the decoder made from them. */
import assert from "node:assert/strict";
import { CpuLayout } from "../../../src/arm/arch/cpu_state.ts";
import { Random, randomInstruction, shapeKey, shapesOf } from "../../../src/arm/isa/random.ts";
import { encode, extractFields, type Row, row } from "../../../src/arm/isa/row.ts";
import { DECODER, Decoder, ROWS } from "../../../src/arm/isa/table.ts";

/** The pairs of rows that share words: the first, which must come earlier and be more special, owns them. */
const SPECIAL_CASES: readonly (readonly [special: string, general: string])[] = [
  ["NOP_YIELD", "HINT"],
  ["WFE_WFI", "HINT"],
  ["SEV_SEVL", "HINT"],
  ["HINT_6_7", "HINT"],
  ["FMLAL_v", "FP_three_same_v"],
  ["FMLAL2_v", "FP_three_same_v"],
];

/** Rows whose shape is an encoding, so that not all shapes can be listed. */
const BY_KEY = new Set(["SYS", "SYSL", "MRS", "MSR_reg"]);

function overlaps(a: Row, b: Row): boolean {
  return ((a.value ^ b.value) & a.mask & b.mask) === 0;
}

function overlappingPairs(rows: readonly Row[]): [string, string][] {
  return rows.flatMap((a, i) =>
    rows.slice(i + 1).filter((b) => overlaps(a, b)).map((b): [string, string] => [a.name, b.name])
  );
}

Deno.test("names are unique", () => {
  assert.equal(new Set(ROWS.map((r) => r.name)).size, ROWS.length);
});

Deno.test("patterns overlap only where it is listed, and there the special one comes first", () => {
  assert.deepEqual(overlappingPairs(ROWS), SPECIAL_CASES);
  const byName = (name: string) => ROWS.find((r) => r.name === name) as Row;
  for (const [special, general] of SPECIAL_CASES) {
    const [s, g] = [byName(special), byName(general)];
    assert.ok(((s.mask ^ g.mask) & g.mask) === 0, `${special} is not a special case of ${general}`);
  }
});

Deno.test("an overlap is detected", () => {
  const twin = row({
    name: "TWIN",
    pattern: "000101iiiiiiiiiiiiiiiiiiiiiii000",
    disassemble: () => "twin",
    predecode: () => ({ shape: {}, slots: {}, consts: {} }),
    semantics: (b) => b.hint("nop"),
  });
  const found = overlappingPairs([...ROWS, twin]).filter(([, b]) => b === "TWIN");
  assert.deepEqual(found, [["B", "TWIN"]]);
});

Deno.test("fields extract and encode back, and random words belong to their row", () => {
  const random = new Random(1);
  for (const row of ROWS) {
    for (let i = 0; i < 200; i++) {
      const { word } = randomInstruction(row, random);
      assert.equal(encode(row, extractFields(row, word)), word, row.name);
      assert.equal(DECODER.row(word)?.name, row.name);
    }
  }
});

Deno.test("a changed field changes its bits only", () => {
  const random = new Random(2);
  for (const row of ROWS) {
    const { word } = randomInstruction(row, random);
    for (const { letter, bits } of row.fields) {
      const fields = extractFields(row, word);
      const value = random.below(2 ** bits.length);
      const changed = encode(row, { ...fields, [letter]: value });
      assert.deepEqual(extractFields(row, changed), { ...fields, [letter]: value });
      const mask = bits.reduce((sum, bit) => sum | (1 << bit), 0);
      assert.equal((changed ^ word) & ~mask, 0);
    }
  }
});

Deno.test("the decoder's buckets find what a search of all rows finds", () => {
  const random = new Random(3);
  const search = (word: number) => ROWS.find((r) => ((word ^ r.value) & r.mask) === 0);
  let found = 0;
  for (let i = 0; i < 50_000; i++) {
    const word = random.u32();
    assert.equal(DECODER.row(word), search(word));
    if (DECODER.row(word)) found++;
  }
  assert.ok(found > 5000);
  assert.equal(new Decoder([]).row(0xd503201f), undefined);
});

Deno.test("the random generator makes every shape of every row, and no other", () => {
  const random = new Random(4);
  for (const row of ROWS.filter((r) => !BY_KEY.has(r.name))) {
    const shapes = shapesOf(row);
    assert.ok(shapes.size > 0, row.name);
    const made = new Set<string>();
    for (let i = 0; i < 60 * shapes.size; i++) {
      made.add(shapeKey(randomInstruction(row, random).decoded.shape));
    }
    assert.deepEqual([...made].sort(), [...shapes.keys()].sort(), row.name);
  }
});

Deno.test("the same seed makes the same words", () => {
  const words = (seed: number) => {
    const random = new Random(seed);
    return ROWS.map((row) => randomInstruction(row, random).word);
  };
  assert.deepEqual(words(5), words(5));
  assert.notDeepEqual(words(5), words(6));
});

Deno.test("slots and constants keep within what a record holds", () => {
  const random = new Random(6);
  for (const row of ROWS) {
    for (let i = 0; i < 100; i++) {
      const { slots, consts } = randomInstruction(row, random).decoded;
      const values = Object.values(consts);
      const wide = values.filter((v) => typeof v === "bigint").length;
      const narrow = values.length - wide;
      const count = Object.keys(slots).length;
      assert.ok(count <= 6, row.name);
      assert.ok(2 * wide + narrow <= (count > 4 ? 4 : 5), row.name);
      for (const slot of Object.values(slots)) {
        assert.ok(slot >= 0 && slot < CpuLayout.offset.fpcr && slot % 8 === 0, row.name);
      }
      for (const value of values) {
        const range = typeof value === "bigint"
          ? value >= -(1n << 63n) && value < 1n << 64n
          : Number.isInteger(value) && value >= -(2 ** 31) && value < 2 ** 32;
        assert.ok(range, `${row.name}: ${value}`);
      }
    }
  }
});

Deno.test("unallocated encodings are UNDEFINED", () => {
  const words = [
    0x12400000, // AND W with N = 1
    0x12c00000, // MOVN W with hw = 2
    0x72800000 & ~0x60000000 | 0x20000000, // move wide with opc = 1
    0x13400000, // SBFM W with N = 1
    0x0b008000, // ADD W, shifted by 32
    0x0bc00000, // ADD with ROR
    0x8b201400, // ADD extended by 5
    0xdac01800, // opcode 6 of the one-source group
    0x5ac00c00, // REV of 64 bits on a W register
    0xb8c00400 | 0x00c00000, // size 2, opc 3
    0xf8800400, // PRFM with write-back
    0x68000000, // STNP with opc 1
    0xe8400000, // pair with opc 3
    0x08217c00, // CASP of an odd register
    0x08a07841, // CAS with a second register
    0xb8209000, // atomic operation with o3 set and opc 1
    0x38b0c000, // LDAPR with a register
    0xd9c00000, // LDAPURS of 64 bits
    0x9ac34041, // CRC32B of an X register
    0xd503305f & ~0x40, // barrier space, op2 0
    0xd50040ff, // MSR (immediate) without a field
    0xd65f0bff, // RETAA
    0xd6bf03e0, // DRPS
    0x1e260000 | 0x400000, // FMOV W from D
    0x1ea22820, // FADD of type 2
    0x1e229820, // FP two-source opcode 9
    0x1e224020, // FCVT from S to S
    0x1e634020, // BFCVT
    0x1e020020, // SCVTF W with more than 32 fraction bits
    0x4ea0dc20, // FMULX with size 1x
    0x0e60d420, // FADD 1D
    0x0fe01020, // FMLA by element of D with L
    0x0f08e420, // conversion with immh 0001
    0x5ea18820, // scalar two-register opcode 11000
    0x0ee28420, // ADD of 1D
    0x4ee29c20, // MUL of doublewords
    0x6e629c20, // PMUL of halfwords
    0x4e22b420, // SQDMULH of bytes
    0x5ea28420, // ADD of a scalar word
    0x0ee22020, // SSUBL of doublewords
    0x4e22d020, // SQDMULL of bytes
    0x0e601820, // REV16 of halfwords
    0x0eb03820, // SADDLV of two words
    0x4e000420, // DUP with imm5 = 0
    0x0e080420, // DUP to 1D
    0x0e083c20, // UMOV of a doubleword to a W register
    0x2e024020, // EXT by 8 and more of 8 bytes
    0x0ec21820, // UZP1 of 1D
    0x0f000400 | 0x20000000 | 0xf000, // FMOV of 1D
    0x0f400400, // SSHR of 1D
    0x0f028020, // MUL by an element of bytes
    0x0c408c00, // LD2 of 1D
    0x4c404000 & ~0x4000 | 0x1000, // opcode 1 of multiple structures
    0x0d40a000 | 0x800, // element size 11 of single structures
    0x4e284820 | 0x400000, // AESE of size 1
    0x00000000, // UDF
  ];
  for (const word of words) {
    assert.equal(DECODER.decode(word >>> 0), undefined, `0x${(word >>> 0).toString(16)}`);
  }
});
