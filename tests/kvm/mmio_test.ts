import assert from "node:assert/strict";
import { type Kvm, type KvmIoDeviceOps, type Vcpu, WAIT } from "../../src/kvm/kvm_host.ts";
import {
  extended,
  extendMmioData,
  ioMemAbort,
  ioMemAccess,
  kvmIoBusRegister,
} from "../../src/kvm/mmio.ts";
import { ERRNO, RET } from "../../src/kvm/kvm_host.ts";
import type { VcpuHandle } from "../../src/kvm/api.ts";
import { makeRig, makeVm, X } from "./kvm_rig.ts";

const ISV = 1 << 24, WNR = 1 << 6, SF = 1 << 15;
const dabt = (size: number, register: number, flags: number): number =>
  ((0x24 << 26) | ISV | (Math.log2(size) << 22) | (register << 16) | flags) >>> 0;

function make(): { handle: VcpuHandle; vcpu: Vcpu; kvm: Kvm } {
  const vm = makeVm(makeRig(), []);
  const handle = vm.vcpus[0] as VcpuHandle;
  handle.init();
  return { handle, vcpu: handle.vcpu, kvm: vm.kvm };
}

Deno.test("mmio: what a load leaves in its register", () => {
  const extend = (...args: Parameters<typeof extendMmioData>) => {
    extendMmioData(...args);
    return [extended.lo, extended.hi];
  };
  assert.deepEqual(extend(0x1ff, 7, 1, false, true), [0xff, 0]);
  assert.deepEqual(extend(0x80, 0, 1, true, true), [0xffff_ff80, 0xffff_ffff]);
  assert.deepEqual(extend(0x80, 0, 1, true, false), [0xffff_ff80, 0]);
  assert.deepEqual(extend(0x1_8001, 0, 2, true, false), [0xffff_8001, 0]);
  assert.deepEqual(extend(0x8000_0000, 7, 4, true, true), [0x8000_0000, 0xffff_ffff]);
  assert.deepEqual(extend(0x8000_0000, 7, 4, false, true), [0x8000_0000, 0]);
  assert.deepEqual(extend(1, 0x8000_0000, 8, false, true), [1, 0x8000_0000]);
});

Deno.test("mmio: in-kernel devices get offset, length and value of the right type", () => {
  const { handle, vcpu, kvm } = make();
  const log: unknown[] = [];
  kvmIoBusRegister(kvm, 0x1000_0000, 0x100, {
    read: (_, offset, length) => (log.push(["read", offset, length]), 0xfedcn),
    write: (_, offset, length, value) => void log.push(["write", offset, length, value]),
  });
  handle.setOneReg(X(3), 0x1122_3344_5566_7788n);
  vcpu.state.faultEsr = dabt(2, 3, WNR);
  assert.equal(ioMemAbort(vcpu, 0x1000_0010), RET.GUEST);
  vcpu.state.faultEsr = dabt(8, 3, WNR | SF);
  assert.equal(ioMemAbort(vcpu, 0x1000_0018), RET.GUEST);
  vcpu.state.faultEsr = dabt(2, 4, 0);
  assert.equal(ioMemAbort(vcpu, 0x1000_00fe), RET.GUEST);
  assert.deepEqual(log, [
    ["write", 0x10, 2, 0x7788],
    ["write", 0x18, 8, 0x1122_3344_5566_7788n],
    ["read", 0xfe, 2],
  ]);
  assert.equal(handle.getOneReg(X(4)), 0xfedcn);
  vcpu.state.faultEsr = dabt(4, 4, 0);
  assert.equal(ioMemAbort(vcpu, 0x1000_00fe), RET.USER);
});

Deno.test("mmio: a device that must wait is asked again, and the access ends once", () => {
  const { handle, vcpu, kvm } = make();
  let left = 3;
  const device: KvmIoDeviceOps = { read: () => left-- > 0 ? WAIT : 7, write: () => WAIT };
  kvmIoBusRegister(kvm, 0x1000_0000, 0x10, device);
  vcpu.state.faultEsr = dabt(4, 5, 0);
  assert.equal(ioMemAbort(vcpu, 0x1000_0000), RET.WAIT_ACK);
  assert.equal(vcpu.state.iflags, 0);
  assert.deepEqual([ioMemAccess(vcpu), ioMemAccess(vcpu), ioMemAccess(vcpu)], [3, 3, RET.GUEST]);
  assert.equal(handle.getOneReg(X(5)), 7n);
  assert.equal(vcpu.stat.mmio_exit_kernel, 1);
});

Deno.test("mmio: no syndrome is an error, overlapping devices are a mistake of ours", () => {
  const { vcpu, kvm } = make();
  vcpu.state.faultEsr = (0x24 << 26) >>> 0;
  assert.equal(ioMemAbort(vcpu, 0x1000_0000), ERRNO.ENOSYS);
  const device: KvmIoDeviceOps = { read: () => 0, write: () => {} };
  kvmIoBusRegister(kvm, 0x1000_0000, 0x10, device);
  assert.throws(() => kvmIoBusRegister(kvm, 0x1000_000f, 0x10, device), /overlap/);
});
