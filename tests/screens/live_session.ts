/** A session with the real machine in its worker; skipped where a local worker may not be read. */
import assert from "node:assert/strict";
import type { MachineBridge } from "../../src/dashboard/bridge.ts";
import { WorkerBridge } from "../../src/dashboard/worker_bridge.ts";
import { GuestSymbols } from "../../src/vmm/guest_symbols.ts";
import type { Frame } from "../../src/vmm/frame.ts";
import { BUILTIN_SYMBOLS } from "../../src/vmm/load.ts";
import type { MachineConfig } from "../../src/vmm/options.ts";
import { Session } from "./session.ts";

/** A worker of this program's own needs permission to read it. */
export const NO_WORKER: boolean = Deno.permissions.querySync({ name: "read" }).state !== "granted";

const CONFIG: MachineConfig = {
  vcpus: 4,
  pcpus: 2,
  memory: 32 << 20,
  lrs: 4,
  cpu: "v8.0",
  gic: 3,
  mode: "vhe",
  clock: "paced",
  forNs: Infinity,
  append: "",
  bareEl: 0,
  shuffle: 0,
};

/** Looks at a condition before giving up, some milliseconds apart. */
const LOOKS = 3000;

/** The bridge, remembering the newest frame that went through it. */
class Watched implements MachineBridge {
  newest: Frame | undefined;
  readonly trace: MachineBridge["trace"];

  constructor(readonly bridge: WorkerBridge) {
    this.trace = bridge.trace;
  }
  frame(): Frame | undefined {
    const frame = this.bridge.frame();
    this.newest = frame ?? this.newest;
    return frame;
  }
  send: MachineBridge["send"] = (command) => this.bridge.send(command);
  resultOf: MachineBridge["resultOf"] = (sequence) => this.bridge.resultOf(sequence);
  consoleOut: MachineBridge["consoleOut"] = () => this.bridge.consoleOut();
  consoleIn: MachineBridge["consoleIn"] = (bytes) => this.bridge.consoleIn(bytes);
  symbol: NonNullable<MachineBridge["symbol"]> = (pc) => this.bridge.symbol(pc);
  ended: NonNullable<MachineBridge["ended"]> = () => this.bridge.ended();
}

/** The dashboard on a running built-in guest. */
export class LiveSession extends Session {
  private constructor(readonly watched: Watched, columns: number, rows: number) {
    super({ bridge: watched, columns, rows });
  }

  static async start(
    { columns = 200, rows = 60, ...config }: Partial<MachineConfig> & {
      columns?: number;
      rows?: number;
    } = {},
  ): Promise<LiveSession> {
    const message = {
      config: { ...CONFIG, ...config },
      images: { kernel: undefined, initrd: undefined },
      replay: undefined,
    };
    const bridge = await WorkerBridge.start(message, GuestSymbols.fromNm(BUILTIN_SYMBOLS));
    const s = new LiveSession(new Watched(bridge), columns, rows);
    await s.until("the guest's prompt", () => s.text.includes("smp> "));
    return s;
  }

  /** The frame that is on screen. */
  get frame(): Frame {
    assert.ok(this.watched.newest);
    return this.watched.newest;
  }

  /** Lets machine and dashboard go on until the screen is as wanted. */
  async until(what: string, holds: () => boolean): Promise<void> {
    for (let i = 0; i < LOOKS; i++) {
      await this.pass();
      if (holds()) return;
      await new Promise((resume) => setTimeout(resume, 3));
    }
    assert.fail(`not seen: ${what}\n${this.text}`);
  }

  /** Presses keys, and waits until the machine has done what they command and the screen shows it. */
  async command(...names: string[]): Promise<void> {
    const before = this.frame.acknowledged;
    await this.keys(...names);
    await this.until(`effect of ${names.join(" ")}`, () => this.frame.acknowledged > before);
  }

  /** Waits until the screen shows the newest frame: its clock says so. */
  inStep(): Promise<void> {
    const clock = (): string => ` ${(this.frame.virtualNs / 1e9).toFixed(6)} s `;
    return this.until("the newest frame", () => this.rows[0]?.includes(clock()) === true);
  }

  /** Types a line to the guest. */
  async line(text: string): Promise<void> {
    await this.keys("c");
    await this.type(text);
    await this.keys("Enter", "Ctrl-]");
  }

  /** Ends everything however far the test came. */
  async end_(): Promise<void> {
    this.close();
    await this.watched.bridge.quit();
  }
}
