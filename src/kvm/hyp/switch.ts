/**
 * What the world switches of both kinds of host have in common. Mirrors
 * arch/arm64/kvm/hyp/include/hyp/switch.h, hyp/entry.S and hyp/hyp-entry.S.
 *
 * What differs: __kvm_vcpu_run is cut in two at ERET, where the host's thread is suspended; a guest
 * that is entered with an interrupt pending is left at once by the interrupt itself, without a look at
 * ISR_EL1 before.
 */
import * as el2Port from "../../arm/el2_port.ts";
import type { At, El2Port, SequenceStep } from "../../arm/el2_port.ts";
import * as fields from "../../arm/arch/fields.ts";
import * as pmu from "../../arm/arch/pmu.ts";
import * as syndromeModule from "../../arm/arch/syndrome.ts";
import * as sysregsModule from "../../arm/arch/sysregs.ts";
import * as kvmHost from "../kvm_host.ts";
import {
  type HypVcpu,
  type KvmCpuContext,
  KvmCpuContextLayout,
  KvmLayout,
  type KvmState,
  KvmVcpuLayout,
} from "../kvm_host.ts";
import * as kvmWords from "../kvm_words.ts";
import * as fault from "./fault.ts";

// Of the module itself: what is imported V8 looks up and checks at each use.
const { at, sequence, STEP } = el2Port;
const { HCR, SPSR } = fields;
const { PMUSERENR } = pmu;
const { EC } = syndromeModule;
const { R } = sysregsModule;
const { ARM_EXCEPTION, FP_STATE, SAVED } = kvmHost;
const { VCPU_WORD: WORD } = kvmWords;
const { populateFaultInfo } = fault;

/** Instead of an exit code: the exit was dealt with, and the CPU is in the guest again. */
export const REENTERED = -1;

/** CPTR_EL2.TAM, the same bit with and without E2H. */
export const CPTR_TAM = 1 << 30;

/** HSTR_EL2: trap AArch32 CP15 c15. */
const HSTR_T15 = 1 << 15;

/** Exit codes by the vector's position within its group: synchronous, IRQ, FIQ, SError. */
const BY_VECTOR = [
  ARM_EXCEPTION.TRAP,
  ARM_EXCEPTION.IRQ,
  ARM_EXCEPTION.IRQ,
  ARM_EXCEPTION.EL1_SERROR,
] as const;
const VECTOR_CURRENT_SPX = 0x200;
/** The vectors of exceptions from a lower level in AArch64. */
export const VECTOR_LOWER_AARCH64 = 0x400;
export const VECTOR_LOWER_IRQ = 0x480;

/** guest_owns_fp_regs. */
export function guestOwnsFpRegs({ words }: HypVcpu): boolean {
  return words[WORD.FP_STATE] === FP_STATE.GUEST_OWNED;
}

/**
 * Sets stage 2 up for a VM: VTCR_EL2, and VTTBR_EL2 with its tables and VMID (__load_stage2). Argument 1
 * of the sequence is struct kvm, 2 and 3 are VTTBR_EL2's halves.
 */
export const LOAD_STAGE2: readonly SequenceStep[] = [
  STEP.load(R.VTCR_EL2, at(KvmLayout.offset.vtcrLo, 1)),
  STEP.write(R.VTTBR_EL2, { arg: 2 }, { arg: 3 }),
];

const STAGE2 = sequence(LOAD_STAGE2);

const PGD = KvmLayout.offset.pgdPa >>> 2, VMID = KvmLayout.offset.vmid >>> 2;

/** The halves of VTTBR_EL2 for a VM (kvm_get_vttbr), whose structure is at word `kvm` of `words`. */
export function vttbrLo(words: Int32Array, kvm: number): number {
  return words[kvm + PGD] as number;
}
export function vttbrHi(words: Int32Array, kvm: number): number {
  const vmid = (words[kvm + VMID] as number) & 0xff;
  return (words[kvm + PGD + 1] as number) | (vmid << 16);
}

/** __load_stage2 by itself. */
export function loadStage2(port: El2Port, { memory, base }: KvmState): void {
  const words = memory.i32, kvm = base >>> 2;
  port.runWith(STAGE2, 0, base, vttbrLo(words, kvm), vttbrHi(words, kvm));
}

