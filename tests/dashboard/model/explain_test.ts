import assert from "node:assert/strict";
import { type CheckId, explain, type Explanation } from "../../../src/dashboard/model/explain.ts";
import { readFrame } from "../../../src/vmm/frame.ts";
import { FakeMachine, type IrqEntry, lrHi, vmcr } from "../../screens/fake_machine.ts";

const [PENDING, ACTIVE, BOTH] = [1, 2, 3];

function ask(machine: FakeMachine, intid = 40, owner = -1): Explanation {
  machine.writer.publish(machine);
  const frame = readFrame(machine.memory, 0);
  const irq = frame?.irqs.find((i) => i.intid === intid && i.ownerVcpu === owner);
  assert.ok(frame && irq);
  return explain(frame, irq);
}

/** SPI 40, an edge, in list register 0 of vCPU 0, which runs and takes interrupts: nothing is in its way. */
function arriving(): { machine: FakeMachine; irq: IrqEntry } {
  const machine = new FakeMachine();
  const irq = machine.irq(40);
  Object.assign(irq, { vcpu: 0, apListPosition: 0, lr: 0, injected: 1 });
  machine.setLr(0, 0, 40, lrHi(PENDING, 0xa0));
  Object.assign(machine.vcpu(0), { apListLength: 1 });
  return { machine, irq };
}

/** SPI 40, pending in its latch and queued, in no list register yet. */
function queued(): { machine: FakeMachine; irq: IrqEntry } {
  const machine = new FakeMachine();
  const irq = machine.irq(40);
  Object.assign(irq, { pendingLatch: true, vcpu: 0, apListPosition: 0 });
  Object.assign(machine.vcpu(0), { apListLength: 1 });
  return { machine, irq };
}

function verdict(answer: Explanation, id: CheckId, pattern: RegExp): void {
  assert.equal(answer.verdict.id, id, answer.verdict.sentence);
  assert.match(answer.verdict.sentence, pattern);
}

Deno.test("nothing in the way: it is taken at the next instruction", () => {
  const answer = ask(arriving().machine);
  verdict(answer, "delivered", /vCPU 0 takes it at its next instruction/);
  const all = answer.checks.map((c) => c.status);
  assert.ok(all.slice(0, -1).every((s) => s === "pass"), JSON.stringify(answer.checks));
  assert.match(
    answer.checks.find((c) => c.id === "listRegister")?.sentence ?? "",
    /register 0 of vCPU 0/,
  );
  // Flushing an edge took its latch: the list register still says pending.
  assert.match(answer.checks.find((c) => c.id === "pending")?.sentence ?? "", /list register/);
});

Deno.test("not pending: an edge, an edge whose line stayed high, a level", () => {
  const machine = new FakeMachine();
  verdict(ask(machine), "pending", /no edge has come/);
  machine.irq(40).lineLevel = true;
  verdict(ask(machine), "pending", /Only the next rise counts/);
  verdict(ask(machine, 33), "pending", /line is low/);
  machine.irq(33).lineLevel = true;
  assert.notEqual(ask(machine, 33).verdict.id, "pending");
});

Deno.test("disabled, with the register's name", () => {
  const { machine, irq } = queued();
  Object.assign(irq, { enabled: false, vcpu: -1, apListPosition: -1 });
  verdict(ask(machine), "enabled", /GICD_ISENABLER1\b/);
  Object.assign(machine.irq(27, 2), { enabled: false, lineLevel: true });
  verdict(ask(machine, 27, 2), "enabled", /GICR_ISENABLER0/);
});

Deno.test("disabled while a list register holds it: it is presented all the same", () => {
  const { machine, irq } = arriving();
  irq.enabled = false;
  verdict(ask(machine), "delivered", /next instruction/);
  machine.vcpu(0).inGuest = false;
  verdict(ask(machine), "enabled", /Disabled/);
});

