/**
 * The vgic as a KVM device: attributes by which user space places, initialises, saves and restores it.
 * Mirrors arch/arm64/kvm/vgic/vgic-kvm-device.c; the attributes are documented in the kernel's
 * Documentation/virt/kvm/devices/arm-vgic.rst and arm-vgic-v3.rst.
 *
 * What differs: no pending tables to save (there are no LPIs). A value is a field of the
 * attribute instead of memory behind a pointer.
 */
import { ERRNO } from "./errno.ts";
import { type Kvm, KvmLayout, type Vcpu, VGIC_NR_PRIVATE_IRQS } from "../kvm_host.ts";
import { vgicInit } from "./vgic_init.ts";
import {
  kvmMpidrToVcpu,
  VGIC_ADDR_UNDEF,
  VGIC_MAX_RESERVED,
  VGIC_MODEL_V2,
  VGIC_MODEL_V3,
  vgicInitialized,
} from "./vgic_irq.ts";
import {
  vgicGetMmioRegion,
  vgicReadIrqLineLevelInfo,
  vgicWriteIrqLineLevelInfo,
  withConfigLock,
} from "./vgic_mmio.ts";
import {
  VGIC_V3_DIST_REGISTERS,
  VGIC_V3_RD_REGISTERS,
  vgicV3DistUaccessRead,
  vgicV3DistUaccessWrite,
  vgicV3RedistUaccessRead,
  vgicV3RedistUaccessWrite,
} from "./vgic_mmio_v3.ts";
import {
  vgicV3CpuSysregsGet,
  vgicV3CpuSysregsSet,
  vgicV3HasCpuSysregsAttr,
} from "./vgic_sys_reg_v3.ts";
import {
  KVM_VGIC_V3_DIST_SIZE,
  vgicCheckIorange,
  vgicV3RdistRegionFromIndex,
  vgicV3SetRedistBase,
} from "./vgic_v3_redist.ts";
import {
  VGIC_V2_CPU_REGISTERS,
  VGIC_V2_DIST_REGISTERS,
  vgicV2CpuifUaccessRead,
  vgicV2CpuifUaccessWrite,
  vgicV2DistUaccessRead,
  vgicV2DistUaccessWrite,
} from "./vgic_mmio_v2.ts";
import { KVM_VGIC_V2_CPU_SIZE, KVM_VGIC_V2_DIST_SIZE } from "./vgic_v2.ts";

/** KVM_DEV_ARM_VGIC_GRP_*. */
export const VGIC_GRP = {
  ADDR: 0,
  DIST_REGS: 1,
  CPU_REGS: 2,
  NR_IRQS: 3,
  CTRL: 4,
  REDIST_REGS: 5,
  CPU_SYSREGS: 6,
  LEVEL_INFO: 7,
} as const;

/** KVM_VGIC_V2_ADDR_TYPE_*. */
export const VGIC_V2_ADDR_TYPE = { DIST: 0, CPU: 1 } as const;

/** KVM_VGIC_V3_ADDR_TYPE_*. */
export const VGIC_V3_ADDR_TYPE = { DIST: 2, REDIST: 3, REDIST_REGION: 5 } as const;

/** KVM_DEV_ARM_VGIC_CTRL_INIT. */
export const VGIC_CTRL_INIT = 0;

/** struct kvm_device_attr; `value` stands for what `addr` points to. */
export interface KvmDeviceAttr {
  readonly group: number;
  readonly attr: bigint;
  value: bigint;
}

/** `attr` of DIST_REGS, REDIST_REGS, CPU_SYSREGS or LEVEL_INFO for a vCPU by its affinity, Aff3.Aff2.Aff1.Aff0. */
export function vgicAttr(packedAffinity: number, low: number): bigint {
  return (BigInt(packedAffinity >>> 0) << 32n) | BigInt(low >>> 0);
}

const low32 = (value: bigint): number => Number(value & 0xffff_ffffn);

/** An address as a number; what is above 2^52 becomes too large for any guest. */
function address(value: bigint): number {
  return value > 2n ** 52n ? 2 ** 53 - 2 : Number(value);
}

const RDIST = {
  INDEX: 0xfffn,
  FLAGS: 0xf000n,
  BASE: 0xf_ffff_ffff_0000n,
  COUNT_SHIFT: 52n,
} as const;
const SZ_4K = 0x1000;
const SZ_64K = 0x1_0000;

/** A frame that is placed by its address alone. */
interface Frame {
  readonly model: number;
  readonly base: "distBase" | "cpuBase";
  readonly alignment: number;
  readonly size: number;
}

