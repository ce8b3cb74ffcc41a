/**
 * Running a vCPU. Mirrors kvm_arch_vcpu_ioctl_run and its neighbours in arch/arm64/kvm/arm.c, in the
 * kernel's order of steps.
 *
 * What differs: the function is cut into the phases of a host thread, at the places where the kernel's
 * would be suspended: guest entry, halt, sleep, wait for other vCPUs, return to user space.
 */
import { InternalError } from "../base/errors.ts";
import * as memoryModule from "../base/memory.ts";
import type { El2Port } from "../arm/el2_port.ts";
import type { Host } from "../host/host.ts";
import * as hostThreads from "../host/threads.ts";
import { type HostThread, type Next, SUSPEND, type ThreadKind } from "../host/threads.ts";
import * as archTimer from "./arch_timer.ts";
import * as debug from "./debug.ts";
import * as emulate from "./emulate.ts";
import * as exitHandlers from "./handle_exit.ts";
import * as fpsimd from "./hyp/fpsimd.ts";
import * as hypSwitch from "./hyp/switch.ts";
import * as sysregSr from "./hyp/vhe/sysreg_sr.ts";
import * as kvmHost from "./kvm_host.ts";
import {
  IFLAG,
  type KvmHost,
  KvmVcpuLayout,
  KvmVcpuStatLayout,
  RET,
  type Vcpu,
} from "./kvm_host.ts";
import * as kvmMain from "./kvm_main.ts";
import * as mmio from "./mmio.ts";
import * as pvtime from "./pvtime.ts";
import * as pmu from "./pmu.ts";
import * as pmuEmul from "./pmu_emul.ts";
import * as reset from "./reset.ts";
import { SWITCH_REASON } from "./stats.ts";
import * as kvmTrace from "./trace.ts";
import * as sysregs from "../arm/arch/sysregs.ts";
import type { VmidAllocator } from "./vmid.ts";

// Of the module itself: what is imported V8 looks up and checks at each use.
const { addSmall } = memoryModule;
const { suspend, THREAD_STATE } = hostThreads;
const { kvmTimerEnable, kvmTimerVcpuLoad, kvmTimerVcpuPut } = archTimer;
const { kvmArmClearDebug, kvmArmSetupDebug, kvmArmSetupMdcrEl2 } = debug;
const { vcpuClearWfxTraps, vcpuSetWfxTraps } = emulate;
const { handleExit, handleExitEarly } = exitHandlers;
const { kvmArchVcpuLoadFp, kvmArchVcpuPutFp } = fpsimd;
const { REENTERED } = hypSwitch;
const { kvmVcpuLoadSysregsVhe, kvmVcpuPutSysregsVhe } = sysregSr;
const {
  ARM_EXCEPTION,
  ERRNO,
  irqchipInKernel,
  KVM_EXIT,
  KVM_REQ,
  KVM_SYSTEM_EVENT,
  kvmCheckRequest,
  kvmMakeRequest,
  MP_STATE,
  VCPU_MODE,
  vcpuClearFlag,
  vcpuGetFlag,
} = kvmHost;
const { kvmArchVcpuRunnable, kvmArmVcpuStopped, kvmVcpuWfi } = kvmMain;
const { ioMemAccess, kvmHandleMmioReturn } = mmio;
const { kvmArmIsPvtimeEnabled, kvmUpdateStolenTime } = pvtime;
const { kvmPmuUpdateVcpuEvents, kvmVcpuPmuRestoreGuest, kvmVcpuPmuRestoreHost } = pmu;
const { kvmArmPmuV3Enable, kvmPmuFlushHwstate, kvmPmuHandlePmcr, kvmPmuSyncHwstate, pmuReg } =
  pmuEmul;
const { kvmResetVcpu } = reset;
const { pcOf, TP, trace, traceNumber, traceNumbers } = kvmTrace;
const { R } = sysregs;

// As constants of this module, V8 knows them.
const add = addSmall;
const STAT = {
  EXITS: KvmVcpuStatLayout.offset.exits >>> 2,
  ENTRIES: KvmVcpuStatLayout.offset.entries >>> 2,
  INSNS: KvmVcpuStatLayout.offset.insns >>> 2,
  IRQ_EXITS: KvmVcpuStatLayout.offset.irqExits >>> 2,
  BY_CLASS: KvmVcpuStatLayout.offset.byClass >>> 2,
} as const;
const ENTRY_INSNS = KvmVcpuLayout.offset.entryInsns;

