/**
 * Guests whose physical CPUs run in several workers. What they say about time differs from run to run; all
 * else is as in one worker.
 */
import assert from "node:assert/strict";
import { debianKernel } from "../support/debian_kernel.ts";
import { GuestRun } from "../support/guest_run.ts";
import { assertCleanLog } from "../support/linux_log.ts";
import initrd from "../../fixtures/initrd/initrd.cpio" with { type: "bytes" };
import smp from "../../fixtures/guests/smp.bin" with { type: "bytes" };

/** Far more than a run takes: time passes here, whatever the guest does. */
const INSNS = 1e12;

async function run(
  kernel: Uint8Array,
  args: readonly string[],
  initrd?: Uint8Array,
): Promise<string> {
  const guest = await GuestRun.start(kernel, args, initrd);
  try {
    return guest.untilOff(INSNS);
  } finally {
    guest.guest.close?.();
  }
}

const COMMANDS = "ipi 100;sgi 100;hvc 50;storm 20;level 20;mmio 20;ticks 5;fp 3;irq;off";

for (const [threads, options] of [[2, []], [4, ["--gic", "2"]], [2, ["--mode", "nvhe"]]] as const) {
  Deno.test(`interrupts, timers and calls with --threads ${threads} ${options.join(" ")}`, async () => {
    const args = ["--threads", `${threads}`, "--pcpus", `${threads}`, ...options];
    const log = await run(smp, [...args, "--append", `cmd="${COMMANDS}"`]);
    assert.match(log, /4 cpus up/);
    assert.match(log, /fp: cpus=4 rounds=3 errors=0 ok/);
    const done = COMMANDS.split(";").map((command) => command.split(" ")[0]);
    for (const name of done) assert.match(log, new RegExp(`${name}: .*ok`));
    assert.doesNotMatch(log, /panic|failed/);
  });
}

/** Options, and how many CPUs Linux has. */
const BOOTS = [
  [2, ["--vcpus", "4"], 4],
  [4, ["--vcpus", "4"], 4],
  [2, ["--bare", "--el", "2"], 2],
] as const;

for (const [threads, options, cpus] of BOOTS) {
  Deno.test({
    name: `Linux boots, checks and powers off with ${options.join(" ")} --threads ${threads}`,
    ignore: debianKernel() === undefined,
    fn: async () => {
      const args = ["--threads", `${threads}`, "--pcpus", `${threads}`, ...options];
      const kernel = debianKernel() as Uint8Array;
      const log = await run(kernel, [...args, "--append", "console=ttyAMA0"], initrd);
      assertCleanLog(log);
      assert.match(log, new RegExp(`init: started, ${cpus} cpus`));
      assert.match(log, /init: all checks passed/);
      assert.match(log, /reboot: Power down/);
    },
  });
}
