/** What the guest sees of interrupts, with 1, 4 and 16 list registers. */
import assert from "node:assert/strict";
import { GICD } from "../../../src/arm/arch/gic.ts";
import { R } from "../../../src/arm/arch/sysregs.ts";
import { VgicCpuStatLayout } from "../../../src/kvm/vgic/vgic_stat.ts";
import { KVM_REQ, VgicIrqLayout } from "../../../src/kvm/kvm_host.ts";
import { kvmVgicVcpuPendingIrq, kvmVgicVmcrSync } from "../../../src/kvm/vgic/vgic.ts";
import { apListIntids } from "../../../src/kvm/vgic/vgic_debug.ts";
import { vgicV3DispatchSgi } from "../../../src/kvm/vgic/vgic_sgi.ts";
import { SPURIOUS, World } from "./world.ts";

/** A test for each number of list registers. */
function eachLrs(name: string, body: (w: World, lrs: number) => void): void {
  for (const lrs of [1, 4, 16]) {
    Deno.test(`${name} (${lrs} list registers)`, () => body(new World({ lrs }), lrs));
  }
}

/** ICC_SGI1R_EL1 of `sgi` to vCPU `to` (0 to 15). */
function sendSgi(w: World, from: number, sgi: number, to: number): void {
  vgicV3DispatchSgi(w.vcpu(from), (sgi << 24) | (1 << to), 0, true);
}

eachLrs("an SGI arrives once, at its target only", (w) => {
  sendSgi(w, 0, 5, 1);
  assert.deepEqual(w.serveAll(0), []);
  assert.deepEqual(w.serveAll(1), [5]);
  assert.deepEqual(apListIntids(w.vcpu(1)), []);
});

eachLrs("an SGI sent again while pending is one, while active it comes again", (w) => {
  sendSgi(w, 0, 5, 1);
  sendSgi(w, 0, 5, 1);
  w.enter(1);
  assert.equal(w.ack(1), 5);
  w.exit(1);
  sendSgi(w, 0, 5, 1);
  w.enter(1);
  w.eoi(1, 5);
  assert.equal(w.ack(1), 5);
  w.eoi(1, 5);
  assert.equal(w.ack(1), SPURIOUS);
  w.exit(1);
  assert.deepEqual(w.serveAll(1), []);
});

eachLrs("a level PPI comes again until its line drops", (w) => {
  w.enable(20, 1);
  w.inject(20, true, 1);
  assert.deepEqual(w.run(1, () => w.serve(1)), [20]);
  assert.deepEqual(w.run(1, () => w.serve(1)), [20]);
  w.inject(20, false, 1);
  assert.deepEqual(w.run(1, () => w.serve(1)), []);
  assert.deepEqual(apListIntids(w.vcpu(1)), []);
  assert.deepEqual(w.run(0, () => w.serve(0)), []);
});

eachLrs("a level SPI asks for its end by maintenance interrupt", (w) => {
  w.enable(40);
  w.inject(40, true);
  w.enter(0);
  assert.deepEqual(w.lr(0, 0), {
    intid: 40,
    source: 0,
    state: "pending",
    priority: 0,
    group: 1,
    hw: false,
    hwIntid: undefined,
    eoi: true,
  });
  w.ack(0);
  assert.equal(w.maintenance(0), false);
  w.inject(40, false);
  w.eoi(0, 40);
  assert.equal(w.maintenance(0), true);
  w.exit(0);
  assert.deepEqual(w.acked, [8]);
  assert.equal(w.maintenance(0), false);
});

eachLrs("an edge SPI is latched: one interrupt for an edge, lowering means nothing", (w) => {
  w.setEdge(40);
  w.enable(40);
  w.inject(40, true);
  w.inject(40, false);
  assert.deepEqual(w.serveAll(0), [40]);
  w.inject(40, true);
  assert.deepEqual(w.serveAll(0), [40]);
});

