/**
 * Bits, bytes and lanes of vectors looked at or moved as patterns: polynomial products, table lookup,
 * counts of leading bits, reversals. As simd_lanes.ts, made of WebAssembly's vector operations.
 */
import type { Builder, V128 } from "./builder.ts";
import {
  add,
  and,
  bytes,
  constant,
  eq,
  type LaneOp,
  or,
  shl,
  shrU,
  sign,
  sub,
  type UnaryLaneOp,
  xor,
  zero,
} from "./simd_lanes.ts";
import type { LaneBits } from "./vector_ops.ts";

/** Polynomial product over {0, 1} of lanes, cut to the lane: `c` has at most 8 bits. */
export const polynomialMul: LaneOp = (b, bits, a, c) => {
  let sum = zero(b);
  for (let i = 0; i < 8; i++) {
    const bit = constant(b, bits, 1n << BigInt(i));
    const chosen = eq(b, bits, and(b, c, bit), bit);
    sum = xor(b, sum, and(b, chosen, shl(b, bits, a, i)));
  }
  return sum;
};

/** Bytes of `table`, one vector after the other, by the indices; 0 for an index beyond it. */
export function lookUpBytes(b: Builder, table: readonly V128[], indices: V128): V128 {
  return table
    .map((part, i) => {
      const inside = i === 0 ? indices : sub(b, 8, indices, constant(b, 8, BigInt(16 * i)));
      return b.vector("i8x16.swizzle", part, inside);
    })
    .reduce((x, y) => or(b, x, y));
}

/** Sixteen values by the low four bits of each byte. */
function lookUp(b: Builder, table: (nibble: number) => number, nibbles: V128): V128 {
  return b.vector("i8x16.swizzle", bytes(b, table), nibbles);
}

const LOW_NIBBLES = 0x0fn;

/** Count of leading zeros: bytes by their nibbles, wider lanes by their halves. */
export const countLeadingZeros: UnaryLaneOp = (b, bits, a) => {
  const table = (nibble: number) => Math.clz32(nibble) - 28;
  const half = bits / 2;
  const count = bits === 8 ? undefined : countLeadingZeros(b, half as LaneBits, a);
  const high = count ? shrU(b, bits, count, half) : lookUp(b, table, shrU(b, 8, a, 4));
  const low = count
    ? and(b, count, constant(b, bits, (1n << BigInt(half)) - 1n))
    : lookUp(b, table, and(b, a, constant(b, 8, LOW_NIBBLES)));
  const empty = eq(b, bits, high, constant(b, bits, BigInt(half)));
  return add(b, bits, high, and(b, low, empty));
};

/** Bits equal to the sign bit that follow it. */
export const countLeadingSigns: UnaryLaneOp = (b, bits, a) =>
  sub(b, bits, countLeadingZeros(b, bits, xor(b, a, sign(b, bits, a))), constant(b, bits, 1n));

/** The bits of each byte in reverse. */
export function reverseBits(b: Builder, a: V128): V128 {
  const table = (n: number) => ((n & 1) << 3) | ((n & 2) << 1) | ((n & 4) >> 1) | ((n & 8) >> 3);
  const low = lookUp(b, table, and(b, a, constant(b, 8, LOW_NIBBLES)));
  return or(b, shl(b, 8, low, 4), lookUp(b, table, shrU(b, 8, a, 4)));
}

/** The lanes of `bits` within each container of `container` bits in reverse. */
export function reverseLanes(b: Builder, bits: LaneBits, container: 16 | 32 | 64, a: V128): V128 {
  const [size, group] = [bits / 8, container / 8];
  const order = Array.from({ length: 16 }, (_, i) => {
    const inside = i % group;
    const lane = group / size - 1 - Math.floor(inside / size);
    return i - inside + lane * size + (inside % size);
  });
  return b.shuffle(order, a, a);
}
