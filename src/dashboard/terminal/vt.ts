/**
 * The terminal that the guest's console writes to: a small grid of characters with a bounded scrollback.
 *
 * Guest output is data. It moves the cursor of this grid, and nothing else: no title, no clipboard, no colour, and no
 * control character is left in what `line` returns. What it asks (where the cursor is, what terminal this is) is
 * answered to the guest, as input of its console.
 */

import { TAIL } from "./cells.ts";
import { cellWidth, glyph } from "./glyph.ts";
import { CONTROLS, CSI, ESCAPES, type VtMode, type VtOps } from "./vt_commands.ts";
import { NOT_SAVED, VtGrid } from "./vt_grid.ts";
import { type VtActions, VtParser } from "./vt_parser.ts";

/** A size in cells of the guest's screen, and how many lines that scrolled away are kept. */
export interface VtSize {
  readonly columns: number;
  readonly rows: number;
  readonly scrollback: number;
}

const DEFAULT_SIZE: VtSize = { columns: 80, rows: 24, scrollback: 5000 };

/** DEC's line drawing characters, from 0x60 on. */
const DRAWING = [..."◆▒␉␌␍␊°±␤␋┘┐┌└┼⎺⎻─⎼⎽├┤┴┬│≤≥π≠£·"];

const DEFAULT_MODES: Readonly<Record<VtMode, boolean>> = {
  insert: false,
  applicationCursor: false,
  origin: false,
  autowrap: true,
  bracketedPaste: false,
};

/** The guest's console as lines of text. */
export class VirtualTerminal {
  readonly scrollback: number;
  #history: string[] = [];
  // The oldest line of a full history.
  #oldest = 0;
  #grid: VtGrid;
  // The ordinary screen while the alternate one is shown.
  #behind: VtGrid | undefined;
  #x = 0;
  #y = 0;
  // The last column is written: the next character goes to the next line.
  #wrapNext = false;
  #modes = { ...DEFAULT_MODES };
  #drawing: [boolean, boolean] = [false, false];
  #charset = 0;
  #last = 0;
  #parser: VtParser;
  readonly #reply: (text: string) => void;
  /** Lines that fell out of the scrollback, so that a reader can keep its place. */
  discarded = 0;
  /** Counts writes: unchanged means nothing to draw. */
  revision = 0;

  /** Sizes below 2 columns or 1 row are raised to these. `reply` takes answers to the guest's questions. */
  constructor(size: Partial<VtSize> = {}, reply: (text: string) => void = () => {}) {
    const { columns, rows, scrollback } = { ...DEFAULT_SIZE, ...size };
    this.#grid = new VtGrid(atLeast(2, columns), atLeast(1, rows));
    this.scrollback = atLeast(0, scrollback);
    this.#reply = reply;
    this.#parser = new VtParser(this.#actions());
  }

  get columns(): number {
    return this.#grid.columns;
  }
  get rows(): number {
    return this.#grid.rows;
  }

  /** Whether the guest has a mode on. */
  mode(name: VtMode): boolean {
    return this.#modes[name];
  }

  /** Takes output of the guest, cut anywhere, even inside a character. */
  write(bytes: Uint8Array): void {
    this.revision++;
    this.#parser.feed(bytes);
  }

  /** Another size. Lines are not joined or broken anew; what the screen loses on top goes to the scrollback. */
  resize(columns: number, rows: number): void {
    const [width, height] = [atLeast(2, columns), atLeast(1, rows)];
    if (width === this.columns && height === this.rows) return;
    const main = this.#behind ?? this.#grid;
    const row = this.#behind ? this.#behind.saved.y : this.#y;
    for (let lost = row - height + 1; lost > 0; lost--) this.#scrollAway(main);
    this.#y -= this.#behind ? 0 : Math.max(0, row - height + 1);
    this.#grid.resize(width, height);
    this.#behind?.resize(width, height);
    this.#moveTo(this.#x, this.#y);
    this.revision++;
  }

