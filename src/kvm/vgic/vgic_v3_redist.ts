/**
 * Where the distributor and the redistributors lie in the guest's physical address space. Mirrors the
 * redistributor regions of arch/arm64/kvm/vgic/vgic-mmio-v3.c and vgic-v3.c, and vgic_check_iorange of
 * vgic-kvm-device.c.
 *
 * What differs: regions are an array in struct vgic_dist, at most VGIC_MAX_RD_REGIONS, a region's index
 * its position; there is no slots_lock, since nothing here is left half done at a suspension point.
 */
import { GICR_SIZE } from "../../arm/arch/gic.ts";
import { ERRNO } from "./errno.ts";
import { kvmIoBusRegister, kvmIoBusUnregister } from "../mmio.ts";
import {
  type Kvm,
  type KvmIoDeviceOps,
  type Vcpu,
  VGIC_MAX_RD_REGIONS,
  type VgicRedistRegion,
  VgicRedistRegionLayout,
} from "../kvm_host.ts";
import { VGIC_ADDR_UNDEF } from "./vgic_irq.ts";
import { vgicIoDevice, type VgicRegisterRegion } from "./vgic_mmio.ts";

export const KVM_VGIC_V3_DIST_SIZE = 0x1_0000;
export const KVM_VGIC_V3_REDIST_SIZE = GICR_SIZE;
const SZ_64K = 0x1_0000;

/** Puts a frame on the VM's bus: 0, or -EEXIST where another device answers (user space chose badly). */
export function addIodev(kvm: Kvm, base: number, size: number, ops: KvmIoDeviceOps): number {
  if (kvm.ioBus.some((r) => overlap(base, size, r.baseIpa, r.length))) return ERRNO.EEXIST;
  kvmIoBusRegister(kvm, base, size, ops);
  return 0;
}

/** Takes the frame at `base` off the VM's bus. */
export function removeIodev(kvm: Kvm, base: number): void {
  const range = kvm.ioBus.find((r) => r.baseIpa === base);
  if (range) kvmIoBusUnregister(kvm, range.ops);
}

/** Bits of the VM's intermediate physical addresses (VTCR_EL2.T0SZ). */
function ipaSize(kvm: Kvm): number {
  return 2 ** (64 - (kvm.state.vtcrLo & 0x3f));
}

/**
 * Checks a range that is to be given to a frame whose address is `current`: 0, -EEXIST when it has one
 * already, -EINVAL unless aligned, -E2BIG outside the guest's addresses.
 */
export function vgicCheckIorange(
  kvm: Kvm,
  current: number,
  base: number,
  alignment: number,
  size: number,
): number {
  if (current !== VGIC_ADDR_UNDEF) return ERRNO.EEXIST;
  if (base % alignment !== 0 || size % alignment !== 0) return ERRNO.EINVAL;
  return base + size > ipaSize(kvm) ? ERRNO.E2BIG : 0;
}

/** The region of this index; undefined when there is none. */
export function vgicV3RdistRegionFromIndex(kvm: Kvm, index: number): VgicRedistRegion | undefined {
  if (index >= kvm.vgic.nrRdRegions) return undefined;
  return VgicRedistRegionLayout.at(
    kvm.host.memory,
    kvm.vgic.rdRegions + index * VgicRedistRegionLayout.size,
  );
}

function regionsOf(kvm: Kvm): VgicRedistRegion[] {
  return Array.from(
    { length: kvm.vgic.nrRdRegions },
    (_, i) => vgicV3RdistRegionFromIndex(kvm, i) as VgicRedistRegion,
  );
}

/** Bytes of a region: one without a count has a redistributor for each vCPU. */
function vgicV3RdRegionSize(kvm: Kvm, count: number): number {
  return (count || kvm.state.onlineVcpus) * KVM_VGIC_V3_REDIST_SIZE;
}

const overlap = (base: number, size: number, other: number, otherSize: number): boolean =>
  base + size > other && base < other + otherSize;

/** Whether the range touches a redistributor region. */
function vgicV3RdistOverlap(kvm: Kvm, base: number, size: number): boolean {
  return regionsOf(kvm).some((r) =>
    overlap(base, size, r.baseIpa, vgicV3RdRegionSize(kvm, r.count))
  );
}

function vgicDistOverlap(kvm: Kvm, base: number, size: number): boolean {
  const dist = kvm.vgic.distBase;
  return dist !== VGIC_ADDR_UNDEF && overlap(base, size, dist, KVM_VGIC_V3_DIST_SIZE);
}

/** Whether the frames set so far fit into the address space and do not overlap. */
export function vgicV3CheckBase(kvm: Kvm): boolean {
  const { distBase } = kvm.vgic;
  const fits = regionsOf(kvm).every((r) =>
    vgicCheckIorange(kvm, VGIC_ADDR_UNDEF, r.baseIpa, SZ_64K, vgicV3RdRegionSize(kvm, r.count)) ===
      0
  );
  if (!fits) return false;
  return distBase === VGIC_ADDR_UNDEF || !vgicV3RdistOverlap(kvm, distBase, KVM_VGIC_V3_DIST_SIZE);
}

