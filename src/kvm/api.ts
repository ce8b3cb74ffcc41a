/**
 * KVM as user space sees it, in KVM's terms: the system, VMs, vCPUs. What is a system call on a real
 * host is a method here; a vCPU runs as a host thread, and its exits to user space go to a handler.
 *
 * `irqLine`, `run`, `kick` and `setAffinity` may be called at any time: from outside the host they take
 * effect once a physical CPU has taken the doorbell interrupt. Everything else wants its vCPU in user
 * space, and, while guests run, code that a CPU of the host executes: a handler, or work given to the
 * host (`Host.queueWork`).
 */
import { Slab } from "../base/arena.ts";
import type { Arena } from "../base/arena.ts";
import { assert, InternalError } from "../base/errors.ts";
import type { Layout } from "../base/struct.ts";
import { R } from "../arm/arch/sysregs.ts";
import { CNTKCTL } from "../arm/arch/fields.ts";
import type { El2Port } from "../arm/el2_port.ts";
import { BOOT_REAL_NS, type Host, PRIORITY } from "../host/host.ts";
import type { PerfEvents } from "../host/perf_event.ts";
import { IPI, PPI } from "../host/irq.ts";
import { PAGE_SIZE } from "../host/pages.ts";
import {
  kvmArchTimerGetInputLevel,
  kvmArchTimerHandler,
  kvmBgTimerExpire,
  kvmHrtimerExpire,
  kvmTimerVcpuInit,
  kvmTimerVcpuTerminate,
} from "./arch_timer.ts";
import { VcpuRunner } from "./arm.ts";
import { kvmArchVcpuIoctlSetGuestDebug, type KvmGuestDebug } from "./debug.ts";
import { type ArmVgic, IRQ_OPS } from "./arm_vgic.ts";
import { CALL_HYP_VHE, type CallHyp } from "./call_hyp.ts";
import { CallHypNvhe } from "./call_hyp_nvhe.ts";
import { HypMode } from "./hyp_mode.ts";
import { kvmArmInitHypercalls } from "./hypercalls.ts";
import { kvmInitIdRegs, kvmRegWritableMask } from "./id_regs.ts";
import { kvmArmGetReg, kvmArmSetReg, kvmRegList } from "./guest.ts";
import {
  ArchTimerContextLayout,
  ArchTimerCpuLayout,
  ERRNO,
  type Kvm,
  KVM_MAX_VCPUS,
  KVM_REQ,
  kvmCheckRequest,
  KvmCpuContextLayout,
  type KvmHost,
  type KvmHrtimers,
  KvmLayout,
  kvmMakeRequest,
  KvmRunLayout,
  type KvmTimerKind,
  KvmVcpuLayout,
  KvmVcpuStatLayout,
  TIMER_PTIMER,
  TIMER_VTIMER,
  type Vcpu,
  VCPU_MODE,
  VgicCpuLayout,
  VgicDistLayout,
  VgicV2CpuIfLayout,
  VgicV3CpuIfLayout,
} from "./kvm_host.ts";
import { kvmVcpuExitingGuestMode } from "./kvm_main.ts";
import {
  kvmClearDirtyLog,
  kvmFreeMemslots,
  kvmFreeStage2Pgd,
  kvmGetDirtyLog,
  kvmInitStage2Mmu,
  kvmSetMemoryRegion,
} from "./mmu.ts";
import { KvmPmuEvents } from "./pmu.ts";
import { kvmPmuVcpuDestroy, pmuOverflowFunction } from "./pmu_emul.ts";
import { VGIC } from "./vgic/vgic_ops.ts";
import { setVgicIrqOps, vgicGlobal } from "./vgic/vgic_global.ts";
import {
  kvmVgicEarlyInit,
  kvmVgicHypInit,
  kvmVgicInitCpuHardware,
  vgicMaintenanceHandler,
} from "./vgic/vgic_init.ts";
import {
  type KvmDeviceAttr,
  vgicGetAttr,
  vgicHasAttr,
  vgicSetAttr,
} from "./vgic/vgic_kvm_device.ts";
import { kvmArmPvtimeVcpuInit } from "./pvtime.ts";
import {
  kvmArmVcpuGetAttr,
  kvmArmVcpuGetEvents,
  kvmArmVcpuHasAttr,
  kvmArmVcpuInit,
  kvmArmVcpuSetAttr,
  kvmArmVcpuSetEvents,
  type KvmVcpuEvents,
  kvmVcpuSetMpState,
  kvmVmIoctlCheckExtension,
  kvmVmIoctlEnableCap,
  VCPU_FEATURE,
} from "./vcpu_ioctl.ts";
import { WorldSwitchMeter } from "./stats.ts";
import { onGuestAck, onGuestEoi, onGuestVector } from "./vgic/vgic_irq.ts";
import { VmidAllocator } from "./vmid.ts";

