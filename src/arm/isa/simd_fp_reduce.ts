/** Advanced SIMD floating point that makes one number of a vector: of a pair of lanes, or across all (manual: C4.1.96, "scalar pairwise", "across lanes"). */
import type { FpSize } from "../fp/format.ts";
import type { FpOp } from "../fp/operations.ts";
import type { Builder, Slot, V64 } from "./builder.ts";
import { fpReg, letterOf, setElement, vectorReg } from "./fp_operand.ts";
import { vr } from "./row.ts";
import { laneSize } from "./simd_fp_three_same.ts";

interface Operands {
  readonly d: Slot;
  readonly n: Slot;
}

/** Of the groups of pairs and across lanes: by the upper bit of size and the low two of opcode. */
const REDUCTIONS: Readonly<Record<string, readonly [mnemonic: string, op: FpOp]>> = {
  "0:0": ["fmaxnm", "maxnm"],
  "0:1": ["fadd", "add"],
  "0:3": ["fmax", "max"],
  "1:0": ["fminnm", "minnm"],
  "1:3": ["fmin", "min"],
};

interface ReduceFields {
  readonly z: number;
  readonly s?: number;
  readonly o: number;
  readonly n: number;
  readonly d: number;
}

function reductionOf(f: ReduceFields) {
  return REDUCTIONS[`${f.z}:${f.o}`];
}

/** Manual: Reduce(): halves, each reduced, and the two results combined; the lower one first. */
function reduce(b: Builder, op: FpOp, size: FpSize, lanes: readonly V64[]): V64 {
  const [only] = lanes;
  if (lanes.length === 1 && only) return only;
  const middle = lanes.length / 2;
  const low = reduce(b, op, size, lanes.slice(0, middle));
  return b.fp(op, size, low, reduce(b, op, size, lanes.slice(middle)));
}

function reduceSemantics(
  b: Builder,
  o: Operands,
  { op, size, count }: { op: FpOp; size: FpSize; count: number },
): void {
  b.fpAccess();
  const n = b.q(o.n);
  const lanes = Array.from({ length: count }, (_, i) => b.lane(size, n, i));
  setElement(b, o.d, reduce(b, op, size, lanes));
}

/** FADDP and the like of a scalar: the two lowest lanes. */
export const pairSpec = {
  disassemble: (f: ReduceFields) => {
    const size = laneSize(f);
    return `${reductionOf(f)?.[0]}p\t${fpReg(size, f.d)}, v${f.n}.2${letterOf(size)}`;
  },
  predecode: (f: ReduceFields) => {
    const found = reductionOf(f);
    if (!found) return null;
    return {
      shape: { op: found[1], size: laneSize(f), count: 2 },
      slots: { d: vr(f.d), n: vr(f.n) },
      consts: {},
    };
  },
  semantics: reduceSemantics,
};

/** FMAXV and the like: 4 singles, or 4 or 8 halves. */
export function acrossSpec(size: 16 | 32) {
  return {
    disassemble: (f: ReduceFields & { readonly q?: number }) =>
      `${reductionOf(f)?.[0]}v\t${fpReg(size, f.d)}, ${vectorReg(size, f.q ?? 1, f.n)}`,
    predecode: (f: ReduceFields & { readonly q?: number }) => {
      const found = reductionOf(f);
      if (!found || found[1] === "add") return null;
      return {
        shape: { op: found[1], size, count: ((f.q ?? 1) ? 128 : 64) / size },
        slots: { d: vr(f.d), n: vr(f.n) },
        consts: {},
      };
    },
    semantics: reduceSemantics,
  };
}
