/**
 * Whole programs: the machine with its MMU on, against qemu-system-aarch64 (TCG) running the same
 * image and the same source compiled for this computer, where these are installed.
 */
import process from "node:process";
import expected from "../fixtures/bench/expected.json" with { type: "json" };
import sha256Image from "../fixtures/bench/sha256.bin" with { type: "bytes" };
import sieveImage from "../fixtures/bench/sieve.bin" with { type: "bytes" };
import { runBare } from "./bare_image.ts";
import { type Bench, type Contender, median, type Report } from "./harness.ts";

/** Least rate on sieve, in guest instructions per second. */
const WANTED = 150e6;

const FIXTURES = new URL("../fixtures/bench/", import.meta.url).pathname;

/** Output of a command, or undefined when it is not there or fails. */
async function outputOf(command: string, args: string[]): Promise<string | undefined> {
  try {
    const { success, stdout } = await new Deno.Command(command, {
      args,
      stdin: "null",
      stderr: "null",
    }).output();
    return success ? new TextDecoder().decode(stdout) : undefined;
  } catch {
    return undefined;
  }
}

function check(output: string | undefined, name: string): void {
  const wanted = expected[name as keyof typeof expected];
  if (!output?.includes(wanted)) throw new Error(`${name} printed ${output}`);
}

async function qemu(image: string): Promise<Contender | undefined> {
  if (await outputOf("qemu-system-aarch64", ["--version"]) === undefined) return undefined;
  const args = "-M virt,gic-version=3 -cpu max -m 128 -nodefaults -nographic -serial mon:stdio";
  return {
    name: "qemu-system-aarch64 TCG",
    run: async () =>
      check(
        await outputOf("qemu-system-aarch64", [...args.split(" "), "-kernel", FIXTURES + image]),
        image,
      ),
  };
}

async function native(source: string, rep: number, name: string): Promise<Contender | undefined> {
  const file = (await outputOf("mktemp", []))?.trim();
  if (file === undefined) return undefined;
  const sources = [`${FIXTURES}host.c`, `${FIXTURES}${source}`];
  const built = await outputOf("gcc", ["-O2", `-DREP=${rep}`, "-o", file, ...sources]);
  if (built === undefined) return undefined;
  return { name: "native, gcc -O2", run: async () => check(await outputOf(file, []), name) };
}

interface Program {
  readonly image: Uint8Array;
  readonly name: string;
  readonly source: string;
  readonly rep: number;
  readonly rounds: number;
}

/** Seconds of processor time this process has used: what another process took does not count. */
function cpuSeconds(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
}

/** Times the program on all that run it and returns our instructions per second of processor time. */
async function compare(report: Report, program: Program): Promise<number> {
  const { image, name, source, rep, rounds } = program;
  const rates: number[] = [];
  const ours: { -readonly [K in keyof Contender]: Contender[K] } = {
    name: "worldswitch, start-up included",
    unit: "insns",
    run: () => {
      const start = cpuSeconds();
      const { output, insns } = runBare(image);
      rates.push(insns / (cpuSeconds() - start));
      check(output, name);
      ours.work = insns;
    },
  };
  const others = [await qemu(name), await native(source, rep, name)];
  const contenders = [ours, ...others.filter((c) => c !== undefined)];
  await report.compare(source, rounds, contenders);
  return median(rates);
}

export const programs: Bench = {
  name: "programs",
  run: async (report) => {
    const sieve = { image: sieveImage, name: "sieve.bin", source: "sieve.c", rep: 24, rounds: 3 };
    const rate = await compare(report, sieve);
    report.note(
      `${
        (rate / 1e6).toFixed(0)
      } million guest instructions per second of processor time on sieve; wanted: at least ${
        WANTED / 1e6
      } (${rate >= WANTED ? "reached" : "MISSED"})`,
    );
    const sha256 = { image: sha256Image, name: "sha256.bin", source: "sha256.c" };
    await compare(report, { ...sha256, rep: 100, rounds: 1 });
  },
};
