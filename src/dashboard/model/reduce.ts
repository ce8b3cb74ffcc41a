/**
 * From what the user did to a new state and the effects to carry out. Pure: the same state, event and
 * surroundings give the same answer. Actions are looked up in the keymap; each is one row of `ACTIONS`.
 */
import type { Command } from "../../vmm/command_ring.ts";
import type { Frame, FrameIrq, FrameVcpu } from "../../vmm/frame.ts";
import { type ActionId, lookup, takesText } from "../keymap.ts";
import type { InputEvent, KeyPress, MouseEvent } from "../terminal/keys.ts";
import { nextTheme, themeByName, THEMES } from "../terminal/theme.ts";
import {
  lineDialog,
  migrateDialog,
  moveVcpuDialog,
  planOf,
  resetDialog,
  sgiDialog,
  turn,
  typeInto,
  withField,
} from "./dialogs.ts";
import { COUNTER_MODES, irqOf, vcpuKey } from "./model.ts";
import { type PaletteEntry, paletteMatches } from "./palette.ts";
import { isTablePanel, PANELS, type TablePanelId } from "./panels.ts";
import { contextOf, REFRESH_RATES, type UiState } from "./state.ts";
import { arrange, scrollTo, selectedIndex, selectedKey } from "./table.ts";

import {
  close,
  type Effect,
  filterOf,
  only,
  open,
  say,
  send,
  type Step,
  type Surroundings,
  withFilter,
  withList,
  withLog,
} from "./step.ts";

// Moving about.

type Motion = (at: number, count: number, page: number) => number;

const MOTIONS: Readonly<Partial<Record<ActionId, Motion>>> = {
  up: (at) => at - 1,
  down: (at) => at + 1,
  pageUp: (at, _, page) => at - page,
  pageDown: (at, _, page) => at + page,
  first: () => 0,
  last: (_, count) => count - 1,
};

/** Selects the row at `index` of the order and keeps it in sight. */
function select(ui: UiState, panel: TablePanelId, index: number, env: Surroundings): UiState {
  const table = env.table(panel);
  if (table === undefined) return ui;
  const list = ui.lists[panel];
  const order = arrange(table, list);
  const at = Math.max(0, Math.min(order.length - 1, index));
  const row = order[at];
  if (row === undefined) return ui;
  const top = scrollTo(list.top, at, env.page(panel), order.length);
  return withList(ui, panel, { selected: table.key(row), index: at, top, follow: true });
}

function moveInTable(ui: UiState, panel: TablePanelId, motion: Motion, env: Surroundings): UiState {
  const table = env.table(panel);
  if (table === undefined) return ui;
  const order = arrange(table, ui.lists[panel]);
  const at = selectedIndex(table, order, ui.lists[panel]);
  return select(ui, panel, motion(at, order.length, env.page(panel)), env);
}

/** Scrolls a log; its end, once reached, is followed again. */
function scrollLog(
  ui: UiState,
  panel: "console" | "trace",
  motion: Motion,
  env: Surroundings,
): UiState {
  const { first, end } = env.log(panel);
  const page = env.page(panel);
  const last = Math.max(first, end - page);
  const log = ui.logs[panel];
  const at = Math.max(first, Math.min(last, log.follow ? last : log.top));
  const top = Math.max(first, Math.min(last, first + motion(at - first, last - first + 1, page)));
  return withLog(ui, panel, { top, follow: top >= last });
}

function move(ui: UiState, action: ActionId, env: Surroundings): UiState {
  const motion = MOTIONS[action];
  if (motion === undefined) return ui;
  return isTablePanel(ui.focus)
    ? moveInTable(ui, ui.focus, motion, env)
    : scrollLog(ui, ui.focus, motion, env);
}

// What the actions are about.

function frameOr(env: Surroundings, ui: UiState, use: (frame: Frame) => Step): Step {
  const { frame } = env.model;
  return frame === undefined ? say(ui, "The machine has not shown itself yet.") : use(frame);
}

function selection(ui: UiState, panel: TablePanelId, env: Surroundings): string | undefined {
  const table = env.table(panel);
  return table === undefined ? undefined : selectedKey(table, ui.lists[panel]);
}

function selectedIrq(ui: UiState, frame: Frame, env: Surroundings): FrameIrq | undefined {
  const key = selection(ui, "interrupts", env);
  return key === undefined ? undefined : irqOf(frame, key);
}

