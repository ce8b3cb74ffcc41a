/** The two lines on top and the one at the bottom. */
import type { Frame } from "../../vmm/frame.ts";
import { EXIT_IRQ, REAL_TIME } from "../../vmm/frame_layout.ts";
import { type ActionId, footer } from "../keymap.ts";
import { count, mebibytes, percent, rate } from "../model/format.ts";
import { exitsOf, type Model, paceOf, rateOf } from "../model/model.ts";
import { isTablePanel, PANEL_TITLES, type PanelId, PANELS } from "../model/panels.ts";
import { contextOf, type UiState } from "../model/state.ts";
import type { Pane } from "../terminal/cells.ts";
import { fit, textWidth } from "../terminal/glyph.ts";
import { type Look, markOf, sparkline, symbols } from "./look.ts";
import type { View } from "./screen.ts";
import type { HitArea } from "./table_view.ts";

/** What the machine is, from the most important part to the least. */
function machine(frame: Frame): string[] {
  const vcpus = `${frame.vcpus.length} vCPUs on ${frame.pcpus.length} CPUs`;
  return [
    `${frame.mode === 0 ? "VHE" : "nVHE"} GICv${frame.gic}`,
    vcpus,
    `${frame.nrLr} LRs`,
    frame.vms.length === 1 ? "1 VM" : `${frame.vms.length} VMs`,
  ];
}

/** How virtual time runs against wall time. */
function paceText(frame: Frame, ratio: number): string {
  if (frame.paused) return "clock stopped";
  if (frame.pacePermille === REAL_TIME) return "real time";
  const wanted = frame.pacePermille === 0 ? "fast" : `paced ${frame.pacePermille / 10}%`;
  return `${wanted} x${ratio < 9.995 ? ratio.toFixed(2) : count(ratio)}`;
}

/** Puts parts on a line, a separator between, as many as fit. */
function parts(pane: Pane, look: Look, x: number, texts: readonly string[], style: number): number {
  const separator = ` ${symbols(look).dot} `;
  let at = x;
  for (const text of texts) {
    const lead = at === x ? "" : separator;
    if (at + textWidth(lead + text) > pane.width) break;
    at += pane.put(at, 0, lead + text, style);
  }
  return at;
}

/** An error comes with its stack; the whole of it is printed at the end. */
function firstLine(text: string): string {
  return text.split("\n", 1)[0] ?? "";
}

function drawTitle(pane: Pane, view: View): void {
  const { look, model: { frame } } = view;
  const { roles } = look;
  pane.fill(roles.header);
  const name = pane.put(1, 0, "Worldswitch", roles.header) + 2;
  if (view.ended !== undefined) {
    pane.put(
      name,
      0,
      fit(` ${markOf(look, "bad")} ${firstLine(view.ended)} `, pane.width - name),
      roles.badge,
    );
    return;
  }
  if (frame === undefined) {
    pane.put(name, 0, "waiting for the machine", roles.header);
    return;
  }
  const state = frame.paused ? `${markOf(look, "warn")} PAUSED` : `${markOf(look, "good")} running`;
  const used = pane.put(name, 0, ` ${state} `, frame.paused ? roles.badge : roles.header);
  const clock = `${(frame.virtualNs / 1e9).toFixed(6)} s`;
  const texts = [clock, paceText(frame, paceOf(view.model)), ...machine(frame)];
  const start = name + used + 1;
  const badge = captureBadge(view, pane.width - start);
  const room = pane.sub({ x: 0, y: 0, width: pane.width - badge.length, height: 1 });
  parts(room, look, start, texts, roles.header);
  pane.putRight(pane.width, 0, badge, roles.badge);
}

/** Who has the keyboard matters more than what the machine is. */
function captureBadge(view: View, room: number): string {
  if (!view.ui.captured) return "";
  const badge = " GUEST HAS THE KEYBOARD - Ctrl-] ";
  return badge.length <= room ? badge : " Ctrl-] ";
}

/** What the engine does, at the end of the line: where there is room. */
function engineRates(model: Model): [string, string, string][] {
  const { frame } = model;
  if (frame === undefined) return [];
  const share = percent(
    rateOf(model, (f) => f.translatedInsns),
    rateOf(model, (f) => f.insns),
  );
  const misses = rate(rateOf(model, (f) => f.dataMisses + f.codeMisses));
  const { codeBytes, codeBytesMax } = frame;
  return [
    ["wasm", share, ""],
    ["regions", count(frame.regions), ""],
    ["code", `${mebibytes(codeBytes)} of ${mebibytes(codeBytesMax)}`, ""],
    ["TLB misses/s", misses, ""],
  ];
}

