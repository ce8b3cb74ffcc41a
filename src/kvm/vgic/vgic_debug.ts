/**
 * The vgic's state for people. Mirrors arch/arm64/kvm/vgic/vgic-debug.c (debugfs file vgic-state).
 *
 * What differs: a read-out is rows of data from which the file's text is made; a row also says what no
 * kernel shows: the position on the ap_list, the list register that holds it, and how often and how
 * fast the interrupt was served. Nothing is locked or changed.
 */
import { fieldOf } from "../../arm/arch/gic.ts";
import { GICH_LR } from "../../arm/arch/gicv2.ts";
import { listLength, listNext } from "../../base/list.ts";
import {
  type Kvm,
  KvmVcpuLayout,
  type Vcpu,
  VGIC_NR_PRIVATE_IRQS,
  type VgicIrq,
} from "../kvm_host.ts";
import {
  irqIsPending,
  irqOfNode,
  irqStatAddress,
  irqStatOf,
  VGIC_CONFIG_LEVEL,
  VGIC_MAX_SPI,
  VGIC_MODEL_V2,
  VGIC_MODEL_V3,
  VGIC_NR_SGIS,
  vgicGetIrq,
} from "./vgic_irq.ts";
import {
  addLatencies,
  irqStatAt,
  LATENCY_BUCKETS,
  latencyPercentile,
  VgicIrqStatLayout,
} from "./vgic_stat.ts";

/** Counters of one interrupt. */
export interface VgicIrqCounts {
  readonly injected: number;
  readonly acked: number;
  readonly eoied: number;
  /** Virtual time of the last of these; undefined when there was none. */
  readonly lastEventNs: number | undefined;
  readonly latencyCount: number;
  /** Latency from line raised to the guest's vector, virtual ns; undefined without a sample. */
  readonly latencyP50Ns: number | undefined;
  readonly latencyP99Ns: number | undefined;
  readonly latencyMaxNs: number;
}

/** One interrupt's state. */
export interface VgicIrqState {
  readonly type: "SGI" | "PPI" | "SPI";
  readonly intid: number;
  /** vCPU whose private interrupt it is; undefined for an SPI. */
  readonly ownerVcpuId: number | undefined;
  /** vCPU it is to go to, or -1. */
  readonly targetVcpuId: number;
  readonly pendingLatch: boolean;
  readonly lineLevel: boolean;
  readonly active: boolean;
  readonly enabled: boolean;
  readonly hw: boolean;
  readonly level: boolean;
  readonly group: number;
  readonly hwIntid: number;
  /** The affinity it is routed to; of a GICv2 its GICD_ITARGETSR. */
  readonly mpidr: number;
  readonly source: number;
  readonly priority: number;
  /** vCPU whose ap_list it is on, or -1. */
  readonly vcpuId: number;
  /** Place on that ap_list from 0, or -1. */
  readonly apListPosition: number;
  /** List register that presents it to the vCPU that is in or about to enter the guest, or -1. */
  readonly lr: number;
  readonly counts: VgicIrqCounts | undefined;
}

/** Where interrupts are: place on their ap_list, list register, by an interrupt's address. */
interface Places {
  readonly apList: ReadonlyMap<number, number>;
  readonly lrs: ReadonlyMap<number, number>;
}

/** A row that is filled anew for each interrupt. */
type Row = { -readonly [K in keyof VgicIrqState]: VgicIrqState[K] };

function addPlaces(vcpu: Vcpu, apList: Map<number, number>, lrs: Map<number, number>): void {
  const { kvm, cpuIf, vgicV2 } = vcpu;
  const memory = kvm.host.memory;
  const head = vcpu.vgic.apListHead;
  let position = 0;
  for (let at = listNext(memory, head); at !== head; at = listNext(memory, at)) {
    apList.set(irqOfNode(memory, at).base, position++);
  }
  const addLr = (intid: number, lr: number) => {
    const irq = vgicGetIrq(kvm, vcpu, intid);
    if (irq?.vcpu === vcpu.state.base) lrs.set(irq.base, lr);
  };
  for (let lr = 0; lr < cpuIf.usedLrs; lr++) addLr(memory.ld32(cpuIf.lr + 8 * lr), lr);
  for (let lr = 0; lr < vgicV2.usedLrs; lr++) {
    addLr(fieldOf(memory.ld32(vgicV2.lr + 4 * lr), GICH_LR.VirtualID), lr);
  }
}

function placesOf(kvm: Kvm): Places {
  const apList = new Map<number, number>();
  const lrs = new Map<number, number>();
  for (const vcpu of kvm.vcpus) addPlaces(vcpu, apList, lrs);
  return { apList, lrs };
}

