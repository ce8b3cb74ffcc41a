/**
 * What is known of upper levels: used as long as the architecture lets it, never longer, and never
 * instead of what a leaf, its access flag or a fault says.
 */
import assert from "node:assert/strict";
import type { Cpu } from "../../../src/arm/arch/cpu_state.ts";
import { ACCESS } from "../../../src/arm/arch/tlb_layout.ts";
import { FSC } from "../../../src/arm/mmu/fault.ts";
import { FILL } from "../../../src/arm/mmu/mmu.ts";
import type { TlbiName } from "../../../src/arm/mmu/tlbi.ts";
import {
  D,
  DATA_PA,
  HCR,
  IPA_DELTA,
  KERNEL,
  MAIR,
  RAM_PA,
  S2_ALL,
  stage1World,
  stage2World,
  Tables,
  tcr,
  USER,
  vtcr,
  World,
} from "./world.ts";

const { READ, WRITE } = ACCESS;
/** Two pages that one table of level 3 maps, and one that another does. */
const A = 0x40_1000n, B = 0x40_2000n, FAR = 0x4000_0000n;
const OLD = DATA_PA, NEW = DATA_PA + 0x10_0000;
const MIB2 = 0x20_0000;

/** Byte offset in the memory of what a read of `va` finds, or -1 for a fault. */
function reach(w: World, va: bigint, cpu: Cpu = w.cpu): number {
  if (w.fill(va, READ, 1, false, cpu) === FILL.FAULT) return -1;
  return w.lookup(va, READ, 1, false, cpu);
}

/** Lets another table of level 3 stand for the block of B: there B maps to `NEW`. */
function replaceTable(w: World, t: Tables, delta = 0): void {
  const table = w.tablePages();
  const index = Number((B >> 12n) & 511n);
  w.memory.st64(w.at(table) + 8 * index, BigInt(NEW + delta) | KERNEL | D.PAGE);
  t.put(B, 2, BigInt(table + delta) | D.TABLE);
}

interface Regime {
  readonly el: number;
  readonly hcr: bigint;
}
const GUEST: Regime = { el: 1, hcr: HCR.RW };
const HOST: Regime = { el: 2, hcr: HCR.RW | HCR.E2H | HCR.TGE };
const HYP: Regime = { el: 2, hcr: HCR.RW };

/** Two CPUs under the same tables; A has been reached by both, so that its table is known. */
function two({ el, hcr }: Regime): { w: World; t: Tables } {
  const w = new World(2);
  const t = new Tables(w, 1);
  t.map(A, OLD, KERNEL);
  t.map(B, OLD + 0x1000, KERNEL);
  t.map(FAR, OLD, KERNEL);
  for (const cpu of w.cpus) {
    w.set({
      HCR_EL2: hcr,
      VTTBR_EL2: 1n << 48n,
      SCTLR_EL1: 1n,
      SCTLR_EL2: 1n,
      TCR_EL1: tcr(25),
      TCR_EL2: (hcr & HCR.E2H) !== 0n ? tcr(25) : 25n | (5n << 16n),
      MAIR_EL1: MAIR,
      MAIR_EL2: MAIR,
      TTBR0_EL1: t.base | (3n << 48n),
      TTBR0_EL2: t.base | (3n << 48n),
    }, cpu);
    w.enter(el, cpu);
    assert.equal(reach(w, A, cpu), w.at(OLD));
  }
  return { w, t };
}

/** What drops the tables on the way to a page, by where it is issued. */
const DROPPING: [TlbiName, Regime][] = [
  ["VMALLE1", GUEST],
  ["VAE1", GUEST],
  ["VAAE1", GUEST],
  ["ASIDE1", GUEST],
  ["ALLE1", GUEST],
  ["VMALLS12E1", GUEST],
  ["VMALLE1", HOST],
  ["VAE1", HOST],
  ["ASIDE1", HOST],
  ["ALLE2", HOST],
  ["VAE2", HOST],
  ["ALLE2", HYP],
  ["VAE2", HYP],
];