const { mdcr: MDCR_AT, mdcrHost: MDCR_HOST_AT } = KvmVcpuLayout.offset;

/** The steps of __activate_traps_common. Argument 0 is the vCPU. */
export function activateTrapsCommonSteps(): readonly SequenceStep[] {
  return [
    STEP.write(R.HSTR_EL2, HSTR_T15),
    // EL0's accesses to the monitors are to trap to EL2, not to EL1; and PMXEVCNTR_EL0 must not be
    // UNDEFINED for what PMSELR_EL0 says.
    STEP.write(R.PMSELR_EL0, 0),
    STEP.write(R.PMUSERENR_EL0, PMUSERENR.KEEP),
    STEP.save(R.MDCR_EL2, at(MDCR_HOST_AT)),
    STEP.loadWord(R.MDCR_EL2, at(MDCR_AT)),
  ];
}
const ACTIVATE_TRAPS_COMMON = sequence(activateTrapsCommonSteps());

/** __activate_traps_common. */
export function activateTrapsCommon(port: El2Port, vcpu: HypVcpu): void {
  port.run(ACTIVATE_TRAPS_COMMON, vcpu.state.base);
}

/** The steps of __deactivate_traps_common. Argument 0 is the vCPU. */
export function deactivateTrapsCommonSteps(): readonly SequenceStep[] {
  return [
    STEP.restore(R.MDCR_EL2, at(MDCR_HOST_AT)),
    STEP.write(R.HSTR_EL2, 0),
    STEP.write(R.PMUSERENR_EL0, 0),
  ];
}
const DEACTIVATE_TRAPS_COMMON = sequence(deactivateTrapsCommonSteps());

/** __deactivate_traps_common. */
export function deactivateTrapsCommon(port: El2Port, vcpu: HypVcpu): void {
  port.run(DEACTIVATE_TRAPS_COMMON, vcpu.state.base);
}

/** ___deactivate_traps: a pended virtual SError that the guest has taken meanwhile must not come again. */
export function keepPendingVirtualSError(port: El2Port, vcpu: HypVcpu): void {
  const { state } = vcpu;
  if ((state.hcrLo & HCR.VSE) === 0) return;
  state.hcrLo = (state.hcrLo & ~HCR.VSE) | (port.readLo(R.HCR_EL2) & HCR.VSE);
}

const SP_EL0_AT = KvmCpuContextLayout.offset.sysregs + 8 * SAVED.SP_EL0;

/** The steps of __guest_enter before ERET, and of __guest_exit: by the guest's context, and what EL2 keeps its own in. */
export function guestEnterSteps(guest: At, hyp: At): readonly SequenceStep[] {
  return [
    STEP.save(R.SP_EL0, beyond(hyp, SP_EL0_AT)),
    STEP.restore(R.SP_EL0, beyond(guest, SP_EL0_AT)),
    STEP.restoreGprs(beyond(guest, KvmCpuContextLayout.offset.regs)),
  ];
}
export function guestExitSteps(guest: At, hyp: At): readonly SequenceStep[] {
  return [
    STEP.saveGprs(beyond(guest, KvmCpuContextLayout.offset.regs)),
    STEP.save(R.SP_EL0, beyond(guest, SP_EL0_AT)),
    STEP.restore(R.SP_EL0, beyond(hyp, SP_EL0_AT)),
  ];
}

function beyond({ arg, offset }: At, more: number): At {
  return at(offset + more, arg);
}

/** Argument 0 is the guest's context, 1 EL2's. */
const GUEST_ENTER = sequence(guestEnterSteps(at(0), at(0, 1)));
const GUEST_EXIT = sequence(guestExitSteps(at(0), at(0, 1)));

/** __guest_enter: what EL2 has in SP_EL0 to `hypCtxt`, the guest's and its general registers in, ERET. */
export function guestEnter(port: El2Port, vcpu: HypVcpu, hypCtxt: KvmCpuContext): void {
  port.runWith(GUEST_ENTER, vcpu.ctxt.base, hypCtxt.base);
  port.eret();
}

/** __guest_exit: the other way round. */
export function guestExit(port: El2Port, vcpu: HypVcpu, hypCtxt: KvmCpuContext): void {
  port.runWith(GUEST_EXIT, vcpu.ctxt.base, hypCtxt.base);
}

