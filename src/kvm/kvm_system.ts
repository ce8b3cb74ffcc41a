/**
 * KVM on one host: what is there once for all VMs (kvm_main.c, arm.c). What VMs and vCPUs are lies in the
 * machine's memory; each worker has its own objects for that, made by `kvm_views.ts`.
 */
import { Slab } from "../base/arena.ts";
import type { Arena } from "../base/arena.ts";
import { InternalError } from "../base/errors.ts";
import { array, type Layout, layout, u32, type ViewOf } from "../base/struct.ts";
import { R } from "../arm/arch/sysregs.ts";
import type { El2Port } from "../arm/el2_port.ts";
import { BOOT_REAL_NS, type Host, PRIORITY } from "../host/host.ts";
import type { PerfEvents } from "../host/perf_event.ts";
import * as irqModule from "../host/irq.ts";
import { PPI } from "../host/irq.ts";
import { PAGE_SIZE } from "../host/pages.ts";
import {
  kvmArchTimerGetInputLevel,
  kvmArchTimerHandler,
  kvmBgTimerExpire,
  kvmHrtimerExpire,
  kvmTimerInitVhe,
} from "./arch_timer.ts";
import { VcpuRunner } from "./arm.ts";
import { type ArmVgic, IRQ_OPS } from "./arm_vgic.ts";
import { CALL_HYP_VHE, type CallHyp } from "./call_hyp.ts";
import { CallHypNvhe } from "./call_hyp_nvhe.ts";
import { type GuestInterrupts, guestInterrupts } from "./guest_interrupts.ts";
import { HypMode } from "./hyp_mode.ts";
import { kvmArmInitHypercalls } from "./hypercalls.ts";
import { kvmInitIdRegs } from "./id_regs.ts";
import { check, KvmError } from "./kvm_error.ts";
import * as kvmHost from "./kvm_host.ts";
import {
  ERRNO,
  type Kvm,
  KVM_MAX_VCPUS,
  KVM_REQ,
  type KvmHost,
  type KvmHrtimers,
  KvmLayout,
  kvmMakeRequest,
  type KvmTimerKind,
  KvmVcpuLayout,
  KvmVcpuStatLayout,
  type Vcpu,
} from "./kvm_host.ts";
import type { HostHardware } from "../host/hardware.ts";
import * as kvmMain from "./kvm_main.ts";
import * as kvmWords from "./kvm_words.ts";
import { kvmInitStage2Mmu } from "./mmu.ts";
import { KvmPmuEvents } from "./pmu.ts";
import { pmuOverflowFunction } from "./pmu_emul.ts";
import { VGIC } from "./vgic/vgic_ops.ts";
import { setVgicIrqOps, type VgicGlobal, vgicGlobal } from "./vgic/vgic_global.ts";
import {
  kvmVgicEarlyInit,
  kvmVgicHypInit,
  kvmVgicInitCpuHardware,
  vgicMaintenanceHandler,
  vgicReregisterIodevs,
} from "./vgic/vgic_init.ts";
import { kvmViews, vcpuViews } from "./kvm_views.ts";
import { VcpuHandle } from "./vcpu_handle.ts";
import { Vm } from "./vm.ts";
import { VmidAllocator } from "./vmid.ts";

// Of the module itself: what is imported V8 looks up and checks at each use.
const { IPI } = irqModule;
const { VCPU_MODE } = kvmHost;
const { kvmVcpuExitingGuestMode } = kvmMain;
const { VCPU_WORD: WORD } = kvmWords;

/** VMs of a host, and vCPUs of all of them together. */
const MAX_VMS = 72;
const MAX_VCPUS = 128;
/** vCPUs looked up without a map, and the bits of an address that do not tell them apart. */
const RECENT = 128, RECENT_SHIFT = 13;

/** What every worker of a machine makes its objects from. */
const KvmObjectsLayout = layout("kvm_objects", {
  /** Counts changes of what there is. */
  changes: u32(),
  nextVmId: u32(),
  /** Addresses of the VMs; 0: free. */
  vms: array("u32", MAX_VMS),
});

