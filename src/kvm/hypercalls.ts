/**
 * Calls by HVC, and the firmware registers by which user space says which of them there are. Mirrors
 * arch/arm64/kvm/hypercalls.c.
 *
 * What differs: the physical cores speculate nothing, so that every mitigation is "not required".
 */
import { InternalError } from "../base/errors.ts";
import { vcpuGetRegLo } from "./emulate.ts";
import { ERRNO, GPA_INVALID, type Kvm, RET, TIMER_VTIMER, type Vcpu } from "./kvm_host.ts";
import { kvmPsciCall, kvmPsciVersion, smcccSetRetval } from "./psci.ts";
import {
  PSCI_0_1,
  PSCI_VERSION,
  SMCCC,
  SMCCC_RET,
  SMCCC_VERSION_1_1,
  SMCCC_WORKAROUND_UNAFFECTED,
  TRNG,
} from "./psci_numbers.ts";
import { kvmHypercallPvFeatures, kvmInitStolenTime } from "./pvtime.ts";
import { kvmTrngCall } from "./trng.ts";

/** The vendor hypervisor's UID: KVM's, as the guest kernel looks for it. */
const KVM_UID = [0xb66f_b428, 0xe911_c52e, 0x564b_caa9, 0x743a_004d] as const;

/** KVM_REG_ARM_*_BMAP: services that user space may take away, a bit each. */
const STD = { TRNG_V1_0: 1 } as const;
const STD_HYP = { PV_TIME: 1 } as const;
const VENDOR_HYP = { FUNC_FEAT: 1, PTP: 2 } as const;
/** All there are. */
const FEATURES = { std: 1, stdHyp: 1, vendorHyp: 3 } as const;

/** kvm_arm_init_hypercalls: a new VM has every service. */
export function kvmArmInitHypercalls(kvm: Kvm): void {
  kvm.state.smcccStdBmap = FEATURES.std;
  kvm.state.smcccStdHypBmap = FEATURES.stdHyp;
  kvm.state.smcccVendorHypBmap = FEATURES.vendorHyp;
}

/** What ARCH_FEATURES says of each function. */
function archFeatures(vcpu: Vcpu): number {
  switch (vcpuGetRegLo(vcpu, 1)) {
    case SMCCC.ARCH_WORKAROUND_1:
    case SMCCC.ARCH_WORKAROUND_3:
      return SMCCC_WORKAROUND_UNAFFECTED;
    case SMCCC.ARCH_WORKAROUND_2:
      return SMCCC_RET.NOT_REQUIRED;
    case SMCCC.HV_PV_TIME_FEATURES: {
      const has = (vcpu.kvm.state.smcccStdHypBmap & STD_HYP.PV_TIME) !== 0;
      return has ? SMCCC_RET.SUCCESS : SMCCC_RET.NOT_SUPPORTED;
    }
    default:
      return SMCCC_RET.NOT_SUPPORTED;
  }
}

/** KVM_PTP_VIRT_COUNTER and KVM_PTP_PHYS_COUNTER. */
const PTP_COUNTER = { VIRT: 0, PHYS: 1 } as const;

/** kvm_ptp_get_time: the host's time of day and a counter, at the same moment. */
function kvmPtpGetTime(vcpu: Vcpu): void {
  const { host } = vcpu.kvm;
  const counter = vcpuGetRegLo(vcpu, 1);
  if (counter !== PTP_COUNTER.VIRT && counter !== PTP_COUNTER.PHYS) {
    return smcccSetRetval(vcpu, SMCCC_RET.NOT_SUPPORTED);
  }
  const { realNs, cycles } = host.systemTimeSnapshot();
  const offset = counter === PTP_COUNTER.VIRT ? BigInt(vcpu.timers[TIMER_VTIMER].cntvoff) : 0n;
  const count = BigInt.asUintN(64, cycles - offset);
  const lo = (value: bigint) => value & 0xffff_ffffn;
  smcccSetRetval(vcpu, realNs >> 32n, lo(realNs), count >> 32n, lo(count));
}

