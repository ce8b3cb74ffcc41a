import assert from "node:assert/strict";
import {
  BUTTON_PRESS_NS,
  Pl061,
  PL061_REG as REG,
  Pl061Layout,
  POWER_BUTTON_PIN,
} from "../../src/vmm/pl061.ts";
import { deviceRig } from "./device_rig.ts";

function bench() {
  const levels: boolean[] = [];
  const world = { now: 0, changes: 0, levels };
  const gpio = new Pl061(deviceRig().arena.make(Pl061Layout), {
    nowNs: () => world.now,
    setIrq: (level) => levels.push(level),
    alarmChanged: () => world.changes++,
  });
  gpio.reset();
  return { gpio, world };
}

const ALL = 0x3fc;
const BUTTON = 1 << POWER_BUTTON_PIN;

Deno.test("GPIODATA: address bits mask the pins of reads and writes; inputs ignore writes", () => {
  const { gpio } = bench();
  gpio.write(REG.DIR, 4, 0x0f);
  gpio.write(ALL, 4, 0xff);
  assert.equal(gpio.read(ALL, 4), 0x0f);
  gpio.write(0x05 << 2, 4, 0);
  assert.equal(gpio.read(ALL, 4), 0x0a);
  gpio.setInput(7, true);
  assert.equal(gpio.read(ALL, 4), 0x8a);
  assert.equal(gpio.read(0x82 << 2, 4), 0x82);
  assert.equal(gpio.read(REG.DIR, 4), 0x0f);
});

Deno.test("rising, falling and both edges are latched until GPIOIC", () => {
  const { gpio, world } = bench();
  gpio.write(REG.IEV, 4, 0x01);
  gpio.write(REG.IBE, 4, 0x04);
  gpio.write(REG.IE, 4, 0x07);
  gpio.setInput(0, true);
  assert.equal(gpio.read(REG.MIS, 4), 0x01);
  gpio.setInput(0, false);
  assert.equal(gpio.read(REG.RIS, 4), 0x01);
  gpio.setInput(1, true);
  assert.equal(gpio.read(REG.RIS, 4), 0x01);
  gpio.setInput(1, false);
  assert.equal(gpio.read(REG.RIS, 4), 0x03);
  gpio.setInput(2, true);
  gpio.write(REG.IC, 4, 0x03);
  assert.equal(gpio.read(REG.RIS, 4), 0x04);
  gpio.write(REG.IC, 4, 0x04);
  gpio.setInput(2, false);
  assert.equal(gpio.read(REG.RIS, 4), 0x04);
  assert.deepEqual(world.levels, [true, false, true]);
});

Deno.test("a level interrupt follows its pin and cannot be cleared", () => {
  const { gpio, world } = bench();
  gpio.write(REG.IS, 4, 0x08);
  gpio.write(REG.IEV, 4, 0x08);
  gpio.write(REG.IE, 4, 0x08);
  gpio.setInput(3, true);
  gpio.write(REG.IC, 4, 0x08);
  assert.equal(gpio.read(REG.MIS, 4), 0x08);
  gpio.setInput(3, false);
  assert.equal(gpio.read(REG.RIS, 4), 0);
  gpio.write(REG.IEV, 4, 0);
  assert.equal(gpio.read(REG.MIS, 4), 0x08, "low level");
  assert.deepEqual(world.levels, [true, false, true]);
});

Deno.test("GPIOIE masks the line, not GPIORIS", () => {
  const { gpio, world } = bench();
  gpio.write(REG.IEV, 4, 0xff);
  gpio.setInput(5, true);
  assert.deepEqual([gpio.read(REG.RIS, 4), gpio.read(REG.MIS, 4)], [0x20, 0]);
  assert.deepEqual(world.levels, []);
  gpio.write(REG.IE, 4, 0x20);
  assert.deepEqual(world.levels, [true]);
});

Deno.test("the power button is pressed for a tenth of a second", () => {
  const { gpio, world } = bench();
  gpio.write(REG.IBE, 4, BUTTON);
  gpio.write(REG.IE, 4, BUTTON);
  world.now = 7e9;
  gpio.pressPowerButton();
  assert.equal(gpio.read(ALL, 4), BUTTON);
  assert.equal(gpio.nextNs, 7e9 + BUTTON_PRESS_NS);
  assert.equal(world.changes, 1);
  gpio.write(REG.IC, 4, 0xff);
  gpio.onTime(7e9 + BUTTON_PRESS_NS - 1);
  assert.equal(gpio.read(ALL, 4), BUTTON);
  gpio.onTime(7e9 + BUTTON_PRESS_NS);
  assert.equal(gpio.read(ALL, 4), 0);
  assert.equal(gpio.nextNs, Infinity);
  assert.equal(gpio.read(REG.MIS, 4), BUTTON, "letting go is an edge too");
});

Deno.test("identification and reset", () => {
  const { gpio, world } = bench();
  const ids = Array.from({ length: 8 }, (_, i) => gpio.read(REG.PeriphID0 + 4 * i, 4));
  assert.deepEqual(ids, [0x61, 0x10, 0x04, 0x00, 0x0d, 0xf0, 0x05, 0xb1]);
  gpio.write(REG.IEV, 4, 0xff);
  gpio.write(REG.IE, 4, 0xff);
  gpio.pressPowerButton();
  gpio.reset();
  assert.deepEqual(world.levels, [true, false]);
  for (const r of [ALL, REG.IEV, REG.IE, REG.RIS]) assert.equal(gpio.read(r, 4), 0);
  assert.equal(gpio.nextNs, Infinity);
});
