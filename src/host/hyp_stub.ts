/**
 * What a kernel that drops from EL2 to EL1 leaves behind at EL2, so that a hypervisor can be put there
 * later. After arch/arm64/kernel/hyp-stub.S.
 *
 * What differs: HVC_SOFT_RESTART (kexec) and HVC_FINALISE_EL2 (the change to VHE) answer as unknown.
 */
import { HVC_STUB, HVC_STUB_ERR } from "../arm/arch/hyp_stub.ts";
import { EC } from "../arm/arch/syndrome.ts";
import { R } from "../arm/arch/sysregs.ts";
import { InternalError } from "../base/errors.ts";
import type { El2Port } from "../arm/el2_port.ts";

const VECTOR_SYNC_LOWER = 0x400;

/** __hyp_stub_vectors. */
export function hypStubVectors(port: El2Port, offset: number): void {
  if (offset !== VECTOR_SYNC_LOWER || port.readLo(R.ESR_EL2) >>> 26 !== EC.HVC64) {
    throw new InternalError(`exception to the EL2 stub at vector 0x${offset.toString(16)}`);
  }
  const call = port.gprLo(0);
  const known = call === HVC_STUB.SET_VECTORS || call === HVC_STUB.RESET_VECTORS;
  if (call === HVC_STUB.SET_VECTORS) port.write(R.VBAR_EL2, port.gprLo(1), port.gprHi(1));
  port.setGpr(0, known ? 0 : HVC_STUB_ERR, 0);
  port.eret();
}
