/**
 * Trapped accesses to the performance monitors. Mirrors the pmu parts of arch/arm64/kvm/sys_regs.c: all
 * of them trap always, at EL0 with the checks of PMUSERENR_EL0, which is the guest's here.
 *
 * What differs: a counter that is written goes on counting at EL0 at once, not at the next vcpu_load.
 */
import { CYCLE_COUNTER, PMCR, PMUSERENR } from "../arm/arch/pmu.ts";
import { R, sysreg, sysregKey, type SysregName } from "../arm/arch/sysregs.ts";
import { vcpuModePriv } from "./emulate.ts";
import { kvmInjectUndefined } from "./inject_fault.ts";
import type { SavedSysreg, Vcpu } from "./kvm_host.ts";
import { hostCounters, kvmVcpuPmuRestoreGuest } from "./pmu.ts";
import {
  eventType,
  kvmPmuDisableCounterMask,
  kvmPmuEnableCounterMask,
  kvmPmuGetCounterValue,
  kvmPmuGetPmceid,
  kvmPmuHandlePmcr,
  kvmPmuSetCounterEventType,
  kvmPmuSetCounterValue,
  kvmPmuSoftwareIncrement,
  kvmPmuValidCounterMask,
  kvmVcpuHasPmu,
  pmuReg,
  setPmuReg,
} from "./pmu_emul.ts";
import {
  give,
  given,
  razWi,
  REG,
  type SysRegAccess,
  type SysRegDesc,
  type SysRegParams,
  writeOnly,
} from "./sys_reg_desc.ts";

/** ARMV8_PMU_PMCR_MASK: what the guest can write. */
const PMCR_MASK = 0xff;
/** ARMV8_PMU_EVTYPE_MASK. */
const EVTYPE_MASK = 0xc800_ffff;
/** reset_unknown's value, and reset_pmcr's. */
const UNKNOWN = 0x1de7_ec7e_dbad_c0den;
const PMCR_UNKNOWN = 0xdeca_fbad & PMCR_MASK;

/** check_pmu_access_disabled: false when EL0 may not, which is UNDEFINED then. */
function allowed(vcpu: Vcpu, flags: number): boolean {
  if (vcpuModePriv(vcpu) || (pmuReg(vcpu, "PMUSERENR_EL0") & flags) !== 0) return true;
  kvmInjectUndefined(vcpu);
  return false;
}

/** An access for which PMUSERENR_EL0 has `flags` besides EN. */
function checked(
  flags: number,
  access: (vcpu: Vcpu, p: SysRegParams, desc: SysRegDesc) => boolean | void,
): SysRegAccess {
  return (vcpu, p, desc) => allowed(vcpu, PMUSERENR.EN | flags) && access(vcpu, p, desc) !== false;
}

const accessPmcr = checked(0, (vcpu, p) => {
  const old = pmuReg(vcpu, "PMCR_EL0");
  if (!p.isWrite) return void give(p, BigInt((old & ~(PMCR.P | PMCR.C)) >>> 0));
  // No level is AArch32: LC is RES1.
  kvmPmuHandlePmcr(vcpu, (old & ~PMCR_MASK) | (p.lo & PMCR_MASK) | PMCR.LC);
});

const accessPmselr = checked(PMUSERENR.ER, (vcpu, p) => {
  if (p.isWrite) setPmuReg(vcpu, "PMSELR_EL0", p.lo);
  else give(p, BigInt(selected(vcpu)));
});

const accessPmceid = (second: boolean): SysRegAccess =>
  checked(0, (vcpu, p) => give(p, BigInt(kvmPmuGetPmceid(vcpu, second) >>> 0)));

function selected(vcpu: Vcpu): number {
  return pmuReg(vcpu, "PMSELR_EL0") & 31;
}

/** pmu_counter_idx_valid. */
function indexIsValid(vcpu: Vcpu, n: number): boolean {
  const counters = (pmuReg(vcpu, "PMCR_EL0") >>> PMCR.N_SHIFT) & 31;
  if (n < counters || n === CYCLE_COUNTER) return true;
  kvmInjectUndefined(vcpu);
  return false;
}