eachLrs("an edge that comes while the first is active is seen after its end", (w) => {
  w.setEdge(40);
  w.enable(40);
  w.inject(40, true);
  w.run(0, () => assert.equal(w.ack(0), 40));
  w.inject(40, true);
  w.run(0, () => {
    assert.equal(w.lr(0, 0).state, "pending and active");
    assert.equal(w.ack(0), SPURIOUS);
    w.eoi(0, 40);
    assert.equal(w.ack(0), 40);
    w.eoi(0, 40);
  });
  assert.deepEqual(w.serveAll(0), []);
});

eachLrs("an edge in a list register that the guest did not take is not lost", (w) => {
  w.setEdge(40);
  w.enable(40);
  w.inject(40, true);
  w.run(0, () => assert.equal(w.virq(0), true));
  assert.equal(w.irq(40).pendingLatch, true);
  assert.deepEqual(w.serveAll(0), [40]);
});

eachLrs("a level line dropped before the acknowledgement is taken back at the next exit", (w) => {
  w.enable(40);
  w.inject(40, true);
  w.enter(0);
  w.inject(40, false);
  w.exit(0);
  w.enter(0);
  assert.equal(w.virq(0), false);
  assert.equal(w.ack(0), SPURIOUS);
  w.exit(0);
  assert.deepEqual(apListIntids(w.vcpu(0)), []);
});

eachLrs("a level and a latch are kept apart: clearing the latch leaves the line", (w) => {
  w.enable(40);
  w.write(GICD.ISPENDR + 4, 1 << 8);
  assert.equal(w.irq(40).pendingLatch, true);
  assert.equal(w.irq(40).lineLevel, false);
  w.inject(40, true);
  w.write(GICD.ICPENDR + 4, 1 << 8);
  assert.equal(w.read(GICD.ISPENDR + 4), 1 << 8);
  w.inject(40, false);
  assert.equal(w.read(GICD.ISPENDR + 4), 0);
});

eachLrs("a soft pending level interrupt comes once: its end clears the latch", (w) => {
  w.enable(40);
  w.write(GICD.ISPENDR + 4, 1 << 8);
  assert.deepEqual(w.serveAll(0), [40]);
  assert.equal(w.irq(40).pendingLatch, false);
});

eachLrs("masked by PMR: signalled only when the mask opens", (w) => {
  w.enable(40);
  w.setPriority(40, 0xa0);
  w.guestWrite(0, "ICC_PMR_EL1", 0x80);
  w.inject(40, true);
  w.enter(0);
  assert.equal(w.virq(0), false);
  w.guestWrite(0, "ICC_PMR_EL1", 0xf0);
  assert.equal(w.virq(0), true);
  assert.equal(w.ack(0), 40);
  w.exit(0);
});

eachLrs("masked by PMR: does not wake the vCPU", (w) => {
  w.enable(40);
  w.setPriority(40, 0xa0);
  w.guestWrite(0, "ICC_PMR_EL1", 0xa0);
  w.inject(40, true);
  kvmVgicVmcrSync(w.vcpu(0));
  assert.equal(kvmVgicVcpuPendingIrq(w.vcpu(0)), false);
  w.guestWrite(0, "ICC_PMR_EL1", 0xa8);
  kvmVgicVmcrSync(w.vcpu(0));
  assert.equal(kvmVgicVcpuPendingIrq(w.vcpu(0)), true);
});

eachLrs("disabled: not queued; enabling delivers it", (w) => {
  w.inject(40, true);
  assert.deepEqual(apListIntids(w.vcpu(0)), []);
  assert.deepEqual(w.serveAll(0), []);
  w.enable(40);
  assert.deepEqual(w.run(0, () => w.serve(0)), [40]);
});

eachLrs("disabled while queued: leaves the ap_list at the next exit", (w) => {
  w.enable(40);
  w.inject(40, true);
  w.disable(40);
  w.enter(0);
  assert.equal(w.virq(0), false);
  w.exit(0);
  assert.deepEqual(apListIntids(w.vcpu(0)), []);
});