// What user space sees of KVM's headers and of debugfs.
export { KVM_GUESTDBG, type KvmGuestDebug } from "./debug.ts";
export {
  type ArchTimerContext,
  ArchTimerContextLayout,
  IFLAG,
  KVM_EXIT,
  KVM_SYSTEM_EVENT,
  MP_STATE,
  SAVED,
  type Vcpu,
  VCPU_MODE,
} from "./kvm_host.ts";
export * from "./stats.ts";
export {
  VGIC_CTRL_INIT,
  VGIC_GRP,
  VGIC_V2_ADDR_TYPE,
  VGIC_V3_ADDR_TYPE,
} from "./vgic/vgic_kvm_device.ts";
export {
  vgicDebugIrqs,
  vgicDebugLatencies,
  vgicDebugText,
  type VgicIrqCounts,
  type VgicIrqState,
} from "./vgic/vgic_debug.ts";
export { KVM_CAP, type KvmVcpuEvents, VCPU_ATTR, VCPU_FEATURE } from "./vcpu_ioctl.ts";
export { KVM_MEM_LOG_DIRTY_PAGES, KVM_MEM_READONLY } from "./mmu.ts";
export { KVM_PMU_EVENT, PMU_V3_ATTR } from "./pmu_emul.ts";
export { VMIDS } from "./vmid.ts";

/** A failed call: `errno` is negative, as in the kernel. */
export class KvmError extends Error {
  override readonly name = "KvmError";
  constructor(readonly call: string, readonly errno: number) {
    const name = Object.entries(ERRNO).find(([, value]) => value === errno)?.[0];
    super(`${call}: ${name ?? `error ${errno}`}`);
  }
}

function check(call: string, result: number): void {
  if (result < 0) throw new KvmError(call, result);
}

/** KVM_ARM_IRQ_TYPE_*. */
export const IRQ_TYPE = { SPI: 1, PPI: 2 } as const;

/**
 * A return to user space: `ret` is KVM_RUN's result (0, or a negative errno), the rest is in
 * `vcpu.vcpu.run`. The handler completes what the exit asks for; true runs the vCPU again.
 */
export type ExitHandler = (vcpu: VcpuHandle, ret: number) => boolean;

export interface KvmSystemOptions {
  /** For counters, which are not state. */
  readonly observeArena: Arena;
  readonly maxVms?: number;
  /** Of all VMs together. */
  readonly maxVcpus?: number;
  /** Lets a test put its own between KVM and the vgic. */
  readonly vgic?: ArmVgic;
  /**
   * The machine reports what guests do with interrupts by {@link KvmSystem.guestInterrupts}. Without
   * that, acknowledgements are seen in list registers after an exit, and latencies not at all.
   */
  readonly reportsGuestInterrupts?: boolean;
}

/** What a physical CPU's guest does with its virtual interrupts, as it happens. For counters only. */
export interface GuestInterrupts {
  /** It reaches its vector for `intid`. */
  vector(pcpu: number, intid: number): void;
  acknowledged(pcpu: number, intid: number): void;
  deactivated(pcpu: number, intid: number): void;
}

/** /dev/kvm: KVM on one host. */
export class KvmSystem implements KvmHost {
  readonly memory;
  readonly locks;
  readonly trace;
  readonly ram;
  readonly vgic: ArmVgic;
  readonly hyp: CallHyp;
  readonly pcpus: number;
  readonly hrtimers: KvmHrtimers;
  readonly vms: Vm[] = [];
  readonly vmids: VmidAllocator;
  readonly runner: VcpuRunner;
  /** To be called by the machine (see {@link KvmSystemOptions.reportsGuestInterrupts}). */
  readonly guestInterrupts: GuestInterrupts;
  readonly #threadKind: number;
  readonly #vmSlab;
  readonly #vcpuSlab;
  readonly #statSlab;
  readonly #observeArena: Arena;
  /** kvm_running_vcpu: an address per physical CPU, 0 for none. */
  readonly #running: number;
  /** mdcr_el2: a word per physical CPU. */
  readonly #mdcrEl2: number;
  readonly perf: PerfEvents;
  readonly pmuPerfKind: number;
  readonly pmuEvents: KvmPmuEvents;
  readonly #vcpus = new Map<number, VcpuHandle>();
  #nextVmId = 1;

