import assert from "node:assert/strict";
import { ACCESS, type Access } from "../../../src/arm/arch/tlb_layout.ts";
import { FSC } from "../../../src/arm/mmu/fault.ts";
import { D, DATA_PA, HCR, KERNEL, MAIR, stage1World, Tables, tcr, USER, World } from "./world.ts";

const { READ, WRITE, EXECUTE } = ACCESS;
const UPPER = 0xffff_ffff_ffff_ffffn;

/** The upper-range address at `offset` in a range of `bits`. */
const upper = (bits: number, offset: bigint): bigint => (UPPER << BigInt(bits)) & UPPER | offset;

function assertFault(w: World, va: bigint, fsc: number, access: Access = READ, el = 1): void {
  assert.equal(w.translate(va, access, el), false, `0x${va.toString(16)} translates`);
  assert.deepEqual(
    { fsc: w.mmu.fault.fsc, stage2: w.mmu.fault.stage2, s1ptw: w.mmu.fault.s1ptw },
    { fsc, stage2: false, s1ptw: false },
  );
}

function assertPa(w: World, va: bigint, pa: number, access: Access = READ, el = 1): void {
  assert.equal(w.translate(va, access, el), true, `fsc ${w.mmu.fault.fsc.toString(16)}`);
  assert.equal(w.mmu.pa, pa);
}

Deno.test("every size of a range finds a page in the lower and in the upper half", () => {
  for (let tsz = 16; tsz <= 39; tsz++) {
    const { w, t } = stage1World(tsz);
    const bits = 64 - tsz;
    const offset = (1n << BigInt(bits - 1)) + 0x5000n;
    t.map(offset, DATA_PA, KERNEL);
    assertPa(w, offset + 0x123n, DATA_PA + 0x123);
    assertPa(w, upper(bits, offset) + 0x123n, DATA_PA + 0x123);
    assertFault(w, 1n << BigInt(bits), FSC.TRANSLATION);
    assertFault(w, upper(bits + 1, offset), FSC.TRANSLATION);
  }
});

Deno.test("a first table of few entries may lie anywhere it is aligned to its size", () => {
  const { w, t } = stage1World(33);
  t.map(0x4000_1000n, DATA_PA, KERNEL);
  const second = w.at(t.root) + 8;
  w.memory.st64(second + 0x30, w.memory.ld64(second));
  w.set({ TTBR0_EL1: t.base + 0x30n });
  assertPa(w, 0x4000_1000n, DATA_PA);
  w.set({ TTBR0_EL1: t.base + 0x31n });
  assertPa(w, 0x4000_1000n, DATA_PA);
  w.set({ TTBR0_EL1: t.base + 0x20n });
  assertFault(w, 0x4000_1000n, FSC.TRANSLATION + 1);
});

Deno.test("range sizes out of bounds fault at level 0", () => {
  const { w, t } = stage1World(25);
  t.map(0x1000n, DATA_PA, KERNEL);
  for (const tsz of [0, 15, 40, 63]) {
    w.set({ TCR_EL1: tcr(tsz, 25) });
    assertFault(w, 0x1000n, FSC.TRANSLATION);
  }
});

Deno.test("the two ranges have their own base and size", () => {
  const { w, t } = stage1World(25);
  const t1 = new Tables(w, 0);
  w.set({ TTBR1_EL1: t1.base, TCR_EL1: tcr(25, 16) });
  t.map(0x1000n, DATA_PA, KERNEL);
  t1.map(0x1000n, DATA_PA + 0x1000, KERNEL);
  assertPa(w, 0x1000n, DATA_PA);
  assertPa(w, 0xffff_0000_0000_1000n, DATA_PA + 0x1000);
});

Deno.test("blocks and pages map at their level; other descriptors fault there", () => {
  const { w, t } = stage1World(16);
  t.map(0x4000_0000n, 0x4000_0000, KERNEL, 1);
  t.map(0x8020_0000n, DATA_PA, KERNEL, 2);
  t.map(0x8040_1000n, DATA_PA + 0x3000, KERNEL, 3);
  assertPa(w, 0x4123_4567n, 0x4123_4567);
  assertPa(w, 0x8021_2345n, DATA_PA + 0x1_2345);
  assertPa(w, 0x8040_1fffn, DATA_PA + 0x3fff);
  assertFault(w, 0x80_0000_0000n, FSC.TRANSLATION + 0);
  assertFault(w, 0xc000_0000n, FSC.TRANSLATION + 1);
  assertFault(w, 0x8000_0000n, FSC.TRANSLATION + 2);
  assertFault(w, 0x8040_2000n, FSC.TRANSLATION + 3);
  t.put(0x8040_2000n, 3, BigInt(DATA_PA) | KERNEL | 1n);
  assertFault(w, 0x8040_2000n, FSC.TRANSLATION + 3);
  t.put(0x80_0000_0000n, 0, BigInt(DATA_PA) | KERNEL | 1n);
  assertFault(w, 0x80_0000_0000n, FSC.TRANSLATION + 0);
  t.put(0xc000_0000n, 1, BigInt(DATA_PA) | KERNEL | 2n);
  assertFault(w, 0xc000_0000n, FSC.TRANSLATION + 1);
});

