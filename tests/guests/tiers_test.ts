/**
 * Whole guests on every tier of the engine, twice each: their runs end in the same state, however much
 * of them is translated and when.
 */
import assert from "node:assert/strict";
import { Random } from "../../src/arm/isa/random.ts";
import { debianKernel } from "../support/debian_kernel.ts";
import { FuzzCode } from "../support/fuzz_code.ts";
import { FUZZ, FuzzGuest } from "../support/fuzz_guest.ts";
import { GuestRun } from "../support/guest_run.ts";
import { assertCleanLog } from "../support/linux_log.ts";
import { onAllTiers } from "../support/tier_machine.ts";
import { KIND, UnitGuest } from "../support/unit_guest.ts";
import { H, op, type Operation } from "../support/unit_operations.ts";
import { smpGuest, type SmpOptions } from "../vmm/smp_guest.ts";
import initrd from "../../fixtures/initrd/initrd.cpio" with { type: "bytes" };
import { LEVEL, PRIORITY, startCpus, tellCpu0 } from "./matrix.ts";

const COMMANDS = "hvc 5;ipi 20;sgi 20;eoi 5;mmio 20;gicd 5;ticks 4;storm 5;level 4;fp 2;irq;ps;off";
const SMP: readonly SmpOptions[] = [
  { vcpus: 3, pcpus: 2, mode: "vhe", gic: 3 },
  { vcpus: 2, pcpus: 2, mode: "nvhe", gic: 3, shuffle: 5 },
  { vcpus: 2, pcpus: 1, mode: "vhe", gic: 2 },
  { vcpus: 1, pcpus: 1, mode: "nvhe", gic: 2 },
];

for (const options of SMP) {
  const { vcpus, pcpus, mode, gic } = options;
  Deno.test(`SMP guest: ${mode}, GICv${gic}, ${vcpus} vCPUs on ${pcpus}`, () =>
    onAllTiers(async (regions) => {
      const { guest, text } = await smpGuest({ ...options, append: `cmd="${COMMANDS}"`, regions });
      assert.equal(guest.machine.run(400_000_000), "power", text().slice(-200));
      return { machine: guest.machine, seen: text() };
    }));
}

/** Other CPUs: periodic timers, SGIs around, and work between. */
function busy(cpu: number): Operation[] {
  return [
    op.config(27, PRIORITY, LEVEL),
    op.config(3, PRIORITY, LEVEL),
    op.handler(H.EOI),
    op.unmask(),
    tellCpu0(cpu),
    op.timerPeriod(0, 4000 + 777 * cpu),
    op.timerIn(0, 500 * cpu),
    op.spin(300),
    op.sgi(3, (cpu + 1) % 4),
    op.hvc(2, 0x8400_0000),
    op.jump(7, 40),
    op.timerCtl(0, 0),
    tellCpu0(cpu),
    op.idle(),
  ];
}

for (const mode of ["vhe", "nvhe"] as const) {
  Deno.test(`unit guest: timers, SGIs and calls on four CPUs, ${mode}`, () =>
    onAllTiers((regions) => {
      const guest = new UnitGuest({ vcpus: 4, pcpus: 2, shuffle: 3, mode, regions });
      guest.script(0, [
        ...startCpus([1, 2, 3]),
        op.config(3, PRIORITY, LEVEL),
        op.spin(2000),
        op.sgi(3, 1),
        op.jump(9, 10),
        op.waitInterrupts(3 + 3 + 30),
        op.off(),
      ]);
      for (const cpu of [1, 2, 3]) guest.script(cpu, busy(cpu));
      guest.run({ insns: 30_000_000, ns: 5e9 });
      const irqs = [0, 1, 2, 3].map((cpu) => guest.entries(cpu, KIND.IRQ).length);
      assert.ok(irqs.reduce((sum, n) => sum + n) > 60, irqs.join());
      return { machine: guest.machine, seen: guest.describe() };
    }));
}

const FUZZ_SEEDS = [["vhe", 11], ["nvhe", 12]] as const;
const ROUNDS = 12, ROUND_INSNS = 25_000;

for (const [mode, seed] of FUZZ_SEEDS) {
  Deno.test(`random code under KVM, ${mode}`, () =>
    onAllTiers((regions) => {
      const guest = new FuzzGuest(new Random(seed), { vcpus: 2, pcpus: 2, lrs: 4, mode, regions });
      const { machine } = guest.kvmMachine;
      const insns: number[] = [];
      for (let round = 0; round < ROUNDS; round++) {
        const code = new FuzzCode(guest.random, { wild: round % 8 === 7 });
        guest.stop();
        const words = code.words(FUZZ.code.bytes / 4);
        guest.start(words, { el: (round & 1) as 0 | 1, mmu: (round & 2) !== 0 });
        machine.run(ROUND_INSNS);
        insns.push(machine.insns);
      }
      return { machine, seen: [insns, [...guest.userExits]] };
    }));
}

// As the tiers must agree, once each is enough. Thousands of regions would be made if all was translated at once: what is executed a few dozen times will do.
const LINUX_TIERS = { interpreted: { hotAfter: 0 }, usual: {}, eager: { hotAfter: 100 } };
const kernel = debianKernel();

Deno.test({
  name: "Linux on one vCPU, to power off",
  ignore: kernel === undefined,
  fn: () =>
    onAllTiers(
      async (regions) => {
        const args = ["--vcpus", "1", "--append", "console=ttyAMA0"];
        const run = await GuestRun.start(kernel as Uint8Array, args, initrd, regions);
        const log = run.untilOff(4e9);
        assertCleanLog(log);
        assert.match(log, /init: all checks passed/);
        return { machine: run.guest.machine, seen: log };
      },
      LINUX_TIERS,
      1,
    ),
});