function selectedVcpu(ui: UiState, frame: Frame, env: Surroundings): FrameVcpu | undefined {
  const irq = ui.focus === "interrupts" ? selectedIrq(ui, frame, env) : undefined;
  if (irq !== undefined && irq.targetVcpu >= 0) {
    return frame.vcpus.find((v) => v.vm === irq.vm && v.vcpuIdx === irq.targetVcpu);
  }
  const key = selection(ui, "vcpus", env);
  return frame.vcpus.find((v) => vcpuKey(v) === key) ?? frame.vcpus[0];
}

/** The selection by its key: the first row is selected without one, and must stay selected when it moves. */
function pinned(ui: UiState, panel: TablePanelId, env: Surroundings): UiState {
  const selected = selection(ui, panel, env);
  return selected === undefined ? ui : withList(ui, panel, { selected });
}

function stepping(op: "stepInstruction" | "stepExit", what: string) {
  return (ui: UiState, env: Surroundings): Step =>
    frameOr(env, ui, (frame) => {
      const vcpu = selectedVcpu(ui, frame, env);
      if (vcpu === undefined) return say(ui, "There is no vCPU to step.");
      const { vm, vcpuIdx } = vcpu;
      return only(ui, send({ op, vm, vcpu: vcpuIdx }, `vCPU ${vcpuIdx}: one ${what}`));
    });
}

function sortBy(ui: UiState, env: Surroundings, by: 1 | -1): Step {
  if (!isTablePanel(ui.focus)) return only(ui);
  const columns = env.table(ui.focus)?.columns ?? [];
  const now = columns.findIndex((c) => c.id === ui.lists[ui.focus as TablePanelId].sort);
  // One place between the last and the first is "as the machine lists them".
  const next = ((now + 1 + by + columns.length + 1) % (columns.length + 1)) - 1;
  const sort = columns[next]?.id;
  return say(
    withList(pinned(ui, ui.focus, env), ui.focus, { sort }),
    `Sorted by ${columns[next]?.title ?? "the machine's order"}.`,
  );
}

function refresh(ui: UiState, by: 1 | -1): Step {
  const at = REFRESH_RATES.findIndex((r) => r >= ui.fps);
  const fps = REFRESH_RATES[Math.max(0, Math.min(REFRESH_RATES.length - 1, at + by))] ?? ui.fps;
  return say({ ...ui, fps }, `Draws ${fps} times a second.`);
}

function focusNext(ui: UiState, by: 1 | -1): Step {
  const at = PANELS.indexOf(ui.focus);
  return only({ ...ui, focus: PANELS[(at + by + PANELS.length) % PANELS.length] ?? ui.focus });
}

function back(ui: UiState): Step {
  if (ui.zoom) return only({ ...ui, zoom: false });
  return only(filterOf(ui) === "" ? ui : withFilter(ui, ""));
}

function details(ui: UiState, env: Surroundings): Step {
  // A line has no more to it than fits a whole row of the screen.
  if (!isTablePanel(ui.focus)) return only({ ...ui, zoom: !ui.zoom });
  const key = selection(ui, ui.focus, env);
  if (key === undefined) return say(ui, "Nothing is selected.");
  return open(ui, { kind: "details", panel: ui.focus, key, scroll: 0 });
}

function openDialog(what: "line" | "migrate" | "sgi" | "moveVcpu") {
  return (ui: UiState, env: Surroundings): Step =>
    frameOr(env, ui, (frame) => {
      const irq = selectedIrq(ui, frame, env);
      const vcpu = selectedVcpu(ui, frame, env);
      if (vcpu === undefined) return say(ui, "There is no vCPU.");
      if (what === "migrate") {
        if (irq === undefined) return say(ui, "No interrupt is selected.");
        return open(ui, { kind: "dialog", dialog: migrateDialog(frame, irq) });
      }
      const dialog = what === "line"
        ? lineDialog(frame, irq, vcpu.vcpuIdx)
        : what === "sgi"
        ? sgiDialog(frame, vcpu.vm, vcpu.vcpuIdx)
        : moveVcpuDialog(frame, vcpu);
      return open(ui, { kind: "dialog", dialog });
    });
}

function explainSelected(ui: UiState, env: Surroundings): Step {
  const key = selection(ui, "interrupts", env);
  if (key === undefined) return say(ui, "No interrupt is selected.");
  return open(ui, { kind: "explain", key, scroll: 0 });
}