Deno.test("a clear access flag faults at the leaf's level, before permissions", () => {
  const { w, t } = stage1World(16);
  t.map(0x4000_0000n, 0x4000_0000, KERNEL & ~D.AF, 1);
  t.map(0x8020_0000n, DATA_PA, KERNEL & ~D.AF, 2);
  t.map(0x8040_1000n, DATA_PA, KERNEL & ~D.AF, 3);
  assertFault(w, 0x4000_0000n, FSC.ACCESS_FLAG + 1);
  assertFault(w, 0x8020_0000n, FSC.ACCESS_FLAG + 2);
  assertFault(w, 0x8040_1000n, FSC.ACCESS_FLAG + 3, READ, 0);
});

Deno.test("addresses beyond TCR.IPS fault with the level that held them", () => {
  const { w, t } = stage1World(16);
  const ips32 = tcr(16) & ~(7n << 32n);
  t.map(0x1000n, DATA_PA, KERNEL);
  t.map(0x2000n, 0x1_0000_0000, KERNEL);
  t.map(0x4000_0000n, 0x1_0000_0000, KERNEL, 1);
  t.put(0x8020_0000n, 2, 0x1_0000_0000n | D.TABLE);
  assertPa(w, 0x2000n, 0x1_0000_0000);
  w.set({ TCR_EL1: ips32 });
  assertPa(w, 0x1000n, DATA_PA);
  assertFault(w, 0x2000n, FSC.ADDRESS_SIZE + 3);
  assertFault(w, 0x4000_0000n, FSC.ADDRESS_SIZE + 1);
  assertFault(w, 0x8020_0000n, FSC.ADDRESS_SIZE + 2);
  w.set({ TTBR0_EL1: 0x1_0000_0000n });
  assertFault(w, 0x1000n, FSC.ADDRESS_SIZE + 0);
});

Deno.test("tables outside RAM are external aborts on the walk, with the level", () => {
  const { w, t } = stage1World(16);
  t.put(0x80_0000_0000n, 0, 0x1000n | D.TABLE);
  t.put(0x4000_0000n, 1, 0x1000n | D.TABLE);
  t.put(0x20_0000n, 2, 0x1000n | D.TABLE);
  assertFault(w, 0x80_0000_0000n, FSC.EXTERNAL_ON_WALK + 1);
  assertFault(w, 0x4000_0000n, FSC.EXTERNAL_ON_WALK + 2);
  assertFault(w, 0x20_0000n, FSC.EXTERNAL_ON_WALK + 3);
  t.put(0x4000_0000n, 1, 0x1_0000_0000n | t.base | D.TABLE);
  assertFault(w, 0x4000_0000n, FSC.EXTERNAL_ON_WALK + 2);
  w.set({ TTBR0_EL1: 0x1000n });
  assertFault(w, 0x1000n, FSC.EXTERNAL_ON_WALK + 0);
});

Deno.test("EPD faults without a walk; TBI ignores the top byte of its own range", () => {
  const { w, t } = stage1World(25);
  t.map(0x1000n, DATA_PA, KERNEL);
  const tagged = 0xab00_0000_0000_1000n;
  const taggedUpper = 0xabff_ff80_0000_1000n;
  assertFault(w, tagged, FSC.TRANSLATION);
  w.set({ TCR_EL1: tcr(25) | (1n << 37n) });
  assertPa(w, tagged, DATA_PA);
  assertFault(w, taggedUpper, FSC.TRANSLATION);
  assertFault(w, 0xab01_0000_0000_1000n, FSC.TRANSLATION);
  w.set({ TCR_EL1: tcr(25) | (1n << 38n) });
  assertFault(w, tagged, FSC.TRANSLATION);
  assertPa(w, taggedUpper, DATA_PA);
  w.set({ TCR_EL1: tcr(25) | (1n << 7n) });
  assertFault(w, 0x1000n, FSC.TRANSLATION);
  assertPa(w, 0xffff_ff80_0000_1000n, DATA_PA);
  w.set({ TCR_EL1: tcr(25) | (1n << 23n) });
  assertPa(w, 0x1000n, DATA_PA);
  assertFault(w, 0xffff_ff80_0000_1000n, FSC.TRANSLATION);
});

