import assert from "node:assert/strict";
import {
  abortIss,
  EC,
  EC_NAMES,
  ecOf,
  esr,
  issSys64,
  issWfx,
  WFX,
} from "../../../src/arm/arch/syndrome.ts";
import { sysreg } from "../../../src/arm/arch/sysregs.ts";

Deno.test("ESR values of well-known exceptions", () => {
  assert.equal(esr(EC.HVC64, 0), 0x5a00_0000);
  assert.equal(esr(EC.WFx, issWfx(WFX.WFE)), 0x07e0_0001);
  assert.equal(esr(EC.SYS64, issSys64(sysreg("ICC_SGI1R_EL1").key, 0, false)), 0x623a_3016);
  assert.equal(esr(EC.SYS64, issSys64(sysreg("ID_AA64PFR0_EL1").key, 3, true)), 0x6230_0069);
  assert.equal(ecOf(esr(EC.BRK64, 7)), EC.BRK64);
  assert.equal(EC_NAMES[0x24], "DABT_LOW");
  assert.equal(EC_NAMES[2], undefined);
});

// ISV, SAS, SSE, SRT, SF, AR as the manual defines them, by instruction.
const CASES: readonly (readonly [text: string, word: number, iss: number])[] = [
  ["ldr x1, [x2]", 0xf940_0041, 0x1c1_8000],
  ["str w3, [x2, #4]", 0xb900_0443, 0x183_0000],
  ["strb w0, [x1]", 0x3900_0020, 0x100_0000],
  ["ldrb wzr, [x1]", 0x3940_003f, 0x11f_0000],
  ["ldrsb w5, [x1]", 0x39c0_0025, 0x125_0000],
  ["ldrsb x5, [x1]", 0x3980_0025, 0x125_8000],
  ["ldrsh x7, [x1]", 0x7980_0027, 0x167_8000],
  ["ldrsw x7, [x1]", 0xb980_0027, 0x1a7_8000],
  ["ldur w0, [x1, #-4]", 0xb85f_c020, 0x180_0000],
  ["ldtr x0, [x1]", 0xf840_0820, 0x1c0_8000],
  ["ldr w2, [x1, x3]", 0xb863_6822, 0x182_0000],
  ["ldr x2, .+8", 0x5800_0042, 0x1c2_8000],
  ["ldr w2, .+8", 0x1800_0042, 0x182_0000],
  ["ldrsw x2, .+8", 0x9800_0042, 0x1a2_8000],
  ["ldar w4, [x1]", 0x88df_fc24, 0x184_4000],
  ["ldapr w4, [x1]", 0xb8bf_c024, 0x184_4000],
  ["ldapursh x4, [x1, #1]", 0x5980_1024, 0x164_c000],
  ["stlur x4, [x1]", 0xd900_0024, 0x1c4_c000],
  ["ldadd w1, w3, [x2]", 0xb821_0043, 0],
  ["cas w1, w3, [x2]", 0x88a1_7c43, 0],
  ["stlr x4, [x1]", 0xc89f_fc24, 0x1c4_c000],
  ["ldr x1, [x2], #8", 0xf840_8441, 0],
  ["ldr x1, [x2, #8]!", 0xf840_8c41, 0],
  ["ldp x1, x3, [x2]", 0xa940_0c41, 0],
  ["ldxr x1, [x2]", 0xc85f_7c41, 0],
  ["ldaxr w1, [x2]", 0x885f_fc41, 0],
  ["ldr q1, [x2]", 0x3dc0_0041, 0],
  ["ldr d1, [x2]", 0xfd40_0041, 0],
  ["prfm pldl1keep, [x1]", 0xf980_0020, 0],
  ["dc zva, x0", 0xd50b_7420, 0],
];

for (const [text, word, iss] of CASES) {
  Deno.test(`data abort syndrome of ${text}`, () => assert.equal(abortIss(word), iss));
}
