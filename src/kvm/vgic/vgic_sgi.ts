/**
 * SGIs that a guest sends by ICC_SGI<n>R_EL1. Mirrors vgic_v3_dispatch_sgi of arch/arm64/kvm/vgic/vgic-mmio-v3.c.
 */
import { SGIR_HI, SGIR_LO } from "../../arm/arch/gic.ts";
import * as listModule from "../../base/list.ts";
import { type Vcpu, VgicIrqLayout } from "../kvm_host.ts";
import * as kvmWords from "../kvm_words.ts";
import * as vgic from "./vgic.ts";
import * as vgicIrq from "./vgic_irq.ts";
import { VgicIrqStatLayout } from "./vgic_stat.ts";

// Of the module itself: what is imported V8 looks up and checks at each use.
const { listAddTail } = listModule;
const { IRQ_WORD: IRQ, KVM_WORD: KVM, VCPU_WORD: CPU } = kvmWords;
const { vgicQueueIrqUnlock } = vgic;
const IRQ_BYTES = VgicIrqLayout.size, STAT_BYTES = VgicIrqStatLayout.size;
const {
  dropIrqRestore,
  irqIsPending,
  irqIsPendingAt,
  kickForIrq,
  kvmVcpuGetMpidrAff3,
  kvmVcpuGetMpidrAffLo,
  noteRaised,
  noteRaisedAlone,
  takeIrqSave,
  vgicGetIrq,
  vgicPutIrq,
} = vgicIrq;
const { INTID, Aff1, TargetList } = SGIR_LO;
const { Aff2, Aff3, IRM } = SGIR_HI;
const INTID_SHIFT = INTID.shift, AFF1_SHIFT = Aff1.shift, AFF3_SHIFT = Aff3.shift;
const INTID_MASK = (1 << INTID.width) - 1, LIST_MASK = (1 << TargetList.width) - 1;
/** Of Aff1 to Aff3. */
const AFF_MASK = (1 << Aff2.width) - 1;

/** Makes one SGI of a vCPU pending, if its group may be reached by the register that was written. */
function raiseSgi(vcpu: Vcpu, sgi: number, allowGroup1: boolean): void {
  if (vcpu.kvm.host.locks.alone) raiseAlone(vcpu, sgi, allowGroup1);
  else raiseLocked(vcpu, sgi, allowGroup1);
}

function raiseLocked(vcpu: Vcpu, sgi: number, allowGroup1: boolean): void {
  const { kvm } = vcpu;
  const irq = vgicGetIrq(kvm, vcpu, sgi);
  if (!irq) return;
  const flags = takeIrqSave(kvm.host, irq);
  if (irq.group === 0 || allowGroup1) {
    noteRaised(kvm, irq, irqIsPending(irq));
    irq.pendingLatch = true;
    vgicQueueIrqUnlock(kvm, irq, flags);
  } else {
    dropIrqRestore(kvm.host, irq, flags);
  }
  vgicPutIrq(kvm, irq);
}

/**
 * The same where nobody can come between (Locks.alone): locks are counted, not taken, and the interrupt is looked at as
 * words of its vCPU.
 */
function raiseAlone(vcpu: Vcpu, sgi: number, allowGroup1: boolean): void {
  const { kvm, words } = vcpu, { host } = kvm, port = host.port(host.currentCpu());
  const irq = CPU.PRIVATE_IRQS + sgi * IRQ.COUNT;
  const flags = port.irqSave();
  host.locks.passedIrqs(0, 1);
  if (words[irq + IRQ.GROUP] !== 0 && !allowGroup1) return port.irqRestore(flags);
  const stats = words[CPU.IRQ_STATS] as number;
  noteRaisedAlone(
    host,
    words,
    irq,
    stats === 0 ? 0 : stats + sgi * STAT_BYTES,
    irqIsPendingAt(words, irq),
  );
  words[irq + IRQ.LATCH] = 1;
  const isListed = words[irq + IRQ.VCPU] !== 0;
  // vgic_target_oracle: of a private interrupt, its vCPU or none.
  const isWanted = words[irq + IRQ.ACTIVE] !== 0 ||
    (words[irq + IRQ.ENABLED] !== 0 && kvm.words[KVM.VGIC_ENABLED] !== 0);
  port.irqRestore(flags);
  if (!isWanted) return;
  if (!isListed) enlist(vcpu, sgi);
  kickForIrq(vcpu);
}

/** Puts it on the ap_list, as {@link vgicQueueIrqUnlock} does. */
function enlist(vcpu: Vcpu, sgi: number): void {
  const { words, base, kvm: { host } } = vcpu, port = host.port(host.currentCpu());
  const flags = port.irqSave();
  host.locks.passedIrqs(1, 1);
  listAddTail(host.memory, base + 4 * CPU.PRIVATE_IRQS + sgi * IRQ_BYTES, base + 4 * CPU.AP_LIST);
  words[CPU.PRIVATE_IRQS + sgi * IRQ.COUNT + IRQ.VCPU] = base;
  port.irqRestore(flags);
}

function broadcast(vcpu: Vcpu, sgi: number, allowGroup1: boolean): void {
  const { vcpus } = vcpu.kvm;
  for (let i = 0; i < vcpus.length; i++) {
    const target = vcpus[i] as Vcpu;
    if (target !== vcpu) raiseSgi(target, sgi, allowGroup1);
  }
}

/**
 * A vCPU has written ICC_SGI1R_EL1 (`allowGroup1`), ICC_SGI0R_EL1 or ICC_ASGI1R_EL1: `lo` and `hi` are
 * the value's halves. With IRM all vCPUs but the writer get the SGI, else those of the target list
 * under the affinity. The range selector is not implemented, as KVM says in ICC_CTLR_EL1.RSS.
 */
export function vgicV3DispatchSgi(vcpu: Vcpu, lo: number, hi: number, allowGroup1: boolean): void {
  const sgi = (lo >>> INTID_SHIFT) & INTID_MASK;
  if ((hi & IRM) !== 0) return broadcast(vcpu, sgi, allowGroup1);
  const affinity = (((lo >>> AFF1_SHIFT) & AFF_MASK) << 8) | ((hi & AFF_MASK) << 16);
  const aff3 = (hi >>> AFF3_SHIFT) & AFF_MASK;
  const { vcpus } = vcpu.kvm;
  for (let i = 0, targets = lo & LIST_MASK; targets !== 0 && i < vcpus.length; i++) {
    const target = vcpus[i] as Vcpu;
    // Aff0 from 16 on is in no list.
    const place = kvmVcpuGetMpidrAffLo(target) - affinity;
    if (place < 0 || place > 15 || ((targets >>> place) & 1) === 0) continue;
    if (kvmVcpuGetMpidrAff3(target) !== aff3) continue;
    targets &= ~(1 << place);
    raiseSgi(target, sgi, allowGroup1);
  }
}
