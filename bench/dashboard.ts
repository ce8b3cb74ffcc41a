/**
 * The dashboard as a user has it: the real program on a real pseudo terminal of 200x60, its guest busy.
 * Frames a second, time from a key to what it shows, time from the command to the first frame; and what
 * the guest gets done beside it, against what it gets done without.
 */
import { canPty, Pty } from "../tests/support/pty.ts";
import { mustPrint, ours, ROOT } from "./commands.ts";
import { type Bench, median, type Report } from "./harness.ts";

const SCREEN = { columns: 200, rows: 60 } as const;
const START = "deno task start --clock fast --append 'cmd=\"hvc 1000000000\"'";
/** A whole frame is one synchronized update; it ends with this. */
// deno-lint-ignore no-control-regex -- what the terminal is told
const FRAME_END = /\x1b\[\?2026l/g;
/** Drawn with the first frame of the machine. Blank cells are not sent: a single word. */
const FIRST_FRAME = /DABT_LOW|HVC64/;

const STARTS = 3;
const KEYS = 15;
const WATCH_MS = 5000;

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

async function timeOfFirstFrame(): Promise<number> {
  const start = performance.now();
  const pty = new Pty(START, ROOT, SCREEN);
  await pty.until(FIRST_FRAME, 20_000);
  const ms = performance.now() - start;
  await pty.type("q");
  await pty.end();
  return ms;
}

/** From `?` typed to the help's first line on the terminal; the help is closed again. */
async function timeOfKey(pty: Pty): Promise<number> {
  const from = pty.output.length;
  const start = performance.now();
  await pty.type("?");
  await pty.until(/Shows|every/, 5000, from);
  const ms = performance.now() - start;
  await pty.type("\x1b");
  await pause(150);
  return ms;
}

async function framesPerSecond(pty: Pty): Promise<number> {
  const from = pty.output.length;
  const start = performance.now();
  await pause(WATCH_MS);
  const frames = pty.output.slice(from).match(FRAME_END)?.length ?? 0;
  return frames / ((performance.now() - start) / 1000);
}

/** Guests whose work is measured: one that computes, one that does nothing but exit. */
const WORK = [
  {
    name: "computing",
    args: ["--kernel", new URL("fixtures/bench/sha256_long.bin", ROOT).pathname, "--vcpus", "1"],
  },
  { name: "exiting", args: ["--append", 'cmd="hvc 2000000;off"'] },
] as const;
const THROUGHPUT = { must: { least: 0.9 }, aim: { least: 0.97 } } as const;
const END_MS = 60_000;

/** Guest instructions per millisecond of wall time, from what `--stats -` printed. NaN without. */
function rateOf(output: string): number {
  const stat = (name: string) => Number(output.match(new RegExp(`"${name}": (\\d+)`))?.[1] ?? NaN);
  return stat("insns") / stat("wallMs");
}

/** Runs the guest without a screen. */
async function headless(args: readonly string[]): Promise<string> {
  return await mustPrint(ours(...args, "--stats", "-"));
}

/** Runs the guest on the dashboard until that says that it has powered off. */
async function onScreen(args: readonly string[]): Promise<string> {
  const quoted = args.map((arg) => `'${arg}'`).join(" ");
  const pty = new Pty(`deno task start --clock fast --stats - ${quoted}`, ROOT, SCREEN);
  try {
    const from = await pty.until(/power off/, END_MS);
    await pty.type("q");
    await pty.end();
    return pty.output.slice(from);
  } catch (error) {
    await pty.kill();
    throw error;
  }
}

/** Rounds of both by turns: the ratio of the medians of their rates. */
async function throughput(report: Report, name: string, args: readonly string[]): Promise<void> {
  const rates: Record<"screen" | "headless", number[]> = { screen: [], headless: [] };
  for (let round = 0; round < report.rounds; round++) {
    rates.headless.push(rateOf(await headless(args)));
    rates.screen.push(rateOf(await onScreen(args)));
  }
  const value = median(rates.screen) / median(rates.headless);
  report.figure({ name: `throughput beside it, guest ${name}`, value, unit: "x", ...THROUGHPUT });
}

async function responsiveness(report: Report): Promise<void> {
  const starts: number[] = [];
  for (let i = 0; i < STARTS; i++) starts.push(await timeOfFirstFrame());
  const pty = new Pty(START, ROOT, SCREEN);
  await pty.until(FIRST_FRAME, 20_000);
  await pause(1000);
  const fps = await framesPerSecond(pty);
  const keys: number[] = [];
  for (let i = 0; i < KEYS; i++) keys.push(await timeOfKey(pty));
  await pty.type("q");
  await pty.end();
  report.figure({ name: "frames a second", value: fps, unit: "", must: { least: 25 } });
  const key = `key to its effect (median of ${KEYS})`;
  report.figure({ name: key, value: median(keys), unit: "ms", must: { most: 50 } });
  const first = `first frame (median of ${STARTS})`;
  report.figure({ name: first, value: median(starts), unit: "ms", must: { most: 1000 } });
}

export const dashboard: Bench = {
  name: "dashboard",
  run: async (report: Report) => {
    report.print("\ndashboard, 200x60, guest busy");
    if (!canPty()) return report.note("skipped: util-linux's script cannot be run");
    await responsiveness(report);
    for (const { name, args } of WORK) await throughput(report, name, args);
  },
};
