/**
 * Debian's kernel as the host: started at EL2 of the bare machine it brings up its own KVM, in both
 * modes, and runs a guest of ours under it. What judges the machine's EL2 here is not our hypervisor.
 */
import assert from "node:assert/strict";
import { buildVirtDtb } from "../../src/vmm/virt_dtb.ts";
import { INITRD_ENTRIES } from "../../fixtures/initrd/pack.ts";
import { FILE_TYPE, packCpio } from "../../src/vmm/cpio.ts";
import { debianKernel } from "../support/debian_kernel.ts";
import { GuestRun } from "../support/guest_run.ts";
import { assertCleanLog } from "../support/linux_log.ts";
import guest from "../../fixtures/guests/smp.bin" with { type: "bytes" };

const kernel = debianKernel();
const MIB = 1 << 20;
const INSNS = 6_000_000_000;
const CPUS = 2;

/** Our initial RAM disk with a guest in it that executes `commands`. */
function initrdWithGuest(commands: string, gic: 2 | 3): Uint8Array {
  const dtb = buildVirtDtb({
    vcpus: CPUS,
    ramSize: 64 * MIB,
    bootargs: `cmd="${commands}"`,
    virtioMmio: false,
    gic,
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

async function boot(bootargs: string, initrd: Uint8Array, gic: number): Promise<string> {
  const args = ["--bare", "--el", "2", "--pcpus", `${CPUS}`, "--gic", `${gic}`];
  args.push("--append", `console=ttyAMA0 ${bootargs}`);
  const run = await GuestRun.start(kernel as Uint8Array, args, initrd);
  return run.untilOff(INSNS);
}

for (const { name, bootargs, says } of MODES) {
  Deno.test({
    name: `Linux as the host, ${name}: its own KVM comes up, and the checks pass`,
    ignore: kernel === undefined,
    fn: async () => {
      const log = await boot(bootargs, packCpio(INITRD_ENTRIES), 3);
      assert.match(log, says);
      assert.match(log, /init: all checks passed/);
      assertCleanLog(log);
    },
  });

  for (const gic of [2, 3] as const) {
    Deno.test({
      name: `Linux as the host, ${name}, GICv${gic}: runs a guest under its KVM`,
      ignore: kernel === undefined,
      fn: async () => {
        const commands = "hvc 20;mmio 20;gicd 20;ipi 20;sgi 20;ticks 10;idle 1;off";
        const log = await boot(`${bootargs} -- kvm=${gic}`, initrdWithGuest(commands, gic), gic);
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
}
