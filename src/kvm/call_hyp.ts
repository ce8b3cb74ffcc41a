/**
 * How the host kernel has EL2 do something: the kernel's kvm_call_hyp. On a VHE host, which is at EL2
 * itself, it is a function call; otherwise a hypercall (call_hyp_nvhe.ts).
 */
import type { El2Port } from "../arm/el2_port.ts";
import { kvmAdjustPc } from "./hyp/exception.ts";
import {
  __vgicV3GetGicConfig,
  __vgicV3InitLrs,
  __vgicV3ReadVmcr,
  __vgicV3RestoreAprs,
  __vgicV3SaveAprs,
  __vgicV3WriteVmcr,
} from "./hyp/vgic_v3_sr.ts";
import { vcpuRunEnter, vcpuRunExit } from "./hyp/vhe/switch.ts";
import { kvmTimerSetCntvoff } from "./hyp/vhe/timer_sr.ts";
import {
  kvmFlushCpuContext,
  kvmFlushVmContext,
  kvmTlbFlushVmid,
  kvmTlbFlushVmidIpa,
} from "./hyp/vhe/tlb.ts";
import { R } from "../arm/arch/sysregs.ts";
import type { KvmState, Vcpu, VgicV3CpuIf } from "./kvm_host.ts";

/** The functions at EL2, by the kernel's names. `port` is the current CPU's. */
export interface CallHyp {
  /** The host kernel is at EL2 (has_vhe). */
  readonly vhe: boolean;
  /** __kvm_vcpu_run up to the guest: the CPU is in it on return. */
  vcpuRunEnter(port: El2Port, vcpu: Vcpu): void;
  /**
   * The rest, with the ISB after it, once the guest has been left through the vector at `vectorOffset`: an exit code,
   * or REENTERED.
   */
  vcpuRunExit(port: El2Port, vcpu: Vcpu, vectorOffset: number): number;
  kvmAdjustPc(port: El2Port, vcpu: Vcpu): void;
  kvmFlushVmContext(port: El2Port): void;
  kvmFlushCpuContext(port: El2Port, kvm: KvmState): void;
  kvmTlbFlushVmid(port: El2Port, kvm: KvmState): void;
  kvmTlbFlushVmidIpa(port: El2Port, kvm: KvmState, ipa: number, level: number): void;
  kvmTimerSetCntvoff(port: El2Port, lo: number, hi: number): void;
  /** MDCR_EL2 (__kvm_get_mdcr_el2). */
  kvmGetMdcrEl2(port: El2Port): number;
  vgicV3GetGicConfig(port: El2Port): number;
  vgicV3InitLrs(port: El2Port): void;
  vgicV3ReadVmcr(port: El2Port): number;
  vgicV3WriteVmcr(port: El2Port, vmcr: number): void;
  vgicV3SaveAprs(port: El2Port, cpuIf: VgicV3CpuIf): void;
  vgicV3RestoreAprs(port: El2Port, cpuIf: VgicV3CpuIf): void;
  /** kvm_share_hyp: EL2 may work on the `size` bytes at `address` of the shared memory. False when memory is out. */
  shareHyp(address: number, size: number): boolean;
}

/** kvm_call_hyp of a VHE host. */
export const CALL_HYP_VHE: CallHyp = {
  vhe: true,
  vcpuRunEnter,
  vcpuRunExit,
  kvmAdjustPc,
  kvmFlushVmContext,
  kvmFlushCpuContext,
  kvmTlbFlushVmid,
  kvmTlbFlushVmidIpa,
  kvmTimerSetCntvoff,
  kvmGetMdcrEl2: (port) => port.readLo(R.MDCR_EL2),
  vgicV3GetGicConfig: __vgicV3GetGicConfig,
  vgicV3InitLrs: __vgicV3InitLrs,
  vgicV3ReadVmcr: __vgicV3ReadVmcr,
  vgicV3WriteVmcr: __vgicV3WriteVmcr,
  vgicV3SaveAprs: __vgicV3SaveAprs,
  vgicV3RestoreAprs: __vgicV3RestoreAprs,
  shareHyp: () => true,
};
