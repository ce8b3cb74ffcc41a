import assert from "node:assert/strict";
import fc from "fast-check";
import { BORDERS } from "../../../src/dashboard/terminal/cells.ts";
import { Screen } from "../../../src/dashboard/terminal/render.ts";
import { type ColourDepth, StyleTable } from "../../../src/dashboard/terminal/style.ts";
import { XtermScreen } from "./xterm_screen.ts";

const RED = { rgb: 0xff0000, ansi: 9 };
const BLUE = { rgb: 0x0000ff, ansi: 4 };

function tableOf(depth: ColourDepth): StyleTable {
  const table = new StyleTable(depth);
  for (let bits = 0; bits < 64; bits++) {
    table.intern({
      ...(bits & 1 ? { bold: true } : {}),
      ...(bits & 2 ? { dim: true } : {}),
      ...(bits & 4 ? { reverse: true } : {}),
      ...(bits & 8 ? { underline: true } : {}),
      ...(bits & 16 ? { fg: RED } : {}),
      ...(bits & 32 ? { bg: BLUE } : {}),
    });
  }
  return table;
}

const piece = fc.constantFrom(
  ..."abz 0~é─│┌█⣿漢字かナ한☃".split(""),
  "    ",
  "\x1b[31m",
  "\x1b]0;title\x07",
  "\r\n",
  "\t\b\x7f\x9b",
  "e\u0301",
  "\ud800",
  "\u202e",
);
const text = fc.array(piece, { maxLength: 12 }).map((pieces) => pieces.join(""));
const where = { x: fc.integer({ min: -5, max: 24 }), y: fc.integer({ min: -2, max: 9 }) };
const rect = fc.record({
  ...where,
  width: fc.integer({ min: 0, max: 24 }),
  height: fc.integer({ min: 0, max: 9 }),
});
const style = fc.integer({ min: 0, max: 63 });

const draw = fc.oneof(
  { weight: 6, arbitrary: fc.record({ op: fc.constant("put" as const), ...where, text, style }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant("fill" as const), rect, style }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant("box" as const), rect, style }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant("restyle" as const), rect, style }) },
  { weight: 2, arbitrary: fc.record({ op: fc.constant("sub" as const), rect, text, style }) },
  { weight: 2, arbitrary: fc.record({ op: fc.constant("clear" as const) }) },
);
type Draw = typeof draw extends fc.Arbitrary<infer T> ? T : never;

function apply(screen: Screen, step: Draw): void {
  const pane = screen.back.pane();
  if (step.op === "put") pane.put(step.x, step.y, step.text, step.style);
  else if (step.op === "fill") pane.fill(step.style, "·", step.rect);
  else if (step.op === "box") pane.sub(step.rect).box(step.style, BORDERS.light);
  else if (step.op === "restyle") pane.restyle(step.rect, step.style);
  else if (step.op === "sub") pane.sub(step.rect).put(-1, 0, step.text, step.style);
  else screen.back.clear();
}

const frame = fc.record({
  draws: fc.array(draw, { maxLength: 8 }),
  resize: fc.option(
    fc.record({
      width: fc.integer({ min: 1, max: 22 }),
      height: fc.integer({ min: 1, max: 8 }),
    }),
    { freq: 4 },
  ),
  invalidate: fc.boolean(),
  skipped: fc.boolean(),
});

for (const depth of ["truecolor", "16", "none"] as const) {
  Deno.test(`random frames replayed through xterm are cell by cell the buffer (${depth})`, async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(frame, { minLength: 1, maxLength: 6 }), async (frames) => {
        const styles = tableOf(depth);
        const screen = new Screen(styles, 20, 6);
        const terminal = new XtermScreen(20, 6);
        for (const { draws, resize, invalidate, skipped } of frames) {
          if (resize !== null) {
            screen.resize(resize.width, resize.height);
            terminal.resize(Math.max(2, resize.width), resize.height);
          }
          if (invalidate) screen.invalidate();
          draws.forEach((step) => apply(screen, step));
          if (skipped) continue;
          await terminal.write(screen.frame());
          assert.deepEqual(terminal.differences(screen.back, styles), []);
          assert.equal(terminal.synchronized, false);
        }
        assert.deepEqual([terminal.answers, terminal.titles], ["", []]);
        terminal.dispose();
      }),
      { numRuns: 120 },
    );
  });
}

