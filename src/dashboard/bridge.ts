/** What the dashboard reaches the machine through: frames in, commands out, the console's bytes, the trace. */
import type { TraceEvent } from "../trace/tracepoints.ts";
import type { Command } from "../vmm/command_ring.ts";
import type { Frame } from "../vmm/frame.ts";

/** The trace ring as a reader sees it. */
export interface TraceReader {
  /** Events ever made; the newest has number `written - 1`. */
  readonly written: number;
  /** How many of them are kept. */
  readonly capacity: number;
  /** Event number `n`, or undefined when it is overwritten or not made yet. */
  read(n: number): TraceEvent | undefined;
}

/** The machine, from the dashboard's side; a fake one in tests. */
export interface MachineBridge {
  /** The newest frame if it is newer than the last one returned, asking for the next one. */
  frame(): Frame | undefined;
  /** Sends a command; its number, or undefined when the machine is too far behind to take it. */
  send(command: Command): number | undefined;
  /** The result (0, or an error number negated) of an acknowledged command; undefined while it is under way. */
  resultOf(sequence: number): number | undefined;
  /** What the guest has written to its console since the last call. */
  consoleOut(): Uint8Array;
  /** Bytes for the guest's console; how many were taken. The rest is to be offered again. */
  consoleIn(bytes: Uint8Array): number;
  readonly trace: TraceReader;
  /** The name at a guest address, as `function+0x12`. */
  symbol?(pc: bigint): string | undefined;
  /** Why the machine has ended, in one line; undefined while it runs. */
  ended?(): string | undefined;
}

/** Wall time. */
export interface Clock {
  nowMs(): number;
}
