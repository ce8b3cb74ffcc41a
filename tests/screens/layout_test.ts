import assert from "node:assert/strict";
import { layoutScreen } from "../../src/dashboard/view/layout.ts";
import { PANEL_TITLES, type PanelId, PANELS } from "../../src/dashboard/model/panels.ts";
import { type Session, start } from "./session.ts";

const title = (panel: PanelId): string => `${PANELS.indexOf(panel) + 1} ${PANEL_TITLES[panel]} `;

function visible(s: Session): PanelId[] {
  // The second row names the hidden ones.
  return PANELS.filter((p) => s.rows.slice(2).some((row) => row.includes(title(p))));
}

Deno.test("80x24: the three that matter most, and the numbers of the others", async () => {
  const s = await start({ columns: 80, rows: 24 });
  assert.deepEqual(visible(s), ["vcpus", "interrupts", "console"]);
  assert.match(s.rows[0] ?? "", /Worldswitch .* running .* s · fast x0\.50 · VHE GICv3/);
  assert.match(s.rows[1] ?? "", /MIPS +150 .*exits\/s +6000 .*3 4 5 7$/);
  assert.match(s.rows[23] ?? "", /m Migrate {2}e Explain .*total$/);
  await s.keys("5");
  assert.deepEqual(visible(s), ["vcpus", "interrupts", "worldSwitches"]);
  await s.keys("7");
  assert.deepEqual(visible(s), ["vcpus", "interrupts", "trace"]);
  s.close();
});

Deno.test("what the engine does stands at the end of the second row, where there is room", async () => {
  const s = await start({ columns: 200, rows: 60 });
  await s.pass();
  const figures = /wasm +80% +regions +321 +code +3\.0M of 16\.0M +TLB misses\/s +2[45]\d$/;
  assert.match(s.rows[1] ?? "", figures);
  await s.resize(80, 24);
  assert.match(s.rows[1] ?? "", /^ MIPS .* exits\/s .* fps .* dropped .* 3 4 5 7$/);
  await s.keys("?", ...Array<string>(12).fill("PgDn"));
  assert.match(s.text, /wasm +Share of the instructions that ran as translated/);
  s.close();
});

for (const [columns, rows] of [[120, 40], [200, 60], [240, 70]] as const) {
  Deno.test(`${columns}x${rows}: every panel, the whole screen used`, async () => {
    const s = await start({ columns, rows });
    assert.deepEqual(visible(s), [...PANELS]);
    for (const row of s.rows.slice(2, -1)) assert.equal(row.length, columns, row);
    s.close();
  });
}

Deno.test("wide screens show more columns, narrow ones drop columns and never cut a number", async () => {
  const wide = await start({ columns: 240, rows: 70 });
  for (const head of [" pc ", "top exit", "p99", "cfg", "ICH_LR<n>_EL2", "regs/exit"]) {
    assert.ok(wide.text.includes(head), head);
  }
  const narrow = await start({ columns: 80, rows: 24 });
  assert.ok(!narrow.text.includes(" pc ") && !narrow.text.includes("p99"));
  assert.match(narrow.text, /│ {3}1 running {5}1 1 {2}0xffff800010123444/);
  for (const s of [wide, narrow]) {
    assert.ok(!s.rows.slice(2).some((row) => row.includes("…")), s.text);
    s.close();
  }
});

Deno.test("too small says the size needed, and comes back", async () => {
  const s = await start({ columns: 80, rows: 24 });
  await s.resize(40, 10);
  assert.equal(s.text.trim(), "Needs 60x16, this is 40x10.");
  await s.resize(3, 1);
  await s.resize(120, 40);
  assert.equal(visible(s).length, PANELS.length);
  await s.resize(60, 16);
  assert.ok(visible(s).includes("interrupts"));
  s.close();
});

Deno.test("at every size the panels cover the body, do not overlap, and have the focused one", () => {
  for (let width = 60; width <= 260; width += 19) {
    for (let height = 16; height <= 80; height += 5) {
      for (const focus of PANELS) {
        const rows = (p: PanelId): number => p === "vcpus" ? 4 : p === "timers" ? 8 : 40;
        const layout = layoutScreen(width, height, focus, false, rows);
        assert.ok(layout);
        assert.ok(layout.panels.some((p) => p.panel === focus));
        const covered = new Uint8Array(width * height);
        for (const { rect } of layout.panels) {
          for (let y = rect.y; y < rect.y + rect.height; y++) {
            for (let x = rect.x; x < rect.x + rect.width; x++) {
              covered[y * width + x] = (covered[y * width + x] ?? 0) + 1;
            }
          }
        }
        const once = covered.subarray(2 * width, -width).every((n) => n === 1);
        assert.ok(once, `${width}x${height} ${focus}`);
        assert.equal(layout.panels.length + layout.hidden.length, PANELS.length);
      }
    }
  }
});

Deno.test("zoom gives a panel everything, and back", async () => {
  const s = await start({ columns: 120, rows: 40 });
  await s.keys("3", "Z");
  assert.deepEqual(visible(s), ["listRegisters"]);
  assert.match(s.rows[39] ?? "", /zoom$/);
  await s.keys("Esc");
  assert.equal(visible(s).length, PANELS.length);
  s.close();
});

Deno.test("ASCII borders and NO_COLOR: no other character, no colour, and the focus still shows", async () => {
  const s = await start({ columns: 120, rows: 40, depth: "none", start: { ascii: true } });
  assert.match(s.text, /^[\x20-\x7e\n]*$/);
  assert.ok(s.text.includes("#= 2 Interrupts ="));
  assert.ok(s.text.includes("+- 1 vCPUs -"));
  // deno-lint-ignore no-control-regex
  for (const [, codes] of s.output.matchAll(/\x1b\[([\d;]*)m/g)) {
    for (const code of (codes ?? "").split(";")) assert.ok(Number(code) < 30, codes);
  }
  await s.keys("b");
  assert.ok(s.text.includes("━ 2 Interrupts ━"));
  s.close();
});

Deno.test("each theme draws the same text", async () => {
  const s = await start({ columns: 120, rows: 40 });
  const texts = new Set<string>();
  for (let i = 0; i < 3; i++) {
    await s.keys("t");
    assert.match(s.rows[39] ?? "", /Theme: /);
    texts.add(s.rows.slice(2, 10).map((r) => r.replace(/\d/g, "0")).join("\n"));
  }
  assert.equal(texts.size, 1);
  s.close();
});

Deno.test("zeros are dim, states stand out, and both without colour too", async () => {
  const s = await start({ columns: 200, rows: 60, depth: "none" });
  const { y } = s.find("HVC64");
  const { x } = s.find("rate/s");
  assert.equal(s.styleAt(x + 5, y), "dim");
  assert.equal(s.styleAt(s.find("SPI    33").x, s.find("SPI    33").y), "reverse");
  assert.ok(s.styleAt(s.find("2 Interrupts").x, s.find("2 Interrupts").y).includes("reverse"));
  s.close();
});
