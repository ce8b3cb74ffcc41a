/** What a reducer answers with, what it may look at, and the small changes it is made of. */
import type { Command } from "../../vmm/command_ring.ts";
import type { Model } from "./model.ts";
import { isTablePanel, type PanelId, type TablePanelId } from "./panels.ts";
import { type LogState, NO_OVERLAY, type Overlay, type UiState } from "./state.ts";
import type { ListState, Table } from "./table.ts";

/** What a state change asks the program to do. */
export type Effect =
  | { readonly kind: "send"; readonly command: Command; readonly what: string }
  | { readonly kind: "guestKey"; readonly bytes: Uint8Array }
  | { readonly kind: "guestPaste"; readonly text: string }
  | { readonly kind: "screenshot"; readonly format: "text" | "svg" }
  | { readonly kind: "mouse"; readonly on: boolean }
  | { readonly kind: "quit" | "suspend" | "redraw" | "resetTotals" };

/** What lies at a place of the screen. */
export type Hit =
  | { readonly panel: PanelId; readonly part: "row"; readonly index: number }
  | { readonly panel: PanelId; readonly part: "head"; readonly column: string }
  | { readonly panel: PanelId; readonly part: "frame" };

/** What a decision may depend on besides the state. */
export interface Surroundings {
  readonly model: Model;
  table(panel: TablePanelId): Table | undefined;
  /** Rows that the panel shows at a time. */
  page(panel: PanelId): number;
  /** Line numbers of a log, its filter applied: the first kept, and one past the last. */
  log(panel: "console" | "trace"): { readonly first: number; readonly end: number };
  hit(x: number, y: number): Hit | undefined;
  /** How far the text of the open overlay can be scrolled. */
  readonly maxScroll: number;
}

/** A new state with what else is to be done. */
export interface Step {
  readonly ui: UiState;
  readonly effects: readonly Effect[];
}

/** The state, and what else is to be done. */
export const only = (ui: UiState, ...effects: Effect[]): Step => ({ ui, effects });
/** The state with a message. */
export const say = (ui: UiState, message: string): Step => only({ ...ui, message });
/** The state with an overlay open. */
export const open = (ui: UiState, overlay: Overlay): Step => only({ ...ui, overlay });
/** The state without one. */
export const close = (ui: UiState): UiState => ({ ...ui, overlay: NO_OVERLAY });
/** A command to send; `what` names it when it fails. */
export const send = (command: Command, what: string): Effect => ({ kind: "send", command, what });

/** The state with a table looked at another way. */
export function withList(ui: UiState, panel: TablePanelId, change: Partial<ListState>): UiState {
  return { ...ui, lists: { ...ui.lists, [panel]: { ...ui.lists[panel], ...change } } };
}

/** The state with a log looked at another way. */
export function withLog(
  ui: UiState,
  panel: "console" | "trace",
  change: Partial<LogState>,
): UiState {
  return { ...ui, logs: { ...ui.logs, [panel]: { ...ui.logs[panel], ...change } } };
}

/** The filter of the focused panel, whichever kind it is. */
export function filterOf(ui: UiState): string {
  return isTablePanel(ui.focus) ? ui.lists[ui.focus].filter : ui.logs[ui.focus].filter;
}

/** The state with another filter on the focused panel. */
export function withFilter(ui: UiState, filter: string): UiState {
  if (isTablePanel(ui.focus)) return withList(ui, ui.focus, { filter, top: 0 });
  return withLog(ui, ui.focus, { filter, follow: true });
}