Deno.test("an unchanged frame is no bytes, a changed cell few", () => {
  const screen = new Screen(new StyleTable("truecolor"), 200, 60);
  screen.back.pane().put(3, 3, "hello");
  assert.ok(screen.frame().length > 0);
  assert.equal(screen.frame().length, 0);
  screen.back.pane().put(4, 3, "E");
  const bytes = new TextDecoder().decode(screen.frame());
  assert.equal(bytes, "\x1b[?2026h\x1b[?25l\x1b[4;5HE\x1b[?2026l");
});

Deno.test("clearing a row is an erase, not blanks", () => {
  const screen = new Screen(new StyleTable("16"), 80, 2);
  screen.back.pane().put(0, 0, "x".repeat(80));
  screen.frame();
  screen.back.clear();
  assert.ok(screen.frame().length < 40);
});

Deno.test("an erase after coloured text does not spread its ground", async () => {
  const styles = new StyleTable("16");
  const onBlue = styles.intern({ bg: BLUE });
  const screen = new Screen(styles, 20, 2);
  const terminal = new XtermScreen(20, 2);
  screen.back.pane().put(0, 0, "x".repeat(20));
  await terminal.write(screen.frame());
  screen.back.clear();
  screen.back.pane().put(0, 0, "blue", onBlue);
  const bytes = screen.frame();
  assert.ok(new TextDecoder().decode(bytes).includes("\x1b[K"));
  await terminal.write(bytes);
  assert.deepEqual(terminal.differences(screen.back, styles), []);
  terminal.dispose();
});

Deno.test("after the last column the cursor is placed anew: wrapped or not is the terminal's affair", () => {
  const screen = new Screen(new StyleTable("none"), 5, 2);
  screen.back.pane().put(0, 0, "abcde");
  screen.back.pane().put(0, 1, "fg");
  assert.ok(new TextDecoder().decode(screen.frame()).includes("abcde\x1b[2Hfg"));
});

Deno.test("invalidate sends everything again, also to a terminal that shows something else", async () => {
  const styles = new StyleTable("16");
  const screen = new Screen(styles, 20, 4);
  const terminal = new XtermScreen(20, 4);
  screen.back.pane().put(2, 1, "state");
  await terminal.write(screen.frame());
  await terminal.write("\x1b[41m\x1b[2Jgarbage\r\n\r\nmore");
  assert.notDeepEqual(terminal.differences(screen.back, styles), []);
  screen.invalidate();
  await terminal.write(screen.frame());
  assert.deepEqual(terminal.differences(screen.back, styles), []);
  terminal.dispose();
});

Deno.test("the cursor is shown where asked, and hidden again", async () => {
  const screen = new Screen(new StyleTable("16"), 20, 4);
  const terminal = new XtermScreen(20, 4);
  const first = screen.frame({ x: 7, y: 2 });
  await terminal.write(first);
  assert.deepEqual(terminal.cursor, { x: 7, y: 2 });
  assert.ok(new TextDecoder().decode(first).includes("\x1b[?25h"));
  assert.equal(screen.frame({ x: 7, y: 2 }).length, 0);
  const hidden = new TextDecoder().decode(screen.frame());
  assert.ok(hidden.includes("\x1b[?25l") && !hidden.includes("\x1b[?25h"));
  terminal.dispose();
});

Deno.test("no text, whatever it holds, adds a control byte to a frame", () => {
  // deno-lint-ignore no-control-regex -- the sequences are what is being looked for
  const own = /\x1b\[(\?\d+[hl]|[\d;]*[mHCKJ])|\r\n/g;
  fc.assert(
    fc.property(fc.array(fc.string({ unit: "binary", maxLength: 60 })), (lines) => {
      const screen = new Screen(new StyleTable("16"), 40, 6);
      lines.forEach((line, y) => screen.back.pane().put(0, y, line));
      const sent = new TextDecoder("utf-8", { fatal: true }).decode(screen.frame());
      assert.doesNotMatch(sent.replace(own, ""), /\p{Cc}|\p{Cf}/u);
    }),
  );
});

Deno.test("a glyph of disputed width is followed by a cursor position", () => {
  const screen = new Screen(new StyleTable("none"), 10, 1);
  screen.back.pane().put(0, 0, "😀ab");
  const sent = new TextDecoder().decode(screen.frame());
  assert.ok(sent.includes("  \x1b[1H😀\x1b[1;3Hab"), JSON.stringify(sent));
});
