/**
 * Handlers of the registers with a field per interrupt, and the dispatch of an access to its region.
 * Mirrors arch/arm64/kvm/vgic/vgic-mmio.c and vgic-mmio.h.
 *
 * What differs: GICv3 only, so SGIs have no source bits and no interrupt is a GICv4.1 SGI. Values are
 * numbers in the guest's little-endian view (the MMIO exit code has already turned a big-endian
 * guest's around), a written 64-bit one in two halves. Guest accesses to active registers answer WAIT
 * until every vCPU is out of the guest; the config lock is not kept over that wait.
 */
import {
  type Kvm,
  type KvmIoDeviceOps,
  KvmLayout,
  type Vcpu,
  VGIC_NR_PRIVATE_IRQS,
  type VgicIrq,
  WAIT,
  type Wait,
} from "../kvm_host.ts";
import { TWO32 } from "../../base/bits.ts";
import { vgicQueueIrqUnlock } from "./vgic.ts";
import {
  dropIrqRestore,
  irqIsPending,
  noteRaised,
  noteRaiseTime,
  takeIrqSave,
  VGIC_CONFIG_EDGE,
  VGIC_CONFIG_LEVEL,
  VGIC_NR_SGIS,
  VGIC_PRI_BITS,
  vgicGetIrq,
  vgicGetPhysLineLevel,
  vgicIrqIsMappedLevel,
  vgicIrqSetPhysActive,
  vgicIrqSetPhysPending,
  vgicPutIrq,
} from "./vgic_irq.ts";

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

/** Calls `body` for each existing interrupt from `intid` on whose bit in `mask` is set. */
function forEachSet(
  vcpu: Vcpu,
  intid: number,
  mask: number,
  body: (irq: VgicIrq, bit: number) => void,
): void {
  for (let bit = 0; bit < 32; bit++) {
    if (((mask >>> bit) & 1) === 0) continue;
    const irq = vgicGetIrq(vcpu.kvm, vcpu, intid + bit);
    if (!irq) continue;
    body(irq, bit);
    vgicPutIrq(vcpu.kvm, irq);
  }
}

/** All bits of an access of `len` (1 to 4) bytes. */
const allBits = (len: number): number => len >= 4 ? 0xffff_ffff : (1 << (8 * len)) - 1;

/** One bit per interrupt, from `test`. */
function readBits(
  vcpu: Vcpu,
  offset: number,
  len: number,
  test: (irq: VgicIrq) => boolean,
): number {
  let value = 0;
  forEachSet(vcpu, vgicAddrToIntid(offset, 1), allBits(len), (irq, bit) => {
    if (test(irq)) value |= 1 << bit;
  });
  return value >>> 0;
}

/** Runs `change` with the irq lock held. */
function locked<T>(vcpu: Vcpu, irq: VgicIrq, change: () => T): T {
  const flags = takeIrqSave(vcpu.kvm.host, irq);
  const result = change();
  dropIrqRestore(vcpu.kvm.host, irq, flags);
  return result;
}

/** Runs `change` with the irq lock held, then queues the interrupt if it has become due. */
function lockedThenQueue(vcpu: Vcpu, irq: VgicIrq, change: () => void): void {
  const flags = takeIrqSave(vcpu.kvm.host, irq);
  change();
  vgicQueueIrqUnlock(vcpu.kvm, irq, flags);
}

/** IGROUPR. */
export const vgicMmioReadGroup = (vcpu: Vcpu, offset: number, len: number): number =>
  readBits(vcpu, offset, len, (irq) => irq.group !== 0);

export const vgicMmioWriteGroup: RegionWrite = (vcpu, offset, len, lo) => {
  forEachSet(
    vcpu,
    vgicAddrToIntid(offset, 1),
    allBits(len),
    (irq, bit) =>
      lockedThenQueue(vcpu, irq, () => {
        irq.group = (lo >>> bit) & 1;
      }),
  );
};

/** ISENABLER and ICENABLER read the same. */
export const vgicMmioReadEnable = (vcpu: Vcpu, offset: number, len: number): number =>
  readBits(vcpu, offset, len, (irq) => irq.enabled);

/** The device may have moved its line while nobody listened: asks it again. Requires the irq lock. */
function resampleMapped(vcpu: Vcpu, irq: VgicIrq): void {
  const host = vcpu.kvm.host;
  const wasHigh = irq.lineLevel;
  irq.lineLevel = vgicGetPhysLineLevel(host, irq);
  if (!irq.active && wasHigh && !irq.lineLevel) vgicIrqSetPhysActive(host, irq, false);
}

export const vgicMmioWriteSenable: RegionWrite = (vcpu, offset, _len, lo) => {
  forEachSet(vcpu, vgicAddrToIntid(offset, 1), lo, (irq) =>
    lockedThenQueue(vcpu, irq, () => {
      if (vgicIrqIsMappedLevel(irq)) resampleMapped(vcpu, irq);
      irq.enabled = true;
    }));
};

