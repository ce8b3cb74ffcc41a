/** Misaligned accesses that are seen before they are made: the code is made for them at once. */
import assert from "node:assert/strict";
import { gprOffset } from "../../../src/arm/arch/cpu_state.ts";
import { meetsMisaligned } from "../../../src/arm/engine/region_alignment.ts";
import type { Step } from "../../../src/arm/engine/region_blocks.ts";
import { regionGraph } from "../../../src/arm/engine/region_graph.ts";
import { InterpreterCode } from "../../../src/arm/engine/interpreter.ts";
import { effectsOf } from "../../../src/arm/engine/region_probe.ts";
import { Random } from "../../../src/arm/isa/random.ts";
import { DECODER, ROWS } from "../../../src/arm/isa/table.ts";
import { FoldedLab, LAB_MEMORY_PAGES } from "./folded_lab.ts";

const LDR_Q0_X0 = 0x3dc00000, LDUR_Q1_X0_MINUS_8 = 0x3cdf8001, LDUR_Q1_X0_MINUS_16 = 0x3cdf0001;
const ADD_X0_24 = 0x91006000, MOV_X0_X1 = 0xaa0103e0, STR_Q1_X0_POST_8 = 0x3c808401;

/** Whether it is seen of a loop of `words`. */
function seen(...words: number[]): boolean {
  const loop = [...words, (0x1400_0000 | (-words.length & 0x3ff_ffff)) >>> 0];
  const stepAt = (offset: number): Step | undefined => {
    const instruction = DECODER.decode(loop[offset / 4] ?? 0);
    return instruction && { instruction, effects: effectsOf(instruction) };
  };
  const graph = regionGraph(0, stepAt, 100, 1, () => []);
  assert.ok(graph);
  return meetsMisaligned(graph);
}

Deno.test("accesses of 16 bytes at distances that are no multiples of it, by a register that moves", () => {
  assert.ok(seen(LDR_Q0_X0, LDUR_Q1_X0_MINUS_8));
  assert.ok(!seen(LDR_Q0_X0, LDUR_Q1_X0_MINUS_16));
  assert.ok(!seen(LDR_Q0_X0, ADD_X0_24, LDUR_Q1_X0_MINUS_8));
  assert.ok(seen(LDR_Q0_X0, ADD_X0_24, LDUR_Q1_X0_MINUS_16));
  assert.ok(!seen(LDR_Q0_X0, MOV_X0_X1, LDUR_Q1_X0_MINUS_8));
  assert.ok(seen(STR_Q1_X0_POST_8, LDR_Q0_X0));
  assert.ok(!seen(STR_Q1_X0_POST_8, LDUR_Q1_X0_MINUS_8));
});

Deno.test("a loop that will make many misaligned accesses is translated once", () => {
  const code = new InterpreterCode(ROWS, LAB_MEMORY_PAGES);
  // ldr q0, [x0]; ldur q1, [x0, #-8]; b
  const words = [LDR_Q0_X0, LDUR_Q1_X0_MINUS_8, 0x17fffffe];
  const lab = new FoldedLab(code, undefined, { hotAfter: 1, batch: 1, copies: 1 });
  lab.loadCode(words);
  lab.randomize(new Random(1));
  lab.cpu.alignMask = lab.cpu.spAlignMask = 0;
  lab.cpu.fpEnabled = true;
  lab.cpu.pc = 0n;
  lab.memory.st64(lab.cpu.base + gprOffset(0), 0x1800n);
  for (let i = 0; i < 20; i++) assert.equal(lab.run(300), 300);
  assert.equal(lab.translated, words.length);
});
