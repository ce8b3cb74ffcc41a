/**
 * Walks of all granules against a second walker, written in bigints from the manual's text: any size
 * of range, any level of leaf, both stages, both halves. And what hardware writes into the tables.
 */
import assert from "node:assert/strict";
import fc from "fast-check";
import { ACCESS, type Access } from "../../../src/arm/arch/tlb_layout.ts";
import { FSC } from "../../../src/arm/mmu/fault.ts";
import { FILL } from "../../../src/arm/mmu/mmu.ts";
import {
  D,
  DATA_PA,
  HCR,
  IPA_DELTA,
  KERNEL,
  lo32,
  MAIR,
  RAM_PA,
  S2_ALL,
  stage1World,
  stage2World,
  tcr,
  World,
} from "./world.ts";

const { READ, WRITE, EXECUTE } = ACCESS;
const TG0 = { 12: 0n, 14: 2n, 16: 1n } as const;
const TG1 = { 12: 2n, 14: 1n, 16: 3n } as const;
type PageBits = keyof typeof TG0;
const PAGE_BITS: readonly PageBits[] = [12, 14, 16];

/** Levels that have leaves. */
const LEAF_LEVELS: Readonly<Record<PageBits, readonly number[]>> = {
  12: [1, 2, 3],
  14: [2, 3],
  16: [2, 3],
};

const leafBits = (page: PageBits, level: number) => page + (3 - level) * (page - 3);

/**
 * Where the walk of `address` goes in tables that have only this one path: the offsets of the entries,
 * from the first table on. Manual: the first table resolves what the levels below it leave over.
 */
function path(page: PageBits, address: bigint, inputBits: number, first: number, last: number) {
  const out: { level: number; index: number }[] = [];
  for (let level = first; level <= last; level++) {
    const low = leafBits(page, level);
    const high = level === first ? inputBits : low + page - 3;
    const width = BigInt(high - low);
    out.push({ level, index: Number((address >> BigInt(low)) & ((1n << width) - 1n)) });
  }
  return out;
}

/** Builds the one path in RAM and returns the root. `leaf`: the last descriptor without its type. */
function build(
  w: World,
  page: PageBits,
  steps: readonly { level: number; index: number }[],
  leaf: bigint,
  rootBytes: number,
): bigint {
  const pages = (bytes: number) => w.tablePages(Math.max(1, bytes / 4096));
  const root = pages(rootBytes);
  let table = root;
  for (const [i, { level, index }] of steps.entries()) {
    const at = w.at(table) + 8 * index;
    if (i === steps.length - 1) w.memory.st64(at, leaf | (level === 3 ? D.PAGE : D.BLOCK));
    else {
      table = pages(1 << page);
      w.memory.st64(at, BigInt(table) | D.TABLE);
    }
  }
  return BigInt(root);
}

const startOf = (page: PageBits, inputBits: number) => {
  let level = 3;
  while (leafBits(page, level) + page - 3 < inputBits) level--;
  return level;
};

const arbitraryWalk = fc.record({
  page: fc.constantFrom(...PAGE_BITS),
  tsz: fc.integer({ min: 16, max: 39 }),
  upper: fc.boolean(),
  leaf: fc.nat(2),
  address: fc.bigInt({ min: 0n, max: (1n << 48n) - 1n }),
  /** The page of output, below 2^48. */
  out: fc.bigInt({ min: 0n, max: (1n << 48n) - 1n }),
});

Deno.test("stage 1: any granule, size, half and level gives what the manual's steps give", () => {
  fc.assert(fc.property(arbitraryWalk, ({ page, tsz, upper, leaf, address, out }) => {
    const inputBits = 64 - tsz;
    const offset = address & ((1n << BigInt(inputBits)) - 1n);
    const first = startOf(page, inputBits);
    const levels = LEAF_LEVELS[page].filter((level) => level >= first);
    const level = levels[leaf % levels.length] as number;
    const bits = BigInt(leafBits(page, level));
    const base = (out >> bits) << bits;
    const w = new World();
    const steps = path(page, offset, inputBits, first, level);
    const width = inputBits - leafBits(page, first);
    const root = build(w, page, steps, base | KERNEL, Math.max(4096, 8 << width));
    const va = upper ? BigInt.asUintN(64, -1n << BigInt(inputBits)) | offset : offset;
    w.set({
      SCTLR_EL1: 1n,
      TCR_EL1: tcr(tsz) & ~(3n << 30n) | (TG0[page] << 14n) | (TG1[page] << 30n),
      MAIR_EL1: MAIR,
      TTBR0_EL1: root,
      TTBR1_EL1: root,
    });
    w.enter(1);
    assert.ok(w.translate(va), `fault ${w.mmu.fault.fsc.toString(16)}`);
    assert.equal(BigInt(w.mmu.pa), base | (offset & ((1n << bits) - 1n)));
    // The neighbour of the leaf is not mapped.
    const other = offset ^ (1n << bits);
    if (other >> BigInt(inputBits) !== 0n) return;
    assert.equal(w.translate(va ^ (1n << bits)), false);
    const fault = w.mmu.fault.fsc - FSC.TRANSLATION;
    assert.ok(fault >= first && fault <= level, `level ${fault}`);
  }));
});

