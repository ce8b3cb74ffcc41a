/**
 * The VM and vCPU structures. Mirrors arch/arm64/include/asm/kvm_host.h and include/linux/kvm_host.h.
 *
 * What differs: the structures lie in the host's RAM as layouts and are reached by views; a vCPU's
 * saved registers are one array in the order of {@link SAVED_SYSREGS}.
 */
import type { Locks } from "../base/lock.ts";
import type { SharedMemory } from "../base/memory.ts";
import * as structModule from "../base/struct.ts";
import { array, bool, i32, space, u32, u53, u64, type ViewOf } from "../base/struct.ts";
import type { El2Port } from "../arm/el2_port.ts";
import type { RamRange } from "../arm/arch/tlb_layout.ts";
import type { TraceRing } from "../trace/tracepoints.ts";
import type { PerfEvents } from "../host/perf_event.ts";
import { type ArchTimerContext, type ArchTimerCpu, ArchTimerCpuLayout } from "./arm_arch_timer.ts";
import {
  type ArmVgic,
  type VgicCpu,
  VgicCpuLayout,
  type VgicDist,
  VgicDistLayout,
  type VgicV2CpuIf,
  type VgicV3CpuIf,
} from "./arm_vgic.ts";
import type { KvmPmuEvents } from "./pmu.ts";
import type { CallHyp } from "./call_hyp.ts";
import { type KvmRun, KvmRunLayout } from "./kvm_uapi.ts";
import { WorldSwitchLayout, type WorldSwitchMeter } from "./stats.ts";
import * as vcpuSysreg from "./vcpu_sysreg.ts";
import type { VgicGlobal } from "./vgic/vgic_global.ts";

// As kvm_host.h includes them.
export * from "./arm_arch_timer.ts";
export * from "./arm_vgic.ts";
export * from "./kvm_uapi.ts";
export * from "./vcpu_sysreg.ts";

// Of the module itself: what is imported V8 looks up and checks at each use.
const { layout } = structModule;
const { SAVED_SYSREGS } = vcpuSysreg;

/** vCPUs of a VM, and physical CPUs of the host. */
export const KVM_MAX_VCPUS = 64;
export const MAX_PCPUS = 16;
/** Breakpoint and watchpoint register pairs kept per vCPU. */
export const ARM_MAX_DBG_REGS = 16;
/** Identification registers: op0 3, op1 0, CRn 0, CRm 1 to 7. */
export const KVM_NR_ID_REGS = 56;
/** Bits of an intermediate physical address: the default of KVM_CREATE_VM. */
export const KVM_IPA_BITS = 40;

/** What `handle_exit` and the functions under it return: above 0 stay in the kernel, 0 user space, below an error. */
export const RET = {
  USER: 0,
  GUEST: 1,
  /** Block until the vCPU is runnable (kvm_vcpu_halt), then go on. */
  HALT: 2,
  /** Wait until the other vCPUs are out of the guest, then repeat the access. */
  WAIT_ACK: 3,
  /** Let another thread run, then go on. */
  YIELD: 4,
} as const;

/** Error numbers, as Linux returns them (negated). */
export const ERRNO = {
  EPERM: -1,
  ENOENT: -2,
  EINTR: -4,
  EIO: -5,
  ENXIO: -6,
  ENOEXEC: -8,
  ENOMEM: -12,
  EFAULT: -14,
  EBUSY: -16,
  EEXIST: -17,
  ENODEV: -19,
  EINVAL: -22,
  ENOSYS: -38,
} as const;

/** Guest physical address of nothing. */
export const GPA_INVALID = 2 ** 52;

/** ARM_EXCEPTION_*: why the guest was left; the second argument of `kvm_exit`'s text. */
export const ARM_EXCEPTION = { IRQ: 0, EL1_SERROR: 1, TRAP: 2, HYP_GONE: 3, IL: 4 } as const;
/** Set in an exit code when an SError came with it (ARM_EXIT_WITH_SERROR_BIT). */
export const ARM_EXIT_WITH_SERROR = 0x8000_0000;

