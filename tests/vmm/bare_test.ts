/** `--bare`: whole images on the machine itself, and what `arch` state promises of it. */
import assert from "node:assert/strict";
import { HALT } from "../../src/arm/arch/cpu_state.ts";
import { GICR, GICR_SIZE } from "../../src/arm/arch/gic.ts";
import { BOARD } from "../../src/arm/board.ts";
import { Gicv3 } from "../../src/arm/gic/gicv3.ts";
import expected from "../../fixtures/bench/expected.json" with { type: "json" };
import conformanceImage from "../../fixtures/conformance/conformance.bin" with { type: "bytes" };
import sha256Image from "../../fixtures/bench/sha256_small.bin" with { type: "bytes" };
import sieveImage from "../../fixtures/bench/sieve_small.bin" with { type: "bytes" };
import smpImage from "../../fixtures/guests/smp.bin" with { type: "bytes" };
import { BareMachine } from "../../src/vmm/bare.ts";
import { VIRT_INTID, VIRT_MAP } from "../../src/vmm/virt_map.ts";
import { checkHashedFields } from "../support/arch_roles.ts";
import { BareRun, type BareRunOptions } from "../support/bare_run.ts";

const SMALL_RAM = 16 << 20;
/** What the conformance image and the benchmarks expect at least. */
const MIDDLE_RAM = 64 << 20;

const BENCHES = [
  ["sieve_small.bin", sieveImage],
  ["sha256_small.bin", sha256Image],
] as const;

for (const [name, image] of BENCHES) {
  for (const el of [1, 2] as const) {
    Deno.test(`${name} started at EL${el} prints what it prints elsewhere and powers off`, () => {
      const output = new BareRun(image, { el, ramSize: MIDDLE_RAM }).untilOff(200_000_000);
      // Behind it stands how long it took.
      assert.equal(output.slice(0, output.indexOf(" ticks=")), expected[name]);
    });
  }
}

function smp(command: string, options: Partial<BareRunOptions> = {}): BareRun {
  return new BareRun(smpImage, {
    el: 1,
    ramSize: SMALL_RAM,
    bootargs: `cmd="${command}"`,
    ...options,
  });
}

for (const pcpus of [1, 4]) {
  Deno.test(`the SMP guest boots on ${pcpus} CPUs, runs its commands and powers off`, () => {
    const output = smp("ipi 3;sgi 5;level 2;storm 3;fp 1;ticks 2;off", { pcpus }).untilOff(
      400_000_000,
    );
    assert.match(output, new RegExp(`smp guest: ${pcpus} cpus? up`));
    for (const command of ["ipi", "sgi", "level", "storm", "fp", "ticks"]) {
      assert.match(output, new RegExp(`^${command}: .* ok\\r?$`, "m"), output);
    }
    assert.doesNotMatch(output, /FAILED|panic/);
  });

  Deno.test(`the SMP guest started at EL2 uses SMC, ${pcpus} CPUs`, () => {
    const output = smp("hvc 3;off", { pcpus, el: 2 }).untilOff(100_000_000);
    assert.match(output, /^hvc: n=3 .*psci=1\.1 by=smc ok/m);
  });
}

Deno.test("idle for two virtual seconds retires few instructions", () => {
  const run = smp("idle 2;off", { pcpus: 4 });
  const output = run.untilOff(100_000_000);
  assert.match(output, /^idle: seconds=2 .*wakeups=4 ok/m);
  assert.ok(run.bare.machine.nowNs >= 2e9, `${run.bare.machine.nowNs} ns`);
  assert.ok(run.bare.machine.insns < 20_000_000, `${run.bare.machine.insns} instructions`);
});

Deno.test("a power off is told, and the CPU that asked is off", () => {
  const run = smp("off");
  run.untilOff(100_000_000);
  const { machine } = run.bare;
  assert.equal(machine.power, "off");
  assert.equal(machine.platform.cpus[0]?.halt, HALT.OFF);
});

Deno.test("a guest's reset is told", () => {
  const run = smp("reset");
  assert.equal(run.bare.machine.run(100_000_000), "power");
  assert.equal(run.bare.machine.power, "reset");
});

Deno.test("a reset starts over with CPU 0 alone, and empty RAM", () => {
  const run = smp("reset", { pcpus: 2 });
  const { machine } = run.bare;
  assert.equal(machine.run(100_000_000), "power");
  machine.writeRam(BOARD.ram + 0x1000, Uint8Array.of(1));
  assert.equal(run.bare.takeEvent(), "reset");
  run.bare.reset();
  assert.equal(machine.platform.cpus[1]?.halt, HALT.OFF);
  assert.equal(machine.memory.u8[machine.ram.at + 0x1000], 0);
  assert.equal(machine.run(100_000_000), "power");
  assert.equal(run.output.match(/smp guest: 2 cpus up/g)?.length, 2);
});

for (const el of [1, 2] as const) {
  Deno.test(`an image at EL${el} finds its redistributor awake, as firmware leaves it; after a reset too`, () => {
    const { bare } = new BareRun(sieveImage, { el, pcpus: 2, ramSize: SMALL_RAM });
    const waker = (cpu: number) =>
      bare.machine.platform.gic instanceof Gicv3
        ? bare.machine.platform.gic.redistRead(cpu * GICR_SIZE + GICR.WAKER, 4)
        : -1;
    assert.deepEqual([waker(0), waker(1)], [0, 6]);
    bare.reset();
    assert.deepEqual([waker(0), waker(1)], [0, 6]);
  });
}

