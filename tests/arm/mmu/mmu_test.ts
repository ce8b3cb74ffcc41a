import assert from "node:assert/strict";
import { ACCESS, CODE_TLB, CODE_TLB_ENTRY } from "../../../src/arm/arch/tlb_layout.ts";
import { FSC } from "../../../src/arm/mmu/fault.ts";
import { FILL } from "../../../src/arm/mmu/mmu.ts";
import {
  D,
  DATA_PA,
  HCR,
  IPA_DELTA,
  KERNEL,
  RAM_PA,
  stage1World,
  stage2World,
  USER,
  World,
} from "./world.ts";

const { READ, WRITE } = ACCESS;

Deno.test("a filled page hits for all of its bytes, and for nothing else", () => {
  const { w, t } = stage1World();
  t.map(0x5000n, DATA_PA, KERNEL);
  assert.equal(w.lookup(0x5000n, READ), -1);
  assert.equal(w.lookup(0n, READ), -1, "an empty TLB does not hit page 0");
  assert.equal(w.fill(0x5010n, READ, 8), FILL.RAM);
  assert.equal(w.lookup(0x5000n, READ, 8), w.at(DATA_PA));
  assert.equal(w.lookup(0x5ff9n, READ, 4), w.at(DATA_PA) + 0xff9);
  assert.equal(w.lookup(0x5ff9n, READ, 8), -1, "crosses the page");
  assert.equal(w.lookup(0x5ff8n, WRITE, 8), w.at(DATA_PA) + 0xff8);
  assert.equal(w.lookup(0x5000n + (1n << 22n), READ), -1, "same entry, other page");
  assert.equal(w.lookup(0x5000n | (1n << 63n), READ), -1);
});

Deno.test("a page that may not be written gets no write tag", () => {
  const { w, t } = stage1World();
  t.map(0x5000n, DATA_PA, KERNEL | D.ap(2));
  assert.equal(w.fill(0x5000n, READ), FILL.RAM);
  assert.notEqual(w.lookup(0x5000n, READ), -1);
  assert.equal(w.lookup(0x5000n, WRITE), -1);
  assert.equal(w.fill(0x5000n, WRITE), FILL.FAULT);
  assert.equal(w.mmu.fault.fsc, FSC.PERMISSION + 3);
  const top = 0xffff_ffff_ffff_5000n;
  t.map(top & 0x7f_ffff_f000n, DATA_PA, KERNEL | D.ap(2));
  assert.equal(w.fill(top, READ), FILL.RAM);
  assert.notEqual(w.lookup(top, READ), -1);
  assert.equal(w.lookup(top, WRITE), -1);
});

Deno.test("Device memory and what is not RAM are translated, not entered", () => {
  const { w, t } = stage1World();
  t.map(0x5000n, DATA_PA, KERNEL | D.attrIndex(1));
  t.map(0x6000n, 0x900_0000, KERNEL | D.attrIndex(1));
  t.map(0x7000n, 0x900_0000, KERNEL);
  for (const [va, pa] of [[0x5008n, DATA_PA], [0x6008n, 0x900_0000], [0x7008n, 0x900_0000]]) {
    assert.equal(w.fill(va as bigint, WRITE, 4), FILL.DEVICE);
    assert.equal(w.mmu.pa, (pa as number) + 8);
    assert.equal(w.lookup(va as bigint, WRITE, 4), -1);
  }
});

Deno.test("alignment: SCTLR.A before translation, Device memory after it", () => {
  const { w, t } = stage1World();
  t.map(0x5000n, DATA_PA, KERNEL);
  t.map(0x6000n, DATA_PA, KERNEL | D.attrIndex(1));
  assert.equal(w.fill(0x5001n, READ, 4), FILL.RAM);
  assert.notEqual(w.lookup(0x5001n, READ, 4), -1);
  assert.equal(w.fill(0x6002n, READ, 4), FILL.FAULT);
  assert.equal(w.mmu.fault.fsc, FSC.ALIGNMENT);
  assert.equal(w.fill(0x6001n, READ, 1), FILL.DEVICE);
  assert.equal(w.fill(0x8001n, READ, 4), FILL.FAULT);
  assert.equal(w.mmu.fault.fsc, FSC.TRANSLATION + 3);
  w.set({ SCTLR_EL1: 3n });
  w.mmu.contextChanged(w.cpu);
  assert.equal(w.lookup(0x5001n, READ, 4), -1);
  assert.notEqual(w.lookup(0x5004n, READ, 4), -1, "SCTLR.A empties no TLB");
  assert.equal(w.fill(0x8001n, WRITE, 4), FILL.FAULT);
  assert.deepEqual([w.mmu.fault.fsc, w.mmu.fault.write], [FSC.ALIGNMENT, true]);
});

