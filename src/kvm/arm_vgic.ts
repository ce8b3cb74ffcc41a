/**
 * The virtual interrupt controller as the rest of KVM sees it: its structures and its functions. Mirrors
 * include/kvm/arm_vgic.h.
 *
 * What differs: the functions are one table that the host is made with, so that the parts can be tested
 * with a controller of the test's own.
 */
import { listNode } from "../base/list.ts";
import { array, bool, layout, space, u32, u53, type ViewOf } from "../base/struct.ts";
import type { El2Port } from "../arm/el2_port.ts";
import type { Kvm, Vcpu } from "./kvm_host.ts";

/** Private interrupts of a vCPU, and list registers of a bank at the most. */
export const VGIC_NR_PRIVATE_IRQS = 32;
const VGIC_MAX_LRS = 16;

/** struct vgic_irq. Lies in the vCPU (private) or the distributor (shared). */
export const VgicIrqLayout = layout("vgic_irq", {
  /** Links the interrupt into its vCPU's ap_list; both words 0 when it is in none. */
  apList: listNode(),
  irqLock: u32(),
  intid: u32(),
  /** Address of the vCPU whose ap_list it is on, or 0. */
  vcpu: u32(),
  /** Address of the vCPU it is to go to (SPI) or belongs to (private), or 0. */
  targetVcpu: u32(),
  lineLevel: bool(),
  pendingLatch: bool(),
  active: bool(),
  enabled: bool(),
  hw: bool(),
  /** CPUs that sent a GICv2 SGI, one bit each. */
  source: u32(),
  activeSource: u32(),
  priority: u32(),
  group: u32(),
  /** VGIC_CONFIG_EDGE 0 or VGIC_CONFIG_LEVEL 1. */
  config: u32(),
  /** Physical interrupt of a HW-mapped one. */
  hwIntid: u32(),
  mpidr: u53(),
  /** GICv2: the vCPUs of GICD_ITARGETSR, one bit each. */
  targets: u32(),
  refcount: u32(),
  /** Cookie of the owner in the kernel (a timer): 0 when free. */
  owner: u32(),
  /** struct irq_ops, as a number into a table: 0 none, 1 the arch timer's. */
  ops: u32(),
  /** Virtual time at which the line was raised or the latch set while nothing was pending; for the latency. */
  raisedAtNs: u53("arch"),
});
export type VgicIrq = ViewOf<typeof VgicIrqLayout>;

/** struct vgic_v3_cpu_if: the shadow of the virtual CPU interface while not loaded. */
export const VgicV3CpuIfLayout = layout("vgic_v3_cpu_if", {
  vgicHcr: u32(),
  vgicVmcr: u32(),
  vgicSre: u32(),
  usedLrs: u32(),
  ap0r: array("u32", 4),
  ap1r: array("u32", 4),
  /** ICH_LR<n>_EL2, 64 bits each. */
  lr: array("u64", VGIC_MAX_LRS),
});
export type VgicV3CpuIf = ViewOf<typeof VgicV3CpuIfLayout>;

/** struct vgic_v2_cpu_if: the same with GICv2 hardware. */
export const VgicV2CpuIfLayout = layout("vgic_v2_cpu_if", {
  vgicHcr: u32(),
  vgicVmcr: u32(),
  vgicApr: u32(),
  usedLrs: u32(),
  /** GICH_LR<n>. */
  lr: array("u32", VGIC_MAX_LRS),
});
export type VgicV2CpuIf = ViewOf<typeof VgicV2CpuIfLayout>;

/** struct vgic_cpu. Of the two interfaces the hardware's is used, the other stays zero. */
export const VgicCpuLayout = layout("vgic_cpu", {
  apListLock: u32(),
  apListHead: listNode(),
  cpuIf: space(VgicV3CpuIfLayout.size),
  vgicV2: space(VgicV2CpuIfLayout.size),
  privateIrqs: space(VGIC_NR_PRIVATE_IRQS * VgicIrqLayout.size),
  /** Guest physical address of the redistributor; means nothing unless `rdRegistered`. */
  rdBase: u53(),
  rdRegistered: bool(),
  /** Position in the distributor's `rdRegions`, and slot within that region. */
  rdRegion: u32(),
  rdRegionIndex: u32(),
  lpisEnabled: bool(),
  numPriBits: u32(),
  numIdBits: u32(),
  /** List registers that the last flush filled with the pending and the active bit set, a bit each. */
  flushedPending: u32(),
  flushedActive: u32(),
  /** Addresses of this vCPU's counters and of those of its private interrupts (`observe` memory), or 0. */
  cpuStat: u32(),
  irqStats: u32(),
});
export type VgicCpu = ViewOf<typeof VgicCpuLayout>;

