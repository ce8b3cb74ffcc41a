/**
 * What the host kernel and its code at EL2 agree on. Mirrors arch/arm64/include/asm/kvm_asm.h, and
 * DECLARE_REG's view of the arguments.
 */
import { layout, space, u53, type ViewOf } from "../../base/struct.ts";
import { KvmCpuContextLayout } from "../kvm_host.ts";

/**
 * enum __kvm_host_smccc_func. Protected mode's calls keep their numbers, and answer as unknown.
 */
export const HOST_SMCCC_FUNC = {
  __kvm_hyp_init: 0,
  __kvm_get_mdcr_el2: 1,
  __kvm_enable_ssbs: 5,
  __vgic_v3_init_lrs: 6,
  __vgic_v3_get_gic_config: 7,
  __kvm_adjust_pc: 11,
  __kvm_vcpu_run: 12,
  __kvm_flush_vm_context: 13,
  __kvm_tlb_flush_vmid_ipa: 14,
  __kvm_tlb_flush_vmid: 15,
  __kvm_flush_cpu_context: 16,
  __kvm_timer_set_cntvoff: 17,
  __vgic_v3_read_vmcr: 18,
  __vgic_v3_write_vmcr: 19,
  __vgic_v3_save_aprs: 20,
  __vgic_v3_restore_aprs: 21,
} as const;
export type HostSmcccFunc = keyof typeof HOST_SMCCC_FUNC;

/** KVM_HOST_SMCCC_ID: a fast 64-bit call of the vendor's hypervisor. */
export function hostSmcccId(func: number): number {
  return 0xc600_0000 + func;
}

/** X0 of a hypercall's answer. */
export const SMCCC_RET_SUCCESS = 0;
export const SMCCC_RET_NOT_SUPPORTED = -1;

/** struct kvm_nvhe_init_params: what EL2 is set up with, read while its MMU is off. */
export const NvheInitParamsLayout = layout("kvm_nvhe_init_params", {
  mairEl2: u53(),
  tcrEl2: u53(),
  /** Where this CPU's {@link NvhePercpuLayout} is, a hyp VA. */
  tpidrEl2: u53(),
  stackHypVa: u53(),
  pgdPa: u53(),
  hcrEl2: u53(),
  vttbr: u53(),
  vtcr: u53(),
});

/** One CPU's variables of the code at EL2 (DEFINE_PER_CPU of hyp/nvhe). */
export const NvhePercpuLayout = layout("kvm_nvhe_percpu", {
  /** kvm_host_data.host_ctxt. */
  hostCtxt: space(KvmCpuContextLayout.size),
  /** Its __hyp_running_vcpu: a hyp VA, or 0. */
  hostRunningVcpu: u53(),
  /** kvm_hyp_ctxt, and its __hyp_running_vcpu: set while a guest runs (set_loaded_vcpu). */
  hypCtxt: space(KvmCpuContextLayout.size),
  hypRunningVcpu: u53(),
  /** VBAR_EL2 while a guest runs. */
  kvmHypVector: u53(),
  initParams: space(NvheInitParamsLayout.size),
});
export type NvhePercpuState = ViewOf<typeof NvhePercpuLayout>;

/** Read-only data of the code at EL2: what the host has found out before (kvm_vgic_global_state and the like). */
export const HypRodataLayout = layout("kvm_nvhe_rodata", {
  /** The interrupt controller's CPU interface is a GICv3's. */
  gicv3Cpuif: u53(),
});

/** Where code and data of EL2 are, as the host has put them into memory and mapped them: hyp VAs. */
export interface HypSymbols {
  /** __kvm_hyp_init, in the identity map: a physical address. */
  readonly hypInit: number;
  readonly hostVector: number;
  readonly guestVector: number;
  /** Functions at {@link HYP_FUNCTION_BYTES} each, by their numbers. */
  readonly functions: number;
  readonly rodata: number;
  /** __hyp_stub_vectors, physical. */
  readonly stubVectors: number;
  /** nvhe_hyp_panic_handler of the kernel: the halves of its address. */
  readonly panicHandlerLo: number;
  readonly panicHandlerHi: number;
}
export const HYP_FUNCTION_BYTES = 0x40;

/**
 * kern_hyp_va: from a kernel's linear address to EL2's. The kernel patches the mask and the tag into
 * the code, which is why they are no data of EL2's.
 */
export interface HypVaLayout {
  /** va_mask, bits 31 to 0: the machine's RAM is below 4 GiB of linear map. */
  readonly mask: number;
  /** tag_val << tag_lsb. */
  readonly tag: number;
}

/** kern_hyp_va of a kernel address whose low half is `lo`. Below 2^48. */
export function kernHypVa(va: HypVaLayout, lo: number): number {
  return va.tag + ((lo & va.mask) >>> 0);
}
