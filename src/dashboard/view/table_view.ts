/** A table in a panel: column heads, rows, the selection, and where one is in it. */
import type { Hit } from "../model/step.ts";
import { PANEL_TITLES, type PanelId, PANELS, type TablePanelId } from "../model/panels.ts";
import {
  arrange,
  columnsThatFit,
  type ListState,
  scrollTo,
  selectedIndex,
  type Table,
} from "../model/table.ts";
import type { Pane, Rect } from "../terminal/cells.ts";
import { fit, pad, textWidth } from "../terminal/glyph.ts";
import { borderOf, type Look, symbols } from "./look.ts";

/** A place of the screen and what a click there means. */
export interface HitArea {
  readonly rect: Rect;
  readonly hit: Hit;
}

/** The frame of a panel: digit and name on top, `note` beside it, `where` at the bottom right. */
export function drawFrame(
  pane: Pane,
  look: Look,
  panel: PanelId,
  focused: boolean,
  note: string,
  where: string,
): void {
  const { roles } = look;
  pane.fill();
  pane.box(focused ? roles.borderFocused : roles.border, borderOf(look, focused));
  const title = ` ${PANELS.indexOf(panel) + 1} ${PANEL_TITLES[panel]} `;
  const used = pane.put(
    2,
    0,
    fit(title, pane.width - 4),
    focused ? roles.titleFocused : roles.title,
  );
  const room = pane.width - 4 - used;
  if (note !== "" && room > 4) {
    pane.put(2 + used, 0, fit(` ${note} `, room, symbols(look).more), roles.keyLabel);
  }
  if (where !== "" && textWidth(where) + 4 < pane.width) {
    pane.putRight(pane.width - 2, pane.height - 1, ` ${where} `, roles.keyLabel);
  }
}

/** The widths of the columns shown; what is left over goes to the one that grows. */
function widths(table: Table, shown: readonly number[], width: number): number[] {
  const of = shown.map((i) => table.columns[i]?.width ?? 0);
  const spare = width - of.reduce((a, b) => a + b + 1, -1);
  const grower = shown.findIndex((i) => table.columns[i]?.grow === true);
  if (grower >= 0 && spare > 0) of[grower] = (of[grower] ?? 0) + Math.min(spare, 24);
  return of;
}

function place(
  list: ListState,
  table: Table,
  look: Look,
  top: number,
  page: number,
  count: number,
): string {
  const { up, down } = symbols(look);
  const column = table.columns.find((c) => c.id === list.sort);
  const sort = column === undefined ? "" : `${column.title} ${list.descending ? down : up}`;
  const last = Math.min(count, top + page);
  const range = count > page ? `${top + 1}-${last}/${count}` : "";
  return sort === "" || range === "" ? sort + range : `${sort} ${range}`;
}

/** Draws a table panel and says what can be clicked. */
export function drawTable(
  pane: Pane,
  look: Look,
  panel: TablePanelId,
  table: Table,
  list: ListState,
  focused: boolean,
): HitArea[] {
  const order = arrange(table, list);
  const page = Math.max(0, pane.height - 3);
  const selected = selectedIndex(table, order, list);
  const top = list.follow
    ? scrollTo(list.top, Math.max(0, selected), page, order.length)
    : Math.max(0, Math.min(list.top, order.length - page));
  const note = list.filter === "" ? "" : `/${list.filter} ${order.length} of ${table.count}`;
  drawFrame(pane, look, panel, focused, note, place(list, table, look, top, page, order.length));
  const inner = pane.inner();
  const shown = columnsThatFit(table.columns, inner.width, list.scroll);
  const wide = widths(table, shown, inner.width);
  const hits = drawHeads(inner, look, panel, table, list, shown, wide);
  for (let y = 0; y < page && top + y < order.length; y++) {
    const row = order[top + y] as number;
    drawRow(inner, look, table, row, y + 1, shown, wide);
    const place = { x: 0, y: y + 1, width: inner.width, height: 1 };
    if (top + y === selected) {
      inner.restyle(place, focused ? look.roles.selected : look.roles.strong);
    }
    hits.push(area(inner, place, { panel, part: "row", index: top + y }));
  }
  if (order.length === 0) {
    const text = table.count === 0 ? "Nothing here yet." : "No row matches the filter.";
    inner.put(1, 1, text, look.roles.dim);
  }
  return hits;
}

function area(pane: Pane, rect: Rect, hit: Hit): HitArea {
  const moved = { ...rect, x: pane.rect.x + rect.x, y: pane.rect.y + rect.y };
  return { rect: moved, hit };
}

function drawHeads(
  inner: Pane,
  look: Look,
  panel: TablePanelId,
  table: Table,
  list: ListState,
  shown: readonly number[],
  wide: readonly number[],
): HitArea[] {
  let x = 0;
  return shown.map((i, n) => {
    const column = table.columns[i];
    const width = wide[n] ?? 0;
    const sorted = column !== undefined && column.id === list.sort;
    const style = sorted ? look.roles.columnHeadSorted : look.roles.columnHead;
    inner.put(x, 0, pad(column?.title ?? "", width, column?.align), style);
    const rect = { x, y: 0, width: width + 1, height: 1 };
    x += width + 1;
    return area(inner, rect, { panel, part: "head", column: column?.id ?? "" });
  });
}

/** A symbol is cut in its name: the offset is a number, and numbers are whole. */
function cut(text: string, width: number, mark: string): string {
  const offset = /\+0x[0-9a-f]+$/.exec(text)?.[0] ?? "";
  if (offset === "" || textWidth(text) <= width || offset.length + 2 > width) {
    return fit(text, width, mark);
  }
  return fit(text.slice(0, -offset.length), width - offset.length, mark) + offset;
}

function drawRow(
  inner: Pane,
  look: Look,
  table: Table,
  row: number,
  y: number,
  shown: readonly number[],
  wide: readonly number[],
): void {
  let x = 0;
  shown.forEach((i, n) => {
    const cell = table.cell(row, i);
    const width = wide[n] ?? 0;
    const text = cut(cell.text, width, symbols(look).more);
    inner.put(x, y, pad(text, width, table.columns[i]?.align), look.roles[cell.role]);
    x += width + 1;
  });
}
