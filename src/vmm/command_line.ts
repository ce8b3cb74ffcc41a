/**
 * The command line. Turns arguments into plain options, or into help, version or a UserError; reads no
 * file and starts nothing.
 */
import {
  type Application,
  ArgumentScannerError,
  buildApplication,
  buildCommand,
  buildRouteMap,
  type FlagParametersForType,
  formatMessageForArgumentScannerError,
  help,
  run,
  type StricliProcess,
  text_en,
  version,
} from "@stricli/core";
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

const EXAMPLES = `Examples:
  deno task start                        the built-in guest on the dashboard
  deno task start --kernel Image --initrd initrd.gz --append console=ttyAMA0
  deno task run --append 'cmd="hvc 100;off"' --stats -
  deno task run --kernel Image --for 2s --append "earlycon=pl011,0x9000000"
  deno task run --bare --kernel sieve.bin   on the machine itself, from EL1

Exit codes: ${EXIT_CODE.POWER_OFF} the guest powered off, ${EXIT_CODE.INTERNAL_ERROR} internal error,
  ${EXIT_CODE.USER_ERROR} bad option or file, ${EXIT_CODE.TIME_LIMIT} --for was reached, ${EXIT_CODE.RESET_LOOP} reset loop,
  ${EXIT_CODE.STALLED} nothing can happen any more, ${EXIT_CODE.INTERRUPTED} interrupted.`;

/** Values of the options that both commands have. */
interface SharedFlags {
  readonly kernel: string | undefined;
  readonly initrd: string | undefined;
  readonly dtb: string | undefined;
  readonly append: string | undefined;
  readonly vcpus: number;
  readonly pcpus: number;
  readonly threads: number;
  readonly memory: number;
  readonly gic: "2" | "3";
  readonly mode: "vhe" | "nvhe";
  readonly cpu: "v8.0" | "max";
  readonly lrs: number;
  readonly clock: "paced" | "fast" | undefined;
  readonly for: number | undefined;
  readonly "kaslr-seed": number | undefined;
  readonly shuffle: number;
  readonly record: string | undefined;
  readonly replay: string | undefined;
  readonly stats: string | undefined;
  readonly bare: boolean | undefined;
  readonly el: "1" | "2";
  readonly disk: readonly string[] | undefined;
  readonly net: DeviceConfig["net"];
  readonly console: DeviceConfig["console"];
  readonly rtc: number | undefined;
  readonly "fw-cfg": readonly string[] | undefined;
}

interface StartFlags extends SharedFlags {
  readonly symbols: string | undefined;
  readonly plain: boolean | undefined;
}

interface RunFlags extends SharedFlags {
  readonly "dump-regions": string | undefined;
}

/** Any text, none where the option is not given. Help shows no name of a value: `brief` begins with it. */
const text = (brief: string) => ({ kind: "parsed", parse: String, optional: true, brief } as const);

const several = (brief: string) => ({ ...text(brief), variadic: true } as const);

/** A number from `least` to `most`. */
function count(name: string, least: number, most: number, otherwise: string, brief: string) {
  const parse = (given: string) => parseCount(`--${name}`, given, least, most);
  return { kind: "parsed", parse, default: otherwise, brief: `<n> ${brief}` } as const;
}

const LARGEST_SEED = 999_999_999;

function choice<const T extends string>(values: readonly T[], otherwise: T, brief: string) {
  return { kind: "enum", values, default: otherwise, brief } as const;
}

const whether = (brief: string) =>
  ({ kind: "boolean", withNegated: false, optional: true, brief }) as const;

