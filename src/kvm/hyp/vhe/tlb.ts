/**
 * TLB maintenance for a VM. Mirrors arch/arm64/kvm/hyp/vhe/tlb.c: with TGE set the operations would
 * act on the host's regime, so it is cleared, with the VM's stage 2 in place, around them.
 */
import type { El2Port } from "../../../arm/el2_port.ts";
import { HCR, HCR_HI } from "../../../arm/arch/fields.ts";
import { R } from "../../../arm/arch/sysregs.ts";
import type { KvmState } from "../../kvm_host.ts";
import { loadStage2 } from "../switch.ts";

/** HCR_HOST_VHE_FLAGS. */
export const HCR_HOST_VHE_LO = (HCR.RW | HCR.TGE) >>> 0;
export const HCR_HOST_VHE_HI = HCR_HI.E2H;

function switchToGuest(port: El2Port, kvm: KvmState): number {
  const flags = port.irqSave();
  loadStage2(port, kvm);
  port.write(R.HCR_EL2, (port.readLo(R.HCR_EL2) & ~HCR.TGE) >>> 0, port.readHi(R.HCR_EL2));
  port.isb();
  return flags;
}

function switchToHost(port: El2Port, flags: number): void {
  port.write(R.VTTBR_EL2, 0, 0);
  port.write(R.HCR_EL2, HCR_HOST_VHE_LO, HCR_HOST_VHE_HI);
  port.isb();
  port.irqRestore(flags);
}

/** __kvm_tlb_flush_vmid_ipa: the stage-2 entry of `ipa`, and all of stage 1, since its addresses are not known. */
export function kvmTlbFlushVmidIpa(port: El2Port, kvm: KvmState, ipa: number): void {
  port.dsb();
  const flags = switchToGuest(port, kvm);
  const page = Math.floor(ipa / 4096);
  port.tlbi("IPAS2E1IS", page >>> 0, Math.floor(page / 0x1_0000_0000));
  // Stage 2 must be done first: a walk could bring the old combined entry back.
  port.dsb();
  port.tlbi("VMALLE1IS", 0, 0);
  port.dsb();
  port.isb();
  switchToHost(port, flags);
}

/** __kvm_tlb_flush_vmid: everything of the VM. */
export function kvmTlbFlushVmid(port: El2Port, kvm: KvmState): void {
  port.dsb();
  const flags = switchToGuest(port, kvm);
  port.tlbi("VMALLS12E1IS", 0, 0);
  port.dsb();
  port.isb();
  switchToHost(port, flags);
}

/** __kvm_flush_cpu_context: stage 1 of the VM on this CPU, before another of its vCPUs runs here. */
export function kvmFlushCpuContext(port: El2Port, kvm: KvmState): void {
  const flags = switchToGuest(port, kvm);
  port.tlbi("VMALLE1", 0, 0);
  port.ic("IALLU", 0, 0);
  port.dsb();
  port.isb();
  switchToHost(port, flags);
}

/** __kvm_flush_vm_context: all VMIDs on all CPUs, when the VMIDs start over. */
export function kvmFlushVmContext(port: El2Port): void {
  port.dsb();
  port.tlbi("ALLE1IS", 0, 0);
  port.dsb();
}
