/** The worker that the machine lives in: makes it, tells where things lie, runs it to its end. */
import { UserError } from "../base/errors.ts";
import { ByteRing, byteRingSize } from "./byte_ring.ts";
import { CommandRing, commandRingSize } from "./command_ring.ts";
import { FrameWriter } from "./frame.ts";
import { FRAME_AREA_SIZE, REAL_TIME } from "./frame_layout.ts";
import { loadGuest } from "./load.ts";
import { MachineLoop } from "./machine_loop.ts";
import type { MachineConfig } from "./options.ts";
import { Runner } from "./runner.ts";
import {
  COMMAND_CAPACITY,
  CONSOLE_IN_BYTES,
  CONSOLE_OUT_BYTES,
  type SharedPlaces,
  type StartMessage,
  type WorkerMessage,
} from "./worker_protocol.ts";

/** The worker's global scope, of which only this is used. */
interface Scope {
  onmessage: ((event: MessageEvent<StartMessage>) => void) | null;
  postMessage(message: WorkerMessage): void;
}
const scope = globalThis as unknown as Scope;

/** Permille of wall time: CPUs in parallel have the host's clock. */
function paceOf({ clock, threads = 1 }: MachineConfig): number {
  if (threads > 1) return REAL_TIME;
  return clock === "paced" ? 1000 : 0;
}

async function run({ config, images, replay }: StartMessage): Promise<void> {
  const parts: { loop?: MachineLoop } = {};
  const guest = await loadGuest(config, images, (byte) => parts.loop?.transmit(byte));
  const { memory, observeArena } = guest.machine;
  const places: SharedPlaces = {
    commands: observeArena.reserve(commandRingSize(COMMAND_CAPACITY)),
    consoleOut: observeArena.reserve(byteRingSize(CONSOLE_OUT_BYTES)),
    consoleIn: observeArena.reserve(byteRingSize(CONSOLE_IN_BYTES)),
    frames: observeArena.reserve(FRAME_AREA_SIZE),
    trace: guest.trace,
  };
  const runner = new Runner(guest, { forNs: config.forNs, ...(replay ? { replay } : {}) });
  const loop = new MachineLoop(runner, {
    commands: new CommandRing(memory, places.commands, COMMAND_CAPACITY),
    consoleOut: new ByteRing(memory, places.consoleOut, CONSOLE_OUT_BYTES),
    consoleIn: new ByteRing(memory, places.consoleIn, CONSOLE_IN_BYTES),
    frames: new FrameWriter(memory, places.frames),
  }, paceOf(config));
  parts.loop = loop;
  guest.attach(loop);
  scope.postMessage({ kind: "ready", memory: memory.memory, places });
  const { code, reason } = await loop.run();
  // Before anything else that takes time: it says how long the run was.
  const stats = runner.stats();
  scope.postMessage({
    kind: "ended",
    code,
    reason,
    recording: { inputs: runner.inputs, end: runner.end(stats.stateHash) },
    stats,
  });
  guest.close?.();
}

scope.onmessage = (event): void => {
  run(event.data).catch((error: unknown) => {
    const known = error instanceof Error;
    scope.postMessage({
      kind: "failed",
      userError: error instanceof UserError,
      message: known ? error.message : String(error),
      stack: known ? error.stack ?? "" : "",
    });
  });
};
