/** What each control character and sequence does: tables over the few things a terminal can do. */

/** What a control sequence may do. Rows and columns count from 0. */
export interface VtOps {
  columns(): number;
  rows(): number;
  x(): number;
  y(): number;
  /** First and last row of the scroll region. */
  region(): { readonly top: number; readonly bottom: number };
  setRegion(top: number, bottom: number): void;
  /** To a place of the screen. */
  moveTo(x: number, y: number): void;
  /** To a place as CUP gives it: from the scroll region's first row in origin mode. */
  place(x: number, y: number): void;
  lineFeed(): void;
  reverseFeed(): void;
  erase(y: number, from: number, to: number): void;
  /** Moves the rest of the cursor's row. */
  shift(count: number): void;
  /** Scrolls the region up, or down when `count` is negative. */
  scroll(count: number): void;
  /** Puts blank rows in at the cursor's within the region, or takes rows out when `count` is negative. */
  insertRows(count: number): void;
  save(): void;
  restore(): void;
  /** RIS, or DECSTR when `soft`. */
  reset(soft: boolean): void;
  setMode(name: VtMode, on: boolean): void;
  alternate(on: boolean): void;
  /** G0 or G1 (`slot` 0 or 1) has line drawing characters, and which of the two is in use. */
  designate(slot: number, drawing: boolean): void;
  shiftTo(slot: number): void;
  repeat(count: number): void;
  reply(text: string): void;
  /** The cursor's row as an answer has it: from the region's first in origin mode. */
  reportedY(): number;
}

/** Modes that are on or off. */
export type VtMode = "insert" | "applicationCursor" | "origin" | "autowrap" | "bracketedPaste";

const nextTab = (t: VtOps): number => Math.min(t.columns() - 1, (t.x() >> 3) + 1 << 3);
const lineFeed = (t: VtOps): void => t.lineFeed();

/** At the last column a tab moves nothing, a wrap that is due included. */
function tab(t: VtOps): void {
  if (t.x() < t.columns() - 1) t.moveTo(nextTab(t), t.y());
}

export const CONTROLS: ReadonlyMap<number, (t: VtOps) => void> = new Map([
  [0x08, (t: VtOps) => t.moveTo(t.x() - 1, t.y())],
  [0x09, tab],
  [0x0a, lineFeed],
  [0x0b, lineFeed],
  [0x0c, lineFeed],
  [0x0d, (t: VtOps) => t.moveTo(0, t.y())],
  [0x0e, (t: VtOps) => t.shiftTo(1)],
  [0x0f, (t: VtOps) => t.shiftTo(0)],
]);

/** "VT100 with advanced video option". */
const DEVICE_ATTRIBUTES = "\x1b[?1;2c";

