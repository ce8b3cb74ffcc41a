/** Real input: Debian's arm64 kernel under our KVM. */
import assert from "node:assert/strict";
import { debianKernel } from "../support/debian_kernel.ts";
import { KvmRun } from "../support/kvm_run.ts";

const kernel = debianKernel();

Deno.test(
  "Debian's kernel starts and brings up four CPUs",
  { ignore: kernel === undefined },
  () => {
    const run = new KvmRun(kernel as Uint8Array, {
      vcpus: 4,
      memory: 256 << 20,
      bootargs: "earlycon=pl011,0x9000000 console=ttyAMA0",
    });
    run.untilPrinted("smp: Brought up 1 node, 4 CPUs", 400_000_000);
    assert.match(run.output, /Linux version 6\.1/);
    assert.match(run.output, /psci: PSCIv1\.1 detected in firmware/);
    assert.match(run.output, /GICv3: 224 SPIs implemented/);
    assert.doesNotMatch(run.output, /WARNING|BUG|Oops|stall|unimplemented/i);
  },
);
