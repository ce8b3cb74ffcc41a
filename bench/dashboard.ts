/**
 * The dashboard as a user has it: the real program on a real pseudo terminal of 200x60, its guest busy.
 * Frames a second, time from a key to what it shows, time from the command to the first frame.
 */
import { canPty, Pty } from "../tests/support/pty.ts";
import { type Bench, median, type Report } from "./harness.ts";

const ROOT = new URL("../", import.meta.url);
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

function verdict(report: Report, what: string, got: number, wanted: string, holds: boolean): void {
  report.note(
    `${what.padEnd(44)} ${got.toFixed(1).padStart(8)}   wanted ${wanted}: ${
      holds ? "holds" : "MISSED"
    }`,
  );
}

export const dashboard: Bench = {
  name: "dashboard",
  run: async (report: Report) => {
    report.print("\ndashboard, 200x60, guest busy");
    if (!canPty()) return report.note("skipped: util-linux's script cannot be run");
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
    const [start, key] = [median(starts), median(keys)];
    verdict(report, "frames a second", fps, ">= 25", fps >= 25);
    verdict(report, `key to its effect, ms (median of ${KEYS})`, key, "<= 50", key <= 50);
    verdict(report, `first frame, ms (median of ${STARTS})`, start, "<= 1000", start <= 1000);
  },
};
