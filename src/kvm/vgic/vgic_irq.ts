/**
 * One virtual interrupt: lookup, locks, predicates. Mirrors the inline functions of
 * arch/arm64/kvm/vgic/vgic.h and the lookup and physical-side functions of vgic.c.
 *
 * What differs: interrupts are views on memory, found by address; there are no LPIs yet, so getting
 * and putting a reference does nothing; the counters of vgic_stat.ts are fed here.
 */
import { join53 } from "../../base/bits.ts";
import { assert, InternalError } from "../../base/errors.ts";
import * as lockModule from "../../base/lock.ts";
import * as memoryModule from "../../base/memory.ts";
import type { SharedMemory } from "../../base/memory.ts";
import { ViewsByBase } from "../../base/views.ts";
import * as kvmHost from "../kvm_host.ts";
import {
  type Kvm,
  type KvmHost,
  KvmVcpuLayout,
  type Vcpu,
  VgicCpuLayout,
  type VgicIrq,
  VgicIrqLayout,
} from "../kvm_host.ts";
import * as kvmWords from "../kvm_words.ts";
import * as vgicGlobalModule from "./vgic_global.ts";
import * as vgicStat from "./vgic_stat.ts";
import { irqStatAt, type VgicIrqStat } from "./vgic_stat.ts";

// Of the module itself: what is imported V8 looks up and checks at each use.
const { LOCK_RANK } = lockModule;
const { KVM_REQ, VGIC_NR_PRIVATE_IRQS } = kvmHost;
const { IRQ_WORD, VCPU_WORD } = kvmWords;
const { vgicGlobal } = vgicGlobalModule;
const { recordLatency, VgicIrqStatLayout } = vgicStat;
const add = memoryModule.addSmall;

export const VGIC_CONFIG_EDGE = 0;
export const VGIC_CONFIG_LEVEL = 1;
export const VGIC_NR_SGIS = 16;
export const VGIC_MAX_SPI = 1019;
export const VGIC_MAX_RESERVED = 1023;
const VGIC_MIN_LPI = 8192;
// As constants of this module alone, V8 knows them.
const { LATCH, CONFIG, LINE, RAISED } = IRQ_WORD;
const LEVEL = VGIC_CONFIG_LEVEL;
/** Priority bits that the virtual distributor keeps. */
export const VGIC_PRI_BITS = 5;
/** KVM_DEV_TYPE_ARM_VGIC_V2 and V3, as stored in `vgic_dist.vgicModel`. */
export const VGIC_MODEL_V2 = 2;
export const VGIC_MODEL_V3 = 3;
/** An address that user space has not set yet. */
export const VGIC_ADDR_UNDEF = Number.MAX_SAFE_INTEGER;
/** What GICD_IIDR says of who made the distributor. */
export const PRODUCT_ID_KVM = 0x4b;
export const IMPLEMENTER_ARM = 0x43b;
/** GICD_IIDR.Revision: what the guest may rely on. 2: groups; 3 adds GICR_CTLR.CES and IR. */
export const KVM_VGIC_IMP_REV_2 = 2;
export const KVM_VGIC_IMP_REV_3 = 3;
export const KVM_VGIC_IMP_REV_LATEST = KVM_VGIC_IMP_REV_3;

/** struct vgic_vmcr: the virtual CPU interface's fields in the terms of the guest's registers. */
export interface VgicVmcr {
  grpen0: number;
  grpen1: number;
  ackctl: number;
  fiqen: number;
  cbpr: number;
  eoim: number;
  abpr: number;
  bpr: number;
  /** As in ICC_PMR_EL1 or GICC_PMR. */
  pmr: number;
}

const IRQS = new ViewsByBase(VgicIrqLayout);

/** The interrupt at address `base`; the same view each time. */
export function irqAt(memory: SharedMemory, base: number): VgicIrq {
  return IRQS.at(memory, base);
}

/** Where the ap_list's link is in an interrupt. */
export const AP_LIST = VgicIrqLayout.offset.apList;

/** The interrupt whose ap_list link is `node` (container_of). */
export function irqOfNode(memory: SharedMemory, node: number): VgicIrq {
  return irqAt(memory, node - AP_LIST);
}

