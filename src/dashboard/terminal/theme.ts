/**
 * Themes: what each part of the screen looks like, by its role.
 *
 * Nothing is said by colour alone. A state has a mark as well (`MARKS`), and whatever must stand out on a terminal
 * without colours differs by an attribute; a test holds both.
 */

import type { Colour, Style, StyleTable } from "./style.ts";

/** What a piece of the screen is, as far as its looks go. */
export type Role =
  | "text"
  | "dim"
  | "strong"
  | "border"
  | "borderFocused"
  | "title"
  | "titleFocused"
  | "header"
  | "columnHead"
  | "columnHeadSorted"
  | "selected"
  | "match"
  | "key"
  | "keyLabel"
  | "badge"
  | "good"
  | "warn"
  | "bad"
  | "pending"
  | "active"
  | "graph";

/** One complete look. */
export interface Theme {
  readonly name: ThemeName;
  /** Ground and ink for places which have no terminal default to fall back on (SVG), 0xRRGGBB. */
  readonly ground: number;
  readonly ink: number;
  readonly roles: Readonly<Record<Role, Style>>;
}

export type ThemeName = "dark" | "light" | "high-contrast";

/** A role as the style number to draw with. */
export type RoleIds = Readonly<Record<Role, number>>;

const c = (rgb: number, ansi: number): Colour => ({ rgb, ansi });

interface Palette {
  readonly muted: Colour;
  readonly frame: Colour;
  readonly accent: Colour;
  readonly good: Colour;
  readonly warn: Colour;
  readonly bad: Colour;
  readonly pending: Colour;
  readonly active: Colour;
  readonly graph: Colour;
  readonly barInk: Colour;
  readonly bar: Colour;
}

function rolesOf(p: Palette): Record<Role, Style> {
  return {
    text: {},
    dim: { fg: p.muted, dim: true },
    strong: { bold: true },
    border: { fg: p.frame, dim: true },
    borderFocused: { fg: p.accent, bold: true },
    title: { fg: p.muted },
    titleFocused: { fg: p.accent, bold: true, reverse: true },
    header: { fg: p.barInk, bg: p.bar, bold: true },
    columnHead: { fg: p.accent, underline: true },
    columnHeadSorted: { fg: p.accent, underline: true, bold: true },
    selected: { reverse: true },
    match: { fg: p.warn, bold: true, underline: true },
    key: { fg: p.accent, bold: true },
    keyLabel: { fg: p.muted },
    badge: { fg: p.bad, bold: true, reverse: true },
    good: { fg: p.good },
    warn: { fg: p.warn, bold: true },
    bad: { fg: p.bad, bold: true, underline: true },
    pending: { fg: p.pending, bold: true },
    active: { fg: p.active, underline: true },
    graph: { fg: p.graph },
  };
}

const DARK: Palette = {
  muted: c(0xa0a6b0, 7),
  frame: c(0x6b7280, 8),
  accent: c(0x67c7ff, 14),
  good: c(0x7bd88f, 10),
  warn: c(0xffc857, 11),
  bad: c(0xff6b6b, 9),
  pending: c(0xffc857, 11),
  active: c(0x7bd88f, 10),
  graph: c(0x67c7ff, 14),
  barInk: c(0xffffff, 15),
  bar: c(0x1f3a5f, 4),
};

const LIGHT: Palette = {
  muted: c(0x4b5563, 8),
  frame: c(0x6b7280, 8),
  accent: c(0x005a9c, 4),
  good: c(0x0b6e2d, 2),
  warn: c(0x8a5a00, 3),
  bad: c(0xb00020, 1),
  pending: c(0x8a5a00, 3),
  active: c(0x0b6e2d, 2),
  graph: c(0x005a9c, 4),
  barInk: c(0x000000, 0),
  bar: c(0xcfe3f7, 15),
};

const BLACK = c(0x000000, 0);
const WHITE = c(0xffffff, 15);
const YELLOW = c(0xffff00, 11);

const CONTRAST_ROLES: Record<Role, Style> = {
  ...rolesOf({
    muted: WHITE,
    frame: WHITE,
    accent: YELLOW,
    good: c(0x00ff00, 10),
    warn: YELLOW,
    bad: c(0xff8080, 9),
    pending: YELLOW,
    active: c(0x00ff00, 10),
    graph: WHITE,
    barInk: BLACK,
    bar: WHITE,
  }),
  // Dim is what high contrast has to do without.
  dim: { fg: WHITE },
  border: { fg: WHITE },
};

/** Every theme there is, in the order the theme key goes through them. */
export const THEMES: readonly Theme[] = [
  { name: "dark", ground: 0x14171c, ink: 0xe5e7eb, roles: rolesOf(DARK) },
  { name: "light", ground: 0xffffff, ink: 0x111827, roles: rolesOf(LIGHT) },
  { name: "high-contrast", ground: 0x000000, ink: 0xffffff, roles: CONTRAST_ROLES },
];

/** The theme of that name, or undefined. */
export function themeByName(name: string): Theme | undefined {
  return THEMES.find((t) => t.name === name);
}

/** The theme after this one, around the end. */
export function nextTheme(theme: Theme): Theme {
  const at = THEMES.findIndex((t) => t.name === theme.name);
  return THEMES[(at + 1) % THEMES.length] ?? theme;
}

/** The style numbers of a theme in a table. */
export function internTheme(theme: Theme, table: StyleTable): RoleIds {
  const ids = Object.entries(theme.roles).map(([role, style]) => [role, table.intern(style)]);
  return Object.fromEntries(ids) as Record<Role, number>;
}

/** The mark that says a state without its colour; one cell each, a different one for each state. */
export const MARKS: Readonly<
  Record<
    "good" | "warn" | "bad" | "pending" | "active",
    { readonly unicode: string; readonly ascii: string }
  >
> = {
  good: { unicode: "✓", ascii: "+" },
  warn: { unicode: "▲", ascii: "!" },
  bad: { unicode: "✗", ascii: "x" },
  pending: { unicode: "◆", ascii: "P" },
  active: { unicode: "●", ascii: "A" },
};