Deno.test("a table that is exchanged is seen after each TLBI that names it, here or everywhere", () => {
  for (const [name, regime] of DROPPING) {
    for (const broadcast of [false, true]) {
      const { w, t } = two(regime);
      replaceTable(w, t);
      const op = (broadcast ? `${name}IS` : name) as TlbiName;
      w.mmu.tlbi(w.cpus, w.cpu, op, Number(B >> 12n), 3 << 16);
      const [here, there] = w.cpus.map((cpu) => reach(w, B, cpu));
      assert.equal(here, w.at(NEW), `${op} at EL${regime.el}`);
      assert.equal(
        there,
        w.at(broadcast ? NEW : OLD + 0x1000),
        `${op} at EL${regime.el}, other CPU`,
      );
    }
  }
});

Deno.test("one address drops an upper level for all of its addresses", () => {
  const { w, t } = two(GUEST);
  const level2 = w.tablePages(), level3 = w.tablePages();
  w.memory.st64(w.at(level2) + 8 * Number((B >> 21n) & 511n), BigInt(level3) | D.TABLE);
  w.memory.st64(w.at(level3) + 8 * Number((B >> 12n) & 511n), BigInt(NEW) | KERNEL | D.PAGE);
  t.put(B, 1, BigInt(level2) | D.TABLE);
  // An address of the same GiB, far from what was reached
  w.mmu.tlbi(w.cpus, w.cpu, "VAE1", 0x3000_0000 >> 12, 3 << 16);
  assert.equal(reach(w, B), w.at(NEW));
});

Deno.test("the last level alone may leave the tables on the way", () => {
  for (const name of ["VALE1", "VAALE1"] as const) {
    const { w, t } = two(GUEST);
    const leaf = t.entry(A, 3);
    replaceTable(w, t);
    w.mmu.tlbi(w.cpus, w.cpu, name, Number(B >> 12n), 3 << 16);
    assert.equal(reach(w, B), w.at(OLD + 0x1000), name);
    w.memory.st64(leaf, BigInt(NEW) | KERNEL | D.PAGE);
    w.mmu.tlbi(w.cpus, w.cpu, name, Number(A >> 12n), 3 << 16);
    assert.equal(reach(w, A), w.at(NEW), "in the table that was");
  }
});

Deno.test("without any TLBI: what was not there is seen, and so is another TTBR or VTTBR", () => {
  const { w, t } = two(GUEST);
  assert.equal(reach(w, 0x40_3000n), -1);
  t.map(0x40_3000n, NEW, KERNEL);
  assert.equal(reach(w, 0x40_3000n), w.at(NEW));
  const other = new Tables(w, 1);
  other.map(B, NEW, KERNEL);
  w.set({ TTBR0_EL1: other.base | (3n << 48n) });
  w.enter(1);
  assert.equal(reach(w, B), w.at(NEW));
});

Deno.test("a leaf in a known table: access flag, dirty state and permissions are memory's", () => {
  const { w, t } = stage1World();
  const HA = 1n << 39n, HD = 1n << 40n, DBM = 1n << 51n;
  w.set({ TCR_EL1: tcr(25) | HA | HD });
  w.enter(1);
  const clean = (D.INNER | D.ap(2) | DBM) & ~D.AF;
  t.map(A, OLD, clean);
  t.map(B, OLD + 0x1000, clean);
  const descriptor = (va: bigint) => w.memory.ld64(t.entry(va, 3));
  assert.equal(w.fill(A, READ), FILL.RAM);
  assert.equal(descriptor(A) & (D.AF | D.ap(2)), D.AF | D.ap(2));
  assert.equal(descriptor(B) & D.AF, 0n);
  assert.equal(w.fill(B, WRITE), FILL.RAM);
  assert.equal(descriptor(B) & (D.AF | D.ap(2)), D.AF);
  w.memory.st64(t.entry(B, 3), 0n);
  assert.equal(w.fill(B, READ), FILL.FAULT);
  assert.equal(w.mmu.fault.fsc, FSC.TRANSLATION + 3);
  t.map(B, OLD, D.INNER | D.ap(2) | D.AF);
  assert.equal(w.fill(B, WRITE), FILL.FAULT);
  assert.equal(w.mmu.fault.fsc, FSC.PERMISSION + 3);
});

