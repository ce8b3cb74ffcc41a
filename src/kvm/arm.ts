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
import type { HostThread, Next, ThreadKind } from "../host/threads.ts";
import * as archTimer from "./arch_timer.ts";
import type { CallHyp } from "./call_hyp.ts";
import * as debug from "./debug.ts";
import * as emulate from "./emulate.ts";
import * as exitHandlers from "./handle_exit.ts";
import * as fpsimd from "./hyp/fpsimd.ts";
import * as hypSwitch from "./hyp/switch.ts";
import * as sysregSr from "./hyp/vhe/sysreg_sr.ts";
import * as kvmHost from "./kvm_host.ts";
import type { ArmVgic, KvmHost, Vcpu } from "./kvm_host.ts";
import * as kvmMain from "./kvm_main.ts";
import * as kvmWords from "./kvm_words.ts";
import * as mmio from "./mmio.ts";
import * as pvtime from "./pvtime.ts";
import * as pmu from "./pmu.ts";
import * as pmuEmul from "./pmu_emul.ts";
import * as reset from "./reset.ts";
import * as kvmTrace from "./trace.ts";
import * as sysregs from "../arm/arch/sysregs.ts";
import * as vcpuCounts from "./vcpu_counts.ts";
import * as vcpuRequests from "./vcpu_requests.ts";
import type { VmidAllocator } from "./vmid.ts";

// Of the module itself: what is imported V8 looks up and checks at each use.
const { addSmall } = memoryModule;
const { SUSPEND, suspend, THREAD_STATE } = hostThreads;
const { kvmTimerVcpuLoad, kvmTimerVcpuPut } = archTimer;
const { kvmArmClearDebug, kvmArmDebugIdle, kvmArmDebugSettled, kvmArmSetupDebug } = debug;
const { vcpuClearWfxTraps, vcpuSetWfxTraps } = emulate;
const { handleExit, handleExitEarly, handleTrap } = exitHandlers;
const { kvmArchVcpuLoadFp, kvmArchVcpuPutFp } = fpsimd;
const { REENTERED } = hypSwitch;
const { kvmVcpuLoadSysregsVhe, kvmVcpuPutSysregsVhe } = sysregSr;
const {
  ARM_EXCEPTION,
  ERRNO,
  IFLAG,
  KVM_EXIT,
  KVM_REQ,
  kvmMakeRequest,
  RET,
  VCPU_MODE,
  vcpuClearFlag,
  vcpuGetFlag,
} = kvmHost;
const { kvmArchVcpuRunnable } = kvmMain;
const { ioMemAccess, kvmHandleMmioReturn } = mmio;
const { kvmArmIsPvtimeEnabled } = pvtime;
const { kvmPmuUpdateVcpuEvents, kvmVcpuPmuRestoreGuest, kvmVcpuPmuRestoreHost } = pmu;
const {
  kvmPmuFlushHwstate,
  kvmPmuIsQuiet,
  kvmPmuSyncHwstate,
} = pmuEmul;
const { kvmResetVcpu } = reset;
const { pcOf, TP, trace, traceNumber, traceNumbers } = kvmTrace;
const { R } = sysregs;

const { STAT_WORD: STAT, VCPU_WORD: WORD } = kvmWords;
const { accountExit } = vcpuCounts;
const { checkVcpuRequests, kvmArchVcpuRunPidChange, mustSleep, SUSPENDED } = vcpuRequests;

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
  /** mdcr_el2: a word of the memory per physical CPU. */
  readonly mdcrEl2: number;
  /** Sets the vCPU that is loaded on a physical CPU (kvm_running_vcpu). */
  setRunningVcpu(pcpu: number, vcpu: Vcpu | undefined): void;
  /** Return to user space with KVM_RUN's result; true: run again. */
  userExit(vcpu: Vcpu, ret: number): boolean;
}

const next = (phase: number): Next => suspend(SUSPEND.NONE, phase);
/** Made only to get the vCPU out of the guest, to see new interrupts. */
const IRQ_PENDING = KVM_REQ.IRQ_PENDING;
/** In the guest. */
const ENTERED: Next = suspend(SUSPEND.GUEST, PHASE.EXIT);

