import assert from "node:assert/strict";
import {
  advance,
  counter,
  EMPTY_MODEL,
  exitName,
  exitsOf,
  irqName,
  type Model,
  paceOf,
  rateOf,
  resetTotals,
} from "../../../src/dashboard/model/model.ts";
import { type Frame, readFrame } from "../../../src/vmm/frame.ts";
import { EXIT_IRQ, EXIT_SERROR } from "../../../src/vmm/frame_layout.ts";
import { FakeMachine } from "../../screens/fake_machine.ts";

function next(machine: FakeMachine, model: Model, ms: number): Model {
  machine.run(ms);
  machine.writer.publish(machine);
  const frame = readFrame(machine.memory, 0);
  assert.ok(frame);
  return advance(model, frame);
}

function after(machine: FakeMachine, times: number, ms = 100): Model {
  let model = EMPTY_MODEL;
  for (let i = 0; i < times; i++) model = next(machine, model, ms);
  return model;
}
const insns = (f: Frame): number => f.insns;

Deno.test("rates are over the last second of wall time, whatever the frame rate", () => {
  for (const ms of [10, 33, 100, 700]) {
    const model = after(new FakeMachine(), 40, ms);
    assert.equal(Math.round(rateOf(model, insns)), 150_000_000);
    assert.equal(Math.round(rateOf(model, exitsOf)), 6000);
    assert.equal(paceOf(model).toFixed(3), "0.500");
    const first = model.window[0];
    assert.ok(first && model.frame && model.frame.wallNs - first.wallNs <= 1e9);
  }
});

Deno.test("one frame alone has no rate", () => {
  assert.equal(rateOf(after(new FakeMachine(), 1), insns), 0);
  assert.equal(rateOf(EMPTY_MODEL, insns), 0);
});

Deno.test("delta, rate and total of one counter", () => {
  const model = after(new FakeMachine(), 12);
  assert.equal(counter(model, "total", insns), 5e9 + 12 * 15e6);
  assert.equal(counter(model, "delta", insns), 15e6);
  assert.equal(Math.round(counter(model, "rate", insns)), 150_000_000);
});

Deno.test("totals start from zero at a reset, also when the machine zeroes its counters", () => {
  const machine = new FakeMachine();
  let model = resetTotals(after(machine, 5));
  assert.equal(counter(model, "total", insns), 0);
  model = next(machine, model, 100);
  assert.equal(counter(model, "total", insns), 15e6);
  machine.header.insns = 0;
  model = next(machine, model, 100);
  assert.equal(counter(model, "total", insns), 15e6);
  assert.equal(counter(model, "delta", insns), 15e6);
  assert.ok(rateOf(model, insns) >= 0);
});

Deno.test("histories get a sample each quarter of a second and stay bounded", () => {
  const machine = new FakeMachine();
  const model = after(machine, 41, 50);
  assert.equal(model.histories.get("mips")?.length, 8);
  assert.equal(Math.round(model.histories.get("mips")?.[3] ?? 0), 150);
  assert.equal(Math.round(model.histories.get(`exit:${EXIT_IRQ}`)?.[3] ?? 0), 6000);
  assert.equal(after(new FakeMachine(1), 300, 300).histories.get("mips")?.length, 240);
});

Deno.test("another run, whose clock is behind, is not mixed with this one", () => {
  const machine = new FakeMachine();
  const model = after(machine, 5);
  machine.header.wallNs = 1e6;
  const again = next(machine, model, 10);
  assert.equal(again.window.length, 1);
  assert.equal(again.histories.size, 0);
});

Deno.test("names are KVM's", () => {
  assert.equal(exitName(0x24), "DABT_LOW");
  assert.equal(exitName(EXIT_IRQ), "IRQ");
  assert.equal(exitName(EXIT_SERROR), "SERROR");
  assert.equal(exitName(0x3f), "EC 0x3f");
  const frame = after(new FakeMachine(), 1).frame;
  const of = (intid: number): string =>
    irqName(frame?.irqs.find((i) => i.intid === intid) as never);
  assert.deepEqual([1, 27, 40].map(of), ["SGI 1 of vCPU 0", "PPI 27 of vCPU 0", "SPI 40"]);
});
