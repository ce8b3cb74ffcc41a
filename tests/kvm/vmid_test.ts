import assert from "node:assert/strict";
import { KvmLayout, type KvmState } from "../../src/kvm/kvm_host.ts";
import { CALL_HYP_VHE } from "../../src/kvm/call_hyp.ts";
import { VmidAllocator } from "../../src/kvm/vmid.ts";
import { FakeHardware, hostParts } from "../host/fake_hardware.ts";

function make(): { allocator: VmidAllocator; hardware: FakeHardware; vm(): KvmState } {
  const hardware = new FakeHardware(2);
  const { arena, locks } = hostParts(hardware);
  return {
    hardware,
    allocator: new VmidAllocator(arena, locks, 2, CALL_HYP_VHE),
    vm: () => arena.make(KvmLayout),
  };
}

const flushes = (hardware: FakeHardware) =>
  hardware.fake(0).log.filter((text) => text.startsWith("tlbi ALLE1IS")).length;

Deno.test("vmid: each VM has its own, never 0, and keeps it", () => {
  const { allocator, hardware, vm } = make();
  const a = vm(), b = vm();
  for (const kvm of [a, b, a]) allocator.update(hardware.port(0), 0, kvm);
  assert.notEqual(a.vmid & 0xff, b.vmid & 0xff);
  assert.ok((a.vmid & 0xff) !== 0 && (b.vmid & 0xff) !== 0);
  const before = a.vmid;
  allocator.update(hardware.port(1), 1, a);
  assert.equal(a.vmid, before);
});

Deno.test("vmid: when they run out, all TLBs are flushed once and what runs keeps its number", () => {
  const { allocator, hardware, vm } = make();
  const running = vm(), put = vm();
  allocator.update(hardware.port(1), 1, running);
  const number = running.vmid & 0xff;
  allocator.update(hardware.port(0), 0, put);
  const seen = new Set([number, put.vmid & 0xff]);
  for (let i = 0; i < 253; i++) {
    const other = vm();
    allocator.update(hardware.port(0), 0, other);
    seen.add(other.vmid & 0xff);
  }
  assert.equal(seen.size, 255);
  assert.equal(flushes(hardware), 0);
  allocator.clearActive(0);
  const last = vm();
  allocator.update(hardware.port(0), 0, last);
  assert.equal(flushes(hardware), 1);
  assert.notEqual(last.vmid & 0xff, number);
  assert.equal(Math.floor(last.vmid / 256), 2);
  allocator.update(hardware.port(1), 1, running);
  assert.equal(running.vmid, 2 * 256 + number);
  allocator.update(hardware.port(0), 0, put);
  assert.equal(Math.floor(put.vmid / 256), 2);
  assert.ok(new Set([running, put, last].map((kvm) => kvm.vmid)).size === 3);
});
