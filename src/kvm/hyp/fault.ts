/**
 * What an abort of the guest was about. Mirrors arch/arm64/kvm/hyp/include/hyp/fault.h.
 *
 * The registers go to memory as they are: no value passes through a JavaScript number that could not
 * hold it.
 */
import * as el2Port from "../../arm/el2_port.ts";
import type { El2Port } from "../../arm/el2_port.ts";
import * as syndrome from "../../arm/arch/syndrome.ts";
import * as sysregs from "../../arm/arch/sysregs.ts";
import { type HypVcpu, KvmVcpuLayout } from "../kvm_host.ts";

// Of the module itself: what is imported V8 looks up and checks at each use.
const { at, sequence, STEP } = el2Port;
const { ABORT } = syndrome;
const { R } = sysregs;

const PAR_F = 1;

/** Fault status codes (DFSC and IFSC of ESR_ELx) without the level in the low bits. */
export const FSC = {
  ADDRESS_SIZE: 0x00,
  TRANSLATION: 0x04,
  ACCESS_FLAG: 0x08,
  PERMISSION: 0x0c,
  EXTERNAL: 0x10,
} as const;

/** The IPA page of a virtual address by the CPU's own stage 1 (AT S1E1R); false when it does not translate any more. */
function translateFarToHpfar(port: El2Port, vcpu: HypVcpu): boolean {
  const m = vcpu.state.memory;
  const farAt = vcpu.state.base + KvmVcpuLayout.offset.faultFar;
  // PAR_EL1 is the guest's, and AT overwrites it.
  const parAt = vcpu.state.base + KvmVcpuLayout.offset.savedPar;
  port.save(R.PAR_EL1, parAt);
  const done = port.at("S1E1R", m.ld32(farAt), m.ld32(farAt + 4));
  port.isb();
  const lo = port.readLo(R.PAR_EL1), hi = port.readHi(R.PAR_EL1);
  port.restore(R.PAR_EL1, parAt);
  if (!done || (lo & PAR_F) !== 0) return false;
  vcpu.state.faultHpfar = ((hi & 0xffff) * 0x10_0000 + (lo >>> 12)) * 16;
  return true;
}

const SAVE_FAR = sequence(STEP.save(R.FAR_EL2, at(KvmVcpuLayout.offset.faultFar)));
const SAVE_FAR_AND_HPFAR = sequence(
  SAVE_FAR.steps,
  STEP.save(R.HPFAR_EL2, at(KvmVcpuLayout.offset.faultHpfar)),
);

/** __get_fault_info: false when the guest should simply try again. */
export function populateFaultInfo(port: El2Port, vcpu: HypVcpu): boolean {
  const esr = vcpu.state.faultEsr;
  // HPFAR_EL2 is not valid after a permission fault, unless it was met on a table walk.
  const permission = (esr & 0x3c) === FSC.PERMISSION && (esr & ABORT.S1PTW) === 0;
  port.run(permission ? SAVE_FAR : SAVE_FAR_AND_HPFAR, vcpu.state.base);
  return !permission || translateFarToHpfar(port, vcpu);
}
