import assert from "node:assert/strict";
import { BORDERS, CellBuffer, TAIL } from "../../../src/dashboard/terminal/cells.ts";
import { toText } from "../../../src/dashboard/terminal/screen_text.ts";

Deno.test("text is clipped to its pane on every side", () => {
  const cells = new CellBuffer(10, 3);
  const pane = cells.pane().sub({ x: 2, y: 1, width: 5, height: 1 });
  assert.equal(pane.put(-2, 0, "abcdefghij"), 10);
  pane.put(0, 1, "below");
  pane.put(0, -1, "above");
  assert.equal(toText(cells), "\n  cdefg\n\n");
});

Deno.test("a pane inside a pane is clipped by both", () => {
  const cells = new CellBuffer(10, 4);
  const outer = cells.pane().sub({ x: 1, y: 1, width: 4, height: 2 });
  outer.sub({ x: 2, y: 0, width: 6, height: 9 }).fill(0, "#");
  assert.equal(toText(cells), "\n   ##\n   ##\n\n");
});

Deno.test("half a wide character is never left", () => {
  const cells = new CellBuffer(6, 1);
  const pane = cells.pane();
  pane.put(0, 0, "漢字a");
  assert.equal(cells.code[1], TAIL);
  pane.put(1, 0, "x");
  assert.equal(toText(cells), " x字a\n");
  pane.put(2, 0, "y");
  assert.equal(toText(cells), " xy a\n");
  pane.put(1, 0, "漢");
  assert.equal(toText(cells), " 漢 a\n");
});

Deno.test("a wide character that does not fit is a blank", () => {
  const cells = new CellBuffer(4, 1);
  const pane = cells.pane().sub({ x: 1, y: 0, width: 2, height: 1 });
  pane.put(0, 0, "a漢");
  assert.equal(toText(cells), " a\n");
  pane.put(-1, 0, "漢b");
  assert.equal(toText(cells), "  b\n");
});

Deno.test("boxes, ASCII too", () => {
  const cells = new CellBuffer(8, 3);
  cells.pane().sub({ x: 0, y: 0, width: 4, height: 3 }).box();
  cells.pane().sub({ x: 4, y: 0, width: 4, height: 3 }).box(0, BORDERS.ascii);
  assert.equal(toText(cells), "┌──┐+--+\n│  │|  |\n└──┘+--+\n");
});

Deno.test("right-aligned text ends before the column", () => {
  const cells = new CellBuffer(8, 1);
  cells.pane().putRight(8, 0, "42");
  assert.equal(toText(cells), "      42\n");
});

Deno.test("an empty buffer takes any drawing", () => {
  const cells = new CellBuffer(0, 0);
  const pane = cells.pane();
  pane.box();
  pane.inner().put(0, 0, "x");
  pane.fill();
  assert.equal(cells.code.length, 0);
});
