/** What the user has chosen: focus, zoom, sorting, overlays. Plain data, changed only by reduce.ts. */
import type { Context } from "../keymap.ts";
import { type ThemeName } from "../terminal/theme.ts";
import type { Dialog } from "./dialogs.ts";
import type { CounterMode } from "./model.ts";
import { PANEL_CONTEXTS, type PanelId, type TablePanelId } from "./panels.ts";
import { LIST_STATE, type ListState } from "./table.ts";

/** How a log (console, trace) is looked at. */
export interface LogState {
  /** It shows its end. */
  readonly follow: boolean;
  /** First line shown when it does not; lines keep their numbers for ever. */
  readonly top: number;
  readonly filter: string;
}

/** What lies over the panels. */
export type Overlay =
  | { readonly kind: "none" }
  | { readonly kind: "filter" }
  | { readonly kind: "help"; readonly scroll: number }
  | { readonly kind: "palette"; readonly text: string; readonly index: number }
  | { readonly kind: "dialog"; readonly dialog: Dialog }
  | { readonly kind: "explain"; readonly key: string; readonly scroll: number }
  | {
    readonly kind: "details";
    readonly panel: TablePanelId;
    readonly key: string;
    readonly scroll: number;
  };

export const NO_OVERLAY: Overlay = { kind: "none" };

/** Everything the user has chosen. */
export interface UiState {
  readonly focus: PanelId;
  readonly zoom: boolean;
  readonly lists: Readonly<Record<TablePanelId, ListState>>;
  readonly logs: Readonly<Record<"console" | "trace", LogState>>;
  readonly overlay: Overlay;
  /** The guest has the keyboard. */
  readonly captured: boolean;
  readonly mode: CounterMode;
  /** Interrupts that are disabled and idle are shown too. */
  readonly allIrqs: boolean;
  readonly fps: number;
  readonly theme: ThemeName;
  readonly ascii: boolean;
  readonly mouse: boolean;
  /** One line about what was last done, until the next key. */
  readonly message: string;
}

const LOG: LogState = { follow: true, top: 0, filter: "" };

/** Refresh rates that + and - go through. */
export const REFRESH_RATES = [1, 2, 5, 10, 15, 20, 30, 60] as const;

export const INITIAL_STATE: UiState = {
  focus: "interrupts",
  zoom: false,
  lists: {
    vcpus: LIST_STATE,
    interrupts: LIST_STATE,
    listRegisters: LIST_STATE,
    timers: LIST_STATE,
    worldSwitches: { ...LIST_STATE, sort: "count", descending: true },
  },
  logs: { console: LOG, trace: LOG },
  overlay: NO_OVERLAY,
  captured: false,
  mode: "total",
  allIrqs: false,
  fps: 30,
  theme: "dark",
  ascii: false,
  mouse: true,
  message: "",
};

const OVERLAY_CONTEXTS: Readonly<Record<Exclude<Overlay["kind"], "none">, Context>> = {
  filter: "filter",
  help: "help",
  palette: "palette",
  dialog: "dialog",
  explain: "help",
  details: "help",
};

/** Where keys are looked up now. */
export function contextOf(ui: UiState): Context {
  if (ui.captured) return "capture";
  if (ui.overlay.kind !== "none") return OVERLAY_CONTEXTS[ui.overlay.kind];
  return PANEL_CONTEXTS[ui.focus];
}
