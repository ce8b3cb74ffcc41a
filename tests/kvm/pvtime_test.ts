import assert from "node:assert/strict";
import { VCPU_ATTR, type VcpuHandle } from "../../src/kvm/api.ts";
import { kvmHvcCallHandler } from "../../src/kvm/hypercalls.ts";
import { guestOffset } from "../../src/kvm/mmu.ts";
import { SMCCC } from "../../src/kvm/psci_numbers.ts";
import { GUEST_RAM, makeRig, makeVm, PC, type Rig, X } from "./kvm_rig.ts";

const MS = 1_000_000;
const BRANCH_TO_SELF = 0x1400_0000;
/** Where the test's guest has its page of stolen time. */
const STOLEN = GUEST_RAM + 0x8000;

function call(vcpu: VcpuHandle, fn: number, arg = 0): bigint {
  vcpu.setOneReg(X(0), BigInt(fn));
  vcpu.setOneReg(X(1), BigInt(arg));
  kvmHvcCallHandler(vcpu.vcpu);
  return BigInt.asIntN(64, vcpu.getOneReg(X(0)));
}

/** struct pvclock_vcpu_stolen_time.stolen_time. */
function stolenNs({ machine }: Rig, { vcpu: { kvm } }: VcpuHandle): number {
  return Number(machine.memory.ld64(guestOffset(kvm, STOLEN) + 8));
}

function twoVcpus(): { rig: Rig; first: VcpuHandle; second: VcpuHandle } {
  const rig = makeRig();
  const [first, second] = makeVm(rig, [BRANCH_TO_SELF], 2).vcpus as [VcpuHandle, VcpuHandle];
  for (const vcpu of [first, second]) {
    vcpu.init();
    vcpu.setOneReg(PC, BigInt(GUEST_RAM));
  }
  return { rig, first, second };
}

Deno.test("pvtime: the attribute takes an aligned address in memory, once", () => {
  const { first } = twoVcpus();
  const set = (ipa: number) => first.setAttr(VCPU_ATTR.PVTIME_CTRL, 0, BigInt(ipa));
  assert.throws(() => set(STOLEN + 32), /EINVAL/);
  assert.throws(() => set(0x1_0000), /EINVAL/);
  assert.throws(() => first.setAttr(VCPU_ATTR.PVTIME_CTRL, 1, 0n), /ENXIO/);
  set(STOLEN);
  assert.throws(() => set(STOLEN), /EEXIST/);
  assert.equal(first.getAttr(VCPU_ATTR.PVTIME_CTRL, 0), BigInt(STOLEN));
});

Deno.test("pvtime: the guest is told of it only where user space gave a place", () => {
  const { first, second } = twoVcpus();
  first.setAttr(VCPU_ATTR.PVTIME_CTRL, 0, BigInt(STOLEN));
  assert.equal(call(first, SMCCC.HV_PV_TIME_FEATURES, SMCCC.HV_PV_TIME_ST), 0n);
  assert.equal(call(first, SMCCC.HV_PV_TIME_FEATURES, 0x1234), -1n);
  assert.equal(call(first, SMCCC.HV_PV_TIME_ST), BigInt(STOLEN));
  assert.equal(call(second, SMCCC.HV_PV_TIME_FEATURES, SMCCC.HV_PV_TIME_ST), -1n);
  assert.equal(call(second, SMCCC.HV_PV_TIME_ST), -1n);
});

Deno.test("pvtime: two busy vCPUs on one CPU steal from each other; alone nothing is stolen", () => {
  const { rig, first, second } = twoVcpus();
  first.setAttr(VCPU_ATTR.PVTIME_CTRL, 0, BigInt(STOLEN));
  call(first, SMCCC.HV_PV_TIME_ST);
  first.run();
  rig.machine.run(1e9, 20 * MS);
  const alone = stolenNs(rig, first);
  rig.machine.run(1e9, 40 * MS);
  assert.equal(stolenNs(rig, first), alone);
  second.run();
  rig.machine.run(1e9, 140 * MS);
  const stolen = stolenNs(rig, first) - alone;
  assert.ok(stolen > 0 && stolen < 100 * MS, `${stolen} ns`);
  second.kick();
  rig.machine.run(1e9, 160 * MS);
  const before = stolenNs(rig, first);
  rig.machine.run(1e9, 260 * MS);
  assert.equal(stolenNs(rig, first), before);
});

Deno.test("pvtime: counting starts when the guest asks", () => {
  const { rig, first, second } = twoVcpus();
  first.setAttr(VCPU_ATTR.PVTIME_CTRL, 0, BigInt(STOLEN));
  first.run();
  second.run();
  rig.machine.run(1e9, 100 * MS);
  first.kick();
  rig.machine.run(1e9, 110 * MS);
  assert.ok(stolenNs(rig, first) > 0);
  assert.equal(call(first, SMCCC.HV_PV_TIME_ST), BigInt(STOLEN));
  assert.equal(stolenNs(rig, first), 0);
});
