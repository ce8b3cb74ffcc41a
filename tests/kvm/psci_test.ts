import assert from "node:assert/strict";
import { KVM_CAP, VCPU_FEATURE, type VcpuHandle, type Vm } from "../../src/kvm/api.ts";
import { kvmHvcCallHandler } from "../../src/kvm/hypercalls.ts";
import { KVM_EXIT, KVM_REQ, KVM_SYSTEM_EVENT, MP_STATE, RET } from "../../src/kvm/kvm_host.ts";
import { sysregKey } from "../../src/arm/arch/sysregs.ts";
import { FW_REG, sysRegId } from "../../src/kvm/guest.ts";
import { PSCI, PSCI_0_1, PSCI_RET, SMCCC } from "../../src/kvm/psci_numbers.ts";
import { makeRig, makeVm, PC, X } from "./kvm_rig.ts";

function twoVcpus(): [VcpuHandle, VcpuHandle] {
  const vm = makeVm(makeRig(), [], 2);
  const [first, second] = vm.vcpus as [VcpuHandle, VcpuHandle];
  first.init();
  second.init([VCPU_FEATURE.PSCI_0_2, VCPU_FEATURE.POWER_OFF]);
  return [first, second];
}

function vmOf(vcpu: VcpuHandle): { vm: Vm } {
  const vm = vcpu.system.vms.find((v) => v.vcpus.includes(vcpu));
  assert.ok(vm);
  return { vm };
}

/** Makes a call of a vCPU that is not loaded: X0 afterwards, signed, and what the handler says. */
function call(vcpu: VcpuHandle, ...args: (number | bigint)[]): [x0: number, ret: number] {
  args.forEach((value, n) => vcpu.setOneReg(X(n), BigInt(value)));
  const ret = kvmHvcCallHandler(vcpu.vcpu);
  return [Number(BigInt.asIntN(64, vcpu.getOneReg(X(0)))), ret];
}

Deno.test("psci: versions", () => {
  const [vcpu] = twoVcpus();
  assert.deepEqual(call(vcpu, PSCI.VERSION), [0x1_0001, RET.GUEST]);
  assert.deepEqual(call(vcpu, SMCCC.VERSION), [0x1_0001, RET.GUEST]);
  vcpu.setOneReg(FW_REG.PSCI_VERSION, 2n);
  assert.deepEqual(call(vcpu, PSCI.VERSION), [2, RET.GUEST]);
  assert.deepEqual(call(vcpu, PSCI.FEATURES, PSCI.CPU_ON_64), [PSCI_RET.NOT_SUPPORTED, RET.GUEST]);
});

Deno.test("psci: CPU_ON starts a stopped vCPU where it is told, once", () => {
  const [first, second] = twoVcpus();
  const on = (...args: (number | bigint)[]) => call(first, PSCI.CPU_ON_64, ...args)[0];
  assert.equal(on(2, 0x1000, 0), PSCI_RET.INVALID_PARAMS);
  assert.equal(on(1n << 30n, 0x1000, 0), PSCI_RET.INVALID_PARAMS);
  assert.equal(on(0, 0x1000, 0), PSCI_RET.ALREADY_ON);
  assert.equal(call(first, PSCI.AFFINITY_INFO_64, 1, 0)[0], 1);
  assert.equal(on(1, 0xffff_0000_1234_5678n, 99), PSCI_RET.SUCCESS);
  assert.equal(second.vcpu.state.mpState, MP_STATE.RUNNABLE);
  assert.ok((second.vcpu.state.requests & KVM_REQ.VCPU_RESET) !== 0);
  assert.equal(on(1, 0x1000, 0), PSCI_RET.ALREADY_ON);
  assert.equal(call(first, PSCI.AFFINITY_INFO_64, 1, 0)[0], 0);
  second.vcpu.state.iflags = 3;
  assert.equal(second.getOneReg(PC), 0xffff_0000_1234_5678n);
  assert.equal(second.getOneReg(X(0)), 99n);
  assert.equal(second.vcpu.state.iflags, 0);
});

Deno.test("psci: CPU_ON with the 32-bit number sees 32-bit arguments", () => {
  const [first, second] = twoVcpus();
  assert.equal(call(first, PSCI.CPU_ON, 1, 0xabcd_0000_1000n, 0)[0], PSCI_RET.SUCCESS);
  assert.equal(second.vcpu.state.resetPc, 0x1000n);
});

Deno.test("psci: CPU_OFF stops, affinity levels above 0 ask for a group", () => {
  const [first] = twoVcpus();
  assert.equal(call(first, PSCI.AFFINITY_INFO_64, 0, 1)[0], 0);
  assert.equal(call(first, PSCI.CPU_OFF)[0], PSCI_RET.SUCCESS);
  assert.equal(first.vcpu.state.mpState, MP_STATE.STOPPED);
  assert.equal(call(first, PSCI.AFFINITY_INFO_64, 0, 1)[0], 1);
  assert.equal(call(first, PSCI.AFFINITY_INFO_64, 0, 4)[0], PSCI_RET.INVALID_PARAMS);
});

Deno.test("psci: system events stop all vCPUs and leave the guest an error to see", () => {
  const events: [number, ...number[]][] = [
    [KVM_SYSTEM_EVENT.SHUTDOWN, PSCI.SYSTEM_OFF],
    [KVM_SYSTEM_EVENT.RESET, PSCI.SYSTEM_RESET],
    [KVM_SYSTEM_EVENT.RESET, PSCI.SYSTEM_RESET2_64, 0],
  ];
  for (const [type, ...args] of events) {
    const [first, second] = twoVcpus();
    assert.deepEqual(call(first, ...args), [PSCI_RET.INTERNAL_FAILURE, RET.USER]);
    assert.equal(first.vcpu.run.exitReason, KVM_EXIT.SYSTEM_EVENT);
    assert.equal(first.vcpu.run.systemEventType, type);
    assert.equal(first.vcpu.run.systemEventFlags, args.length - 1);
    for (const { vcpu } of [first, second]) assert.equal(vcpu.state.mpState, MP_STATE.STOPPED);
  }
});

