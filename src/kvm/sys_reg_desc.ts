/**
 * What a row of the system register table is, and the accesses that many rows share. Mirrors
 * arch/arm64/kvm/sys_regs.h.
 */
import { vcpuReadSysReg, vcpuWriteSysReg } from "./emulate.ts";
import { kvmInjectUndefined } from "./inject_fault.ts";
import type { SavedSysreg, Vcpu } from "./kvm_host.ts";

/** One access (struct sys_reg_params): the value to write, or the value read. */
export interface SysRegParams {
  readonly key: number;
  readonly isWrite: boolean;
  lo: number;
  hi: number;
}

/** Carries the access out; true: go on behind the instruction. False: an exception was injected. */
export type SysRegAccess = (vcpu: Vcpu, p: SysRegParams, desc: SysRegDesc) => boolean;

/** sysreg_visibility: REG_HIDDEN (UNDEFINED, and not there for user space), REG_RAZ, REG_USER_WI. */
export const REG = { HIDDEN: 1, RAZ: 2, USER_WI: 4 } as const;

/** One register (struct sys_reg_desc). */
export interface SysRegDesc {
  readonly key: number;
  readonly name: string;
  /** What a trapped access does; a register without one never traps. */
  readonly access?: SysRegAccess;
  /** Where the vCPU keeps it. */
  readonly reg?: SavedSysreg;
  /** Its value after reset, for those kept. */
  readonly reset?: bigint | ((vcpu: Vcpu) => bigint);
  /** Flags of {@link REG}; none when absent. */
  readonly visibility?: (vcpu: Vcpu, desc: SysRegDesc) => number;
  /** KVM_GET_ONE_REG, of a vCPU that is not loaded; default: where it is kept. */
  readonly getUser?: (vcpu: Vcpu, desc: SysRegDesc) => bigint;
  /** KVM_SET_ONE_REG: 0 or an errno; default: where it is kept. */
  readonly setUser?: (vcpu: Vcpu, desc: SysRegDesc, value: bigint) => number;
}

/** sysreg_visibility. */
export function sysregVisibility(vcpu: Vcpu, desc: SysRegDesc): number {
  return desc.visibility?.(vcpu, desc) ?? 0;
}

/** Sets the value that the access reads. */
export function give(p: SysRegParams, value: bigint): void {
  p.lo = Number(value & 0xffff_ffffn);
  p.hi = Number(BigInt.asUintN(64, value) >> 32n);
}

/** The value that the access writes. */
export function given(p: SysRegParams): bigint {
  return (BigInt(p.hi >>> 0) << 32n) | BigInt(p.lo >>> 0);
}

/** undef_access. */
export const undef: SysRegAccess = (vcpu) => {
  kvmInjectUndefined(vcpu);
  return false;
};

/** trap_raz_wi. */
export const razWi: SysRegAccess = (_, p) => {
  p.lo = p.isWrite ? p.lo : 0;
  p.hi = p.isWrite ? p.hi : 0;
  return true;
};

/** An access whose writes are UNDEFINED (write_to_read_only). */
export function readOnly(read: (vcpu: Vcpu, p: SysRegParams) => void): SysRegAccess {
  return (vcpu, p, desc) => {
    if (p.isWrite) return undef(vcpu, p, desc);
    read(vcpu, p);
    return true;
  };
}

/** An access whose reads are UNDEFINED (read_from_write_only). */
export function writeOnly(write: (vcpu: Vcpu, p: SysRegParams) => void): SysRegAccess {
  return (vcpu, p, desc) => {
    if (!p.isWrite) return undef(vcpu, p, desc);
    write(vcpu, p);
    return true;
  };
}

/** A register that traps sometimes and is just kept. */
export const accessRw: SysRegAccess = (vcpu, p, desc) => {
  const { reg } = desc;
  if (reg === undefined) return razWi(vcpu, p, desc);
  if (p.isWrite) vcpuWriteSysReg(vcpu, reg, given(p));
  else give(p, vcpuReadSysReg(vcpu, reg));
  return true;
};
