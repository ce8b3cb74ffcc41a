/** What the rows of Advanced SIMD floating point have in common: signs, halves and lane orders of vectors. */
import type { FpSize } from "../fp/format.ts";
import type { Builder, Slot, V128, V64 } from "./builder.ts";
import { signBit } from "./fp_operand.ts";
import type { LaneBits } from "./vector_ops.ts";

/** A vector constant of equal lanes. */
export function splatConstant(b: Builder, bits: LaneBits, value: bigint): V128 {
  let half = 0n;
  for (let at = 0; at < 64; at += bits) half |= value << BigInt(at);
  return b.c128(half, half);
}

/** All lanes with their signs changed, NaNs too. */
export function negateLanes(b: Builder, size: FpSize, a: V128): V128 {
  return b.vector("v128.xor", a, splatConstant(b, size, signBit(size)));
}

/** All lanes without their signs. */
export function absoluteLanes(b: Builder, size: FpSize, a: V128): V128 {
  return b.vector("v128.and", a, splatConstant(b, size, signBit(size) - 1n));
}

/** The whole vector, or its low half with zeros above. */
export function cutTo(b: Builder, q: boolean, a: V128): V128 {
  return q ? a : b.vector("v128.and", a, b.c128((1n << 64n) - 1n, 0n));
}

/** A byte order for `shuffle` from an order of lanes. */
function bytesOfLanes(bits: LaneBits, lanes: readonly number[]): number[] {
  const width = bits / 8;
  return lanes.flatMap((lane) => Array.from({ length: width }, (_, i) => lane * width + i));
}

/** Lanes of `a` and, counted on, of `c`, in this order. */
export function arrange(
  b: Builder,
  bits: LaneBits,
  a: V128,
  c: V128,
  lane: (index: number) => number,
): V128 {
  const order = Array.from({ length: 128 / bits }, (_, i) => lane(i));
  return b.shuffle(bytesOfLanes(bits, order), a, c);
}

/** The even (`odd` 0) or odd lanes of two vectors, or of their low halves: what pairwise operations take. */
export function everyOther(
  b: Builder,
  bits: LaneBits,
  q: boolean,
  a: V128,
  c: V128,
  odd: 0 | 1,
): V128 {
  if (q) return arrange(b, bits, a, c, (i) => 2 * i + odd);
  const count = 64 / bits;
  const all = 128 / bits;
  return arrange(b, bits, a, c, (i) => {
    const from = (2 * i + odd) % (2 * count);
    return from < count ? from : all + from - count;
  });
}

/** Neighbours of each pair of lanes exchanged. */
export function swapPairs(b: Builder, bits: LaneBits, a: V128): V128 {
  return arrange(b, bits, a, a, (i) => i ^ 1);
}

/** The even or odd lane of each pair in both. */
export function doublePairs(b: Builder, bits: LaneBits, a: V128, odd: 0 | 1): V128 {
  return arrange(b, bits, a, a, (i) => (i & ~1) | odd);
}

/** The lanes of pairs that are even (1), odd (2) or both (3) with their signs changed. */
export function negatePairs(b: Builder, size: FpSize, a: V128, which: number): V128 {
  let half = 0n;
  for (let lane = 0; lane < 64 / size; lane++) {
    const changed = size === 64 ? which & 1 : (which >> (lane & 1)) & 1;
    if (changed) half |= signBit(size) << BigInt(lane * size);
  }
  if (size !== 64) return b.vector("v128.xor", a, b.c128(half, half));
  const sign = signBit(64);
  return b.vector("v128.xor", a, b.c128(which & 1 ? sign : 0n, which & 2 ? sign : 0n));
}

/** Where element `index` of Vm lies: the slot of its 64 bits, and the shift to its lowest bit. */
export function elementPlace(
  register: number,
  bits: number,
  index: number,
): { readonly slot: number; readonly shift: bigint } {
  const at = index * bits;
  return { slot: register + (at >= 64 ? 8 : 0), shift: BigInt(at % 64) };
}

/** The element that {@link elementPlace} found, in the low bits; what is above it is not cleared. */
export function placedElement(b: Builder, slot: Slot, shift: V64): V64 {
  return b.shrU(b.v(slot, 0), shift);
}
