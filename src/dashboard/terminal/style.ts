/**
 * What a cell looks like: interned styles, and the shortest SGR sequence from one to the next.
 *
 * A cell carries only the number of its style, so comparing two frames is comparing integers. How many colours the
 * terminal can show is decided once, here; attributes (bold, dim, reverse, underline) survive without any colour.
 */

/** How many colours the terminal shows. */
export type ColourDepth = "truecolor" | "256" | "16" | "none";

/** A colour with its stand-in where only the sixteen ANSI colours exist. */
export interface Colour {
  /** 0xRRGGBB. */
  readonly rgb: number;
  /** 0 to 15. */
  readonly ansi: number;
}

/** A style; what is left out is the terminal's default. */
export interface Style {
  readonly fg?: Colour;
  readonly bg?: Colour;
  readonly bold?: boolean;
  readonly dim?: boolean;
  readonly reverse?: boolean;
  readonly underline?: boolean;
}

/** The environment as a plain record, so that deciding needs no permission here. */
export type Environment = Readonly<Record<string, string | undefined>>;

/** The style of an untouched cell: the terminal's own default. */
export const PLAIN = 0;

/** More styles than this are a mistake of the caller; the table stays bounded and answers PLAIN. */
export const MAX_STYLES = 4096;

const ATTRIBUTES = [
  { name: "bold", on: 1, off: 22 },
  { name: "dim", on: 2, off: 22 },
  { name: "underline", on: 4, off: 24 },
  { name: "reverse", on: 7, off: 27 },
] as const;

/**
 * The colour depth an environment asks for: NO_COLOR (any non-empty value, https://no-color.org) wins, then TERM=dumb,
 * then COLORTERM, then TERM; sixteen colours if nothing is said.
 */
export function colourDepth(env: Environment): ColourDepth {
  const term = env["TERM"] ?? "";
  if (env["NO_COLOR"] || term === "dumb") return "none";
  if (/^(truecolor|24bit)$/i.test(env["COLORTERM"] ?? "") || term.endsWith("-direct")) {
    return "truecolor";
  }
  return term.includes("256color") ? "256" : "16";
}

const CUBE_LEVELS = [0, 95, 135, 175, 215, 255];

function nearestLevel(value: number): number {
  let best = 0;
  CUBE_LEVELS.forEach((level, i) => {
    if (Math.abs(level - value) < Math.abs((CUBE_LEVELS[best] ?? 0) - value)) best = i;
  });
  return best;
}

function distance(a: readonly number[], b: readonly number[]): number {
  return a.reduce((sum, v, i) => sum + (v - (b[i] ?? 0)) ** 2, 0);
}

/** The nearest entry of xterm's 256-colour palette (6x6x6 cube or grey ramp) to 0xRRGGBB; 16 to 255. */
export function nearest256(rgb: number): number {
  const want = [rgb >>> 16 & 255, rgb >>> 8 & 255, rgb & 255];
  const levels = want.map(nearestLevel);
  const cube = levels.map((l) => CUBE_LEVELS[l] ?? 0);
  const mean = want.reduce((a, b) => a + b, 0) / 3;
  const step = Math.max(0, Math.min(23, Math.round((mean - 8) / 10)));
  const grey = 8 + 10 * step;
  if (distance(want, [grey, grey, grey]) < distance(want, cube)) return 232 + step;
  return 16 + levels.reduce((index, l) => index * 6 + l, 0);
}

function colourCode(colour: Colour | undefined, ground: "fg" | "bg", depth: ColourDepth): string {
  const base = ground === "fg" ? 30 : 40;
  if (colour === undefined || depth === "none") return String(base + 9);
  if (depth === "16") return String(colour.ansi < 8 ? base + colour.ansi : base + 52 + colour.ansi);
  if (depth === "256") return `${base + 8};5;${nearest256(colour.rgb)}`;
  const { rgb } = colour;
  return `${base + 8};2;${rgb >>> 16 & 255};${rgb >>> 8 & 255};${rgb & 255}`;
}

/** What a style comes to at one depth, in comparable form. */
interface Resolved {
  readonly style: Style;
  readonly fg: string;
  readonly bg: string;
  readonly attributes: readonly boolean[];
}

function resolve(style: Style, depth: ColourDepth): Resolved {
  return {
    style,
    fg: colourCode(style.fg, "fg", depth),
    bg: colourCode(style.bg, "bg", depth),
    attributes: ATTRIBUTES.map((a) => style[a.name] === true),
  };
}

function attributeChanges(from: Resolved, to: Resolved): number[] {
  const off = new Set<number>();
  ATTRIBUTES.forEach((a, i) => {
    if (from.attributes[i] && !to.attributes[i]) off.add(a.off);
  });
  // Bold and dim share one "off", so the survivor of the two has to be set again.
  const on = ATTRIBUTES.filter((a, i) =>
    to.attributes[i] && (!from.attributes[i] || off.has(a.off))
  );
  return [...off, ...on.map((a) => a.on)];
}

function change(from: Resolved, to: Resolved): string {
  const codes = attributeChanges(from, to).map(String);
  if (from.fg !== to.fg) codes.push(to.fg);
  if (from.bg !== to.bg) codes.push(to.bg);
  return codes.length === 0 ? "" : `\x1b[${codes.join(";")}m`;
}

/** Styles by number. Number 0 is always the terminal's default. */
export class StyleTable {
  readonly depth: ColourDepth;
  #byId: Resolved[] = [];
  #ids = new Map<string, number>();
  #changes = new Map<number, Uint8Array>();

  constructor(depth: ColourDepth) {
    this.depth = depth;
    this.intern({});
  }

  /** How many distinct styles there are, the default included. */
  get size(): number {
    return this.#byId.length;
  }

  /** The number of a style; styles that look the same at this depth share one. PLAIN when the table is full. */
  intern(style: Style): number {
    const resolved = resolve(style, this.depth);
    const key = `${resolved.fg}|${resolved.bg}|${resolved.attributes.join()}`;
    const known = this.#ids.get(key);
    if (known !== undefined) return known;
    if (this.#byId.length >= MAX_STYLES) return PLAIN;
    this.#byId.push(resolved);
    this.#ids.set(key, this.#byId.length - 1);
    return this.#byId.length - 1;
  }

  /** The style behind a number; the default for a number never handed out. */
  style(id: number): Style {
    return this.#byId[id]?.style ?? {};
  }

  /** The bytes that turn style `from` into style `to`; empty when they are the same. */
  transition(from: number, to: number): Uint8Array {
    const key = from * MAX_STYLES + to;
    const known = this.#changes.get(key);
    if (known !== undefined) return known;
    const bytes = new TextEncoder().encode(this.#shortest(from, to));
    this.#changes.set(key, bytes);
    return bytes;
  }

  #shortest(from: number, to: number): string {
    const plain = this.#byId[PLAIN];
    const target = this.#byId[to] ?? plain;
    const source = this.#byId[from] ?? plain;
    if (target === source || target === undefined || source === undefined || plain === undefined) {
      return "";
    }
    const direct = change(source, target);
    const reset = "\x1b[" + (target === plain ? "m" : "0;" + change(plain, target).slice(2));
    return reset.length < direct.length ? reset : direct;
  }
}