Deno.test("a misaligned access to what stage 2 makes Device is stage 2's fault", () => {
  const { w, t, s2 } = stage2World();
  const ipa = DATA_PA + IPA_DELTA;
  t.map(0x5000n, ipa, KERNEL);
  s2.map(BigInt(ipa), DATA_PA, D.AF | D.ap(3) | D.memAttr(1), 2);
  assert.equal(w.fill(0x5002n, READ, 4), FILL.FAULT);
  const { fsc, stage2, ipa: at } = w.mmu.fault;
  assert.deepEqual([fsc, stage2, at], [FSC.ALIGNMENT, true, ipa + 2]);
});

Deno.test("with stage 1 off RAM is entered, and only aligned accesses hit", () => {
  const w = new World();
  w.enter(1);
  assert.equal(w.cpu.alignMask, 0xffff_ffff);
  const va = BigInt(RAM_PA) + 0x100n;
  assert.equal(w.fill(va, WRITE, 8), FILL.RAM);
  assert.equal(w.lookup(va, WRITE, 8), w.at(RAM_PA) + 0x100);
  assert.equal(w.lookup(va + 4n, WRITE, 8), -1);
  assert.equal(w.fill(va + 4n, WRITE, 8), FILL.FAULT);
  assert.equal(w.mmu.fault.fsc, FSC.ALIGNMENT);
  assert.equal(w.fill(0x900_0000n, WRITE, 4), FILL.DEVICE);
});

Deno.test("masks follow SCTLR of the exception level", () => {
  const { w } = stage1World();
  const masks = (): number[] => [w.cpu.alignMask, w.cpu.spAlignMask];
  assert.deepEqual(masks(), [0, 0]);
  w.set({ SCTLR_EL1: 1n | (1n << 3n) });
  w.enter(1);
  assert.deepEqual(masks(), [0, 15]);
  w.enter(0);
  assert.deepEqual(masks(), [0, 0]);
  w.set({ SCTLR_EL1: 3n | (1n << 4n) });
  w.enter(0);
  assert.deepEqual(masks(), [0xffff_ffff, 15]);
  w.enter(2);
  assert.deepEqual(masks(), [0xffff_ffff, 0]);
});

Deno.test("unprivileged accesses use EL0's context", () => {
  const { w, t } = stage1World();
  t.map(0x5000n, DATA_PA, KERNEL);
  t.map(0x6000n, DATA_PA, USER);
  assert.equal(w.fill(0x5000n, READ), FILL.RAM);
  assert.equal(w.lookup(0x5000n, READ, 1, true), -1);
  assert.equal(w.fill(0x5000n, READ, 1, true), FILL.FAULT);
  assert.equal(w.fill(0x6000n, READ, 1, true), FILL.RAM);
  const unprivileged = w.cpu.tlbUnprivileged;
  w.enter(0);
  assert.equal(w.cpu.tlb, unprivileged);
  assert.notEqual(w.lookup(0x6000n, READ), -1);
  w.enter(2);
  assert.equal(w.cpu.tlbUnprivileged, w.cpu.tlb);
});

Deno.test("PAN has a context of its own at EL1", () => {
  const { w, t } = stage1World();
  t.map(0x5000n, DATA_PA, USER);
  assert.equal(w.fill(0x5000n, READ), FILL.RAM);
  w.cpu.pan = 1;
  w.mmu.contextChanged(w.cpu);
  assert.equal(w.lookup(0x5000n, READ), -1);
  assert.equal(w.fill(0x5000n, READ), FILL.FAULT);
  w.cpu.pan = 0;
  w.mmu.contextChanged(w.cpu);
  assert.notEqual(w.lookup(0x5000n, READ), -1, "and neither was flushed");
});

