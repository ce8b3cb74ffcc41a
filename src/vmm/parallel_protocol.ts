/** What the workers of one machine tell each other by messages: only until they run. */
import type { Images } from "./load.ts";
import type { MachineConfig } from "./options.ts";

/** To a helper: make your machine. */
export interface MakeMessage {
  readonly kind: "make";
  readonly config: MachineConfig;
  readonly images: Images;
  readonly worker: number;
  readonly timeOriginMs: number;
  /** The memory, once one of them has made it. */
  readonly memory: WebAssembly.Memory | undefined;
}

/** To a helper: the machine is made; run your CPUs. */
export interface GoMessage {
  readonly kind: "go";
}

/** From a helper: its machine is made and its memory empty again; what its state hashed to, and where its own allocations ended. */
export interface MadeMessage {
  readonly kind: "made";
  readonly memory: WebAssembly.Memory;
  readonly stateHash: string;
}

/** From a helper: it cannot make the machine. */
export interface NotMadeMessage {
  readonly kind: "failed";
  readonly userError: boolean;
  readonly message: string;
}

/** From a helper: a line for the user. */
export interface ReportMessage {
  readonly kind: "report";
  readonly line: string;
}

export type ToHelper = MakeMessage | GoMessage;
export type FromHelper = MadeMessage | NotMadeMessage | ReportMessage;

/** Bytes of console output of all workers that the main one has not taken. */
export const TEAM_CONSOLE_BYTES = 1 << 16;
