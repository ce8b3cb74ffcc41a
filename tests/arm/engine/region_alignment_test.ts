/** Code whose accesses are often misaligned is made for them at once. */
import assert from "node:assert/strict";
import { gprOffset } from "../../../src/arm/arch/cpu_state.ts";
import { InterpreterCode } from "../../../src/arm/engine/interpreter.ts";
import { Random } from "../../../src/arm/isa/random.ts";
import { ROWS } from "../../../src/arm/isa/table.ts";
import { FoldedLab, LAB_MEMORY_PAGES } from "./folded_lab.ts";

const LDR_Q0_X0 = 0x3dc0_0000, LDUR_Q1_X0_MINUS_8 = 0x3cdf_8001;

Deno.test("a loop that makes many misaligned accesses of 16 bytes is translated once", () => {
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
