/**
 * From the terminal's bytes to key, paste, mouse and focus events.
 *
 * The decoder keeps what may still become a longer sequence; the caller calls `flush()` when nothing more has come
 * for a moment (25 ms is usual), which turns a lone ESC into the key "Esc". Sequences nobody knows are swallowed
 * whole, so that a terminal's answer never becomes key presses.
 *
 * Key names: a printable character is itself ("a", "G", "/"), otherwise "Space", "Enter", "Tab", "Esc", "Backspace",
 * "Up", "Down", "Left", "Right", "Home", "End", "PgUp", "PgDn", "Ins", "Del", "F1" to "F12"; before it, in this order,
 * "Ctrl-", "M-" (Alt) and "Shift-". Source of the sequences: xterm's ctlseqs.
 */

import {
  CSI_KEYS,
  CSI_TILDE_KEYS,
  CTRL_KEYS,
  LINUX_F_KEYS,
  modified,
  SS3_KEYS,
} from "./key_names.ts";

/** A key was pressed. */
export interface KeyPress {
  readonly kind: "key";
  /** The normalised name, for the keymap. */
  readonly name: string;
  /** The character to insert where text is being typed; empty for keys that type none. */
  readonly text: string;
  /** The bytes as they came, for a guest that has the keyboard. */
  readonly raw: Uint8Array;
}

/** Text pasted in one go (bracketed paste). */
export interface Paste {
  readonly kind: "paste";
  readonly text: string;
}

/** The mouse; `x` and `y` are cells from 0. */
export interface MouseEvent {
  readonly kind: "mouse";
  readonly action: "press" | "release" | "drag" | "move" | "wheel-up" | "wheel-down";
  readonly button: "left" | "middle" | "right" | "none";
  readonly x: number;
  readonly y: number;
  readonly shift: boolean;
  readonly alt: boolean;
  readonly ctrl: boolean;
}

/** The terminal's window got or lost the focus. */
export interface Focus {
  readonly kind: "focus";
  readonly gained: boolean;
}

export type InputEvent = KeyPress | Paste | MouseEvent | Focus;

/** A paste is handed on in pieces of at most this many bytes. */
export const MAX_PASTE = 1 << 20;

/** A control sequence longer than this is garbage; what follows is read afresh. */
const MAX_SEQUENCE = 256;

const ESC = 0x1b;
const PASTE_END = [ESC, 0x5b, 0x32, 0x30, 0x31, 0x7e];
const NEEDS_MORE = 0;

/** Decodes input, over any split into reads. */
export class KeyDecoder {
  #bytes: number[] = [];
  #paste: number[] | undefined;
  #events: InputEvent[] = [];

  /** Whether something is being held back that `flush` would decide. */
  get waiting(): boolean {
    return this.#bytes.length > 0;
  }

  /** The events that the bytes complete, in order. */
  feed(bytes: Uint8Array): InputEvent[] {
    for (const byte of bytes) this.#byte(byte);
    return this.#take();
  }

  /** No more is coming for now: a lone ESC is the key, ESC and one byte an Alt key, the rest is dropped. */
  flush(): InputEvent[] {
    const held = this.#bytes;
    if (this.#paste !== undefined) return [];
    this.#bytes = [];
    if (held.length === 1 && held[0] === ESC) this.#key("Esc", "", held);
    else if (held.length === 2 && held[0] === ESC) this.#alt(held);
    return this.#take();
  }

  #take(): InputEvent[] {
    const events = this.#events;
    this.#events = [];
    return events;
  }

  #byte(byte: number): void {
    if (this.#paste !== undefined) return this.#pasted(this.#paste, byte);
    this.#bytes.push(byte);
    // A sequence can end in the middle of what is held (ESC ESC), so the rest is looked at again.
    while (this.#bytes.length > 0) {
      const used = this.#decode(this.#bytes);
      if (used === NEEDS_MORE) return;
      this.#bytes.splice(0, used);
    }
  }

