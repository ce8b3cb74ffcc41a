/** The columns of every table, and the rows they stand on. What a column shows is the frame's field of that name. */
import { lrFields } from "../../arm/arch/gic.ts";
import { lrOf } from "../../arm/arch/gicv2.ts";
import type { Frame, FrameExit, FrameIrq, FrameTimer, FrameVcpu } from "../../vmm/frame.ts";
import { EXIT_IRQ } from "../../vmm/frame_layout.ts";
import type { Role } from "../terminal/theme.ts";
import { count, daif, duration, hex, percent, rate } from "./format.ts";
import {
  counter,
  type CounterMode,
  exitName,
  findExit,
  findVcpu,
  irqKey,
  irqOf,
  irqType,
  liveState,
  type Model,
  rateOf,
  stateOf,
  timerKey,
  timerOf,
  vcpuKey,
} from "./model.ts";
import { registerNames } from "./register_names.ts";
import type { Cell, Column } from "./table.ts";

/** What columns are made for. */
export interface ColumnContext {
  readonly model: Model;
  readonly frame: Frame;
  readonly mode: CounterMode;
  readonly ascii: boolean;
  symbol(pc: bigint): string | undefined;
  /** A history as a graph of `width` cells. */
  graph(key: string, width: number): string;
}

const plain = (text: string): Cell => ({
  text,
  role: text === "-" || text === "0" ? "dim" : "text",
});

/** A right-aligned number that says which one it is; zeros are dim. */
function numeric<R>(
  id: string,
  title: string,
  width: number,
  drop: number,
  value: (row: R) => number,
  show: (n: number) => string,
): Column<R> {
  return {
    id,
    title,
    width,
    align: "right",
    drop,
    cell: (row) => plain(show(value(row))),
    sort: value,
  };
}

/** A right-aligned number that says how many, how often or how long. */
function measure<R>(
  id: string,
  title: string,
  width: number,
  drop: number,
  value: (row: R) => number,
  show: (n: number) => string = count,
): Column<R> {
  return { ...numeric(id, title, width, drop, value, show), measured: true };
}

function textual<R>(
  id: string,
  title: string,
  width: number,
  drop: number,
  value: (row: R) => string | Cell,
  sort?: (row: R) => number | string,
): Column<R> {
  const cell = (row: R): Cell => {
    const shown = value(row);
    return typeof shown === "string" ? plain(shown) : shown;
  };
  return { id, title, width, align: "left", drop, cell, ...(sort ? { sort } : {}) };
}

/** A letter where set, a dim dot where not: never colour alone. */
function flag<R>(
  id: string,
  title: string,
  drop: number,
  letter: string,
  role: Role,
  value: (row: R) => boolean,
): Column<R> {
  return {
    id,
    title,
    width: title.length,
    align: "left",
    drop,
    cell: (row) => value(row) ? { text: letter, role } : { text: ".", role: "dim" },
    sort: (row) => value(row) ? 1 : 0,
  };
}

const index = (n: number): string => n < 0 ? "-" : String(n);
const STATE_ROLES: Readonly<Record<string, Role>> = {
  running: "good",
  runnable: "warn",
  off: "dim",
  paused: "warn",
  wfi: "text",
  blocked: "text",
};

/** The exit reason a vCPU has most of, over the last second if it had any. */
function topReason(c: ColumnContext, v: FrameVcpu): string {
  const of = (frame: Frame, reason: number): number => {
    const found = findVcpu(frame, v);
    return (reason === EXIT_IRQ ? found?.irqExits : found?.byClass[reason]) ?? 0;
  };
  let [best, most] = [-1, 0];
  for (let reason = 0; reason <= EXIT_IRQ; reason++) {
    const rate = rateOf(c.model, (f) => of(f, reason));
    const value = rate > 0 ? 1e15 + rate : of(c.frame, reason);
    if (value > most) [best, most] = [reason, value];
  }
  return best < 0 ? "-" : exitName(best);
}

const several = (frame: Frame): boolean => frame.vms.length > 1;
const vmColumn = <R extends { readonly vm: number }>(frame: Frame): Column<R>[] =>
  several(frame) ? [numeric("vm", "VM", 2, 0, (row) => row.vm, String)] : [];
/** What a counter's title says of the mode. */
const SUFFIX: Readonly<Record<CounterMode, string>> = { rate: "/s", total: "", delta: "+" };

