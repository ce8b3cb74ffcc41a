/** The virtual counter's offset. Mirrors arch/arm64/kvm/hyp/vhe/timer-sr.c. */
import type { El2Port } from "../../../arm/el2_port.ts";
import { R } from "../../../arm/arch/sysregs.ts";

/** Sets CNTVOFF_EL2 from its two halves. */
export function kvmTimerSetCntvoff(port: El2Port, lo: number, hi: number): void {
  port.write(R.CNTVOFF_EL2, lo, hi);
}
