/** What is typed and pasted as the guest's terminal sends it. */
import type { VirtualTerminal } from "../terminal/vt.ts";

/** The modes of the guest's terminal that matter for what is typed. */
export type GuestModes = Pick<VirtualTerminal, "mode">;

const PASTE = ["\x1b[200~", "\x1b[201~"] as const;
const ESC = 0x1b;
/** Cursor keys, Home and End without modifiers, behind ESC: CSI and SS3 are two forms of the same key. */
const CURSOR_KEY = /^[[O]([ABCDHF])$/;

/** The bytes of a key: cursor keys in the form that the guest has asked for, all else as it came. */
export function guestKey(raw: Uint8Array, terminal: GuestModes): Uint8Array {
  if (raw.length !== 3 || raw[0] !== ESC) return raw;
  const key = CURSOR_KEY.exec(String.fromCharCode(...raw.subarray(1)));
  if (key === null) return raw;
  const between = terminal.mode("applicationCursor") ? "O" : "[";
  return new TextEncoder().encode(`\x1b${between}${key[1]}`);
}

/**
 * The bytes of a paste: lines end as the Enter key ends them, and when the guest has asked for it the paste
 * stands in brackets, which nothing in it can close.
 */
export function guestPaste(text: string, terminal: GuestModes): Uint8Array {
  const lines = text.replace(/\r\n?|\n/g, "\r");
  if (!terminal.mode("bracketedPaste")) return new TextEncoder().encode(lines);
  return new TextEncoder().encode(PASTE[0] + lines.replaceAll(PASTE[1], "") + PASTE[1]);
}
