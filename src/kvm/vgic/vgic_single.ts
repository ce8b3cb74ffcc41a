/**
 * The usual case of flush and sync: one interrupt on the ap_list, a GICv3, and nobody who could come between
 * (Locks.alone). What vgic_ap_list.ts, vgic_lr.ts and vgic_v3.ts do with any number of interrupts, done with the
 * words of the one, for a fraction of the instructions. Where something is to be done that is rare, each function
 * here does nothing and answers false, and those do it.
 */
import * as gicModule from "../../arm/arch/gic.ts";
import * as listModule from "../../base/list.ts";
import * as lockModule from "../../base/lock.ts";
import * as memoryModule from "../../base/memory.ts";
import {
  type Vcpu,
  VgicCpuLayout,
  VgicDistLayout,
  VgicIrqLayout,
  VgicV3CpuIfLayout,
} from "../kvm_host.ts";
import * as vgicGlobalModule from "./vgic_global.ts";
import { GIC_TYPE } from "./vgic_global.ts";
import { VGIC_CONFIG_EDGE } from "./vgic_irq.ts";
import { VgicCpuStatLayout } from "./vgic_stat.ts";

// Of the module itself: what is imported V8 looks up and checks at each use.
const { listDel } = listModule;
const { vgicGlobal } = vgicGlobalModule;
const add = memoryModule.addSmall;
const IRQ_RANK = lockModule.LOCK_RANK.irq, AP_LIST_RANK = lockModule.LOCK_RANK.apList;
const V3 = GIC_TYPE.V3, EDGE = VGIC_CONFIG_EDGE;
const { UIE } = gicModule.ICH_HCR;
const { PENDING, ACTIVE, EOI, Group } = gicModule.ICH_LR_HI;
const PRIORITY_SHIFT = gicModule.ICH_LR_HI.Priority.shift;

/** Words of the structures. */
const IRQ = {
  INTID: VgicIrqLayout.offset.intid >>> 2,
  VCPU: VgicIrqLayout.offset.vcpu >>> 2,
  TARGET: VgicIrqLayout.offset.targetVcpu >>> 2,
  LINE: VgicIrqLayout.offset.lineLevel >>> 2,
  LATCH: VgicIrqLayout.offset.pendingLatch >>> 2,
  ACTIVE: VgicIrqLayout.offset.active >>> 2,
  ENABLED: VgicIrqLayout.offset.enabled >>> 2,
  HW: VgicIrqLayout.offset.hw >>> 2,
  SOURCE: VgicIrqLayout.offset.source >>> 2,
  PRIORITY: VgicIrqLayout.offset.priority >>> 2,
  GROUP: VgicIrqLayout.offset.group >>> 2,
  CONFIG: VgicIrqLayout.offset.config >>> 2,
} as const;
const CPU = {
  HEAD: VgicCpuLayout.offset.apListHead >>> 2,
  PENDING: VgicCpuLayout.offset.flushedPending >>> 2,
  ACTIVE: VgicCpuLayout.offset.flushedActive >>> 2,
  STAT: VgicCpuLayout.offset.cpuStat >>> 2,
} as const;
const CPU_IF = {
  HCR: VgicV3CpuIfLayout.offset.vgicHcr >>> 2,
  USED: VgicV3CpuIfLayout.offset.usedLrs >>> 2,
  LR: VgicV3CpuIfLayout.offset.lr >>> 2,
} as const;
const STAT = {
  FLUSHES: VgicCpuStatLayout.offset.flushes >>> 2,
  IRQS: VgicCpuStatLayout.offset.flushedIrqs >>> 2,
  LAST: VgicCpuStatLayout.offset.lastFlushedIrqs >>> 2,
  PRUNED: VgicCpuStatLayout.offset.pruned >>> 2,
} as const;
const DIST_ENABLED = VgicDistLayout.offset.enabled >>> 2;

/** The word of the only interrupt of the vCPU's ap_list, which is no HW-mapped one and none of a GICv2; else 0. */
function singleIrq(words: Int32Array, vgic: number): number {
  const head = (vgic + CPU.HEAD) << 2;
  const node = words[vgic + CPU.HEAD] as number;
  if (words[node >>> 2] !== head || node === head) return 0;
  // The link is what an interrupt begins with.
  const irq = node >>> 2;
  return ((words[irq + IRQ.HW] as number) | (words[irq + IRQ.SOURCE] as number)) === 0 ? irq : 0;
}

/** vgic_target_oracle. */
function target(words: Int32Array, irq: number, dist: number): number {
  const to = words[irq + IRQ.TARGET] as number;
  if (words[irq + IRQ.ACTIVE] !== 0) {
    const at = words[irq + IRQ.VCPU] as number;
    return at !== 0 ? at : to;
  }
  if (words[irq + IRQ.ENABLED] === 0 || !isPending(words, irq)) return 0;
  return words[dist + DIST_ENABLED] !== 0 ? to : 0;
}