/** struct kvm_cpu_context: everything a guest's (or the host's) CPU state is saved into. */
export const KvmCpuContextLayout = layout("kvm_cpu_context", {
  regs: array("u64", 31),
  pc: u64(),
  pstate: u64(),
  sysregs: array("u64", SAVED_SYSREGS.length),
  /** V0 to V31, then FPSR and FPCR. */
  fp: space(32 * 16 + 8),
});
export type KvmCpuContext = ViewOf<typeof KvmCpuContextLayout>;

/** vcpu->requests bits (KVM_REQ_*). */
export const KVM_REQ = {
  SLEEP: 1 << 0,
  IRQ_PENDING: 1 << 1,
  VCPU_RESET: 1 << 2,
  RECORD_STEAL: 1 << 3,
  SUSPEND: 1 << 6,
  TLB_FLUSH: 1 << 8,
  RELOAD_PMU: 1 << 13,
  UNHALT: 1 << 9,
  VM_DEAD: 1 << 10,
} as const;

/** vcpu->mode. */
export const VCPU_MODE = {
  OUTSIDE_GUEST_MODE: 0,
  IN_GUEST_MODE: 1,
  EXITING_GUEST_MODE: 2,
} as const;

/** vcpu iflags. */
export const IFLAG = {
  PENDING_EXCEPTION: 1,
  INCREMENT_PC: 2,
  ON_UNSUPPORTED_CPU: 4,
  IN_WFIT: 8,
  IN_WFI: 16,
  /** The guest uses the debug registers: they are switched with the world. */
  DEBUG_DIRTY: 32,
  /** An instruction of user space's single step is done, its exception not taken yet. */
  SS_ACTIVE_PENDING: 64,
} as const;

/** `pendingException`: EXCEPT_AA64_EL1_SYNC and its like, target EL1. */
export const EXCEPT = {
  AA64_EL1_SYNC: 0,
  AA64_EL1_IRQ: 1,
  AA64_EL1_FIQ: 2,
  AA64_EL1_SERR: 3,
} as const;

/** Who owns the FP registers of the CPU the vCPU is loaded on (vcpu->arch.fp_state). */
export const FP_STATE = { FREE: 0, HOST_OWNED: 1, GUEST_OWNED: 2 } as const;

/** kvm_stat's vCPU counters (struct kvm_vcpu_stat), `observe` state. */
export const KvmVcpuStatLayout = layout("kvm_vcpu_stat", {
  exits: u53("observe"),
  hvc_exit_stat: u53("observe"),
  wfe_exit_stat: u53("observe"),
  wfi_exit_stat: u53("observe"),
  mmio_exit_user: u53("observe"),
  mmio_exit_kernel: u53("observe"),
  signal_exits: u53("observe"),
  halt_successful_poll: u53("observe"),
  halt_attempted_poll: u53("observe"),
  halt_poll_invalid: u53("observe"),
  halt_wakeup: u53("observe"),
  halt_wait_ns: u53("observe"),
  blocking: u53("observe"),
  /** Exits by exception class (64), then IRQ and SERROR exits. */
  byClass: array("u53", 64, "observe"),
  irqExits: u53("observe"),
  serrorExits: u53("observe"),
  entries: u53("observe"),
  /** Instructions the guest has retired on this vCPU. */
  insns: u53("observe"),
  /** Of these, those that ran as translated code; counted when it is put. */
  translatedInsns: u53("observe"),
  /** What its physical CPU had run as translated code when the vCPU was loaded. */
  loadTranslatedInsns: u53("observe"),
  /** Soft timers that stood in for the guest's while it was blocked, and expired. */
  bgTimerExpired: u53("observe"),
  /** What its world switches cost (stats.ts). */
  worldSwitch: space(WorldSwitchLayout.size, "observe"),
});
export type KvmVcpuStat = ViewOf<typeof KvmVcpuStatLayout>;

