/**
 * Reset of a CPU. Source: Arm Architecture Reference Manual (DDI 0487), AArch64.ResetControlRegisters
 * and the reset values in D19; what is UNKNOWN there is zero here.
 */
import { CpuLayout, DAIF, HALT } from "./arch/cpu_state.ts";
import { EVENT_COUNTERS } from "./arch/pmu.ts";
import { R, type SysregName } from "./arch/sysregs.ts";
import { COUNTER_HZ } from "./clock.ts";
import { refreshArmed } from "./debug.ts";
import { contextSwitched } from "./exceptions.ts";
import { MIDR, ZVA_BYTES } from "./id_registers.ts";
import type { Core } from "./parts.ts";
import { resetPmu } from "./pmu.ts";
import { setPc } from "./pstate.ts";
import { CPTR_PLAIN, SCTLR_ONE_LEVEL, WRITE_MASKS } from "./sysreg_masks.ts";

/** Values (bits 31 to 0) of the registers that do not reset to zero. */
function resetValues(core: Core): readonly (readonly [SysregName, number])[] {
  return [
    ["SCTLR_EL1", WRITE_MASKS.SCTLR_EL1?.[2] ?? 0],
    ["SCTLR_EL2", SCTLR_ONE_LEVEL[2]],
    ["CPTR_EL2", CPTR_PLAIN[2]],
    // As left by boot firmware: EL1 in AArch64, counters and timers open to EL1, identity not virtualized
    ["HCR_EL2", 0x8000_0000],
    ["CNTHCTL_EL2", 3],
    ["VPIDR_EL2", MIDR],
    ["VMPIDR_EL2", core.cpu.mpidr],
    ["CNTFRQ_EL0", COUNTER_HZ],
    ["VTCR_EL2", 0x8000_0000],
    ["OSLSR_EL1", 0xa],
    ["MDCR_EL2", EVENT_COUNTERS],
    // Where generated code reads them, while nothing traps or changes them
    ["CTR_EL0", Number(core.platform.model.ids[R.CTR_EL0])],
    ["DCZID_EL0", Math.log2(ZVA_BYTES) - 2],
  ];
}

/** Fields of the CPU outside the register file that reset to zero. */
const CLEARED = [
  "fpcr",
  "fpsr",
  "nzcv",
  "pan",
  "uao",
  "dit",
  "il",
  "ss",
  "stepped",
  "monitorOpen",
] as const;

/** How a CPU starts. */
export interface Entry {
  /** The exception level: 1 or 2. */
  readonly el: 1 | 2;
  readonly pc: number;
  readonly x0: number;
}

/**
 * Puts the CPU to its reset state, ready to run at `entry`: MMU off, interrupts masked. Its number,
 * MPIDR, instruction count and interrupt inputs stay.
 */
export function resetCpu(core: Core, entry: Entry): void {
  const { cpu, regs } = core;
  const { offset } = CpuLayout;
  const { u8 } = cpu.memory;
  u8.fill(0, cpu.base + offset.gpr, cpu.base + offset.fpcr);
  u8.fill(0, cpu.base + offset.sysregs, cpu.base + offset.budget);
  for (const name of CLEARED) cpu[name] = 0;
  cpu.eventRegister = 0;
  for (const [name, value] of resetValues(core)) regs.setNum(R[name], value);
  cpu.el = entry.el;
  cpu.spsel = 1;
  cpu.daif = DAIF.D | DAIF.A | DAIF.I | DAIF.F;
  cpu.halt = HALT.RUNNING;
  setPc(cpu, entry.pc % 0x1_0000_0000, Math.floor(entry.pc / 0x1_0000_0000));
  cpu.memory.st53(cpu.base + offset.gpr, entry.x0);
  core.platform.timer.update(cpu.index);
  contextSwitched(core);
  refreshArmed(core);
  resetPmu(core);
}
