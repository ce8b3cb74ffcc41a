/**
 * From two frames to the bytes between them.
 *
 * `Screen.back` is drawn into, `frame()` compares it with what the terminal shows and returns one write inside a
 * synchronized update (DEC private mode 2026). The bytes hold only this file's own control sequences and glyphs that
 * `glyph.ts` let through. A frame that is not asked for costs nothing and loses nothing: the next one is compared
 * with what was really sent, so a caller with a slow terminal skips frames and never queues them.
 */

import { CellBuffer, TAIL } from "./cells.ts";
import { cellWidth } from "./glyph.ts";
import { PLAIN, type StyleTable } from "./style.ts";

const SPACE = 0x20;
/** Matches no code point, so that every cell differs. */
const UNKNOWN = 0xffffffff;
/** Re-sending this many unchanged cells is no longer than a cursor movement. */
const SHORT_GAP = 4;
/** Blank cells at the end of a row which are worth an "erase to end of line". */
const ERASE_FROM = 4;

const ascii = (text: string): Uint8Array => new TextEncoder().encode(text);
const BEGIN = ascii("\x1b[?2026h\x1b[?25l");
const END = ascii("\x1b[?2026l");
const CLEAR = ascii("\x1b[m\x1b[H\x1b[2J");
const NEXT_LINE = ascii("\r\n");
const ERASE_LINE = ascii("\x1b[K");
const SHOW_CURSOR = ascii("\x1b[?25h");

/** Bytes being collected; grows, and is reused from frame to frame. */
class Output {
  #bytes = new Uint8Array(16384);
  length = 0;

  #reserve(n: number): void {
    if (this.length + n <= this.#bytes.length) return;
    const bigger = new Uint8Array(2 * (this.length + n));
    bigger.set(this.#bytes.subarray(0, this.length));
    this.#bytes = bigger;
  }

  raw(bytes: Uint8Array): void {
    this.#reserve(bytes.length);
    this.#bytes.set(bytes, this.length);
    this.length += bytes.length;
  }

  text(text: string): void {
    this.#reserve(text.length);
    for (let i = 0; i < text.length; i++) this.#bytes[this.length++] = text.charCodeAt(i);
  }

  /** One code point as UTF-8. */
  codePoint(cp: number): void {
    this.#reserve(4);
    const out = this.#bytes;
    if (cp < 0x80) {
      out[this.length++] = cp;
      return;
    }
    const more = cp < 0x800 ? 1 : cp < 0x10000 ? 2 : 3;
    out[this.length++] = 0xff00 >> (more + 1) & 0xff | cp >>> 6 * more;
    for (let i = more - 1; i >= 0; i--) out[this.length++] = 0x80 | cp >>> 6 * i & 0x3f;
  }

  take(): Uint8Array {
    const bytes = this.#bytes.slice(0, this.length);
    this.length = 0;
    return bytes;
  }
}

/**
 * Terminals agree on the width of these. After anything else the cursor is placed anew, so that a terminal of
 * another opinion spoils one cell and not the row.
 */
function widthIsSure(cp: number): boolean {
  return cp < 0x300 || (cp >= 0x2010 && cp < 0x2028) || (cp >= 0x2190 && cp < 0x2200) ||
    (cp >= 0x2400 && cp < 0x25fd) || (cp >= 0x2800 && cp < 0x2900) ||
    (cp >= 0x3041 && cp < 0x3097) || (cp >= 0x4e00 && cp < 0xa000) || (cp >= 0xac00 && cp < 0xd7a4);
}

/** Where the cursor is to be seen after a frame. */
export interface CursorPosition {
  readonly x: number;
  readonly y: number;
}

/** The terminal's screen: a buffer to draw into, and the way from the last frame to this one. */
export class Screen {
  readonly styles: StyleTable;
  /** What the next frame shows. Draw here. */
  readonly back: CellBuffer;
  readonly #front: CellBuffer;
  readonly #out = new Output();
  #redraw = true;
  #style = PLAIN;
  // -1: the terminal's cursor could be anywhere.
  #x = -1;
  #y = -1;
  #cursor: CursorPosition | undefined;

  constructor(styles: StyleTable, width: number, height: number) {
    this.styles = styles;
    this.back = new CellBuffer(width, height);
    this.#front = new CellBuffer(width, height);
  }

  /** Takes the terminal's new size; the buffer is blank and the next frame draws everything. */
  resize(width: number, height: number): void {
    this.back.resize(width, height);
    this.#front.resize(width, height);
    this.invalidate();
  }

  /** Makes the next frame draw everything: the terminal may show anything now. */
  invalidate(): void {
    this.#redraw = true;
  }

