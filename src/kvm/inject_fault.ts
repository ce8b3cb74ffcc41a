/**
 * Giving exceptions to the guest. Mirrors arch/arm64/kvm/inject_fault.c for AArch64 guests.
 */
import { HCR } from "../arm/arch/fields.ts";
import { EC, ESR_IL } from "../arm/arch/syndrome.ts";
import { FSC } from "./hyp/fault.ts";
import {
  kvmPendException,
  kvmVcpuGetHfarOffset,
  kvmVcpuTrapIl,
  PSR_MODE,
  vcpuCpsr,
  vcpuWriteSysReg,
} from "./emulate.ts";
import { EXCEPT, type Vcpu } from "./kvm_host.ts";

function il(vcpu: Vcpu): number {
  return kvmVcpuTrapIl(vcpu) ? ESR_IL : 0;
}

/** An external abort at the address `addr`, from where the guest is (inject_abt64). */
function injectAbt64(vcpu: Vcpu, isIabt: boolean, addr: bigint, fsc: number): void {
  kvmPendException(vcpu, EXCEPT.AA64_EL1_SYNC);
  vcpuWriteSysReg(vcpu, "FAR_EL1", addr);
  const fromEl0 = (vcpuCpsr(vcpu) & PSR_MODE.MASK) === PSR_MODE.EL0T;
  const instruction = fromEl0 ? EC.IABT_LOW : EC.IABT_CUR;
  const ec = isIabt ? instruction : instruction | EC.DABT_LOW;
  vcpuWriteSysReg(vcpu, "ESR_EL1", BigInt(((ec << 26) | il(vcpu) | fsc) >>> 0));
}

/** kvm_inject_dabt. */
export function kvmInjectDabt(vcpu: Vcpu, addr: bigint): void {
  injectAbt64(vcpu, false, addr, FSC.EXTERNAL);
}

/** kvm_inject_pabt. */
export function kvmInjectPabt(vcpu: Vcpu, addr: bigint): void {
  injectAbt64(vcpu, true, addr, FSC.EXTERNAL);
}

/** kvm_inject_size_fault: the guest used an IPA beyond what the VM has; an address size fault of level 0. */
export function kvmInjectSizeFault(vcpu: Vcpu, ipa: number, isIabt: boolean): void {
  injectAbt64(vcpu, isIabt, BigInt(ipa + kvmVcpuGetHfarOffset(vcpu)), FSC.ADDRESS_SIZE);
}

/** kvm_inject_undefined. */
export function kvmInjectUndefined(vcpu: Vcpu): void {
  kvmPendException(vcpu, EXCEPT.AA64_EL1_SYNC);
  vcpuWriteSysReg(vcpu, "ESR_EL1", BigInt(((EC.UNKNOWN << 26) | il(vcpu)) >>> 0));
}

/** kvm_inject_vabt: a virtual SError, taken when the guest lets it in. */
export function kvmInjectVabt(vcpu: Vcpu): void {
  vcpu.state.hcrLo = (vcpu.state.hcrLo | HCR.VSE) >>> 0;
}
