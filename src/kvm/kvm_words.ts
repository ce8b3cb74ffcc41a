/**
 * Words of the structures that every exit looks at: places in {@link Vcpu.words}, {@link Vcpu.statWords} and
 * {@link Kvm.words}. An element at a constant place takes V8 two or three instructions, a property of a view a
 * dozen, and the views of a vCPU are many.
 */
import {
  KvmCpuContextLayout,
  KvmLayout,
  KvmRunLayout,
  KvmVcpuLayout,
  KvmVcpuStatLayout,
  SAVED,
  type SavedSysreg,
  VgicCpuLayout,
  VgicDistLayout,
  VgicIrqLayout,
  VgicV3CpuIfLayout,
} from "./kvm_host.ts";

const VCPU = KvmVcpuLayout.offset;
const CTXT = KvmCpuContextLayout.offset;
const STAT = KvmVcpuStatLayout.offset;
const VGIC = VCPU.vgicCpu, CPU_IF = VCPU.vgicCpu + VgicCpuLayout.offset.cpuIf;

const saved = (name: SavedSysreg): number => (VCPU.ctxt + CTXT.sysregs + 8 * SAVED[name]) >>> 2;

/** Words of `vcpu.words`. */
export const VCPU_WORD = {
  ID: VCPU.vcpuId >>> 2,
  CPU: VCPU.cpu >>> 2,
  MODE: VCPU.mode >>> 2,
  BLOCKING: VCPU.blocking >>> 2,
  REQUESTS: VCPU.requests >>> 2,
  PAUSE: VCPU.pause >>> 2,
  IFLAGS: VCPU.iflags >>> 2,
  HCR: VCPU.hcrLo >>> 2,
  MDCR: VCPU.mdcr >>> 2,
  FP_STATE: VCPU.fpState >>> 2,
  ESR: VCPU.faultEsr >>> 2,
  FAR: VCPU.faultFar >>> 2,
  EXIT_CODE: VCPU.exitCode >>> 2,
  GUEST_DEBUG: VCPU.guestDebug >>> 2,
  PMU_LEVEL: VCPU.pmuIrqLevel >>> 2,
  ENTRY_INSNS: VCPU.entryInsns >>> 2,
  REGS: (VCPU.ctxt + CTXT.regs) >>> 2,
  PC: (VCPU.ctxt + CTXT.pc) >>> 2,
  PSTATE: (VCPU.ctxt + CTXT.pstate) >>> 2,
  MPIDR: saved("MPIDR_EL1"),
  MDSCR: saved("MDSCR_EL1"),
  OSLSR: saved("OSLSR_EL1"),
  PMCR: saved("PMCR_EL0"),
  IMMEDIATE_EXIT: (VCPU.run + KvmRunLayout.offset.immediateExit) >>> 2,
  AP_LIST: (VGIC + VgicCpuLayout.offset.apListHead) >>> 2,
  FLUSHED_PENDING: (VGIC + VgicCpuLayout.offset.flushedPending) >>> 2,
  FLUSHED_ACTIVE: (VGIC + VgicCpuLayout.offset.flushedActive) >>> 2,
  VGIC_STAT: (VGIC + VgicCpuLayout.offset.cpuStat) >>> 2,
  IRQ_STATS: (VGIC + VgicCpuLayout.offset.irqStats) >>> 2,
  CPU_IF: CPU_IF >>> 2,
  VGIC_HCR: (CPU_IF + VgicV3CpuIfLayout.offset.vgicHcr) >>> 2,
  USED_LRS: (CPU_IF + VgicV3CpuIfLayout.offset.usedLrs) >>> 2,
  LR: (CPU_IF + VgicV3CpuIfLayout.offset.lr) >>> 2,
  PRIVATE_IRQS: (VGIC + VgicCpuLayout.offset.privateIrqs) >>> 2,
} as const;

/** Words of `kvm.words`. */
export const KVM_WORD = {
  VM_ID: KvmLayout.offset.vmId >>> 2,
  VMID: KvmLayout.offset.vmid >>> 2,
  PGD: KvmLayout.offset.pgdPa >>> 2,
  VGIC_ENABLED: (KvmLayout.offset.vgic + VgicDistLayout.offset.enabled) >>> 2,
  VGIC_MODEL: (KvmLayout.offset.vgic + VgicDistLayout.offset.vgicModel) >>> 2,
  IN_KERNEL: (KvmLayout.offset.vgic + VgicDistLayout.offset.inKernel) >>> 2,
} as const;

const IRQ = VgicIrqLayout.offset;

/** Words of an interrupt, from its first one on: they lie in the vCPU or in the VM's array of shared ones. */
export const IRQ_WORD = {
  /** How many there are. */
  COUNT: VgicIrqLayout.size >>> 2,
  LINK: IRQ.apList >>> 2,
  INTID: IRQ.intid >>> 2,
  VCPU: IRQ.vcpu >>> 2,
  TARGET: IRQ.targetVcpu >>> 2,
  LINE: IRQ.lineLevel >>> 2,
  LATCH: IRQ.pendingLatch >>> 2,
  ACTIVE: IRQ.active >>> 2,
  ENABLED: IRQ.enabled >>> 2,
  HW: IRQ.hw >>> 2,
  SOURCE: IRQ.source >>> 2,
  PRIORITY: IRQ.priority >>> 2,
  GROUP: IRQ.group >>> 2,
  CONFIG: IRQ.config >>> 2,
  RAISED: IRQ.raisedAtNs >>> 2,
} as const;

/** Words of `vcpu.statWords`. */
export const STAT_WORD = {
  EXITS: STAT.exits >>> 2,
  ENTRIES: STAT.entries >>> 2,
  INSNS: STAT.insns >>> 2,
  IRQ_EXITS: STAT.irqExits >>> 2,
  BY_CLASS: STAT.byClass >>> 2,
} as const;
