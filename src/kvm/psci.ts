/**
 * The Power State Coordination Interface for guests. Mirrors arch/arm64/kvm/psci.c.
 *
 * What differs: there are no AArch32 guests, so that no function is refused for its 64-bit number.
 */
import { TWO32 } from "../base/bits.ts";
import {
  kvmMpidrToVcpu,
  kvmVcpuGetMpidrAff,
  vcpuGetReg,
  vcpuGetRegLo,
  vcpuReadSysReg,
  vcpuSetReg,
  vcpuSetRegHalves,
} from "./emulate.ts";
import {
  ERRNO,
  KVM_EXIT,
  KVM_REQ,
  KVM_SYSTEM_EVENT,
  KVM_SYSTEM_EVENT_RESET_FLAG_PSCI_RESET2,
  kvmMakeRequest,
  MP_STATE,
  RET,
  type Vcpu,
} from "./kvm_host.ts";
import {
  kvmArmVcpuPowerOff,
  kvmArmVcpuStopped,
  kvmMakeAllCpusRequest,
  kvmVcpuWfi,
} from "./kvm_main.ts";
import {
  PSCI,
  PSCI_0_1,
  PSCI_AFFINITY,
  PSCI_RESET2,
  PSCI_RET,
  PSCI_TOS_MP,
  PSCI_VERSION,
  SMCCC,
} from "./psci_numbers.ts";

/** Bits of MPIDR_EL1 that identify a CPU: Aff3 to Aff0. */
const MPIDR_HWID_BITMASK = 0xff_00ff_ffffn;
/** SCTLR_EL1.EE. */
const SCTLR_EE = 1n << 25n;

function setRetval(vcpu: Vcpu, n: number, value: number | bigint): void {
  if (typeof value === "bigint") return vcpuSetReg(vcpu, n, BigInt.asUintN(64, value));
  // A negative one is an error: all 64 bits of it.
  vcpuSetRegHalves(vcpu, n, value >>> 0, Math.floor(value / TWO32) >>> 0);
}

/** smccc_set_retval: X0, and zeros in X1 to X3. */
export function smcccSetRetval(vcpu: Vcpu, ...values: readonly (number | bigint)[]): void {
  for (let n = 0; n < 4; n++) setRetval(vcpu, n, values[n] ?? 0);
}

/** KVM_ARM_VCPU_PSCI_0_2. */
const FEATURE_PSCI_0_2 = 1 << 2;

/** kvm_psci_version: what user space chose, else the newest; 0.1 for a vCPU without the feature. */
export function kvmPsciVersion(vcpu: Vcpu): number {
  if ((vcpu.state.features & FEATURE_PSCI_0_2) === 0) return PSCI_VERSION.V0_1;
  return vcpu.kvm.state.psciVersion || PSCI_VERSION.V1_1;
}

function validAffinity(affinity: bigint): boolean {
  return (affinity & ~MPIDR_HWID_BITMASK) === 0n;
}

/** kvm_psci_vcpu_on: starts a stopped vCPU at X2 with X3 in its X0. */
function kvmPsciVcpuOn(source: Vcpu): number {
  const affinity = vcpuGetReg(source, 1);
  if (!validAffinity(affinity)) return PSCI_RET.INVALID_PARAMS;
  const vcpu = kvmMpidrToVcpu(source.kvm, Number(affinity));
  if (vcpu === undefined) return PSCI_RET.INVALID_PARAMS;
  if (!kvmArmVcpuStopped(vcpu)) {
    const old = kvmPsciVersion(source) === PSCI_VERSION.V0_1;
    return old ? PSCI_RET.INVALID_PARAMS : PSCI_RET.ALREADY_ON;
  }
  const { state } = vcpu;
  state.resetPc = vcpuGetReg(source, 2);
  state.resetR0 = vcpuGetReg(source, 3);
  state.resetBe = (vcpuReadSysReg(source, "SCTLR_EL1") & SCTLR_EE) !== 0n;
  state.resetPending = true;
  // The request first: whoever sees the vCPU runnable must also see that it is to be reset.
  kvmMakeRequest(vcpu, KVM_REQ.VCPU_RESET);
  state.mpState = MP_STATE.RUNNABLE;
  vcpu.kvm.host.kvmVcpuWakeUp(vcpu);
  return PSCI_RET.SUCCESS;
}

/** psci_affinity_mask: which affinity fields count at a level, 0 to 3; 0 for others. */
function affinityMask(level: bigint): bigint {
  return level <= 3n ? MPIDR_HWID_BITMASK & ~((1n << (level * 8n)) - 1n) : 0n;
}

