/**
 * The terminal that the guest's console writes to: a small grid of characters with a bounded scrollback.
 *
 * Guest output is data. It moves the cursor of this grid, and nothing else: no title, no clipboard, no answer, no
 * colour, and no control character is left in what `line` returns.
 */

import { TAIL } from "./cells.ts";
import { cellWidth, glyph } from "./glyph.ts";
import { type VtActions, VtParser } from "./vt_parser.ts";

const SPACE = 0x20;

/** A size in cells of the guest's screen, and how many lines that scrolled away are kept. */
export interface VtSize {
  readonly columns: number;
  readonly rows: number;
  readonly scrollback: number;
}

const DEFAULT_SIZE: VtSize = { columns: 80, rows: 24, scrollback: 5000 };

type Row = Uint32Array;

/** The guest's console as lines of text. */
export class VirtualTerminal {
  readonly columns: number;
  readonly rows: number;
  readonly scrollback: number;
  #history: string[] = [];
  // The oldest line of a full history.
  #oldest = 0;
  #screen: Row[];
  #x = 0;
  #y = 0;
  // The last column is written: the next character goes to the next line.
  #wrapNext = false;
  #saved = { x: 0, y: 0 };
  #parser: VtParser;
  /** Lines that fell out of the scrollback, so that a reader can keep its place. */
  discarded = 0;
  /** Counts writes: unchanged means nothing to draw. */
  revision = 0;

  /** Sizes below 2 columns or 1 row are raised to these. */
  constructor(size: Partial<VtSize> = {}) {
    const { columns, rows, scrollback } = { ...DEFAULT_SIZE, ...size };
    this.columns = Math.max(2, Math.floor(columns));
    this.rows = Math.max(1, Math.floor(rows));
    this.scrollback = Math.max(0, Math.floor(scrollback));
    this.#screen = Array.from({ length: this.rows }, () => this.#blank());
    this.#parser = new VtParser(this.#actions());
  }

  /** Takes output of the guest, cut anywhere, even inside a character. */
  write(bytes: Uint8Array): void {
    this.revision++;
    this.#parser.feed(bytes);
  }

  /** Lines there are: scrollback, then the screen down to the lowest line used. */
  get lineCount(): number {
    let used = this.rows;
    while (used > this.#y + 1 && this.#isBlank(used - 1)) used--;
    return this.#history.length + used;
  }

  /** A line of text from 0, the oldest; no control characters, no blanks at its end. Empty outside the range. */
  line(index: number): string {
    const old = this.#history.length;
    if (index < old) return this.#history[(this.#oldest + index) % Math.max(1, old)] ?? "";
    return this.#rowText(index - old);
  }

  /** Where the cursor is: the index of its line, and its column. */
  get cursor(): { line: number; column: number } {
    return { line: this.#history.length + this.#y, column: this.#x };
  }

  /** All lines, each ended by a newline. */
  text(): string {
    let text = "";
    for (let i = 0; i < this.lineCount; i++) text += this.line(i) + "\n";
    return text;
  }

  #blank(): Row {
    return new Uint32Array(this.columns).fill(SPACE);
  }

  #isBlank(y: number): boolean {
    return this.#screen[y]?.every((cp) => cp === SPACE) ?? true;
  }

  #rowText(y: number): string {
    let text = "";
    for (const cp of this.#screen[y] ?? []) if (cp !== TAIL) text += String.fromCodePoint(cp);
    return text.trimEnd();
  }

  #remember(text: string): void {
    if (this.scrollback === 0) this.discarded++;
    else if (this.#history.length < this.scrollback) this.#history.push(text);
    else {
      this.#history[this.#oldest] = text;
      this.#oldest = (this.#oldest + 1) % this.scrollback;
      this.discarded++;
    }
  }

