/**
 * Making, initialising and destroying a VM's vgic. Mirrors arch/arm64/kvm/vgic/vgic-init.c.
 *
 * What differs: the counters are allocated with the interrupts. As in the kernel, a GICv3 must be
 * initialised by user space (KVM_DEV_ARM_VGIC_CTRL_INIT) before the first run, a GICv2 is when first used.
 *
 * Stages: kvmVgicCreate (user space makes the device), kvmVgicVcpuInit (each vCPU as it is made),
 * vgicInit (all vCPUs exist: allocation), kvmVgicMapResources (before the first run: on the bus).
 */
import { GICV2_MAX_CPUS } from "../../arm/arch/gicv2.ts";
import type { El2Port } from "../../arm/el2_port.ts";
import { listInit } from "../../base/list.ts";
import type { Fields, Layout } from "../../base/struct.ts";
import { ERRNO } from "./errno.ts";
import {
  type Kvm,
  KVM_MAX_VCPUS,
  KVM_REQ,
  type KvmHost,
  kvmMakeRequest,
  type Vcpu,
  VGIC_NR_PRIVATE_IRQS,
  VgicIrqLayout,
} from "../kvm_host.ts";
import { GIC_TYPE, type GicKvmInfo, vgicGlobal } from "./vgic_global.ts";
import {
  irqAt,
  KVM_VGIC_IMP_REV_LATEST,
  kvmVcpuGetMpidrAff,
  VGIC_ADDR_UNDEF,
  VGIC_CONFIG_EDGE,
  VGIC_CONFIG_LEVEL,
  VGIC_MODEL_V2,
  VGIC_MODEL_V3,
  vgicInitialized,
  vgicIrqIsSgi,
} from "./vgic_irq.ts";
import { vgicIoDevice, withConfigLock } from "./vgic_mmio.ts";
import { VGIC_V2_DIST_REGISTERS } from "./vgic_mmio_v2.ts";
import { VGIC_V3_DIST_REGISTERS, VGIC_V3_RD_REGISTERS } from "./vgic_mmio_v3.ts";
import { VgicCpuStatLayout, VgicIrqStatLayout } from "./vgic_stat.ts";
import { vgicV3Enable, vgicV3Probe } from "./vgic_v3.ts";
import {
  KVM_VGIC_V2_DIST_SIZE,
  vgicV2Enable,
  vgicV2InitLrs,
  vgicV2MapResources,
  vgicV2Probe,
} from "./vgic_v2.ts";
import {
  addIodev,
  KVM_VGIC_V3_DIST_SIZE,
  KVM_VGIC_V3_REDIST_SIZE,
  removeIodev,
  vgicRegisterRedistIodev,
  vgicUnregisterRedistIodev,
  vgicV3CheckBase,
} from "./vgic_v3_redist.ts";

/** Interrupts of a VM whose user space did not say how many. */
const VGIC_NR_IRQS_LEGACY = 256;

/**
 * At the start of the host: reads what the hardware has, from the CPU of `port`, and keeps the host's
 * services. Returns 0, or -ENXIO without a maintenance interrupt.
 */
export function kvmVgicHypInit(host: KvmHost, port: El2Port, info: GicKvmInfo): number {
  if (info.maintIrq === 0) return ERRNO.ENXIO;
  return info.type === GIC_TYPE.V2 ? vgicV2Probe(host, port, info) : vgicV3Probe(host, port, info);
}

/** On each physical CPU: empty list registers, so that only used ones ever need writing. */
export function kvmVgicInitCpuHardware(host: KvmHost, port: El2Port): void {
  if (vgicGlobal(host).type === GIC_TYPE.V2) vgicV2InitLrs(host, port);
  else host.hyp.vgicV3InitLrs(port);
}

/**
 * The maintenance interrupt's handler. It does nothing: the interrupt is not synchronous with what it
 * reports, so its only use is that the guest was left; the fold after the exit sees the rest.
 */
