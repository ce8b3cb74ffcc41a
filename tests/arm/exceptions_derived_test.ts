/**
 * What is derived from the level, PSTATE and the registers for the instructions to come (translation context,
 * masks, FP access, interrupts to look at, stepping) is the same after any exception and any return as if all of
 * it were made anew.
 */
import assert from "node:assert/strict";
import fc from "fast-check";
import { LINE } from "../../src/arm/arch/cpu_state.ts";
import { R } from "../../src/arm/arch/sysregs.ts";
import {
  contextSwitched,
  exceptionReturn,
  pollInterrupts,
  refreshInterrupts,
  takeException,
} from "../../src/arm/exceptions.ts";
import type { Core, Platform } from "../../src/arm/parts.ts";
import { E2H, Machine, RW, TGE } from "./core_fixture.ts";

const ROUTES = 0x1f8n;
const HCRS = [RW, RW | ROUTES, RW | E2H, RW | E2H | TGE, RW | TGE, RW | 0x38n, RW | 0x1000n];
const REGISTERS = [
  [R.SCTLR_EL1, [0n, 1n, 4n, 0x80_0000n, 0x1a1an, 0x1018n]],
  [R.SCTLR_EL2, [0n, 4n, 0x80_0000n, 0x1000n]],
  [R.TCR_EL1, [0n, 0x10_0010n, 1n << 37n]],
  [R.CPACR_EL1, [0n, 1n << 20n, 3n << 20n]],
  [R.CPTR_EL2, [0n, 1n << 10n, 1n << 20n, 3n << 20n]],
  [R.HCR_EL2, HCRS],
  [R.MDSCR_EL1, [0n, 1n, 0x2001n]],
  [R.MDCR_EL2, [0n, 0x100n]],
  [R.OSLAR_EL1, [0n, 1n]],
  [R.TTBR0_EL1, [0n, 7n << 48n]],
  [R.VTTBR_EL2, [0n, 3n << 48n]],
  [R.MAIR_EL1, [0n, 0xffn]],
  [R.PAN, [0n, 1n << 22n]],
  [R.UAO, [0n, 1n << 23n]],
] as const;
const LINES = [0, LINE.IRQ, LINE.FIQ, LINE.VIRQ, LINE.VFIQ, LINE.SERROR, LINE.IRQ | LINE.VIRQ];
/** Legal modes, and two that are not. */
const MODES = [0, 4, 5, 8, 9, 1, 0x10];

type Step =
  | { readonly step: "take"; readonly target: 1 | 2; readonly vector: number }
  | { readonly step: "return"; readonly mode: number; readonly bits: number }
  | { readonly step: "write"; readonly which: number; readonly value: number }
  | { readonly step: "lines"; readonly lines: number }
  | { readonly step: "poll"; readonly daif: number };

const steps: fc.Arbitrary<Step> = fc.oneof(
  fc.record({
    step: fc.constant("take" as const),
    target: fc.constantFrom(1 as const, 2 as const),
    vector: fc.constantFrom(0, 0x80),
  }),
  fc.record({
    step: fc.constant("return" as const),
    mode: fc.constantFrom(...MODES),
    bits: fc.nat(0xffff_ffff),
  }),
  fc.record({
    step: fc.constant("write" as const),
    which: fc.nat(REGISTERS.length - 1),
    value: fc.nat(),
  }),
  fc.record({ step: fc.constant("lines" as const), lines: fc.constantFrom(...LINES) }),
  fc.record({ step: fc.constant("poll" as const), daif: fc.constantFrom(0, 2, 4, 15) }),
);

/** A host that is not made of instructions writes at EL2 without effects. */
function write(core: Core, host: boolean, which: number, value: number): void {
  const [reg, values] = REGISTERS[which] as typeof REGISTERS[number];
  const to = values[value % values.length] as bigint;
  const lo = Number(to & 0xffff_ffffn), hi = Number(to >> 32n);
  if (core.cpu.el === 2 && host && reg !== R.OSLAR_EL1 && reg !== R.PAN && reg !== R.UAO) {
    core.regs.set(reg, lo, hi);
  } else (core as ReturnType<Machine["core"]>).sysregs.tryWrite(reg, lo, hi);
}

function perform(core: Core, host: boolean, step: Step): void {
  const { cpu, regs } = core;
  switch (step.step) {
    case "take":
      return takeException(core, cpu.el === 2 ? 2 : step.target, step.vector, step.vector - 1);
    case "return":
      if (cpu.el === 0) return;
      regs.set(cpu.el === 1 ? R.SPSR_EL1 : R.SPSR_EL2, (step.bits & ~0x1f) | step.mode, 0);
      return exceptionReturn(core);
    case "write":
      return write(core, host, step.which, step.value);
    case "lines":
      cpu.irqLines = step.lines;
      return refreshInterrupts(core);
    case "poll":
      cpu.daif = step.daif;
      contextSwitched(core);
      pollInterrupts(core);
  }
}

function derived({ cpu }: Core): unknown[] {
  const { tlb, tlbUnprivileged, codeTlb, alignMask, spAlignMask, fetchUncached } = cpu;
  const { fpEnabled, checkIrq, single } = cpu;
  return [
    tlb,
    tlbUnprivileged,
    codeTlb,
    alignMask,
    spAlignMask,
    fetchUncached,
    fpEnabled,
    checkIrq,
    single,
  ];
}

for (const host of [false, true]) {
  const at = host ? "with a host at EL2 that executes no instructions" : "with instructions at EL2";
  Deno.test(`what is derived is never stale, ${at}`, () => {
    fc.assert(
      fc.property(fc.array(steps, { minLength: 1, maxLength: 60 }), (list) => {
        const m = new Machine({ el: 2 });
        const core = m.core();
        (m as Platform).hostAtEl2 = host;
        for (const step of list) {
          perform(core, host, step);
          // EL2 of such a host is left with everything made anew.
          if (host && core.cpu.el === 2) continue;
          const found = derived(core);
          const moved = step.step === "take" || step.step === "return";
          if (moved) assert.equal(core.cpu.codeUnsure, core.cpu.fetchUncached);
          contextSwitched(core);
          assert.deepEqual(found, derived(core), JSON.stringify(step));
        }
      }),
      { numRuns: 300 },
    );
  });
}
