/**
 * The linear form, for screen readers and for outputs that are no terminal: what has changed, a line
 * each, at an interval. A line stands for itself and no line is ever taken back.
 */
import type { Frame, FrameIrq, FrameVcpu } from "../vmm/frame.ts";
import type { Clock, MachineBridge } from "./bridge.ts";
import { count, daif, hex, rate } from "./model/format.ts";
import {
  advance,
  EMPTY_MODEL,
  exitsOf,
  irqIsPending,
  irqKey,
  irqName,
  type Model,
  rateOf,
  stateOf,
} from "./model/model.ts";
import { VirtualTerminal } from "./terminal/vt.ts";

const MACHINE_EVERY_MS = 5000;

function vcpuLine(v: FrameVcpu, symbol: string | undefined): string {
  const where = v.pcpu < 0 ? "on no CPU" : `on CPU ${v.pcpu}`;
  const at = symbol === undefined ? hex(v.pc, 16) : `${hex(v.pc, 16)} ${symbol}`;
  return `EL${v.el} ${where}, DAIF ${daif(v.pstate)}, pc ${at}, ${count(v.exits)} exits`;
}

function irqLine(irq: FrameIrq): string {
  const states = [
    irqIsPending(irq) ? "pending" : "",
    irq.active ? "active" : "",
    irq.enabled ? "" : "disabled",
    irq.lr >= 0 ? `in list register ${irq.lr}` : "",
    irq.vcpu >= 0 ? `on the ap_list of vCPU ${irq.vcpu}` : "",
  ].filter((s) => s !== "");
  const target = irq.ownerVcpu >= 0 || irq.targetVcpu < 0 ? "" : `, target vCPU ${irq.targetVcpu}`;
  return `${states.join(", ") || "idle"}${target}`;
}

function machineLine(model: Model, frame: Frame): string {
  const mips = rate(rateOf(model, (f) => f.insns) / 1e6);
  const exits = rate(rateOf(model, exitsOf));
  const mode = `${frame.mode === 0 ? "VHE" : "nVHE"}, GICv${frame.gic}`;
  return `machine: ${mode}, ${
    (frame.virtualNs / 1e9).toFixed(6)
  } s, ${mips} MIPS, ${exits} exits/s`;
}

/** Turns frames and console output into the lines that are new. */
export class PlainReport {
  readonly #console = new VirtualTerminal({ columns: 160, rows: 1, scrollback: 5000 });
  #shownLines = 0;
  #model: Model = EMPTY_MODEL;
  #said = new Map<string, string>();
  #machineAtMs = -Infinity;

  /** The line if it says something else than the last one about `subject`. */
  #news(subject: string, key: string, line: string): string[] {
    if (this.#said.get(subject) === key) return [];
    this.#said.set(subject, key);
    return [`${subject}: ${line}`];
  }

  /** Lines of the console that are complete. */
  console(bytes: Uint8Array): string[] {
    this.#console.write(bytes);
    // The last line may still grow.
    const { discarded } = this.#console;
    const end = discarded + this.#console.cursor.line;
    const from = Math.max(this.#shownLines, discarded);
    this.#shownLines = Math.max(from, end);
    return Array.from(
      { length: Math.max(0, end - from) },
      (_, i) => `console: ${this.#console.line(from + i - discarded)}`,
    );
  }

  /** What a frame changes. */
  frame(frame: Frame, nowMs: number, symbol?: (pc: bigint) => string | undefined): string[] {
    this.#model = advance(this.#model, frame);
    const lines = this.#news(
      "machine is",
      String(frame.paused),
      frame.paused ? "paused" : "running",
    );
    if (nowMs - this.#machineAtMs >= MACHINE_EVERY_MS) {
      this.#machineAtMs = nowMs;
      lines.push(machineLine(this.#model, frame));
      for (const v of frame.vcpus) {
        lines.push(`vCPU ${v.vcpuIdx}: ${stateOf(v)}, ${vcpuLine(v, symbol?.(v.pc))}`);
      }
    }
    for (const v of frame.vcpus) lines.push(...this.#vcpu(v, frame.vms.length > 1));
    for (const irq of frame.irqs) lines.push(...this.#irq(irq, frame.vms.length > 1));
    return lines;
  }

  /** Running and waiting alternate all the time: only what a user would call news. */
  #vcpu(v: FrameVcpu, several: boolean): string[] {
    const state = stateOf(v);
    const steady = state === "off" || state === "paused" ? state : "on";
    const subject = `${several ? `VM ${v.vm} ` : ""}vCPU ${v.vcpuIdx} is`;
    return this.#news(subject, steady, steady);
  }

  /** Only interrupts that lines and people raise: timers and IPIs come by the thousand. */
  #irq(irq: FrameIrq, several: boolean): string[] {
    if (irq.intid < 32) return [];
    const line = irqLine(irq);
    const subject = `${several ? `VM ${irq.vm} ` : ""}${irqName(irq)}`;
    const known = this.#said.has(subject);
    const quiet = irq.injected === 0 && !irqIsPending(irq) && !irq.active;
    if (!known && quiet) return [];
    const counted = `, acknowledged ${irq.acked}`;
    return this.#news(subject, irqKey(irq) + line + counted, line + counted);
  }
}

/** What the linear form runs with. */
export interface PlainOptions {
  readonly bridge: MachineBridge;
  readonly clock: Clock;
  /** Milliseconds between two looks. */
  readonly intervalMs: number;
  /** Writes a line, without its newline. */
  print(line: string): void;
  /** Waits; false when it is time to stop. */
  wait(ms: number): Promise<boolean>;
}

/** Prints lines until `wait` says to stop or the machine ends; says why it ended, if it did. */
export async function runPlain(options: PlainOptions): Promise<string | undefined> {
  const { bridge, clock, intervalMs, print, wait } = options;
  const report = new PlainReport();
  for (;;) {
    const ended = bridge.ended?.();
    const frame = bridge.frame();
    report.console(bridge.consoleOut()).forEach(print);
    if (frame !== undefined) {
      report.frame(frame, clock.nowMs(), (pc) => bridge.symbol?.(pc)).forEach(print);
    }
    if (ended !== undefined) {
      print(`machine: ${ended}`);
      return ended;
    }
    if (!await wait(intervalMs)) return undefined;
  }
}