/** The VM's vCPU whose structure lies at `address`; InternalError when it is none of them. */
export function vcpuAt(kvm: Kvm, address: number): Vcpu {
  const { vcpus } = kvm;
  for (let i = 0; i < vcpus.length; i++) {
    const vcpu = vcpus[i] as Vcpu;
    if (vcpu.state.base === address) return vcpu;
  }
  throw new InternalError(`no vCPU at ${address}`);
}

/** The vCPU's MPIDR_EL1.Aff2 to Aff0, in bits 23 to 0. */
export function kvmVcpuGetMpidrAffLo({ words }: Vcpu): number {
  return (words[VCPU_WORD.MPIDR] as number) & 0x00ff_ffff;
}

/** Its Aff3. */
export function kvmVcpuGetMpidrAff3({ words }: Vcpu): number {
  return (words[VCPU_WORD.MPIDR + 1] as number) & 0xff;
}

/** The vCPU's MPIDR_EL1 affinity fields: Aff3 in bits 39 to 32, Aff2 to Aff0 in 23 to 0. */
export function kvmVcpuGetMpidrAff(vcpu: Vcpu): number {
  return kvmVcpuGetMpidrAffLo(vcpu) + kvmVcpuGetMpidrAff3(vcpu) * 2 ** 32;
}

/** The vCPU with these affinity fields, or undefined. */
export function kvmMpidrToVcpu(kvm: Kvm, mpidr: number): Vcpu | undefined {
  return kvm.vcpus.find((vcpu) => kvmVcpuGetMpidrAff(vcpu) === mpidr);
}

/** vgic_initialized. */
export function vgicInitialized(kvm: Kvm): boolean {
  return kvm.vgic.initialized;
}

export function vgicIrqIsSgi(intid: number): boolean {
  return intid < VGIC_NR_SGIS;
}

export function irqIsPpi(intid: number): boolean {
  return intid >= VGIC_NR_SGIS && intid < VGIC_NR_PRIVATE_IRQS;
}

/** Whether the VM has a shared interrupt of this number. */
export function vgicValidSpi(kvm: Kvm, intid: number): boolean {
  return intid >= VGIC_NR_PRIVATE_IRQS && intid < kvm.vgic.nrSpis + VGIC_NR_PRIVATE_IRQS;
}

/** Pending by its latch, or for a level-triggered one by its line. Requires the irq lock. */
export function irqIsPending(irq: VgicIrq): boolean {
  return irq.pendingLatch || (irq.config === VGIC_CONFIG_LEVEL && irq.lineLevel);
}

