/**
 * The way of interrupts between ap_list and list registers: order, flush before an entry, sync and prune
 * after an exit. Mirrors those functions of arch/arm64/kvm/vgic/vgic.c; the rules are on top of vgic.ts.
 *
 * What differs: where nobody can come between (Locks.alone) the locks of a walk are counted, not taken, and a
 * single interrupt is done by vgic_single.ts.
 */
import { InternalError } from "../../base/errors.ts";
import * as list from "../../base/list.ts";
import * as lockModule from "../../base/lock.ts";
import * as memoryModule from "../../base/memory.ts";
import type { El2Port } from "../../arm/el2_port.ts";
import type { Kvm, Vcpu, VgicIrq } from "../kvm_host.ts";
import * as vgicCpuif from "./vgic_cpuif.ts";
import * as vgicGlobalModule from "./vgic_global.ts";
import * as vgicIrq from "./vgic_irq.ts";
import * as vgicSingle from "./vgic_single.ts";
import { VgicCpuStatLayout } from "./vgic_stat.ts";

// Of the module itself: what is imported V8 looks up and checks at each use.
const { listAddTail, listDel, listNext, listSort } = list;
const { LOCK_RANK } = lockModule;
const { vgicGlobal } = vgicGlobalModule;
const {
  AP_LIST,
  dropApList,
  dropIrq,
  irqIsPending,
  irqOfNode,
  kickForIrq,
  takeApList,
  takeIrq,
  vcpuAt,
  vgicIrqGetLrCount,
  vgicTargetOracle,
} = vgicIrq;
const {
  setUsedLrs,
  usedLrs,
  vgicClearLrs,
  vgicFoldLrState,
  vgicPopulateLr,
  vgicRestoreState,
  vgicSaveState,
  vgicSetUnderflow,
} = vgicCpuif;
const { apListIsEmpty, flushSingle, pruneSingle, SETTLED, settleSingle } = vgicSingle;
const add = memoryModule.addSmall;
const STAT = VgicCpuStatLayout.offset;
const RANK = { IRQ: LOCK_RANK.irq, AP_LIST: LOCK_RANK.apList } as const;

/** Adds to a counter of the vCPU's {@link VgicCpuStatLayout}, given by its offset. */
function count(vcpu: Vcpu, counter: number, by: number): void {
  const base = vcpu.vgic.cpuStat;
  if (base !== 0) add(vcpu.kvm.host.memory.i32, (base + counter) >>> 2, by);
}

// Order

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

// Prune

/** Takes an interrupt that nobody needs any more off the list. Requires both locks. */
function removeFromApList(vcpu: Vcpu, irq: VgicIrq): void {
  listDel(vcpu.kvm.host.memory, irq.base + AP_LIST);
  irq.vcpu = 0;
  count(vcpu, STAT.pruned, 1);
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
    count(vcpu, STAT.migrated, 1);
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
  const { host } = kvm, { locks, memory } = host;
  const { alone } = locks;
  const self = vcpu.state.base;
  const head = vcpu.vgic.apListHead;
  if (!alone) takeApList(vcpu);
  let touched = 0;
  let next: number;
  let moves: VgicIrq | undefined;
  let target = 0;
  for (let node = listNext(memory, head); node !== head; node = next) {
    next = listNext(memory, node);
    const irq = irqOfNode(memory, node);
    if (!alone) takeIrq(host, irq);
    if (irq.vcpu !== self) misplaced(irq);
    target = vgicTargetOracle(kvm, irq);
    if (target === 0) removeFromApList(vcpu, irq);
    if (!alone) dropIrq(host, irq);
    touched++;
    if (target === 0 || target === self) continue;
    moves = irq;
    break;
  }
  if (!alone) dropApList(vcpu);
  else {
    locks.passedWithin(RANK.AP_LIST, RANK.IRQ, touched);
  }
  if (moves === undefined) return false;
  migrateIrq(vcpu, vcpuAt(kvm, target), moves);
  return true;
}

/**
 * Removes from the vCPU's ap_list what no longer belongs there. After a move the locks were dropped
 * and the list cannot be trusted, so the walk starts over.
 */
export function vgicPruneApList(vcpu: Vcpu): void {
  while (pruneUntilMove(vcpu));
}

// Flush and sync

/** In what {@link computeApListDepth} returns: an SGI wants more than one list register. */
const MULTI_SGI = 1 << 16;

