/** The operations on elements that instruction rows name, each with its reference. */
import {
  fpAbd,
  fpAdd,
  fpDiv,
  fpMax,
  fpMaxNum,
  fpMin,
  fpMinNum,
  fpMul,
  fpMulAdd,
  fpMulX,
  fpNegMul,
  fpRecipStep,
  fpRSqrtStep,
  fpSqrt,
  fpSub,
} from "./arithmetic.ts";
import { fpCompare, fpCompareEq, fpCompareGe, fpCompareGt } from "./compare.ts";
import {
  fixedToFp,
  fpConvert,
  fpRoundInt,
  fpToFixed,
  fpToFixedJs,
  type IntegerType,
} from "./convert.ts";
import {
  fpRecipEstimate,
  fpRecpX,
  fpRSqrtEstimate,
  unsignedRecipEstimate,
  unsignedRSqrtEstimate,
} from "./estimate.ts";
import type { FpSize, FpState, Rounding } from "./format.ts";

type Operation = (state: FpState, size: FpSize, ...operands: bigint[]) => bigint;

const binary = (
  f: (state: FpState, size: FpSize, x: bigint, y: bigint) => bigint,
): Operation =>
(state, size, x = 0n, y = 0n) => f(state, size, x, y);

const unary = (f: (state: FpState, size: FpSize, x: bigint) => bigint): Operation =>
(
  state,
  size,
  x = 0n,
) => f(state, size, x);

const integral = (rounding?: Rounding, exact = false): Operation => (state, size, x = 0n) =>
  fpRoundInt(state, size, x, rounding ?? state.rounding, exact);

/**
 * By name. Results of comparisons: `eq`, `ge`, `gt` 0 or 1, `cmp` and `cmpe` NZCV. `muladd` is
 * (addend, x, y), `muladdh` takes its factors in half precision. `jcvt` is the integer, with the Z
 * flag in bit 32.
 */
const FP_OPERATIONS = {
  add: binary(fpAdd),
  sub: binary(fpSub),
  mul: binary(fpMul),
  nmul: binary(fpNegMul),
  mulx: binary(fpMulX),
  div: binary(fpDiv),
  abd: binary(fpAbd),
  max: binary(fpMax),
  min: binary(fpMin),
  maxnm: binary(fpMaxNum),
  minnm: binary(fpMinNum),
  recps: binary(fpRecipStep),
  rsqrts: binary(fpRSqrtStep),
  muladd: (state, size, a = 0n, x = 0n, y = 0n) => fpMulAdd(state, size, a, x, y),
  muladdh: (state, size, a = 0n, x = 0n, y = 0n) => fpMulAdd(state, size, a, x, y, 16),
  sqrt: unary(fpSqrt),
  rintn: integral("even"),
  rintp: integral("up"),
  rintm: integral("down"),
  rintz: integral("zero"),
  rinta: integral("away"),
  rinti: integral(),
  rintx: integral(undefined, true),
  recpe: unary(fpRecipEstimate),
  rsqrte: unary(fpRSqrtEstimate),
  recpx: unary(fpRecpX),
  urecpe: unary((_state, _size, x) => unsignedRecipEstimate(x)),
  ursqrte: unary((_state, _size, x) => unsignedRSqrtEstimate(x)),
  eq: binary(fpCompareEq),
  ge: binary(fpCompareGe),
  gt: binary(fpCompareGt),
  cmp: binary((state, size, x, y) => fpCompare(state, size, x, y, false)),
  cmpe: binary((state, size, x, y) => fpCompare(state, size, x, y, true)),
  jcvt: unary((state, _size, x) => {
    const { bits, exact } = fpToFixedJs(state, x);
    return bits | (exact ? 1n << 32n : 0n);
  }),
} as const satisfies Record<string, Operation>;

export type FpOp = keyof typeof FP_OPERATIONS;

/** To an integer of the type's width; operands: the number, fraction bits. */
export interface FpToInteger extends IntegerType {
  readonly kind: "toInteger";
  readonly rounding: Rounding;
}

/** From an integer; operands: the integer (only its type's bits count), fraction bits. */
export interface FpFromInteger extends IntegerType {
  readonly kind: "fromInteger";
}

/** To another size, rounded as FPCR says, or to odd (FCVTXN). */
export interface FpToSize {
  readonly kind: "convert";
  readonly to: FpSize;
  readonly odd?: boolean;
}

export type FpOperation = FpOp | FpToInteger | FpFromInteger | FpToSize;

/** The element that `operation` on elements of `size` bits makes; flags go to `state`. */
export function evaluateFp(
  state: FpState,
  operation: FpOperation,
  size: FpSize,
  operands: readonly bigint[],
): bigint {
  const cut = operands.map((x) => BigInt.asUintN(size, x));
  if (typeof operation === "string") return FP_OPERATIONS[operation](state, size, ...cut);
  const [value = 0n, fractionBits = 0n] = operands;
  switch (operation.kind) {
    case "toInteger":
      return fpToFixed(
        state,
        size,
        cut[0] ?? 0n,
        operation,
        Number(fractionBits),
        operation.rounding,
      );
    case "fromInteger": {
      const integer = BigInt.asUintN(operation.bits, value);
      return fixedToFp(state, size, integer, operation, Number(fractionBits));
    }
    case "convert":
      return fpConvert(
        state,
        size,
        operation.to,
        cut[0] ?? 0n,
        operation.odd ? "odd" : undefined,
      );
  }
}

const COMPARISONS: ReadonlySet<FpOperation> = new Set<FpOperation>(["eq", "ge", "gt"]);

/** Whether a lane's result is a mask: all ones where the relation holds. */
export function isComparison(operation: FpOperation): boolean {
  return COMPARISONS.has(operation);
}
