import assert from "node:assert/strict";
import type { VcpuHandle } from "../../../src/kvm/api.ts";
import { exceptionPstate, kvmAdjustPc } from "../../../src/kvm/hyp/exception.ts";
import { kvmInjectDabt, kvmInjectUndefined } from "../../../src/kvm/inject_fault.ts";
import { kvmIncrPc, vcpuReadSysReg, vcpuWriteSysReg } from "../../../src/kvm/emulate.ts";
import type { Vcpu } from "../../../src/kvm/kvm_host.ts";
import { makeRig, makeVm } from "../kvm_rig.ts";

/** Of a vCPU that is not loaded: the port is not used. */
const adjustPc = (vcpu: Vcpu) => kvmAdjustPc(vcpu.kvm.host.port(0), vcpu);

function make(pc: bigint, pstate: bigint): Vcpu {
  const handle = makeVm(makeRig(), []).vcpus[0] as VcpuHandle;
  handle.init();
  const { vcpu } = handle;
  vcpu.ctxt.pc = pc;
  vcpu.ctxt.pstate = pstate;
  vcpu.state.faultEsr = 0x9200_0046;
  vcpuWriteSysReg(vcpu, "VBAR_EL1", 0xffff_ffff_ffff_f800n - 0x800n);
  return vcpu;
}

Deno.test("exception: the vector depends on where the guest was", () => {
  for (const [pstate, offset] of [[0n, 0x400n], [4n, 0x000n], [5n, 0x200n]] as const) {
    const vcpu = make(0xffff_0000_0000_1234n, 0x8000_0000n | pstate);
    kvmInjectUndefined(vcpu);
    adjustPc(vcpu);
    assert.equal(vcpu.ctxt.pc, 0xffff_ffff_ffff_f000n + offset);
    assert.equal(vcpuReadSysReg(vcpu, "ELR_EL1"), 0xffff_0000_0000_1234n);
    assert.equal(vcpuReadSysReg(vcpu, "SPSR_EL1"), 0x8000_0000n | pstate);
    assert.equal(vcpuReadSysReg(vcpu, "ESR_EL1"), 0x0200_0000n);
    // SCTLR_EL1.SPAN is set after reset: PAN stays as it was.
    assert.equal(vcpu.ctxt.pstate, 0x8000_03c5n);
    assert.equal(vcpu.state.iflags, 0);
  }
});

Deno.test("exception: PAN is set unless SCTLR_EL1.SPAN says to leave it", () => {
  const SPAN = 1 << 23, PAN = 1 << 22;
  assert.equal(exceptionPstate(0, 0) & PAN, PAN);
  assert.equal(exceptionPstate(0, SPAN) & PAN, 0);
  assert.equal(exceptionPstate(PAN, SPAN) & PAN, PAN);
});

Deno.test("exception: an abort names its level and address, and wins over a skip", () => {
  const vcpu = make(0x4000_0000n, 0n);
  kvmIncrPc(vcpu);
  kvmInjectDabt(vcpu, 0xdead_0000_0000_beefn);
  adjustPc(vcpu);
  assert.equal(vcpuReadSysReg(vcpu, "FAR_EL1"), 0xdead_0000_0000_beefn);
  assert.equal(vcpuReadSysReg(vcpu, "ESR_EL1"), 0x9200_0010n);
  assert.equal(vcpuReadSysReg(vcpu, "ELR_EL1"), 0x4000_0000n);
});

Deno.test("exception: a skip carries into the upper half and ends a step", () => {
  const vcpu = make(0x1_ffff_fffcn, 0x20_0005n);
  kvmIncrPc(vcpu);
  adjustPc(vcpu);
  assert.equal(vcpu.ctxt.pc, 0x2_0000_0000n);
  assert.equal(vcpu.ctxt.pstate, 5n);
});