export function vgicMaintenanceHandler(): void {}

/** A VM comes into being. Nothing is allocated. */
export function kvmVgicEarlyInit(kvm: Kvm): void {
  kvm.vgic.distBase = VGIC_ADDR_UNDEF;
  kvm.vgic.cpuBase = VGIC_ADDR_UNDEF;
}

/** Whether the hardware serves VMs with an interrupt controller of this type. */
function canServe(host: KvmHost, type: number): boolean {
  const { type: hardware, canEmulateGicv2 } = vgicGlobal(host);
  if (type === VGIC_MODEL_V2) return canEmulateGicv2;
  return type === VGIC_MODEL_V3 && hardware === GIC_TYPE.V3;
}

/**
 * KVM_CREATE_DEVICE or KVM_CREATE_IRQCHIP: the VM has an interrupt controller of this `type` (2 or 3).
 * Returns 0, -ENODEV for a type that the hardware does not serve, -EEXIST when the VM has one, -EBUSY once
 * a vCPU has run, -E2BIG when it has more vCPUs than the type can have.
 */
export function kvmVgicCreate(kvm: Kvm, type: number): number {
  if (!canServe(kvm.host, type)) return ERRNO.ENODEV;
  return withConfigLock(kvm, () => {
    if (kvm.vgic.inKernel) return ERRNO.EEXIST;
    if (kvm.vcpus.some((vcpu) => vcpu.state.hasRunOnce)) return ERRNO.EBUSY;
    kvm.state.maxVcpus = type === VGIC_MODEL_V2 ? GICV2_MAX_CPUS : KVM_MAX_VCPUS;
    if (kvm.state.onlineVcpus > kvm.state.maxVcpus) return ERRNO.E2BIG;
    kvm.vgic.inKernel = true;
    kvm.vgic.vgicModel = type;
    kvm.vgic.distBase = VGIC_ADDR_UNDEF;
    kvm.vgic.cpuBase = VGIC_ADDR_UNDEF;
    kvm.vgic.nrRdRegions = 0;
    return 0;
  });
}

/** A private interrupt in its reset state: SGIs edge and enabled, PPIs level. */
function initPrivateIrq(vcpu: Vcpu, intid: number): void {
  const memory = vcpu.kvm.host.memory;
  const at = vcpu.vgic.privateIrqs + intid * VgicIrqLayout.size;
  memory.u8.fill(0, at, at + VgicIrqLayout.size);
  const irq = irqAt(memory, at);
  irq.intid = intid;
  irq.targetVcpu = vcpu.state.base;
  irq.refcount = 1;
  irq.enabled = vgicIrqIsSgi(intid);
  irq.config = vgicIrqIsSgi(intid) ? VGIC_CONFIG_EDGE : VGIC_CONFIG_LEVEL;
}

/** A vCPU comes into being: its private interrupts, and its redistributor if its place is known. */
export function kvmVgicVcpuInit(vcpu: Vcpu): number {
  vcpu.vgic.rdBase = VGIC_ADDR_UNDEF;
  vcpu.vgic.rdRegistered = false;
  vcpu.vgic.apListLock = 0;
  listInit(vcpu.kvm.host.memory, vcpu.vgic.apListHead);
  for (let intid = 0; intid < VGIC_NR_PRIVATE_IRQS; intid++) initPrivateIrq(vcpu, intid);
  if (vcpu.kvm.vgic.vgicModel !== VGIC_MODEL_V3) return 0;
  return vgicRegisterRedistIodev(vcpu, VGIC_V3_RD_REGISTERS);
}