/** Redistributor regions that user space may define for a VM. */
export const VGIC_MAX_RD_REGIONS = 8;

/** struct vgic_redist_region. */
export const VgicRedistRegionLayout = layout("vgic_redist_region", {
  baseIpa: u53(),
  /** Redistributors in it, or 0: as many as there are vCPUs. */
  count: u32(),
  freeIndex: u32(),
});
export type VgicRedistRegion = ViewOf<typeof VgicRedistRegionLayout>;

/** struct vgic_dist. */
export const VgicDistLayout = layout("vgic_dist", {
  inKernel: bool(),
  ready: bool(),
  initialized: bool(),
  /** GICv2 or GICv3: 2 or 3. */
  vgicModel: u32(),
  implementationRev: u32(),
  nrSpis: u32(),
  /** Guest physical address, or VGIC_ADDR_UNDEF; of a GICv2 also that of the CPU interface. */
  distBase: u53(),
  cpuBase: u53(),
  /** GICv2: user space has written GICD_IIDR, and so knows that interrupts have groups. */
  v2GroupsUserWritable: bool(),
  nrRdRegions: u32(),
  rdRegions: space(VGIC_MAX_RD_REGIONS * VgicRedistRegionLayout.size),
  enabled: bool(),
  /** Address of the array of shared vgic_irq structures. */
  spis: u32(),
  /** Address of the counters of the shared interrupts (`observe` memory), or 0. */
  irqStats: u32(),
});
export type VgicDist = ViewOf<typeof VgicDistLayout>;

/** struct irq_ops by number: what a HW-mapped interrupt's line level is asked of. */
export const IRQ_OPS = { NONE: 0, ARCH_TIMER: 1 } as const;

/** The functions of src/kvm/vgic that other files call, by the kernel's names. Results: 0 or a negative errno. */
export interface ArmVgic {
  /** KVM_CREATE_DEVICE of a vgic: `type` is 2 or 3. */
  kvmVgicCreate(kvm: Kvm, type: number): number;
  /** Allocates and resets what the VM's vCPUs need; once all vCPUs exist. */
  vgicInit(kvm: Kvm): number;
  kvmVgicDestroy(kvm: Kvm): void;
  kvmVgicVcpuInit(vcpu: Vcpu): number;
  kvmVgicVcpuDestroy(vcpu: Vcpu): void;
  /** Before the first run: initialises if that was left out, registers the MMIO regions. */
  kvmVgicMapResources(kvm: Kvm): number;
  /** `port`: of the CPU that the vCPU is loaded on. */
  kvmVgicFlushHwstate(vcpu: Vcpu, port: El2Port): void;
  kvmVgicSyncHwstate(vcpu: Vcpu, port: El2Port): void;
  kvmVgicLoad(vcpu: Vcpu): void;
  kvmVgicPut(vcpu: Vcpu): void;
  /** Reads back what decides whether an interrupt is deliverable (PMR, group enables). */
  kvmVgicVmcrSync(vcpu: Vcpu): void;
  kvmVgicVcpuPendingIrq(vcpu: Vcpu): boolean;
  /** `owner`: the cookie given to {@link kvmVgicSetOwner}, 0 for user space. */
  kvmVgicInjectIrq(kvm: Kvm, cpuid: number, intid: number, level: boolean, owner: number): number;
  /** `ops` is one of {@link IRQ_OPS}. */
  kvmVgicMapPhysIrq(vcpu: Vcpu, hostIrq: number, vintid: number, ops: number): number;
  kvmVgicMapIsActive(vcpu: Vcpu, vintid: number): boolean;
  kvmVgicResetMappedIrq(vcpu: Vcpu, vintid: number): void;
  kvmVgicSetOwner(vcpu: Vcpu, intid: number, owner: number): number;
  /** A write of ICC_SGI1R_EL1 (`allowGroup1`), ICC_SGI0R_EL1 or ICC_ASGI1R_EL1. */
  vgicV3DispatchSgi(vcpu: Vcpu, lo: number, hi: number, allowGroup1: boolean): void;
}
