/**
 * Handlers of the registers with a field per interrupt. Mirrors arch/arm64/kvm/vgic/vgic-mmio.c; its
 * dispatch is in vgic_mmio_regions.ts.
 *
 * What differs: no interrupt is a GICv4.1 SGI. Guest accesses to active registers answer WAIT until
 * every vCPU is out of the guest; the config lock is not kept over that wait.
 */
import {
  type Kvm,
  KvmLayout,
  type Vcpu,
  VGIC_NR_PRIVATE_IRQS,
  type VgicIrq,
  WAIT,
  type Wait,
} from "../kvm_host.ts";
import { vgicQueueIrqUnlock } from "./vgic.ts";
import {
  dropIrqRestore,
  irqIsPending,
  noteRaised,
  noteRaiseTime,
  takeIrqSave,
  VGIC_CONFIG_EDGE,
  VGIC_CONFIG_LEVEL,
  VGIC_MODEL_V2,
  VGIC_MODEL_V3,
  VGIC_NR_SGIS,
  VGIC_PRI_BITS,
  vgicGetIrq,
  vgicGetPhysLineLevel,
  vgicIrqIsMappedLevel,
  vgicIrqIsSgi,
  vgicIrqSetPhysActive,
  vgicIrqSetPhysPending,
  vgicPutIrq,
} from "./vgic_irq.ts";
import {
  type Handlers,
  type RegionRead,
  type RegionWrite,
  type Uaccess,
  type UaccessRead,
  type UaccessWrite,
  vgicAddrToIntid,
} from "./vgic_mmio_regions.ts";

export * from "./vgic_mmio_regions.ts";

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
const vgicMmioReadEnable = (vcpu: Vcpu, offset: number, len: number): number =>
  readBits(vcpu, offset, len, (irq) => irq.enabled);

/** The device may have moved its line while nobody listened: asks it again. Requires the irq lock. */
function resampleMapped(vcpu: Vcpu, irq: VgicIrq): void {
  const host = vcpu.kvm.host;
  const wasHigh = irq.lineLevel;
  irq.lineLevel = vgicGetPhysLineLevel(host, irq);
  if (!irq.active && wasHigh && !irq.lineLevel) vgicIrqSetPhysActive(host, irq, false);
}

const vgicMmioWriteSenable: RegionWrite = (vcpu, offset, _len, lo) => {
  forEachSet(vcpu, vgicAddrToIntid(offset, 1), lo, (irq) =>
    lockedThenQueue(vcpu, irq, () => {
      if (vgicIrqIsMappedLevel(irq)) resampleMapped(vcpu, irq);
      irq.enabled = true;
    }));
};

const vgicMmioWriteCenable: RegionWrite = (vcpu, offset, _len, lo) => {
  forEachSet(vcpu, vgicAddrToIntid(offset, 1), lo, (irq) =>
    locked(vcpu, irq, () => {
      irq.enabled = false;
    }));
};

const vgicUaccessWriteSenable: UaccessWrite = (vcpu, offset, _len, value) => {
  forEachSet(vcpu, vgicAddrToIntid(offset, 1), value, (irq) =>
    lockedThenQueue(vcpu, irq, () => {
      irq.enabled = true;
    }));
  return 0;
};

