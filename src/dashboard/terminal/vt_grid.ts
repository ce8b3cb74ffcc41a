/**
 * The cells of the guest's screen: rows of characters with a scroll region, and how they move. Knows nothing of
 * control sequences, of the cursor or of the scrollback.
 */

import { TAIL } from "./cells.ts";
import { cellWidth } from "./glyph.ts";

export const SPACE = 0x20;

type Row = Uint32Array;

/** The cursor with the character sets. */
export interface SavedCursor {
  readonly x: number;
  readonly y: number;
  readonly drawing: readonly [boolean, boolean];
  readonly charset: number;
}
export const NOT_SAVED: SavedCursor = { x: 0, y: 0, drawing: [false, false], charset: 0 };

/** A screen of characters. A wide one takes two cells, the second being {@link TAIL}. */
export class VtGrid {
  #rows: Row[];
  /** First and last row of the scroll region (DECSTBM). */
  top = 0;
  bottom: number;
  /** What DECSC saved: the cursor, and which character sets draw lines and which is in use. */
  saved: SavedCursor = NOT_SAVED;

  constructor(public columns: number, rows: number) {
    this.#rows = Array.from({ length: rows }, () => this.#blank());
    this.bottom = rows - 1;
  }

  get rows(): number {
    return this.#rows.length;
  }

  #blank(): Row {
    return new Uint32Array(this.columns).fill(SPACE);
  }

  isBlank(y: number): boolean {
    return this.#rows[y]?.every((cp) => cp === SPACE) ?? true;
  }

  /** A row without blanks at its end. */
  text(y: number): string {
    let text = "";
    for (const cp of this.#rows[y] ?? []) if (cp !== TAIL) text += String.fromCodePoint(cp);
    return text.trimEnd();
  }

  clear(): void {
    for (const row of this.#rows) row.fill(SPACE);
  }

  /** The whole screen scrolls again. */
  resetRegion(): void {
    this.top = 0;
    this.bottom = this.rows - 1;
  }

  /** A character of one cell or the half of a wide one; no half of another is left beside it. */
  store(x: number, y: number, cp: number): void {
    const row = this.#rows[y];
    if (row === undefined) return;
    if (cp !== TAIL && row[x] === TAIL && x > 0) row[x - 1] = SPACE;
    if (row[x + 1] === TAIL) row[x + 1] = SPACE;
    row[x] = cp;
  }

  erase(y: number, from: number, to: number): void {
    const row = this.#rows[y];
    if (row === undefined || from >= to) return;
    row.fill(SPACE, from, to);
    // Half a wide character is none.
    if (row[to] === TAIL) row[to] = SPACE;
    const before = row[from - 1];
    if (before !== undefined && before !== TAIL && cellWidth(before) === 2) row[from - 1] = SPACE;
  }

  /** Moves the rest of a row from `x` right by `count`, or left when that is negative. */
  shift(x: number, y: number, count: number): void {
    const row = this.#rows[y];
    if (row === undefined) return;
    const cells = Math.min(Math.abs(count), this.columns - x);
    this.#splitWide(row, x);
    if (count > 0) {
      this.#splitWide(row, this.columns - cells);
      row.copyWithin(x + cells, x);
      row.fill(SPACE, x, x + cells);
    } else {
      this.#splitWide(row, x + cells);
      row.copyWithin(x, x + cells);
      row.fill(SPACE, this.columns - cells);
    }
  }

  /** Blanks a wide character that lies across the border left of `x`. */
  #splitWide(row: Row, x: number): void {
    if (row[x] !== TAIL || x === 0) return;
    row[x] = row[x - 1] = SPACE;
  }

  /** Takes `count` rows out at `from` and puts blank ones in at `to`; both lie in what moves. */
  moveRows(from: number, to: number, count: number): void {
    for (let i = 0; i < Math.min(count, this.rows); i++) {
      const [row] = this.#rows.splice(from, 1);
      if (row !== undefined) this.#rows.splice(to, 0, row.fill(SPACE));
    }
  }

  /** Another size: rows are cut or filled up on the right, and go and come at the end. */
  resize(columns: number, rows: number): void {
    this.columns = columns;
    const fitted = this.#rows.slice(0, rows).map((old) => {
      const row = this.#blank();
      row.set(old.subarray(0, columns));
      const last = row[columns - 1] ?? SPACE;
      if (last !== TAIL && cellWidth(last) === 2) row[columns - 1] = SPACE;
      return row;
    });
    while (fitted.length < rows) fitted.push(this.#blank());
    this.#rows = fitted;
    this.resetRegion();
  }
}
