/**
 * The world switch on a VHE host. Mirrors arch/arm64/kvm/hyp/vhe/switch.c, hyp/entry.S and
 * hyp/include/hyp/switch.h.
 *
 * What differs: __kvm_vcpu_run_vhe is cut in two at ERET, where the host's thread is suspended;
 * {@link vcpuRunEnter} is what comes before, {@link vcpuRunExit} what comes after, and again before a
 * re-entry that never leaves EL2's fast path.
 */
import type { El2Port } from "../../../arm/el2_port.ts";
import { HCR } from "../../../arm/arch/fields.ts";
import { EC } from "../../../arm/arch/syndrome.ts";
import { R } from "../../../arm/arch/sysregs.ts";
import {
  ARM_EXCEPTION,
  FP_STATE,
  KvmCpuContextLayout,
  KvmVcpuLayout,
  SAVED,
  type Vcpu,
} from "../../kvm_host.ts";
import { debugSwitchToGuest, debugSwitchToHost } from "../debug_sr.ts";
import { kvmAdjustPc } from "../exception.ts";
import { populateFaultInfo } from "../fault.ts";
import { CPACR_FPEN, kvmHypHandleFpsimd } from "../fpsimd.ts";
import {
  sysregRestoreGuestStateVhe,
  sysregRestoreHostStateVhe,
  sysregSaveGuestStateVhe,
  sysregSaveHostStateVhe,
} from "./sysreg_sr.ts";
import { HCR_HOST_VHE_HI, HCR_HOST_VHE_LO, loadStage2 } from "./tlb.ts";

/** {@link vcpuRunExit}: the exit was dealt with, and the CPU is in the guest again. */
export const REENTERED = -1;

/** VBAR_EL2 while a guest runs and while the host does. Nothing is ever fetched there. */
const HYP_VECTORS = 0x1000_0800;
const HOST_VECTORS = 0x1000_0000;

/** CPTR_EL2 with E2H: trace traps, activity monitor traps, SVE allowed to EL1 (a host default). */
const CPTR_TTA = 1 << 28;
const CPTR_TAM = 1 << 30;
const CPACR_EL1_DEFAULT = (3 << 20) | (1 << 16);

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
const VECTOR_LOWER_AARCH64 = 0x400;

/** __activate_traps_common, at vcpu_load. */
export function activateTrapsVheLoad(vcpu: Vcpu): void {
  const port = vcpu.port();
  port.write(R.HSTR_EL2, HSTR_T15, 0);
  port.save(R.MDCR_EL2, vcpu.state.base + KvmVcpuLayout.offset.mdcrHost);
  port.write(R.MDCR_EL2, vcpu.state.mdcr, 0);
}

/** __deactivate_traps_common, at vcpu_put. */
export function deactivateTrapsVhePut(vcpu: Vcpu): void {
  const port = vcpu.port();
  port.restore(R.MDCR_EL2, vcpu.state.base + KvmVcpuLayout.offset.mdcrHost);
  port.write(R.HSTR_EL2, 0, 0);
}

/** __activate_traps: HCR_EL2 of the guest, FP closed unless the guest has it, the vectors of a guest's exits. */
function activateTraps(port: El2Port, vcpu: Vcpu): void {
  port.write(R.HCR_EL2, vcpu.state.hcrLo, vcpu.state.hcrHi);
  const owns = vcpu.state.fpState === FP_STATE.GUEST_OWNED;
  port.write(R.CPTR_EL2, CPTR_TTA | CPTR_TAM | (owns ? CPACR_FPEN : 0), 0);
  port.writeNum(R.VBAR_EL2, HYP_VECTORS);
}

/** __deactivate_traps: a pended virtual SError that the guest has taken meanwhile must not come again. */
function deactivateTraps(port: El2Port, vcpu: Vcpu): void {
  const { state } = vcpu;
  if ((state.hcrLo & HCR.VSE) !== 0) {
    state.hcrLo = (state.hcrLo & ~HCR.VSE) | (port.readLo(R.HCR_EL2) & HCR.VSE);
  }
  port.write(R.HCR_EL2, HCR_HOST_VHE_LO, HCR_HOST_VHE_HI);
  port.write(R.CPTR_EL2, CPACR_EL1_DEFAULT, 0);
  port.writeNum(R.VBAR_EL2, HOST_VECTORS);
}

/** __guest_enter: the host's SP_EL0 away, the guest's and its general registers in, ERET. */
function guestEnter(port: El2Port, vcpu: Vcpu): void {
  const spEl0 = 8 * SAVED.SP_EL0;
  port.save(R.SP_EL0, vcpu.hostCtxt.sysregs + spEl0);
  port.restore(R.SP_EL0, vcpu.ctxt.sysregs + spEl0);
  port.restoreGprs(vcpu.ctxt.regs);
  port.eret();
}