const FRAMES: Readonly<Record<number, Frame>> = {
  [VGIC_V2_ADDR_TYPE.DIST]: {
    model: VGIC_MODEL_V2,
    base: "distBase",
    alignment: SZ_4K,
    size: KVM_VGIC_V2_DIST_SIZE,
  },
  [VGIC_V2_ADDR_TYPE.CPU]: {
    model: VGIC_MODEL_V2,
    base: "cpuBase",
    alignment: SZ_4K,
    size: KVM_VGIC_V2_CPU_SIZE,
  },
  [VGIC_V3_ADDR_TYPE.DIST]: {
    model: VGIC_MODEL_V3,
    base: "distBase",
    alignment: SZ_64K,
    size: KVM_VGIC_V3_DIST_SIZE,
  },
};

/** The frame of an address type that the VM's kind of controller has. */
function frameOf(kvm: Kvm, attr: KvmDeviceAttr): Frame | undefined {
  const frame = FRAMES[low32(attr.attr)];
  return frame?.model === kvm.vgic.vgicModel ? frame : undefined;
}

function setFrame(kvm: Kvm, { base, alignment, size }: Frame, value: bigint): number {
  return withConfigLock(kvm, () => {
    const at = address(value);
    const ret = vgicCheckIorange(kvm, kvm.vgic[base], at, alignment, size);
    if (ret === 0) kvm.vgic[base] = at;
    return ret;
  });
}

/** A region as `count` (12 bits), base (64 KiB steps), flags (0) and index (12 bits). */
function setRedistRegion(kvm: Kvm, value: bigint): number {
  const count = Number(value >> RDIST.COUNT_SHIFT);
  if (count === 0 || (value & RDIST.FLAGS) !== 0n) return ERRNO.EINVAL;
  const index = Number(value & RDIST.INDEX);
  return vgicV3SetRedistBase(kvm, index, address(value & RDIST.BASE), count, VGIC_V3_RD_REGISTERS);
}

function getRedistRegion(kvm: Kvm, attr: KvmDeviceAttr): number {
  const index = attr.value & RDIST.INDEX;
  const region = vgicV3RdistRegionFromIndex(kvm, Number(index));
  if (!region) return ERRNO.ENOENT;
  attr.value = (BigInt(region.count) << RDIST.COUNT_SHIFT) | BigInt(region.baseIpa) | index;
  return 0;
}

/** kvm_vgic_addr, writing. */
function setAddr(kvm: Kvm, attr: KvmDeviceAttr): number {
  const frame = frameOf(kvm, attr);
  if (frame) return setFrame(kvm, frame, attr.value);
  if (kvm.vgic.vgicModel !== VGIC_MODEL_V3) return ERRNO.ENXIO;
  switch (low32(attr.attr)) {
    case VGIC_V3_ADDR_TYPE.REDIST:
      return vgicV3SetRedistBase(kvm, 0, address(attr.value), 0, VGIC_V3_RD_REGISTERS);
    case VGIC_V3_ADDR_TYPE.REDIST_REGION:
      return setRedistRegion(kvm, attr.value);
    default:
      return ERRNO.ENXIO;
  }
}

const addressOrUndef = (base: number): bigint =>
  base === VGIC_ADDR_UNDEF ? 0xffff_ffff_ffff_ffffn : BigInt(base);

/** kvm_vgic_addr, reading. */
function getAddr(kvm: Kvm, attr: KvmDeviceAttr): number {
  const frame = frameOf(kvm, attr);
  if (frame) {
    attr.value = addressOrUndef(kvm.vgic[frame.base]);
    return 0;
  }
  if (kvm.vgic.vgicModel !== VGIC_MODEL_V3) return ERRNO.ENXIO;
  switch (low32(attr.attr)) {
    case VGIC_V3_ADDR_TYPE.REDIST:
      attr.value = addressOrUndef(vgicV3RdistRegionFromIndex(kvm, 0)?.baseIpa ?? VGIC_ADDR_UNDEF);
      return 0;
    case VGIC_V3_ADDR_TYPE.REDIST_REGION:
      return getRedistRegion(kvm, attr);
    default:
      return ERRNO.ENXIO;
  }
}