/** VTCR_EL2.SL0 of a start level. */
const sl0 = (page: PageBits, level: number) => BigInt(page === 12 ? 2 - level : 3 - level);

Deno.test("stage 2: any granule, size, start level and number of concatenated tables", () => {
  const walk = fc.record({
    page: fc.constantFrom(...PAGE_BITS),
    inputBits: fc.integer({ min: 25, max: 48 }),
    concatenated: fc.boolean(),
    leaf: fc.nat(2),
    address: fc.bigInt({ min: 0n, max: (1n << 48n) - 1n }),
  });
  let concatenatedTables = 0;
  fc.assert(
    fc.property(walk, ({ page, inputBits, concatenated, leaf, address }) => {
      const ipa = address & ((1n << BigInt(inputBits)) - 1n);
      const natural = startOf(page, inputBits);
      // One level further down, up to 16 tables take the place of one entry each.
      const more = natural < 3 && inputBits - leafBits(page, natural + 1) <= page - 3 + 4;
      const lowest = page === 12 ? 2 : 3;
      const least = page === 12 ? 0 : 1;
      const first = concatenated && more && natural < lowest ? natural + 1 : natural;
      if (first > lowest || first < least) return;
      if (first > natural) concatenatedTables++;
      const levels = LEAF_LEVELS[page].filter((level) => level >= first);
      const level = levels[leaf % levels.length] as number;
      const bits = BigInt(leafBits(page, level));
      const base = (BigInt(DATA_PA) >> bits) << bits;
      const w = new World();
      const steps = path(page, ipa, inputBits, first, level);
      const width = inputBits - leafBits(page, first);
      const root = build(w, page, steps, base | S2_ALL, Math.max(4096, 8 << width));
      const vtcr = BigInt(64 - inputBits) | (sl0(page, first) << 6n) | (TG0[page] << 14n) |
        (5n << 16n) | (1n << 31n);
      w.set({ HCR_EL2: HCR.VM | HCR.RW, VTCR_EL2: vtcr, VTTBR_EL2: root });
      w.enter(1);
      assert.ok(w.translate(ipa), `fault ${w.mmu.fault.fsc.toString(16)}`);
      assert.equal(BigInt(w.mmu.pa), base | (ipa & ((1n << bits) - 1n)));
      // 17 tables are too many.
      const tooMany = leafBits(page, first) + page - 3 + 5;
      if (tooMany > 48) return;
      w.set({ VTCR_EL2: vtcr & ~0x3fn | BigInt(64 - tooMany) });
      assert.equal(w.translate(ipa), false);
      assert.equal(w.mmu.fault.fsc, FSC.TRANSLATION);
    }),
    { numRuns: 400 },
  );
  assert.ok(concatenatedTables > 20);
});

Deno.test("blocks at level 1 of 16 and 64 KiB granules, and at level 0, are reserved", () => {
  for (const [page, level, tsz] of [[14, 1, 17], [16, 1, 16], [14, 0, 16]] as const) {
    const w = new World();
    const first = startOf(page, 64 - tsz);
    const steps = path(page, 0n, 64 - tsz, first, level);
    const root = build(w, page, steps, KERNEL, 65536);
    w.set({
      SCTLR_EL1: 1n,
      TCR_EL1: tcr(tsz) | (TG0[page] << 14n),
      MAIR_EL1: MAIR,
      TTBR0_EL1: root,
    });
    w.enter(1);
    assert.equal(w.translate(0n), false);
    assert.equal(w.mmu.fault.fsc, FSC.TRANSLATION + level);
  }
});

