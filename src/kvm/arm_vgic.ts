/**
 * The virtual interrupt controller as the rest of KVM sees it. Mirrors include/kvm/arm_vgic.h.
 *
 * What differs: the functions are one table that the host is made with, so that the parts can be tested
 * with a controller of the test's own.
 */
import type { Kvm, Vcpu } from "./kvm_host.ts";

/** struct irq_ops by number: what a HW-mapped interrupt's line level is asked of. */
export const IRQ_OPS = { NONE: 0, ARCH_TIMER: 1 } as const;

/** The functions of src/kvm/vgic that other files call, by the kernel's names. Results: 0 or a negative errno. */
export interface ArmVgic {
  /** KVM_CREATE_DEVICE of a vgic: `type` is 2 or 3. */
  kvmVgicCreate(kvm: Kvm, type: number): number;
  /** Allocates and resets what the VM's vCPUs need; once all vCPUs exist. */
  vgicInit(kvm: Kvm): number;
  kvmVgicDestroy(kvm: Kvm): void;
  kvmVgicVcpuInit(vcpu: Vcpu): number;
  kvmVgicVcpuDestroy(vcpu: Vcpu): void;
  /** Before the first run: initialises if that was left out, registers the MMIO regions. */
  kvmVgicMapResources(kvm: Kvm): number;
  kvmVgicFlushHwstate(vcpu: Vcpu): void;
  kvmVgicSyncHwstate(vcpu: Vcpu): void;
  kvmVgicLoad(vcpu: Vcpu): void;
  kvmVgicPut(vcpu: Vcpu): void;
  /** Reads back what decides whether an interrupt is deliverable (PMR, group enables). */
  kvmVgicVmcrSync(vcpu: Vcpu): void;
  kvmVgicVcpuPendingIrq(vcpu: Vcpu): boolean;
  /** `owner`: the cookie given to {@link kvmVgicSetOwner}, 0 for user space. */
  kvmVgicInjectIrq(kvm: Kvm, cpuid: number, intid: number, level: boolean, owner: number): number;
  /** `ops` is one of {@link IRQ_OPS}. */
  kvmVgicMapPhysIrq(vcpu: Vcpu, hostIrq: number, vintid: number, ops: number): number;
  kvmVgicMapIsActive(vcpu: Vcpu, vintid: number): boolean;
  kvmVgicResetMappedIrq(vcpu: Vcpu, vintid: number): void;
  kvmVgicSetOwner(vcpu: Vcpu, intid: number, owner: number): number;
  /** A write of ICC_SGI1R_EL1 (`allowGroup1`), ICC_SGI0R_EL1 or ICC_ASGI1R_EL1. */
  vgicV3DispatchSgi(vcpu: Vcpu, lo: number, hi: number, allowGroup1: boolean): void;
}
