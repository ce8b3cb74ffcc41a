/**
 * The guest's performance monitors. Mirrors arch/arm64/kvm/pmu-emul.c: every counter of the guest that
 * counts is a perf event of the host; chained counters and software increments are emulated.
 *
 * What differs: a counter that is 0 has a period, too (of 2^32 or 2^64 events), so that its overflow is
 * not lost; there is one PMU to choose.
 */
import * as pmuModule from "../arm/arch/pmu.ts";
import { PMCR, PMEVTYPER } from "../arm/arch/pmu.ts";
import { R } from "../arm/arch/sysregs.ts";
import * as kvmHost from "./kvm_host.ts";
import {
  type Kvm,
  type KvmHost,
  KvmLayout,
  SAVED,
  type SavedSysreg,
  type Vcpu,
} from "./kvm_host.ts";
import * as kvmWords from "./kvm_words.ts";
import * as pmuModuleModule from "./pmu.ts";

// Of the module itself: what is imported V8 looks up and checks at each use.
const { CYCLE_COUNTER, PMU_EVENT, PMU_PPI } = pmuModule;
const { ERRNO, irqchipInKernel, KVM_REQ, kvmMakeRequest, VGIC_NR_PRIVATE_IRQS } = kvmHost;
const { kvmVcpuPmuRestoreGuest } = pmuModuleModule;
const { VCPU_WORD: WORD } = kvmWords;
const PMCR_E = pmuModule.PMCR.E;

const VCPU_PMU_V3 = 3;
const MASK32 = 0xffff_ffffn;
const MAX_COUNTERS = 32;
/** kvm_pmu_event_mask: PMUv3 of Armv8.0 has 10 bits of event numbers. */
const EVENT_MASK = 0x3ff;
const NR_EVENTS = EVENT_MASK + 1;
/** The perf type of the host's one PMU. */
const HOST_PMU_TYPE = 8;

/** kvm_vcpu_has_pmu. */
export function kvmVcpuHasPmu(vcpu: Vcpu): boolean {
  return ((vcpu.state.features >> VCPU_PMU_V3) & 1) === 1;
}

// The guest's registers, which are kept in memory always.

const at = (vcpu: Vcpu, index: number): number => vcpu.ctxt.sysregs + 8 * index;

/** Bits 31 to 0 of a register of the monitors (__vcpu_sys_reg). */
export function pmuReg(vcpu: Vcpu, name: SavedSysreg): number {
  return vcpu.state.memory.ld32(at(vcpu, SAVED[name]));
}
/** PMCR_EL0, without a look-up by name: at every entry and exit. */
function pmcrOf(vcpu: Vcpu): number {
  return vcpu.state.memory.ld32(at(vcpu, SAVED.PMCR_EL0));
}
export function setPmuReg(vcpu: Vcpu, name: SavedSysreg, value: number): void {
  const m = vcpu.state.memory;
  m.st32(at(vcpu, SAVED[name]), value >>> 0);
  m.st32(at(vcpu, SAVED[name]) + 4, 0);
}

const counterAt = (vcpu: Vcpu, n: number): number =>
  at(vcpu, n === CYCLE_COUNTER ? SAVED.PMCCNTR_EL0 : SAVED.PMEVCNTR0_EL0 + n);
const typeAt = (vcpu: Vcpu, n: number): number =>
  at(vcpu, n === CYCLE_COUNTER ? SAVED.PMCCFILTR_EL0 : SAVED.PMEVTYPER0_EL0 + n);

/** PMEVTYPER<n>_EL0, or PMCCFILTR_EL0 for counter 31. */
export function eventType(vcpu: Vcpu, n: number): number {
  return vcpu.state.memory.ld32(typeAt(vcpu, n));
}

function perfEvent(vcpu: Vcpu, n: number): number {
  return vcpu.state.memory.ld32(vcpu.state.pmuPerfEvents + 4 * n);
}
function setPerfEvent(vcpu: Vcpu, n: number, handle: number): void {
  vcpu.state.memory.st32(vcpu.state.pmuPerfEvents + 4 * n, handle);
}

/** kvm_pmu_valid_counter_mask. */
export function kvmPmuValidCounterMask(vcpu: Vcpu): number {
  const n = (pmuReg(vcpu, "PMCR_EL0") >>> PMCR.N_SHIFT) & 31;
  return (0x8000_0000 | ((1 << n) - 1)) >>> 0;
}

