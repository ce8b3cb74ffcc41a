/** Mirrors arch/arm64/kvm/hyp/nvhe/debug-sr.c. What differs: there are no profiling or trace buffers. */
import type { El2Port } from "../../../arm/el2_port.ts";
import { R } from "../../../arm/arch/sysregs.ts";

/** __kvm_get_mdcr_el2. */
export function kvmGetMdcrEl2(port: El2Port): number {
  return port.readLo(R.MDCR_EL2);
}