/** What most interrupts have: nothing has happened. */
const NO_COUNTS: VgicIrqCounts = {
  injected: 0,
  acked: 0,
  eoied: 0,
  lastEventNs: undefined,
  latencyCount: 0,
  latencyP50Ns: undefined,
  latencyP99Ns: undefined,
  latencyMaxNs: 0,
};

const { lastEventNs: LAST_EVENT, latencyCount: LATENCIES } = VgicIrqStatLayout.offset;

function countsOf(kvm: Kvm, irq: VgicIrq): VgicIrqCounts | undefined {
  const at = irqStatAddress(kvm, irq);
  if (at === 0) return undefined;
  const { memory } = irq;
  // Whatever is counted has a time.
  if (memory.ld53(at + LAST_EVENT) + memory.ld53(at + LATENCIES) === 0) return NO_COUNTS;
  const stat = irqStatAt(memory, at);
  const { injected, acked, eoied, lastEventNs, latencyCount } = stat;
  return {
    injected,
    acked,
    eoied,
    lastEventNs: lastEventNs === 0 ? undefined : lastEventNs,
    latencyCount,
    latencyP50Ns: latencyPercentile(stat, 0.5),
    latencyP99Ns: latencyPercentile(stat, 0.99),
    latencyMaxNs: stat.latencyMaxNs,
  };
}

/** The counters of one interrupt; undefined when there is none, and before vgicInit. */
export function vgicDebugCounts(
  kvm: Kvm,
  vcpu: Vcpu | undefined,
  intid: number,
): VgicIrqCounts | undefined {
  const irq = kvm.vgic.initialized ? vgicGetIrq(kvm, vcpu, intid) : undefined;
  return irq && countsOf(kvm, irq);
}

/**
 * Adds the latency histogram of one interrupt into `into`, {@link LATENCY_BUCKETS} counts; nothing before
 * vgicInit.
 */
export function vgicDebugLatencies(
  kvm: Kvm,
  vcpu: Vcpu | undefined,
  intid: number,
  into: number[] = new Array<number>(LATENCY_BUCKETS).fill(0),
): number[] {
  const irq = vgicGetIrq(kvm, vcpu, intid);
  const stat = irq && irqStatOf(kvm, irq);
  if (stat && stat.latencyCount > 0) addLatencies(into, stat);
  return into;
}

function typeOf(intid: number): "SGI" | "PPI" | "SPI" {
  return intid < VGIC_NR_SGIS ? "SGI" : intid < VGIC_NR_PRIVATE_IRQS ? "PPI" : "SPI";
}

const { vcpuId: VCPU_ID } = KvmVcpuLayout.offset;

/** The number of the vCPU whose structure is at `address`; -1 for 0. */
function vcpuIdAt({ host }: Kvm, address: number): number {
  return address === 0 ? -1 : host.memory.ld32(address + VCPU_ID);
}

function emptyRow(): Row {
  return {
    type: "SGI",
    intid: 0,
    ownerVcpuId: undefined,
    targetVcpuId: -1,
    pendingLatch: false,
    lineLevel: false,
    active: false,
    enabled: false,
    hw: false,
    level: false,
    group: 0,
    hwIntid: 0,
    mpidr: 0,
    source: 0,
    priority: 0,
    vcpuId: -1,
    apListPosition: -1,
    lr: -1,
    counts: undefined,
  };
}

function fillRow(row: Row, kvm: Kvm, irq: VgicIrq, owner: Vcpu | undefined, places: Places): Row {
  row.intid = irq.intid;
  row.type = typeOf(row.intid);
  row.ownerVcpuId = owner?.state.vcpuId;
  row.targetVcpuId = vcpuIdAt(kvm, irq.targetVcpu);
  row.pendingLatch = irq.pendingLatch;
  row.lineLevel = irq.lineLevel;
  row.active = irq.active;
  row.enabled = irq.enabled;
  row.hw = irq.hw;
  row.level = irq.config === VGIC_CONFIG_LEVEL;
  row.group = irq.group;
  row.hwIntid = irq.hwIntid;
  row.mpidr = kvm.vgic.vgicModel === VGIC_MODEL_V2 ? irq.targets : irq.mpidr;
  row.source = irq.source;
  row.priority = irq.priority;
  row.vcpuId = vcpuIdAt(kvm, irq.vcpu);
  row.apListPosition = places.apList.get(irq.base) ?? -1;
  row.lr = places.lrs.get(irq.base) ?? -1;
  row.counts = countsOf(kvm, irq);
  return row;
}

