import assert from "node:assert/strict";
import { type Style, StyleTable } from "../../../src/dashboard/terminal/style.ts";
import {
  internTheme,
  MARKS,
  nextTheme,
  type Role,
  themeByName,
  THEMES,
} from "../../../src/dashboard/terminal/theme.ts";
import { cellWidth } from "../../../src/dashboard/terminal/glyph.ts";

const cellWidthOf = (text: string): number => cellWidth(text.codePointAt(0) ?? 0);

Deno.test("dark, light and high contrast, in a circle", () => {
  assert.deepEqual(THEMES.map((t) => t.name), ["dark", "light", "high-contrast"]);
  let theme = THEMES[0];
  for (const _ of THEMES) theme = theme === undefined ? undefined : nextTheme(theme);
  assert.equal(theme, THEMES[0]);
  assert.equal(themeByName("nope"), undefined);
});

Deno.test("what must stand out does so without colour", () => {
  const standOut: [Role, Role][] = [
    ["selected", "text"],
    ["borderFocused", "border"],
    ["titleFocused", "title"],
    ["match", "text"],
    ["badge", "text"],
    ["bad", "good"],
    ["bad", "warn"],
    ["warn", "good"],
    ["pending", "active"],
    ["columnHeadSorted", "columnHead"],
    ["key", "keyLabel"],
  ];
  for (const theme of THEMES) {
    const ids = internTheme(theme, new StyleTable("none"));
    for (const [a, b] of standOut) assert.notEqual(ids[a], ids[b], `${theme.name}: ${a}, ${b}`);
  }
});

Deno.test("every state has a mark of one cell, different from the others", () => {
  const marks = Object.values(MARKS);
  assert.equal(new Set(marks.map((m) => m.unicode)).size, marks.length);
  assert.equal(new Set(marks.map((m) => m.ascii)).size, marks.length);
  for (const { unicode, ascii } of marks) {
    assert.equal(cellWidthOf(unicode), 1);
    assert.match(ascii, /^[!-~]$/);
  }
});

function luminance(rgb: number): number {
  const linear = (v: number): number => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const [r = 0, g = 0, b = 0] = [16, 8, 0].map((s) => linear((rgb >>> s & 255) / 255));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

function contrast(style: Style, ink: number, ground: number): number {
  const a = luminance(style.fg?.rgb ?? ink);
  const b = luminance(style.bg?.rgb ?? ground);
  return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
}

Deno.test("every role can be read: contrast of at least 3, in high contrast 7", () => {
  for (const theme of THEMES) {
    const least = theme.name === "high-contrast" ? 7 : 3;
    for (const [role, style] of Object.entries(theme.roles)) {
      const value = contrast(style, theme.ink, theme.ground);
      assert.ok(value >= least, `${theme.name} ${role}: ${value.toFixed(1)}`);
    }
  }
});
