/**
 * The core of the vgic: injection, the ap_lists, and moving interrupts between them and the list
 * registers. Mirrors arch/arm64/kvm/vgic/vgic.c.
 *
 * What differs: no LPIs, no GICv4. What depends on the hardware's version is in vgic_cpuif.ts,
 * vgicGetIrq and what concerns a single interrupt in vgic_irq.ts. Latencies and flushes are counted.
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
import { assert, InternalError } from "../../base/errors.ts";
import { TP } from "../trace.ts";
import { add53 } from "../../base/memory.ts";
import { listAddTail, listDel, listEmpty, listNext, listSort } from "../../base/list.ts";
import { ERRNO } from "./errno.ts";
import * as kvmHost from "../kvm_host.ts";
import { type Kvm, KvmLayout, type Vcpu, type VgicIrq, VgicIrqLayout } from "../kvm_host.ts";
import { vgicGlobal } from "./vgic_global.ts";
import * as vgicIrq from "./vgic_irq.ts";
import { VgicCpuStatLayout } from "./vgic_stat.ts";
import * as vgicCpuif from "./vgic_cpuif.ts";

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
} from "./vgic_irq.ts";

// Of the module itself: what is imported V8 looks up and checks at each use.
const { KVM_REQ, kvmMakeRequest } = kvmHost;
const {
  dropApList,
  dropApListRestore,
  dropIrq,
  dropIrqRestore,
  irqIsPending,
  irqIsPpi,
  irqOfNode,
  noteRaised,
  passIrq,
  takeApList,
  takeApListSave,
  takeIrq,
  takeIrqSave,
  vcpuAt,
  VGIC_CONFIG_LEVEL,
  VGIC_MODEL_V2,
  vgicGetIrq,
  vgicInitialized,
  vgicIrqGetLrCount,
  vgicPutIrq,
  vgicValidSpi,
} = vgicIrq;
const {
  canAccessVgicFromKernel,
  setUsedLrs,
  usedLrs,
  vgicClearLr,
  vgicFoldLrState,
  vgicGetVmcr,
  vgicPopulateLr,
  vgicRestoreState,
  vgicSaveState,
  vgicSetUnderflow,
} = vgicCpuif;

const AP_LIST = VgicIrqLayout.offset.apList;

const STAT = VgicCpuStatLayout.offset;

/** Adds to a counter of the vCPU's {@link VgicCpuStatLayout}, given by its offset. */
function count(vcpu: Vcpu, counter: number, by = 1): void {
  const base = vcpu.vgic.cpuStat;
  if (base !== 0) add53(vcpu.kvm.host.memory.u32, (base + counter) >>> 2, by);
}

/**
 * The vCPU (its address) whose ap_list the interrupt belongs on now, or 0 for none: an active one stays
 * where it is, a pending and enabled one goes to its target while the distributor is on. Requires the
 * irq lock.
 */
export function vgicTargetOracle(kvm: Kvm, irq: VgicIrq): number {
  if (irq.active) return irq.vcpu !== 0 ? irq.vcpu : irq.targetVcpu;
  if (irq.enabled && irqIsPending(irq)) return kvm.vgic.enabled ? irq.targetVcpu : 0;
  return 0;
}

function comparePendingPriority(a: VgicIrq, b: VgicIrq): number {
  if (a.active || b.active) return Number(b.active) - Number(a.active);
  const pendingA = a.enabled && irqIsPending(a);
  const pendingB = b.enabled && irqIsPending(b);
  if (!pendingA || !pendingB) return Number(pendingB) - Number(pendingA);
  return a.priority - b.priority;
}

/**
 * Order of an ap_list, which is the order in which list registers are filled: active ones first (their
 * deactivation cannot be trapped, so they must be in a list register), then pending and enabled ones
 * by priority, then the rest. Negative: `a` first; 0: as they are. Takes both irq locks.
 */
