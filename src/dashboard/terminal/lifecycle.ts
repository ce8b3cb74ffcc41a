/**
 * Taking the terminal over and giving it back.
 *
 * The rule of this file: whatever ends the program, the terminal is restored first, once, and with synchronous
 * writes (pending asynchronous ones are lost at exit); only then is anything printed. So every way out goes through
 * `#restore`: quit, unload, an error nobody caught, a rejection nobody caught, SIGTERM, SIGHUP, SIGINT, SIGQUIT, the
 * end of the input.
 *
 * At most one frame is being written at any time. A frame that comes meanwhile is dropped and counted, so a slow
 * terminal neither delays a key nor collects frames. A frame is written by another thread, so that what restores the
 * terminal could overtake it: the restoration waits until it has landed, or for a moment where nothing takes it.
 */

import { type InputEvent, KeyDecoder } from "./keys.ts";

export type SignalName =
  | "SIGTERM"
  | "SIGHUP"
  | "SIGINT"
  | "SIGQUIT"
  | "SIGCONT"
  | "SIGWINCH";

export type GlobalEventName = "unload" | "error" | "unhandledrejection";

/** What the life cycle needs of the operating system; a fake one in tests. */
export interface TerminalIo {
  /** Reads input; null at its end. */
  read(into: Uint8Array): Promise<number | null>;
  /** Writes some of the bytes without blocking; how many. */
  write(bytes: Uint8Array): Promise<number>;
  /** Writes some of the bytes now; how many. Throws when the terminal is gone. */
  writeSync(bytes: Uint8Array): number;
  setRaw(on: boolean): void;
  size(): { columns: number; rows: number };
  /** Calls `handler` on a signal until the returned function is called. Does nothing where there is no such signal. */
  onSignal(name: SignalName, handler: () => void): () => void;
  /** Calls `handler` with what was thrown (undefined for unload); a handled error no longer ends the process. */
  onGlobal(name: GlobalEventName, handler: (reason: unknown) => void): () => void;
  /** Stops this process as Ctrl-Z would. False if that cannot be done; true also when it turns out to be ignored. */
  stopSelf(): boolean;
  /** Calls `run` after `ms` milliseconds of wall time, unless the returned function is called before. */
  after(ms: number, run: () => void): () => void;
  /** Blocks for `ms` milliseconds; used only while giving the terminal back. */
  waitSync(ms: number): void;
  /** Prints a message where errors go. */
  printError(text: string): void;
  exit(code: number): void;
}

/** Why the terminal was given back for good. */
export type EndReason =
  | { readonly kind: "quit" }
  | { readonly kind: "unload" }
  | { readonly kind: "eof" }
  | { readonly kind: "signal"; readonly signal: SignalName }
  | { readonly kind: "error"; readonly error: unknown };

/** What the program is told, and what it may choose. */
export interface TerminalOptions {
  /** Whether to ask for mouse reports at first (default true). */
  readonly mouse?: boolean;
  /** Named after an error, as the place to look. */
  readonly logPath?: string;
  /** The screen has another size, or was lost: draw everything. */
  onRedraw?(columns: number, rows: number): void;
  /** Ctrl-Z cannot stop this process here. */
  onSuspendRefused?(): void;
  /** The terminal is restored; called once, before the process exits on a signal or an error. */
  onEnd?(reason: EndReason): void;
}

/** A frame was sent, dropped because the last one is still being written, or not sent because there is no screen. */
export type DrawResult = "sent" | "dropped" | "away";

/** Exit code after an error: that of every internal error. */
const EXIT_ON_ERROR = 1;

const EXIT_SIGNALS = { SIGHUP: 1, SIGINT: 2, SIGQUIT: 3, SIGTERM: 15 } as const;

/** Alternate screen, hidden cursor, bracketed paste, focus reports. */
const ENTER = "\x1b[?1049h\x1b[?25l\x1b[?2004h\x1b[?1004h\x1b[m\x1b[2J";
const MOUSE_ON = "\x1b[?1002h\x1b[?1006h";
const MOUSE_OFF = "\x1b[?1006l\x1b[?1002l";
/** Ends a synchronized update that was cut off, too. */
const LEAVE = "\x1b[?2026l" + MOUSE_OFF + "\x1b[?1004l\x1b[?2004l\x1b[m\x1b[?25h\x1b[?1049l";

const ESCAPE_DELAY_MS = 25;
/** A stop that was ignored (no job control above us) shows by our still running after this. */
const STOP_CHECK_MS = 200;
/** A terminal that takes nothing, this often in a row, is gone. */
const MAX_EMPTY_WRITES = 100;
const RETRY_MS = 5;
/** How long the restoration waits for the frame on its way; without the event loop, as at unload, less long. */
const LANDING_MS = 500;
const UNLOAD_LANDING_MS = 20;

const encoder = new TextEncoder();

