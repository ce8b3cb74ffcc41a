/**
 * PSTATE: its packed form in SPSR_ELx and the banked stack pointers. Source: Arm Architecture
 * Reference Manual (DDI 0487), D1 "Process state" and "Stack pointer registers".
 */
import {
  type Cpu,
  CpuLayout,
  gprOffset,
  type RegisterFile,
  SLOT,
  sysregOffset,
  wordsOf,
} from "./arch/cpu_state.ts";
import { HCR, HCR_HI, SPSR } from "./arch/fields.ts";
import { R } from "./arch/sysregs.ts";

/** Words of a CPU's state. V8 knows a module's own constants, and has to look up imported ones. */
const WORD = {
  PC: CpuLayout.offset.pc >>> 2,
  SP: gprOffset(SLOT.SP) >>> 2,
  NZCV: CpuLayout.offset.nzcv >>> 2,
  DAIF: CpuLayout.offset.daif >>> 2,
  EL: CpuLayout.offset.el >>> 2,
  SPSEL: CpuLayout.offset.spsel >>> 2,
  PAN: CpuLayout.offset.pan >>> 2,
  UAO: CpuLayout.offset.uao >>> 2,
  DIT: CpuLayout.offset.dit >>> 2,
  IL: CpuLayout.offset.il >>> 2,
  SS: CpuLayout.offset.ss >>> 2,
  SP_EL0: sysregOffset(R.SP_EL0) >>> 2,
  SP_EL1: sysregOffset(R.SP_EL1) >>> 2,
  SP_EL2: sysregOffset(R.SP_EL2) >>> 2,
} as const;
const SPSR_BITS = SPSR;
const HCR_EL2 = R.HCR_EL2, TGE = HCR.TGE, E2H = HCR_HI.E2H;

/** The word of the stack pointer's bank that (el, spsel) uses. */
function stackBank(el: number, spsel: number): number {
  if (spsel === 0 || el === 0) return WORD.SP_EL0;
  return el === 1 ? WORD.SP_EL1 : WORD.SP_EL2;
}

/** PSTATE in SPSR_ELx form, as a signed number. */
export function pstateToSpsr(cpu: Cpu): number {
  return spsrOf(wordsOf(cpu));
}

/** The same of the CPU with these words. */
export function spsrOf(words: Int32Array): number {
  const bits = SPSR_BITS;
  return ((words[WORD.NZCV] as number) << bits.NZCV_SHIFT) |
    ((words[WORD.PAN] as number) << bits.PAN_SHIFT) |
    ((words[WORD.UAO] as number) << bits.UAO_SHIFT) |
    ((words[WORD.DIT] as number) << bits.DIT_SHIFT) |
    ((words[WORD.SS] as number) << bits.SS_SHIFT) |
    ((words[WORD.IL] as number) << bits.IL_SHIFT) |
    ((words[WORD.DAIF] as number) << bits.DAIF_SHIFT) |
    ((words[WORD.EL] as number) << bits.EL_SHIFT) | (words[WORD.SPSEL] as number);
}

/** Changes EL and SPSel, keeping the stack pointers' banks right. */
export function setElAndSpsel(cpu: Cpu, el: number, spsel: number): void {
  switchStack(wordsOf(cpu), el, spsel);
}

/** The same for the CPU with these words. */
export function switchStack(words: Int32Array, el: number, spsel: number): void {
  const from = stackBank(words[WORD.EL] as number, words[WORD.SPSEL] as number);
  const to = stackBank(el, spsel);
  words[WORD.EL] = el;
  words[WORD.SPSEL] = spsel;
  if (from === to) return;
  words[from] = words[WORD.SP] as number;
  words[from + 1] = words[WORD.SP + 1] as number;
  words[WORD.SP] = words[to] as number;
  words[WORD.SP + 1] = words[to + 1] as number;
}

/** Low half of the program counter. */
export function pcLo(cpu: Cpu): number {
  return cpu.memory.u32[(cpu.base >>> 2) + WORD.PC] as number;
}

/** High half of the program counter. */
export function pcHi(cpu: Cpu): number {
  return cpu.memory.u32[(cpu.base >>> 2) + WORD.PC + 1] as number;
}

/** Sets the program counter from its halves. */
export function setPc(cpu: Cpu, lo: number, hi: number): void {
  const words = cpu.memory.u32, at = (cpu.base >>> 2) + WORD.PC;
  words[at] = lo;
  words[at + 1] = hi;
}

/** Moves the program counter to the next instruction. */
export function advancePc(cpu: Cpu): void {
  const lo = pcLo(cpu) + 4;
  setPc(cpu, lo, lo > 0xffff_ffff ? pcHi(cpu) + 1 : pcHi(cpu));
}

/** `cpu.el` for hot paths. */
export function elOf(cpu: Cpu): number {
  return cpu.memory.i32[(cpu.base >>> 2) + WORD.EL] as number;
}

/** HCR_EL2.E2H. */
export function isE2h(regs: RegisterFile): boolean {
  return (regs.hi(HCR_EL2) & E2H) !== 0;
}

/** HCR_EL2.TGE. */
export function isTge(regs: RegisterFile): boolean {
  return (regs.lo(HCR_EL2) & TGE) !== 0;
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
