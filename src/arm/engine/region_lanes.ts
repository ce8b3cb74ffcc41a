/**
 * Vectors that are put together from neighbouring elements of the memory, lane by lane by way of general registers,
 * as compilers do where they do not see more in it: the whole is loaded at once when the last lane is there, and V8
 * leaves out what has been before. Only within a block, with no store between the first element and the last lane,
 * and only of what was looked up together, so that nothing is left for meanwhile. Not where other threads may write
 * to the memory: an element would be read twice.
 */
import type { Step } from "./region_blocks.ts";
import { type Share, shareKey, type Shares } from "./region_sharing.ts";
import type { SIMD_MEM } from "./wasm_simd.ts";

/** What an instruction puts where, if it is of the kind that is followed here. */
export type Put =
  | {
    readonly kind: "loaded";
    readonly slot: number;
    readonly nth: number;
    readonly offset: number;
    readonly size: number;
  }
  | {
    readonly kind: "moved";
    readonly slot: number;
    readonly from: number;
    readonly bits: 32 | 64;
  }
  | {
    readonly kind: "lanes";
    readonly slot: number;
    readonly bits: number;
    /** The lanes that become the low bits of register `from`; the rest of the vector stays, or becomes 0. */
    readonly first: number;
    readonly count: number;
    readonly from: number;
    readonly keeps: boolean;
  };

/** A vector register that is now as the memory is from an offset in what was looked up. */
export interface WholeVector {
  readonly slot: number;
  readonly share: Share;
  readonly load: keyof typeof SIMD_MEM;
}

/** An element of the memory in the low bits of a register, with zeros above. */
interface Element extends Share {
  readonly size: number;
}
interface Lanes {
  readonly bits: number;
  readonly elements: readonly (Element | undefined)[];
}

/** How to load a vector of elements of so many bits, to lanes as wide or twice as wide. */
const SAME: keyof typeof SIMD_MEM = "load";
const WIDER: Readonly<Record<number, keyof typeof SIMD_MEM>> = {
  8: "load8x8_u",
  16: "load16x4_u",
  32: "load32x2_u",
};

/** The vectors of a block that are whole behind an instruction, by its number. */
export function wholeVectors(
  steps: readonly Step[],
  shares: Shares,
): ReadonlyMap<number, WholeVector> {
  const out = new Map<number, WholeVector>();
  const elements = new Map<number, Element>();
  const vectors = new Map<number, Lanes>();
  for (const [step, { effects }] of steps.entries()) {
    const { puts, written, restartable } = effects;
    if (!restartable) {
      elements.clear();
      vectors.clear();
    }
    const found = puts.map((put) => [put, elementOf(put, step, shares, elements)] as const);
    const before = new Map(vectors);
    for (const slot of written) {
      elements.delete(slot);
      vectors.delete(slot);
    }
    for (const [put, element] of found) {
      if (put.kind !== "lanes") {
        if (element) elements.set(put.slot, element);
        continue;
      }
      const lanes = withElements(before.get(put.slot), put, element);
      vectors.set(put.slot, lanes);
      const whole = wholeOf(put.slot, lanes);
      if (whole) out.set(step, whole);
    }
  }
  return out;
}

function elementOf(
  put: Put,
  step: number,
  shares: Shares,
  elements: ReadonlyMap<number, Element>,
): Element | undefined {
  if (put.kind !== "loaded") {
    const element = elements.get(put.from);
    const cut = put.kind === "moved" && element !== undefined && 8 * element.size > put.bits;
    return cut ? undefined : element;
  }
  const share = shares.get(shareKey(step, put.nth));
  return share && { bytes: share.bytes, offset: share.offset + put.offset, size: put.size };
}

type PutLanes = Put & { readonly kind: "lanes" };

function withElements(old: Lanes | undefined, put: PutLanes, element: Element | undefined): Lanes {
  const { bits, first, count, keeps } = put;
  const none = new Array<undefined>(128 / bits).fill(undefined);
  const kept = keeps && old?.bits === bits ? old.elements : none;
  const elements = kept.map((e, i) => i >= first && i < first + count ? element : e);
  return { bits, elements };
}

function wholeOf(slot: number, { bits, elements }: Lanes): WholeVector | undefined {
  const [first] = elements;
  if (first === undefined) return undefined;
  const { bytes, offset, size } = first;
  const load = 8 * size === bits ? SAME : 16 * size === bits ? WIDER[8 * size] : undefined;
  const inRow = elements.every((e, i) =>
    e?.bytes === bytes && e.size === size && e.offset === offset + i * size
  );
  return load && inRow ? { slot, share: { bytes, offset }, load } : undefined;
}
