import assert from "node:assert/strict";
import {
  KVM_CAP,
  KVM_EXIT,
  KVM_MEM_LOG_DIRTY_PAGES,
  KVM_MEM_READONLY,
  type VcpuHandle,
  type Vm,
} from "../../src/kvm/api.ts";
import { memslot } from "../../src/kvm/mmu.ts";
import { counts, GUEST_RAM, makeRig, makeVm, PAGE, PC, type Rig, start, X } from "./kvm_rig.ts";

const MS = 1_000_000;
const STORE = [
  0xf900_0001, // str x1, [x0]
  0x1400_0000, // b .
];
const LOAD = [
  0xf940_0001, // ldr x1, [x0]
  0x1400_0000, // b .
];

function pfnsOf({ kvm }: Vm, id: number): number[] {
  const slot = memslot(kvm, id);
  return Array.from({ length: slot.pages }, (_, i) => slot.memory.ld32(slot.pfns + 4 * i));
}

function setFlags(vm: Vm, flags: number): void {
  vm.setUserMemoryRegion(0, GUEST_RAM, pfnsOf(vm, 0), flags);
}

/** Runs the program from its start with X0, for as long as it takes, and gets the vCPU out. */
function run(rig: Rig, vcpu: VcpuHandle, x0: number): void {
  vcpu.setOneReg(PC, BigInt(GUEST_RAM));
  vcpu.setOneReg(X(0), BigInt(x0));
  vcpu.run();
  rig.machine.run(10_000, rig.machine.nowNs + MS);
  if (vcpu.running) vcpu.kick();
  rig.machine.run(10_000, rig.machine.nowNs + MS);
  assert.equal(vcpu.running, false);
}

const dirtyPages = (log: Uint8Array): number[] =>
  Array.from(log).flatMap((byte, i) =>
    Array.from({ length: 8 }, (_, bit) => bit).filter((bit) => (byte >> bit) & 1)
      .map((bit) => 8 * i + bit)
  );

Deno.test("dirty log: written pages are reported once, until they are written again", () => {
  const rig = makeRig();
  const vm = makeVm(rig, STORE);
  const vcpu = vm.vcpus[0] as VcpuHandle;
  start(vcpu);
  rig.machine.run(10_000, MS);
  vcpu.kick();
  rig.machine.run(10_000, 2 * MS);
  assert.throws(() => vm.getDirtyLog(0), /ENOENT/);
  // Page 3 is mapped and writable before logging begins: it must be seen all the same.
  run(rig, vcpu, GUEST_RAM + 3 * PAGE);
  setFlags(vm, KVM_MEM_LOG_DIRTY_PAGES);
  run(rig, vcpu, GUEST_RAM + 3 * PAGE);
  run(rig, vcpu, GUEST_RAM + 9 * PAGE + 8);
  assert.deepEqual(dirtyPages(vm.getDirtyLog(0)), [3, 9]);
  assert.deepEqual(dirtyPages(vm.getDirtyLog(0)), []);
  run(rig, vcpu, GUEST_RAM + 9 * PAGE);
  assert.deepEqual(dirtyPages(vm.getDirtyLog(0)), [9]);
  setFlags(vm, 0);
  run(rig, vcpu, GUEST_RAM + 9 * PAGE);
  assert.throws(() => vm.getDirtyLog(0), /ENOENT/);
});

Deno.test("dirty log: reading dirties nothing", () => {
  const rig = makeRig();
  const vm = makeVm(rig, LOAD);
  const vcpu = vm.vcpus[0] as VcpuHandle;
  setFlags(vm, KVM_MEM_LOG_DIRTY_PAGES);
  vcpu.init();
  run(rig, vcpu, GUEST_RAM + 5 * PAGE);
  assert.deepEqual(dirtyPages(vm.getDirtyLog(0)), []);
});

Deno.test("dirty log: cleared by hand, page by page", () => {
  const rig = makeRig();
  const vm = makeVm(rig, STORE);
  const vcpu = vm.vcpus[0] as VcpuHandle;
  assert.throws(() => vm.enableCap(KVM_CAP.MANUAL_DIRTY_LOG_PROTECT2, 2), /EINVAL/);
  vm.enableCap(KVM_CAP.MANUAL_DIRTY_LOG_PROTECT2, 1);
  setFlags(vm, KVM_MEM_LOG_DIRTY_PAGES);
  vcpu.init();
  run(rig, vcpu, GUEST_RAM + 3 * PAGE);
  run(rig, vcpu, GUEST_RAM + 9 * PAGE);
  assert.deepEqual(dirtyPages(vm.getDirtyLog(0)), [3, 9]);
  assert.deepEqual(dirtyPages(vm.getDirtyLog(0)), [3, 9]);
  vm.clearDirtyLog(0, 0, 16, new Uint8Array([8, 0]));
  assert.deepEqual(dirtyPages(vm.getDirtyLog(0)), [9]);
  run(rig, vcpu, GUEST_RAM + 3 * PAGE);
  assert.deepEqual(dirtyPages(vm.getDirtyLog(0)), [3, 9]);
  assert.throws(() => vm.clearDirtyLog(0, 8, 8, new Uint8Array(2)), /EINVAL/);
  assert.throws(() => vm.clearDirtyLog(0, 0, 8, new Uint8Array(2)), /EINVAL/);
  assert.throws(() => vm.clearDirtyLog(0, 0, 17, new Uint8Array(3)), /EINVAL/);
});

