/**
 * Structures of KVM's that lie in the machine's memory as objects of one worker: `struct kvm`, and
 * `struct kvm_vcpu` with what belongs to it. They have no state of their own, so each worker makes its
 * own of the same addresses.
 */
import { InternalError } from "../base/errors.ts";
import type { El2Port } from "../arm/el2_port.ts";
import {
  ArchTimerContextLayout,
  ArchTimerCpuLayout,
  type Kvm,
  KvmCpuContextLayout,
  type KvmHost,
  KvmLayout,
  KvmRunLayout,
  KvmVcpuLayout,
  KvmVcpuStatLayout,
  TIMER_PTIMER,
  TIMER_VTIMER,
  type Vcpu,
  VgicCpuLayout,
  VgicDistLayout,
  VgicV2CpuIfLayout,
  VgicV3CpuIfLayout,
} from "./kvm_host.ts";
import { WorldSwitchMeter } from "./stats.ts";

function notLoaded(vcpuId: number): never {
  throw new InternalError(`vCPU ${vcpuId} is not loaded`);
}

/** The VM whose structure lies at `at`, without its vCPUs and devices. */
export function kvmViews(host: KvmHost, at: number): Kvm {
  const { memory } = host;
  const state = KvmLayout.at(memory, at);
  const vgic = VgicDistLayout.at(memory, state.vgic);
  const words = memory.signedAt(at, KvmLayout.size >>> 2);
  return { host, state, base: at, words, vgic, vcpus: [], ioBus: [] };
}

/** The vCPU of a VM whose structure lies at `at`; `ports` are the physical CPUs', by their number. */
export function vcpuViews(kvm: Kvm, at: number, ports: readonly El2Port[]): Vcpu {
  const m = kvm.host.memory;
  const state = KvmVcpuLayout.at(m, at);
  const vgic = VgicCpuLayout.at(m, state.vgicCpu);
  const timer = ArchTimerCpuLayout.at(m, state.timerCpu);
  const stat = KvmVcpuStatLayout.at(m, state.stat);
  const timerAt = (index: number) =>
    ArchTimerContextLayout.at(m, timer.timers + index * ArchTimerContextLayout.size);
  return {
    kvm,
    base: at,
    words: m.signedAt(at, KvmVcpuLayout.size >>> 2),
    statWords: m.signedAt(stat.base, KvmVcpuStatLayout.size >>> 2),
    state,
    vgic,
    timer,
    ctxt: KvmCpuContextLayout.at(m, state.ctxt),
    hostCtxt: KvmCpuContextLayout.at(m, state.hostCtxt),
    cpuIf: VgicV3CpuIfLayout.at(m, vgic.cpuIf),
    vgicV2: VgicV2CpuIfLayout.at(m, vgic.vgicV2),
    timers: [timerAt(TIMER_PTIMER), timerAt(TIMER_VTIMER)],
    run: KvmRunLayout.at(m, state.run),
    stat,
    meter: new WorldSwitchMeter(m, stat.worldSwitch),
    port: () => ports[state.cpu] ?? notLoaded(state.vcpuId),
  };
}
