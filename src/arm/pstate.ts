/**
 * PSTATE: its packed form in SPSR_ELx and the banked stack pointers. Source: Arm Architecture
 * Reference Manual (DDI 0487), D1 "Process state" and "Stack pointer registers".
 */
import { type Cpu, CpuLayout, gprOffset, type RegisterFile, SLOT } from "./arch/cpu_state.ts";
import { HCR, HCR_HI, SPSR } from "./arch/fields.ts";
import { R } from "./arch/sysregs.ts";

const SP_OFFSET = gprOffset(SLOT.SP);
const PC_OFFSET = CpuLayout.offset.pc;
const EL_OFFSET = CpuLayout.offset.el;
const BANKS = [R.SP_EL0, R.SP_EL1, R.SP_EL2] as const;

/** Register-file index of the stack pointer that (el, spsel) uses. */
function stackBank(el: number, spsel: number): number {
  return (spsel === 0 ? BANKS[0] : BANKS[el]) as number;
}

/** PSTATE in SPSR_ELx form. */
export function pstateToSpsr(cpu: Cpu): number {
  return ((cpu.nzcv << SPSR.NZCV_SHIFT) | (cpu.pan ? SPSR.PAN : 0) |
    (cpu.uao ? SPSR.UAO : 0) | (cpu.dit ? SPSR.DIT : 0) | (cpu.ss ? SPSR.SS : 0) |
    (cpu.il ? SPSR.IL : 0) | (cpu.daif << SPSR.DAIF_SHIFT) | (cpu.el << SPSR.EL_SHIFT) |
    cpu.spsel) >>> 0;
}

/** Changes EL and SPSel, keeping the stack pointers' banks right. */
export function setElAndSpsel(cpu: Cpu, regs: RegisterFile, el: number, spsel: number): void {
  const from = stackBank(cpu.el, cpu.spsel), to = stackBank(el, spsel);
  cpu.el = el;
  cpu.spsel = spsel;
  if (from === to) return;
  const slot = cpu.base + SP_OFFSET;
  cpu.memory.copy64(regs.addressOf(from), slot);
  cpu.memory.copy64(slot, regs.addressOf(to));
}

/** Low half of the program counter. */
export function pcLo(cpu: Cpu): number {
  return cpu.memory.ld32(cpu.base + PC_OFFSET);
}

/** High half of the program counter. */
export function pcHi(cpu: Cpu): number {
  return cpu.memory.ld32(cpu.base + PC_OFFSET + 4);
}

/** Sets the program counter from its halves. */
export function setPc(cpu: Cpu, lo: number, hi: number): void {
  cpu.memory.st32(cpu.base + PC_OFFSET, lo);
  cpu.memory.st32(cpu.base + PC_OFFSET + 4, hi);
}

/** Moves the program counter to the next instruction. */
export function advancePc(cpu: Cpu): void {
  const lo = pcLo(cpu) + 4;
  setPc(cpu, lo, lo > 0xffff_ffff ? pcHi(cpu) + 1 : pcHi(cpu));
}

/** `cpu.el` for hot paths. */
export function elOf(cpu: Cpu): number {
  return cpu.memory.ld32(cpu.base + EL_OFFSET);
}

/** HCR_EL2.E2H. */
export function isE2h(regs: RegisterFile): boolean {
  return (regs.hi(R.HCR_EL2) & HCR_HI.E2H) !== 0;
}

/** HCR_EL2.TGE. */
export function isTge(regs: RegisterFile): boolean {
  return (regs.lo(R.HCR_EL2) & HCR.TGE) !== 0;
}

/** ELIsInHost(EL0): E2H and TGE, so that EL0 belongs to EL2's regime. */
export function isEl0Host(regs: RegisterFile): boolean {
  return isTge(regs) && isE2h(regs);
}

/** IsInHost(): the current level uses the EL2&0 regime. */
export function isInHost(cpu: Cpu, regs: RegisterFile): boolean {
  return cpu.el === 2 ? isE2h(regs) : cpu.el === 0 && isEl0Host(regs);
}

/** Register-file index of the SCTLR that governs the current level. */
export function sctlrInUse(cpu: Cpu, regs: RegisterFile): number {
  return cpu.el === 2 || (cpu.el === 0 && isEl0Host(regs)) ? R.SCTLR_EL2 : R.SCTLR_EL1;
}
