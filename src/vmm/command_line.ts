/**
 * The command line. Turns arguments into plain options, or into help, version or a UserError; reads no
 * file and starts nothing.
 */
import { UserError } from "../base/errors.ts";
import {
  commandHelp,
  type CommandSpec,
  HELP_ROW,
  helpTable,
  type OptionSpec,
  parseOptions,
  suggestion,
  type Values,
} from "./argument_parser.ts";
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
const PROGRAM = "worldswitch";

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

const MACHINE_OPTIONS: readonly OptionSpec[] = [
  {
    flags: "--kernel <file>",
    about: "guest image: arm64 Image, ELF or flat (default: the built-in guest)",
  },
  { flags: "--initrd <file>", about: "initial RAM disk" },
  { flags: "--dtb <file>", about: "device tree (default: the machine's own)" },
  { flags: "--append <string>", about: "kernel command line", otherwise: "" },
  { flags: "--vcpus <n>", about: "vCPUs, 1 to 64", otherwise: "4" },
  { flags: "--pcpus <n>", about: "physical CPUs, 1 to 16", otherwise: "2" },
  {
    flags: "--threads <n>",
    about: "workers that run the physical CPUs in parallel (not deterministic)",
    otherwise: "1",
  },
  { flags: "--memory <size>", about: "guest RAM", otherwise: "256M" },
  {
    flags: "--gic <version>",
    about: "interrupt controller; 2 serves 8 CPUs at most",
    choices: ["2", "3"],
    otherwise: "3",
  },
  { flags: "--mode <mode>", about: "world switch", choices: ["vhe", "nvhe"], otherwise: "vhe" },
  {
    flags: "--cpu <model>",
    about: "what the guest is told its CPUs are",
    choices: ["v8.0", "max"],
    otherwise: "v8.0",
  },
  { flags: "--lrs <n>", about: "list registers, 1 to 16", otherwise: "4" },
  { flags: "--clock <kind>", about: "virtual time", choices: ["paced", "fast"] },
  { flags: "--for <duration>", about: "stop after this virtual time, as 10s or 250ms" },
  {
    flags: "--kaslr-seed <seed>",
    about: "let a Linux kernel move itself, by this seed (default: it stays where it was linked)",
  },
  {
    flags: "--shuffle <seed>",
    about: "shuffle the host pages behind guest memory",
    otherwise: "0",
  },
  { flags: "--record <file>", about: "write every input with its moment" },
  { flags: "--replay <file>", about: "repeat a recorded run" },
  {
    flags: "--stats <file>",
    about: "write statistics as JSON at the end; - for standard output",
  },
  { flags: "--bare", about: "run the image on the machine itself, without KVM" },
  {
    flags: "--el <level>",
    about: "exception level of a --bare image",
    choices: ["1", "2"],
    otherwise: "1",
  },
];

const DEVICE_OPTIONS: readonly OptionSpec[] = [
  {
    flags: "--disk <file[,ro]>",
    about: "a virtio disk of a raw image; what the guest writes is forgotten at the end",
    several: true,
  },
  {
    flags: "--net <kind>",
    about: "a virtio network card: sent frames come back, or a peer answers",
    choices: ["none", "loopback", "echo"],
    otherwise: "none",
  },
  {
    flags: "--console <device>",
    about: "device that console input goes to",
    choices: ["pl011", "virtio"],
    otherwise: "pl011",
  },
  { flags: "--rtc <date>", about: "date at the start, UTC (default: 2024-01-01T00:00:00)" },
  { flags: "--fw-cfg <name=text>", about: "a file of fw_cfg", several: true },
];

const START = {
  name: "start",
  about: "the dashboard",
  options: [
    ...MACHINE_OPTIONS,
    ...DEVICE_OPTIONS,
    {
      flags: "--symbols <file>",
      about: "System.map or ELF file (default: what the kernel itself has)",
    },
    { flags: "--plain", about: "lines instead of a screen, for screen readers and pipes" },
  ],
} as const satisfies CommandSpec;

const RUN = {
  name: "run",
  about: "headless: the guest's console on standard output",
  options: [
    ...MACHINE_OPTIONS,
    ...DEVICE_OPTIONS,
    {
      flags: "--dump-regions <dir>",
      about: "write what is translated to WebAssembly, a file for each region",
    },
  ],
} as const satisfies CommandSpec;

const COMMANDS = [START, RUN];

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
    fwCfg: listOf(values, "fw-cfg").map(parseFwCfg),
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
  if (threads > 1 && textOf(values, "dump-regions") !== undefined) {
    throw new UserError("--dump-regions: only with --threads 1");
  }
  return threads;
}

/** A user's device tree is taken as it is: the two options together are a mistake. */
function kaslrSeedOf(values: Values): number | undefined {
  const seed = textOf(values, "kaslr-seed");
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
    dumpRegions: textOf(values, "dump-regions"),
    plain: values["plain"] === true,
  };
}

/** Help of the program, or of the command that is asked about. */
function help(topic?: string): string {
  const command = COMMANDS.find(({ name }) => name === topic);
  return (command ? commandHelp(PROGRAM, command) : programHelp()) + EXAMPLES;
}

function programHelp(): string {
  const commands = COMMANDS.map(({ name, about }) => [`${name} [options]`, about] as const);
  return [
    `Usage: ${PROGRAM} [options] [command]\n`,
    "A whole KVM/ARM stack in one process, and a live view of it.\n",
    helpTable("Options", [["--version", "print the version"], HELP_ROW]),
    helpTable("Commands", [...commands, ["help [command]", "print the help of a command"]]),
  ].join("\n");
}

/** Reads the arguments (without program name). UserError for a mistake, in one line. */
export function parseCommandLine(args: readonly string[]): Invocation | Printed {
  const [first, ...rest] = args;
  if (first === undefined) return { text: help(), code: EXIT_CODE.USER_ERROR };
  if (first === "--version") return { text: `${VERSION}\n`, code: 0 };
  if (first === "--help" || first === "-h") return { text: help(), code: 0 };
  if (first === "help") return { text: help(rest[0]), code: 0 };
  const command = COMMANDS.find(({ name }) => name === first);
  if (command === undefined) {
    const kind = first.startsWith("-") ? "option" : "command";
    const similar = suggestion(first, [...COMMANDS.map(({ name }) => name), "--version", "--help"]);
    throw new UserError(`unknown ${kind} '${first}'${similar}`.replaceAll("\n", " "));
  }
  const values = parseOptions(command, rest);
  if (values === "help") return { text: help(command.name), code: 0 };
  return invocationOf(values, command.name);
}