  constructor(readonly kernel: Host, options: KvmSystemOptions) {
    const { arena, hardware } = kernel;
    const { observeArena, maxVms = 8, maxVcpus = 64, vgic = VGIC } = options;
    this.memory = hardware.memory;
    this.locks = kernel.locks;
    this.trace = kernel.trace;
    this.ram = hardware.ram;
    this.pcpus = hardware.pcpus;
    this.vgic = vgic;
    this.#observeArena = observeArena;
    this.#vmSlab = new Slab(arena, KvmLayout, maxVms);
    this.#vcpuSlab = new Slab(arena, KvmVcpuLayout, maxVcpus);
    this.#statSlab = new Slab(observeArena, KvmVcpuStatLayout, maxVcpus);
    this.#running = arena.reserve(4 * this.pcpus);
    this.#mdcrEl2 = arena.reserve(4 * this.pcpus);
    this.perf = kernel.perf;
    this.pmuPerfKind = kernel.perf.register(pmuOverflowFunction(this));
    this.pmuEvents = new KvmPmuEvents(this, arena.reserve(4 * this.pcpus));
    kernel.perf.guestEvents = this.pmuEvents;
    this.hyp = kernel.mode === "vhe" ? CALL_HYP_VHE : new CallHypNvhe(new HypMode(kernel));
    this.vmids = new VmidAllocator(arena, kernel.locks, this.pcpus, this.hyp);
    this.hrtimers = this.#makeHrtimers();
    this.runner = new VcpuRunner({
      kernel,
      host: this,
      vmids: this.vmids,
      setRunningVcpu: (pcpu, vcpu) =>
        this.memory.st32(this.#running + 4 * pcpu, vcpu?.state.base ?? 0),
      userExit: (vcpu, ret) => this.#handle(vcpu.state.base).exited(ret),
    });
    this.#threadKind = kernel.threads.register(this.runner);
    this.guestInterrupts = this.#makeGuestInterrupts();
    this.#initHardware(options.reportsGuestInterrupts ?? false);
  }

  #makeGuestInterrupts(): GuestInterrupts {
    const report = (to: (vcpu: Vcpu, intid: number) => void) => (pcpu: number, intid: number) => {
      const vcpu = this.loadedVcpu(pcpu);
      if (vcpu !== undefined) to(vcpu, intid);
    };
    return {
      vector: report(onGuestVector),
      acknowledged: report(onGuestAck),
      deactivated: report(onGuestEoi),
    };
  }

