/** What user space and KVM share. Mirrors include/uapi/linux/kvm.h. */
import { bool, layout, u32, u53, u64, type ViewOf } from "../base/struct.ts";

/** KVM_EXIT_* (include/uapi/linux/kvm.h). */
export const KVM_EXIT = {
  UNKNOWN: 0,
  DEBUG: 4,
  MMIO: 6,
  FAIL_ENTRY: 9,
  INTR: 10,
  INTERNAL_ERROR: 17,
  SYSTEM_EVENT: 24,
  ARM_NISV: 28,
} as const;

/** KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE and KVM_DIRTY_LOG_INITIALLY_SET. */
export const KVM_DIRTY_LOG = { MANUAL_PROTECT: 1, INITIALLY_SET: 2 } as const;

/** KVM_SYSTEM_EVENT_*. */
export const KVM_SYSTEM_EVENT = { SHUTDOWN: 1, RESET: 2, CRASH: 3, WAKEUP: 4, SUSPEND: 5 } as const;
/** KVM_SYSTEM_EVENT_RESET_FLAG_PSCI_RESET2. */
export const KVM_SYSTEM_EVENT_RESET_FLAG_PSCI_RESET2 = 1;

/** KVM_MP_STATE_*. */
export const MP_STATE = { RUNNABLE: 0, STOPPED: 5, SUSPENDED: 10 } as const;

/** struct kvm_run: what user space sees of an exit. */
export const KvmRunLayout = layout("kvm_run", {
  exitReason: u32(),
  immediateExit: bool(),
  mmioPhysAddr: u53(),
  mmioData: u64(),
  mmioLen: u32(),
  mmioIsWrite: bool(),
  failEntryReason: u53(),
  debugHsr: u53(),
  debugFar: u64(),
  systemEventType: u32(),
  systemEventFlags: u53(),
  nisvEsrIss: u32(),
  nisvFaultIpa: u53(),
  internalSuberror: u32(),
  internalInfo: u53(),
});
export type KvmRun = ViewOf<typeof KvmRunLayout>;

const { mmioData: MMIO_DATA } = KvmRunLayout.offset;

/** Halves of `mmioData`, which has no bigint on its way between a device and a guest. */
export function mmioDataLo({ memory, base }: KvmRun): number {
  return memory.ld32(base + MMIO_DATA);
}
export function mmioDataHi({ memory, base }: KvmRun): number {
  return memory.ld32(base + MMIO_DATA + 4);
}
/** Sets `mmioData`, of which the low `length` bytes (1, 2, 4 or 8) count: the rest is 0. */
export function setMmioData({ memory, base }: KvmRun, lo: number, hi: number, length = 8): void {
  memory.st32(base + MMIO_DATA, length < 4 ? lo & ((1 << (8 * length)) - 1) : lo);
  memory.st32(base + MMIO_DATA + 4, length < 8 ? 0 : hi);
}
