import assert from "node:assert/strict";
import { PORT_KINDS } from "../../src/arm/el2_port.ts";
import { engineCounts } from "../../src/vmm/engine_counts.ts";
import type { KvmGuest } from "../../src/vmm/kvm_guest.ts";
import {
  type InterruptStats,
  KVM_STAT_NAMES,
  type KvmStats,
  reasonName,
  type VcpuStats,
} from "../../src/vmm/kvm_stats.ts";
import { smpGuest } from "./smp_guest.ts";

interface Run {
  readonly stats: KvmStats;
  readonly console: string;
  readonly guest: KvmGuest;
}

/** Runs a command line of the SMP guest to its end. */
async function run(
  cmd: string,
  vcpus = 4,
  pcpus = 4,
  mode: "vhe" | "nvhe" = "vhe",
): Promise<Run> {
  const { guest, text } = await smpGuest({ vcpus, pcpus, mode, append: `cmd="${cmd}"` });
  assert.equal(guest.machine.run(100_000_000, 20e9), "power", text());
  return { stats: guest.stats() as unknown as KvmStats, console: text(), guest };
}

const sum = (of: Readonly<Record<string, number>>): number =>
  Object.values(of).reduce((a, b) => a + b, 0);

const first = ({ stats }: Run): VcpuStats => stats.vcpus[0] as VcpuStats;

function interrupt(r: Run, intid: number, vcpu: number | null): InterruptStats {
  const found = r.stats.interrupts.find((i) => i.intid === intid && i.vcpu === vcpu);
  assert.ok(found, `interrupt ${intid}`);
  return found;
}

Deno.test("stats: exits by reason add up, and hvc 100 makes a hundred of them", async () => {
  const with0 = await run("hz=0;hvc 1;off"), with100 = await run("hz=0;hvc 101;off");
  for (const v of with100.stats.vcpus) {
    assert.equal(sum(v.exitsByReason), v.exits);
    assert.equal(v.kvmStat.exits, v.exits);
    assert.deepEqual(Object.keys(v.kvmStat), [...KVM_STAT_NAMES]);
    for (const [name, s] of Object.entries(v.worldSwitches.byReason)) {
      assert.equal(s.count, v.exitsByReason[name]);
      assert.ok(s.maxNs <= s.totalNs && (s.p50Ns ?? 0) <= (s.p99Ns ?? 0));
    }
  }
  const calls = (r: Run) => first(r).exitsByReason["HVC64"] ?? 0;
  assert.equal(calls(with100) - calls(with0), 100);
  assert.equal(first(with100).kvmStat.hvc_exit_stat, calls(with100));
});

Deno.test("stats: without VHE the same exits move more registers and take longer", async () => {
  const [vhe, nvhe] = [await run("hz=0;hvc 200;off"), await run("hz=0;hvc 200;off", 4, 4, "nvhe")];
  assert.deepEqual([vhe.stats.mode, nvhe.stats.mode], ["vhe", "nvhe"]);
  const calls = (r: Run) => first(r).worldSwitches.byReason["HVC64"];
  const [a, b] = [calls(vhe), calls(nvhe)];
  assert(a !== undefined && b !== undefined);
  assert.equal(a.count, b.count);
  // Both the guest's and the host's EL1 registers, in and out.
  assert.ok(b.registersMoved / b.count > a.registersMoved / a.count + 80);
  assert.ok(b.cycles / b.count > 2 * a.cycles / a.count);
});

Deno.test("stats: operations by kind, each exit saves the general registers once", async () => {
  const { stats } = await run("hvc 50;off");
  for (const { exits, worldSwitches: { operations } } of stats.vcpus) {
    assert.equal(operations.gprSave, exits);
    assert.ok(Object.keys(operations).every((k) => (PORT_KINDS as string[]).includes(k)));
    assert.ok((operations.eret ?? 0) >= exits - 1);
  }
});