  #makeHrtimers(): KvmHrtimers {
    const { hrtimers } = this.kernel;
    const kinds: Record<KvmTimerKind, number> = {
      kvm_bg_timer_expire: hrtimers.register((arg, now) => kvmBgTimerExpire(this.vcpuAt(arg), now)),
      kvm_hrtimer_expire: hrtimers.register((arg, now) => kvmHrtimerExpire(this.vcpuAt(arg), now)),
    };
    return {
      create: (kind, arg) => hrtimers.create(kinds[kind], arg),
      start: (handle, expiresNs) => hrtimers.start(handle, expiresNs),
      cancel: (handle) => hrtimers.cancel(handle),
      destroy: (handle) => hrtimers.destroy(handle),
    };
  }

  /** kvm_arch_init: interrupt handlers, and what each physical CPU needs once. */
  #initHardware(countsGuestAcks: boolean): void {
    const { irqs } = this.kernel;
    irqs.request(PPI.VTIMER, (intid) => kvmArchTimerHandler(this, intid), true);
    // Without VHE the physical timer is the host's own.
    if (this.hyp.vhe) irqs.request(PPI.PTIMER, (intid) => kvmArchTimerHandler(this, intid), true);
    irqs.request(PPI.MAINTENANCE, () => vgicMaintenanceHandler());
    this.#enableHypMode();
    this.#initDebug();
    check(
      "KVM",
      kvmVgicHypInit(this, this.port(0), {
        ...this.kernel.hardware.gic,
        maintIrq: PPI.MAINTENANCE,
        countsGuestAcks,
        setPhysPending: (intid, pending) => irqs.setPending(this.currentCpu(), intid, pending),
        allocateStats: (of, count) => this.#allocateStats(of, count),
      }),
    );
    setVgicIrqOps(this, IRQ_OPS.ARCH_TIMER, {
      getInputLevel: (intid) => kvmArchTimerGetInputLevel(this, intid),
    });
    for (let pcpu = 0; pcpu < this.pcpus; pcpu++) {
      kvmVgicInitCpuHardware(this, this.port(pcpu));
      if (this.hyp.vhe) initTimerVhe(this.port(pcpu));
    }
  }

  /** cpu_hyp_init_context on every CPU. */
  #enableHypMode(): void {
    const { hyp, kernel } = this;
    if (!(hyp instanceof CallHypNvhe)) return;
    for (let pcpu = 0; pcpu < this.pcpus; pcpu++) {
      kernel.runAs(pcpu, () => hyp.mode.cpuInit(kernel.port()));
    }
  }

  #allocateStats(of: Layout<never> | { readonly size: number }, count: number): number {
    const layout = of as Parameters<Arena["allocate"]>[0];
    if (this.#observeArena.free < layout.size * count + 16) return 0;
    return this.#observeArena.allocate(layout, count);
  }

  // KvmHost

  nowNs(): number {
    return this.kernel.hardware.nowNs();
  }
  port(index: number): El2Port {
    return this.kernel.hardware.port(index);
  }
  currentCpu(): number {
    return this.kernel.currentCpu;
  }
  initialMdcrEl2(): number {
    return this.memory.ld32(this.#mdcrEl2 + 4 * this.currentCpu());
  }

  /** kvm_arm_init_debug, on every CPU. */
  #initDebug(): void {
    for (let pcpu = 0; pcpu < this.pcpus; pcpu++) {
      this.kernel.runAs(pcpu, () => {
        this.memory.st32(this.#mdcrEl2 + 4 * pcpu, this.hyp.kvmGetMdcrEl2(this.kernel.port()));
      });
    }
  }
  runningVcpu(): Vcpu | undefined {
    return this.loadedVcpu(this.currentCpu());
  }
  /** The vCPU that is loaded on a physical CPU, in the guest or not. */
  loadedVcpu(pcpu: number): Vcpu | undefined {
    const at = this.memory.ld32(this.#running + 4 * pcpu);
    return at === 0 ? undefined : this.vcpuAt(at);
  }
  #handle(address: number): VcpuHandle {
    const handle = this.#vcpus.get(address);
    if (handle === undefined) throw new InternalError(`no vCPU at ${address}`);
    return handle;
  }
  vcpuAt(address: number): Vcpu {
    return this.#handle(address).vcpu;
  }
  kvmAt(address: number): Kvm {
    const vm = this.vms.find(({ kvm }) => kvm.state.base === address);
    if (vm === undefined) throw new InternalError(`no VM at ${address}`);
    return vm.kvm;
  }
  kvzalloc(bytes: number): number {
    const count = Math.ceil(bytes / PAGE_SIZE);
    const { pages } = this.kernel;
    const pfn = count === 1 ? pages.allocate() : pages.allocateRun(count, count === 2 ? 2 : 1);
    return pfn < 0 ? 0 : pages.addressOf(pfn);
  }
  kvfree(address: number, bytes: number): void {
    const pfn = (address - this.ram.at + this.ram.pa) / PAGE_SIZE;
    this.kernel.pages.release(pfn, Math.ceil(bytes / PAGE_SIZE));
  }
  irqSetPhysActive(hwIntid: number, active: boolean): void {
    this.kernel.irqs.setActive(this.currentCpu(), hwIntid, active);
  }
  irqGetPhysActive(hwIntid: number): boolean {
    return this.kernel.irqs.getActive(this.currentCpu(), hwIntid);
  }
  irqGetPhysPending(hwIntid: number): boolean {
    return this.kernel.irqs.getPending(this.currentCpu(), hwIntid);
  }

  runDelayNs(vcpu: Vcpu): number {
    return this.kernel.threads.at(vcpu.state.thread).runDelayNs;
  }
  systemTimeSnapshot(): { realNs: bigint; cycles: bigint } {
    return {
      realNs: BOOT_REAL_NS + BigInt(Math.floor(this.nowNs())),
      cycles: this.port(this.currentCpu()).read64(R.CNTPCT_EL0),
    };
  }

  kvmVcpuWakeUp(vcpu: Vcpu): boolean {
    // One that is about to look for itself (it runs already) is not woken.
    if (!vcpu.state.blocking || !this.#wakeThread(vcpu)) return false;
    vcpu.stat.halt_wakeup++;
    return true;
  }
  #wakeThread(vcpu: Vcpu): boolean {
    const { scheduler, threads } = this.kernel;
    return scheduler.wake(threads.at(vcpu.state.thread));
  }

  kvmVcpuKick(vcpu: Vcpu): void {
    if (this.kvmVcpuWakeUp(vcpu)) return;
    const wasInGuest = kvmVcpuExitingGuestMode(vcpu) === VCPU_MODE.IN_GUEST_MODE;
    const pcpu = vcpu.state.cpu;
    if (!wasInGuest || pcpu < 0 || pcpu === this.currentCpu()) return;
    this.kernel.irqs.sendIpi(this.currentCpu(), pcpu, IPI.RESCHEDULE);
  }

  kvmArmHaltGuest(kvm: Kvm): boolean {
    const me = this.runningVcpu();
    const owner = me?.state.base ?? 0xffff_ffff;
    const { state } = kvm;
    if (state.haltOwner !== 0 && state.haltOwner !== owner) return false;
    state.haltOwner = owner;
    const others = kvm.vcpus.filter((vcpu) => vcpu !== me);
    for (const vcpu of others) {
      vcpu.state.pause = true;
      kvmMakeRequest(vcpu, KVM_REQ.SLEEP);
      if (vcpu.state.mode === VCPU_MODE.IN_GUEST_MODE) this.kvmVcpuKick(vcpu);
    }
    return others.every((vcpu) => vcpu.state.mode === VCPU_MODE.OUTSIDE_GUEST_MODE);
  }

  kvmArmResumeGuest(kvm: Kvm): void {
    kvm.state.haltOwner = 0;
    for (const vcpu of kvm.vcpus) {
      vcpu.state.pause = false;
      if (vcpu.state.waitingAck) this.#wakeThread(vcpu);
      else this.kvmVcpuWakeUp(vcpu);
    }
  }

  // User space

  /** KVM_CREATE_VM. */
  createVm(): Vm {
    const at = this.#vmSlab.allocate();
    if (at === 0) throw new KvmError("KVM_CREATE_VM", ERRNO.ENOMEM);
    if (!this.hyp.shareHyp(at, KvmLayout.size)) throw new KvmError("KVM_CREATE_VM", ERRNO.ENOMEM);
    const state = KvmLayout.at(this.memory, at);
    state.vmId = this.#nextVmId++;
    state.randomState = BigInt(state.vmId);
    state.maxVcpus = Math.min(KVM_MAX_VCPUS, vgicGlobal(this).maxGicVcpus);
    const kvm: Kvm = {
      host: this,
      state,
      vgic: VgicDistLayout.at(this.memory, state.vgic),
      vcpus: [],
      ioBus: [],
    };
    kvmVgicEarlyInit(kvm);
    check("KVM_CREATE_VM", kvmInitStage2Mmu(kvm));
    kvmInitIdRegs(kvm);
    kvmArmInitHypercalls(kvm);
    const vm = new Vm(this, kvm);
    this.vms.push(vm);
    return vm;
  }

  /** Makes the structure and the thread of a vCPU; {@link Vm.createVcpu} does the rest. */
  allocateVcpu(kvm: Kvm, vcpuId: number): VcpuHandle {
    const at = this.#vcpuSlab.allocate(), statAt = this.#statSlab.allocate();
    if (at === 0 || statAt === 0 || !this.hyp.shareHyp(at, KvmVcpuLayout.size)) {
      throw new KvmError("KVM_CREATE_VCPU", ERRNO.ENOMEM);
    }
    const vcpu = this.#makeViews(kvm, at, statAt);
    const { state } = vcpu;
    state.kvm = kvm.state.base;
    state.vcpuId = vcpuId;
    state.vcpuIdx = kvm.vcpus.length;
    state.cpu = -1;
    state.thread = this.kernel.threads.create(
      this.#threadKind,
      at,
      PRIORITY.NORMAL,
      state.vcpuIdx % this.pcpus,
    ).base;
    const handle = new VcpuHandle(this, vcpu);
    this.#vcpus.set(at, handle);
    return handle;
  }

  #makeViews(kvm: Kvm, at: number, statAt: number): Vcpu {
    const m = this.memory;
    const state = KvmVcpuLayout.at(m, at);
    const vgic = VgicCpuLayout.at(m, state.vgicCpu);
    const timer = ArchTimerCpuLayout.at(m, state.timerCpu);
    const stat = KvmVcpuStatLayout.at(m, statAt);
    const timerAt = (index: number) =>
      ArchTimerContextLayout.at(m, timer.timers + index * ArchTimerContextLayout.size);
    return {
      kvm,
      state,
      vgic,
      timer,
      ctxt: KvmCpuContextLayout.at(m, state.ctxt),
      hostCtxt: KvmCpuContextLayout.at(m, state.hostCtxt),
      cpuIf: VgicV3CpuIfLayout.at(m, vgic.cpuIf),
      vgicV2: VgicV2CpuIfLayout.at(m, vgic.vgicV2),
      timers: [timerAt(TIMER_PTIMER), timerAt(TIMER_VTIMER)],
      run: KvmRunLayout.at(m, state.run),
      stat,
      meter: new WorldSwitchMeter(m, stat.worldSwitch),
      port: () => {
        if (state.cpu < 0) throw new InternalError(`vCPU ${state.vcpuId} is not loaded`);
        return this.port(state.cpu);
      },
    };
  }

  /** Frees what {@link allocateVcpu} made. */
  releaseVcpu(vcpu: Vcpu): void {
    this.kernel.threads.destroy(this.kernel.threads.at(vcpu.state.thread));
    this.#vcpus.delete(vcpu.state.base);
    this.#statSlab.release(vcpu.stat.base);
    this.#vcpuSlab.release(vcpu.state.base);
  }

  /** Frees a VM's structure. */
  releaseVm(vm: Vm): void {
    this.vms.splice(this.vms.indexOf(vm), 1);
    this.#vmSlab.release(vm.kvm.state.base);
  }
}

