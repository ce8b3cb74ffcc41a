/**
 * What user space asks of a VM and of a vCPU that does not run, apart from registers. Mirrors
 * kvm_vm_ioctl_check_extension, kvm_vm_ioctl_enable_cap and kvm_arch_vcpu_ioctl of
 * arch/arm64/kvm/arm.c, and the events and attributes of guest.c.
 */
import { HCR } from "../arm/arch/fields.ts";
import { R } from "../arm/arch/sysregs.ts";
import { vcpuResetHcr } from "./emulate.ts";
import { kvmInjectDabt, kvmInjectVabt } from "./inject_fault.ts";
import {
  type ArchTimerContext,
  ERRNO,
  irqchipInKernel,
  type Kvm,
  KVM_DIRTY_LOG,
  KVM_IPA_BITS,
  KVM_MAX_MEMSLOTS,
  KVM_MAX_VCPUS,
  KVM_REQ,
  kvmMakeRequest,
  MP_STATE,
  TIMER_PTIMER,
  TIMER_VTIMER,
  type Vcpu,
} from "./kvm_host.ts";
import { kvmArmVcpuPowerOff } from "./kvm_main.ts";
import { stage2UnmapVm } from "./mmu.ts";
import { kvmArmPmuV3GetAttr, kvmArmPmuV3HasAttr, kvmArmPmuV3SetAttr } from "./pmu_emul.ts";
import { KVM_ARM_VCPU_PVTIME_IPA, kvmArmPvtimeSetAttr } from "./pvtime.ts";

// Capabilities

/** KVM_CAP_* (include/uapi/linux/kvm.h). */
export const KVM_CAP = {
  IRQCHIP: 0,
  USER_MEMORY: 3,
  NR_VCPUS: 9,
  NR_MEMSLOTS: 10,
  MP_STATE: 14,
  SYNC_MMU: 16,
  SET_GUEST_DEBUG: 23,
  DESTROY_MEMORY_REGION_WORKS: 21,
  VCPU_EVENTS: 41,
  MAX_VCPUS: 66,
  ONE_REG: 70,
  READONLY_MEM: 81,
  ARM_PSCI: 87,
  DEVICE_CTRL: 89,
  ARM_EL1_32BIT: 93,
  ENABLE_CAP_VM: 98,
  ARM_PSCI_0_2: 102,
  CHECK_EXTENSION_VM: 105,
  GUEST_DEBUG_HW_BPS: 119,
  GUEST_DEBUG_HW_WPS: 120,
  ARM_PMU_V3: 126,
  VCPU_ATTRIBUTES: 127,
  MAX_VCPU_ID: 128,
  IMMEDIATE_EXIT: 136,
  ARM_INJECT_SERROR_ESR: 158,
  ARM_VM_IPA_SIZE: 165,
  MANUAL_DIRTY_LOG_PROTECT2: 168,
  ARM_SVE: 170,
  ARM_PTRAUTH_ADDRESS: 171,
  ARM_PTRAUTH_GENERIC: 172,
  ARM_IRQ_LINE_LAYOUT_2: 174,
  ARM_NISV_TO_USER: 177,
  ARM_INJECT_EXT_DABT: 178,
  STEAL_TIME: 187,
  PTP_KVM: 198,
  ARM_MTE: 205,
  ARM_SYSTEM_SUSPEND: 216,
} as const;

/** Known, and not there: AArch32, RAS, SVE, pointer authentication, memory tags. */
const ABSENT: readonly number[] = [
  KVM_CAP.ARM_EL1_32BIT,
  KVM_CAP.ARM_INJECT_SERROR_ESR,
  KVM_CAP.ARM_SVE,
  KVM_CAP.ARM_PTRAUTH_ADDRESS,
  KVM_CAP.ARM_PTRAUTH_GENERIC,
  KVM_CAP.ARM_MTE,
];
const PRESENT: ReadonlySet<number> = new Set(
  Object.values<number>(KVM_CAP).filter((cap) => !ABSENT.includes(cap)),
);