Deno.test("no access flag and nobody to set it: a fault, in a known table too", () => {
  const { w, t } = stage1World();
  t.map(A, OLD, KERNEL);
  t.map(B, OLD, KERNEL & ~D.AF);
  assert.equal(reach(w, A), w.at(OLD));
  assert.equal(w.fill(B, READ), FILL.FAULT);
  assert.equal(w.mmu.fault.fsc, FSC.ACCESS_FLAG + 3);
});

Deno.test("what tables on the way forbid is forbidden in a known table", () => {
  const { w, t } = stage1World();
  t.map(A, OLD, USER);
  t.map(B, OLD, USER);
  t.or(A, 1, D.apTable(2));
  t.or(A, 2, D.PXN_TABLE);
  for (const va of [A, B]) {
    assert.equal(w.fill(va, READ), FILL.RAM);
    assert.equal(w.fill(va, WRITE), FILL.FAULT);
    assert.equal(w.mmu.fault.fsc, FSC.PERMISSION + 3);
    assert.equal(w.mmu.translateCode(w.cpu, Number(va), 0), false);
  }
  w.enter(0);
  for (const va of [A, B]) assert.equal(w.mmu.translateCode(w.cpu, Number(va), 0), true);
});

Deno.test("a table becomes a block and a block a table, with break-before-make", () => {
  const { w, t } = stage1World();
  t.map(A, OLD, KERNEL);
  assert.equal(reach(w, A), w.at(OLD));
  const change = (descriptor: bigint) => {
    const table = w.memory.ld64(t.entry(A, 2));
    t.put(A, 2, 0n);
    w.mmu.tlbi(w.cpus, w.cpu, "VAE1", Number(A >> 12n), 0);
    assert.equal(reach(w, A), -1);
    t.put(A, 2, descriptor);
    return table;
  };
  const table = change(BigInt(DATA_PA) | KERNEL | D.BLOCK);
  assert.equal(reach(w, A), w.at(DATA_PA + 0x1000));
  assert.equal(reach(w, B), w.at(DATA_PA + 0x2000));
  change(table);
  assert.equal(reach(w, A), w.at(OLD));
  assert.equal(reach(w, B), -1);
});

const S2_DROPPING = [
  "IPAS2E1",
  "IPAS2LE1",
  "VMALLS12E1",
  "ALLE1",
  "IPAS2E1IS",
  "IPAS2LE1IS",
  "VMALLS12E1IS",
  "ALLE1IS",
] as const;

/** Lets the 2 MiB of IPA around `ipa` be elsewhere, by another table of level 2. */
function moveIpa(w: World, s2: Tables, ipa: bigint, to: number): void {
  const index = (address: bigint) => Number((address >> 21n) & 511n);
  const table = w.tablePages();
  const old = s2.entry(ipa, 2) - 8 * index(ipa);
  w.memory.u8.copyWithin(w.at(table), old, old + 4096);
  w.memory.st64(w.at(table) + 8 * index(ipa), BigInt(to) | S2_ALL | D.BLOCK);
  s2.put(ipa, 1, BigInt(table) | D.TABLE);
}

Deno.test("stage 2 moves data: seen after each TLBI that names it", () => {
  for (const name of S2_DROPPING) {
    const { w, t, s2 } = stage2World();
    t.map(A, OLD + IPA_DELTA, KERNEL);
    t.map(B, OLD + 0x1000 + IPA_DELTA, KERNEL);
    assert.equal(reach(w, A), w.at(OLD));
    moveIpa(w, s2, BigInt(OLD + IPA_DELTA), OLD + MIB2);
    assert.equal(reach(w, B), w.at(OLD + 0x1000), "known");
    w.mmu.tlbi(w.cpus, w.cpu, name, 0, 0);
    assert.equal(reach(w, B), w.at(OLD + MIB2 + 0x1000), name);
  }
});

