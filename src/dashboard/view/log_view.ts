/** The console and the trace: lines of text, their end followed or not. */
import type { LogLines } from "../model/logs.ts";
import type { LogState } from "../model/state.ts";
import type { CursorPosition } from "../terminal/render.ts";
import type { Pane } from "../terminal/cells.ts";
import { fit } from "../terminal/glyph.ts";
import { type Look, symbols } from "./look.ts";
import { drawFrame } from "./table_view.ts";

/** The line at the top of the page. */
function topLine(log: LogState, lines: LogLines, page: number): number {
  const last = Math.max(lines.first, lines.end - page);
  return log.follow ? last : Math.max(lines.first, Math.min(last, log.top));
}

/**
 * Draws a log panel. With a `badge` the guest has the keyboard, and its terminal's size is shown: a guest
 * on a serial line has to be told (stty).
 */
export function drawLog(
  pane: Pane,
  look: Look,
  panel: "console" | "trace",
  lines: LogLines,
  log: LogState,
  focused: boolean,
  badge: string,
): void {
  const page = Math.max(0, pane.height - 2);
  const top = topLine(log, lines, page);
  const found = lines.end - lines.first;
  const note = log.filter === "" ? "" : `/${log.filter} ${found} of ${lines.total}`;
  const behind = lines.end - top - page;
  const inner = pane.inner();
  const size = badge === "" ? "" : `${inner.width}x${inner.height}, `;
  const where = log.follow || behind <= 0 ? "follows" : `${behind} more below, G follows`;
  drawFrame(pane, look, panel, focused, note, size + where);
  if (badge !== "") pane.putRight(pane.width - 2, 0, ` ${badge} `, look.roles.badge);
  for (let y = 0; y < page && top + y < lines.end; y++) {
    const text = fit(lines.line(top + y), inner.width, symbols(look).more);
    inner.put(0, y, text, look.roles.text);
  }
  if (found === 0) {
    const text = lines.total === 0 ? "Nothing here yet." : "No line matches the filter.";
    inner.put(1, 0, text, look.roles.dim);
  }
}

/** Where the guest's cursor is on screen, if it is in sight. */
export function logCursor(
  pane: Pane,
  lines: LogLines,
  log: LogState,
  cursor: { readonly line: number; readonly column: number },
): CursorPosition | undefined {
  const inner = pane.inner();
  const y = cursor.line - topLine(log, lines, inner.height);
  const inside = log.filter === "" && y >= 0 && y < inner.height && cursor.column < inner.width;
  return inside ? { x: inner.rect.x + cursor.column, y: inner.rect.y + y } : undefined;
}