Deno.test("the distributor is off, or the group is at the CPU interface", () => {
  const off = queued().machine;
  off.distEnabled = false;
  verdict(ask(off), "distributor", /GICD_CTLR/);
  const { machine, irq } = arriving();
  machine.vcpu(0).vgicVmcr = vmcr(0xf0, false);
  verdict(ask(machine), "group", /ICC_IGRPEN1_EL1/);
  irq.group = 0;
  machine.vcpu(0).vgicVmcr = vmcr(0xf0);
  verdict(ask(machine), "group", /ICC_IGRPEN0_EL1/);
});

Deno.test("masked by priority: equal does not pass", () => {
  const { machine } = arriving();
  machine.vcpu(0).vgicVmcr = vmcr(0xa0);
  verdict(ask(machine), "priorityMask", /0xa0 is not below ICC_PMR_EL1, which is 0xa0/);
  machine.vcpu(0).vgicVmcr = vmcr(0xa8);
  verdict(ask(machine), "delivered", /./);
});

Deno.test("lower or equal priority than what runs; a higher one preempts", () => {
  const { machine, irq } = arriving();
  machine.vcpu(0).rpr = 0xa0;
  verdict(ask(machine), "runningPriority", /handles one of 0xa0/);
  irq.priority = 0x80;
  verdict(ask(machine), "delivered", /./);
  // With a binary point of 7 no bit of 0x80 .. 0xa0 tells them apart.
  machine.vcpu(0).vgicVmcr = (vmcr(0xf0) | 7 << 18) >>> 0;
  machine.vcpu(0).rpr = 0x80;
  verdict(ask(machine), "runningPriority", /does not preempt/);
});

Deno.test("routed nowhere, and on the way to another vCPU", () => {
  const { machine, irq } = queued();
  irq.targetVcpu = 2;
  verdict(ask(machine), "target", /to go to vCPU 2 but is on the ap_list of vCPU 0/);
  Object.assign(irq, { targetVcpu: -1, vcpu: -1, apListPosition: -1 });
  verdict(ask(machine), "target", /names no vCPU/);
});

Deno.test("the vCPU is off", () => {
  const { machine } = queued();
  Object.assign(machine.vcpu(0), { state: 0, inGuest: false, pcpu: -1, vgicVmcr: 0 });
  verdict(ask(machine), "online", /vCPU 0 is off \(PSCI\)/);
});

Deno.test("the vCPU sleeps: PSTATE.I does not keep WFI asleep, the priority mask does", () => {
  const { machine } = queued();
  Object.assign(machine.vcpu(0), { state: 3, inGuest: false, pcpu: -1, pstate: 0x3c5 });
  verdict(ask(machine), "blocked", /has been kicked/);
  machine.vcpu(0).vgicVmcr = vmcr(0x80);
  verdict(ask(machine), "priorityMask", /Masked/);
});

Deno.test("the vCPU waits for a physical CPU", () => {
  const { machine } = queued();
  Object.assign(machine.vcpu(0), { state: 2, inGuest: false, pcpu: -1 });
  verdict(ask(machine), "scheduled", /waits for a physical CPU/);
});

Deno.test("list registers: full, or filled at the next entry", () => {
  const { machine, irq } = queued();
  verdict(ask(machine), "listRegister", /has been kicked/);
  machine.vcpu(0).inGuest = false;
  verdict(ask(machine), "listRegister", /the next entry of vCPU 0/);
  machine.vcpu(0).inGuest = true;
  irq.apListPosition = 4;
  for (let n = 0; n < 4; n++) machine.setLr(0, n, 50 + n, lrHi(PENDING, 0x80));
  machine.vcpu(0).vgicHcr = 3;
  verdict(ask(machine), "listRegister", /all 4 hold interrupts that come first.*position 4.*UIE/);
  machine.vcpu(0).inGuest = false;
  verdict(ask(machine), "listRegister", /4 interrupts come first and there are 4/);
});

Deno.test("the virtual CPU interface is off", () => {
  const { machine } = arriving();
  machine.vcpu(0).vgicHcr = 0;
  verdict(ask(machine), "interfaceEnabled", /ICH_HCR_EL2.En is 0/);
});

