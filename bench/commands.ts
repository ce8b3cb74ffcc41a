/** Other programs: whether they are there, what they print, what memory they take. */
import manifest from "../deno.json" with { type: "json" };

/** Standard output of a command, or undefined when it is not there or fails. */
export async function outputOf(
  command: string,
  args: readonly string[],
  cwd?: URL,
): Promise<string | undefined> {
  try {
    const { success, stdout } = await new Deno.Command(command, {
      args: [...args],
      stdin: "null",
      stderr: "null",
      ...(cwd ? { cwd } : {}),
    }).output();
    return success ? new TextDecoder().decode(stdout) : undefined;
  } catch {
    return undefined;
  }
}

/** The directory of the project. */
export const ROOT = new URL("../", import.meta.url);

/** A program with its arguments. */
export type CommandLine = readonly [program: string, ...args: string[]];

/** `run` of our program as the task `run` starts it, without the task runner in between. */
export function ours(...args: readonly string[]): CommandLine {
  const [, command = "run", ...words] = manifest.tasks.run.split(" ");
  const options = words.slice(0, words.indexOf("main.ts"));
  const config = new URL("deno.json", ROOT).pathname;
  const main = new URL("main.ts", ROOT).pathname;
  return [Deno.execPath(), command, `--config=${config}`, ...options, main, "run", ...args];
}

/** QEMU's `virt` machine by TCG with a core like ours. */
export function qemu(...args: readonly string[]): CommandLine {
  const machine = "-M virt,gic-version=3 -cpu cortex-a57 -nodefaults -nographic -serial mon:stdio";
  return ["qemu-system-aarch64", ...machine.split(" "), ...args];
}

export async function hasQemu(): Promise<boolean> {
  return await outputOf("qemu-system-aarch64", ["--version"]) !== undefined;
}

/** Runs a command and returns what it printed. Error when it fails. */
export async function mustPrint([program, ...args]: CommandLine): Promise<string> {
  const command = new Deno.Command(program, { args, stdin: "null" });
  const { success, stdout, stderr } = await command.output();
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  if (!success) throw new Error(`${program} ${args.join(" ")} failed: ${text(stderr)}`);
  return text(stdout);
}

/** Memory of a process in KiB: the peak of what is resident, and what is resident of its largest mapping. */
export interface Residence {
  readonly peak: number;
  readonly largest: number;
}

/** Milliseconds between two looks at a process's memory. */
const LOOK_MS = 250;

/** Resident KiB of the largest writable mapping that `/proc/PID/smaps` has. */
export function largestMapping(smaps: string): number {
  let size = 0, resident = 0;
  const mapping = /^[0-9a-f]+-[0-9a-f]+ rw-.*\nSize: +(\d+) kB\n(?:.*\n){0,2}?Rss: +(\d+) kB/gm;
  for (const [, its, rss] of smaps.matchAll(mapping)) {
    if (Number(its) > size) [size, resident] = [Number(its), Number(rss)];
  }
  return resident;
}

/** Undefined where there is no /proc, or the process has ended. By `cat`: Deno keeps /proc to itself. */
async function memoryOf(pid: number): Promise<Residence | undefined> {
  const status = await outputOf("cat", [`/proc/${pid}/status`]);
  const peak = Number(status?.match(/VmHWM:\s*(\d+)/)?.[1] ?? NaN);
  const smaps = await outputOf("cat", [`/proc/${pid}/smaps`]);
  return Number.isNaN(peak) || !smaps ? undefined : { peak, largest: largestMapping(smaps) };
}

/** Runs a command and returns what it printed and the memory it had at last. Error when it fails. */
export async function watched(
  [program, ...args]: CommandLine,
): Promise<{ readonly output: string; readonly residence: Residence | undefined }> {
  const options = { args, stdin: "null", stdout: "piped", stderr: "null" } as const;
  const child = new Deno.Command(program, options).spawn();
  let residence: Residence | undefined;
  const timer = setInterval(async () => {
    residence = await memoryOf(child.pid) ?? residence;
  }, LOOK_MS);
  const { success, stdout } = await child.output();
  clearInterval(timer);
  if (!success) throw new Error(`${program} ${args.join(" ")} failed`);
  return { output: new TextDecoder().decode(stdout), residence };
}
