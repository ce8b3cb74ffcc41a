/** What lies over the panels: help, palette, dialogs, the explanation of an interrupt, a row's details. */
import { helpSections } from "../keymap.ts";
import { type DialogField, planOf } from "../model/dialogs.ts";
import { type Check, type CheckStatus, explain } from "../model/explain.ts";
import { irqOf } from "../model/model.ts";
import { paletteMatches } from "../model/palette.ts";
import { PANEL_TITLES } from "../model/panels.ts";
import type { Overlay } from "../model/state.ts";
import type { Pane } from "../terminal/cells.ts";
import { fit, pad, textWidth } from "../terminal/glyph.ts";
import type { CursorPosition } from "../terminal/render.ts";
import type { Role } from "../terminal/theme.ts";
import { detailLines } from "./details.ts";
import { borderOf, type Look, markOf, symbols } from "./look.ts";
import type { View } from "./screen.ts";

/** A line of an overlay: pieces of text with their roles. */
export type Line = readonly (readonly [text: string, role: Role])[];

/** What drawing an overlay says about it. */
export interface DrawnOverlay {
  readonly maxScroll: number;
  readonly cursor: CursorPosition | undefined;
}

const NOTHING: DrawnOverlay = { maxScroll: 0, cursor: undefined };

/** A box in the middle of the screen, at most as large as asked for. */
function middle(pane: Pane, look: Look, width: number, height: number, title: string): Pane {
  const w = Math.min(width, pane.width - 2);
  const h = Math.min(height, pane.height - 2);
  const box = pane.sub({
    x: Math.floor((pane.width - w) / 2),
    y: Math.floor((pane.height - h) / 2),
    width: w,
    height: h,
  });
  box.fill();
  box.box(look.roles.borderFocused, borderOf(look, true));
  box.put(2, 0, fit(` ${title} `, w - 4), look.roles.titleFocused);
  return box;
}

/** Text broken into lines of at most `width` cells, between words. */
export function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  let line = "";
  for (const word of text.split(" ")) {
    const longer = line === "" ? word : `${line} ${word}`;
    if (textWidth(longer) <= width) line = longer;
    else {
      if (line !== "") lines.push(line);
      line = fit(word, width);
    }
  }
  return [...lines, line];
}

/** Lines in a box that scrolls. */
function drawLines(
  pane: Pane,
  look: Look,
  title: string,
  width: number,
  make: (width: number) => Line[],
  scroll: number,
): DrawnOverlay {
  const inside = Math.min(width, pane.width - 2) - 4;
  const lines = make(inside);
  const box = middle(pane, look, width, lines.length + 2, title);
  const inner = box.inner();
  const maxScroll = Math.max(0, lines.length - inner.height);
  const top = Math.min(scroll, maxScroll);
  lines.slice(top, top + inner.height).forEach((line, y) => {
    let x = 1;
    for (const [text, role] of line) {
      x += inner.put(x, y, fit(text, inner.width - x), look.roles[role]);
    }
  });
  if (maxScroll > 0) {
    const { up, down } = symbols(look);
    const where = `${up}${down} ${top + 1}-${top + inner.height}/${lines.length}`;
    box.putRight(box.width - 2, box.height - 1, ` ${where} `, look.roles.keyLabel);
  }
  return { maxScroll, cursor: undefined };
}

const KEY_COLUMN = 20;

/** What figures mean whose names do not say it. */
const FIGURES: readonly [name: string, meaning: string][] = [
  ["wasm", "Share of the instructions that ran as translated code: of a vCPU, of the machine."],
  ["regions", "Translated pieces of hot code that are in use."],
  ["code", "The WebAssembly they are, and the bound at which the oldest go."],
  ["TLB misses/s", "How often code had to wait for a page that a data or code TLB did not have."],
];

function helpRow(left: string, right: string, width: number): Line[] {
  return wrap(right, Math.max(20, width - KEY_COLUMN - 1)).map((part, n): Line => [
    [pad(n === 0 ? left : "", KEY_COLUMN), "key"],
    [" " + part, "text"],
  ]);
}

function helpLines(width: number): Line[] {
  const keys = helpSections().flatMap(({ heading, bindings }): Line[] => [
    [[heading, "strong"]],
    ...bindings.flatMap((row) =>
      helpRow(row.keys.join(" "), row.help + (row.destructive ? " Asks first." : ""), width)
    ),
    [],
  ]);
  const figures = FIGURES.flatMap(([name, meaning]) => helpRow(name, meaning, width));
  return [...keys, [["Figures", "strong"]], ...figures];
}

const PALETTE_ROWS = 16;

function drawPalette(pane: Pane, view: View, overlay: Overlay): DrawnOverlay {
  if (overlay.kind !== "palette") return NOTHING;
  const { look } = view;
  const { roles } = look;
  const found = paletteMatches(overlay.text);
  const box = middle(pane, look, 84, PALETTE_ROWS + 4, "Commands");
  const inner = box.inner();
  const used = inner.put(1, 0, "> ", roles.key) +
    inner.put(3, 0, fit(overlay.text, inner.width - 5), roles.strong);
  inner.putRight(inner.width - 1, 0, `${found.length} found`, roles.dim);
  inner.hline(0, 1, inner.width, roles.border, borderOf(look, false).horizontal);
  const page = inner.height - 2;
  const top = Math.max(0, Math.min(overlay.index - page + 1, found.length - page));
  found.slice(top, top + page).forEach((entry, y) => {
    const keyAt = inner.width - 9;
    inner.put(1, y + 2, fit(entry.title, keyAt - 2, symbols(look).more), roles.text);
    inner.put(keyAt, y + 2, pad(entry.key, 8, "right"), roles.key);
    if (top + y === overlay.index) {
      inner.restyle({ x: 0, y: y + 2, width: inner.width, height: 1 }, roles.selected);
    }
  });
  if (found.length === 0) inner.put(1, 2, "No command has these letters.", roles.dim);
  return { maxScroll: 0, cursor: { x: inner.rect.x + 1 + used, y: inner.rect.y } };
}

