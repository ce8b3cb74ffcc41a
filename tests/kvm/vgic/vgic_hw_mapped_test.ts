/** Interrupts tied to physical ones, as the virtual timer's is. */
import assert from "node:assert/strict";
import { GICR_SGI } from "../../../src/arm/arch/gic.ts";
import { R } from "../../../src/arm/arch/sysregs.ts";
import { IRQ_OPS } from "../../../src/kvm/arm_vgic.ts";
import {
  kvmVgicInjectIrq,
  kvmVgicMapIsActive,
  kvmVgicMapPhysIrq,
  kvmVgicResetMappedIrq,
  kvmVgicSetOwner,
  kvmVgicUnmapPhysIrq,
} from "../../../src/kvm/vgic/vgic.ts";
import { apListIntids } from "../../../src/kvm/vgic/vgic_debug.ts";
import { setVgicIrqOps } from "../../../src/kvm/vgic/vgic_global.ts";
import { VGIC_GRP, vgicAttr, vgicV3SetAttr } from "../../../src/kvm/vgic/vgic_kvm_device.ts";
import { SPURIOUS, World } from "./world.ts";

const TIMER = 27;
const OWNER = 7;

/** vCPU 0's PPI 27 tied to the physical one, owned as by the timer, enabled. */
function mapped(lrs = 4): World {
  const w = new World({ lrs });
  kvmVgicMapPhysIrq(w.vcpu(0), TIMER, TIMER, IRQ_OPS.NONE);
  kvmVgicSetOwner(w.vcpu(0), TIMER, OWNER);
  w.enable(TIMER);
  return w;
}

const physical = (w: World) => {
  const view = w.gic.interrupt(0, TIMER);
  if (!view) throw new Error("no timer interrupt");
  return view;
};

/** The device raises its line; the host takes the physical interrupt and forwards it. */
function fire(w: World): void {
  w.gic.setPpi(0, TIMER, true);
  assert.equal(w.gic.iccRead(0, R.ICC_IAR1_EL1), TIMER);
  w.gic.iccWrite(0, R.ICC_EOIR1_EL1, TIMER, 0);
  kvmVgicInjectIrq(w.kvm, 0, TIMER, true, OWNER);
}

for (const lrs of [4, 16]) {
  Deno.test(`the guest's end deactivates the physical interrupt (${lrs} list registers)`, () => {
    const w = mapped(lrs);
    fire(w);
    assert.equal(physical(w).active, true);
    w.enter(0);
    const lr = w.lr(0, 0);
    assert.deepEqual([lr.hw, lr.hwIntid, lr.eoi], [true, TIMER, false]);
    assert.equal(w.ack(0), TIMER);
    w.gic.setPpi(0, TIMER, false);
    w.eoi(0, TIMER);
    assert.equal(physical(w).active, false);
    w.exit(0);
    assert.deepEqual(apListIntids(w.vcpu(0)), []);
    assert.equal(w.irq(TIMER).lineLevel, false);
  });
}

Deno.test("with a single list register its end is seen, and software deactivates", () => {
  const w = mapped(1);
  for (let i = 0; i < 3; i++) {
    fire(w);
    w.enter(0);
    const lr = w.lr(0, 0);
    assert.deepEqual([lr.hw, lr.eoi, w.maintenance(0)], [false, true, false]);
    assert.equal(w.ack(0), TIMER);
    w.gic.setPpi(0, TIMER, false);
    assert.equal(w.maintenance(0), false);
    w.eoi(0, TIMER);
    assert.equal(w.maintenance(0), true);
    assert.equal(physical(w).active, true);
    w.exit(0);
    assert.equal(physical(w).active, false);
    assert.deepEqual(apListIntids(w.vcpu(0)), []);
    assert.equal(w.irq(TIMER).lineLevel, false);
  }
});

Deno.test("with a single list register what is active keeps the physical one active", () => {
  const w = mapped(1);
  fire(w);
  w.run(0, () => w.ack(0));
  assert.deepEqual([physical(w).active, w.irq(TIMER).active], [true, true]);
  w.run(0, () => w.eoi(0, TIMER));
  // Still high: the hardware brings it anew.
  assert.deepEqual([physical(w).active, physical(w).pending], [false, true]);
});

Deno.test("a timer that fires again is seen again: only rises of the line count", () => {
  const w = mapped();
  for (let i = 0; i < 3; i++) {
    fire(w);
    assert.deepEqual(
      w.run(0, () => {
        const seen = w.ack(0);
        w.gic.setPpi(0, TIMER, false);
        w.eoi(0, seen);
        return [seen, w.ack(0)];
      }),
      [TIMER, SPURIOUS],
    );
    assert.deepEqual(apListIntids(w.vcpu(0)), []);
  }
});

Deno.test("a line still high after the end fires the physical interrupt again", () => {
  const w = mapped();
  fire(w);
  w.run(0, () => w.eoi(0, w.ack(0)));
  // The hardware brings it anew; the vgic does not invent one.
  assert.equal(physical(w).pending && !physical(w).active, true);
  assert.equal(w.irq(TIMER).active, false);
});

Deno.test("never acknowledged and the line dropped: taken back, the physical one deactivated", () => {
  const w = mapped();
  fire(w);
  w.enter(0);
  w.gic.setPpi(0, TIMER, false);
  w.exit(0);
  assert.equal(w.irq(TIMER).lineLevel, false);
  assert.equal(physical(w).active, false);
  assert.deepEqual(apListIntids(w.vcpu(0)), []);
  fire(w);
  w.run(0, () => assert.equal(w.ack(0), TIMER));
});

