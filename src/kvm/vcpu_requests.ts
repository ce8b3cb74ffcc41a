/**
 * What is done for a vCPU now and then before it runs: its first run, and what others ask of it. Mirrors those
 * functions of arch/arm64/kvm/arm.c.
 */
import { kvmTimerEnable } from "./arch_timer.ts";
import { kvmArmSetupMdcrEl2 } from "./debug.ts";
import {
  ERRNO,
  IFLAG,
  irqchipInKernel,
  KVM_EXIT,
  KVM_REQ,
  KVM_SYSTEM_EVENT,
  kvmCheckRequest,
  kvmMakeRequest,
  MP_STATE,
  RET,
  type Vcpu,
  vcpuClearFlag,
} from "./kvm_host.ts";
import { kvmArchVcpuRunnable, kvmArmVcpuStopped, kvmVcpuWfi } from "./kvm_main.ts";
import { kvmArmPmuV3Enable, kvmPmuHandlePmcr, pmuReg } from "./pmu_emul.ts";
import { kvmUpdateStolenTime } from "./pvtime.ts";

/** What {@link kvmVcpuSuspend} says when there is nothing to wake up for. */
export const SUSPENDED = 16;

/** kvm_vcpu_suspend: user space alone ends the state, and is told when there is an interrupt. */
export function kvmVcpuSuspend(vcpu: Vcpu): number {
  if (vcpu.state.mpState !== MP_STATE.SUSPENDED) return RET.GUEST;
  kvmVcpuWfi(vcpu);
  kvmMakeRequest(vcpu, KVM_REQ.SUSPEND);
  if (!kvmArchVcpuRunnable(vcpu)) return SUSPENDED;
  vcpuClearFlag(vcpu, IFLAG.IN_WFI);
  vcpu.run.systemEventType = KVM_SYSTEM_EVENT.WAKEUP;
  vcpu.run.systemEventFlags = 0;
  vcpu.run.exitReason = KVM_EXIT.SYSTEM_EVENT;
  return RET.USER;
}

/** It is powered off or paused (the condition of kvm_vcpu_sleep). */
export function mustSleep(vcpu: Vcpu): boolean {
  return kvmArmVcpuStopped(vcpu) || vcpu.state.pause;
}

/**
 * check_vcpu_requests: {@link RET.GUEST}, {@link RET.USER}, an errno, {@link RET.HALT} to sleep first,
 * or {@link SUSPENDED} to block first. `resetVcpu` resets a vCPU that is loaded.
 */
export function checkVcpuRequests(vcpu: Vcpu, resetVcpu: (vcpu: Vcpu) => void): number {
  if (kvmCheckRequest(vcpu, KVM_REQ.VM_DEAD)) return ERRNO.EIO;
  if (kvmCheckRequest(vcpu, KVM_REQ.SLEEP) && mustSleep(vcpu)) {
    vcpu.state.blocking = true;
    return RET.HALT;
  }
  if (kvmCheckRequest(vcpu, KVM_REQ.VCPU_RESET)) resetVcpu(vcpu);
  if (kvmCheckRequest(vcpu, KVM_REQ.RELOAD_PMU)) {
    kvmPmuHandlePmcr(vcpu, pmuReg(vcpu, "PMCR_EL0"));
  }
  kvmCheckRequest(vcpu, KVM_REQ.IRQ_PENDING);
  if (kvmCheckRequest(vcpu, KVM_REQ.RECORD_STEAL)) kvmUpdateStolenTime(vcpu);
  return kvmCheckRequest(vcpu, KVM_REQ.SUSPEND) ? kvmVcpuSuspend(vcpu) : RET.GUEST;
}

/** kvm_arch_vcpu_run_pid_change: what the first run needs. 0 or an errno. */
export function kvmArchVcpuRunPidChange(vcpu: Vcpu): number {
  const { state, kvm } = vcpu;
  if (!state.targetInitialised) return ERRNO.ENOEXEC;
  if (state.hasRunOnce) return 0;
  kvmArmSetupMdcrEl2(vcpu);
  if (irqchipInKernel(kvm)) {
    const error = kvm.host.vgic.kvmVgicMapResources(kvm);
    if (error !== 0) return error;
  }
  const error = kvmTimerEnable(vcpu);
  if (error !== 0) return error;
  const pmuError = kvmArmPmuV3Enable(vcpu);
  if (pmuError !== 0) return pmuError;
  kvm.state.hasRanOnce = true;
  state.hasRunOnce = true;
  return 0;
}