function toggleFollow(ui: UiState, env: Surroundings): Step {
  if (isTablePanel(ui.focus)) {
    const follow = !ui.lists[ui.focus].follow;
    const message = follow ? "Follows the selected row." : "Does not follow the selected row.";
    return say(withList(ui, ui.focus, { follow }), message);
  }
  const { first, end } = env.log(ui.focus);
  const top = Math.max(first, end - env.page(ui.focus));
  return only(withLog(ui, ui.focus, { follow: !ui.logs[ui.focus].follow, top }));
}

function scrollColumns(ui: UiState, by: 1 | -1, env: Surroundings): Step {
  if (!isTablePanel(ui.focus)) return only(ui);
  const droppable = env.table(ui.focus)?.columns.filter((c) => c.drop > 0).length ?? 0;
  const scroll = Math.max(0, Math.min(droppable - 1, ui.lists[ui.focus].scroll + by));
  return only(withList(ui, ui.focus, { scroll }));
}

type Handler = (ui: UiState, env: Surroundings, key: string) => Step;

/** What an action does with no overlay open. */
const ACTIONS: Readonly<Partial<Record<ActionId, Handler>>> = {
  help: (ui) => open(ui, { kind: "help", scroll: 0 }),
  quit: (ui) => only(ui, { kind: "quit" }),
  pause: (ui, env) =>
    frameOr(
      env,
      ui,
      ({ paused }) =>
        only(ui, paused ? send({ op: "resume" }, "resumed") : send({ op: "pause" }, "paused")),
    ),
  stepInstruction: stepping("stepInstruction", "instruction"),
  stepExit: stepping("stepExit", "exit"),
  filter: (ui) => open(ui, { kind: "filter" }),
  palette: (ui) => open(ui, { kind: "palette", text: "", index: 0 }),
  focusNext: (ui) => focusNext(ui, 1),
  focusPrevious: (ui) => focusNext(ui, -1),
  focusPanel: (ui, _, key) => only({ ...ui, focus: PANELS[Number(key) - 1] ?? ui.focus }),
  zoom: (ui) => only({ ...ui, zoom: !ui.zoom }),
  back,
  sendSgi: openDialog("sgi"),
  line: openDialog("line"),
  migrate: openDialog("migrate"),
  moveVcpu: openDialog("moveVcpu"),
  explain: explainSelected,
  showAll: (ui) =>
    say(
      { ...ui, allIrqs: !ui.allIrqs },
      ui.allIrqs ? "Idle and disabled interrupts are hidden." : "Shows every interrupt.",
    ),
  counterMode: (ui) => {
    const at = COUNTER_MODES.indexOf(ui.mode);
    const mode = COUNTER_MODES[(at + 1) % COUNTER_MODES.length] ?? ui.mode;
    return say({ ...ui, mode }, `Counters show their ${mode}.`);
  },
  resetTotals: (ui) => open(ui, { kind: "dialog", dialog: resetDialog() }),
  fasterRefresh: (ui) => refresh(ui, 1),
  slowerRefresh: (ui) => refresh(ui, -1),
  capture: (ui) => only({ ...ui, focus: "console", captured: true }),
  screenshotText: (ui) => only(ui, { kind: "screenshot", format: "text" }),
  screenshotSvg: (ui) => only(ui, { kind: "screenshot", format: "svg" }),
  releaseMouse: (ui) =>
    only({
      ...ui,
      mouse: !ui.mouse,
      message: ui.mouse ? "The mouse is the terminal's; y takes it back." : "The mouse is ours.",
    }, { kind: "mouse", on: !ui.mouse }),
  theme: (ui) => {
    const theme = nextTheme(themeByName(ui.theme) ?? THEMES[0] as typeof THEMES[0] & object);
    return only({ ...ui, theme: theme.name, message: `Theme: ${theme.name}.` });
  },
  borders: (ui) => only({ ...ui, ascii: !ui.ascii }),
  redraw: (ui) => only(ui, { kind: "redraw" }),
  suspend: (ui) => only(ui, { kind: "suspend" }),
  left: (ui, env) => scrollColumns(ui, -1, env),
  right: (ui, env) => scrollColumns(ui, 1, env),
  details,
  sortNext: (ui, env) => sortBy(ui, env, 1),
  sortPrevious: (ui, env) => sortBy(ui, env, -1),
  sortReverse: (ui, env) =>
    isTablePanel(ui.focus)
      ? only(
        withList(pinned(ui, ui.focus, env), ui.focus, {
          descending: !ui.lists[ui.focus].descending,
        }),
      )
      : only(ui),
  follow: toggleFollow,
  followTail: toggleFollow,
};

