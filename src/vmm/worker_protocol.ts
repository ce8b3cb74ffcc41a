/** What the main thread and the machine's worker tell each other besides the shared memory. */
import type { Images } from "./load.ts";
import type { MachineConfig } from "./options.ts";
import type { Recording } from "./recording.ts";

/** First and only message to the worker. */
export interface StartMessage {
  readonly config: MachineConfig;
  readonly images: Images;
  readonly replay: Recording | undefined;
}

/** Byte addresses of what both sides use. */
export interface SharedPlaces {
  readonly commands: number;
  readonly consoleOut: number;
  readonly consoleIn: number;
  readonly frames: number;
  /** Addresses of the trace ring's head and first record. */
  readonly trace: { readonly head: number; readonly records: number };
}

export const COMMAND_CAPACITY = 256;
export const CONSOLE_OUT_BYTES = 1 << 18;
export const CONSOLE_IN_BYTES = 1 << 14;
export const TRACE_CAPACITY = 1 << 14;

/** The machine is made; from now on it runs without looking at messages. */
export interface ReadyMessage {
  readonly kind: "ready";
  readonly memory: WebAssembly.Memory;
  readonly places: SharedPlaces;
}

/** The run is over. */
export interface EndedMessage {
  readonly kind: "ended";
  readonly code: number;
  readonly reason: string;
  readonly recording: Pick<Recording, "inputs" | "end">;
  readonly stats: Readonly<Record<string, unknown>>;
}

/** It could not start (a mistake of the user's) or broke (ours). */
export interface FailedMessage {
  readonly kind: "failed";
  readonly userError: boolean;
  readonly message: string;
  readonly stack: string;
}

export type WorkerMessage = ReadyMessage | EndedMessage | FailedMessage;
