/** Code of which it can be seen that it will make misaligned accesses, before it has made them. */
import { before, type Linear, termsKey } from "./linear.ts";
import type { Step } from "./region_blocks.ts";
import type { Graph } from "./region_graph.ts";

const WIDE = 16;

/** Whether a loop accesses 16 bytes at places that are constants apart which are no multiples of 16. */
export function meetsMisaligned({ nodes }: Graph): boolean {
  return [...nodes.values()].some(({ depth, block }) => depth > 0 && isMixed(block.steps));
}

function isMixed(steps: readonly Step[]): boolean {
  /** The first place for each sum of registers. */
  const firsts = new Map<string, number>();
  const now = new Map<number, Linear | undefined>();
  for (const { effects: { accesses, moves } } of steps) {
    for (const { address, span } of accesses) {
      const place = address && before(address, now);
      if (place === undefined || span % WIDE !== 0) continue;
      const key = termsKey(place);
      const first = firsts.get(key) ?? place.offset;
      if ((place.offset - first) % WIDE !== 0) return true;
      firsts.set(key, first);
    }
    const after = [...moves].map(([slot, value]) => [slot, value && before(value, now)] as const);
    for (const [slot, value] of after) now.set(slot, value);
  }
  return false;
}