// Overlays.

/** Selects the interrupt that commands are about: people want to see what becomes of it. */
function showConcerned(ui: UiState, commands: readonly Command[]): UiState {
  const about = commands.find((c) => "intid" in c && c.op !== "sendSgi");
  if (about === undefined || !("intid" in about) || !("vcpu" in about)) return ui;
  const owner = about.intid < 32 ? about.vcpu : -1;
  const selected = `${about.vm}.${owner}.${about.intid}`;
  return withList(ui, "interrupts", { selected, follow: true });
}

function acceptDialog(ui: UiState, env: Surroundings): Step {
  if (ui.overlay.kind !== "dialog") return only(ui);
  const { dialog } = ui.overlay;
  return frameOr(env, ui, (frame) => {
    const { commands, sentence, error } = planOf(frame, dialog);
    if (error) return say(ui, sentence);
    const effects: Effect[] = commands.map((command) => send(command, dialog.title));
    if (dialog.kind === "resetTotals") effects.push({ kind: "resetTotals" });
    return only({ ...showConcerned(close(ui), commands), message: sentence }, ...effects);
  });
}

function runEntry(ui: UiState, entry: PaletteEntry | undefined, env: Surroundings): Step {
  const closed = close(ui);
  if (entry === undefined) return only(closed);
  if ("focus" in entry.run) return only({ ...closed, focus: entry.run.focus });
  if ("command" in entry.run) return only(closed, send(entry.run.command, entry.title));
  const { action, panel } = entry.run;
  return ACTIONS[action]?.({ ...closed, focus: panel ?? ui.focus }, env, "") ?? only(closed);
}

function dialogAction(ui: UiState, action: ActionId, env: Surroundings): Step {
  if (ui.overlay.kind !== "dialog") return only(ui);
  const { dialog } = ui.overlay;
  const { length } = dialog.fields;
  const focus = (by: number): Step =>
    open(ui, {
      kind: "dialog",
      dialog: { ...dialog, focus: (dialog.focus + by + length) % Math.max(1, length) },
    });
  const change = (by: 1 | -1): Step =>
    open(ui, { kind: "dialog", dialog: withField(dialog, (field) => turn(field, by)) });
  if (action === "accept") return acceptDialog(ui, env);
  if (action === "down" || action === "up") return focus(action === "down" ? 1 : -1);
  if (action === "left" || action === "right") return change(action === "right" ? 1 : -1);
  return only(close(ui));
}

function paletteAction(ui: UiState, action: ActionId, env: Surroundings): Step {
  if (ui.overlay.kind !== "palette") return only(ui);
  const { text, index } = ui.overlay;
  const found = paletteMatches(text);
  if (action === "accept") return runEntry(ui, found[index], env);
  if (action === "up" || action === "down") {
    const next = index + (action === "down" ? 1 : -1);
    const at = Math.max(0, Math.min(found.length - 1, next));
    return open(ui, { kind: "palette", text, index: at });
  }
  return only(close(ui));
}

function textAction(ui: UiState, action: ActionId, env: Surroundings): Step {
  const { overlay } = ui;
  if (action === "quit") return only(ui, { kind: "quit" });
  if (action === "cancel" || !("scroll" in overlay)) return only(close(ui));
  const motion = MOTIONS[action];
  if (motion === undefined) return only(ui);
  const to = motion(Math.min(overlay.scroll, env.maxScroll), env.maxScroll + 1, 10);
  return open(ui, { ...overlay, scroll: Math.max(0, Math.min(env.maxScroll, to)) });
}

function filterAction(ui: UiState, action: ActionId): Step {
  return only(action === "accept" ? close(ui) : close(withFilter(ui, "")));
}

function overlayAction(ui: UiState, action: ActionId, env: Surroundings): Step {
  switch (ui.overlay.kind) {
    case "filter":
      return filterAction(ui, action);
    case "palette":
      return paletteAction(ui, action, env);
    case "dialog":
      return dialogAction(ui, action, env);
    default:
      return textAction(ui, action, env);
  }
}

/** What an editing key makes of a line of text. */
function edited(text: string, key: KeyPress): string {
  if (key.name === "Backspace") return [...text].slice(0, -1).join("");
  if (key.name === "Ctrl-U") return "";
  if (key.name === "Ctrl-W") return text.replace(/\S*\s*$/, "");
  return [...text].length < 60 ? text + key.text : text;
}