/** A physical CPU, with what each exit and entry wants of it. */
interface Pcpu {
  readonly index: number;
  readonly port: El2Port;
  /** The two words in which it counts its instructions. */
  readonly insns: Int32Array;
  /** Its word of mdcr_el2. */
  readonly mdcrEl2: Int32Array;
}

/** The vCPU threads' code. */
export class VcpuRunner implements ThreadKind {
  readonly name = "vcpu";
  // As members of their own: they are looked at several times on each exit.
  readonly #kernel: Host;
  readonly #host: KvmHost;
  readonly #vgic: ArmVgic;
  readonly #hyp: CallHyp;
  readonly #vmids: VmidAllocator;
  readonly #pcpus: readonly Pcpu[];
  /** The thread that was looked at last, and its vCPU. */
  #lastThread: HostThread | undefined;
  #last: Vcpu | undefined;

  readonly #resetVcpu = (vcpu: Vcpu): void => this.kvmResetVcpu(vcpu);

  constructor(readonly services: VcpuRunServices) {
    const { kernel, host, mdcrEl2 } = services, { hardware } = kernel;
    this.#kernel = kernel;
    this.#host = host;
    this.#vgic = host.vgic;
    this.#hyp = host.hyp;
    this.#vmids = services.vmids;
    this.#pcpus = Array.from({ length: hardware.pcpus }, (_, index) => ({
      index,
      port: hardware.port(index),
      insns: host.memory.signedAt(hardware.insnsAt(index), 2),
      mdcrEl2: host.memory.signedAt(mdcrEl2 + 4 * index, 1),
    }));
  }

  run(thread: HostThread, phase: number): Next {
    const vcpu = this.#vcpu(thread);
    switch (phase) {
      case PHASE.LOOP:
        return this.#loop(vcpu, thread, this.#pcpus[this.#kernel.currentCpu] as Pcpu);
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
    const last = this.#last;
    return last !== undefined && thread === this.#lastThread ? last : this.#find(thread);
  }

  #find(thread: HostThread): Vcpu {
    this.#lastThread = thread;
    return this.#last = this.#host.vcpuAt(thread.arg);
  }

  /** There is a vCPU less: the one looked up last may be it. */
  forget(): void {
    this.#lastThread = this.#last = undefined;
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

  #loop(vcpu: Vcpu, thread: HostThread, pcpu: Pcpu): Next {
    const { words, kvm } = vcpu, { port } = pcpu, kernel = this.#kernel;
    const asked = (words[WORD.REQUESTS] as number) | (words[WORD.IMMEDIATE_EXIT] as number);
    const ret = asked === 0 ? RET.GUEST : this.#answer(vcpu);
    if (ret > RET.GUEST) {
      return ret === SUSPENDED ? this.#halt(vcpu) : suspend(SUSPEND.BLOCK, PHASE.SLEEP);
    }
    this.#vmids.update(port, pcpu.index, kvm.state);
    if (!kvmPmuIsQuiet(words)) kvmPmuFlushHwstate(vcpu);
    port.irqDisable();
    this.#vgic.kvmVgicFlushHwstate(vcpu, port);
    if (!this.#hyp.vhe) kvmPmuUpdateVcpuEvents(vcpu);
    // After interrupts are off and before the last look at the requests: whoever makes one from now
    // on sees that a kick is needed.
    words[WORD.MODE] = VCPU_MODE.IN_GUEST_MODE;
    // kvm_vcpu_exit_request.
    const late = (words[WORD.REQUESTS] as number) | (words[WORD.IMMEDIATE_EXIT] as number);
    if (ret <= 0 || late !== 0 || kernel.needResched) {
      this.#backOut(vcpu, port);
      return ret <= 0 ? this.#out(vcpu, thread, ret) : next(PHASE.LOOP);
    }
    return this.#enter(vcpu, pcpu);
  }

  /** What user space or somebody else wants before the next entry: as {@link checkVcpuRequests}, or EINTR. */
  #answer(vcpu: Vcpu): number {
    const { words } = vcpu;
    if (words[WORD.REQUESTS] === IRQ_PENDING && words[WORD.IMMEDIATE_EXIT] === 0) {
      words[WORD.REQUESTS] = 0;
      return RET.GUEST;
    }
    if (!vcpu.run.immediateExit) return checkVcpuRequests(vcpu, this.#resetVcpu);
    vcpu.stat.signal_exits++;
    return ERRNO.EINTR;
  }

  #backOut(vcpu: Vcpu, port: El2Port): void {
    vcpu.state.mode = VCPU_MODE.OUTSIDE_GUEST_MODE;
    port.isb();
    kvmPmuSyncHwstate(vcpu);
    this.#vgic.kvmVgicSyncHwstate(vcpu, port);
    port.irqEnable();
  }

  #enter(vcpu: Vcpu, { port, insns, mdcrEl2 }: Pcpu): Next {
    const { words, statWords } = vcpu;
    if (!kvmArmDebugSettled(words, mdcrEl2[0] as number)) this.#setupDebug(vcpu, port);
    traceNumber(vcpu, TP.kvm_entry, pcOf(vcpu));
    addSmall(statWords, STAT.ENTRIES, 1);
    words[WORD.ENTRY_INSNS] = insns[0] as number;
    words[WORD.ENTRY_INSNS + 1] = insns[1] as number;
    this.#hyp.vcpuRunEnter(port, vcpu);
    vcpu.meter?.entered(port);
    return ENTERED;
  }

  #setupDebug(vcpu: Vcpu, port: El2Port): void {
    const changed = kvmArmSetupDebug(vcpu);
    if (changed && this.#hyp.vhe) port.write(R.MDCR_EL2, vcpu.state.mdcr, 0);
  }

  #exit(vcpu: Vcpu, thread: HostThread): Next {
    const { words } = vcpu, pcpu = this.#pcpus[this.#kernel.currentCpu] as Pcpu, { port } = pcpu;
    const code = this.#hyp.vcpuRunExit(port, vcpu, thread.vector);
    if (code === REENTERED) {
      vcpu.meter?.entered(port);
      return ENTERED;
    }
    const ec = code === ARM_EXCEPTION.TRAP ? (words[WORD.ESR] as number) >>> 26 : 0;
    accountExit(vcpu, code, ec, pcpu.insns);
    words[WORD.MODE] = VCPU_MODE.OUTSIDE_GUEST_MODE;
    if (words[WORD.PAUSE] !== 0) this.#acknowledgeHalt(vcpu);
    if (!kvmArmDebugIdle(words)) kvmArmClearDebug(vcpu);
    // The monitors first: their interrupt's level is for the vgic to see.
    if (!kvmPmuIsQuiet(words)) kvmPmuSyncHwstate(vcpu);
    // The vgic before interrupts are opened: a timer's handler must find what the guest did with it.
    this.#vgic.kvmVgicSyncHwstate(vcpu, port);
    if (code === ARM_EXCEPTION.IRQ) this.#takeInterrupts(port);
    port.irqEnable();
    traceNumbers(vcpu, TP.kvm_exit, code, ec, pcOf(vcpu));
    if (code !== ARM_EXCEPTION.IRQ) {
      const ret = code === ARM_EXCEPTION.TRAP ? handleTrap(vcpu, ec) : this.#handle(vcpu, code);
      if (ret !== RET.GUEST) return this.#after(vcpu, thread, ret);
    }
    // What comes next is the loop: at once where nothing comes between.
    return this.#kernel.goesOn ? this.#loop(vcpu, thread, pcpu) : next(PHASE.LOOP);
  }

  #handle(vcpu: Vcpu, code: number): number {
    handleExitEarly(vcpu, code);
    return handleExit(vcpu, code);
  }

  #takeInterrupts(port: El2Port): void {
    port.irqEnable();
    port.isb();
    this.#kernel.takeInterrupts();
    port.irqDisable();
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
