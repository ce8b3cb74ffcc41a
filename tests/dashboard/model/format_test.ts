import assert from "node:assert/strict";
import fc from "fast-check";
import {
  clockTime,
  count,
  daif,
  duration,
  hex,
  mebibytes,
  percent,
  rate,
} from "../../../src/dashboard/model/format.ts";
import { NONE } from "../../../src/vmm/frame_layout.ts";

Deno.test("counts are exact as long as they fit, then have three digits", () => {
  const cases: [number, string][] = [
    [0, "0"],
    [99_999, "99999"],
    [100_000, "100k"],
    [999_499, "999k"],
    [999_500, "1.00M"],
    [1_234_567, "1.23M"],
    [12_345_678, "12.3M"],
    [5.8e9, "5.80G"],
    [NaN, "-"],
  ];
  for (const [n, text] of cases) assert.equal(count(n), text);
});

Deno.test("shares are not rounded up to all, and are none of nothing; bytes are in MiB", () => {
  const shares = [percent(999, 1000), percent(0, 3), percent(3, 3), percent(5, 4), percent(0, 0)];
  assert.deepEqual(shares, ["99%", "0%", "100%", "100%", "-"]);
  assert.equal(percent(NaN, 1), "-");
  assert.deepEqual([mebibytes(0), mebibytes(1 << 20), mebibytes(0x28_0000)], [
    "0.0M",
    "1.0M",
    "2.5M",
  ]);
});

Deno.test("times", () => {
  const cases: [number, string][] = [
    [0, "0"],
    [850, "850ns"],
    [999.6, "1.00us"],
    [1250, "1.25us"],
    [3.2e6, "3.20ms"],
    [12.5e9, "12.5s"],
    [NONE, "-"],
    [NaN, "-"],
  ];
  for (const [n, text] of cases) assert.equal(duration(n), text);
});

Deno.test("no number is wider than its column", () => {
  fc.assert(fc.property(fc.double({ min: 0, max: 2 ** 53, noNaN: true }), (n) => {
    assert.ok(count(n).length <= 6, count(n));
    assert.ok(rate(n).length <= 6, rate(n));
    if (n < 1e14) assert.ok(duration(n).length <= 6, duration(n));
  }));
});

Deno.test("registers and clocks", () => {
  assert.equal(hex(0xa0, 2), "0xa0");
  assert.equal(hex(0xffff_8000n, 16), "0x00000000ffff8000");
  assert.equal(daif(0x3c5), "DAIF");
  assert.equal(daif(0x85), "..I.");
  assert.equal(daif(0x205), "D...");
  assert.equal(clockTime(1_234_567_890), "1.234568");
});