  #actions(): VtActions {
    return {
      print: (cp) => this.#print(glyph(cp)),
      control: (byte) => CONTROLS.get(byte)?.(this.#ops),
      escape: (intermediate, final) => {
        if (intermediate === "") ESCAPES.get(final)?.(this.#ops);
      },
      csi: (prefix, params, final) => {
        if (prefix === "") CSI.get(final)?.(this.#ops, params);
      },
    };
  }

  #print(cp: number): void {
    if (cp === TAIL) return;
    const width = cellWidth(cp);
    if (this.#wrapNext || this.#x + width > this.columns) {
      // Where a wide character does not fit, nothing stays.
      if (!this.#wrapNext) this.#erase(this.#y, this.#x, this.columns);
      this.#x = 0;
      this.#lineFeed();
    }
    this.#store(this.#x, cp);
    if (width === 2) this.#store(this.#x + 1, TAIL);
    this.#x += width;
    this.#wrapNext = this.#x >= this.columns;
    if (this.#wrapNext) this.#x = this.columns - 1;
  }

  #store(x: number, cp: number): void {
    const row = this.#screen[this.#y];
    if (row === undefined) return;
    if (cp !== TAIL && row[x] === TAIL && x > 0) row[x - 1] = SPACE;
    if (row[x + 1] === TAIL) row[x + 1] = SPACE;
    row[x] = cp;
  }

  #lineFeed(): void {
    this.#wrapNext = false;
    if (this.#y < this.rows - 1) this.#y++;
    else this.#scrollUp(1);
  }

  #scrollUp(count: number): void {
    for (let i = 0; i < Math.min(count, this.rows); i++) {
      this.#remember(this.#rowText(0));
      const row = this.#screen.shift();
      if (row !== undefined) this.#screen.push(row.fill(SPACE));
    }
  }

  /** Takes `count` rows out at `from` and puts blank ones in at `to`, the scrollback untouched. */
  #moveRows(from: number, to: number, count: number): void {
    for (let i = 0; i < Math.min(count, this.rows); i++) {
      const [row] = this.#screen.splice(from, 1);
      if (row !== undefined) this.#screen.splice(to, 0, row.fill(SPACE));
    }
  }

