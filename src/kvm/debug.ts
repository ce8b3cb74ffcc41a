/**
 * Debugging of guests, by themselves and by user space. Mirrors arch/arm64/kvm/debug.c: the debug
 * registers trap until the guest uses them, then they are switched with the world; what user space
 * wants (single steps, breakpoints of its own) is put over the guest's state before each entry and taken
 * off after each exit.
 *
 * What differs: of the tracepoints, those of an entry and an exit are made only while debugging is in
 * use, and kvm_arm_set_regset not at all: an event has no room for it.
 */
import * as debugRegisters from "../arm/arch/debug_registers.ts";
import * as fields from "../arm/arch/fields.ts";
import { DEBUG_REGISTERS } from "../trace/tracepoints.ts";
import * as kvmHost from "./kvm_host.ts";
import { type Vcpu, vcpuGetFlag } from "./kvm_host.ts";
import * as kvmWords from "./kvm_words.ts";
import * as kvmTrace from "./trace.ts";

// Of the module itself: what is imported V8 looks up and checks at each use.
const { MDSCR, OSLSR } = debugRegisters;
const { MDCR, SPSR } = fields;
const { ARM_MAX_DBG_REGS, ERRNO, IFLAG, SAVED, vcpuClearFlag, vcpuSetFlag } = kvmHost;
const { TP, trace } = kvmTrace;
const { VCPU_WORD: WORD } = kvmWords;

/** MDCR_EL2: trace filter and profiling registers trap. */
const MDCR_TPMS = 1 << 14;
const MDCR_TTRF = 1 << 19;
/** What is in MDCR_EL2 of every guest. */
const MDCR_ALWAYS = MDCR.TPM | MDCR_TPMS | MDCR_TTRF | MDCR.TPMCR | MDCR.TDRA | MDCR.TDOSA;
/** Of one that does not debug, without the counters. */
const MDCR_IDLE = MDCR_ALWAYS | MDCR.TDA, HPMN = MDCR.HPMN;
/** OSLSR_EL1.OSLK. */
export const OSLSR_OSLK = OSLSR.OSLK;
// As constants of this module alone, V8 knows them.
const OSLK = OSLSR.OSLK, DEBUG_DIRTY = IFLAG.DEBUG_DIRTY, DEBUG_EVENTS = MDSCR.KDE | MDSCR.MDE;

/** KVM_GUESTDBG_*: `control` of KVM_SET_GUEST_DEBUG. */
export const KVM_GUESTDBG = {
  ENABLE: 1 << 0,
  SINGLESTEP: 1 << 1,
  USE_SW_BP: 1 << 16,
  USE_HW: 1 << 17,
} as const;
const KVM_GUESTDBG_VALID_MASK = Object.values(KVM_GUESTDBG).reduce((mask, bit) => mask | bit, 0);

/** struct kvm_guest_debug: what user space wants, and with USE_HW its DBG registers, from unit 0 on. */
export interface KvmGuestDebug {
  readonly control: number;
  readonly bcr?: readonly bigint[];
  readonly bvr?: readonly bigint[];
  readonly wcr?: readonly bigint[];
  readonly wvr?: readonly bigint[];
}

/** kvm_arch_vcpu_ioctl_set_guest_debug: 0 or an errno. */
export function kvmArchVcpuIoctlSetGuestDebug(vcpu: Vcpu, debug: KvmGuestDebug): number {
  const { state } = vcpu;
  trace(vcpu, TP.kvm_set_guest_debug, state.vcpuId, debug.control);
  if ((debug.control & ~KVM_GUESTDBG_VALID_MASK) !== 0) return ERRNO.EINVAL;
  if ((debug.control & KVM_GUESTDBG.ENABLE) === 0) {
    state.guestDebug = 0;
    vcpuClearFlag(vcpu, IFLAG.SS_ACTIVE_PENDING);
    return 0;
  }
  state.guestDebug = debug.control;
  if ((debug.control & KVM_GUESTDBG.USE_HW) === 0) return 0;
  const put = (at: number, values: readonly bigint[] = []) => {
    for (let n = 0; n < ARM_MAX_DBG_REGS; n++) state.memory.st64(at + 8 * n, values[n] ?? 0n);
  };
  put(state.externalDbgBcr, debug.bcr);
  put(state.externalDbgBvr, debug.bvr);
  put(state.externalDbgWcr, debug.wcr);
  put(state.externalDbgWvr, debug.wvr);
  return 0;
}