/** Interrupts of all kinds together: 64 to 1024, a multiple of 32, once. */
function setNrIrqs(kvm: Kvm, value: bigint): number {
  const count = low32(value);
  if (count < VGIC_NR_PRIVATE_IRQS + 32 || count > VGIC_MAX_RESERVED || count & 31) {
    return ERRNO.EINVAL;
  }
  return withConfigLock(kvm, () => {
    if (kvm.vgic.ready || kvm.vgic.nrSpis !== 0) return ERRNO.EBUSY;
    kvm.vgic.nrSpis = count - VGIC_NR_PRIVATE_IRQS;
    return 0;
  });
}

/** Takes every vCPU's mutex, or none: whether it worked. A vCPU in KVM_RUN holds its own. */
function lockAllVcpus(kvm: Kvm): boolean {
  if (kvm.vcpus.some(({ state }) => state.running || state.mutex !== 0)) return false;
  for (const vcpu of kvm.vcpus) vcpu.state.mutex = 1;
  return true;
}

/** Gives back what {@link lockAllVcpus} took. */
function unlockAllVcpus(kvm: Kvm): void {
  for (const vcpu of kvm.vcpus) vcpu.state.mutex = 0;
}

/** Aff3 to Aff0, a byte each, as an MPIDR_EL1 has them. */
function vgicToMpidr(packed: number): number {
  return (packed & 0x00ff_ffff) + (packed >>> 24) * 2 ** 32;
}

/** The vCPU that an attribute names; the distributor is accessed through the first one. */
function attrVcpu(kvm: Kvm, attr: KvmDeviceAttr): Vcpu | undefined {
  if (attr.group === VGIC_GRP.DIST_REGS) return kvm.vcpus[0];
  return kvmMpidrToVcpu(kvm, vgicToMpidr(Number(BigInt.asUintN(64, attr.attr) >> 32n)));
}

/** Line levels: `attr` holds the kind of information (0) above bit 10 and the first interrupt below. */
function lineLevelInfo(vcpu: Vcpu, attr: KvmDeviceAttr, isWrite: boolean): number {
  const low = low32(attr.attr);
  const intid = low & 0x3ff;
  if (low >>> 10 !== 0 || intid % 32 !== 0) return ERRNO.EINVAL;
  if (isWrite) vgicWriteIrqLineLevelInfo(vcpu, intid, low32(attr.value));
  else attr.value = BigInt(vgicReadIrqLineLevelInfo(vcpu, intid));
  return 0;
}

/** A read or write of one register, with every vCPU stopped and the config lock held. */
function registerAccess(vcpu: Vcpu, attr: KvmDeviceAttr, isWrite: boolean): number {
  const offset = low32(attr.attr);
  const value = low32(attr.value);
  if (attr.group === VGIC_GRP.LEVEL_INFO) return lineLevelInfo(vcpu, attr, isWrite);
  if (attr.group === VGIC_GRP.CPU_SYSREGS) {
    const key = offset & 0xffff;
    if (isWrite) return vgicV3CpuSysregsSet(vcpu, key, value);
    const got = vgicV3CpuSysregsGet(vcpu, key);
    if (got >= 0) attr.value = BigInt(got);
    return Math.min(got, 0);
  }
  const dist = attr.group === VGIC_GRP.DIST_REGS;
  if (isWrite) {
    return (dist ? vgicV3DistUaccessWrite : vgicV3RedistUaccessWrite)(vcpu, offset, value);
  }
  attr.value = BigInt((dist ? vgicV3DistUaccessRead : vgicV3RedistUaccessRead)(vcpu, offset));
  return 0;
}

function withAllVcpusLocked(kvm: Kvm, body: () => number): number {
  const at = kvm.state.base + KvmLayout.offset.lock;
  kvm.host.locks.take("kvm", at);
  try {
    if (!lockAllVcpus(kvm)) return ERRNO.EBUSY;
    const ret = withConfigLock(kvm, body);
    unlockAllVcpus(kvm);
    return ret;
  } finally {
    kvm.host.locks.drop("kvm", at);
  }
}

/** vgic_v3_attr_regs_access: -EINVAL for a vCPU there is not, -EBUSY while one runs or before vgicInit. */
function attrRegsAccess(kvm: Kvm, attr: KvmDeviceAttr, isWrite: boolean): number {
  const vcpu = attrVcpu(kvm, attr);
  if (!vcpu) return ERRNO.EINVAL;
  return withAllVcpusLocked(
    kvm,
    () => vgicInitialized(kvm) ? registerAccess(vcpu, attr, isWrite) : ERRNO.EBUSY,
  );
}