/** Columns of the vCPU panel. */
export function vcpuColumns(c: ColumnContext): Column<FrameVcpu>[] {
  const mips = (v: FrameVcpu): number => rateOf(c.model, (f) => findVcpu(f, v)?.insns) / 1e6;
  const exits = (mode: CounterMode) => (v: FrameVcpu): number =>
    counter(c.model, mode, (f) => findVcpu(f, v)?.exits);
  const untilTimer = (v: FrameVcpu): number => until(c.frame, v.nextTimerNs);
  const run = (of: "insns" | "translatedInsns") => (v: FrameVcpu): number =>
    counter(c.model, c.mode, (f) => findVcpu(f, v)?.[of]);
  const translated = (v: FrameVcpu): number => run("translatedInsns")(v) / run("insns")(v);
  return [
    ...vmColumn<FrameVcpu>(c.frame),
    numeric("vcpu", "vCPU", 4, 0, (v) => v.vcpuIdx, String),
    textual("state", "state", 8, 0, (v) => {
      const name = stateOf(v);
      return { text: name, role: STATE_ROLES[name] ?? "text" };
    }),
    numeric("pcpu", "pCPU", 4, 0, (v) => v.pcpu, index),
    textual("el", "EL", 2, 4, (v) => String(v.el), (v) => v.el),
    {
      ...textual<FrameVcpu>("at", "at", 18, 6, (v) => c.symbol(v.pc) ?? hex(v.pc, 16)),
      grow: true,
    },
    textual("pc", "pc", 18, 10, (v) => hex(v.pc, 16)),
    textual("daif", "DAIF", 4, 5, (v) => daif(v.pstate)),
    measure("mips", "MIPS", 5, 2, mips, rate),
    measure("wasm", "wasm", 4, 9, translated, (share) => percent(share, 1)),
    measure("rate", "exits/s", 7, 1, exits("rate"), rate),
    measure("exits", "exits", 6, 11, exits(c.mode === "delta" ? "delta" : "total")),
    textual("top", "top exit", 8, 7, (v) => topReason(c, v)),
    measure("ap", "ap", 2, 3, (v) => v.apListLength),
    measure("lrs", "LR", 2, 3, (v) => v.usedLrs),
    measure("timer", "timer", 6, 8, untilTimer, duration),
  ];
}

function until(frame: Frame, atNs: number): number {
  return atNs >= Number.MAX_SAFE_INTEGER ? NaN : Math.max(0, atNs - frame.virtualNs);
}

/** An interrupt's state in one word: the vgic's, and while the guest runs the list register's. */
function irqStateOf(frame: Frame, irq: FrameIrq): Cell {
  const { pending, active } = liveState(frame, irq);
  if (active) return { text: pending ? "act+pend" : "active", role: "active" };
  return pending ? { text: "pending", role: "pending" } : { text: "-", role: "dim" };
}

const STATE_ORDER = ["act+pend", "active", "pending", "-"];

/** Columns of the interrupt panel: those of KVM's vgic-state, then where the interrupt is now. */
export function irqColumns(c: ColumnContext): Column<FrameIrq>[] {
  const counted = (field: "injected" | "acked" | "eoied") => (irq: FrameIrq): number => {
    const key = irqKey(irq);
    return counter(c.model, c.mode, (f) => irqOf(f, key)?.[field]);
  };
  const show = c.mode === "rate" ? rate : count;
  const age = (irq: FrameIrq): number =>
    irq.lastEventNs >= Number.MAX_SAFE_INTEGER ? NaN : c.frame.virtualNs - irq.lastEventNs;
  return [
    ...vmColumn<FrameIrq>(c.frame),
    textual("type", "type", 4, 12, (irq) => irqType(irq.intid)),
    numeric("id", "ID", 4, 0, (irq) => irq.intid, String),
    numeric("owner", "of", 2, 0, (irq) => irq.ownerVcpu, index),
    numeric("target", "tgt", 3, 0, (irq) => irq.targetVcpu, index),
    textual(
      "state",
      "state",
      8,
      0,
      (irq) => irqStateOf(c.frame, irq),
      (irq) => STATE_ORDER.indexOf(irqStateOf(c.frame, irq).text),
    ),
    flag("pending", "P", 1, "P", "pending", (irq) => irq.pendingLatch),
    flag("line", "L", 1, "H", "warn", (irq) => irq.lineLevel),
    flag("active", "A", 1, "A", "active", (irq) => irq.active),
    flag("enabled", "E", 1, "E", "good", (irq) => irq.enabled),
    flag("hw", "H", 8, "H", "text", (irq) => irq.hw),
    ...(c.frame.gic === 2
      ? [numeric<FrameIrq>("source", "SRC", 4, 8, (irq) => irq.source, (n) => hex(n, 2))]
      : []),
    textual("config", "cfg", 5, 9, (irq) => irq.config ? "level" : "edge"),
    numeric("group", "G", 1, 11, (irq) => irq.group, String),
    numeric("priority", "pri", 4, 5, (irq) => irq.priority, (n) => hex(n, 2)),
    numeric("ap", "ap", 3, 2, (irq) => irq.apListPosition, index),
    numeric("lr", "LR", 2, 2, (irq) => irq.lr, index),
    numeric("on", "on", 2, 4, (irq) => irq.vcpu, index),
    measure("injected", `inj${SUFFIX[c.mode]}`, 6, 3, counted("injected"), show),
    measure("acked", `ack${SUFFIX[c.mode]}`, 6, 7, counted("acked"), show),
    measure("eoied", `eoi${SUFFIX[c.mode]}`, 6, 10, counted("eoied"), show),
    measure("age", "age", 6, 6, age, duration),
    measure("p50", "p50", 6, 13, (irq) => irq.latencyCount ? irq.latencyP50Ns : NaN, duration),
    measure("p99", "p99", 6, 14, (irq) => irq.latencyCount ? irq.latencyP99Ns : NaN, duration),
  ];
}