/** By intermediates and final character. */
export const ESCAPES: ReadonlyMap<string, (t: VtOps) => void> = new Map([
  ["7", (t: VtOps) => t.save()],
  ["8", (t: VtOps) => t.restore()],
  ["D", lineFeed],
  ["E", (t: VtOps) => {
    t.moveTo(0, t.y());
    t.lineFeed();
  }],
  ["M", (t: VtOps) => t.reverseFeed()],
  ["Z", (t: VtOps) => t.reply(DEVICE_ATTRIBUTES)],
  ["c", (t: VtOps) => t.reset(false)],
  ["(0", (t: VtOps) => t.designate(0, true)],
  ["(B", (t: VtOps) => t.designate(0, false)],
  [")0", (t: VtOps) => t.designate(1, true)],
  [")B", (t: VtOps) => t.designate(1, false)],
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

/** Up or down by `by`, not over a margin of the scroll region. */
function vertical(t: VtOps, by: number, x = t.x()): void {
  const { top, bottom } = t.region();
  const y = t.y();
  const least = y >= top ? top : 0;
  const most = y <= bottom ? bottom : t.rows() - 1;
  t.moveTo(x, Math.max(least, Math.min(most, y + by)));
}

function setRegion(t: VtOps, [from = 1, to = 0]: readonly number[]): void {
  const top = Math.max(1, from) - 1;
  const bottom = (to === 0 || to > t.rows() ? t.rows() : to) - 1;
  if (bottom <= top) return;
  t.setRegion(top, bottom);
  t.place(0, 0);
}

function tabs(t: VtOps, by: number): void {
  const stop = (t.x() >> 3) + by;
  const back = by < 0 && t.x() % 8 !== 0 ? 1 : 0;
  t.moveTo(Math.max(0, Math.min(t.columns() - 1, (stop + back) << 3)), t.y());
}

function status(t: VtOps, [what = 0]: readonly number[]): void {
  if (what === 5) t.reply("\x1b[0n");
  if (what === 6) t.reply(`\x1b[${t.reportedY() + 1};${t.x() + 1}R`);
}

/** By prefix and final character. */
export const CSI: ReadonlyMap<string, CsiAction> = new Map<string, CsiAction>([
  ["A", (t, p) => vertical(t, -count(p))],
  ["B", (t, p) => vertical(t, count(p))],
  ["e", (t, p) => t.moveTo(t.x(), t.y() + count(p))],
  ["C", (t, p) => t.moveTo(t.x() + count(p), t.y())],
  ["a", (t, p) => t.moveTo(t.x() + count(p), t.y())],
  ["D", (t, p) => t.moveTo(t.x() - count(p), t.y())],
  ["E", (t, p) => vertical(t, count(p), 0)],
  ["F", (t, p) => vertical(t, -count(p), 0)],
  ["G", (t, p) => t.moveTo(count(p) - 1, t.y())],
  ["`", (t, p) => t.moveTo(count(p) - 1, t.y())],
  ["H", (t, p) => t.place(count(p, 1) - 1, count(p) - 1)],
  ["f", (t, p) => t.place(count(p, 1) - 1, count(p) - 1)],
  ["d", (t, p) => t.place(t.x(), count(p) - 1)],
  ["I", (t, p) => tabs(t, count(p))],
  ["Z", (t, p) => tabs(t, -count(p))],
  ["J", eraseScreen],
  ["K", eraseLine],
  ["X", (t, p) => t.erase(t.y(), t.x(), Math.min(t.columns(), t.x() + count(p)))],
  ["@", (t, p) => t.shift(count(p))],
  ["P", (t, p) => t.shift(-count(p))],
  ["L", (t, p) => t.insertRows(count(p))],
  ["M", (t, p) => t.insertRows(-count(p))],
  ["S", (t, p) => t.scroll(count(p))],
  ["T", (t, p) => t.scroll(-count(p))],
  ["b", (t, p) => t.repeat(count(p))],
  ["r", setRegion],
  ["s", (t) => t.save()],
  ["u", (t) => t.restore()],
  ["h", (t, p) => p.forEach((mode) => mode === 4 && t.setMode("insert", true))],
  ["l", (t, p) => p.forEach((mode) => mode === 4 && t.setMode("insert", false))],
  ["?h", (t, p) => p.forEach((mode) => privateMode(t, mode, true))],
  ["?l", (t, p) => p.forEach((mode) => privateMode(t, mode, false))],
  ["!p", (t) => t.reset(true)],
  ["n", status],
  ["c", (t, [what = 0]) => what === 0 && t.reply(DEVICE_ATTRIBUTES)],
  ["t", (t, [what]) => what === 18 && t.reply(`\x1b[8;${t.rows()};${t.columns()}t`)],
]);

const PRIVATE_MODES: ReadonlyMap<number, VtMode> = new Map<number, VtMode>([
  [1, "applicationCursor"],
  [6, "origin"],
  [7, "autowrap"],
  [2004, "bracketedPaste"],
]);

function privateMode(t: VtOps, mode: number, on: boolean): void {
  const name = PRIVATE_MODES.get(mode);
  if (name !== undefined) t.setMode(name, on);
  if (name === "origin") t.place(0, 0);
  if (mode === 47 || mode === 1047) t.alternate(on);
  if (mode === 1048) on ? t.save() : t.restore();
  if (mode !== 1049) return;
  if (on) t.save();
  t.alternate(on);
  if (!on) t.restore();
}
