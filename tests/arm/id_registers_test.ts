/** What a core says of itself is what it implements. */
import assert from "node:assert/strict";
import {
  type FeatureName,
  FEATURES,
  idField,
  limitIdRegister,
} from "../../src/arm/arch/features.ts";
import { R, SYSREGS } from "../../src/arm/arch/sysregs.ts";
import { coreModel } from "../../src/arm/id_registers.ts";
import { Random, randomInstruction } from "../../src/arm/isa/random.ts";
import { ROWS } from "../../src/arm/isa/table.ts";
import { Machine } from "./core_fixture.ts";

const V80 = coreModel("v8.0");
const MAX = coreModel("max");

/** Whether the identification registers of a model announce `name`. */
function announces(model: typeof V80, name: FeatureName): boolean {
  const { fields } = FEATURES.find((f) => f.name === name) ?? { fields: [] };
  return fields.every(([register, shift, value]) =>
    idField(model.ids[R[register]] as bigint, shift) >= value
  );
}

Deno.test("a feature is announced exactly where the model has it", () => {
  for (const model of [V80, MAX]) {
    for (const { name } of FEATURES) {
      assert.equal(announces(model, name), model.features.has(name), `${model.name} ${name}`);
    }
  }
});

Deno.test("every instruction of a feature belongs to the models that announce the feature", () => {
  for (const row of ROWS) {
    if (row.feature === undefined) continue;
    assert.ok(MAX.features.has(row.feature), row.name);
    assert.ok(MAX.rows.includes(row), row.name);
    assert.equal(V80.rows.includes(row), announces(V80, row.feature), row.name);
  }
});

Deno.test("a core of Armv8.0 has nothing of later versions but what VHE needs", () => {
  for (const { name, level } of FEATURES) {
    if (level === "max") assert.ok(!V80.features.has(name), name);
    if (level === "vhe") assert.ok(V80.features.has(name), name);
  }
});

Deno.test("an instruction whose feature the core has not is UNDEFINED", () => {
  const random = new Random(1);
  for (const row of ROWS.filter((r) => r.feature && !V80.features.has(r.feature))) {
    const m = new Machine({ cpu: "v8.0", el: 1 });
    m.execute(randomInstruction(row, random).word);
    assert.equal(m.core().regs.lo(R.ESR_EL1), 0x0200_0000, row.name);
  }
});

Deno.test("a limited register shows no feature beyond Armv8.0 and changes nothing else", () => {
  const optional = FEATURES.flatMap((f) => f.fields);
  for (const { name, index } of SYSREGS.filter((r) => r.name.startsWith("ID_"))) {
    const full = MAX.ids[index] as bigint;
    const limited = limitIdRegister(name, full, "v8.0");
    assert.equal(limitIdRegister(name, full, "max"), full);
    for (let shift = 0; shift < 64; shift += 4) {
      const known = optional.some(([register, at]) => register === name && at === shift);
      if (!known) assert.equal(idField(limited, shift), idField(full, shift), `${name} ${shift}`);
      assert.ok(idField(limited, shift) <= idField(V80.ids[index] as bigint, shift));
    }
  }
  const mmfr1 = limitIdRegister("ID_AA64MMFR1_EL1", MAX.ids[R.ID_AA64MMFR1_EL1] as bigint, "v8.0");
  assert.equal(mmfr1, 0n);
  const dfr0 = limitIdRegister("ID_AA64DFR0_EL1", MAX.ids[R.ID_AA64DFR0_EL1] as bigint, "v8.0");
  assert.equal(idField(dfr0, 0), 6);
});
