/**
 * The world switch on a VHE host. Mirrors arch/arm64/kvm/hyp/vhe/switch.c.
 *
 * What differs: __kvm_vcpu_run_vhe is cut in two at ERET, where the host's thread is suspended;
 * {@link vcpuRunEnter} is what comes before, {@link vcpuRunExit} what comes after, and again before a
 * re-entry that never leaves EL2's fast path.
 */
import * as el2Port from "../../../arm/el2_port.ts";
import type { El2Port, Sequence } from "../../../arm/el2_port.ts";
import * as fields from "../../../arm/arch/fields.ts";
import * as sysregs from "../../../arm/arch/sysregs.ts";
import * as kvmHost from "../../kvm_host.ts";
import { KvmCpuContextLayout, KvmVcpuLayout, type Vcpu } from "../../kvm_host.ts";
import * as kvmWords from "../../kvm_words.ts";
import * as debugSr from "../debug_sr.ts";
import * as exceptionModule from "../exception.ts";
import * as fpsimd from "../fpsimd.ts";
import { CPACR_FPEN } from "../fpsimd.ts";
import * as hypSwitch from "../switch.ts";
import { CPTR_TAM } from "../switch.ts";
import * as sysregSr from "../sysreg_sr.ts";
import * as sysregSrModule from "./sysreg_sr.ts";
import * as tlb from "./tlb.ts";

// Of the module itself: what is imported V8 looks up and checks at each use.
const { at, sequence, STEP } = el2Port;
const VSE = fields.HCR.VSE;
const { R } = sysregs;
const { ARM_EXCEPTION, IFLAG } = kvmHost;
const { VCPU_WORD: WORD } = kvmWords;
const { debugSwitchToGuest, debugSwitchToHost } = debugSr;
const { kvmAdjustPc } = exceptionModule;
const { kvmHypHandleFpsimd } = fpsimd;
const {
  exitCodeOf,
  fixupGuestExit,
  guestEnter,
  guestEnterSteps,
  guestExit,
  guestExitSteps,
  guestOwnsFpRegs,
  hypExitHandlers,
  keepPendingVirtualSError,
  LOAD_STAGE2,
  REENTERED,
  SAVE_PSTATE,
  SAVE_PSTATE_AND_ESR,
  savePstateAndEsr,
  VECTOR_LOWER_AARCH64,
  VECTOR_LOWER_IRQ,
  vttbrHi,
  vttbrLo,
} = hypSwitch;
const { COMMON_STATE, el2ReturnPstate, GUEST, HOST, isLegalReturn, sysregRestore, sysregSave } =
  sysregSr;
const { restoreGuestStateVhe, saveGuestStateVhe } = sysregSrModule;
const { HCR_HOST_VHE_HI, HCR_HOST_VHE_LO } = tlb;

/** VBAR_EL2 while a guest runs and while the host does. Nothing is ever fetched there. */
const HYP_VECTORS = 0x1000_0800;
const HOST_VECTORS = 0x1000_0000;

/** CPTR_EL2 with E2H: trace traps, SVE allowed to EL1 (a host default). */
const CPTR_TTA = 1 << 28;
const CPACR_EL1_DEFAULT = (3 << 20) | (1 << 16);

/** CPTR_EL2 of a guest: FP closed unless the guest has it. */
const CPTR_GUEST = CPTR_TTA | CPTR_TAM;

/**
 * From the host's state to the traps of a guest: sysreg_save_host_state_vhe, __load_stage2 and
 * __activate_traps (HCR_EL2 of the guest, the vectors of its exits). Argument 0 is the vCPU; the others are
 * {@link LOAD_STAGE2}'s.
 */
const activateSequence = (cptr: number) =>
  sequence(
    sysregSave(COMMON_STATE.vhe, HOST),
    // Both stages must be in place before HCR_EL2.TGE goes (Arm erratum 1165522 of real cores; the
    // order is the kernel's).
    LOAD_STAGE2,
    STEP.load(R.HCR_EL2, at(KvmVcpuLayout.offset.hcrLo)),
    STEP.write(R.CPTR_EL2, cptr),
    STEP.write(R.VBAR_EL2, HYP_VECTORS),
  );
const ACTIVATE = activateSequence(CPTR_GUEST);
const ACTIVATE_FP = activateSequence(CPTR_GUEST | CPACR_FPEN);

/** __deactivate_traps and sysreg_restore_host_state_vhe. Argument 0 is the vCPU. */
const DEACTIVATE = sequence(
  STEP.write(R.HCR_EL2, HCR_HOST_VHE_LO, HCR_HOST_VHE_HI),
  STEP.write(R.CPTR_EL2, CPACR_EL1_DEFAULT),
  STEP.write(R.VBAR_EL2, HOST_VECTORS),
  sysregRestore(COMMON_STATE.vhe, HOST),
);

/** hyp_exit_handlers. */
const HYP_EXIT_HANDLERS = hypExitHandlers((port, vcpu) => kvmHypHandleFpsimd(port, vcpu, true));