/** The shared interrupts: disabled, edge, for vCPU 0, of a GICv3 in group 1. */
function kvmVgicDistInit(kvm: Kvm): number {
  const { nrSpis } = kvm.vgic;
  const { info } = vgicGlobal(kvm.host);
  const spis = kvm.host.kvzalloc(nrSpis * VgicIrqLayout.size);
  const stats = info.allocateStats(VgicIrqStatLayout, nrSpis);
  if (spis === 0 || stats === 0) return ERRNO.ENOMEM;
  for (let i = 0; i < nrSpis; i++) {
    const irq = irqAt(kvm.host.memory, spis + i * VgicIrqLayout.size);
    irq.intid = i + VGIC_NR_PRIVATE_IRQS;
    irq.targetVcpu = kvm.vcpus[0]?.state.base ?? 0;
    irq.refcount = 1;
    irq.group = kvm.vgic.vgicModel === VGIC_MODEL_V3 ? 1 : 0;
  }
  kvm.vgic.spis = spis;
  kvm.vgic.irqStats = stats;
  return 0;
}

/** What of a vCPU depends on the kind of interrupt controller. */
function initVcpuForModel(vcpu: Vcpu): number {
  const { info } = vgicGlobal(vcpu.kvm.host);
  const base = vcpu.vgic.privateIrqs;
  for (let i = 0; i < VGIC_NR_PRIVATE_IRQS; i++) {
    const irq = irqAt(vcpu.kvm.host.memory, base + i * VgicIrqLayout.size);
    const v3 = vcpu.kvm.vgic.vgicModel === VGIC_MODEL_V3;
    irq.group = v3 ? 1 : 0;
    if (v3) irq.mpidr = kvmVcpuGetMpidrAff(vcpu);
    else irq.targets = 1 << vcpu.state.vcpuIdx;
  }
  vcpu.vgic.irqStats = info.allocateStats(VgicIrqStatLayout, VGIC_NR_PRIVATE_IRQS);
  vcpu.vgic.cpuStat = info.allocateStats(VgicCpuStatLayout, 1);
  return vcpu.vgic.irqStats === 0 || vcpu.vgic.cpuStat === 0 ? ERRNO.ENOMEM : 0;
}

/**
 * Allocates and initialises, once the number of vCPUs and SPIs is known; again it does nothing. The
 * caller holds the config lock. Returns 0, -EBUSY while a vCPU is being made, -EINVAL without a
 * device, -ENOMEM.
 */
export function vgicInit(kvm: Kvm): number {
  const dist = kvm.vgic;
  if (vgicInitialized(kvm)) return 0;
  if (dist.vgicModel !== VGIC_MODEL_V2 && dist.vgicModel !== VGIC_MODEL_V3) return ERRNO.EINVAL;
  if (kvm.state.createdVcpus !== kvm.state.onlineVcpus) return ERRNO.EBUSY;
  if (dist.nrSpis === 0) dist.nrSpis = VGIC_NR_IRQS_LEGACY - VGIC_NR_PRIVATE_IRQS;
  const ret = kvmVgicDistInit(kvm);
  if (ret) return ret;
  for (const vcpu of kvm.vcpus) {
    const r = initVcpuForModel(vcpu);
    if (r) return r;
  }
  const enable = vgicGlobal(kvm.host).type === GIC_TYPE.V2 ? vgicV2Enable : vgicV3Enable;
  for (const vcpu of kvm.vcpus) enable(vcpu);
  if (dist.implementationRev === 0) dist.implementationRev = KVM_VGIC_IMP_REV_LATEST;
  dist.initialized = true;
  return 0;
}

function vgicV3MapResources(kvm: Kvm): number {
  if (kvm.vcpus.some((vcpu) => !vcpu.vgic.rdRegistered)) return ERRNO.ENXIO;
  if (kvm.vgic.distBase === VGIC_ADDR_UNDEF) return ERRNO.ENXIO;
  if (!vgicV3CheckBase(kvm)) return ERRNO.EINVAL;
  return vgicInitialized(kvm) ? 0 : ERRNO.EBUSY;
}

