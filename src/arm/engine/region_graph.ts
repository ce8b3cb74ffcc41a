/**
 * The graph of a region: its blocks and how control goes between them, what it does to the flags, and what is taken
 * off the budget where. An edge into the middle of a loop, which cannot be written as structure, leaves the region.
 */
import {
  type Block,
  calleeOf,
  Copies,
  endsInJump,
  leaders,
  skeletonOf,
  type StepAt,
  withSwitch,
} from "./region_blocks.ts";
import { Inliner } from "./region_inliner.ts";
import { reducible, startedInside, unroll } from "./region_loops.ts";
import { connected, type Node } from "./region_nodes.ts";

/** The region's nodes by their keys. */
export interface Graph {
  readonly entry: Node;
  /** Where in the page the region begins. */
  readonly offset: number;
  readonly nodes: ReadonlyMap<number, Node>;
  /** Instructions in all blocks, those of copies counted once. */
  readonly count: number;
}

const MAX_CHARGE = 1000;

/** Places where computed jumps may lead within a region. */
const MAX_TARGETS = 64;

/** Where in the page the calls lead that the region makes. */
export function callsOf({ nodes }: Graph): Set<number> {
  const out = new Set<number>();
  for (const { block, calls } of nodes.values()) {
    const target = calls ? calleeOf(block) : undefined;
    if (target !== undefined) out.add(target);
  }
  return out;
}

/** Whether a computed jump within the region leads to `offset`. */
export function isSwitched({ nodes }: Graph, offset: number): boolean {
  return [...nodes.values()].some((node) => node.isSwitch && node.successors.has(offset));
}

/** Whether the block uses the flags it is entered with; undefined: neither uses nor sets them. */
function usesFlags({ steps }: Block): boolean | undefined {
  for (const { effects } of steps) {
    if (effects.readsFlags || effects.setsFlagsConditionally) return true;
    if (effects.setsFlags) return false;
  }
  return undefined;
}

function markFlags(nodes: ReadonlyMap<number, Node>): void {
  const inOrder = [...nodes.values()].toReversed();
  for (const node of inOrder) node.readsFlags = usesFlags(node.block) === true;
  for (let changed = true; changed;) {
    changed = false;
    for (const node of inOrder) {
      if (node.readsFlags || usesFlags(node.block) !== undefined) continue;
      const reads = [...node.successors.values()].some((to) => nodes.get(to)?.readsFlags);
      if (reads) node.readsFlags = changed = true;
    }
  }
}

/**
 * The region entered at `entry`, of about `limit` instructions at most, small loops `copies` times in a row at
 * most; undefined where there is none. `branchTargets` gives offsets that computed jumps may lead to.
 */
export function regionGraph(
  entry: number,
  stepAt: StepAt,
  limit: number,
  copies: number,
  branchTargets: () => readonly number[],
): Graph | undefined {
  const plainStarts = leaders([entry], stepAt, limit);
  if (!plainStarts.has(entry)) return undefined;
  const keys = new Copies();
  const jumps = [...skeletonOf(plainStarts, stepAt).values()].some(endsInJump);
  const targets = jumps ? branchTargets() : [];
  const switched = targets.length > 0 && targets.length <= MAX_TARGETS;
  const starts = switched ? leaders([entry, ...targets], stepAt, limit) : plainStarts;
  const blocks = skeletonOf(starts, stepAt);
  const whole = switched ? withSwitch(blocks, targets, keys) : blocks;
  const inlined = new Inliner(whole, stepAt, limit, keys, branchTargets).run();
  const skeleton = reducible(entry, inlined, limit, keys);
  const plain = connected(entry, skeleton);
  let count = 0;
  for (const { block } of plain.nodes.values()) count += block.steps.length;
  const turn = startedInside(entry, inlined, limit, keys);
  const started = turn ? connected(turn.entry, turn.skeleton) : plain;
  const from = turn ?? { entry, skeleton };
  const unrolled = unroll(from, started.loops, copies, keys);
  const { nodes } = unrolled === from ? started : connected(unrolled.entry, unrolled.skeleton);
  markFlags(nodes);
  share([...nodes.values()], nodes);
  return { entry: nodes.get(unrolled.entry) as Node, offset: entry, nodes, count };
}

/** Finds the heirs: from the last node to the first, since a charge has those of the heirs in it. */
function share(inOrder: readonly Node[], nodes: ReadonlyMap<number, Node>): void {
  for (const node of inOrder.toReversed()) {
    if (node.calls || node.isSwitch || node.isGate || node.looksUp) continue;
    let heir: Node | undefined;
    for (const key of node.successors.values()) {
      const to = nodes.get(key) as Node;
      const alone = !to.isLoop && !to.isJoin && to.order > node.order && to.depth >= node.depth;
      if (alone && node.charge + to.charge <= MAX_CHARGE && to.depth >= (heir?.depth ?? 0)) {
        heir = to;
      }
    }
    if (heir === undefined) continue;
    node.heir = heir;
    heir.isHeir = true;
    node.charge += heir.charge;
  }
}