Deno.test("psci: SYSTEM_RESET2 of an unknown type, and functions that do not exist", () => {
  const [first] = twoVcpus();
  assert.equal(call(first, PSCI.SYSTEM_RESET2_64, 7)[0], PSCI_RET.INVALID_PARAMS);
  assert.equal(call(first, 0x8400_001f)[0], PSCI_RET.NOT_SUPPORTED);
  assert.equal(call(first, 0x1234)[0], PSCI_RET.NOT_SUPPORTED);
  assert.equal(call(first, SMCCC.ARCH_FEATURES, SMCCC.ARCH_WORKAROUND_1)[0], 1);
  assert.equal(call(first, SMCCC.ARCH_FEATURES, 0x1234)[0], -1);
});

Deno.test("psci: FEATURES knows exactly what is there", () => {
  const [first] = twoVcpus();
  for (const fn of Object.values(PSCI)) {
    const expected = fn === PSCI.SYSTEM_SUSPEND || fn === PSCI.SYSTEM_SUSPEND_64 ? -1 : 0;
    assert.equal(call(first, PSCI.FEATURES, fn)[0], expected, fn.toString(16));
  }
  first.setOneReg(FW_REG.PSCI_VERSION, 0x1_0000n);
  assert.equal(call(first, PSCI.FEATURES, PSCI.SYSTEM_RESET2_64)[0], -1);
  assert.equal(call(first, PSCI.SYSTEM_RESET2_64, 0)[0], -1);
});

Deno.test("psci: SYSTEM_SUSPEND is user space's, once it has asked for it", () => {
  const [first] = twoVcpus();
  const { vm } = vmOf(first);
  assert.deepEqual(call(first, PSCI.SYSTEM_SUSPEND_64, 0x1000), [-1, RET.GUEST]);
  vm.enableCap(KVM_CAP.ARM_SYSTEM_SUSPEND);
  assert.equal(call(first, PSCI.FEATURES, PSCI.SYSTEM_SUSPEND_64)[0], 0);
  const [x0, ret] = call(first, PSCI.SYSTEM_SUSPEND, 0xab_0000_1000n, 7);
  assert.deepEqual([x0, ret], [PSCI.SYSTEM_SUSPEND, RET.USER]);
  assert.equal(first.getOneReg(X(1)), 0x1000n); // narrowed, and otherwise as the guest left it
  assert.equal(first.getOneReg(X(2)), 7n);
  assert.equal(first.vcpu.run.systemEventType, KVM_SYSTEM_EVENT.SUSPEND);
  assert.equal(first.vcpu.state.mpState, MP_STATE.RUNNABLE);
});

Deno.test("psci: 0.1 of a vCPU without PSCI_0_2 has CPU_ON and CPU_OFF by its own numbers", () => {
  const vm = makeVm(makeRig(), [], 2);
  const [first, second] = vm.vcpus as [VcpuHandle, VcpuHandle];
  first.init([]);
  second.init([VCPU_FEATURE.POWER_OFF]);
  assert.equal(first.getOneReg(FW_REG.PSCI_VERSION), 1n);
  assert.throws(() => first.setOneReg(FW_REG.PSCI_VERSION, 2n), /EINVAL/);
  assert.equal(call(first, PSCI.VERSION)[0], PSCI_RET.NOT_SUPPORTED);
  assert.equal(call(first, PSCI_0_1.CPU_SUSPEND)[0], PSCI_RET.NOT_SUPPORTED);
  assert.equal(call(first, PSCI_0_1.CPU_ON, 0, 0x1000)[0], PSCI_RET.INVALID_PARAMS); // on already
  assert.equal(call(first, PSCI_0_1.CPU_ON, 1, 0x4000, 5)[0], PSCI_RET.SUCCESS);
  assert.equal(second.getOneReg(PC), 0x4000n);
  assert.equal(call(second, PSCI_0_1.CPU_OFF)[0], PSCI_RET.SUCCESS);
  assert.equal(second.vcpu.state.mpState, MP_STATE.STOPPED);
});

Deno.test("psci: a vCPU with PSCI_0_2 has none of 0.1's functions", () => {
  const [first] = twoVcpus();
  assert.equal(call(first, PSCI_0_1.CPU_OFF)[0], PSCI_RET.NOT_SUPPORTED);
  assert.throws(() => first.setOneReg(FW_REG.PSCI_VERSION, 1n), /EINVAL/);
});

Deno.test("psci: CPU_SUSPEND blocks like WFI, with its result in place already", () => {
  const [first] = twoVcpus();
  const { vcpu } = first;
  vcpu.state.cpu = 0; // what a vCPU in a handler is
  const answer = call(first, PSCI.CPU_SUSPEND_64);
  vcpu.state.cpu = -1;
  assert.deepEqual(answer, [PSCI_RET.SUCCESS, RET.HALT]);
});

Deno.test("psci: CPU_ON gives the caller's byte order on", () => {
  const [first, second] = twoVcpus();
  const sctlr = sysRegId(sysregKey(3, 0, 1, 0, 0));
  const ee = 1n << 25n;
  assert.equal(second.getOneReg(sctlr) & ee, 0n);
  first.setOneReg(sctlr, first.getOneReg(sctlr) | ee);
  assert.equal(call(first, PSCI.CPU_ON_64, 1, 0x1000)[0], PSCI_RET.SUCCESS);
  assert.equal(second.getOneReg(sctlr) & ee, ee);
});
