/**
 * Function identifiers and results of PSCI and SMCCC. Sources: Power State Coordination Interface
 * (DEN 0022), SMC Calling Convention (DEN 0028).
 */
export const PSCI = {
  VERSION: 0x8400_0000,
  CPU_SUSPEND: 0x8400_0001,
  CPU_OFF: 0x8400_0002,
  CPU_ON: 0x8400_0003,
  AFFINITY_INFO: 0x8400_0004,
  MIGRATE_INFO_TYPE: 0x8400_0006,
  SYSTEM_OFF: 0x8400_0008,
  SYSTEM_RESET: 0x8400_0009,
  FEATURES: 0x8400_000a,
  SYSTEM_SUSPEND: 0x8400_000e,
  SYSTEM_RESET2: 0x8400_0012,
  CPU_SUSPEND_64: 0xc400_0001,
  CPU_ON_64: 0xc400_0003,
  AFFINITY_INFO_64: 0xc400_0004,
  SYSTEM_SUSPEND_64: 0xc400_000e,
  SYSTEM_RESET2_64: 0xc400_0012,
} as const;

/** PSCI 0.1 has no standard numbers: these are KVM's (KVM_PSCI_FN of include/uapi/asm/kvm.h). */
export const PSCI_0_1 = {
  CPU_SUSPEND: 0x95c1_ba5e,
  CPU_OFF: 0x95c1_ba5f,
  CPU_ON: 0x95c1_ba60,
  MIGRATE: 0x95c1_ba61,
} as const;

export const PSCI_RET = {
  SUCCESS: 0,
  NOT_SUPPORTED: -1,
  INVALID_PARAMS: -2,
  DENIED: -3,
  ALREADY_ON: -4,
  INTERNAL_FAILURE: -6,
} as const;

/** KVM_ARM_PSCI_*: major version in bits 31 to 16. */
export const PSCI_VERSION = {
  V0_1: 0x0_0001,
  V0_2: 0x0_0002,
  V1_0: 0x1_0000,
  V1_1: 0x1_0001,
} as const;

/** Results of AFFINITY_INFO, and of MIGRATE_INFO_TYPE where nothing needs migrating. */
export const PSCI_AFFINITY = { ON: 0, OFF: 1 } as const;
export const PSCI_TOS_MP = 2;

/** SYSTEM_RESET2: the architectural warm reset, and where vendor types begin. */
export const PSCI_RESET2 = { WARM: 0, VENDOR_START: 0x8000_0000 } as const;

export const SMCCC = {
  VERSION: 0x8000_0000,
  ARCH_FEATURES: 0x8000_0001,
  ARCH_WORKAROUND_1: 0x8000_8000,
  ARCH_WORKAROUND_2: 0x8000_7fff,
  ARCH_WORKAROUND_3: 0x8000_3fff,
  VENDOR_HYP_UID: 0x8600_ff01,
  VENDOR_HYP_FEATURES: 0x8600_0000,
  VENDOR_HYP_PTP: 0x8600_0001,
  HV_PV_TIME_FEATURES: 0xc500_0020,
  HV_PV_TIME_ST: 0xc500_0021,
} as const;

/** True random number generator: firmware interface (DEN 0098). */
export const TRNG = {
  VERSION: 0x8400_0050,
  FEATURES: 0x8400_0051,
  GET_UUID: 0x8400_0052,
  RND32: 0x8400_0053,
  RND64: 0xc400_0053,
} as const;

/** Results of the TRNG calls, apart from the general ones. */
export const TRNG_RET = { SUCCESS: 0, NOT_SUPPORTED: -1, INVALID_PARAMETER: -2 } as const;
export const TRNG_VERSION_1_0 = 0x1_0000;
/** Most bits of one RND64 call; RND32 gives half. */
export const TRNG_MAX_BITS64 = 192;

export const SMCCC_RET = { SUCCESS: 0, NOT_SUPPORTED: -1, NOT_REQUIRED: -2 } as const;
/** What ARCH_WORKAROUND_1 and _3 answer where the CPU needs no mitigation. */
export const SMCCC_WORKAROUND_UNAFFECTED = 1;
export const SMCCC_VERSION_1_1 = 0x1_0001;