Deno.test("the software TLB holds 4 KiB of a larger page, and loses all of it by one TLBI", () => {
  for (const page of [14, 16] as const) {
    const w = new World();
    const steps = path(page, 0x10_0000n, 39, startOf(page, 39), 3);
    const root = build(w, page, steps, BigInt(DATA_PA) | KERNEL, 65536);
    w.set({
      SCTLR_EL1: 1n,
      TCR_EL1: tcr(25) | (TG0[page] << 14n),
      MAIR_EL1: MAIR,
      TTBR0_EL1: root,
    });
    w.enter(1);
    const pages = Array.from(
      { length: (1 << page) / 4096 },
      (_, i) => 0x10_0000n + 4096n * BigInt(i),
    );
    for (const [i, va] of pages.entries()) {
      assert.equal(w.fill(va, READ), FILL.RAM);
      assert.equal(w.lookup(va, READ), w.at(DATA_PA + 4096 * i));
    }
    w.mmu.tlbi(w.cpus, w.cpu, "VAAE1", lo32(0x10_1000n >> 12n), 0);
    assert.deepEqual(pages.map((va) => w.lookup(va, READ)), pages.map(() => -1));
  }
});

// Hardware management of the access flag and dirty state

const HA = 1n << 39n, HD = 1n << 40n, HPD0 = 1n << 41n, HPD1 = 1n << 42n;
const V_HA = 1n << 21n, V_HD = 1n << 22n;
const DBM = 1n << 51n, READ_ONLY = 1n << 7n, S2_WRITE = 1n << 7n;

Deno.test("HA sets the access flag of the leaf, whatever accesses; without HA it is a fault", () => {
  for (const [access, level] of [[READ, 3], [WRITE, 2], [EXECUTE, 3]] as const) {
    const { w, t } = stage1World();
    t.map(0x20_0000n, DATA_PA, KERNEL & ~D.AF, level);
    assert.equal(w.translate(0x20_0000n, access), false);
    assert.equal(w.mmu.fault.fsc, FSC.ACCESS_FLAG + level);
    w.set({ TCR_EL1: tcr(25) | HA });
    const entry = t.entry(0x20_0000n, level);
    const before = w.memory.ld64(entry);
    assert.ok(w.translate(0x20_0000n, access));
    assert.equal(w.memory.ld64(entry), before | D.AF);
  }
});

Deno.test("HA leaves the flag alone where the access is not permitted", () => {
  const { w, t } = stage1World();
  t.map(0x1000n, DATA_PA, KERNEL & ~D.AF | READ_ONLY);
  w.set({ TCR_EL1: tcr(25) | HA | HD });
  assert.equal(w.translate(0x1000n, WRITE), false);
  assert.equal(w.mmu.fault.fsc, FSC.PERMISSION + 3);
  assert.equal(w.memory.ld64(t.entry(0x1000n, 3)) & D.AF, 0n);
});

Deno.test("HD makes a read-only leaf with DBM writable at the first write, not before", () => {
  const { w, t } = stage1World();
  t.map(0x1000n, DATA_PA, KERNEL | READ_ONLY | DBM);
  const entry = t.entry(0x1000n, 3);
  const clean = w.memory.ld64(entry);
  assert.equal(w.translate(0x1000n, WRITE), false, "without HD");
  w.set({ TCR_EL1: tcr(25) | HD });
  assert.equal(w.translate(0x1000n, WRITE), false, "HD without HA");
  w.set({ TCR_EL1: tcr(25) | HA | HD });
  w.enter(1);
  assert.equal(w.fill(0x1000n, READ), FILL.RAM);
  assert.equal(w.lookup(0x1000n, WRITE), -1);
  assert.equal(w.memory.ld64(entry), clean);
  assert.equal(w.fill(0x1000n, WRITE), FILL.RAM);
  assert.ok(w.lookup(0x1000n, WRITE) > 0);
  assert.equal(w.memory.ld64(entry), clean & ~READ_ONLY);
});

Deno.test("what EL0 may not write stays clean; a table that forbids writes wins over DBM", () => {
  const { w, t } = stage1World();
  t.map(0x1000n, DATA_PA, KERNEL | READ_ONLY | DBM);
  t.map(0x40_0000n, DATA_PA, KERNEL | READ_ONLY | DBM);
  t.or(0x40_0000n, 2, D.apTable(2));
  w.set({ TCR_EL1: tcr(25) | HA | HD });
  for (const [va, el] of [[0x1000n, 0], [0x40_0000n, 1]] as const) {
    assert.equal(w.translate(va, WRITE, el), false);
    assert.equal(w.mmu.fault.fsc, FSC.PERMISSION + 3);
    assert.equal(w.memory.ld64(t.entry(va, 3)) & READ_ONLY, READ_ONLY);
  }
});

