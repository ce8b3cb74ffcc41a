/**
 * What user space does with a VM's file descriptor. Mirrors kvm_vm_ioctl of virt/kvm/kvm_main.c and
 * kvm_arch_vm_ioctl of arch/arm64/kvm/arm.c.
 *
 * What differs: each call is a method, a failed one an exception.
 */
import { assert } from "../base/errors.ts";
import type { KvmSystem } from "./kvm_system.ts";
import { kvmTimerVcpuInit, kvmTimerVcpuTerminate } from "./arch_timer.ts";
import { kvmRegWritableMask } from "./id_regs.ts";
import { check, KvmError } from "./kvm_error.ts";
import { ERRNO, type Kvm, KVM_MAX_VCPUS, type Vcpu } from "./kvm_host.ts";
import {
  kvmClearDirtyLog,
  kvmFreeMemslots,
  kvmFreeStage2Pgd,
  kvmGetDirtyLog,
  kvmSetMemoryRegion,
} from "./mmu.ts";
import { kvmPmuVcpuDestroy } from "./pmu_emul.ts";
import { kvmArmPvtimeVcpuInit } from "./pvtime.ts";
import type { ExitHandler, VcpuHandle } from "./vcpu_handle.ts";
import { kvmVmIoctlCheckExtension, kvmVmIoctlEnableCap } from "./vcpu_ioctl.ts";
import {
  type KvmDeviceAttr,
  vgicGetAttr,
  vgicHasAttr,
  vgicSetAttr,
} from "./vgic/vgic_kvm_device.ts";

/** KVM_ARM_IRQ_TYPE_*. */
export const IRQ_TYPE = { SPI: 1, PPI: 2 } as const;

/** A VM's file descriptor. */
export class Vm {
  readonly vcpus: VcpuHandle[] = [];
  /** Which of all VMs that the host ever had. */
  readonly id: number;

  constructor(readonly system: KvmSystem, readonly kvm: Kvm) {
    this.id = kvm.state.vmId;
  }

  /**
   * KVM_SET_USER_MEMORY_REGION: slot `id` (0 to 15) is the host pages `pfns` (frame numbers) from guest
   * physical address `baseIpa`; an empty list deletes it. `flags`: KVM_MEM_READONLY,
   * KVM_MEM_LOG_DIRTY_PAGES.
   */
  setUserMemoryRegion(id: number, baseIpa: number, pfns: ArrayLike<number>, flags = 0): void {
    check(
      "KVM_SET_USER_MEMORY_REGION",
      kvmSetMemoryRegion(this.kvm, id, flags, baseIpa, pfns),
    );
  }

  /** KVM_GET_DIRTY_LOG: a bit for each page of slot `id` that the guest has written since the last call. */
  getDirtyLog(id: number): Uint8Array {
    const log = kvmGetDirtyLog(this.kvm, id);
    if (typeof log === "number") throw new KvmError("KVM_GET_DIRTY_LOG", log);
    return log;
  }

  /** KVM_CLEAR_DIRTY_LOG: `pages` pages from `first`, a multiple of 64, count as not written where `mask` says so. */
  clearDirtyLog(id: number, first: number, pages: number, mask: Uint8Array): void {
    check("KVM_CLEAR_DIRTY_LOG", kvmClearDirtyLog(this.kvm, id, first, pages, mask));
  }

  /** KVM_CHECK_EXTENSION: what there is of `cap` ({@link KVM_CAP}), 0 for nothing. */
  checkExtension(cap: number): number {
    return kvmVmIoctlCheckExtension(this.kvm, cap);
  }

  /**
   * KVM_ARM_GET_REG_WRITABLE_MASKS, of one register ({@link sysregKey}): the bits that user space may lower.
   */
  regWritableMask(key: number): bigint {
    return kvmRegWritableMask(key);
  }

  /** KVM_ENABLE_CAP: {@link KVM_CAP}.ARM_SYSTEM_SUSPEND, ARM_NISV_TO_USER, or MANUAL_DIRTY_LOG_PROTECT2 with flags. */
  enableCap(cap: number, arg = 0): void {
    check("KVM_ENABLE_CAP", kvmVmIoctlEnableCap(this.kvm, cap, arg));
  }

