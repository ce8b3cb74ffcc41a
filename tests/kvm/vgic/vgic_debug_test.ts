/** The vgic's read-out and its counters. */
import assert from "node:assert/strict";
import { SharedMemory } from "../../../src/base/memory.ts";
import { onGuestAck, onGuestEoi, onGuestVector } from "../../../src/kvm/vgic/vgic.ts";
import {
  vgicDebugHeader,
  vgicDebugIrqs,
  vgicDebugLine,
  vgicDebugText,
  type VgicIrqState,
} from "../../../src/kvm/vgic/vgic_debug.ts";
import {
  addLatencies,
  LATENCY_BUCKETS,
  latencyBucket,
  latencyBucketEnd,
  latencyPercentile,
  recordLatency,
  VgicIrqStatLayout,
} from "../../../src/kvm/vgic/vgic_stat.ts";
import { World } from "./world.ts";

function stateOf(w: World, intid: number, owner?: number): VgicIrqState {
  const found = [...vgicDebugIrqs(w.kvm)].find((s) => s.intid === intid && s.ownerVcpuId === owner);
  if (!found) throw new Error(`no interrupt ${intid}`);
  return found;
}

Deno.test("the lines of vgic-state", () => {
  const w = new World();
  w.enable(40);
  w.setPriority(40, 0xa0);
  w.route(40, 1);
  w.inject(40, true);
  const line = vgicDebugLine(stateOf(w, 40));
  assert.equal(line, "       SPI   40      1 0101011        0        1   0 160       1 ");
  assert.equal(
    vgicDebugHeader(1)[0],
    "VCPU 1 TYP   ID TGT_ID PLAEHCG     HWID   TARGET SRC PRI VCPU_ID",
  );
  const text = vgicDebugText(w.kvm).split("\n");
  assert.equal(text[2], "vgic_model:\tGICv3");
  assert.equal(text.filter((l) => l.includes(" SGI ")).length, 32);
  assert.equal(text.filter((l) => l.includes(" PPI ")).length, 32);
  assert.equal(text.filter((l) => l.includes(" SPI ") && !l.includes("TYP")).length, 96);
});

Deno.test("before initialisation only the distributor's lines", () => {
  assert.equal(vgicDebugText(new World({ bare: true }).kvm).split("\n").length, 10);
});

Deno.test("a row says where the interrupt is: list position and list register", () => {
  const w = new World({ lrs: 1 });
  for (const intid of [40, 41]) {
    w.enable(intid);
    w.inject(intid, true);
  }
  assert.deepEqual([stateOf(w, 40).apListPosition, stateOf(w, 41).apListPosition], [0, 1]);
  assert.deepEqual([stateOf(w, 40).lr, stateOf(w, 50).apListPosition], [-1, -1]);
  w.enter(0);
  assert.deepEqual([stateOf(w, 40).lr, stateOf(w, 41).lr], [0, -1]);
  w.exit(0);
  assert.equal(stateOf(w, 40).lr, -1);
});

Deno.test("injected, acknowledged and ended are counted from the list registers", () => {
  const w = new World();
  w.setEdge(40);
  w.enable(40);
  w.inject(40, true);
  w.run(0, () => {});
  w.run(0, () => w.ack(0));
  const half = stateOf(w, 40).counts;
  assert.deepEqual([half?.injected, half?.acked, half?.eoied], [1, 1, 0]);
  w.run(0, () => w.eoi(0, 40));
  w.inject(40, true);
  w.run(0, () => w.serve(0));
  const all = stateOf(w, 40).counts;
  assert.deepEqual([all?.injected, all?.acked, all?.eoied], [2, 2, 2]);
  assert.equal(all?.latencyP50Ns, undefined);
});

Deno.test("private interrupts are counted per vCPU", () => {
  const w = new World();
  w.enable(20, 0);
  w.enable(20, 1);
  w.inject(20, true, 1);
  assert.equal(stateOf(w, 20, 0).counts?.injected, 0);
  assert.equal(stateOf(w, 20, 1).counts?.injected, 1);
});

Deno.test("a machine that reports acknowledgements gives latencies, each raise once", () => {
  const w = new World({ info: { countsGuestAcks: true } });
  w.enable(40);
  w.now = 5000;
  w.inject(40, true);
  w.now = 5700;
  w.run(0, () => {
    onGuestVector(w.vcpu(0), 40);
    w.now = 9000;
    w.ack(0);
    onGuestAck(w.vcpu(0), 40);
    w.inject(40, false);
    w.eoi(0, 40);
    onGuestEoi(w.vcpu(0), 40);
  });
  const counts = stateOf(w, 40).counts;
  assert.deepEqual([counts?.acked, counts?.eoied, counts?.latencyMaxNs], [1, 1, 700]);
  assert.equal(counts?.latencyP50Ns, 700);
});

Deno.test("latency: a level that stays high counts from the end of the last service", () => {
  const w = new World({ info: { countsGuestAcks: true } });
  w.enable(40);
  w.now = 1000;
  w.inject(40, true);
  w.run(0, () => {
    w.now = 1100;
    onGuestAck(w.vcpu(0), w.ack(0));
    w.eoi(0, 40);
    w.now = 50_000;
  });
  w.now = 50_300;
  onGuestAck(w.vcpu(0), 40);
  assert.equal(stateOf(w, 40).counts?.latencyMaxNs, 300);
});

Deno.test("latency: a line that dropped unseen does not count", () => {
  const w = new World({ info: { countsGuestAcks: true } });
  w.enable(40);
  w.now = 1000;
  w.inject(40, true);
  w.inject(40, false);
  w.now = 90_000;
  w.inject(40, true);
  w.now = 90_100;
  onGuestAck(w.vcpu(0), 40);
  assert.equal(stateOf(w, 40).counts?.latencyMaxNs, 100);
});

Deno.test("buckets: in order, each latency below its bucket's end", () => {
  let last = 0;
  for (let ns = 0; ns < 2 ** 35; ns = Math.ceil(ns * 1.07) + 1) {
    const bucket = latencyBucket(ns);
    assert.ok(bucket >= last && bucket < LATENCY_BUCKETS);
    assert.ok(ns < latencyBucketEnd(bucket));
    if (bucket > 0) assert.ok(ns >= latencyBucketEnd(bucket - 1), `${ns}`);
    last = bucket;
  }
  assert.equal(last, LATENCY_BUCKETS - 1);
});

Deno.test("percentiles within a quarter of an octave", () => {
  const memory = SharedMemory.create(4096);
  const stat = VgicIrqStatLayout.at(memory, 64);
  assert.equal(latencyPercentile(stat, 0.5), undefined);
  for (let i = 1; i <= 100; i++) recordLatency(stat.memory, stat.base, 1000 * i);
  const p50 = latencyPercentile(stat, 0.5) as number;
  const p99 = latencyPercentile(stat, 0.99) as number;
  assert.ok(p50 >= 50_000 && p50 < 50_000 * 1.25, `${p50}`);
  assert.ok(p99 >= 99_000 && p99 <= 100_000, `${p99}`);
  assert.equal(stat.latencySumNs, 5_050_000);
  const sum: number[] = [];
  addLatencies(sum, stat);
  addLatencies(sum, stat);
  assert.equal(sum.reduce((a, b) => a + b, 0), 200);
});
