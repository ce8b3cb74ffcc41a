/** Numbers as text of a known width, so that columns stand still while values change. */
import { NONE } from "../../vmm/frame_layout.ts";

const SUFFIXES = ["", "k", "M", "G", "T", "P"] as const;

/** Three significant digits with `unit`, at most five characters and the unit. */
function scaled(value: number, unit: string): string {
  const digits = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
  return value.toFixed(digits) + unit;
}

/** A count in at most six characters: exact below 100,000, then 123k, 1.23M, 12.3G. */
export function count(n: number): string {
  if (!Number.isFinite(n)) return "-";
  if (Math.abs(n) < 100_000) return String(Math.round(n));
  let value = n;
  let step = 0;
  for (; Math.abs(value) >= 999.5 && step < SUFFIXES.length - 1; step++) value /= 1000;
  return scaled(value, SUFFIXES[step] ?? "");
}

/** A rate in at most six characters: one decimal below 10. */
export function rate(n: number): string {
  return n !== 0 && Math.abs(n) < 9.95 ? n.toFixed(1) : count(n);
}

/** A share of `whole` in at most four characters; "-" where there is nothing to have a share of. */
export function percent(part: number, whole: number): string {
  return whole > 0 && !Number.isNaN(part)
    ? `${Math.floor(100 * Math.min(part, whole) / whole)}%`
    : "-";
}

/** Bytes in MiB with one decimal. */
export function mebibytes(bytes: number): string {
  return `${(bytes / (1 << 20)).toFixed(1)}M`;
}

const TIMES: readonly [limit: number, divisor: number, unit: string][] = [
  [999.5, 1, "ns"],
  [999.5e3, 1e3, "us"],
  [999.5e6, 1e6, "ms"],
  [Infinity, 1e9, "s"],
];

/** A time in at most six characters (below 100,000 s): 850ns, 1.25us, 3.20ms, 12.5s; "-" for none. */
export function duration(ns: number): string {
  if (ns === NONE || !Number.isFinite(ns)) return "-";
  if (ns === 0) return "0";
  const size = Math.abs(ns);
  const [, divisor, unit] = TIMES.find(([limit]) => size < limit) ?? [0, 1e9, "s"];
  return divisor === 1 ? Math.round(ns) + unit : scaled(ns / divisor, unit);
}

/** Virtual time as seconds with microseconds. */
export function clockTime(ns: number): string {
  return (ns / 1e9).toFixed(6);
}

/** Hexadecimal with `0x` and at least `digits` digits. */
export function hex(value: number | bigint, digits = 1): string {
  return "0x" + value.toString(16).padStart(digits, "0");
}

/** PSTATE's D, A, I, F: the letter where masked, a dot where not. */
export function daif(pstate: number): string {
  return [..."DAIF"].map((letter, i) => (pstate >>> (9 - i)) & 1 ? letter : ".").join("");
}