/** One list register of one vCPU. */
export interface LrRow {
  readonly vm: number;
  readonly vcpu: FrameVcpu;
  readonly n: number;
  readonly lo: number;
  readonly hi: number;
  readonly used: boolean;
}

/** The list registers the machine has, vCPU by vCPU. */
export function lrRows(frame: Frame): LrRow[] {
  return frame.vcpus.flatMap((vcpu) =>
    vcpu.lr.slice(0, frame.nrLr).map(({ lo, hi }, n) => ({
      vm: vcpu.vm,
      vcpu,
      n,
      lo,
      hi,
      used: n < vcpu.usedLrs,
    }))
  );
}

export const lrKey = (row: LrRow): string => `${vcpuKey(row.vcpu)}.${row.n}`;

const LR_SHORT: Readonly<Record<string, Cell>> = {
  invalid: { text: "-", role: "dim" },
  pending: { text: "pending", role: "pending" },
  active: { text: "active", role: "active" },
  "pending and active": { text: "act+pend", role: "active" },
};

const word = (n: number): string => n.toString(16).padStart(8, "0");

/** Columns of the list register panel. */
export function lrColumns(c: ColumnContext): Column<LrRow>[] {
  const of = (row: LrRow): ReturnType<typeof lrFields> => lrFields(row.lo, row.hi);
  const ifUsed = (show: (row: LrRow) => string) => (row: LrRow): string =>
    of(row).state === "invalid" ? "-" : show(row);
  return [
    ...vmColumn<LrRow>(c.frame),
    numeric("vcpu", "vCPU", 4, 0, (row) => row.vcpu.vcpuIdx, String),
    numeric("lr", "LR", 2, 0, (row) => row.n, String),
    textual(
      "state",
      "state",
      8,
      0,
      (row) => LR_SHORT[of(row).state] ?? plain("-"),
      (row) => of(row).state === "invalid" ? 1 : 0,
    ),
    {
      ...textual<LrRow>("vintid", "vINTID", 6, 0, ifUsed((r) => String(of(r).intid))),
      align: "right",
    },
    textual("priority", "pri", 4, 1, ifUsed((row) => hex(of(row).priority, 2))),
    textual("group", "G", 1, 3, ifUsed((row) => String(of(row).group))),
    textual("hw", "HW", 5, 2, ifUsed((row) => of(row).hw ? `p${of(row).hwIntid}` : "-")),
    textual("eoi", "EOI", 3, 5, ifUsed((row) => of(row).eoi ? "E" : "-")),
    ...(c.frame.gic === 2
      ? [textual<LrRow>("source", "SRC", 3, 2, ifUsed((row) => String(of(row).source)))]
      : []),
    textual("value", registerNames(c.frame.gic).lr, 18, 4, (row) => ({
      text: c.frame.gic === 2 ? hex(lrOf(row.lo, row.hi), 8) : "0x" + word(row.hi) + word(row.lo),
      role: of(row).state === "invalid" ? "dim" : "text",
    })),
    textual("misr", "MISR", 4, 6, (row) => row.n === 0 ? hex(row.vcpu.misr, 2) : ""),
    textual("vmcr", "VMCR", 10, 7, (row) => row.n === 0 ? hex(row.vcpu.vgicVmcr, 8) : ""),
    textual("hcr", "HCR", 10, 8, (row) => row.n === 0 ? hex(row.vcpu.vgicHcr, 8) : ""),
    textual("elrsr", "ELRSR", 6, 9, (row) => row.n === 0 ? hex(row.vcpu.elrsr, 4) : ""),
    textual("eisr", "EISR", 6, 10, (row) => row.n === 0 ? hex(row.vcpu.eisr, 4) : ""),
  ];
}

