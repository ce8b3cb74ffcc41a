import assert from "node:assert/strict";
import {
  colourDepth,
  type Environment,
  MAX_STYLES,
  nearest256,
  PLAIN,
  StyleTable,
} from "../../../src/dashboard/terminal/style.ts";

Deno.test("the environment decides the colour depth", () => {
  const cases: [Environment, string][] = [
    [{}, "16"],
    [{ TERM: "xterm" }, "16"],
    [{ TERM: "xterm-256color" }, "256"],
    [{ TERM: "xterm-256color", COLORTERM: "truecolor" }, "truecolor"],
    [{ TERM: "xterm", COLORTERM: "24bit" }, "truecolor"],
    [{ TERM: "xterm-direct" }, "truecolor"],
    [{ TERM: "dumb", COLORTERM: "truecolor" }, "none"],
    [{ TERM: "xterm-256color", COLORTERM: "truecolor", NO_COLOR: "1" }, "none"],
    [{ TERM: "xterm-256color", NO_COLOR: "" }, "256"],
  ];
  for (const [env, depth] of cases) assert.equal(colourDepth(env), depth, JSON.stringify(env));
});

Deno.test("the 256-colour palette: corners, ramp", () => {
  assert.equal(nearest256(0x000000), 16);
  assert.equal(nearest256(0xffffff), 231);
  assert.equal(nearest256(0xff0000), 196);
  assert.equal(nearest256(0x5f87af), 67);
  assert.equal(nearest256(0x080808), 232);
  assert.equal(nearest256(0x767676), 243);
});

Deno.test("equal looks share a number, the default is PLAIN", () => {
  const table = new StyleTable("16");
  const bold = table.intern({ bold: true });
  assert.equal(table.intern({ bold: true, dim: false }), bold);
  assert.equal(table.intern({}), PLAIN);
  const none = new StyleTable("none");
  assert.equal(none.intern({ fg: { rgb: 1, ansi: 1 } }), PLAIN);
  assert.notEqual(none.intern({ reverse: true }), PLAIN);
});

Deno.test("the table is bounded", () => {
  const table = new StyleTable("truecolor");
  for (let rgb = 0; rgb < MAX_STYLES + 100; rgb++) table.intern({ fg: { rgb, ansi: 0 } });
  assert.equal(table.size, MAX_STYLES);
  assert.equal(table.intern({ fg: { rgb: 0xabcdef, ansi: 0 } }), PLAIN);
});

Deno.test("a transition is the shorter of change and reset", () => {
  const table = new StyleTable("16");
  const text = (from: number, to: number): string =>
    new TextDecoder().decode(table.transition(from, to));
  const red = table.intern({ fg: { rgb: 0xff0000, ansi: 9 } });
  const boldRed = table.intern({ fg: { rgb: 0xff0000, ansi: 9 }, bold: true });
  const dimRed = table.intern({ fg: { rgb: 0xff0000, ansi: 9 }, dim: true });
  assert.equal(text(red, red), "");
  assert.equal(text(PLAIN, red), "\x1b[91m");
  assert.equal(text(red, boldRed), "\x1b[1m");
  assert.equal(text(boldRed, dimRed), "\x1b[22;2m");
  assert.equal(text(boldRed, PLAIN), "\x1b[m");
});