/** kvm_hvc_call_default_allowed, and the services that a bitmap governs (kvm_hvc_call_allowed). */
function kvmHvcCallAllowed(vcpu: Vcpu): boolean {
  const { state } = vcpu.kvm;
  const fn = vcpuGetRegLo(vcpu, 0);
  // Signed, since V8 boxes an argument from 2^31 on.
  if (isPsci(fn | 0)) return true;
  switch (fn) {
    case TRNG.VERSION:
    case TRNG.FEATURES:
    case TRNG.GET_UUID:
    case TRNG.RND32:
    case TRNG.RND64:
      return (state.smcccStdBmap & STD.TRNG_V1_0) !== 0;
    case SMCCC.HV_PV_TIME_FEATURES:
    case SMCCC.HV_PV_TIME_ST:
      return (state.smcccStdHypBmap & STD_HYP.PV_TIME) !== 0;
    case SMCCC.VENDOR_HYP_FEATURES:
    case SMCCC.VENDOR_HYP_UID:
      return (state.smcccVendorHypBmap & VENDOR_HYP.FUNC_FEAT) !== 0;
    case SMCCC.VENDOR_HYP_PTP:
      return (state.smcccVendorHypBmap & VENDOR_HYP.PTP) !== 0;
    case SMCCC.VERSION:
    case SMCCC.ARCH_FEATURES:
      return true;
    default:
      return false;
  }
}

/** As signed numbers. */
const PSCI_0_1_FIRST = PSCI_0_1.CPU_SUSPEND | 0, PSCI_0_1_LAST = PSCI_0_1.MIGRATE | 0;

/** By the function's number, signed: standard secure service calls 0 to 0x1f (PSCI 0.2 and up), and KVM's own numbers of PSCI 0.1. */
function isPsci(fn: number): boolean {
  const owner = (fn >>> 24) & 0x3f;
  if (owner === 4 && (fn & 0xffff) <= 0x1f) return true;
  return fn >= PSCI_0_1_FIRST && fn <= PSCI_0_1_LAST;
}

/** kvm_hvc_call_handler: a {@link RET}, or an errno. */
export function kvmHvcCallHandler(vcpu: Vcpu): number {
  if (!kvmHvcCallAllowed(vcpu)) {
    smcccSetRetval(vcpu, SMCCC_RET.NOT_SUPPORTED);
    return RET.GUEST;
  }
  return isPsci(vcpuGetRegLo(vcpu, 0) | 0) ? kvmPsciCall(vcpu) : serviceCall(vcpu);
}

/** Of an allowed call that is none of PSCI's. */
function serviceCall(vcpu: Vcpu): number {
  switch (vcpuGetRegLo(vcpu, 0)) {
    case SMCCC.VERSION:
      smcccSetRetval(vcpu, SMCCC_VERSION_1_1);
      return RET.GUEST;
    case SMCCC.ARCH_FEATURES:
      smcccSetRetval(vcpu, archFeatures(vcpu));
      return RET.GUEST;
    case SMCCC.HV_PV_TIME_FEATURES:
      smcccSetRetval(vcpu, kvmHypercallPvFeatures(vcpu));
      return RET.GUEST;
    case SMCCC.HV_PV_TIME_ST: {
      const gpa = kvmInitStolenTime(vcpu);
      smcccSetRetval(vcpu, gpa === GPA_INVALID ? SMCCC_RET.NOT_SUPPORTED : gpa);
      return RET.GUEST;
    }
    case SMCCC.VENDOR_HYP_UID:
      smcccSetRetval(vcpu, ...KVM_UID);
      return RET.GUEST;
    case SMCCC.VENDOR_HYP_FEATURES:
      smcccSetRetval(vcpu, vcpu.kvm.state.smcccVendorHypBmap);
      return RET.GUEST;
    case SMCCC.VENDOR_HYP_PTP:
      kvmPtpGetTime(vcpu);
      return RET.GUEST;
    case TRNG.VERSION:
    case TRNG.FEATURES:
    case TRNG.GET_UUID:
    case TRNG.RND32:
    case TRNG.RND64:
      return kvmTrngCall(vcpu);
    default:
      throw new InternalError("a hypercall that is allowed and that nobody answers");
  }
}

// Firmware registers

