import assert from "node:assert/strict";
import { KVM_EXIT, KVM_SYSTEM_EVENT } from "../../src/kvm/kvm_host.ts";
import {
  type ExitHandler,
  KvmError,
  VCPU_FEATURE,
  type VcpuHandle,
  type Vm,
} from "../../src/kvm/api.ts";
import { memslot } from "../../src/kvm/mmu.ts";
import { ABORTS, EXITS, KEEPER, SMP } from "./guests.ts";
import { counts, events, GUEST_RAM, makeRig, makeVm, PC, type Rig, start, X } from "./kvm_rig.ts";

const MS = 1_000_000;

/** Answers MMIO reads with `value`, notes writes, and stops at anything else. */
function userSpace(value: bigint): { exits: string[]; handler: ExitHandler } {
  const exits: string[] = [];
  return {
    exits,
    handler: ({ vcpu: { run } }, ret) => {
      const mmio = run.exitReason === KVM_EXIT.MMIO;
      const at = run.mmioPhysAddr.toString(16);
      if (!mmio) exits.push(`reason ${run.exitReason} event ${run.systemEventType} ret ${ret}`);
      else if (run.mmioIsWrite) exits.push(`write ${at} ${run.mmioData}`);
      else run.mmioData = value;
      return mmio;
    },
  };
}

const OFF = `reason ${KVM_EXIT.SYSTEM_EVENT} event ${KVM_SYSTEM_EVENT.SHUTDOWN} ret 0`;

Deno.test("run: a loop makes the exits that real KVM makes, one each", () => {
  const rig = makeRig();
  const { exits, handler } = userSpace(5n);
  const vm = makeVm(rig, EXITS, 1, handler);
  const vcpu = vm.vcpus[0] as VcpuHandle;
  vcpu.init();
  vcpu.setOneReg(PC, BigInt(GUEST_RAM));
  vcpu.setOneReg(X(4), 25n);
  vcpu.run();
  rig.machine.run(1e6, 10 * MS);
  assert.deepEqual(exits, [OFF]);
  const { stat } = vcpu.vcpu;
  assert.equal(stat.hvc_exit_stat, 26);
  assert.equal(stat.mmio_exit_user, 25);
  const byClass = (ec: number) => stat.memory.ld53(stat.byClass + 8 * ec);
  assert.equal(byClass(0x16), 26);
  assert.equal(byClass(0x24), 25);
  assert.equal(byClass(0x20), 1);
  assert.equal(stat.exits, 52 + stat.irqExits);
  const reads = events(rig.trace).filter((text) => text.startsWith("kvm_mmio mmio read "));
  assert.deepEqual(new Set(reads), new Set(["kvm_mmio mmio read len 4 gpa 0x9000000 val 0x5"]));
  const seen = counts(rig.trace);
  assert.equal(seen.kvm_entry, seen.kvm_exit);
  assert.equal(seen.kvm_userspace_exit, 26);
});

Deno.test("run: a user-space MMIO exit makes the events of the recorded trace, in order", () => {
  const rig = makeRig();
  const vm = makeVm(rig, EXITS, 1, userSpace(5n).handler);
  const vcpu = vm.vcpus[0] as VcpuHandle;
  vcpu.init();
  vcpu.setOneReg(PC, BigInt(GUEST_RAM));
  vcpu.setOneReg(X(4), 1n);
  vcpu.run();
  rig.machine.run(1e6, 10 * MS);
  const names = events(rig.trace).map((text) => text.split(" ")[0]);
  const from = names.indexOf("kvm_mmio");
  assert.deepEqual(names.slice(from - 2, from + 12), [
    "kvm_exit",
    "kvm_guest_fault",
    "kvm_mmio",
    "kvm_timer_save_state",
    "kvm_timer_save_state",
    "kvm_userspace_exit",
    "kvm_mmio",
    "kvm_timer_update_irq",
    "vgic_update_irq_pending",
    "kvm_timer_update_irq",
    "vgic_update_irq_pending",
    "kvm_timer_restore_state",
    "kvm_timer_restore_state",
    "kvm_entry",
  ]);
});

Deno.test("run: exceptions are given to the guest with their syndrome, MMIO reads extended", () => {
  const rig = makeRig();
  const { exits, handler } = userSpace(0xffn);
  const vm = makeVm(rig, ABORTS, 1, handler);
  const vcpu = vm.vcpus[0] as VcpuHandle;
  start(vcpu);
  rig.machine.run(1e6, 10 * MS);
  assert.deepEqual(exits, [OFF]);
  assert.equal(vcpu.getOneReg(X(5)), 0xffff_ffff_ffff_ffffn);
  assert.equal(vcpu.getOneReg(X(6)), 0xffn);
  // The second exception: external instruction abort from EL1 at the address branched to
  assert.equal(vcpu.getOneReg(X(10)), 0x8600_0010n);
  assert.equal(vcpu.getOneReg(X(11)), 0x1_0000_0010n);
  assert.equal(vcpu.getOneReg(X(13)), 2n);
});