/** Puts the distributor's frame on the VM's bus. */
function vgicRegisterDistIodev(kvm: Kvm): number {
  const v2 = kvm.vgic.vgicModel === VGIC_MODEL_V2;
  const device = vgicIoDevice(v2 ? VGIC_V2_DIST_REGISTERS : VGIC_V3_DIST_REGISTERS);
  const size = v2 ? KVM_VGIC_V2_DIST_SIZE : KVM_VGIC_V3_DIST_SIZE;
  return addIodev(kvm, kvm.vgic.distBase, size, device);
}

/** Puts all frames that the VM's state says are mapped on a fresh bus again, after a restore. */
export function vgicReregisterIodevs(kvm: Kvm): number {
  const ret = kvm.vgic.ready ? vgicRegisterDistIodev(kvm) : 0;
  if (ret) return ret;
  for (const vcpu of kvm.vcpus) {
    if (!vcpu.vgic.rdRegistered) continue;
    const device = vgicIoDevice(VGIC_V3_RD_REGISTERS, vcpu);
    const rd = addIodev(kvm, vcpu.vgic.rdBase, KVM_VGIC_V3_REDIST_SIZE, device);
    if (rd) return rd;
  }
  return 0;
}

/** kvm_vm_dead: no vCPU of the VM will run again. */
function kvmVmDead(kvm: Kvm): void {
  kvm.state.vmBugged = true;
  for (const vcpu of kvm.vcpus) kvmMakeRequest(vcpu, KVM_REQ.VM_DEAD);
}

/**
 * Before the first run: checks that all is set, gives a guest with a GICv2 its CPU interface, and puts
 * the distributor on the bus. Returns 0, -ENXIO for an address that is not set, -EINVAL for overlapping
 * frames, -EBUSY of a GICv3 before vgicInit; a failure kills the VM.
 */
export function kvmVgicMapResources(kvm: Kvm): number {
  if (kvm.vgic.ready || !kvm.vgic.inKernel) return 0;
  const mapped = withConfigLock(kvm, () => {
    const ret = kvm.vgic.vgicModel === VGIC_MODEL_V2
      ? vgicV2MapResources(kvm, vgicInit)
      : vgicV3MapResources(kvm);
    if (ret === 0) kvm.vgic.ready = true;
    return ret;
  });
  const ret = mapped || vgicRegisterDistIodev(kvm);
  if (ret) kvmVmDead(kvm);
  return ret;
}

function releaseStats<F extends Fields>(kvm: Kvm, at: number, of: Layout<F>, count: number): void {
  if (at === 0) return;
  vgicGlobal(kvm.host).info.releaseStats?.(at, of as unknown as Layout<Fields>, count);
}

/** A vCPU goes away: nothing of it stays on a list or on the bus. */
export function kvmVgicVcpuDestroy(vcpu: Vcpu): void {
  const { vgic, kvm } = vcpu;
  listInit(kvm.host.memory, vgic.apListHead);
  vgicUnregisterRedistIodev(vcpu);
  releaseStats(kvm, vgic.irqStats, VgicIrqStatLayout, VGIC_NR_PRIVATE_IRQS);
  releaseStats(kvm, vgic.cpuStat, VgicCpuStatLayout, 1);
  vgic.irqStats = 0;
  vgic.cpuStat = 0;
}

/** The VM goes away. Its vCPUs do not run any more. */
export function kvmVgicDestroy(kvm: Kvm): void {
  const dist = kvm.vgic;
  for (const vcpu of kvm.vcpus) kvmVgicVcpuDestroy(vcpu);
  if (dist.ready) removeIodev(kvm, dist.distBase);
  if (dist.spis !== 0) kvm.host.kvfree(dist.spis, dist.nrSpis * VgicIrqLayout.size);
  releaseStats(kvm, dist.irqStats, VgicIrqStatLayout, dist.nrSpis);
  dist.ready = false;
  dist.initialized = false;
  dist.spis = 0;
  dist.irqStats = 0;
  dist.nrSpis = 0;
  dist.nrRdRegions = 0;
  dist.distBase = VGIC_ADDR_UNDEF;
  dist.cpuBase = VGIC_ADDR_UNDEF;
}
