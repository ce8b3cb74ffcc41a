import assert from "node:assert/strict";
import { R } from "../../src/arm/arch/sysregs.ts";
import { HOST_VECTORS } from "../../src/host/el2_setup.ts";
import { Host, type StepResult } from "../../src/host/host.ts";
import { PPI } from "../../src/host/irq.ts";
import { SLICE_NS } from "../../src/host/scheduler.ts";
import { type HostThread, SUSPEND, suspend, THREAD_STATE } from "../../src/host/threads.ts";
import { FakeHardware, hostParts } from "./fake_hardware.ts";

interface Rig {
  readonly hardware: FakeHardware;
  readonly host: Host;
  readonly log: string[];
}

function boot(pcpus: number): Rig {
  const hardware = new FakeHardware(pcpus);
  const parts = hostParts(hardware);
  const start = hardware.ram.pa + (4 << 20);
  const host = new Host({ hardware, ...parts, pages: { start, end: start + 64 * 4096 } });
  host.boot();
  return { hardware, host, log: [] };
}

/** A thread that logs its number each time it runs and gives up the CPU as `how` says. */
function worker(rig: Rig, arg: number, how: number, pcpu = 0): HostThread {
  const { threads } = rig.host;
  const kind = threads.register({
    name: `worker ${arg}`,
    run: () => {
      rig.log.push(`run${arg}`);
      return suspend(how, 0);
    },
    schedIn: () => rig.log.push(`in${arg}`),
    schedOut: () => rig.log.push(`out${arg}`),
  });
  const thread = threads.create(kind, arg, 1, pcpu);
  thread.notify = true;
  return thread;
}

function steps({ host }: Rig, pcpu: number, count: number): StepResult[] {
  return Array.from({ length: count }, () => host.step(pcpu));
}

Deno.test("host: boot sets EL2 up for a VHE host and opens interrupts", () => {
  const { hardware, host } = boot(2);
  for (const port of hardware.ports) {
    assert.equal(port.regs.get(R.HCR_EL2), (1n << 34n) | (1n << 31n) | (1n << 27n));
    assert.equal(port.regs.get(R.VBAR_EL2), BigInt(HOST_VECTORS));
    assert.equal(port.regs.get(R.ICC_CTLR_EL1), 2n); // EOImode
    assert.equal(port.masked, false);
  }
  assert.equal(host.step(1), "idle");
});

Deno.test("host: a blocked thread sleeps until it is woken, and the CPU idles", () => {
  const rig = boot(1);
  const thread = worker(rig, 1, SUSPEND.BLOCK);
  rig.host.scheduler.wake(thread);
  assert.deepEqual(steps(rig, 0, 2), ["again", "idle"]);
  assert.deepEqual(rig.log, ["in1", "run1", "out1"]);
  assert.equal(thread.state, THREAD_STATE.BLOCKED);
  assert.equal(rig.host.scheduler.wake(thread), true);
  assert.deepEqual(steps(rig, 0, 2), ["again", "idle"]);
});

Deno.test("host: a wake-up between the decision to sleep and the sleep is not lost", () => {
  const rig = boot(1);
  const { threads, scheduler } = rig.host;
  let runs = 0;
  const kind = threads.register({
    name: "racer",
    run: (thread) => {
      runs++;
      if (runs === 1) assert.equal(scheduler.wake(thread), false);
      return suspend(SUSPEND.BLOCK, 0);
    },
  });
  scheduler.wake(threads.create(kind, 0, 1));
  steps(rig, 0, 4);
  assert.equal(runs, 2);
});

Deno.test("host: two threads alternate when they yield, with the notifiers around each change", () => {
  const rig = boot(1);
  for (const n of [1, 2]) rig.host.scheduler.wake(worker(rig, n, SUSPEND.RESCHED));
  steps(rig, 0, 3);
  assert.deepEqual(rig.log.slice(0, 7), ["in1", "run1", "out1", "in2", "run2", "out2", "in1"]);
});

Deno.test("host: a slice ends only when somebody else is waiting", () => {
  const rig = boot(1);
  const { scheduler, hrtimers } = rig.host;
  const alone = worker(rig, 1, SUSPEND.NONE);
  scheduler.wake(alone);
  steps(rig, 0, 3);
  assert.equal(hrtimers.nextNs(0), undefined);
  scheduler.wake(worker(rig, 2, SUSPEND.NONE));
  assert.equal(hrtimers.nextNs(0), SLICE_NS);
  rig.hardware.time = SLICE_NS;
  rig.hardware.fake(0).pending.push(PPI.HYP_TIMER);
  rig.log.length = 0;
  steps(rig, 0, 2);
  assert.deepEqual(rig.log, ["out1", "in2", "run2", "run2"]);
});

Deno.test("host: waking a thread of an idle CPU sends it a reschedule interrupt", () => {
  const rig = boot(2);
  const thread = worker(rig, 1, SUSPEND.NONE, 1);
  rig.host.scheduler.wake(thread);
  // INTID 0, target list bit 1
  assert.equal(rig.hardware.fake(0).regs.get(R.ICC_SGI1R_EL1), 2n);
  assert.equal(rig.host.step(1), "again");
  assert.deepEqual(rig.log, ["in1", "run1"]);
});

