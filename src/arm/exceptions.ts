/**
 * Exception entry and return, and which interrupt is taken where. Source: Arm Architecture Reference
 * Manual (DDI 0487), D1 "Exceptions" and the pseudocode functions AArch64.TakeException,
 * AArch64.ExceptionReturn, IllegalExceptionReturn and the asynchronous exception routing tables.
 */
import { CHECK as CHECKS, CpuLayout, DAIF as DAIF_BITS, LINE as LINES } from "./arch/cpu_state.ts";
import { MDSCR } from "./arch/debug_registers.ts";
import { HCR as HCR_BITS, SCTLR as SCTLR_BITS, SPSR as SPSR_BITS, TCR } from "./arch/fields.ts";
import { PMU_EVENT } from "./arch/pmu.ts";
import { EC as CLASSES, esr, ISS_CONDITION } from "./arch/syndrome.ts";
import { R } from "./arch/sysregs.ts";
import { refreshSingle, stepOnReturn } from "./debug_enable.ts";
import type { Core } from "./parts.ts";
import { boundSliceByPmu, countException, syncPmu } from "./pmu.ts";
import {
  elOf,
  isE2h,
  isEl0Host,
  isTge,
  pcHi,
  pcLo,
  pstateToSpsr,
  setElAndSpsel,
  setPc,
} from "./pstate.ts";

// V8 folds what it knows of a constant of the module itself, and has to look up imported ones.
const {
  CPACR_EL1,
  CPTR_EL2,
  ELR_EL1,
  ELR_EL2,
  ESR_EL1,
  ESR_EL2,
  HCR_EL2,
  MDSCR_EL1,
  SCTLR_EL1,
  SCTLR_EL2,
  SPSR_EL1,
  SPSR_EL2,
  VBAR_EL1,
  VBAR_EL2,
} = R;
const HCR = HCR_BITS, SPSR = SPSR_BITS, SCTLR = SCTLR_BITS, DAIF = DAIF_BITS, LINE = LINES;
const CHECK = CHECKS, EC = CLASSES;

/** Words of a CPU's state. */
const WORD = {
  NZCV: CpuLayout.offset.nzcv >>> 2,
  DAIF: CpuLayout.offset.daif >>> 2,
  PAN: CpuLayout.offset.pan >>> 2,
  UAO: CpuLayout.offset.uao >>> 2,
  DIT: CpuLayout.offset.dit >>> 2,
  IL: CpuLayout.offset.il >>> 2,
  SS: CpuLayout.offset.ss >>> 2,
  STEPPED: CpuLayout.offset.stepped >>> 2,
  MONITOR: CpuLayout.offset.monitorOpen >>> 2,
  EVENT: CpuLayout.offset.eventRegister >>> 2,
} as const;

/** Offsets of the vectors within a group of VBAR_ELx. */
export const VECTOR = { SYNC: 0x000, IRQ: 0x080, FIQ: 0x100, SERROR: 0x180 } as const;

/** For {@link takeException}: ESR_ELx keeps its value (IRQ and FIQ). */
const NO_SYNDROME = -1;

const FAR_OF = [0, R.FAR_EL1, R.FAR_EL2] as const;

/** A level that takes exceptions. */
export type Target = 1 | 2;

/** Where a synchronous exception with no routing of its own goes: EL0's to EL2 under HCR_EL2.TGE. */
export function defaultTarget(core: Core): Target {
  const el = core.cpu.el;
  return el === 2 || (el === 0 && isTge(core.regs)) ? 2 : 1;
}

function vectorGroup(core: Core, target: Target): number {
  if (core.cpu.el !== target) return 0x400;
  return core.cpu.spsel ? 0x200 : 0;
}

function panOnEntry(core: Core, target: Target): boolean {
  const sctlr = target === 1 ? SCTLR_EL1 : SCTLR_EL2;
  if (target === 2 && !isEl0Host(core.regs)) return false;
  return (core.regs.lo(sctlr) & SCTLR.SPAN) === 0;
}

