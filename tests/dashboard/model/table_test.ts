import assert from "node:assert/strict";
import {
  arrange,
  type Column,
  columnsThatFit,
  LIST_STATE,
  makeTable,
  matches,
  scrollTo,
  selectedIndex,
  selectedKey,
} from "../../../src/dashboard/model/table.ts";

interface Row {
  readonly name: string;
  readonly value: number;
}
const rows: Row[] = [
  { name: "b", value: 10 },
  { name: "a", value: 9 },
  { name: "c", value: 10 },
];
const column = (id: "name" | "value", width: number, drop: number): Column<Row> => ({
  id,
  title: id,
  width,
  align: "left",
  drop,
  cell: (row) => ({ text: String(row[id]), role: "text" }),
  ...(id === "value" ? { sort: (row: Row) => row.value } : {}),
});
const columns = [column("name", 4, 0), column("value", 6, 1)];
const table = makeTable(columns, rows, (r) => r.name);
const names = (order: readonly number[]): string => order.map((i) => table.key(i)).join("");

Deno.test("sorting: numbers by value, equal rows as they came, both ways", () => {
  assert.equal(names(arrange(table, LIST_STATE)), "bac");
  assert.equal(names(arrange(table, { ...LIST_STATE, sort: "name" })), "abc");
  assert.equal(names(arrange(table, { ...LIST_STATE, sort: "value" })), "abc");
  assert.equal(names(arrange(table, { ...LIST_STATE, sort: "value", descending: true })), "bca");
});

Deno.test("a filter wants every word, in any case, and not those with a !", () => {
  assert.ok(matches("irq 40", "SPI 40 IRQ"));
  assert.ok(!matches("irq 41", "SPI 40 IRQ"));
  assert.ok(matches("!ppi spi", "SPI 40"));
  assert.ok(!matches("!spi", "SPI 40"));
  assert.ok(matches("!", "anything"));
  assert.equal(names(arrange(table, { ...LIST_STATE, filter: "10" })), "bc");
});

Deno.test("a filter does not look at what is measured: rows would come and go with it", () => {
  const [name, value] = [column("name", 4, 0), column("value", 6, 1)];
  const measured = makeTable([name, { ...value, measured: true }], rows, (r) => r.name);
  assert.equal(names(arrange(measured, { ...LIST_STATE, filter: "10" })), "");
  assert.equal(names(arrange(measured, { ...LIST_STATE, filter: "c" })), "c");
});

Deno.test("the selection is a key: it stays with its row, and near its place when the row goes", () => {
  const state = { ...LIST_STATE, selected: "c", index: 2 };
  for (const sort of [undefined, "name", "value"]) {
    assert.equal(selectedKey(table, { ...state, sort }), "c");
  }
  const fewer = makeTable(columns, rows.slice(0, 2), (r) => r.name);
  const order = arrange(fewer, state);
  assert.equal(selectedIndex(fewer, order, state), 1);
  assert.equal(selectedIndex(fewer, [], state), -1);
});

Deno.test("scrolling shows the row and no empty space", () => {
  assert.equal(scrollTo(0, 5, 3, 10), 3);
  assert.equal(scrollTo(8, 5, 3, 10), 5);
  assert.equal(scrollTo(4, 5, 3, 10), 4);
  assert.equal(scrollTo(9, 9, 3, 10), 7);
  assert.equal(scrollTo(5, 0, 30, 10), 0);
});

Deno.test("columns are dropped, the least important first; the essential ones stay", () => {
  assert.deepEqual(columnsThatFit(columns, 11, 0), [0, 1]);
  assert.deepEqual(columnsThatFit(columns, 10, 0), [0]);
  assert.deepEqual(columnsThatFit(columns, 1, 0), [0]);
  assert.deepEqual(columnsThatFit(columns, 80, 1), [0]);
});
