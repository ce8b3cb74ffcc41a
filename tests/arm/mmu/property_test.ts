/**
 * The fast path against the architecture: whatever software does that keeps to break-before-make, a hit
 * in the software TLB is what a fresh walk says, on every CPU, in every address space of every VM.
 */
import assert from "node:assert/strict";
import fc from "fast-check";
import { ACCESS, type Access } from "../../../src/arm/arch/tlb_layout.ts";
import { FILL } from "../../../src/arm/mmu/mmu.ts";
import type { TlbiName } from "../../../src/arm/mmu/tlbi.ts";
import {
  D,
  DATA_PA,
  HCR,
  IPA_DELTA,
  MAIR,
  RAM_PA,
  RAM_SIZE,
  S2_ALL,
  Tables,
  tcr,
  vtcr,
  World,
} from "./world.ts";

const { READ, WRITE } = ACCESS;
const MIB2 = 0x20_0000;
const VMS = 2;
const ASIDS = 2;

/** Addresses that share TLB entries, of both ranges, some within one 2 MiB block. */
const PAGES = [
  0x40_1000n,
  0x40_2000n,
  0x140_1000n,
  0xffff_ff80_0040_1000n,
  0xffff_ff80_0060_1000n,
  0xffff_ff80_0000_0000n,
];

/** What there may be at an address: nothing, a page, or a block around it. */
const mapping = fc.record({
  kind: fc.constantFrom("none", "page", "page", "block"),
  ap: fc.nat(3),
  global: fc.boolean(),
  device: fc.constantFrom(false, false, false, true),
  to: fc.nat(5),
});
type Mapping = typeof mapping extends fc.Arbitrary<infer T> ? T : never;

const where = { vm: fc.nat(VMS - 1), asid: fc.nat(ASIDS - 1), page: fc.nat(PAGES.length - 1) };
const cpu = fc.nat(1);

const step = fc.oneof(
  {
    weight: 24,
    arbitrary: fc.record({
      do: fc.constant("access" as const),
      cpu,
      page: where.page,
      offset: fc.constantFrom(0, 8, 0x10, 0xff9, 0xffd),
      write: fc.boolean(),
      unprivileged: fc.boolean(),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant("enter" as const),
      cpu,
      vm: where.vm,
      asid: where.asid,
      el: fc.nat(1),
      pan: fc.constantFrom(0, 0, 1),
      align: fc.boolean(),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant("remap" as const),
      cpu,
      ...where,
      mapping,
      by: fc.constantFrom<TlbiName>(
        "VAE1IS",
        "VALE1IS",
        "VAAE1IS",
        "VMALLE1IS",
        "VMALLS12E1IS",
        "ALLE1IS",
      ),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant("restage" as const),
      cpu,
      vm: where.vm,
      block: fc.nat(5),
      to: fc.nat(5),
      s2ap: fc.constantFrom(0, 1, 2, 3, 3, 3),
      by: fc.constantFrom<TlbiName>("IPAS2E1IS", "VMALLS12E1IS", "ALLE1IS"),
    }),
  },
);
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;
type Of<K extends Step["do"]> = Extract<Step, { do: K }>;

/** One VM: its stage 2, and for each ASID a lower tree; the upper tree is all ASIDs'. */
interface Vm {
  readonly s2: Tables;
  readonly lower: Tables[];
  readonly upper: Tables;
}

class Software {
  readonly w: World;
  readonly #vms: Vm[];
  hits = 0;

  constructor() {
    this.w = new World(2);
    this.#vms = Array.from({ length: VMS }, () => this.#makeVm());
    this.#populate();
    for (const index of [0, 1]) {
      this.enter({ do: "enter", cpu: index, vm: 0, asid: 0, el: 1, pan: 0, align: false });
    }
  }

