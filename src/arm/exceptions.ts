/**
 * Exception entry and return, and which interrupt is taken where. Source: Arm Architecture Reference
 * Manual (DDI 0487), D1 "Exceptions" and the pseudocode functions AArch64.TakeException,
 * AArch64.ExceptionReturn, IllegalExceptionReturn and the asynchronous exception routing tables.
 */
import { addSmall } from "../base/memory.ts";
import * as cpuState from "./arch/cpu_state.ts";
import { CpuLayout, sysregOffset } from "./arch/cpu_state.ts";
import * as fields from "./arch/fields.ts";
import { PMU_EVENT } from "./arch/pmu.ts";
import { EC as CLASSES, esr, ISS_CONDITION } from "./arch/syndrome.ts";
import { R } from "./arch/sysregs.ts";
import { refreshSingle as refreshSingleOf, stepOnReturn } from "./debug_enable.ts";
import * as levelCode from "./level_code.ts";
import type { Core } from "./parts.ts";
import { boundSliceByPmu, countException, syncPmu } from "./pmu.ts";
import * as pstate from "./pstate.ts";

// V8 folds what it knows of a constant of the module itself, and has to look up imported ones.
const { CHECK, DAIF, LINE } = cpuState;
const { HCR, SPSR, TCR } = fields;
const { isE2h, isEl0Host, isTge } = pstate;
const EC = CLASSES, refreshSingle = refreshSingleOf, add = addSmall;

const { FP_TRAP, HOW, LEFT, NO_SYNDROME } = levelCode;
export { FP_TRAP };

/** Words of a CPU's state. */
const WORD = {
  PC: CpuLayout.offset.pc >>> 2,
  EL: CpuLayout.offset.el >>> 2,
  DAIF: CpuLayout.offset.daif >>> 2,
  SS: CpuLayout.offset.ss >>> 2,
  LINES: CpuLayout.offset.irqLines >>> 2,
  CHECK: CpuLayout.offset.checkIrq >>> 2,
  FP: CpuLayout.offset.fpEnabled >>> 2,
  PMU: CpuLayout.offset.pmuActive >>> 2,
  UNCACHED: CpuLayout.offset.fetchUncached >>> 2,
  UNSURE: CpuLayout.offset.codeUnsure >>> 2,
  ABORTED: CpuLayout.offset.aborted >>> 2,
  HCR: sysregOffset(R.HCR_EL2) >>> 2,
} as const;

const VECTORS = { SYNC: 0x000, IRQ: 0x080, FIQ: 0x100, SERROR: 0x180 } as const;
/** Offsets of the vectors within a group of VBAR_ELx. */
export const VECTOR = VECTORS;

const FAR_OF = [0, R.FAR_EL1, R.FAR_EL2] as const;

/** A level that takes exceptions. */
export type Target = 1 | 2;

/** Where a synchronous exception with no routing of its own goes: EL0's to EL2 under HCR_EL2.TGE. */
export function defaultTarget(core: Core): Target {
  const el = core.cpu.el;
  return el === 2 || (el === 0 && isTge(core.regs)) ? 2 : 1;
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
  const { index, platform } = core;
  const how = platform.hostAtEl2 === true ? HOW.HOSTED : 0;
  const { levels } = platform;
  const left = levels.enter(index, target, vector, syndrome, returnOffset, how);
  if (left === 0) return;
  if (left !== LEFT.ALL) return complete(core, left);
  const isCounted = core.words[WORD.PMU] !== 0;
  if (isCounted) pmuLeaves(core, PMU_EVENT.EXC_TAKEN);
  untagPc(core);
  const anyway = how | HOW.ANYWAY;
  complete(core, levels.enter(index, target, vector, syndrome, returnOffset, anyway));
  if (isCounted) boundSliceByPmu(core);
}

/** What the level's function has left after an exception or a return. */
function complete(core: Core, left: number): void {
  deriveRest(core, left);
  contextSynchronised(core);
}

function deriveRest(core: Core, left: number): void {
  if ((left & LEFT.CONTEXT) !== 0) core.platform.mmu.newContext(core.cpu);
  if ((left & LEFT.STEP) !== 0) refreshSingle(core);
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
  if (returnOffset === 0) add(core.words, WORD.ABORTED, 1);
  // Signed: V8 boxes arguments from 2^31 on. No class is all ones, as NO_SYNDROME is.
  takeException(core, target, VECTORS.SYNC, esr(ec, iss) | 0, returnOffset);
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
  const { words } = core;
  words[WORD.UNSURE] = words[WORD.UNCACHED] as number;
}

/** What every change of level or PSTATE needs: the translation context, FP access, interrupts to look at. */
export function contextSwitched(core: Core): void {
  const { hostAtEl2, levels } = core.platform;
  const left = levels.derive(core.index, hostAtEl2 === true ? HOW.HOSTED : 0);
  if (left !== 0) deriveRest(core, left);
}

