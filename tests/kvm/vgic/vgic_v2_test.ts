/** The vgic on GICv2 hardware: list registers through GICH, SGIs by sender, the guest's GICC. */
import assert from "node:assert/strict";
import { GICD } from "../../../src/arm/arch/gic.ts";
import { GICH } from "../../../src/arm/arch/gicv2.ts";
import { IRQ_OPS } from "../../../src/kvm/arm_vgic.ts";
import { stage2Of } from "../../../src/kvm/mmu.ts";
import { PTE } from "../../../src/kvm/hyp/pgtable.ts";
import { kvmVgicMapPhysIrq, kvmVgicVmcrSync } from "../../../src/kvm/vgic/vgic.ts";
import { apListIntids } from "../../../src/kvm/vgic/vgic_debug.ts";
import { vgicDebugIrqs, vgicDebugText } from "../../../src/kvm/vgic/vgic_debug.ts";
import { kvmVgicDestroy, kvmVgicHypInit } from "../../../src/kvm/vgic/vgic_init.ts";
import { vgicGlobal } from "../../../src/kvm/vgic/vgic_global.ts";
import { GICC_BASE, GICV_PA, World } from "./world.ts";

const world = (options: { vcpus?: number; lrs?: number } = {}): World =>
  new World({ gic: 2, vcpus: 3, ...options });

/** vCPU `from` sends SGI `intid` to vCPU 0. */
const sgi = (w: World, intid: number, from: number): void =>
  w.write(GICD.SGIR, (1 << 16) | intid, 4, from);

const at = (offset: number): string => `GICH+0x${offset.toString(16)}`;

Deno.test("probe: list registers from GICH_VTR; without GICH there is no virtualization", () => {
  const w = world({ lrs: 7 });
  const { nrLr, maxGicVcpus, canEmulateGicv2 } = vgicGlobal(w.host);
  assert.deepEqual([nrLr, maxGicVcpus, canEmulateGicv2], [7, 8, true]);
  const { info } = vgicGlobal(w.host);
  assert.equal(kvmVgicHypInit(w.host, w.el2(0), { ...info, vctrl: 0 }), -6);
});

Deno.test("the guest's GICC is the machine's GICV, as a device", () => {
  const w = world();
  const stage2 = stage2Of(w.kvm);
  for (const page of [0, 0x1000]) {
    const { at, level } = stage2.lookup(GICC_BASE + page);
    const lo = w.memory.ld32(at);
    assert.equal(level, 3);
    assert.equal((lo & ~0xfff) >>> 0, GICV_PA + page);
    assert.equal(lo & (0xf << 2), PTE.MEMATTR_DEVICE);
    assert.equal(lo & (PTE.S2AP_R | PTE.S2AP_W), PTE.S2AP_R | PTE.S2AP_W);
  }
  assert.equal(w.memory.ld32(stage2.lookup(GICC_BASE + 0x2000).at) & 1, 0);
});

Deno.test("a level SPI: list register, maintenance interrupt at its end, line asked again", () => {
  const w = world();
  w.setPriority(40, 0xa8);
  w.enable(40);
  w.inject(40, true);
  w.enter(0);
  assert.deepEqual(w.lr(0, 0), {
    intid: 40,
    source: 0,
    state: "pending",
    priority: 0xa8,
    group: 0,
    hw: false,
    hwIntid: undefined,
    eoi: true,
  });
  assert.ok(w.virq(0));
  assert.equal(w.ack(0), 40);
  w.inject(40, false);
  w.eoi(0, 40);
  assert.equal(w.maintenance(0), true);
  w.exit(0);
  assert.deepEqual(w.acked, [8]);
  assert.deepEqual(apListIntids(w.vcpu(0)), []);
});

Deno.test("an SGI from several vCPUs is taken once for each, the lowest first, each with its sender", () => {
  const w = world();
  for (const from of [2, 0, 1, 1]) sgi(w, 5, from);
  w.enter(0);
  assert.deepEqual([w.lr(0, 0).source, w.lr(0, 0).eoi], [0, true]);
  assert.equal(w.irq(5).source, 0b110);
  w.exit(0);
  assert.equal(w.irq(5).source, 0b111, "taken back: nobody has seen it");
  assert.deepEqual(w.serveAll(0), [5, (1 << 10) | 5, (2 << 10) | 5]);
  assert.deepEqual([w.irq(5).source, w.irq(5).pendingLatch], [0, false]);
});

Deno.test("an SGI that is active and has more senders: active alone, its end is seen", () => {
  const w = world();
  sgi(w, 5, 1);
  w.enter(0);
  assert.equal(w.ack(0), (1 << 10) | 5);
  w.exit(0);
  assert.deepEqual([w.irq(5).active, w.irq(5).activeSource], [true, 1]);
  sgi(w, 5, 2);
  w.enter(0);
  const { state, source, eoi } = w.lr(0, 0);
  assert.deepEqual({ state, source, eoi }, { state: "active", source: 1, eoi: true });
  w.eoi(0, (1 << 10) | 5);
  assert.equal(w.maintenance(0), true);
  w.exit(0);
  assert.deepEqual(w.serveAll(0), [(2 << 10) | 5]);
});

Deno.test("while an SGI has more senders, nothing of lower priority is shown", () => {
  const w = world();
  w.setPriority(5, 0x40);
  w.setPriority(40, 0x80);
  w.setPriority(41, 0x40);
  for (const intid of [40, 41]) {
    w.enable(intid);
    w.inject(intid, true);
  }
  sgi(w, 5, 1);
  sgi(w, 5, 2);
  w.enter(0);
  const shown = [0, 1, 2].map((n) => w.lr(0, n)).filter((lr) => lr.state !== "invalid");
  assert.deepEqual(shown.map((lr) => lr.intid).sort(), [41, 5]);
  w.exit(0);
  for (const intid of [40, 41]) w.inject(intid, false);
});