/** Words of a program at the start of RAM. */
function program(words: readonly number[], el: 1 | 2 = 1): BareRun {
  const run = new BareRun(sieveImage, { el, ramSize: SMALL_RAM });
  run.bare.machine.writeRam(BOARD.ram, new Uint8Array(new Uint32Array(words).buffer));
  run.bare.machine.start(0, el, BOARD.ram, 0);
  return run;
}

const NOWHERE: readonly [string, readonly number[]][] = [
  // movn x0, #0; br x0
  ["beyond the address space, misaligned", [0x92800000, 0xd61f0000]],
  // movz x0, #0x10; br x0: no memory there
  ["where no memory is", [0xd2800200, 0xd61f0000]],
  // movz x0, #0x900, lsl 16; br x0: the UART
  ["a device", [0xd2a12000, 0xd61f0000]],
  // movz x0, #0x8000, lsl 32; br x0
  ["beyond the physical addresses", [0xd2d00000, 0xd61f0000]],
  // udf #0
  ["an undefined instruction", [0]],
];

for (const [what, words] of NOWHERE) {
  for (const el of [1, 2] as const) {
    Deno.test(`a guest that goes to ${what} at EL${el} keeps taking its own exceptions`, () => {
      const { machine } = program(words, el).bare;
      assert.equal(machine.run(50_000), "budget");
      assert.equal(machine.insns, 50_000);
      assert.equal(machine.platform.cpus[0]?.el, el);
    });
  }
}

/** What must be equal of two runs that went the same way. */
function state({ bare: { machine } }: BareRun): unknown {
  const { insns, nowNs, turns } = machine;
  return { hash: machine.stateHash(), insns, nowNs, turns };
}

const COMMANDS = "ipi 2;storm 2;fp 1;ticks 1;idle 1;ipi 2;fp 9;off";

for (const pcpus of [1, 4]) {
  Deno.test(`two runs are equal, ${pcpus} CPUs`, () => {
    const [a, b] = [smp(COMMANDS, { pcpus }), smp(COMMANDS, { pcpus })];
    for (const steps of [1, 99_999, 200_000, 400_000_000]) {
      a.bare.machine.run(steps);
      b.bare.machine.run(steps);
      assert.deepEqual(state(a), state(b));
    }
    assert.equal(a.output, b.output);
    assert.equal(a.bare.machine.power, "off");
  });

  Deno.test(`snapshot, restore and go on equals going on, ${pcpus} CPUs`, () => {
    const run = smp(COMMANDS, { pcpus });
    const { machine } = run.bare;
    for (const insns of [3, 30_000, 20_000, 30_000]) {
      machine.run(insns);
      const at = state(run);
      const snapshot = machine.snapshot();
      const printed = run.output.length;
      machine.run(20_000);
      const [after, output] = [state(run), run.output.slice(printed)];
      assert.notDeepEqual(after, at);
      machine.restore(snapshot);
      assert.deepEqual(state(run), at);
      const printedBefore = run.output.length;
      machine.run(20_000);
      assert.deepEqual(state(run), after);
      assert.equal(run.output.slice(printedBefore), output);
      machine.restore(snapshot);
    }
    machine.run(400_000_000);
    assert.equal(machine.power, "off");
  });

  Deno.test(`a snapshot goes on in another machine, ${pcpus} CPUs`, () => {
    const run = smp(COMMANDS, { pcpus });
    const other = smp("off", { pcpus });
    handOver(run, other, 7_000, 12);
    assert.equal(run.bare.machine.run(400_000_000), "power");
    assert.equal(other.bare.machine.run(400_000_000), "power");
    assert.deepEqual(state(other), state(run));
  });
}

/** At `points` points `insns` apart: what `run` is, `other` becomes, and both go on to the next. */
function handOver(run: BareRun, other: BareRun, insns: number, points: number): void {
  for (let n = 0; n < points; n++) {
    other.bare.machine.restore(run.bare.machine.snapshot());
    assert.deepEqual(state(other), state(run), `point ${n}`);
    const printed = [run.output.length, other.output.length] as const;
    run.bare.machine.run(insns);
    other.bare.machine.run(insns);
    assert.deepEqual(state(other), state(run), `after point ${n}`);
    assert.equal(other.output.slice(printed[1]), run.output.slice(printed[0]));
  }
}

Deno.test("a snapshot goes on in another machine: EL2, both stages, virtual interrupts", () => {
  const options = { el: 2, ramSize: MIDDLE_RAM } as const;
  const run = new BareRun(conformanceImage, options);
  const other = new BareRun(conformanceImage, options);
  handOver(run, other, 1_100_003, 7);
});

Deno.test("the devices' state is covered by the hash, field by field", () => {
  const { machine } = new BareMachine({ el: 1, pcpus: 2, ramSize: 65536, transmit: () => {} });
  const layouts = machine.arena.placements.map(({ layout }) => layout.name);
  assert.ok(layouts.includes("pl011") && layouts.includes("test_device"), layouts.join());
  checkHashedFields(machine);
});

Deno.test("what a device was told is part of a snapshot", () => {
  const run = smp("off");
  const { machine, board: { testDevice } } = run.bare;
  const { testDevice: { base } } = VIRT_MAP;
  const found = machine.platform.bus.find(base + 4, 4);
  assert.ok(found && testDevice);
  const before = machine.snapshot();
  const hash = machine.stateHash();
  found.device.write(4, 4, 1n, 0);
  assert.equal(machine.platform.gic.interrupt(0, VIRT_INTID.testDevice)?.level, true);
  assert.notEqual(machine.stateHash(), hash);
  machine.restore(before);
  assert.equal(machine.platform.gic.interrupt(0, VIRT_INTID.testDevice)?.level, false);
  assert.equal(machine.stateHash(), hash);
});