/** kvm_psci_vcpu_affinity_info: whether any CPU of an affinity is on. */
function kvmPsciVcpuAffinityInfo(vcpu: Vcpu): number {
  const affinity = vcpuGetReg(vcpu, 1);
  if (!validAffinity(affinity)) return PSCI_RET.INVALID_PARAMS;
  const mask = affinityMask(vcpuGetReg(vcpu, 2));
  if (mask === 0n) return PSCI_RET.INVALID_PARAMS;
  const matching = vcpu.kvm.vcpus.filter((other) =>
    (BigInt(kvmVcpuGetMpidrAff(other)) & mask) === (affinity & mask)
  );
  if (matching.length === 0) return PSCI_RET.INVALID_PARAMS;
  const anyOn = matching.some((other) => !kvmArmVcpuStopped(other));
  return anyOn ? PSCI_AFFINITY.ON : PSCI_AFFINITY.OFF;
}

/** kvm_prepare_system_event: all vCPUs stop at once; user space decides what becomes of the VM. */
function kvmPrepareSystemEvent(vcpu: Vcpu, type: number, flags: number): void {
  for (const other of vcpu.kvm.vcpus) other.state.mpState = MP_STATE.STOPPED;
  kvmMakeAllCpusRequest(vcpu.kvm, KVM_REQ.SLEEP);
  vcpu.run.systemEventType = type;
  vcpu.run.systemEventFlags = flags;
  vcpu.run.exitReason = KVM_EXIT.SYSTEM_EVENT;
}

function narrowTo32bit(vcpu: Vcpu): void {
  for (let n = 1; n < 4; n++) vcpuSetRegHalves(vcpu, n, vcpuGetRegLo(vcpu, n), 0);
}

/** X0 at once and the vCPU's fate: what every call comes to. */
function answer(vcpu: Vcpu, value: number, ret: number = RET.GUEST): number {
  smcccSetRetval(vcpu, value);
  return ret;
}

/** A system event. The guest must never see it return; if it is resumed, it sees a failure. */
function systemEvent(vcpu: Vcpu, type: number, flags = 0): number {
  kvmPrepareSystemEvent(vcpu, type, flags);
  return answer(vcpu, PSCI_RET.INTERNAL_FAILURE, RET.USER);
}

type PsciCall = (vcpu: Vcpu, minor: number) => number;

const cpuOff: PsciCall = (vcpu) => {
  kvmArmVcpuPowerOff(vcpu);
  return answer(vcpu, PSCI_RET.SUCCESS);
};
const cpuOn: PsciCall = (vcpu) => answer(vcpu, kvmPsciVcpuOn(vcpu));

const V0_1: Readonly<Record<number, PsciCall>> = {
  [PSCI_0_1.CPU_OFF]: cpuOff,
  [PSCI_0_1.CPU_ON]: cpuOn,
};

const V0_2: Readonly<Record<number, PsciCall>> = {
  [PSCI.VERSION]: (vcpu) => answer(vcpu, PSCI_VERSION.V0_2),
  [PSCI.CPU_SUSPEND]: (vcpu) => suspendVcpu(vcpu),
  [PSCI.CPU_SUSPEND_64]: (vcpu) => suspendVcpu(vcpu),
  [PSCI.CPU_OFF]: cpuOff,
  [PSCI.CPU_ON]: (vcpu, minor) => {
    narrowTo32bit(vcpu);
    return cpuOn(vcpu, minor);
  },
  [PSCI.CPU_ON_64]: cpuOn,
  [PSCI.AFFINITY_INFO]: (vcpu) => {
    narrowTo32bit(vcpu);
    return answer(vcpu, kvmPsciVcpuAffinityInfo(vcpu));
  },
  [PSCI.AFFINITY_INFO_64]: (vcpu) => answer(vcpu, kvmPsciVcpuAffinityInfo(vcpu)),
  [PSCI.MIGRATE_INFO_TYPE]: (vcpu) => answer(vcpu, PSCI_TOS_MP),
  [PSCI.SYSTEM_OFF]: (vcpu) => systemEvent(vcpu, KVM_SYSTEM_EVENT.SHUTDOWN),
  [PSCI.SYSTEM_RESET]: (vcpu) => systemEvent(vcpu, KVM_SYSTEM_EVENT.RESET),
};