// FP/SIMD access

/** Which of {@link FP_TRAP} an FP/SIMD access at the current level meets: CPACR_EL1 first, then CPTR_EL2. */
export function fpTrap({ index, platform }: Core): number {
  return platform.levels.fpTrap(index);
}

/** Takes the exception for a trapped FP/SIMD access. */
export function takeFpTrap(core: Core, trap: number): void {
  if (trap === FP_TRAP.EL2_UNKNOWN) takeSync(core, 2, EC.UNKNOWN, 0);
  else takeSync(core, trap === FP_TRAP.EL2 ? 2 : 1, EC.FP_ASIMD, ISS_CONDITION);
}

/** Recomputes `cpu.fpEnabled`: after writes of CPACR_EL1, CPTR_EL2 and HCR_EL2. */
export function refreshFp(core: Core): void {
  core.words[WORD.FP] = fpTrap(core) === FP_TRAP.NONE ? 1 : 0;
}

// Exception return

/** ERET from EL1 or EL2: PSTATE from SPSR_ELx, PC from ELR_ELx; PSTATE.IL set where the return is illegal. */
export function exceptionReturn(core: Core): void {
  const { platform } = core;
  const how = platform.hostAtEl2 === true ? HOW.HOSTED : 0;
  const left = platform.levels.leave(core.index, how);
  if (left === 0) return;
  if (left === LEFT.ALL) returnUnusually(core, how);
  else complete(core, left);
}

function returnUnusually(core: Core, how: number): void {
  const { cpu, words } = core;
  const isCounted = words[WORD.PMU] !== 0;
  if (isCounted) pmuLeaves(core, PMU_EVENT.EXC_RETURN);
  const spsr = core.regs.lo(cpu.el === 1 ? R.SPSR_EL1 : R.SPSR_EL2);
  const masked = ((spsr >>> SPSR.DAIF_SHIFT) & DAIF.D) !== 0, ss = (spsr & SPSR.SS) !== 0;
  // By the level that is returned to.
  const steps = [0, 1, 2].map((el) => stepOnReturn(core, el, masked, ss));
  complete(core, core.platform.levels.leave(core.index, how | HOW.ANYWAY));
  words[WORD.SS] = steps[cpu.el] as number;
  untagPc(core);
  if (isCounted) boundSliceByPmu(core);
}

/** AArch64.BranchAddr(): the high half of a branch target with its tag replaced, where TBI is on. */
function withoutTag(core: Core, hi: number): number {
  const upper = (hi >>> 23) & 1;
  const { cpu, regs } = core;
  if (cpu.el === 2 && !isE2h(regs)) {
    return regs.lo(R.TCR_EL2) & TCR.TBI_EL2 ? hi & 0xff_ffff : hi;
  }
  const tcr = regs.hi(
    cpu.el === 2 || (cpu.el === 0 && isEl0Host(regs)) ? R.TCR_EL2 : R.TCR_EL1,
  );
  if ((tcr & (upper ? TCR.TBI1_HI : TCR.TBI0_HI)) === 0) return hi;
  return upper ? hi | 0xff00_0000 : hi & 0xff_ffff;
}

/**
 * A branch may have left a tag in the PC: it goes before anything is done with that PC. The code TLB has
 * no tagged addresses, so that such a branch always comes by here.
 */
export function untagPc(core: Core): void {
  const { words } = core, hiAt = WORD.PC + 1;
  const hi = words[hiAt] as number;
  const top = hi >> 23;
  if (top !== 0 && top !== -1) words[hiAt] = withoutTag(core, hi);
}

// Interrupts

/** Levels pending at the virtual inputs, as LINE bits VIRQ, VFIQ and (for vSError) SERROR. */
function virtualPending(words: Int32Array): number {
  const hcr = words[WORD.HCR] as number;
  if (words[WORD.EL] === 2 || hcr & HCR.TGE) return 0;
  const lines = words[WORD.LINES] as number;
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
    vector: VECTORS.SERROR,
  },
  { line: LINE.FIQ, virtualLine: LINE.VFIQ, mask: DAIF.F, route: HCR.FMO, vector: VECTORS.FIQ },
  { line: LINE.IRQ, virtualLine: LINE.VIRQ, mask: DAIF.I, route: HCR.IMO, vector: VECTORS.IRQ },
] as const;

/** An interrupt that can be taken: bits 10 and 9 the target level, bit 0 virtual, the rest the vector. 0: none. */
export type Interrupt = number;

const VIRTUAL = 1;

const PHYSICAL = LINE.IRQ | LINE.FIQ | LINE.SERROR;
const MASKS = DAIF.A | DAIF.I | DAIF.F;