/** irq_is_pending. */
function isPending(words: Int32Array, irq: number): boolean {
  return words[irq + IRQ.LATCH] !== 0 ||
    (words[irq + IRQ.CONFIG] !== EDGE && words[irq + IRQ.LINE] !== 0);
}

/** vgic_flush_lr_state: fills the list registers' shadow. */
export function flushSingle(vcpu: Vcpu): boolean {
  const { kvm, cpuIf } = vcpu, { host } = kvm;
  const { type, nrLr } = vgicGlobal(host);
  if (type !== V3 || !host.locks.alone) return false;
  const words = host.memory.i32, vgic = vcpu.vgic.base >>> 2;
  const irq = singleIrq(words, vgic);
  if (irq === 0) return false;
  // For what it wants, and for what it gets.
  host.locks.passedWithin(AP_LIST_RANK, IRQ_RANK, 2);
  countFlush(words, vgic);
  words[vgic + CPU.PENDING] = 0;
  words[vgic + CPU.ACTIVE] = 0;
  const lr = (cpuIf.base >>> 2) + CPU_IF.LR;
  const used = target(words, irq, kvm.vgic.base >>> 2) === (vcpu.state.base | 0) ? 1 : 0;
  if (used !== 0) populate(words, irq, vgic, lr);
  for (let at = lr + 2 * used; at < lr + 2 * nrLr; at++) words[at] = 0;
  words[(cpuIf.base >>> 2) + CPU_IF.USED] = used;
  return true;
}

function countFlush(words: Int32Array, vgic: number): void {
  const stat = words[vgic + CPU.STAT] as number, at = stat >>> 2;
  if (stat === 0) return;
  add(words, at + STAT.FLUSHES, 1);
  add(words, at + STAT.IRQS, 1);
  words[at + STAT.LAST] = 1;
}

/** vgic_v3_populate_lr, of the first list register. */
function populate(words: Int32Array, irq: number, vgic: number, lr: number): void {
  const edge = words[irq + IRQ.CONFIG] === EDGE, active = words[irq + IRQ.ACTIVE] !== 0;
  let hi = (words[irq + IRQ.PRIORITY] as number) << PRIORITY_SHIFT;
  if (words[irq + IRQ.GROUP] !== 0) hi |= Group;
  if (!edge) hi |= EOI;
  if (active) {
    hi |= ACTIVE;
    words[vgic + CPU.ACTIVE] = 1;
  }
  if ((edge || !active) && isPending(words, irq)) {
    hi |= PENDING;
    words[vgic + CPU.PENDING] = 1;
    if (edge) words[irq + IRQ.LATCH] = 0;
  }
  words[lr] = words[irq + IRQ.INTID] as number;
  words[lr + 1] = hi;
}

/**
 * vgic_fold_lr_state: what the first list register holds into the interrupt. Of an edge only, which has no line to
 * look after, and where the machine counts what guests do.
 */
export function foldSingle(vcpu: Vcpu): boolean {
  const { kvm, cpuIf } = vcpu, { host } = kvm;
  const { info, type } = vgicGlobal(host);
  if (type !== V3 || !info.countsGuestAcks || !host.locks.alone) return false;
  const words = host.memory.i32, shadow = cpuIf.base >>> 2;
  const irq = singleIrq(words, vcpu.vgic.base >>> 2);
  if (irq === 0 || words[irq + IRQ.CONFIG] !== EDGE || words[shadow + CPU_IF.USED] !== 1) {
    return false;
  }
  const hi = words[shadow + CPU_IF.LR + 1] as number;
  if (words[shadow + CPU_IF.LR] !== words[irq + IRQ.INTID] || (hi & EOI) !== 0) return false;
  host.locks.passed(IRQ_RANK, 1);
  words[shadow + CPU_IF.HCR] = (words[shadow + CPU_IF.HCR] as number) & ~UIE;
  words[shadow + CPU_IF.USED] = 0;
  words[irq + IRQ.ACTIVE] = (hi & ACTIVE) !== 0 ? 1 : 0;
  // An edge must not be lost.
  if ((hi & PENDING) !== 0) words[irq + IRQ.LATCH] = 1;
  return true;
}

/** vgic_prune_ap_list: the interrupt leaves the list if nobody needs it. */
export function pruneSingle(vcpu: Vcpu): boolean {
  const { kvm } = vcpu, { host } = kvm;
  if (!host.locks.alone) return false;
  const words = host.memory.i32, vgic = vcpu.vgic.base >>> 2, self = vcpu.state.base | 0;
  const irq = singleIrq(words, vgic);
  if (irq === 0 || words[irq + IRQ.VCPU] !== self) return false;
  const to = target(words, irq, kvm.vgic.base >>> 2);
  if (to !== 0 && to !== self) return false;
  host.locks.passedWithin(AP_LIST_RANK, IRQ_RANK, 1);
  if (to !== 0) return true;
  listDel(host.memory, irq << 2);
  words[irq + IRQ.VCPU] = 0;
  const stat = words[vgic + CPU.STAT] as number;
  if (stat !== 0) add(words, (stat >>> 2) + STAT.PRUNED, 1);
  return true;
}
