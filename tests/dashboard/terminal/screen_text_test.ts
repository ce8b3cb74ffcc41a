import assert from "node:assert/strict";
import { CellBuffer } from "../../../src/dashboard/terminal/cells.ts";
import {
  rowRuns,
  toStyledText,
  toSvg,
  toText,
} from "../../../src/dashboard/terminal/screen_text.ts";
import { StyleTable } from "../../../src/dashboard/terminal/style.ts";
import { themeByName } from "../../../src/dashboard/terminal/theme.ts";

function sample(): { cells: CellBuffer; styles: StyleTable } {
  const styles = new StyleTable("16");
  const warn = styles.intern({ bold: true, fg: { rgb: 0xffc857, ansi: 11 }, reverse: true });
  const cells = new CellBuffer(12, 2);
  cells.pane().put(0, 0, "a<b & 漢");
  cells.pane().put(2, 1, "warn", warn);
  return { cells, styles };
}

Deno.test("text and styled text", () => {
  const { cells } = sample();
  assert.equal(toText(cells), "a<b & 漢\n  warn\n");
  assert.equal(toStyledText(cells), "a<b & 漢\n  {1:warn}\n");
});

Deno.test("runs cover every cell once", () => {
  const { cells } = sample();
  for (const y of [0, 1]) {
    let x = 0;
    for (const run of rowRuns(cells, y)) {
      assert.equal(run.x, x);
      x += run.width;
    }
    assert.equal(x, cells.width);
  }
});

Deno.test("SVG escapes text and shows reverse as a filled ground", () => {
  const { cells, styles } = sample();
  const theme = themeByName("dark");
  assert.ok(theme);
  const svg = toSvg(cells, styles, theme);
  assert.match(svg, /^<svg [^>]*>\n[\s\S]*<\/svg>\n$/);
  assert.ok(svg.includes(">a&lt;b &amp; 漢"));
  assert.match(svg, /<rect x="16\.8" [^>]*fill="#ffc857"\/><text [^>]*fill="#14171c"[^>]*>warn</);
  assert.equal(svg.match(/<text /g)?.length, svg.match(/<\/text>/g)?.length);
});
