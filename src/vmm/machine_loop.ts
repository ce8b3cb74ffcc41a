/**
 * The machine's side of the dashboard: runs chunks, and between them takes commands and console bytes,
 * publishes frames and keeps the pace. Rings and shared words only: nothing of that needs an event loop (event_loop.ts says what does).
 */
import type { ByteRing } from "./byte_ring.ts";
import type { Command, CommandRing } from "./command_ring.ts";
import { pause, TURN_MS } from "./event_loop.ts";
import type { FrameWriter } from "./frame.ts";
import { REAL_TIME } from "./frame_layout.ts";
import { EXIT_CODE } from "./options.ts";
import { hexOfBytes } from "./recording.ts";
import type { Ending, Runner } from "./runner.ts";

const ENOSYS = 38;

/** Longest time without a look at the rings while waiting, in ms: a frame may be wanted. */
const WAIT_MS = 10;

/** Console output kept when nobody reads it, in bytes; the oldest is dropped beyond. */
const BACKLOG_LIMIT = 1 << 20;

export interface LoopParts {
  readonly commands: CommandRing;
  readonly consoleOut: ByteRing;
  readonly consoleIn: ByteRing;
  readonly frames: FrameWriter;
}

/** What the loop is doing, as frames show it. */
export interface LoopState {
  paused: boolean;
  /** Thousandths of wall time that virtual time may not overtake; 0 runs free; {@link REAL_TIME}. */
  pacePermille: number;
  /** Milliseconds of wall time since the loop started. */
  wallMs(): number;
  readonly acknowledged: number;
}

/** Commands that steer the loop itself and are no input of the machine. */
const LOOP_COMMANDS = new Set([
  "pause",
  "resume",
  "setPace",
  "requestFrame",
  "consoleInput",
  "quit",
]);

export class MachineLoop implements LoopState {
  paused = false;
  pacePermille: number;
  #quit = false;
  #stalled = false;
  /** Virtual and wall time from which the pace is measured. */
  #paceFromNs = 0;
  #paceFromMs = 0;
  #backlog: number[] = [];
  readonly #startMs = performance.now();

  /** `pacePermille`: see {@link LoopState}. */
  constructor(readonly runner: Runner, readonly parts: LoopParts, pacePermille: number) {
    this.pacePermille = pacePermille;
    this.#restartPace();
  }

  wallMs(): number {
    return performance.now() - this.#startMs;
  }
  get acknowledged(): number {
    return this.parts.commands.acknowledged;
  }

  /** A byte of the guest's console: never blocks the guest. */
  transmit(byte: number): void {
    if (this.#backlog.length === 0 && this.parts.consoleOut.writeByte(byte)) return;
    if (this.#backlog.length >= BACKLOG_LIMIT) this.#backlog.splice(0, BACKLOG_LIMIT / 4);
    this.#backlog.push(byte);
  }

  /** Runs until the end or the quit command. */
  async run(): Promise<Ending> {
    let turnAt = performance.now() + TURN_MS;
    for (;;) {
      const seen = this.parts.commands.doorbell;
      this.#takeInputs();
      if (this.#quit) return this.#finish({ code: EXIT_CODE.POWER_OFF, reason: "quit" });
      if (!this.paused && !this.#stalled && this.#aheadMs() <= 0) {
        const ending = this.runner.chunk();
        if (ending === "stalled") this.#stalled = true;
        else if (ending) return this.#finish(ending);
      }
      this.#giveOutputs();
      this.#rest(seen);
      if (performance.now() < turnAt) continue;
      await pause(this.runner.guest.machine, 0);
      turnAt = performance.now() + TURN_MS;
    }
  }

  /** The last frame and the last bytes, so that the screen shows the end. */
  #finish(ending: Ending): Ending {
    this.runner.guest.machine.freeze();
    this.#giveOutputs();
    return ending;
  }

  #takeInputs(): void {
    const { commands, consoleIn } = this.parts;
    for (let taken = commands.take(); taken; taken = commands.take()) {
      commands.acknowledge(taken.sequence, this.#obey(taken.command));
      this.#stalled = false;
    }
    if (consoleIn.length === 0) return;
    const room = this.runner.guest.consoleRoom;
    if (room === 0) return;
    const bytes = consoleIn.read(room);
    this.runner.input({ op: "consoleBytes", vm: 0, hex: hexOfBytes(bytes) });
    this.#stalled = false;
  }

  #obey(command: Command): number {
    if (!LOOP_COMMANDS.has(command.op)) {
      if (command.op === "stepInstruction" || command.op === "stepExit") this.#pause(true);
      return this.runner.input(command);
    }
    if (command.op === "pause" || command.op === "resume") this.#pause(command.op === "pause");
    if (command.op === "setPace") {
      if (this.pacePermille === REAL_TIME) return -ENOSYS;
      this.pacePermille = command.permille;
    }
    if (command.op === "quit") this.#quit = true;
    this.#restartPace();
    return 0;
  }

  #pause(paused: boolean): void {
    const { machine } = this.runner.guest;
    this.paused = paused;
    if (paused) machine.freeze();
    else machine.thaw();
  }

  #giveOutputs(): void {
    const { consoleOut, frames } = this.parts;
    if (this.#backlog.length > 0) {
      this.#backlog.splice(0, consoleOut.write(Uint8Array.from(this.#backlog)));
    }
    const source = this.runner.guest.frames;
    if (source && frames.wanted) frames.publish(source);
  }

  #restartPace(): void {
    this.#paceFromNs = this.runner.guest.machine.nowNs;
    this.#paceFromMs = performance.now();
  }

  /** Milliseconds that virtual time is ahead of the pace. */
  #aheadMs(): number {
    if (this.pacePermille === 0 || this.pacePermille === REAL_TIME) return 0;
    const virtualMs = (this.runner.guest.machine.nowNs - this.#paceFromNs) / 1e6;
    return virtualMs * (1000 / this.pacePermille) - (performance.now() - this.#paceFromMs);
  }

  /** Waits for a command; other workers may go on meanwhile, unless all stand still. */
  #wait(seen: number, ms: number): void {
    const { machine } = this.runner.guest;
    machine.release();
    this.parts.commands.wait(seen, ms);
    machine.acquire();
  }

  #rest(seen: number): void {
    if (this.paused || this.#stalled) return this.#wait(seen, WAIT_MS);
    const ahead = this.#aheadMs();
    if (ahead > 0) this.#wait(seen, Math.min(ahead, WAIT_MS));
    // What was lost to a slow host is not made up for: never run faster than the pace.
    else if (ahead < -100) this.#restartPace();
  }
}