/**
 * Enters the exception `vector` at `target`. `syndrome` is the ESR_ELx value, signed or not, or {@link NO_SYNDROME};
 * `returnOffset` is added to the PC to make the preferred return address. FAR_ELx and HPFAR_EL2 are
 * the caller's.
 */
export function takeException(
  core: Core,
  target: Target,
  vector: number,
  syndrome: number,
  returnOffset: 0 | 4 = 0,
): void {
  const { cpu, regs } = core;
  if (cpu.pmuActive !== 0) pmuLeaves(core, PMU_EVENT.EXC_TAKEN);
  untagPc(core);
  const returnLo = pcLo(cpu) + returnOffset;
  const carry = returnLo > 0xffff_ffff ? 1 : 0;
  const group = vectorGroup(core, target);
  regs.set(target === 1 ? SPSR_EL1 : SPSR_EL2, pstateToSpsr(cpu), 0);
  regs.set(target === 1 ? ELR_EL1 : ELR_EL2, returnLo, pcHi(cpu) + carry);
  if (syndrome !== NO_SYNDROME) regs.set(target === 1 ? ESR_EL1 : ESR_EL2, syndrome, 0);
  setElAndSpsel(cpu, target, 1);
  const words = cpu.memory.i32, at = cpu.base >>> 2;
  words[at + WORD.DAIF] = DAIF.D | DAIF.A | DAIF.I | DAIF.F;
  words[at + WORD.IL] = 0;
  words[at + WORD.SS] = 0;
  words[at + WORD.UAO] = 0;
  words[at + WORD.DIT] = 0;
  words[at + WORD.STEPPED] = 0;
  if (panOnEntry(core, target)) cpu.pan = 1;
  const vbar = target === 1 ? VBAR_EL1 : VBAR_EL2;
  setPc(cpu, (regs.lo(vbar) & ~0x7ff) + group + vector, regs.hi(vbar));
  if (target === 1 || core.platform.hostAtEl2 !== true) contextSwitched(core);
  contextSynchronised(core);
  if (cpu.pmuActive !== 0) boundSliceByPmu(core);
}

/** The instruction at hand, if it is this that leaves the level, counts where it was. */
function pmuLeaves(core: Core, event: number): void {
  syncPmu(core);
  countException(core, event);
}

/** Takes a synchronous exception of class `ec`. */
export function takeSync(
  core: Core,
  target: Target,
  ec: number,
  iss: number,
  returnOffset: 0 | 4 = 0,
): void {
  if (returnOffset === 0) core.cpu.aborted++;
  // Signed: V8 boxes arguments from 2^31 on. No class is all ones, as NO_SYNDROME is.
  takeException(core, target, VECTOR.SYNC, esr(ec, iss) | 0, returnOffset);
}

/** An UNDEFINED instruction. */
export function takeUndefined(core: Core): void {
  takeSync(core, defaultTarget(core), EC.UNKNOWN, 0);
}

/** Sets FAR_EL<target>. */
export function setFar(core: Core, target: Target, lo: number, hi: number): void {
  core.regs.set(FAR_OF[target] as number, lo, hi);
}

/** Sets HPFAR_EL2 for the intermediate physical address `ipa`. */
export function setHpfar(core: Core, ipa: number): void {
  core.regs.setNum(R.HPFAR_EL2, Math.floor(ipa / 4096) * 16);
}

/** A context synchronisation: what is executed next may no longer be what was predecoded. */
export function contextSynchronised(core: Core): void {
  core.cpu.codeUnsure = core.cpu.fetchUncached;
}

/** What every change of level or PSTATE needs: the translation context, FP access, interrupts to look at. */
export function contextSwitched(core: Core): void {
  core.platform.mmu.contextChanged(core.cpu);
  refreshFp(core);
  refreshInterrupts(core);
  refreshSingle(core);
}