const SHARED_FLAGS: FlagParametersForType<SharedFlags> = {
  kernel: text("<file> guest image: arm64 Image, ELF or flat (default: the built-in guest)"),
  initrd: text("<file> initial RAM disk"),
  dtb: text("<file> device tree (default: the machine's own)"),
  append: text("<text> kernel command line"),
  vcpus: count("vcpus", 1, 64, "4", "vCPUs, 1 to 64"),
  pcpus: count("pcpus", 1, 16, "2", "physical CPUs, 1 to 16"),
  threads: count(
    "threads",
    1,
    16,
    "1",
    "workers that run the physical CPUs in parallel (not deterministic)",
  ),
  memory: { kind: "parsed", parse: parseMemory, default: "256M", brief: "<size> guest RAM" },
  gic: choice(["2", "3"], "3", "interrupt controller; 2 serves 8 CPUs at most"),
  mode: choice(["vhe", "nvhe"], "vhe", "world switch"),
  cpu: choice(["v8.0", "max"], "v8.0", "what the guest is told its CPUs are"),
  lrs: count("lrs", 1, 16, "4", "list registers, 1 to 16"),
  clock: {
    kind: "enum",
    values: ["paced", "fast"],
    optional: true,
    brief: "virtual time (default: paced for start, fast for run)",
  },
  for: {
    kind: "parsed",
    parse: parseDuration,
    optional: true,
    brief: "<duration> stop after this virtual time, as 10s or 250ms",
  },
  "kaslr-seed": {
    kind: "parsed",
    parse: (given: string) => parseCount("--kaslr-seed", given, 0, LARGEST_SEED),
    optional: true,
    brief:
      "<n> let a Linux kernel move itself, by this seed (default: it stays where it was linked)",
  },
  shuffle: count(
    "shuffle",
    0,
    LARGEST_SEED,
    "0",
    "shuffle the host pages behind guest memory, by this seed",
  ),
  record: text("<file> write every input with its moment"),
  replay: text("<file> repeat a recorded run"),
  stats: text("<file> write statistics as JSON at the end; - for standard output"),
  bare: whether("run the image on the machine itself, without KVM"),
  el: choice(["1", "2"], "1", "exception level of a --bare image"),
  disk: several("<file[,ro]> a virtio disk of a raw image; what the guest writes is forgotten"),
  net: choice(
    ["none", "loopback", "echo"],
    "none",
    "a virtio network card: sent frames come back, or a peer answers",
  ),
  console: choice(["pl011", "virtio"], "pl011", "device that console input goes to"),
  rtc: {
    kind: "parsed",
    parse: parseRtc,
    optional: true,
    brief: "<date> date at the start, UTC (default: 2024-01-01T00:00:00)",
  },
  "fw-cfg": several("<name=text> a file of fw_cfg"),
};

/** Without a prototype: Stricli would find `constructor` in it, as an option or a command. */
function names<T extends object>(table: T): T {
  Object.setPrototypeOf(table, null);
  return table;
}

/** What is read from the arguments: what Stricli prints, and the values of the command that is wanted. */
class Reading {
  printed = "";
  readonly mistakes: string[] = [];
  wanted: (() => Invocation) | undefined;
  readonly process: StricliProcess = {
    stdout: { write: (lines) => void (this.printed += lines) },
    stderr: { write: (line) => void this.mistakes.push(line.trimEnd()) },
  };
}

/** Commands take nothing but options, and do nothing here: how they end is not Stricli's to say. */
const START = buildCommand<StartFlags, [], Reading>({
  func(flags) {
    this.wanted = () => invocationOf("start", { "dump-regions": undefined, ...flags });
  },
  parameters: {
    flags: names({
      ...SHARED_FLAGS,
      symbols: text("<file> System.map or ELF file (default: what the kernel itself has)"),
      plain: whether("lines instead of a screen, for screen readers and pipes"),
    }),
  },
  docs: describe("the dashboard", "[options]"),
});

const RUN = buildCommand<RunFlags, [], Reading>({
  func(flags) {
    this.wanted = () => invocationOf("run", { symbols: undefined, plain: undefined, ...flags });
  },
  parameters: {
    flags: names({
      ...SHARED_FLAGS,
      "dump-regions": text(
        "<dir> write what is translated to WebAssembly, a file for each region",
      ),
    }),
  },
  docs: describe("headless: the guest's console on standard output", "[options]"),
});

const HELP = buildCommand<NonNullable<unknown>, [topic: string | undefined], Reading>({
  async func(_, topic) {
    await run(APPLICATION, topic === undefined ? [] : [topic, "--help"], this);
  },
  parameters: {
    positional: {
      kind: "tuple",
      parameters: [{
        placeholder: "command",
        brief: "what is asked about",
        parse: String,
        optional: true,
      }],
    },
  },
  docs: { brief: "print the help of a command", customUsage: ["[command]"] },
});

function describe(brief: string, usage?: string) {
  const fullDescription = `${brief}\n\n${EXAMPLES}`;
  return { brief, fullDescription, ...(usage === undefined ? {} : { customUsage: [usage] }) };
}

/** What differs from Stricli's own messages: the option is named, and parsers of ours have said all. */
const MESSAGES: Parameters<typeof formatMessageForArgumentScannerError>[1] = {
  AliasNotFoundError: ({ input }) => `No flag registered for -${input}`,
  ArgumentParseError: ({ exception, message }) =>
    exception instanceof UserError ? exception.message : message,
  EnumValidationError: ({ externalFlagName, message }) => `--${externalFlagName}: ${message}`,
  UnexpectedPositionalError: ({ input }) =>
    `Unexpected "${input}": there are only options, as --name value or --name=value`,
};