const isOn = (vcpu: Vcpu): boolean => (pmcrOf(vcpu) & PMCR.E) !== 0;

/** kvm_pmu_idx_has_64bit_overflow. */
function has64bitOverflow(vcpu: Vcpu, n: number): boolean {
  return n === CYCLE_COUNTER && (pmuReg(vcpu, "PMCR_EL0") & PMCR.LC) !== 0;
}

/** kvm_pmu_get_counter_value: the register, and what its event has counted since. */
export function kvmPmuGetCounterValue(vcpu: Vcpu, n: number): bigint {
  if (!kvmVcpuHasPmu(vcpu)) return 0n;
  let value = vcpu.state.memory.ld64(counterAt(vcpu, n));
  const event = perfEvent(vcpu, n);
  if (event !== 0) value = BigInt.asUintN(64, value + vcpu.kvm.host.perf.readValue(event));
  return n === CYCLE_COUNTER ? value : value & MASK32;
}

/** kvm_pmu_set_counter_value. */
export function kvmPmuSetCounterValue(vcpu: Vcpu, n: number, value: bigint): void {
  if (!kvmVcpuHasPmu(vcpu)) return;
  const m = vcpu.state.memory, register = counterAt(vcpu, n);
  const delta = value - kvmPmuGetCounterValue(vcpu, n);
  m.st64(register, BigInt.asUintN(64, m.ld64(register) + delta));
  createPerfEvent(vcpu, n);
}

function releasePerfEvent(vcpu: Vcpu, n: number): void {
  const event = perfEvent(vcpu, n);
  if (event === 0) return;
  vcpu.kvm.host.perf.release(event);
  setPerfEvent(vcpu, n, 0);
}

/** kvm_pmu_stop_counter: what was counted goes to the register. */
function kvmPmuStopCounter(vcpu: Vcpu, n: number): void {
  if (perfEvent(vcpu, n) === 0) return;
  vcpu.state.memory.st64(counterAt(vcpu, n), kvmPmuGetCounterValue(vcpu, n));
  releasePerfEvent(vcpu, n);
}

/** kvm_pmu_vcpu_reset. */
export function kvmPmuVcpuReset(vcpu: Vcpu): void {
  for (let n = 0; n < MAX_COUNTERS; n++) kvmPmuStopCounter(vcpu, n);
}

/** kvm_pmu_vcpu_destroy. */
export function kvmPmuVcpuDestroy(vcpu: Vcpu): void {
  for (let n = 0; n < MAX_COUNTERS; n++) releasePerfEvent(vcpu, n);
}

/** kvm_pmu_enable_counter_mask: `mask` as written to PMCNTENSET_EL0. */
export function kvmPmuEnableCounterMask(vcpu: Vcpu, mask: number): void {
  if (!kvmVcpuHasPmu(vcpu) || !isOn(vcpu)) return;
  for (let n = 0; n < MAX_COUNTERS; n++) {
    if ((mask & (1 << n)) === 0) continue;
    const event = perfEvent(vcpu, n);
    if (event === 0) createPerfEvent(vcpu, n);
    else vcpu.kvm.host.perf.enable(event);
  }
}

/** kvm_pmu_disable_counter_mask. */
export function kvmPmuDisableCounterMask(vcpu: Vcpu, mask: number): void {
  if (!kvmVcpuHasPmu(vcpu)) return;
  for (let n = 0; n < MAX_COUNTERS; n++) {
    const event = mask & (1 << n) ? perfEvent(vcpu, n) : 0;
    if (event !== 0) vcpu.kvm.host.perf.disable(event);
  }
}

/** kvm_pmu_overflow_status. */
function overflowStatus(vcpu: Vcpu): number {
  return isOn(vcpu) ? pmuReg(vcpu, "PMOVSSET_EL0") & pmuReg(vcpu, "PMINTENSET_EL1") : 0;
}

/** kvm_pmu_update_state: the level of the overflow interrupt goes to the vgic. */
function kvmPmuUpdateState(vcpu: Vcpu): void {
  const { state, kvm } = vcpu;
  if (!kvmVcpuHasPmu(vcpu)) return;
  const level = overflowStatus(vcpu) !== 0;
  if (state.pmuIrqLevel === level) return;
  state.pmuIrqLevel = level;
  if (!irqchipInKernel(kvm)) return;
  const owner = state.pmuPerfEvents;
  kvm.host.vgic.kvmVgicInjectIrq(kvm, state.vcpuId, state.pmuIrqNum, level, owner);
}

