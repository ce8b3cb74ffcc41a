import assert from "node:assert/strict";
import { ACCESS, type Access } from "../../../src/arm/arch/tlb_layout.ts";
import { combineAttr } from "../../../src/arm/mmu/attributes.ts";
import { FSC } from "../../../src/arm/mmu/fault.ts";
import {
  D,
  DATA_PA,
  HCR,
  IPA_DELTA,
  KERNEL,
  S2_ALL,
  stage2World,
  Tables,
  vtcr,
  World,
} from "./world.ts";

const { READ, WRITE, EXECUTE } = ACCESS;

interface Expected {
  fsc: number;
  stage2: boolean;
  s1ptw: boolean;
  ipa: number;
}

function faultOf(w: World, va: bigint, access: Access = READ): Expected {
  assert.equal(w.translate(va, access), false, `0x${va.toString(16)} translates`);
  const { fsc, stage2, s1ptw, ipa } = w.mmu.fault;
  return { fsc, stage2, s1ptw, ipa };
}

const second = (fsc: number, ipa: number): Expected => ({ fsc, stage2: true, s1ptw: false, ipa });

/** A world at EL1 with stage 1 off, and stage 2 of `inputBits` from `level`. */
function stage2Only(inputBits: number, level: number): { w: World; s2: Tables } {
  const w = new World(1, false);
  const indexBits = inputBits - (39 - 9 * level);
  const s2 = new Tables(w, level, Math.max(1, 2 ** (indexBits - 9)));
  w.set({ HCR_EL2: HCR.VM | HCR.RW, VTCR_EL2: vtcr(inputBits, level), VTTBR_EL2: s2.base });
  w.enter(1);
  return { w, s2 };
}

Deno.test("start levels with and without concatenated tables", () => {
  const shapes = [[48, 0], [44, 0], [43, 1], [40, 1], [39, 1], [34, 2], [31, 2], [25, 2]] as const;
  for (const [bits, level] of shapes) {
    const { w, s2 } = stage2Only(bits, level);
    const ipa = (1n << BigInt(bits)) - 0x5000n;
    s2.map(ipa, DATA_PA, S2_ALL);
    assert.equal(w.translate(ipa + 0x18n), true, `${bits} bits from level ${level}`);
    assert.equal(w.mmu.pa, DATA_PA + 0x18);
    const beyond = 1n << BigInt(bits);
    const far = 0x1_0000_1000;
    if (bits < 32) assert.deepEqual(faultOf(w, BigInt(far)), second(FSC.TRANSLATION, far));
    if (bits < 48) assert.deepEqual(faultOf(w, beyond), second(FSC.TRANSLATION, Number(beyond)));
  }
});

Deno.test("sizes that do not fit the start level fault at level 0", () => {
  const { w, s2 } = stage2Only(40, 1);
  s2.map(0x1000n, DATA_PA, S2_ALL);
  assert.equal(w.translate(0x1000n), true);
  const ps40 = (value: bigint): bigint => value & ~(7n << 16n) | (2n << 16n);
  const wrong = [
    ps40(vtcr(40, 0)),
    vtcr(44, 1),
    vtcr(30, 1),
    vtcr(40, 2),
    vtcr(39, 0),
    0xc0n | vtcr(40, 2),
  ];
  for (const value of wrong) {
    w.set({ VTCR_EL2: value });
    assert.deepEqual(faultOf(w, 0x1000n), second(FSC.TRANSLATION, 0x1000), value.toString(16));
  }
  w.set({ VTCR_EL2: vtcr(40, 1) & ~(7n << 16n) });
  assert.deepEqual(faultOf(w, 0x1000n), second(FSC.TRANSLATION, 0x1000), "input above PS");
  w.set({ VTCR_EL2: vtcr(40, 1) });
  assert.equal(w.translate(0x1000n), true);
});

Deno.test("address bits below the alignment of the first table are ignored", () => {
  const { w, s2 } = stage2Only(40, 1);
  s2.map(0x1000n, DATA_PA, S2_ALL);
  w.set({ VTTBR_EL2: s2.base | 0x1ffen });
  assert.equal(w.translate(0x1000n), true);
});

