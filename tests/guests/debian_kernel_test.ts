/** Real input: Debian's arm64 kernel under our KVM, without user space. */
import assert from "node:assert/strict";
import { debianKernel } from "../support/debian_kernel.ts";
import { GuestRun } from "../support/guest_run.ts";
import { assertCleanLog } from "../support/linux_log.ts";

const kernel = debianKernel();

for (const mode of ["vhe", "nvhe"]) {
  Deno.test(`Debian's kernel starts and brings up four CPUs, ${mode}`, {
    ignore: kernel === undefined,
  }, async () => {
    const append = "earlycon=pl011,0x9000000 console=ttyAMA0";
    const run = await GuestRun.start(kernel as Uint8Array, ["--append", append, "--mode", mode]);
    run.untilPrinted("smp: Brought up 1 node, 4 CPUs", 400_000_000);
    assert.match(run.output, /Linux version 6\.1/);
    assert.match(run.output, /psci: PSCIv1\.1 detected in firmware/);
    assert.match(run.output, /GICv3: 224 SPIs implemented/);
    assertCleanLog(run.output);
  });
}