/**
 * Calls `visit` for every interrupt of the VM in vgic-state's order: private ones by vCPU, then the shared
 * ones. The row is the same each time, filled anew: for whoever does this often.
 */
export function vgicDebugEachIrq(kvm: Kvm, visit: (row: VgicIrqState) => void): void {
  if (!kvm.vgic.initialized) return;
  const places = placesOf(kvm);
  const row = emptyRow();
  for (const vcpu of kvm.vcpus) {
    for (let intid = 0; intid < VGIC_NR_PRIVATE_IRQS; intid++) {
      const irq = vgicGetIrq(kvm, vcpu, intid);
      if (irq) visit(fillRow(row, kvm, irq, vcpu, places));
    }
  }
  for (let i = 0; i < kvm.vgic.nrSpis; i++) {
    const irq = vgicGetIrq(kvm, undefined, VGIC_NR_PRIVATE_IRQS + i);
    if (irq && irq.intid <= VGIC_MAX_SPI) visit(fillRow(row, kvm, irq, undefined, places));
  }
}

/** The same as rows of their own. */
export function vgicDebugIrqs(kvm: Kvm): VgicIrqState[] {
  const rows: VgicIrqState[] = [];
  vgicDebugEachIrq(kvm, (row) => rows.push({ ...row }));
  return rows;
}

const digit = (flag: boolean): string => flag ? "1" : "0";

/** The seven flags PLAEHCG. */
function flags(s: VgicIrqState): string {
  return [s.pendingLatch, s.lineLevel, s.active, s.enabled, s.hw, s.level].map(digit).join("") +
    s.group;
}

/** One line of vgic-state. */
export function vgicDebugLine(s: VgicIrqState): string {
  const columns = [
    `       ${s.type}`,
    String(s.intid).padStart(4),
    `    ${String(s.targetVcpuId).padStart(2)}`,
    flags(s),
    String(s.hwIntid).padStart(8),
    s.mpidr.toString(16).padStart(8),
    ` ${s.source.toString(16).padStart(2)}`,
    String(s.priority).padStart(3),
    `     ${String(s.vcpuId).padStart(2)}`,
  ];
  return columns.join(" ") + " ";
}

/** The two lines above the interrupts of a vCPU, or above the shared ones. */
export function vgicDebugHeader(vcpuId: number | undefined): string[] {
  const name = vcpuId === undefined ? "SPI  0" : `VCPU${String(vcpuId).padStart(2)}`;
  return [`${name} TYP   ID TGT_ID PLAEHCG     HWID   TARGET SRC PRI VCPU_ID`, "-".repeat(64)];
}

/** The whole of vgic-state, without its final newline. */
export function vgicDebugText(kvm: Kvm): string {
  const dist = kvm.vgic;
  const lines = [
    "Distributor",
    "===========",
    `vgic_model:\t${dist.vgicModel === VGIC_MODEL_V3 ? "GICv3" : "GICv2"}`,
    `nr_spis:\t${dist.nrSpis}`,
    "nr_lpis:\t0",
    `enabled:\t${digit(dist.enabled)}`,
    "",
    "P=pending_latch, L=line_level, A=active",
    "E=enabled, H=hw, C=config (level=1, edge=0)",
    "G=group",
  ];
  for (const state of vgicDebugIrqs(kvm)) {
    const first = state.intid === 0 || state.intid === VGIC_NR_PRIVATE_IRQS;
    if (first) lines.push("", ...vgicDebugHeader(state.ownerVcpuId));
    lines.push(vgicDebugLine(state));
  }
  return lines.join("\n");
}

/** Interrupts on the vCPU's ap_list now, in order. */
export function apListIntids(vcpu: Vcpu): number[] {
  const memory = vcpu.kvm.host.memory;
  const intids: number[] = [];
  const head = vcpu.vgic.apListHead;
  for (let at = listNext(memory, head); at !== head; at = listNext(memory, at)) {
    intids.push(irqOfNode(memory, at).intid);
  }
  return intids;
}

/** Length of the vCPU's ap_list. */
export function apListDepth(vcpu: Vcpu): number {
  return listLength(vcpu.kvm.host.memory, vcpu.vgic.apListHead);
}

/** How many interrupts on the vCPU's ap_list are pending and enabled. */
export function apListPending(vcpu: Vcpu): number {
  const memory = vcpu.kvm.host.memory;
  const head = vcpu.vgic.apListHead;
  let pending = 0;
  for (let at = listNext(memory, head); at !== head; at = listNext(memory, at)) {
    const irq = irqOfNode(memory, at);
    if (irq.enabled && irqIsPending(irq)) pending++;
  }
  return pending;
}
