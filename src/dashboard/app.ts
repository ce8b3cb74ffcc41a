/**
 * The dashboard's loop: input to state to commands, frames to model to screen.
 *
 * Input is handled at once and never waits for a frame or for the terminal; drawing happens at the
 * refresh rate and, after a key, right away. The machine's console is emptied and the frames are
 * collected however seldom the screen is drawn.
 */
import type { Clock, MachineBridge } from "./bridge.ts";
import { consoleLines, TraceLines } from "./model/logs.ts";
import { advance, EMPTY_MODEL, type Model, resetTotals } from "./model/model.ts";
import { guestKey, guestPaste } from "./model/guest_input.ts";
import { reduce } from "./model/reduce.ts";
import type { Effect, Surroundings } from "./model/step.ts";
import { INITIAL_STATE, type UiState } from "./model/state.ts";
import type { InputEvent } from "./terminal/keys.ts";
import { type EndReason, Terminal, type TerminalIo } from "./terminal/lifecycle.ts";
import { Screen } from "./terminal/render.ts";
import { toSvg, toText } from "./terminal/screen_text.ts";
import { type ColourDepth, StyleTable } from "./terminal/style.ts";
import { internTheme, type RoleIds, type Theme, themeByName, THEMES } from "./terminal/theme.ts";
import { VirtualTerminal } from "./terminal/vt.ts";
import { type Drawn, drawScreen, hitAt, tableOf, type View } from "./view/screen.ts";

/** What the dashboard is made of and how it starts. */
export interface DashboardOptions {
  readonly io: TerminalIo;
  readonly bridge: MachineBridge;
  readonly clock: Clock;
  readonly depth: ColourDepth;
  /** The choices it starts with, over {@link INITIAL_STATE}. */
  readonly start?: Partial<UiState>;
  /** Writes a screenshot; only when writing is permitted. Throws what the user is to be told. */
  readonly save?: (name: string, content: string) => void;
  readonly logPath?: string;
  /** The machine repeats a recorded run, console input included. */
  readonly replaying?: boolean;
}

/** Frames are collected and the console is emptied at least this often. */
const COLLECT_MS = 34;
/** After a command: how soon to look for its effect, and how often. */
const HURRY_MS = 4;
const HURRIES = 10;
/** Console input that waits for the guest to take it, at most. */
const MAX_WAITING = 16 << 20;
/** Answers to the guest's questions are not heaped on more waiting input than this, in bytes. */
const MAX_ANSWERS = 4096;
/** Until the guest has the keyboard its screen is wide enough for a kernel's longest lines. */
const CONSOLE_SIZE = { columns: 160, rows: 24, scrollback: 5000 } as const;

/** Names of the error numbers that commands come back with. */
const ERRORS: Readonly<Record<number, string>> = {
  1: "not permitted",
  2: "there is no such thing",
  11: "try again",
  16: "busy",
  19: "no such device",
  22: "not possible for this one",
  38: "not supported",
  95: "not possible with --threads",
};

/** Timers may come this much before their time. */
const EARLY_MS = 2;

/** The next time on a grid of `period` after `now`; a new grid when the old one is more than a period behind. */
function nextOnGrid(last: number, period: number, now: number): number {
  const next = last + period;
  return next > now + EARLY_MS - period && next <= now + period + EARLY_MS ? next : now + period;
}

const NOTHING_DRAWN: Drawn = {
  hits: [],
  pages: new Map(),
  maxScroll: 0,
  cursor: undefined,
  consoleSize: undefined,
};

/** The dashboard, from taking the terminal to giving it back. */
export class Dashboard {
  readonly #options: DashboardOptions;
  readonly #terminal: Terminal;
  readonly #styles: StyleTable;
  readonly #screen: Screen;
  readonly #console = new VirtualTerminal(CONSOLE_SIZE, (text) => this.#answer(text));
  readonly #trace = new TraceLines();
  readonly #roles = new Map<string, RoleIds>();
  readonly #waiting: Uint8Array[] = [];
  #waitingBytes = 0;
  #pending: { readonly sequence: number; readonly what: string }[] = [];
  #model: Model = EMPTY_MODEL;
  #ui: UiState;
  #drawn: Drawn = NOTHING_DRAWN;
  #cancelTick: (() => void) | undefined;
  #hurries = 0;
  #nextDrawMs = 0;
  #nextTickMs = 0;
  #drawTimes: number[] = [];
  #ended: ((reason: EndReason) => void) | undefined;