Deno.test("stats: what the guest counted of its interrupts is what was acknowledged", async () => {
  const r = await run("ticks 10;storm 20;level 5;ipi 3;hz 0;irq;off");
  for (const line of r.console.split("\n")) {
    const row = /^irq: +(\d+)((?: +\d+){4})\s*$/.exec(line);
    if (!row) continue;
    const intid = Number(row[1]);
    const counts = (row[2] ?? "").trim().split(/ +/).map(Number);
    if (intid >= 32) {
      const { acked, eoied, injected } = interrupt(r, intid, null);
      assert.deepEqual([injected, acked, eoied], [counts[0], counts[0], counts[0]], line);
    } else if (sum(Object.fromEntries(counts.entries())) > 0) {
      // Ticks go on between the table and the end: at most a few more than the guest printed.
      counts.forEach((n, vcpu) => {
        if (n === 0) return;
        const { acked, eoied } = interrupt(r, intid, vcpu);
        assert.ok(acked >= n && acked <= n + 1, line);
        assert.equal(eoied, acked);
      });
    }
  }
  assert.equal(interrupt(r, 41, null).acked, 20);
  assert.equal(interrupt(r, 40, null).acked, 5);
});

Deno.test("stats: latency from line raised to vector has a sample for each delivery", async () => {
  const r = await run("ticks 10;storm 20;off", 1, 1);
  for (const intid of [27, 41]) {
    const { latency, acked } = interrupt(r, intid, intid === 27 ? 0 : null);
    assert.equal(latency.count, acked);
    const { p50Ns, p99Ns, maxNs } = latency;
    assert.ok(p50Ns !== null && p99Ns !== null);
    assert.ok(p50Ns > 50 && p50Ns <= p99Ns && p99Ns <= maxNs, `${intid}: ${p50Ns} ${p99Ns}`);
    // Nothing else runs: a delivery is a few world switches of less than a microsecond each.
    assert.ok(maxNs < 10_000, `${maxNs}`);
  }
});

Deno.test("stats: a sleeping guest's ticks are soft timers; their wait is no switch time", async () => {
  const v = first(await run("ticks 20;off", 1, 1));
  assert.ok(v.timersFired.virtual >= 20);
  assert.equal(v.timersFired.physical, 0);
  assert.ok(v.timersFired.background >= 20);
  const wfx = v.worldSwitches.byReason["WFx"];
  assert.ok(wfx && wfx.count >= 20);
  // Ten milliseconds are slept each time.
  assert.ok(wfx.maxNs < 20_000, `${wfx.maxNs}`);
  assert.ok(v.kvmStat.halt_wait_ns > 20 * 5e6);
});

Deno.test("stats: locks by class, instructions by vCPU", async () => {
  const { stats, guest } = await run("hvc 10;storm 5;off");
  assert.ok(stats.locks.apList.acquisitions > 0 && stats.locks.irq.acquisitions > 0);
  assert.equal(stats.locks.irq.contended, 0);
  const insns = stats.vcpus.reduce((n, v) => n + v.insns, 0);
  // The host's code is no instructions: whatever was retired was a guest's.
  assert.equal(insns, guest.machine.insns);
});

for (const mode of ["vhe", "nvhe"] as const) {
  Deno.test(`stats: what ran translated was some vCPU's, on more vCPUs than CPUs, ${mode}`, async () => {
    const cmd = "hvc 300;ipi 50;storm 50;off";
    const regions = { hotAfter: 2, batch: 1 };
    const { guest } = await smpGuest({ vcpus: 4, pcpus: 2, mode, append: `cmd="${cmd}"`, regions });
    for (let i = 0; i < 400 && guest.machine.run(20_000) !== "power"; i++) {
      const stats = guest.stats() as unknown as KvmStats;
      const { translatedInsns } = engineCounts(guest.machine);
      assert.equal(stats.vcpus.reduce((n, v) => n + v.translatedInsns, 0), translatedInsns);
      for (const v of stats.vcpus) assert.ok(v.translatedInsns <= v.insns);
    }
    assert.equal(guest.machine.power, "off");
    const { translatedInsns, regions: live, codeBytes, dataMisses, codeMisses } = engineCounts(
      guest.machine,
    );
    assert.ok(translatedInsns > 100_000, `${translatedInsns}`);
    assert.ok(live > 0 && codeBytes > 0 && dataMisses > 0 && codeMisses > 0);
  });
}

Deno.test("stats: they are JSON", async () => {
  const { stats } = await run("off", 2, 1);
  assert.deepEqual(JSON.parse(JSON.stringify(stats)), stats);
});

Deno.test("stats: reasons have KVM's names", () => {
  assert.deepEqual([0x01, 0x16, 0x18, 0x24, 64, 65].map(reasonName), [
    "WFx",
    "HVC64",
    "SYS64",
    "DABT_LOW",
    "IRQ",
    "SERROR",
  ]);
  assert.equal(reasonName(0x3f), "EC_0x3f");
});
