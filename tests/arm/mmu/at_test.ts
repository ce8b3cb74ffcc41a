import assert from "node:assert/strict";
import { sysregKey } from "../../../src/arm/arch/sysregs.ts";
import { AT_OPS, atByKey, type AtName } from "../../../src/arm/mmu/at.ts";
import { FSC } from "../../../src/arm/mmu/fault.ts";
import {
  D,
  DATA_PA,
  HCR,
  hi32,
  IPA_DELTA,
  KERNEL,
  lo32,
  MAIR,
  stage1World,
  stage2World,
  Tables,
  tcr,
  USER,
  World,
} from "./world.ts";

const RES1 = 1n << 11n;
const NS = 1n << 9n;
const S = 1n << 9n;
const PTW = 1n << 8n;

/** PAR_EL1 of a success. */
function success(pa: number, attr: number, sh: number): bigint {
  return BigInt(pa) | RES1 | NS | (BigInt(sh) << 7n) | (BigInt(attr) << 56n);
}

/** PAR_EL1 of a failure. */
const failure = (fsc: number, more = 0n): bigint => 1n | (BigInt(fsc) << 1n) | RES1 | more;

/** PAR_EL1 after the instruction, or undefined when it raises an exception. */
function at(w: World, name: AtName, va: bigint): bigint | undefined {
  w.set({ PAR_EL1: 0xdeadn });
  if (w.mmu.addressTranslate(w.cpu, name, lo32(va), hi32(va))) return w.get("PAR_EL1");
  assert.equal(w.get("PAR_EL1"), 0xdeadn, "PAR_EL1 stays when an exception is taken");
  return undefined;
}

Deno.test("S1E1 and S1E0: address, attributes, shareability; permissions by privilege", () => {
  const { w, t } = stage1World();
  t.map(0x5000n, DATA_PA, KERNEL | D.ap(2));
  t.map(0x6000n, DATA_PA, USER);
  t.map(0x7000n, DATA_PA, KERNEL | D.attrIndex(1));
  t.map(0x8000n, DATA_PA, D.AF | D.attrIndex(2));
  assert.equal(at(w, "S1E1R", 0x5123n), success(DATA_PA, 0xff, 3));
  assert.equal(at(w, "S1E1W", 0x5123n), failure(FSC.PERMISSION + 3));
  assert.equal(at(w, "S1E0R", 0x5123n), failure(FSC.PERMISSION + 3));
  assert.equal(at(w, "S1E0W", 0x6000n), success(DATA_PA, 0xff, 3));
  assert.equal(at(w, "S1E1R", 0x7000n), success(DATA_PA, 0x04, 2), "Device is outer shareable");
  assert.equal(at(w, "S1E1R", 0x8000n), success(DATA_PA, 0x44, 2), "so is Non-cacheable");
  assert.equal(at(w, "S1E1R", 0x9000n), failure(FSC.TRANSLATION + 3));
});

Deno.test("only the P forms look at PAN", () => {
  const { w, t } = stage1World();
  t.map(0x6000n, DATA_PA, USER);
  w.cpu.pan = 1;
  assert.equal(at(w, "S1E1R", 0x6000n), success(DATA_PA, 0xff, 3));
  assert.equal(at(w, "S1E1RP", 0x6000n), failure(FSC.PERMISSION + 3));
  assert.equal(at(w, "S1E1WP", 0x6000n), failure(FSC.PERMISSION + 3));
  w.cpu.pan = 0;
  assert.equal(at(w, "S1E1RP", 0x6000n), success(DATA_PA, 0xff, 3));
});

