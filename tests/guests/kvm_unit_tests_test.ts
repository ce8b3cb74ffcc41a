/**
 * kvm-unit-tests as judges of what a guest sees, with the arguments of their arm/unittests.cfg. They are
 * not part of this repository: KVM_UNIT_TESTS names the folder with their *.flat, built for arm64.
 * Without it nothing runs.
 */
import assert from "node:assert/strict";
import { KvmRun, type KvmRunOptions } from "../support/kvm_run.ts";

const mayRead = Deno.permissions.querySync({ name: "env", variable: "KVM_UNIT_TESTS" });
const folder = mayRead.state === "granted" ? Deno.env.get("KVM_UNIT_TESTS") : undefined;

/** The environment that their runner gives as an initrd: the kernel is one that has the fixes they ask about. */
const ENVIRONMENT = new TextEncoder().encode(
  ["ERRATA_6c7a5dce22b3=y", "ERRATA_9e3f7a296940=y", "KERNEL_VERSION_STRING=6.1.0", "NR_CPUS=8", ""]
    .join("\n"),
);

interface Judge extends KvmRunOptions {
  readonly flat: string;
  readonly args?: string;
}

const JUDGES: Readonly<Record<string, Judge>> = {
  "selftest-setup": { flat: "selftest", args: "setup smp=2 mem=256", vcpus: 2, memory: 256 << 20 },
  "selftest-vectors-kernel": { flat: "selftest", args: "vectors-kernel", vcpus: 1 },
  "selftest-vectors-user": { flat: "selftest", args: "vectors-user", vcpus: 1 },
  "selftest-smp": { flat: "selftest", args: "smp", vcpus: 8 },
  "psci": { flat: "psci", vcpus: 4 },
  "timer": { flat: "timer", vcpus: 1 },
  "cache": { flat: "cache", vcpus: 1 },
  "spinlock-test": { flat: "spinlock-test", vcpus: 4 },
  "micro-bench": { flat: "micro-bench", vcpus: 2 },
};

for (const [name, { flat, args = "", ...options }] of Object.entries(JUDGES)) {
  Deno.test({
    name: `kvm-unit-tests: ${name}`,
    ignore: folder === undefined,
    fn: () => {
      const image = Deno.readFileSync(`${folder}/${flat}.flat`);
      const run = new KvmRun(image, { ...options, bootargs: args, initrd: ENVIRONMENT });
      const output = run.untilOff(20e9);
      // (code << 1) | 1 of exit(0)
      assert.match(output, /EXIT: STATUS=1\b/, output);
      assert.doesNotMatch(output, /^FAIL|^SKIP/m);
    },
  });
}