// FP/SIMD access

/** No trap, or what traps an FP/SIMD instruction. */
export const FP_TRAP = { NONE: 0, EL1: 1, EL2: 2, EL2_UNKNOWN: 3 } as const;

function cpacrTraps(core: Core, el: number): boolean {
  const fpen = (core.regs.lo(CPACR_EL1) >>> 20) & 3;
  return (fpen & 1) === 0 || (fpen === 1 && el === 0);
}

function cptrTraps(core: Core, el: number): boolean {
  const { regs } = core;
  const cptr = regs.lo(CPTR_EL2);
  if (!isE2h(regs)) return (cptr & (1 << 10)) !== 0;
  const fpen = (cptr >>> 20) & 3;
  if ((fpen & 1) === 0) return !(el === 1 && isTge(regs));
  return fpen === 1 && el === 0 && isTge(regs);
}

/** Which of {@link FP_TRAP} an FP/SIMD access at the current level meets: CPACR_EL1 first, then CPTR_EL2. */
export function fpTrap(core: Core): number {
  const el = core.cpu.el;
  if (el < 2 && !(el === 0 && isEl0Host(core.regs)) && cpacrTraps(core, el)) {
    return isTge(core.regs) ? FP_TRAP.EL2_UNKNOWN : FP_TRAP.EL1;
  }
  return cptrTraps(core, el) ? FP_TRAP.EL2 : FP_TRAP.NONE;
}

/** Takes the exception for a trapped FP/SIMD access. */
export function takeFpTrap(core: Core, trap: number): void {
  if (trap === FP_TRAP.EL2_UNKNOWN) takeSync(core, 2, EC.UNKNOWN, 0);
  else takeSync(core, trap === FP_TRAP.EL2 ? 2 : 1, EC.FP_ASIMD, ISS_CONDITION);
}

/** Recomputes `cpu.fpEnabled`: after writes of CPACR_EL1, CPTR_EL2 and HCR_EL2. */
export function refreshFp(core: Core): void {
  core.cpu.fpEnabled = fpTrap(core) === FP_TRAP.NONE;
}

// Exception return

function illegalMode(core: Core, mode: number): boolean {
  if (mode & 16) return true; // AArch32
  const el = mode >> 2;
  if (mode & 2 || el > core.cpu.el || mode === 1) return true;
  return el === 1 && isTge(core.regs);
}

/** ERET from EL1 or EL2: PSTATE from SPSR_ELx, PC from ELR_ELx; PSTATE.IL set where the return is illegal. */
export function exceptionReturn(core: Core): void {
  const { cpu, regs } = core;
  const from = cpu.el as Target;
  if (cpu.pmuActive !== 0) pmuLeaves(core, PMU_EVENT.EXC_RETURN);
  const spsr = regs.lo(from === 1 ? SPSR_EL1 : SPSR_EL2);
  const elr = from === 1 ? ELR_EL1 : ELR_EL2;
  const mode = spsr & 31;
  const masked = ((spsr >>> SPSR.DAIF_SHIFT) & DAIF.D) !== 0;
  const to = illegalMode(core, mode) ? from : mode >> 2;
  cpu.ss = stepOnReturn(core, to, masked, (spsr & SPSR.SS) !== 0);
  if (illegalMode(core, mode)) {
    cpu.il = 1;
  } else {
    cpu.il = spsr & SPSR.IL ? 1 : 0;
    setElAndSpsel(cpu, mode >> 2, mode & 1);
  }
  const words = cpu.memory.i32, at = cpu.base >>> 2;
  words[at + WORD.PAN] = spsr & SPSR.PAN ? 1 : 0;
  words[at + WORD.UAO] = spsr & SPSR.UAO ? 1 : 0;
  words[at + WORD.DIT] = spsr & SPSR.DIT ? 1 : 0;
  words[at + WORD.NZCV] = spsr >>> SPSR.NZCV_SHIFT;
  words[at + WORD.DAIF] = (spsr >>> SPSR.DAIF_SHIFT) & 15;
  setPc(cpu, regs.lo(elr), untagged(core, regs.hi(elr)));
  words[at + WORD.MONITOR] = 0;
  words[at + WORD.EVENT] = 1;
  contextSwitched(core);
  contextSynchronised(core);
  if (cpu.pmuActive !== 0) boundSliceByPmu(core);
}

