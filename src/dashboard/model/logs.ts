/** The two logs, console and trace, as lines with numbers that never change, filtered or not. */
import type { VirtualTerminal } from "../terminal/vt.ts";
import type { TraceReader } from "../bridge.ts";
import { NO_VCPU, type TraceEvent } from "../../trace/tracepoints.ts";
import { clockTime } from "./format.ts";
import { matches } from "./table.ts";

/** Lines from `first` up to, but without, `end`. */
export interface LogLines {
  readonly first: number;
  readonly end: number;
  /** How many lines there are without the filter. */
  readonly total: number;
  line(n: number): string;
}

/** Matching lines of a filter are remembered up to this many. */
const MAX_MATCHES = 4096;
/** Lines looked at for one frame, so that a filter on a long log does not stop the screen. */
const SCAN = 4096;

/** Lines that match a filter, found a piece at a time as the log grows. */
class FilteredLines {
  #numbers: number[] = [];
  #discarded = 0;
  #next = 0;

  constructor(readonly filter: string) {}

  /** Looks at what is new; `end` is one past the last line. */
  scan(first: number, end: number, line: (n: number) => string): LogLines {
    const from = Math.max(first, this.#next, end - SCAN);
    for (let n = from; n < end; n++) {
      if (matches(this.filter, line(n))) this.#numbers.push(n);
    }
    this.#next = Math.max(this.#next, end);
    let gone = Math.max(0, this.#numbers.length - MAX_MATCHES);
    while ((this.#numbers[gone] ?? first) < first) gone++;
    this.#discarded += gone;
    this.#numbers.splice(0, gone);
    const base = this.#discarded;
    return {
      first: base,
      end: base + this.#numbers.length,
      total: end - first,
      line: (n) => line(this.#numbers[n - base] ?? -1),
    };
  }
}

/** A line of the trace: time, CPUs (the VM too where there are `several`), name, text. */
function traceLine(event: TraceEvent, several = false): string {
  const vm = several ? `vm${event.vm} ` : "";
  const who = vm + (event.vcpu === NO_VCPU ? "-" : `v${event.vcpu}`);
  return `${clockTime(event.timeNs).padStart(12)} p${event.pcpu} ${
    who.padEnd(3)
  } ${event.name}: ${event.text}`;
}

/** The trace as lines. */
export class TraceLines {
  #filtered: FilteredLines | undefined;

  /** The lines that match `filter` (all, when it is empty). */
  lines(trace: TraceReader, filter: string, several = false): LogLines {
    const end = trace.written;
    const first = Math.max(0, end - trace.capacity);
    const line = (n: number): string => {
      const event = trace.read(n);
      return event === undefined ? "" : traceLine(event, several);
    };
    if (filter.trim() === "") {
      this.#filtered = undefined;
      return { first, end, total: end - first, line };
    }
    if (this.#filtered?.filter !== filter) this.#filtered = new FilteredLines(filter);
    return this.#filtered.scan(first, end, line);
  }
}

/** The console as lines. Its newest lines still change, so a filter looks at all of them. */
export function consoleLines(console: VirtualTerminal, filter: string): LogLines {
  const first = console.discarded;
  const total = console.lineCount;
  const line = (n: number): string => console.line(n - first);
  if (filter.trim() === "") return { first, end: first + total, total, line };
  const found = Array.from({ length: total }, (_, i) => first + i).filter((n) =>
    matches(filter, line(n))
  );
  return { first: 0, end: found.length, total, line: (n) => line(found[n] ?? -1) };
}
