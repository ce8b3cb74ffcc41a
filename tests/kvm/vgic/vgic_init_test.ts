/** Making, initialising and destroying a vgic, in the right order and in wrong ones. */
import assert from "node:assert/strict";
import { KVM_REQ } from "../../../src/kvm/kvm_host.ts";
import { ERRNO } from "../../../src/kvm/vgic/errno.ts";
import { vgicGlobal } from "../../../src/kvm/vgic/vgic_global.ts";
import {
  kvmVgicCreate,
  kvmVgicDestroy,
  kvmVgicHypInit,
  kvmVgicMapResources,
  vgicInit,
} from "../../../src/kvm/vgic/vgic_init.ts";
import { VGIC_CONFIG_EDGE, VGIC_CONFIG_LEVEL, vgicGetIrq } from "../../../src/kvm/vgic/vgic_irq.ts";
import { VGIC_GRP, VGIC_V3_ADDR_TYPE } from "../../../src/kvm/vgic/vgic_kvm_device.ts";
import { vgicReregisterIodevs } from "../../../src/kvm/vgic/vgic_init.ts";
import { GICD_BASE, GICR_BASE, World } from "./world.ts";

for (const lrs of [1, 4, 16]) {
  Deno.test(`the number of list registers is the hardware's (${lrs})`, () => {
    assert.equal(vgicGlobal(new World({ lrs }).host).nrLr, lrs);
  });
}

Deno.test("no maintenance interrupt, no vgic", () => {
  const w = new World({ bare: true });
  const info = { ...vgicGlobal(w.host).info, maintIrq: 0 };
  assert.equal(kvmVgicHypInit(w.host, w.el2(0), info), ERRNO.ENXIO);
});

Deno.test("private interrupts: SGIs edge and enabled, PPIs level and disabled, all group 1", () => {
  const w = new World({ asReset: true });
  for (let intid = 0; intid < 32; intid++) {
    const irq = w.irq(intid, 1);
    assert.equal(irq.config, intid < 16 ? VGIC_CONFIG_EDGE : VGIC_CONFIG_LEVEL);
    assert.equal(irq.enabled, intid < 16);
    assert.equal(irq.group, 1);
    assert.equal(irq.targetVcpu, w.vcpu(1).state.base);
    assert.equal(irq.mpidr, 1);
  }
});

Deno.test("shared interrupts: edge, disabled, group 1, to vCPU 0", () => {
  const w = new World({ asReset: true, nrIrqs: 96 });
  for (let intid = 32; intid < 96; intid++) {
    const irq = w.irq(intid);
    assert.equal(irq.intid, intid);
    assert.equal(irq.config, VGIC_CONFIG_EDGE);
    assert.equal(irq.enabled, false);
    assert.equal(irq.group, 1);
    assert.equal(irq.targetVcpu, w.vcpu(0).state.base);
  }
  assert.equal(vgicGetIrq(w.kvm, w.vcpu(0), 96), undefined);
  assert.equal(vgicGetIrq(w.kvm, undefined, 5), undefined);
});

Deno.test("256 interrupts unless told", () => {
  const w = new World({ bare: true });
  assert.equal(kvmVgicCreate(w.kvm, 3), 0);
  assert.equal(vgicInit(w.kvm), 0);
  assert.equal(w.kvm.vgic.nrSpis, 224);
  assert.equal(vgicInit(w.kvm), 0);
});

Deno.test("creation: only GICv3, only once, not after a vCPU ran", () => {
  const w = new World({ bare: true });
  assert.equal(kvmVgicCreate(w.kvm, 2), ERRNO.ENODEV);
  w.vcpu(1).state.hasRunOnce = true;
  assert.equal(kvmVgicCreate(w.kvm, 3), ERRNO.EBUSY);
  w.vcpu(1).state.hasRunOnce = false;
  assert.equal(kvmVgicCreate(w.kvm, 3), 0);
  assert.equal(kvmVgicCreate(w.kvm, 3), ERRNO.EEXIST);
});