  #pasted(paste: number[], byte: number): void {
    paste.push(byte);
    const start = paste.length - PASTE_END.length;
    const ended = byte === 0x7e && start >= 0 && PASTE_END.every((b, i) => paste[start + i] === b);
    if (!ended && paste.length < MAX_PASTE) return;
    const content = Uint8Array.from(ended ? paste.slice(0, start) : paste);
    this.#paste = ended ? undefined : [];
    this.#events.push({ kind: "paste", text: new TextDecoder().decode(content) });
  }

  /** Reads one event or piece of garbage from the start; how many bytes it took, or NEEDS_MORE. */
  #decode(held: readonly number[]): number {
    const first = held[0] ?? 0;
    if (first === ESC) return this.#escape(held);
    const control = CTRL_KEYS.get(first);
    if (control !== undefined) {
      return this.#key(control, first === 0x20 ? " " : "", held.slice(0, 1));
    }
    return this.#character(held, 0, "");
  }

  #key(name: string, text: string, raw: readonly number[]): number {
    this.#events.push({ kind: "key", name, text, raw: Uint8Array.from(raw) });
    return raw.length;
  }

  /** A UTF-8 character at `at`; bytes that are none are skipped. */
  #character(held: readonly number[], at: number, prefix: string): number {
    const length = utf8Length(held[at] ?? 0);
    if (length === 0) return at + 1;
    const bad = held.findIndex((b, i) => i > at && i < at + length && (b & 0xc0) !== 0x80);
    if (bad >= 0) return bad;
    if (held.length < at + length) return NEEDS_MORE;
    const raw = held.slice(0, at + length);
    const text = new TextDecoder().decode(Uint8Array.from(raw.slice(at)));
    if (/[\ufffd\p{Cc}]/u.test(text)) return raw.length;
    return this.#key(prefix + text, prefix === "" ? text : "", raw);
  }

  #alt(held: readonly number[]): number {
    const byte = held[1] ?? 0;
    const control = CTRL_KEYS.get(byte);
    if (control !== undefined) return this.#key(modified(control, 2), "", held.slice(0, 2));
    return this.#character(held, 1, "M-");
  }

  #escape(held: readonly number[]): number {
    const second = held[1];
    if (second === undefined) return NEEDS_MORE;
    if (second === ESC) return this.#key("Esc", "", held.slice(0, 1));
    if (second === 0x5b) return this.#csi(held);
    if (second === 0x4f) return this.#ss3(held);
    if (STRING_STARTS.has(second)) return stringLength(held);
    return this.#alt(held);
  }

  #ss3(held: readonly number[]): number {
    const third = held[2];
    if (third === undefined) return NEEDS_MORE;
    const name = SS3_KEYS.get(String.fromCharCode(third));
    return name === undefined ? 3 : this.#key(name, "", held.slice(0, 3));
  }

  #csi(held: readonly number[]): number {
    const end = held.findIndex((b, i) => i >= 2 && (b < 0x20 || b >= 0x40));
    if (end < 0) return held.length > MAX_SEQUENCE ? held.length : NEEDS_MORE;
    // A control character inside: the sequence is broken off, and the character counts.
    if ((held[end] ?? 0) < 0x20 || (held[end] ?? 0) > 0x7e) return end;
    const params = String.fromCharCode(...held.slice(2, end));
    const final = String.fromCharCode(held[end] ?? 0);
    if (params === "" && final === "M") return held.length < 6 ? NEEDS_MORE : 6;
    if (params === "" && final === "[") return this.#linuxKey(held);
    this.#sequence(params, final, held.slice(0, end + 1));
    return end + 1;
  }

  /** The Linux console's F1 to F5: CSI [ A to CSI [ E. */
  #linuxKey(held: readonly number[]): number {
    const fourth = held[3];
    if (fourth === undefined) return NEEDS_MORE;
    const name = LINUX_F_KEYS.get(String.fromCharCode(fourth));
    return name === undefined ? 4 : this.#key(name, "", held.slice(0, 4));
  }

  #sequence(params: string, final: string, raw: readonly number[]): void {
    if (params.startsWith("<")) return this.#mouse(params.slice(1), final);
    if (!/^[0-9;:]*$/.test(params)) return;
    const [number = 0, modifiers = 1] = params.split(";").map((p) => parseInt(p, 10) || 0);
    const mods = Math.max(0, modifiers - 1);
    if (final === "~" && number === 200) this.#paste = [];
    else if (params === "" && (final === "I" || final === "O")) {
      this.#events.push({ kind: "focus", gained: final === "I" });
    } else if (final === "u") this.#unicodeKey(number, mods, raw);
    else {
      const name = final === "~" ? CSI_TILDE_KEYS.get(number) : CSI_KEYS.get(final);
      if (name !== undefined) this.#key(modified(name, mods), "", raw);
    }
  }

  /** CSI code ; modifiers u (fixterms). */
  #unicodeKey(code: number, mods: number, raw: readonly number[]): void {
    const named = CTRL_KEYS.get(code);
    if (named !== undefined) this.#key(modified(named, mods), "", raw);
    else if (isPrintable(code)) {
      const character = String.fromCodePoint(code);
      const shown = mods & 4 ? character.toUpperCase() : character;
      this.#key(modified(shown, mods & ~1), mods & 6 ? "" : character, raw);
    }
  }

  #mouse(params: string, final: string): void {
    const [b, column, row] = params.split(";").map((p) => parseInt(p, 10));
    if (b === undefined || !column || !row || Number.isNaN(b) || !/[Mm]/.test(final)) return;
    const action = mouseAction(b, final === "m");
    if (action === undefined) return;
    const button = (b & 64) === 0 ? BUTTONS[b & 3] ?? "none" : "none";
    const keys = { shift: (b & 4) !== 0, alt: (b & 8) !== 0, ctrl: (b & 16) !== 0 };
    this.#events.push({ kind: "mouse", action, button, x: column - 1, y: row - 1, ...keys });
  }
}

const BUTTONS = ["left", "middle", "right", "none"] as const;

function mouseAction(b: number, released: boolean): MouseEvent["action"] | undefined {
  if (b & 64) return (["wheel-up", "wheel-down"] as const)[b & 3];
  if (released) return "release";
  if (b & 32) return (b & 3) === 3 ? "move" : "drag";
  return "press";
}

/** ESC and one of these opens a string: OSC, DCS, PM, APC, SOS. */
const STRING_STARTS = new Set([0x5d, 0x50, 0x5e, 0x5f, 0x58]);

function stringLength(held: readonly number[]): number {
  const last = held[held.length - 1];
  const closed = last === 0x07 || (last === 0x5c && held[held.length - 2] === ESC);
  const over = held.length > 2 && (closed || held.length > MAX_SEQUENCE);
  return over ? held.length : NEEDS_MORE;
}

/** Length of the UTF-8 sequence that a byte starts, 0 if it starts none. */
function utf8Length(byte: number): number {
  if (byte < 0x80) return 1;
  if (byte >= 0xc2 && byte < 0xe0) return 2;
  if (byte >= 0xe0 && byte < 0xf0) return 3;
  return byte >= 0xf0 && byte < 0xf5 ? 4 : 0;
}

function isPrintable(code: number): boolean {
  return code > 0x20 && code < 0x110000 && !/[\p{Cc}\p{Cs}]/u.test(String.fromCodePoint(code));
}