/** struct kvm_vcpu with its kvm_vcpu_arch. */
export const KvmVcpuLayout = layout("kvm_vcpu", {
  kvm: u32(),
  vcpuId: u32(),
  vcpuIdx: u32(),
  /** Host thread that runs it. */
  thread: u32(),
  /** Address of its counters. */
  stat: u32(),
  mutex: u32(),
  /** Physical CPU it is loaded on, or -1. */
  cpu: i32(),
  mode: u32(),
  requests: u32(),
  mpState: u32(),
  pause: bool(),
  hasRunOnce: bool(),
  targetInitialised: bool(),
  features: u32(),
  iflags: u32(),
  /** Exception to inject with IFLAG.PENDING_EXCEPTION: target and kind. */
  pendingException: u32(),
  hcrLo: u32(),
  hcrHi: u32(),
  mdcr: u32(),
  fpState: u32(),
  faultEsr: u53(),
  faultFar: u64(),
  faultHpfar: u53(),
  /** A user-space MMIO read whose value is still to be put into the register. */
  mmioNeeded: bool(),
  resetPc: u64(),
  resetR0: u64(),
  resetPending: bool(),
  resetBe: bool(),
  /** Where the guest reads its stolen time, or {@link GPA_INVALID}; run delay at the last update. */
  stealBase: u53(),
  lastStealNs: u53(),
  sysregsLoadedOnCpu: bool(),
  blockedSinceNs: u53(),
  /** rcuwait: the thread waits for a wake-up (kvm_vcpu_is_blocking). */
  blocking: bool(),
  /** The thread waits for other vCPUs to be out of the guest. */
  waitingAck: bool(),
  /** A KVM_RUN is under way (vcpu->mutex is held). */
  running: bool(),
  /** How the guest was left last: an {@link ARM_EXCEPTION}. */
  exitCode: u32(),
  /** MDCR_EL2 of the host while the vCPU is loaded (mdcr_el2_host). */
  mdcrHost: u53(),
  /** KVM_GUESTDBG_* flags of user space (vcpu->guest_debug). */
  guestDebug: u32(),
  /** The guest's own MDSCR_EL1 and PSTATE.SS while user space's stand in for them (guest_debug_preserved). */
  mdscrPreserved: u32(),
  pstateSsPreserved: bool(),
  /** `debug_ptr` is external_debug_state: the switch loads user space's units instead of the guest's. */
  externalDebug: bool(),
  externalDbgBcr: array("u64", ARM_MAX_DBG_REGS),
  externalDbgBvr: array("u64", ARM_MAX_DBG_REGS),
  externalDbgWcr: array("u64", ARM_MAX_DBG_REGS),
  externalDbgWvr: array("u64", ARM_MAX_DBG_REGS),
  /** PAR_EL1 of the guest while EL2 uses the register. */
  savedPar: u64(),
  /** Events of the host that stand for the guest's counters, by counter; 0 for none. The address is the owner's cookie. */
  pmuPerfEvents: array("u32", 32),
  /** The overflow interrupt (0: not set), that it is set up, and the level last given to the vgic. */
  pmuIrqNum: u32(),
  pmuCreated: bool(),
  pmuIrqLevel: bool(),
  /** Hardware counters that a world switch at EL2 is to turn on for the guest. */
  pmuEventsGuest: u32(),
  /** Instructions its physical CPU had retired at the last entry. */
  entryInsns: u53(),
  dbgBcr: array("u64", ARM_MAX_DBG_REGS),
  dbgBvr: array("u64", ARM_MAX_DBG_REGS),
  dbgWcr: array("u64", ARM_MAX_DBG_REGS),
  dbgWvr: array("u64", ARM_MAX_DBG_REGS),
  hostDbgBcr: array("u64", ARM_MAX_DBG_REGS),
  hostDbgBvr: array("u64", ARM_MAX_DBG_REGS),
  hostDbgWcr: array("u64", ARM_MAX_DBG_REGS),
  hostDbgWvr: array("u64", ARM_MAX_DBG_REGS),
  ctxt: space(KvmCpuContextLayout.size),
  hostCtxt: space(KvmCpuContextLayout.size),
  vgicCpu: space(VgicCpuLayout.size),
  timerCpu: space(ArchTimerCpuLayout.size),
  run: space(KvmRunLayout.size),
});
export type KvmVcpuState = ViewOf<typeof KvmVcpuLayout>;

