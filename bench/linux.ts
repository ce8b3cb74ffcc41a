/**
 * Debian's kernel with our initial RAM disk, from the command to its power off: ours against QEMU's TCG
 * with the same kernel, disk and command line. And the memory that ours takes beyond the guest's.
 */
import { type CommandLine, hasQemu, mustPrint, ours, qemu, ROOT, watched } from "./commands.ts";
import { type Bench, type Contender, measure, type Report } from "./harness.ts";

/** Where the package debian-installer-12-netboot-arm64 puts it. */
const KERNEL = "/usr/lib/debian-installer/images/12/arm64/text/debian-installer/arm64/linux";
const INITRD = new URL("fixtures/initrd/initrd.cpio", ROOT).pathname;
const APPEND = "console=ttyAMA0";
const GUEST_MIB = 256;
const PASSED = "init: all checks passed";

/** Workers of ours where CPUs run in parallel. */
const THREADS = "2";

const LIMITS = {
  1: { must: { most: 2 }, aim: { most: 1 } },
  4: { must: { most: 1.5 }, aim: { most: 0.8 } },
} as const;
const MEMORY = { must: { most: 400 }, aim: { most: 200 } } as const;

function installed(): boolean {
  try {
    return Deno.statSync(KERNEL).isFile;
  } catch {
    return false;
  }
}

const FILES = ["--kernel", KERNEL, "--initrd", INITRD, "--append", APPEND];

/** Ours has as many physical CPUs as the guest has vCPUs, as QEMU's guest has. */
function onOurs(cpus: number, ...more: readonly string[]): CommandLine {
  const counts = ["--vcpus", `${cpus}`, "--pcpus", `${cpus}`, "--memory", `${GUEST_MIB}M`];
  return ours(...FILES, ...counts, ...more);
}

function onQemu(cpus: number): CommandLine {
  const files = ["-kernel", KERNEL, "-initrd", INITRD, "-append", APPEND];
  return qemu("-m", `${GUEST_MIB}`, "-smp", `${cpus}`, ...files);
}

function boot(name: string, command: CommandLine): Contender {
  return { name, run: async () => check(name, await mustPrint(command)) };
}

function check(name: string, output: string): void {
  if (!output.includes(PASSED)) throw new Error(`${name}: ${output.slice(-300)}`);
}

async function boots(report: Report, cpus: 1 | 4, beside: boolean): Promise<void> {
  const of = (who: string) => `${cpus} vCPU${cpus > 1 ? "s" : ""}, ${who}`;
  const own = boot(of("ours"), onOurs(cpus));
  const all = beside ? [own, boot(of("QEMU"), onQemu(cpus))] : [own];
  // QEMU runs each CPU in a thread of its own.
  if (cpus > 1) {
    all.push(boot(of(`ours, --threads ${THREADS}`), onOurs(cpus, "--threads", THREADS)));
  }
  const timings = await measure(report.rounds, all);
  report.keep(`Linux to its power off, ${of("ms")}`, report.rounds, timings);
  for (const { contender, ms } of timings) {
    report.figure({ name: contender.name, value: ms, unit: "ms" });
  }
  if (!beside) return;
  const [ms = NaN, other = NaN, parallel] = timings.map((t) => t.ms);
  report.figure({ name: of("ours / QEMU"), value: ms / other, unit: "", ...LIMITS[cpus] });
  if (parallel === undefined) return;
  const name = of(`ours, --threads ${THREADS} / QEMU`);
  report.figure({ name, value: parallel / other, unit: "" });
}

const KIB_PER_MIB = 1024;

/**
 * A boot apart from those that are timed. Taken off is what the guest can have touched at most: all of its
 * RAM, or what is resident of the memory in which the whole machine lies, if that is less.
 */
async function memory(report: Report): Promise<void> {
  const { output, residence } = await watched(onOurs(4));
  check("memory", output);
  if (residence === undefined) return report.note("memory: skipped, there is no /proc");
  const [peak, machine] = [residence.peak / KIB_PER_MIB, residence.largest / KIB_PER_MIB];
  report.figure({ name: "resident memory, peak", value: peak, unit: "MiB" });
  report.figure({ name: "of it the machine with the guest's RAM", value: machine, unit: "MiB" });
  const value = peak - Math.min(GUEST_MIB, machine);
  report.figure({ name: "resident memory beyond guest RAM", value, unit: "MiB", ...MEMORY });
}

export const linux: Bench = {
  name: "linux",
  run: async (report) => {
    report.print(`\nLinux to its power off (medians of ${report.rounds} interleaved rounds)`);
    if (!installed()) {
      return report.note("skipped: debian-installer-12-netboot-arm64 is not installed");
    }
    const beside = await hasQemu();
    await boots(report, 1, beside);
    await boots(report, 4, beside);
    await memory(report);
  },
};
