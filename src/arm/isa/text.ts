/** Operands as objdump prints them. */

/** X or W register; 31 is the zero register. */
export function reg(sf: number | boolean, n: number): string {
  if (n === 31) return sf ? "xzr" : "wzr";
  return `${sf ? "x" : "w"}${n}`;
}

/** X or W register; 31 is the stack pointer. */
export function regSp(sf: number | boolean, n: number): string {
  if (n === 31) return sf ? "sp" : "wsp";
  return reg(sf, n);
}

export const CONDITIONS = [
  "eq",
  "ne",
  "cs",
  "cc",
  "mi",
  "pl",
  "vs",
  "vc",
  "hi",
  "ls",
  "ge",
  "lt",
  "gt",
  "le",
  "al",
  "nv",
] as const;

/** The name of condition `cond` (0 to 15). */
export function condition(cond: number): string {
  return CONDITIONS[cond] as string;
}

export const SHIFTS = ["lsl", "lsr", "asr", "ror"] as const;

export const EXTENDS = ["uxtb", "uxth", "uxtw", "uxtx", "sxtb", "sxth", "sxtw", "sxtx"] as const;

/** An immediate in hexadecimal: `#0x1f`. */
export function hex(value: number | bigint): string {
  return value < 0 ? `#-0x${(-value).toString(16)}` : `#0x${value.toString(16)}`;
}

/** The address `offset` bytes from `address`, modulo 2^64: `0x1f`. */
export function target(address: number, offset: number | bigint): string {
  return `0x${BigInt.asUintN(64, BigInt(address) + BigInt(offset)).toString(16)}`;
}

/** `, lsl #3`, or nothing for a shift left by 0. */
export function shifted(type: number, amount: number): string {
  return type === 0 && amount === 0 ? "" : `, ${SHIFTS[type]} #${amount}`;
}

/** `[x1, #8]`; an offset of 0 is not printed. */
export function offsetAddress(n: number, offset: number): string {
  return offset === 0 ? `[${regSp(1, n)}]` : `[${regSp(1, n)}, #${offset}]`;
}

/** `[x1, #8]!` */
export function preAddress(n: number, offset: number): string {
  return `[${regSp(1, n)}, #${offset}]!`;
}

/** `[x1], #8` */
export function postAddress(n: number, offset: number): string {
  return `[${regSp(1, n)}], #${offset}`;
}

/** `[x1, w2, sxtw #3]`: option as encoded, `scaled` the S bit, `log2` the size's logarithm. */
export function registerAddress(
  f: { readonly n: number; readonly m: number },
  option: number,
  scaled: number,
  log2: number,
): string {
  const name = option === 3 ? "lsl" : EXTENDS[option];
  const index = reg(option & 1, f.m);
  const extension = scaled ? `, ${name} #${log2}` : option === 3 ? "" : `, ${name}`;
  return `[${regSp(1, f.n)}, ${index}${extension}]`;
}

const PREFETCH_TYPES = ["pld", "pli", "pst"] as const;

/** The operation of PRFM and PRFUM: `pldl1keep`, or the number where it has no name. */
export function prefetchOperation(t: number): string {
  const type = PREFETCH_TYPES[t >> 3];
  const level = (t >> 1) & 3;
  if (type === undefined || level === 3) return `#0x${t.toString(16).padStart(2, "0")}`;
  return `${type}l${level + 1}${t & 1 ? "strm" : "keep"}`;
}