const REGISTER_GROUPS: readonly number[] = [
  VGIC_GRP.DIST_REGS,
  VGIC_GRP.REDIST_REGS,
  VGIC_GRP.CPU_SYSREGS,
  VGIC_GRP.LEVEL_INFO,
];

/** vgic_set_common_attr. */
function vgicSetCommonAttr(kvm: Kvm, attr: KvmDeviceAttr): number {
  if (attr.group === VGIC_GRP.ADDR) return setAddr(kvm, attr);
  if (attr.group === VGIC_GRP.NR_IRQS) return setNrIrqs(kvm, attr.value);
  if (attr.group === VGIC_GRP.CTRL && attr.attr === BigInt(VGIC_CTRL_INIT)) {
    return withConfigLock(kvm, () => vgicInit(kvm));
  }
  return ERRNO.ENXIO;
}

/** KVM_SET_DEVICE_ATTR: 0 or a negative error number (-ENXIO: no such attribute). */
export function vgicV3SetAttr(kvm: Kvm, attr: KvmDeviceAttr): number {
  if (REGISTER_GROUPS.includes(attr.group)) return attrRegsAccess(kvm, attr, true);
  return vgicSetCommonAttr(kvm, attr);
}

/** vgic_get_common_attr. */
function vgicGetCommonAttr(kvm: Kvm, attr: KvmDeviceAttr): number {
  if (attr.group === VGIC_GRP.ADDR) return getAddr(kvm, attr);
  if (attr.group !== VGIC_GRP.NR_IRQS) return ERRNO.ENXIO;
  attr.value = BigInt(kvm.vgic.nrSpis + VGIC_NR_PRIVATE_IRQS);
  return 0;
}

/** KVM_GET_DEVICE_ATTR: puts the value into `attr.value`; 0 or a negative error number. */
export function vgicV3GetAttr(kvm: Kvm, attr: KvmDeviceAttr): number {
  if (REGISTER_GROUPS.includes(attr.group)) return attrRegsAccess(kvm, attr, false);
  return vgicGetCommonAttr(kvm, attr);
}

/** vgic_v3_has_attr_regs: whether the vCPU and the register exist. */
function hasAttrRegs(kvm: Kvm, attr: KvmDeviceAttr): number {
  if (!attrVcpu(kvm, attr)) return ERRNO.EINVAL;
  const offset = low32(attr.attr);
  if (attr.group === VGIC_GRP.CPU_SYSREGS) return vgicV3HasCpuSysregsAttr(offset & 0xffff);
  const registers = attr.group === VGIC_GRP.DIST_REGS
    ? VGIC_V3_DIST_REGISTERS
    : VGIC_V3_RD_REGISTERS;
  return vgicGetMmioRegion(kvm, registers, offset, 4) ? 0 : ERRNO.ENXIO;
}

/** KVM_HAS_DEVICE_ATTR: 0 or -ENXIO. */
export function vgicV3HasAttr(kvm: Kvm, attr: KvmDeviceAttr): number {
  const low = low32(attr.attr);
  switch (attr.group) {
    case VGIC_GRP.ADDR:
      return (Object.values(VGIC_V3_ADDR_TYPE) as number[]).includes(low) ? 0 : ERRNO.ENXIO;
    case VGIC_GRP.NR_IRQS:
      return 0;
    case VGIC_GRP.CTRL:
      return low === VGIC_CTRL_INIT ? 0 : ERRNO.ENXIO;
    case VGIC_GRP.LEVEL_INFO:
      return low >>> 10 === 0 ? 0 : ERRNO.ENXIO;
    default:
      return REGISTER_GROUPS.includes(attr.group) ? hasAttrRegs(kvm, attr) : ERRNO.ENXIO;
  }
}

// GICv2

/** vgic_v2_parse_attr: the vCPU, by its id in bits 39 to 32. */
function v2AttrVcpu(kvm: Kvm, attr: KvmDeviceAttr): Vcpu | undefined {
  const id = Number((attr.attr >> 32n) & 0xffn);
  return kvm.vcpus.find((vcpu) => vcpu.state.vcpuId === id);
}

/** vgic_v2_attr_regs_access: as {@link attrRegsAccess}, but what is not initialised is now. */
function v2AttrRegsAccess(kvm: Kvm, attr: KvmDeviceAttr, isWrite: boolean): number {
  const vcpu = v2AttrVcpu(kvm, attr);
  if (!vcpu) return ERRNO.EINVAL;
  const offset = low32(attr.attr);
  const dist = attr.group === VGIC_GRP.DIST_REGS;
  return withAllVcpusLocked(kvm, () => {
    const ret = vgicInit(kvm);
    if (ret) return ret;
    if (isWrite) {
      const write = dist ? vgicV2DistUaccessWrite : vgicV2CpuifUaccessWrite;
      return write(vcpu, offset, low32(attr.value));
    }
    attr.value = BigInt((dist ? vgicV2DistUaccessRead : vgicV2CpuifUaccessRead)(vcpu, offset));
    return 0;
  });
}