Deno.test("stage 2 faults: level, IPA, kind", () => {
  const { w, s2 } = stage2Only(48, 0);
  s2.map(0x1000n, DATA_PA, S2_ALL & ~D.AF);
  s2.map(0x20_0000n, DATA_PA, S2_ALL & ~D.AF, 2);
  s2.map(0x4000_0000n, 0x4000_0000, S2_ALL, 1);
  s2.map(0x8000_0000n, 0x4000_0000, D.AF | D.ap(0), 1);
  assert.deepEqual(faultOf(w, 0x1008n), second(FSC.ACCESS_FLAG + 3, 0x1008));
  assert.deepEqual(faultOf(w, 0x20_0008n), second(FSC.ACCESS_FLAG + 2, 0x20_0008));
  assert.deepEqual(faultOf(w, 0x2000n), second(FSC.TRANSLATION + 3, 0x2000));
  assert.deepEqual(faultOf(w, 0x40_0000n), second(FSC.TRANSLATION + 2, 0x40_0000));
  assert.deepEqual(faultOf(w, 0xc000_0000n), second(FSC.TRANSLATION + 1, 0xc000_0000));
  assert.deepEqual(faultOf(w, 1n << 47n), second(FSC.TRANSLATION + 0, 2 ** 47));
  assert.deepEqual(faultOf(w, 0x8000_1234n), second(FSC.PERMISSION + 1, 0x8000_1234));
  s2.put(0x60_0000n, 2, 0x1000n | D.TABLE);
  assert.deepEqual(faultOf(w, 0x60_0000n), second(FSC.EXTERNAL_ON_WALK + 3, 0x60_0000));
});

Deno.test("outputs and tables beyond VTCR.PS fault", () => {
  const { w, s2 } = stage2Only(31, 2);
  w.set({ VTCR_EL2: vtcr(31, 2) & ~(7n << 16n) });
  s2.map(0x1000n, 0x1_0000_0000, S2_ALL);
  s2.map(0x20_0000n, 0x1_0000_0000, S2_ALL, 2);
  s2.put(0x40_0000n, 2, 0x1_0000_0000n | D.TABLE);
  assert.deepEqual(faultOf(w, 0x1000n), second(FSC.ADDRESS_SIZE + 3, 0x1000));
  assert.deepEqual(faultOf(w, 0x20_0000n), second(FSC.ADDRESS_SIZE + 2, 0x20_0000));
  assert.deepEqual(faultOf(w, 0x40_0000n), second(FSC.ADDRESS_SIZE + 2, 0x40_0000));
  w.set({ VTTBR_EL2: 0x1_0000_0000n });
  assert.deepEqual(faultOf(w, 0x1000n), second(FSC.ADDRESS_SIZE, 0x1000));
});

Deno.test("S2AP and XN", () => {
  const { w, s2 } = stage2Only(40, 1);
  const cases = [[0, 0n, "--x"], [1, 0n, "r-x"], [2, 0n, "-wx"], [3, 0n, "rwx"], [
    3,
    D.UXN,
    "rw-",
  ], [3, D.PXN, "rwx"]] as const;
  for (const [ap, xn, expected] of cases) {
    s2.map(0x1000n, DATA_PA, D.AF | D.ap(ap) | D.memAttr(15) | xn);
    const got = [READ, WRITE, EXECUTE].map((access, i) => {
      if (w.translate(0x1000n, access)) return "rwx"[i];
      assert.equal(w.mmu.fault.fsc, FSC.PERMISSION + 3);
      assert.equal(w.mmu.fault.stage2, true);
      return "-";
    });
    assert.equal(got.join(""), expected);
  }
});

Deno.test("both stages: addresses compose, stage 1 faults come first", () => {
  const { w, t, s2 } = stage2World();
  const ipa = DATA_PA + IPA_DELTA;
  t.map(0x1000n, ipa, KERNEL | D.ap(2));
  assert.ok(w.translate(0x1234n));
  assert.equal(w.mmu.pa, DATA_PA + 0x234);
  t.map(0x2000n, 0x10_0000_0000, KERNEL | D.ap(2));
  assert.deepEqual(faultOf(w, 0x2010n), second(FSC.TRANSLATION + 1, 0x10_0000_0010));
  assert.deepEqual(faultOf(w, 0x2010n, WRITE), {
    fsc: FSC.PERMISSION + 3,
    stage2: false,
    s1ptw: false,
    ipa: 0,
  });
  s2.map(BigInt(ipa), DATA_PA, D.AF | D.ap(1) | D.memAttr(15), 2);
  t.map(0x1000n, ipa, KERNEL);
  assert.deepEqual(faultOf(w, 0x1238n, WRITE), second(FSC.PERMISSION + 2, ipa + 0x238));
  assert.equal(w.mmu.fault.write, true);
});