const V1_X: Readonly<Record<number, PsciCall>> = {
  ...V0_2,
  [PSCI.VERSION]: (vcpu, minor) => answer(vcpu, minor ? PSCI_VERSION.V1_1 : PSCI_VERSION.V1_0),
  [PSCI.FEATURES]: (vcpu, minor) => answer(vcpu, features(vcpu, vcpuGetRegLo(vcpu, 1), minor)),
  [PSCI.SYSTEM_SUSPEND]: (vcpu) => {
    narrowTo32bit(vcpu);
    return systemSuspend(vcpu);
  },
  [PSCI.SYSTEM_SUSPEND_64]: systemSuspend,
  [PSCI.SYSTEM_RESET2]: (vcpu, minor) => {
    narrowTo32bit(vcpu);
    return systemReset2(vcpu, minor);
  },
  [PSCI.SYSTEM_RESET2_64]: systemReset2,
};

/** kvm_psci_vcpu_suspend: every suspend state is a standby that keeps the registers. */
function suspendVcpu(vcpu: Vcpu): number {
  smcccSetRetval(vcpu, PSCI_RET.SUCCESS);
  return kvmVcpuWfi(vcpu);
}

function systemReset2(vcpu: Vcpu, minor: number): number {
  if (minor < 1) return answer(vcpu, PSCI_RET.NOT_SUPPORTED);
  const type = vcpuGetRegLo(vcpu, 1);
  if (type > PSCI_RESET2.WARM && type < PSCI_RESET2.VENDOR_START) {
    return answer(vcpu, PSCI_RET.INVALID_PARAMS);
  }
  return systemEvent(vcpu, KVM_SYSTEM_EVENT.RESET, KVM_SYSTEM_EVENT_RESET_FLAG_PSCI_RESET2);
}

/** The registers stay as they are: user space reads the call's arguments from them. */
function systemSuspend(vcpu: Vcpu): number {
  if (!vcpu.kvm.state.systemSuspendEnabled) return answer(vcpu, PSCI_RET.NOT_SUPPORTED);
  vcpu.run.systemEventType = KVM_SYSTEM_EVENT.SUSPEND;
  vcpu.run.systemEventFlags = 0;
  vcpu.run.exitReason = KVM_EXIT.SYSTEM_EVENT;
  return RET.USER;
}

/** PSCI_FEATURES: the functions that are there have no flags. */
function features(vcpu: Vcpu, fn: number, minor: number): number {
  const available: Readonly<Record<number, boolean>> = {
    [PSCI.SYSTEM_RESET2]: minor >= 1,
    [PSCI.SYSTEM_RESET2_64]: minor >= 1,
    [PSCI.SYSTEM_SUSPEND]: vcpu.kvm.state.systemSuspendEnabled,
    [PSCI.SYSTEM_SUSPEND_64]: vcpu.kvm.state.systemSuspendEnabled,
  };
  const has = available[fn] ?? (fn in V1_X || fn === SMCCC.VERSION);
  return has ? 0 : PSCI_RET.NOT_SUPPORTED;
}

type PsciCalls = ReadonlyMap<number, PsciCall>;

/** By numbers as signed ones: V8 would box the others for each look-up. */
function bySignedNumber(calls: Readonly<Record<number, PsciCall>>): PsciCalls {
  return new Map(Object.entries(calls).map(([fn, call]) => [Number(fn) | 0, call]));
}
const CALLS = {
  V0_1: bySignedNumber(V0_1),
  V0_2: bySignedNumber(V0_2),
  V1_X: bySignedNumber(V1_X),
} as const;

/** The functions of each version. */
function callsOf(version: number): PsciCalls | undefined {
  switch (version) {
    case PSCI_VERSION.V0_1:
      return CALLS.V0_1;
    case PSCI_VERSION.V0_2:
      return CALLS.V0_2;
    case PSCI_VERSION.V1_0:
    case PSCI_VERSION.V1_1:
      return CALLS.V1_X;
    default:
      return undefined;
  }
}

/** kvm_psci_call: X0 holds a function number of PSCI's ranges. A {@link RET}, or EINVAL. */
export function kvmPsciCall(vcpu: Vcpu): number {
  const version = kvmPsciVersion(vcpu);
  const calls = callsOf(version);
  if (calls === undefined) return ERRNO.EINVAL;
  const call = calls.get(vcpuGetRegLo(vcpu, 0) | 0);
  return call === undefined ? answer(vcpu, PSCI_RET.NOT_SUPPORTED) : call(vcpu, version & 0xffff);
}