Deno.test("initialisation: not without a device, not while a vCPU is being made, not without memory", () => {
  const w = new World({ bare: true });
  assert.equal(vgicInit(w.kvm), ERRNO.EINVAL);
  kvmVgicCreate(w.kvm, 3);
  w.kvm.state.createdVcpus = 3;
  assert.equal(vgicInit(w.kvm), ERRNO.EBUSY);
  const poor = new World({ bare: true, info: { allocateStats: () => 0 } });
  kvmVgicCreate(poor.kvm, 3);
  assert.equal(vgicInit(poor.kvm), ERRNO.ENOMEM);
});

Deno.test("mapping: nothing without a vgic; kills the VM when an address or the initialisation is missing", () => {
  const w = new World({ bare: true });
  assert.equal(kvmVgicMapResources(w.kvm), 0);
  kvmVgicCreate(w.kvm, 3);
  assert.equal(kvmVgicMapResources(w.kvm), ERRNO.ENXIO);
  assert.equal(w.kvm.state.vmBugged, true);
  assert.notEqual(w.vcpu(0).state.requests & KVM_REQ.VM_DEAD, 0);
  w.setAttr(VGIC_GRP.ADDR, BigInt(VGIC_V3_ADDR_TYPE.REDIST), BigInt(GICR_BASE));
  assert.equal(kvmVgicMapResources(w.kvm), ERRNO.ENXIO);
  w.setAttr(VGIC_GRP.ADDR, BigInt(VGIC_V3_ADDR_TYPE.DIST), BigInt(GICD_BASE));
  assert.equal(kvmVgicMapResources(w.kvm), ERRNO.EBUSY);
  assert.equal(vgicInit(w.kvm), 0);
  assert.equal(kvmVgicMapResources(w.kvm), 0);
  assert.equal(kvmVgicMapResources(w.kvm), 0);
  assert.equal(w.kvm.ioBus.length, 3);
});

Deno.test("mapping: frames that overlap are refused", () => {
  const w = new World({ bare: true });
  kvmVgicCreate(w.kvm, 3);
  w.setAttr(VGIC_GRP.ADDR, BigInt(VGIC_V3_ADDR_TYPE.REDIST), BigInt(GICR_BASE));
  w.setAttr(VGIC_GRP.ADDR, BigInt(VGIC_V3_ADDR_TYPE.DIST), BigInt(GICR_BASE + 0x1_0000));
  vgicInit(w.kvm);
  assert.equal(kvmVgicMapResources(w.kvm), ERRNO.EINVAL);
});

Deno.test("destruction: off the bus, memory given back, nothing listed", () => {
  const w = new World();
  w.enable(40);
  w.inject(40, true);
  const { spis } = w.kvm.vgic;
  kvmVgicDestroy(w.kvm);
  assert.deepEqual(w.kvm.ioBus, []);
  assert.deepEqual(w.freed, [spis]);
  assert.equal(w.kvm.vgic.initialized, false);
  assert.equal(vgicGetIrq(w.kvm, undefined, 40), undefined);
  w.run(0, () => assert.equal(w.virq(0), false));
});

Deno.test("after a restore the frames are put on a fresh bus from the state in memory", () => {
  const w = new World();
  w.kvm.ioBus.length = 0;
  assert.equal(vgicReregisterIodevs(w.kvm), 0);
  assert.deepEqual(w.kvm.ioBus.map((r) => r.baseIpa), [
    GICD_BASE,
    GICR_BASE,
    GICR_BASE + 0x2_0000,
  ]);
  assert.equal(w.read(0), 0x52);
});

Deno.test("two VMs see nothing of each other", () => {
  const a = new World();
  const b = new World();
  a.enable(40);
  a.inject(40, true);
  assert.deepEqual(b.serveAll(0), []);
  assert.equal(b.irq(40).enabled, false);
});