/** What an exit by a synchronous exception of the guest begins with. Argument 0 is the vCPU, as in all below. */
const SYNC_EXIT = sequence(
  STEP.trap(),
  guestExitSteps(at(GUEST), at(HOST)),
  SAVE_PSTATE_AND_ESR,
);

const RESTORE_GUEST_STATE = sequence(restoreGuestStateVhe());

/**
 * All of {@link vcpuRunEnter} before ERET, where the guest's PC need not change, its PSTATE is one that it may
 * have and no debug registers are switched. Arguments as of {@link ACTIVATE}.
 */
const enterSequence = (activate: Sequence) =>
  sequence(
    activate.steps,
    sysregRestore(COMMON_STATE.vhe, GUEST),
    STEP.restore(R.ELR_EL2, at(GUEST + KvmCpuContextLayout.offset.pc)),
    STEP.loadWord(R.SPSR_EL2, at(GUEST + KvmCpuContextLayout.offset.pstate)),
    guestEnterSteps(at(GUEST), at(HOST)),
  );
const ENTER = enterSequence(ACTIVATE);
const ENTER_FP = enterSequence(ACTIVATE_FP);
/** What keeps an entry from that; an instruction that is to be skipped is before it. */
const IN_THE_WAY = IFLAG.PENDING_EXCEPTION | IFLAG.DEBUG_DIRTY;

const SAVE_GUEST_STATE = sequence(saveGuestStateVhe());
/** The same with what follows, where neither a virtual SError nor debug registers are looked after between them. */
const SAVE_AND_DEACTIVATE = sequence(SAVE_GUEST_STATE.steps, DEACTIVATE.steps, STEP.isb());
/** All of {@link vcpuRunExit} after an interrupt, under the same conditions. */
const IRQ_EXIT = sequence(
  STEP.trap(),
  guestExitSteps(at(GUEST), at(HOST)),
  SAVE_PSTATE,
  SAVE_AND_DEACTIVATE.steps,
);

/** The first half of __kvm_vcpu_run_vhe: the CPU is in the guest when it returns. All exceptions are masked. */
export function vcpuRunEnter(port: El2Port, vcpu: Vcpu): void {
  const { words, base, kvm } = vcpu;
  const fp = guestOwnsFpRegs(vcpu), flags = words[WORD.IFLAGS] as number;
  const lo = vttbrLo(kvm.words, 0), hi = vttbrHi(kvm.words, 0);
  if ((flags & IN_THE_WAY) === 0) {
    if ((flags & IFLAG.INCREMENT_PC) !== 0) kvmAdjustPc(port, vcpu);
    if (isLegalReturn(words[WORD.PSTATE] as number)) {
      port.runWith(fp ? ENTER_FP : ENTER, base, kvm.base, lo, hi);
      return port.eret();
    }
  }
  port.runWith(fp ? ACTIVATE_FP : ACTIVATE, base, kvm.base, lo, hi);
  kvmAdjustPc(port, vcpu);
  port.runWith(RESTORE_GUEST_STATE, base, el2ReturnPstate(vcpu.ctxt));
  debugSwitchToGuest(port, vcpu);
  guestEnter(port, vcpu, vcpu.hostCtxt);
}

/** From the vector to where it is known how the guest was left: an {@link ARM_EXCEPTION} code. */
function leaveGuest(port: El2Port, vcpu: Vcpu, vectorOffset: number): number {
  if (vectorOffset === VECTOR_LOWER_AARCH64) {
    port.run(SYNC_EXIT, vcpu.base);
    return ARM_EXCEPTION.TRAP;
  }
  port.trap();
  guestExit(port, vcpu, vcpu.hostCtxt);
  const code = exitCodeOf(port, vectorOffset);
  savePstateAndEsr(port, vcpu, code);
  return code;
}

/**
 * The second half, with the ISB after it: the guest has been left through the vector at `vectorOffset`. An
 * {@link ARM_EXCEPTION} code with the host's state in place, or {@link REENTERED}.
 */
export function vcpuRunExit(port: El2Port, vcpu: Vcpu, vectorOffset: number): number {
  const { words, base } = vcpu;
  const plain = (((words[WORD.HCR] as number) & VSE) |
    ((words[WORD.IFLAGS] as number) & IFLAG.DEBUG_DIRTY)) === 0;
  if (plain && vectorOffset === VECTOR_LOWER_IRQ) {
    port.run(IRQ_EXIT, base);
    return ARM_EXCEPTION.IRQ;
  }
  const code = leaveGuest(port, vcpu, vectorOffset);
  if (fixupGuestExit(port, vcpu, code, HYP_EXIT_HANDLERS)) {
    guestEnter(port, vcpu, vcpu.hostCtxt);
    return REENTERED;
  }
  if (plain) port.run(SAVE_AND_DEACTIVATE, base);
  else {
    port.run(SAVE_GUEST_STATE, base);
    keepPendingVirtualSError(port, vcpu);
    port.run(DEACTIVATE, base);
    debugSwitchToHost(port, vcpu);
    port.isb();
  }
  return code;
}
