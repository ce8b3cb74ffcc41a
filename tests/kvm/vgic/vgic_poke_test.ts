import assert from "node:assert/strict";
import { apListIntids } from "../../../src/kvm/vgic/vgic.ts";
import { ERRNO } from "../../../src/kvm/vgic/errno.ts";
import { vgicRouteSpi } from "../../../src/kvm/vgic/vgic_poke.ts";
import { GICD } from "../../../src/arm/arch/gic.ts";
import { World } from "./world.ts";

Deno.test("routing a listed interrupt kicks the vCPU that must give it up", () => {
  const w = new World({ vcpus: 2 });
  w.enable(40);
  w.inject(40, true);
  w.kicks.length = 0;
  assert.equal(vgicRouteSpi(w.kvm, 40, w.vcpu(1)), 0);
  assert.ok(w.kicks.includes(0));
  assert.equal(w.read(GICD.IROUTER + 8 * 40), 1);
  w.run(0, () => assert.equal(w.virq(0), false));
  assert.deepEqual(w.run(1, () => w.serve(1)), [40]);
});

Deno.test("routing a pending interrupt that went to nobody queues it", () => {
  const w = new World({ vcpus: 2 });
  w.enable(40);
  w.write(GICD.IROUTER + 8 * 40, 9);
  w.inject(40, true);
  assert.equal(vgicRouteSpi(w.kvm, 40, w.vcpu(1)), 0);
  assert.deepEqual(apListIntids(w.vcpu(1)), [40]);
});

Deno.test("only SPIs of an initialised vgic can be routed", () => {
  const w = new World();
  assert.equal(vgicRouteSpi(w.kvm, 20, w.vcpu(0)), ERRNO.EINVAL);
  assert.equal(vgicRouteSpi(w.kvm, 128, w.vcpu(0)), ERRNO.EINVAL);
  const bare = new World({ bare: true });
  assert.equal(vgicRouteSpi(bare.kvm, 40, bare.vcpu(0)), ERRNO.EBUSY);
});