/** AArch64.BranchAddr(): the high half of a branch target with its tag replaced, where TBI is on. */
function untagged(core: Core, hi: number): number {
  const upper = (hi >>> 23) & 1;
  const top = hi >>> 24;
  if (top === (upper ? 0xff : 0)) return hi;
  const { cpu, regs } = core;
  if (cpu.el === 2 && !isE2h(regs)) {
    return regs.lo(R.TCR_EL2) & TCR.TBI_EL2 ? hi & 0xff_ffff : hi;
  }
  const tcr = regs.hi(
    cpu.el === 2 || (cpu.el === 0 && isEl0Host(regs)) ? R.TCR_EL2 : R.TCR_EL1,
  );
  if ((tcr & (upper ? TCR.TBI1_HI : TCR.TBI0_HI)) === 0) return hi;
  return upper ? (hi | 0xff00_0000) >>> 0 : hi & 0xff_ffff;
}

/**
 * A branch may have left a tag in the PC: it goes before anything is done with that PC. The code TLB has
 * no tagged addresses, so that such a branch always comes by here.
 */
export function untagPc(core: Core): void {
  const { cpu } = core;
  const hi = pcHi(cpu), plain = untagged(core, hi);
  if (plain !== hi) setPc(cpu, pcLo(cpu), plain);
}

// Interrupts

/** Where a physical interrupt goes: EL2 under TGE or the HCR_EL2 routing bit. */
function physicalTarget(hcr: number, route: number): Target {
  return hcr & (HCR.TGE | route) ? 2 : 1;
}

/** Levels pending at the virtual inputs, as LINE bits VIRQ, VFIQ and (for vSError) SERROR. */
function virtualPending(core: Core): number {
  const hcr = core.regs.lo(HCR_EL2);
  if (core.cpu.el === 2 || hcr & HCR.TGE) return 0;
  const lines = core.cpu.irqLines;
  let pending = 0;
  if (hcr & HCR.IMO && (hcr & HCR.VI || lines & LINE.VIRQ)) pending |= LINE.VIRQ;
  if (hcr & HCR.FMO && (hcr & HCR.VF || lines & LINE.VFIQ)) pending |= LINE.VFIQ;
  if (hcr & HCR.AMO && hcr & HCR.VSE) pending |= LINE.SERROR;
  return pending;
}

/** One kind of interrupt: the line, its PSTATE mask, its HCR_EL2 routing bit, its vector. */
const KINDS = [
  {
    line: LINE.SERROR,
    virtualLine: LINE.SERROR,
    mask: DAIF.A,
    route: HCR.AMO,
    vector: VECTOR.SERROR,
  },
  { line: LINE.FIQ, virtualLine: LINE.VFIQ, mask: DAIF.F, route: HCR.FMO, vector: VECTOR.FIQ },
  { line: LINE.IRQ, virtualLine: LINE.VIRQ, mask: DAIF.I, route: HCR.IMO, vector: VECTOR.IRQ },
] as const;

/** An interrupt that can be taken: bits 10 and 9 the target level, bit 0 virtual, the rest the vector. 0: none. */
export type Interrupt = number;

const VIRTUAL = 1;
/** What software makes pending by HCR_EL2 itself. */
const VIRTUAL_BITS = HCR.VI | HCR.VF | HCR.VSE;