export interface KvmSystemOptions {
  /** For counters, which are not state. */
  readonly observeArena: Arena;
  /** Lets a test put its own between KVM and the vgic. */
  readonly vgic?: ArmVgic;
  /**
   * The machine reports what guests do with interrupts by {@link KvmSystem.guestInterrupts}. Without
   * that, acknowledgements are seen in list registers after an exit, and latencies not at all.
   */
  readonly reportsGuestInterrupts?: boolean;
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
  readonly #ports: readonly El2Port[];
  readonly hrtimers: KvmHrtimers;
  vgicGlobalState: VgicGlobal | undefined;
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
  readonly #running: Int32Array;
  /** mdcr_el2: a word per physical CPU. */
  readonly #mdcrEl2: number;
  readonly perf: PerfEvents;
  readonly pmuPerfKind: number;
  readonly pmuEvents: KvmPmuEvents;
  readonly #hardware: HostHardware;
  readonly #vcpus = new Map<number, VcpuHandle>();
  /** Those asked for lately, by their address: where several CPUs run vCPUs, not always the same. */
  readonly #recent: (Vcpu | undefined)[] = new Array<undefined>(RECENT).fill(undefined);
  readonly #objects: ViewOf<typeof KvmObjectsLayout>;
  #changesSeen = 0;
  /** Called with a VM that another worker has made. */
  onAdopted: (vm: Vm) => void = () => {};

