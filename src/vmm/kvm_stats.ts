/** The `--stats` of a guest under KVM: its counters as JSON (docs/stats.md). */
import { PORT_KINDS, type PortKind } from "../arm/el2_port.ts";
import { LOCK_CLASSES, type LockClass } from "../base/lock.ts";
import type { Host, HostMode } from "../host/host.ts";
import {
  CYCLES_PER_NS,
  noSwitches,
  SWITCH_REASON,
  SWITCH_REASONS,
  switchPercentile,
  type SwitchTotals,
  type Vcpu,
  type VcpuHandle,
  vgicDebugIrqs,
  type VgicIrqState,
  type Vm,
} from "../kvm/api.ts";
import { EXCEPTION_CLASS_NAMES } from "../trace/tracepoints.ts";

/** kvm_stat's counters of a vCPU that are kept, by KVM's names. */
export const KVM_STAT_NAMES = [
  "exits",
  "hvc_exit_stat",
  "wfe_exit_stat",
  "wfi_exit_stat",
  "mmio_exit_user",
  "mmio_exit_kernel",
  "signal_exits",
  "halt_successful_poll",
  "halt_attempted_poll",
  "halt_poll_invalid",
  "halt_wakeup",
  "halt_wait_ns",
] as const;
export type KvmStatName = (typeof KVM_STAT_NAMES)[number];

/** Times in virtual nanoseconds; `null` where there is no sample. */
export interface SwitchStats {
  readonly count: number;
  readonly totalNs: number;
  readonly p50Ns: number | null;
  readonly p99Ns: number | null;
  readonly maxNs: number;
  readonly cycles: number;
  readonly registersMoved: number;
}

export interface VcpuStats {
  readonly vm: number;
  readonly vcpu: number;
  /** Instructions the guest retired here. */
  readonly insns: number;
  /** Of these, those that ran as translated code. */
  readonly translatedInsns: number;
  readonly exits: number;
  /** By KVM's names of exception classes, and IRQ, SERROR. Their sum is `exits`. */
  readonly exitsByReason: Readonly<Record<string, number>>;
  readonly kvmStat: Readonly<Record<KvmStatName, number>>;
  /** Timer interrupts raised for the guest, and soft timers that woke it from WFI. */
  readonly timersFired: {
    readonly virtual: number;
    readonly physical: number;
    readonly background: number;
  };
  readonly worldSwitches: {
    readonly byReason: Readonly<Record<string, SwitchStats>>;
    /** el2_port operations of the vCPU's exits and entries, by kind; kinds not done are absent. */
    readonly operations: Readonly<Partial<Record<PortKind, number>>>;
  };
}

export interface InterruptStats {
  readonly vm: number;
  readonly intid: number;
  readonly type: "SGI" | "PPI" | "SPI";
  /** The vCPU a private one belongs to; `null` for an SPI. */
  readonly vcpu: number | null;
  readonly injected: number;
  readonly acked: number;
  readonly eoied: number;
  /** From line raised to the guest's vector. */
  readonly latency: {
    readonly count: number;
    readonly p50Ns: number | null;
    readonly p99Ns: number | null;
    readonly maxNs: number;
  };
}

export interface LockClassStats {
  readonly acquisitions: number;
  readonly contended: number;
}

export interface KvmStats {
  /** The world switch: the host kernel at EL2, or at EL1. */
  readonly mode: HostMode;
  readonly vcpus: readonly VcpuStats[];
  /** Interrupts that were injected at least once. */
  readonly interrupts: readonly InterruptStats[];
  readonly locks: Readonly<Record<LockClass, LockClassStats>>;
}

/** An exit reason (stats.ts) by KVM's name. */
export function reasonName(reason: number): string {
  if (reason === SWITCH_REASON.IRQ) return "IRQ";
  if (reason === SWITCH_REASON.SERROR) return "SERROR";
  if (reason === SWITCH_REASON.HYP_GONE) return "HYP_GONE";
  return EXCEPTION_CLASS_NAMES[reason] ?? `EC_0x${reason.toString(16).padStart(2, "0")}`;
}