/** Which of read, write, execute are allowed, as letters. */
function allowed(w: World, va: bigint, el: number, unprivileged = false): string {
  return [READ, WRITE, EXECUTE].map((access, i) => {
    if (w.translate(va, access, el, unprivileged)) return "rwx"[i];
    assert.equal(w.mmu.fault.fsc, FSC.PERMISSION + 3);
    assert.equal(w.mmu.fault.write, access === WRITE);
    return "-";
  }).join("");
}

/** AP[2:1], XN bits, then what EL1 and EL0 may do (DDI 0487 table D8-43 and following). */
const PERMISSIONS: [ap: number, xn: bigint, el1: string, el0: string][] = [
  [0, 0n, "rwx", "--x"],
  [1, 0n, "rw-", "rwx"],
  [2, 0n, "r-x", "--x"],
  [3, 0n, "r-x", "r-x"],
  [0, D.PXN, "rw-", "--x"],
  [0, D.UXN, "rwx", "---"],
  [1, D.UXN, "rw-", "rw-"],
  [2, D.UXN, "r-x", "---"],
  [2, D.PXN, "r--", "--x"],
  [3, D.PXN | D.UXN, "r--", "r--"],
];

Deno.test("AP, PXN and UXN of a page", () => {
  const { w, t } = stage1World();
  for (const [ap, xn, el1, el0] of PERMISSIONS) {
    t.map(0x1000n, DATA_PA, D.AF | D.ap(ap) | xn);
    assert.equal(allowed(w, 0x1000n, 1), el1, `AP ${ap} EL1`);
    assert.equal(allowed(w, 0x1000n, 0), el0, `AP ${ap} EL0`);
    assert.equal(allowed(w, 0x1000n, 1, true), el0, `AP ${ap} unprivileged`);
  }
});

Deno.test("PAN takes data accesses from EL1 where EL0 may read, not from unprivileged ones", () => {
  const { w, t } = stage1World();
  w.cpu.pan = 1;
  for (const [ap, xn, el1, el0] of PERMISSIONS) {
    t.map(0x1000n, DATA_PA, D.AF | D.ap(ap) | xn);
    const expected = ap === 1 || ap === 3 ? "--" + el1[2] : el1;
    assert.equal(allowed(w, 0x1000n, 1), expected, `AP ${ap} EL1`);
    assert.equal(allowed(w, 0x1000n, 1, true), el0, `AP ${ap} unprivileged`);
  }
});

Deno.test("SCTLR.WXN makes what is writable not executable", () => {
  const { w, t } = stage1World();
  w.set({ SCTLR_EL1: 1n | (1n << 19n) });
  for (const [ap, el1, el0] of [[0, "rw-", "--x"], [1, "rw-", "rw-"], [3, "r-x", "r-x"]] as const) {
    t.map(0x1000n, DATA_PA, D.AF | D.ap(ap));
    assert.equal(allowed(w, 0x1000n, 1), el1);
    assert.equal(allowed(w, 0x1000n, 0), el0);
  }
});

Deno.test("hierarchical attributes narrow all below, from any level", () => {
  const cases: [bits: bigint, el1: string, el0: string][] = [
    [D.apTable(1), "rwx", "--x"],
    [D.apTable(2), "r-x", "r-x"],
    [D.apTable(3), "r-x", "--x"],
    [D.PXN_TABLE, "rw-", "rwx"],
    [D.XN_TABLE, "rw-", "rw-"],
  ];
  for (const level of [0, 1, 2]) {
    for (const [bits, el1, el0] of cases) {
      const { w, t } = stage1World(16);
      t.map(0x1000n, DATA_PA, D.AF | D.ap(1));
      t.or(0x1000n, level, bits);
      assert.equal(allowed(w, 0x1000n, 1), el1, `level ${level} EL1`);
      assert.equal(allowed(w, 0x1000n, 0), el0, `level ${level} EL0`);
    }
  }
});