/** {@link irqIsPending} of the interrupt at word `irq` of `words`. */
export function irqIsPendingAt(words: Int32Array, irq: number): boolean {
  return words[irq + LATCH] !== 0 || (words[irq + CONFIG] === LEVEL && words[irq + LINE] !== 0);
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

export function vgicIrqIsMappedLevel(irq: VgicIrq): boolean {
  return irq.config === VGIC_CONFIG_LEVEL && irq.hw;
}

/** List registers that the interrupt wants: an SGI of a GICv2 one for each sender, and one while active. */
export function vgicIrqGetLrCount(irq: VgicIrq): number {
  if (vgicIrqIsSgi(irq.intid) && irq.source !== 0) {
    return popCount(irq.source) + (irq.active ? 1 : 0);
  }
  return irqIsPending(irq) || irq.active ? 1 : 0;
}

function popCount(bits: number): number {
  let count = 0;
  for (let rest = bits; rest !== 0; rest &= rest - 1) count++;
  return count;
}

export function vgicIrqIsMultiSgi(irq: VgicIrq): boolean {
  return vgicIrqGetLrCount(irq) > 1;
}

/**
 * Whether software must deactivate the physical interrupt behind it: always with a single list
 * register, where the end of what is in it has to be seen (vgicV3SetUnderflow).
 */
export function vgicIrqNeedsResampling(host: KvmHost, irq: VgicIrq): boolean {
  const { irqOps, nrLr } = vgicGlobal(host);
  return nrLr === 1 || irqOps[irq.ops]?.swResample === true;
}

/**
 * The interrupt `intid` of the VM, a private one of `vcpu`; undefined when there is none. The caller
 * gives it back with {@link vgicPutIrq}.
 */
export function vgicGetIrq(kvm: Kvm, vcpu: Vcpu | undefined, intid: number): VgicIrq | undefined {
  const memory = kvm.host.memory;
  if (intid < VGIC_NR_PRIVATE_IRQS) {
    if (!vcpu) return undefined;
    return irqAt(memory, vcpu.vgic.privateIrqs + intid * VgicIrqLayout.size);
  }
  if (!vgicValidSpi(kvm, intid) || kvm.vgic.spis === 0) return undefined;
  return irqAt(memory, kvm.vgic.spis + (intid - VGIC_NR_PRIVATE_IRQS) * VgicIrqLayout.size);
}

/** Gives back what {@link vgicGetIrq} returned. Only LPIs are counted, and there are none. */
export function vgicPutIrq(_kvm: Kvm, irq: VgicIrq): void {
  assert(irq.intid < VGIC_MIN_LPI, "an LPI without LPI support");
}

function irqLockAt(irq: VgicIrq): number {
  return irq.base + VgicIrqLayout.offset.irqLock;
}

function apListLockAt(vcpu: Vcpu): number {
  return vcpu.vgic.base + VgicCpuLayout.offset.apListLock;
}

/** raw_spin_lock(&irq->irq_lock). `order`: 1 for the second of two (SINGLE_DEPTH_NESTING). */
export function takeIrq(host: KvmHost, irq: VgicIrq, order = 0): void {
  host.locks.takeRank(LOCK_RANK.irq, irqLockAt(irq), order);
}

/** raw_spin_unlock(&irq->irq_lock). */
export function dropIrq(host: KvmHost, irq: VgicIrq): void {
  host.locks.dropRank(LOCK_RANK.irq, irqLockAt(irq));
}

/**
 * raw_spin_lock_irqsave(&irq->irq_lock): returns the flags for {@link dropIrqRestore}. Where nobody can come
 * between, the lock is counted and not taken.
 */
export function takeIrqSave(host: KvmHost, irq: VgicIrq): number {
  const flags = host.port(host.currentCpu()).irqSave();
  if (host.locks.alone) host.locks.passed(LOCK_RANK.irq, 1);
  else takeIrq(host, irq);
  return flags;
}

/** raw_spin_unlock_irqrestore(&irq->irq_lock, flags). */
export function dropIrqRestore(host: KvmHost, irq: VgicIrq, flags: number): void {
  if (!host.locks.alone) dropIrq(host, irq);
  host.port(host.currentCpu()).irqRestore(flags);
}

/**
 * {@link takeIrqSave} and {@link dropIrqRestore} at once, for a look at the interrupt where no other context can
 * hold the lock. False: one can, and nothing is done.
 */
export function passIrq(host: KvmHost, irq: VgicIrq): boolean {
  if (!host.locks.passRank(LOCK_RANK.irq, irqLockAt(irq), 0)) return false;
  host.port(host.currentCpu()).irqPass();
  return true;
}

/** raw_spin_lock(&vgic_cpu->ap_list_lock). Of two, the lower vCPU number comes first (checked). */
export function takeApList(vcpu: Vcpu): void {
  vcpu.kvm.host.locks.takeRank(LOCK_RANK.apList, apListLockAt(vcpu), vcpu.state.vcpuId);
}

/** raw_spin_unlock(&vgic_cpu->ap_list_lock). */
export function dropApList(vcpu: Vcpu): void {
  vcpu.kvm.host.locks.dropRank(LOCK_RANK.apList, apListLockAt(vcpu));
}

/** raw_spin_lock_irqsave(&vgic_cpu->ap_list_lock): returns the flags for {@link dropApListRestore}. */
export function takeApListSave(vcpu: Vcpu): number {
  const host = vcpu.kvm.host;
  const flags = host.port(host.currentCpu()).irqSave();
  takeApList(vcpu);
  return flags;
}

/** raw_spin_unlock_irqrestore(&vgic_cpu->ap_list_lock, flags). */
export function dropApListRestore(vcpu: Vcpu, flags: number): void {
  const host = vcpu.kvm.host;
  dropApList(vcpu);
  host.port(host.currentCpu()).irqRestore(flags);
}

/** Makes the vCPU look at its interrupts, wherever it is. */
export function kickForIrq(vcpu: Vcpu): void {
  const { words } = vcpu;
  words[VCPU_WORD.REQUESTS] = (words[VCPU_WORD.REQUESTS] as number) | KVM_REQ.IRQ_PENDING;
  vcpu.kvm.host.kvmVcpuKick(vcpu);
}

/** Sets or clears the pending state of the physical interrupt behind a HW-mapped one. */
export function vgicIrqSetPhysPending(host: KvmHost, irq: VgicIrq, pending: boolean): void {
  vgicGlobal(host).info.setPhysPending(irq.hwIntid, pending);
}

/** Sets or clears the active state of the physical interrupt behind a HW-mapped one. */
export function vgicIrqSetPhysActive(host: KvmHost, irq: VgicIrq, active: boolean): void {
  assert(irq.hw, "an interrupt that is not HW-mapped");
  host.irqSetPhysActive(irq.hwIntid, active);
}

/** The level of the line behind a HW-mapped interrupt now. */
export function vgicGetPhysLineLevel(host: KvmHost, irq: VgicIrq): boolean {
  assert(irq.hw, "an interrupt that is not HW-mapped");
  const level = vgicGlobal(host).irqOps[irq.ops]?.getInputLevel;
  return level ? level(irq.intid) : host.irqGetPhysPending(irq.hwIntid);
}

/**
 * A mapped level interrupt is seen by the vgic as rising edges only. If the guest did not acknowledge
 * it, or ended it while we still held the line high, the device must be asked again; when its line has
 * gone down, the physical interrupt is deactivated, or its next rise would never be reported.
 * Requires the irq lock.
 */
export function vgicIrqHandleResampling(
  host: KvmHost,
  irq: VgicIrq,
  lrDeactivated: boolean,
  lrPending: boolean,
): void {
  if (!vgicIrqIsMappedLevel(irq)) return;
  let resample = false;
  if (vgicIrqNeedsResampling(host, irq)) {
    resample = !(irq.active || irq.pendingLatch);
  } else if (lrPending || (lrDeactivated && irq.lineLevel)) {
    irq.lineLevel = vgicGetPhysLineLevel(host, irq);
    resample = !irq.lineLevel;
  }
  if (resample) vgicIrqSetPhysActive(host, irq, false);
}

const PRIVATE_STATS = KvmVcpuLayout.offset.vgicCpu + VgicCpuLayout.offset.irqStats;

/** Where the counters of an interrupt lie; 0 before vgicInit. */
export function irqStatAddress(kvm: Kvm, irq: VgicIrq): number {
  const { intid } = irq;
  const isPrivate = intid < VGIC_NR_PRIVATE_IRQS;
  const stats = isPrivate ? irq.memory.ldi32(irq.targetVcpu + PRIVATE_STATS) : kvm.vgic.irqStats;
  const index = isPrivate ? intid : intid - VGIC_NR_PRIVATE_IRQS;
  return stats === 0 ? 0 : stats + index * VgicIrqStatLayout.size;
}

/** The counters of an interrupt; undefined before vgicInit. */
export function irqStatOf(kvm: Kvm, irq: VgicIrq): VgicIrqStat | undefined {
  const at = irqStatAddress(kvm, irq);
  return at === 0 ? undefined : irqStatAt(irq.memory, at);
}

/** What is counted of an interrupt: words of its counters. */
const STAT = VgicIrqStatLayout.offset;
export const IRQ_EVENT = {
  INJECTED: STAT.injected >>> 2,
  ACKED: STAT.acked >>> 2,
  EOIED: STAT.eoied >>> 2,
} as const;
// As constants of this module alone, V8 knows them.
const { INJECTED, ACKED, EOIED } = IRQ_EVENT;
const LAST_EVENT = STAT.lastEventNs >>> 2, STAT_WORDS = VgicIrqStatLayout.size >>> 2;

/** Counts one of {@link IRQ_EVENT} in an interrupt's counters at address `stat`, and when it was; 0: there are none. */
export function countEvent(host: KvmHost, stat: number, event: number): void {
  if (stat === 0) return;
  const words = host.memory.i32;
  add(words, (stat >>> 2) + event, 1);
  host.stampWords((stat >>> 2) + LAST_EVENT);
}

/** The interrupt begins to wait now. Requires the irq lock. */
export function stampRaised(host: KvmHost, irq: VgicIrq): void {
  host.stampWords((irq.base >>> 2) + RAISED);
}

/** Notes when the interrupt began to wait, unless it does already. Requires the irq lock. */
export function noteRaiseTime(kvm: Kvm, irq: VgicIrq, wasPending: boolean): void {
  if (!wasPending || irq.raisedAtNs === 0) stampRaised(kvm.host, irq);
}

/** Counts a raise, and notes its time. Requires the irq lock. */
export function noteRaised(kvm: Kvm, irq: VgicIrq, wasPending: boolean): void {
  countEvent(kvm.host, irqStatAddress(kvm, irq), INJECTED);
  noteRaiseTime(kvm, irq, wasPending);
}

/**
 * {@link noteRaised} of the interrupt at word `irq` of `words`, whose counters are at address `stat`, where nobody can
 * come between: both times are the same.
 */
export function noteRaisedAlone(
  host: KvmHost,
  words: Int32Array,
  irq: number,
  stat: number,
  wasPending: boolean,
): void {
  countEvent(host, stat, INJECTED);
  const at = irq + RAISED;
  if (wasPending && ((words[at] as number) | (words[at + 1] as number)) !== 0) return;
  const all = host.memory.i32, last = (stat >>> 2) + LAST_EVENT;
  if (stat === 0) return host.stampWords((words.byteOffset >>> 2) + at);
  words[at] = all[last] as number;
  words[at + 1] = all[last + 1] as number;
}

// What the guest does, as it does it: by words of the memory.

/** Where the vCPU's interrupt `intid` lies; 0: there is none. */
function irqWord(vcpu: Vcpu, intid: number): number {
  if (intid < VGIC_NR_PRIVATE_IRQS) {
    return (vcpu.base >>> 2) + VCPU_WORD.PRIVATE_IRQS + intid * IRQ_WORD.COUNT;
  }
  const { spis } = vcpu.kvm.vgic;
  if (spis === 0 || !vgicValidSpi(vcpu.kvm, intid)) return 0;
  return (spis >>> 2) + (intid - VGIC_NR_PRIVATE_IRQS) * IRQ_WORD.COUNT;
}

/** And its counters; 0 before vgicInit. */
function statWord({ words, kvm }: Vcpu, intid: number): number {
  const isPrivate = intid < VGIC_NR_PRIVATE_IRQS;
  const stats = isPrivate ? words[VCPU_WORD.IRQ_STATS] as number : kvm.vgic.irqStats;
  const index = isPrivate ? intid : intid - VGIC_NR_PRIVATE_IRQS;
  return stats === 0 ? 0 : (stats >>> 2) + index * STAT_WORDS;
}

/**
 * Enters how long the interrupt at word `irq`, raised at a time with these halves, has waited now, which is in the
 * interrupt in that time's place: once per raise.
 */
function enterLatency(host: KvmHost, irq: number, stat: number, lo: number, hi: number): void {
  const { memory } = host, all = memory.i32, at = irq + RAISED;
  const ns = ((all[at] as number) - lo) | 0;
  // Nearly always a small integer, and not to be boxed.
  if (ns >= 0 && all[at + 1] === hi) recordLatency(memory, stat << 2, ns);
  else recordLatency(memory, stat << 2, memory.ld53(at << 2) - join53(lo, hi));
  all[at] = 0;
  all[at + 1] = 0;
}

/** The guest has reached its vector for `intid`. */
export function onGuestVector(vcpu: Vcpu, intid: number): void {
  const irq = irqWord(vcpu, intid), stat = statWord(vcpu, intid);
  if (irq !== 0 && stat !== 0) reached(vcpu.kvm.host, irq, stat);
}

function reached(host: KvmHost, irq: number, stat: number): void {
  const all = host.memory.i32;
  const lo = all[irq + RAISED] as number, hi = all[irq + RAISED + 1] as number;
  if ((lo | hi) === 0) return;
  host.stampWords(irq + RAISED);
  enterLatency(host, irq, stat, lo, hi);
}

/** The guest has acknowledged `intid` (for machines whose {@link GicKvmInfo.countsGuestAcks} is set). */
export function onGuestAck(vcpu: Vcpu, intid: number): void {
  const irq = irqWord(vcpu, intid), stat = statWord(vcpu, intid);
  if (irq === 0 || stat === 0) return;
  const { host } = vcpu.kvm;
  reached(host, irq, stat);
  countEvent(host, stat << 2, ACKED);
}

/** The guest has deactivated `intid` (for machines whose {@link GicKvmInfo.countsGuestAcks} is set). */
export function onGuestEoi(vcpu: Vcpu, intid: number): void {
  const stat = irqWord(vcpu, intid) === 0 ? 0 : statWord(vcpu, intid);
  countEvent(vcpu.kvm.host, stat << 2, EOIED);
}
