/**
 * The core of the vgic: injection, and what timers and devices do with their interrupts. Mirrors
 * arch/arm64/kvm/vgic/vgic.c.
 *
 * What differs: no LPIs, no GICv4. What depends on the hardware's version is in vgic_cpuif.ts, the way
 * between ap_list and list registers in vgic_ap_list.ts, vgicGetIrq and what concerns a single interrupt in
 * vgic_irq.ts. Latencies and flushes are counted.
 *
 * Locking, outermost first: kvm lock, vcpu mutex, config lock, ap_list lock, irq lock. Interrupts are
 * off from the ap_list lock inward, since an injection may come from an interrupt handler. Of two
 * ap_list locks, the lower-numbered vCPU's is taken first; whoever holds an inner lock and needs an
 * outer one drops, takes both anew, and checks again everything it had seen.
 *
 * An ap_list holds what is active or pending and enabled. Only its vCPU's own thread takes interrupts
 * off it (vgicPruneApList), so that an interrupt stays findable while it sits in a list register;
 * anyone may add. While the guest runs, the state in the list registers is the hardware's.
 */
import { assert } from "../../base/errors.ts";
import { TP } from "../trace.ts";
import { listAddTail, listNext } from "../../base/list.ts";
import { ERRNO } from "./errno.ts";
import { type Kvm, KvmLayout, type Vcpu, type VgicIrq } from "../kvm_host.ts";
import { vgicGetVmcr } from "./vgic_cpuif.ts";
import * as vgicIrq from "./vgic_irq.ts";

export { kvmVgicFlushHwstate, kvmVgicSyncHwstate } from "./vgic_ap_list.ts";
export {
  kvmVgicLoad,
  kvmVgicPut,
  kvmVgicVmcrSync,
  vgicGetVmcr,
  vgicSetVmcr,
} from "./vgic_cpuif.ts";
export {
  irqIsPending,
  onGuestAck,
  onGuestEoi,
  onGuestVector,
  vgicGetIrq,
  vgicIrqHandleResampling,
  vgicIrqSetPhysActive,
  vgicPutIrq,
  vgicTargetOracle,
} from "./vgic_irq.ts";

// Of the module itself: what is imported V8 looks up and checks at each use.
const {
  AP_LIST,
  dropApListRestore,
  dropIrq,
  dropIrqRestore,
  irqIsPending,
  irqIsPpi,
  irqOfNode,
  kickForIrq,
  noteRaised,
  passIrq,
  takeApListSave,
  takeIrq,
  takeIrqSave,
  vcpuAt,
  VGIC_CONFIG_LEVEL,
  VGIC_MODEL_V2,
  vgicGetIrq,
  vgicInitialized,
  vgicPutIrq,
  vgicTargetOracle,
  vgicValidSpi,
} = vgicIrq;

/**
 * Whether an injection changes anything: a level one its level, an edge one a rising edge; and only by
 * its owner.
 */
function vgicValidateInjection(irq: VgicIrq, level: boolean, owner: number): boolean {
  if (irq.owner !== owner) return false;
  return irq.config === VGIC_CONFIG_LEVEL ? irq.lineLevel !== level : level;
}

/**
 * Puts the interrupt on the ap_list it belongs to, if any. Entered with the irq lock held by
 * takeIrqSave (`flags`), left with it dropped. True when it was queued.
 */
export function vgicQueueIrqUnlock(kvm: Kvm, irq: VgicIrq, flags: number): boolean {
  const host = kvm.host;
  for (;;) {
    const target = vgicTargetOracle(kvm, irq);
    if (irq.vcpu !== 0 || target === 0) {
      dropIrqRestore(host, irq, flags);
      // Already listed: an edge interrupt may have been ended in its list register without an exit,
      // so only a look by the vCPU's own thread can present this new one.
      if (target !== 0) kickForIrq(vcpuAt(kvm, target));
      return false;
    }
    // The ap_list lock is the outer one: drop, take both, and see whether all is still as it was.
    dropIrqRestore(host, irq, flags);
    const vcpu = vcpuAt(kvm, target);
    flags = takeApListSave(vcpu);
    takeIrq(host, irq);
    if (irq.vcpu === 0 && vgicTargetOracle(kvm, irq) === target) {
      listAddTail(host.memory, irq.base + AP_LIST, vcpu.vgic.apListHead);
      irq.vcpu = target;
      dropIrq(host, irq);
      dropApListRestore(vcpu, flags);
      kickForIrq(vcpu);
      return true;
    }
    dropIrq(host, irq);
    dropApListRestore(vcpu, flags);
    flags = takeIrqSave(host, irq);
  }
}

/** vgic_lazy_init: a GICv2 that user space did not initialise is now; any other must have been. */
function vgicLazyInit(kvm: Kvm): number {
  if (vgicInitialized(kvm)) return 0;
  if (kvm.vgic.vgicModel !== VGIC_MODEL_V2) return ERRNO.EBUSY;
  const lock = kvm.state.base + KvmLayout.offset.configLock;
  return kvm.host.locks.with("config", lock, () => kvm.host.vgic.vgicInit(kvm));
}

/**
 * A device's line changes: `level` true raises a level line or makes an edge, false lowers a level
 * line and means nothing for an edge interrupt.
 *
 * `cpuid` is the vCPU's index, for private interrupts; `owner` the cookie set by kvmVgicSetOwner, 0
 * from user space. Returns 0, -EBUSY before the vgic is initialised, -EINVAL for what does not exist.
 */
