/**
 * The command line: the one module that knows commander. Turns arguments into plain options, or into
 * help, version or a UserError; reads no file and starts nothing.
 */
import { Command, CommanderError, Option } from "commander";
import { UserError } from "../base/errors.ts";
import { type DeviceConfig, parseDisks, parseFwCfg, parseRtc } from "./device_options.ts";
import {
  EXIT_CODE,
  type MachineConfig,
  parseCount,
  parseDuration,
  parseGic,
  parseMemory,
} from "./options.ts";

export const VERSION = "0.1.0";

/** What the user wants. */
export interface Invocation {
  readonly command: "start" | "run";
  readonly config: MachineConfig;
  /** Paths of files; undefined takes the built-in guest, no initrd and so on. */
  readonly kernel: string | undefined;
  readonly initrd: string | undefined;
  /** File of symbols, for the dashboard. */
  readonly symbols: string | undefined;
  readonly dtb: string | undefined;
  readonly record: string | undefined;
  readonly replay: string | undefined;
  /** Directory for the text of what is translated (`run` only). */
  readonly dumpRegions: string | undefined;
  /** Where statistics go: a path, or "-" for standard output. */
  readonly stats: string | undefined;
  /** `start` without the screen: lines only. */
  readonly plain: boolean;
}

/** Text to print, and the code to exit with, instead of running anything. */
export interface Printed {
  readonly text: string;
  readonly code: number;
}

const EXAMPLES = `
Examples:
  deno task start                                    the built-in guest on the dashboard
  deno task start --kernel Image --initrd initrd.gz --append "console=ttyAMA0"
  deno task run --append 'cmd="hvc 100;off"' --stats -
  deno task run --kernel Image --for 2s --vcpus 4 --append "earlycon=pl011,0x9000000 console=ttyAMA0"
  deno task run --bare --kernel sieve.bin            on the machine itself, from EL1

Exit codes: ${EXIT_CODE.POWER_OFF} the guest powered off, ${EXIT_CODE.INTERNAL_ERROR} internal error,
  ${EXIT_CODE.USER_ERROR} bad option or file, ${EXIT_CODE.TIME_LIMIT} --for was reached, ${EXIT_CODE.RESET_LOOP} reset loop,
  ${EXIT_CODE.STALLED} nothing can happen any more, ${EXIT_CODE.INTERRUPTED} interrupted.
`;

function machineOptions(command: Command): Command {
  return command
    .option(
      "--kernel <file>",
      "guest image: arm64 Image, ELF or flat (default: the built-in guest)",
    )
    .option("--initrd <file>", "initial RAM disk")
    .option("--dtb <file>", "device tree (default: the machine's own)")
    .option("--append <string>", "kernel command line", "")
    .option("--vcpus <n>", "vCPUs, 1 to 64", "4")
    .option("--pcpus <n>", "physical CPUs, 1 to 16", "2")
    .option(
      "--threads <n>",
      "workers that run the physical CPUs in parallel (not deterministic)",
      "1",
    )
    .option("--memory <size>", "guest RAM", "256M")
    .addOption(
      new Option("--gic <version>", "interrupt controller; 2 serves 8 CPUs at most")
        .choices(["2", "3"]).default("3"),
    )
    .addOption(new Option("--mode <mode>", "world switch").choices(["vhe", "nvhe"]).default("vhe"))
    .addOption(
      new Option("--cpu <model>", "what the guest is told its CPUs are").choices(["v8.0", "max"])
        .default("v8.0"),
    )
    .option("--lrs <n>", "list registers, 1 to 16", "4")
    .addOption(new Option("--clock <kind>", "virtual time").choices(["paced", "fast"]))
    .option("--for <duration>", "stop after this virtual time, as 10s or 250ms")
    .option(
      "--kaslr-seed <seed>",
      "let a Linux kernel move itself, by this seed (default: it stays where it was linked)",
    )
    .option("--shuffle <seed>", "shuffle the host pages behind guest memory", "0")
    .option("--record <file>", "write every input with its moment")
    .option("--replay <file>", "repeat a recorded run")
    .option("--stats <file>", "write statistics as JSON at the end; - for standard output")
    .option("--bare", "run the image on the machine itself, without KVM", false)
    .addOption(
      new Option("--el <level>", "exception level of a --bare image").choices(["1", "2"]).default(
        "1",
      ),
    );
}

/** Collects an option that may be given several times. */
const several = (value: string, before: readonly string[]): string[] => [...before, value];

function deviceOptions(command: Command): Command {
  return command
    .option(
      "--disk <file[,ro]>",
      "a virtio disk of a raw image; what the guest writes is forgotten at the end",
      several,
      [],
    )
    .addOption(
      new Option("--net <kind>", "a virtio network card: sent frames come back, or a peer answers")
        .choices(["none", "loopback", "echo"]).default("none"),
    )
    .addOption(
      new Option("--console <device>", "device that console input goes to")
        .choices(["pl011", "virtio"]).default("pl011"),
    )
    .option("--rtc <date>", "date at the start, UTC (default: 2024-01-01T00:00:00)")
    .option("--fw-cfg <name=text>", "a file of fw_cfg", several, []);
}

type Values = Readonly<Record<string, string | boolean | readonly string[] | undefined>>;

function listOf(values: Values, name: string): readonly string[] {
  const value = values[name];
  return Array.isArray(value) ? value : [];
}