  #makeVm(): Vm {
    const s2 = new Tables(this.w, 1, 2);
    for (let offset = 0; offset < RAM_SIZE; offset += MIB2) {
      s2.map(BigInt(RAM_PA + IPA_DELTA + offset), RAM_PA + offset, S2_ALL, 2);
    }
    const tree = (): Tables => new Tables(this.w, 1, 1, IPA_DELTA);
    return { s2, lower: Array.from({ length: ASIDS }, tree), upper: tree() };
  }

  /** Something to hit from the start: AP by address, so that every kind is there. */
  #populate(): void {
    for (const [n, va] of PAGES.entries()) {
      const isUpper = va >> 63n === 1n;
      const m: Mapping = { kind: "page", ap: n === 0 ? 3 : 1, global: true, device: false, to: n };
      for (const vm of this.#vms) {
        const trees = isUpper ? [vm.upper] : vm.lower;
        for (const tables of trees) this.#make(tables, va & 0x7f_ffff_ffffn, m, isUpper);
      }
    }
  }

  #cpu(index: number): World["cpu"] {
    return this.w.cpus[index] ?? this.w.cpu;
  }

  enter(s: Of<"enter">): void {
    const c = this.#cpu(s.cpu);
    const vm = this.#vms[s.vm] as Vm;
    this.w.set({
      HCR_EL2: HCR.VM | HCR.RW,
      VTCR_EL2: vtcr(40, 1),
      VTTBR_EL2: vm.s2.base | (BigInt(s.vm + 1) << 48n),
      SCTLR_EL1: s.align ? 3n : 1n,
      TCR_EL1: tcr(25),
      MAIR_EL1: MAIR,
      TTBR0_EL1: (vm.lower[s.asid] as Tables).base | (BigInt(s.asid + 1) << 48n),
      TTBR1_EL1: vm.upper.base,
    }, c);
    c.pan = s.pan;
    this.w.enter(s.el, c);
  }

  /** An access as generated code makes it: look, on a miss fill, look again. */
  access(s: Of<"access">): void {
    const c = this.#cpu(s.cpu);
    const va = (PAGES[s.page] as bigint) + BigInt(s.offset);
    const access = s.write ? WRITE : READ;
    let at = this.w.lookup(va, access, 4, s.unprivileged, c);
    if (at < 0) {
      const filled = this.w.fill(va, access, 4, s.unprivileged, c);
      at = this.w.lookup(va, access, 4, s.unprivileged, c);
      const crosses = s.offset % 4096 > 4092;
      assert.equal(at >= 0, filled === FILL.RAM && !crosses, "after a fill");
    } else this.hits++;
    if (at >= 0) this.#compare(va, access, s, at);
  }

  #compare(va: bigint, access: Access, s: Of<"access">, at: number): void {
    const c = this.#cpu(s.cpu);
    const [lo, hi] = [Number(va & 0xffff_ffffn), Number(va >> 32n)];
    assert.ok(this.w.mmu.translate(c, lo, hi, access, c.el, s.unprivileged), "hit, but it faults");
    assert.equal(at, this.w.at(this.w.mmu.pa));
    assert.equal(this.w.mmu.normal, true);
    assert.ok(c.alignMask === 0 || va % 4n === 0n, "misaligned hit");
  }

  /** Issues a TLBI as the VM `vm` (or for it). */
  #tlbi(index: number, vm: number, by: TlbiName, va: bigint, asid: number): void {
    const c = this.#cpu(index);
    const here = this.w.get("VTTBR_EL2", c);
    this.w.set({ VTTBR_EL2: BigInt(vm + 1) << 48n }, c);
    const operand = ((va >> 12n) & 0xfff_ffff_ffffn) | (BigInt(asid + 1) << 48n);
    this.w.mmu.tlbi(
      this.w.cpus,
      c,
      by,
      Number(operand & 0xffff_ffffn),
      Number(operand >> 32n),
    );
    this.w.set({ VTTBR_EL2: here }, c);
  }

  remap(s: Of<"remap">): void {
    const vm = this.#vms[s.vm] as Vm;
    const va = PAGES[s.page] as bigint;
    const isUpper = va >> 63n === 1n;
    const tables = isUpper ? vm.upper : vm.lower[s.asid] as Tables;
    const offset = va & 0x7f_ffff_ffffn;
    const block = tables.entry(offset, 2);
    const word = this.w.memory.ld64(block);
    const wasTable = (word & 3n) === 3n;
    // Break. Replacing a table would need its other pages' invalidation as well: all of the ASID's.
    const whole = wasTable && s.mapping.kind === "block";
    if (wasTable && !whole) tables.put(offset, 3, 0n);
    else tables.put(offset, 2, 0n);
    this.#tlbi(s.cpu, s.vm, whole ? "VMALLE1IS" : s.by, va, s.asid);
    this.#make(tables, offset, s.mapping, isUpper);
  }

  #make(tables: Tables, offset: bigint, m: Mapping, isUpper: boolean): void {
    const attributes = D.AF | D.INNER | D.ap(m.ap) | D.attrIndex(m.device ? 1 : 0) |
      (m.global && isUpper ? 0n : D.NG);
    const to = DATA_PA + IPA_DELTA + m.to * MIB2;
    if (m.kind === "page") tables.map(offset, to + m.to * 0x1000, attributes);
    if (m.kind === "block") tables.map(offset & ~0x1f_ffffn, to, attributes, 2);
  }

  restage(s: Of<"restage">): void {
    const { s2 } = this.#vms[s.vm] as Vm;
    const ipa = DATA_PA + IPA_DELTA + s.block * MIB2;
    s2.put(BigInt(ipa), 2, 0n);
    this.#tlbi(s.cpu, s.vm, s.by, BigInt(ipa), 0);
    s2.map(BigInt(ipa), DATA_PA + s.to * MIB2, D.AF | D.ap(s.s2ap) | D.memAttr(15), 2);
  }

  run(steps: readonly Step[]): void {
    for (const s of steps) {
      if (s.do === "access") this.access(s);
      else if (s.do === "enter") this.enter(s);
      else if (s.do === "remap") this.remap(s);
      else this.restage(s);
    }
  }
}

Deno.test("a hit is what a fresh walk says, under any software that breaks before it makes", () => {
  let hits = 0;
  fc.assert(
    fc.property(fc.array(step, { minLength: 60, maxLength: 200, size: "max" }), (steps) => {
      const software = new Software();
      software.run(steps);
      hits += software.hits;
    }),
    { numRuns: 200, seed: 20 },
  );
  assert.ok(hits > 1500, `only ${hits} accesses hit: the test tests little`);
});
