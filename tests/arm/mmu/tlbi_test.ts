import assert from "node:assert/strict";
import { R, sysregKey } from "../../../src/arm/arch/sysregs.ts";
import { ACCESS, DATA_TLB_ENTRIES } from "../../../src/arm/arch/tlb_layout.ts";
import { makeEmpty } from "../../../src/arm/mmu/tlb.ts";
import { TLBI_OPS, tlbiByKey, type TlbiName } from "../../../src/arm/mmu/tlbi.ts";
import { D, DATA_PA, HCR, MAIR, Tables, tcr, USER, World } from "./world.ts";

const { READ } = ACCESS;
const VA = 0x5000n;
const OTHER_VA = 0x6000n;

/** A state in which translations are cached: at which EL, under which registers. */
interface Place {
  readonly el: number;
  readonly vmid: number;
  readonly asid: number;
  readonly hcr: bigint;
}

const GUEST = HCR.RW | HCR.E2H;
const HOST = HCR.RW | HCR.E2H | HCR.TGE;
const PLACES: Record<string, Place> = {
  guest: { el: 1, vmid: 1, asid: 3, hcr: GUEST },
  guestUser: { el: 0, vmid: 1, asid: 3, hcr: GUEST },
  guestAsid4: { el: 0, vmid: 1, asid: 4, hcr: GUEST },
  otherVm: { el: 1, vmid: 2, asid: 3, hcr: GUEST },
  host: { el: 2, vmid: 1, asid: 3, hcr: HOST },
  hostUser: { el: 0, vmid: 1, asid: 3, hcr: HOST },
  hyp: { el: 2, vmid: 1, asid: 0, hcr: HCR.RW },
};

class Caches {
  readonly w = new World(2);
  readonly #t = new Tables(this.w, 1);

  constructor() {
    this.#t.map(VA, DATA_PA, USER);
    this.#t.map(OTHER_VA, DATA_PA + 0x1000, USER);
  }

  enter(place: Place, index: number): void {
    const cpu = this.w.cpus[index] ?? this.w.cpu;
    const ttbr = this.#t.base | (BigInt(place.asid) << 48n);
    const tcrEl2 = (place.hcr & HCR.E2H) !== 0n ? tcr(25) : 25n | (5n << 16n);
    this.w.set({
      HCR_EL2: place.hcr,
      VTTBR_EL2: BigInt(place.vmid) << 48n,
      SCTLR_EL1: 1n,
      SCTLR_EL2: 1n,
      TCR_EL1: tcr(25),
      TCR_EL2: tcrEl2,
      MAIR_EL1: MAIR,
      MAIR_EL2: MAIR,
      TTBR0_EL1: ttbr,
      TTBR0_EL2: ttbr,
    }, cpu);
    this.w.enter(place.el, cpu);
  }

  fillAll(): void {
    for (const index of [0, 1]) {
      for (const place of Object.values(PLACES)) {
        this.enter(place, index);
        this.w.fill(VA, READ, 1, false, this.w.cpus[index]);
        this.w.fill(OTHER_VA, READ, 1, false, this.w.cpus[index]);
      }
    }
  }

  /** Names of the places where `va` is cached no more, on CPU number `index`. */
  dropped(va: bigint, index: number): string[] {
    return Object.entries(PLACES).filter(([, place]) => {
      this.enter(place, index);
      return this.w.lookup(va, READ, 1, false, this.w.cpus[index]) < 0;
    }).map(([name]) => name);
  }
}

const VM1 = ["guest", "guestUser", "guestAsid4"];
const HOSTS = ["host", "hostUser"];