eachLrs("group disabled in the CPU interface: not signalled", (w) => {
  w.enable(40);
  w.guestWrite(0, "ICC_IGRPEN1_EL1", 0);
  w.inject(40, true);
  w.enter(0);
  assert.equal(w.virq(0), false);
  w.guestWrite(0, "ICC_IGRPEN1_EL1", 1);
  assert.equal(w.virq(0), true);
  w.exit(0);
});

eachLrs("group 0: acknowledged by IAR0 only", (w) => {
  w.enable(40);
  w.write(GICD.IGROUPR + 4, 0xffff_feff);
  w.guestWrite(0, "ICC_IGRPEN0_EL1", 1);
  w.inject(40, true);
  w.enter(0);
  assert.equal(w.lr(0, 0).group, 0);
  assert.equal(w.ack(0), SPURIOUS);
  assert.equal(w.guestRead(0, "ICC_IAR0_EL1"), 40);
  w.exit(0);
});

eachLrs("distributor disabled: nothing is forwarded, enabling kicks and delivers", (w) => {
  w.enable(40);
  w.write(GICD.CTLR, 0);
  w.inject(40, true);
  assert.deepEqual(apListIntids(w.vcpu(0)), []);
  assert.equal(kvmVgicVcpuPendingIrq(w.vcpu(0)), false);
  w.write(GICD.CTLR, 2);
  // KVM queues nothing when the distributor comes on: the next change of the interrupt does.
  assert.deepEqual(apListIntids(w.vcpu(0)), []);
  w.enable(40);
  assert.deepEqual(w.run(0, () => w.serve(0)), [40]);
});

eachLrs("distributor enabled again: vCPUs with something queued are kicked", (w) => {
  w.enable(40);
  w.inject(40, true);
  kvmVgicVmcrSync(w.vcpu(0));
  w.write(GICD.CTLR, 0);
  w.kicks.length = 0;
  w.write(GICD.CTLR, 2);
  assert.deepEqual(w.kicks, [0]);
  assert.notEqual(w.vcpu(0).state.requests & KVM_REQ.IRQ_PENDING, 0);
});

eachLrs("higher priority first, whatever the order of arrival", (w) => {
  for (const [intid, priority] of [[40, 0xa0], [41, 0x20], [42, 0x60]] as const) {
    w.enable(intid);
    w.setEdge(intid);
    w.setPriority(intid, priority);
    w.inject(intid, true);
  }
  assert.deepEqual(w.serveAll(0), [41, 42, 40]);
});

eachLrs("a higher priority preempts an active one, a lower one waits", (w, lrs) => {
  for (const [intid, priority] of [[40, 0x80], [41, 0x20], [42, 0xc0]] as const) {
    w.setEdge(intid);
    w.enable(intid);
    w.setPriority(intid, priority);
  }
  w.inject(40, true);
  w.run(0, () => assert.equal(w.ack(0), 40));
  w.inject(41, true);
  w.inject(42, true);
  w.enter(0);
  if (lrs === 1) {
    // The active one keeps the only list register: it must be findable by its end.
    assert.equal(w.lr(0, 0).intid, 40);
    assert.equal(w.ack(0), SPURIOUS);
  } else {
    assert.equal(w.ack(0), 41);
    assert.equal(w.ack(0), SPURIOUS);
    w.eoi(0, 41);
  }
  w.eoi(0, 40);
  w.exit(0);
  assert.deepEqual(w.serveAll(0), lrs === 1 ? [41, 42] : [42]);
});

eachLrs("more pending than list registers: all arrive, most urgent first", (w, lrs) => {
  const intids = Array.from({ length: 20 }, (_, i) => 40 + i);
  for (const intid of intids) {
    w.setEdge(intid);
    w.enable(intid);
    w.setPriority(intid, (59 - intid) << 3);
    w.inject(intid, true);
  }
  w.enter(0);
  const filled = Array.from({ length: lrs }, (_, i) => w.lr(0, i).intid);
  assert.deepEqual(filled, intids.slice().reverse().slice(0, lrs));
  w.exit(0);
  assert.deepEqual(w.serveAll(0), intids.slice().reverse());
});

