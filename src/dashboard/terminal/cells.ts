/**
 * The screen as two typed arrays: a code point and a style number for each cell.
 *
 * Views draw into a `Pane`, a clipped rectangle of the buffer with its own origin; nothing can be drawn outside it.
 * A wide character has its code point in the left cell and `TAIL` in the right one; drawing over half of one blanks
 * the other half, so the buffer never holds half a character.
 */

import { cellWidth, glyph, textWidth } from "./glyph.ts";
import { PLAIN } from "./style.ts";

/** In the code array: the right half of the wide character to the left. */
export const TAIL = 0;

const SPACE = 0x20;

/** A rectangle in cells; `x`, `y` count from 0 at the top left. */
export interface Rect {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

/** The characters a border is made of. */
export interface BorderSet {
  readonly horizontal: string;
  readonly vertical: string;
  readonly topLeft: string;
  readonly topRight: string;
  readonly bottomLeft: string;
  readonly bottomRight: string;
}

const border = (chars: string): BorderSet => {
  const [horizontal = "", vertical = "", topLeft = "", topRight = "", bottomLeft = "", rest = ""] =
    chars;
  return { horizontal, vertical, topLeft, topRight, bottomLeft, bottomRight: rest };
};

/** The border sets; `ascii` for terminals and fonts without box drawing, `heavy` for focus. */
export const BORDERS = {
  light: border("─│┌┐└┘"),
  heavy: border("━┃┏┓┗┛"),
  ascii: border("-|++++"),
  asciiHeavy: border("=|####"),
} as const;

/** A grid of cells, `width` by `height`, row by row. */
export class CellBuffer {
  width = 0;
  height = 0;
  code = new Uint32Array(0);
  style = new Uint16Array(0);

  constructor(width: number, height: number) {
    this.resize(width, height);
  }

  /** Takes a new size (at least 0 each way); everything is blank afterwards. */
  resize(width: number, height: number): void {
    this.width = Math.max(0, Math.floor(width));
    this.height = Math.max(0, Math.floor(height));
    this.code = new Uint32Array(this.width * this.height).fill(SPACE);
    this.style = new Uint16Array(this.width * this.height);
  }

  /** Blanks every cell. */
  clear(): void {
    this.code.fill(SPACE);
    this.style.fill(PLAIN);
  }

  /** The whole buffer to draw into. */
  pane(): Pane {
    return new Pane(this, { x: 0, y: 0, width: this.width, height: this.height });
  }

  /** Sets one cell, or two for a wide glyph that fits before `limit`; returns the cells taken. */
  set(x: number, y: number, cp: number, style: number, limit: number): number {
    const wide = cellWidth(cp) === 2;
    const shown = wide && x + 2 > limit ? SPACE : cp;
    this.#store(x, y, shown, style);
    if (!wide || shown === SPACE) return 1;
    this.#store(x + 1, y, TAIL, style);
    return 2;
  }

  #store(x: number, y: number, cp: number, style: number): void {
    const at = y * this.width + x;
    if (cp !== TAIL && this.code[at] === TAIL && x > 0) this.code[at - 1] = SPACE;
    if (x + 1 < this.width && this.code[at + 1] === TAIL) this.code[at + 1] = SPACE;
    this.code[at] = cp;
    this.style[at] = style;
  }
}

function overlap(a: Rect, b: Rect): Rect {
  const x = Math.max(a.x, b.x);
  const y = Math.max(a.y, b.y);
  const right = Math.min(a.x + a.width, b.x + b.width);
  const bottom = Math.min(a.y + a.height, b.y + b.height);
  return { x, y, width: Math.max(0, right - x), height: Math.max(0, bottom - y) };
}

/** Where to draw: an origin and a clip rectangle of a buffer. Coordinates are relative to the origin. */
export class Pane {
  readonly #cells: CellBuffer;
  readonly #origin: Rect;
  readonly #clip: Rect;

  constructor(cells: CellBuffer, rect: Rect, clip: Rect = rect) {
    this.#cells = cells;
    this.#origin = rect;
    const all = { x: 0, y: 0, width: cells.width, height: cells.height };
    this.#clip = overlap(overlap(rect, clip), all);
  }

  get width(): number {
    return this.#origin.width;
  }

  get height(): number {
    return this.#origin.height;
  }

