/** The panels: which there are, what rows they have, how they are looked at at first. */
import type { Context } from "../keymap.ts";
import {
  type ColumnContext,
  exitColumns,
  irqColumns,
  lrColumns,
  lrKey,
  lrRows,
  timerColumns,
  vcpuColumns,
} from "./columns.ts";
import type { Frame, FrameIrq } from "../../vmm/frame.ts";
import { irqIsPending, irqKey, timerKey, vcpuKey } from "./model.ts";
import { makeTable, type Table } from "./table.ts";

/** The panels in the order of their digits. */
export const PANELS = [
  "vcpus",
  "interrupts",
  "listRegisters",
  "timers",
  "worldSwitches",
  "console",
  "trace",
] as const;
export type PanelId = (typeof PANELS)[number];
export type TablePanelId = Exclude<PanelId, "console" | "trace">;

export const PANEL_TITLES: Readonly<Record<PanelId, string>> = {
  vcpus: "vCPUs",
  interrupts: "Interrupts",
  listRegisters: "List registers",
  timers: "Timers",
  worldSwitches: "World switches",
  console: "Console",
  trace: "Trace",
};

/** Where a panel's keys are looked up. */
export const PANEL_CONTEXTS: Readonly<Record<PanelId, Context>> = {
  vcpus: "vcpus",
  interrupts: "interrupts",
  listRegisters: "list",
  timers: "list",
  worldSwitches: "list",
  console: "console",
  trace: "trace",
};

export function isTablePanel(panel: PanelId): panel is TablePanelId {
  return panel !== "console" && panel !== "trace";
}

/** An interrupt that has done something, or could: the others are hidden until asked for. */
function isOfInterest(irq: FrameIrq): boolean {
  return irq.enabled || irq.active || irqIsPending(irq) || irq.lineLevel || irq.injected > 0 ||
    irq.lr >= 0 || irq.vcpu >= 0;
}

/** Events younger than this much virtual time count as happening now, so that ticking timers keep their rows. */
const RECENT_NS = 1e9;
const NEVER = Number.MAX_SAFE_INTEGER;

function isHappening(frame: Frame, irq: FrameIrq): boolean {
  return irq.active || irqIsPending(irq) || irq.lr >= 0 || irq.vcpu >= 0 ||
    frame.virtualNs - irq.lastEventNs < RECENT_NS;
}

/**
 * Where an interrupt stands, least first: what people raise and route before what every vCPU has, what
 * happens before what has happened before what never has.
 */
function rankOf(frame: Frame, irq: FrameIrq): number {
  const shared = irq.ownerVcpu < 0;
  if (isHappening(frame, irq)) return shared ? 0 : 2;
  if (irq.lastEventNs !== NEVER) return shared ? 1 : 3;
  return shared ? 4 : 5;
}

/** Interrupts that were busy once are ordered by when that was; all others keep the machine's order. */
function byWhatHappens(frame: Frame, irqs: readonly FrameIrq[]): FrameIrq[] {
  const ranked = irqs.map((irq, place) => {
    const rank = rankOf(frame, irq);
    return { irq, rank, place: rank === 1 || rank === 3 ? -irq.lastEventNs : place };
  });
  return ranked.sort((a, b) => a.rank - b.rank || a.place - b.place).map(({ irq }) => irq);
}

/** What a table panel shows. `allIrqs`: idle and disabled interrupts too. */
export function panelTable(panel: TablePanelId, c: ColumnContext, allIrqs: boolean): Table {
  const { frame } = c;
  switch (panel) {
    case "vcpus":
      return makeTable(vcpuColumns(c), frame.vcpus, vcpuKey);
    case "interrupts": {
      const shown = allIrqs ? frame.irqs : frame.irqs.filter(isOfInterest);
      return makeTable(irqColumns(c), byWhatHappens(frame, shown), irqKey);
    }
    case "listRegisters":
      return makeTable(lrColumns(c), lrRows(frame), lrKey);
    case "timers":
      return makeTable(timerColumns(c), frame.timers, timerKey);
    case "worldSwitches":
      return makeTable(exitColumns(c), frame.exits, (e) => String(e.reason));
  }
}
