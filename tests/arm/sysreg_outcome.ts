/** What comes of accesses to system registers, on a machine that traps nothing by itself. */
import assert from "node:assert/strict";
import { R } from "../../src/arm/arch/sysregs.ts";
import { CODE, Machine, mrsWord, msrWord, RW } from "./core_fixture.ts";

/** ESR_ELx of an UNDEFINED instruction. */
export const UNDEFINED = 0x0200_0000;

export const bit = (n: number): bigint => 1n << BigInt(n);

/** Executes MRS (or MSR) x3 at `el` and says what came of it: the ESR and its level, or undefined. */
export function outcome(
  m: Machine,
  el: number,
  key: number,
  write: boolean,
): readonly [1 | 2, number] | undefined {
  m.enter(el);
  m.set({ ESR_EL1: 0n, ESR_EL2: 0n });
  m.execute(write ? msrWord(key, 3) : mrsWord(key, 3));
  const { cpu, regs } = m.core();
  if (cpu.pc === BigInt(CODE + 4)) return undefined;
  assert.equal(regs.num(cpu.el === 1 ? R.ELR_EL1 : R.ELR_EL2), CODE);
  return [cpu.el as 1 | 2, regs.lo(cpu.el === 1 ? R.ESR_EL1 : R.ESR_EL2)];
}

/** A machine where nothing below EL2 traps. */
export function open(): Machine {
  const m = new Machine({ el: 2 });
  m.set({
    HCR_EL2: RW,
    SCTLR_EL1: bit(9) | bit(15) | bit(26) | bit(14) | bit(16) | bit(18),
    CNTKCTL_EL1: 0x303n,
    CNTHCTL_EL2: 3n,
    CPACR_EL1: 3n << 20n,
  });
  m.gic.iccWrite(0, R.ICC_SRE_EL2, 0xf, 0);
  return m;
}
