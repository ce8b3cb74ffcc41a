/**
 * The usual case of flush and sync: one interrupt on the ap_list, a GICv3, and nobody who could come between
 * (Locks.alone). What vgic_ap_list.ts, vgic_lr.ts and vgic_v3.ts do with any number of interrupts, done with the
 * words of the one, for a fraction of the instructions. Where something is to be done that is rare, each function
 * here does nothing and answers false, and those do it.
 */
import * as gicModule from "../../arm/arch/gic.ts";
import * as listModule from "../../base/list.ts";
import * as memoryModule from "../../base/memory.ts";
import type { Vcpu } from "../kvm_host.ts";
import * as kvmWords from "../kvm_words.ts";
import * as vgicGlobalModule from "./vgic_global.ts";
import { GIC_TYPE } from "./vgic_global.ts";
import * as vgicIrq from "./vgic_irq.ts";
import { VGIC_CONFIG_EDGE } from "./vgic_irq.ts";
import { VgicCpuStatLayout } from "./vgic_stat.ts";

// Of the module itself: what is imported V8 looks up and checks at each use.
const { listDel } = listModule;
const { vgicGlobal } = vgicGlobalModule;
const { irqIsPendingAt } = vgicIrq;
const { IRQ_WORD: IRQ, KVM_WORD: KVM, VCPU_WORD: CPU } = kvmWords;
const add = memoryModule.addSmall;
const V3 = GIC_TYPE.V3, EDGE = VGIC_CONFIG_EDGE;
const { UIE } = gicModule.ICH_HCR;
const { PENDING, ACTIVE, EOI, Group } = gicModule.ICH_LR_HI;
const PRIORITY_SHIFT = gicModule.ICH_LR_HI.Priority.shift;
const STAT = {
  FLUSHES: VgicCpuStatLayout.offset.flushes >>> 2,
  IRQS: VgicCpuStatLayout.offset.flushedIrqs >>> 2,
  LAST: VgicCpuStatLayout.offset.lastFlushedIrqs >>> 2,
  PRUNED: VgicCpuStatLayout.offset.pruned >>> 2,
} as const;
/** Where the ap_list's head is in the vCPU's structure. */
const HEAD = 4 * CPU.AP_LIST;

/** What {@link settleSingle} has done: the interrupt is folded; and pruned. */
export const SETTLED = { FOLDED: 1, ALL: 2 } as const;
// As constants of this module alone, V8 knows them.
const { FOLDED, ALL } = SETTLED;

/** Whether the vCPU's ap_list is empty: then no list register is in use, and there is nothing to flush or to sync. */
export function apListIsEmpty(vcpu: Vcpu): boolean {
  return vcpu.words[CPU.AP_LIST] === ((vcpu.base + HEAD) | 0);
}

/**
 * The word of the only interrupt of the vCPU's ap_list, which is not empty, among `all` words; 0 if there are more,
 * or if it is HW-mapped or has senders, as those of a GICv2 have.
 */
function singleIrq(vcpu: Vcpu, all: Int32Array): number {
  // The link is what an interrupt begins with.
  const irq = (vcpu.words[CPU.AP_LIST] as number) >>> 2;
  if (all[irq] !== ((vcpu.base + HEAD) | 0)) return 0;
  return ((all[irq + IRQ.HW] as number) | (all[irq + IRQ.SOURCE] as number)) === 0 ? irq : 0;
}

/** vgic_target_oracle. */
function target(vcpu: Vcpu, all: Int32Array, irq: number): number {
  const to = all[irq + IRQ.TARGET] as number;
  if (all[irq + IRQ.ACTIVE] !== 0) {
    const at = all[irq + IRQ.VCPU] as number;
    return at !== 0 ? at : to;
  }
  if (all[irq + IRQ.ENABLED] === 0 || !irqIsPendingAt(all, irq)) return 0;
  return vcpu.kvm.words[KVM.VGIC_ENABLED] !== 0 ? to : 0;
}

/** vgic_flush_lr_state, of a list that is not empty: fills the list registers' shadow. */
export function flushSingle(vcpu: Vcpu): boolean {
  const { host } = vcpu.kvm, { locks } = host, { type, nrLr } = vgicGlobal(host);
  if (type !== V3 || !locks.alone) return false;
  const all = host.memory.i32, irq = singleIrq(vcpu, all);
  if (irq === 0) return false;
  // For what it wants, and for what it gets.
  locks.passedIrqs(1, 2);
  const { words } = vcpu;
  countFlush(all, words[CPU.VGIC_STAT] as number);
  // Behind those that the last flush has filled the shadow is empty.
  const before = (words[CPU.FLUSHED_PENDING] as number) | (words[CPU.FLUSHED_ACTIVE] as number);
  words[CPU.FLUSHED_PENDING] = 0;
  words[CPU.FLUSHED_ACTIVE] = 0;
  const used = target(vcpu, all, irq) === (vcpu.base | 0) ? 1 : 0;
  if (used !== 0) populate(words, all, irq);
  if (used === 0 || before > 1) clearLrs(words, used, nrLr);
  words[CPU.USED_LRS] = used;
  return true;
}

