/**
 * Hypercalls of the small code that a Linux kernel leaves at EL2 when it drops to EL1, and which a
 * hypervisor put there later goes on serving. Source: Linux arch/arm64/include/asm/virt.h.
 */

/** X0 of the call. All are below {@link HVC_STUB_HCALL_NR}. */
export const HVC_STUB = {
  SET_VECTORS: 0,
  SOFT_RESTART: 1,
  RESET_VECTORS: 2,
  FINALISE_EL2: 3,
} as const;
export const HVC_STUB_HCALL_NR = 4;
/** X0 on return of a call that is not known. */
export const HVC_STUB_ERR = 0xbadca11;
