/**
 * TLB maintenance for a VM. Mirrors arch/arm64/kvm/hyp/nvhe/tlb.c: EL1's regime is the operations'
 * object, so that all it takes is the VM's stage 2 in place.
 */
import type { El2Port } from "../../../arm/el2_port.ts";
import { R } from "../../../arm/arch/sysregs.ts";
import type { KvmState } from "../../kvm_host.ts";
import { loadStage2 } from "../switch.ts";

/** __load_host_stage2: there is none. */
export function loadHostStage2(port: El2Port): void {
  port.write(R.VTTBR_EL2, 0, 0);
}

function switchToGuest(port: El2Port, kvm: KvmState): void {
  loadStage2(port, kvm);
  port.isb();
}

/** __kvm_tlb_flush_vmid_ipa: the stage-2 entry of `ipa`, and all of stage 1, since its addresses are not known. */
export function kvmTlbFlushVmidIpa(port: El2Port, kvm: KvmState, ipa: number): void {
  port.dsb();
  switchToGuest(port, kvm);
  const page = Math.floor(ipa / 4096);
  port.tlbi("IPAS2E1IS", page >>> 0, Math.floor(page / 0x1_0000_0000));
  // Stage 2 must be done first: a walk could bring the old combined entry back.
  port.dsb();
  port.tlbi("VMALLE1IS", 0, 0);
  port.dsb();
  port.isb();
  loadHostStage2(port);
}

/** __kvm_tlb_flush_vmid: everything of the VM. */
export function kvmTlbFlushVmid(port: El2Port, kvm: KvmState): void {
  port.dsb();
  switchToGuest(port, kvm);
  port.tlbi("VMALLS12E1IS", 0, 0);
  port.dsb();
  port.isb();
  loadHostStage2(port);
}

/** __kvm_flush_cpu_context: stage 1 of the VM on this CPU, before another of its vCPUs runs here. */
export function kvmFlushCpuContext(port: El2Port, kvm: KvmState): void {
  switchToGuest(port, kvm);
  port.tlbi("VMALLE1", 0, 0);
  port.ic("IALLU", 0, 0);
  port.dsb();
  port.isb();
  loadHostStage2(port);
}

/** __kvm_flush_vm_context: all VMIDs on all CPUs, when the VMIDs start over. */
export function kvmFlushVmContext(port: El2Port): void {
  port.dsb();
  port.tlbi("ALLE1IS", 0, 0);
  port.dsb();
}