/** kvm_timer_init_vhe: guests use the physical counter and timer directly. Once per CPU. */
function initTimerVhe(port: El2Port): void {
  const bits = CNTKCTL.EL1PCTEN | CNTKCTL.EL1PTEN;
  port.write(R.CNTHCTL_EL2, (port.readLo(R.CNTHCTL_EL2) | bits) >>> 0, 0);
}

/** A VM's file descriptor. */
export class Vm {
  readonly vcpus: VcpuHandle[] = [];

  constructor(readonly system: KvmSystem, readonly kvm: Kvm) {}

  /**
   * KVM_SET_USER_MEMORY_REGION: slot `id` (0 to 15) is the host pages `pfns` (frame numbers) from guest
   * physical address `baseIpa`; an empty list deletes it. `flags`: KVM_MEM_READONLY,
   * KVM_MEM_LOG_DIRTY_PAGES.
   */
  setUserMemoryRegion(id: number, baseIpa: number, pfns: ArrayLike<number>, flags = 0): void {
    check(
      "KVM_SET_USER_MEMORY_REGION",
      kvmSetMemoryRegion(this.kvm, id, flags, baseIpa, pfns),
    );
  }

  /** KVM_GET_DIRTY_LOG: a bit for each page of slot `id` that the guest has written since the last call. */
  getDirtyLog(id: number): Uint8Array {
    const log = kvmGetDirtyLog(this.kvm, id);
    if (typeof log === "number") throw new KvmError("KVM_GET_DIRTY_LOG", log);
    return log;
  }