/** The phases of a vCPU's thread. */
const PHASE = {
  /** In user space, between two KVM_RUNs. */
  USER: 0,
  /** KVM_RUN begins. */
  RUN: 1,
  /** The top of the loop: on the way into the guest. */
  LOOP: 2,
  /** The guest has been left. */
  EXIT: 3,
  /** kvm_vcpu_block before and after it has slept. */
  BLOCK: 4,
  BLOCKED: 5,
  /** kvm_vcpu_sleep: powered off or paused. */
  SLEEP: 6,
  /** An access waits until the other vCPUs are out of the guest. */
  WAIT_ACK: 7,
} as const;

/** What the loop needs of the system around it. */
export interface VcpuRunServices {
  readonly kernel: Host;
  readonly host: KvmHost;
  readonly vmids: VmidAllocator;
  /** Sets the vCPU that is loaded on a physical CPU (kvm_running_vcpu). */
  setRunningVcpu(pcpu: number, vcpu: Vcpu | undefined): void;
  /** Return to user space with KVM_RUN's result; true: run again. */
  userExit(vcpu: Vcpu, ret: number): boolean;
}

const next = (phase: number): Next => suspend(SUSPEND.NONE, phase);

/** The vCPU threads' code. */
export class VcpuRunner implements ThreadKind {
  readonly name = "vcpu";
  // As members of their own: they are looked at several times on each exit.
  readonly #kernel: Host;
  readonly #host: KvmHost;
  /** Where each physical CPU counts its instructions. */
  readonly #insnsAt: readonly number[];

  constructor(readonly services: VcpuRunServices) {
    this.#kernel = services.kernel;
    this.#host = services.host;
    const { hardware } = services.kernel;
    this.#insnsAt = Array.from({ length: hardware.pcpus }, (_, pcpu) => hardware.insnsAt(pcpu));
  }

  run(thread: HostThread, phase: number): Next {
    const vcpu = this.#vcpu(thread);
    switch (phase) {
      case PHASE.LOOP:
        return this.#loop(vcpu, thread);
      case PHASE.EXIT:
        return this.#exit(vcpu, thread);
      case PHASE.USER:
        return this.#user(vcpu);
      case PHASE.RUN:
        return this.#run(vcpu, thread);
      case PHASE.BLOCK:
        return this.#block(vcpu, false);
      case PHASE.BLOCKED:
        return this.#block(vcpu, true);
      case PHASE.SLEEP:
        return this.#sleep(vcpu);
      case PHASE.WAIT_ACK:
        return this.#waitAck(vcpu, thread);
      default:
        throw new InternalError(`vCPU ${vcpu.state.vcpuId}: no phase ${phase}`);
    }
  }