function drawRates(pane: Pane, view: View, reserved: number): number {
  const { look, model } = view;
  const { roles } = look;
  const graph = (key: string, width: number): string =>
    sparkline(model.histories.get(key) ?? [], width, look.ascii);
  const width = pane.width >= 120 ? 16 : 6;
  const pairs: readonly [string, string, string][] = [
    ["MIPS", rate(rateOf(model, (f) => f.insns) / 1e6), graph("mips", width)],
    ["exits/s", rate(rateOf(model, exitsOf)), graph("exits", width)],
    ["fps", rate(view.fps), ""],
    ["dropped", count(view.dropped), ""],
    [
      "IRQ exits/s",
      rate(rateOf(model, (f) => f.exits.find((e) => e.reason === EXIT_IRQ)?.count)),
      "",
    ],
    ...engineRates(model),
  ];
  let x = 1;
  for (const [label, value, spark] of pairs) {
    const text = ` ${value.padStart(6)} `;
    if (x + label.length + text.length + textWidth(spark) > pane.width - reserved) break;
    x += pane.put(x, 0, label, roles.keyLabel);
    x += pane.put(x, 0, text, value === "0" ? roles.dim : roles.strong);
    x += pane.put(x, 0, spark, roles.graph) + (spark === "" ? 0 : 1);
  }
  return x;
}

/** The panels that found no room, at the right, to be clicked. */
function drawHidden(pane: Pane, view: View, from: number, hidden: readonly PanelId[]): HitArea[] {
  const { roles } = view.look;
  const labels = hidden.map((panel) => ({
    panel,
    long: `${PANELS.indexOf(panel) + 1} ${PANEL_TITLES[panel]}`,
    short: String(PANELS.indexOf(panel) + 1),
  }));
  const width = (of: "long" | "short"): number =>
    labels.reduce((sum, l) => sum + l[of].length + (of === "long" ? 2 : 1), 0);
  const kind = from + width("long") < pane.width ? "long" : "short";
  let x = Math.max(from + 1, pane.width - width(kind));
  return labels.flatMap((label) => {
    const text = label[kind];
    if (x + text.length > pane.width) return [];
    pane.put(x, 0, text, roles.title);
    const rect = { x: pane.rect.x + x, y: pane.rect.y, width: text.length, height: 1 };
    x += text.length + (kind === "long" ? 2 : 1);
    return [{ rect, hit: { panel: label.panel, part: "frame" as const } }];
  });
}

/** Draws the header. */
export function drawHeader(pane: Pane, view: View, hidden: readonly PanelId[]): HitArea[] {
  drawTitle(pane.sub({ x: 0, y: 0, width: pane.width, height: 1 }), view);
  const second = pane.sub({ x: 0, y: 1, width: pane.width, height: 1 });
  second.fill();
  if (view.model.frame === undefined) return [];
  const labels = view.ui.zoom ? [] : hidden;
  return drawHidden(second, view, drawRates(second, view, 2 * labels.length + 1), labels);
}

function modeText(ui: UiState): string {
  return `${ui.mode}${ui.zoom ? " zoom" : ""}${ui.mouse ? "" : " mouse off"}`;
}

/** What a log has no use for although it is a list. */
const NOT_FOR_LOGS: ReadonlySet<ActionId> = new Set(["sortNext", "details"]);

function usable(ui: UiState): ReturnType<typeof footer> {
  const keys = footer(contextOf(ui));
  const log = ui.overlay.kind === "none" && !isTablePanel(ui.focus);
  return log ? keys.filter(({ action }) => !NOT_FOR_LOGS.has(action)) : keys;
}

/** What a short footer keeps, most important first; the others follow in the keymap's order. */
const FOOTER_PRIORITY: readonly ActionId[] = [
  "help",
  "quit",
  "pause",
  "migrate",
  "moveVcpu",
  "line",
  "explain",
  "capture",
  "stepInstruction",
  "stepExit",
  "filter",
  "zoom",
];

/** The keys that fit into `width`: the most important ones, in the keymap's order. */
function fitting(ui: UiState, width: number): ReturnType<typeof footer> {
  const keys = usable(ui);
  const rank = (action: ActionId): number => {
    const place = FOOTER_PRIORITY.indexOf(action);
    return place < 0 ? FOOTER_PRIORITY.length : place;
  };
  let left = width;
  const kept = keys.toSorted((a, b) => rank(a.action) - rank(b.action)).filter((k) => {
    const fits = k.key.length + k.label.length + 3 <= left;
    if (fits) left -= k.key.length + k.label.length + 3;
    return fits;
  });
  return keys.filter((k) => kept.includes(k));
}

/** Draws the footer: a message if there is one, else the keys that work now. */
export function drawFooter(pane: Pane, view: View): void {
  const { look, ui } = view;
  const { roles } = look;
  pane.fill();
  const mode = modeText(ui);
  const right = pane.width - textWidth(mode) - 1;
  if (ui.message !== "") {
    pane.put(0, 0, fit(` ${ui.message}`, right - 1, symbols(look).more), roles.warn);
  } else {
    let x = 0;
    for (const { key, label } of fitting(ui, right)) {
      x += pane.put(x, 0, ` ${key} `, roles.key);
      x += pane.put(x, 0, `${label} `, roles.keyLabel);
    }
  }
  pane.putRight(pane.width, 0, mode, roles.dim);
}
