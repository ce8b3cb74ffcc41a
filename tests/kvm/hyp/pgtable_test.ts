import assert from "node:assert/strict";
import fc from "fast-check";
import { SharedMemory } from "../../../src/base/memory.ts";
import { granule, type PgtableOps, PROT, Stage2, VTCR } from "../../../src/kvm/hyp/pgtable.ts";

const RAM = { pa: 0x4000_0000, at: 0x1_0000, size: 4 << 20 };
const BLOCK = 2 << 20;

interface Rig {
  readonly memory: SharedMemory;
  readonly stage2: Stage2;
  readonly log: string[];
  used(): number;
}

function make(limit = 900): Rig {
  const memory = SharedMemory.create(8 << 20);
  const log: string[] = [];
  const free: number[] = [];
  let next = RAM.pa, used = 0;
  const ops: PgtableOps = {
    memory,
    ram: RAM,
    zalloc: (pages) => {
      if (used + pages > limit) return -1;
      used += pages;
      const reused = pages === 1 ? free.pop() : undefined;
      const pa = reused ?? next;
      if (reused === undefined) next += pages * 4096;
      memory.u8.fill(0, RAM.at + pa - RAM.pa, RAM.at + pa - RAM.pa + pages * 4096);
      return pa;
    },
    free: (pa, pages) => {
      used -= pages;
      if (pages === 1) free.push(pa);
    },
    tlbFlushIpa: (ipa, level) => log.push(`ipa ${ipa.toString(16)} level ${level}`),
    tlbFlushAll: () => log.push("all"),
    icacheInvalidate: (pa, size) => log.push(`icache ${pa.toString(16)} ${size}`),
  };
  return { memory, log, used: () => used, stage2: new Stage2(ops, Stage2.allocatePgd(ops)) };
}

/** A walk as the manual tells it: level 1 of 1024 entries, bits 39:30, 29:21, 20:12. */
function walk({ memory, stage2 }: Rig, ipa: bigint): { pa: bigint; attrs: bigint } | undefined {
  const word = (pa: bigint) => memory.ld64(Number(pa) - RAM.pa + RAM.at);
  const mask = 0x0000_ffff_ffff_f000n;
  let table = BigInt(stage2.pgdPa);
  for (const [level, shift, width] of [[1, 30n, 10n], [2, 21n, 9n], [3, 12n, 9n]] as const) {
    const entry = word(table + 8n * ((ipa >> shift) & ((1n << width) - 1n)));
    if ((entry & 1n) === 0n) return undefined;
    const table_ = (entry & 2n) !== 0n;
    if (level === 3 && !table_) return undefined;
    if (level === 3 || !table_) {
      const offset = ipa & ((1n << shift) - 1n);
      return { pa: (entry & mask & ~((1n << shift) - 1n)) | offset, attrs: entry & ~mask };
    }
    table = entry & mask;
  }
  return undefined;
}

const RW = PROT.R | PROT.W;

Deno.test("pgtable: VTCR_EL2 describes what the walker builds", () => {
  assert.equal(VTCR & 0x3f, 24); // T0SZ: 40 bits
  assert.equal((VTCR >>> 6) & 3, 1); // SL0: start at level 1
  assert.equal((VTCR >>> 14) & 3, 0); // 4 KiB
  assert.equal((VTCR >>> 21) & 1, 1); // HA
});

Deno.test("pgtable: mappings are what an independent walk finds, whatever came before", () => {
  const page = fc.record({
    op: fc.constantFrom("map", "block", "unmap", "protect"),
    slot: fc.integer({ min: 0, max: 5 }),
    index: fc.integer({ min: 0, max: 511 }),
    target: fc.integer({ min: 0, max: 3 }),
  });
  fc.assert(
    fc.property(fc.array(page, { maxLength: 40 }), (steps) => {
      const rig = make();
      const model = new Map<number, { pa: number; write: boolean }>();
      const bases = [0, BLOCK, 3 * BLOCK, 1 << 30, 2 ** 39, 2 ** 40 - BLOCK];
      for (const { op, slot, index, target } of steps) {
        const base = bases[slot] as number;
        const ipa = base + index * 4096, pa = 0x1_0000_0000 + target * BLOCK;
        if (op === "map") {
          if (model.size > 0 && isBlock(rig, ipa)) forget(model, base);
          rig.stage2.map(ipa, 4096, pa + index * 4096, RW);
          model.set(ipa, { pa: pa + index * 4096, write: true });
        } else if (op === "block") {
          rig.stage2.map(base, BLOCK, pa, RW);
          for (let i = 0; i < 512; i++) {
            model.set(base + i * 4096, { pa: pa + i * 4096, write: true });
          }
        } else if (op === "unmap") {
          const whole = isBlock(rig, ipa);
          rig.stage2.unmap(ipa, 4096);
          if (whole) forget(model, base);
          else model.delete(ipa);
        } else {
          rig.stage2.wrprotect(base, BLOCK);
          for (const [at, m] of model) {
            if (at >= base && at < base + BLOCK) model.set(at, { ...m, write: false });
          }
        }
        for (const at of [ipa, base, base + BLOCK - 4096]) {
          const found = walk(rig, BigInt(at));
          assert.equal(found?.pa, model.has(at) ? BigInt(model.get(at)?.pa ?? 0) : undefined);
          if (found) assert.equal((found.attrs & 0x80n) !== 0n, model.get(at)?.write);
        }
      }
    }),
    { numRuns: 60 },
  );
});