/**
 * Which vector of hyp-entry.S was taken. From EL2 itself there is only the illegal return to a guest:
 * whatever it ends in (the guest's PC may be no address of EL2's), PSTATE.IL tells.
 */
export function exitCodeOf(port: El2Port, vectorOffset: number): number {
  if (vectorOffset === VECTOR_CURRENT_SPX && port.readLo(R.SPSR_EL2) & SPSR.IL) {
    return ARM_EXCEPTION.IL;
  }
  if (vectorOffset < VECTOR_LOWER_AARCH64) return ARM_EXCEPTION.HYP_GONE;
  return BY_VECTOR[((vectorOffset - VECTOR_LOWER_AARCH64) >> 7) & 3] ?? ARM_EXCEPTION.HYP_GONE;
}

export type HypExitHandler = (port: El2Port, vcpu: HypVcpu) => boolean;

/** hyp_exit_handlers: by exception class, exits that are dealt with before the host sees them; true: back into the guest. */
export type HypExitHandlers = readonly (HypExitHandler | undefined)[];

/** kvm_hyp_handle_iabt_low and kvm_hyp_handle_dabt_low: an abort whose address is gone is retried. */
function handleAbortLow(port: El2Port, vcpu: HypVcpu): boolean {
  return !populateFaultInfo(port, vcpu);
}

/** ARM_SMCCC_ARCH_WORKAROUND_1, 2 and 3, signed as the word is read: V8 boxes larger numbers. */
const ARM_SMCCC_ARCH_WORKAROUNDS = Int32Array.of(0x8000_8000, 0x8000_7fff, 0x8000_3fff);

/** el1_hvc_guest of hyp-entry.S: the mitigation calls return at once, with 0 in X0. */
function handleWorkaroundCall(_: El2Port, vcpu: HypVcpu): boolean {
  const m = vcpu.state.memory;
  const x0 = vcpu.ctxt.regs;
  if (!ARM_SMCCC_ARCH_WORKAROUNDS.includes(m.ldi32(x0))) return false;
  m.st32(x0, 0);
  m.st32(x0 + 4, 0);
  return true;
}

/** The handlers: those of both kinds of host, and the one of FP. */
export function hypExitHandlers(fpsimd: HypExitHandler): HypExitHandlers {
  const handlers = new Array<HypExitHandler | undefined>(64).fill(undefined);
  for (const ec of [EC.IABT_LOW, EC.DABT_LOW, EC.WATCHPT_LOW]) handlers[ec] = handleAbortLow;
  handlers[EC.HVC64] = handleWorkaroundCall;
  handlers[EC.FP_ASIMD] = fpsimd;
  return handlers;
}

/** The guest's PSTATE, and why it was left. Argument 0 is the vCPU. */
export const SAVE_PSTATE_AND_ESR: readonly SequenceStep[] = [
  STEP.save(R.SPSR_EL2, at(KvmVcpuLayout.offset.ctxt + KvmCpuContextLayout.offset.pstate)),
  STEP.readLow(R.ESR_EL2, at(KvmVcpuLayout.offset.faultEsr)),
];
export const SAVE_PSTATE: readonly SequenceStep[] = SAVE_PSTATE_AND_ESR.slice(0, 1);
const SAVE_ONE = sequence(SAVE_PSTATE);
const SAVE_BOTH = sequence(SAVE_PSTATE_AND_ESR);

/** The same for an exit by `code`, which may have no syndrome. */
export function savePstateAndEsr(port: El2Port, vcpu: HypVcpu, code: number): void {
  port.run(code === ARM_EXCEPTION.IRQ ? SAVE_ONE : SAVE_BOTH, vcpu.state.base);
}

/** fixup_guest_exit, with {@link savePstateAndEsr} before it: true when the guest is to be entered again at once. */
export function fixupGuestExit(
  port: El2Port,
  vcpu: HypVcpu,
  code: number,
  handlers: HypExitHandlers,
): boolean {
  if (code !== ARM_EXCEPTION.TRAP) return false;
  const handler = handlers[(vcpu.words[WORD.ESR] as number) >>> 26];
  return handler !== undefined && handler(port, vcpu);
}