function redistRegionFull(region: VgicRedistRegion): boolean {
  return region.count !== 0 && region.freeIndex >= region.count;
}

/** Whether the vCPU's redistributor is the last one of a row of adjacent ones (GICR_TYPER.Last). */
export function vgicMmioVcpuRdistIsLast(vcpu: Vcpu): boolean {
  const { kvm, vgic } = vcpu;
  const region = vgic.rdRegistered ? vgicV3RdistRegionFromIndex(kvm, vgic.rdRegion) : undefined;
  if (!region || vgic.rdRegionIndex < region.freeIndex - 1) return false;
  if (region.count === 0 || vgic.rdRegionIndex !== region.count - 1) return true;
  const end = region.baseIpa + region.count * KVM_VGIC_V3_REDIST_SIZE;
  return !regionsOf(kvm).some((r) => r.baseIpa === end && r.freeIndex > 0);
}

/**
 * Gives the vCPU the next free redistributor frame and puts it on the bus. 0 also when no region is
 * set yet: they are given out when it is.
 */
export function vgicRegisterRedistIodev(
  vcpu: Vcpu,
  registers: readonly VgicRegisterRegion[],
): number {
  const { kvm, vgic } = vcpu;
  if (vgic.rdRegistered) return 0;
  const index = regionsOf(kvm).findIndex((r) => !redistRegionFull(r));
  const region = vgicV3RdistRegionFromIndex(kvm, index < 0 ? Infinity : index);
  if (!region) return 0;
  if (!vgicV3CheckBase(kvm)) return ERRNO.EINVAL;
  const base = region.baseIpa + region.freeIndex * KVM_VGIC_V3_REDIST_SIZE;
  const ret = addIodev(kvm, base, KVM_VGIC_V3_REDIST_SIZE, vgicIoDevice(registers, vcpu));
  if (ret) return ret;
  vgic.rdBase = base;
  vgic.rdRegion = index;
  vgic.rdRegionIndex = region.freeIndex;
  vgic.rdRegistered = true;
  region.freeIndex++;
  return 0;
}

/** Takes the vCPU's redistributor off the bus. */
export function vgicUnregisterRedistIodev(vcpu: Vcpu): void {
  if (!vcpu.vgic.rdRegistered) return;
  removeIodev(vcpu.kvm, vcpu.vgic.rdBase);
  vcpu.vgic.rdRegistered = false;
  vcpu.vgic.rdBase = VGIC_ADDR_UNDEF;
}

/** All vCPUs or none. */
function registerAllRedistIodevs(kvm: Kvm, registers: readonly VgicRegisterRegion[]): number {
  const waiting = kvm.vcpus.filter((vcpu) => !vcpu.vgic.rdRegistered);
  for (const vcpu of waiting) {
    const ret = vgicRegisterRedistIodev(vcpu, registers);
    if (ret === 0) continue;
    for (const other of waiting) vgicUnregisterRedistIodev(other);
    return ret;
  }
  return 0;
}

/** Whether region `index` with `count` redistributors may follow the ones there are. */
function checkRegionOrder(kvm: Kvm, index: number, count: number): number {
  const last = vgicV3RdistRegionFromIndex(kvm, kvm.vgic.nrRdRegions - 1);
  if (kvm.vgic.nrRdRegions === 0 || !last) return index === 0 ? 0 : ERRNO.EINVAL;
  if (count === 0) return last.count ? ERRNO.EINVAL : ERRNO.EEXIST;
  return index === kvm.vgic.nrRdRegions ? 0 : ERRNO.EINVAL;
}

/** Adds a region: 0, -EINVAL (order, overlap), -EEXIST, -E2BIG, -ENOSPC. */
function vgicV3AllocRedistRegion(kvm: Kvm, index: number, base: number, count: number): number {
  const size = vgicV3RdRegionSize(kvm, count);
  const order = checkRegionOrder(kvm, index, count);
  if (order) return order;
  if (count === 0 && vgicDistOverlap(kvm, base, size)) return ERRNO.EINVAL;
  if (vgicV3RdistOverlap(kvm, base, size)) return ERRNO.EINVAL;
  if (index >= VGIC_MAX_RD_REGIONS) return ERRNO.ENOSPC;
  const range = vgicCheckIorange(kvm, VGIC_ADDR_UNDEF, base, SZ_64K, size);
  if (range) return range;
  kvm.vgic.nrRdRegions++;
  const region = vgicV3RdistRegionFromIndex(kvm, index) as VgicRedistRegion;
  region.baseIpa = base;
  region.count = count;
  region.freeIndex = 0;
  return 0;
}

/**
 * Defines redistributor region `index` at `base`, of `count` redistributors (0: the old style, one for
 * each vCPU), and gives its frames to the vCPUs there are.
 */
export function vgicV3SetRedistBase(
  kvm: Kvm,
  index: number,
  base: number,
  count: number,
  registers: readonly VgicRegisterRegion[],
): number {
  const allocated = vgicV3AllocRedistRegion(kvm, index, base, count);
  if (allocated) return allocated;
  const ret = registerAllRedistIodevs(kvm, registers);
  if (ret) kvm.vgic.nrRdRegions--;
  return ret;
}