  /** The screen's first row goes to the scrollback. */
  #scrollAway(grid: VtGrid): void {
    this.#remember(grid.text(0));
    grid.moveRows(0, grid.rows - 1, 1);
    grid.saved = { ...grid.saved, y: Math.max(0, grid.saved.y - 1) };
  }

  /** Lines there are: scrollback, then the screen down to the lowest line used. */
  get lineCount(): number {
    let used = this.rows;
    while (used > this.#y + 1 && this.#grid.isBlank(used - 1)) used--;
    return this.#history.length + used;
  }

  /** A line of text from 0, the oldest; no control characters, no blanks at its end. Empty outside the range. */
  line(index: number): string {
    const old = this.#history.length;
    if (index < old) return this.#history[(this.#oldest + index) % Math.max(1, old)] ?? "";
    return this.#grid.text(index - old);
  }

  /** Where the cursor is: the index of its line, and its column. */
  get cursor(): { line: number; column: number } {
    return { line: this.#history.length + this.#y, column: this.#x };
  }

  /** Index of the screen's first line. */
  get screenLine(): number {
    return this.#history.length;
  }

  /** Whether the alternate screen is shown, which has no scrollback of its own. */
  get alternate(): boolean {
    return this.#behind !== undefined;
  }

  /** All lines, each ended by a newline. */
  text(): string {
    let text = "";
    for (let i = 0; i < this.lineCount; i++) text += this.line(i) + "\n";
    return text;
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
      print: (cp) => this.#print(this.#drawing[this.#charset] ? drawing(cp) : glyph(cp)),
      control: (byte) => this.#obey(() => CONTROLS.get(byte)?.(this.#ops)),
      escape: (between, final) => this.#obey(() => ESCAPES.get(between + final)?.(this.#ops)),
      csi: (prefix, params, final) =>
        this.#obey(() => CSI.get(prefix + final)?.(this.#ops, params)),
    };
  }

  /** REP repeats only what stands right before it. */
  #obey(command: () => void): void {
    command();
    this.#last = 0;
  }

  #print(cp: number): void {
    if (cp === TAIL) return;
    const width = cellWidth(cp);
    const { columns } = this;
    const fits = !this.#wrapNext && this.#x + width <= columns;
    if (!fits && this.#modes.autowrap) this.#wrap();
    else if (!fits && width > 1) return;
    if (this.#modes.insert) this.#grid.shift(this.#x, this.#y, width);
    this.#grid.store(this.#x, this.#y, cp);
    if (width === 2) this.#grid.store(this.#x + 1, this.#y, TAIL);
    this.#last = cp;
    this.#x += width;
    this.#wrapNext = this.#x >= columns && this.#modes.autowrap;
    if (this.#x >= columns) this.#x = columns - 1;
  }

  /** Without room on its line a character goes to the next one. */
  #wrap(): void {
    // Where a wide character does not fit, nothing stays.
    if (!this.#wrapNext) this.#grid.erase(this.#y, this.#x, this.columns);
    this.#x = 0;
    this.#lineFeed();
  }

  #lineFeed(): void {
    this.#wrapNext = false;
    if (this.#y === this.#grid.bottom) this.#scroll(1);
    else if (this.#y < this.rows - 1) this.#y++;
  }

  /** What leaves by the top of the ordinary screen is remembered. */
  #scroll(count: number): void {
    const grid = this.#grid;
    const { top, bottom } = grid;
    const rows = Math.min(Math.abs(count), bottom - top + 1);
    if (count < 0) return grid.moveRows(bottom, top, rows);
    for (let i = 0; i < rows; i++) {
      if (top === 0 && !this.#behind) this.#remember(grid.text(0));
      grid.moveRows(top, bottom, 1);
    }
  }

  #insertRows(count: number): void {
    const grid = this.#grid;
    const { top, bottom } = grid;
    if (this.#y < top || this.#y > bottom) return;
    const rows = Math.min(Math.abs(count), bottom - this.#y + 1);
    grid.moveRows(count > 0 ? bottom : this.#y, count > 0 ? this.#y : bottom, rows);
    this.#moveTo(0, this.#y);
  }

  #moveTo(x: number, y: number): void {
    this.#wrapNext = false;
    this.#x = Math.max(0, Math.min(this.columns - 1, x));
    const { top, bottom } = this.#grid;
    const [least, most] = this.#modes.origin ? [top, bottom] : [0, this.rows - 1];
    this.#y = Math.max(least, Math.min(most, y));
  }

  #place(x: number, y: number): void {
    const { top, bottom } = this.#grid;
    this.#moveTo(x, this.#modes.origin ? Math.min(bottom, top + y) : y);
  }

  #alternate(on: boolean): void {
    if (on === this.alternate) return;
    if (on) {
      this.#behind = this.#grid;
      this.#grid = new VtGrid(this.columns, this.rows);
    } else {
      this.#grid = this.#behind ?? this.#grid;
      this.#behind = undefined;
    }
    this.#wrapNext = false;
  }

  #save(): void {
    const [g0, g1] = this.#drawing;
    this.#grid.saved = { x: this.#x, y: this.#y, drawing: [g0, g1], charset: this.#charset };
  }

  #restore(): void {
    const { x, y, drawing: [g0, g1], charset } = this.#grid.saved;
    this.#drawing = [g0, g1];
    this.#charset = charset;
    this.#moveTo(x, y);
  }

  #reset(soft: boolean): void {
    this.#modes = { ...DEFAULT_MODES };
    this.#drawing = [false, false];
    this.#charset = 0;
    if (!soft) {
      this.#alternate(false);
      this.#grid.clear();
      this.#moveTo(0, 0);
    }
    this.#grid.saved = NOT_SAVED;
    this.#grid.resetRegion();
  }

  readonly #ops: VtOps = {
    columns: () => this.columns,
    rows: () => this.rows,
    x: () => this.#x,
    y: () => this.#y,
    region: () => this.#grid,
    setRegion: (top, bottom) => {
      this.#grid.top = top;
      this.#grid.bottom = bottom;
    },
    moveTo: (x, y) => this.#moveTo(x, y),
    place: (x, y) => this.#place(x, y),
    lineFeed: () => this.#lineFeed(),
    reverseFeed: () => {
      if (this.#y === this.#grid.top) this.#scroll(-1);
      else this.#moveTo(this.#x, this.#y - 1);
    },
    erase: (y, from, to) => this.#grid.erase(y, from, to),
    shift: (count) => {
      this.#grid.shift(this.#x, this.#y, count);
      this.#wrapNext = false;
    },
    scroll: (count) => this.#scroll(count),
    insertRows: (count) => this.#insertRows(count),
    save: () => this.#save(),
    restore: () => this.#restore(),
    reset: (soft) => this.#reset(soft),
    setMode: (name, on) => void (this.#modes[name] = on),
    alternate: (on) => this.#alternate(on),
    designate: (slot, on) => void (this.#drawing[slot === 0 ? 0 : 1] = on),
    shiftTo: (slot) => void (this.#charset = slot),
    repeat: (count) => {
      const most = this.columns * this.rows;
      for (let i = 0; i < Math.min(count, most) && this.#last !== 0; i++) this.#print(this.#last);
    },
    reply: (text) => this.#reply(text),
    reportedY: () => this.#y - (this.#modes.origin ? this.#grid.top : 0),
  };
}

const atLeast = (least: number, value: number): number => Math.max(least, Math.floor(value));

/** A character of the line drawing set. */
function drawing(cp: number): number {
  return DRAWING[cp - 0x60]?.codePointAt(0) ?? glyph(cp);
}