Deno.test("stage 1 alone gives the IPA, S12 the PA; stage 2's faults are marked", () => {
  const { w, t, s2 } = stage2World();
  const ipa = DATA_PA + IPA_DELTA;
  t.map(0x5000n, ipa, USER);
  t.map(0x6000n, 0x10_0000_0000, USER);
  w.enter(2);
  assert.equal(at(w, "S1E1R", 0x5000n), success(ipa, 0xff, 3));
  assert.equal(at(w, "S12E1R", 0x5000n), success(DATA_PA, 0xff, 3));
  assert.equal(at(w, "S12E0W", 0x5000n), success(DATA_PA, 0xff, 3));
  assert.equal(at(w, "S1E1R", 0x6000n), success(0x10_0000_0000, 0xff, 3));
  assert.equal(at(w, "S12E1R", 0x6000n), failure(FSC.TRANSLATION + 1, S));
  assert.equal(at(w, "S12E1R", 0x7000n), failure(FSC.TRANSLATION + 3));
  s2.map(BigInt(ipa), DATA_PA, D.AF | D.ap(1) | D.memAttr(0b0101), 2);
  assert.equal(at(w, "S12E1W", 0x5000n), failure(FSC.PERMISSION + 2, S));
  assert.equal(at(w, "S12E1R", 0x5000n), success(DATA_PA, 0x44, 2));
});

Deno.test("a stage 2 fault on the walk: an exception at EL1, PAR_EL1 at EL2", () => {
  const { w, t } = stage2World();
  t.put(0x20_0000n, 2, 0x10_0000_0000n | D.TABLE);
  assert.equal(at(w, "S1E1R", 0x20_0000n), undefined);
  const { fsc, stage2, s1ptw, ipa, cm, write } = w.mmu.fault;
  assert.deepEqual({ fsc, stage2, s1ptw, ipa, cm, write }, {
    fsc: FSC.TRANSLATION + 1,
    stage2: true,
    s1ptw: true,
    ipa: 0x10_0000_0000,
    cm: true,
    write: true,
  });
  w.enter(2);
  assert.equal(at(w, "S1E1R", 0x20_0000n), failure(FSC.TRANSLATION + 1, S | PTW));
  assert.equal(at(w, "S12E0R", 0x20_0000n), failure(FSC.TRANSLATION + 1, S | PTW));
});

Deno.test("an external abort on the walk is always an exception", () => {
  const { w, t } = stage1World();
  t.put(0x20_0000n, 2, 0x1000n | D.TABLE);
  assert.equal(at(w, "S1E1R", 0x20_0000n), undefined);
  assert.equal(w.mmu.fault.fsc, FSC.EXTERNAL_ON_WALK + 3);
  w.enter(2);
  assert.equal(at(w, "S1E1R", 0x20_0000n), undefined);
});

Deno.test("stage 1 off translates flat, as Device", () => {
  const w = new World();
  w.enter(1);
  assert.equal(at(w, "S1E1R", 0x12_3456_7000n), success(0x12_3456_7000, 0, 2));
  assert.equal(at(w, "S1E1R", 1n << 50n), failure(FSC.ADDRESS_SIZE));
});

Deno.test("S1E2 is EL2's regime with and without E2H; with TGE the EL1 names are too", () => {
  const w = new World();
  const t = new Tables(w, 1);
  t.map(0x5000n, DATA_PA, USER | D.UXN);
  w.set({ SCTLR_EL2: 1n, TCR_EL2: 25n | (5n << 16n), MAIR_EL2: MAIR, TTBR0_EL2: t.base });
  w.enter(2);
  assert.equal(at(w, "S1E2W", 0x5000n), success(DATA_PA, 0xff, 3));
  assert.equal(at(w, "S1E1R", 0x5000n), success(0x5000, 0, 2));
  w.set({ HCR_EL2: HCR.E2H, TCR_EL2: tcr(25), TTBR1_EL2: t.base });
  assert.equal(at(w, "S1E2R", 0xffff_ff80_0000_5000n), success(DATA_PA, 0xff, 3));
  assert.equal(at(w, "S1E1R", 0x5000n), success(0x5000, 0, 2));
  w.set({ HCR_EL2: HCR.E2H | HCR.TGE });
  for (const name of ["S1E1R", "S1E0R", "S12E1W", "S12E0R"] as const) {
    assert.equal(at(w, name, 0x5000n), success(DATA_PA, 0xff, 3), name);
  }
});

Deno.test("the table has each encoding once", () => {
  assert.equal(new Set(AT_OPS.map((op) => op.key)).size, AT_OPS.length);
  assert.equal(atByKey(sysregKey(1, 4, 7, 8, 4))?.name, "S12E1R");
  assert.equal(atByKey(sysregKey(1, 0, 7, 8, 7)), undefined);
});
