/** The whole screen as a function of the model and the user's choices. */
import type { ColumnContext } from "../model/columns.ts";
import type { LogLines } from "../model/logs.ts";
import type { Model } from "../model/model.ts";
import { isTablePanel, type PanelId, panelTable, type TablePanelId } from "../model/panels.ts";
import { filterOf, type Hit } from "../model/step.ts";
import type { UiState } from "../model/state.ts";
import { arrange, type Table } from "../model/table.ts";
import type { Pane } from "../terminal/cells.ts";
import { fit } from "../terminal/glyph.ts";
import type { CursorPosition } from "../terminal/render.ts";
import { drawFooter, drawHeader } from "./header.ts";
import { layoutScreen, MIN_COLUMNS, MIN_ROWS, pageRows, type Placed } from "./layout.ts";
import { drawLog, logCursor } from "./log_view.ts";
import { type Look, sparkline } from "./look.ts";
import { drawFilterLine, drawOverlay } from "./overlays.ts";
import { drawTable, type HitArea } from "./table_view.ts";

/** All that a frame on screen depends on. */
export interface View {
  readonly model: Model;
  readonly ui: UiState;
  readonly look: Look;
  readonly console: LogLines;
  /** Where the guest's cursor is: a line number and a column. */
  readonly consoleCursor: { readonly line: number; readonly column: number };
  readonly trace: LogLines;
  /** Frames drawn in the last second, and not drawn since the start. */
  readonly fps: number;
  readonly dropped: number;
  /** Why the machine has ended. */
  readonly ended: string | undefined;
  symbol(pc: bigint): string | undefined;
}

/** What was drawn where. */
export interface Drawn {
  readonly hits: readonly HitArea[];
  readonly pages: ReadonlyMap<PanelId, number>;
  readonly maxScroll: number;
  readonly cursor: CursorPosition | undefined;
  /** Cells of the guest's console that are in sight, if it is. */
  readonly consoleSize: { readonly columns: number; readonly rows: number } | undefined;
}

/** What the columns are made from; undefined before the first frame. */
export function columnContext(view: View): ColumnContext | undefined {
  const { model, ui, look } = view;
  const { frame } = model;
  if (frame === undefined) return undefined;
  return {
    model,
    frame,
    mode: ui.mode,
    ascii: look.ascii,
    symbol: (pc) => view.symbol(pc),
    graph: (key, width) => sparkline(model.histories.get(key) ?? [], width, look.ascii),
  };
}

/** A panel's table; undefined before the first frame. */
export function tableOf(view: View, panel: TablePanelId): Table | undefined {
  const context = columnContext(view);
  return context === undefined ? undefined : panelTable(panel, context, view.ui.allIrqs);
}

function contentRows(view: View, panel: PanelId): number {
  const { frame } = view.model;
  if (frame === undefined) return 4;
  const rows: Readonly<Record<TablePanelId, number>> = {
    vcpus: frame.vcpus.length,
    interrupts: frame.irqs.length,
    listRegisters: frame.vcpus.length * frame.nrLr,
    timers: frame.timers.length,
    worldSwitches: Math.max(4, frame.exits.length),
  };
  return isTablePanel(panel) ? rows[panel] : 20;
}

const EMPTY_TABLE: Table = {
  columns: [],
  count: 0,
  key: () => "",
  cell: () => ({ text: "", role: "text" }),
  sortKey: () => 0,
};

function drawPanel(screen: Pane, view: View, { panel, rect }: Placed): HitArea[] {
  const { look, ui } = view;
  const pane = screen.sub(rect);
  const focused = ui.focus === panel;
  const frame: HitArea = { rect, hit: { panel, part: "frame" } };
  if (isTablePanel(panel)) {
    const table = tableOf(view, panel) ?? EMPTY_TABLE;
    return [frame, ...drawTable(pane, look, panel, table, ui.lists[panel], focused)];
  }
  const badge = panel === "console" && ui.captured ? "GUEST HAS THE KEYBOARD - Ctrl-]" : "";
  const lines = panel === "console" ? view.console : view.trace;
  drawLog(pane, look, panel, lines, ui.logs[panel], focused, badge);
  return [frame];
}

function tooSmall(screen: Pane, look: Look): Drawn {
  screen.fill();
  const text = `Needs ${MIN_COLUMNS}x${MIN_ROWS}, this is ${screen.width}x${screen.height}.`;
  const y = Math.floor(screen.height / 2);
  screen.put(0, y, fit(text, screen.width), look.roles.strong);
  return { hits: [], pages: new Map(), maxScroll: 0, cursor: undefined, consoleSize: undefined };
}

/** "3 of 34" for the focused panel. */
function matchCount(view: View): string {
  const { focus, lists } = view.ui;
  if (!isTablePanel(focus)) {
    const lines = view[focus];
    return `${lines.end - lines.first} of ${lines.total}`;
  }
  const table = tableOf(view, focus) ?? EMPTY_TABLE;
  return `${arrange(table, lists[focus]).length} of ${table.count}`;
}

function guestCursor(screen: Pane, view: View, placed: readonly Placed[]) {
  const place = placed.find((p) => p.panel === "console");
  if (!view.ui.captured || place === undefined) return undefined;
  return logCursor(screen.sub(place.rect), view.console, view.ui.logs.console, view.consoleCursor);
}

function consoleSize(screen: Pane, placed: readonly Placed[]) {
  const place = placed.find((p) => p.panel === "console");
  if (place === undefined) return undefined;
  const { width, height } = screen.sub(place.rect).inner();
  return { columns: width, rows: height };
}

/** Draws everything into `screen`, which may hold anything before. */
export function drawScreen(screen: Pane, view: View): Drawn {
  const { ui, look } = view;
  const rows = (panel: PanelId): number => contentRows(view, panel);
  const layout = layoutScreen(screen.width, screen.height, ui.focus, ui.zoom, rows);
  if (layout === undefined) return tooSmall(screen, look);
  const hits = [
    ...drawHeader(screen.sub(layout.header), view, layout.hidden),
    ...layout.panels.flatMap((placed) => drawPanel(screen, view, placed)),
  ];
  drawFooter(screen.sub(layout.footer), view);
  const over = ui.overlay.kind === "filter"
    ? drawFilterLine(screen.sub(layout.footer), look, filterOf(ui), matchCount(view))
    : drawOverlay(screen, view);
  const pages = new Map(layout.panels.map((placed) => [placed.panel, pageRows(placed)]));
  return {
    hits,
    pages,
    maxScroll: over.maxScroll,
    cursor: over.cursor ?? guestCursor(screen, view, layout.panels),
    consoleSize: consoleSize(screen, layout.panels),
  };
}

/** What lies at a cell: the topmost place there. */
export function hitAt(hits: readonly HitArea[], x: number, y: number): Hit | undefined {
  return hits.findLast(({ rect }) =>
    x >= rect.x && x < rect.x + rect.width && y >= rect.y && y < rect.y + rect.height
  )?.hit;
}