/** Of a vCPU's words: its monitors are off, and so is their interrupt, so that neither flush nor sync has anything to do. */
export function kvmPmuIsQuiet(words: Int32Array): boolean {
  return (((words[WORD.PMCR] as number) & PMCR_E) | (words[WORD.PMU_LEVEL] as number)) === 0;
}

/** kvm_pmu_flush_hwstate: an overflow met while in the host. */
export function kvmPmuFlushHwstate(vcpu: Vcpu): void {
  kvmPmuUpdateState(vcpu);
}

/** kvm_pmu_sync_hwstate: one met in the guest. */
export function kvmPmuSyncHwstate(vcpu: Vcpu): void {
  kvmPmuUpdateState(vcpu);
}

/** kvm_pmu_counter_increment: of the counters of `mask` that count `event`, with overflow and chain. */
function counterIncrement(vcpu: Vcpu, mask: number, event: number): void {
  if (!isOn(vcpu)) return;
  const enabled = mask & pmuReg(vcpu, "PMCNTENSET_EL0");
  for (let n = 0; n < CYCLE_COUNTER; n++) {
    if ((enabled & (1 << n)) === 0 || (eventType(vcpu, n) & EVENT_MASK) !== event) continue;
    const m = vcpu.state.memory;
    const value = (m.ld64(counterAt(vcpu, n)) + 1n) & MASK32;
    m.st64(counterAt(vcpu, n), value);
    if (value === 0n) counterOverflowed(vcpu, n);
  }
}

/** PMOVSSET_EL0, and the odd counter above an even one. */
function counterOverflowed(vcpu: Vcpu, n: number): void {
  setPmuReg(vcpu, "PMOVSSET_EL0", pmuReg(vcpu, "PMOVSSET_EL0") | (1 << n));
  const canChain = n % 2 === 0 && n + 1 < CYCLE_COUNTER;
  if (canChain) counterIncrement(vcpu, 1 << (n + 1), PMU_EVENT.CHAIN);
}

/** compute_period: events until the counter overflows. */
function computePeriod(vcpu: Vcpu, n: number, counter: bigint): bigint {
  const modulus = has64bitOverflow(vcpu, n) ? 2n ** 64n : 2n ** 32n;
  return modulus - (counter & (modulus - 1n));
}

/** kvm_pmu_perf_overflow: the host's event `handle` of the vCPU's counter `n` has come to its period's end. */
function kvmPmuPerfOverflow(vcpu: Vcpu, handle: number, n: number): void {
  const { host } = vcpu.kvm;
  host.perf.stop(handle);
  host.perf.setPeriod(handle, computePeriod(vcpu, n, kvmPmuGetCounterValue(vcpu, n)));
  counterOverflowed(vcpu, n);
  if (overflowStatus(vcpu) !== 0) {
    kvmMakeRequest(vcpu, KVM_REQ.IRQ_PENDING);
    host.kvmVcpuKick(vcpu);
  }
  host.perf.start(handle);
}

/** kvm_pmu_software_increment. */
export function kvmPmuSoftwareIncrement(vcpu: Vcpu, mask: number): void {
  counterIncrement(vcpu, mask, PMU_EVENT.SW_INCR);
}

/** kvm_pmu_handle_pmcr. */
export function kvmPmuHandlePmcr(vcpu: Vcpu, value: number): void {
  if (!kvmVcpuHasPmu(vcpu)) return;
  setPmuReg(vcpu, "PMCR_EL0", value & ~(PMCR.C | PMCR.P));
  const enabled = pmuReg(vcpu, "PMCNTENSET_EL0");
  if (value & PMCR.E) kvmPmuEnableCounterMask(vcpu, enabled);
  else kvmPmuDisableCounterMask(vcpu, enabled);
  if (value & PMCR.C) kvmPmuSetCounterValue(vcpu, CYCLE_COUNTER, 0n);
  const valid = value & PMCR.P ? kvmPmuValidCounterMask(vcpu) & 0x7fff_ffff : 0;
  for (let n = 0; n < CYCLE_COUNTER; n++) {
    if (valid & (1 << n)) kvmPmuSetCounterValue(vcpu, n, 0n);
  }
  if (vcpu.state.cpu >= 0) kvmVcpuPmuRestoreGuest(vcpu);
}

function isFiltered(kvm: Kvm, event: number): boolean {
  const { state } = kvm;
  if (!state.pmuHasFilter) return false;
  return (state.memory.ld32(state.pmuFilter + 4 * (event >> 5)) & (1 << (event & 31))) === 0;
}

