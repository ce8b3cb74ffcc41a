/** A terminal and an operating system that do as the test says. */

import type {
  GlobalEventName,
  SignalName,
  TerminalIo,
} from "../../../src/dashboard/terminal/lifecycle.ts";

/** What happened, in order: raw mode, output, error output, stopping, exit. */
export class FakeIo implements TerminalIo {
  readonly log: string[] = [];
  /** Everything written to the terminal. */
  output = "";
  raw = false;
  dimensions = { columns: 80, rows: 24 };
  /** What `stopSelf` answers; after a stop the test sends SIGCONT, or does not. */
  canStop = true;
  /** Bytes the terminal takes at a time. */
  chunk = Infinity;
  /** Thrown by the next writes, one each. */
  writeErrors: Error[] = [];
  /** Whether asynchronous writes wait for `release`. */
  slow = false;
  #held: (() => void)[] = [];
  #signals = new Map<SignalName, Set<() => void>>();
  #globals = new Map<GlobalEventName, Set<(reason: unknown) => void>>();
  #timers = new Map<() => void, number>();
  #input: (Uint8Array | null)[] = [];
  #reader: (() => void) | undefined;

  #put(bytes: Uint8Array): number {
    const error = this.writeErrors.shift();
    if (error !== undefined) throw error;
    const taken = bytes.subarray(0, this.chunk);
    const text = new TextDecoder().decode(taken);
    this.output += text;
    this.log.push("out " + JSON.stringify(text));
    return taken.length;
  }

  async read(into: Uint8Array): Promise<number | null> {
    while (this.#input.length === 0) await new Promise<void>((go) => (this.#reader = go));
    const next = this.#input.shift() ?? null;
    if (next !== null) into.set(next);
    return next?.length ?? null;
  }

  async write(bytes: Uint8Array): Promise<number> {
    if (this.slow) await new Promise<void>((go) => this.#held.push(go));
    return this.#put(bytes);
  }

  writeSync(bytes: Uint8Array): number {
    return this.#put(bytes);
  }

  setRaw(on: boolean): void {
    this.raw = on;
    this.log.push(on ? "raw" : "cooked");
  }

  size(): { columns: number; rows: number } {
    return this.dimensions;
  }

  onSignal(name: SignalName, handler: () => void): () => void {
    return add(this.#signals, name, handler);
  }

  onGlobal(name: GlobalEventName, handler: (reason: unknown) => void): () => void {
    return add(this.#globals, name, handler);
  }

  stopSelf(): boolean {
    if (this.canStop) this.log.push("stop");
    return this.canStop;
  }

  after(_ms: number, run: () => void): () => void {
    this.#timers.set(run, 0);
    return () => void this.#timers.delete(run);
  }

  waitSync(): void {
    this.log.push("wait");
  }

  printError(text: string): void {
    this.log.push("error " + text.split("\n")[0]);
    if (text.includes("log is in")) this.log.push("log path");
  }

  exit(code: number): void {
    this.log.push(`exit ${code}`);
  }

  signal(name: SignalName): void {
    for (const handler of [...this.#signals.get(name) ?? []]) handler();
  }

  raise(name: GlobalEventName, reason?: unknown): void {
    for (const handler of [...this.#globals.get(name) ?? []]) handler(reason);
  }

  /** Handlers still registered. */
  get listeners(): number {
    return [...this.#signals.values(), ...this.#globals.values()].reduce((n, s) => n + s.size, 0);
  }

  /** Time passes: every timer fires. */
  elapse(): void {
    const due = [...this.#timers.keys()];
    this.#timers.clear();
    for (const run of due) run();
  }

  /** Lets the held writes through. */
  async release(): Promise<void> {
    for (const go of this.#held.splice(0)) go();
    await settle();
  }

  async type(text: string | null): Promise<void> {
    this.#input.push(text === null ? null : new TextEncoder().encode(text));
    this.#reader?.();
    await settle();
  }
}

function add<K, H>(map: Map<K, Set<H>>, key: K, handler: H): () => void {
  const set = map.get(key) ?? new Set();
  map.set(key, set.add(handler));
  return () => void set.delete(handler);
}

/** Lets everything run that is ready to. */
export async function settle(): Promise<void> {
  for (let i = 0; i < 10; i++) await Promise.resolve();
}