/** kvm_vcpu_os_lock_enabled. */
function kvmVcpuOsLockEnabled(vcpu: Vcpu): boolean {
  return (vcpu.state.memory.ld32(vcpu.ctxt.sysregs + 8 * SAVED.OSLSR_EL1) & OSLK) !== 0;
}

/**
 * Of a vCPU's words: nobody debugs it, neither user space nor it itself, and its OS lock is open. Then
 * {@link kvmArmClearDebug} has nothing to do.
 */
export function kvmArmDebugIdle(words: Int32Array): boolean {
  return ((words[WORD.GUEST_DEBUG] as number) | ((words[WORD.IFLAGS] as number) & DEBUG_DIRTY) |
    ((words[WORD.OSLSR] as number) & OSLK)) === 0;
}

/** The same for {@link kvmArmSetupDebug}: MDCR_EL2 is as it was, too. `mdcrEl2`: of the current CPU, as boot code left it. */
export function kvmArmDebugSettled(words: Int32Array, mdcrEl2: number): boolean {
  return kvmArmDebugIdle(words) && ((words[WORD.MDSCR] as number) & DEBUG_EVENTS) === 0 &&
    words[WORD.MDCR] === (MDCR_IDLE | (mdcrEl2 & HPMN));
}

/** kvm_arm_setup_mdcr_el2. */
export function kvmArmSetupMdcrEl2(vcpu: Vcpu): void {
  const { guestDebug } = vcpu.state;
  const trapDebug = (guestDebug & KVM_GUESTDBG.USE_HW) !== 0 ||
    !vcpuGetFlag(vcpu, IFLAG.DEBUG_DIRTY) || kvmVcpuOsLockEnabled(vcpu);
  const counters = vcpu.kvm.host.initialMdcrEl2() & MDCR.HPMN;
  vcpu.state.mdcr = counters | MDCR_ALWAYS | (guestDebug !== 0 ? MDCR.TDE : 0) |
    (trapDebug ? MDCR.TDA : 0);
  if (traced(vcpu)) traceRegister(vcpu, "MDCR_EL2", vcpu.state.mdcr);
}

function traced(vcpu: Vcpu): boolean {
  return vcpu.state.guestDebug !== 0 || vcpuGetFlag(vcpu, IFLAG.DEBUG_DIRTY);
}

type DebugRegister = (typeof DEBUG_REGISTERS)[number];

function traceRegister(vcpu: Vcpu, name: DebugRegister, value: number): void {
  trace(vcpu, TP.kvm_arm_set_dreg32, DEBUG_REGISTERS.indexOf(name), value >>> 0);
}

const mdscrAt = (vcpu: Vcpu): number => vcpu.ctxt.sysregs + 8 * SAVED.MDSCR_EL1;
const mdscrOf = (vcpu: Vcpu): number => vcpu.state.memory.ld32(mdscrAt(vcpu));

function changeMdscr(vcpu: Vcpu, clear: number, set: number): void {
  vcpu.state.memory.st32(mdscrAt(vcpu), (mdscrOf(vcpu) & ~clear) | set);
}

const pstateOf = (vcpu: Vcpu): number => Number(vcpu.ctxt.pstate & 0xffff_ffffn);

function setPstateSs(vcpu: Vcpu, ss: boolean): void {
  const cleared = vcpu.ctxt.pstate & ~BigInt(SPSR.SS);
  vcpu.ctxt.pstate = ss ? cleared | BigInt(SPSR.SS) : cleared;
}