export const vgicMmioWriteCenable: RegionWrite = (vcpu, offset, _len, lo) => {
  forEachSet(vcpu, vgicAddrToIntid(offset, 1), lo, (irq) =>
    locked(vcpu, irq, () => {
      irq.enabled = false;
    }));
};

export const vgicUaccessWriteSenable: UaccessWrite = (vcpu, offset, _len, value) => {
  forEachSet(vcpu, vgicAddrToIntid(offset, 1), value, (irq) =>
    lockedThenQueue(vcpu, irq, () => {
      irq.enabled = true;
    }));
  return 0;
};

export const vgicUaccessWriteCenable: UaccessWrite = (vcpu, offset, len, value) => {
  vgicMmioWriteCenable(vcpu, offset, len, value, 0);
  return 0;
};

/** ISPENDR and ICPENDR of the guest: latch or line; of a mapped level interrupt the device's line. */
export const vgicMmioReadPending = (vcpu: Vcpu, offset: number, len: number): number =>
  readBits(vcpu, offset, len, (irq) =>
    locked(
      vcpu,
      irq,
      () =>
        vgicIrqIsMappedLevel(irq) ? vgicGetPhysLineLevel(vcpu.kvm.host, irq) : irqIsPending(irq),
    ));

/** User space saves latch and line apart: this is the latch. */
export const vgicUaccessReadPending: UaccessRead = (vcpu, offset, len) =>
  readBits(vcpu, offset, len, (irq) => locked(vcpu, irq, () => irq.pendingLatch));

export const vgicMmioWriteSpending: RegionWrite = (vcpu, offset, _len, lo) => {
  forEachSet(vcpu, vgicAddrToIntid(offset, 1), lo, (irq) =>
    lockedThenQueue(vcpu, irq, () => {
      const wasPending = irqIsPending(irq);
      irq.pendingLatch = true;
      noteRaised(vcpu.kvm, irq, wasPending);
      if (irq.hw) vgicIrqSetPhysActive(vcpu.kvm.host, irq, true);
    }));
};

/**
 * A guest must not mask the physical interrupt by setting and clearing pending: the physical active
 * state goes too, unless the guest has it active. Requires the irq lock.
 */
function hwIrqCpending(vcpu: Vcpu, irq: VgicIrq): void {
  vgicIrqSetPhysPending(vcpu.kvm.host, irq, false);
  if (!irq.active) vgicIrqSetPhysActive(vcpu.kvm.host, irq, false);
}

export const vgicMmioWriteCpending: RegionWrite = (vcpu, offset, _len, lo) => {
  forEachSet(vcpu, vgicAddrToIntid(offset, 1), lo, (irq) =>
    locked(vcpu, irq, () => {
      irq.pendingLatch = false;
      if (irq.hw) hwIrqCpending(vcpu, irq);
    }));
};

/** Restores the latch of every interrupt of the word, set or clear. */
export const vgicV3UaccessWritePending: UaccessWrite = (vcpu, offset, len, value) => {
  forEachSet(vcpu, vgicAddrToIntid(offset, 1), allBits(len), (irq, bit) => {
    const set = ((value >>> bit) & 1) !== 0;
    const change = (): void => {
      if (set) noteRaiseTime(vcpu.kvm, irq, irqIsPending(irq));
      irq.pendingLatch = set;
    };
    if (set) lockedThenQueue(vcpu, irq, change);
    else locked(vcpu, irq, change);
  });
  return 0;
};

function takeConfig(kvm: Kvm): void {
  kvm.host.locks.take("config", kvm.state.base + KvmLayout.offset.configLock);
}

function dropConfig(kvm: Kvm): void {
  kvm.host.locks.drop("config", kvm.state.base + KvmLayout.offset.configLock);
}

/** Runs `body` with the VM's config lock held. */
export function withConfigLock<T>(kvm: Kvm, body: () => T): T {
  takeConfig(kvm);
  try {
    return body();
  } finally {
    dropConfig(kvm);
  }
}

/**
 * Runs `body` while no vCPU is in the guest: an active bit in a list register would be overwritten by
 * the next fold, and interrupts may migrate, so all vCPUs have to be out, not only the target.
 */
function withHaltedGuest<T>(vcpu: Vcpu, body: () => T): T | Wait {
  const { kvm } = vcpu;
  return withConfigLock(kvm, () => {
    if (!kvm.host.kvmArmHaltGuest(kvm)) return WAIT;
    const result = body();
    kvm.host.kvmArmResumeGuest(kvm);
    return result;
  });
}

/** ISACTIVER and ICACTIVER: the virtual state, of HW-mapped interrupts too. */
export const vgicUaccessReadActive: UaccessRead = (vcpu, offset, len) =>
  readBits(vcpu, offset, len, (irq) => irq.active);

export const vgicMmioReadActive: RegionRead = (vcpu, offset, len) =>
  withHaltedGuest(vcpu, () => vgicUaccessReadActive(vcpu, offset, len));