function vgicIrqCmp(kvm: Kvm, a: VgicIrq, b: VgicIrq): number {
  if (a === b) return 0;
  takeIrq(kvm.host, a);
  takeIrq(kvm.host, b, 1);
  const order = comparePendingPriority(a, b);
  dropIrq(kvm.host, b);
  dropIrq(kvm.host, a);
  return order;
}

/** Requires the ap_list lock. */
function vgicSortApList(vcpu: Vcpu): void {
  const memory = vcpu.kvm.host.memory;
  listSort(
    memory,
    vcpu.vgic.apListHead,
    (a, b) => vgicIrqCmp(vcpu.kvm, irqOfNode(memory, a), irqOfNode(memory, b)),
  );
}

/**
 * Whether an injection changes anything: a level one its level, an edge one a rising edge; and only by
 * its owner.
 */
function vgicValidateInjection(irq: VgicIrq, level: boolean, owner: number): boolean {
  if (irq.owner !== owner) return false;
  return irq.config === VGIC_CONFIG_LEVEL ? irq.lineLevel !== level : level;
}

/** Makes the vCPU look at its interrupts, wherever it is. */
function kickForIrq(vcpu: Vcpu): void {
  kvmMakeRequest(vcpu, KVM_REQ.IRQ_PENDING);
  vcpu.kvm.host.kvmVcpuKick(vcpu);
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

/** Takes an interrupt that nobody needs any more off the list. Requires both locks. */
function removeFromApList(vcpu: Vcpu, irq: VgicIrq): void {
  listDel(vcpu.kvm.host.memory, irq.base + AP_LIST);
  irq.vcpu = 0;
  count(vcpu, STAT.pruned);
}

/**
 * Moves an interrupt to another vCPU's ap_list, entered and left without locks. What was true while
 * it was looked at may have changed since: it may be off the list, somewhere else, or re-routed, and
 * then nothing is moved.
 */
function migrateIrq(vcpu: Vcpu, target: Vcpu, irq: VgicIrq): void {
  const host = vcpu.kvm.host;
  const [first, second] = vcpu.state.vcpuId < target.state.vcpuId ? [vcpu, target] : [target, vcpu];
  takeApList(first);
  takeApList(second);
  takeIrq(host, irq);
  const moves = irq.vcpu === vcpu.state.base &&
    vgicTargetOracle(vcpu.kvm, irq) === target.state.base;
  if (moves) {
    listDel(host.memory, irq.base + AP_LIST);
    irq.vcpu = target.state.base;
    listAddTail(host.memory, irq.base + AP_LIST, target.vgic.apListHead);
    count(vcpu, STAT.migrated);
  }
  dropIrq(host, irq);
  dropApList(second);
  dropApList(first);
  if (moves) kickForIrq(target);
}

function misplaced(irq: VgicIrq): never {
  throw new InternalError(`interrupt ${irq.intid} is on a list that is not its own`);
}

/** One walk over the ap_list, up to the first interrupt that has to move; that one is moved. */
function pruneUntilMove(vcpu: Vcpu): boolean {
  const { kvm } = vcpu;
  const memory = kvm.host.memory;
  const self = vcpu.state.base;
  takeApList(vcpu);
  const head = vcpu.vgic.apListHead;
  let next: number;
  for (let node = listNext(memory, head); node !== head; node = next) {
    next = listNext(memory, node);
    const irq = irqOfNode(memory, node);
    takeIrq(kvm.host, irq);
    if (irq.vcpu !== self) misplaced(irq);
    const target = vgicTargetOracle(kvm, irq);
    if (target === 0) removeFromApList(vcpu, irq);
    dropIrq(kvm.host, irq);
    if (target !== 0 && target !== self) {
      dropApList(vcpu);
      migrateIrq(vcpu, vcpuAt(kvm, target), irq);
      return true;
    }
  }
  dropApList(vcpu);
  return false;
}

/**
 * Removes from the vCPU's ap_list what no longer belongs there. After a move the locks were dropped
 * and the list cannot be trusted, so the walk starts over.
 */
export function vgicPruneApList(vcpu: Vcpu): void {
  while (pruneUntilMove(vcpu));
}

/** In what {@link computeApListDepth} returns: an SGI wants more than one list register. */
const MULTI_SGI = 1 << 16;

/** List registers that the ap_list wants, and {@link MULTI_SGI}. Requires the ap_list lock. */
function computeApListDepth(vcpu: Vcpu): number {
  const host = vcpu.kvm.host;
  const head = vcpu.vgic.apListHead;
  let depth = 0;
  let touched = 0;
  let flags = 0;
  for (let at = listNext(host.memory, head); at !== head; at = listNext(host.memory, at)) {
    const irq = irqOfNode(host.memory, at);
    takeIrq(host, irq);
    const wanted = vgicIrqGetLrCount(irq);
    dropIrq(host, irq);
    depth += wanted;
    if (wanted > 1) flags = MULTI_SGI;
    touched++;
  }
  count(vcpu, STAT.flushes);
  count(vcpu, STAT.flushedIrqs, touched);
  const stat = vcpu.vgic.cpuStat;
  if (stat) host.memory.st53(stat + STAT.lastFlushedIrqs, touched);
  return depth | flags;
}

/** Fills the list registers' shadow from the ap_list. Requires the ap_list lock. */
export function vgicFlushLrState(vcpu: Vcpu): void {
  const { kvm } = vcpu;
  const memory = kvm.host.memory;
  const { nrLr } = vgicGlobal(kvm.host);
  const depth = computeApListDepth(vcpu);
  const multiSgi = depth >= MULTI_SGI;
  if (depth > nrLr) vgicSortApList(vcpu);

  vcpu.vgic.flushedPending = 0;
  vcpu.vgic.flushedActive = 0;
  const head = vcpu.vgic.apListHead;
  let used = 0;
  let lowest = 0xff;
  for (let node = listNext(memory, head); node !== head; node = listNext(memory, node)) {
    const irq = irqOfNode(memory, node);
    takeIrq(kvm.host, irq);
    // All senders of an SGI must be seen before anything of lower priority, which waits until then.
    if (multiSgi && irq.priority > lowest) {
      dropIrq(kvm.host, irq);
      break;
    }
    if (vgicTargetOracle(kvm, irq) === vcpu.state.base) {
      vgicPopulateLr(vcpu, irq, used++);
      if (irq.source !== 0) lowest = irq.priority;
    }
    dropIrq(kvm.host, irq);
    if (used === nrLr) {
      if (listNext(memory, node) !== head) {
        vgicSetUnderflow(vcpu);
        count(vcpu, STAT.overflows);
      }
      break;
    }
  }
  for (let lr = used; lr < nrLr; lr++) vgicClearLr(vcpu, lr);
  setUsedLrs(vcpu, used);
}

/** After an exit: hardware state into the vgic, then what is done leaves the ap_list. Interrupts off. */
export function kvmVgicSyncHwstate(vcpu: Vcpu): void {
  // An empty list means that no list register was used.
  if (listEmpty(vcpu.kvm.host.memory, vcpu.vgic.apListHead)) return;
  if (canAccessVgicFromKernel(vcpu)) vgicSaveState(vcpu);
  if (usedLrs(vcpu) !== 0) vgicFoldLrState(vcpu);
  vgicPruneApList(vcpu);
}

/**
 * Before an entry: the vgic's state into the hardware. Nothing to do, and no lock taken, when no
 * interrupt is in flight; one that is added meanwhile kicks the vCPU. Interrupts off.
 */
export function kvmVgicFlushHwstate(vcpu: Vcpu): void {
  if (listEmpty(vcpu.kvm.host.memory, vcpu.vgic.apListHead)) return;
  takeApList(vcpu);
  vgicFlushLrState(vcpu);
  dropApList(vcpu);
  if (canAccessVgicFromKernel(vcpu)) vgicRestoreState(vcpu);
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
