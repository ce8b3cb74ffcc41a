import assert from "node:assert/strict";
import { PORT_KINDS } from "../../src/arm/el2_port.ts";
import { LOCK_CLASSES } from "../../src/base/lock.ts";
import {
  type Frame,
  type FrameIrq,
  type FrameVcpu,
  FrameWriter,
  readFrame,
} from "../../src/vmm/frame.ts";
import {
  EXIT_SERROR,
  FRAME_AREA_SIZE,
  NONE,
  PCPU_STATES,
  VCPU_STATES,
} from "../../src/vmm/frame_layout.ts";
import { engineCounts } from "../../src/vmm/engine_counts.ts";
import type { KvmGuest } from "../../src/vmm/kvm_guest.ts";
import type { LoopState } from "../../src/vmm/machine_loop.ts";
import { smpGuest, type SmpOptions } from "./smp_guest.ts";

/** A guest whose frames are taken by hand. */
class Watched {
  readonly #writer: FrameWriter;
  readonly #at: number;

  constructor(readonly guest: KvmGuest) {
    const { memory, observeArena } = guest.machine;
    this.#at = observeArena.reserve(FRAME_AREA_SIZE);
    this.#writer = new FrameWriter(memory, this.#at);
  }

  static async boot(options: SmpOptions): Promise<Watched> {
    return new Watched((await smpGuest(options)).guest);
  }