/** Instruction without IS, where it is issued, what it drops of VA and of OTHER_VA. */
const CASES: [name: TlbiName, from: string, va: string[], other: string[]][] = [
  ["VMALLE1", "guest", VM1, VM1],
  ["VMALLE1", "host", HOSTS, HOSTS],
  ["VMALLE1", "hyp", VM1, VM1],
  ["VAE1", "guest", VM1, []],
  ["VALE1", "guest", VM1, []],
  ["VAAE1", "guest", VM1, []],
  ["VAALE1", "guest", VM1, []],
  ["VAE1", "host", HOSTS, []],
  ["ASIDE1", "guest", ["guest", "guestUser"], ["guest", "guestUser"]],
  ["ASIDE1", "host", HOSTS, HOSTS],
  ["ALLE1", "host", [...VM1, "otherVm"], [...VM1, "otherVm"]],
  ["ALLE2", "host", HOSTS, HOSTS],
  ["ALLE2", "hyp", ["hyp"], ["hyp"]],
  ["VAE2", "host", HOSTS, []],
  ["VALE2", "hyp", ["hyp"], []],
  ["VMALLS12E1", "host", VM1, VM1],
  ["IPAS2E1", "host", VM1, VM1],
  ["IPAS2LE1", "hyp", VM1, VM1],
];

/** VA[55:12], and ASID 3. */
const OPERAND: [lo: number, hi: number] = [Number(VA >> 12n), 3 << 16];

function check(c: Caches, name: TlbiName, from: string, va: string[], other: string[]): void {
  c.fillAll();
  assert.deepEqual([c.dropped(VA, 0), c.dropped(VA, 1)], [[], []], "all are cached at first");
  const remote = name.endsWith("IS");
  c.enter(PLACES[from] as Place, 0);
  c.w.mmu.tlbi(c.w.cpus, c.w.cpu, name, ...OPERAND);
  const what = `${name} at ${from}`;
  assert.deepEqual([c.dropped(VA, 0), c.dropped(OTHER_VA, 0)], [va, other], what);
  const expected = remote ? [va, other] : [[], []];
  assert.deepEqual([c.dropped(VA, 1), c.dropped(OTHER_VA, 1)], expected, `${what}, other CPU`);
}

Deno.test("each TLBI drops what it names, of its regime, VMID and ASID, here or everywhere", () => {
  const c = new Caches();
  for (const [name, from, va, other] of CASES) {
    check(c, name, from, va, other);
    check(c, `${name}IS` as TlbiName, from, va, other);
  }
});

Deno.test("HCR_EL2.FB broadcasts what EL1 issues, and nothing that EL2 issues", () => {
  const c = new Caches();
  for (const [from, remote] of [["guest", VM1], ["host", []]] as const) {
    c.fillAll();
    const place = PLACES[from] as Place;
    c.enter({ ...place, hcr: place.hcr | HCR.FB }, 0);
    c.w.mmu.tlbi(c.w.cpus, c.w.cpu, "VMALLE1", 0, 0);
    assert.deepEqual(c.dropped(VA, 1), remote);
  }
});

Deno.test("an 8-bit ASID ignores the upper half of the operand's", () => {
  const w = new World();
  const t = new Tables(w, 1);
  t.map(VA, DATA_PA, USER);
  w.set({ SCTLR_EL1: 1n, TCR_EL1: tcr(25) & ~(1n << 36n), MAIR_EL1: MAIR });
  w.set({ TTBR0_EL1: t.base | (3n << 48n) });
  w.enter(1);
  w.fill(VA, READ);
  w.mmu.tlbi(w.cpus, w.cpu, "ASIDE1", 0, 0x0104 << 16);
  assert.notEqual(w.lookup(VA, READ), -1);
  w.mmu.tlbi(w.cpus, w.cpu, "ASIDE1", 0, 0x0103 << 16);
  assert.equal(w.lookup(VA, READ), -1);
});

