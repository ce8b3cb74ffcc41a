/** PSCI 1.1 (DEN 0022) and SMC Calling Convention 1.1 (DEN 0028): function numbers and results. */

/** PSCI functions, by SMC32 (0x84...) and SMC64 (0xc4...) number. */
export const PSCI = {
  VERSION: 0x8400_0000,
  CPU_SUSPEND_32: 0x8400_0001,
  CPU_OFF: 0x8400_0002,
  CPU_ON_32: 0x8400_0003,
  AFFINITY_INFO_32: 0x8400_0004,
  MIGRATE_INFO_TYPE: 0x8400_0006,
  SYSTEM_OFF: 0x8400_0008,
  SYSTEM_RESET: 0x8400_0009,
  FEATURES: 0x8400_000a,
  CPU_SUSPEND_64: 0xc400_0001,
  CPU_ON_64: 0xc400_0003,
  AFFINITY_INFO_64: 0xc400_0004,
} as const;

/** Arm architecture calls. */
export const SMCCC = {
  VERSION: 0x8000_0000,
  ARCH_FEATURES: 0x8000_0001,
  ARCH_WORKAROUND_1: 0x8000_8000,
  ARCH_WORKAROUND_2: 0x8000_7fff,
  ARCH_WORKAROUND_3: 0x8000_3fff,
} as const;

/** Result codes, signed. */
export const PSCI_RESULT = {
  SUCCESS: 0,
  NOT_SUPPORTED: -1,
  INVALID_PARAMETERS: -2,
  DENIED: -3,
  ALREADY_ON: -4,
  ON_PENDING: -5,
  INTERNAL_FAILURE: -6,
  NOT_PRESENT: -7,
  DISABLED: -8,
  INVALID_ADDRESS: -9,
} as const;

/** What AFFINITY_INFO says of a CPU. */
export const AFFINITY = { ON: 0, OFF: 1, ON_PENDING: 2 } as const;

/** MIGRATE_INFO_TYPE: there is no Trusted OS that would need migration. */
export const NO_TRUSTED_OS = 2;

/** PSCI_VERSION and SMCCC_VERSION: 1.1. */
export const VERSION_1_1 = 0x1_0001;