  constructor(options: DashboardOptions) {
    this.#options = options;
    this.#ui = { ...INITIAL_STATE, ...options.start };
    this.#styles = new StyleTable(options.depth);
    this.#terminal = new Terminal(options.io, {
      mouse: this.#ui.mouse,
      ...(options.logPath === undefined ? {} : { logPath: options.logPath }),
      onRedraw: (columns, rows) => {
        this.#screen.resize(columns, rows);
        this.#draw();
      },
      onSuspendRefused: () => this.#say("Cannot stop here: no shell would get the terminal back."),
      onEnd: (reason) => {
        this.#cancelTick?.();
        this.#ended?.(reason);
      },
    });
    const { columns, rows } = this.#terminal.size();
    this.#screen = new Screen(this.#styles, columns, rows);
  }

  /** The user's choices now. */
  get ui(): UiState {
    return this.#ui;
  }

  /** What is known of the machine now. */
  get model(): Model {
    return this.#model;
  }

  /** Runs until the user quits or the terminal goes away; says which. The terminal is restored by then. */
  run(): Promise<EndReason> {
    const end = new Promise<EndReason>((resolve) => (this.#ended = resolve));
    this.#terminal.enter();
    this.#tick();
    this.#terminal.listen((event) => this.#input(event));
    return end;
  }

  /** Leaves, as the quit key would. */
  quit(): void {
    this.#options.bridge.send({ op: "quit" });
    this.#terminal.leave();
  }

  #say(message: string): void {
    this.#ui = { ...this.#ui, message };
    this.#draw();
  }

  // Collecting.

  #tick(): void {
    this.#collect();
    const now = this.#options.clock.nowMs();
    const drawPeriod = 1000 / this.#ui.fps;
    // Times on a grid: a timer that comes late does not put all later frames off.
    if (now >= this.#nextDrawMs - EARLY_MS || this.#hurries > 0) {
      this.#draw();
      this.#nextDrawMs = nextOnGrid(this.#nextDrawMs, drawPeriod, now);
    }
    const period = Math.min(COLLECT_MS, drawPeriod);
    this.#nextTickMs = nextOnGrid(this.#nextTickMs, period, now);
    const hurry = this.#hurries > 0 && this.#hurries-- > 0;
    this.#schedule(hurry ? HURRY_MS : this.#nextTickMs - this.#options.clock.nowMs());
  }

  #schedule(ms: number): void {
    this.#cancelTick?.();
    this.#cancelTick = this.#options.io.after(Math.max(1, ms), () => this.#tick());
  }

  #collect(): void {
    const { bridge } = this.#options;
    const frame = bridge.frame();
    if (frame !== undefined) this.#model = advance(this.#model, frame);
    const output = bridge.consoleOut();
    if (output.length > 0) this.#console.write(output);
    this.#feedGuest();
    this.#collectResults();
  }

  /** A command is over when it failed, or when the frame on screen shows its effect. */
  #collectResults(): void {
    const shown = this.#model.frame?.acknowledged ?? 0;
    this.#pending = this.#pending.filter(({ sequence, what }) => {
      const result = this.#options.bridge.resultOf(sequence);
      if (result === undefined) return true;
      if (result < 0) this.#failed(what, -result);
      return result >= 0 && shown < sequence && this.#hurries > 0;
    });
    if (this.#pending.length === 0) this.#hurries = Math.min(this.#hurries, 1);
  }

  #failed(what: string, error: number): void {
    const message = `${what}: ${ERRORS[error] ?? `error ${error}`}.`;
    this.#ui = { ...this.#ui, message };
  }

  /** Offers the guest what waits; what it does not take keeps its place. */
  #feedGuest(): void {
    for (let first = this.#waiting[0]; first !== undefined; first = this.#waiting[0]) {
      const taken = this.#options.bridge.consoleIn(first);
      this.#waitingBytes -= taken;
      if (taken < first.length) {
        this.#waiting[0] = first.subarray(taken);
        return;
      }
      this.#waiting.shift();
    }
  }

  // Input.

  #input(event: InputEvent): void {
    const { ui, effects } = reduce(this.#ui, event, this.#surroundings());
    this.#ui = ui;
    for (const effect of effects) this.#carryOut(effect);
    if (this.#terminal.active) this.#draw();
  }

  #surroundings(): Surroundings {
    const view = this.#view();
    return {
      model: this.#model,
      table: (panel) => tableOf(view, panel),
      page: (panel) => this.#drawn.pages.get(panel) ?? 1,
      log: (panel) => view[panel],
      hit: (x, y) => hitAt(this.#drawn.hits, x, y),
      maxScroll: this.#drawn.maxScroll,
    };
  }

  #carryOut(effect: Effect): void {
    switch (effect.kind) {
      case "send":
        return this.#send(effect);
      case "guestKey":
        return this.#toGuest(guestKey(effect.bytes, this.#console));
      case "guestPaste":
        return this.#toGuest(guestPaste(effect.text, this.#console));
      case "screenshot":
        return this.#screenshot(effect.format);
      case "mouse":
        return this.#terminal.setMouse(effect.on);
      case "resetTotals":
        this.#model = resetTotals(this.#model);
        return;
      case "redraw":
        return this.#screen.invalidate();
      case "suspend":
        return this.#terminal.suspend();
      case "quit":
        return this.quit();
    }
  }

  #send({ command, what }: Extract<Effect, { kind: "send" }>): void {
    const sequence = this.#options.bridge.send(command);
    if (sequence === undefined) {
      this.#ui = { ...this.#ui, message: `${what}: the machine takes no more commands just now.` };
      return;
    }
    this.#pending.push({ sequence, what });
    this.#hurries = HURRIES;
    this.#schedule(HURRY_MS);
  }

  #toGuest(bytes: Uint8Array): void {
    if (this.#waitingBytes + bytes.length > MAX_WAITING) {
      this.#ui = { ...this.#ui, message: "The guest does not read its console: not sent." };
      return;
    }
    this.#waiting.push(bytes);
    this.#waitingBytes += bytes.length;
    this.#feedGuest();
  }

  /** The terminal's answer to the guest. Not in a replay: the recording has the answers that were given. */
  #answer(text: string): void {
    if (this.#options.replaying || this.#waitingBytes > MAX_ANSWERS) return;
    this.#toGuest(new TextEncoder().encode(text));
  }

  /** With the keyboard the guest gets a terminal of the size that is seen. */
  #fitConsole(): void {
    const size = this.#drawn.consoleSize;
    if (this.#ui.captured && size !== undefined) this.#console.resize(size.columns, size.rows);
  }

  #screenshot(format: "text" | "svg"): void {
    const { save } = this.#options;
    if (save === undefined) {
      return this.#say("Screenshots need permission to write: start with --allow-write.");
    }
    const at = (this.#model.frame?.virtualNs ?? 0) / 1e9;
    const name = `worldswitch-${at.toFixed(6)}s.${format === "svg" ? "svg" : "txt"}`;
    const { back } = this.#screen;
    try {
      save(name, format === "svg" ? toSvg(back, this.#styles, this.#theme()) : toText(back));
      this.#say(`The screen is in ${name}.`);
    } catch (error) {
      this.#say(`Not written: ${error instanceof Error ? error.message : String(error)}`);
    }
  }

  // Drawing.

  #theme(): Theme {
    return themeByName(this.#ui.theme) ?? THEMES[0] as Theme;
  }

  #rolesNow(): RoleIds {
    const theme = this.#theme();
    const roles = this.#roles.get(theme.name) ?? internTheme(theme, this.#styles);
    this.#roles.set(theme.name, roles);
    return roles;
  }

  #view(): View {
    const { bridge } = this.#options;
    const { line, column } = this.#console.cursor;
    return {
      model: this.#model,
      ui: this.#ui,
      look: { roles: this.#rolesNow(), ascii: this.#ui.ascii },
      console: consoleLines(this.#console, this.#ui.logs.console.filter),
      consoleCursor: { line: line + this.#console.discarded, column },
      trace: this.#trace.lines(bridge.trace, this.#ui.logs.trace.filter, this.#severalVms()),
      fps: this.#drawTimes.length,
      dropped: this.#terminal.dropped,
      ended: bridge.ended?.(),
      symbol: (pc) => bridge.symbol?.(pc),
    };
  }

  #severalVms(): boolean {
    return (this.#model.frame?.vms.length ?? 1) > 1;
  }

  #draw(): void {
    const result = this.#terminal.draw(() => {
      this.#screen.back.clear();
      this.#drawn = drawScreen(this.#screen.back.pane(), this.#view());
      this.#fitConsole();
      return this.#screen.frame(this.#drawn.cursor);
    });
    if (result !== "sent") return;
    const now = this.#options.clock.nowMs();
    this.#drawTimes = [...this.#drawTimes.filter((t) => now - t < 1000), now];
  }
}
