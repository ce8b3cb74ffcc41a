/**
 * Debian's kernel as the host: started at EL2 of the bare machine it brings up its own KVM, in both
 * modes, and runs a guest of ours under it. What judges the machine's EL2 here is not our hypervisor.
 */
import assert from "node:assert/strict";
import { buildVirtDtb } from "../../src/vmm/virt_dtb.ts";
import { packCpio } from "../../src/vmm/cpio.ts";
import { INITRD_ENTRIES } from "../../fixtures/initrd/pack.ts";
import { FILE_TYPE } from "../../src/vmm/cpio.ts";
import { BareRun } from "../support/bare_run.ts";
import { debianKernel } from "../support/debian_kernel.ts";
import { assertCleanLog } from "../support/linux_log.ts";
import guest from "../../fixtures/guests/smp.bin" with { type: "bytes" };

const kernel = debianKernel();
const MIB = 1 << 20;
const INSNS = 6_000_000_000;
const CPUS = 2;

/** Our initial RAM disk with a guest in it that executes `commands`. */
function initrdWithGuest(commands: string): Uint8Array {
  const dtb = buildVirtDtb({
    vcpus: CPUS,
    ramSize: 64 * MIB,
    bootargs: `cmd="${commands}"`,
    virtioMmio: false,
  });
  const file = FILE_TYPE.file | 0o644;
  return packCpio([
    ...INITRD_ENTRIES,
    { path: "guest.bin", mode: file, data: guest },
    { path: "guest.dtb", mode: file, data: new Uint8Array(dtb) },
  ]);
}

interface Mode {
  readonly name: string;
  readonly bootargs: string;
  readonly says: RegExp;
}

const MODES: readonly Mode[] = [
  { name: "VHE", bootargs: "", says: /kvm \[1\]: VHE mode initialized successfully/ },
  {
    name: "nVHE",
    bootargs: "kvm-arm.mode=nvhe",
    says: /kvm \[1\]: Hyp mode initialized successfully/,
  },
];

function boot(bootargs: string, initrd: Uint8Array): string {
  const run = new BareRun(kernel as Uint8Array, {
    el: 2,
    pcpus: CPUS,
    ramSize: 256 * MIB,
    initrd,
    bootargs: `console=ttyAMA0 ${bootargs}`,
  });
  return run.untilOff(INSNS);
}

for (const { name, bootargs, says } of MODES) {
  Deno.test({
    name: `Linux as the host, ${name}: its own KVM comes up, and the checks pass`,
    ignore: kernel === undefined,
    fn: () => {
      const log = boot(bootargs, packCpio(INITRD_ENTRIES));
      assert.match(log, says);
      assert.match(log, /init: all checks passed/);
      assertCleanLog(log);
    },
  });

  Deno.test({
    name: `Linux as the host, ${name}: runs a guest under its KVM`,
    ignore: kernel === undefined,
    fn: () => {
      const commands = "hvc 20;mmio 20;gicd 20;ipi 20;sgi 20;ticks 10;idle 1;off";
      const log = boot(`${bootargs} -- kvm=3`, initrdWithGuest(commands));
      assert.match(log, says);
      assert.match(log, /guest: smp guest: 2 cpus up/);
      for (const command of ["hvc", "mmio", "gicd", "ipi", "sgi", "ticks", "idle"]) {
        assert.match(log, new RegExp(`guest: ${command}: .*ok`), command);
      }
      assert.match(log, /init: guest ok/);
      assertCleanLog(log);
    },
  });
}