const CTL_BITS = [[1, "EN"], [2, "MASK"], [4, "IST"]] as const;
const BLOCKS = { unicode: " ▁▂▃▄▅▆▇█", ascii: " .:-=+*#@" } as const;

/** A histogram as one character per bucket. */
export function histogram(buckets: readonly number[], ascii: boolean): string {
  const most = Math.max(1, ...buckets);
  const steps = BLOCKS[ascii ? "ascii" : "unicode"];
  return buckets.map((n) => steps[Math.ceil(n / most * 8)] ?? " ").join("");
}

/** Columns of the timer panel. */
export function timerColumns(c: ColumnContext): Column<FrameTimer>[] {
  const ctl = (t: FrameTimer): string =>
    CTL_BITS.filter(([bit]) => t.cntCtl & bit).map(([, name]) => name).join("+") || "off";
  const fired = (t: FrameTimer): number => {
    const key = timerKey(t);
    return counter(c.model, c.mode, (f) => timerOf(f, key)?.fired);
  };
  const sampled = (t: FrameTimer): boolean => t.latencyBuckets.some((n) => n > 0);
  return [
    ...vmColumn<FrameTimer>(c.frame),
    numeric("vcpu", "vCPU", 4, 0, (t) => t.vcpuIdx, String),
    textual("timer", "timer", 5, 0, (t) => t.index === 1 ? "CNTV" : "CNTP"),
    textual("ctl", "CTL", 11, 1, (t) => ({ text: ctl(t), role: t.cntCtl & 1 ? "text" : "dim" })),
    measure("fire", "fires in", 8, 0, (t) => until(c.frame, t.nextFireNs), duration),
    measure(
      "fired",
      `fired${SUFFIX[c.mode]}`,
      7,
      2,
      fired,
      c.mode === "rate" ? rate : count,
    ),
    flag("line", "L", 3, "H", "warn", (t) => t.irqLevel),
    textual(
      "where",
      "kept by",
      8,
      8,
      (t) => t.loaded ? "hardware" : t.hrtimerArmed ? "hrtimer" : "-",
    ),
    measure("p50", "p50", 6, 5, (t) => sampled(t) ? t.latencyP50Ns : NaN, duration),
    measure("p99", "p99", 6, 5, (t) => sampled(t) ? t.latencyP99Ns : NaN, duration),
    textual("graph", "64ns..2ms", 16, 7, (t) => ({
      text: histogram(t.latencyBuckets, c.ascii),
      role: "graph",
    })),
    textual("cval", "CVAL", 18, 6, (t) => hex(t.cntCval, 16)),
    {
      ...textual<FrameTimer>("counter", "counter", 18, 9, (t) => hex(t.counter, 16)),
      measured: true,
    },
    textual("cntvoff", "offset", 18, 10, (t) => hex(t.cntvoff, 16)),
  ];
}

/** Columns of the world switch panel. */
export function exitColumns(c: ColumnContext): Column<FrameExit>[] {
  const per = (pick: (e: FrameExit) => number) => (e: FrameExit): number =>
    e.count === 0 ? NaN : pick(e) / e.count;
  const counted = (mode: CounterMode) => (e: FrameExit): number =>
    counter(c.model, mode, (f) => findExit(f, e)?.count);
  const dash = (show: (n: number) => string) => (n: number): string =>
    Number.isNaN(n) ? "-" : show(n);
  return [
    textual("reason", "exit reason", 11, 0, (e) => exitName(e.reason)),
    measure("count", "count", 6, 0, counted(c.mode === "delta" ? "delta" : "total"), count),
    measure("rate", "rate/s", 6, 1, counted("rate"), rate),
    {
      ...textual<FrameExit>("graph", "history", 12, 6, (e) => ({
        text: c.graph(`exit:${e.reason}`, 12),
        role: "graph",
      })),
      sort: counted("rate"),
    },
    measure("p50", "p50", 6, 2, (e) => e.count ? e.p50Ns : NaN, duration),
    measure("p99", "p99", 6, 3, (e) => e.count ? e.p99Ns : NaN, duration),
    measure("cycles", "cyc/exit", 8, 4, per((e) => e.cycles), dash(count)),
    measure("registers", "regs/exit", 9, 5, per((e) => e.registersMoved), dash(count)),
    measure("total", "time", 6, 7, (e) => e.totalNs, duration),
    textual("histogram", "64ns..2ms", 16, 8, (e) => ({
      text: histogram(e.buckets, c.ascii),
      role: "graph",
    })),
  ];
}