/** kvm_vm_ioctl_check_extension: 0 for what is not there. */
export function kvmVmIoctlCheckExtension({ host, state }: Kvm, cap: number): number {
  switch (cap) {
    case KVM_CAP.NR_VCPUS:
      return Math.min(host.pcpus, KVM_MAX_VCPUS);
    case KVM_CAP.MAX_VCPUS:
    case KVM_CAP.MAX_VCPU_ID:
      return state.maxVcpus;
    case KVM_CAP.NR_MEMSLOTS:
      return KVM_MAX_MEMSLOTS;
    case KVM_CAP.GUEST_DEBUG_HW_BPS:
      return ((host.port(0).readLo(R.ID_AA64DFR0_EL1) >>> 12) & 15) + 1;
    case KVM_CAP.GUEST_DEBUG_HW_WPS:
      return ((host.port(0).readLo(R.ID_AA64DFR0_EL1) >>> 20) & 15) + 1;
    case KVM_CAP.ARM_VM_IPA_SIZE:
      return KVM_IPA_BITS;
    case KVM_CAP.MANUAL_DIRTY_LOG_PROTECT2:
      return KVM_DIRTY_LOG.MANUAL_PROTECT | KVM_DIRTY_LOG.INITIALLY_SET;
    default:
      return PRESENT.has(cap) ? 1 : 0;
  }
}

/** INITIALLY_SET goes with MANUAL_PROTECT only. */
const DIRTY_LOG_ARGS: readonly number[] = [
  0,
  KVM_DIRTY_LOG.MANUAL_PROTECT,
  KVM_DIRTY_LOG.MANUAL_PROTECT | KVM_DIRTY_LOG.INITIALLY_SET,
];

/** kvm_vm_ioctl_enable_cap, with its first argument: 0 or an errno. */
export function kvmVmIoctlEnableCap({ state }: Kvm, cap: number, arg: number): number {
  switch (cap) {
    case KVM_CAP.MANUAL_DIRTY_LOG_PROTECT2:
      if (!DIRTY_LOG_ARGS.includes(arg)) return ERRNO.EINVAL;
      state.manualDirtyLog = arg;
      return 0;
    case KVM_CAP.ARM_NISV_TO_USER:
      state.nisvToUser = true;
      return 0;
    case KVM_CAP.ARM_SYSTEM_SUSPEND:
      state.systemSuspendEnabled = true;
      return 0;
    default:
      return ERRNO.EINVAL;
  }
}

// KVM_ARM_VCPU_INIT

/** KVM_ARM_VCPU_* features. */
export const VCPU_FEATURE = {
  POWER_OFF: 0,
  EL1_32BIT: 1,
  PSCI_0_2: 2,
  PMU_V3: 3,
  SVE: 4,
  PTRAUTH_ADDRESS: 5,
  PTRAUTH_GENERIC: 6,
} as const;
const KVM_VCPU_MAX_FEATURES = 7;

/** Features that no CPU here can give (kvm_set_vm_width, kvm_vcpu_enable_sve, kvm_vcpu_enable_ptrauth). */
const UNAVAILABLE = [
  VCPU_FEATURE.EL1_32BIT,
  VCPU_FEATURE.SVE,
  VCPU_FEATURE.PTRAUTH_ADDRESS,
  VCPU_FEATURE.PTRAUTH_GENERIC,
].reduce((mask, bit) => mask | (1 << bit), 0);

/** kvm_vcpu_set_target's checks: unknown features, a second init with others, what is not there. */
function checkFeatures({ state }: Vcpu, features: number): number {
  if (features >>> KVM_VCPU_MAX_FEATURES !== 0) return ERRNO.ENOENT;
  if (state.targetInitialised && state.features !== features) return ERRNO.EINVAL;
  return (features & UNAVAILABLE) !== 0 ? ERRNO.EINVAL : 0;
}

/** kvm_arch_vcpu_ioctl_vcpu_init: `features` has a bit for each; `reset` is kvm_reset_vcpu. 0 or an errno. */
export function kvmArmVcpuInit(vcpu: Vcpu, features: number, reset: () => void): number {
  const { state } = vcpu;
  const error = checkFeatures(vcpu, features);
  if (error !== 0) return error;
  state.features = features;
  state.targetInitialised = true;
  reset();
  // A VM that starts over must fault its pages in again: its MMU and caches are off now.
  if (state.hasRunOnce) stage2UnmapVm(vcpu.kvm);
  vcpuResetHcr(vcpu);
  if ((features & (1 << VCPU_FEATURE.POWER_OFF)) !== 0) kvmArmVcpuPowerOff(vcpu);
  else state.mpState = MP_STATE.RUNNABLE;
  return 0;
}

// KVM_SET_MP_STATE

/** kvm_arch_vcpu_ioctl_set_mpstate: 0 or an errno. */
export function kvmVcpuSetMpState(vcpu: Vcpu, mpState: number): number {
  switch (mpState) {
    case MP_STATE.RUNNABLE:
      vcpu.state.mpState = mpState;
      return 0;
    case MP_STATE.STOPPED:
      kvmArmVcpuPowerOff(vcpu);
      return 0;
    case MP_STATE.SUSPENDED:
      vcpu.state.mpState = mpState;
      kvmMakeRequest(vcpu, KVM_REQ.SUSPEND);
      vcpu.kvm.host.kvmVcpuKick(vcpu);
      return 0;
    default:
      return ERRNO.EINVAL;
  }
}

