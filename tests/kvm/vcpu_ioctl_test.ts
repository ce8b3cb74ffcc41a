import assert from "node:assert/strict";
import {
  KVM_CAP,
  KVM_EXIT,
  KVM_SYSTEM_EVENT,
  MP_STATE,
  VCPU_ATTR,
  VCPU_FEATURE,
  type VcpuHandle,
  type Vm,
} from "../../src/kvm/api.ts";
import { HCR } from "../../src/arm/arch/fields.ts";
import { sysregKey } from "../../src/arm/arch/sysregs.ts";
import { sysRegId } from "../../src/kvm/guest.ts";
import { GUEST_RAM, makeRig, makeVm, PC, start, X } from "./kvm_rig.ts";

const MS = 1_000_000;
const BRANCH_TO_SELF = 0x1400_0000;
const WFI = 0xd503_207f;

function oneVcpu(program: readonly number[] = []): { vm: Vm; vcpu: VcpuHandle } {
  const vm = makeVm(makeRig(), program);
  return { vm, vcpu: vm.vcpus[0] as VcpuHandle };
}

Deno.test("capabilities: what is there and what is not", () => {
  const { vm } = oneVcpu();
  assert.equal(vm.checkExtension(KVM_CAP.ONE_REG), 1);
  assert.equal(vm.checkExtension(KVM_CAP.ARM_VM_IPA_SIZE), 40);
  assert.equal(vm.checkExtension(KVM_CAP.MAX_VCPUS), 64);
  assert.equal(vm.checkExtension(KVM_CAP.ARM_SVE), 0);
  assert.equal(vm.checkExtension(12345), 0);
  assert.throws(() => vm.enableCap(KVM_CAP.ONE_REG), /EINVAL/);
});

Deno.test("init: unknown features, unavailable ones, and others than the first time", () => {
  const { vcpu } = oneVcpu();
  assert.throws(() => vcpu.init([7]), /ENOENT/);
  assert.throws(() => vcpu.init([VCPU_FEATURE.SVE]), /EINVAL/);
  assert.throws(() => vcpu.init([VCPU_FEATURE.EL1_32BIT]), /EINVAL/);
  assert.throws(() => vcpu.getVcpuEvents(), /ENOEXEC/);
  vcpu.init([VCPU_FEATURE.PSCI_0_2]);
  assert.throws(() => vcpu.init([]), /EINVAL/);
  vcpu.setOneReg(X(3), 5n);
  vcpu.init([VCPU_FEATURE.PSCI_0_2]);
  assert.equal(vcpu.getOneReg(X(3)), 0n);
});

Deno.test("init: after a run every page faults in again", () => {
  const rig = makeRig();
  const vcpu = makeVm(rig, [BRANCH_TO_SELF]).vcpus[0] as VcpuHandle;
  start(vcpu);
  rig.machine.run(1000, MS);
  vcpu.kick();
  rig.machine.run(1000, 2 * MS);
  const faults = () => {
    let n = 0;
    for (let i = 0; i < rig.trace.written; i++) {
      if (rig.trace.read(i)?.name === "kvm_guest_fault") n++;
    }
    return n;
  };
  const before = faults();
  start(vcpu);
  rig.machine.run(1000, 3 * MS);
  assert.equal(faults(), before + 1);
});

Deno.test("events: an SError becomes pending; one with a syndrome wants RAS", () => {
  const { vcpu } = oneVcpu();
  vcpu.init();
  assert.deepEqual(vcpu.getVcpuEvents(), {
    serrorPending: false,
    serrorHasEsr: false,
    extDabtPending: false,
  });
  assert.throws(() => vcpu.setVcpuEvents({ serrorPending: true, serrorHasEsr: true }), /EINVAL/);
  vcpu.setVcpuEvents({ serrorPending: true });
  assert.equal(vcpu.getVcpuEvents().serrorPending, true);
  assert.notEqual(vcpu.vcpu.state.hcrLo & HCR.VSE, 0);
});

const sys = (...at: [number, number, number, number, number]) => sysRegId(sysregKey(...at));
const VBAR = sys(3, 0, 12, 0, 0), ESR = sys(3, 0, 5, 2, 0), FAR = sys(3, 0, 6, 0, 0);