for (const pcpus of [1, 2, 4]) {
  Deno.test(`run: timer, SGI, WFI and active-state accesses of two vCPUs on ${pcpus} CPUs`, () => {
    const rig = makeRig(pcpus);
    const { exits, handler } = userSpace(0n);
    const vm = makeVm(rig, SMP, 2, handler);
    const [first, second] = vm.vcpus as [VcpuHandle, VcpuHandle];
    start(first);
    second.init([VCPU_FEATURE.PSCI_0_2, VCPU_FEATURE.POWER_OFF]);
    second.run();
    rig.machine.run(1e6, 20 * MS);
    assert.equal(exits[0], "write 9000000 0");
    assert.equal(exits[2], "write 9000008 20");
    assert.equal(exits[3], OFF);
    // The last SGI may still be on its way when the first vCPU looks.
    assert.match(exits[1] ?? "", /write 9000004 (19|20)$/);
    assert.equal(first.vcpu.stat.wfi_exit_stat, 20);
    assert.ok(rig.machine.insns < 2000, `${rig.machine.insns} instructions`);
    assert.ok(rig.machine.nowNs < 3 * MS);
  });
}

Deno.test("run: FP and thread registers survive preemption by another VM's vCPU", () => {
  const rig = makeRig();
  const stopped: number[] = [];
  const vcpus = [0x1111_2222_3333_4444n, 0xaaaa_bbbb_cccc_ddddn].map((value, n) => {
    const vm = makeVm(rig, KEEPER, 1, () => {
      stopped.push(n);
      return false;
    });
    const vcpu = vm.vcpus[0] as VcpuHandle;
    start(vcpu, GUEST_RAM, value);
    return vcpu;
  });
  rig.machine.run(1e8, 40 * MS);
  for (const vcpu of vcpus) vcpu.kick();
  rig.machine.run(1e6, 60 * MS);
  assert.deepEqual(stopped.sort(), [0, 1]);
  for (const vcpu of vcpus) {
    assert.ok(vcpu.getOneReg(X(3)) > 100_000n, `${vcpu.getOneReg(X(3))} rounds`);
    assert.equal(vcpu.vcpu.stat.hvc_exit_stat, 0);
    assert.equal(vcpu.vcpu.run.exitReason, KVM_EXIT.INTR);
  }
  assert.ok(rig.host.scheduler.queue(0).switches > 15);
});

Deno.test("run: a running vCPU moves to another physical CPU and keeps its registers", () => {
  const rig = makeRig(2);
  const vm = makeVm(rig, KEEPER);
  const vcpu = vm.vcpus[0] as VcpuHandle;
  start(vcpu, GUEST_RAM, 0x5555n);
  for (let i = 0; i < 10; i++) {
    rig.machine.run(1e6, (2 * i + 1) * MS);
    const mask = 1 << (i & 1);
    vcpu.setAffinity(mask);
    rig.machine.run(1e6, (2 * i + 2) * MS);
    assert.equal(vcpu.vcpu.state.cpu, i & 1);
  }
  vcpu.kick();
  rig.machine.run(1e6, 30 * MS);
  assert.equal(vcpu.running, false);
  assert.ok(vcpu.getOneReg(X(3)) > 100_000n);
  assert.equal(vcpu.getOneReg(X(0)), 0x5555n);
});

Deno.test("run: two VMs with the same addresses see their own memory; closed VMs give every page back", () => {
  const rig = makeRig();
  const free = rig.host.pages.free;
  for (let round = 0; round < 2; round++) {
    const vms = [1n, 2n].map((value) => {
      // ldr x9, [x0, #0x800]; str x10, [x0, #0x800]; hvc with SYSTEM_OFF in x0
      const vm = makeVm(rig, [0xf9440009, 0xf904000a, 0x52b08000, 0x72800100, 0xd4000002]);
      const vcpu = vm.vcpus[0] as VcpuHandle;
      vcpu.init();
      vcpu.setOneReg(PC, BigInt(GUEST_RAM));
      vcpu.setOneReg(X(0), BigInt(GUEST_RAM));
      vcpu.setOneReg(X(10), value);
      vcpu.run();
      return vm;
    });
    rig.machine.run(1e5, (round + 1) * 10 * MS);
    for (const vm of vms) {
      assert.equal(vm.vcpus[0]?.getOneReg(X(9)), 0n, "memory of another VM was seen");
      releasePages(rig, vm);
      vm.destroy();
    }
    assert.equal(rig.host.pages.free, free);
  }
  assert.equal(rig.kvm.vms.length, 0);
});

function releasePages({ host }: Rig, { kvm }: Vm): void {
  const { memory, pages, pfns } = memslot(kvm, 0);
  for (let i = 0; i < pages; i++) host.pages.release(memory.ld32(pfns + 4 * i));
}

Deno.test("run: calls that a running vCPU cannot take fail with KVM's error", () => {
  const rig = makeRig();
  const vcpu = makeVm(rig, KEEPER).vcpus[0] as VcpuHandle;
  assert.throws(() => vcpu.getOneReg(X(0)), /ENOEXEC/);
  start(vcpu);
  rig.machine.run(1000, MS);
  assert.throws(() => vcpu.getOneReg(X(0)), (e) => e instanceof KvmError && e.errno === -16);
  assert.throws(() => vcpu.run(), /KVM_RUN: EBUSY/);
});

Deno.test("run: a vCPU that was not initialised, and memory slots that overlap", () => {
  const rig = makeRig();
  const results: number[] = [];
  const vm = makeVm(rig, KEEPER, 1, (_, ret) => {
    results.push(ret);
    return false;
  });
  vm.vcpus[0]?.run();
  rig.machine.run(1000, MS);
  assert.deepEqual(results, [-8]);
  assert.throws(() => vm.setUserMemoryRegion(1, GUEST_RAM + 4096, [1, 2]), /EEXIST/);
  assert.throws(() => vm.setUserMemoryRegion(1, 2 ** 40, [1]), /EFAULT/);
  assert.throws(() => vm.setUserMemoryRegion(1, 0x800, [1]), /EINVAL/);
});
