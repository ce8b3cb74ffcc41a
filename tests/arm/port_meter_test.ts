import assert from "node:assert/strict";
import {
  PORT_KINDS,
  PortLayout,
  PortMeter,
  SWITCH_REASONS,
  SwitchSlotLayout,
  WorldSwitchLayout,
} from "../../src/arm/el2_port.ts";
import { CpuLayout } from "../../src/arm/arch/cpu_state.ts";
import { Clock } from "../../src/arm/clock.ts";
import { SliceLayout } from "../../src/arm/engine/turn_loop.ts";
import { Arena } from "../../src/base/arena.ts";
import { SharedMemory } from "../../src/base/memory.ts";
import { switchBucket } from "../../src/kvm/stats.ts";

const KINDS = PORT_KINDS.map((_, k) => k);

/** Two ports' counters and meters, and a record. */
function bench(hostNs?: () => number) {
  const memory = SharedMemory.create(1 << 20);
  const arena = new Arena("test", memory, 64, 1 << 20);
  const clock = new Clock(arena, hostNs);
  const ports = [0, 1].map(() => {
    const { base } = arena.make(PortLayout);
    return { base, meter: new PortMeter(memory, clock, base) };
  });
  const record = arena.allocate(WorldSwitchLayout);
  const view = WorldSwitchLayout.at(memory, record);
  const slot = (reason: number) =>
    SwitchSlotLayout.at(memory, view.slots + reason * SwitchSlotLayout.size);
  const at = (table: number) => KINDS.map((k) => memory.ld53(table + 8 * k));
  return { memory, arena, clock, ports, record, view, slot, at };
}

type Bench = ReturnType<typeof bench>;

const meterOf = ({ ports }: Bench, n = 0): PortMeter => ports[n]?.meter as PortMeter;
const countersOf = ({ ports }: Bench, n = 0): number => ports[n]?.base as number;

/** A switch for `reason`. */
function switchFor(b: Bench, reason: number, meanwhile: () => void): void {
  meterOf(b).left(b.record);
  b.view.reason = reason + 1;
  meanwhile();
  meterOf(b).entered(b.record);
}

Deno.test("operations in a switch are added to the record's, each kind by itself, and weighed", () => {
  const b = bench(), { memory, view } = b, counters = countersOf(b);
  for (const k of KINDS) {
    memory.st53(counters + 8 * k, 2 ** 32 - 3 + k);
    memory.st53(view.operations + 8 * k, 2 ** 40 + k);
  }
  const done = KINDS.map((k) => (7 * k) % 11);
  switchFor(b, 5, () => {
    for (const k of KINDS) memory.st53(counters + 8 * k, 2 ** 32 - 3 + k + (done[k] as number));
  });
  assert.deepEqual(b.at(view.operations), KINDS.map((k) => 2 ** 40 + k + (done[k] as number)));
  const weights: Record<string, number> = {
    gprSave: 31,
    gprRestore: 31,
    fpSave: 34,
    fpRestore: 34,
  };
  const moves = /^(sysreg|timer|gic|gicMmio|lr)(Read|Write|Save|Restore)$/;
  const moved = PORT_KINDS.reduce(
    (sum, kind, k) => sum + (done[k] as number) * (weights[kind] ?? (moves.test(kind) ? 1 : 0)),
    0,
  );
  assert.equal(b.slot(5).registersMoved, moved);
});

Deno.test("what is done at a port between two switches is nobody's", () => {
  const b = bench(), { memory, view } = b;
  const work = (n: number, times: number) => {
    const at = countersOf(b, n);
    memory.st53(at, memory.ld53(at) + times);
    memory.st53(at + PortLayout.offset.ns, memory.ld53(at + PortLayout.offset.ns) + 4 * times);
  };
  switchFor(b, 1, () => work(0, 3));
  switchFor(b, 1, () => work(0, 5));
  work(0, 100);
  switchFor(b, 1, () => work(0, 7));
  meterOf(b, 1).left(b.record);
  work(1, 11);
  work(0, 100);
  meterOf(b, 1).entered(b.record);
  assert.equal(memory.ld53(view.operations), 3 + 5 + 7 + 11);
  assert.equal(b.slot(1).operationNs, 4 * (3 + 5 + 7));
});

Deno.test("each time is in the bucket that is to be its", () => {
  const b = bench();
  const times = Array.from(
    { length: 25 },
    (_, n) => [0, 1, 2, 3].map((q) => 2 ** n + q * 2 ** n / 4),
  )
    .flat().flatMap((ns) => [Math.floor(ns) - 1, Math.floor(ns)]);
  for (const ns of [...times, 2 ** 32, 2 ** 40]) {
    const { buckets } = b.slot(2), at = buckets + 4 * switchBucket(ns);
    const before = b.memory.ld32(at);
    switchFor(b, 2, () => b.clock.jumpTo(b.clock.now() + ns));
    assert.equal(b.memory.ld32(at), before + 1, `${ns} ns`);
  }
});

Deno.test("reasons there are none of have no slot", () => {
  const b = bench();
  const before = b.memory.u8.slice();
  switchFor(b, SWITCH_REASONS, () => b.clock.jumpTo(1000));
  switchFor(b, -1, () => b.clock.jumpTo(2000));
  const end = b.record + WorldSwitchLayout.offset.operations;
  assert.deepEqual(b.memory.u8.slice(b.record, end), before.slice(b.record, end));
  assert.deepEqual(
    b.memory.u8.slice(b.record + WorldSwitchLayout.size),
    before.slice(b.record + WorldSwitchLayout.size),
  );
});

Deno.test("time is exact in the middle of a slice", () => {
  const b = bench();
  const cpu = b.arena.make(CpuLayout);
  b.clock.jumpTo(2 ** 32 - 100);
  const slice = SliceLayout.at(b.memory, b.clock.sliceAt);
  slice.cpu = cpu.base;
  slice.budget = 1000;
  cpu.budget = 960;
  meterOf(b).left(b.record);
  cpu.budget -= 300;
  b.view.reason = 4;
  meterOf(b).entered(b.record);
  assert.equal(b.slot(3).totalNs, 300);
});

Deno.test("with the host's clock, times are its", () => {
  let now = 5000;
  const b = bench(() => now);
  b.clock.setPassing(true);
  switchFor(b, 9, () => now += 700);
  switchFor(b, 9, () => now += 2 ** 33);
  const { totalNs, maxNs } = b.slot(9);
  assert.deepEqual([totalNs, maxNs], [700 + 2 ** 33, 2 ** 33]);
});