Deno.test("invalidating one address of a block drops all of the block", () => {
  for (const [level, size] of [[2, 0x20_0000n], [1, 0x4000_0000n]] as const) {
    const w = new World();
    const t = new Tables(w, 1);
    const upper = 0xffff_ff80_0000_0000n;
    t.map(0x4000_0000n, 0x4000_0000, USER, level);
    t.map(0x8000_1000n, DATA_PA, USER, 3);
    w.set({ SCTLR_EL1: 1n, TCR_EL1: tcr(25), MAIR_EL1: MAIR, TTBR1_EL1: t.base });
    w.enter(1);
    const inside = [0n, 0x3000n, size < 0x200_0000n ? size - 0x1000n : 0x1ff_f000n];
    for (const offset of inside) w.fill(upper + 0x4000_0000n + offset, READ);
    w.fill(upper + 0x8000_1000n, READ);
    const page = (at: bigint): [number, number] => {
      const operand = (at >> 12n) & 0xfff_ffff_ffffn;
      return [Number(operand & 0xffff_ffffn), Number(operand >> 32n)];
    };
    w.mmu.tlbi(w.cpus, w.cpu, "VAE1", ...page(upper + 0x8000_1000n));
    assert.equal(w.lookup(upper + 0x8000_1000n, READ), -1);
    assert.notEqual(w.lookup(upper + 0x4000_0000n, READ), -1, "another page's TLBI");
    w.mmu.tlbi(w.cpus, w.cpu, "VAE1", ...page(upper + 0x4000_7000n));
    for (const offset of inside) {
      assert.equal(w.lookup(upper + 0x4000_0000n + offset, READ), -1, `level ${level}`);
    }
  }
});

Deno.test("a tagged address is dropped by its untagged operand", () => {
  const w = new World();
  const t = new Tables(w, 1);
  t.map(VA, DATA_PA, D.AF | D.ap(1));
  w.set({ SCTLR_EL1: 1n, TCR_EL1: tcr(25) | (1n << 37n), MAIR_EL1: MAIR, TTBR0_EL1: t.base });
  w.enter(1);
  const tagged = VA | (0xabn << 56n);
  w.fill(tagged, READ);
  assert.equal(w.lookup(tagged, READ), w.at(DATA_PA));
  w.mmu.tlbi(w.cpus, w.cpu, "VAE1", Number(VA >> 12n), 0);
  assert.equal(w.lookup(tagged, READ), -1);
});

Deno.test("registers that matter to the current regime select another context, others do not", () => {
  const c = new Caches();
  const changes = (place: string, register: "TCR_EL1" | "TCR_EL2"): boolean => {
    c.enter(PLACES[place] as Place, 0);
    const before = c.w.cpu.tlb;
    c.w.set({ [register]: c.w.get(register) | (1n << 38n) });
    c.w.mmu.controlChanged(c.w.cpu, R[register]);
    return c.w.cpu.tlb !== before;
  };
  assert.equal(changes("guest", "TCR_EL1"), true);
  assert.equal(changes("guest", "TCR_EL2"), false);
  assert.equal(changes("host", "TCR_EL1"), false);
  assert.equal(changes("hostUser", "TCR_EL2"), true);
});

Deno.test("the table has each encoding once", () => {
  assert.equal(new Set(TLBI_OPS.map((op) => op.key)).size, TLBI_OPS.length);
  assert.equal(tlbiByKey(sysregKey(1, 0, 8, 7, 0))?.name, "VMALLE1");
  assert.equal(tlbiByKey(sysregKey(1, 4, 8, 0, 1))?.name, "IPAS2E1IS");
  assert.equal(tlbiByKey(sysregKey(1, 6, 8, 7, 0)), undefined);
});

Deno.test("by address inside a block: all of the block goes, and nothing else", () => {
  const w = new World();
  const t = new Tables(w, 1);
  // None of these shares an entry of the TLB with another.
  const block = 0x4020_0000n, page = 0x4041_0000n, next = 0x4080_0000n;
  t.map(block, DATA_PA, USER, 2);
  t.map(page, DATA_PA, USER);
  t.map(next, DATA_PA, USER, 2);
  w.set({ SCTLR_EL1: 1n, TCR_EL1: tcr(25), MAIR_EL1: MAIR, TTBR0_EL1: t.base });
  w.enter(1);
  const inBlock = [0n, 0x1000n, 0x8_7000n, 0x1f_f000n].map((offset) => block + offset);
  const others = [page, next, next + 0x5000n];
  const all = [...inBlock, ...others];
  for (const va of all) w.fill(va, READ);
  const held = (vas: readonly bigint[]) => vas.map((va) => w.lookup(va, READ) >= 0);
  assert.deepEqual(held(all), all.map(() => true));
  w.mmu.tlbi(w.cpus, w.cpu, "VAE1", Number((block + 0x3000n) >> 12n), 0);
  assert.deepEqual(held(inBlock), inBlock.map(() => false));
  assert.deepEqual(held(others), others.map(() => true));
  w.mmu.tlbi(w.cpus, w.cpu, "VAE1", Number(page >> 12n), 0);
  assert.deepEqual(held(others), [false, true, true]);
});