function typing(ui: UiState, key: KeyPress): Step {
  const { overlay } = ui;
  if (overlay.kind === "filter") return only(withFilter(ui, edited(filterOf(ui), key)));
  if (overlay.kind === "palette") {
    return open(ui, { kind: "palette", text: edited(overlay.text, key), index: 0 });
  }
  if (overlay.kind !== "dialog") return only(ui);
  const dialog = withField(
    overlay.dialog,
    (field) =>
      key.text !== "" && key.name !== "Space"
        ? typeInto(field, key.text)
        : field.choices === undefined
        ? { ...field, text: edited(field.text, { ...key, text: "" }) }
        : field,
  );
  return open(ui, { kind: "dialog", dialog });
}

function onKey(state: UiState, key: KeyPress, env: Surroundings): Step {
  const ui = state.message === "" ? state : { ...state, message: "" };
  const context = contextOf(ui);
  const action = lookup(context, key.name);
  if (context === "capture") {
    if (action === "releaseConsole") {
      return say({ ...ui, captured: false }, "The keyboard is yours.");
    }
    return only(ui, { kind: "guestKey", bytes: key.raw });
  }
  if (action === undefined) return takesText(context) ? typing(ui, key) : only(ui);
  if (ui.overlay.kind !== "none") return overlayAction(ui, action, env);
  const handler = ACTIONS[action];
  return handler === undefined ? only(move(ui, action, env)) : handler(ui, env, key.name);
}

function onPaste(ui: UiState, text: string): Step {
  if (ui.captured) return only(ui, { kind: "guestPaste", text });
  const line = text.split(/[\r\n]/)[0] ?? "";
  return typing(ui, { kind: "key", name: "", text: line.replace(/\p{Cc}/gu, ""), raw: EMPTY });
}
const EMPTY = new Uint8Array(0);

/** Rows that one turn of the wheel scrolls. */
const WHEEL_ROWS = 3;

function wheel(ui: UiState, event: MouseEvent, env: Surroundings): Step {
  const by = event.action === "wheel-up" ? -WHEEL_ROWS : WHEEL_ROWS;
  if (ui.overlay.kind === "palette") {
    return paletteAction(ui, by < 0 ? "up" : "down", env);
  }
  if ("scroll" in ui.overlay) {
    const scroll = Math.max(0, Math.min(env.maxScroll, ui.overlay.scroll + by));
    return open(ui, { ...ui.overlay, scroll });
  }
  const panel = env.hit(event.x, event.y)?.panel;
  if (panel === undefined) return only(ui);
  if (!isTablePanel(panel)) return only(scrollLog(ui, panel, (at) => at + by, env));
  const table = env.table(panel);
  const count = table === undefined ? 0 : arrange(table, ui.lists[panel]).length;
  const last = Math.max(0, count - env.page(panel));
  const top = Math.max(0, Math.min(last, ui.lists[panel].top + by));
  // Else the view would bring the selected row back at once.
  return only(withList(ui, panel, { top, follow: false }));
}

function click(ui: UiState, event: MouseEvent, env: Surroundings): Step {
  const hit = env.hit(event.x, event.y);
  if (hit === undefined || ui.overlay.kind !== "none") return only(ui);
  const focused: UiState = { ...ui, focus: hit.panel };
  if (!isTablePanel(hit.panel) || hit.part === "frame") return only(focused);
  if (hit.part === "row") return only(select(focused, hit.panel, hit.index, env));
  const list = ui.lists[hit.panel];
  const descending = list.sort === hit.column ? !list.descending : list.descending;
  return only(
    withList(pinned(focused, hit.panel, env), hit.panel, { sort: hit.column, descending }),
  );
}

function onMouse(ui: UiState, event: MouseEvent, env: Surroundings): Step {
  if (event.action.startsWith("wheel")) return wheel(ui, event, env);
  if (event.action !== "press" || event.button !== "left") return only(ui);
  const { captured } = ui;
  const step = click(ui, event, env);
  // A click elsewhere is a way out of the capture that needs no key.
  return captured && step.ui.focus !== "console"
    ? { ...step, ui: { ...step.ui, captured: false } }
    : step;
}

/** The state after an input event, and what is to be done about it. */
export function reduce(ui: UiState, event: InputEvent, env: Surroundings): Step {
  switch (event.kind) {
    case "key":
      return onKey(ui, event, env);
    case "paste":
      return onPaste(ui, event.text);
    case "mouse":
      return onMouse(ui, event, env);
    case "focus":
      return only(ui);
  }
}
