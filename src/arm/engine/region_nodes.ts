/**
 * Blocks in reverse postorder with dominators, loops and joins, so that they can be written as structured control
 * flow (N. Ramsey, "Beyond Relooper", ICFP 2022).
 */
import type { Block, Skeleton, SkeletonNode } from "./region_blocks.ts";
import type { WholeVector } from "./region_lanes.ts";
import type { SharedBytes, Shares } from "./region_sharing.ts";

/** A block with its place among the others. An unrolled loop has a node for each of its copies. */
export interface Node {
  /** The block's start, and {@link PAGE} more for each copy before it. */
  readonly key: number;
  readonly block: Block;
  /** Position in reverse postorder. */
  readonly order: number;
  /** The nodes of the region that control can go to, by offset in the page. */
  readonly successors: ReadonlyMap<number, number>;
  /** It ends in a call that is made. */
  readonly calls: boolean;
  /** Where in the page its return leads, when it is of a called function that is written in the place of the call. */
  readonly returnsTo: number | undefined;
  /** It has no instructions but goes where a computed jump or call leads: to one of its successors, or out. */
  readonly isSwitch: boolean;
  /** It has no instructions but goes on towards the region's entry, or to the loop that it stands before once that is reached. */
  readonly isGate: boolean;
  /** It has no instructions but looks up what the loop behind it accesses, and goes on there where all was found. */
  readonly looksUp?: readonly SharedBytes[];
  /** Its accesses that have been looked up so. */
  readonly shares?: Shares;
  /** Vectors that are loaded at once behind its instructions, by their number. */
  readonly wholes?: ReadonlyMap<number, WholeVector>;
  /** A successor of its own comes back to it. */
  isLoop: boolean;
  /** More than one edge leads forward to it, or what leads to it is a switch or within a loop that it is not in. */
  isJoin: boolean;
  /** Joins that this block dominates immediately and that are in all its loops, the last in order first. */
  readonly joins: Node[];
  /** Where the loop of this block is left to: nodes that are not in the loop, but dominated by it, the last first. */
  readonly exits: Node[];
  /** Something reads the flags that are there when it is entered. */
  readsFlags: boolean;
  idom: Node | undefined;
  /** Loops that it is in. */
  depth: number;
  /** A successor whose instructions are taken off the budget together with this one's. */
  heir: Node | undefined;
  /** It is such a successor. */
  isHeir: boolean;
  /** Instructions that are taken off the budget for it and its heirs. */
  charge: number;
}

/** Keys in reverse postorder. */
function reversePostorder(entry: number, skeleton: Skeleton): number[] {
  const order: number[] = [];
  const seen = new Set([entry]);
  const successors = (key: number) => [...skeleton.get(key)?.successors.values() ?? []];
  const stack = [{ key: entry, left: successors(entry) }];
  for (let top = stack.at(-1); top !== undefined; top = stack.at(-1)) {
    const to = top.left.shift();
    if (to === undefined) {
      order.push(top.key);
      stack.pop();
    } else if (!seen.has(to)) {
      seen.add(to);
      stack.push({ key: to, left: successors(to) });
    }
  }
  return order.reverse();
}

export function intersect(a: Node, b: Node): Node {
  let [x, y] = [a, b];
  while (x !== y) {
    while (x.order > y.order) x = x.idom as Node;
    while (y.order > x.order) y = y.idom as Node;
  }
  return x;
}

/** Immediate dominators (Cooper, Harvey, Kennedy: "A simple, fast dominance algorithm"). */
function dominate(nodes: readonly Node[], predecessors: ReadonlyMap<Node, readonly Node[]>): void {
  const [entry] = nodes;
  if (entry === undefined) return;
  entry.idom = entry;
  for (let changed = true; changed;) {
    changed = false;
    for (const node of nodes.slice(1)) {
      const known = (predecessors.get(node) ?? []).filter((p) => p.idom !== undefined);
      const idom = known.reduce((a, b) => intersect(a, b));
      if (node.idom !== idom) {
        node.idom = idom;
        changed = true;
      }
    }
  }
}

export function dominates(a: Node, b: Node): boolean {
  for (let node = b;; node = node.idom as Node) {
    if (node === a) return true;
    if (node.idom === node) return false;
  }
}

/** Whether control that goes from one node to another within the region can be written as structure. */
export function isInside(from: Node, to: Node): boolean {
  return to.order > from.order || dominates(to, from);
}