  #moveTo(x: number, y: number): void {
    this.#wrapNext = false;
    this.#x = Math.max(0, Math.min(this.columns - 1, x));
    this.#y = Math.max(0, Math.min(this.rows - 1, y));
  }

  #erase(y: number, from: number, to: number): void {
    const row = this.#screen[y];
    if (row === undefined || from >= to) return;
    row.fill(SPACE, from, to);
    // Half a wide character is none.
    if (row[to] === TAIL) row[to] = SPACE;
    const before = row[from - 1];
    if (before !== undefined && before !== TAIL && cellWidth(before) === 2) row[from - 1] = SPACE;
  }

  #shift(count: number): void {
    const row = this.#screen[this.#y];
    if (row === undefined) return;
    const cells = Math.min(Math.abs(count), this.columns - this.#x);
    this.#splitWide(row, this.#x);
    if (count > 0) {
      this.#splitWide(row, this.columns - cells);
      row.copyWithin(this.#x + cells, this.#x);
      row.fill(SPACE, this.#x, this.#x + cells);
    } else {
      this.#splitWide(row, this.#x + cells);
      row.copyWithin(this.#x, this.#x + cells);
      row.fill(SPACE, this.columns - cells);
    }
    this.#wrapNext = false;
  }

  /** Blanks a wide character that lies across the border left of `x`. */
  #splitWide(row: Row, x: number): void {
    if (row[x] !== TAIL || x === 0) return;
    row[x] = row[x - 1] = SPACE;
  }

  #clearScreen(): void {
    for (const row of this.#screen) row.fill(SPACE);
  }

  readonly #ops: VtOps = {
    columns: () => this.columns,
    rows: () => this.rows,
    x: () => this.#x,
    y: () => this.#y,
    moveTo: (x, y) => this.#moveTo(x, y),
    lineFeed: () => this.#lineFeed(),
    reverseFeed: () => {
      if (this.#y > 0) this.#moveTo(this.#x, this.#y - 1);
      else this.#moveRows(this.rows - 1, 0, 1);
    },
    erase: (y, from, to) => this.#erase(y, from, to),
    shift: (count) => this.#shift(count),
    scrollUp: (count) => this.#scrollUp(count),
    moveRows: (from, to, count) => this.#moveRows(from, to, count),
    save: () => void (this.#saved = { x: this.#x, y: this.#y }),
    restore: () => this.#moveTo(this.#saved.x, this.#saved.y),
    reset: () => {
      this.#clearScreen();
      this.#saved = { x: 0, y: 0 };
      this.#moveTo(0, 0);
    },
  };
}

/** What a control sequence may do to the grid. */
interface VtOps {
  columns(): number;
  rows(): number;
  x(): number;
  y(): number;
  moveTo(x: number, y: number): void;
  lineFeed(): void;
  reverseFeed(): void;
  erase(y: number, from: number, to: number): void;
  shift(count: number): void;
  scrollUp(count: number): void;
  moveRows(from: number, to: number, count: number): void;
  save(): void;
  restore(): void;
  reset(): void;
}

const nextTab = (t: VtOps): number => Math.min(t.columns() - 1, (t.x() >> 3) + 1 << 3);
const lineFeed = (t: VtOps): void => t.lineFeed();

/** At the last column a tab moves nothing, a wrap that is due included. */
function tab(t: VtOps): void {
  if (t.x() < t.columns() - 1) t.moveTo(nextTab(t), t.y());
}

const CONTROLS: ReadonlyMap<number, (t: VtOps) => void> = new Map([
  [0x08, (t: VtOps) => t.moveTo(t.x() - 1, t.y())],
  [0x09, tab],
  [0x0a, lineFeed],
  [0x0b, lineFeed],
  [0x0c, lineFeed],
  [0x0d, (t: VtOps) => t.moveTo(0, t.y())],
]);

const ESCAPES: ReadonlyMap<string, (t: VtOps) => void> = new Map([
  ["7", (t: VtOps) => t.save()],
  ["8", (t: VtOps) => t.restore()],
  ["D", lineFeed],
  ["E", (t: VtOps) => {
    t.moveTo(0, t.y());
    t.lineFeed();
  }],
  ["M", (t: VtOps) => t.reverseFeed()],
  ["c", (t: VtOps) => t.reset()],
]);

type CsiAction = (t: VtOps, params: readonly number[]) => void;

/** A parameter that counts: 0 and absent are 1. */
const count = (params: readonly number[], i = 0): number => Math.max(1, params[i] ?? 1);

function eraseLine(t: VtOps, [mode = 0]: readonly number[]): void {
  if (mode > 2) return;
  t.erase(t.y(), mode === 0 ? t.x() : 0, mode === 1 ? t.x() + 1 : t.columns());
}

function eraseScreen(t: VtOps, [mode = 0]: readonly number[]): void {
  if (mode > 2) return;
  const [first, last] = [mode === 0 ? t.y() + 1 : 0, mode === 1 ? t.y() : t.rows()];
  for (let y = first; y < last; y++) t.erase(y, 0, t.columns());
  if (mode < 2) eraseLine(t, [mode]);
}

const CSI: ReadonlyMap<string, CsiAction> = new Map<string, CsiAction>([
  ["A", (t, p) => t.moveTo(t.x(), t.y() - count(p))],
  ["B", (t, p) => t.moveTo(t.x(), t.y() + count(p))],
  ["C", (t, p) => t.moveTo(t.x() + count(p), t.y())],
  ["D", (t, p) => t.moveTo(t.x() - count(p), t.y())],
  ["E", (t, p) => t.moveTo(0, t.y() + count(p))],
  ["F", (t, p) => t.moveTo(0, t.y() - count(p))],
  ["G", (t, p) => t.moveTo(count(p) - 1, t.y())],
  ["H", (t, p) => t.moveTo(count(p, 1) - 1, count(p) - 1)],
  ["f", (t, p) => t.moveTo(count(p, 1) - 1, count(p) - 1)],
  ["d", (t, p) => t.moveTo(t.x(), count(p) - 1)],
  ["J", eraseScreen],
  ["K", eraseLine],
  ["X", (t, p) => t.erase(t.y(), t.x(), Math.min(t.columns(), t.x() + count(p)))],
  ["@", (t, p) => t.shift(count(p))],
  ["P", (t, p) => t.shift(-count(p))],
  ["L", (t, p) => {
    t.moveRows(t.rows() - 1, t.y(), Math.min(count(p), t.rows() - t.y()));
    t.moveTo(0, t.y());
  }],
  ["M", (t, p) => {
    t.moveRows(t.y(), t.rows() - 1, Math.min(count(p), t.rows() - t.y()));
    t.moveTo(0, t.y());
  }],
  ["S", (t, p) => t.scrollUp(count(p))],
  ["T", (t, p) => t.moveRows(t.rows() - 1, 0, count(p))],
  ["s", (t) => t.save()],
  ["u", (t) => t.restore()],
]);
