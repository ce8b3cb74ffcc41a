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

export const PSCI_RET = {
  SUCCESS: 0,
  NOT_SUPPORTED: -1,
  INVALID_PARAMS: -2,
  DENIED: -3,
  ALREADY_ON: -4,
  INTERNAL_FAILURE: -6,
} as const;

/** KVM_ARM_PSCI_*: major version in bits 31 to 16. */
export const PSCI_VERSION = { V0_2: 0x0_0002, V1_0: 0x1_0000, V1_1: 0x1_0001 } as const;

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
} as const;

export const SMCCC_RET = { SUCCESS: 0, NOT_SUPPORTED: -1, NOT_REQUIRED: -2 } as const;
/** What ARCH_WORKAROUND_1 and _3 answer where the CPU needs no mitigation. */
export const SMCCC_WORKAROUND_UNAFFECTED = 1;
export const SMCCC_VERSION_1_1 = 0x1_0001;