function devicesOf(values: Values): DeviceConfig {
  const net = textOf(values, "net");
  const rtc = textOf(values, "rtc");
  return {
    disks: parseDisks(listOf(values, "disk")),
    net: net === "loopback" || net === "echo" ? net : "none",
    console: textOf(values, "console") === "virtio" ? "virtio" : "pl011",
    rtcEpoch: rtc === undefined ? undefined : parseRtc(rtc),
    fwCfg: listOf(values, "fwCfg").map(parseFwCfg),
  };
}

function textOf(values: Values, name: string): string | undefined {
  const value = values[name];
  return typeof value === "string" ? value : undefined;
}

function configOf(values: Values, command: "start" | "run"): MachineConfig {
  const text = (name: string) => textOf(values, name) ?? "";
  const bare = values["bare"] === true;
  const forText = textOf(values, "for");
  const kaslrSeed = kaslrSeedOf(values);
  const clock = textOf(values, "clock") ?? (command === "start" ? "paced" : "fast");
  const vcpus = parseCount("--vcpus", text("vcpus"), 1, 64);
  const pcpus = parseCount("--pcpus", text("pcpus"), 1, 16);
  const threads = threadsOf(values, pcpus);
  return {
    vcpus,
    pcpus,
    memory: parseMemory(text("memory")),
    lrs: parseCount("--lrs", text("lrs"), 1, 16),
    cpu: text("cpu") === "max" ? "max" : "v8.0",
    gic: parseGic(text("gic"), bare ? 1 : vcpus, pcpus),
    mode: text("mode") === "nvhe" ? "nvhe" : "vhe",
    clock: clock === "paced" ? "paced" : "fast",
    forNs: forText === undefined ? Infinity : parseDuration(forText),
    append: text("append"),
    bareEl: bare ? (text("el") === "2" ? 2 : 1) : 0,
    shuffle: parseCount("--shuffle", text("shuffle"), 0, 999_999_999),
    devices: devicesOf(values),
    ...(threads === 1 ? {} : { threads }),
    ...(kaslrSeed === undefined ? {} : { kaslrSeed }),
  };
}

/** As many as there are physical CPUs at most, and nothing that only a deterministic run can do. */
function threadsOf(values: Values, pcpus: number): number {
  const threads = parseCount("--threads", textOf(values, "threads") ?? "", 1, 16);
  if (threads > pcpus) {
    throw new UserError(`--threads ${threads}: there are ${pcpus} physical CPUs to run (--pcpus)`);
  }
  for (const option of threads > 1 ? ["record", "replay"] : []) {
    if (textOf(values, option) === undefined) continue;
    throw new UserError(`--${option}: only a run with --threads 1 can be repeated`);
  }
  if (threads > 1 && textOf(values, "dumpRegions") !== undefined) {
    throw new UserError("--dump-regions: only with --threads 1");
  }
  return threads;
}

/** A user's device tree is taken as it is: the two options together are a mistake. */
function kaslrSeedOf(values: Values): number | undefined {
  const seed = textOf(values, "kaslrSeed");
  if (seed === undefined) return undefined;
  if (textOf(values, "dtb") !== undefined) {
    throw new UserError("--kaslr-seed: is for the machine's own device tree, not one of --dtb");
  }
  return parseCount("--kaslr-seed", seed, 0, 999_999_999);
}

function invocationOf(values: Values, command: "start" | "run"): Invocation {
  return {
    command,
    config: configOf(values, command),
    kernel: textOf(values, "kernel"),
    initrd: textOf(values, "initrd"),
    symbols: textOf(values, "symbols"),
    dtb: textOf(values, "dtb"),
    record: textOf(values, "record"),
    replay: textOf(values, "replay"),
    stats: textOf(values, "stats"),
    dumpRegions: textOf(values, "dumpRegions"),
    plain: values["plain"] === true,
  };
}

/** Reads the arguments (without program name). UserError for a mistake, in one line. */
export function parseCommandLine(args: readonly string[]): Invocation | Printed {
  let invocation: Invocation | undefined;
  let printed = "";
  const program = new Command("worldswitch")
    .description("A whole KVM/ARM stack in one process, and a live view of it.")
    .version(VERSION, "--version", "print the version")
    .addHelpText("after", EXAMPLES)
    .exitOverride()
    .configureOutput({
      writeOut: (s) => printed += s,
      writeErr: () => {},
      // Without these commander asks the environment, which takes a permission.
      getOutHasColors: () => false,
      getErrHasColors: () => false,
    });
  deviceOptions(machineOptions(program.command("start").description("the dashboard")))
    .option("--symbols <file>", "System.map or ELF file (default: what the kernel itself has)")
    .option("--plain", "lines instead of a screen, for screen readers and pipes", false)
    .addHelpText("after", EXAMPLES)
    .action((values: Values) => {
      invocation = invocationOf(values, "start");
    });
  deviceOptions(machineOptions(
    program.command("run").description("headless: the guest's console on standard output"),
  ))
    .option(
      "--dump-regions <dir>",
      "write what is translated to WebAssembly, a file for each region",
    )
    .addHelpText("after", EXAMPLES)
    .action((values: Values) => {
      invocation = invocationOf(values, "run");
    });
  try {
    program.parse([...args], { from: "user" });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    if (error.exitCode === 0) return { text: printed, code: 0 };
    // Without a command commander prints its help as an error.
    if (error.code === "commander.help") {
      return { text: printed || program.helpInformation(), code: 2 };
    }
    throw new UserError(error.message.replace(/^error: /, "").replaceAll("\n", " "));
  }
  return invocation ?? { text: program.helpInformation(), code: EXIT_CODE.USER_ERROR };
}
