/** Who gets an interrupt that is injected or sent, who is kicked for it, and what is refused. */
import assert from "node:assert/strict";
import { GICR_SGI } from "../../../src/arm/arch/gic.ts";
import {
  kvmVgicInjectIrq,
  kvmVgicSetOwner,
  kvmVgicVmcrSync,
  vgicKickVcpus,
} from "../../../src/kvm/vgic/vgic.ts";
import { apListIntids } from "../../../src/kvm/vgic/vgic_debug.ts";
import { vgicV3DispatchSgi } from "../../../src/kvm/vgic/vgic_sgi.ts";
import { ERRNO } from "../../../src/kvm/vgic/errno.ts";
import { World } from "./world.ts";

Deno.test("an injection kicks its target, also when the interrupt is already listed", () => {
  const w = new World();
  w.setEdge(40);
  w.enable(40);
  w.route(40, 1);
  w.inject(40, true);
  assert.deepEqual(w.kicks, [1]);
  w.inject(40, true);
  assert.deepEqual(w.kicks, [1, 1]);
  assert.equal(w.vcpu(0).state.requests, 0);
});

Deno.test("an injection that changes nothing does nothing", () => {
  const w = new World();
  w.enable(40);
  w.inject(40, false);
  assert.deepEqual(w.kicks, []);
  w.inject(40, true);
  w.kicks.length = 0;
  w.inject(40, true);
  assert.deepEqual(w.kicks, []);
});

Deno.test("an owned interrupt listens to its owner only", () => {
  const w = new World();
  w.enable(40);
  assert.equal(kvmVgicSetOwner(w.vcpu(0), 40, 77), 0);
  assert.equal(kvmVgicSetOwner(w.vcpu(0), 40, 77), 0);
  assert.equal(kvmVgicSetOwner(w.vcpu(0), 40, 78), ERRNO.EEXIST);
  assert.equal(kvmVgicSetOwner(w.vcpu(0), 3, 77), ERRNO.EINVAL);
  assert.equal(w.inject(40, true), 0);
  assert.equal(w.irq(40).lineLevel, false);
  assert.equal(kvmVgicInjectIrq(w.kvm, 0, 40, true, 77), 0);
  assert.equal(w.irq(40).lineLevel, true);
});

Deno.test("injections of what is not there fail", () => {
  const w = new World({ nrIrqs: 96 });
  assert.equal(w.inject(96, true), ERRNO.EINVAL);
  assert.equal(w.inject(95, true), 0);
  assert.equal(kvmVgicInjectIrq(w.kvm, 9, 20, true, 0), ERRNO.EINVAL);
  assert.equal(new World({ bare: true }).inject(40, true), ERRNO.EBUSY);
});

Deno.test("an injection is traced", () => {
  const w = new World();
  w.inject(40, true);
  const last = w.trace.read(w.trace.written - 1);
  assert.equal(last?.name, "vgic_update_irq_pending");
  assert.equal(last?.text, "VCPU: 0, IRQ 40, level: 1");
});

Deno.test("SGIs: target list, affinity, broadcast, group checks", () => {
  const w = new World({ vcpus: 4, mpidr: (id) => id < 2 ? id : 0x100 + id });
  const listed = () => w.kvm.vcpus.map((v) => apListIntids(v).length);
  vgicV3DispatchSgi(w.vcpu(0), (1 << 24) | 0b1111, 0, true);
  assert.deepEqual(listed(), [1, 1, 0, 0]);
  vgicV3DispatchSgi(w.vcpu(0), (2 << 24) | (1 << 16) | 0b1111, 0, true);
  assert.deepEqual(listed(), [1, 1, 1, 1]);
  vgicV3DispatchSgi(w.vcpu(1), 3 << 24, 1 << 8, true);
  assert.deepEqual(listed(), [2, 1, 2, 2]);
  vgicV3DispatchSgi(w.vcpu(1), (4 << 24) | 0b1111, 1, true); // Aff2 1: nobody
  assert.deepEqual(listed(), [2, 1, 2, 2]);
  // Group 1 interrupts are out of reach for ICC_SGI0R_EL1, group 0 ones are not.
  vgicV3DispatchSgi(w.vcpu(1), (4 << 24) | 1, 0, false);
  assert.deepEqual(listed(), [2, 1, 2, 2]);
  w.writeRd(GICR_SGI.IGROUPR0, 0xffff_ffef, 0);
  vgicV3DispatchSgi(w.vcpu(1), (4 << 24) | 1, 0, false);
  assert.deepEqual(listed(), [3, 1, 2, 2]);
});

Deno.test("kick_vcpus kicks those with a deliverable interrupt", () => {
  const w = new World({ vcpus: 3 });
  w.enable(40);
  w.route(40, 2);
  w.inject(40, true);
  for (const v of w.kvm.vcpus) kvmVgicVmcrSync(v);
  w.kicks.length = 0;
  vgicKickVcpus(w.kvm);
  assert.deepEqual(w.kicks, [2]);
});