Deno.test("MAIR gives the memory type", () => {
  const { w, t } = stage1World();
  const types = [[0, 0xff, true], [1, 0x04, false], [2, 0x44, true], [3, 0xaa, true]] as const;
  for (const [index, attr, normal] of types) {
    t.map(0x1000n, DATA_PA, KERNEL | D.attrIndex(index));
    assert.ok(w.translate(0x1000n));
    assert.deepEqual([w.mmu.attr, w.mmu.normal], [attr, normal]);
  }
  w.set({ MAIR_EL1: 0x0cn << 56n });
  t.map(0x1000n, DATA_PA, KERNEL | D.attrIndex(7));
  assert.ok(w.translate(0x1000n));
  assert.equal(w.mmu.attr, 0x0c);
});

Deno.test("stage 1 off: addresses as they are, data Device, code Normal", () => {
  const { w } = stage1World();
  w.set({ SCTLR_EL1: 0n, TCR_EL1: tcr(25) | (1n << 37n) });
  assertPa(w, 0x9000_1234n, 0x9000_1234);
  assert.deepEqual([w.mmu.attr, w.mmu.normal], [0, false]);
  assertPa(w, 0x9000_1234n, 0x9000_1234, EXECUTE, 0);
  assert.equal(w.mmu.normal, true);
  assertPa(w, 0xff00_8000_0000_0000n, 0x8000_0000_0000);
  assertFault(w, 0x0001_0000_0000_0000n, FSC.ADDRESS_SIZE);
  assertFault(w, 0xffff_8000_0000_0000n, FSC.ADDRESS_SIZE);
});

/** SCTLR_EL2, TCR_EL2 of the regime without E2H: 39 bits, PS 48 bits. */
function el2World(): { w: World; t: Tables } {
  const w = new World();
  const t = new Tables(w, 1);
  w.set({ SCTLR_EL2: 1n, TCR_EL2: 25n | (5n << 16n), MAIR_EL2: MAIR, TTBR0_EL2: t.base });
  w.enter(2);
  return { w, t };
}

Deno.test("EL2 without E2H: one range, XN in bit 54, no EL0", () => {
  const { w, t } = el2World();
  t.map(0x1000n, DATA_PA, D.AF | D.ap(1) | D.PXN);
  t.map(0x2000n, DATA_PA, D.AF | D.ap(3) | D.UXN);
  w.cpu.pan = 1;
  assert.equal(allowed(w, 0x1000n, 2), "rwx");
  assert.equal(allowed(w, 0x2000n, 2), "r--");
  assert.equal(allowed(w, 0x1000n, 2, true), "rwx");
  assertFault(w, 0xffff_ff80_0000_1000n, FSC.TRANSLATION, READ, 2);
  w.set({ TCR_EL2: 25n | (5n << 16n) | (1n << 20n) });
  assertPa(w, 0xff00_0000_0000_1000n, DATA_PA, READ, 2);
  t.or(0x1000n, 2, D.apTable(3) | D.XN_TABLE);
  assert.equal(allowed(w, 0x1000n, 2), "r--");
});

Deno.test("EL2 with E2H: two ranges; EL0 of a host (TGE) is in the same regime", () => {
  const { w, t } = el2World();
  const guest = new Tables(w, 1);
  w.set({
    TCR_EL2: tcr(25),
    TTBR1_EL2: t.base,
    HCR_EL2: HCR.E2H | HCR.TGE | HCR.RW,
    SCTLR_EL1: 1n,
    TCR_EL1: tcr(25),
    TTBR0_EL1: guest.base,
  });
  t.map(0x1000n, DATA_PA, USER);
  guest.map(0x1000n, DATA_PA + 0x1000, USER);
  assertPa(w, 0xffff_ff80_0000_1000n, DATA_PA, READ, 2);
  assert.equal(allowed(w, 0x1000n, 2), "rw-");
  assertPa(w, 0x1000n, DATA_PA, READ, 0);
  w.cpu.pan = 1;
  assert.equal(allowed(w, 0x1000n, 2), "---");
  assert.equal(allowed(w, 0x1000n, 2, true), "rwx");
  w.set({ HCR_EL2: HCR.E2H | HCR.RW });
  assertPa(w, 0x1000n, DATA_PA + 0x1000, READ, 0);
  assert.equal(allowed(w, 0x1000n, 2, true), "---", "without TGE unprivileged is EL2's own");
});

Deno.test("TGE without E2H and DC turn stage 1 of EL1&0 off", () => {
  const { w, t } = stage1World();
  t.map(0x1000n, DATA_PA, USER);
  assertPa(w, 0x1000n, DATA_PA, READ, 0);
  w.set({ HCR_EL2: HCR.TGE | HCR.RW });
  assertPa(w, 0x1000n, 0x1000, READ, 0);
  assert.equal(w.mmu.normal, false);
});
