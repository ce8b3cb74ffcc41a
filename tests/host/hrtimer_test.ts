import assert from "node:assert/strict";
import { R } from "../../src/arm/arch/sysregs.ts";
import { Hrtimers } from "../../src/host/hrtimer.ts";
import { FakeHardware, hostParts } from "./fake_hardware.ts";

function make(): { hardware: FakeHardware; timers: Hrtimers; fired: number[]; kind: number } {
  const hardware = new FakeHardware(2);
  const { arena, locks } = hostParts(hardware);
  const timers = new Hrtimers(hardware, locks, arena, 16, () => 0);
  const fired: number[] = [];
  const kind = timers.register((arg) => {
    fired.push(arg);
    return 0;
  });
  return { hardware, timers, fired, kind };
}

const cval = (hardware: FakeHardware) => hardware.fake(0).regs.get(R.CNTHP_CVAL_EL2);
const ctl = (hardware: FakeHardware) => hardware.fake(0).regs.get(R.CNTHP_CTL_EL2);

Deno.test("hrtimer: the earliest timer is in the hardware, at the tick at or after it", () => {
  const { hardware, timers, kind } = make();
  timers.start(timers.create(kind, 1), 1000);
  assert.equal(cval(hardware), 63n); // 62.5 ticks
  timers.start(timers.create(kind, 2), 320);
  assert.equal(cval(hardware), 20n);
  assert.equal(ctl(hardware), 1n);
});

Deno.test("hrtimer: expires in order of time, equal ones in order of arming, and switches off", () => {
  const { hardware, timers, fired, kind } = make();
  for (const [arg, at] of [[1, 500], [2, 100], [3, 500], [4, 900]] as const) {
    timers.start(timers.create(kind, arg), at);
  }
  hardware.time = 500;
  timers.interrupt();
  assert.deepEqual(fired, [2, 1, 3]);
  assert.equal(cval(hardware), 57n);
  hardware.time = 912;
  timers.interrupt();
  assert.deepEqual(fired, [2, 1, 3, 4]);
  assert.equal(ctl(hardware), 0n);
  assert.equal(timers.nextNs(0), undefined);
});

Deno.test("hrtimer: an early interrupt fires nothing and programs the hardware again", () => {
  const { hardware, timers, fired, kind } = make();
  timers.start(timers.create(kind, 1), 1600);
  hardware.fake(0).regs.set(R.CNTHP_CTL_EL2, 0n);
  hardware.time = 100;
  timers.interrupt();
  assert.deepEqual(fired, []);
  assert.equal(ctl(hardware), 1n);
});

Deno.test("hrtimer: cancelled and moved timers", () => {
  const { hardware, timers, fired, kind } = make();
  const a = timers.create(kind, 1), b = timers.create(kind, 2);
  timers.start(a, 100);
  timers.start(b, 200);
  timers.cancel(a);
  timers.start(b, 50);
  assert.ok(!timers.isArmed(a) && timers.isArmed(b));
  hardware.time = 300;
  timers.interrupt();
  assert.deepEqual(fired, [2]);
});

Deno.test("hrtimer: a callback's result arms it again", () => {
  const { hardware, timers } = make();
  let left = 3;
  const kind = timers.register((_, now) => --left > 0 ? now + 100 : 0);
  const handle = timers.create(kind, 0);
  timers.start(handle, 100);
  for (const time of [100, 200, 300]) {
    assert.ok(timers.isArmed(handle));
    hardware.time = time;
    timers.interrupt();
  }
  assert.equal(left, 0);
  assert.ok(!timers.isArmed(handle));
});
