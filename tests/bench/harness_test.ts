/** What the bench makes of its measurements; the measurements themselves are judged by nobody but the bench. */
import assert from "node:assert/strict";
import { largestMapping } from "../../bench/commands.ts";
import { geometricMean, keeps, measure, median, Report, verdict } from "../../bench/harness.ts";

Deno.test("a bound is kept from its own side, and never by what is no number", () => {
  assert.deepEqual([0.9, 0.91].map((v) => keeps(v, { most: 0.9 })), [true, false]);
  assert.deepEqual([0.9, 0.89].map((v) => keeps(v, { least: 0.9 })), [true, false]);
  assert.equal(keeps(NaN, { most: 1 }), false);
  assert.equal(keeps(NaN, { least: 1 }), false);
  assert.equal(keeps(1, undefined), undefined);
  assert.deepEqual([verdict(1, { most: 2 }), verdict(3, { most: 2 })], ["2 reached", "2 MISSED"]);
});

Deno.test("the middle of the values, and their geometric mean", () => {
  assert.deepEqual([median([3, 1, 2]), median([4, 1]), median([])], [2, 4, NaN]);
  assert.ok(Math.abs(geometricMean([0.5, 2, 8]) - 2) < 1e-12);
  assert.equal(geometricMean([]), NaN);
});

Deno.test("every contender runs once in each round", async () => {
  const order: string[] = [];
  const contender = (name: string) => ({ name, run: () => void order.push(name) });
  const timings = await measure(2, [contender("a"), contender("b")]);
  assert.deepEqual(order, ["a", "b", "a", "b"]);
  assert.deepEqual(timings.map((t) => [t.contender.name, t.all.length]), [["a", 2], ["b", 2]]);
});

Deno.test("figures are printed beside their bounds and kept with the verdict", async () => {
  const lines: string[] = [];
  const report = new Report((line) => lines.push(line), 3);
  report.begin("first");
  report.figure({
    name: "time",
    value: 1.234,
    unit: "us",
    must: { most: 1.5 },
    aim: { most: 0.5 },
  });
  report.figure({ name: "memory", value: 1234.5, unit: "MiB" });
  report.begin("second");
  await report.compare("table", 1, [{ name: "a", work: 5, unit: "insns", run: () => {} }]);
  report.note("skipped");
  assert.match(lines[0] ?? "", /^ {2}time +1\.23 us +must <= 1\.5 reached +aim <= 0\.5 MISSED$/);
  assert.match(lines[1] ?? "", /^ {2}memory +1235 MiB$/);
  const [first, second] = report.results;
  assert.deepEqual(first?.figures.map((f) => [f.name, f.mustReached, f.aimReached]), [
    ["time", true, false],
    ["memory", undefined, undefined],
  ]);
  assert.deepEqual([first?.tables, second?.notes], [[], ["skipped"]]);
  const [table] = second?.tables ?? [];
  assert.deepEqual([table?.title, table?.rounds, table?.rows[0]?.name], ["table", 1, "a"]);
  assert.deepEqual([table?.rows[0]?.work, table?.rows[0]?.unit], [5, "insns"]);
  assert.deepEqual(JSON.parse(JSON.stringify(report.results)), report.results);
});

Deno.test("the largest mapping that can be written and not executed is the machine's", () => {
  const entry = (range: string, rights: string, size: number, rss: number): string =>
    `${range} ${rights} 00000000 00:00 0 \nSize:           ${size} kB\nKernelPageSize:        4 kB\n` +
    `MMUPageSize:           4 kB\nRss:            ${rss} kB\nPss:             1 kB\n`;
  const smaps = entry("1000-2000", "---p", 9_000_000, 0) +
    entry("2000-3000", "rwxp", 500_000, 4000) +
    entry("3000-4000", "rw-p", 450_000, 120_000) + entry("4000-5000", "rw-p", 30_000, 30_000);
  assert.equal(largestMapping(smaps), 120_000);
  assert.equal(largestMapping(""), 0);
});
