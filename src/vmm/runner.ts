/**
 * Runs a guest chunk by chunk: takes inputs between chunks, records or replays them, notices the end.
 * The same for the headless run and for the dashboard's worker.
 */
import { KernelPanic, UserError } from "../base/errors.ts";
import type { StopReason } from "../arm/machine_options.ts";
import { engineCounts } from "./engine_counts.ts";
import type { Guest, GuestStats } from "./guest.ts";
import { EXIT_CODE } from "./options.ts";
import type { Input, RecordedEnd, RecordedInput, Recording } from "./recording.ts";

/** Instructions, and virtual nanoseconds, between two looks at the inputs: whichever comes first. */
const CHUNK = 100_000;
const CHUNK_NS = 2_000_000;

/** Resets within a virtual second that make a reset loop. */
const RESET_LIMIT = 5;

/** How a run ended. */
export interface Ending {
  readonly code: number;
  readonly reason: string;
}

export interface RunnerOptions {
  /** Virtual time at which to stop, in ns. */
  readonly forNs: number;
  readonly replay?: Recording;
}

/** One run of a guest. */
export class Runner {
  readonly inputs: RecordedInput[] = [];
  readonly #startMs = performance.now();
  readonly #resetsAt: number[] = [];
  #replayed = 0;

  constructor(readonly guest: Guest, readonly options: RunnerOptions) {}

  /** Applies an input now and remembers it. 0, or an error number, negated. */
  input(input: Input): number {
    const { turns, insns } = this.guest.machine;
    this.inputs.push({ turns, insns, input });
    return this.guest.apply(input);
  }

  /** Runs one chunk. How the run ended, "stalled" when nothing will happen without input, or undefined to go on. */
  chunk(): Ending | "stalled" | undefined {
    const { guest, options } = this;
    this.#replayDue();
    const limitNs = Math.min(options.forNs, guest.machine.nowNs + CHUNK_NS);
    const reason = this.#run(limitNs);
    if (typeof reason !== "string") return reason;
    if (guest.failure) return { code: EXIT_CODE.INTERNAL_ERROR, reason: guest.failure.message };
    const event = guest.takeEvent();
    if (event === "off") return { code: EXIT_CODE.POWER_OFF, reason: "power off" };
    if (event === "reset") return this.#reset();
    if (reason === "limit" && limitNs === options.forNs) {
      return { code: EXIT_CODE.TIME_LIMIT, reason: "time limit reached" };
    }
    return reason === "stalled" && !this.#moreToReplay ? "stalled" : undefined;
  }

  /** Runs the machine. A host kernel that panics is the end, and says why. */
  #run(limitNs: number): StopReason | Ending {
    try {
      return this.guest.machine.run(CHUNK, limitNs);
    } catch (error) {
      if (!(error instanceof KernelPanic)) throw error;
      return { code: EXIT_CODE.INTERNAL_ERROR, reason: error.message };
    }
  }

  get #moreToReplay(): boolean {
    return this.#replayed < (this.options.replay?.inputs.length ?? 0);
  }

  /** Applies the recorded inputs whose moment has come. UserError when it was missed: this is another run. */
  #replayDue(): void {
    const { machine } = this.guest;
    const inputs = this.options.replay?.inputs ?? [];
    for (let next = inputs[this.#replayed]; next; next = inputs[this.#replayed]) {
      if (next.turns > machine.turns) return;
      if (next.turns < machine.turns || next.insns !== machine.insns) {
        throw new UserError(
          `replay: input ${
            this.#replayed + 1
          } belongs after ${next.insns} instructions, not ${machine.insns}: other options or images than recorded`,
        );
      }
      this.input(next.input);
      this.#replayed++;
    }
  }

  #reset(): Ending | undefined {
    const now = this.guest.machine.nowNs;
    this.#resetsAt.push(now);
    const recent = this.#resetsAt.filter((t) => now - t < 1e9).length;
    if (recent >= RESET_LIMIT) return { code: EXIT_CODE.RESET_LOOP, reason: "reset loop" };
    this.guest.reset();
    return undefined;
  }

  /** How the run stands, for a recording's last line; the hash of its state is made unless it is known. */
  end(stateHash: string = this.guest.machine.stateHash()): RecordedEnd {
    const { turns, insns } = this.guest.machine;
    return { turns, insns, stateHash };
  }

  /** The JSON of `--stats`. */
  stats(): GuestStats & { readonly stateHash: string } {
    const { machine } = this.guest;
    return {
      virtualNs: machine.nowNs,
      wallMs: Math.round(performance.now() - this.#startMs),
      insns: machine.insns,
      stateHash: machine.stateHash(),
      engine: engineCounts(machine),
      ...this.guest.stats(),
    };
  }
}
