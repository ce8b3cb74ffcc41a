/**
 * Debug traps. Mirrors arch/arm64/kvm/debug.c without guest debugging by user space: the debug
 * registers trap until the guest uses them, then they are switched with the world.
 */
import { MDCR } from "../arm/arch/fields.ts";
import { IFLAG, SAVED, type Vcpu, vcpuClearFlag, vcpuGetFlag, vcpuSetFlag } from "./kvm_host.ts";

/** MDCR_EL2: performance monitors, trace filter and profiling registers trap. */
const MDCR_TPMCR = 1 << 5;
const MDCR_TPM = 1 << 6;
const MDCR_TPMS = 1 << 14;
const MDCR_TTRF = 1 << 19;
/** OSLSR_EL1.OSLK. */
export const OSLSR_OSLK = 2;
const MDSCR_KDE_MDE = (1 << 13) | (1 << 15);
const MDSCR_MDE = 1 << 15;

/** kvm_vcpu_os_lock_enabled. */
export function kvmVcpuOsLockEnabled(vcpu: Vcpu): boolean {
  return (vcpu.state.memory.ld32(vcpu.ctxt.sysregs + 8 * SAVED.OSLSR_EL1) & OSLSR_OSLK) !== 0;
}

/** kvm_arm_setup_mdcr_el2. */
export function kvmArmSetupMdcrEl2(vcpu: Vcpu): void {
  const trapDebug = !vcpuGetFlag(vcpu, IFLAG.DEBUG_DIRTY) || kvmVcpuOsLockEnabled(vcpu);
  vcpu.state.mdcr = MDCR_TPM | MDCR_TPMS | MDCR_TTRF | MDCR_TPMCR | MDCR.TDRA | MDCR.TDOSA |
    (trapDebug ? MDCR.TDA : 0);
}

/** kvm_arm_setup_debug, before each entry: true when MDCR_EL2 must be written again. */
export function kvmArmSetupDebug(vcpu: Vcpu): boolean {
  const { state } = vcpu;
  const was = state.mdcr;
  kvmArmSetupMdcrEl2(vcpu);
  const at = vcpu.ctxt.sysregs + 8 * SAVED.MDSCR_EL1;
  const mdscr = state.memory.ld32(at);
  if (kvmVcpuOsLockEnabled(vcpu)) {
    // The lock's effect stays within the guest: no debug events while it holds it.
    state.mdscrPreserved = mdscr;
    vcpuSetFlag(vcpu, IFLAG.MDSCR_PRESERVED);
    state.memory.st32(at, mdscr & ~MDSCR_MDE);
  } else if ((mdscr & MDSCR_KDE_MDE) !== 0) vcpuSetFlag(vcpu, IFLAG.DEBUG_DIRTY);
  return state.mdcr !== was;
}

/** kvm_arm_clear_debug, after each exit. */
export function kvmArmClearDebug(vcpu: Vcpu): void {
  if (!vcpuGetFlag(vcpu, IFLAG.MDSCR_PRESERVED)) return;
  vcpu.state.memory.st32(vcpu.ctxt.sysregs + 8 * SAVED.MDSCR_EL1, vcpu.state.mdscrPreserved);
  vcpuClearFlag(vcpu, IFLAG.MDSCR_PRESERVED);
}
