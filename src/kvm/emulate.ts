/**
 * Reading a vCPU's registers and the syndrome of its last exit. Mirrors
 * arch/arm64/include/asm/kvm_emulate.h.
 */
import * as syndromeModule from "../arm/arch/syndrome.ts";
import * as sysregsModule from "../arm/arch/sysregs.ts";
import type { SysregName } from "../arm/arch/sysregs.ts";
import { HCR, HCR_HI } from "../arm/arch/fields.ts";
import * as kvmHost from "./kvm_host.ts";
import { KvmVcpuLayout, type SavedSysreg, type Vcpu } from "./kvm_host.ts";

// Of the module itself: what is imported V8 looks up and checks at each use.
const { ABORT, EC } = syndromeModule;
const { R } = sysregsModule;
const { IFLAG, SAVED, vcpuSetFlag } = kvmHost;

const { faultHpfar: HPFAR_AT, faultFar: FAR_AT } = KvmVcpuLayout.offset;

/** PSTATE.M. */
export const PSR_MODE = { MASK: 0xf, EL0T: 0, EL1T: 4, EL1H: 5 } as const;

/** HCR_GUEST_FLAGS, low half: what traps while a guest runs. */
const HCR_GUEST = (HCR.TSC | HCR.TSW | HCR.TWE | HCR.TWI | HCR.VM | (1 << 10) | HCR.FB | HCR.TACR |
  HCR.AMO | HCR.SWIO | HCR.TIDCP | HCR.RW | HCR.FMO | HCR.IMO | HCR.PTW | HCR.TID3 | HCR.TVM) >>> 0;

/** vcpu_reset_hcr: stage-1 controls are trapped until the guest's caches are on. */
export function vcpuResetHcr(vcpu: Vcpu): void {
  vcpu.state.hcrLo = HCR_GUEST;
  vcpu.state.hcrHi = (vcpu.kvm.host.hyp.vhe ? HCR_HI.E2H : 0) | HCR_HI.TLOR;
}

/** vcpu_clear_wfx_traps: alone on its CPU, a vCPU may spin in WFE. */
export function vcpuClearWfxTraps(vcpu: Vcpu): void {
  vcpu.state.hcrLo = (vcpu.state.hcrLo & ~HCR.TWE) >>> 0;
}

export function vcpuSetWfxTraps(vcpu: Vcpu): void {
  vcpu.state.hcrLo = (vcpu.state.hcrLo | HCR.TWE | HCR.TWI) >>> 0;
}

/** General register `n` (31 is XZR) as a bigint. */
export function vcpuGetReg(vcpu: Vcpu, n: number): bigint {
  return n === 31 ? 0n : vcpu.state.memory.ld64(vcpu.ctxt.regs + 8 * n);
}

/** Its low and high half. */
export function vcpuGetRegLo(vcpu: Vcpu, n: number): number {
  return n === 31 ? 0 : vcpu.state.memory.ld32(vcpu.ctxt.regs + 8 * n);
}
export function vcpuGetRegHi(vcpu: Vcpu, n: number): number {
  return n === 31 ? 0 : vcpu.state.memory.ld32(vcpu.ctxt.regs + 8 * n + 4);
}

export function vcpuSetReg(vcpu: Vcpu, n: number, value: bigint): void {
  if (n !== 31) vcpu.state.memory.st64(vcpu.ctxt.regs + 8 * n, value);
}

/** Stores two 32-bit halves. */
export function vcpuSetRegHalves(vcpu: Vcpu, n: number, lo: number, hi: number): void {
  if (n === 31) return;
  vcpu.state.memory.st32(vcpu.ctxt.regs + 8 * n, lo);
  vcpu.state.memory.st32(vcpu.ctxt.regs + 8 * n + 4, hi);
}

/** PSTATE, as it would be in SPSR (bits 31 to 0). */
export function vcpuCpsr(vcpu: Vcpu): number {
  return Number(vcpu.ctxt.pstate & 0xffff_ffffn);
}

/** The guest was at EL1 (vcpu_mode_priv). */
export function vcpuModePriv(vcpu: Vcpu): boolean {
  return (vcpuCpsr(vcpu) & PSR_MODE.MASK) !== PSR_MODE.EL0T;
}

/** kvm_incr_pc: skip the instruction before the next entry. */
export function kvmIncrPc(vcpu: Vcpu): void {
  vcpuSetFlag(vcpu, IFLAG.INCREMENT_PC);
}

/** kvm_pend_exception: enter the guest's vector before the next entry. */
export function kvmPendException(vcpu: Vcpu, exception: number): void {
  vcpuSetFlag(vcpu, IFLAG.PENDING_EXCEPTION);
  vcpu.state.pendingException = exception;
}

// The syndrome of the last exit.