function fieldText(field: DialogField, focused: boolean): string {
  if (field.choices === undefined) return field.text;
  const label = field.choices[field.index]?.label ?? "-";
  return focused ? `< ${label} >` : label;
}

function drawDialog(pane: Pane, view: View, overlay: Overlay): DrawnOverlay {
  const { frame } = view.model;
  if (overlay.kind !== "dialog" || frame === undefined) return NOTHING;
  const { look } = view;
  const { roles } = look;
  const { dialog } = overlay;
  const width = Math.min(72, pane.width - 2);
  const { sentence, error } = planOf(frame, dialog);
  const text = wrap(sentence, width - 4);
  const box = middle(pane, look, width, dialog.fields.length + text.length + 5, dialog.title);
  const inner = box.inner();
  const labels = Math.max(0, ...dialog.fields.map((f) => textWidth(f.label))) + 2;
  let cursor: CursorPosition | undefined;
  dialog.fields.forEach((field, i) => {
    const focused = i === dialog.focus;
    inner.put(1, i + 1, pad(field.label, labels), focused ? roles.key : roles.keyLabel);
    const value = ` ${fieldText(field, focused)} `;
    const end = inner.put(1 + labels, i + 1, value, focused ? roles.selected : roles.text);
    if (focused && field.choices === undefined) {
      cursor = { x: inner.rect.x + labels + end, y: inner.rect.y + i + 1 };
    }
  });
  text.forEach((line, i) =>
    inner.put(1, dialog.fields.length + 2 + i, line, error ? roles.bad : roles.text)
  );
  const hint = " Enter: do it   Esc: leave it ";
  box.putRight(box.width - 2, box.height - 1, hint, roles.keyLabel);
  return { maxScroll: 0, cursor };
}

const STATUS_MARKS: Readonly<
  Record<CheckStatus, readonly ["good" | "warn" | "bad" | "pending", Role]>
> = {
  pass: ["good", "good"],
  wait: ["pending", "pending"],
  stop: ["bad", "bad"],
  skip: ["warn", "dim"],
};

function checkLines(look: Look, check: Check, decisive: boolean, width: number): Line[] {
  const [mark, role] = STATUS_MARKS[check.status];
  return wrap(check.sentence, width - 5).map((part, i): Line => [
    [i === 0 ? `${decisive ? ">" : " "} ${markOf(look, mark)} ` : "    ", role],
    [part, decisive ? "strong" : "text"],
  ]);
}

function explainLines(view: View, key: string, width: number): Line[] {
  const { frame } = view.model;
  const irq = frame === undefined ? undefined : irqOf(frame, key);
  if (frame === undefined || irq === undefined) return [[["It is gone.", "text"]]];
  const { checks, verdict, past } = explain(frame, irq, (pc) => view.symbol(pc));
  const looked = checks.filter((c) => c.status !== "skip");
  return [
    ...wrap(verdict.sentence, width).map((part): Line => [[part, "strong"]]),
    [],
    ...looked.flatMap((c) => checkLines(view.look, c, c.id === verdict.id, width)),
    [],
    ...wrap(past, width).map((part): Line => [[part, "keyLabel"]]),
  ];
}

/** The title of the explanation: its question. */
function explainTitle(view: View, key: string): string {
  const { frame } = view.model;
  const irq = frame === undefined ? undefined : irqOf(frame, key);
  if (frame === undefined || irq === undefined) return "Explain";
  return `Where is ${explain(frame, irq).title}?`;
}

/** Draws the overlay that is open, if any. */
export function drawOverlay(pane: Pane, view: View): DrawnOverlay {
  const { look, ui: { overlay } } = view;
  switch (overlay.kind) {
    case "help":
      return drawLines(pane, look, "Keys", 92, helpLines, overlay.scroll);
    case "explain": {
      const title = explainTitle(view, overlay.key);
      const lines = (width: number): Line[] => explainLines(view, overlay.key, width);
      return drawLines(pane, look, title, 100, lines, overlay.scroll);
    }
    case "details": {
      const title = `Details: ${PANEL_TITLES[overlay.panel]}`;
      const lines = (width: number): Line[] => detailLines(view, overlay.panel, overlay.key, width);
      return drawLines(pane, look, title, 84, lines, overlay.scroll);
    }
    case "palette":
      return drawPalette(pane, view, overlay);
    case "dialog":
      return drawDialog(pane, view, overlay);
    default:
      return NOTHING;
  }
}

/** The line at the bottom while a filter is typed. */
export function drawFilterLine(
  pane: Pane,
  look: Look,
  filter: string,
  found: string,
): DrawnOverlay {
  pane.fill();
  const used = pane.put(0, 0, " /", look.roles.key) +
    pane.put(2, 0, fit(filter, pane.width - 24), look.roles.strong);
  pane.putRight(pane.width, 0, `${found}  Enter keeps, Esc clears`, look.roles.keyLabel);
  return { maxScroll: 0, cursor: { x: pane.rect.x + used, y: pane.rect.y } };
}