/** __guest_exit: the other way round. */
function guestExit(port: El2Port, vcpu: Vcpu): void {
  const spEl0 = 8 * SAVED.SP_EL0;
  port.saveGprs(vcpu.ctxt.regs);
  port.save(R.SP_EL0, vcpu.ctxt.sysregs + spEl0);
  port.restore(R.SP_EL0, vcpu.hostCtxt.sysregs + spEl0);
}

/** The first half of __kvm_vcpu_run_vhe: the CPU is in the guest when it returns. All exceptions are masked. */
export function vcpuRunEnter(vcpu: Vcpu): void {
  const port = vcpu.port();
  sysregSaveHostStateVhe(port, vcpu.hostCtxt);
  // Both stages must be in place before HCR_EL2.TGE goes (Arm erratum 1165522 of real cores; the
  // order is the kernel's).
  loadStage2(port, vcpu.kvm.state);
  activateTraps(port, vcpu);
  kvmAdjustPc(vcpu);
  sysregRestoreGuestStateVhe(port, vcpu.ctxt);
  debugSwitchToGuest(port, vcpu);
  guestEnter(port, vcpu);
}

/**
 * The second half: the guest has been left through the vector at `vectorOffset`. An
 * {@link ARM_EXCEPTION} code with the host's state in place, or {@link REENTERED}.
 */
export function vcpuRunExit(vcpu: Vcpu, vectorOffset: number): number {
  const port = vcpu.port();
  port.trap();
  guestExit(port, vcpu);
  const code = exitCodeOf(port, vectorOffset);
  if (fixupGuestExit(port, vcpu, code)) {
    guestEnter(port, vcpu);
    return REENTERED;
  }
  sysregSaveGuestStateVhe(port, vcpu.ctxt);
  deactivateTraps(port, vcpu);
  sysregRestoreHostStateVhe(port, vcpu.hostCtxt);
  debugSwitchToHost(port, vcpu);
  return code;
}

/** Which vector of hyp-entry.S was taken. From EL2 itself there is only the illegal return to a guest. */
function exitCodeOf(port: El2Port, vectorOffset: number): number {
  if (vectorOffset === VECTOR_CURRENT_SPX && port.readLo(R.ESR_EL2) >>> 26 === EC.ILL) {
    return ARM_EXCEPTION.IL;
  }
  if (vectorOffset < VECTOR_LOWER_AARCH64) return ARM_EXCEPTION.HYP_GONE;
  return BY_VECTOR[((vectorOffset - VECTOR_LOWER_AARCH64) >> 7) & 3] ?? ARM_EXCEPTION.HYP_GONE;
}

type HypExitHandler = (port: El2Port, vcpu: Vcpu) => boolean;

/** hyp_exit_handlers: exits that are dealt with before the host sees them; true: back into the guest. */
const HYP_EXIT_HANDLERS: Readonly<Partial<Record<number, HypExitHandler>>> = {
  [EC.FP_ASIMD]: kvmHypHandleFpsimd,
  [EC.IABT_LOW]: handleAbortLow,
  [EC.DABT_LOW]: handleAbortLow,
  [EC.WATCHPT_LOW]: handleAbortLow,
  [EC.HVC64]: handleWorkaroundCall,
};

/** kvm_hyp_handle_iabt_low and kvm_hyp_handle_dabt_low: an abort whose address is gone is retried. */
function handleAbortLow(port: El2Port, vcpu: Vcpu): boolean {
  return !populateFaultInfo(port, vcpu);
}

const ARM_SMCCC_ARCH_WORKAROUNDS = [0x8000_8000, 0x8000_7fff, 0x8000_3fff];

/** el1_hvc_guest of hyp-entry.S: the mitigation calls return at once, with 0 in X0. */
function handleWorkaroundCall(_: El2Port, vcpu: Vcpu): boolean {
  const m = vcpu.state.memory;
  const x0 = vcpu.ctxt.regs;
  if (!ARM_SMCCC_ARCH_WORKAROUNDS.includes(m.ld32(x0))) return false;
  m.st32(x0, 0);
  m.st32(x0 + 4, 0);
  return true;
}

/** fixup_guest_exit: true when the guest is to be entered again at once. */
function fixupGuestExit(port: El2Port, vcpu: Vcpu, code: number): boolean {
  port.save(R.SPSR_EL2, vcpu.ctxt.base + KvmCpuContextLayout.offset.pstate);
  if (code !== ARM_EXCEPTION.IRQ) vcpu.state.faultEsr = port.readLo(R.ESR_EL2);
  if (code !== ARM_EXCEPTION.TRAP) return false;
  return HYP_EXIT_HANDLERS[vcpu.state.faultEsr >>> 26]?.(port, vcpu) ?? false;
}
