/** Whatever software does, the CPU makes progress or takes an architectural exception: nothing throws. */
import assert from "node:assert/strict";
import fc from "fast-check";
import { HALT } from "../../src/arm/arch/cpu_state.ts";
import { EC_NAMES } from "../../src/arm/arch/syndrome.ts";
import { R, SYSREGS } from "../../src/arm/arch/sysregs.ts";
import { executeSystemOperation } from "../../src/arm/system_operation_access.ts";
import { CODE, E2H, Machine, msrWord, RAM, RW, TGE } from "./core_fixture.ts";

const HCRS = [RW, RW | E2H, RW | E2H | TGE, RW | TGE, RW | 0x7fff_ffffn, RW | E2H | 0x77ff_ffffn];

Deno.test("every encoding can be read and written at every level", () => {
  for (const hcr of HCRS) {
    const m = new Machine();
    const core = m.core();
    m.set({ HCR_EL2: hcr });
    for (const el of [0, 1, 2]) {
      let accepted = 0;
      for (let key = 2 << 14; key < 1 << 16; key++) {
        m.enter(el);
        core.regs.put("HCR_EL2", hcr);
        const read = core.sysregs.read(key, 1);
        accepted += read ? 1 : 0;
        assert.ok(read || core.cpu.daif === 15);
        m.enter(el);
        core.sysregs.write(key, 1, 0, 0);
      }
      assert.ok(accepted > 0);
    }
  }
});

Deno.test("every SYS encoding can be executed at every level", () => {
  for (const hcr of HCRS) {
    const m = new Machine();
    const core = m.core();
    for (const el of [0, 1, 2]) {
      for (let key = 1 << 14; key < 2 << 14; key++) {
        m.enter(el);
        core.regs.put("HCR_EL2", hcr);
        const done = executeSystemOperation(core.sysregs, key, 3, CODE, 0);
        assert.ok(done || core.cpu.daif === 15);
      }
    }
  }
});

Deno.test("random words: progress or an exception with a known class", () => {
  const word = fc.oneof(
    fc.nat(0xffff_ffff),
    fc.record({ r: fc.nat(SYSREGS.length - 1), rt: fc.nat(31), read: fc.boolean() }).map((c) =>
      (msrWord(SYSREGS[c.r]?.key ?? 0, c.rt) | (c.read ? 0x20_0000 : 0)) >>> 0
    ),
  );
  const value = fc.oneof(
    fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }),
    fc.nat(0xffff).map((n) => BigInt(RAM + n)),
  );
  const run = fc.property(
    fc.array(fc.tuple(word, value), { minLength: 1, maxLength: 30 }),
    fc.constantFrom(0, 1, 2),
    fc.constantFrom(...HCRS),
    (steps, el, hcr) => {
      const m = shared;
      const { cpu, regs } = m.core();
      m.set({ HCR_EL2: hcr, CPACR_EL1: 3n << 20n, SCTLR_EL1: 0n, SCTLR_EL2: 0n });
      m.enter(el);
      for (const [instruction, operand] of steps) {
        for (let n = 0; n < 31; n++) m.setX(n, operand + BigInt(n));
        const from = cpu.el;
        m.execute(instruction);
        assert.ok(cpu.el <= 2 && cpu.daif <= 15 && cpu.nzcv <= 15);
        const esr = regs.lo(cpu.el === 2 ? R.ESR_EL2 : R.ESR_EL1);
        if (cpu.el > from) assert.notEqual(EC_NAMES[esr >>> 26], undefined);
        cpu.halt = HALT.RUNNING;
      }
    },
  );
  const shared = new Machine({ conduit: "smc" });
  fc.assert(run, { numRuns: 300, seed: 42 });
});
