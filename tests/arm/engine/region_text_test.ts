import assert from "node:assert/strict";
import { RegionCounts } from "../../../src/arm/engine/region_counts.ts";
import { regionText } from "../../../src/arm/engine/region_text.ts";
import type { TranslatedRegion } from "../../../src/arm/engine/regions.ts";
import { CpuLayout } from "../../../src/arm/arch/cpu_state.ts";
import { Asm } from "../../support/asm.ts";
import { FlatInterpreter } from "../../support/flat_interpreter.ts";

const CODE = 0x10000;
/** add x1, x1, #1; cbnz x2, first; b first */
const LOOP = new Asm(CODE).label("first").word(0x9100_0421, 0xb5ff_ffe2).b("first").words();

function translate(watch: (region: TranslatedRegion) => CallableFunction): FlatInterpreter {
  const flat = new FlatInterpreter(CODE, 0x10000, undefined, { hotAfter: 5, batch: 1 });
  LOOP.forEach((word, i) => flat.memory.st32(flat.offsetOf(CODE + 4 * i), word));
  flat.interpreter.regions.onTranslated = watch;
  flat.cpu.pc = BigInt(CODE);
  return flat;
}

Deno.test("a region's text has its addresses, its blocks and its function", () => {
  const seen: TranslatedRegion[] = [];
  translate((region) => {
    seen.push(region);
    return region.run;
  }).run(3000);
  const [region] = seen;
  assert.ok(region);
  const lines = regionText(region, 0x4000_0000).split("\n");
  assert.deepEqual(lines.slice(0, 3), [
    "region at 0x10000",
    "physical page 0x10000, offset 0x0",
    "guest physical page 0x40000000",
  ]);
  const code = lines.filter((line) => /^( {2}10|block )/.test(line));
  assert.deepEqual(code, [
    "block 0x0: loop, branches to 0x0, goes on at 0x8",
    "  10000  91000421  add x1, x1, #0x1",
    "  10004  b5ffffe2  cbnz x2, 0x10000",
    "block 0x8: branches to 0x0",
    "  10008  17fffffe  b 0x10000",
  ]);
  assert.ok(lines.some((line) => line.startsWith(`(func $${region.exported} (param $0 i32)`)));
  const high = { ...region, va: 0xffff_8000_0801_0000n };
  const text = regionText(high, undefined);
  assert.match(text, /ffff800008010004 {2}b5ffffe2 {2}cbnz x2, 0xffff800008010000\n/);
  assert.match(text, /^no guest's memory$/m);
});

Deno.test("a counted region is entered as often as it says, and does what it did", () => {
  const counts = new RegionCounts();
  let number = -1;
  const flat = translate((region) => {
    const counted = counts.counted(region.run);
    number = counted.number;
    return counted.run;
  });
  assert.equal(flat.run(3000), 3000);
  const before = counts.of(number);
  const x1 = () => flat.memory.ld64(flat.cpu.base + CpuLayout.offset.gpr + 8);
  assert.equal(x1(), 1000n);
  for (let i = 0; i < 10; i++) flat.run(30);
  assert.equal(x1(), 1100n);
  assert.equal(counts.of(number) - before, 10);
  assert.equal(counts.of(number + 1), 0);
});
