/** Debian's kernel and its installer's initial RAM disk: a shell, typed into as over a serial line. */
import assert from "node:assert/strict";
import { readCpio } from "../support/cpio_reader.ts";
import { debianInitrd, debianKernel } from "../support/debian_kernel.ts";
import { GuestRun } from "../support/guest_run.ts";
import { assertCleanLog } from "../support/linux_log.ts";

const kernel = debianKernel();
const initrd = debianInitrd();
const PROMPT = "# ";

async function unpacked(bytes: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>> {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

async function sha256Of(name: string): Promise<string> {
  const archive = await unpacked(initrd as Uint8Array<ArrayBuffer>);
  for (const member of readCpio(archive)) {
    if (member.name !== name) continue;
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", member.data));
    return [...digest].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  }
  throw new RangeError(`no ${name} in the archive`);
}

/** A shell's session: commands in, what they print out. */
class Shell {
  constructor(readonly run: GuestRun) {}

  /** Runs a command and returns what it printed. */
  command(text: string): string {
    const from = this.run.output.length;
    this.run.type(`${text}\n`, 500_000_000);
    this.run.untilPrinted(PROMPT, 2_000_000_000, from);
    // Behind the echo of the command, up to the prompt.
    return this.run.output.slice(from).split(/\r?\n/).slice(1, -1).join("\n");
  }
}

Deno.test({
  name: "Debian's initial RAM disk: a shell and what is typed into it",
  ignore: kernel === undefined || initrd === undefined,
  fn: async () => {
    const sum = await sha256Of("bin/busybox");
    const args = ["--vcpus", "2", "--memory", "512M"];
    args.push("--append", "console=ttyAMA0 rdinit=/bin/sh");
    const run = await GuestRun.start(kernel as Uint8Array, args, initrd);
    run.untilPrinted(PROMPT, 6_000_000_000);
    const shell = new Shell(run);
    assert.match(shell.command("uname -a"), /^Linux \(none\) 6\.1.*aarch64/);
    shell.command("mount -t proc proc /proc");
    const interrupts = shell.command("cat /proc/interrupts");
    assert.match(interrupts, /CPU0 +CPU1/);
    assert.match(interrupts, /GICv3 +27 Level +arch_timer/);
    assert.match(interrupts, /IPI0:/);
    assert.equal(shell.command("sha256sum /bin/busybox"), `${sum}  /bin/busybox`);
    // Arrow up brings the last command back.
    const from = run.output.length;
    run.type("\x1b[A\n", 500_000_000);
    run.untilPrinted(new RegExp(`${sum}  /bin/busybox\\s+.*# `), 1_000_000_000, from);
    // Ctrl-C takes back what was typed, and has a prompt of its own.
    const typed = run.output.length;
    run.type("poweroff -f\x03", 500_000_000);
    run.untilPrinted(PROMPT, 2_000_000_000, typed);
    assert.equal(shell.command("echo alive"), "alive");
    const before = run.guest.machine.nowNs;
    shell.command("sleep 1");
    const slept = (run.guest.machine.nowNs - before) / 1e9;
    assert.ok(slept >= 1 && slept < 1.5, `sleep 1 took ${slept} s`);
    run.type("poweroff -f\n", 500_000_000);
    run.untilOff(2_000_000_000);
    assert.match(run.output, /reboot: Power down/);
    assertCleanLog(run.output);
  },
});