function vgicMmioChangeActive(vcpu: Vcpu, irq: VgicIrq, active: boolean): void {
  const host = vcpu.kvm.host;
  const flags = takeIrqSave(host, irq);
  if (!irq.hw) {
    irq.active = active;
  } else if (host.runningVcpu()) {
    irq.active = active;
    vgicIrqSetPhysActive(host, irq, active);
  }
  if (irq.active) vgicQueueIrqUnlock(vcpu.kvm, irq, flags);
  else dropIrqRestore(host, irq, flags);
}

function changeActive(vcpu: Vcpu, offset: number, mask: number, active: boolean): void {
  const intid = vgicAddrToIntid(offset, 1);
  forEachSet(vcpu, intid, mask, (irq) => vgicMmioChangeActive(vcpu, irq, active));
}

export const vgicMmioWriteCactive: RegionWrite = (vcpu, offset, _len, lo) =>
  withHaltedGuest(vcpu, () => changeActive(vcpu, offset, lo, false));

export const vgicMmioWriteSactive: RegionWrite = (vcpu, offset, _len, lo) =>
  withHaltedGuest(vcpu, () => changeActive(vcpu, offset, lo, true));

export const vgicMmioUaccessWriteCactive: UaccessWrite = (vcpu, offset, _len, value) => {
  changeActive(vcpu, offset, value, false);
  return 0;
};

export const vgicMmioUaccessWriteSactive: UaccessWrite = (vcpu, offset, _len, value) => {
  changeActive(vcpu, offset, value, true);
  return 0;
};

/** IPRIORITYR: a byte per interrupt. */
export const vgicMmioReadPriority = (vcpu: Vcpu, offset: number, len: number): number => {
  let value = 0;
  for (let i = 0; i < len; i++) {
    const irq = vgicGetIrq(vcpu.kvm, vcpu, vgicAddrToIntid(offset, 8) + i);
    if (irq) value |= irq.priority << (8 * i);
  }
  return value >>> 0;
};

/** A change is not seen by an interrupt that is already in a list register. */
export const vgicMmioWritePriority: RegionWrite = (vcpu, offset, len, lo) => {
  const kept = (0xff << (8 - VGIC_PRI_BITS)) & 0xff;
  for (let i = 0; i < len; i++) {
    const irq = vgicGetIrq(vcpu.kvm, vcpu, vgicAddrToIntid(offset, 8) + i);
    if (!irq) continue;
    locked(vcpu, irq, () => {
      irq.priority = (lo >>> (8 * i)) & kept;
    });
  }
};

/** ICFGR: two bits per interrupt, of which the upper one says edge. */
export const vgicMmioReadConfig = (vcpu: Vcpu, offset: number, len: number): number => {
  let value = 0;
  for (let i = 0; i < len * 4; i++) {
    const irq = vgicGetIrq(vcpu.kvm, vcpu, vgicAddrToIntid(offset, 2) + i);
    if (irq?.config === VGIC_CONFIG_EDGE) value |= 2 << (2 * i);
  }
  return value >>> 0;
};

/** Private interrupts are fixed: SGIs edge, PPIs level (the timers rely on it). */
export const vgicMmioWriteConfig: RegionWrite = (vcpu, offset, len, lo) => {
  for (let i = 0; i < len * 4; i++) {
    const intid = vgicAddrToIntid(offset, 2) + i;
    const irq = intid < VGIC_NR_PRIVATE_IRQS ? undefined : vgicGetIrq(vcpu.kvm, vcpu, intid);
    if (!irq) continue;
    locked(vcpu, irq, () => {
      irq.config = (lo >>> (2 * i + 1)) & 1 ? VGIC_CONFIG_EDGE : VGIC_CONFIG_LEVEL;
    });
  }
};

/** A word of line levels, bit 0 for `intid` (a multiple of 32); only level interrupts have one. */
export function vgicReadIrqLineLevelInfo(vcpu: Vcpu, intid: number): number {
  return readBits(
    vcpu,
    intid / 8,
    4,
    (irq) => irq.intid >= VGIC_NR_SGIS && irq.config === VGIC_CONFIG_LEVEL && irq.lineLevel,
  );
}

/** Restores a word of line levels, whatever the interrupts' configuration is by now. */
export function vgicWriteIrqLineLevelInfo(vcpu: Vcpu, intid: number, value: number): void {
  forEachSet(vcpu, intid, 0xffff_ffff, (irq, bit) => {
    if (irq.intid < VGIC_NR_SGIS) return;
    const level = ((value >>> bit) & 1) !== 0;
    const change = (): void => {
      if (level) noteRaiseTime(vcpu.kvm, irq, irqIsPending(irq));
      irq.lineLevel = level;
    };
    if (level) lockedThenQueue(vcpu, irq, change);
    else locked(vcpu, irq, change);
  });
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
        return region.write(redistVcpu ?? vcpu, offset, len, value % TWO32, value / TWO32 >>> 0);
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
