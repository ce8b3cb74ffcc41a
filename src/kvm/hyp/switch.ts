/**
 * What the world switches of both kinds of host have in common. Mirrors
 * arch/arm64/kvm/hyp/include/hyp/switch.h, hyp/entry.S and hyp/hyp-entry.S.
 *
 * What differs: __kvm_vcpu_run is cut in two at ERET, where the host's thread is suspended; a guest
 * that is entered with an interrupt pending is left at once by the interrupt itself, without a look at
 * ISR_EL1 before.
 */
import { TWO32 } from "../../base/bits.ts";
import type { El2Port } from "../../arm/el2_port.ts";
import { HCR, SPSR } from "../../arm/arch/fields.ts";
import { PMUSERENR } from "../../arm/arch/pmu.ts";
import { EC } from "../../arm/arch/syndrome.ts";
import { R } from "../../arm/arch/sysregs.ts";
import {
  ARM_EXCEPTION,
  FP_STATE,
  type HypVcpu,
  type KvmCpuContext,
  KvmCpuContextLayout,
  type KvmState,
  KvmVcpuLayout,
  SAVED,
} from "../kvm_host.ts";
import { populateFaultInfo } from "./fault.ts";

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

/** guest_owns_fp_regs. */
export function guestOwnsFpRegs(vcpu: HypVcpu): boolean {
  return vcpu.state.fpState === FP_STATE.GUEST_OWNED;
}

/** Sets stage 2 up for a VM: VTCR_EL2, and VTTBR_EL2 with its tables and VMID (__load_stage2). */
export function loadStage2(port: El2Port, kvm: KvmState): void {
  port.write(R.VTCR_EL2, kvm.vtcrLo, kvm.vtcrHi);
  const pgd = kvm.pgdPa;
  const vmid = kvm.vmid & 0xff;
  port.write(R.VTTBR_EL2, pgd >>> 0, (pgd / TWO32) | (vmid << 16));
}

/** __activate_traps_common. */
export function activateTrapsCommon(port: El2Port, vcpu: HypVcpu): void {
  port.write(R.HSTR_EL2, HSTR_T15, 0);
  // EL0's accesses to the monitors are to trap to EL2, not to EL1; and PMXEVCNTR_EL0 must not be
  // UNDEFINED for what PMSELR_EL0 says.
  port.write(R.PMSELR_EL0, 0, 0);
  port.write(R.PMUSERENR_EL0, PMUSERENR.KEEP, 0);
  port.save(R.MDCR_EL2, vcpu.state.base + KvmVcpuLayout.offset.mdcrHost);
  port.write(R.MDCR_EL2, vcpu.state.mdcr, 0);
}

/** __deactivate_traps_common. */
export function deactivateTrapsCommon(port: El2Port, vcpu: HypVcpu): void {
  port.restore(R.MDCR_EL2, vcpu.state.base + KvmVcpuLayout.offset.mdcrHost);
  port.write(R.HSTR_EL2, 0, 0);
  port.write(R.PMUSERENR_EL0, 0, 0);
}

/** ___deactivate_traps: a pended virtual SError that the guest has taken meanwhile must not come again. */
export function keepPendingVirtualSError(port: El2Port, vcpu: HypVcpu): void {
  const { state } = vcpu;
  if ((state.hcrLo & HCR.VSE) === 0) return;
  state.hcrLo = (state.hcrLo & ~HCR.VSE) | (port.readLo(R.HCR_EL2) & HCR.VSE);
}

/** __guest_enter: what EL2 has in SP_EL0 to `hypCtxt`, the guest's and its general registers in, ERET. */
export function guestEnter(port: El2Port, vcpu: HypVcpu, hypCtxt: KvmCpuContext): void {
  const spEl0 = 8 * SAVED.SP_EL0;
  port.save(R.SP_EL0, hypCtxt.sysregs + spEl0);
  port.restore(R.SP_EL0, vcpu.ctxt.sysregs + spEl0);
  port.restoreGprs(vcpu.ctxt.regs);
  port.eret();
}

/** __guest_exit: the other way round. */
export function guestExit(port: El2Port, vcpu: HypVcpu, hypCtxt: KvmCpuContext): void {
  const spEl0 = 8 * SAVED.SP_EL0;
  port.saveGprs(vcpu.ctxt.regs);
  port.save(R.SP_EL0, vcpu.ctxt.sysregs + spEl0);
  port.restore(R.SP_EL0, hypCtxt.sysregs + spEl0);
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
export type HypExitHandlers = Readonly<Partial<Record<number, HypExitHandler>>>;

/** kvm_hyp_handle_iabt_low and kvm_hyp_handle_dabt_low: an abort whose address is gone is retried. */
function handleAbortLow(port: El2Port, vcpu: HypVcpu): boolean {
  return !populateFaultInfo(port, vcpu);
}

const ARM_SMCCC_ARCH_WORKAROUNDS = [0x8000_8000, 0x8000_7fff, 0x8000_3fff];

/** el1_hvc_guest of hyp-entry.S: the mitigation calls return at once, with 0 in X0. */
function handleWorkaroundCall(_: El2Port, vcpu: HypVcpu): boolean {
  const m = vcpu.state.memory;
  const x0 = vcpu.ctxt.regs;
  if (!ARM_SMCCC_ARCH_WORKAROUNDS.includes(m.ld32(x0))) return false;
  m.st32(x0, 0);
  m.st32(x0 + 4, 0);
  return true;
}

/** The handlers of both kinds of host, but for the one of FP. */
export const COMMON_EXIT_HANDLERS: HypExitHandlers = {
  [EC.IABT_LOW]: handleAbortLow,
  [EC.DABT_LOW]: handleAbortLow,
  [EC.WATCHPT_LOW]: handleAbortLow,
  [EC.HVC64]: handleWorkaroundCall,
};

/** fixup_guest_exit: true when the guest is to be entered again at once. */
export function fixupGuestExit(
  port: El2Port,
  vcpu: HypVcpu,
  code: number,
  handlers: HypExitHandlers,
): boolean {
  port.save(R.SPSR_EL2, vcpu.ctxt.base + KvmCpuContextLayout.offset.pstate);
  if (code !== ARM_EXCEPTION.IRQ) vcpu.state.faultEsr = port.readLo(R.ESR_EL2);
  if (code !== ARM_EXCEPTION.TRAP) return false;
  return handlers[vcpu.state.faultEsr >>> 26]?.(port, vcpu) ?? false;
}
