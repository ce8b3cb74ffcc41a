/**
 * KVM as user space sees it, in KVM's terms: the system, VMs, vCPUs. What is a system call on a real
 * host is a method here; a vCPU runs as a host thread, and its exits to user space go to a handler.
 *
 * `irqLine`, `run`, `kick` and `setAffinity` may be called at any time: from outside the host they take
 * effect once a physical CPU has taken the doorbell interrupt. Everything else wants its vCPU in user
 * space, and, while guests run, code that a CPU of the host executes: a handler, or work given to the
 * host (`Host.queueWork`).
 */

export type { GuestInterrupts } from "./guest_interrupts.ts";
export { KvmSystem, type KvmSystemOptions } from "./kvm_system.ts";
export { KVM_GUESTDBG, type KvmGuestDebug } from "./debug.ts";
export {
  type ArchTimerContext,
  ArchTimerContextLayout,
  IFLAG,
  KVM_EXIT,
  KVM_SYSTEM_EVENT,
  type KvmRun,
  mmioDataHi,
  mmioDataLo,
  MP_STATE,
  SAVED,
  setMmioData,
  type Vcpu,
  VCPU_MODE,
} from "./kvm_host.ts";
export { KvmError } from "./kvm_error.ts";
export * from "./stats.ts";
export {
  VGIC_CTRL_INIT,
  VGIC_GRP,
  VGIC_V2_ADDR_TYPE,
  VGIC_V3_ADDR_TYPE,
} from "./vgic/vgic_kvm_device.ts";
export {
  apListDepth,
  apListPending,
  vgicDebugCounts,
  vgicDebugEachIrq,
  vgicDebugIrqs,
  vgicDebugLatencies,
  vgicDebugText,
  type VgicIrqCounts,
  type VgicIrqState,
} from "./vgic/vgic_debug.ts";
export { KVM_CAP, type KvmVcpuEvents, VCPU_ATTR, VCPU_FEATURE } from "./vcpu_ioctl.ts";
export { KVM_MEM_LOG_DIRTY_PAGES, KVM_MEM_READONLY } from "./mmu.ts";
export { KVM_PMU_EVENT, PMU_V3_ATTR } from "./pmu_emul.ts";
export { type ExitHandler, VcpuHandle } from "./vcpu_handle.ts";
export { IRQ_TYPE, Vm } from "./vm.ts";
export { VMIDS } from "./vmid.ts";