  /** KVM_CLEAR_DIRTY_LOG: `pages` pages from `first`, a multiple of 64, count as not written where `mask` says so. */
  clearDirtyLog(id: number, first: number, pages: number, mask: Uint8Array): void {
    check("KVM_CLEAR_DIRTY_LOG", kvmClearDirtyLog(this.kvm, id, first, pages, mask));
  }

  /** KVM_CHECK_EXTENSION: what there is of `cap` ({@link KVM_CAP}), 0 for nothing. */
  checkExtension(cap: number): number {
    return kvmVmIoctlCheckExtension(this.kvm, cap);
  }

  /**
   * KVM_ARM_GET_REG_WRITABLE_MASKS, of one register ({@link sysregKey}): the bits that user space may lower.
   */
  regWritableMask(key: number): bigint {
    return kvmRegWritableMask(key);
  }

  /** KVM_ENABLE_CAP: {@link KVM_CAP}.ARM_SYSTEM_SUSPEND, ARM_NISV_TO_USER, or MANUAL_DIRTY_LOG_PROTECT2 with flags. */
  enableCap(cap: number, arg = 0): void {
    check("KVM_ENABLE_CAP", kvmVmIoctlEnableCap(this.kvm, cap, arg));
  }

  /** KVM_CREATE_VCPU. `onExit` gets its returns to user space. */
  createVcpu(id: number, onExit: ExitHandler): VcpuHandle {
    const { kvm } = this;
    const full = kvm.state.createdVcpus >= kvm.state.maxVcpus;
    if (id < 0 || id >= KVM_MAX_VCPUS || full) throw new KvmError("KVM_CREATE_VCPU", ERRNO.EINVAL);
    if (kvm.vgic.initialized) throw new KvmError("KVM_CREATE_VCPU", ERRNO.EBUSY);
    if (kvm.vcpus.some(({ state }) => state.vcpuId === id)) {
      throw new KvmError("KVM_CREATE_VCPU", ERRNO.EEXIST);
    }
    const handle = this.system.allocateVcpu(kvm, id);
    const { vcpu } = handle;
    handle.onExit = onExit;
    kvmTimerVcpuInit(vcpu);
    kvmArmPvtimeVcpuInit(vcpu);
    check("KVM_CREATE_VCPU", this.system.vgic.kvmVgicVcpuInit(vcpu));
    this.system.memory.st32(kvm.state.vcpus + 4 * vcpu.state.vcpuIdx, vcpu.state.base);
    (kvm.vcpus as Vcpu[]).push(vcpu);
    kvm.state.createdVcpus++;
    kvm.state.onlineVcpus++;
    this.vcpus.push(handle);
    return handle;
  }

