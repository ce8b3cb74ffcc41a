/** A real terminal's idea of the screen, for comparing with ours. */

import xterm from "@xterm/headless";
import { type CellBuffer, TAIL } from "../../../src/dashboard/terminal/cells.ts";
import type { StyleTable } from "../../../src/dashboard/terminal/style.ts";

/** A terminal of xterm.js without a display. */
export class XtermScreen {
  readonly #terminal: InstanceType<typeof xterm.Terminal>;
  /** Everything the terminal answered to the program; a renderer must cause none. */
  answers = "";
  titles: string[] = [];

  constructor(columns: number, rows: number) {
    this.#terminal = new xterm.Terminal({ cols: columns, rows, allowProposedApi: true });
    this.#terminal.onData((data) => void (this.answers += data));
    this.#terminal.onTitleChange((title) => void this.titles.push(title));
  }

  write(bytes: Uint8Array | string): Promise<void> {
    return new Promise((done) => this.#terminal.write(bytes, done));
  }

  resize(columns: number, rows: number): void {
    this.#terminal.resize(columns, rows);
  }

  get synchronized(): boolean {
    return this.#terminal.modes.synchronizedOutputMode;
  }

  get alternate(): boolean {
    return this.#terminal.buffer.active.type === "alternate";
  }

  get modes(): InstanceType<typeof xterm.Terminal>["modes"] {
    return this.#terminal.modes;
  }

  get cursor(): { x: number; y: number } {
    const { cursorX: x, cursorY: y } = this.#terminal.buffer.active;
    return { x, y };
  }

  /** The rows of the screen as text. */
  text(): string[] {
    const buffer = this.#terminal.buffer.active;
    const row = (y: number): string =>
      buffer.getLine(buffer.baseY + y)?.translateToString(true).trimEnd() ?? "";
    return Array.from({ length: this.#terminal.rows }, (_, y) => row(y));
  }

  /** The attributes of a cell by name, in a fixed order; empty for a plain one. */
  attributes(x: number, y: number): string {
    const buffer = this.#terminal.buffer.active;
    const cell = buffer.getLine(buffer.baseY + y)?.getCell(x);
    const flags = { bold: cell?.isBold(), dim: cell?.isDim(), underline: cell?.isUnderline() };
    const named = { ...flags, reverse: cell?.isInverse() };
    return Object.entries(named).flatMap(([name, on]) => on ? [name] : []).join(" ");
  }

  dispose(): void {
    this.#terminal.dispose();
  }

  /** What differs from `cells`, at most a few lines; empty when every cell is equal in glyph and style. */
  differences(cells: CellBuffer, styles: StyleTable): string[] {
    const found: string[] = [];
    for (let y = 0; y < cells.height; y++) {
      for (let x = 0; x < cells.width && found.length < 5; x++) {
        const want = wanted(cells, styles, x, y);
        const got = this.#cell(x, y);
        if (want !== got) found.push(`(${x},${y}) want ${want} got ${got}`);
      }
    }
    return found;
  }

  #cell(x: number, y: number): string {
    const buffer = this.#terminal.buffer.active;
    const cell = buffer.getLine(buffer.baseY + y)?.getCell(x);
    if (cell === undefined) return "nothing";
    if (cell.getWidth() === 0) return "tail";
    const colour = (rgb: boolean, palette: boolean, value: number): string =>
      rgb ? `#${value.toString(16)}` : palette ? `p${value}` : "default";
    return [
      cell.getChars() || " ",
      colour(cell.isFgRGB(), cell.isFgPalette(), cell.getFgColor()),
      colour(cell.isBgRGB(), cell.isBgPalette(), cell.getBgColor()),
      [cell.isBold(), cell.isDim(), cell.isUnderline(), cell.isInverse()].map((v) => v ? 1 : 0)
        .join(""),
    ].join(" ");
  }
}

function wanted(cells: CellBuffer, styles: StyleTable, x: number, y: number): string {
  const at = y * cells.width + x;
  const cp = cells.code[at] ?? TAIL;
  if (cp === TAIL) return "tail";
  const style = styles.style(cells.style[at] ?? 0);
  const colour = (c: { rgb: number; ansi: number } | undefined): string => {
    if (c === undefined || styles.depth === "none") return "default";
    if (styles.depth === "16") return `p${c.ansi}`;
    return `#${c.rgb.toString(16)}`;
  };
  const flags = [style.bold, style.dim, style.underline, style.reverse];
  return [
    String.fromCodePoint(cp),
    colour(style.fg),
    colour(style.bg),
    flags.map((v) => v ? 1 : 0).join(""),
  ].join(" ");
}