Deno.test("host: a running thread moves to the CPUs it is allowed", () => {
  const rig = boot(2);
  const thread = worker(rig, 1, SUSPEND.NONE);
  rig.host.scheduler.wake(thread);
  steps(rig, 0, 1);
  rig.host.scheduler.setAffinity(thread, 0b10);
  assert.deepEqual(steps(rig, 0, 1), ["idle"]);
  steps(rig, 1, 1);
  assert.deepEqual(rig.log, ["in1", "run1", "out1", "in1", "run1"]);
  assert.equal(thread.pcpu, 1);
});

Deno.test("host: a CPU about to go idle takes over a thread that waits elsewhere, if it may run it", () => {
  const rig = boot(2);
  const { scheduler } = rig.host;
  const [first, second] = [worker(rig, 1, SUSPEND.NONE), worker(rig, 2, SUSPEND.NONE)];
  for (const thread of [first, second]) {
    thread.affinity = 0b01;
    scheduler.wake(thread);
  }
  assert.deepEqual(steps(rig, 0, 1), ["again"]);
  assert.deepEqual(steps(rig, 1, 1), ["idle"]);
  scheduler.setAffinity(second, 0);
  steps(rig, 1, 1);
  assert.deepEqual(rig.log, ["in1", "run1", "in2", "run2"]);
  assert.deepEqual([first.pcpu, second.pcpu], [0, 1]);
  assert.deepEqual([scheduler.queue(0).running, scheduler.queue(1).running], [1, 1]);
});

Deno.test("host: a thread in a guest gets its vector, and a stray exception fails", () => {
  const rig = boot(1);
  const thread = worker(rig, 1, SUSPEND.GUEST);
  assert.throws(() => rig.host.onEl2Exception(0, 0x480), /exception to EL2 of the host/);
  rig.host.scheduler.wake(thread);
  assert.deepEqual(steps(rig, 0, 2), ["guest", "guest"]);
  assert.deepEqual(rig.log, ["in1", "run1"]);
  rig.host.onEl2Exception(0, 0x480);
  assert.equal(thread.vector, 0x480);
  steps(rig, 0, 1);
  assert.deepEqual(rig.log, ["in1", "run1", "run1"]);
});

Deno.test("host: interrupts are acknowledged, dropped, handled, and deactivated unless forwarded", () => {
  const rig = boot(1);
  const { hardware, host } = rig;
  const seen: number[] = [];
  host.irqs.request(40, (intid) => seen.push(intid));
  host.irqs.request(41, (intid) => seen.push(intid), true);
  hardware.fake(0).log.length = 0;
  hardware.fake(0).pending.push(40, 41);
  host.step(0);
  assert.deepEqual(seen, [40, 41]);
  assert.deepEqual(hardware.fake(0).log, [
    "ICC_EOIR1_EL1=28",
    "ICC_DIR_EL1=28",
    "ICC_EOIR1_EL1=29",
  ]);
});

Deno.test("host: masked interrupts wait", () => {
  const { hardware, host } = boot(1);
  hardware.fake(0).masked = true;
  hardware.fake(0).pending.push(PPI.HYP_TIMER);
  assert.equal(host.step(0), "again");
  assert.equal(hardware.fake(0).pending.length, 1);
});

Deno.test("host: work from outside runs in a thread of its own, ahead of the others", () => {
  const rig = boot(1);
  const busy = worker(rig, 1, SUSPEND.NONE);
  rig.host.scheduler.wake(busy);
  steps(rig, 0, 1);
  rig.host.queueWork(() => rig.log.push(`work on ${rig.host.currentCpu}`));
  assert.ok(rig.hardware.bell);
  steps(rig, 0, 2);
  assert.deepEqual(rig.log, ["in1", "run1", "out1", "work on 0", "in1", "run1"]);
  assert.ok(!rig.host.hasWork && !rig.hardware.bell);
});

Deno.test("host: a spinlock held across a suspension fails at once", () => {
  const rig = boot(1);
  const { threads, locks, arena, scheduler } = rig.host;
  const lock = arena.reserve(8);
  const kind = threads.register({
    name: "leaver",
    run: () => {
      locks.take("kvm", lock);
      return suspend(SUSPEND.BLOCK, 0);
    },
  });
  scheduler.wake(threads.create(kind, 0, 1));
  assert.throws(() => steps(rig, 0, 1), /spinlock is held/);
});

Deno.test("host: a phase goes on with the next where no timer, interrupt or thread comes between", () => {
  const rig = boot(1);
  const { hardware, host } = rig, seen: boolean[] = [];
  const kind = host.threads.register({
    name: "asks",
    run: () => {
      seen.push(host.goesOn);
      hardware.due = false;
      seen.push(host.goesOn);
      hardware.fake(0).pending.push(0);
      seen.push(host.goesOn);
      hardware.fake(0).pending.length = 0;
      host.scheduler.resched(0);
      seen.push(host.goesOn);
      return suspend(SUSPEND.BLOCK, 0);
    },
  });
  host.scheduler.wake(host.threads.create(kind, 0, 1));
  host.step(0);
  assert.deepEqual(seen, [false, true, false, false]);
});
