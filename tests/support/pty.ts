/**
 * A program under a real pseudo terminal, by util-linux's `script`: what it writes can be waited for,
 * what it reads can be typed.
 */

export interface PtyOptions {
  readonly columns: number;
  readonly rows: number;
  readonly env?: Readonly<Record<string, string>>;
}

/** Whether programs may be run and `script` is there. */
export function canPty(): boolean {
  if (Deno.permissions.querySync({ name: "run" }).state !== "granted") return false;
  try {
    return new Deno.Command("script", { args: ["--version"], stdout: "null" }).outputSync().success;
  } catch {
    return false;
  }
}

/** One program on a terminal of its own. */
export class Pty {
  /** Everything written to the terminal so far. */
  output = "";
  readonly #process: Deno.ChildProcess;
  readonly #writer: WritableStreamDefaultWriter<Uint8Array>;
  readonly #reading: Promise<void>;
  #changed: () => void = () => {};

  /** `command`: a shell command line, run in `cwd`. */
  constructor(command: string, cwd: URL, { columns, rows, env = {} }: PtyOptions) {
    this.#process = new Deno.Command("script", {
      args: ["-qefc", `stty cols ${columns} rows ${rows}; ${command}`, "/dev/null"],
      cwd,
      env: { TERM: "xterm-256color", ...env },
      stdin: "piped",
      stdout: "piped",
      stderr: "null",
    }).spawn();
    this.#writer = this.#process.stdin.getWriter();
    this.#reading = this.#read();
  }

  async #read(): Promise<void> {
    const decoder = new TextDecoder();
    for await (const bytes of this.#process.stdout) {
      this.output += decoder.decode(bytes, { stream: true });
      this.#changed();
    }
  }

  async type(text: string): Promise<void> {
    await this.#writer.write(new TextEncoder().encode(text));
  }

  /** Waits until the output from position `from` on matches; how far it had got by then. Throws after `ms`. */
  async until(pattern: RegExp, ms: number, from = 0): Promise<number> {
    const end = performance.now() + ms;
    while (!pattern.test(this.output.slice(from))) {
      const left = end - performance.now();
      if (left <= 0) {
        throw new Error(`not seen: ${pattern}; last: ${JSON.stringify(this.output.slice(-200))}`);
      }
      let timer: ReturnType<typeof setTimeout> | undefined;
      await new Promise<void>((resolve) => {
        this.#changed = resolve;
        timer = setTimeout(resolve, Math.min(left, 200));
      });
      clearTimeout(timer);
    }
    return this.output.length;
  }

  /** Waits for the program's end and returns its exit code. */
  async end(): Promise<number> {
    const { code } = await this.#process.status;
    await this.#reading;
    await this.#writer.close().catch(() => {});
    return code;
  }

  /** Ends the terminal, and the program on it, if it still runs. */
  async kill(): Promise<void> {
    try {
      this.#process.kill("SIGKILL");
    } catch {
      // It has ended.
    }
    await this.end();
  }
}
