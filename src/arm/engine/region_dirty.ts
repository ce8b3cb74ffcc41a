/**
 * What of a region's registers the CPU state may not have: a call stores those, since its callee reads the state,
 * and reads all of them anew behind it. What has not been written since then, or since the entry, is there already.
 */
import { SWITCH } from "./region_blocks.ts";
import type { Graph } from "./region_graph.ts";
import type { Node } from "./region_nodes.ts";

function addWritten(node: Node, to: Set<number>): Set<number> {
  for (const { effects } of node.block.steps) for (const slot of effects.written) to.add(slot);
  return to;
}

/** Of what may be written before the node: what may be behind it. */
function behind(node: Node, before: ReadonlySet<number>): ReadonlySet<number> {
  // With a switch it is that which makes the call.
  const called = node.calls && !node.isSwitch && !node.successors.has(SWITCH);
  return called ? new Set() : addWritten(node, new Set(before));
}

/** Registers that may have been written where each node ends, if a call is made there. */
export function dirtyAtCalls({ entry, nodes }: Graph): ReadonlyMap<Node, ReadonlySet<number>> {
  const before = new Map<Node, Set<number>>([[entry, new Set()]]);
  for (let changed = true; changed;) {
    changed = false;
    for (const node of nodes.values()) {
      const here = before.get(node);
      if (here === undefined) continue;
      for (const key of node.successors.values()) {
        const to = nodes.get(key) as Node;
        const there = before.get(to) ?? new Set<number>();
        const size = before.has(to) ? there.size : -1;
        for (const slot of behind(node, here)) there.add(slot);
        before.set(to, there);
        changed ||= there.size !== size;
      }
    }
  }
  const calling = [...before].filter(([node]) => node.calls);
  return new Map(calling.map(([node, here]) => [node, addWritten(node, new Set(here))]));
}
