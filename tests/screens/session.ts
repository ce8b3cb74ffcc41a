/** A scripted session: keys go in as a terminal's bytes, the screen comes back through xterm. */
import { Dashboard, type DashboardOptions } from "../../src/dashboard/app.ts";
import { encodeKey } from "../../src/dashboard/terminal/key_names.ts";
import { FakeIo, settle } from "../dashboard/terminal/fake_io.ts";
import { XtermScreen } from "../dashboard/terminal/xterm_screen.ts";
import { FakeMachine } from "./fake_machine.ts";

export interface SessionOptions extends Partial<DashboardOptions> {
  readonly columns?: number;
  readonly rows?: number;
  readonly machine?: FakeMachine;
}

export class Session {
  readonly io = new FakeIo();
  readonly machine: FakeMachine;
  readonly app: Dashboard;
  readonly xterm: XtermScreen;
  readonly end: Promise<unknown>;
  /** Everything ever written to the terminal. */
  output = "";
  #ms = 0;

  constructor({ columns = 120, rows = 40, machine, ...options }: SessionOptions = {}) {
    this.machine = machine ?? new FakeMachine();
    this.io.dimensions = { columns, rows };
    this.xterm = new XtermScreen(columns, rows);
    this.app = new Dashboard({
      io: this.io,
      bridge: this.machine.bridge(),
      clock: { nowMs: () => this.#ms },
      depth: "truecolor",
      ...options,
    });
    this.end = this.app.run();
  }

  /** Lets `ms` pass for machine and dashboard, then the screen is up to date. */
  async pass(ms = 34): Promise<void> {
    this.#ms += ms;
    this.machine.run(ms);
    this.io.elapse();
    await settle();
    this.io.elapse();
    await this.#show();
  }

  async #show(): Promise<void> {
    await settle();
    this.output += this.io.output;
    const bytes = this.io.output;
    this.io.output = "";
    await this.xterm.write(bytes);
  }

  /** Presses keys by their names. */
  async keys(...names: string[]): Promise<void> {
    for (const name of names) {
      await this.io.type(new TextDecoder().decode(encodeKey(name)));
      // A lone ESC is decided by time.
      if (name === "Esc") this.io.elapse();
      await settle();
    }
    await this.pass();
  }

  /** Types text, a key for each character. */
  type(text: string): Promise<void> {
    return this.keys(...[...text].map((c) => c === " " ? "Space" : c));
  }

  /** Sends raw bytes, as a mouse does. */
  async raw(text: string): Promise<void> {
    await this.io.type(text);
    await this.pass();
  }

  click(x: number, y: number): Promise<void> {
    return this.raw(`\x1b[<0;${x + 1};${y + 1}M\x1b[<0;${x + 1};${y + 1}m`);
  }

  wheel(x: number, y: number, down: boolean): Promise<void> {
    return this.raw(`\x1b[<${down ? 65 : 64};${x + 1};${y + 1}M`);
  }

  async resize(columns: number, rows: number): Promise<void> {
    this.io.dimensions = { columns, rows };
    this.xterm.resize(columns, rows);
    this.io.signal("SIGWINCH");
    await this.pass();
  }

  /** The screen's rows. */
  get rows(): string[] {
    return this.xterm.text();
  }

  get text(): string {
    return this.rows.join("\n");
  }

  /** The attributes of a cell: "bold", "dim reverse", ... */
  styleAt(x: number, y: number): string {
    return this.xterm.attributes(x, y);
  }

  /** Where a text is on screen: the first place of it. */
  find(text: string): { x: number; y: number } {
    const y = this.rows.findIndex((row) => row.includes(text));
    if (y < 0) throw new Error(`"${text}" is not on screen:\n${this.text}`);
    return { x: (this.rows[y] as string).indexOf(text), y };
  }

  close(): void {
    this.io.signal("SIGTERM");
    this.xterm.dispose();
  }
}

/** A session that shows its first frames. */
export async function start(options: SessionOptions = {}): Promise<Session> {
  const session = new Session(options);
  for (let i = 0; i < 12; i++) await session.pass(100);
  return session;
}