  /** KVM_CREATE_DEVICE of an interrupt controller: `version` 2 or 3, that of the hardware (else ENODEV). */
  createVgic(version = 3): void {
    check("KVM_CREATE_DEVICE", this.system.vgic.kvmVgicCreate(this.kvm, version));
  }

  /** KVM_CREATE_IRQCHIP: the old way to a GICv2. */
  createIrqchip(): void {
    check("KVM_CREATE_IRQCHIP", this.system.vgic.kvmVgicCreate(this.kvm, 2));
  }

  /** KVM_SET_DEVICE_ATTR of the vgic. */
  setVgicAttr(group: number, attr: bigint, value: bigint): void {
    check("KVM_SET_DEVICE_ATTR", vgicSetAttr(this.kvm, { group, attr, value }));
  }

  /** KVM_GET_DEVICE_ATTR of the vgic. */
  getVgicAttr(group: number, attr: bigint): bigint {
    const request: KvmDeviceAttr = { group, attr, value: 0n };
    check("KVM_GET_DEVICE_ATTR", vgicGetAttr(this.kvm, request));
    return request.value;
  }

  /** KVM_HAS_DEVICE_ATTR of the vgic. */
  hasVgicAttr(group: number, attr: bigint): boolean {
    return vgicHasAttr(this.kvm, { group, attr, value: 0n }) === 0;
  }

  /**
   * KVM_IRQ_LINE: the level of a line. `type` is one of {@link IRQ_TYPE}; `num` an SPI's INTID (from 32),
   * or a PPI's (16 to 31) of the vCPU with index `vcpuIdx`.
   */
  irqLine(type: number, vcpuIdx: number, num: number, level: boolean): void {
    const { kvm, system } = this;
    const ppi = type === IRQ_TYPE.PPI;
    const vcpu = kvm.vcpus[ppi ? vcpuIdx : 0];
    const last = 31 + kvm.vgic.nrSpis;
    const valid = ppi ? num >= 16 && num < 32 : type === IRQ_TYPE.SPI && num >= 32 && num <= last;
    if (vcpu === undefined || !valid) throw new KvmError("KVM_IRQ_LINE", ERRNO.EINVAL);
    system.kernel.asHost(() => {
      const { vmId } = kvm.state, { vcpuId } = vcpu.state;
      system.trace.emit("kvm_irq_line", vmId, vcpuIdx, type, vcpuIdx, num, level ? 1 : 0);
      check("KVM_IRQ_LINE", system.vgic.kvmVgicInjectIrq(kvm, vcpuId, num, level, 0));
    });
  }

  /** Gets every vCPU out to user space ({@link VcpuHandle.kick}): before a reset, or closing the VM. */
  stop(): void {
    for (const vcpu of this.vcpus) if (vcpu.running) vcpu.kick();
  }

  /** Closes the VM: all of its vCPUs must be in user space. Its pages are the caller's. */
  destroy(): void {
    const { kvm, system } = this;
    assert(this.vcpus.every((v) => !v.running), "a VM is closed while a vCPU runs");
    system.vgic.kvmVgicDestroy(kvm);
    for (const { vcpu } of this.vcpus) {
      kvmTimerVcpuTerminate(vcpu);
      kvmPmuVcpuDestroy(vcpu);
      system.releaseVcpu(vcpu);
    }
    kvmFreeMemslots(kvm);
    kvmFreeStage2Pgd(kvm);
    system.releaseVm(this);
  }
}

/** A vCPU's file descriptor. */
export class VcpuHandle {
  onExit: ExitHandler = () => false;

  constructor(readonly system: KvmSystem, readonly vcpu: Vcpu) {}

  /** Whether a KVM_RUN is under way. */
  get running(): boolean {
    return this.vcpu.state.running;
  }

