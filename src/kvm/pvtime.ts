/**
 * Stolen time: how long a vCPU's thread waited for a physical CPU, told to the guest in memory. Mirrors
 * arch/arm64/kvm/pvtime.c. The interface is Arm's Paravirtualized Time (DEN 0057A).
 */
import * as bits from "../base/bits.ts";
import * as memoryModule from "../base/memory.ts";
import type { SharedMemory } from "../base/memory.ts";
import * as structModule from "../base/struct.ts";
import { u32, u64 } from "../base/struct.ts";
import * as emulate from "./emulate.ts";
import * as kvmHost from "./kvm_host.ts";
import type { Vcpu } from "./kvm_host.ts";
import * as mmu from "./mmu.ts";
import { ipaToMemslot } from "./mmu.ts";
import * as psciNumbers from "./psci_numbers.ts";
import { SMCCC_RET } from "./psci_numbers.ts";

// Of the module itself: what is imported V8 looks up and checks at each use.
const { TWO32 } = bits;
const { add53 } = memoryModule;
const { layout } = structModule;
const { vcpuGetRegLo } = emulate;
const { ERRNO, GPA_INVALID } = kvmHost;
const { guestOffset, markPageDirty } = mmu;
const { SMCCC } = psciNumbers;

/** struct pvclock_vcpu_stolen_time, 64 bytes with its padding. */
const StolenTimeLayout = layout("pvclock_vcpu_stolen_time", {
  revision: u32(),
  attributes: u32(),
  /** Nanoseconds. */
  stolenTime: u64(),
});
const STOLEN_TIME_SIZE = 64;

/** KVM_ARM_VCPU_PVTIME_IPA, the one attribute of KVM_ARM_VCPU_PVTIME_CTRL. */
export const KVM_ARM_VCPU_PVTIME_IPA = 0;

/** kvm_arm_pvtime_vcpu_init. */
export function kvmArmPvtimeVcpuInit(vcpu: Vcpu): void {
  vcpu.state.stealBase = GPA_INVALID;
  vcpu.state.lastStealNs = 0;
}

/** kvm_arm_is_pvtime_enabled. */
export function kvmArmIsPvtimeEnabled(vcpu: Vcpu): boolean {
  return vcpu.state.stealBase !== GPA_INVALID;
}

/** kvm_update_stolen_time: adds what was stolen since the last update. */
export function kvmUpdateStolenTime(vcpu: Vcpu): void {
  const { state, kvm } = vcpu;
  if (!kvmArmIsPvtimeEnabled(vcpu)) return;
  const at = guestOffset(kvm, state.stealBase);
  if (at < 0) return;
  const delayNs = kvm.host.runDelayNs(vcpu);
  const stolenAt = at + StolenTimeLayout.offset.stolenTime;
  add64(state.memory, stolenAt, delayNs - state.lastStealNs);
  state.lastStealNs = delayNs;
  markPageDirty(kvm, state.stealBase);
}

/** Adds to a 64-bit word that may hold anything: the guest can write there. */
function add64(memory: SharedMemory, at: number, value: number): void {
  add53(memory.u32, at >>> 2, value >>> 0);
  const above = Math.floor(value / TWO32);
  if (above !== 0) memory.st32(at + 4, memory.ld32(at + 4) + above);
}

/** kvm_hypercall_pv_features: X0's value. */
export function kvmHypercallPvFeatures(vcpu: Vcpu): number {
  const feature = vcpuGetRegLo(vcpu, 1);
  const known = feature === SMCCC.HV_PV_TIME_FEATURES || feature === SMCCC.HV_PV_TIME_ST;
  return known && kvmArmIsPvtimeEnabled(vcpu) ? SMCCC_RET.SUCCESS : SMCCC_RET.NOT_SUPPORTED;
}

/** kvm_init_stolen_time: counting begins; where the guest finds the count, or {@link GPA_INVALID}. */
export function kvmInitStolenTime(vcpu: Vcpu): number {
  const { state, kvm } = vcpu;
  if (!kvmArmIsPvtimeEnabled(vcpu)) return GPA_INVALID;
  state.lastStealNs = kvm.host.runDelayNs(vcpu);
  const at = guestOffset(kvm, state.stealBase);
  if (at >= 0) {
    state.memory.u8.fill(0, at, at + STOLEN_TIME_SIZE);
    markPageDirty(kvm, state.stealBase);
  }
  return state.stealBase;
}

/** kvm_arm_pvtime_set_attr: 0 or an errno. */
export function kvmArmPvtimeSetAttr(vcpu: Vcpu, attr: number, ipa: bigint): number {
  if (attr !== KVM_ARM_VCPU_PVTIME_IPA) return ERRNO.ENXIO;
  if (ipa % BigInt(STOLEN_TIME_SIZE) !== 0n) return ERRNO.EINVAL;
  if (kvmArmIsPvtimeEnabled(vcpu)) return ERRNO.EEXIST;
  if (ipa >= 2n ** 52n || ipaToMemslot(vcpu.kvm, Number(ipa)) === undefined) return ERRNO.EINVAL;
  vcpu.state.stealBase = Number(ipa);
  return 0;
}