/** kvm_pmu_create_perf_event: the host's event of counter `n`, by its type and value. */
function createPerfEvent(vcpu: Vcpu, n: number): void {
  const { host } = vcpu.kvm;
  kvmPmuStopCounter(vcpu, n);
  const type = eventType(vcpu, n);
  const event = n === CYCLE_COUNTER ? PMU_EVENT.CPU_CYCLES : type & EVENT_MASK;
  if (event === PMU_EVENT.SW_INCR || event === PMU_EVENT.CHAIN) return;
  if (isFiltered(vcpu.kvm, event)) return;
  const enabled = isOn(vcpu) && (pmuReg(vcpu, "PMCNTENSET_EL0") & (1 << n)) !== 0;
  const attr = {
    config: event,
    excludeUser: (type & PMEVTYPER.U) !== 0,
    excludeKernel: (type & PMEVTYPER.P) !== 0,
    wide: n === CYCLE_COUNTER,
    disabled: !enabled,
    samplePeriod: computePeriod(vcpu, n, kvmPmuGetCounterValue(vcpu, n)),
  };
  const { thread, base } = vcpu.state;
  setPerfEvent(vcpu, n, host.perf.create(attr, thread, host.pmuPerfKind, base, n));
}

/** kvm_pmu_set_counter_event_type. */
export function kvmPmuSetCounterEventType(vcpu: Vcpu, data: number, n: number): void {
  if (!kvmVcpuHasPmu(vcpu)) return;
  const keep =
    (PMEVTYPER.P | PMEVTYPER.U | PMEVTYPER.NSH | (n === CYCLE_COUNTER ? 0 : EVENT_MASK)) >>> 0;
  vcpu.state.memory.st64(typeAt(vcpu, n), BigInt((data & keep) >>> 0));
  createPerfEvent(vcpu, n);
}

/** kvm_pmu_get_pmceid: what the host counts and the filter lets through. */
export function kvmPmuGetPmceid(vcpu: Vcpu, second: boolean): number {
  const { host, state } = vcpu.kvm;
  const register = second ? R.PMCEID1_EL0 : R.PMCEID0_EL0;
  const value = host.port(host.currentCpu()).readLo(register);
  if (!state.pmuHasFilter) return value;
  return (value & state.memory.ld32(state.pmuFilter + (second ? 4 : 0))) >>> 0;
}

// Set up by user space

/** kvm_arm_pmu_v3_enable, before the first run: 0 or an errno. */
export function kvmArmPmuV3Enable(vcpu: Vcpu): number {
  const { state, kvm } = vcpu;
  if (!kvmVcpuHasPmu(vcpu)) return 0;
  if (!state.pmuCreated) return ERRNO.EINVAL;
  if (irqchipInKernel(kvm)) {
    const irq = state.pmuIrqNum;
    if (!isPpi(irq) && irq >= VGIC_NR_PRIVATE_IRQS + kvm.vgic.nrSpis) return ERRNO.EINVAL;
  } else if (state.pmuIrqNum !== 0) return ERRNO.EINVAL;
  kvmMakeRequest(vcpu, KVM_REQ.RELOAD_PMU);
  return 0;
}

/** KVM_ARM_VCPU_PMU_V3_*: attributes of group KVM_ARM_VCPU_PMU_V3_CTRL. */
export const PMU_V3_ATTR = { IRQ: 0, INIT: 1, FILTER: 2, SET_PMU: 3 } as const;
/** KVM_PMU_EVENT_*: the action in bits 39 to 32 of a filter's value. */
export const KVM_PMU_EVENT = { ALLOW: 0, DENY: 1 } as const;

const isPpi = (irq: number): boolean => irq >= 16 && irq < VGIC_NR_PRIVATE_IRQS;
const isSpi = (irq: number): boolean => irq >= VGIC_NR_PRIVATE_IRQS && irq <= 1019;

/** pmu_irq_is_valid: a PPI is the same on all vCPUs, an SPI another on each. */
function irqIsValid(kvm: Kvm, irq: number): boolean {
  const others = kvm.vcpus.map(({ state }) => state.pmuIrqNum).filter((n) => n !== 0);
  return others.every((other) => isPpi(irq) ? other === irq : other !== irq);
}

