/**
 * The MMIO bus of a VM: in-kernel devices by guest physical address. Mirrors kvm_io_bus_* of
 * virt/kvm/kvm_main.c and include/kvm/iodev.h.
 *
 * What differs: a handler may answer {@link WAIT} when it needs a suspension point first (all vCPUs
 * out of the guest); the caller's thread then waits and makes the whole access again. The list of
 * devices is a view: whoever owns a device can register it again from the state in memory.
 */
import { EEXIST, ENOENT } from "./errno.ts";
import type { Kvm, Vcpu } from "./kvm_host.ts";

/** Nothing was done: wait for the halted vCPUs, then make the same access again. */
export const WAIT: unique symbol = Symbol("wait");
export type Wait = typeof WAIT;

/** A device on the bus. Values are little-endian numbers of `len` (1, 2, 4 or 8) bytes. */
export interface KvmIoDevice {
  /** The value at `offset` from the device's base: a number from 0 to 2^53 - 1. */
  read(vcpu: Vcpu, offset: number, len: number): number | Wait;
  /** Writes the value whose bits 31 to 0 are `lo` and bits 63 to 32 `hi` (0 unless `len` is 8). */
  write(vcpu: Vcpu, offset: number, len: number, lo: number, hi: number): void | Wait;
}

/** A device with the range of guest physical addresses that it answers at. */
export interface KvmIoRange {
  readonly base: number;
  readonly size: number;
  readonly device: KvmIoDevice;
}

const BUSES = new WeakMap<Kvm, KvmIoRange[]>();

/** The ranges of a VM's bus, lowest address first. */
export function kvmIoBusRanges(kvm: Kvm): readonly KvmIoRange[] {
  return BUSES.get(kvm) ?? [];
}

/** Puts a device on the VM's bus; -EEXIST when another one answers within the range. */
export function kvmIoBusRegister(
  kvm: Kvm,
  base: number,
  size: number,
  device: KvmIoDevice,
): number {
  const ranges = kvmIoBusRanges(kvm);
  if (ranges.some((r) => base < r.base + r.size && r.base < base + size)) return -EEXIST;
  BUSES.set(kvm, [...ranges, { base, size, device }].sort((a, b) => a.base - b.base));
  return 0;
}

/** Takes the device at `base` off the bus; -ENOENT when there is none. */
export function kvmIoBusUnregister(kvm: Kvm, base: number): number {
  const ranges = kvmIoBusRanges(kvm);
  const left = ranges.filter((r) => r.base !== base);
  BUSES.set(kvm, left);
  return left.length === ranges.length ? -ENOENT : 0;
}

/** The range that holds all `len` bytes at `ipa`, or undefined: the access goes to user space. */
export function kvmIoBusFind(kvm: Kvm, ipa: number, len: number): KvmIoRange | undefined {
  for (const range of kvmIoBusRanges(kvm)) {
    if (ipa >= range.base && ipa + len <= range.base + range.size) return range;
  }
  return undefined;
}
