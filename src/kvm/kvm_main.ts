/**
 * What is common to all architectures: requests, kicks, wake-ups, blocking. Mirrors
 * virt/kvm/kvm_main.c, with the few functions of arch/arm64/kvm/arm.c that it and PSCI call.
 *
 * What differs: halt polling is off (as with halt_poll_ns=0): a vCPU that blocks blocks at once.
 */
import { HCR } from "../arm/arch/fields.ts";
import * as kvmHost from "./kvm_host.ts";
import type { Kvm, Vcpu } from "./kvm_host.ts";
import * as kvmWords from "./kvm_words.ts";

// Of the module itself: what is imported V8 looks up and checks at each use.
const { IFLAG, KVM_REQ, kvmMakeRequest, MP_STATE, RET, VCPU_MODE, vcpuSetFlag } = kvmHost;
const { VCPU_WORD: WORD } = kvmWords;

/** kvm_arm_vcpu_stopped. */
export function kvmArmVcpuStopped(vcpu: Vcpu): boolean {
  return vcpu.state.mpState === MP_STATE.STOPPED;
}

/** kvm_arm_vcpu_power_off: the vCPU sleeps before its next entry. */
export function kvmArmVcpuPowerOff(vcpu: Vcpu): void {
  vcpu.state.mpState = MP_STATE.STOPPED;
  kvmMakeRequest(vcpu, KVM_REQ.SLEEP);
  vcpu.kvm.host.kvmVcpuKick(vcpu);
}

/** kvm_arch_vcpu_runnable: there is an interrupt for it, and it may run. */
export function kvmArchVcpuRunnable(vcpu: Vcpu): boolean {
  const lines = (vcpu.state.hcrLo & (HCR.VI | HCR.VF)) !== 0;
  return (lines || vcpu.kvm.host.vgic.kvmVgicVcpuPendingIrq(vcpu)) &&
    !kvmArmVcpuStopped(vcpu) && !vcpu.state.pause;
}

/** kvm_make_all_cpus_request: every vCPU sees the request before it is in the guest again. */
export function kvmMakeAllCpusRequest(kvm: Kvm, request: number): void {
  for (const vcpu of kvm.vcpus) {
    kvmMakeRequest(vcpu, request);
    kvm.host.kvmVcpuKick(vcpu);
  }
}

/** kvm_vcpu_exiting_guest_mode: from now on an entry would notice; the mode it was in. */
export function kvmVcpuExitingGuestMode({ words }: Vcpu): number {
  const was = words[WORD.MODE] as number;
  if (was === VCPU_MODE.IN_GUEST_MODE) words[WORD.MODE] = VCPU_MODE.EXITING_GUEST_MODE;
  return was;
}

/** kvm_vcpu_wfi: makes what decides about wake-ups current, then blocks (RET.HALT). */
export function kvmVcpuWfi(vcpu: Vcpu): number {
  vcpu.kvm.host.vgic.kvmVgicVmcrSync(vcpu);
  vcpuSetFlag(vcpu, IFLAG.IN_WFI);
  return RET.HALT;
}