/** The highest-priority interrupt to take now; physical before virtual. */
function selectInterrupt(words: Int32Array, lines: number, daif: number): Interrupt {
  if ((lines & PHYSICAL) !== 0) {
    const hcr = words[WORD.HCR] as number;
    const physical = selectPhysical(lines, hcr, words[WORD.EL] as number, daif);
    if (physical !== 0) return physical;
  }
  const pending = virtualPending(words);
  return pending === 0 ? 0 : selectVirtual(pending, daif);
}

function selectPhysical(lines: number, hcr: number, el: number, daif: number): Interrupt {
  if (lines & LINE.SERROR) {
    const target = takenTo(hcr & (HCR.TGE | HCR.AMO), el, daif & DAIF.A);
    if (target !== 0) return (target << 9) | VECTORS.SERROR;
  }
  if (lines & LINE.FIQ) {
    const target = takenTo(hcr & (HCR.TGE | HCR.FMO), el, daif & DAIF.F);
    if (target !== 0) return (target << 9) | VECTORS.FIQ;
  }
  if (lines & LINE.IRQ) {
    const target = takenTo(hcr & (HCR.TGE | HCR.IMO), el, daif & DAIF.I);
    if (target !== 0) return (target << 9) | VECTORS.IRQ;
  }
  return 0;
}

/** The level that a physical interrupt is taken to: EL2 if `routed`. 0: it is masked, by PSTATE or by the level. */
function takenTo(routed: number, el: number, masked: number): Target | 0 {
  const target = routed !== 0 ? 2 : 1;
  if (target < el) return 0;
  // A higher level's interrupt is not maskable from below.
  return masked !== 0 && (target === el || (el === 0 && target === 1)) ? 0 : target;
}

function selectVirtual(pending: number, daif: number): Interrupt {
  const to = (1 << 9) | VIRTUAL;
  if (pending & LINE.SERROR && !(daif & DAIF.A)) return to | VECTORS.SERROR;
  if (pending & LINE.VFIQ && !(daif & DAIF.F)) return to | VECTORS.FIQ;
  return pending & LINE.VIRQ && !(daif & DAIF.I) ? to | VECTORS.IRQ : 0;
}

/** The interrupt that the CPU takes before its next instruction, or 0. */
export function pendingInterrupt(core: Core): Interrupt {
  const { words } = core;
  const lines = words[WORD.LINES] as number, daif = words[WORD.DAIF] as number;
  if (lines === 0 && ((words[WORD.CHECK] as number) & CHECK.INTERRUPT) === 0) return 0;
  // All are masked, unless one goes to a higher level.
  if ((daif & MASKS) === MASKS && ((lines & PHYSICAL) === 0 || words[WORD.EL] === 2)) return 0;
  return selectInterrupt(words, lines, daif);
}

/** Takes what {@link pendingInterrupt} returned. */
export function takeInterrupt(core: Core, interrupt: Interrupt): void {
  const vector = interrupt & 0x180;
  if (vector === VECTORS.SERROR) return takeSError(core, interrupt);
  if ((interrupt & VIRTUAL) !== 0) core.platform.hooks.onVirtualInterrupt?.(core.cpu);
  takeException(core, (interrupt >> 9) as Target, vector, NO_SYNDROME);
}

/** Unlike the others it is pending no more once it is taken. */
function takeSError(core: Core, interrupt: Interrupt): void {
  const { words } = core;
  if ((interrupt & VIRTUAL) !== 0) words[WORD.HCR] = (words[WORD.HCR] as number) & ~HCR.VSE;
  else words[WORD.LINES] = (words[WORD.LINES] as number) & ~LINE.SERROR;
  takeException(core, (interrupt >> 9) as Target, VECTORS.SERROR, esr(EC.SERROR, 0));
  refreshInterrupts(core);
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
  const { platform, words } = core;
  // A host that is not made of instructions looks for itself, and its ERET comes by here.
  if (words[WORD.EL] === 2 && platform.hostAtEl2 === true) return;
  platform.levels.lookForInterrupts(core.index);
}

/** Whether WFI would return at once: an interrupt is pending, masked by PSTATE or not. */
export function hasWakeUpEvent(core: Core): boolean {
  const lines = core.words[WORD.LINES] as number;
  return (lines & PHYSICAL) !== 0 || virtualPending(core.words) !== 0;
}

/** ISR_EL1: pending SError (bit 8), IRQ (7), FIQ (6); the virtual ones below EL2 where HCR_EL2 routes. */
export function isrEl1(core: Core): number {
  const { cpu, regs } = core;
  const hcr = regs.lo(R.HCR_EL2);
  const below = cpu.el < 2 && !(hcr & HCR.TGE);
  const pending = virtualPending(core.words);
  let isr = 0;
  for (const kind of KINDS) {
    const virtual = below && (hcr & kind.route) !== 0;
    const set = virtual ? pending & kind.virtualLine : cpu.irqLines & kind.line;
    if (set) isr |= kind.mask << 6;
  }
  return isr;
}