Deno.test("stage 2 moves the tables of stage 1: seen after each TLBI that names it", () => {
  for (const name of S2_DROPPING) {
    const { w, t, s2 } = stage2World();
    t.map(A, OLD + IPA_DELTA, KERNEL);
    t.map(B, OLD + 0x1000 + IPA_DELTA, KERNEL);
    assert.equal(reach(w, A), w.at(OLD));
    // A copy of all tables, in which B is elsewhere
    w.memory.u8.copyWithin(w.at(OLD + MIB2), w.at(RAM_PA), w.at(RAM_PA) + MIB2);
    const entry = t.entry(B, 3) - w.at(RAM_PA) + w.at(OLD + MIB2);
    w.memory.st64(entry, BigInt(NEW + IPA_DELTA) | KERNEL | D.PAGE);
    s2.put(BigInt(RAM_PA + IPA_DELTA), 2, BigInt(OLD + MIB2) | S2_ALL | D.BLOCK);
    assert.equal(reach(w, B), w.at(OLD + 0x1000), "known");
    w.mmu.tlbi(w.cpus, w.cpu, name, 0, 0);
    assert.equal(reach(w, B), w.at(NEW), name);
  }
});

Deno.test("stage 2 permissions and access flags of a known table are memory's", () => {
  const { w, t, s2 } = stage2World();
  const HA = 1n << 21n;
  w.set({ VTCR_EL2: w.get("VTCR_EL2") | HA });
  w.enter(1);
  const ipa = BigInt(OLD + IPA_DELTA), next = ipa + BigInt(MIB2);
  t.map(A, Number(ipa), KERNEL);
  t.map(B, Number(next), KERNEL);
  s2.map(next, OLD + MIB2, S2_ALL & ~D.AF, 2);
  assert.equal(reach(w, A), w.at(OLD));
  assert.equal(reach(w, B), w.at(OLD + MIB2));
  assert.notEqual(w.memory.ld64(s2.entry(next, 2)) & D.AF, 0n);
  s2.map(next, OLD + MIB2, D.AF | D.ap(1) | D.memAttr(15), 2);
  assert.equal(w.fill(B, WRITE), FILL.FAULT);
  assert.deepEqual([w.mmu.fault.fsc, w.mmu.fault.stage2], [FSC.PERMISSION + 2, true]);
  s2.put(next, 2, 0n);
  assert.equal(w.fill(B, READ), FILL.FAULT);
  assert.deepEqual([w.mmu.fault.fsc, BigInt(w.mmu.fault.ipa)], [FSC.TRANSLATION + 2, next]);
});

Deno.test("a known table without an access flag leaves no trace of a fault that is not one", () => {
  const { w, t, s2 } = stage2World();
  t.map(A, OLD + IPA_DELTA, KERNEL);
  assert.equal(reach(w, A), w.at(OLD));
  const tables = BigInt(RAM_PA + IPA_DELTA);
  const known = s2.entry(tables, 2);
  moveIpa(w, s2, tables, RAM_PA);
  w.memory.st64(known, w.memory.ld64(known) & ~D.AF);
  assert.equal(w.fill(FAR, READ), FILL.FAULT);
  const { fsc, stage2, s1ptw } = w.mmu.fault;
  assert.deepEqual([fsc, stage2, s1ptw], [FSC.TRANSLATION + 1, false, false]);
});

