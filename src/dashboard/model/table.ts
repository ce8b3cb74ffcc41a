/** Tables: columns as data, rows that sort and filter, a selection that is a key and not a position. */
import type { Role } from "../terminal/theme.ts";

/** What stands in one place of a table. */
export interface Cell {
  readonly text: string;
  readonly role: Role;
}

/** A column over rows of type `R`. */
export interface Column<R> {
  readonly id: string;
  readonly title: string;
  /** Cells it takes; wide enough for every number it can hold. */
  readonly width: number;
  readonly align: "left" | "right";
  /** When space is short the highest goes first; 0 always stays. */
  readonly drop: number;
  /** Takes the space that is left over. */
  readonly grow?: boolean;
  /** A count, a rate, a time: what a filter does not look at, since rows would come and go with it. */
  readonly measured?: boolean;
  cell(row: R): Cell;
  /** What it sorts by; undefined sorts by the text. */
  sort?(row: R): number | string;
}

/** A column without its rows. */
export type ColumnHead = Pick<
  Column<never>,
  "id" | "title" | "width" | "align" | "drop" | "grow" | "measured"
>;

/** A table whose row type is no longer known. Cells are made when asked for: only what is on screen is paid for. */
export interface Table {
  readonly columns: readonly ColumnHead[];
  readonly count: number;
  key(row: number): string;
  cell(row: number, column: number): Cell;
  sortKey(row: number, column: number): number | string;
}

/** A table over rows. */
export function makeTable<R>(
  columns: readonly Column<R>[],
  rows: readonly R[],
  key: (row: R) => string,
): Table {
  const at = (row: number): R => rows[row] as R;
  const column = (i: number): Column<R> => columns[i] as Column<R>;
  return {
    columns,
    count: rows.length,
    key: (row) => key(at(row)),
    cell: (row, i) => column(i).cell(at(row)),
    sortKey: (row, i) => column(i).sort?.(at(row)) ?? column(i).cell(at(row)).text,
  };
}

/** How a panel with rows is looked at. */
export interface ListState {
  /** Key of the selected row; undefined: the first. */
  readonly selected: string | undefined;
  /** Where the selection was, for when its row is gone. */
  readonly index: number;
  /** First row shown. */
  readonly top: number;
  /** Column sorted by; undefined: as the machine lists them. */
  readonly sort: string | undefined;
  readonly descending: boolean;
  readonly filter: string;
  /** The selected row is kept in sight when it moves. */
  readonly follow: boolean;
  /** First droppable column shown. */
  readonly scroll: number;
}

export const LIST_STATE: ListState = {
  selected: undefined,
  index: 0,
  top: 0,
  sort: undefined,
  descending: false,
  filter: "",
  follow: true,
  scroll: 0,
};

/** What a row's columns say of what it is, for filtering. */
export function rowText(table: Table, row: number): string {
  return table.columns.flatMap((c, i) => c.measured ? [] : [table.cell(row, i).text]).join(" ");
}

/** Whether every word of a filter is in the text, upper and lower case alike; `!word` must not be. */
export function matches(filter: string, text: string): boolean {
  const lower = text.toLowerCase();
  return filter.toLowerCase().split(/\s+/).filter((w) => w !== "" && w !== "!").every((word) =>
    word.startsWith("!") ? !lower.includes(word.slice(1)) : lower.includes(word)
  );
}

function compare(a: number | string, b: number | string): number {
  if (typeof a === "number" && typeof b === "number") return a - b;
  return String(a).localeCompare(String(b));
}

/** The rows to show, in order: row numbers of the table. Rows that compare equal keep the machine's order. */
export function arrange(table: Table, state: ListState): number[] {
  let order = Array.from({ length: table.count }, (_, i) => i);
  if (state.filter.trim() !== "") {
    order = order.filter((row) => matches(state.filter, rowText(table, row)));
  }
  const column = table.columns.findIndex((c) => c.id === state.sort);
  if (column < 0) return state.descending ? order.reverse() : order;
  const keyed = order.map((row) => ({ row, key: table.sortKey(row, column) }));
  const sign = state.descending ? -1 : 1;
  return keyed.sort((a, b) => sign * compare(a.key, b.key) || a.row - b.row).map((k) => k.row);
}

/** Position of the selected row in an order; where it was, when it is gone; -1 without rows. */
export function selectedIndex(table: Table, order: readonly number[], state: ListState): number {
  const found = order.findIndex((row) => table.key(row) === state.selected);
  return found >= 0 ? found : Math.min(Math.max(0, state.index), order.length - 1);
}

/** The key of the selected row, or undefined without rows. */
export function selectedKey(table: Table, state: ListState): string | undefined {
  const order = arrange(table, state);
  const row = order[selectedIndex(table, order, state)];
  return row === undefined ? undefined : table.key(row);
}

/** First row to show so that `index` is among `height` rows. */
export function scrollTo(top: number, index: number, height: number, count: number): number {
  const last = Math.max(0, count - height);
  const seen = index < top ? index : index >= top + height ? index - height + 1 : top;
  return Math.max(0, Math.min(last, seen));
}

/** The columns that fit into `width`, a gap of one cell between: as positions, in the table's order. */
export function columnsThatFit(
  columns: readonly ColumnHead[],
  width: number,
  scroll: number,
): number[] {
  const droppable = columns.map((c, i) => ({ c, i })).filter(({ c }) => c.drop > 0);
  const hidden = new Set(droppable.slice(0, scroll).map(({ i }) => i));
  const kept = columns.map((_, i) => i).filter((i) => !hidden.has(i));
  const total = (of: readonly number[]): number =>
    of.reduce((sum, i) => sum + (columns[i]?.width ?? 0) + 1, -1);
  while (total(kept) > width) {
    const worst = kept.reduce(
      (best, i) => (columns[i]?.drop ?? 0) >= (columns[best]?.drop ?? 0) ? i : best,
      kept[0] ?? 0,
    );
    if ((columns[worst]?.drop ?? 0) === 0) break;
    kept.splice(kept.indexOf(worst), 1);
  }
  return kept;
}