const asid = (n: number): bigint => BigInt(n) << 48n;

Deno.test("an address-space switch keeps both address spaces and mixes nothing", () => {
  const { w, t } = stage1World();
  t.map(0x5000n, DATA_PA, USER);
  const enter = (n: number): void => {
    w.set({ TTBR0_EL1: t.base | asid(n) });
    w.mmu.controlChanged(w.cpu, 0);
    w.mmu.contextChanged(w.cpu);
  };
  enter(1);
  w.fill(0x5000n, READ);
  t.map(0x5000n, DATA_PA + 0x1000, USER);
  enter(2);
  assert.equal(w.lookup(0x5000n, READ), -1);
  w.fill(0x5000n, READ);
  assert.equal(w.lookup(0x5000n, READ), w.at(DATA_PA + 0x1000));
  enter(1);
  assert.equal(w.lookup(0x5000n, READ), w.at(DATA_PA));
});

Deno.test("A1 takes the ASID from TTBR1, AS makes it 16 bits", () => {
  const { w, t } = stage1World();
  const tcrEl1 = w.get("TCR_EL1");
  const context = (registers: Parameters<World["set"]>[0]): number => {
    w.set(registers);
    w.mmu.contextChanged(w.cpu);
    return w.cpu.tlb;
  };
  const zero = context({ TTBR0_EL1: t.base });
  assert.notEqual(context({ TTBR0_EL1: t.base | asid(0x100) }), zero);
  assert.equal(context({ TTBR0_EL1: t.base, TTBR1_EL1: t.base | asid(7) }), zero);
  const a1 = context({ TCR_EL1: tcrEl1 | (1n << 22n) });
  assert.equal(context({ TTBR0_EL1: t.base | asid(9) }), a1);
  const small = tcrEl1 & ~(1n << 36n);
  const eight = context({ TCR_EL1: small, TTBR0_EL1: t.base });
  assert.equal(context({ TTBR0_EL1: t.base | asid(0x100) }), eight);
});

Deno.test("two VMs with the same addresses and ASID see their own memory", () => {
  const { w, t, s2 } = stage2World();
  const ipa = DATA_PA + IPA_DELTA;
  t.map(0x5000n, ipa, KERNEL);
  w.fill(0x5000n, READ);
  s2.map(BigInt(ipa), DATA_PA + 0x20_0000, D.AF | D.ap(3) | D.memAttr(15), 2);
  w.set({ VTTBR_EL2: s2.base | (7n << 48n) });
  w.mmu.contextChanged(w.cpu);
  assert.equal(w.lookup(0x5000n, READ), -1);
  assert.equal(w.fill(0x5000n, READ), FILL.RAM);
  assert.equal(w.lookup(0x5000n, READ), w.at(DATA_PA + 0x20_0000));
  w.set({ VTTBR_EL2: s2.base });
  w.mmu.contextChanged(w.cpu);
  assert.equal(w.lookup(0x5000n, READ), w.at(DATA_PA));
});

Deno.test("a world switch to a VHE host and back flushes nothing", () => {
  const { w, t } = stage2World();
  t.map(0x5000n, DATA_PA + IPA_DELTA, KERNEL);
  w.fill(0x5000n, READ);
  w.set({ HCR_EL2: HCR.E2H | HCR.TGE | HCR.RW });
  w.enter(2);
  assert.equal(w.lookup(0x5000n, READ), -1);
  w.fill(BigInt(RAM_PA), READ);
  w.set({ HCR_EL2: HCR.VM | HCR.RW | HCR.E2H });
  w.enter(1);
  assert.equal(w.lookup(0x5000n, READ), w.at(DATA_PA));
});

