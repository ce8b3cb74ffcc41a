/**
 * Calls by HVC. Mirrors arch/arm64/kvm/hypercalls.c.
 *
 * What differs: no stolen time, PTP or random numbers.
 */
import { vcpuGetRegLo } from "./emulate.ts";
import { RET, type Vcpu } from "./kvm_host.ts";
import { kvmPsciCall, smcccSetRetval } from "./psci.ts";
import {
  SMCCC,
  SMCCC_RET,
  SMCCC_VERSION_1_1,
  SMCCC_WORKAROUND_UNAFFECTED,
} from "./psci_numbers.ts";

/** The vendor hypervisor's UID: KVM's, as the guest kernel looks for it. */
const KVM_UID = [0xb66f_b428, 0xe911_c52e, 0x564b_caa9, 0x743a_004d] as const;
/** KVM_FEATURES: of the vendor calls there is only this one. */
const VENDOR_FEATURES = 1;

/** What ARCH_FEATURES says of each function: the physical core speculates nothing. */
const ARCH_FEATURES: Readonly<Record<number, number>> = {
  [SMCCC.ARCH_WORKAROUND_1]: SMCCC_WORKAROUND_UNAFFECTED,
  [SMCCC.ARCH_WORKAROUND_2]: SMCCC_RET.NOT_REQUIRED,
  [SMCCC.ARCH_WORKAROUND_3]: SMCCC_WORKAROUND_UNAFFECTED,
};

const CALLS: Readonly<Record<number, (vcpu: Vcpu) => void>> = {
  [SMCCC.VERSION]: (vcpu) => smcccSetRetval(vcpu, SMCCC_VERSION_1_1),
  [SMCCC.ARCH_FEATURES]: (vcpu) =>
    smcccSetRetval(vcpu, ARCH_FEATURES[vcpuGetRegLo(vcpu, 1)] ?? SMCCC_RET.NOT_SUPPORTED),
  [SMCCC.VENDOR_HYP_UID]: (vcpu) => smcccSetRetval(vcpu, ...KVM_UID),
  [SMCCC.VENDOR_HYP_FEATURES]: (vcpu) => smcccSetRetval(vcpu, VENDOR_FEATURES),
};

/** Standard secure service calls 0 to 0x1f, 32 and 64 bit: PSCI 0.2 and up. */
function isPsci(fn: number): boolean {
  const owner = (fn >>> 24) & 0x3f;
  return fn >>> 31 === 1 && owner === 4 && (fn & 0xffff) <= 0x1f;
}

/** kvm_hvc_call_handler. */
export function kvmHvcCallHandler(vcpu: Vcpu): number {
  const fn = vcpuGetRegLo(vcpu, 0);
  const call = CALLS[fn];
  if (call === undefined && isPsci(fn)) return kvmPsciCall(vcpu);
  if (call === undefined) smcccSetRetval(vcpu, SMCCC_RET.NOT_SUPPORTED);
  else call(vcpu);
  return RET.GUEST;
}