Deno.test("events: the guest takes the SError once it lets it in, and only once", () => {
  const rig = makeRig();
  // DAIFClr #4 (A), then two branches to self: at 8, and at the vector 0x380.
  const program = new Array<number>(0x400 / 4).fill(BRANCH_TO_SELF);
  program[0] = 0xd503_44ff; // msr daifclr, #4
  const vcpu = makeVm(rig, program).vcpus[0] as VcpuHandle;
  vcpu.init();
  vcpu.setOneReg(PC, BigInt(GUEST_RAM));
  vcpu.setOneReg(VBAR, BigInt(GUEST_RAM));
  vcpu.setVcpuEvents({ serrorPending: true });
  vcpu.run();
  rig.machine.run(1000, MS);
  vcpu.kick();
  rig.machine.run(1000, 2 * MS);
  assert.equal(vcpu.getOneReg(PC), BigInt(GUEST_RAM + 0x380));
  assert.equal(Number(vcpu.getOneReg(ESR) >> 26n), 0x2f);
  assert.equal(vcpu.getVcpuEvents().serrorPending, false);
});

Deno.test("events: an external abort goes to the guest's vector at once", () => {
  const rig = makeRig();
  const program = new Array<number>(0x400 / 4).fill(BRANCH_TO_SELF);
  const vcpu = makeVm(rig, program).vcpus[0] as VcpuHandle;
  start(vcpu);
  rig.machine.run(1000, MS);
  vcpu.kick();
  rig.machine.run(1000, 2 * MS);
  vcpu.vcpu.state.faultFar = 0x1234n;
  vcpu.setOneReg(VBAR, BigInt(GUEST_RAM));
  vcpu.setVcpuEvents({ extDabtPending: true });
  vcpu.run();
  rig.machine.run(1000, 3 * MS);
  vcpu.kick();
  rig.machine.run(1000, 4 * MS);
  assert.equal(vcpu.getOneReg(PC), BigInt(GUEST_RAM + 0x200));
  assert.equal(vcpu.getOneReg(FAR), 0x1234n);
  assert.equal(vcpu.getOneReg(ESR) & 0x3fn, 0x10n);
});

Deno.test("mp_state: a suspended vCPU tells user space of an interrupt, and stays suspended", () => {
  const rig = makeRig();
  const exits: number[] = [];
  const vm = makeVm(rig, [BRANCH_TO_SELF], 1, ({ vcpu: { run } }) => {
    exits.push(run.exitReason, run.systemEventType);
    return false;
  });
  const vcpu = vm.vcpus[0] as VcpuHandle;
  vcpu.init();
  vcpu.setOneReg(PC, BigInt(GUEST_RAM));
  assert.throws(() => vcpu.setMpState(77), /EINVAL/);
  vcpu.setMpState(MP_STATE.SUSPENDED);
  vcpu.run();
  rig.machine.run(1000, MS);
  assert.deepEqual(exits, []);
  assert.equal(vcpu.vcpu.stat.entries, 0);
  vm.vcpus[0]?.kick();
  rig.machine.run(1000, 2 * MS);
  assert.deepEqual(exits, [KVM_EXIT.INTR, 0]);
  exits.length = 0;
  vcpu.vcpu.state.hcrLo |= HCR.VI;
  vcpu.run();
  rig.machine.run(1000, 3 * MS);
  assert.deepEqual(exits, [KVM_EXIT.SYSTEM_EVENT, KVM_SYSTEM_EVENT.WAKEUP]);
  assert.equal(vcpu.getMpState(), MP_STATE.SUSPENDED);
  vcpu.setMpState(MP_STATE.RUNNABLE);
  vcpu.run();
  rig.machine.run(1000, 4 * MS);
  assert.equal(vcpu.vcpu.stat.entries > 0, true);
});

Deno.test("attributes: timer PPIs are of all vCPUs and fixed once a timer runs", () => {
  const rig = makeRig();
  const vm = makeVm(rig, [WFI, BRANCH_TO_SELF], 2);
  const [first, second] = vm.vcpus as [VcpuHandle, VcpuHandle];
  assert.equal(first.getAttr(VCPU_ATTR.TIMER_CTRL, 0), 27n);
  assert.equal(first.getAttr(VCPU_ATTR.TIMER_CTRL, 1), 30n);
  assert.throws(() => first.setAttr(VCPU_ATTR.TIMER_CTRL, 0, 32n), /EINVAL/);
  first.setAttr(VCPU_ATTR.TIMER_CTRL, 0, 20n);
  assert.equal(second.getAttr(VCPU_ATTR.TIMER_CTRL, 0), 20n);
  assert.throws(() => first.setAttr(VCPU_ATTR.TIMER_CTRL, 2, 20n), /ENXIO/);
  assert.throws(() => first.setAttr(9, 0, 20n), /ENXIO/);
  assert.equal(first.hasAttr(VCPU_ATTR.PVTIME_CTRL, 0), true);
  assert.equal(first.hasAttr(VCPU_ATTR.PVTIME_CTRL, 1), false);
  start(first);
  rig.machine.run(1000, MS);
  first.kick();
  rig.machine.run(1000, 2 * MS);
  assert.throws(() => first.setAttr(VCPU_ATTR.TIMER_CTRL, 0, 21n), /EBUSY/);
});
