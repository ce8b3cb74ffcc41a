/** Regions on the machine: the same state as without them, and code that changes. */
import assert from "node:assert/strict";
import { smpGuest } from "../../vmm/smp_guest.ts";
import { CpuLayout } from "../../../src/arm/arch/cpu_state.ts";
import { FPCR, FPSR } from "../../../src/arm/fp/format.ts";
import type { TranslatedRegion } from "../../../src/arm/engine/regions.ts";
import { Asm } from "../../support/asm.ts";
import { FlatInterpreter } from "../../support/flat_interpreter.ts";

const TIERS = [{ hotAfter: 0 }, { hotAfter: 1, batch: 1 }, { hotAfter: 40, batch: 8 }];

Deno.test("a guest ends in the same state whatever is translated", async () => {
  const ends: string[] = [];
  for (const regions of TIERS) {
    const append = 'cmd="hvc 5;ipi 20;sgi 20;ticks 4;storm 5;mmio 20;irq;off"';
    const { guest, text } = await smpGuest({ vcpus: 3, pcpus: 2, append, regions });
    assert.equal(guest.machine.run(400_000_000), "power", text().slice(-200));
    const { live, translated } = guest.machine.interpreter.regions;
    assert.equal(translated > 0 && live > 0, regions.hotAfter !== 0, `${translated} translated`);
    ends.push(`${guest.machine.insns} ${guest.machine.stateHash()}`);
  }
  assert.deepEqual(ends, ends.map(() => ends[0]));
});

Deno.test("changed code is executed after its line was invalidated, and its region is gone", () => {
  const CODE = 0x10000, ADDED = 0x9100_0421, ADDED_TWICE = 0x9100_0821;
  // add x1, x1, #1; add x2, x2, #1; b two back
  const words = new Asm(CODE).label("loop").word(ADDED, 0x9100_0442).b("loop").words();
  const flat = new FlatInterpreter(CODE, 0x10000, undefined, { hotAfter: 5, batch: 1 });
  const { cpu, memory, interpreter: { regions } } = flat;
  const x = (n: number) => memory.ld64(cpu.base + CpuLayout.offset.gpr + 8 * n);
  words.forEach((word, i) => memory.st32(flat.offsetOf(CODE + 4 * i), word));
  cpu.pc = BigInt(CODE);
  assert.equal(flat.run(9000), 9000);
  assert.equal(regions.live, 1);
  assert.deepEqual([x(1), x(2)], [3000n, 3000n]);
  memory.st32(flat.offsetOf(CODE), ADDED_TWICE);
  assert.equal(flat.run(3000), 3000);
  assert.deepEqual([x(1), x(2)], [4000n, 4000n], "not before it is told");
  flat.interpreter.invalidateLine(CODE);
  assert.equal(regions.live, 0);
  assert.equal(flat.run(9000), 9000);
  assert.deepEqual([x(1), x(2)], [10_000n, 7000n]);
  assert.equal(regions.live, 1, "it has become hot again");
});

Deno.test("what was never executed is not in a region: its change leaves the region alone", () => {
  const CODE = 0x10000, NEVER = CODE + 0x100;
  // add x1, x1, #1; cbz x1, never; b two back
  const asm = new Asm(CODE).label("loop").word(0x9100_0421, 0xb400_07e1).b("loop");
  const flat = new FlatInterpreter(CODE, 0x10000, undefined, { hotAfter: 5, batch: 1 });
  const { cpu, memory, interpreter: { regions } } = flat;
  asm.words().forEach((word, i) => memory.st32(flat.offsetOf(CODE + 4 * i), word));
  memory.st32(flat.offsetOf(NEVER), 0x9100_0442);
  cpu.pc = BigInt(CODE);
  assert.equal(flat.run(3000), 3000);
  assert.equal(regions.live, 1);
  assert.equal(regions.translated, 3);
  memory.st32(flat.offsetOf(NEVER), 0xd503_201f);
  flat.interpreter.invalidateLine(NEVER);
  assert.equal(regions.live, 1);
});

Deno.test("who watches the translation sees each region, and says which function is used", () => {
  const CODE = 0x10000;
  const words = new Asm(CODE).word(0xd503_201f).label("loop").word(0x9100_0421).b("loop").words();
  const flat = new FlatInterpreter(CODE, 0x10000, undefined, { hotAfter: 5, batch: 1 });
  const { cpu, memory, interpreter: { regions } } = flat;
  words.forEach((word, i) => memory.st32(flat.offsetOf(CODE + 4 * i), word));
  const seen: TranslatedRegion[] = [];
  regions.onTranslated = (region) => {
    seen.push(region);
    return region.run;
  };
  cpu.pc = BigInt(CODE);
  assert.equal(flat.run(3000), 3000);
  assert.equal(seen.length, 1);
  const [region] = seen;
  assert.deepEqual([region?.va, region?.pa, region?.graph.count], [BigInt(CODE + 4), CODE + 4, 2]);
  assert.equal(WebAssembly.validate(new Uint8Array(region?.module ?? [])), true);
  assert.notEqual(region?.exported, undefined);
  assert.equal(regions.table.get(1), region?.run);
});

Deno.test("the upper half of a vector register that a row reads by itself is the register's own", () => {
  const CODE = 0x10000;
  // add v0.2d, v0.2d, v1.2d; mov d2, v0.d[1]; mul v3.8h, v1.8h, v0.h[5]; three back
  const words = new Asm(CODE).label("loop").word(0x4ee1_8400, 0x5e18_0402, 0x4f50_8823).b("loop")
    .words();
  const end = (hotAfter: number): string => {
    const flat = new FlatInterpreter(CODE, 0x10000, undefined, { hotAfter, batch: 1 });
    const { cpu, memory } = flat;
    words.forEach((word, i) => memory.st32(flat.offsetOf(CODE + 4 * i), word));
    const vreg = cpu.base + CpuLayout.offset.vreg;
    memory.st64(vreg + 16, 0x0123_4567_89ab_cdefn);
    memory.st64(vreg + 24, 0x1111_2222_3333_4444n);
    cpu.pc = BigInt(CODE);
    assert.equal(flat.run(4000), 4000);
    assert.equal(flat.interpreter.regions.live, hotAfter === 0 ? 0 : 1);
    return Array.from({ length: 8 }, (_, i) => memory.ld64(vreg + 8 * i).toString(16)).join();
  };
  assert.equal(end(5), end(0));
});

for (const [modes, fpcr] of [["as usual", 0], ["otherwise", FPCR.DN]] as const) {
  Deno.test(`hot code that writes FPSR is translated, floating point being ${modes}`, () => {
    const CODE = 0x10000, WRITE = 0xd51b_4423;
    // msr FPSR, x3; add x1, x1, #1; b two back
    const words = new Asm(CODE).label("loop").word(WRITE).word(0x9100_0421).b("loop").words();
    const flat = new FlatInterpreter(CODE, 0x10000, undefined, { hotAfter: 5, batch: 1 });
    const { cpu, memory, interpreter: { regions } } = flat;
    const x = (n: number) => cpu.base + CpuLayout.offset.gpr + 8 * n;
    words.forEach((word, i) => memory.st32(flat.offsetOf(CODE + 4 * i), word));
    cpu.fpEnabled = true;
    cpu.fpcr = fpcr;
    memory.st53(x(3), FPSR.IXC | FPSR.IOC);
    cpu.pc = BigInt(CODE);
    assert.equal(flat.run(9000), 9000);
    assert.deepEqual([memory.ld53(x(1)), cpu.fpsr], [3000, FPSR.IXC | FPSR.IOC]);
    assert.equal(regions.live, 1);
  });
}