function switchStats(totals: SwitchTotals): SwitchStats {
  return {
    count: totals.count,
    totalNs: totals.totalNs,
    p50Ns: switchPercentile(totals, 0.5) ?? null,
    p99Ns: switchPercentile(totals, 0.99) ?? null,
    maxNs: totals.maxNs,
    cycles: Math.round(totals.operationNs * CYCLES_PER_NS),
    registersMoved: totals.registersMoved,
  };
}

/** One vCPU's switches by reason's name; two classes may share a name. */
function switchesOf({ meter }: Vcpu): Map<string, SwitchTotals> {
  const byName = new Map<string, SwitchTotals>();
  for (let reason = 0; meter && reason < SWITCH_REASONS; reason++) {
    if (meter.count(reason) === 0) continue;
    const name = reasonName(reason);
    const totals = byName.get(name) ?? noSwitches();
    meter.addTo(totals, reason);
    byName.set(name, totals);
  }
  return byName;
}

function operationsOf({ meter }: Vcpu): Partial<Record<PortKind, number>> {
  const done = PORT_KINDS.map((kind, k) => [kind, meter?.operations(k) ?? 0] as const);
  return Object.fromEntries(done.filter(([, count]) => count > 0));
}

/** What a vCPU has retired up to now, in the guest or not, and how much of it ran as translated code. */
export interface InsnCounts {
  readonly insns: number;
  readonly translatedInsns: number;
}

function vcpuStats(
  vm: number,
  { vcpu }: VcpuHandle,
  { insns, translatedInsns }: InsnCounts,
  irqs: readonly VgicIrqState[],
): VcpuStats {
  const { stat, state } = vcpu;
  const switches = [...switchesOf(vcpu)];
  const fired = (intid: number | undefined) =>
    irqs.find((i) => i.intid === intid && i.ownerVcpuId === state.vcpuId)?.counts?.injected ?? 0;
  const [physical, virtual] = vcpu.timers;
  return {
    vm,
    vcpu: state.vcpuId,
    insns,
    translatedInsns,
    exits: stat.exits,
    exitsByReason: Object.fromEntries(switches.map(([name, { count }]) => [name, count])),
    kvmStat: Object.fromEntries(KVM_STAT_NAMES.map((name) => [name, stat[name]])) as Record<
      KvmStatName,
      number
    >,
    timersFired: {
      virtual: fired(virtual.irq),
      physical: fired(physical.irq),
      background: stat.bgTimerExpired,
    },
    worldSwitches: {
      byReason: Object.fromEntries(switches.map(([name, t]) => [name, switchStats(t)])),
      operations: operationsOf(vcpu),
    },
  };
}

function interruptStats(vm: number, irq: VgicIrqState): InterruptStats[] {
  const { counts } = irq;
  if (!counts || counts.injected === 0) return [];
  return [{
    vm,
    intid: irq.intid,
    type: irq.type,
    vcpu: irq.ownerVcpuId ?? null,
    injected: counts.injected,
    acked: counts.acked,
    eoied: counts.eoied,
    latency: {
      count: counts.latencyCount,
      p50Ns: counts.latencyP50Ns ?? null,
      p99Ns: counts.latencyP99Ns ?? null,
      maxNs: counts.latencyMaxNs,
    },
  }];
}

/** The statistics of the VMs, with instructions by `insnsOf`. */
export function kvmStats(
  vms: readonly Vm[],
  host: Host,
  insnsOf: (vcpu: Vcpu) => InsnCounts,
): KvmStats {
  const irqs = vms.map(({ kvm }) => vgicDebugIrqs(kvm));
  const { stats } = host.locks;
  return {
    mode: host.mode,
    vcpus: vms.flatMap((vm, i) =>
      vm.vcpus.map((v) => vcpuStats(i, v, insnsOf(v.vcpu), irqs[i] ?? []))
    ),
    interrupts: irqs.flatMap((of, i) => of.flatMap((irq) => interruptStats(i, irq))),
    locks: Object.fromEntries(
      LOCK_CLASSES.map((name) => {
        const { acquisitions, contended } = stats[name];
        return [name, { acquisitions, contended }];
      }),
    ) as Record<LockClass, LockClassStats>,
  };
}
