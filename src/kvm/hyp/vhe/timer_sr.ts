/** The virtual counter's offset. Mirrors arch/arm64/kvm/hyp/vhe/timer-sr.c. */
import { type El2Port, sequence, STEP } from "../../../arm/el2_port.ts";
import { R } from "../../../arm/arch/sysregs.ts";

const SET_CNTVOFF = sequence(STEP.write(R.CNTVOFF_EL2, { arg: 0 }, { arg: 1 }));

/** Sets CNTVOFF_EL2 from its two halves. */
export function kvmTimerSetCntvoff(port: El2Port, lo: number, hi: number): void {
  port.runWith(SET_CNTVOFF, lo, hi);
}