function kvmVcpuTrapClass(vcpu: Vcpu): number {
  return vcpu.state.faultEsr >>> 26;
}
export function kvmVcpuTrapIsIabt(vcpu: Vcpu): boolean {
  return kvmVcpuTrapClass(vcpu) === EC.IABT_LOW;
}
export function kvmVcpuTrapIl(vcpu: Vcpu): boolean {
  return ((vcpu.state.faultEsr >>> 25) & 1) === 1;
}
/** FSC without the level. */
export function kvmVcpuTrapFaultType(vcpu: Vcpu): number {
  return vcpu.state.faultEsr & 0x3c;
}
export function kvmVcpuTrapFaultLevel(vcpu: Vcpu): number {
  return vcpu.state.faultEsr & 3;
}
export function kvmVcpuAbtIssea(vcpu: Vcpu): boolean {
  const fsc = vcpu.state.faultEsr & 0x3f;
  // External aborts and parity errors, on the access or on a table walk of levels 0 to 3.
  return fsc === 0x10 || fsc === 0x18 || (fsc >= 0x14 && fsc <= 0x17) ||
    (fsc >= 0x1c && fsc <= 0x1f);
}
export function kvmVcpuAbtIss1tw(vcpu: Vcpu): boolean {
  return (vcpu.state.faultEsr & ABORT.S1PTW) !== 0;
}
export function kvmVcpuDabtIsvalid(vcpu: Vcpu): boolean {
  return (vcpu.state.faultEsr & ABORT.ISV) !== 0;
}
export function kvmVcpuDabtIswrite(vcpu: Vcpu): boolean {
  return (vcpu.state.faultEsr & ABORT.WNR) !== 0;
}
export function kvmVcpuDabtIsCm(vcpu: Vcpu): boolean {
  return (vcpu.state.faultEsr & ABORT.CM) !== 0;
}
/** Bytes of the access. */
export function kvmVcpuDabtGetAs(vcpu: Vcpu): number {
  return 1 << ((vcpu.state.faultEsr >>> ABORT.SAS_SHIFT) & 3);
}
export function kvmVcpuDabtIssext(vcpu: Vcpu): boolean {
  return (vcpu.state.faultEsr & ABORT.SSE) !== 0;
}
export function kvmVcpuDabtIssf(vcpu: Vcpu): boolean {
  return (vcpu.state.faultEsr & ABORT.SF) !== 0;
}
export function kvmVcpuDabtGetRd(vcpu: Vcpu): number {
  return (vcpu.state.faultEsr >>> ABORT.SRT_SHIFT) & 31;
}
/** The faulting IPA, page part: HPFAR_EL2.FIPA. */
export function kvmVcpuGetFaultIpa(vcpu: Vcpu): number {
  const m = vcpu.state.memory;
  const at = vcpu.state.base + HPFAR_AT;
  const page = (m.ld32(at) >>> 4) + (m.ld32(at + 4) & 0xfff) * 2 ** 28;
  return page * 4096;
}
/** Offset of the faulting VA within its page. */
export function kvmVcpuGetHfarOffset(vcpu: Vcpu): number {
  return vcpu.state.memory.ld32(vcpu.state.base + FAR_AT) & 0xfff;
}
/** Whether the access writes (kvm_is_write_fault): a permission fault of the table walker counts as one. */
export function kvmIsWriteFault(vcpu: Vcpu): boolean {
  if (kvmVcpuAbtIss1tw(vcpu)) return kvmVcpuTrapFaultType(vcpu) === 0x0c;
  return !kvmVcpuTrapIsIabt(vcpu) && kvmVcpuDabtIswrite(vcpu);
}

/** The names by which a loaded vCPU's registers are reached (__vcpu_read_sys_reg_from_cpu). */
const ON_CPU: Readonly<Partial<Record<SavedSysreg, SysregName>>> = {
  CSSELR_EL1: "CSSELR_EL1",
  SCTLR_EL1: "SCTLR_EL12",
  CPACR_EL1: "CPACR_EL12",
  TTBR0_EL1: "TTBR0_EL12",
  TTBR1_EL1: "TTBR1_EL12",
  TCR_EL1: "TCR_EL12",
  ESR_EL1: "ESR_EL12",
  AFSR0_EL1: "AFSR0_EL12",
  AFSR1_EL1: "AFSR1_EL12",
  FAR_EL1: "FAR_EL12",
  MAIR_EL1: "MAIR_EL12",
  VBAR_EL1: "VBAR_EL12",
  CONTEXTIDR_EL1: "CONTEXTIDR_EL12",
  TPIDR_EL0: "TPIDR_EL0",
  TPIDRRO_EL0: "TPIDRRO_EL0",
  TPIDR_EL1: "TPIDR_EL1",
  AMAIR_EL1: "AMAIR_EL12",
  CNTKCTL_EL1: "CNTKCTL_EL12",
  ELR_EL1: "ELR_EL12",
  SPSR_EL1: "SPSR_EL12",
  SP_EL1: "SP_EL1",
  PAR_EL1: "PAR_EL1",
};

/** vcpu_read_sys_reg: from the CPU while the vCPU is loaded there, else from memory. */
export function vcpuReadSysReg(vcpu: Vcpu, name: SavedSysreg): bigint {
  const onCpu = vcpu.state.sysregsLoadedOnCpu ? ON_CPU[name] : undefined;
  if (onCpu !== undefined) return vcpu.port().read64(R[onCpu]);
  return vcpu.state.memory.ld64(vcpu.ctxt.sysregs + 8 * SAVED[name]);
}

/** vcpu_write_sys_reg. */
export function vcpuWriteSysReg(vcpu: Vcpu, name: SavedSysreg, value: bigint): void {
  const onCpu = vcpu.state.sysregsLoadedOnCpu ? ON_CPU[name] : undefined;
  if (onCpu !== undefined) return vcpu.port().write64(R[onCpu], BigInt.asUintN(64, value));
  vcpu.state.memory.st64(vcpu.ctxt.sysregs + 8 * SAVED[name], value);
}

/** kvm_vcpu_get_mpidr_aff: Aff3 to Aff0 of the vCPU's MPIDR_EL1, a number. */
export function kvmVcpuGetMpidrAff(vcpu: Vcpu): number {
  const at = vcpu.ctxt.sysregs + 8 * SAVED.MPIDR_EL1;
  const m = vcpu.state.memory;
  return (m.ld32(at) & 0xff_ffff) + (m.ld32(at + 4) & 0xff) * 2 ** 32;
}

/** kvm_mpidr_to_vcpu. */
export function kvmMpidrToVcpu(kvm: Vcpu["kvm"], affinity: number): Vcpu | undefined {
  return kvm.vcpus.find((vcpu) => kvmVcpuGetMpidrAff(vcpu) === affinity);
}
