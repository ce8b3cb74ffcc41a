/**
 * Registers of the virtual interrupt controller as regions, and the dispatch of an access to its region.
 * Mirrors arch/arm64/kvm/vgic/vgic-mmio.h and the dispatch in vgic-mmio.c.
 *
 * What differs: values are numbers in the guest's little-endian view (the MMIO exit code has already
 * turned a big-endian guest's around), a written 64-bit one in two halves.
 */
import { TWO32 } from "../../base/bits.ts";
import {
  type Kvm,
  type KvmIoDeviceOps,
  type Vcpu,
  VGIC_NR_PRIVATE_IRQS,
  WAIT,
  type Wait,
} from "../kvm_host.ts";

export const VGIC_ACCESS_8BIT = 1;
export const VGIC_ACCESS_32BIT = 2;
export const VGIC_ACCESS_64BIT = 4;

export type RegionRead = (vcpu: Vcpu, offset: number, len: number) => number | Wait;
export type RegionWrite = (
  vcpu: Vcpu,
  offset: number,
  len: number,
  lo: number,
  hi: number,
) => void | Wait;
/** A 32-bit access of user space; a write returns 0 or a negative error number. */
export type UaccessRead = (vcpu: Vcpu, offset: number, len: number) => number;
export type UaccessWrite = (vcpu: Vcpu, offset: number, len: number, value: number) => number;

/** struct vgic_register_region. */
export interface VgicRegisterRegion {
  readonly name: string;
  readonly regOffset: number;
  readonly len: number;
  /** 0 for a register that is not a field per interrupt. */
  readonly bitsPerIrq: number;
  /** VGIC_ACCESS_* that exist. */
  readonly accessFlags: number;
  readonly read: RegionRead;
  readonly write: RegionWrite;
  /** What user space sees or does, where that is something else. */
  readonly uaccessRead?: UaccessRead | undefined;
  readonly uaccessWrite?: UaccessWrite | undefined;
}

/** First interrupt of a byte offset into registers with `bits` bits per interrupt (VGIC_ADDR_TO_INTID). */
export function vgicAddrToIntid(offset: number, bits: number): number {
  return (offset & ((bits * 1024) / 8 - 1)) * 8 / bits;
}

export const vgicMmioReadRaz = (): number => 0;
export const vgicMmioReadRao: RegionRead = (_vcpu, _offset, len) => 2 ** (8 * len) - 1;
export const vgicMmioWriteWi = (): void => {};
export const vgicMmioUaccessWriteWi = (): number => 0;

/** What a table row says besides: what user space's accesses do. */
export type Uaccess = [read?: UaccessRead | undefined, write?: UaccessWrite | undefined];
/** A register's handlers. */
export type Handlers = readonly [RegionRead, RegionWrite, Uaccess?];

/** REGISTER_DESC_WITH_LENGTH: a register of `len` bytes that is not a field per interrupt, or one redistributor bank. */
export function withLength(
  name: string,
  regOffset: number,
  len: number,
  accessFlags: number,
  read: RegionRead,
  write: RegionWrite,
  [uaccessRead, uaccessWrite]: Uaccess = [],
): VgicRegisterRegion {
  const bitsPerIrq = 0;
  return { name, regOffset, len, bitsPerIrq, accessFlags, read, write, uaccessRead, uaccessWrite };
}

/** REGISTER_DESC_WITH_BITS_PER_IRQ: a register with `bits` bits for each of 1024 interrupts. */
export function perIrq(
  name: string,
  regOffset: number,
  bits: number,
  accessFlags: number,
  read: RegionRead,
  write: RegionWrite,
  uaccess: Uaccess = [],
): VgicRegisterRegion {
  const region = withLength(name, regOffset, (bits * 1024) / 8, accessFlags, read, write, uaccess);
  return { ...region, bitsPerIrq: bits };
}

/**
 * REGISTER_DESC_WITH_BITS_PER_IRQ_SHARED: the same where the private interrupts' share is in the
 * redistributors, so that here it reads as zero and ignores writes.
 */