  /** Where the pane lies on the screen (for the mouse). */
  get rect(): Rect {
    return this.#origin;
  }

  /** A part of this pane; it can be drawn on only where both overlap. */
  sub(rect: Rect): Pane {
    const moved = { ...rect, x: this.#origin.x + rect.x, y: this.#origin.y + rect.y };
    return new Pane(this.#cells, moved, this.#clip);
  }

  /** The pane without a frame of one cell. */
  inner(): Pane {
    const { width, height } = this.#origin;
    return this.sub({
      x: 1,
      y: 1,
      width: Math.max(0, width - 2),
      height: Math.max(0, height - 2),
    });
  }

  /**
   * Draws text on one line; what lies outside the pane is not drawn. Control characters become visible glyphs.
   * Returns the cells the text takes, drawn or not.
   */
  put(x: number, y: number, text: string, style: number = PLAIN): number {
    const clip = this.#clip;
    const row = this.#origin.y + y;
    const inside = row >= clip.y && row < clip.y + clip.height;
    const right = clip.x + clip.width;
    let column = this.#origin.x + x;
    const start = column;
    for (const ch of text) {
      const cp = glyph(ch.codePointAt(0) ?? SPACE);
      if (cp === TAIL) continue;
      if (inside) this.#draw(column, row, cp, style, right);
      column += cellWidth(cp);
    }
    return column - start;
  }

  /** Draws text so that its last cell is the one before `right`. */
  putRight(right: number, y: number, text: string, style: number = PLAIN): void {
    this.put(right - textWidth(text), y, text, style);
  }

  #draw(column: number, row: number, cp: number, style: number, right: number): void {
    const { x: left } = this.#clip;
    if (column >= left && column < right) this.#cells.set(column, row, cp, style, right);
    // The right half of a wide character cut by the left edge: a blank, not half a glyph.
    else if (column === left - 1 && cellWidth(cp) === 2 && left < right) {
      this.#cells.set(left, row, SPACE, style, right);
    }
  }

  /** Fills a rectangle (the whole pane by default) with one narrow character. */
  fill(style: number = PLAIN, ch = " ", rect: Rect = { ...this.#origin, x: 0, y: 0 }): void {
    const moved = { ...rect, x: this.#origin.x + rect.x, y: this.#origin.y + rect.y };
    const area = overlap(moved, this.#clip);
    const cp = glyph(ch.codePointAt(0) ?? SPACE);
    const narrow = cp === TAIL || cellWidth(cp) === 2 ? SPACE : cp;
    for (let y = area.y; y < area.y + area.height; y++) {
      for (let x = area.x; x < area.x + area.width; x++) {
        this.#cells.set(x, y, narrow, style, x + 1);
      }
    }
  }

  /** A horizontal line of `length` cells. */
  hline(x: number, y: number, length: number, style: number = PLAIN, ch = "─"): void {
    this.fill(style, ch, { x, y, width: length, height: 1 });
  }

  /** A vertical line of `length` cells. */
  vline(x: number, y: number, length: number, style: number = PLAIN, ch = "│"): void {
    this.fill(style, ch, { x, y, width: 1, height: length });
  }

  /** Gives a rectangle a style and leaves its characters (a selection bar). */
  restyle(rect: Rect, style: number): void {
    const moved = { ...rect, x: this.#origin.x + rect.x, y: this.#origin.y + rect.y };
    const area = overlap(moved, this.#clip);
    for (let y = area.y; y < area.y + area.height; y++) {
      const row = y * this.#cells.width;
      this.#cells.style.fill(style, row + area.x, row + area.x + area.width);
    }
  }

  /** A frame around the pane; nothing when the pane is smaller than 2 by 2. */
  box(style: number = PLAIN, set: BorderSet = BORDERS.light): void {
    const { width, height } = this.#origin;
    if (width < 2 || height < 2) return;
    for (const y of [0, height - 1]) this.hline(0, y, width, style, set.horizontal);
    for (const x of [0, width - 1]) this.vline(x, 0, height, style, set.vertical);
    this.put(0, 0, set.topLeft, style);
    this.put(width - 1, 0, set.topRight, style);
    this.put(0, height - 1, set.bottomLeft, style);
    this.put(width - 1, height - 1, set.bottomRight, style);
  }
}
