/**
 * What somebody at the dashboard does to a live vgic. No kernel file: user space of a real KVM reaches
 * the registers only while no vCPU runs (vgic_kvm_device.ts).
 */
import { type Kvm, KVM_REQ, kvmMakeRequest, type Vcpu } from "../kvm_host.ts";
import { ERRNO } from "./errno.ts";
import { vgicQueueIrqUnlock } from "./vgic.ts";
import {
  kvmVcpuGetMpidrAff,
  takeIrqSave,
  vcpuAt,
  vgicGetIrq,
  vgicInitialized,
  vgicPutIrq,
} from "./vgic_irq.ts";

/**
 * Routes SPI `intid` to `target`, as a guest's write of GICD_IROUTER<n> does; a vCPU that has it on its
 * ap_list is kicked, so that it moves now and not at the next exit. An active one moves after its end.
 * Returns 0, -EBUSY before initialisation, -EINVAL for what is no SPI of the VM.
 */
export function vgicRouteSpi(kvm: Kvm, intid: number, target: Vcpu): number {
  if (!vgicInitialized(kvm)) return ERRNO.EBUSY;
  const irq = vgicGetIrq(kvm, undefined, intid);
  if (!irq) return ERRNO.EINVAL;
  const flags = takeIrqSave(kvm.host, irq);
  const holder = irq.vcpu;
  irq.mpidr = kvmVcpuGetMpidrAff(target) % 2 ** 24;
  irq.targetVcpu = target.state.base;
  vgicQueueIrqUnlock(kvm, irq, flags);
  if (holder !== 0 && holder !== target.state.base) {
    kvmMakeRequest(vcpuAt(kvm, holder), KVM_REQ.IRQ_PENDING);
    kvm.host.kvmVcpuKick(vcpuAt(kvm, holder));
  }
  vgicPutIrq(kvm, irq);
  return 0;
}
