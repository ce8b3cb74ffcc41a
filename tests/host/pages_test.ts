import assert from "node:assert/strict";
import { Arena } from "../../src/base/arena.ts";
import { SharedMemory } from "../../src/base/memory.ts";
import { Pages } from "../../src/host/pages.ts";

const RAM = { pa: 0x4000_0000, at: 0x1_0000, size: 4 << 20 };

function make(shuffle: number, count = 64): { pages: Pages; memory: SharedMemory } {
  const memory = SharedMemory.create(8 << 20);
  const arena = new Arena("kernel", memory, 0x1000, 0x1_0000);
  const start = RAM.pa + 0x1_0000;
  return {
    memory,
    pages: new Pages(arena, RAM, { start, end: start + count * 4096, shuffle }),
  };
}

function take(pages: Pages, count: number): number[] {
  return Array.from({ length: count }, () => pages.allocate());
}

Deno.test("pages: every page once, then none, in order unless shuffled", () => {
  const plain = take(make(0).pages, 65);
  assert.deepEqual(plain.slice(0, 3), [0x40010, 0x40011, 0x40012]);
  assert.equal(plain[64], -1);
  const shuffled = take(make(5).pages, 64);
  assert.notDeepEqual(shuffled, plain.slice(0, 64));
  assert.deepEqual([...shuffled].sort((a, b) => a - b), plain.slice(0, 64));
  assert.deepEqual(take(make(5).pages, 64), shuffled);
});

Deno.test("pages: a page is zeroed when given again", () => {
  const { pages, memory } = make(0);
  const pfn = pages.allocate();
  memory.st32(pages.addressOf(pfn), 123);
  pages.release(pfn);
  assert.equal(pages.allocate(), pfn);
  assert.equal(memory.ld32(pages.addressOf(pfn)), 0);
});

for (const seed of [0, 9]) {
  Deno.test(`pages: a run is consecutive, aligned, and never given again while in use, seed ${seed}`, () => {
    const { pages } = make(seed);
    const singles = take(pages, 10);
    const run = pages.allocateRun(8, 8);
    assert.equal(run % 8, 0);
    const rest = take(pages, 64 - 18);
    assert.equal(new Set([...singles, ...rest]).size, 64 - 8);
    assert.ok(rest.every((pfn) => pfn < run || pfn >= run + 8));
    assert.equal(pages.free, 0);
    pages.release(run, 8);
    assert.equal(pages.free, 8);
    assert.equal(new Set(take(pages, 8)).size, 8);
    assert.equal(pages.allocate(), -1);
  });
}

Deno.test("pages: a run is the first that fits among pages in use", () => {
  const count = 200, first = 0x40010;
  const { pages } = make(3, count);
  const used = new Set<number>();
  const fits = (pfn: number, length: number) =>
    Array.from({ length }, (_, i) => pfn + i).every((p) => p < first + count && !used.has(p));
  for (let round = 0; round < 300; round++) {
    const length = 1 + (round * 7) % 40, align = [1, 1, 2, 8, 32][round % 5] as number;
    let wanted = Math.ceil(first / align) * align;
    while (wanted < first + count && !fits(wanted, length)) wanted += align;
    const got = pages.allocateRun(length, align);
    assert.equal(got, wanted < first + count ? wanted : -1, `round ${round}`);
    for (let i = 0; got >= 0 && i < length; i++) used.add(got + i);
    assert.equal(pages.free, count - used.size);
    for (const pfn of [...used].filter((p) => (p * 13 + round) % 5 === 0)) {
      pages.release(pfn);
      used.delete(pfn);
    }
  }
});

Deno.test("pages: no run where there is none, and no double release", () => {
  const { pages } = make(0);
  assert.equal(pages.allocateRun(65), -1);
  const pfn = pages.allocate();
  pages.release(pfn);
  assert.throws(() => pages.release(pfn), /not in use/);
});
