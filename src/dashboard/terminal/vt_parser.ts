/**
 * The guest's bytes taken apart: printable characters, controls, and the control sequences a terminal knows.
 *
 * Follows the state machine of DEC's terminals (vt100.net, "A parser for DEC's ANSI-compatible video terminals").
 * Strings (OSC, DCS, APC, PM, SOS: title, clipboard, answers) are read to their end and thrown away.
 */

/** What the parser hands on. */
export interface VtActions {
  print(cp: number): void;
  /** A C0 control: BS, TAB, LF, VT, FF, CR and the like. */
  control(byte: number): void;
  /** ESC and one character; `intermediate` is empty or the characters between them. */
  escape(intermediate: string, final: string): void;
  /** CSI; `prefix` holds private markers and intermediates, empty for the standard sequences. */
  csi(prefix: string, params: readonly number[], final: string): void;
}

type State = "ground" | "escape" | "csi" | "string" | "string-escape";

/** A string that does not end is given up after this many bytes; the console would stay silent for ever. */
export const MAX_STRING = 4096;
const MAX_PARAMS = 32;
const MAX_PARAM = 65535;
const MAX_PREFIX = 8;
const REPLACEMENT = 0xfffd;

/** The parser; its state is bounded whatever it is fed. */
export class VtParser {
  readonly #to: VtActions;
  #state: State = "ground";
  #prefix = "";
  #params: number[] = [];
  #stringLength = 0;
  #partial = 0;
  #missing = 0;
  #least = 0;

  constructor(to: VtActions) {
    this.#to = to;
  }

  /** Takes the next bytes, cut anywhere. */
  feed(bytes: Uint8Array): void {
    for (const byte of bytes) this.#byte(byte);
  }

  #byte(byte: number): void {
    if (this.#missing > 0 && (byte & 0xc0) !== 0x80) this.#badUtf8();
    if (byte === 0x18 || byte === 0x1a) this.#state = "ground";
    else if (this.#state === "string" || this.#state === "string-escape") this.#string(byte);
    else if (byte === 0x1b) this.#begin("escape");
    else if (byte < 0x20) this.#to.control(byte);
    else if (this.#state === "ground") this.#character(byte);
    else if (byte < 0x7f) this.#sequence(byte);
    else if (byte > 0x7f) this.#state = "ground";
  }

  #begin(state: State): void {
    this.#state = state;
    this.#prefix = "";
    this.#params = [];
    this.#stringLength = 0;
  }

  #string(byte: number): void {
    const ended = byte === 0x07 || ++this.#stringLength > MAX_STRING;
    if (this.#state === "string-escape" && byte !== 0x5c) {
      // ESC and something else ends the string, and begins a sequence of its own.
      this.#begin("escape");
      this.#byte(byte);
    } else if (ended || this.#state === "string-escape") this.#state = "ground";
    else if (byte === 0x1b) this.#state = "string-escape";
  }

  #sequence(byte: number): void {
    const ch = String.fromCharCode(byte);
    if (this.#state === "csi") return this.#csi(byte, ch);
    if (byte < 0x30) this.#prefix = (this.#prefix + ch).slice(0, MAX_PREFIX);
    else if (this.#prefix === "" && ch === "[") this.#begin("csi");
    else if (this.#prefix === "" && "]P_^X".includes(ch)) this.#begin("string");
    else {
      this.#state = "ground";
      this.#to.escape(this.#prefix, ch);
    }
  }

  #csi(byte: number, ch: string): void {
    if (byte >= 0x40) {
      this.#state = "ground";
      this.#to.csi(this.#prefix, this.#params, ch);
    } else if (byte >= 0x30 && byte < 0x3a) this.#digit(byte - 0x30);
    else if (byte === 0x3b || byte === 0x3a) {
      if (this.#params.length === 0) this.#params.push(0);
      if (this.#params.length < MAX_PARAMS) this.#params.push(0);
    } else this.#prefix = (this.#prefix + ch).slice(0, MAX_PREFIX);
  }

  #digit(value: number): void {
    const last = this.#params.pop() ?? 0;
    this.#params.push(Math.min(MAX_PARAM, last * 10 + value));
  }

  #badUtf8(): void {
    this.#missing = 0;
    this.#to.print(REPLACEMENT);
  }

  #character(byte: number): void {
    if (byte < 0x7f) this.#to.print(byte);
    else if (byte === 0x7f) return;
    else if (this.#missing > 0) this.#continue(byte);
    else if (byte >= 0xc2 && byte < 0xf5) {
      this.#missing = byte < 0xe0 ? 1 : byte < 0xf0 ? 2 : 3;
      this.#least = [0, 0x80, 0x800, 0x10000][this.#missing] ?? 0;
      this.#partial = byte & (0x3f >> this.#missing);
    } else this.#to.print(REPLACEMENT);
  }

  #continue(byte: number): void {
    this.#partial = this.#partial << 6 | byte & 0x3f;
    if (--this.#missing > 0) return;
    const cp = this.#partial;
    const valid = cp >= this.#least && cp < 0x110000 && (cp < 0xd800 || cp > 0xdfff);
    this.#to.print(valid ? cp : REPLACEMENT);
  }
}