Deno.test("more interrupts than list registers: underflow asks for the rest", () => {
  for (const lrs of [1, 2, 4]) {
    const w = world({ lrs });
    const intids = [40, 41, 42, 43, 44, 45];
    for (const intid of intids) {
      w.setEdge(intid);
      w.enable(intid);
      w.inject(intid, true);
    }
    w.enter(0);
    assert.equal(w.vcpu(0).vgicV2.vgicHcr & 2, lrs === 1 ? 0 : 2);
    const first = w.serve(0);
    assert.equal(w.maintenance(0), true, `${lrs} list registers`);
    w.exit(0);
    assert.deepEqual([...first, ...w.serveAll(0)].sort(), intids);
  }
});

Deno.test("a HW-mapped PPI is ended by the guest at the physical distributor", () => {
  const w = world();
  w.enable(27);
  kvmVgicMapPhysIrq(w.vcpu(0), 27, 27, IRQ_OPS.NONE);
  w.gicv2.setPpi(0, 27, true);
  w.gicv2.giccWrite(0, 0x10, 4, w.gicv2.giccRead(0, 0x0c, 4));
  assert.equal(w.gicv2.interrupt(0, 27)?.active, true);
  w.inject(27, true);
  w.enter(0);
  assert.deepEqual([w.lr(0, 0).hw, w.lr(0, 0).hwIntid], [true, 27]);
  w.eoi(0, w.ack(0));
  assert.equal(w.gicv2.interrupt(0, 27)?.active, false);
  w.gicv2.setPpi(0, 27, false);
  w.exit(0);
  assert.deepEqual(apListIntids(w.vcpu(0)), []);
});

Deno.test("GICH is touched as the kernel does it: per entry, per exit, at load and at put", () => {
  const w = world();
  const { events } = w.port(0);
  w.run(0, () => {});
  assert.deepEqual(events, [], "nothing in flight, nothing touched");
  w.enable(40);
  w.inject(40, true);
  w.enter(0);
  assert.deepEqual(events, [`write ${at(GICH.HCR)}`, `write ${at(GICH.LR0)}`]);
  events.length = 0;
  w.exit(0);
  assert.deepEqual(events, [
    `read ${at(GICH.ELRSR0)}`,
    `read ${at(GICH.LR0)}`,
    `write ${at(GICH.LR0)}`,
    `write ${at(GICH.HCR)}`,
  ]);
  events.length = 0;
  w.put(0);
  assert.deepEqual(events, [`read ${at(GICH.VMCR)}`, `read ${at(GICH.APR)}`]);
  events.length = 0;
  w.load(0);
  assert.deepEqual(events, [`write ${at(GICH.VMCR)}`, `write ${at(GICH.APR)}`]);
  events.length = 0;
  kvmVgicVmcrSync(w.vcpu(0));
  assert.deepEqual(events, [`read ${at(GICH.VMCR)}`]);
});

Deno.test("an active interrupt and its priority survive put and load", () => {
  const w = world();
  w.setPriority(40, 0x60);
  w.enable(40);
  w.inject(40, true);
  w.run(0, () => w.ack(0));
  w.put(0);
  assert.equal(w.vcpu(0).vgicV2.vgicApr, 1 << 12);
  w.load(0);
  w.enter(0);
  assert.equal(w.gicv(0, "RPR"), 0x60);
  w.inject(40, false);
  w.eoi(0, 40);
  assert.equal(w.gicv(0, "RPR"), 0xff);
  w.exit(0);
  assert.deepEqual(apListIntids(w.vcpu(0)), []);
});

Deno.test("an SPI whose target changes goes to the other vCPU at the next exit", () => {
  const w = world();
  w.enable(40);
  w.inject(40, true);
  w.enter(0);
  w.route(40, 2);
  w.exit(0);
  assert.deepEqual([0, 2].map((n) => apListIntids(w.vcpu(n))), [[], [40]]);
  w.inject(40, false);
});

Deno.test("a GICv2 is initialised when first used", () => {
  const w = new World({ gic: 2, bare: true });
  assert.equal(w.inject(40, true), -16, "no controller yet");
  assert.equal(w.createV2(), 0);
  assert.equal(w.inject(40, true), 0);
  assert.equal(w.kvm.vgic.initialized, true);
  assert.equal(w.kvm.vgic.nrSpis, 224);
  kvmVgicDestroy(w.kvm);
  assert.equal(w.kvm.vgic.initialized, false);
});

Deno.test("vgic-state shows targets and senders", () => {
  const w = world();
  sgi(w, 5, 2);
  w.write(GICD.ITARGETSR + 40, 0b110, 1);
  const irqs = [...vgicDebugIrqs(w.kvm)];
  const five = irqs.find((i) => i.intid === 5 && i.ownerVcpuId === 0);
  assert.deepEqual([five?.source, five?.mpidr], [0b100, 1]);
  assert.equal(irqs.find((i) => i.intid === 40)?.mpidr, 0b110);
  assert.match(vgicDebugText(w.kvm), /vgic_model:\tGICv2\n/);
  w.run(0, () => {
    assert.equal([...vgicDebugIrqs(w.kvm)].find((i) => i.intid === 5)?.lr, 0);
    w.serve(0);
  });
});