Deno.test("by address, where a block of 1 GiB was entered: everything of the context goes", () => {
  const w = new World();
  const t = new Tables(w, 1);
  t.map(0x4000_0000n, 0x4000_0000, USER, 1);
  t.map(0x8000_0000n, DATA_PA, USER);
  w.set({ SCTLR_EL1: 1n, TCR_EL1: tcr(25), MAIR_EL1: MAIR, TTBR0_EL1: t.base });
  w.enter(1);
  const vas = [0x4000_0000n, 0x4100_0000n, 0x8000_0000n];
  for (const va of vas) w.fill(va, READ);
  w.mmu.tlbi(w.cpus, w.cpu, "VAE1", 0x40123, 0);
  assert.deepEqual(vas.map((va) => w.lookup(va, READ)), [-1, -1, -1]);
});

/** A world at EL1 with a page at each of `count` addresses, `stride` apart. */
function pages(count: number, stride: bigint): { w: World; vas: bigint[] } {
  const w = new World();
  const t = new Tables(w, 1);
  const vas = Array.from({ length: count }, (_, i) => 0x4000_0000n + BigInt(i) * stride);
  for (const va of vas) t.map(va, DATA_PA, USER);
  w.set({ SCTLR_EL1: 1n, TCR_EL1: tcr(25), MAIR_EL1: MAIR, TTBR0_EL1: t.base });
  w.enter(1);
  return { w, vas };
}

Deno.test("a context is emptied wherever something was entered, each time", () => {
  // Every 37th entry of the TLB: several in some of its groups, one in others.
  const { w, vas } = pages(DATA_TLB_ENTRIES / 37 | 0, 0x25000n);
  for (let round = 0; round < 2; round++) {
    for (const va of vas) w.fill(va, READ);
    assert.deepEqual(vas.filter((va) => w.lookup(va, READ) < 0), []);
    w.mmu.tlbi(w.cpus, w.cpu, "VMALLE1", 0, 0);
    assert.deepEqual(vas.filter((va) => w.lookup(va, READ) >= 0), []);
  }
});

Deno.test("after a reset nothing is held, and what is entered then is dropped as before", () => {
  const { w, vas } = pages(64, 0x41000n);
  for (const va of vas) w.fill(va, READ);
  w.mmu.reset(w.cpus);
  assert.deepEqual(vas.filter((va) => w.lookup(va, READ) >= 0), []);
  w.fill(0x4000_0000n, READ);
  assert.notEqual(w.lookup(0x4000_0000n, READ), -1);
  w.mmu.tlbi(w.cpus, w.cpu, "VMALLE1", 0, 0);
  assert.equal(w.lookup(0x4000_0000n, READ), -1);
});

Deno.test("a context that is given to another key holds nothing of the last one", () => {
  const { w, vas } = pages(64, 0x41000n);
  const root = w.get("TTBR0_EL1");
  for (let asid = 0n; asid < 40n; asid++) {
    w.set({ TTBR0_EL1: root | (asid << 48n) });
    w.enter(1);
    assert.deepEqual(vas.filter((va) => w.lookup(va, READ) >= 0), [], `ASID ${asid}`);
    for (const va of vas) w.fill(va, READ);
  }
});

Deno.test("an empty TLB is empty to its last word, and nothing behind it is written", () => {
  const { memory } = new World();
  for (const size of [8, 64, 96, DATA_TLB_ENTRIES * 32]) {
    memory.u8.fill(0, 4096, 4096 + size + 16);
    makeEmpty(memory, 4096, size);
    const bytes = memory.u8.slice(4088, 4096 + size + 8);
    assert.ok(bytes.subarray(8, 8 + size).every((byte) => byte === 0xff));
    assert.ok(bytes.subarray(8 + size).every((byte) => byte === 0));
  }
});
