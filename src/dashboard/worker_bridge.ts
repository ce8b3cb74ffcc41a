/** The machine's worker, from the main thread: a {@link MachineBridge} over the shared memory. */
import { InternalError, UserError } from "../base/errors.ts";
import { SharedMemory } from "../base/memory.ts";
import { TraceLog } from "../trace/tracepoints.ts";
import { ByteRing } from "../vmm/byte_ring.ts";
import { type Command, CommandRing } from "../vmm/command_ring.ts";
import { type Frame, FrameReader } from "../vmm/frame.ts";
import type { GuestSymbols } from "../vmm/guest_symbols.ts";
import {
  COMMAND_CAPACITY,
  CONSOLE_IN_BYTES,
  CONSOLE_OUT_BYTES,
  type EndedMessage,
  type ReadyMessage,
  type StartMessage,
  TRACE_CAPACITY,
  type WorkerMessage,
} from "../vmm/worker_protocol.ts";
import type { MachineBridge, TraceReader } from "./bridge.ts";

/** How long a machine that was told to quit may take to say how it ended, in ms. */
const QUIT_MS = 3000;

/** A running machine. */
export class WorkerBridge implements MachineBridge {
  readonly trace: TraceReader;
  readonly #commands: CommandRing;
  readonly #consoleOut: ByteRing;
  readonly #consoleIn: ByteRing;
  readonly #frames: FrameReader;
  #end: EndedMessage | undefined;
  #failure: string | undefined;
  #onEnd: () => void = () => {};

  private constructor(
    readonly worker: Worker,
    { memory: shared, places }: ReadyMessage,
    readonly symbols: GuestSymbols,
  ) {
    const memory = new SharedMemory(shared);
    this.#commands = new CommandRing(memory, places.commands, COMMAND_CAPACITY);
    this.#consoleOut = new ByteRing(memory, places.consoleOut, CONSOLE_OUT_BYTES);
    this.#consoleIn = new ByteRing(memory, places.consoleIn, CONSOLE_IN_BYTES);
    this.#frames = new FrameReader(memory, places.frames);
    const { head, records } = places.trace;
    this.trace = new TraceLog(memory, head, records, TRACE_CAPACITY);
    worker.onmessage = (event: MessageEvent<WorkerMessage>): void => this.#receive(event.data);
    worker.onerror = (event): void => {
      event.preventDefault();
      this.#fail(event.message);
    };
  }

  /** Starts a worker (the machine's, unless `url` names another) and waits until the machine is made. UserError when the images or options are wrong. */
  static async start(
    message: StartMessage,
    symbols: GuestSymbols,
    url: URL = new URL("../vmm/machine_worker.ts", import.meta.url),
  ): Promise<WorkerBridge> {
    const worker = new Worker(url, { type: "module" });
    const answer = await new Promise<WorkerMessage>((resolve, reject) => {
      worker.onmessage = (event: MessageEvent<WorkerMessage>): void => resolve(event.data);
      worker.onerror = (event): void => {
        event.preventDefault();
        reject(new InternalError(event.message));
      };
      worker.postMessage(message);
    });
    if (answer.kind === "ready") return new WorkerBridge(worker, answer, symbols);
    worker.terminate();
    if (answer.kind === "ended") throw new InternalError(answer.reason);
    throw answer.userError ? new UserError(answer.message) : new InternalError(answer.stack);
  }

  #receive(message: WorkerMessage): void {
    if (message.kind === "ended") this.#end = message;
    if (message.kind === "failed") return this.#fail(message.stack || message.message);
    this.#onEnd();
  }

  #fail(message: string): void {
    this.#failure = message;
    this.#onEnd();
  }

  frame(): Frame | undefined {
    const frame = this.#frames.poll();
    for (const { vbar } of frame?.vcpus ?? []) this.symbols.observe(vbar);
    this.#frames.request();
    return frame;
  }
  send(command: Command): number | undefined {
    return this.#commands.send(command);
  }
  resultOf(sequence: number): number | undefined {
    return this.#commands.resultOf(sequence);
  }
  consoleOut(): Uint8Array {
    return this.#consoleOut.read();
  }
  consoleIn(bytes: Uint8Array): number {
    const taken = this.#consoleIn.write(bytes);
    if (taken > 0) this.#commands.ring();
    return taken;
  }
  ended(): string | undefined {
    return this.#failure ?? this.#end?.reason;
  }

  symbol(pc: bigint): string | undefined {
    return this.symbols.lookup(pc);
  }

  /** What broke the machine, if something did. */
  get failure(): string | undefined {
    return this.#failure;
  }

  /** Tells the machine to end and returns how it did; undefined when it broke or does not answer. */
  async quit(): Promise<EndedMessage | undefined> {
    if (this.#end === undefined && this.#failure === undefined) {
      const over = new Promise<void>((resolve) => this.#onEnd = resolve);
      this.send({ op: "quit" });
      let timer: ReturnType<typeof setTimeout> | undefined;
      const late = new Promise<void>((resolve) => timer = setTimeout(resolve, QUIT_MS));
      await Promise.race([over, late]);
      clearTimeout(timer);
    }
    this.worker.terminate();
    return this.#end;
  }
}