eachLrs(
  "overflow: the maintenance interrupt asks for the rest when the registers run empty",
  (w, lrs) => {
    const intids = Array.from({ length: lrs + 1 }, (_, i) => 40 + i);
    for (const intid of intids) {
      w.setEdge(intid);
      w.enable(intid);
      w.inject(intid, true);
    }
    w.enter(0);
    // Underflow is "none or one valid": with a single list register it would be there from the start,
    // and no guest would get anywhere, so there the end of what is in it is asked for.
    assert.equal(w.maintenance(0), false);
    assert.equal(w.vcpu(0).cpuIf.vgicHcr & 2, lrs === 1 ? 0 : 2);
    assert.equal(w.lr(0, 0).eoi, lrs === 1);
    const served = w.serve(0);
    assert.equal(served.length, lrs);
    assert.equal(w.maintenance(0), true);
    w.exit(0);
    assert.equal(w.vcpu(0).cpuIf.vgicHcr & 2, 0);
    assert.deepEqual(w.run(0, () => w.serve(0)), intids.filter((i) => !served.includes(i)));
  },
);

eachLrs("no underflow is asked for when everything fits", (w, lrs) => {
  for (let intid = 40; intid < 40 + lrs; intid++) {
    w.setEdge(intid);
    w.enable(intid);
    w.inject(intid, true);
  }
  w.enter(0);
  assert.equal(w.vcpu(0).cpuIf.vgicHcr & 2, 0);
  assert.equal(w.maintenance(0), false);
  w.exit(0);
});

eachLrs("active ones are never pushed out by more urgent pending ones", (w, lrs) => {
  for (let i = 0; i < lrs; i++) {
    w.setEdge(40 + i);
    w.enable(40 + i);
    w.setPriority(40 + i, 0xf0 - 8 * i);
    w.inject(40 + i, true);
    w.run(0, () => assert.equal(w.ack(0), 40 + i));
  }
  for (let i = 0; i < 4; i++) {
    w.setEdge(80 + i);
    w.enable(80 + i);
    w.setPriority(80 + i, 0);
    w.inject(80 + i, true);
  }
  w.enter(0);
  const held = Array.from({ length: lrs }, (_, i) => w.lr(0, i));
  assert.deepEqual(
    held.map((lr) => lr.intid).sort(),
    Array.from({ length: lrs }, (_, i) => 40 + i),
  );
  assert.ok(held.every((lr) => lr.state === "active"));
  for (let i = lrs - 1; i >= 0; i--) w.eoi(0, 40 + i);
  w.exit(0);
  assert.deepEqual(w.serveAll(0), [80, 81, 82, 83]);
});

eachLrs("EOImode 1: the end is by DIR, EOI only drops the priority", (w) => {
  w.guestWrite(0, "ICC_CTLR_EL1", 2);
  w.enable(40);
  w.inject(40, true);
  w.enter(0);
  assert.equal(w.ack(0), 40);
  w.inject(40, false);
  w.eoi(0, 40);
  w.exit(0);
  assert.equal(w.irq(40).active, true);
  w.enter(0);
  w.guestWrite(0, "ICC_DIR_EL1", 40);
  w.exit(0);
  assert.equal(w.irq(40).active, false);
  assert.deepEqual(apListIntids(w.vcpu(0)), []);
});

