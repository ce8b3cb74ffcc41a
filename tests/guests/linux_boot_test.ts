/**
 * Debian's kernel with our own initial RAM disk, to power off by PSCI: on one, two, four and eight
 * vCPUs, with both interrupt controllers, by both world switches. And twice each, since the second run
 * must end in the very same state.
 */
import assert from "node:assert/strict";
import { debianKernel } from "../support/debian_kernel.ts";
import { GuestRun } from "../support/guest_run.ts";
import { assertCleanLog, wrongLines } from "../support/linux_log.ts";
import initrd from "../../fixtures/initrd/initrd.cpio" with { type: "bytes" };

const kernel = debianKernel();
/** A boot takes about 900 million instructions on one vCPU, the checks included. */
const INSNS = 4_000_000_000;

interface Config {
  readonly mode: "vhe" | "nvhe";
  readonly gic: 2 | 3;
  readonly vcpus: number;
}

const CONFIGS: readonly Config[] = (["vhe", "nvhe"] as const).flatMap((mode) =>
  ([2, 3] as const).flatMap((gic) => [1, 2, 4, 8].map((vcpus) => ({ mode, gic, vcpus })))
);

interface Ended {
  readonly log: string;
  readonly insns: number;
  readonly hash: string;
}

async function boot({ mode, gic, vcpus }: Config): Promise<Ended> {
  const args = ["--mode", mode, "--gic", `${gic}`, "--vcpus", `${vcpus}`];
  args.push("--append", "console=ttyAMA0");
  const run = await GuestRun.start(kernel as Uint8Array, args, initrd);
  const log = run.untilOff(INSNS);
  const { machine } = run.guest;
  return { log, insns: machine.insns, hash: machine.stateHash() };
}

for (const config of CONFIGS) {
  const { mode, gic, vcpus } = config;
  Deno.test({
    name: `Linux boots, checks and powers off: ${mode}, GICv${gic}, ${vcpus} vCPUs`,
    ignore: kernel === undefined,
    fn: async () => {
      const first = await boot(config);
      assertCleanLog(first.log);
      assert.match(first.log, new RegExp(`init: started, ${vcpus} cpus`));
      assert.match(first.log, /init: all checks passed/);
      assert.equal(/GICv3: 224 SPIs implemented/.test(first.log), gic === 3);
      assert.match(first.log, /psci: PSCIv1\.1 detected in firmware/);
      assert.match(first.log, /reboot: Power down/);
      assert.deepEqual(await boot(config), first);
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
