/**
 * Golden WebAssembly of small pieces of code: what a region is translated to, to be read and accepted.
 * A change of the translator changes these files; it is made to write them anew by
 *
 *     WORLDSWITCH_WRITE_GOLDEN=1 deno test -P=test --no-prompt tests/arm/engine/region_golden_test.ts
 *
 * and what `git diff` then shows is what is to be reviewed.
 */
import assert from "node:assert/strict";
import { gprOffset } from "../../../src/arm/arch/cpu_state.ts";
import { FPSR } from "../../../src/arm/fp/format.ts";
import { regionText } from "../../../src/arm/engine/region_text.ts";
import type { TranslatedRegion } from "../../../src/arm/engine/regions.ts";
import { Asm, COND } from "../../support/asm.ts";
import { FlatInterpreter } from "../../support/flat_interpreter.ts";
import call from "./golden/call.txt" with { type: "text" };
import copy from "./golden/copy.txt" with { type: "text" };
import count from "./golden/count.txt" with { type: "text" };
import floats from "./golden/floats.txt" with { type: "text" };
import numbers from "./golden/numbers.txt" with { type: "text" };
import near from "./golden/near.txt" with { type: "text" };
import select from "./golden/select.txt" with { type: "text" };
import twice from "./golden/twice.txt" with { type: "text" };

const CODE = 0x1_0000, SIZE = 0x1_0000, DATA = CODE + 0x8000;

interface Piece {
  readonly golden: string;
  readonly code: (asm: Asm) => Asm;
  /** How often a small loop is written in a row. */
  readonly copies?: number;
  /** FPSR.IXC is set. */
  readonly usualFp?: boolean;
}

/** Each is a loop that does not end, entered at its first instruction. */
const PIECES: Readonly<Record<string, Piece>> = {
  // add x1, x1, #1; subs x2, x2, #1; b.ne loop; movz x2, #100; b loop
  count: {
    golden: count,
    code: (asm) =>
      asm.label("loop").word(0x9100_0421, 0xf100_0442).bCond(COND.NE, "loop")
        .word(0xd280_0c82).b("loop"),
  },
  // add x1, x1, #1; b loop
  twice: {
    golden: twice,
    copies: 2,
    code: (asm) => asm.label("loop").word(0x9100_0421).b("loop"),
  },
  // ldrb w3, [x0, #1]; strb w3, [x1]; b loop
  copy: {
    golden: copy,
    code: (asm) => asm.label("loop").word(0x3940_0403, 0x3900_0023).b("loop"),
  },
  // ldrb w3, [x0]; ldrb w4, [x0, #1]; ldr x5, [x0, #8]; add x0, x0, #16; b loop
  near: {
    golden: near,
    code: (asm) =>
      asm.label("loop").word(0x3940_0003, 0x3940_0404, 0xf940_0405, 0x9100_4000).b("loop"),
  },
  // cmp w1, w2; ccmp w3, #4, #0, ge; csel x4, x1, x2, lt; adds w1, w1, #3; b loop
  select: {
    golden: select,
    code: (asm) =>
      asm.label("loop").word(0x6b02_003f, 0x7a44_a860, 0x9a82_b024, 0x3100_0c21).b("loop"),
  },
  // bl f; add x1, x1, #1; b loop; f: add x2, x2, x1; ret
  call: {
    golden: call,
    code: (asm) =>
      asm.label("loop").bl("f").word(0x9100_0421).b("loop").label("f").word(0x8b01_0042)
        .word(0xd65f_03c0),
  },
  // fmul d0, d0, d1; fadd d2, d2, d0; b loop
  floats: {
    golden: floats,
    code: (asm) => asm.label("loop").word(0x1e61_0800, 0x1e60_2842).b("loop"),
  },
  // fmul v0.2d, v1.2d, v2.2d; fadd v3.2d, v3.2d, v0.2d; fcmgt v5.2d, v3.2d, v6.2d; fadd d3, d3, d4; b loop
  numbers: {
    golden: numbers,
    usualFp: true,
    code: (asm) =>
      asm.label("loop").word(0x6e62_dc20, 0x4e60_d463, 0x6ee6_e465, 0x1e64_2863).b("loop"),
  },
};

/** The first region that is made of the piece, in text; lines about where it lies left out. */
function textOf({ code, copies = 1, usualFp = false }: Piece): string {
  const flat = new FlatInterpreter(CODE, SIZE, undefined, { hotAfter: 5, batch: 1, copies });
  const words = code(new Asm(CODE)).words();
  words.forEach((word, i) => flat.memory.st32(flat.offsetOf(CODE + 4 * i), word));
  const seen: TranslatedRegion[] = [];
  flat.interpreter.regions.onTranslated = (region) => {
    seen.push(region);
    return region.run;
  };
  const { cpu } = flat;
  cpu.pc = BigInt(CODE);
  if (usualFp) cpu.fpsr = FPSR.IXC;
  for (const register of [0, 1]) {
    flat.memory.st64(cpu.base + gprOffset(register), BigInt(DATA));
  }
  flat.run(1000);
  const region = seen.find(({ pa }) => pa === CODE);
  assert.ok(region, "its first instruction has become hot");
  const [, , , size, , ...rest] = regionText(region, undefined).split("\n");
  return [size, ...rest].join("\n");
}

const variable = "WORLDSWITCH_WRITE_GOLDEN";
const mayKnow = Deno.permissions.querySync({ name: "env", variable }).state === "granted";
const writes = mayKnow && Deno.env.get(variable) === "1";

for (const [name, piece] of Object.entries(PIECES)) {
  Deno.test(`golden region: ${name}`, () => {
    const text = textOf(piece);
    if (writes) {
      Deno.writeTextFileSync(new URL(`golden/${name}.txt`, import.meta.url), text);
    } else assert.equal(text, piece.golden, `to write it anew: ${variable}=1`);
  });
}