eachLrs("registers that stay in hardware survive put and load", (w) => {
  w.enable(40);
  w.setPriority(40, 0x40);
  w.guestWrite(0, "ICC_PMR_EL1", 0xc8);
  w.guestWrite(0, "ICC_BPR1_EL1", 5);
  w.inject(40, true);
  w.run(0, () => assert.equal(w.ack(0), 40));
  w.put(0);
  const poison = ["ICH_VMCR_EL2", "ICH_AP0R0_EL2", "ICH_AP1R0_EL2"] as const;
  for (const name of poison) w.gic.ichWrite(0, R[name], 0xffff_ffff, 0);
  w.load(0);
  assert.equal(w.guestRead(0, "ICC_PMR_EL1"), 0xc8);
  assert.equal(w.guestRead(0, "ICC_BPR1_EL1"), 5);
  assert.equal(w.guestRead(0, "ICC_RPR_EL1"), 0x40);
});

eachLrs("with list register writes dropped, no interrupt arrives", (w) => {
  w.port(0).dropped = "ICH_LR";
  w.enable(40);
  w.inject(40, true);
  w.run(0, () => {
    assert.equal(w.virq(0), false);
    assert.equal(w.ack(0), SPURIOUS);
  });
});

eachLrs("with ICH_HCR_EL2 writes dropped (En stays 0), no interrupt arrives", (w) => {
  w.port(0).dropped = "ICH_HCR";
  w.enable(40);
  w.inject(40, true);
  w.run(0, () => assert.equal(w.virq(0), false));
});

Deno.test("an entry and exit with nothing in flight touch neither hardware nor locks", () => {
  const w = new World();
  const before = structuredClone(w.locks.stats);
  w.run(0, () => {});
  assert.deepEqual(w.port(0).events, []);
  assert.deepEqual(w.locks.stats, before);
});

Deno.test("the operations of an entry and an exit with one interrupt", () => {
  const w = new World({ lrs: 4 });
  w.enable(40);
  w.inject(40, true);
  w.port(0).events.length = 0;
  w.run(0, () => {});
  assert.deepEqual(w.port(0).events, [
    "write ICH_HCR_EL2",
    "write ICH_LR0_EL2",
    "read ICH_ELRSR_EL2",
    "write ICH_HCR_EL2",
    "read ICH_LR0_EL2",
    "write ICH_LR0_EL2",
  ]);
});

Deno.test("a list register that is empty after the run is not read back", () => {
  const w = new World({ lrs: 4 });
  w.setEdge(40);
  w.enable(40);
  w.inject(40, true);
  w.port(0).events.length = 0;
  w.run(0, () => w.serve(0));
  assert.equal(w.port(0).events.includes("read ICH_LR0_EL2"), false);
  assert.equal(w.irq(40).active, false);
});

Deno.test("a flush touches exactly the interrupts of the ap_list", () => {
  const w = new World({ lrs: 4, nrIrqs: 992 });
  const intids = [40, 500, 7, 900, 33, 21];
  for (const intid of intids) {
    w.enable(intid);
    if (intid < 16) sendSgi(w, 0, intid, 0);
    else w.inject(intid, true);
  }
  w.inject(60, true); // disabled: not in flight
  const touched = new Set<number>();
  w.locks.schedulePoint = (event, lockClass, at) => {
    if (event === "take" && lockClass === "irq") touched.add(at);
  };
  w.enter(0);
  w.locks.schedulePoint = undefined;
  const expected = intids.map((i) => w.irq(i).base + VgicIrqLayout.offset.irqLock);
  assert.deepEqual([...touched].sort(), expected.sort());
  const stat = VgicCpuStatLayout.at(w.memory, w.vcpu(0).vgic.cpuStat);
  assert.equal(stat.lastFlushedIrqs, intids.length);
  assert.equal(stat.overflows, 1);
  w.exit(0);
});

Deno.test("no lock is held and interrupts are as before after every public operation", () => {
  const w = new World();
  w.setEdge(40);
  w.enable(40);
  w.inject(40, true);
  assert.equal(w.locks.heldCount, 0);
  assert.equal(w.port(0).irqsOff, false);
  w.run(0, () => {
    assert.equal(w.locks.heldCount, 0);
    w.serve(0);
  });
  assert.equal(w.locks.heldCount, 0);
});
