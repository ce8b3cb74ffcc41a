import assert from "node:assert/strict";
import { HALT } from "../../src/arm/arch/cpu_state.ts";
import { GICR, GICR_SIZE } from "../../src/arm/arch/gic.ts";
import { PSCI, SMCCC } from "../../src/arm/arch/psci.ts";
import { CODE, hvc, Machine, RAM, smc } from "./core_fixture.ts";

function call(m: Machine, word: number, id: number, ...args: readonly bigint[]): bigint {
  m.setX(0, BigInt(id));
  [0n, 0n, 0n].forEach((none, i) => m.setX(i + 1, args[i] ?? none));
  m.execute(word);
  assert.equal(m.core().cpu.pc, BigInt(CODE + 4));
  return BigInt.asIntN(64, m.x(0));
}

for (const [conduit, el, word] of [["smc", 2, smc(0)], ["hvc", 1, hvc(0)]] as const) {
  const machine = () => {
    const m = new Machine({ cpus: 2, el, conduit });
    m.core(1).cpu.halt = HALT.OFF;
    return m;
  };

  Deno.test(`PSCI by ${conduit}: versions and features`, () => {
    const m = machine();
    assert.equal(call(m, word, PSCI.VERSION), 0x1_0001n);
    assert.equal(call(m, word, SMCCC.VERSION), 0x1_0001n);
    assert.equal(call(m, word, PSCI.MIGRATE_INFO_TYPE), 2n);
    assert.equal(call(m, word, PSCI.FEATURES, BigInt(PSCI.CPU_ON_64)), 0n);
    assert.equal(call(m, word, PSCI.FEATURES, BigInt(SMCCC.VERSION)), 0n);
    assert.equal(call(m, word, PSCI.FEATURES, 0x8400_0015n), -1n);
    assert.equal(call(m, word, SMCCC.ARCH_FEATURES, BigInt(SMCCC.ARCH_WORKAROUND_1)), -1n);
    assert.equal(call(m, word, 0x8400_0099), -1n);
  });

  Deno.test(`PSCI by ${conduit}: CPU_ON starts a CPU at EL${el}`, () => {
    const m = machine();
    const other = m.core(1);
    assert.equal(call(m, word, PSCI.AFFINITY_INFO_64, 1n), 1n);
    assert.equal(call(m, word, PSCI.CPU_ON_64, 7n, 0n, 0n), -2n);
    assert.equal(call(m, word, PSCI.CPU_ON_64, 1n, BigInt(RAM + 0x40), 0xabcn), 0n);
    const { cpu } = other;
    assert.deepEqual([cpu.halt, cpu.el, cpu.spsel, cpu.daif], [HALT.RUNNING, el, 1, 15]);
    assert.deepEqual([cpu.pc, m.x(0, other)], [BigInt(RAM + 0x40), 0xabcn]);
    assert.equal(call(m, word, PSCI.AFFINITY_INFO_64, 1n), 0n);
    assert.equal(call(m, word, PSCI.CPU_ON_64, 1n, 0n, 0n), -4n);
  });

  Deno.test(`PSCI by ${conduit}: a CPU that is on has its interrupts connected`, () => {
    const m = machine();
    const waker = (n: number) => m.gic.redistRead(n * GICR_SIZE + GICR.WAKER, 4);
    assert.equal(waker(1), 6);
    assert.equal(call(m, word, PSCI.CPU_ON_64, 1n, BigInt(RAM + 0x40), 0n), 0n);
    assert.deepEqual([waker(0), waker(1)], [6, 0]);
    m.setX(0, BigInt(PSCI.CPU_OFF), m.core(1));
    m.execute(word, m.core(1));
    assert.equal(waker(1), 6);
  });

  Deno.test(`PSCI by ${conduit}: CPU_OFF, SYSTEM_OFF, SYSTEM_RESET`, () => {
    const m = machine();
    call(m, word, PSCI.CPU_OFF);
    assert.equal(m.core().cpu.halt, HALT.OFF);
    call(m, word, PSCI.SYSTEM_OFF);
    call(m, word, PSCI.SYSTEM_RESET);
    assert.deepEqual(m.power, ["off", "reset"]);
  });
}