Deno.test("AT and cache maintenance change no table", () => {
  const { w, t } = stage1World();
  t.map(0x1000n, DATA_PA, KERNEL & ~D.AF | READ_ONLY | DBM);
  w.set({ TCR_EL1: tcr(25) | HA | HD });
  w.enter(1);
  const before = w.memory.ld64(t.entry(0x1000n, 3));
  assert.ok(w.mmu.addressTranslate(w.cpu, "S1E1W", 0x1000, 0));
  assert.equal(w.get("PAR_EL1") & 1n, 0n);
  assert.ok(w.mmu.translate(w.cpu, 0x1000, 0, WRITE, 1, false, false));
  assert.equal(w.memory.ld64(t.entry(0x1000n, 3)), before);
});

Deno.test("stage 2 has its own flag and dirty state", () => {
  const { w, t, s2 } = stage2World();
  const ipa = BigInt(DATA_PA + IPA_DELTA);
  t.map(0x1000n, Number(ipa), KERNEL);
  s2.map(ipa, DATA_PA, (S2_ALL & ~D.AF & ~S2_WRITE) | DBM, 2);
  const entry = s2.entry(ipa, 2);
  const clean = w.memory.ld64(entry);
  assert.equal(w.translate(0x1000n), false);
  assert.equal(w.mmu.fault.fsc, FSC.ACCESS_FLAG + 2);
  w.set({ VTCR_EL2: w.get("VTCR_EL2") | V_HA | V_HD });
  w.enter(1);
  assert.equal(w.fill(0x1000n, READ), FILL.RAM);
  assert.equal(w.memory.ld64(entry), clean | D.AF);
  assert.equal(w.lookup(0x1000n, WRITE), -1);
  assert.equal(w.fill(0x1000n, WRITE), FILL.RAM);
  assert.equal(w.memory.ld64(entry), clean | D.AF | S2_WRITE);
});

Deno.test("an update of stage 1's tables needs stage 2's permission to write them, and makes them dirty", () => {
  const { w, t, s2 } = stage2World();
  const ipa = BigInt(DATA_PA + IPA_DELTA);
  t.map(0x1000n, Number(ipa), KERNEL & ~D.AF);
  const tables = BigInt(RAM_PA + IPA_DELTA);
  s2.map(tables, RAM_PA, S2_ALL & ~S2_WRITE, 2);
  w.set({ TCR_EL1: tcr(25) | HA });
  assert.equal(w.translate(0x1000n), false);
  const { fsc, s1ptw, stage2, write } = w.mmu.fault;
  assert.deepEqual([fsc, s1ptw, stage2, write], [FSC.PERMISSION + 2, true, true, true]);
  s2.map(tables, RAM_PA, (S2_ALL & ~S2_WRITE) | DBM, 2);
  w.set({ VTCR_EL2: w.get("VTCR_EL2") | V_HA | V_HD });
  assert.ok(w.translate(0x1000n));
  assert.equal(w.memory.ld64(t.entry(0x1000n, 3)) & D.AF, D.AF);
  assert.equal(w.memory.ld64(s2.entry(tables, 2)) & S2_WRITE, S2_WRITE);
});

Deno.test("HPD0 and HPD1 disable what table descriptors forbid, each in its range", () => {
  const { w, t } = stage1World();
  t.map(0x1000n, DATA_PA, KERNEL);
  t.or(0x1000n, 2, D.apTable(2) | D.PXN_TABLE);
  const upper = 0xffff_ff80_0000_1000n;
  const allowed = (va: bigint) => [READ, WRITE, EXECUTE].map((a: Access) => w.translate(va, a));
  for (const [hpd, va, other] of [[HPD0, 0x1000n, upper], [HPD1, upper, 0x1000n]] as const) {
    w.set({ TCR_EL1: tcr(25) | hpd });
    assert.deepEqual(allowed(va), [true, true, true]);
    assert.deepEqual(allowed(other), [true, false, false]);
  }
});

Deno.test("XNX tells EL1 from EL0", () => {
  const { w, t, s2 } = stage2World();
  const ipa = BigInt(DATA_PA + IPA_DELTA);
  t.map(0x1000n, Number(ipa), (KERNEL & ~D.ap(3)) | D.ap(3));
  const cases = [[0n, true, true], [1n, false, true], [2n, false, false], [
    3n,
    true,
    false,
  ]] as const;
  for (const [xn, el1, el0] of cases) {
    s2.map(ipa, DATA_PA, S2_ALL | (xn << 53n), 2);
    assert.equal(w.translate(0x1000n, EXECUTE, 1), el1, `XN ${xn} at EL1`);
    assert.equal(w.translate(0x1000n, EXECUTE, 0), el0, `XN ${xn} at EL0`);
  }
});