Deno.test("controls are part of the key: MAIR, TCR, WXN, VTCR", () => {
  const { w } = stage2World();
  const seen = new Set([w.cpu.tlb]);
  for (
    const registers of [
      { MAIR_EL1: 0n },
      { TCR_EL1: w.get("TCR_EL1") | (1n << 37n) },
      { SCTLR_EL1: 1n | (1n << 19n) },
      { VTCR_EL2: w.get("VTCR_EL2") - 1n },
    ]
  ) {
    w.set(registers);
    w.mmu.contextChanged(w.cpu);
    assert.ok(!seen.has(w.cpu.tlb), JSON.stringify(Object.keys(registers)));
    seen.add(w.cpu.tlb);
  }
});

Deno.test("more address spaces than contexts: the least recently used is emptied and reused", () => {
  const { w, t } = stage1World();
  t.map(0x5000n, DATA_PA, USER);
  w.enter(0);
  const enter = (n: number): void => {
    w.set({ TTBR0_EL1: t.base | asid(n) });
    w.mmu.contextChanged(w.cpu);
  };
  for (let n = 1; n <= 16; n++) {
    enter(n);
    w.fill(0x5000n, READ);
    enter(1);
    assert.notEqual(w.lookup(0x5000n, READ), -1, `after ${n}`);
  }
  for (let n = 17; n <= 40; n++) {
    enter(n);
    assert.equal(w.lookup(0x5000n, READ), -1, `ASID ${n} starts empty`);
    w.fill(0x5000n, READ);
  }
});

Deno.test("the unprivileged context never takes the current one's place", () => {
  const { w, t } = stage1World();
  for (let n = 0; n < 100; n++) {
    w.set({ TTBR0_EL1: t.base | asid(n) });
    w.enter(n % 3 === 0 ? 0 : 1);
    w.enter(1);
    assert.notEqual(w.cpu.tlb, w.cpu.tlbUnprivileged);
  }
});

Deno.test("code translation checks execute permission, and its TLB is emptied by TLBI", () => {
  const { w, t } = stage1World();
  t.map(0x5000n, DATA_PA, KERNEL);
  t.map(0x6000n, DATA_PA, KERNEL | D.PXN);
  assert.equal(w.mmu.translateCode(w.cpu, 0x6000, 0), false);
  assert.equal(w.mmu.fault.fsc, FSC.PERMISSION + 3);
  assert.equal(w.mmu.translateCode(w.cpu, 0x5004, 0), true);
  assert.equal(w.mmu.pa, DATA_PA + 4);
  const tag = w.cpu.codeTlb + 5 * CODE_TLB_ENTRY + CODE_TLB.TAG;
  assert.equal(w.memory.ld64(tag), 0xffff_ffff_ffff_ffffn);
  for (const [name, operand] of [["VAE1", 5], ["VMALLE1", 0], ["ASIDE1IS", 0]] as const) {
    assert.equal(w.mmu.translateCode(w.cpu, 0x5004, 0), true);
    w.memory.st64(tag, 0x5000n);
    w.mmu.tlbi(w.cpus, w.cpu, name, operand, 0);
    assert.equal(w.memory.ld64(tag), 0xffff_ffff_ffff_ffffn, name);
  }
});

Deno.test("invalidating one address of a block drops the code of all of it", () => {
  const { w, t } = stage1World();
  t.map(0x40_0000n, DATA_PA, KERNEL, 2);
  assert.equal(w.mmu.translateCode(w.cpu, 0x40_3000, 0), true);
  const tag = w.cpu.codeTlb + 3 * CODE_TLB_ENTRY + CODE_TLB.TAG;
  w.memory.st64(tag, 0x40_3000n);
  w.mmu.tlbi(w.cpus, w.cpu, "VAE1", 0x600, 0);
  assert.equal(w.memory.ld64(tag), 0x40_3000n);
  w.mmu.tlbi(w.cpus, w.cpu, "VAE1", 0x5ff, 0);
  assert.equal(w.memory.ld64(tag), 0xffff_ffff_ffff_ffffn);
});

Deno.test("reset forgets everything and selects anew", () => {
  const { w, t } = stage1World();
  t.map(0x5000n, DATA_PA, KERNEL);
  w.fill(0x5000n, READ);
  w.mmu.reset(w.cpus);
  assert.equal(w.lookup(0x5000n, READ), -1);
  assert.equal(w.fill(0x5000n, READ), FILL.RAM);
});