  frame(): Frame {
    this.#writer.publish(this.guest.frames);
    const frame = readFrame(this.guest.machine.memory, this.#at);
    assert.ok(frame);
    return frame;
  }

  /** Runs for `stepNs` of virtual time at a time, at most `steps` times, until a frame is as wanted. */
  until(wanted: (frame: Frame) => boolean, stepNs: number, steps: number): Frame {
    for (let i = 0; i < steps; i++) {
      this.guest.machine.run(10_000_000, this.guest.machine.nowNs + stepNs);
      const frame = this.frame();
      if (wanted(frame)) return frame;
    }
    assert.fail("no frame is as wanted");
  }
}

const state = (v: FrameVcpu | undefined): string => VCPU_STATES[v?.state ?? -1] ?? "none";
const irqOf = (f: Frame, intid: number, owner = -1): FrameIrq => {
  const irq = f.irqs.find((i) => i.intid === intid && i.ownerVcpu === owner);
  assert.ok(irq);
  return irq;
};

Deno.test("a frame changes nothing: state, time, operations, locks", async () => {
  const w = await Watched.boot({ append: 'cmd="storm 200;off"' });
  const { machine, kvmMachine } = w.guest;
  const operations = () => machine.ports.map((p) => PORT_KINDS.map((k) => p.counters[k]));
  for (let i = 0; i < 12; i++) {
    machine.run(2777, 30e9);
    const before = [machine.stateHash(), machine.nowNs, machine.insns, operations()];
    const locks = structuredClone(kvmMachine.host.locks.stats);
    w.frame();
    assert.deepEqual([machine.stateHash(), machine.nowNs, machine.insns, operations()], before);
    assert.deepEqual(kvmMachine.host.locks.stats, locks);
  }
});

Deno.test("a frame says by which world switch its guest runs", async () => {
  for (const [mode, number] of [["vhe", 0], ["nvhe", 1]] as const) {
    assert.equal((await Watched.boot({ mode })).frame().mode, number);
  }
});

Deno.test("a run with frames is the run without", async () => {
  const run = async (frames: boolean): Promise<string> => {
    const w = await Watched.boot({ pcpus: 2, lrs: 1, append: 'cmd="ipi 3;storm 20;level 3;off"' });
    for (let i = 0; i < 100_000 && w.guest.machine.run(1000, 30e9) !== "power"; i++) {
      if (frames) w.frame();
    }
    return w.guest.machine.stateHash();
  };
  assert.equal(await run(true), await run(false));
});

Deno.test("vCPU states: off before CPU_ON, running, then asleep with a timer ahead", async () => {
  const w = await Watched.boot({ append: 'cmd="idle 2;off"' });
  const early = w.frame();
  assert.deepEqual(early.vcpus.slice(1).map(state), ["off", "off", "off"]);
  w.until((f) => f.vcpus.some((v) => state(v) === "running" && v.inGuest), 5000, 100);
  w.until((f) => f.vcpus.every((v) => state(v) !== "off"), 100_000, 100);
  const idle = w.until((f) => f.vcpus.every((v) => state(v) === "wfi"), 1e6, 100);
  const [vcpu] = idle.vcpus;
  assert.ok(vcpu && !vcpu.inGuest && vcpu.pcpu === -1);
  assert.deepEqual(idle.pcpus.map((p) => PCPU_STATES[p.state]), ["idle", "idle", "idle", "idle"]);
  const timer = idle.timers.find((t) => t.vcpuIdx === 0 && t.index === 1);
  assert.ok(timer && !timer.loaded && timer.hrtimerArmed && (timer.cntCtl & 7) === 1);
  assert.ok(timer.nextFireNs > idle.virtualNs && timer.nextFireNs < idle.virtualNs + 2e9);
  assert.equal(vcpu.nextTimerNs, timer.nextFireNs);
  assert.equal(timer.nextFireNs, 16 * (timer.cntCval + Number(timer.cntvoff)));
  assert.equal(timer.counter, Math.floor(idle.virtualNs / 16) - Number(timer.cntvoff));
  const physical = idle.timers.find((t) => t.vcpuIdx === 0 && t.index === 0);
  assert.equal(physical?.nextFireNs, NONE);
  // It fires when it says: the frame after that has one more.
  const { acked } = irqOf(idle, 27, 0);
  const before = w.until(
    (f) => f.virtualNs >= timer.nextFireNs - 1,
    timer.nextFireNs - 1 - idle.virtualNs,
    2,
  );
  assert.equal(irqOf(before, 27, 0).acked, acked);
  const after = w.until((f) => irqOf(f, 27, 0).acked > acked, 1000, 50);
  assert.equal(irqOf(after, 27, 0).lastEventNs > timer.nextFireNs, true);
});

Deno.test("a vCPU in the guest shows what its physical CPU has now", async () => {
  const w = await Watched.boot({ vcpus: 2, pcpus: 2, append: 'cmd="mmio 3000;off"' });
  const { machine } = w.guest;
  w.until((f) => (f.vcpus[0]?.mmio_exit_user ?? 0) > 100, 50_000, 1000);
  let seen = 0;
  for (let i = 0; i < 1500; i++) {
    machine.stepRound(53);
    const frame = w.frame();
    for (const vcpu of frame.vcpus.filter((v) => v.inGuest)) {
      const core = machine.cores[vcpu.pcpu];
      assert.ok(core);
      const inEl2 = core.cpu.el === 2;
      assert.equal(vcpu.pc, inEl2 ? core.regs.get("ELR_EL2") : core.cpu.pc);
      assert.equal(vcpu.el, inEl2 ? 1 : core.cpu.el);
      const pcpu = frame.pcpus[vcpu.pcpu];
      assert.deepEqual([pcpu?.vm, pcpu?.vcpu], [0, vcpu.vcpuIdx]);
      if (!inEl2) assert.equal(PCPU_STATES[pcpu?.state ?? 0], "guest");
      seen++;
    }
    const insns = frame.vcpus.reduce((n, v) => n + v.insns, 0);
    assert.equal(insns, frame.insns, "whatever is retired, a vCPU has retired it");
    const translated = frame.vcpus.reduce((n, v) => n + v.translatedInsns, 0);
    assert.equal(translated, frame.translatedInsns);
  }
  assert.ok(seen > 300);
});

for (const gic of [2, 3] as const) {
  Deno.test(`GICv${gic}: an interrupt in a list register: the hardware's view, and where the vgic has it`, async () => {
    const w = await Watched.boot({ gic, vcpus: 1, pcpus: 1, append: 'cmd="storm 500;off"' });
    w.until((f) => irqOf(f, 41).injected > 0, 10_000, 1000);
    const { platform } = w.guest.machine;
    const states = new Set<number>();
    let running = 0;
    for (let i = 0; i < 5000 && states.size < 2; i++) {
      w.guest.machine.stepRound(3);
      const frame = w.frame();
      const irq = irqOf(frame, 41), vcpu = frame.vcpus[0];
      if (!vcpu?.inGuest || irq.lr < 0) continue;
      const lr = vcpu.lr[irq.lr];
      assert.ok(lr);
      const hardware = platform.gic.virtualInterface(0);
      assert.deepEqual([lr.lo, lr.hi], [hardware.lrLo(irq.lr), hardware.lrHi(irq.lr)]);
      assert.equal(lr.lo, 41);
      assert.deepEqual([irq.vcpu, irq.apListPosition, irq.targetVcpu], [0, 0, 0]);
      assert.equal(vcpu.usedLrs, 1);
      assert.equal(vcpu.apListLength, 1);
      assert.equal(vcpu.vgicHcr & 1, 1);
      const active = (lr.hi >>> 30) === 2;
      if (lr.hi >>> 30 !== 0) states.add(lr.hi >>> 30);
      assert.equal((vcpu.elrsr & 1) === 0, lr.hi >>> 30 !== 0);
      if (active && vcpu.rpr !== 0xff) running++;
    }
    assert.deepEqual([...states].sort(), [1, 2], "seen pending and active");
    assert.ok(running > 0);
  });

  Deno.test(`GICv${gic}: outside the guest the list registers are empty`, async () => {
    const w = await Watched.boot({ gic, vcpus: 1, pcpus: 1, append: 'cmd="idle 1;off"' });
    const { vcpus, nrLr } = w.until((f) => state(f.vcpus[0]) === "wfi", 1e6, 100);
    const [vcpu] = vcpus;
    assert.equal(vcpu?.elrsr, (1 << nrLr) - 1);
    assert.equal(vcpu?.usedLrs, 0);
    assert.ok(vcpu?.lr.every((lr) => lr.lo === 0 && lr.hi === 0));
    assert.equal((vcpu?.vgicVmcr ?? 0) >>> 24, 0xf8, "the mask that the guest has set");
  });

  Deno.test(`GICv${gic}: SGIs and routes from the dashboard, and who sent what`, async () => {
    const w = await Watched.boot({ gic, append: "hz=0" });
    w.until((f) => state(f.vcpus[3]) === "wfi", 1e6, 200);
    const before = w.frame();
    assert.equal(before.gic, gic);
    assert.equal(irqOf(before, 41).targetVcpu, 0);
    assert.equal(w.guest.apply({ op: "migrateInterrupt", vm: 0, intid: 41, vcpu: 2 }), 0);
    assert.equal(
      w.guest.apply({ op: "sendSgi", vm: 0, intid: 3, targets: 0b1010, targetsHi: 0 }),
      0,
    );
    const sent = w.frame();
    assert.equal(irqOf(sent, 41).targetVcpu, 2);
    const by = (f: Frame) => [0, 1, 2, 3].map((n) => irqOf(f, 3, n).injected);
    assert.deepEqual(by(sent).map((n, i) => n - (by(before)[i] ?? 0)), [0, 1, 0, 1]);
    const acked = w.until((f) => irqOf(f, 3, 3).acked === 1, 1e5, 100);
    assert.equal(irqOf(acked, 3, 3).source, 0);
  });
}

Deno.test("counts: exits, operations, locks, interrupts are those of the machine", async () => {
  const w = await Watched.boot({ append: 'cmd="hvc 20;storm 10;level 2;ticks 5;off"' });
  const { machine, kvmMachine, vm } = w.guest;
  machine.run(100_000_000, 30e9);
  const frame = w.frame();
  assert.equal(frame.omitted, 0);
  frame.vcpus.forEach((v, i) => {
    const stat = vm.vcpus[i]?.vcpu.stat;
    assert.ok(stat);
    assert.equal(v.exits, stat.exits);
    assert.equal(v.hvc_exit_stat, stat.hvc_exit_stat);
    assert.equal(v.byClass.reduce((a, b) => a + b, 0) + v.irqExits + v.serrorExits, v.exits);
  });
  for (let reason = 0; reason <= EXIT_SERROR; reason++) {
    const exit = frame.exits.find((e) => e.reason === reason);
    const count = frame.vcpus.reduce(
      (n, v) =>
        n + (reason === 64 ? v.irqExits : reason === 65 ? v.serrorExits : v.byClass[reason] ?? 0),
      0,
    );
    assert.equal(exit?.count ?? 0, count);
    if (!exit) continue;
    const complete = exit.buckets.reduce((a, b) => a + b, 0);
    assert.ok(complete <= count && complete >= count - frame.vcpus.length);
    assert.ok(exit.p50Ns <= exit.p99Ns && exit.cycles > 0 && exit.registersMoved > 60 * complete);
  }
  assert.deepEqual(frame.el2Ops.map((o) => o.name), PORT_KINDS);
  frame.el2Ops.forEach((o, k) => {
    const kind = PORT_KINDS[k];
    assert.ok(kind);
    assert.equal(o.count, machine.ports.reduce((n, p) => n + p.counters[kind], 0));
  });
  assert.deepEqual(frame.locks.map((l) => l.name), [...LOCK_CLASSES]);
  frame.locks.forEach((l, i) => {
    const stats = kvmMachine.host.locks.stats[LOCK_CLASSES[i] ?? "irq"];
    assert.deepEqual([l.acquisitions, l.contended], [stats.acquisitions, stats.contended]);
  });
  const irq = irqOf(frame, 41);
  assert.deepEqual([irq.injected, irq.acked, irq.eoied, irq.latencyCount], [10, 10, 10, 10]);
  assert.ok(irq.latencyP50Ns > 0 && irq.lastEventNs < frame.virtualNs && irq.config === 0);
  assert.equal(irqOf(frame, 50).lastEventNs, NONE);
  const ticks = frame.timers.find((t) => t.vcpuIdx === 1 && t.index === 1);
  assert.ok(ticks && ticks.fired > 0);
  assert.equal(ticks.latencyBuckets.reduce((a, b) => a + b, 0), irqOf(frame, 27, 1).latencyCount);
});

Deno.test("header: the machine's parameters, and the loop once it is attached", async () => {
  const w = await Watched.boot({ lrs: 7, pcpus: 2 });
  w.guest.machine.run(5000, 1e9);
  const loop: LoopState = { paused: true, pacePermille: 500, wallMs: () => 12.5, acknowledged: 9 };
  w.guest.attach(loop);
  const { nrLr, priBits, gic, mode, paused, pacePermille, acknowledged, wallNs, virtualNs, insns } =
    w.frame();
  assert.deepEqual([nrLr, priBits, gic, mode], [7, 5, 3, 0]);
  assert.deepEqual([paused, pacePermille, acknowledged, wallNs], [true, 500, 9, 12.5e6]);
  assert.deepEqual([virtualNs, insns], [w.guest.machine.nowNs, w.guest.machine.insns]);
  const counts = engineCounts(w.guest.machine);
  const shown = w.frame() as unknown as Record<string, number>;
  for (const [name, value] of Object.entries(counts)) assert.equal(shown[name], value, name);
  assert.ok(counts.dataMisses > 0 && counts.codeMisses > 0 && counts.codeBytesMax > 0);
  const [vm] = w.frame().vms;
  assert.ok(vm && vm.vcpus === 4 && vm.nrSpis === 224 && vm.stage2Pages > 0 && vm.vmid > 0);
});