const APPLICATION: Application<Reading> = buildApplication(
  buildRouteMap({
    routes: names({ start: START, run: RUN, help: HELP }),
    aliases: names({}),
    docs: describe("A whole KVM/ARM stack in one process, and a live view of it."),
  }),
  {
    name: "worldswitch",
    // Names that share no more than a letter or two are not what was meant.
    scanner: {
      distanceOptions: {
        threshold: 3,
        weights: { insertion: 1, deletion: 1, substitution: 2, transposition: 1 },
      },
    },
    localization: {
      text: {
        ...text_en,
        exceptionWhileParsingArguments(error, color) {
          return error instanceof ArgumentScannerError
            ? formatMessageForArgumentScannerError(error, MESSAGES)
            : text_en.exceptionWhileParsingArguments.call(this, error, color);
        },
      },
    },
  },
  {
    help: help({
      brief: "print this help",
      defaultForRouteMap: true,
      formatting: {
        useAliasInUsageLine: false,
        onlyRequiredInUsageLine: true,
        caseStyle: "original",
      },
    }),
    version: version({
      brief: "print the version",
      alias: false,
      info: { currentVersion: VERSION },
    }),
  },
);

function devicesOf(flags: SharedFlags): DeviceConfig {
  return {
    disks: parseDisks(flags.disk ?? []),
    net: flags.net,
    console: flags.console,
    rtcEpoch: flags.rtc,
    fwCfg: (flags["fw-cfg"] ?? []).map(parseFwCfg),
  };
}

function configOf(flags: RunFlags, command: Invocation["command"]): MachineConfig {
  const { vcpus, pcpus, memory, lrs, cpu, mode, bare, shuffle } = flags;
  const kaslrSeed = kaslrSeedOf(flags);
  const threads = threadsOf(flags);
  return {
    vcpus,
    pcpus,
    memory,
    lrs,
    cpu,
    gic: parseGic(flags.gic, bare ? 1 : vcpus, pcpus),
    mode,
    clock: flags.clock ?? (command === "start" ? "paced" : "fast"),
    forNs: flags.for ?? Infinity,
    append: flags.append ?? "",
    bareEl: bare ? (flags.el === "2" ? 2 : 1) : 0,
    shuffle,
    devices: devicesOf(flags),
    ...(threads === 1 ? {} : { threads }),
    ...(kaslrSeed === undefined ? {} : { kaslrSeed }),
  };
}

/** As many as there are physical CPUs at most, and nothing that only a deterministic run can do. */
function threadsOf(flags: RunFlags): number {
  const { threads, pcpus } = flags;
  if (threads > pcpus) {
    throw new UserError(`--threads ${threads}: there are ${pcpus} physical CPUs to run (--pcpus)`);
  }
  for (const option of threads > 1 ? ["record", "replay"] as const : []) {
    if (flags[option] === undefined) continue;
    throw new UserError(`--${option}: only a run with --threads 1 can be repeated`);
  }
  if (threads > 1 && flags["dump-regions"] !== undefined) {
    throw new UserError("--dump-regions: only with --threads 1");
  }
  return threads;
}

/** A user's device tree is taken as it is: the two options together are a mistake. */
function kaslrSeedOf(flags: SharedFlags): number | undefined {
  const seed = flags["kaslr-seed"];
  if (seed !== undefined && flags.dtb !== undefined) {
    throw new UserError("--kaslr-seed: is for the machine's own device tree, not one of --dtb");
  }
  return seed;
}

function invocationOf(
  command: Invocation["command"],
  flags: StartFlags & RunFlags,
): Invocation {
  const { kernel, initrd, symbols, dtb, record, replay, stats } = flags;
  return {
    command,
    config: configOf(flags, command),
    kernel,
    initrd,
    symbols,
    dtb,
    record,
    replay,
    stats,
    dumpRegions: flags["dump-regions"],
    plain: flags.plain === true,
  };
}

const WIDTH = 80;

/** Help with its second column wrapped: Stricli gives each option one line, however long. */
function wrapped(help: string): string {
  return help.replace(
    /^( {2}(?:-\w| {2}) +\[?--\S+ +)(\S.*)$/gm,
    (_, left: string, right: string) => {
      const line = new RegExp(`(.{1,${WIDTH - left.length}})(?: |$)`, "g");
      const indented = `$1\n${" ".repeat(left.length)}`;
      return (left + right.replace(/ +/g, " ").replace(line, indented)).trimEnd();
    },
  );
}

/** Reads the arguments (without program name). UserError for a mistake, in one line. */
export async function parseCommandLine(args: readonly string[]): Promise<Invocation | Printed> {
  const reading = new Reading();
  await run(APPLICATION, args, reading);
  if (reading.mistakes.length > 0) throw new UserError(reading.mistakes.join("; "));
  if (reading.wanted) return reading.wanted();
  return { text: wrapped(reading.printed), code: args.length === 0 ? EXIT_CODE.USER_ERROR : 0 };
}
