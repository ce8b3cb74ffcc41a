/**
 * Where the panels lie. Wide screens have them all; on small ones the less important give way, and the
 * focused one is always there.
 */
import { isTablePanel, type PanelId, PANELS } from "../model/panels.ts";
import type { Rect } from "../terminal/cells.ts";

/** The least screen that shows anything. */
export const MIN_COLUMNS = 60;
export const MIN_ROWS = 16;

/** A panel with its place. */
export interface Placed {
  readonly panel: PanelId;
  readonly rect: Rect;
}

/** The screen divided up. */
export interface Layout {
  readonly header: Rect;
  readonly footer: Rect;
  readonly panels: readonly Placed[];
  /** Panels that found no room. */
  readonly hidden: readonly PanelId[];
}

/** Panels side by side. */
type Band = readonly PanelId[];

const ONE_COLUMN: readonly Band[] = PANELS.map((panel) => [panel]);
const LEFT: readonly Band[] = [["vcpus"], ["interrupts"], ["console"]];
const RIGHT: readonly Band[] = [["worldSwitches"], ["listRegisters"], ["timers"], ["trace"]];
const WIDE_RIGHT: readonly Band[] = [
  ["listRegisters", "timers"],
  ["worldSwitches"],
  ["trace"],
];

/** Most important first. */
const PRIORITY: readonly PanelId[] = [
  "vcpus",
  "interrupts",
  "console",
  "worldSwitches",
  "listRegisters",
  "timers",
  "trace",
];

/** What takes the room that is left over, and how much of it. */
const GROWTH: Readonly<Record<PanelId, number>> = {
  vcpus: 0,
  interrupts: 3,
  listRegisters: 1,
  timers: 0,
  worldSwitches: 0,
  console: 3,
  trace: 3,
};

/** Border, column heads, border. */
const FRAME_ROWS = 3;
const MIN_PANEL_ROWS = 6;

/** Rows that a panel's content has, to give it no more than it can fill. */
export type ContentRows = (panel: PanelId) => number;

interface Sized {
  readonly band: Band;
  readonly min: number;
  readonly want: number;
  readonly grow: number;
}

function sized(band: Band, rows: ContentRows): Sized {
  const of = (panel: PanelId): Sized => {
    const want = FRAME_ROWS + rows(panel);
    const min = panel === "vcpus" ? Math.min(Math.max(4, want), 7) : MIN_PANEL_ROWS;
    return { band, min, want: Math.max(min, want), grow: GROWTH[panel] };
  };
  return band.map(of).reduce((a, b) => ({
    band,
    min: Math.max(a.min, b.min),
    want: Math.max(a.want, b.want),
    grow: Math.max(a.grow, b.grow),
  }));
}

/** The bands that have room, in their order. */
function choose(bands: readonly Sized[], height: number, focus: PanelId): Sized[] {
  const rank = ({ band }: Sized): number =>
    band.includes(focus) ? -1 : Math.min(...band.map((p) => PRIORITY.indexOf(p)));
  let left = height;
  const chosen = new Set<Sized>();
  for (const band of [...bands].sort((a, b) => rank(a) - rank(b))) {
    if (chosen.size > 0 && left < band.min) continue;
    chosen.add(band);
    left -= band.min;
  }
  return bands.filter((band) => chosen.has(band));
}

/** Heights that fill the column: each its least, then what it wants, then by growth. */
function heights(bands: readonly Sized[], height: number): number[] {
  const result = bands.map((b) => b.min);
  const rest = (): number => height - result.reduce((a, b) => a + b, 0);
  bands.forEach((band, i) => {
    const fixed = band.grow === 0 ? band.want : Math.min(band.want, band.min + 4);
    result[i] = band.min + Math.max(0, Math.min(fixed - band.min, rest()));
  });
  const growth = bands.map((b) => b.grow).reduce((a, b) => a + b, 0);
  const spare = rest();
  bands.forEach((band, i) => {
    const share = growth === 0 ? (i === 0 ? spare : 0) : Math.floor(spare * band.grow / growth);
    result[i] = (result[i] ?? 0) + share;
  });
  const grower = Math.max(0, bands.findLastIndex((b) => b.grow > 0));
  if (result.length > 0) result[grower] = (result[grower] ?? 0) + rest();
  return result;
}

function placeColumn(
  bands: readonly Band[],
  area: Rect,
  focus: PanelId,
  rows: ContentRows,
): Placed[] {
  const chosen = choose(bands.map((b) => sized(b, rows)), area.height, focus);
  const tall = heights(chosen, area.height);
  let y = area.y;
  return chosen.flatMap(({ band }, i) => {
    const height = tall[i] ?? 0;
    const width = Math.floor(area.width / band.length);
    const placed = band.map((panel, n): Placed => ({
      panel,
      rect: {
        x: area.x + n * width,
        y,
        width: n === band.length - 1 ? area.width - n * width : width,
        height,
      },
    }));
    y += height;
    return placed;
  });
}

function columns(body: Rect): { bands: readonly Band[]; area: Rect }[] {
  if (body.width < 110) return [{ bands: ONE_COLUMN, area: body }];
  const left = Math.floor(body.width * (body.width < 180 ? 0.56 : 0.5));
  return [
    { bands: LEFT, area: { ...body, width: left } },
    {
      bands: body.width < 180 ? RIGHT : WIDE_RIGHT,
      area: { ...body, x: left, width: body.width - left },
    },
  ];
}

/** Divides the screen; undefined when it is too small to show anything. */
export function layoutScreen(
  width: number,
  height: number,
  focus: PanelId,
  zoom: boolean,
  rows: ContentRows,
): Layout | undefined {
  if (width < MIN_COLUMNS || height < MIN_ROWS) return undefined;
  const header = { x: 0, y: 0, width, height: 2 };
  const footer = { x: 0, y: height - 1, width, height: 1 };
  const body = { x: 0, y: 2, width, height: height - 3 };
  const panels = zoom
    ? [{ panel: focus, rect: body }]
    : columns(body).flatMap(({ bands, area }) => placeColumn(bands, area, focus, rows));
  const shown = new Set(panels.map((p) => p.panel));
  return { header, footer, panels, hidden: PANELS.filter((p) => !shown.has(p)) };
}

/** Rows of content that a panel of that place shows. */
export function pageRows({ panel, rect }: Placed): number {
  return Math.max(0, rect.height - (isTablePanel(panel) ? FRAME_ROWS : 2));
}