/** A guest memory slot (struct kvm_memory_slot): the host pages behind it are listed one by one. */
export const KvmMemslotLayout = layout("kvm_memory_slot", {
  used: bool(),
  flags: u32(),
  baseIpa: u53(),
  pages: u32(),
  /** Address of an array of u32: host page frame number (pa >> 12) of each page. */
  pfns: u32(),
  /** With KVM_MEM_LOG_DIRTY_PAGES: address of one bit for each page; else 0. */
  dirtyBitmap: u32(),
});
export const KVM_MAX_MEMSLOTS = 16;

/** struct kvm with its kvm_arch. */
export const KvmLayout = layout("kvm", {
  vmId: u32(),
  lock: u32(),
  configLock: u32(),
  mmuLock: u32(),
  createdVcpus: u32(),
  /** Set by the kind of interrupt controller. */
  maxVcpus: u32(),
  onlineVcpus: u32(),
  /** VMID and its generation (kvm_arch_vmid). */
  vmid: u53(),
  vtcrLo: u32(),
  vtcrHi: u32(),
  /** Physical address of the stage-2 root table. */
  pgdPa: u53(),
  /** KVM_REG_ARM_PSCI_VERSION as user space chose it, or 0. */
  psciVersion: u32(),
  /** smccc_feat: services by HVC that user space left the guest. */
  smcccStdBmap: u32(),
  smcccStdHypBmap: u32(),
  smcccVendorHypBmap: u32(),
  /** KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2: {@link KVM_DIRTY_LOG} flags. */
  manualDirtyLog: u32(),
  /** KVM_CAP_ARM_SYSTEM_SUSPEND and KVM_CAP_ARM_NISV_TO_USER were enabled. */
  systemSuspendEnabled: bool(),
  nisvToUser: bool(),
  /** Of the generator behind TRNG calls. */
  randomState: u64(),
  vmBugged: bool(),
  hasRanOnce: bool(),
  /** What the identification registers show (id_regs.ts), by (CRm - 1) * 8 + op2. */
  idRegs: array("u64", KVM_NR_ID_REGS),
  /** Whether user space has filtered the guest's events, and the allowed ones: a bit each. */
  pmuHasFilter: bool(),
  pmuFilter: array("u32", 32),
  /** vCPU that has asked all others to halt (kvm_arm_halt_guest), or 0. */
  haltOwner: u32(),
  /** Pages of stage-2 tables in use. */
  stage2Pages: u32(),
  /** vcpuId + 1 of the vCPU of this VM that ran last on each physical CPU; 0: none. */
  lastVcpuRan: array("u32", MAX_PCPUS),
  cntvoff: u53(),
  vcpus: array("u32", KVM_MAX_VCPUS),
  vgic: space(VgicDistLayout.size),
  memslots: space(KVM_MAX_MEMSLOTS * KvmMemslotLayout.size),
});
export type KvmState = ViewOf<typeof KvmLayout>;

/**
 * What every part of KVM reaches the rest of the host through. One per host; holds no state of its own
 * beyond caches of views.
 */