Deno.test("the walk of stage 1 goes through stage 2: S1PTW with the descriptor's IPA", () => {
  const { w, t } = stage2World();
  const missing = 0x10_0000_0000;
  const walk = (fsc: number, ipa: number): Expected => ({ fsc, stage2: true, s1ptw: true, ipa });
  t.put(0x20_0000n, 2, BigInt(missing) | D.TABLE);
  assert.deepEqual(faultOf(w, 0x20_3000n), walk(FSC.TRANSLATION + 1, missing + 24));
  w.set({ TTBR0_EL1: BigInt(missing) });
  assert.deepEqual(faultOf(w, 0x4000_0000n), walk(FSC.TRANSLATION + 1, missing + 8));
});

Deno.test("an unreadable table page and, with HCR.PTW, one in Device memory are permission faults", () => {
  const { w, t, s2 } = stage2World();
  t.map(0x1000n, DATA_PA + IPA_DELTA, KERNEL);
  const block = BigInt(t.root + IPA_DELTA) & ~0x1f_ffffn;
  const to = t.root - t.root % 0x20_0000;
  const entry = t.root + IPA_DELTA;
  s2.map(block, to, D.AF | D.ap(2) | D.memAttr(15), 2);
  const expected = { fsc: FSC.PERMISSION + 2, stage2: true, s1ptw: true, ipa: entry };
  assert.deepEqual(faultOf(w, 0x1000n), expected);
  s2.map(block, to, D.AF | D.ap(3) | D.memAttr(1), 2);
  assert.ok(w.translate(0x1000n));
  w.set({ HCR_EL2: HCR.VM | HCR.RW | HCR.PTW });
  assert.deepEqual(faultOf(w, 0x1000n), expected);
  s2.map(block, to, D.AF | D.ap(1) | D.memAttr(15), 2);
  assert.ok(w.translate(0x1000n), "a table may be read-only");
});

Deno.test("a stage 1 table whose physical address is not RAM is stage 1's external abort", () => {
  const { w, t, s2 } = stage2World();
  s2.map(0x10_0000_0000n, 0x800_0000, S2_ALL);
  t.put(0x20_0000n, 2, 0x10_0000_0000n | D.TABLE);
  assert.deepEqual(faultOf(w, 0x20_3000n), {
    fsc: FSC.EXTERNAL_ON_WALK + 3,
    stage2: false,
    s1ptw: false,
    ipa: 0,
  });
});

Deno.test("memory attributes of the stages combine to the weaker", () => {
  const cases = [
    [0xff, 0b1111, 0xff],
    [0xff, 0b0101, 0x44],
    [0xff, 0b1010, 0xbb],
    [0xff, 0b0001, 0x04],
    [0xff, 0b0000, 0x00],
    [0x44, 0b1111, 0x44],
    [0xaa, 0b1111, 0xaa],
    [0x04, 0b1111, 0x04],
    [0x0c, 0b0001, 0x04],
    [0x00, 0b0011, 0x00],
    [0x0c, 0b0011, 0x0c],
  ] as const;
  for (const [s1, s2, combined] of cases) {
    assert.equal(combineAttr(s1, s2), combined, `${s1.toString(16)} with ${s2.toString(2)}`);
  }
});

Deno.test("HCR.DC: stage 1 off is Normal memory, and stage 2 is on", () => {
  const { w, s2 } = stage2Only(40, 1);
  w.set({ HCR_EL2: HCR.DC | HCR.RW, SCTLR_EL1: 1n });
  s2.map(0x1000n, DATA_PA, S2_ALL);
  assert.ok(w.translate(0x1000n));
  assert.deepEqual([w.mmu.pa, w.mmu.normal], [DATA_PA, true]);
  w.set({ HCR_EL2: HCR.VM | HCR.RW, SCTLR_EL1: 0n });
  assert.ok(w.translate(0x1000n));
  assert.equal(w.mmu.normal, false);
});

Deno.test("stage 2 does not apply to EL2 or to a VHE host's EL0", () => {
  const { w } = stage2Only(40, 1);
  assert.equal(w.translate(0x4000_0000n, READ, 1), false);
  assert.equal(w.translate(0x4000_0000n, READ, 2), true);
  w.set({ HCR_EL2: HCR.VM | HCR.RW | HCR.TGE | HCR.E2H });
  assert.equal(w.translate(0x4000_0000n, READ, 0), true);
});