  #mustNotRun(call: string): void {
    if (this.running) throw new KvmError(call, ERRNO.EBUSY);
  }

  /** KVM_ARM_VCPU_INIT: `features` are bits of {@link VCPU_FEATURE}. Resets the vCPU. */
  init(features: readonly number[] = [VCPU_FEATURE.PSCI_0_2]): void {
    this.#mustNotRun("KVM_ARM_VCPU_INIT");
    const mask = features.reduce((bits, bit) => bits | (1 << bit), 0);
    check("KVM_ARM_VCPU_INIT", kvmArmVcpuInit(this.vcpu, mask, () => this.#reset()));
  }

  #reset(): void {
    this.system.runner.kvmResetVcpu(this.vcpu);
  }

  /** KVM_GET_MP_STATE: one of {@link MP_STATE}. */
  getMpState(): number {
    return this.vcpu.state.mpState;
  }

  /** KVM_SET_MP_STATE. */
  setMpState(mpState: number): void {
    this.#mustNotRun("KVM_SET_MP_STATE");
    check("KVM_SET_MP_STATE", kvmVcpuSetMpState(this.vcpu, mpState));
  }

  #mustBeInitialised(call: string): void {
    this.#mustNotRun(call);
    if (!this.vcpu.state.targetInitialised) throw new KvmError(call, ERRNO.ENOEXEC);
  }

  /** KVM_SET_GUEST_DEBUG: from the next KVM_RUN on. */
  setGuestDebug(debug: KvmGuestDebug): void {
    this.#mustNotRun("KVM_SET_GUEST_DEBUG");
    check("KVM_SET_GUEST_DEBUG", kvmArchVcpuIoctlSetGuestDebug(this.vcpu, debug));
  }

  /** KVM_GET_VCPU_EVENTS. */
  getVcpuEvents(): KvmVcpuEvents {
    this.#mustBeInitialised("KVM_GET_VCPU_EVENTS");
    return kvmArmVcpuGetEvents(this.vcpu);
  }

  /** KVM_SET_VCPU_EVENTS. */
  setVcpuEvents(events: Partial<KvmVcpuEvents>): void {
    this.#mustBeInitialised("KVM_SET_VCPU_EVENTS");
    check("KVM_SET_VCPU_EVENTS", kvmArmVcpuSetEvents(this.vcpu, events));
  }

  /** KVM_SET_DEVICE_ATTR of a vCPU: `group` is one of {@link VCPU_ATTR}. */
  setAttr(group: number, attr: number, value: bigint): void {
    this.#mustNotRun("KVM_SET_DEVICE_ATTR");
    check("KVM_SET_DEVICE_ATTR", kvmArmVcpuSetAttr(this.vcpu, group, attr, value));
  }

  /** KVM_GET_DEVICE_ATTR of a vCPU. */
  getAttr(group: number, attr: number): bigint {
    this.#mustNotRun("KVM_GET_DEVICE_ATTR");
    const value = kvmArmVcpuGetAttr(this.vcpu, group, attr);
    if (typeof value === "number") throw new KvmError("KVM_GET_DEVICE_ATTR", value);
    return value;
  }

  /** KVM_HAS_DEVICE_ATTR of a vCPU. */
  hasAttr(group: number, attr: number): boolean {
    return kvmArmVcpuHasAttr(this.vcpu, group, attr);
  }

  /** KVM_RUN: sets the vCPU's thread in motion. */
  run(): void {
    this.#mustNotRun("KVM_RUN");
    this.vcpu.run.immediateExit = false;
    this.vcpu.state.running = true;
    const { kernel } = this.system;
    kernel.asHost(() => kernel.scheduler.wake(kernel.threads.at(this.vcpu.state.thread)));
  }

  /** Called by the vCPU's thread when KVM_RUN returns. */
  exited(ret: number): boolean {
    return this.onExit(this, ret);
  }

  /** Sets `immediate_exit` and gets the vCPU out: KVM_RUN returns EINTR. {@link run} clears it. */
  kick(): void {
    this.system.kernel.asHost(() => {
      this.vcpu.run.immediateExit = true;
      this.system.kvmVcpuKick(this.vcpu);
    });
  }

  /** The vCPU's thread may run on the physical CPUs of `mask` only (0: all); takes it there if it is elsewhere. */
  setAffinity(mask: number): void {
    const { kernel } = this.system;
    kernel.asHost(() =>
      kernel.scheduler.setAffinity(kernel.threads.at(this.vcpu.state.thread), mask)
    );
  }

  /** A reset that PSCI owes the vCPU comes before user space looks at its registers. */
  #resetOwed(call: string): void {
    this.#mustBeInitialised(call);
    if (kvmCheckRequest(this.vcpu, KVM_REQ.VCPU_RESET)) this.#reset();
  }

  /** KVM_GET_ONE_REG. */
  getOneReg(id: bigint): bigint {
    this.#resetOwed("KVM_GET_ONE_REG");
    const value = kvmArmGetReg(this.vcpu, id);
    if (typeof value === "number") throw new KvmError("KVM_GET_ONE_REG", value);
    return value;
  }

  /** KVM_SET_ONE_REG. */
  setOneReg(id: bigint, value: bigint): void {
    this.#resetOwed("KVM_SET_ONE_REG");
    check("KVM_SET_ONE_REG", kvmArmSetReg(this.vcpu, id, value));
  }

  /** KVM_GET_REG_LIST. */
  regList(): readonly bigint[] {
    this.#mustBeInitialised("KVM_GET_REG_LIST");
    return kvmRegList(this.vcpu);
  }
}
