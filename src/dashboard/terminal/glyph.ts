/**
 * What a code point may become on screen: how many cells it takes, or which visible glyph stands for it.
 *
 * This is where control characters end. Every text that reaches the screen passes through `glyphs`, so neither a
 * guest's console nor a file name can send the terminal a command.
 */

import { eastAsianWidth } from "get-east-asian-width";

/** Stands for what is not a character. */
const REPLACEMENT = 0xfffd;

// Zero-width marks, format characters, and the medial and final Hangul jamo terminals also give no cell.
const NO_CELL = /^[\p{Mn}\p{Me}\p{Cf}\u1160-\u11ff\ud7b0-\ud7ff]$/u;
const NOT_A_CHARACTER = /^[\p{Cc}\p{Cs}\p{Zl}\p{Zp}\p{Co}\p{Cn}]$/u;

/**
 * The code point that is drawn for `cp`: itself, a control picture or U+FFFD for what must not reach a terminal,
 * or 0 for what takes no cell (combining marks, format characters).
 */
export function visible(cp: number): number {
  if (cp >= 0x20 && cp < 0x7f) return cp;
  if (cp < 0x20) return 0x2400 + cp;
  if (cp === 0x7f) return 0x2421;
  if (cp < 0xa0) return REPLACEMENT;
  if (cp < 0x300 && cp !== 0xad) return cp;
  const text = String.fromCodePoint(cp);
  if (NO_CELL.test(text)) return 0;
  return NOT_A_CHARACTER.test(text) ? REPLACEMENT : cp;
}

const widths = new Map<number, number>();

/** Cells taken by a code point that `visible` returned: 1 or 2 (ambiguous width counts as 1). */
export function cellWidth(cp: number): number {
  if (cp < 0x1100) return 1;
  const known = widths.get(cp);
  if (known !== undefined) return known;
  const width = eastAsianWidth(cp);
  if (widths.size > 8192) widths.clear();
  widths.set(cp, width);
  return width;
}

const shown = new Map<number, number>();

/** `visible` with the answers above U+02FF remembered (bounded). */
export function glyph(cp: number): number {
  if (cp >= 0x20 && cp < 0x7f) return cp;
  const known = shown.get(cp);
  if (known !== undefined) return known;
  const result = visible(cp);
  if (shown.size > 8192) shown.clear();
  shown.set(cp, result);
  return result;
}

// Most of what is drawn; a cell for each unit, without a lookup.
const ASCII = /^[\x20-\x7e]*$/;

/** Cells a text takes on one line. */
export function textWidth(text: string): number {
  if (ASCII.test(text)) return text.length;
  let width = 0;
  for (const ch of text) {
    const cp = glyph(ch.codePointAt(0) ?? REPLACEMENT);
    if (cp !== 0) width += cellWidth(cp);
  }
  return width;
}

/** `text` cut to at most `width` cells; a cut is shown by `mark` in the last cell. */
export function fit(text: string, width: number, mark = "…"): string {
  if (textWidth(text) <= width) return text;
  if (width <= 0) return "";
  let used = 0;
  let kept = "";
  for (const ch of text) {
    const cp = glyph(ch.codePointAt(0) ?? REPLACEMENT);
    const w = cp === 0 ? 0 : cellWidth(cp);
    if (used + w > width - 1) break;
    used += w;
    kept += ch;
  }
  return kept + mark;
}

/** `text` in exactly `width` cells: cut with a mark, or padded on the other side of `align`. */
export function pad(text: string, width: number, align: "left" | "right" = "left"): string {
  const cut = fit(text, width);
  const space = " ".repeat(Math.max(0, width - textWidth(cut)));
  return align === "left" ? cut + space : space + cut;
}