Deno.test("a table of 16 KiB that stage 2 scatters is looked up page by page", () => {
  const w = new World();
  const s2 = new Tables(w, 1, 2);
  const root = w.tablePages(4), ipa = 0x8000_0000;
  const parts = [0, 1, 2, 3].map(() => (w.tablePages(), w.tablePages()));
  s2.map(BigInt(RAM_PA), RAM_PA, S2_ALL, 2);
  s2.map(BigInt(DATA_PA), DATA_PA, S2_ALL, 2);
  parts.forEach((pa, i) => s2.map(BigInt(ipa + 0x1000 * i), pa, S2_ALL));
  w.memory.st64(w.at(root), BigInt(ipa) | D.TABLE);
  parts.forEach((pa, i) => {
    w.memory.st64(w.at(pa), BigInt(DATA_PA + 0x4000 * i) | KERNEL | D.PAGE);
  });
  w.set({
    SCTLR_EL1: 1n,
    TCR_EL1: tcr(28) | (2n << 14n),
    MAIR_EL1: MAIR,
    TTBR0_EL1: BigInt(root),
    HCR_EL2: HCR.VM | HCR.RW,
    VTCR_EL2: vtcr(40, 1),
    VTTBR_EL2: s2.base,
  });
  w.enter(1);
  for (let i = 0; i < 4; i++) {
    assert.equal(reach(w, BigInt(i) * 512n * 0x4000n), w.at(DATA_PA + 0x4000 * i));
  }
});

Deno.test("two VMs under the same tables: TLBI of one is not the other's", () => {
  const { w, t, s2 } = stage2World();
  t.map(A, OLD + IPA_DELTA, KERNEL);
  t.map(B, OLD + 0x1000 + IPA_DELTA, KERNEL);
  const vm = (vmid: bigint) => {
    w.set({ VTTBR_EL2: s2.base | (vmid << 48n) });
    w.enter(1);
  };
  for (const vmid of [1n, 2n]) {
    vm(vmid);
    assert.equal(reach(w, A), w.at(OLD));
  }
  replaceTable(w, t, IPA_DELTA);
  vm(1n);
  w.mmu.tlbi(w.cpus, w.cpu, "VMALLE1", 0, 0);
  assert.equal(reach(w, B), w.at(NEW));
  vm(2n);
  assert.equal(reach(w, B), w.at(OLD + 0x1000));
  w.mmu.tlbi(w.cpus, w.cpu, "VMALLE1", 0, 0);
  assert.equal(reach(w, B), w.at(NEW));
});

Deno.test("a VM whose VTTBR names other tables under the same VMID begins anew", () => {
  const { w, t } = stage2World();
  t.map(A, OLD + IPA_DELTA, KERNEL);
  t.map(B, OLD + 0x1000 + IPA_DELTA, KERNEL);
  assert.equal(reach(w, A), w.at(OLD));
  const other = new Tables(w, 1, 2);
  for (let offset = 0; offset < 16 * MIB2; offset += MIB2) {
    other.map(BigInt(RAM_PA + IPA_DELTA + offset), RAM_PA + offset, S2_ALL, 2);
  }
  other.map(BigInt(OLD + IPA_DELTA), OLD + MIB2, S2_ALL, 2);
  w.set({ VTTBR_EL2: other.base });
  w.enter(1);
  assert.equal(reach(w, B), w.at(OLD + MIB2 + 0x1000));
});

Deno.test("AT, debuggers and a reset look at the tables themselves", () => {
  const { w, t } = two(GUEST);
  replaceTable(w, t);
  assert.equal(w.translate(B), true);
  assert.equal(w.mmu.pa, NEW);
  w.mmu.addressTranslate(w.cpu, "S1E1R", Number(B), 0);
  assert.equal(w.get("PAR_EL1") & 0xffff_ffff_f000n, BigInt(NEW));
  w.mmu.reset(w.cpus);
  assert.equal(reach(w, B), w.at(NEW));
});

Deno.test("a context that is given to another ASID knows nothing of the last one's tables", () => {
  const w = new World();
  const tables = [0, 1].map((n) => {
    const t = new Tables(w, 1);
    t.map(A, OLD + 0x1000 * n, KERNEL);
    return t;
  });
  w.set({ SCTLR_EL1: 1n, TCR_EL1: tcr(25), MAIR_EL1: MAIR });
  for (let asid = 0; asid < 40; asid++) {
    w.set({ TTBR0_EL1: (tables[asid % 2] as Tables).base | (BigInt(asid) << 48n) });
    w.enter(1);
    assert.equal(reach(w, A), w.at(OLD + 0x1000 * (asid % 2)));
  }
});