export function kvmVgicInjectIrq(
  kvm: Kvm,
  cpuid: number,
  intid: number,
  level: boolean,
  owner: number,
): number {
  kvm.host.trace.record(
    TP.vgic_update_irq_pending,
    kvm.state.vmId,
    cpuid,
    cpuid,
    intid,
    level ? 1 : 0,
  );
  const ret = vgicLazyInit(kvm);
  if (ret) return ret;
  const irq = vgicGetIrq(kvm, kvm.vcpus[cpuid], intid);
  if (!irq) return ERRNO.EINVAL;
  // At each vcpu_load, that is what the levels of the timers are.
  if (!vgicValidateInjection(irq, level, owner) && passIrq(kvm.host, irq)) {
    vgicPutIrq(kvm, irq);
    return 0;
  }

  const flags = takeIrqSave(kvm.host, irq);
  if (!vgicValidateInjection(irq, level, owner)) {
    dropIrqRestore(kvm.host, irq, flags);
    vgicPutIrq(kvm, irq);
    return 0;
  }
  const wasPending = irqIsPending(irq);
  if (irq.config === VGIC_CONFIG_LEVEL) irq.lineLevel = level;
  else irq.pendingLatch = true;
  if (level) noteRaised(kvm, irq, wasPending);
  vgicQueueIrqUnlock(kvm, irq, flags);
  vgicPutIrq(kvm, irq);
  return 0;
}

/** Runs `body` on an interrupt of the vCPU with its lock held. */
function withIrq<T>(vcpu: Vcpu, intid: number, body: (irq: VgicIrq) => T): T {
  const irq = vgicGetIrq(vcpu.kvm, vcpu, intid);
  assert(irq !== undefined, `no interrupt ${intid}`);
  const flags = takeIrqSave(vcpu.kvm.host, irq);
  const result = body(irq);
  dropIrqRestore(vcpu.kvm.host, irq, flags);
  vgicPutIrq(vcpu.kvm, irq);
  return result;
}

/**
 * Ties a virtual interrupt to a physical one: its deactivation by the guest deactivates `hwIntid`.
 * `ops`: one of IRQ_OPS (arm_vgic.ts). Returns 0.
 */
export function kvmVgicMapPhysIrq(
  vcpu: Vcpu,
  hwIntid: number,
  intid: number,
  ops: number,
): number {
  withIrq(vcpu, intid, (irq) => {
    irq.hw = true;
    irq.hwIntid = hwIntid;
    irq.ops = ops;
  });
  return 0;
}

/** Unties it. Returns 0, or -EAGAIN before the vgic is initialised. */
export function kvmVgicUnmapPhysIrq(vcpu: Vcpu, intid: number): number {
  if (!vgicInitialized(vcpu.kvm)) return ERRNO.EAGAIN;
  withIrq(vcpu, intid, (irq) => {
    irq.hw = false;
    irq.hwIntid = 0;
    irq.ops = 0;
  });
  return 0;
}

/** At a VM's reset: a mapped interrupt is neither active nor pending. */
export function kvmVgicResetMappedIrq(vcpu: Vcpu, intid: number): void {
  withIrq(vcpu, intid, (irq) => {
    if (!irq.hw) return;
    irq.active = false;
    irq.pendingLatch = false;
    irq.lineLevel = false;
    irq.raisedAtNs = 0;
  });
}

/** Whether the guest has the mapped interrupt active. */
export function kvmVgicMapIsActive(vcpu: Vcpu, intid: number): boolean {
  const { kvm } = vcpu;
  if (!vgicInitialized(kvm)) return false;
  const irq = vgicGetIrq(kvm, vcpu, intid);
  assert(irq !== undefined, "a mapped interrupt that is none of the VM's");
  const passed = passIrq(kvm.host, irq);
  const flags = passed ? 0 : takeIrqSave(kvm.host, irq);
  const active = irq.hw && irq.active;
  if (!passed) dropIrqRestore(kvm.host, irq, flags);
  vgicPutIrq(kvm, irq);
  return active;
}

/**
 * Reserves a PPI or SPI for an in-kernel device; from then on only injections with the same cookie
 * count. Returns 0, -EAGAIN before initialisation, -EINVAL, -EEXIST when another one has it.
 */
export function kvmVgicSetOwner(vcpu: Vcpu, intid: number, owner: number): number {
  if (!vgicInitialized(vcpu.kvm)) return ERRNO.EAGAIN;
  if (!irqIsPpi(intid) && !vgicValidSpi(vcpu.kvm, intid)) return ERRNO.EINVAL;
  return withIrq(vcpu, intid, (irq) => {
    if (irq.owner !== 0 && irq.owner !== owner) return ERRNO.EEXIST;
    irq.owner = owner;
    return 0;
  });
}

/** Whether an interrupt waits that would wake the vCPU: pending, enabled, not active, above its mask. */
export function kvmVgicVcpuPendingIrq(vcpu: Vcpu): boolean {
  const { kvm } = vcpu;
  if (!kvm.vgic.enabled) return false;
  const { pmr } = vgicGetVmcr(vcpu);
  const memory = kvm.host.memory;
  const flags = takeApListSave(vcpu);
  const head = vcpu.vgic.apListHead;
  let pending = false;
  for (let at = listNext(memory, head); at !== head && !pending; at = listNext(memory, at)) {
    const irq = irqOfNode(memory, at);
    takeIrq(kvm.host, irq);
    pending = irqIsPending(irq) && irq.enabled && !irq.active && irq.priority < pmr;
    dropIrq(kvm.host, irq);
  }
  dropApListRestore(vcpu, flags);
  return pending;
}

/** Kicks every vCPU that has something to take. */
export function vgicKickVcpus(kvm: Kvm): void {
  for (const vcpu of kvm.vcpus) if (kvmVgicVcpuPendingIrq(vcpu)) kickForIrq(vcpu);
}