  #vcpu(thread: HostThread): Vcpu {
    return this.#host.vcpuAt(thread.arg);
  }

  // Load and put.

  /** kvm_sched_in. */
  schedIn(thread: HostThread): void {
    const vcpu = this.#vcpu(thread);
    this.#resumeMeter(vcpu);
    this.#load(vcpu);
  }

  /** kvm_sched_out. */
  schedOut(thread: HostThread): void {
    const vcpu = this.#vcpu(thread);
    this.#put(vcpu);
    vcpu.meter?.pause(this.services.kernel.port(), thread.state === THREAD_STATE.BLOCKED);
  }

  guestLeft(thread: HostThread, port: El2Port): void {
    this.#vcpu(thread).meter?.left(port);
  }

  guestReentered(thread: HostThread): void {
    this.#vcpu(thread).meter?.entered(this.services.kernel.port());
  }

  #resumeMeter(vcpu: Vcpu): void {
    vcpu.meter?.resume(this.services.kernel.port());
  }

  #load(vcpu: Vcpu): void {
    this.services.setRunningVcpu(this.services.kernel.currentCpu, vcpu);
    this.kvmArchVcpuLoad(vcpu);
  }

  #put(vcpu: Vcpu): void {
    this.kvmArchVcpuPut(vcpu);
    this.services.setRunningVcpu(this.services.kernel.currentCpu, undefined);
  }

  /** kvm_arch_vcpu_load: the vCPU's state that stays loaded between exits goes into the current physical CPU. */
  kvmArchVcpuLoad(vcpu: Vcpu): void {
    const { kernel } = this.services;
    const pcpu = kernel.currentCpu;
    const { state, kvm } = vcpu;
    // TLB entries of one vCPU must not serve another of the same VM: they share the VMID.
    const lastAt = kvm.state.lastVcpuRan + 4 * pcpu;
    if (state.memory.ld32(lastAt) !== state.vcpuId + 1) {
      kvm.host.hyp.kvmFlushCpuContext(kernel.port(), kvm.state);
      state.memory.st32(lastAt, state.vcpuId + 1);
    }
    state.cpu = pcpu;
    vcpu.stat.loadTranslatedInsns = kernel.hardware.insnsTranslated(pcpu);
    kvm.host.vgic.kvmVgicLoad(vcpu);
    kvmTimerVcpuLoad(vcpu);
    if (kvm.host.hyp.vhe) kvmVcpuLoadSysregsVhe(vcpu);
    kvmArchVcpuLoadFp(vcpu);
    kvmVcpuPmuRestoreGuest(vcpu);
    if (kvmArmIsPvtimeEnabled(vcpu)) kvmMakeRequest(vcpu, KVM_REQ.RECORD_STEAL);
    if (kernel.scheduler.singleTaskRunning(pcpu)) vcpuClearWfxTraps(vcpu);
    else vcpuSetWfxTraps(vcpu);
  }

  /** kvm_arch_vcpu_put: and out of it again. */
  kvmArchVcpuPut(vcpu: Vcpu): void {
    kvmArchVcpuPutFp(vcpu);
    if (vcpu.kvm.host.hyp.vhe) kvmVcpuPutSysregsVhe(vcpu);
    kvmTimerVcpuPut(vcpu);
    vcpu.kvm.host.vgic.kvmVgicPut(vcpu);
    kvmVcpuPmuRestoreHost(vcpu);
    this.services.vmids.clearActive(vcpu.state.cpu);
    this.#accountTranslated(vcpu);
    vcpu.state.cpu = -1;
  }

  /** No host code is translated: what was while the vCPU was loaded is the guest's. */
  #accountTranslated({ stat, state }: Vcpu): void {
    const { hardware } = this.services.kernel;
    const insns = hardware.insnsTranslated(state.cpu) - stat.loadTranslatedInsns;
    // A snapshot that was restored may have it loaded elsewhere than the counter was read.
    stat.translatedInsns += Math.max(0, insns);
  }

  // KVM_RUN.

  #user(vcpu: Vcpu): Next {
    if (!vcpu.state.running) return suspend(SUSPEND.BLOCK, PHASE.USER);
    const error = kvmArchVcpuRunPidChange(vcpu);
    return error === 0 ? next(PHASE.RUN) : this.#return(vcpu, error);
  }

  #return(vcpu: Vcpu, ret: number): Next {
    vcpu.state.running = false;
    const again = this.services.userExit(vcpu, ret);
    if (again) vcpu.state.running = true;
    vcpu.meter?.pause(this.services.kernel.port(), !again);
    return next(PHASE.USER);
  }

  #run(vcpu: Vcpu, thread: HostThread): Next {
    this.#resumeMeter(vcpu);
    if (vcpu.run.exitReason === KVM_EXIT.MMIO) kvmHandleMmioReturn(vcpu);
    thread.notify = true;
    this.#load(vcpu);
    if (vcpu.run.immediateExit) return this.#out(vcpu, thread, ERRNO.EINTR);
    vcpu.run.exitReason = KVM_EXIT.UNKNOWN;
    return next(PHASE.LOOP);
  }

  /** The end of KVM_RUN: what is pending is carried out, so that user space sees the vCPU as it is. */
  #out(vcpu: Vcpu, thread: HostThread, ret: number): Next {
    if (vcpuGetFlag(vcpu, IFLAG.PENDING_EXCEPTION | IFLAG.INCREMENT_PC)) {
      vcpu.kvm.host.hyp.kvmAdjustPc(vcpu.port(), vcpu);
    }
    if (ret === ERRNO.EINTR) vcpu.run.exitReason = KVM_EXIT.INTR;
    this.#put(vcpu);
    thread.notify = false;
    trace(vcpu, TP.kvm_userspace_exit, vcpu.run.exitReason);
    return this.#return(vcpu, ret);
  }

  #loop(vcpu: Vcpu, thread: HostThread): Next {
    const { kvm, state, run } = vcpu;
    const signal = run.immediateExit;
    if (signal) vcpu.stat.signal_exits++;
    const ret = signal ? ERRNO.EINTR : state.requests === 0 ? RET.GUEST : this.#checkRequests(vcpu);
    if (ret === RET.HALT) return suspend(SUSPEND.BLOCK, PHASE.SLEEP);
    if (ret === SUSPENDED) return this.#halt(vcpu);
    const kernel = this.#kernel, port = vcpu.port();
    this.services.vmids.update(port, kernel.currentCpu, kvm.state);
    kvmPmuFlushHwstate(vcpu);
    port.irqDisable();
    kvm.host.vgic.kvmVgicFlushHwstate(vcpu);
    kvmPmuUpdateVcpuEvents(vcpu);
    // After interrupts are off and before the last look at the requests: whoever makes one from now
    // on sees that a kick is needed.
    state.mode = VCPU_MODE.IN_GUEST_MODE;
    // kvm_vcpu_exit_request.
    if (ret <= 0 || state.requests !== 0 || run.immediateExit || kernel.needResched) {
      this.#backOut(vcpu);
      return ret <= 0 ? this.#out(vcpu, thread, ret) : next(PHASE.LOOP);
    }
    return this.#enter(vcpu, port);
  }

  #backOut(vcpu: Vcpu): void {
    const port = vcpu.port();
    vcpu.state.mode = VCPU_MODE.OUTSIDE_GUEST_MODE;
    port.isb();
    kvmPmuSyncHwstate(vcpu);
    vcpu.kvm.host.vgic.kvmVgicSyncHwstate(vcpu);
    port.irqEnable();
  }

  #enter(vcpu: Vcpu, port: El2Port): Next {
    const { state, stat } = vcpu, { host } = vcpu.kvm;
    if (kvmArmSetupDebug(vcpu) && host.hyp.vhe) port.write(R.MDCR_EL2, state.mdcr, 0);
    traceNumber(vcpu, TP.kvm_entry, pcOf(vcpu));
    add(stat.memory.i32, (stat.base >>> 2) + STAT.ENTRIES, 1);
    state.memory.copy64(state.base + ENTRY_INSNS, this.#insnsAt[this.#kernel.currentCpu] as number);
    host.hyp.vcpuRunEnter(vcpu);
    vcpu.meter?.entered(port);
    return suspend(SUSPEND.GUEST, PHASE.EXIT);
  }

  #exit(vcpu: Vcpu, thread: HostThread): Next {
    const { kvm, state } = vcpu, { host } = kvm;
    const code = host.hyp.vcpuRunExit(vcpu, thread.vector);
    const port = vcpu.port();
    if (code === REENTERED) {
      vcpu.meter?.entered(port);
      return suspend(SUSPEND.GUEST, PHASE.EXIT);
    }
    const ec = code === ARM_EXCEPTION.TRAP ? state.faultEsr >>> 26 : 0;
    this.#account(vcpu, code);
    state.mode = VCPU_MODE.OUTSIDE_GUEST_MODE;
    if (state.pause) this.#acknowledgeHalt(vcpu);
    kvmArmClearDebug(vcpu);
    // The monitors first: their interrupt's level is for the vgic to see.
    kvmPmuSyncHwstate(vcpu);
    // The vgic before interrupts are opened: a timer's handler must find what the guest did with it.
    host.vgic.kvmVgicSyncHwstate(vcpu);
    if (code === ARM_EXCEPTION.IRQ) {
      port.irqEnable();
      port.isb();
      this.#kernel.takeInterrupts();
      port.irqDisable();
    }
    port.irqEnable();
    traceNumbers(vcpu, TP.kvm_exit, code, ec, pcOf(vcpu));
    handleExitEarly(vcpu, code);
    return this.#after(vcpu, thread, handleExit(vcpu, code));
  }

  #account(vcpu: Vcpu, code: number): void {
    const { stat, state } = vcpu;
    const words = stat.memory.i32, at = stat.base >>> 2;
    add(words, at + STAT.EXITS, 1);
    this.#countInsns(vcpu);
    state.exitCode = code;
    vcpu.meter?.because(switchReason(code, state.faultEsr));
    if (code === ARM_EXCEPTION.IRQ) add(words, at + STAT.IRQ_EXITS, 1);
    else if (code === ARM_EXCEPTION.EL1_SERROR) stat.serrorExits++;
    else if (code === ARM_EXCEPTION.TRAP) {
      add(words, at + STAT.BY_CLASS + 2 * (state.faultEsr >>> 26), 1);
    }
  }

  /** What the guest has retired since it was entered. */
  #countInsns({ stat, state }: Vcpu): void {
    const { memory } = stat, words = memory.i32;
    const now = this.#insnsAt[this.#kernel.currentCpu] as number, before = state.base + ENTRY_INSNS;
    const done = ((words[now >>> 2] as number) - (words[before >>> 2] as number)) | 0;
    // A guest that is not left for long has done more than a small number holds.
    if (words[(now + 4) >>> 2] === words[(before + 4) >>> 2] && done >= 0) {
      add(words, (stat.base >>> 2) + STAT.INSNS, done);
    } else stat.insns += memory.ld53(now) - memory.ld53(before);
  }

  /** Out of the guest on request: whoever waits for that looks again. */
  #acknowledgeHalt(vcpu: Vcpu): void {
    for (const other of vcpu.kvm.vcpus) {
      if (other.state.waitingAck) this.#wake(other);
    }
  }

  #wake(vcpu: Vcpu): void {
    const { threads, scheduler } = this.services.kernel;
    scheduler.wake(threads.at(vcpu.state.thread));
  }

  /** What follows from a handler's result. */
  #after(vcpu: Vcpu, thread: HostThread, ret: number): Next {
    switch (ret) {
      case RET.GUEST:
        return next(PHASE.LOOP);
      case RET.HALT:
        return this.#halt(vcpu);
      case RET.YIELD:
        return this.#onSpin();
      case RET.WAIT_ACK:
        vcpu.state.waitingAck = true;
        return suspend(SUSPEND.BLOCK, PHASE.WAIT_ACK);
      default:
        return this.#out(vcpu, thread, ret);
    }
  }

  /** kvm_vcpu_on_spin: somebody else may have what the guest waits for. */
  #onSpin(): Next {
    const { scheduler, currentCpu } = this.services.kernel;
    const alone = scheduler.singleTaskRunning(currentCpu);
    return suspend(alone ? SUSPEND.NONE : SUSPEND.RESCHED, PHASE.LOOP);
  }

  #waitAck(vcpu: Vcpu, thread: HostThread): Next {
    vcpu.state.waitingAck = false;
    return this.#after(vcpu, thread, ioMemAccess(vcpu));
  }

  /** kvm_vcpu_halt. */
  #halt(vcpu: Vcpu): Next {
    vcpu.state.blocking = true;
    vcpu.stat.blocking = 1;
    vcpu.state.blockedSinceNs = this.services.host.nowNs();
    return next(PHASE.BLOCK);
  }

  /** kvm_vcpu_block: sleeps until kvm_vcpu_check_block is content. */
  #block(vcpu: Vcpu, waited: boolean): Next {
    if (!kvmArchVcpuRunnable(vcpu) && !vcpu.run.immediateExit) {
      return suspend(SUSPEND.BLOCK, PHASE.BLOCKED);
    }
    vcpu.state.blocking = false;
    vcpu.stat.blocking = 0;
    vcpuClearFlag(vcpu, IFLAG.IN_WFI);
    const ns = this.services.host.nowNs() - vcpu.state.blockedSinceNs;
    if (waited) vcpu.stat.halt_wait_ns += ns;
    trace(vcpu, TP.kvm_vcpu_wakeup, ns, waited ? 1 : 0, 1);
    return next(PHASE.LOOP);
  }

  /**
   * check_vcpu_requests: {@link RET.GUEST}, {@link RET.USER}, an errno, {@link RET.HALT} to sleep first,
   * or {@link SUSPENDED} to block first.
   */
  #checkRequests(vcpu: Vcpu): number {
    if (kvmCheckRequest(vcpu, KVM_REQ.VM_DEAD)) return ERRNO.EIO;
    if (kvmCheckRequest(vcpu, KVM_REQ.SLEEP) && mustSleep(vcpu)) {
      vcpu.state.blocking = true;
      return RET.HALT;
    }
    if (kvmCheckRequest(vcpu, KVM_REQ.VCPU_RESET)) this.kvmResetVcpu(vcpu);
    if (kvmCheckRequest(vcpu, KVM_REQ.RELOAD_PMU)) {
      kvmPmuHandlePmcr(vcpu, pmuReg(vcpu, "PMCR_EL0"));
    }
    // Made only to get the vCPU out of the guest, to see new interrupts.
    kvmCheckRequest(vcpu, KVM_REQ.IRQ_PENDING);
    if (kvmCheckRequest(vcpu, KVM_REQ.RECORD_STEAL)) kvmUpdateStolenTime(vcpu);
    return kvmCheckRequest(vcpu, KVM_REQ.SUSPEND) ? kvmVcpuSuspend(vcpu) : RET.GUEST;
  }

  /** kvm_reset_vcpu, of a loaded vCPU or one that is not. */
  kvmResetVcpu(vcpu: Vcpu): void {
    kvmResetVcpu(vcpu, (v) => this.kvmArchVcpuPut(v), (v) => this.kvmArchVcpuLoad(v));
  }

  /** kvm_vcpu_sleep, after a wake-up. */
  #sleep(vcpu: Vcpu): Next {
    const still = mustSleep(vcpu);
    if (still && !vcpu.run.immediateExit) return suspend(SUSPEND.BLOCK, PHASE.SLEEP);
    vcpu.state.blocking = false;
    if (still) kvmMakeRequest(vcpu, KVM_REQ.SLEEP);
    return next(PHASE.LOOP);
  }
}

