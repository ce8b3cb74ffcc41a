/** The tables between what a terminal sends for a key and the key's name. */

const letters = Array.from({ length: 26 }, (_, i) => String.fromCharCode(0x41 + i));

/** One byte, and the key it is. LF is Ctrl-J: in raw mode Enter sends CR. */
export const CTRL_KEYS: ReadonlyMap<number, string> = new Map([
  [0x00, "Ctrl-Space"],
  ...letters.map((l, i): [number, string] => [i + 1, `Ctrl-${l}`]),
  [0x08, "Backspace"],
  [0x09, "Tab"],
  [0x0d, "Enter"],
  [0x1b, "Esc"],
  [0x1c, "Ctrl-\\"],
  [0x1d, "Ctrl-]"],
  [0x1e, "Ctrl-^"],
  [0x1f, "Ctrl-_"],
  [0x20, "Space"],
  [0x7f, "Backspace"],
]);

/** CSI with this final character. */
export const CSI_KEYS: ReadonlyMap<string, string> = new Map([
  ["A", "Up"],
  ["B", "Down"],
  ["C", "Right"],
  ["D", "Left"],
  ["F", "End"],
  ["H", "Home"],
  ["P", "F1"],
  ["Q", "F2"],
  ["R", "F3"],
  ["S", "F4"],
  ["Z", "Shift-Tab"],
]);

/** ESC O with this character (application cursor keys, keypad Enter, F1 to F4). */
export const SS3_KEYS: ReadonlyMap<string, string> = new Map([
  ...[...CSI_KEYS].filter(([, name]) => name !== "Shift-Tab"),
  ["M", "Enter"],
]);

/** CSI number ~. */
export const CSI_TILDE_KEYS: ReadonlyMap<number, string> = new Map([
  [1, "Home"],
  [2, "Ins"],
  [3, "Del"],
  [4, "End"],
  [5, "PgUp"],
  [6, "PgDn"],
  [7, "Home"],
  [8, "End"],
  [11, "F1"],
  [12, "F2"],
  [13, "F3"],
  [14, "F4"],
  [15, "F5"],
  [17, "F6"],
  [18, "F7"],
  [19, "F8"],
  [20, "F9"],
  [21, "F10"],
  [23, "F11"],
  [24, "F12"],
]);

/** CSI [ and this character: the Linux console. */
export const LINUX_F_KEYS: ReadonlyMap<string, string> = new Map([
  ["A", "F1"],
  ["B", "F2"],
  ["C", "F3"],
  ["D", "F4"],
  ["E", "F5"],
]);

/** `name` with modifiers added: bit 0 Shift, bit 1 Alt, bit 2 Ctrl. */
export function modified(name: string, mods: number): string {
  const has = (prefix: string): boolean => name.length > prefix.length && name.includes(prefix);
  const bare = name.replace(/^(Ctrl-)?(M-)?(Shift-)?(?=.)/, "");
  const ctrl = (mods & 4) !== 0 || has("Ctrl-");
  const alt = (mods & 2) !== 0 || has("M-");
  const shift = (mods & 1) !== 0 || has("Shift-");
  return (ctrl ? "Ctrl-" : "") + (alt ? "M-" : "") + (shift ? "Shift-" : "") + bare;
}

/** CSI or SS3 for a key that has one, with its modifiers; empty for other names. */
function encodeNamed(bare: string, mods: number): string {
  const tilde = [...CSI_TILDE_KEYS].find(([, known]) => known === bare)?.[0];
  const final = [...CSI_KEYS].find(([, known]) => known === bare)?.[0];
  if (final !== undefined) {
    if (mods !== 0) return `\x1b[1;${mods + 1}${final}`;
    return (/^F[1-4]$/.test(bare) ? "\x1bO" : "\x1b[") + final;
  }
  if (tilde === undefined) return "";
  return mods === 0 ? `\x1b[${tilde}~` : `\x1b[${tilde};${mods + 1}~`;
}

/**
 * The bytes an xterm sends for a key name: for scripted sessions and for what is typed into a guest.
 * Empty for a name that no key has.
 */
export function encodeKey(name: string): Uint8Array {
  const utf8 = new TextEncoder();
  if ([...name].length === 1) return utf8.encode(name);
  const control = [...CTRL_KEYS].findLast(([, known]) => known === name);
  if (control !== undefined) return Uint8Array.of(control[0]);
  const [, ctrl, alt, shift, bare = ""] = /^(Ctrl-)?(M-)?(Shift-)?(.+)$/.exec(name) ?? [];
  const plain = encodeNamed(name, 0);
  const mods = (ctrl ? 4 : 0) + (alt ? 2 : 0) + (shift ? 1 : 0);
  const sequence = plain !== "" ? plain : encodeNamed(bare, mods);
  if (sequence !== "") return utf8.encode(sequence);
  const rest = alt && !shift ? encodeKey((ctrl ?? "") + bare) : new Uint8Array(0);
  return rest.length === 0 ? rest : Uint8Array.of(0x1b, ...rest);
}