/** save_guest_debug_regs: what the guest itself has set. */
function saveGuestDebugRegs(vcpu: Vcpu): void {
  const { state } = vcpu;
  state.mdscrPreserved = mdscrOf(vcpu);
  state.pstateSsPreserved = (pstateOf(vcpu) & SPSR.SS) !== 0;
  if (traced(vcpu)) traceRegister(vcpu, "Saved MDSCR_EL1", state.mdscrPreserved);
}

/** restore_guest_debug_regs. */
function restoreGuestDebugRegs(vcpu: Vcpu): void {
  const { state } = vcpu;
  state.memory.st32(mdscrAt(vcpu), state.mdscrPreserved);
  if (traced(vcpu)) traceRegister(vcpu, "Restored MDSCR_EL1", state.mdscrPreserved);
  setPstateSs(vcpu, state.pstateSsPreserved);
}

/** User space steps, or the guest's own stepping is held off while user space debugs it otherwise. */
function setupStep(vcpu: Vcpu): void {
  if ((vcpu.state.guestDebug & KVM_GUESTDBG.SINGLESTEP) === 0) changeMdscr(vcpu, MDSCR.SS, 0);
  else {
    // An instruction stepped already, whose exception has not been taken, is not stepped again.
    setPstateSs(vcpu, !vcpuGetFlag(vcpu, IFLAG.SS_ACTIVE_PENDING));
    changeMdscr(vcpu, 0, MDSCR.SS);
  }
  if (traced(vcpu)) traceRegister(vcpu, "SPSR_EL2", pstateOf(vcpu));
}

/** User space's breakpoints and watchpoints take the place of the guest's (debug_ptr). */
function setupUnits(vcpu: Vcpu): void {
  if ((vcpu.state.guestDebug & KVM_GUESTDBG.USE_HW) !== 0) {
    changeMdscr(vcpu, 0, MDSCR.MDE);
    vcpu.state.externalDebug = true;
    vcpuSetFlag(vcpu, IFLAG.DEBUG_DIRTY);
  } else if (kvmVcpuOsLockEnabled(vcpu)) {
    // The lock's effect stays within the guest: no debug events while it holds it.
    changeMdscr(vcpu, MDSCR.MDE, 0);
  }
}

/** kvm_arm_setup_debug, before each entry: true when MDCR_EL2 must be written again. */
export function kvmArmSetupDebug(vcpu: Vcpu): boolean {
  const { state } = vcpu;
  const was = state.mdcr;
  if (traced(vcpu)) trace(vcpu, TP.kvm_arm_setup_debug, state.vcpuId, state.guestDebug);
  kvmArmSetupMdcrEl2(vcpu);
  if (state.guestDebug !== 0 || kvmVcpuOsLockEnabled(vcpu)) {
    saveGuestDebugRegs(vcpu);
    setupStep(vcpu);
    setupUnits(vcpu);
  }
  // A guest whose breakpoints or own steps are on depends on its registers being there.
  if ((mdscrOf(vcpu) & (MDSCR.KDE | MDSCR.MDE)) !== 0) vcpuSetFlag(vcpu, IFLAG.DEBUG_DIRTY);
  if (traced(vcpu)) traceRegister(vcpu, "MDSCR_EL1", mdscrOf(vcpu));
  return state.mdcr !== was;
}

/** kvm_arm_clear_debug, after each exit. */
export function kvmArmClearDebug(vcpu: Vcpu): void {
  const { guestDebug } = vcpu.state;
  if (traced(vcpu)) trace(vcpu, TP.kvm_arm_clear_debug, guestDebug);
  if (guestDebug === 0 && !kvmVcpuOsLockEnabled(vcpu)) return;
  if ((guestDebug & KVM_GUESTDBG.SINGLESTEP) !== 0 && (pstateOf(vcpu) & SPSR.SS) === 0) {
    vcpuSetFlag(vcpu, IFLAG.SS_ACTIVE_PENDING);
  }
  restoreGuestDebugRegs(vcpu);
  vcpu.state.externalDebug = false;
}
