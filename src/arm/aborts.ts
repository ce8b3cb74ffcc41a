/**
 * Aborts and alignment faults: from the MMU's fault record to ESR, FAR, HPFAR and the handler. Source:
 * Arm Architecture Reference Manual (DDI 0487), AArch64.Abort and the ISS encodings of ESR_ELx.
 */
import { ABORT, abortIss, EC } from "./arch/syndrome.ts";
import type { Access } from "./arch/tlb_layout.ts";
import { defaultTarget, setFar, setHpfar, takeSync } from "./exceptions.ts";
import { FSC } from "./mmu/fault.ts";
import type { Core } from "./parts.ts";
import { pcHi, pcLo } from "./pstate.ts";

/** A synchronous exclusive or atomic access to memory that has no monitor. */
const FSC_UNSUPPORTED_EXCLUSIVE = 0x35;

function take(core: Core, low: number, current: number, iss: number): void {
  const { fault } = core.platform.mmu;
  const target = fault.stage2 ? 2 : defaultTarget(core);
  setFar(core, target, fault.vaLo, fault.vaHi);
  if (fault.stage2) setHpfar(core, fault.ipa);
  takeSync(core, target, target === core.cpu.el ? current : low, iss);
}

/** Takes the data abort that `mmu.fault` describes, for the instruction `word`. */
export function takeDataAbort(core: Core, word: number): void {
  const { fault } = core.platform.mmu;
  let iss = fault.fsc;
  if (fault.s1ptw) iss |= ABORT.S1PTW;
  if (fault.cm) iss |= ABORT.CM;
  if (fault.write || fault.cm) iss |= ABORT.WNR;
  if (fault.stage2 && !fault.s1ptw && !fault.cm) iss |= abortIss(word);
  take(core, EC.DABT_LOW, EC.DABT_CUR, iss);
}

/** Takes the instruction abort that `mmu.fault` describes. */
export function takeInstructionAbort(core: Core): void {
  const { fault } = core.platform.mmu;
  take(core, EC.IABT_LOW, EC.IABT_CUR, fault.fsc | (fault.s1ptw ? ABORT.S1PTW : 0));
}

function record(core: Core, vaLo: number, vaHi: number, access: Access, fsc: number): void {
  const { fault } = core.platform.mmu;
  fault.begin(vaLo, vaHi, access);
  fault.stage1(fsc);
}

/** A misaligned access where alignment is always checked: acquire, release, exclusive, DC ZVA. */
export function takeAlignmentFault(core: Core, vaLo: number, vaHi: number, access: Access): void {
  record(core, vaLo, vaHi, access, FSC.ALIGNMENT);
  takeDataAbort(core, 0);
}

/** A synchronous external abort: nothing answers at the physical address. */
export function takeExternalAbort(core: Core, vaLo: number, vaHi: number, access: Access): void {
  record(core, vaLo, vaHi, access, FSC.EXTERNAL);
  takeDataAbort(core, 0);
}

/** A synchronous external abort on an instruction fetch. */
export function takeExternalFetchAbort(core: Core): void {
  record(core, pcLo(core.cpu), pcHi(core.cpu), 2, FSC.EXTERNAL);
  takeInstructionAbort(core);
}

/** An exclusive access outside RAM. */
export function takeUnsupportedExclusive(
  core: Core,
  vaLo: number,
  vaHi: number,
  access: Access,
): void {
  record(core, vaLo, vaHi, access, FSC_UNSUPPORTED_EXCLUSIVE);
  takeDataAbort(core, 0);
}

/** A misaligned PC: FAR holds it. */
export function takePcAlignment(core: Core): void {
  const target = defaultTarget(core);
  setFar(core, target, pcLo(core.cpu), pcHi(core.cpu));
  takeSync(core, target, EC.PC_ALIGN, 0);
}