/** The terminal, from `enter` to the one restoration at the end. */
export class Terminal {
  readonly #io: TerminalIo;
  readonly #options: TerminalOptions;
  readonly #removers: (() => void)[] = [];
  // "suspending": the screen is still ours, but nothing is drawn any more.
  #state: "new" | "active" | "suspending" | "suspended" | "ended" = "new";
  #mouse: boolean;
  #writing: Promise<void> | undefined;
  // Counts the times the screen was taken: a frame belongs to one of them.
  #epoch = 0;
  #cancelStopCheck: (() => void) | undefined;
  // The restoration at the end, while it waits for the frame on its way.
  #finish: (() => void) | undefined;
  /** Frames drawn, those without a change included. */
  frames = 0;
  /** Frames not drawn because the one before was still being written. */
  dropped = 0;

  constructor(io: TerminalIo, options: TerminalOptions = {}) {
    this.#io = io;
    this.#options = options;
    this.#mouse = options.mouse ?? true;
  }

  /** Whether the screen is ours now. */
  get active(): boolean {
    return this.#state === "active";
  }

  /** Whether a frame is on its way: drawing now would only drop one. */
  get busy(): boolean {
    return this.#writing !== undefined;
  }

  get mouse(): boolean {
    return this.#mouse;
  }

  /** The size in cells; 80 by 24 where the terminal does not know. */
  size(): { columns: number; rows: number } {
    const { columns, rows } = this.#io.size();
    return { columns: columns > 0 ? columns : 80, rows: rows > 0 ? rows : 24 };
  }

  /** Takes the terminal over. Listens before it changes anything, so that there is no gap. Throws if called twice. */
  enter(): void {
    if (this.#state !== "new") throw new Error("the terminal was entered before");
    this.#listen();
    this.#takeOver();
  }

  /**
   * Gives the terminal back, once; later calls do nothing. The process goes on. A frame on its way is waited for:
   * `onEnd` says when the terminal is restored.
   */
  leave(): void {
    this.#end({ kind: "quit" });
  }

  /** Turns mouse reports on or off (off, the terminal's own text selection works). */
  setMouse(on: boolean): void {
    this.#mouse = on;
    if (this.active) this.#writeAll(on ? MOUSE_ON : MOUSE_OFF);
  }

  /**
   * Leaves the screen and stops the process; SIGCONT brings both back with `onRedraw`. Where the process cannot stop,
   * the screen comes back at once with `onSuspendRefused`.
   */
  suspend(): void {
    if (!this.active) return;
    this.#state = "suspending";
    this.#whenLanded(() => this.#stop());
  }

  #stop(): void {
    // It may have ended in the meantime.
    if (this.#state !== "suspending") return;
    this.#state = "suspended";
    this.#restore();
    if (!this.#io.stopSelf()) return this.#refuseSuspend();
    this.#cancelStopCheck = this.#io.after(STOP_CHECK_MS, () => this.#refuseSuspend());
  }

  /**
   * Sends the frame that `make` returns. `make` is not called while one is still on its way, so that what it compares
   * with is always what the terminal was sent.
   */
  draw(make: () => Uint8Array): DrawResult {
    if (!this.active) return "away";
    if (this.#writing !== undefined) {
      this.dropped++;
      return "dropped";
    }
    const frame = make();
    this.frames++;
    if (frame.length === 0) return "sent";
    this.#writing = this.#writeFrame(frame);
    return "sent";
  }

  /** Resolves when no frame is on its way. */
  async idle(): Promise<void> {
    await this.#writing;
  }

  /** Reads the input until it or the terminal ends, and hands on its events. */
  async listen(handle: (event: InputEvent) => void): Promise<void> {
    const decoder = new KeyDecoder();
    const buffer = new Uint8Array(4096);
    let cancelFlush: (() => void) | undefined;
    while (this.#state !== "ended") {
      const count = await this.#read(buffer);
      cancelFlush?.();
      if (count === null) return this.#inputEnded();
      decoder.feed(buffer.subarray(0, count)).forEach(handle);
      if (!decoder.waiting) continue;
      cancelFlush = this.#io.after(ESCAPE_DELAY_MS, () => decoder.flush().forEach(handle));
    }
  }

  async #read(buffer: Uint8Array): Promise<number | null> {
    try {
      return await this.#io.read(buffer);
    } catch {
      // EIO: the terminal went away under us.
      return null;
    }
  }

  #inputEnded(): void {
    this.#end({ kind: "eof" }, () => this.#io.exit(128 + EXIT_SIGNALS.SIGHUP));
  }

