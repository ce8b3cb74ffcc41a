/** Debian's drivers on the board's devices: what they find, and that it works for them. */
import assert from "node:assert/strict";
import { FrameWriter, readFrame } from "../../src/vmm/frame.ts";
import { FRAME_AREA_SIZE } from "../../src/vmm/frame_layout.ts";
import { GuestSymbols } from "../../src/vmm/guest_symbols.ts";
import { debianInitrd, debianKernel } from "../support/debian_kernel.ts";
import { GuestRun } from "../support/guest_run.ts";
import { assertCleanLog } from "../support/linux_log.ts";

const kernel = debianKernel();
const initrd = debianInitrd();
const PROMPT = "# ";
const MODULES = ["virtio_mmio", "virtio_console", "virtio-rng", "virtio_net", "gpio_keys"];

/** Runs a command in the guest's shell and returns what it printed. */
function command(run: GuestRun, text: string): string {
  const from = run.output.length;
  run.type(`${text}\n`, 500_000_000);
  run.untilPrinted(PROMPT, 3_000_000_000, from);
  return run.output.slice(from).split(/\r?\n/).slice(1, -1).join("\n");
}

/** What vCPU 0 executes, by the kernel's own symbols, and how far the kernel has moved itself. */
function whereIs({ guest }: GuestRun): { symbol: string; slide: bigint } {
  const { memory, observeArena } = guest.machine;
  const at = observeArena.reserve(FRAME_AREA_SIZE);
  assert.ok(guest.frames);
  new FrameWriter(memory, at).publish(guest.frames);
  const [vcpu] = readFrame(memory, at)?.vcpus ?? [];
  const symbols = GuestSymbols.fromImage(kernel as Uint8Array);
  symbols?.observe(vcpu?.vbar ?? 0n);
  return { symbol: symbols?.lookup(vcpu?.pc ?? 0n) ?? "", slide: symbols?.slide ?? 0n };
}

Deno.test({
  name: "Debian's drivers of clock, power button, entropy, network and virtio console, with KASLR",
  ignore: kernel === undefined || initrd === undefined,
  fn: async () => {
    const args = ["--vcpus", "1", "--pcpus", "1", "--memory", "512M", "--net", "echo"];
    args.push(
      "--kaslr-seed",
      "7",
      "--append",
      "console=ttyAMA0 rdinit=/bin/sh",
      "--rtc",
      "2030-05-06T07:08:00",
    );
    const run = await GuestRun.start(kernel as Uint8Array, args, initrd);
    run.untilPrinted(PROMPT, 6_000_000_000);
    assert.match(run.output, /PL061 GPIO chip registered/);
    assert.match(run.output, /9010000\.pl031: setting system clock to 2030-05-06T07:08:0\d UTC/);
    command(run, "mount -t proc p /proc; mount -t sysfs s /sys; mount -t devtmpfs d /dev");
    command(run, MODULES.map((name) => `modprobe ${name}`).join("; "));
    assert.match(command(run, "cat /sys/class/misc/hw_random/rng_current"), /^virtio_rng\.0$/m);
    assert.match(command(run, "head -c 3000 /dev/hwrng | wc -c"), /^3000$/m);
    command(run, "ip addr add 10.0.2.15/24 dev eth0; ip link set eth0 up");
    assert.match(command(run, "ping -c 2 10.0.2.2"), /2 packets received, 0% packet loss/);
    assert.match(command(run, "echo through hvc0 >/dev/hvc0"), /through hvc0/);
    assert.equal(run.guest.apply({ op: "pressPowerButton", vm: 0 }), 0);
    command(run, "sleep 1");
    const interrupts = command(run, "cat /proc/interrupts");
    assert.match(interrupts, / 2 +9030000\.pl061 +3 Edge +GPIO Key Poweroff/);
    assert.match(interrupts, /GICv3 +34 Level +rtc-pl031/);
    const { symbol, slide } = whereIs(run);
    assert.ok(slide > 0n);
    assert.match(symbol, /^(cpu_do_idle|default_idle_call|arch_cpu_idle)\+0x/);
    assertCleanLog(run.output);
  },
});