Deno.test("another pending interrupt comes first", () => {
  const { machine } = arriving();
  machine.setLr(0, 1, 33, lrHi(PENDING, 0x90));
  verdict(ask(machine), "highestPending", /Interrupt 33 comes first/);
  machine.setLr(0, 1, 33, lrHi(PENDING, 0xb0));
  verdict(ask(machine), "delivered", /./);
  // Active ones and ones of a group that is off are none.
  machine.setLr(0, 1, 33, lrHi(ACTIVE, 0x90));
  machine.setLr(0, 2, 34, lrHi(PENDING, 0x90, 0));
  verdict(ask(machine), "delivered", /./);
});

Deno.test("masked by the guest: PSTATE.I for Group 1, PSTATE.F for Group 0", () => {
  const { machine, irq } = arriving();
  machine.vcpu(0).pstate = 0x85;
  verdict(ask(machine), "pstate", /PSTATE.I of vCPU 0 is set .*0xffff800010123400/);
  irq.group = 0;
  machine.vcpu(0).vgicVmcr = (vmcr(0xf0) | 1) >>> 0;
  verdict(ask(machine), "delivered", /./);
  machine.vcpu(0).pstate = 0x45;
  verdict(ask(machine), "pstate", /PSTATE.F/);
});

Deno.test("delivered: active, active and pending again, a level still high", () => {
  const { machine, irq } = arriving();
  machine.setLr(0, 0, 40, lrHi(ACTIVE, 0xa0));
  verdict(ask(machine), "active", /^Delivered: vCPU 0 has acknowledged it .*EOImode\)\.$/);
  machine.setLr(0, 0, 40, lrHi(BOTH, 0xa0));
  verdict(ask(machine), "active", /pending again/);
  // The list register is newer than what the last fold wrote.
  irq.active = true;
  machine.setLr(0, 0, 40, lrHi(PENDING, 0xa0));
  verdict(ask(machine), "delivered", /./);
  // Outside the guest the vgic has it.
  Object.assign(machine.vcpu(0), { inGuest: false, usedLrs: 0 });
  verdict(ask(machine), "active", /Delivered/);
});

Deno.test("a pause is the answer only when nothing else is", () => {
  const { machine } = arriving();
  machine.header.paused = true;
  verdict(ask(machine), "paused", /paused/);
  machine.vcpu(0).pstate = 0x85;
  verdict(ask(machine), "pstate", /Masked/);
});

Deno.test("what happened before is told", () => {
  const { machine, irq } = arriving();
  Object.assign(irq, { acked: 3, eoied: 2, lastEventNs: 12_345_666_000 });
  assert.equal(ask(machine).past, "injected 1, acknowledged 3, ended 2; last event 12.0us ago");
  assert.match(ask(machine, 27, 1).past, /latency p50 2.30us, p99 41.0us$/);
});

Deno.test("a GICv2: its registers' names, and group 0 as IRQ unless FIQEn is set", () => {
  const { machine, irq } = arriving();
  machine.header.gic = 2;
  irq.group = 0;
  machine.setLr(0, 0, 40, lrHi(PENDING, 0xa0, 0));
  const vcpu = machine.vcpu(0);
  // Group 0 on, the mask open, VFIQEn clear.
  vcpu.vgicVmcr = ((0xf8 << 24) | 1) >>> 0;
  vcpu.pstate = 0x45;
  verdict(ask(machine), "delivered", /takes it at its next instruction/);
  vcpu.pstate = 0x85;
  verdict(ask(machine), "pstate", /PSTATE\.I of vCPU 0/);
  vcpu.vgicVmcr |= 8;
  verdict(ask(machine), "delivered", /takes it/);
  vcpu.vgicVmcr = 0;
  verdict(ask(machine), "group", /GICC_CTLR\.EnableGrp0 is 0/);
  irq.enabled = false;
  Object.assign(vcpu, { inGuest: false });
  verdict(ask(machine), "enabled", /GICD_ISENABLER1/);
});
