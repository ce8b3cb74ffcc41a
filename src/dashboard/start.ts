/** `start`: the machine in a worker, the dashboard or its linear form on this terminal. */
import { UserError } from "../base/errors.ts";
import type { Invocation } from "../vmm/command_line.ts";
import { GuestSymbols, symbolsFor } from "../vmm/guest_symbols.ts";
import { readBytes, readImages, readText, requireWritable, writeText } from "../vmm/files.ts";
import { checkSame, decisive } from "../vmm/headless.ts";
import { BUILTIN, BUILTIN_SYMBOLS, type NamedBytes } from "../vmm/load.ts";
import { EXIT_CODE } from "../vmm/options.ts";
import { parseRecording, writeRecording } from "../vmm/recording.ts";
import { Dashboard } from "./app.ts";
import { runPlain } from "./plain.ts";
import { colourDepth, type Environment } from "./terminal/style.ts";
import {
  canSuspend,
  denoTerminalIo,
  isTerminal,
  TERMINAL_VARIABLES,
} from "./terminal/deno_terminal.ts";
import { WorkerBridge } from "./worker_bridge.ts";

/** Milliseconds between the lines of the linear form. */
const PLAIN_MS = 500;

function environment(): Environment {
  const set = (name: string) =>
    Deno.permissions.querySync({ name: "env", variable: name }).state === "granted"
      ? Deno.env.get(name)
      : undefined;
  return Object.fromEntries(TERMINAL_VARIABLES.map((name) => [name, set(name)]));
}

/** Names for the guest's addresses. */
function symbolsOf(
  kernel: NamedBytes | undefined,
  path: string | undefined,
): Promise<GuestSymbols> {
  const file = path === undefined ? undefined : { name: path, bytes: readBytes(path) };
  if (kernel || file) return symbolsFor(kernel ?? BUILTIN, file);
  return Promise.resolve(GuestSymbols.fromNm(BUILTIN_SYMBOLS));
}

/** A wait that a signal cuts short: false from then on. */
function interruptibleWait(): (ms: number) => Promise<boolean> {
  let stop = false;
  let wake = (): void => {};
  const end = (): void => {
    stop = true;
    wake();
  };
  for (const signal of ["SIGINT", "SIGTERM"] as const) Deno.addSignalListener(signal, end);
  return async (ms) => {
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, ms);
      wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
    return !stop;
  };
}

/** A screenshot needs permission to write; what is missing is said on the screen. */
function save(name: string, content: string): void {
  writeText(name, content);
}

async function show(invocation: Invocation, bridge: WorkerBridge): Promise<void> {
  const clock = { nowMs: () => performance.now() };
  if (invocation.plain || !isTerminal()) {
    const print = (line: string) => console.log(line);
    await runPlain({ bridge, clock, intervalMs: PLAIN_MS, print, wait: interruptibleWait() });
    return;
  }
  const env = environment();
  const io = denoTerminalIo(canSuspend(env));
  const replaying = invocation.replay !== undefined;
  await new Dashboard({ io, bridge, clock, depth: colourDepth(env), save, replaying }).run();
}

/** UserError unless the machine's worker may be started. */
function requireWorker(): void {
  const path = new URL("../vmm/machine_worker.ts", import.meta.url);
  if (Deno.permissions.querySync({ name: "read", path }).state === "granted") return;
  throw new UserError("the machine runs in a worker, which Deno starts only with --allow-read");
}

/** Runs as told and returns the exit code. */
export async function runStart(invocation: Invocation): Promise<number> {
  requireWorker();
  requireWritable(invocation.stats, invocation.record);
  const { config, record, replay, stats } = invocation;
  const images = readImages(invocation);
  const recording = replay === undefined ? undefined : parseRecording(readText(replay));
  if (recording) checkSame(recording, config);
  const bridge = await WorkerBridge.start(
    { config, images, replay: recording },
    await symbolsOf(images.kernel, invocation.symbols),
  );
  await show(invocation, bridge);
  const end = await bridge.quit();
  if (bridge.failure !== undefined) {
    console.error(`worldswitch: the machine broke\n${bridge.failure}`);
    return EXIT_CODE.INTERNAL_ERROR;
  }
  if (end && stats !== undefined) writeText(stats, JSON.stringify(end.stats, null, 2) + "\n");
  if (end && record !== undefined) {
    writeText(record, writeRecording({ config: decisive(config), ...end.recording }));
  }
  return end?.code ?? EXIT_CODE.POWER_OFF;
}