export function perIrqShared(
  name: string,
  offset: number,
  bits: number,
  accessFlags: number,
  read: RegionRead,
  write: RegionWrite,
  uaccess: Uaccess = [],
): VgicRegisterRegion[] {
  const bank = (bits * VGIC_NR_PRIVATE_IRQS) / 8;
  const rest = (bits * 1024) / 8 - bank;
  return [
    withLength(name, offset, bank, accessFlags, vgicMmioReadRaz, vgicMmioWriteWi),
    withLength(name, offset + bank, rest, accessFlags, read, write, uaccess),
  ].map((region) => ({ ...region, bitsPerIrq: bits }));
}

/** The region that holds `offset`, by binary search: the table is sorted. */
export function vgicFindMmioRegion(
  regions: readonly VgicRegisterRegion[],
  offset: number,
): VgicRegisterRegion | undefined {
  let low = 0;
  let high = regions.length - 1;
  while (low <= high) {
    const middle = (low + high) >> 1;
    const region = regions[middle] as VgicRegisterRegion;
    if (offset < region.regOffset) high = middle - 1;
    else if (offset >= region.regOffset + region.len) low = middle + 1;
    else return region;
  }
  return undefined;
}

const ACCESS_FLAG: Readonly<Record<number, number>> = {
  1: VGIC_ACCESS_8BIT,
  4: VGIC_ACCESS_32BIT,
  8: VGIC_ACCESS_64BIT,
};

/** Whether the region takes an aligned access of this width and the interrupt exists. */
function checkRegion(kvm: Kvm, region: VgicRegisterRegion, offset: number, len: number): boolean {
  if (((ACCESS_FLAG[len] ?? 0) & region.accessFlags) === 0 || offset % len !== 0) return false;
  if (region.bitsPerIrq === 0) return true;
  return vgicAddrToIntid(offset, region.bitsPerIrq) < kvm.vgic.nrSpis + VGIC_NR_PRIVATE_IRQS;
}

/** The region that an access goes to; undefined: it reads as zero and a write is ignored. */
export function vgicGetMmioRegion(
  kvm: Kvm,
  regions: readonly VgicRegisterRegion[],
  offset: number,
  len: number,
): VgicRegisterRegion | undefined {
  const region = vgicFindMmioRegion(regions, offset);
  return region && checkRegion(kvm, region, offset, len) ? region : undefined;
}

/** A frame on the MMIO bus. `redistVcpu`: whose redistributor it is, whoever makes the access. */
export function vgicIoDevice(
  regions: readonly VgicRegisterRegion[],
  redistVcpu?: Vcpu,
): KvmIoDeviceOps {
  return {
    read: (vcpu, offset, len) => {
      const region = vgicGetMmioRegion(vcpu.kvm, regions, offset, len);
      return region ? region.read(redistVcpu ?? vcpu, offset, len) : 0;
    },
    write: (vcpu, offset, len, value) => {
      const region = vgicGetMmioRegion(vcpu.kvm, regions, offset, len);
      if (!region) return;
      if (typeof value === "number") {
        return region.write(redistVcpu ?? vcpu, offset, len, value >>> 0, value / TWO32 >>> 0);
      }
      const lo = Number(value & 0xffff_ffffn);
      return region.write(redistVcpu ?? vcpu, offset, len, lo, Number(value >> 32n));
    },
  };
}

/** A 32-bit read of user space: what is not there reads as zero. */
export function vgicUaccessRead(
  vcpu: Vcpu,
  regions: readonly VgicRegisterRegion[],
  offset: number,
): number {
  const region = vgicGetMmioRegion(vcpu.kvm, regions, offset, 4);
  if (!region) return 0;
  if (region.uaccessRead) return region.uaccessRead(vcpu, offset, 4);
  const value = region.read(vcpu, offset, 4);
  return value === WAIT ? 0 : value;
}

/** A 32-bit write of user space: 0 or a negative error number; what is not there is ignored. */
export function vgicUaccessWrite(
  vcpu: Vcpu,
  regions: readonly VgicRegisterRegion[],
  offset: number,
  value: number,
): number {
  const region = vgicGetMmioRegion(vcpu.kvm, regions, offset, 4);
  if (!region) return 0;
  if (region.uaccessWrite) return region.uaccessWrite(vcpu, offset, 4, value);
  region.write(vcpu, offset, 4, value, 0);
  return 0;
}