/** List registers that the ap_list wants, and {@link MULTI_SGI}. Requires the ap_list lock. */
function computeApListDepth(vcpu: Vcpu, alone: boolean): number {
  const { host } = vcpu.kvm, { memory } = host;
  const head = vcpu.vgic.apListHead;
  let depth = 0;
  let touched = 0;
  let flags = 0;
  for (let at = listNext(memory, head); at !== head; at = listNext(memory, at)) {
    const irq = irqOfNode(memory, at);
    if (!alone) takeIrq(host, irq);
    const wanted = vgicIrqGetLrCount(irq);
    if (!alone) dropIrq(host, irq);
    depth += wanted;
    if (wanted > 1) flags = MULTI_SGI;
    touched++;
  }
  if (alone) host.locks.passed(RANK.IRQ, touched);
  countFlush(vcpu, touched);
  return depth | flags;
}

function countFlush(vcpu: Vcpu, touched: number): void {
  const stat = vcpu.vgic.cpuStat;
  if (stat === 0) return;
  const words = vcpu.kvm.host.memory.i32;
  add(words, (stat + STAT.flushes) >>> 2, 1);
  add(words, (stat + STAT.flushedIrqs) >>> 2, touched);
  words[(stat + STAT.lastFlushedIrqs) >>> 2] = touched;
}

/** Fills the list registers' shadow from the ap_list. Requires the ap_list lock, or to be `alone`. */
function vgicFlushLrState(vcpu: Vcpu, alone: boolean): void {
  const { kvm } = vcpu;
  const { host } = kvm, { memory } = host;
  const { nrLr } = vgicGlobal(host);
  const depth = computeApListDepth(vcpu, alone);
  const multiSgi = depth >= MULTI_SGI;
  if (depth > nrLr) vgicSortApList(vcpu);

  vcpu.vgic.flushedPending = 0;
  vcpu.vgic.flushedActive = 0;
  const head = vcpu.vgic.apListHead;
  let used = 0;
  let touched = 0;
  let lowest = 0xff;
  for (let node = listNext(memory, head); node !== head; node = listNext(memory, node)) {
    const irq = irqOfNode(memory, node);
    touched++;
    if (!alone) takeIrq(host, irq);
    // All senders of an SGI must be seen before anything of lower priority, which waits until then.
    const waits = multiSgi && irq.priority > lowest;
    if (!waits && vgicTargetOracle(kvm, irq) === vcpu.state.base) {
      vgicPopulateLr(vcpu, irq, used++);
      if (irq.source !== 0) lowest = irq.priority;
    }
    if (!alone) dropIrq(host, irq);
    if (waits) break;
    if (used === nrLr) {
      if (listNext(memory, node) !== head) {
        vgicSetUnderflow(vcpu);
        count(vcpu, STAT.overflows, 1);
      }
      break;
    }
  }
  if (alone) host.locks.passed(RANK.IRQ, touched);
  vgicClearLrs(vcpu, used, nrLr);
  setUsedLrs(vcpu, used);
}

function flushAny(vcpu: Vcpu): void {
  const { locks } = vcpu.kvm.host, { alone } = locks;
  if (!alone) takeApList(vcpu);
  else locks.passed(RANK.AP_LIST, 1);
  vgicFlushLrState(vcpu, alone);
  if (!alone) dropApList(vcpu);
}

/** After an exit: hardware state into the vgic, then what is done leaves the ap_list. Interrupts off. */
export function kvmVgicSyncHwstate(vcpu: Vcpu, port: El2Port): void {
  // An empty list means that no list register was used.
  if (apListIsEmpty(vcpu)) return;
  vgicSaveState(vcpu, port);
  const settled = settleSingle(vcpu);
  if (settled !== SETTLED.ALL) settleAny(vcpu, settled === SETTLED.FOLDED);
}

function settleAny(vcpu: Vcpu, folded: boolean): void {
  if (!folded && usedLrs(vcpu) !== 0) vgicFoldLrState(vcpu);
  if (!pruneSingle(vcpu)) vgicPruneApList(vcpu);
}

/**
 * Before an entry: the vgic's state into the hardware. Nothing to do, and no lock taken, when no
 * interrupt is in flight; one that is added meanwhile kicks the vCPU. Interrupts off.
 */
export function kvmVgicFlushHwstate(vcpu: Vcpu, port: El2Port): void {
  if (apListIsEmpty(vcpu)) return;
  if (!flushSingle(vcpu)) flushAny(vcpu);
  vgicRestoreState(vcpu, port);
}