  /** KVM_CREATE_VCPU. `onExit` gets its returns to user space. */
  createVcpu(id: number, onExit: ExitHandler): VcpuHandle {
    const { kvm } = this;
    const full = kvm.state.createdVcpus >= kvm.state.maxVcpus;
    if (id < 0 || id >= KVM_MAX_VCPUS || full) throw new KvmError("KVM_CREATE_VCPU", ERRNO.EINVAL);
    if (kvm.vgic.initialized) throw new KvmError("KVM_CREATE_VCPU", ERRNO.EBUSY);
    if (kvm.vcpus.some(({ state }) => state.vcpuId === id)) {
      throw new KvmError("KVM_CREATE_VCPU", ERRNO.EEXIST);
    }
    const handle = this.system.allocateVcpu(kvm, id);
    const { vcpu } = handle;
    handle.onExit = onExit;
    kvmTimerVcpuInit(vcpu);
    kvmArmPvtimeVcpuInit(vcpu);
    check("KVM_CREATE_VCPU", this.system.vgic.kvmVgicVcpuInit(vcpu));
    this.system.memory.st32(kvm.state.vcpus + 4 * vcpu.state.vcpuIdx, vcpu.state.base);
    (kvm.vcpus as Vcpu[]).push(vcpu);
    kvm.state.createdVcpus++;
    kvm.state.onlineVcpus++;
    this.vcpus.push(handle);
    this.system.objectsChanged();
    return handle;
  }

  /** KVM_CREATE_DEVICE of an interrupt controller: `version` 2 or 3, that of the hardware (else ENODEV). */
  createVgic(version = 3): void {
    check("KVM_CREATE_DEVICE", this.system.vgic.kvmVgicCreate(this.kvm, version));
  }

  /** KVM_CREATE_IRQCHIP: the old way to a GICv2. */
  createIrqchip(): void {
    check("KVM_CREATE_IRQCHIP", this.system.vgic.kvmVgicCreate(this.kvm, 2));
  }

  /** KVM_SET_DEVICE_ATTR of the vgic. */
  setVgicAttr(group: number, attr: bigint, value: bigint): void {
    check("KVM_SET_DEVICE_ATTR", vgicSetAttr(this.kvm, { group, attr, value }));
  }

  /** KVM_GET_DEVICE_ATTR of the vgic. */
  getVgicAttr(group: number, attr: bigint): bigint {
    const request: KvmDeviceAttr = { group, attr, value: 0n };
    check("KVM_GET_DEVICE_ATTR", vgicGetAttr(this.kvm, request));
    return request.value;
  }

  /** KVM_HAS_DEVICE_ATTR of the vgic. */
  hasVgicAttr(group: number, attr: bigint): boolean {
    return vgicHasAttr(this.kvm, { group, attr, value: 0n }) === 0;
  }

  /**
   * KVM_IRQ_LINE: the level of a line. `type` is one of {@link IRQ_TYPE}; `num` an SPI's INTID (from 32),
   * or a PPI's (16 to 31) of the vCPU with index `vcpuIdx`.
   */
  irqLine(type: number, vcpuIdx: number, num: number, level: boolean): void {
    const { kvm, system } = this;
    const ppi = type === IRQ_TYPE.PPI;
    const vcpu = kvm.vcpus[ppi ? vcpuIdx : 0];
    const last = 31 + kvm.vgic.nrSpis;
    const valid = ppi ? num >= 16 && num < 32 : type === IRQ_TYPE.SPI && num >= 32 && num <= last;
    if (vcpu === undefined || !valid) throw new KvmError("KVM_IRQ_LINE", ERRNO.EINVAL);
    system.kernel.asHost(() => {
      const { vmId } = kvm.state, { vcpuId } = vcpu.state;
      system.trace.emit("kvm_irq_line", vmId, vcpuIdx, type, vcpuIdx, num, level ? 1 : 0);
      check("KVM_IRQ_LINE", system.vgic.kvmVgicInjectIrq(kvm, vcpuId, num, level, 0));
    });
  }

  /** Gets every vCPU out to user space ({@link VcpuHandle.kick}): before a reset, or closing the VM. */
  stop(): void {
    for (const vcpu of this.vcpus) if (vcpu.running) vcpu.kick();
  }

  /** Closes the VM: all of its vCPUs must be in user space. Its pages are the caller's. */
  destroy(): void {
    const { kvm, system } = this;
    assert(this.vcpus.every((v) => !v.running), "a VM is closed while a vCPU runs");
    system.vgic.kvmVgicDestroy(kvm);
    for (const { vcpu } of this.vcpus) {
      kvmTimerVcpuTerminate(vcpu);
      kvmPmuVcpuDestroy(vcpu);
      system.releaseVcpu(vcpu);
    }
    kvmFreeMemslots(kvm);
    kvmFreeStage2Pgd(kvm);
    system.releaseVm(this);
  }
}
