/** The screen as text: for the screenshot key, for `--plain`, and for tests. */

import { type CellBuffer, TAIL } from "./cells.ts";
import { cellWidth } from "./glyph.ts";
import { type Colour, PLAIN, type Style, type StyleTable } from "./style.ts";
import type { Theme } from "./theme.ts";

/** One row as text, blanks at its end included. A wide character stands for its two cells. */
export function rowText(cells: CellBuffer, y: number): string {
  let text = "";
  for (let at = y * cells.width; at < (y + 1) * cells.width; at++) {
    const cp = cells.code[at];
    if (cp !== undefined && cp !== TAIL) text += String.fromCodePoint(cp);
  }
  return text;
}

/** The whole screen, a line per row, without blanks at the ends of lines; ends with a newline. */
export function toText(cells: CellBuffer): string {
  let text = "";
  for (let y = 0; y < cells.height; y++) text += rowText(cells, y).trimEnd() + "\n";
  return text;
}

/** Cells of one row with one style. */
export interface Run {
  readonly x: number;
  readonly width: number;
  readonly style: number;
  readonly text: string;
}

/** A row as runs of equal style, from left to right, covering all its cells. */
export function rowRuns(cells: CellBuffer, y: number): Run[] {
  const runs: { x: number; width: number; style: number; text: string }[] = [];
  for (let x = 0; x < cells.width;) {
    const at = y * cells.width + x;
    const cp = cells.code[at] ?? TAIL;
    const style = cells.style[at] ?? PLAIN;
    const width = cp === TAIL ? 1 : cellWidth(cp);
    const text = String.fromCodePoint(cp === TAIL ? 0x20 : cp);
    const last = runs.at(-1);
    if (last?.style === style) {
      last.width += width;
      last.text += text;
    } else runs.push({ x, width, style, text });
    x += width;
  }
  return runs;
}

/** The screen with its styles, for golden files: `{3:text}` is text in style 3; plain text stands alone. */
export function toStyledText(cells: CellBuffer): string {
  const rows = Array.from({ length: cells.height }, (_, y) => rowRuns(cells, y));
  const show = (run: Run): string => run.style === PLAIN ? run.text : `{${run.style}:${run.text}}`;
  return rows.map((runs) => runs.map(show).join("").trimEnd() + "\n").join("");
}

const CELL_WIDTH = 8.4;
const CELL_HEIGHT = 17;
const BASELINE = 13;

const hex = (rgb: number): string => "#" + rgb.toString(16).padStart(6, "0");
const ENTITIES: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
};
const escape = (text: string): string => text.replace(/[&<>"]/g, (c) => ENTITIES[c] ?? c);

function inkAndGround(style: Style, theme: Theme): { ink: string; ground: string | undefined } {
  const shown = (colour: Colour | undefined): string | undefined =>
    colour === undefined ? undefined : hex(colour.rgb);
  const ink = shown(style.fg) ?? hex(theme.ink);
  const ground = shown(style.bg);
  return style.reverse ? { ink: ground ?? hex(theme.ground), ground: ink } : { ink, ground };
}

function svgRun(run: Run, y: number, style: Style, theme: Theme): string {
  const { ink, ground } = inkAndGround(style, theme);
  const left = (run.x * CELL_WIDTH).toFixed(1);
  const width = (run.width * CELL_WIDTH).toFixed(1);
  const rect = ground === undefined
    ? ""
    : `<rect x="${left}" y="${y * CELL_HEIGHT}" width="${width}" height="${CELL_HEIGHT}" ` +
      `fill="${ground}"/>`;
  if (run.text.trim() === "") return rect;
  const looks = (style.bold ? ' font-weight="bold"' : "") +
    (style.dim ? ' opacity="0.7"' : "") +
    (style.underline ? ' text-decoration="underline"' : "");
  // textLength holds the columns where a font's advance is not the cell's.
  return rect + `<text x="${left}" y="${y * CELL_HEIGHT + BASELINE}" fill="${ink}"${looks} ` +
    `textLength="${width}" lengthAdjust="spacingAndGlyphs" xml:space="preserve">` +
    `${escape(run.text)}</text>`;
}

/** The screen as an SVG image in the theme's colours. */
export function toSvg(cells: CellBuffer, styles: StyleTable, theme: Theme): string {
  const width = (cells.width * CELL_WIDTH).toFixed(1);
  const height = cells.height * CELL_HEIGHT;
  const rows = Array.from(
    { length: cells.height },
    (_, y) => rowRuns(cells, y).map((run) => svgRun(run, y, styles.style(run.style), theme)),
  );
  const body = rows.flat().filter((part) => part !== "").join("\n");
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" ` +
    `viewBox="0 0 ${width} ${height}" font-family="monospace" font-size="14">\n` +
    `<rect width="100%" height="100%" fill="${hex(theme.ground)}"/>\n${body}\n</svg>\n`;
}