  constructor(readonly kernel: Host, options: KvmSystemOptions) {
    const { arena, hardware } = kernel;
    const { observeArena, vgic = VGIC } = options;
    this.#hardware = hardware;
    this.memory = hardware.memory;
    this.locks = kernel.locks;
    this.trace = kernel.trace;
    this.ram = hardware.ram;
    this.pcpus = hardware.pcpus;
    this.#ports = Array.from({ length: hardware.pcpus }, (_, index) => hardware.port(index));
    this.vgic = vgic;
    this.#observeArena = observeArena;
    this.#vmSlab = new Slab(arena, KvmLayout, MAX_VMS);
    this.#vcpuSlab = new Slab(arena, KvmVcpuLayout, MAX_VCPUS);
    this.#statSlab = new Slab(observeArena, KvmVcpuStatLayout, MAX_VCPUS);
    this.#objects = arena.make(KvmObjectsLayout);
    this.#running = this.memory.signedAt(arena.reserve(4 * this.pcpus), this.pcpus);
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
      mdcrEl2: this.#mdcrEl2,
      setRunningVcpu: (pcpu, vcpu) => {
        this.#running[pcpu] = vcpu?.base ?? 0;
      },
      userExit: (vcpu, ret) => this.#handle(vcpu.state.base).exited(ret),
    });
    this.#threadKind = kernel.threads.register(this.runner);
    this.guestInterrupts = guestInterrupts(this);
    this.#initHardware(options.reportsGuestInterrupts ?? false);
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
      if (this.hyp.vhe) kvmTimerInitVhe(this.port(pcpu));
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
  stamp(cell: Float64Array): void {
    const hardware = this.#hardware;
    if (hardware.stamp === undefined) cell[0] = hardware.nowNs();
    else hardware.stamp(cell);
  }
  stampWords(at: number): void {
    const { stampNow } = this.#hardware;
    if (stampNow === undefined) this.memory.st53(4 * at, this.nowNs());
    else stampNow(this.memory.i32, at);
  }
  port(index: number): El2Port {
    return this.#ports[index] as El2Port;
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
    const at = this.#running[pcpu] as number;
    return at === 0 ? undefined : this.vcpuAt(at >>> 0);
  }
  #handle(address: number): VcpuHandle {
    const handle = this.#vcpus.get(address);
    if (handle === undefined) throw new InternalError(`no vCPU at ${address}`);
    return handle;
  }
  vcpuAt(address: number): Vcpu {
    const recent = this.#recent[(address >>> RECENT_SHIFT) & (RECENT - 1)];
    if (recent !== undefined && recent.base === address) return recent;
    return this.#recent[(address >>> RECENT_SHIFT) & (RECENT - 1)] = this.#handle(address).vcpu;
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
    if (vcpu.words[WORD.BLOCKING] === 0 || !this.#wakeThread(vcpu)) return false;
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
    const pcpu = vcpu.words[WORD.CPU] as number, { kernel } = this, { currentCpu } = kernel;
    if (!wasInGuest || pcpu < 0 || pcpu === currentCpu) return;
    kernel.irqs.sendIpi(currentCpu, pcpu, IPI.RESCHEDULE);
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
    state.vmId = ++this.#objects.nextVmId;
    state.randomState = BigInt(state.vmId);
    state.maxVcpus = Math.min(KVM_MAX_VCPUS, vgicGlobal(this).maxGicVcpus);
    const kvm = kvmViews(this, at);
    kvmVgicEarlyInit(kvm);
    check("KVM_CREATE_VM", kvmInitStage2Mmu(kvm));
    kvmInitIdRegs(kvm);
    kvmArmInitHypercalls(kvm);
    const vm = new Vm(this, kvm);
    this.vms.push(vm);
    this.#replaceAddress(0, at);
    return vm;
  }

  /** In the table of VMs. */
  #replaceAddress(from: number, to: number): void {
    const place = this.#addresses().indexOf(from);
    this.memory.st32(this.#objects.vms + 4 * place, to);
    this.objectsChanged();
  }
  #addresses(): number[] {
    return Array.from({ length: MAX_VMS }, (_, i) => this.memory.ld32(this.#objects.vms + 4 * i));
  }

  // Several workers

  objectsChanged(): void {
    this.#changesSeen = ++this.#objects.changes;
  }

  /** Makes the objects of what other workers have made since the last call, and forgets those of what is gone. */
  refresh(): void {
    const { changes } = this.#objects;
    if (this.#changesSeen === changes) return;
    const addresses = this.#addresses();
    for (const vm of [...this.vms]) {
      const same = addresses.includes(vm.kvm.state.base) && vm.id === vm.kvm.state.vmId;
      if (!same) this.#forget(vm);
    }
    for (const at of addresses) {
      if (at === 0) continue;
      const known = this.vms.find(({ kvm }) => kvm.state.base === at);
      this.#refreshVm(known ?? new Vm(this, kvmViews(this, at)), known === undefined);
    }
    // Nothing but objects has been made.
    this.#changesSeen = this.#objects.changes = changes;
  }

  #forget(vm: Vm): void {
    for (const { vcpu } of vm.vcpus) this.#vcpus.delete(vcpu.state.base);
    this.#forgetRecent();
    this.vms.splice(this.vms.indexOf(vm), 1);
  }

  #forgetRecent(): void {
    this.#recent.fill(undefined);
    this.runner.forget();
  }

  #refreshVm(vm: Vm, isNew: boolean): void {
    const { kvm } = vm;
    for (let i = vm.vcpus.length; i < kvm.state.onlineVcpus; i++) {
      const at = this.memory.ld32(kvm.state.vcpus + 4 * i);
      const handle = new VcpuHandle(this, vcpuViews(kvm, at, this.#ports));
      this.#vcpus.set(at, handle);
      (kvm.vcpus as Vcpu[]).push(handle.vcpu);
      vm.vcpus.push(handle);
    }
    kvm.ioBus.length = 0;
    check("KVM", vgicReregisterIodevs(kvm));
    if (!isNew) return;
    this.vms.push(vm);
    this.onAdopted(vm);
  }

  /** Makes the structure and the thread of a vCPU; {@link Vm.createVcpu} does the rest. */
  allocateVcpu(kvm: Kvm, vcpuId: number): VcpuHandle {
    const at = this.#vcpuSlab.allocate(), statAt = this.#statSlab.allocate();
    if (at === 0 || statAt === 0 || !this.hyp.shareHyp(at, KvmVcpuLayout.size)) {
      throw new KvmError("KVM_CREATE_VCPU", ERRNO.ENOMEM);
    }
    KvmVcpuLayout.at(this.memory, at).stat = statAt;
    const vcpu = vcpuViews(kvm, at, this.#ports);
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

  /** Frees what {@link allocateVcpu} made. */
  releaseVcpu(vcpu: Vcpu): void {
    this.kernel.threads.destroy(this.kernel.threads.at(vcpu.state.thread));
    this.#vcpus.delete(vcpu.state.base);
    this.#forgetRecent();
    this.#statSlab.release(vcpu.stat.base);
    this.#vcpuSlab.release(vcpu.state.base);
  }

  /** Frees a VM's structure. */
  releaseVm(vm: Vm): void {
    this.vms.splice(this.vms.indexOf(vm), 1);
    this.#replaceAddress(vm.kvm.state.base, 0);
    this.#vmSlab.release(vm.kvm.state.base);
  }
}
