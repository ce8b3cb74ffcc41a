/** Values that are a constant apart from a register, or from a sum of registers that may be shifted left by constants. */
import { gprOffset, SLOT } from "../arch/cpu_state.ts";
import type { Node } from "./wasm_nodes.ts";

export interface Term {
  /** The register, as an offset into the CPU state. */
  readonly slot: number;
  readonly shift: number;
}

/** The sum of its terms and of `offset`, modulo 2^64. */
export interface Linear {
  /** In a fixed order, so that the same sums look the same. */
  readonly terms: readonly Term[];
  readonly offset: number;
}

const ZERO = gprOffset(SLOT.ZR);
/** What addresses are made of: a base and an index. */
const MAX_TERMS = 2;
/** Larger offsets are of no use. */
const MAX_OFFSET = 2 ** 31;

function checked(terms: readonly Term[], offset: number): Linear | undefined {
  if (terms.length > MAX_TERMS || Math.abs(offset) >= MAX_OFFSET) return undefined;
  return { terms, offset };
}

function sum(a: Linear | undefined, b: Linear | undefined): Linear | undefined {
  if (a === undefined || b === undefined) return undefined;
  const terms = [...a.terms, ...b.terms].sort((x, y) => x.slot - y.slot || x.shift - y.shift);
  return checked(terms, a.offset + b.offset);
}

function shiftedLeft({ terms, offset }: Linear, by: number): Linear | undefined {
  const moved = terms.map(({ slot, shift }) => ({ slot, shift: shift + by }));
  if (moved.some(({ shift }) => shift > 63)) return undefined;
  return checked(moved, offset * 2 ** by);
}

function negative(a: Linear | undefined): Linear | undefined {
  return a?.terms.length === 0 ? { terms: [], offset: -a.offset } : undefined;
}

/** The 64-bit value of a node as registers were before the instruction; undefined where it is nothing of the kind. */
export function linearOf(node: Node): Linear | undefined {
  const { type, value, register, base, shifted, sum: parts, difference } = node;
  if (type !== "i64") return undefined;
  if (value !== undefined) return checked([], Number(BigInt.asIntN(64, value)));
  if (register && base !== undefined) {
    return { terms: base === ZERO ? [] : [{ slot: base, shift: 0 }], offset: 0 };
  }
  if (parts) return sum(linearOf(parts[0]), linearOf(parts[1]));
  if (difference) return sum(linearOf(difference[0]), negative(linearOf(difference[1])));
  const of = shifted && linearOf(shifted.of as unknown as Node);
  return of && shiftedLeft(of, shifted.by);
}

/** What registers are in terms of what they were; those that are missing are as they were, undefined is not known. */
export type Moves = ReadonlyMap<number, Linear | undefined>;

/** The value in terms of what the registers were before `moves`. */
export function before({ terms, offset }: Linear, moves: Moves): Linear | undefined {
  let out: Linear | undefined = { terms: [], offset };
  for (const { slot, shift } of terms) {
    const was = moves.has(slot) ? moves.get(slot) : { terms: [{ slot, shift: 0 }], offset: 0 };
    out = was && sum(out, shiftedLeft(was, shift));
  }
  return out;
}

/** Equal for values that are constants apart. */
export function termsKey({ terms }: Linear): string {
  return terms.map(({ slot, shift }) => `${slot}<<${shift}`).join("+");
}

export function isSame(a: Linear | undefined, b: Linear | undefined): boolean {
  return a !== undefined && b !== undefined && a.offset === b.offset && termsKey(a) === termsKey(b);
}
