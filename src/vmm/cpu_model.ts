/**
 * `--cpu`: what a guest's identification registers say. User space lowers them by KVM_SET_ONE_REG, as
 * far as KVM lets it (KVM_ARM_GET_REG_WRITABLE_MASKS); the physical core and what it executes stay.
 */
import { type CpuModel, limitIdRegister } from "../arm/arch/features.ts";
import { SYSREGS } from "../arm/arch/sysregs.ts";
import type { Vm } from "../kvm/api.ts";

/** KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM64_SYSREG. */
const SYSREG_ID = 0x6030_0000_0013_0000n;

/** Makes a VM whose vCPUs are initialised and have not run look like a core of `model`. */
export function showCpuModel(vm: Vm, model: CpuModel): void {
  const [vcpu] = vm.vcpus;
  for (const { name, key } of SYSREGS) {
    const mask = vm.regWritableMask(key);
    if (mask === 0n || vcpu === undefined) continue;
    const id = SYSREG_ID | BigInt(key);
    const all = vcpu.getOneReg(id);
    const limited = (all & ~mask) | (limitIdRegister(name, all, model) & mask);
    if (limited !== all) vcpu.setOneReg(id, limited);
  }
}