export interface KvmHost {
  readonly memory: SharedMemory;
  readonly locks: Locks;
  readonly trace: TraceRing;
  /** The machine's RAM: where a physical address lies in the shared memory. */
  readonly ram: RamRange;
  /** The host's perf events, KVM's kind of them, and which counters count in guests only. */
  readonly perf: PerfEvents;
  readonly pmuPerfKind: number;
  readonly pmuEvents: KvmPmuEvents;
  /** The virtual interrupt controller's functions (include/kvm/arm_vgic.h). */
  readonly vgic: ArmVgic;
  /** What runs at EL2, and how it is called from the host kernel's level (kvm_call_hyp). */
  readonly hyp: CallHyp;
  /** kvm_vgic_global_state, once it is probed: of vgic_global.ts alone. */
  vgicGlobalState?: VgicGlobal | undefined;
  /** Physical CPUs of the machine. */
  readonly pcpus: number;
  /** Virtual nanoseconds now. */
  nowNs(): number;
  /** The same into `cell`: a result would be boxed. */
  stamp(cell: Float64Array): void;
  /** The same into the two words of the memory from word `at` on. */
  stampWords(at: number): void;
  /** The port of physical CPU `index`. */
  port(index: number): El2Port;
  /** The physical CPU that is executing host code now. */
  currentCpu(): number;
  /** MDCR_EL2 as boot code has left it on the current CPU (mdcr_el2). */
  initialMdcrEl2(): number;
  /** The vCPU loaded on the current physical CPU, if any (kvm_get_running_vcpu). */
  runningVcpu(): Vcpu | undefined;
  /** The views of the vCPU whose structure lies at `address`; InternalError if there is none. */
  vcpuAt(address: number): Vcpu;
  /** The views of the VM whose structure lies at `address`; InternalError if there is none. */
  kvmAt(address: number): Kvm;
  /** kvzalloc: whole pages of host RAM, zeroed and consecutive; the address in the shared memory. */
  kvzalloc(bytes: number): number;
  /** kvfree of `bytes` that {@link kvzalloc} gave. */
  kvfree(address: number, bytes: number): void;
  /** irq_set_irqchip_state(IRQCHIP_STATE_ACTIVE) of a physical SGI or PPI of the current CPU, or of an SPI. */
  irqSetPhysActive(hwIntid: number, active: boolean): void;
  /** irq_get_irqchip_state(IRQCHIP_STATE_ACTIVE), same interrupts. */
  irqGetPhysActive(hwIntid: number): boolean;
  /** irq_get_irqchip_state(IRQCHIP_STATE_PENDING), same interrupts. */
  irqGetPhysPending(hwIntid: number): boolean;
  /** Leaves the guest at once, or wakes the vCPU's thread (kvm_vcpu_kick). */
  kvmVcpuKick(vcpu: Vcpu): void;
  /** Wakes the vCPU's thread if it blocks: whether it did (kvm_vcpu_wake_up). */
  kvmVcpuWakeUp(vcpu: Vcpu): boolean;
  /**
   * kvm_arm_halt_guest: asks every vCPU of the VM but the caller to leave the guest and stay out. False
   * while one is still inside: the caller's thread must wait (a suspension point) and start over.
   */
  kvmArmHaltGuest(kvm: Kvm): boolean;
  kvmArmResumeGuest(kvm: Kvm): void;
  /** current->sched_info.run_delay of the vCPU's thread: ns it was runnable and did not run. */
  runDelayNs(vcpu: Vcpu): number;
  /** ktime_get_snapshot: the host's time of day (ns since 1970), and its counter at the same moment. */
  systemTimeSnapshot(): { readonly realNs: bigint; readonly cycles: bigint };
  /** The soft timer service of the current physical CPU. */
  readonly hrtimers: KvmHrtimers;
  /** There is another VM, vCPU or in-kernel device, or one less: other workers must make their objects of it. */
  objectsChanged?(): void;
}

/** Soft timers (src/host/hrtimer.ts) as KVM uses them. */
export interface KvmHrtimers {
  /** Makes a timer of `kind` (a {@link KVM_TIMER_KINDS} position) with an argument; its handle. */
  create(kind: KvmTimerKind, arg: number): number;
  /** Arms it for `expiresNs` (absolute virtual time) on the current physical CPU. */
  start(handle: number, expiresNs: number): void;
  cancel(handle: number): void;
  destroy(handle: number): void;
}
export type KvmTimerKind = "kvm_bg_timer_expire" | "kvm_hrtimer_expire";