// KVM_GET_VCPU_EVENTS, KVM_SET_VCPU_EVENTS

/** struct kvm_vcpu_events. */
export interface KvmVcpuEvents {
  readonly serrorPending: boolean;
  /** An SError has a syndrome: never here, as that is the RAS extension's. */
  readonly serrorHasEsr: boolean;
  /** To be set only: an external abort at the address of the last fault. */
  readonly extDabtPending: boolean;
}

/** __kvm_arm_vcpu_get_events. An abort that was set is with the vCPU already and no more pending. */
export function kvmArmVcpuGetEvents({ state }: Vcpu): KvmVcpuEvents {
  const serrorPending = (state.hcrLo & HCR.VSE) !== 0;
  return { serrorPending, serrorHasEsr: false, extDabtPending: false };
}

/** __kvm_arm_vcpu_set_events: 0 or an errno. */
export function kvmArmVcpuSetEvents(vcpu: Vcpu, events: Partial<KvmVcpuEvents>): number {
  if (events.serrorPending && events.serrorHasEsr) return ERRNO.EINVAL;
  if (events.serrorPending) kvmInjectVabt(vcpu);
  if (events.extDabtPending) kvmInjectDabt(vcpu, vcpu.state.faultFar);
  return 0;
}

// Attributes

/** KVM_ARM_VCPU_*_CTRL: groups of attributes. */
export const VCPU_ATTR = { PMU_V3_CTRL: 0, TIMER_CTRL: 1, PVTIME_CTRL: 2 } as const;
/** KVM_ARM_VCPU_TIMER_IRQ_VTIMER and _PTIMER, and the timers they are of. */
const TIMER_OF_ATTR = [TIMER_VTIMER, TIMER_PTIMER] as const;

function timerOf(vcpu: Vcpu, attr: number): ArchTimerContext | undefined {
  const index = TIMER_OF_ATTR[attr];
  return index === undefined ? undefined : vcpu.timers[index];
}

/** kvm_arm_timer_set_attr: a timer's PPI, of all vCPUs at once. */
function setTimerIrq(vcpu: Vcpu, attr: number, irq: bigint): number {
  if (!irqchipInKernel(vcpu.kvm) || irq < 16n || irq > 31n) return ERRNO.EINVAL;
  if (vcpu.timer.enabled) return ERRNO.EBUSY;
  if (timerOf(vcpu, attr) === undefined) return ERRNO.ENXIO;
  for (const other of vcpu.kvm.vcpus) {
    const timer = timerOf(other, attr);
    if (timer !== undefined) timer.irq = Number(irq);
  }
  return 0;
}

/** kvm_arm_vcpu_set_attr: 0 or an errno. */
export function kvmArmVcpuSetAttr(vcpu: Vcpu, group: number, attr: number, value: bigint): number {
  switch (group) {
    case VCPU_ATTR.PMU_V3_CTRL:
      return kvmArmPmuV3SetAttr(vcpu, attr, value);
    case VCPU_ATTR.TIMER_CTRL:
      return setTimerIrq(vcpu, attr, value);
    case VCPU_ATTR.PVTIME_CTRL:
      return kvmArmPvtimeSetAttr(vcpu, attr, value);
    default:
      return ERRNO.ENXIO;
  }
}

/** kvm_arm_vcpu_get_attr: its value, or ENXIO where there is no such attribute. */
export function kvmArmVcpuGetAttr(vcpu: Vcpu, group: number, attr: number): bigint | number {
  if (group === VCPU_ATTR.PVTIME_CTRL && attr === KVM_ARM_VCPU_PVTIME_IPA) {
    return BigInt(vcpu.state.stealBase);
  }
  if (group === VCPU_ATTR.PMU_V3_CTRL) return kvmArmPmuV3GetAttr(vcpu, attr);
  const timer = group === VCPU_ATTR.TIMER_CTRL ? timerOf(vcpu, attr) : undefined;
  return timer === undefined ? ERRNO.ENXIO : BigInt(timer.irq);
}

/** kvm_arm_vcpu_has_attr. */
export function kvmArmVcpuHasAttr(vcpu: Vcpu, group: number, attr: number): boolean {
  if (group === VCPU_ATTR.PMU_V3_CTRL) return kvmArmPmuV3HasAttr(vcpu, attr);
  return typeof kvmArmVcpuGetAttr(vcpu, group, attr) === "bigint";
}
