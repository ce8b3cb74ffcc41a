import assert from "node:assert/strict";
import { Arena } from "../../src/base/arena.ts";
import { SharedMemory } from "../../src/base/memory.ts";
import {
  type El2Port,
  PORT_COST,
  PORT_KINDS,
  type PortKind,
  PortLayout,
  PortMeter,
} from "../../src/arm/el2_port.ts";
import { Clock } from "../../src/arm/clock.ts";
import {
  noSwitches,
  octaveOf,
  SWITCH_BUCKETS,
  SWITCH_REASON,
  switchBucket,
  switchBucketEnd,
  switchPercentile,
  type SwitchTotals,
  WorldSwitchLayout,
  WorldSwitchMeter,
} from "../../src/kvm/stats.ts";
import { GUEST_RAM, makeRig, makeVm, start } from "./kvm_rig.ts";

/** The clock of the bench at hand. */
let clock: Clock;

/** Sets the clock, which never goes back, and gives the port back. */
function when(port: El2Port, ns: number): El2Port {
  clock.jumpTo(ns);
  return port;
}

/** A meter and two physical CPUs' ports, of which only the counters matter. */
function bench(): { meter: WorldSwitchMeter; ports: El2Port[] } {
  const memory = SharedMemory.create(1 << 20);
  const arena = new Arena("test", memory, 64, 1 << 20);
  const ours = clock = new Clock(arena);
  const ports = [0, 1].map(() => {
    const counters = arena.make(PortLayout);
    return { counters, meter: new PortMeter(memory, ours, counters.base) } as unknown as El2Port;
  });
  return { meter: new WorldSwitchMeter(memory, arena.allocate(WorldSwitchLayout)), ports };
}

const port = (ports: El2Port[], n: number): El2Port => ports[n] as El2Port;

function work(at: El2Port, kind: PortKind, times: number): void {
  at.counters[kind] += times;
  at.counters.ns += times * PORT_COST[kind];
}

function totals(meter: WorldSwitchMeter, reason: number): SwitchTotals {
  const into = noSwitches();
  meter.addTo(into, reason);
  return into;
}

const HVC = 0x16;

Deno.test("buckets: bounds, order and the frame's whole doublings", () => {
  for (let b = 0; b < SWITCH_BUCKETS - 1; b++) {
    const end = switchBucketEnd(b);
    assert.equal(switchBucket(end), b + 1);
    assert.equal(switchBucket(end - 1), b);
    // A frame's bucket n holds times below 2^(n + 6), the last one everything.
    const octave = octaveOf(b, 16);
    if (octave < 15) assert.ok(end <= 2 ** (octave + 6) && end > 2 ** (octave + 5) - 1);
  }
  assert.equal(switchBucket(0), 0);
  assert.equal(switchBucket(2 ** 40), SWITCH_BUCKETS - 1);
  assert.equal(switchBucketEnd(SWITCH_BUCKETS - 1), Infinity);
});

Deno.test("a switch is measured from the exit to the next entry", () => {
  const { meter, ports } = bench();
  const p = port(ports, 0);
  work(p, "sysregWrite", 1000);
  meter.left(when(p, 5000));
  work(p, "gprSave", 1);
  meter.because(HVC);
  assert.deepEqual([meter.count(HVC), totals(meter, HVC).totalNs], [1, 0]);
  work(p, "sysregRestore", 3);
  work(p, "fpSave", 1);
  work(p, "isb", 2);
  meter.entered(when(p, 5700));
  work(p, "sysregWrite", 50);
  const t = totals(meter, HVC);
  assert.deepEqual([t.count, t.totalNs, t.maxNs, t.registersMoved], [1, 700, 700, 31 + 3 + 34]);
  const cost = PORT_COST.gprSave + 3 * PORT_COST.sysregRestore + PORT_COST.fpSave +
    2 * PORT_COST.isb;
  assert.equal(t.operationNs, cost);
  assert.equal(t.buckets[switchBucket(700)], 1);
  const done = PORT_KINDS.filter((_, k) => meter.operations(k) > 0);
  assert.deepEqual(done.sort(), ["fpSave", "gprSave", "isb", "sysregRestore"]);
});

Deno.test("blocked time and other threads' work do not count, waiting for a CPU does", () => {
  const { meter, ports } = bench();
  meter.left(when(port(ports, 0), 1000));
  meter.because(1);
  work(port(ports, 0), "isb", 1);
  meter.pause(when(port(ports, 0), 1100), true);
  work(port(ports, 0), "isb", 99);
  work(port(ports, 1), "isb", 99);
  meter.resume(when(port(ports, 1), 900_000));
  work(port(ports, 1), "isb", 1);
  meter.pause(when(port(ports, 1), 900_010), false);
  work(port(ports, 1), "isb", 99);
  meter.resume(when(port(ports, 1), 900_060));
  meter.entered(when(port(ports, 1), 900_070));
  const t = totals(meter, 1);
  assert.equal(t.totalNs, 100 + 70);
  assert.equal(meter.operations(PORT_KINDS.indexOf("isb")), 2);
});