/** A VM: views of its structures. */
export interface Kvm {
  readonly host: KvmHost;
  readonly state: KvmState;
  /** Its address and its words (kvm_words.ts). */
  readonly base: number;
  readonly words: Int32Array;
  readonly vgic: VgicDist;
  /** In the order of creation: `vcpuIdx`. */
  readonly vcpus: readonly Vcpu[];
  /** In-kernel devices by guest physical address (KVM_MMIO_BUS). */
  readonly ioBus: KvmIoRange[];
}

/** What an in-kernel device answers when the access must first wait for the other vCPUs to halt. */
export const WAIT: unique symbol = Symbol("wait for acknowledgement");
export type Wait = typeof WAIT;

/**
 * An in-kernel device. `offset` is from the region's base, `length` 1, 2, 4 or 8; values of up to four
 * bytes are unsigned numbers, of eight bytes bigints (a handler may answer with either). A handler that
 * answers {@link WAIT} is called again, with the same arguments, once something may have changed.
 */
export interface KvmIoDeviceOps {
  read(vcpu: Vcpu, offset: number, length: number): number | bigint | Wait;
  write(vcpu: Vcpu, offset: number, length: number, value: number | bigint): void | Wait;
}

/** One registered region. */
export interface KvmIoRange {
  readonly baseIpa: number;
  readonly length: number;
  readonly ops: KvmIoDeviceOps;
}

/** A vCPU as code at EL2 has it: structures that are mapped there, and nothing of the host kernel. */
export interface HypVcpu {
  readonly state: KvmVcpuState;
  /** The address of that, and its words (kvm_words.ts). */
  readonly base: number;
  readonly words: Int32Array;
  readonly ctxt: KvmCpuContext;
  /** What the host keeps while the vCPU is loaded. */
  readonly hostCtxt: KvmCpuContext;
  readonly cpuIf: VgicV3CpuIf;
}

/** A vCPU: views of its structures. */
export interface Vcpu extends HypVcpu {
  readonly kvm: Kvm;
  /** The words of `stat` (kvm_words.ts). */
  readonly statWords: Int32Array;
  readonly vgic: VgicCpu;
  readonly vgicV2: VgicV2CpuIf;
  readonly timer: ArchTimerCpu;
  /** By TIMER_PTIMER and TIMER_VTIMER. */
  readonly timers: readonly [ArchTimerContext, ArchTimerContext];
  readonly run: KvmRun;
  readonly stat: KvmVcpuStat;
  /** Measures its world switches; without it nothing is measured. */
  readonly meter?: WorldSwitchMeter;
  /** The port of the physical CPU it is loaded on; InternalError when it is on none. */
  port(): El2Port;
}

/** Sets or clears bits of `iflags` (vcpu_set_flag, vcpu_clear_flag). */
export function vcpuSetFlag(vcpu: HypVcpu, flag: number): void {
  vcpu.state.iflags |= flag;
}
export function vcpuClearFlag(vcpu: HypVcpu, flag: number): void {
  vcpu.state.iflags &= ~flag;
}
export function vcpuGetFlag(vcpu: HypVcpu, flag: number): boolean {
  return (vcpu.state.iflags & flag) !== 0;
}

/** Whether the VM has an interrupt controller in the kernel (irqchip_in_kernel). */
export function irqchipInKernel(kvm: Kvm): boolean {
  return kvm.vgic.inKernel;
}

/** Sets a request bit; the vCPU looks at it before its next entry. */
export function kvmMakeRequest(vcpu: Vcpu, request: number): void {
  vcpu.state.requests |= request;
}

/** Takes a request: whether it was set, clearing it. */
export function kvmCheckRequest(vcpu: Vcpu, request: number): boolean {
  const set = (vcpu.state.requests & request) !== 0;
  vcpu.state.requests &= ~request;
  return set;
}