function isBlock({ memory, stage2 }: Rig, ipa: number): boolean {
  const leaf = stage2.lookup(ipa);
  return leaf.level === 2 && (memory.ld32(leaf.at) & 1) === 1;
}

function forget(model: Map<number, unknown>, base: number): void {
  for (let i = 0; i < 512; i++) model.delete(base + i * 4096);
}

Deno.test("pgtable: attributes", () => {
  const rig = make();
  rig.stage2.map(0x1000, 4096, 0x8000_1000, PROT.R);
  rig.stage2.map(0x2000, 4096, 0x8000_2000, RW | PROT.X);
  rig.stage2.map(0x3000, 4096, 0x8000_3000, RW | PROT.DEVICE);
  const XN = 1n << 54n;
  // Valid page, Normal write-back, read-only, inner shareable, accessed
  assert.equal(walk(rig, 0x1000n)?.attrs, XN | 0x77fn);
  assert.equal(walk(rig, 0x2000n)?.attrs, 0x7ffn);
  assert.equal(walk(rig, 0x3000n)?.attrs, XN | 0x7c7n);
  assert.deepEqual(rig.log, ["icache 80002000 4096"]);
});

Deno.test("pgtable: break before make, and only then", () => {
  const rig = make();
  rig.stage2.map(0x1000, 4096, 0x8000_1000, RW);
  assert.deepEqual(rig.log, []);
  rig.stage2.map(0x1000, 4096, 0x8000_1000, RW);
  assert.deepEqual(rig.log, []);
  rig.stage2.map(0x1000, 4096, 0x9000_1000, RW);
  assert.deepEqual(rig.log, ["ipa 1000 level 3"]);
});

Deno.test("pgtable: a block over pages frees their table, pages over a block replace it", () => {
  const rig = make();
  const empty = rig.used();
  rig.stage2.map(BLOCK + 0x5000, 4096, 0x8000_0000, RW);
  assert.equal(rig.used(), empty + 2);
  rig.stage2.map(BLOCK, BLOCK, 0x8000_0000, RW);
  assert.equal(rig.used(), empty + 1);
  assert.deepEqual(rig.log, ["all"]);
  rig.stage2.map(BLOCK, 4096, 0x9000_0000, RW);
  assert.equal(walk(rig, BigInt(BLOCK))?.pa, 0x9000_0000n);
  assert.equal(walk(rig, BigInt(BLOCK + 4096)), undefined);
  rig.stage2.destroy();
  assert.equal(rig.used(), 0);
});

Deno.test("pgtable: age and permissions", () => {
  const rig = make();
  rig.stage2.map(0x1000, 4096, 0x8000_1000, PROT.R);
  assert.equal(rig.stage2.mkold(0x1000), true);
  assert.equal(rig.stage2.mkold(0x1000), false);
  assert.equal(rig.stage2.mkyoung(0x1000), true);
  assert.equal(rig.stage2.mkold(0x1000), true);
  assert.equal(rig.stage2.relaxPerms(0x1000, RW | PROT.X), true);
  assert.equal(((walk(rig, 0x1000n)?.attrs ?? 0n) >> 54n) & 1n, 0n);
  assert.equal(rig.stage2.relaxPerms(0x2000, RW), false);
});

Deno.test("pgtable: out of memory is an answer, and sizes are what the granule says", () => {
  const rig = make(2);
  assert.equal(rig.stage2.map(0x1000, 4096, 0x8000_1000, RW), false);
  assert.deepEqual([1, 2, 3].map(granule), [1 << 30, BLOCK, 4096]);
});
