/**
 * Words of a vCPU's structure and of its counters that every exit looks at: places in {@link Vcpu.words} and
 * {@link Vcpu.statWords}. An element at a constant place takes V8 two or three instructions, a property of a view a
 * dozen, and the views of a vCPU are many.
 */
import {
  KvmCpuContextLayout,
  KvmRunLayout,
  KvmVcpuLayout,
  KvmVcpuStatLayout,
  SAVED,
  type SavedSysreg,
  VgicCpuLayout,
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
  MODE: VCPU.mode >>> 2,
  REQUESTS: VCPU.requests >>> 2,
  PAUSE: VCPU.pause >>> 2,
  IFLAGS: VCPU.iflags >>> 2,
  HCR: VCPU.hcrLo >>> 2,
  MDCR: VCPU.mdcr >>> 2,
  FP_STATE: VCPU.fpState >>> 2,
  ESR: VCPU.faultEsr >>> 2,
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
  VGIC_HCR: (CPU_IF + VgicV3CpuIfLayout.offset.vgicHcr) >>> 2,
  USED_LRS: (CPU_IF + VgicV3CpuIfLayout.offset.usedLrs) >>> 2,
  LR: (CPU_IF + VgicV3CpuIfLayout.offset.lr) >>> 2,
} as const;

/** Words of `vcpu.statWords`. */
export const STAT_WORD = {
  EXITS: STAT.exits >>> 2,
  ENTRIES: STAT.entries >>> 2,
  INSNS: STAT.insns >>> 2,
  IRQ_EXITS: STAT.irqExits >>> 2,
  BY_CLASS: STAT.byClass >>> 2,
} as const;
