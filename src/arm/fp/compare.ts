/** Comparisons (manual: FPCompare, FPCompareEQ, FPCompareGE, FPCompareGT). */
import { type FpSize, FPSR, type FpState, isNaN, unpack } from "./format.ts";
import { order } from "./arithmetic.ts";

/** 1, 0, -1, or null when unordered; a quiet NaN raises Invalid Operation only where `signal`. */
function ordering(
  state: FpState,
  size: FpSize,
  x: bigint,
  y: bigint,
  signal: boolean,
): number | null {
  const [a, b] = [unpack(state, size, x), unpack(state, size, y)];
  if (!isNaN(a) && !isNaN(b)) return order(a, b);
  if (signal || a.type === "signalling" || b.type === "signalling") state.raise(FPSR.IOC);
  return null;
}

/** NZCV of FCMP, and of FCMPE with `signal`. */
export function fpCompare(
  state: FpState,
  size: FpSize,
  x: bigint,
  y: bigint,
  signal: boolean,
): bigint {
  switch (ordering(state, size, x, y, signal)) {
    case null:
      return 0b0011n;
    case 0:
      return 0b0110n;
    case 1:
      return 0b0010n;
    default:
      return 0b1000n;
  }
}

/** 1 if the relation holds, else 0. Only FPCompareEQ is quiet. */
export function fpCompareEq(state: FpState, size: FpSize, x: bigint, y: bigint): bigint {
  return ordering(state, size, x, y, false) === 0 ? 1n : 0n;
}
export function fpCompareGe(state: FpState, size: FpSize, x: bigint, y: bigint): bigint {
  return (ordering(state, size, x, y, true) ?? -1) >= 0 ? 1n : 0n;
}
export function fpCompareGt(state: FpState, size: FpSize, x: bigint, y: bigint): bigint {
  return (ordering(state, size, x, y, true) ?? -1) > 0 ? 1n : 0n;
}