/** access_pmu_evcntr. */
const accessCounter = (flags: number, of: (vcpu: Vcpu) => number): SysRegAccess =>
  checked(flags, (vcpu, p) => {
    const n = of(vcpu);
    if (!indexIsValid(vcpu, n)) return false;
    if (!p.isWrite) give(p, kvmPmuGetCounterValue(vcpu, n));
    else if (allowed(vcpu, PMUSERENR.EN)) kvmPmuSetCounterValue(vcpu, n, given(p));
    else return false;
    if (p.isWrite) kvmVcpuPmuRestoreGuest(vcpu);
  });

/** access_pmu_evtyper. */
const accessType = (of: (vcpu: Vcpu) => number): SysRegAccess =>
  checked(0, (vcpu, p) => {
    const n = of(vcpu);
    if (!indexIsValid(vcpu, n)) return false;
    if (!p.isWrite) return void give(p, BigInt((eventType(vcpu, n) & EVTYPE_MASK) >>> 0));
    kvmPmuSetCounterEventType(vcpu, p.lo, n);
    kvmVcpuPmuRestoreGuest(vcpu);
  });

/** access_pmcnten. */
const accessPmcnten = (sets: boolean): SysRegAccess =>
  checked(0, (vcpu, p) => {
    const old = pmuReg(vcpu, "PMCNTENSET_EL0");
    if (!p.isWrite) return void give(p, BigInt(old));
    const bits = p.lo & kvmPmuValidCounterMask(vcpu);
    setPmuReg(vcpu, "PMCNTENSET_EL0", sets ? old | bits : old & ~bits);
    if (sets) kvmPmuEnableCounterMask(vcpu, bits);
    else kvmPmuDisableCounterMask(vcpu, bits);
    kvmVcpuPmuRestoreGuest(vcpu);
  });

/** access_pminten and access_pmovs: one register under its two names. */
function accessMask(name: SavedSysreg, sets: boolean, flags: number): SysRegAccess {
  return (vcpu, p) => {
    if (!allowed(vcpu, flags)) return false;
    const old = pmuReg(vcpu, name);
    if (!p.isWrite) give(p, BigInt(old));
    else {
      const bits = p.lo & kvmPmuValidCounterMask(vcpu);
      setPmuReg(vcpu, name, sets ? old | bits : old & ~bits);
    }
    return true;
  };
}

const accessPmswinc: SysRegAccess = (vcpu, p, desc) =>
  p.isWrite
    ? checked(PMUSERENR.SW, (v) => kvmPmuSoftwareIncrement(v, p.lo & kvmPmuValidCounterMask(v)))(
      vcpu,
      p,
      desc,
    )
    : writeOnly(() => {})(vcpu, p, desc);

const accessPmuserenr: SysRegAccess = (vcpu, p) => {
  if (!p.isWrite) give(p, BigInt(pmuReg(vcpu, "PMUSERENR_EL0") & PMUSERENR.KEEP));
  else if (allowed(vcpu, 0)) setPmuReg(vcpu, "PMUSERENR_EL0", p.lo & PMUSERENR.KEEP);
  else return false;
  return true;
};

/** pmu_visibility. */
const visibility = (vcpu: Vcpu): number => kvmVcpuHasPmu(vcpu) ? 0 : REG.HIDDEN;

type Row = Omit<SysRegDesc, "key" | "name">;
const named = (name: SysregName, row: Row): SysRegDesc => ({
  key: sysreg(name).key,
  name,
  visibility,
  ...row,
});

function portCounters(vcpu: Vcpu): number {
  const { host } = vcpu.kvm;
  return hostCounters(host.port(host.currentCpu()));
}

/** reset_pmu_reg: the bits of the counters there are. */
function resetMask(vcpu: Vcpu): bigint {
  return UNKNOWN & BigInt((0x8000_0000 | ((1 << portCounters(vcpu)) - 1)) >>> 0);
}