  /**
   * The bytes that make the terminal show `back`, with the cursor hidden or at `cursor`; empty when it already does.
   * The caller must send them all, in order, or call `invalidate`.
   */
  frame(cursor?: CursorPosition): Uint8Array {
    const out = this.#out;
    this.#x = this.#y = -1;
    out.raw(BEGIN);
    if (this.#redraw) this.#clear();
    const before = out.length;
    for (let y = 0; y < this.back.height; y++) this.#row(y);
    const moved = cursor?.x !== this.#cursor?.x || cursor?.y !== this.#cursor?.y;
    if (out.length === before && !moved && !this.#redraw) {
      out.length = 0;
      return new Uint8Array(0);
    }
    this.#finish(cursor);
    return out.take();
  }

  #clear(): void {
    this.#out.raw(CLEAR);
    this.#style = PLAIN;
    this.#x = this.#y = 0;
    this.#front.clear();
  }

  #finish(cursor: CursorPosition | undefined): void {
    // Some terminals paint what a resize uncovers in the current background.
    this.#setStyle(PLAIN);
    if (cursor !== undefined) {
      this.#moveTo(cursor.x, cursor.y);
      this.#out.raw(SHOW_CURSOR);
    }
    this.#out.raw(END);
    this.#cursor = cursor;
    this.#redraw = false;
  }

  #differs(at: number): boolean {
    const code = this.back.code[at];
    if (code !== this.#front.code[at]) return true;
    return code !== TAIL && this.back.style[at] !== this.#front.style[at];
  }

  #row(y: number): void {
    const { width, code, style } = this.back;
    const start = y * width;
    let end = start + width;
    while (end > start && code[end - 1] === SPACE && style[end - 1] === PLAIN) end--;
    for (let at = start; at < end; at++) {
      if (this.#differs(at)) at = this.#emit(at, start, y);
    }
    this.#blankEnd(start, end, y);
  }

  /** Sends the cell at `at`; returns the last index it covered. */
  #emit(at: number, start: number, y: number): number {
    const { code, style } = this.back;
    // Never a right half: it changes only together with the left one, which covers it.
    const cp = code[at] ?? SPACE;
    this.#moveTo(at - start, y);
    this.#setStyle(style[at] ?? PLAIN);
    const cells = cellWidth(cp);
    if (cells === 2 && !widthIsSure(cp)) this.#coverWide();
    this.#out.codePoint(cp);
    this.#x += cells;
    // After the last column a terminal may have wrapped already, or not yet.
    if (this.#x >= this.back.width || !widthIsSure(cp)) this.#x = this.#y = -1;
    for (let i = at; i < at + cells; i++) this.#sent(i);
    return at + cells - 1;
  }

  /** A terminal that gives the glyph one cell only must not leave the old content in the other. */
  #coverWide(): void {
    const { x, y } = { x: this.#x, y: this.#y };
    this.#out.text("  ");
    this.#x = this.#y = -1;
    this.#moveTo(x, y);
  }

  #sent(at: number): void {
    this.#front.code[at] = this.back.code[at] ?? SPACE;
    this.#front.style[at] = this.back.style[at] ?? PLAIN;
  }

  #blankEnd(start: number, end: number, y: number): void {
    const stop = start + this.back.width;
    let at = end;
    while (at < stop && !this.#differs(at)) at++;
    if (at === stop) return;
    if (stop - at < ERASE_FROM) {
      for (; at < stop; at++) if (this.#differs(at)) this.#emit(at, start, y);
      return;
    }
    this.#moveTo(at - start, y);
    this.#setStyle(PLAIN);
    this.#out.raw(ERASE_LINE);
    for (; at < stop; at++) this.#sent(at);
  }

  #setStyle(style: number): void {
    if (style === this.#style) return;
    this.#out.raw(this.styles.transition(this.#style, style));
    this.#style = style;
  }

  #moveTo(x: number, y: number): void {
    if (this.#x === x && this.#y === y) return;
    if (this.#x < 0 || this.#y !== y || x < this.#x) this.#jump(x, y);
    else if (!this.#walk(x)) this.#out.text(`\x1b[${x - this.#x > 1 ? x - this.#x : ""}C`);
    this.#x = x;
    this.#y = y;
  }

  #jump(x: number, y: number): void {
    if (x === 0 && this.#y >= 0 && y === this.#y + 1) this.#out.raw(NEXT_LINE);
    else this.#out.text(`\x1b[${y + 1}${x > 0 ? ";" + (x + 1) : ""}H`);
  }

  /** Moves right by sending what is there already, when that is the shorter way. */
  #walk(x: number): boolean {
    const row = this.#y * this.back.width;
    if (x - this.#x > SHORT_GAP) return false;
    for (let at = row + this.#x; at < row + x; at++) {
      const cp = this.#front.code[at] ?? UNKNOWN;
      if (cp < SPACE || cp > 0x7e || this.#front.style[at] !== this.#style) return false;
    }
    for (let at = row + this.#x; at < row + x; at++) {
      this.#out.codePoint(this.#front.code[at] ?? SPACE);
    }
    return true;
  }
}
