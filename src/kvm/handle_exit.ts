/**
 * What becomes of an exit, by exception class. Mirrors arch/arm64/kvm/handle_exit.c.
 *
 * What differs: blocking is a result ({@link RET}) instead of a call that comes back later.
 */
import * as syndrome from "../arm/arch/syndrome.ts";
import * as emulate from "./emulate.ts";
import * as hypercalls from "./hypercalls.ts";
import * as injectFault from "./inject_fault.ts";
import * as kvmHost from "./kvm_host.ts";
import type { Vcpu } from "./kvm_host.ts";
import * as kvmMain from "./kvm_main.ts";
import { kvmHandleGuestAbort } from "./mmu.ts";
import { kvmHandleSysReg } from "./sys_regs.ts";
import * as kvmWords from "./kvm_words.ts";
import * as kvmTrace from "./trace.ts";

// Of the module itself: what is imported V8 looks up and checks at each use.
const { EC } = syndrome;
const { kvmIncrPc, vcpuSetReg } = emulate;
const { kvmHvcCallHandler } = hypercalls;
const { kvmInjectUndefined, kvmInjectVabt } = injectFault;
const { ARM_EXCEPTION, ARM_EXIT_WITH_SERROR, ERRNO, IFLAG, KVM_EXIT, RET, vcpuClearFlag } = kvmHost;
const { kvmVcpuWfi } = kvmMain;
const { pcOf, TP, trace, traceNumbers, wordAt } = kvmTrace;
const { VCPU_WORD: WORD } = kvmWords;

const ALL_ONES = 0xffff_ffff_ffff_ffffn;

function handleHvc(vcpu: Vcpu): number {
  const imm = vcpu.state.faultEsr & 0xffff;
  traceNumbers(vcpu, TP.kvm_hvc_arm64, pcOf(vcpu), wordAt(vcpu.ctxt.regs), imm);
  vcpu.stat.hvc_exit_stat++;
  const ret = kvmHvcCallHandler(vcpu);
  if (ret >= 0) return ret;
  vcpuSetReg(vcpu, 0, ALL_ONES);
  return RET.GUEST;
}

/** handle_smc: there is nobody to call. The trap leaves the PC at the instruction. */
function handleSmc(vcpu: Vcpu): number {
  vcpuSetReg(vcpu, 0, ALL_ONES);
  kvmIncrPc(vcpu);
  return RET.GUEST;
}

/** kvm_handle_wfx: WFE lets others run, WFI blocks until there is an interrupt. */
function kvmHandleWfx(vcpu: Vcpu): number {
  const wfe = (vcpu.state.faultEsr & 1) !== 0;
  trace(vcpu, TP.kvm_wfx_arm64, pcOf(vcpu), wfe ? 1 : 0);
  kvmIncrPc(vcpu);
  if (wfe) {
    vcpu.stat.wfe_exit_stat++;
    return RET.YIELD;
  }
  vcpu.stat.wfi_exit_stat++;
  return kvmVcpuWfi(vcpu);
}

/** kvm_handle_guest_debug: debug exceptions that came here are user space's. */
function kvmHandleGuestDebug(vcpu: Vcpu): number {
  vcpu.run.exitReason = KVM_EXIT.DEBUG;
  vcpu.run.debugHsr = vcpu.state.faultEsr;
  const ec = vcpu.state.faultEsr >>> 26;
  if (ec === EC.WATCHPT_LOW) vcpu.run.debugFar = vcpu.state.faultFar;
  if (ec === EC.SOFTSTP_LOW) vcpuClearFlag(vcpu, IFLAG.SS_ACTIVE_PENDING);
  return RET.USER;
}

function handleUndefined(vcpu: Vcpu): number {
  kvmInjectUndefined(vcpu);
  return RET.GUEST;
}

type ExitHandler = (vcpu: Vcpu) => number;

/** By exception class. */
const HANDLERS: Readonly<Record<number, ExitHandler>> = {
  [EC.WFx]: kvmHandleWfx,
  [EC.HVC64]: handleHvc,
  [EC.SMC64]: handleSmc,
  [EC.SYS64]: kvmHandleSysReg,
  [EC.IABT_LOW]: kvmHandleGuestAbort,
  [EC.DABT_LOW]: kvmHandleGuestAbort,
  [EC.SOFTSTP_LOW]: kvmHandleGuestDebug,
  [EC.WATCHPT_LOW]: kvmHandleGuestDebug,
  [EC.BREAKPT_LOW]: kvmHandleGuestDebug,
  [EC.BRK64]: kvmHandleGuestDebug,
  [EC.SVE]: handleUndefined,
  [EC.PAC]: handleUndefined,
  [EC.FP_ASIMD]: handleUndefined,
};

/** arm_exit_handlers; a class without an entry is an instruction the guest does not have. */
const ARM_EXIT_HANDLERS: readonly ExitHandler[] = Array.from(
  { length: 64 },
  (_, ec) => HANDLERS[ec] ?? handleUndefined,
);

/** handle_trap_exceptions: an exit by a trap of exception class `ec`. */
export function handleTrap(vcpu: Vcpu, ec: number): number {
  return (ARM_EXIT_HANDLERS[ec] as ExitHandler)(vcpu);
}

/** handle_exit: a {@link RET}, or a negative errno. */
export function handleExit(vcpu: Vcpu, exceptionIndex: number): number {
  if ((exceptionIndex & ARM_EXIT_WITH_SERROR) !== 0) return RET.GUEST;
  switch (exceptionIndex) {
    case ARM_EXCEPTION.IRQ:
    case ARM_EXCEPTION.EL1_SERROR:
      return RET.GUEST;
    case ARM_EXCEPTION.TRAP:
      return handleTrap(vcpu, (vcpu.words[WORD.ESR] as number) >>> 26);
    case ARM_EXCEPTION.IL:
      // The guest's saved state makes no sense: there is nothing to go on with.
      vcpu.run.exitReason = KVM_EXIT.FAIL_ENTRY;
      return ERRNO.EINVAL;
    default:
      vcpu.run.exitReason = KVM_EXIT.INTERNAL_ERROR;
      return RET.USER;
  }
}

/** handle_exit_early: an SError is given on before anything else can happen. */
export function handleExitEarly(vcpu: Vcpu, exceptionIndex: number): void {
  const withSError = (exceptionIndex & ARM_EXIT_WITH_SERROR) !== 0;
  if (withSError || exceptionIndex === ARM_EXCEPTION.EL1_SERROR) kvmInjectVabt(vcpu);
}
