/**
 * Guests' counters beside the host's. Mirrors arch/arm64/kvm/pmu.c: which hardware counters count in
 * guests only. With VHE the host's EL0 is EL0, too, so that these counters may count there only while a
 * guest is loaded; without, the world switch turns them on and off.
 */
import * as pmuModule from "../arm/arch/pmu.ts";
import { PMEVTYPER } from "../arm/arch/pmu.ts";
import * as sysregs from "../arm/arch/sysregs.ts";
import type { El2Port } from "../arm/el2_port.ts";
import type { PerfGuestEvents } from "../host/perf_event.ts";
import type { KvmHost, Vcpu } from "./kvm_host.ts";

// Of the module itself: what is imported V8 looks up and checks at each use.
const { typeRegister } = pmuModule;
const { R } = sysregs;

/** struct kvm_pmu_events of each physical CPU: `at` has a word of events_guest for each. */
export class KvmPmuEvents implements PerfGuestEvents {
  constructor(readonly host: KvmHost, readonly at: number) {}

  #word(): number {
    return this.at + 4 * this.host.currentCpu();
  }
  /** events_guest of the current CPU. */
  get guest(): number {
    return this.host.memory.ld32(this.#word());
  }
  /** kvm_set_pmu_events. */
  set(mask: number): void {
    this.host.memory.st32(this.#word(), (this.guest | mask) >>> 0);
  }
  /** kvm_clr_pmu_events. */
  clear(mask: number): void {
    this.host.memory.st32(this.#word(), (this.guest & ~mask) >>> 0);
  }
}

function changeEl0(port: El2Port, events: number, count: boolean): void {
  for (let n = 0; n < 32; n++) {
    if ((events & (1 << n)) === 0) continue;
    const register = typeRegister(n);
    const type = port.readLo(register);
    port.write(register, (count ? type & ~PMEVTYPER.U : type | PMEVTYPER.U) >>> 0, 0);
  }
}

/** kvm_vcpu_pmu_restore_guest, at vcpu_load and when counters change. */
export function kvmVcpuPmuRestoreGuest(vcpu: Vcpu): void {
  const { host } = vcpu.kvm;
  const events = host.hyp.vhe ? host.pmuEvents.guest : 0;
  if (events !== 0) changeEl0(vcpu.port(), events, true);
}

/** kvm_vcpu_pmu_restore_host, at vcpu_put. */
export function kvmVcpuPmuRestoreHost(vcpu: Vcpu): void {
  const { host } = vcpu.kvm;
  const events = host.hyp.vhe ? host.pmuEvents.guest : 0;
  if (events !== 0) changeEl0(vcpu.port(), events, false);
}

/** kvm_pmu_update_vcpu_events, before each entry of a host at EL1: what the switch is to turn on. */
export function kvmPmuUpdateVcpuEvents(vcpu: Vcpu): void {
  const { host } = vcpu.kvm;
  if (!host.hyp.vhe) vcpu.state.pmuEventsGuest = host.pmuEvents.guest;
}

/** Event counters of the host: PMCR_EL0.N. */
export function hostCounters(port: El2Port): number {
  return (port.readLo(R.PMCR_EL0) >>> 11) & 31;
}