function clearLrs(words: Int32Array, from: number, end: number): void {
  for (let at = CPU.LR + 2 * from; at < CPU.LR + 2 * end; at++) words[at] = 0;
}

/** `stat`: the address of the vCPU's {@link VgicCpuStatLayout}, or 0. */
function countFlush(all: Int32Array, stat: number): void {
  const at = stat >>> 2;
  if (stat === 0) return;
  add(all, at + STAT.FLUSHES, 1);
  add(all, at + STAT.IRQS, 1);
  all[at + STAT.LAST] = 1;
}

/** vgic_v3_populate_lr, of the first list register. */
function populate(words: Int32Array, all: Int32Array, irq: number): void {
  const edge = all[irq + IRQ.CONFIG] === EDGE, active = all[irq + IRQ.ACTIVE] !== 0;
  let hi = (all[irq + IRQ.PRIORITY] as number) << PRIORITY_SHIFT;
  if (all[irq + IRQ.GROUP] !== 0) hi |= Group;
  if (!edge) hi |= EOI;
  if (active) {
    hi |= ACTIVE;
    words[CPU.FLUSHED_ACTIVE] = 1;
  }
  if ((edge || !active) && irqIsPendingAt(all, irq)) {
    hi |= PENDING;
    words[CPU.FLUSHED_PENDING] = 1;
    if (edge) all[irq + IRQ.LATCH] = 0;
  }
  words[CPU.LR] = all[irq + IRQ.INTID] as number;
  words[CPU.LR + 1] = hi;
}

/**
 * vgic_fold_lr_state and vgic_prune_ap_list, of a list that is not empty: what the first list register holds into the
 * interrupt, of an edge only, which has no line to look after, and where the machine counts what guests do. Then the
 * interrupt leaves the list if nobody needs it. What is done, {@link SETTLED}; 0: nothing.
 */
export function settleSingle(vcpu: Vcpu): number {
  const { host } = vcpu.kvm, { locks } = host, { type, info } = vgicGlobal(host);
  if (type !== V3 || !info.countsGuestAcks || !locks.alone) return 0;
  const all = host.memory.i32, irq = singleIrq(vcpu, all), { words } = vcpu;
  if (irq === 0 || words[CPU.USED_LRS] !== 1 || !isFoldable(words, all, irq)) return 0;
  locks.passedIrqs(0, 1);
  const hi = words[CPU.LR + 1] as number;
  words[CPU.VGIC_HCR] = (words[CPU.VGIC_HCR] as number) & ~UIE;
  words[CPU.USED_LRS] = 0;
  all[irq + IRQ.ACTIVE] = (hi & ACTIVE) !== 0 ? 1 : 0;
  // An edge must not be lost.
  if ((hi & PENDING) !== 0) all[irq + IRQ.LATCH] = 1;
  return prune(vcpu, all, irq) ? ALL : FOLDED;
}

/** Whether the first list register holds the interrupt, an edge whose end is not to be seen. */
function isFoldable(words: Int32Array, all: Int32Array, irq: number): boolean {
  return all[irq + IRQ.CONFIG] === EDGE && words[CPU.LR] === all[irq + IRQ.INTID] &&
    ((words[CPU.LR + 1] as number) & EOI) === 0;
}

/** vgic_prune_ap_list: the interrupt leaves the list if nobody needs it. */
export function pruneSingle(vcpu: Vcpu): boolean {
  const { host } = vcpu.kvm, all = host.memory.i32;
  if (!host.locks.alone) return false;
  const irq = singleIrq(vcpu, all);
  return irq !== 0 && prune(vcpu, all, irq);
}

/** The same of the only interrupt there is. False, and nothing done, where it has to go to another vCPU. */
function prune(vcpu: Vcpu, all: Int32Array, irq: number): boolean {
  const self = vcpu.base | 0;
  if (all[irq + IRQ.VCPU] !== self) return false;
  const to = target(vcpu, all, irq);
  if (to !== 0 && to !== self) return false;
  const { host } = vcpu.kvm;
  host.locks.passedIrqs(1, 1);
  if (to === 0) removeSingle(vcpu, all, irq);
  return true;
}

function removeSingle(vcpu: Vcpu, all: Int32Array, irq: number): void {
  listDel(vcpu.kvm.host.memory, irq << 2);
  all[irq + IRQ.VCPU] = 0;
  const stat = vcpu.words[CPU.VGIC_STAT] as number;
  if (stat !== 0) add(all, (stat >>> 2) + STAT.PRUNED, 1);
}
