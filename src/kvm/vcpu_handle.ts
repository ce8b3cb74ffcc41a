/**
 * What user space does with a vCPU's file descriptor. Mirrors kvm_vcpu_ioctl of virt/kvm/kvm_main.c and
 * kvm_arch_vcpu_ioctl of arch/arm64/kvm/arm.c.
 *
 * What differs: each call is a method, a failed one an exception; KVM_RUN does not block its caller,
 * what it returns goes to a handler.
 */
import type { KvmSystem } from "./kvm_system.ts";
import { kvmArchVcpuIoctlSetGuestDebug, type KvmGuestDebug } from "./debug.ts";
import { kvmArmGetReg, kvmArmSetReg, kvmRegList } from "./guest.ts";
import { check, KvmError } from "./kvm_error.ts";
import { ERRNO, KVM_REQ, kvmCheckRequest, type Vcpu } from "./kvm_host.ts";
import {
  kvmArmVcpuGetAttr,
  kvmArmVcpuGetEvents,
  kvmArmVcpuHasAttr,
  kvmArmVcpuInit,
  kvmArmVcpuSetAttr,
  kvmArmVcpuSetEvents,
  type KvmVcpuEvents,
  kvmVcpuSetMpState,
  VCPU_FEATURE,
} from "./vcpu_ioctl.ts";

/**
 * A return to user space: `ret` is KVM_RUN's result (0, or a negative errno), the rest is in
 * `vcpu.vcpu.run`. The handler completes what the exit asks for; true runs the vCPU again.
 */
export type ExitHandler = (vcpu: VcpuHandle, ret: number) => boolean;

/** A vCPU's file descriptor. */
export class VcpuHandle {
  onExit: ExitHandler = () => false;

  constructor(readonly system: KvmSystem, readonly vcpu: Vcpu) {}

  /** Whether a KVM_RUN is under way. */
  get running(): boolean {
    return this.vcpu.state.running;
  }

  #mustNotRun(call: string): void {
    if (this.running) throw new KvmError(call, ERRNO.EBUSY);
  }

  /** KVM_ARM_VCPU_INIT: `features` are bits of {@link VCPU_FEATURE}. Resets the vCPU. */
  init(features: readonly number[] = [VCPU_FEATURE.PSCI_0_2]): void {
    this.#mustNotRun("KVM_ARM_VCPU_INIT");
    const mask = features.reduce((bits, bit) => bits | (1 << bit), 0);
    check("KVM_ARM_VCPU_INIT", kvmArmVcpuInit(this.vcpu, mask, () => this.#reset()));
  }

  #reset(): void {
    this.system.runner.kvmResetVcpu(this.vcpu);
  }

  /** KVM_GET_MP_STATE: one of {@link MP_STATE}. */
  getMpState(): number {
    return this.vcpu.state.mpState;
  }

  /** KVM_SET_MP_STATE. */
  setMpState(mpState: number): void {
    this.#mustNotRun("KVM_SET_MP_STATE");
    check("KVM_SET_MP_STATE", kvmVcpuSetMpState(this.vcpu, mpState));
  }

  #mustBeInitialised(call: string): void {
    this.#mustNotRun(call);
    if (!this.vcpu.state.targetInitialised) throw new KvmError(call, ERRNO.ENOEXEC);
  }

  /** KVM_SET_GUEST_DEBUG: from the next KVM_RUN on. */
  setGuestDebug(debug: KvmGuestDebug): void {
    this.#mustNotRun("KVM_SET_GUEST_DEBUG");
    check("KVM_SET_GUEST_DEBUG", kvmArchVcpuIoctlSetGuestDebug(this.vcpu, debug));
  }

  /** KVM_GET_VCPU_EVENTS. */
  getVcpuEvents(): KvmVcpuEvents {
    this.#mustBeInitialised("KVM_GET_VCPU_EVENTS");
    return kvmArmVcpuGetEvents(this.vcpu);
  }

  /** KVM_SET_VCPU_EVENTS. */
  setVcpuEvents(events: Partial<KvmVcpuEvents>): void {
    this.#mustBeInitialised("KVM_SET_VCPU_EVENTS");
    check("KVM_SET_VCPU_EVENTS", kvmArmVcpuSetEvents(this.vcpu, events));
  }

  /** KVM_SET_DEVICE_ATTR of a vCPU: `group` is one of {@link VCPU_ATTR}. */
  setAttr(group: number, attr: number, value: bigint): void {
    this.#mustNotRun("KVM_SET_DEVICE_ATTR");
    check("KVM_SET_DEVICE_ATTR", kvmArmVcpuSetAttr(this.vcpu, group, attr, value));
  }

  /** KVM_GET_DEVICE_ATTR of a vCPU. */
  getAttr(group: number, attr: number): bigint {
    this.#mustNotRun("KVM_GET_DEVICE_ATTR");
    const value = kvmArmVcpuGetAttr(this.vcpu, group, attr);
    if (typeof value === "number") throw new KvmError("KVM_GET_DEVICE_ATTR", value);
    return value;
  }

  /** KVM_HAS_DEVICE_ATTR of a vCPU. */
  hasAttr(group: number, attr: number): boolean {
    return kvmArmVcpuHasAttr(this.vcpu, group, attr);
  }

  /** KVM_RUN: sets the vCPU's thread in motion. */
  run(): void {
    this.#mustNotRun("KVM_RUN");
    this.vcpu.run.immediateExit = false;
    this.vcpu.state.running = true;
    const { kernel } = this.system;
    kernel.asHost(() => kernel.scheduler.wake(kernel.threads.at(this.vcpu.state.thread)));
  }

  /** Called by the vCPU's thread when KVM_RUN returns. */
  exited(ret: number): boolean {
    return this.onExit(this, ret);
  }

  /** Sets `immediate_exit` and gets the vCPU out: KVM_RUN returns EINTR. {@link run} clears it. */
  kick(): void {
    this.system.kernel.asHost(() => {
      this.vcpu.run.immediateExit = true;
      this.system.kvmVcpuKick(this.vcpu);
    });
  }

  /** The vCPU's thread may run on the physical CPUs of `mask` only (0: all); takes it there if it is elsewhere. */
  setAffinity(mask: number): void {
    const { kernel } = this.system;
    kernel.asHost(() =>
      kernel.scheduler.setAffinity(kernel.threads.at(this.vcpu.state.thread), mask)
    );
  }

  /** A reset that PSCI owes the vCPU comes before user space looks at its registers. */
  #resetOwed(call: string): void {
    this.#mustBeInitialised(call);
    if (kvmCheckRequest(this.vcpu, KVM_REQ.VCPU_RESET)) this.#reset();
  }

  /** KVM_GET_ONE_REG. */
  getOneReg(id: bigint): bigint {
    this.#resetOwed("KVM_GET_ONE_REG");
    const value = kvmArmGetReg(this.vcpu, id);
    if (typeof value === "number") throw new KvmError("KVM_GET_ONE_REG", value);
    return value;
  }

  /** KVM_SET_ONE_REG. */
  setOneReg(id: bigint, value: bigint): void {
    this.#resetOwed("KVM_SET_ONE_REG");
    check("KVM_SET_ONE_REG", kvmArmSetReg(this.vcpu, id, value));
  }

  /** KVM_GET_REG_LIST. */
  regList(): readonly bigint[] {
    this.#mustBeInitialised("KVM_GET_REG_LIST");
    return kvmRegList(this.vcpu);
  }
}
