/**
 * Debian's kernel with our own initial RAM disk, to power off by PSCI: on one, two, four and eight
 * vCPUs, by both world switches; and twice each, since the second run must end in the very same state.
 */
import assert from "node:assert/strict";
import { debianKernel } from "../support/debian_kernel.ts";
import { KvmRun } from "../support/kvm_run.ts";
import { assertCleanLog, wrongLines } from "../support/linux_log.ts";
import initrd from "../../fixtures/initrd/initrd.cpio" with { type: "bytes" };

const kernel = debianKernel();
const MIB = 1 << 20;
/** A boot takes about 900 million instructions on one vCPU, the checks included. */
const INSNS = 4_000_000_000;

interface Config {
  readonly vcpus: number;
  readonly mode: "vhe" | "nvhe";
}

const CONFIGS: readonly Config[] = (["vhe", "nvhe"] as const).flatMap((mode) =>
  [1, 2, 4, 8].map((vcpus) => ({ mode, vcpus }))
);

interface Ended {
  readonly log: string;
  readonly insns: number;
  readonly hash: string;
}

function boot(config: Config): Ended {
  const run = new KvmRun(kernel as Uint8Array, {
    ...config,
    memory: 256 * MIB,
    initrd,
    bootargs: "console=ttyAMA0",
  });
  const log = run.untilOff(INSNS);
  const { machine } = run.guest;
  return { log, insns: machine.insns, hash: machine.stateHash() };
}

for (const config of CONFIGS) {
  const { vcpus, mode } = config;
  Deno.test({
    name: `Linux boots, checks and powers off: ${mode}, GICv3, ${vcpus} vCPUs`,
    ignore: kernel === undefined,
    fn: () => {
      const first = boot(config);
      assertCleanLog(first.log);
      assert.match(first.log, new RegExp(`init: started, ${vcpus} cpus`));
      assert.match(first.log, /init: all checks passed/);
      assert.match(first.log, /psci: PSCIv1\.1 detected in firmware/);
      assert.match(first.log, /reboot: Power down/);
      assert.deepEqual(boot(config), first);
    },
  });
}

Deno.test("a log that says that something is wrong is not clean", () => {
  const log = [
    "[    0.1] WARNING: CPU: 0 PID: 1 at kernel/x.c:12",
    "[    0.2] rcu: INFO: rcu_sched detected stalls on CPUs/tasks",
    "init: check fork: FAILED",
    "[    0.3] fine",
    "[    0.4] clocksource: timekeeping watchdog on CPU0: Marking clocksource 'x' as unstable",
  ];
  assert.equal(wrongLines(log.join("\r\n")).length, 4);
});
