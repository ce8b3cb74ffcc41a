/** `run`: the machine in this thread, the guest's console on standard output. */
import { UserError } from "../base/errors.ts";
import type { Invocation } from "./command_line.ts";
import { describeDevices, NO_DEVICES } from "./device_options.ts";
import { pause } from "./event_loop.ts";
import { readImages, readText, requireWritable, writeText } from "./files.ts";
import type { Guest } from "./guest.ts";
import { loadGuest } from "./load.ts";
import { EXIT_CODE, type MachineConfig } from "./options.ts";
import { parseRecording, type Recording, writeRecording } from "./recording.ts";
import type { RegionDump } from "./region_dump.ts";
import { type Ending, Runner } from "./runner.ts";

/** How long the machine runs before signals are looked at, in ms. */
const YIELD_MS = 200;

/** How long console bytes may be kept while more come, in ms. */
const GATHER_MS = 10;

/** Console bytes gathered and written to standard output at once: a write for each line takes 1% of a boot. */
class Output {
  #bytes: number[] = [];
  #flushedMs = -Infinity;
  readonly push = (byte: number): void => {
    this.#bytes.push(byte);
    if (this.#bytes.length >= 4096) this.flush();
    else if (byte === 10) this.flushOld();
  };
  /** Writes what is there unless something was written a moment ago. */
  flushOld(): void {
    if (this.#bytes.length > 0 && performance.now() - this.#flushedMs >= GATHER_MS) this.flush();
  }
  flush(): void {
    if (this.#bytes.length === 0) return;
    let rest = Uint8Array.from(this.#bytes);
    this.#bytes = [];
    while (rest.length > 0) rest = rest.subarray(Deno.stdout.writeSync(rest));
    this.#flushedMs = performance.now();
  }
}

/** What a guest can make this program say on standard error, in lines: it must not fill a disk. */
const MAX_REPORTS = 20;

function reporter(): (line: string) => void {
  let left = MAX_REPORTS;
  return (line) => {
    if (left-- > 0) console.error(`worldswitch: ${line}`);
  };
}

/** The options that decide a run, for its recording. */
export function decisive(config: MachineConfig): Record<string, string | number> {
  const { vcpus, pcpus, memory, lrs, cpu, gic, mode, append, bareEl, shuffle } = config;
  const kaslrSeed = config.kaslrSeed ?? "none";
  const devices = describeDevices(config.devices ?? NO_DEVICES);
  return { vcpus, pcpus, memory, lrs, cpu, gic, mode, append, bareEl, shuffle, kaslrSeed, devices };
}

/** UserError where an option that decides the run is not the recording's. */
export function checkSame(recording: Recording, config: MachineConfig): void {
  for (const [name, value] of Object.entries(decisive(config))) {
    if (recording.config[name] !== value) {
      throw new UserError(
        `replay: recorded with ${name} ${recording.config[name]}, started with ${value}`,
      );
    }
  }
}

/** Waits as long as virtual time is ahead of wall time. */
async function keepPace(runner: Runner, startMs: number): Promise<void> {
  const ahead = runner.guest.machine.nowNs / 1e6 - (performance.now() - startMs);
  if (ahead > 1) await pause(runner.guest.machine, Math.min(ahead, 1000));
}

/** Runs chunks until the end, letting signals in between. */
async function runToEnd(
  runner: Runner,
  output: Output,
  config: MachineConfig,
  interrupted: () => boolean,
): Promise<Ending> {
  const startMs = performance.now();
  let yieldAt = startMs + YIELD_MS;
  for (;;) {
    const ending = runner.chunk();
    output.flushOld();
    if (ending === "stalled") {
      return { code: EXIT_CODE.STALLED, reason: "every CPU waits and nothing can wake one" };
    }
    if (ending) return ending;
    if (config.clock === "paced" && (config.threads ?? 1) === 1) {
      output.flush();
      await keepPace(runner, startMs);
    }
    if (performance.now() < yieldAt) continue;
    await pause(runner.guest.machine, 0);
    if (interrupted()) return { code: EXIT_CODE.INTERRUPTED, reason: "interrupted" };
    yieldAt = performance.now() + YIELD_MS;
  }
}

/** Listens for the signals that end a run until the returned function is called. */
function onInterrupt(act: () => void): () => void {
  const signals = ["SIGINT", "SIGTERM"] as const;
  for (const signal of signals) Deno.addSignalListener(signal, act);
  return () => signals.forEach((signal) => Deno.removeSignalListener(signal, act));
}

/** Loads what writes regions as text only where it is asked for. */
async function dumpInto(folder: string, guest: Guest): Promise<RegionDump> {
  const { RegionDump } = await import("./region_dump.ts");
  return new RegionDump(guest, folder);
}

/** Runs as told and returns the exit code. */
export async function runHeadless(invocation: Invocation): Promise<number> {
  const { config, stats, record, replay, dumpRegions } = invocation;
  requireWritable(stats, record, dumpRegions);
  const recording = replay === undefined ? undefined : parseRecording(readText(replay));
  if (recording) checkSame(recording, config);
  const output = new Output();
  const guest = await loadGuest(config, readImages(invocation), output.push, reporter());
  const dump = dumpRegions === undefined ? undefined : await dumpInto(dumpRegions, guest);
  const runner = new Runner(guest, {
    forNs: config.forNs,
    ...(recording ? { replay: recording } : {}),
  });
  let stop = false;
  const ignore = onInterrupt(() => stop = true);
  const ending = await runToEnd(runner, output, config, () => stop).finally(() => output.flush());
  ignore();
  guest.machine.freeze();
  output.flush();
  dump?.finish();
  if (stats !== undefined) writeText(stats, JSON.stringify(runner.stats(), null, 2) + "\n");
  if (record !== undefined) {
    const end = runner.end();
    writeText(record, writeRecording({ config: decisive(config), inputs: runner.inputs, end }));
  }
  if (ending.code !== EXIT_CODE.POWER_OFF) console.error(`worldswitch: ${ending.reason}`);
  guest.close?.();
  if (recording?.end && recording.end.stateHash !== runner.end().stateHash) {
    throw new UserError("replay: the run ended in another state than recorded");
  }
  return ending.code;
}
