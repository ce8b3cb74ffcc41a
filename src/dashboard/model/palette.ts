/** The command palette: everything a key can do and some things no key does, found by a few letters. */
import type { Command } from "../../vmm/command_ring.ts";
import { type ActionId, type Binding, type Context, KEYMAP } from "../keymap.ts";
import { PANEL_TITLES, type PanelId, PANELS } from "./panels.ts";

/** One row of the palette. */
export interface PaletteEntry {
  readonly title: string;
  /** The key that does the same, or empty. */
  readonly key: string;
  readonly run:
    | { readonly action: ActionId; readonly panel: PanelId | undefined }
    | { readonly focus: PanelId }
    | { readonly command: Command };
}

/** Movements and what only makes sense with the key itself. */
const LEFT_OUT: ReadonlySet<ActionId> = new Set([
  "up",
  "down",
  "left",
  "right",
  "pageUp",
  "pageDown",
  "first",
  "last",
  "accept",
  "cancel",
  "back",
  "focusPanel",
  "palette",
  "releaseConsole",
]);

const CONTEXT_PANELS: Partial<Readonly<Record<Context, PanelId>>> = {
  vcpus: "vcpus",
  interrupts: "interrupts",
  console: "console",
  trace: "trace",
};

const PACES = [
  ["Clock: real time", 1000],
  ["Clock: a tenth of real time", 100],
  ["Clock: a hundredth of real time", 10],
  ["Clock: as fast as possible", 0],
] as const;

function fromKeymap(): PaletteEntry[] {
  const seen = new Set<string>();
  const rows = (KEYMAP as readonly (Binding & { action: ActionId })[]).filter((row) => {
    const again = seen.has(row.action) || LEFT_OUT.has(row.action);
    seen.add(row.action);
    return !again;
  });
  return rows.map((row) => ({
    title: row.help,
    key: row.keys[0] ?? "",
    run: { action: row.action, panel: CONTEXT_PANELS[row.context] },
  }));
}

/** Every entry, in the order shown without a search. */
export const PALETTE: readonly PaletteEntry[] = [
  ...fromKeymap(),
  ...PANELS.map((panel, i): PaletteEntry => ({
    title: `Panel: ${PANEL_TITLES[panel]}`,
    key: String(i + 1),
    run: { focus: panel },
  })),
  {
    title: "Press the power button",
    key: "",
    run: { command: { op: "pressPowerButton", vm: 0 } },
  },
  ...PACES.map(([title, permille]): PaletteEntry => ({
    title,
    key: "",
    run: { command: { op: "setPace", permille } },
  })),
];

/** How well the letters of `text` are found in `title` in their order; undefined when they are not. Higher is better. */
export function fuzzyScore(text: string, title: string): number | undefined {
  const [letters, hay] = [text.toLowerCase().replace(/\s+/g, ""), title.toLowerCase()];
  let score = 0;
  let at = -1;
  for (const letter of letters) {
    const next = hay.indexOf(letter, at + 1);
    if (next < 0) return undefined;
    const startsWord = next === 0 || /[^a-z0-9]/.test(hay[next - 1] ?? "");
    score += (next === at + 1 ? 4 : 0) + (startsWord ? 3 : 0) - Math.min(2, (next - at - 1) / 8);
    at = next;
  }
  return score + (hay.includes(text.toLowerCase().trim()) ? 20 : 0);
}

/** The entries that match, best first. */
export function paletteMatches(text: string): PaletteEntry[] {
  const scored = PALETTE.map((entry, i) => ({ entry, i, score: fuzzyScore(text, entry.title) }));
  return scored.filter((s) => s.score !== undefined)
    .sort((a, b) => (b.score ?? 0) - (a.score ?? 0) || a.i - b.i)
    .map((s) => s.entry);
}