  #listen(): void {
    const keep = (remove: () => void): number => this.#removers.push(remove);
    for (const [signal, number] of Object.entries(EXIT_SIGNALS) as [SignalName, number][]) {
      keep(this.#io.onSignal(signal, () => {
        this.#end({ kind: "signal", signal }, () => this.#io.exit(128 + number));
      }));
    }
    keep(this.#io.onSignal("SIGCONT", () => this.#continued()));
    keep(this.#io.onSignal("SIGWINCH", () => this.#redraw()));
    keep(this.#io.onGlobal("unload", () => this.#unloaded()));
    for (const name of ["error", "unhandledrejection"] as const) {
      keep(this.#io.onGlobal(name, (error) => this.#failed(error)));
    }
  }

  #failed(error: unknown): void {
    this.#end({ kind: "error", error }, () => this.#report(error));
  }

  #report(error: unknown): void {
    const text = error instanceof Error ? error.stack ?? error.message : String(error);
    const log = this.#options.logPath;
    this.#io.printError(text + "\n" + (log === undefined ? "" : `The log is in ${log}\n`));
    this.#io.exit(EXIT_ON_ERROR);
  }

  #redraw(): void {
    if (!this.active) return;
    const { columns, rows } = this.size();
    this.#options.onRedraw?.(columns, rows);
  }

  /** Also after a SIGSTOP from outside, when the shell has had the terminal in between. */
  #continued(): void {
    this.#cancelStopCheck?.();
    if (this.#state !== "suspended" && this.#state !== "active") return;
    this.#takeOver();
    this.#redraw();
  }

  #refuseSuspend(): void {
    if (this.#state !== "suspended") return;
    this.#takeOver();
    this.#redraw();
    this.#options.onSuspendRefused?.();
  }

  #takeOver(): void {
    this.#state = "active";
    this.#epoch++;
    this.#io.setRaw(true);
    this.#writeAll(ENTER + (this.#mouse ? MOUSE_ON : ""));
  }

  /** The first caller's terminal is restored, and then `afterwards` called. */
  #end(reason: EndReason, afterwards = (): void => {}): void {
    if (this.#state === "ended") return;
    const owned = this.active || this.#state === "suspending";
    this.#state = "ended";
    this.#cancelStopCheck?.();
    this.#finish = () => {
      this.#finish = undefined;
      if (owned) this.#restore();
      for (const remove of this.#removers.splice(0)) remove();
      this.#options.onEnd?.(reason);
      afterwards();
    };
    this.#whenLanded(() => this.#finish?.());
  }

  /** No promise is resolved any more: all that can be done for a frame on its way is to give it time. */
  #unloaded(): void {
    this.#end({ kind: "unload" });
    if (this.#finish === undefined) return;
    this.#io.waitSync(UNLOAD_LANDING_MS);
    this.#finish();
  }

  /** Calls `run` when no frame is on its way, or has been for long. */
  #whenLanded(run: () => void): void {
    if (this.#writing === undefined) return run();
    let cancel: (() => void) | undefined = this.#io.after(LANDING_MS, () => once());
    const once = (): void => {
      if (cancel === undefined) return;
      cancel();
      cancel = undefined;
      run();
    };
    this.#writing.then(once);
  }

  #restore(): void {
    this.#writeAll(LEAVE);
    try {
      this.#io.setRaw(false);
    } catch {
      // The terminal is gone; nobody is left to restore it for.
    }
  }

  #writeAll(text: string): void {
    let rest = encoder.encode(text);
    for (let empty = 0; rest.length > 0 && empty < MAX_EMPTY_WRITES;) {
      const written = this.#writeSome(rest);
      if (written === undefined) return;
      if (written === 0) this.#io.waitSync(RETRY_MS);
      empty = written > 0 ? 0 : empty + 1;
      rest = rest.subarray(written);
    }
  }

  /** Bytes written, 0 if the terminal takes none just now, undefined if it is gone. */
  #writeSome(bytes: Uint8Array): number | undefined {
    try {
      return this.#io.writeSync(bytes);
    } catch (error) {
      return isTemporary(error) ? 0 : undefined;
    }
  }

  async #writeFrame(frame: Uint8Array): Promise<void> {
    const epoch = this.#epoch;
    // The rest of a frame must not follow what restored the terminal, nor come into the next screen.
    const wanted = (): boolean => this.active && this.#epoch === epoch;
    try {
      for (let rest = frame; rest.length > 0 && wanted();) {
        rest = rest.subarray(await this.#writePart(rest));
      }
    } catch {
      // The input ends too when the terminal is gone, and that is handled in one place.
    } finally {
      this.#writing = undefined;
    }
  }

  async #writePart(bytes: Uint8Array): Promise<number> {
    try {
      return await this.#io.write(bytes);
    } catch (error) {
      if (!isTemporary(error)) throw error;
      // Somebody who shares the terminal made it non-blocking.
      await new Promise<void>((resume) => this.#io.after(RETRY_MS, resume));
      return 0;
    }
  }
}

function isTemporary(error: unknown): boolean {
  return error instanceof Error && /Interrupted|WouldBlock|Busy/.test(error.name);
}
