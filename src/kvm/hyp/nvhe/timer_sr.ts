/**
 * The guest's timers at EL2. Mirrors arch/arm64/kvm/hyp/nvhe/timer-sr.c: the physical timer is the
 * host's, so that a guest's accesses to it trap.
 */
import type { El2Port } from "../../../arm/el2_port.ts";
import { CNTHCTL } from "../../../arm/arch/fields.ts";
import { R } from "../../../arm/arch/sysregs.ts";

/** __kvm_timer_set_cntvoff: from the offset's halves. */
export function kvmTimerSetCntvoff(port: El2Port, lo: number, hi: number): void {
  port.write(R.CNTVOFF_EL2, lo, hi);
}

/** __timer_disable_traps: the host has the physical timer and counter. */
export function timerDisableTraps(port: El2Port): void {
  const value = port.readLo(R.CNTHCTL_EL2);
  port.write(R.CNTHCTL_EL2, value | CNTHCTL.EL1PCTEN | CNTHCTL.EL1PCEN, 0);
}

/** __timer_enable_traps: the guest has the physical counter only. */
export function timerEnableTraps(port: El2Port): void {
  const value = port.readLo(R.CNTHCTL_EL2);
  port.write(R.CNTHCTL_EL2, (value & ~CNTHCTL.EL1PCEN) | CNTHCTL.EL1PCTEN, 0);
}
