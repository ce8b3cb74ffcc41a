/**
 * kvm-unit-tests as judges of what a guest sees, with the arguments of their arm/unittests.cfg. They are
 * not part of this repository: KVM_UNIT_TESTS names the folder with their *.flat, built for arm64.
 * Without it there are no tests here.
 */
import assert from "node:assert/strict";
import { GuestRun } from "../support/guest_run.ts";

const mayRead = Deno.permissions.querySync({ name: "env", variable: "KVM_UNIT_TESTS" });
const folder = mayRead.state === "granted" ? Deno.env.get("KVM_UNIT_TESTS") : undefined;

/** The environment that their runner gives as an initrd: the kernel is one that has the fixes they ask about. */
const ENVIRONMENT = new TextEncoder().encode(
  ["ERRATA_6c7a5dce22b3=y", "ERRATA_9e3f7a296940=y", "KERNEL_VERSION_STRING=6.1.0", "NR_CPUS=8", ""]
    .join("\n"),
);

interface Judge {
  readonly flat: string;
  readonly args?: string;
  readonly vcpus: number;
  readonly gic?: 2 | 3;
  /** Lines that real KVM on such a machine skips. */
  readonly skips?: boolean;
  /** It asks to be migrated, once, and goes on when a key is pressed. */
  readonly migrates?: boolean;
}

const JUDGES: Readonly<Record<string, Judge>> = {
  "selftest-setup": { flat: "selftest", args: "setup smp=2 mem=256", vcpus: 2 },
  "selftest-vectors-kernel": { flat: "selftest", args: "vectors-kernel", vcpus: 1 },
  "selftest-vectors-user": { flat: "selftest", args: "vectors-user", vcpus: 1 },
  "selftest-setup-gicv2": { flat: "selftest", args: "setup smp=2 mem=256", vcpus: 2, gic: 2 },
  "selftest-smp": { flat: "selftest", args: "smp", vcpus: 8 },
  "gicv2-ipi": { flat: "gic", args: "ipi", vcpus: 8, gic: 2 },
  "gicv2-mmio": { flat: "gic", args: "mmio", vcpus: 8, gic: 2, skips: true },
  "gicv2-mmio-up": { flat: "gic", args: "mmio", vcpus: 1, gic: 2 },
  "gicv2-mmio-3p": { flat: "gic", args: "mmio", vcpus: 3, gic: 2 },
  "gicv2-active": { flat: "gic", args: "active", vcpus: 8, gic: 2 },
  "gicv3-ipi": { flat: "gic", args: "ipi", vcpus: 8 },
  "gicv3-active": { flat: "gic", args: "active", vcpus: 8 },
  "psci": { flat: "psci", vcpus: 4 },
  "timer": { flat: "timer", vcpus: 1 },
  "cache": { flat: "cache", vcpus: 1 },
  "debug-bp": { flat: "debug", args: "bp", vcpus: 2 },
  "debug-wp": { flat: "debug", args: "wp", vcpus: 2 },
  "debug-sstep": { flat: "debug", args: "ss", vcpus: 2 },
  "debug-bp-migration": { flat: "debug", args: "bp-migration", vcpus: 2, migrates: true },
  "debug-wp-migration": { flat: "debug", args: "wp-migration", vcpus: 2, migrates: true },
  "debug-sstep-migration": { flat: "debug", args: "ss-migration", vcpus: 2, migrates: true },
  "pmu-cycle-counter": { flat: "pmu", args: "cycle-counter 0", vcpus: 1 },
  "pmu-event-introspection": { flat: "pmu", args: "pmu-event-introspection", vcpus: 1 },
  "pmu-event-counter-config": { flat: "pmu", args: "pmu-event-counter-config", vcpus: 1 },
  "pmu-basic-event-count": { flat: "pmu", args: "pmu-basic-event-count", vcpus: 1, skips: true },
  "pmu-mem-access": { flat: "pmu", args: "pmu-mem-access", vcpus: 1, skips: true },
  "pmu-sw-incr": { flat: "pmu", args: "pmu-sw-incr", vcpus: 1, skips: true },
  "pmu-chained-counters": { flat: "pmu", args: "pmu-chained-counters", vcpus: 1 },
  "pmu-chained-sw-incr": { flat: "pmu", args: "pmu-chained-sw-incr", vcpus: 1 },
  "pmu-chain-promotion": { flat: "pmu", args: "pmu-chain-promotion", vcpus: 1 },
  "pmu-overflow-interrupt": { flat: "pmu", args: "pmu-overflow-interrupt", vcpus: 1, skips: true },
  "fpu-context": { flat: "fpu", vcpus: 2 },
  "pl031": { flat: "pl031", vcpus: 1 },
  "spinlock-test": { flat: "spinlock-test", vcpus: 4 },
  "micro-bench": { flat: "micro-bench", vcpus: 2 },
};

const INSNS = 20e9;

/** What is left of a migration in one place: all state is taken away and put back. */
function migrate(run: GuestRun): void {
  run.untilPrinted("Now migrate the VM", INSNS);
  const { machine } = run.guest;
  machine.restore(machine.snapshot());
  run.type("\n", INSNS);
}

async function judge(judged: Judge, options: readonly string[]): Promise<void> {
  const { flat, args = "", gic = 3, skips = false, migrates = false } = judged;
  const image = Deno.readFileSync(`${folder}/${flat}.flat`);
  const all = [...options, "--gic", `${gic}`, "--append", args];
  const run = await GuestRun.start(image, all, ENVIRONMENT);
  if (migrates) migrate(run);
  const output = run.untilOff(INSNS);
  // (code << 1) | 1 of exit(0)
  assert.match(output, /EXIT: STATUS=1\b/, output);
  assert.doesNotMatch(output, skips ? /^FAIL/m : /^FAIL|^SKIP/m);
}

const judges = folder === undefined ? [] : Object.entries(JUDGES);

for (const mode of ["vhe", "nvhe"]) {
  for (const [name, judged] of judges) {
    Deno.test(`kvm-unit-tests, ${mode}: ${name}`, async () => {
      await judge(judged, ["--mode", mode, "--vcpus", `${judged.vcpus}`]);
    });
  }
}

/**
 * What the machine itself must pass; the others would tell nothing else about it, or take long. At EL2
 * they skip breakpoints and watchpoints themselves.
 */
const OF_THE_MACHINE = {
  1: /^(selftest|psci|cache|debug|pmu|fpu)/,
  2: /^(selftest|psci|cache|debug-sstep|pmu|fpu)/,
} as const;

for (const el of [1, 2] as const) {
  for (const [name, judged] of judges.filter(([name]) => OF_THE_MACHINE[el].test(name))) {
    Deno.test(`kvm-unit-tests, bare machine, EL${el}: ${name}`, async () => {
      await judge(judged, ["--bare", "--el", `${el}`, "--pcpus", `${judged.vcpus}`]);
    });
  }
}