/** reset_pmcr: as many counters as the host has; E clear, LC set, the rest UNKNOWN. */
function resetPmcr(vcpu: Vcpu): bigint {
  const { host } = vcpu.kvm;
  const pmcr = host.port(host.currentCpu()).readLo(R.PMCR_EL0);
  const fixed = pmcr & ~PMCR_MASK & ~(31 << PMCR.N_SHIFT) | (portCounters(vcpu) << PMCR.N_SHIFT);
  return BigInt(((fixed | (PMCR_UNKNOWN & ~PMCR.E)) | PMCR.LC) >>> 0);
}

/** PMEVCNTR<n>_EL0 and PMEVTYPER<n>_EL0, of all 31 counters that there could be. */
function numbered(): SysRegDesc[] {
  return Array.from({ length: 31 }, (_, n) => {
    const counter = `PMEVCNTR${n}_EL0` as SavedSysreg & SysregName;
    const type = `PMEVTYPER${n}_EL0` as SavedSysreg & SysregName;
    return [
      named(counter, {
        access: accessCounter(PMUSERENR.ER, () => n),
        reg: counter,
        reset: UNKNOWN & 0xffff_ffffn,
        getUser: (vcpu) => kvmPmuGetCounterValue(vcpu, n),
      }),
      named(type, { access: accessType(() => n), reg: type, reset: UNKNOWN & BigInt(EVTYPE_MASK) }),
    ];
  }).flat();
}

const kept = (name: SavedSysreg & SysregName, access: SysRegAccess): SysRegDesc =>
  named(name, { access, reg: name, reset: resetMask });

/** The other name of a register, by which its bits are cleared. */
const alias = (name: SysregName, reg: SavedSysreg, access: SysRegAccess): SysRegDesc =>
  named(name, { access, reg, reset: resetMask });

/** The rows of the monitors' registers. */
export const PMU_ROWS: readonly SysRegDesc[] = [
  kept("PMINTENSET_EL1", accessMask("PMINTENSET_EL1", true, 0)),
  alias("PMINTENCLR_EL1", "PMINTENSET_EL1", accessMask("PMINTENSET_EL1", false, 0)),
  { key: sysregKey(3, 0, 9, 14, 6), name: "PMMIR_EL1", access: razWi },
  named("PMCR_EL0", { access: accessPmcr, reg: "PMCR_EL0", reset: resetPmcr }),
  kept("PMCNTENSET_EL0", accessPmcnten(true)),
  alias("PMCNTENCLR_EL0", "PMCNTENSET_EL0", accessPmcnten(false)),
  alias("PMOVSCLR_EL0", "PMOVSSET_EL0", accessMask("PMOVSSET_EL0", false, PMUSERENR.EN)),
  named("PMSWINC_EL0", { access: accessPmswinc, getUser: () => 0n, setUser: () => 0 }),
  named("PMSELR_EL0", { access: accessPmselr, reg: "PMSELR_EL0", reset: UNKNOWN & 31n }),
  named("PMCEID0_EL0", { access: accessPmceid(false) }),
  named("PMCEID1_EL0", { access: accessPmceid(true) }),
  named("PMCCNTR_EL0", {
    access: accessCounter(PMUSERENR.CR, () => CYCLE_COUNTER),
    reg: "PMCCNTR_EL0",
    reset: UNKNOWN,
    getUser: (vcpu) => kvmPmuGetCounterValue(vcpu, CYCLE_COUNTER),
  }),
  named("PMXEVTYPER_EL0", { access: accessType(selected) }),
  named("PMXEVCNTR_EL0", { access: accessCounter(PMUSERENR.ER, selected) }),
  named("PMUSERENR_EL0", { access: accessPmuserenr, reg: "PMUSERENR_EL0", reset: 0n }),
  kept("PMOVSSET_EL0", accessMask("PMOVSSET_EL0", true, PMUSERENR.EN)),
  ...numbered(),
  named("PMCCFILTR_EL0", {
    access: accessType(() => CYCLE_COUNTER),
    reg: "PMCCFILTR_EL0",
    reset: 0n,
  }),
];
