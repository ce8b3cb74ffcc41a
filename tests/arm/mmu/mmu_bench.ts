/** Costs of the MMU's paths: `deno bench tests/arm/mmu`. */
import { ACCESS } from "../../../src/arm/arch/tlb_layout.ts";
import { DATA_PA, IPA_DELTA, KERNEL, stage1World, stage2World } from "./world.ts";

const one = stage1World(16);
const two = stage2World();
const PAGES = 256;
for (let page = 0; page < PAGES; page++) {
  const va = 0x40_0000n + BigInt(page) * 4096n;
  one.t.map(va, DATA_PA + page * 4096, KERNEL);
  two.t.map(va, DATA_PA + IPA_DELTA + page * 4096, KERNEL);
}

function fillAll({ w }: typeof one): void {
  for (let page = 0; page < PAGES; page++) {
    w.mmu.fillData(w.cpu, 0x40_0000 + page * 4096, 0, ACCESS.READ, 8, false);
  }
}

Deno.bench("256 fills, stage 1 of 4 levels", () => fillAll(one));
Deno.bench("256 fills, 3 levels over 2 levels", () => fillAll(two));
Deno.bench("256 context changes between EL0 and EL1", () => {
  const { w } = two;
  for (let i = 0; i < 256; i++) {
    w.cpu.el = i & 1;
    w.mmu.contextChanged(w.cpu);
  }
  w.enter(1);
});
Deno.bench("256 times TLBI VAE1IS", () => {
  const { w } = two;
  for (let i = 0; i < 256; i++) w.mmu.tlbi(w.cpus, w.cpu, "VAE1IS", 0x400 + i, 0);
});
Deno.bench("a fill and TLBI VMALLE1", () => {
  const { w } = two;
  w.mmu.fillData(w.cpu, 0x40_0000, 0, ACCESS.READ, 8, false);
  w.mmu.tlbi(w.cpus, w.cpu, "VMALLE1", 0, 0);
});