Deno.test("times beyond 32 bits are what they are, in the total, the longest and the histogram", () => {
  const { meter, ports } = bench();
  const p = port(ports, 0);
  // Longer than 2^31; across 2^33 and not longer; in two stretches that are longer together.
  const spans = [
    [[0, 2 ** 33 - 10]],
    [[2 ** 33 - 7, 2 ** 33 + 503]],
    [[2 ** 34, 2 ** 34 + 2 ** 31 - 1], [2 ** 40, 2 ** 40 + 5]],
  ];
  let sum = 0, most = 0;
  for (const stretches of spans) {
    const ns = stretches.reduce((ns, [from = 0, to = 0]) => ns + to - from, 0);
    stretches.forEach(([from = 0, to = 0], n) => {
      if (n === 0) {
        meter.left(when(p, from));
        meter.because(HVC);
      } else meter.resume(when(p, from));
      if (n === stretches.length - 1) meter.entered(when(p, to));
      else meter.pause(when(p, to), true);
    });
    sum += ns;
    most = Math.max(most, ns);
    const t = totals(meter, HVC);
    assert.deepEqual([t.totalNs, t.maxNs], [sum, most]);
  }
  const { buckets } = totals(meter, HVC);
  assert.deepEqual([buckets[switchBucket(510)], buckets[SWITCH_BUCKETS - 1]], [1, 2]);
});

Deno.test("an exit that EL2 deals with itself is no switch, but its operations are counted", () => {
  const { meter, ports } = bench();
  meter.left(when(port(ports, 0), 0));
  work(port(ports, 0), "gprSave", 1);
  meter.entered(when(port(ports, 0), 90));
  assert.equal(meter.operations(PORT_KINDS.indexOf("gprSave")), 1);
  for (let reason = 0; reason <= SWITCH_REASON.HYP_GONE; reason++) {
    assert.equal(meter.count(reason), 0);
  }
});

Deno.test("percentiles are within a quarter of a doubling and not above the maximum", () => {
  const { meter, ports } = bench();
  let end = 0;
  for (let i = 1; i <= 100; i++) {
    meter.left(when(port(ports, 0), end));
    meter.because(HVC);
    meter.entered(when(port(ports, 0), end += 10 * i));
  }
  const t = totals(meter, HVC);
  const p50 = switchPercentile(t, 0.5) ?? 0, p99 = switchPercentile(t, 0.99) ?? 0;
  assert.ok(p50 >= 500 && p50 < 500 * 1.25, `${p50}`);
  assert.ok(p99 >= 990 && p99 <= 1000, `${p99}`);
  assert.equal(switchPercentile(noSwitches(), 0.5), undefined);
});

/** HVC #0 ten times with PSCI_VERSION, then a spin. */
const TEN_HVC = [
  0xd2800153, // mov x19, #10
  0xd2b08000, // mov x0, #0x84000000
  0xd4000002, // hvc #0
  0xd1000673, // sub x19, x19, #1
  0xb5ffffb3, // cbnz x19, -12
  0x14000000, // b .
];

Deno.test("a vCPU's meter: every exit has its reason, and each is a whole switch", () => {
  const rig = makeRig(1);
  const vm = makeVm(rig, TEN_HVC);
  const [handle] = vm.vcpus;
  assert.ok(handle);
  rig.host.runAs(0, () => start(handle, GUEST_RAM));
  rig.machine.run(50_000, 1e6);
  const { vcpu } = handle;
  const { meter, stat } = vcpu;
  assert.ok(meter);
  const hvc = totals(meter, HVC);
  assert.equal(hvc.count, 10);
  assert.equal(stat.hvc_exit_stat, 10);
  let sum = 0;
  for (let reason = 0; reason <= SWITCH_REASON.HYP_GONE; reason++) sum += meter.count(reason);
  assert.equal(sum, stat.exits);
  // On one CPU nothing else takes time: outside the guest there are only the operations.
  assert.equal(hvc.totalNs, hvc.operationNs);
  assert.equal(meter.operations(PORT_KINDS.indexOf("gprSave")), stat.exits);
  assert.ok(hvc.registersMoved / 10 > 62, "at least the general registers, out and in");
});