const vgicUaccessWriteCenable: UaccessWrite = (vcpu, offset, len, value) => {
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

/** Of a GICv3 user space saves latch and line apart, and this is the latch. */
export const vgicUaccessReadPending: UaccessRead = (vcpu, offset, len) => {
  const latchOnly = vcpu.kvm.vgic.vgicModel === VGIC_MODEL_V3;
  const test = (irq: VgicIrq): boolean => latchOnly ? irq.pendingLatch : irqIsPending(irq);
  return readBits(vcpu, offset, len, (irq) => locked(vcpu, irq, () => test(irq)));
};

/** Whose pending state is who has sent it: GICD_ISPENDR0 and ICPENDR0 ignore writes of them. */
function isVgicV2Sgi(vcpu: Vcpu, irq: VgicIrq): boolean {
  return vgicIrqIsSgi(irq.intid) && vcpu.kvm.vgic.vgicModel === VGIC_MODEL_V2;
}

export const vgicMmioWriteSpending: RegionWrite = (vcpu, offset, _len, lo) => {
  forEachSet(vcpu, vgicAddrToIntid(offset, 1), lo, (irq) => {
    if (isVgicV2Sgi(vcpu, irq)) return;
    lockedThenQueue(vcpu, irq, () => {
      const wasPending = irqIsPending(irq);
      irq.pendingLatch = true;
      noteRaised(vcpu.kvm, irq, wasPending);
      if (irq.hw) vgicIrqSetPhysActive(vcpu.kvm.host, irq, true);
    });
  });
};

/** The sender of a GICv2's SGI cannot be restored by this: the vCPU itself is taken. */
export const vgicUaccessWriteSpending: UaccessWrite = (vcpu, offset, _len, value) => {
  forEachSet(vcpu, vgicAddrToIntid(offset, 1), value, (irq) =>
    lockedThenQueue(vcpu, irq, () => {
      noteRaiseTime(vcpu.kvm, irq, irqIsPending(irq));
      irq.pendingLatch = true;
      if (isVgicV2Sgi(vcpu, irq)) irq.source |= 1 << vcpu.state.vcpuId;
    }));
  return 0;
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
  forEachSet(vcpu, vgicAddrToIntid(offset, 1), lo, (irq) => {
    if (isVgicV2Sgi(vcpu, irq)) return;
    locked(vcpu, irq, () => {
      irq.pendingLatch = false;
      if (irq.hw) hwIrqCpending(vcpu, irq);
    });
  });
};

/** Of a GICv2's SGI all senders go. */
export const vgicUaccessWriteCpending: UaccessWrite = (vcpu, offset, _len, value) => {
  forEachSet(vcpu, vgicAddrToIntid(offset, 1), value, (irq) =>
    locked(vcpu, irq, () => {
      if (isVgicV2Sgi(vcpu, irq)) irq.source = 0;
      irq.pendingLatch = false;
    }));
  return 0;
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
 * the next fold, and interrupts may migrate, so all vCPUs have to be out, not only the target. A GICv2's
 * private interrupts only their own vCPU can reach, which is out already.
 */
function withHaltedGuest<T>(vcpu: Vcpu, offset: number, body: () => T): T | Wait {
  const { kvm } = vcpu;
  const isPrivate = vgicAddrToIntid(offset, 1) < VGIC_NR_PRIVATE_IRQS;
  if (kvm.vgic.vgicModel === VGIC_MODEL_V2 && isPrivate) return withConfigLock(kvm, body);
  return withConfigLock(kvm, () => {
    if (!kvm.host.kvmArmHaltGuest(kvm)) return WAIT;
    const result = body();
    kvm.host.kvmArmResumeGuest(kvm);
    return result;
  });
}

/** ISACTIVER and ICACTIVER: the virtual state, of HW-mapped interrupts too. */
const vgicUaccessReadActive: UaccessRead = (vcpu, offset, len) =>
  readBits(vcpu, offset, len, (irq) => irq.active);

const vgicMmioReadActive: RegionRead = (vcpu, offset, len) =>
  withHaltedGuest(vcpu, offset, () => vgicUaccessReadActive(vcpu, offset, len));

function vgicMmioChangeActive(vcpu: Vcpu, irq: VgicIrq, active: boolean): void {
  const host = vcpu.kvm.host;
  const flags = takeIrqSave(host, irq);
  if (!irq.hw) {
    irq.active = active;
    // A GICv2 wants the sender back at the end of an SGI, and nobody can say who it was.
    if (active && isVgicV2Sgi(vcpu, irq)) irq.activeSource = host.runningVcpu()?.state.vcpuId ?? 0;
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

const vgicMmioWriteCactive: RegionWrite = (vcpu, offset, _len, lo) =>
  withHaltedGuest(vcpu, offset, () => changeActive(vcpu, offset, lo, false));

const vgicMmioWriteSactive: RegionWrite = (vcpu, offset, _len, lo) =>
  withHaltedGuest(vcpu, offset, () => changeActive(vcpu, offset, lo, true));

const vgicMmioUaccessWriteCactive: UaccessWrite = (vcpu, offset, _len, value) => {
  changeActive(vcpu, offset, value, false);
  return 0;
};

const vgicMmioUaccessWriteSactive: UaccessWrite = (vcpu, offset, _len, value) => {
  changeActive(vcpu, offset, value, true);
  return 0;
};

/** IPRIORITYR: a byte per interrupt. */
const vgicMmioReadPriority = (vcpu: Vcpu, offset: number, len: number): number => {
  let value = 0;
  for (let i = 0; i < len; i++) {
    const irq = vgicGetIrq(vcpu.kvm, vcpu, vgicAddrToIntid(offset, 8) + i);
    if (irq) value |= irq.priority << (8 * i);
  }
  return value >>> 0;
};

/** A change is not seen by an interrupt that is already in a list register. */
const vgicMmioWritePriority: RegionWrite = (vcpu, offset, len, lo) => {
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
const vgicMmioReadConfig = (vcpu: Vcpu, offset: number, len: number): number => {
  let value = 0;
  for (let i = 0; i < len * 4; i++) {
    const irq = vgicGetIrq(vcpu.kvm, vcpu, vgicAddrToIntid(offset, 2) + i);
    if (irq?.config === VGIC_CONFIG_EDGE) value |= 2 << (2 * i);
  }
  return value >>> 0;
};

/** Private interrupts are fixed: SGIs edge, PPIs level (the timers rely on it). */
const vgicMmioWriteConfig: RegionWrite = (vcpu, offset, len, lo) => {
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

const SET_ENABLE: Uaccess = [undefined, vgicUaccessWriteSenable];
const CLEAR_ENABLE: Uaccess = [undefined, vgicUaccessWriteCenable];
const SET_ACTIVE: Uaccess = [vgicUaccessReadActive, vgicMmioUaccessWriteSactive];
const CLEAR_ACTIVE: Uaccess = [vgicUaccessReadActive, vgicMmioUaccessWriteCactive];

/** The handlers of registers that are the same in a GICv2 and a GICv3. */
export const ISENABLER: Handlers = [vgicMmioReadEnable, vgicMmioWriteSenable, SET_ENABLE];
export const ICENABLER: Handlers = [vgicMmioReadEnable, vgicMmioWriteCenable, CLEAR_ENABLE];
export const ISACTIVER: Handlers = [vgicMmioReadActive, vgicMmioWriteSactive, SET_ACTIVE];
export const ICACTIVER: Handlers = [vgicMmioReadActive, vgicMmioWriteCactive, CLEAR_ACTIVE];
export const PRIORITY: Handlers = [vgicMmioReadPriority, vgicMmioWritePriority];
export const CONFIG: Handlers = [vgicMmioReadConfig, vgicMmioWriteConfig];