Deno.test("dirty log: all pages dirty at first, and none read-only", () => {
  const rig = makeRig();
  const vm = makeVm(rig, STORE);
  const vcpu = vm.vcpus[0] as VcpuHandle;
  vcpu.init();
  run(rig, vcpu, GUEST_RAM + 3 * PAGE);
  vm.enableCap(KVM_CAP.MANUAL_DIRTY_LOG_PROTECT2, 3);
  setFlags(vm, KVM_MEM_LOG_DIRTY_PAGES);
  const before = counts(rig.trace)["kvm_guest_fault"];
  run(rig, vcpu, GUEST_RAM + 3 * PAGE);
  assert.equal(counts(rig.trace)["kvm_guest_fault"], before);
  assert.equal(dirtyPages(vm.getDirtyLog(0)).length, 16);
  vm.clearDirtyLog(0, 0, 16, new Uint8Array([0xff, 0xff]));
  run(rig, vcpu, GUEST_RAM + 3 * PAGE);
  assert.deepEqual(dirtyPages(vm.getDirtyLog(0)), [3]);
});

Deno.test("dirty log: a block is taken apart, page by page", () => {
  const rig = makeRig();
  const vm = rig.kvm.createVm();
  const first = rig.host.pages.allocateRun(512, 512);
  assert.ok(first > 0);
  const pfns = Array.from({ length: 512 }, (_, i) => first + i);
  rig.machine.writeRam(first * PAGE, new Uint8Array(new Uint32Array(STORE).buffer));
  vm.setUserMemoryRegion(0, GUEST_RAM, pfns);
  const vcpu = vm.createVcpu(0, () => false);
  vcpu.init();
  run(rig, vcpu, GUEST_RAM + 100 * PAGE);
  const faults = () => counts(rig.trace)["kvm_guest_fault"] ?? 0;
  const before = faults();
  run(rig, vcpu, GUEST_RAM + 200 * PAGE);
  assert.equal(faults(), before, "one block, no more faults");
  setFlags(vm, KVM_MEM_LOG_DIRTY_PAGES);
  run(rig, vcpu, GUEST_RAM + 200 * PAGE);
  run(rig, vcpu, GUEST_RAM + 511 * PAGE);
  assert.deepEqual(dirtyPages(vm.getDirtyLog(0)), [200, 511]);
});

Deno.test("memory slots: of one in use only logging changes", () => {
  const vm = makeVm(makeRig(), STORE);
  const pfns = pfnsOf(vm, 0);
  assert.throws(() => setFlags(vm, KVM_MEM_READONLY), /EINVAL/);
  assert.throws(() => setFlags(vm, 4), /EINVAL/);
  assert.throws(() => vm.setUserMemoryRegion(0, GUEST_RAM, pfns.slice(1)), /EINVAL/);
  assert.throws(() => vm.setUserMemoryRegion(0, GUEST_RAM, pfns.toReversed()), /EINVAL/);
  assert.throws(() => vm.setUserMemoryRegion(1, 0, []), /EINVAL/);
  assert.throws(() => vm.setUserMemoryRegion(16, 0, [1]), /EINVAL/);
});

Deno.test("read-only slot: reads are memory, writes go to user space and the page stays as it is", () => {
  const rig = makeRig();
  const writes: [number, bigint][] = [];
  const vm = makeVm(rig, STORE, 1, ({ vcpu: { run } }) => {
    if (run.exitReason === KVM_EXIT.MMIO) writes.push([run.mmioPhysAddr, run.mmioData]);
    return run.exitReason === KVM_EXIT.MMIO;
  });
  const flash = 0x0800_0000 - 0x10_0000;
  const pfn = rig.host.pages.allocate();
  vm.setUserMemoryRegion(1, flash, [pfn], KVM_MEM_READONLY);
  const vcpu = vm.vcpus[0] as VcpuHandle;
  vcpu.init();
  vcpu.setOneReg(X(1), 0x55n);
  run(rig, vcpu, flash + 16);
  assert.deepEqual(writes, [[flash + 16, 0x55n]]);
  assert.equal(rig.machine.memory.ld64(rig.host.pages.addressOf(pfn) + 16), 0n);
});

Deno.test("an access without a syndrome is user space's when it asked for it, else an error", () => {
  const rig = makeRig();
  const seen: number[] = [];
  const vm = makeVm(rig, [0xa900_0001, 0x1400_0000], 1, ({ vcpu: { run } }, ret) => { // stp x1, x0, [x0]
    seen.push(ret, run.exitReason, run.nisvFaultIpa);
    return false;
  });
  const vcpu = vm.vcpus[0] as VcpuHandle;
  vcpu.init();
  run(rig, vcpu, 0x0900_0000);
  assert.deepEqual(seen.slice(0, 1), [-38]);
  vm.enableCap(KVM_CAP.ARM_NISV_TO_USER);
  seen.length = 0;
  run(rig, vcpu, 0x0900_0008);
  assert.deepEqual(seen, [0, KVM_EXIT.ARM_NISV, 0x0900_0008]);
});