const V2_REGISTER_GROUPS: readonly number[] = [VGIC_GRP.DIST_REGS, VGIC_GRP.CPU_REGS];

/** KVM_SET_DEVICE_ATTR of a GICv2. */
function vgicV2SetAttr(kvm: Kvm, attr: KvmDeviceAttr): number {
  if (V2_REGISTER_GROUPS.includes(attr.group)) return v2AttrRegsAccess(kvm, attr, true);
  return vgicSetCommonAttr(kvm, attr);
}

/** KVM_GET_DEVICE_ATTR of a GICv2. */
function vgicV2GetAttr(kvm: Kvm, attr: KvmDeviceAttr): number {
  if (V2_REGISTER_GROUPS.includes(attr.group)) return v2AttrRegsAccess(kvm, attr, false);
  return vgicGetCommonAttr(kvm, attr);
}

/** vgic_v2_has_attr_regs. */
function v2HasAttrRegs(kvm: Kvm, attr: KvmDeviceAttr): number {
  if (!v2AttrVcpu(kvm, attr)) return ERRNO.EINVAL;
  const offset = low32(attr.attr);
  if (offset & 3) return ERRNO.ENXIO;
  const dist = attr.group === VGIC_GRP.DIST_REGS;
  const registers = dist ? VGIC_V2_DIST_REGISTERS : VGIC_V2_CPU_REGISTERS;
  return vgicGetMmioRegion(kvm, registers, offset, 4) ? 0 : ERRNO.ENXIO;
}

/** KVM_HAS_DEVICE_ATTR of a GICv2: 0 or -ENXIO. */
function vgicV2HasAttr(kvm: Kvm, attr: KvmDeviceAttr): number {
  const low = low32(attr.attr);
  switch (attr.group) {
    case VGIC_GRP.ADDR:
      return (Object.values(VGIC_V2_ADDR_TYPE) as number[]).includes(low) ? 0 : ERRNO.ENXIO;
    case VGIC_GRP.NR_IRQS:
      return 0;
    case VGIC_GRP.CTRL:
      return low === VGIC_CTRL_INIT ? 0 : ERRNO.ENXIO;
    default:
      return V2_REGISTER_GROUPS.includes(attr.group) ? v2HasAttrRegs(kvm, attr) : ERRNO.ENXIO;
  }
}

/** struct kvm_device_ops. `create` is kvmVgicCreate. */
export interface KvmDeviceOps {
  readonly name: string;
  setAttr(kvm: Kvm, attr: KvmDeviceAttr): number;
  getAttr(kvm: Kvm, attr: KvmDeviceAttr): number;
  hasAttr(kvm: Kvm, attr: KvmDeviceAttr): number;
}

const KVM_ARM_VGIC_V2_OPS: KvmDeviceOps = {
  name: "kvm-arm-vgic-v2",
  setAttr: vgicV2SetAttr,
  getAttr: vgicV2GetAttr,
  hasAttr: vgicV2HasAttr,
};

export const KVM_ARM_VGIC_V3_OPS: KvmDeviceOps = {
  name: "kvm-arm-vgic-v3",
  setAttr: vgicV3SetAttr,
  getAttr: vgicV3GetAttr,
  hasAttr: vgicV3HasAttr,
};

/** The operations of the VM's interrupt controller. */
function opsOf(kvm: Kvm): KvmDeviceOps {
  return kvm.vgic.vgicModel === VGIC_MODEL_V2 ? KVM_ARM_VGIC_V2_OPS : KVM_ARM_VGIC_V3_OPS;
}

/** The system calls on the file of the VM's interrupt controller. */
export const vgicSetAttr = (kvm: Kvm, attr: KvmDeviceAttr): number => opsOf(kvm).setAttr(kvm, attr);
export const vgicGetAttr = (kvm: Kvm, attr: KvmDeviceAttr): number => opsOf(kvm).getAttr(kvm, attr);
export const vgicHasAttr = (kvm: Kvm, attr: KvmDeviceAttr): number => opsOf(kvm).hasAttr(kvm, attr);