/** The highest-priority interrupt to take now, with PSTATE.DAIF being `daif`; physical before virtual. */
function selectInterrupt(core: Core, daif: number): Interrupt {
  const { el, irqLines } = core.cpu;
  const hcr = core.regs.lo(HCR_EL2);
  if (irqLines === 0 && (hcr & VIRTUAL_BITS) === 0) return 0;
  for (const kind of KINDS) {
    if ((irqLines & kind.line) === 0) continue;
    const target = physicalTarget(hcr, kind.route);
    if (target < el) continue;
    // A higher level's interrupt is not maskable from below.
    if (target === el || el === 0 && target === 1 ? daif & kind.mask : false) continue;
    return (target << 9) | kind.vector;
  }
  const pending = virtualPending(core);
  if (pending === 0) return 0;
  for (const kind of KINDS) {
    if (pending & kind.virtualLine && !(daif & kind.mask)) {
      return (1 << 9) | kind.vector | VIRTUAL;
    }
  }
  return 0;
}

/** The interrupt that the CPU takes before its next instruction, or 0. */
export function pendingInterrupt(core: Core): Interrupt {
  const { cpu } = core;
  if (cpu.irqLines === 0 && (cpu.checkIrq & CHECK.INTERRUPT) === 0) return 0;
  return selectInterrupt(core, cpu.daif);
}

/** Takes what {@link pendingInterrupt} returned. */
export function takeInterrupt(core: Core, interrupt: Interrupt): void {
  const target = (interrupt >> 9) as Target;
  const vector = interrupt & 0x180;
  const serror = vector === VECTOR.SERROR;
  if (serror && interrupt & VIRTUAL) {
    core.regs.set(HCR_EL2, core.regs.lo(HCR_EL2) & ~HCR.VSE, core.regs.hi(HCR_EL2));
  } else if (serror) core.cpu.irqLines &= ~LINE.SERROR;
  else if (interrupt & VIRTUAL) core.platform.hooks.onVirtualInterrupt?.(core.cpu);
  takeException(core, target, vector, serror ? esr(EC.SERROR, 0) : NO_SYNDROME);
}

/** Takes a pending unmasked interrupt, if there is one. */
export function pollInterrupts(core: Core): boolean {
  const interrupt = pendingInterrupt(core);
  if (interrupt === 0) return false;
  takeInterrupt(core, interrupt);
  return true;
}

/** Recomputes `cpu.checkIrq`: whether anything would be taken or stepped if PSTATE.DAIF were all clear. */
export function refreshInterrupts(core: Core): void {
  // A host that is not made of instructions looks for itself, and its ERET comes by here.
  if (core.platform.hostAtEl2 === true && elOf(core.cpu) === 2) return;
  const step = core.regs.lo(MDSCR_EL1) & MDSCR.SS ? CHECK.STEP : 0;
  core.cpu.checkIrq = step | (selectInterrupt(core, 0) === 0 ? 0 : CHECK.INTERRUPT);
}

/** Whether WFI would return at once: an interrupt is pending, masked by PSTATE or not. */
export function hasWakeUpEvent(core: Core): boolean {
  const physical = LINE.IRQ | LINE.FIQ | LINE.SERROR;
  return (core.cpu.irqLines & physical) !== 0 || virtualPending(core) !== 0;
}

/** ISR_EL1: pending SError (bit 8), IRQ (7), FIQ (6); the virtual ones below EL2 where HCR_EL2 routes. */
export function isrEl1(core: Core): number {
  const { cpu, regs } = core;
  const hcr = regs.lo(HCR_EL2);
  const below = cpu.el < 2 && !(hcr & HCR.TGE);
  const pending = virtualPending(core);
  let isr = 0;
  for (const kind of KINDS) {
    const virtual = below && (hcr & kind.route) !== 0;
    const set = virtual ? pending & kind.virtualLine : cpu.irqLines & kind.line;
    if (set) isr |= kind.mask << 6;
  }
  return isr;
}