function setIrq(vcpu: Vcpu, irq: number): number {
  const { state, kvm } = vcpu;
  if (!irqchipInKernel(kvm) || !(isPpi(irq) || isSpi(irq))) return ERRNO.EINVAL;
  if (!irqIsValid(kvm, irq)) return ERRNO.EINVAL;
  if (state.pmuIrqNum !== 0) return ERRNO.EBUSY;
  state.pmuIrqNum = irq;
  return 0;
}

/** kvm_arm_pmu_v3_init. */
function init(vcpu: Vcpu): number {
  const { state, kvm } = vcpu;
  if (irqchipInKernel(kvm)) {
    if (!kvm.vgic.initialized) return ERRNO.ENODEV;
    if (state.pmuIrqNum === 0) return ERRNO.ENXIO;
    const error = kvm.host.vgic.kvmVgicSetOwner(vcpu, state.pmuIrqNum, state.pmuPerfEvents);
    if (error !== 0) return error;
  }
  state.pmuCreated = true;
  return 0;
}

/** struct kvm_pmu_event_filter in one value: base_event in bits 15 to 0, nevents in 31 to 16, action in 39 to 32. */
function setFilter(kvm: Kvm, filter: bigint): number {
  const base = Number(filter & 0xffffn), count = Number((filter >> 16n) & 0xffffn);
  const action = Number(filter >> 32n);
  if (base + count > NR_EVENTS || action > KVM_PMU_EVENT.DENY) return ERRNO.EINVAL;
  const { state } = kvm;
  if (state.hasRanOnce) return ERRNO.EBUSY;
  const allow = action === KVM_PMU_EVENT.ALLOW;
  // The first filter says what becomes of events that none names: the opposite.
  if (!state.pmuHasFilter) {
    const { offset } = KvmLayout;
    const start = state.base + offset.pmuFilter;
    state.memory.u8.fill(allow ? 0 : 0xff, start, start + NR_EVENTS / 8);
    state.pmuHasFilter = true;
  }
  for (let event = base; event < base + count; event++) {
    const word = state.pmuFilter + 4 * (event >> 5), bit = 1 << (event & 31);
    const old = state.memory.ld32(word);
    state.memory.st32(word, (allow ? old | bit : old & ~bit) >>> 0);
  }
  return 0;
}

function setPmu(kvm: Kvm, type: number): number {
  if (type !== HOST_PMU_TYPE) return ERRNO.ENXIO;
  return kvm.state.hasRanOnce ? ERRNO.EBUSY : 0;
}

/** kvm_arm_pmu_v3_set_attr: 0 or an errno. */
export function kvmArmPmuV3SetAttr(vcpu: Vcpu, attr: number, value: bigint): number {
  if (!kvmVcpuHasPmu(vcpu)) return ERRNO.ENODEV;
  if (vcpu.state.pmuCreated) return ERRNO.EBUSY;
  switch (attr) {
    case PMU_V3_ATTR.IRQ:
      return setIrq(vcpu, Number(value));
    case PMU_V3_ATTR.INIT:
      return init(vcpu);
    case PMU_V3_ATTR.FILTER:
      return setFilter(vcpu.kvm, value);
    case PMU_V3_ATTR.SET_PMU:
      return setPmu(vcpu.kvm, Number(value));
    default:
      return ERRNO.ENXIO;
  }
}

/** kvm_arm_pmu_v3_get_attr: the value, or an errno. */
export function kvmArmPmuV3GetAttr(vcpu: Vcpu, attr: number): bigint | number {
  if (attr !== PMU_V3_ATTR.IRQ) return ERRNO.ENXIO;
  if (!irqchipInKernel(vcpu.kvm)) return ERRNO.EINVAL;
  if (!kvmVcpuHasPmu(vcpu)) return ERRNO.ENODEV;
  return vcpu.state.pmuIrqNum === 0 ? ERRNO.ENXIO : BigInt(vcpu.state.pmuIrqNum);
}

/** kvm_arm_pmu_v3_has_attr. */
export function kvmArmPmuV3HasAttr(vcpu: Vcpu, attr: number): boolean {
  return kvmVcpuHasPmu(vcpu) && Object.values<number>(PMU_V3_ATTR).includes(attr);
}

/** What the host's perf calls for a vCPU's events; `kind` of {@link KvmHost.pmuPerfKind}. */
export function pmuOverflowFunction(
  host: KvmHost,
): (event: number, arg: number, index: number) => void {
  return (event, arg, index) => kvmPmuPerfOverflow(host.vcpuAt(arg), event, index);
}

export { PMU_PPI };