/** Indices of KVM_REG_ARM_FW_REG. */
export const FW = { PSCI_VERSION: 0, WORKAROUND_1: 1, WORKAROUND_2: 2, WORKAROUND_3: 3 } as const;
/** Indices of KVM_REG_ARM_FW_FEAT_BMAP_REG. */
export const FW_BMAP = { STD: 0, STD_HYP: 1, VENDOR_HYP: 2 } as const;

/** get_kernel_wa_level: NOT_REQUIRED of each workaround. */
const WORKAROUND_LEVEL = { [FW.WORKAROUND_1]: 2n, [FW.WORKAROUND_2]: 3n, [FW.WORKAROUND_3]: 2n };
const WORKAROUND_2_AVAIL = 2n;
const WORKAROUND_2_ENABLED = 16n;
const LEVEL_MASK = 15n;

/** kvm_arm_get_fw_reg of KVM_REG_ARM_FW_REG(`index`): its value, or ENOENT. */
export function kvmArmGetFwReg(vcpu: Vcpu, index: number): bigint | number {
  if (index === FW.PSCI_VERSION) return BigInt(kvmPsciVersion(vcpu));
  return WORKAROUND_LEVEL[index as keyof typeof WORKAROUND_LEVEL] ?? ERRNO.ENOENT;
}

function setPsciVersion(vcpu: Vcpu, value: bigint): number {
  const version = Number(value);
  if (!Object.values<number>(PSCI_VERSION).includes(version)) return ERRNO.EINVAL;
  // Without the vCPU feature there is only 0.1, and with it there is no 0.1.
  const wants02 = kvmPsciVersion(vcpu) !== PSCI_VERSION.V0_1;
  if ((version === PSCI_VERSION.V0_1) === wants02) return ERRNO.EINVAL;
  vcpu.kvm.state.psciVersion = version;
  return 0;
}

/** Any level goes, up to "not required"; ENABLED only beside AVAIL. */
function setWorkaround2(value: bigint): number {
  const level = value & LEVEL_MASK;
  if ((value & ~(LEVEL_MASK | WORKAROUND_2_ENABLED)) !== 0n) return ERRNO.EINVAL;
  const enabled = (value & WORKAROUND_2_ENABLED) !== 0n;
  if (enabled && level !== WORKAROUND_2_AVAIL) return ERRNO.EINVAL;
  return level <= WORKAROUND_LEVEL[FW.WORKAROUND_2] ? 0 : ERRNO.EINVAL;
}

/** kvm_arm_set_fw_reg: 0 or an errno. A workaround's level is checked and nothing more. */
export function kvmArmSetFwReg(vcpu: Vcpu, index: number, value: bigint): number {
  switch (index) {
    case FW.PSCI_VERSION:
      return setPsciVersion(vcpu, value);
    case FW.WORKAROUND_1:
    case FW.WORKAROUND_3:
      return value <= WORKAROUND_LEVEL[index] ? 0 : ERRNO.EINVAL;
    case FW.WORKAROUND_2:
      return setWorkaround2(value);
    default:
      return ERRNO.ENOENT;
  }
}

const BMAPS = [
  { field: "smcccStdBmap", all: FEATURES.std },
  { field: "smcccStdHypBmap", all: FEATURES.stdHyp },
  { field: "smcccVendorHypBmap", all: FEATURES.vendorHyp },
] as const;

/** kvm_arm_get_fw_reg of KVM_REG_ARM_FW_FEAT_BMAP_REG(`index`): its value, or ENOENT. */
export function kvmArmGetFwBmap({ kvm }: Vcpu, index: number): bigint | number {
  const bmap = BMAPS[index];
  return bmap === undefined ? ERRNO.ENOENT : BigInt(kvm.state[bmap.field]);
}

/** kvm_arm_set_fw_reg_bmap: 0 or an errno; fixed once the VM has run. */
export function kvmArmSetFwBmap({ kvm: { state } }: Vcpu, index: number, value: bigint): number {
  const bmap = BMAPS[index];
  if (bmap === undefined) return ERRNO.ENOENT;
  if ((value & ~BigInt(bmap.all)) !== 0n) return ERRNO.EINVAL;
  if (state.hasRanOnce && value !== BigInt(state[bmap.field])) return ERRNO.EBUSY;
  state[bmap.field] = Number(value);
  return 0;
}
