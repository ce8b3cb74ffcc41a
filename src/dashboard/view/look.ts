/** What views are drawn with: role styles, borders, marks and graphs, in Unicode or ASCII. */
import { BORDERS, type BorderSet } from "../terminal/cells.ts";
import { MARKS, type RoleIds } from "../terminal/theme.ts";

/** The look of one frame. */
export interface Look {
  readonly roles: RoleIds;
  readonly ascii: boolean;
}

/** The border of a panel; the focused one differs by its lines and not only by colour. */
export function borderOf(look: Look, focused: boolean): BorderSet {
  if (look.ascii) return focused ? BORDERS.asciiHeavy : BORDERS.ascii;
  return focused ? BORDERS.heavy : BORDERS.light;
}

/** The mark of a state. */
export function markOf(look: Look, mark: keyof typeof MARKS): string {
  return MARKS[mark][look.ascii ? "ascii" : "unicode"];
}

/** Ellipsis, arrows and separators. */
export function symbols(look: Look): {
  readonly up: string;
  readonly down: string;
  readonly dot: string;
  readonly more: string;
} {
  return look.ascii
    ? { up: "^", down: "v", dot: "|", more: "~" }
    : { up: "▲", down: "▼", dot: "·", more: "…" };
}

const ASCII_LEVELS = " ._-=+*#";
/** Dots of a braille cell from the bottom up, left column then right (Unicode 15, Braille Patterns). */
const LEFT_DOTS = [0, 0x40, 0x44, 0x46, 0x47];
const RIGHT_DOTS = [0, 0x80, 0xa0, 0xb0, 0xb8];

/** The last values as a graph of `width` cells, its top the highest of them: two values a cell in braille. */
export function sparkline(values: readonly number[], width: number, ascii: boolean): string {
  const each = ascii ? 1 : 2;
  const shown = values.slice(-width * each);
  const most = Math.max(...shown, 0);
  if (most === 0) return " ".repeat(width);
  const padded = [...Array<number>(width * each - shown.length).fill(0), ...shown];
  // What is not zero shows at least one dot.
  const level = (v: number, top: number): number =>
    v <= 0 ? 0 : Math.max(1, Math.round(v / most * top));
  const cell = (i: number): string => {
    if (ascii) return ASCII_LEVELS[level(padded[i] ?? 0, 7)] ?? " ";
    const left = LEFT_DOTS[level(padded[2 * i] ?? 0, 4)] ?? 0;
    const right = RIGHT_DOTS[level(padded[2 * i + 1] ?? 0, 4)] ?? 0;
    return left + right === 0 ? " " : String.fromCodePoint(0x2800 + left + right);
  };
  return Array.from({ length: width }, (_, i) => cell(i)).join("");
}