/** Keys of the nodes that are reached from some by way of such that are `wanted`. */
export function reached(
  from: readonly number[],
  wanted: (key: number) => boolean,
  nodes: ReadonlyMap<number, Node>,
): Set<number> {
  const out = new Set<number>();
  const work = [...from];
  for (let key = work.pop(); key !== undefined; key = work.pop()) {
    if (out.has(key) || !wanted(key)) continue;
    out.add(key);
    work.push(...nodes.get(key)?.successors.values() ?? []);
  }
  return out;
}

/** Keys of the nodes from which control can come back to `entry`. */
export function reaching(entry: number, nodes: ReadonlyMap<number, Node>): Set<number> {
  const predecessors = new Map<number, number[]>();
  for (const { key, successors } of nodes.values()) {
    for (const to of successors.values()) {
      const known = predecessors.get(to);
      if (known) known.push(key);
      else predecessors.set(to, [key]);
    }
  }
  const out = new Set<number>();
  const work = [...predecessors.get(entry) ?? []];
  for (let key = work.pop(); key !== undefined; key = work.pop()) {
    if (out.has(key)) continue;
    out.add(key);
    work.push(...predecessors.get(key) ?? []);
  }
  return out;
}

/** A loop: the block that it begins with, and all its blocks. */
export interface Loop {
  readonly head: Node;
  readonly body: ReadonlySet<Node>;
}

export interface Connected {
  readonly nodes: ReadonlyMap<number, Node>;
  readonly loops: readonly Loop[];
}

/** The nodes of a skeleton with all that is known of them, and its loops. */
export function connected(entry: number, skeleton: Skeleton): Connected {
  const nodes = new Map<number, Node>();
  for (const key of reversePostorder(entry, skeleton)) {
    nodes.set(key, {
      ...skeleton.get(key) as SkeletonNode,
      key,
      order: nodes.size,
      isLoop: false,
      isJoin: false,
      joins: [],
      exits: [],
      readsFlags: false,
      idom: undefined,
      depth: 0,
      heir: undefined,
      isHeir: false,
      charge: skeleton.get(key)?.block.steps.length ?? 0,
    });
  }
  return { nodes, loops: connect([...nodes.values()], nodes) };
}

function connect(inOrder: readonly Node[], nodes: ReadonlyMap<number, Node>): Loop[] {
  const edges = inOrder.flatMap((from) =>
    [...new Set(from.successors.values())].map((to) => [from, nodes.get(to) as Node] as const)
  );
  const predecessors = new Map<Node, Node[]>(inOrder.map((node) => [node, []]));
  for (const [from, to] of edges) predecessors.get(to)?.push(from);
  dominate(inOrder, predecessors);
  const forward = new Map<Node, number>();
  const latches: (readonly [Node, Node])[] = [];
  for (const [from, to] of edges) {
    if (to.order > from.order) forward.set(to, (forward.get(to) ?? 0) + 1);
    else if (dominates(to, from)) {
      to.isLoop = true;
      latches.push([from, to]);
    }
  }
  const heads = new Set(latches.map(([, head]) => head));
  const loops = [...heads].map((head): Loop => {
    const from = latches.filter(([, to]) => to === head).map(([latch]) => latch);
    const body = bodyOf(head, from, predecessors);
    for (const node of body) node.depth++;
    return { head, body };
  });
  const outermostFirst = loops.toSorted((a, b) => b.body.size - a.body.size);
  for (const node of inOrder.toReversed()) {
    const idom = node.idom as Node;
    // Where a switch leads has a label in any case.
    const switched = predecessors.get(node)?.some((from) => from.isSwitch);
    node.isJoin = (forward.get(node) ?? 0) > (switched ? 0 : 1);
    const left = outermostFirst.find(({ body }) => body.has(idom) && !body.has(node));
    if (left) {
      node.isJoin = true;
      left.head.exits.push(node);
    } else if (node.isJoin) idom.joins.push(node);
  }
  return loops;
}

/** The blocks of the loop of `head` that `latches` go back to. */
function bodyOf(
  head: Node,
  latches: readonly Node[],
  predecessors: ReadonlyMap<Node, readonly Node[]>,
): Set<Node> {
  const body = new Set([head]);
  const work = [...latches];
  for (let node = work.pop(); node !== undefined; node = work.pop()) {
    if (body.has(node)) continue;
    body.add(node);
    work.push(...predecessors.get(node) ?? []);
  }
  return body;
}
