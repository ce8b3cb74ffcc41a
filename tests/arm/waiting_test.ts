import assert from "node:assert/strict";
import { HALT, LINE } from "../../src/arm/arch/cpu_state.ts";
import { R } from "../../src/arm/arch/sysregs.ts";
import { resumeIfWoken } from "../../src/arm/waiting.ts";
import { CODE, E2H, Machine, RW, SEV, TGE, WFE, WFI } from "./core_fixture.ts";

const NTWI = 1n << 16n, NTWE = 1n << 18n, TWI = 1n << 13n, TWE = 1n << 14n;

const TRAPS = [
  ["WFI at EL1 with TWI", WFI, 1, RW | TWI, NTWI, 2, 0x07e0_0000],
  ["WFE at EL1 with TWE", WFE, 1, RW | TWE, NTWE, 2, 0x07e0_0001],
  ["WFI at EL0 with TWI", WFI, 0, RW | TWI, NTWI, 2, 0x07e0_0000],
  ["WFI at EL0 without nTWI", WFI, 0, RW | TWI, 0n, 1, 0x07e0_0000],
  ["WFE at EL0 without nTWE", WFE, 0, RW, NTWI, 1, 0x07e0_0001],
  ["WFI at EL0 without nTWI under TGE", WFI, 0, RW | TGE, 0n, 2, 0x07e0_0000],
] as const;

for (const [what, word, el, hcr, sctlr, target, esr] of TRAPS) {
  Deno.test(`${what} traps to EL${target}`, () => {
    const m = new Machine();
    m.set({ HCR_EL2: hcr, SCTLR_EL1: sctlr });
    m.enter(el);
    m.core().cpu.eventRegister = 0;
    m.execute(word);
    const { cpu, regs } = m.core();
    assert.deepEqual([cpu.el, cpu.halt], [target, HALT.RUNNING]);
    assert.equal(regs.lo(target === 1 ? R.ESR_EL1 : R.ESR_EL2), esr);
    assert.equal(regs.num(target === 1 ? R.ELR_EL1 : R.ELR_EL2), CODE);
  });
}

Deno.test("the host's EL0 is governed by SCTLR_EL2 and not trapped by TWI", () => {
  const m = new Machine();
  m.set({ HCR_EL2: RW | TGE | E2H | TWI, SCTLR_EL2: NTWI });
  m.enter(0);
  m.execute(WFI);
  assert.equal(m.core().cpu.halt, HALT.WFI);
});

Deno.test("WFI waits for an interrupt, masked or not, and does not trap when one is pending", () => {
  const m = new Machine();
  m.set({ HCR_EL2: RW | TWI });
  const { cpu } = m.core();
  m.execute(WFI);
  assert.equal(cpu.halt, HALT.WFI);
  assert.equal(resumeIfWoken(m.core()), false);
  cpu.daif = 15;
  cpu.irqLines = LINE.IRQ;
  assert.equal(resumeIfWoken(m.core()), true);
  assert.equal(cpu.halt, HALT.RUNNING);
  m.enter(1);
  m.execute(WFI);
  assert.deepEqual([cpu.el, cpu.halt, cpu.pc], [1, HALT.RUNNING, BigInt(CODE + 4)]);
});

Deno.test("a virtual interrupt wakes WFI below EL2 only", () => {
  const m = new Machine();
  m.set({ HCR_EL2: RW | 16n });
  m.core().cpu.irqLines = LINE.VIRQ;
  m.execute(WFI);
  assert.equal(resumeIfWoken(m.core()), false);
  m.enter(1);
  assert.equal(resumeIfWoken(m.core()), true);
});

Deno.test("SEV releases a WFE on every CPU and is remembered once", () => {
  const m = new Machine({ cpus: 2 });
  const [a, b] = [m.core(0), m.core(1)];
  m.execute(WFE, b);
  assert.equal(b.cpu.halt, HALT.WFE);
  m.execute(SEV, a);
  assert.equal(resumeIfWoken(b), true);
  assert.equal(b.cpu.eventRegister, 0);
  m.execute(WFE, a);
  assert.equal(a.cpu.halt, HALT.RUNNING);
  m.execute(WFE, a);
  assert.equal(a.cpu.halt, HALT.WFE);
});

Deno.test("another CPU's store under the monitor wakes WFE", () => {
  const m = new Machine();
  m.setX(2, BigInt(CODE + 0x100));
  m.execute(0xc85f_7c41); // ldxr x1, [x2]
  m.execute(WFE);
  assert.equal(resumeIfWoken(m.core()), false);
  m.memory.st32(m.at(CODE + 0x100), 1);
  assert.equal(resumeIfWoken(m.core()), true);
  assert.equal(m.core().cpu.monitorOpen, 0);
});
