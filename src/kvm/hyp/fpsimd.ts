/**
 * Lazy switching of the FP and SIMD registers. Mirrors kvm_hyp_handle_fpsimd of
 * arch/arm64/kvm/hyp/include/hyp/switch.h with the bookkeeping of arch/arm64/kvm/fpsimd.c.
 *
 * What differs: the host has no user tasks of its own that own the registers, so that what it holds is
 * saved when a guest takes them and put back at vcpu_put.
 */
import type { El2Port } from "../../arm/el2_port.ts";
import { R } from "../../arm/arch/sysregs.ts";
import { CPTR } from "../../arm/arch/fields.ts";
import { FP_STATE, type HypVcpu, type Vcpu } from "../kvm_host.ts";

/** CPTR_EL2.FPEN with E2H: EL0 and EL1/EL2 accesses do not trap. */
export const CPACR_FPEN = 3 << 20;

/**
 * The guest's first use of FP since vcpu_load: opens the trap, whose bit depends on HCR_EL2.E2H, saves
 * the host's registers, loads the guest's.
 */
export function kvmHypHandleFpsimd(port: El2Port, vcpu: HypVcpu, vhe: boolean): boolean {
  const cptr = port.readLo(R.CPTR_EL2);
  port.write(R.CPTR_EL2, (vhe ? cptr | CPACR_FPEN : cptr & ~CPTR.TFP) >>> 0, 0);
  port.isb();
  if (vcpu.state.fpState === FP_STATE.HOST_OWNED) port.saveFp(vcpu.hostCtxt.fp);
  port.restoreFp(vcpu.ctxt.fp);
  vcpu.state.fpState = FP_STATE.GUEST_OWNED;
  return true;
}

/** vcpu_load: the registers are the host's until the guest wants them. */
export function kvmArchVcpuLoadFp(vcpu: Vcpu): void {
  vcpu.state.fpState = FP_STATE.HOST_OWNED;
}

/** vcpu_put: the guest's registers are saved if it had them, and the host's come back. */
export function kvmArchVcpuPutFp(vcpu: Vcpu): void {
  if (vcpu.state.fpState === FP_STATE.GUEST_OWNED) {
    const port = vcpu.port();
    port.saveFp(vcpu.ctxt.fp);
    port.restoreFp(vcpu.hostCtxt.fp);
  }
  vcpu.state.fpState = FP_STATE.FREE;
}
