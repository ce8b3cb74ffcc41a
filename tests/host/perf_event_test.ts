/** Perf events of host threads on a real machine's counters, which the test moves by hand. */
import assert from "node:assert/strict";
import { CYCLE_COUNTER, PMU_EVENT } from "../../src/arm/arch/pmu.ts";
import { R } from "../../src/arm/arch/sysregs.ts";
import type { El2Port } from "../../src/arm/el2_port.ts";
import type { PerfEventAttr, PerfEvents } from "../../src/host/perf_event.ts";
import { type HostThread, SUSPEND, suspend } from "../../src/host/threads.ts";
import { makeRig, type Rig } from "../kvm/kvm_rig.ts";

const ATTR: PerfEventAttr = {
  config: PMU_EVENT.INST_RETIRED,
  excludeUser: false,
  excludeKernel: false,
  wide: false,
  disabled: false,
  samplePeriod: 100n,
};

interface Bench {
  readonly rig: Rig;
  readonly perf: PerfEvents;
  readonly port: El2Port;
  readonly thread: HostThread;
  /** What the overflow function was called with. */
  readonly calls: number[][];
  create(attr?: Partial<PerfEventAttr>): number;
  /** Moves a counter on by `n` events, as the hardware would. */
  count(index: number, n: bigint): void;
  schedule(inOrOut: boolean): void;
}

/** Runs `body` in a host thread on CPU 0. */
function inThread(body: (bench: Bench) => void): void {
  const rig = makeRig();
  const { host } = rig;
  let done = false;
  const kind = host.threads.register({
    name: "counted",
    run: (thread) => {
      body(bench(rig, thread));
      done = true;
      return suspend(SUSPEND.BLOCK, 0);
    },
  });
  host.runAs(0, () => host.scheduler.wake(host.threads.create(kind, 0, 1)));
  rig.machine.run(1000, 1e6);
  assert.ok(done);
}

function bench(rig: Rig, thread: HostThread): Bench {
  const { perf } = rig.host;
  const port = rig.host.port();
  const calls: number[][] = [];
  const kind = perf.register((...args) => void calls.push(args));
  const register = (n: number) => n === CYCLE_COUNTER ? R.PMCCNTR_EL0 : R.PMEVCNTR0_EL0 + n;
  return {
    rig,
    perf,
    port,
    thread,
    calls,
    create: (attr = {}) => perf.create({ ...ATTR, ...attr }, thread.base, kind, 7, 3),
    count: (index, n) => {
      const sum = port.read64(register(index)) + n;
      port.write64(register(index), sum);
      const overflow = sum >> (index === CYCLE_COUNTER ? 64n : 32n);
      if (overflow) port.write(R.PMOVSSET_EL0, (1 << index) >>> 0, 0);
    },
    schedule: (enter) => enter ? perf.schedIn(thread) : perf.schedOut(thread),
  };
}

Deno.test("perf: an event of the running thread is on a counter at once, filtered as asked", () => {
  inThread(({ create, port, perf }) => {
    const a = create({ excludeKernel: true });
    const b = create({ config: PMU_EVENT.MEM_ACCESS, excludeUser: true });
    assert.equal(port.readLo(R.PMCNTENSET_EL0), 3);
    assert.equal(port.readLo(R.PMINTENSET_EL1), 3);
    assert.equal(port.readLo(R.PMCR_EL0) & 1, 1);
    // The host's EL0 is EL0, too: it is closed until a guest is loaded.
    assert.equal(port.readLo(R.PMEVTYPER0_EL0), 0xc000_0008);
    assert.equal(port.readLo(R.PMEVTYPER1_EL0), 0x4000_0013);
    perf.release(a);
    assert.equal(port.readLo(R.PMCNTENSET_EL0), 2);
    perf.release(b);
    assert.equal(port.readLo(R.PMCR_EL0) & 1, 0);
  });
});

Deno.test("perf: counts go on over switches of threads, and stand still between", () => {
  inThread(({ create, count, perf, port, schedule }) => {
    const event = create();
    count(0, 30n);
    assert.equal(perf.readValue(event), 30n);
    schedule(false);
    assert.equal(port.readLo(R.PMCNTENSET_EL0), 0);
    count(0, 1000n);
    assert.equal(perf.readValue(event), 30n);
    schedule(true);
    assert.equal(port.readLo(R.PMEVCNTR0_EL0), 2 ** 32 - 70);
    count(0, 5n);
    perf.disable(event);
    assert.equal(perf.readValue(event), 35n);
    perf.enable(event);
    count(0, 5n);
    assert.equal(perf.readValue(event), 40n);
  });
});

Deno.test("perf: the function is called when a period is over, and again after the next", () => {
  inThread(({ create, count, perf, calls, port }) => {
    const event = create();
    count(0, 99n);
    perf.interrupt();
    assert.deepEqual(calls, []);
    count(0, 1n);
    assert.equal(port.readLo(R.PMOVSSET_EL0), 1);
    perf.interrupt();
    assert.deepEqual(calls, [[event, 7, 3]]);
    assert.equal(port.readLo(R.PMOVSSET_EL0), 0);
    count(0, 103n);
    perf.interrupt();
    assert.equal(calls.length, 2);
    assert.equal(port.readLo(R.PMEVCNTR0_EL0), 2 ** 32 - 97, "what came late counts");
    assert.equal(perf.readValue(event), 203n);
  });
});

Deno.test("perf: a period beyond the half of a counter is made of several", () => {
  inThread(({ create, count, perf, calls }) => {
    const event = create({ samplePeriod: 2n ** 32n });
    for (let i = 0; i < 2; i++) {
      count(0, 2n ** 31n - 1n);
      perf.interrupt();
      assert.equal(calls.length, 0);
    }
    count(0, 2n);
    perf.interrupt();
    assert.equal(calls.length, 1);
    assert.equal(perf.readValue(event), 2n ** 32n);
  });
});

Deno.test("perf: the 64-bit cycle event has the cycle counter; a seventh event waits for a free counter", () => {
  inThread(({ create, perf, port, schedule }) => {
    const cycles = { config: PMU_EVENT.CPU_CYCLES };
    const narrow = create(cycles);
    const wide = create({ ...cycles, wide: true, samplePeriod: 2n ** 64n });
    assert.equal(port.readLo(R.PMCNTENSET_EL0), 0x8000_0001);
    for (let i = 0; i < 5; i++) create();
    assert.equal(port.readLo(R.PMCNTENSET_EL0), 0x8000_003f);
    const seventh = create();
    assert.equal(perf.readValue(seventh), 0n);
    perf.release(narrow);
    schedule(true);
    assert.equal(port.readLo(R.PMCNTENSET_EL0), 0x8000_003f, "it has a counter now");
    perf.release(wide);
    assert.equal(port.readLo(R.PMCNTENSET_EL0), 0x3f);
  });
});

Deno.test("perf: a 32-bit cycle event in the cycle counter overflows at 32 bits", () => {
  inThread(({ create, count, perf, calls }) => {
    for (let i = 0; i < 6; i++) create();
    const event = create({ config: PMU_EVENT.CPU_CYCLES });
    count(CYCLE_COUNTER, 100n);
    perf.interrupt();
    assert.equal(calls.length, 1);
    assert.equal(perf.readValue(event), 100n);
  });
});