Deno.test("never acknowledged and the line high: stays pending, the physical one active", () => {
  const w = mapped();
  fire(w);
  w.run(0, () => {});
  assert.equal(w.irq(TIMER).lineLevel, true);
  assert.equal(physical(w).active, true);
  w.run(0, () => assert.equal(w.ack(0), TIMER));
});

Deno.test("raised again while active, line low at the end: asked of the device, not delivered", () => {
  const w = mapped();
  fire(w);
  w.run(0, () => w.ack(0));
  kvmVgicInjectIrq(w.kvm, 0, TIMER, true, OWNER);
  w.gic.setPpi(0, TIMER, false);
  w.run(0, () => w.eoi(0, TIMER));
  assert.equal(w.irq(TIMER).lineLevel, false);
  assert.deepEqual(apListIntids(w.vcpu(0)), []);
});

Deno.test("never pending and active together", () => {
  const w = mapped();
  fire(w);
  w.run(0, () => assert.equal(w.ack(0), TIMER));
  assert.equal(kvmVgicMapIsActive(w.vcpu(0), TIMER), true);
  w.irq(TIMER).lineLevel = true;
  w.enter(0);
  assert.equal(w.lr(0, 0).state, "active");
  w.exit(0);
});

Deno.test("the line level is asked of the device that has ops", () => {
  const w = mapped();
  let level = true;
  setVgicIrqOps(w.host, IRQ_OPS.ARCH_TIMER, {
    getInputLevel: (intid) => {
      assert.equal(intid, TIMER);
      return level;
    },
  });
  kvmVgicMapPhysIrq(w.vcpu(0), TIMER, TIMER, IRQ_OPS.ARCH_TIMER);
  assert.equal(w.readRd(GICR_SGI.ISPENDR0), (1 << TIMER) >>> 0);
  level = false;
  assert.equal(w.readRd(GICR_SGI.ISPENDR0), 0);
});

Deno.test("software resampling: no HW bit, deactivated when neither active nor pending", () => {
  const w = mapped();
  setVgicIrqOps(w.host, IRQ_OPS.ARCH_TIMER, { swResample: true, getInputLevel: () => false });
  kvmVgicMapPhysIrq(w.vcpu(0), TIMER, TIMER, IRQ_OPS.ARCH_TIMER);
  fire(w);
  w.enter(0);
  assert.deepEqual([w.lr(0, 0).hw, w.lr(0, 0).eoi], [false, true]);
  w.ack(0);
  w.gic.setPpi(0, TIMER, false);
  w.exit(0);
  assert.equal(physical(w).active, true);
  w.run(0, () => w.eoi(0, TIMER));
  assert.equal(physical(w).active, false);
});

Deno.test("ISPENDR makes the physical interrupt active, ICPENDR inactive again", () => {
  const w = mapped();
  w.writeRd(GICR_SGI.ISPENDR0, 1 << TIMER);
  assert.equal(physical(w).active, true);
  assert.equal(w.irq(TIMER).pendingLatch, true);
  w.writeRd(GICR_SGI.ICPENDR0, 1 << TIMER);
  assert.equal(physical(w).active, false);
  assert.equal(w.irq(TIMER).pendingLatch, false);
});

Deno.test("ICPENDR leaves the physical interrupt alone while the guest has it active", () => {
  const w = mapped();
  fire(w);
  w.run(0, () => w.ack(0));
  w.writeRd(GICR_SGI.ICPENDR0, 1 << TIMER);
  assert.equal(physical(w).active, true);
});

Deno.test("active registers of the guest reach the physical interrupt, those of user space nothing", () => {
  const w = mapped();
  const attr = vgicAttr(0, GICR_SGI.ISACTIVER0);
  assert.equal(
    vgicV3SetAttr(w.kvm, { group: VGIC_GRP.REDIST_REGS, attr, value: 1n << BigInt(TIMER) }),
    0,
  );
  assert.deepEqual([w.irq(TIMER).active, physical(w).active], [false, false]);
  w.running = w.vcpu(0);
  w.writeRd(GICR_SGI.ISACTIVER0, 1 << TIMER);
  assert.deepEqual([w.irq(TIMER).active, physical(w).active], [true, true]);
  assert.deepEqual(apListIntids(w.vcpu(0)), [TIMER]);
  w.writeRd(GICR_SGI.ICACTIVER0, 1 << TIMER);
  assert.deepEqual([w.irq(TIMER).active, physical(w).active], [false, false]);
});

Deno.test("enabling asks the device again, and deactivates when its line has dropped", () => {
  const w = mapped();
  w.disable(TIMER);
  fire(w);
  assert.equal(w.irq(TIMER).lineLevel, true);
  w.gic.setPpi(0, TIMER, false);
  w.enable(TIMER);
  assert.equal(w.irq(TIMER).lineLevel, false);
  assert.equal(physical(w).active, false);
  assert.deepEqual(apListIntids(w.vcpu(0)), []);
});

Deno.test("reset of a mapped interrupt, and its unmapping", () => {
  const w = mapped();
  fire(w);
  w.run(0, () => w.ack(0));
  kvmVgicResetMappedIrq(w.vcpu(0), TIMER);
  assert.equal(w.irq(TIMER).active, false);
  assert.equal(w.irq(TIMER).lineLevel, false);
  assert.equal(kvmVgicUnmapPhysIrq(w.vcpu(0), TIMER), 0);
  assert.equal(w.irq(TIMER).hw, false);
  assert.equal(kvmVgicMapIsActive(w.vcpu(0), TIMER), false);
});