/** Under which reason a switch is counted: its exception class, or what is none. */
function switchReason(code: number, esr: number): number {
  if (code === ARM_EXCEPTION.TRAP || code === ARM_EXCEPTION.IL) return esr >>> 26;
  if (code === ARM_EXCEPTION.IRQ) return SWITCH_REASON.IRQ;
  return code === ARM_EXCEPTION.HYP_GONE ? SWITCH_REASON.HYP_GONE : SWITCH_REASON.SERROR;
}

/** What {@link kvmVcpuSuspend} says when there is nothing to wake up for. */
const SUSPENDED = 16;

/** kvm_vcpu_suspend: user space alone ends the state, and is told when there is an interrupt. */
function kvmVcpuSuspend(vcpu: Vcpu): number {
  if (vcpu.state.mpState !== MP_STATE.SUSPENDED) return RET.GUEST;
  kvmVcpuWfi(vcpu);
  kvmMakeRequest(vcpu, KVM_REQ.SUSPEND);
  if (!kvmArchVcpuRunnable(vcpu)) return SUSPENDED;
  vcpuClearFlag(vcpu, IFLAG.IN_WFI);
  vcpu.run.systemEventType = KVM_SYSTEM_EVENT.WAKEUP;
  vcpu.run.systemEventFlags = 0;
  vcpu.run.exitReason = KVM_EXIT.SYSTEM_EVENT;
  return RET.USER;
}

function mustSleep(vcpu: Vcpu): boolean {
  return kvmArmVcpuStopped(vcpu) || vcpu.state.pause;
}

/** kvm_arch_vcpu_run_pid_change: what the first run needs. 0 or an errno. */
function kvmArchVcpuRunPidChange(vcpu: Vcpu): number {
  const { state, kvm } = vcpu;
  if (!state.targetInitialised) return ERRNO.ENOEXEC;
  if (state.hasRunOnce) return 0;
  kvmArmSetupMdcrEl2(vcpu);
  if (irqchipInKernel(kvm)) {
    const error = kvm.host.vgic.kvmVgicMapResources(kvm);
    if (error !== 0) return error;
  }
  const error = kvmTimerEnable(vcpu);
  if (error !== 0) return error;
  const pmuError = kvmArmPmuV3Enable(vcpu);
  if (pmuError !== 0) return pmuError;
  kvm.state.hasRanOnce = true;
  state.hasRunOnce = true;
  return 0;
}
