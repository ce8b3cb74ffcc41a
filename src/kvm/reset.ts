/**
 * Resetting a vCPU. Mirrors kvm_reset_vcpu of arch/arm64/kvm/reset.c.
 */
import { kvmTimerVcpuReset } from "./arch_timer.ts";
import { SCTLR } from "../arm/arch/fields.ts";
import { vcpuSetReg } from "./emulate.ts";
import { kvmPmuVcpuReset } from "./pmu_emul.ts";
import { IFLAG, KvmCpuContextLayout, SAVED, type Vcpu, vcpuClearFlag } from "./kvm_host.ts";
import { kvmResetSysRegs } from "./sys_regs.ts";

/** VCPU_RESET_PSTATE_EL1: EL1h with all exceptions masked. */
const VCPU_RESET_PSTATE = 0x3c5;

/**
 * The vCPU as after power-on, and where PSCI CPU_ON wants it. A loaded one is put first and loaded
 * again by the caller's `put` and `load`, as all of this works on memory.
 */
export function kvmResetVcpu(
  vcpu: Vcpu,
  put: (vcpu: Vcpu) => void,
  load: (vcpu: Vcpu) => void,
): void {
  const { state, ctxt } = vcpu;
  const pending = state.resetPending;
  state.resetPending = false;
  kvmPmuVcpuReset(vcpu);
  const loaded = state.cpu !== -1;
  if (loaded) put(vcpu);
  const { regs, sysregs, fp } = KvmCpuContextLayout.offset;
  state.memory.u8.fill(0, ctxt.base + regs, ctxt.base + sysregs);
  state.memory.u8.fill(0, ctxt.base + fp, ctxt.base + KvmCpuContextLayout.size);
  ctxt.pstate = BigInt(VCPU_RESET_PSTATE);
  kvmResetSysRegs(vcpu);
  if (pending) applyResetState(vcpu);
  kvmTimerVcpuReset(vcpu);
  if (loaded) load(vcpu);
}

/** What PSCI imposed: entry point and X0. Pending exceptions and skips are from before the reset. */
function applyResetState(vcpu: Vcpu): void {
  if (vcpu.state.resetBe) {
    // kvm_vcpu_set_be: the caller of CPU_ON gives its byte order on.
    const at = vcpu.ctxt.sysregs + 8 * SAVED.SCTLR_EL1;
    vcpu.state.memory.st32(at, (vcpu.state.memory.ld32(at) | SCTLR.EE) >>> 0);
  }
  vcpu.ctxt.pc = vcpu.state.resetPc;
  vcpuClearFlag(vcpu, IFLAG.PENDING_EXCEPTION | IFLAG.INCREMENT_PC);
  vcpuSetReg(vcpu, 0, vcpu.state.resetR0);
}
