import assert from "node:assert/strict";
import type { AccessSize } from "../../src/vmm/mmio.ts";
import { Pl031, PL031_REG as REG, Pl031Layout, RTC_EPOCH } from "../../src/vmm/pl031.ts";
import { deviceRig } from "./device_rig.ts";

function bench() {
  const { arena } = deviceRig();
  const levels: boolean[] = [];
  const world = { now: 0, changes: 0, levels };
  const rtc = new Pl031(arena.make(Pl031Layout), {
    nowNs: () => world.now,
    setIrq: (level) => levels.push(level),
    alarmChanged: () => world.changes++,
  });
  rtc.start(RTC_EPOCH);
  rtc.reset();
  return { rtc, world };
}

Deno.test("RTCDR counts virtual seconds from the configured start", () => {
  const { rtc, world } = bench();
  assert.equal(rtc.read(REG.DR, 4), RTC_EPOCH);
  world.now = 999_999_999;
  assert.equal(rtc.read(REG.DR, 4), RTC_EPOCH);
  world.now = 2e9;
  assert.equal(rtc.read(REG.DR, 4), RTC_EPOCH + 2);
  assert.equal(new Date(RTC_EPOCH * 1000).toISOString(), "2024-01-01T00:00:00.000Z");
});

Deno.test("RTCLR sets the time, and the clock goes on from there; a reset keeps it", () => {
  const { rtc, world } = bench();
  world.now = 5e9;
  rtc.write(REG.LR, 4, 100);
  assert.equal(rtc.read(REG.DR, 4), 100);
  assert.equal(rtc.read(REG.LR, 4), 100);
  world.now = 8e9;
  rtc.reset();
  assert.equal(rtc.read(REG.DR, 4), 103);
  assert.equal(rtc.read(REG.LR, 4), 0);
});

Deno.test("the counter wraps at 32 bits", () => {
  const { rtc, world } = bench();
  rtc.write(REG.LR, 4, 0xffff_ffff);
  world.now = 1e9;
  assert.equal(rtc.read(REG.DR, 4), 0);
});

Deno.test("the alarm comes when RTCDR becomes RTCMR, reaches the line by RTCIMSC, and RTCICR clears it", () => {
  const { rtc, world } = bench();
  world.now = 1_300_000_000;
  rtc.write(REG.MR, 4, RTC_EPOCH + 3);
  assert.equal(rtc.nextNs, 3e9);
  assert.equal(world.changes, 1);
  rtc.onTime(2_999_999_999);
  assert.equal(rtc.read(REG.RIS, 4), 0);
  world.now = 3e9;
  rtc.onTime(3e9);
  assert.equal(rtc.nextNs, Infinity);
  assert.deepEqual([rtc.read(REG.RIS, 4), rtc.read(REG.MIS, 4)], [1, 0]);
  assert.deepEqual(world.levels, []);
  rtc.write(REG.IMSC, 4, 0xffff_ffff);
  assert.deepEqual([rtc.read(REG.IMSC, 4), rtc.read(REG.MIS, 4)], [1, 1]);
  assert.deepEqual(world.levels, [true]);
  rtc.write(REG.ICR, 4, 1);
  assert.deepEqual([rtc.read(REG.RIS, 4), rtc.read(REG.MIS, 4)], [0, 0]);
  assert.deepEqual(world.levels, [true, false]);
});

Deno.test("an alarm for now is due at once; one beyond the end of time never; RTCLR moves it", () => {
  const { rtc, world } = bench();
  world.now = 4e9;
  rtc.write(REG.MR, 4, RTC_EPOCH + 4);
  assert.equal(rtc.read(REG.RIS, 4), 1);
  assert.equal(rtc.nextNs, Infinity);
  rtc.write(REG.MR, 4, RTC_EPOCH + 3);
  assert.equal(rtc.nextNs, Infinity);
  rtc.write(REG.MR, 4, RTC_EPOCH + 10);
  assert.equal(rtc.nextNs, 10e9);
  rtc.write(REG.LR, 4, RTC_EPOCH + 9);
  assert.equal(rtc.nextNs, 5e9);
});

Deno.test("identification, RTCCR and read-only registers", () => {
  const { rtc } = bench();
  const ids = Array.from({ length: 8 }, (_, i) => rtc.read(REG.PeriphID0 + 4 * i, 4));
  assert.deepEqual(ids, [0x31, 0x10, 0x14, 0x00, 0x0d, 0xf0, 0x05, 0xb1]);
  const before = [REG.DR, REG.CR, REG.RIS, REG.MIS, REG.PeriphID0].map((r) => rtc.read(r, 4));
  for (const r of [REG.DR, REG.CR, REG.RIS, REG.MIS, REG.PeriphID0, 0x100]) {
    for (const size of [1, 2, 4] as AccessSize[]) rtc.write(r, size, 0xdead_beef);
  }
  const after = [REG.DR, REG.CR, REG.RIS, REG.MIS, REG.PeriphID0].map((r) => rtc.read(r, 4));
  assert.deepEqual(after, before);
  assert.equal(rtc.read(REG.CR, 1), 1);
  assert.equal(rtc.read(REG.PeriphID0 + 4, 2), 0x10);
});
