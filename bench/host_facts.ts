/** What a run of the benchmarks was made on. */
import { outputOf, ROOT } from "./commands.ts";
import type { HostFacts } from "./harness.ts";

/** By `cat`: Deno keeps /proc to itself. */
async function cpuModel(): Promise<string | null> {
  const info = await outputOf("cat", ["/proc/cpuinfo"]);
  return info?.match(/^model name\s*:\s*(.*)$/m)?.[1] ?? null;
}

const firstLine = (text: string | undefined): string | null => text?.split("\n")[0]?.trim() || null;

export async function hostFacts(): Promise<HostFacts> {
  const git = (...args: string[]) => outputOf("git", args, ROOT);
  const qemu = firstLine(await outputOf("qemu-system-aarch64", ["--version"]));
  const changes = await git("status", "--porcelain");
  return {
    date: new Date().toISOString(),
    cores: navigator.hardwareConcurrency,
    cpu: await cpuModel(),
    os: `${Deno.build.os} ${Deno.build.arch}`,
    deno: Deno.version.deno,
    v8: Deno.version.v8,
    qemu: qemu?.replace(/^.*version /, "") ?? null,
    gcc: firstLine(await outputOf("gcc", ["--version"])),
    commit: (await git("rev-parse", "--short", "HEAD"))?.trim() ?? null,
    modified: changes === undefined ? null : changes !== "",
  };
}
