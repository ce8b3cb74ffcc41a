/**
 * Loops made ready to be written as structure: entered at one place only, in the order they have in memory wherever
 * the region begins, and the small ones several times in a row.
 */
import { Copies, ENTERING, type Skeleton, type SkeletonNode } from "./region_blocks.ts";
import {
  type Connected,
  connected,
  dominates,
  intersect,
  type Loop,
  type Node,
  reached,
  reaching,
} from "./region_nodes.ts";

/** Instructions that an unrolled loop may come to. */
const MAX_UNROLLED = 160;
/** What an instruction whose result is checked counts for: it is written twice, with its checks. */
const CHECKED = 6;

/**
 * Where a region begins in the middle of loops within loops, they would be found inside out. Then it begins at the
 * first of them in memory, and each loop on the way has a gate before it that leads on to where the region
 * begins, once. What is left there of a loop's turn is a copy. Undefined: it does not begin so.
 */
export function startedInside(
  entry: number,
  plain: Skeleton,
  limit: number,
  keys: Copies,
): { readonly entry: number; readonly skeleton: Skeleton } | undefined {
  const around = reaching(entry, connected(entry, plain).nodes);
  const first = [...around].find((key) => plain.get(key)?.isSwitch) ?? Math.min(entry, ...around);
  if (first === entry) return undefined;
  const skeleton = reducible(first, plain, limit, keys);
  const { gated, left } = waysInto(entry, connected(first, skeleton));
  if (gated.length === 0 && !plain.get(first)?.isSwitch) return undefined;
  const out = new Map<number, SkeletonNode>();
  const names = new Map([...left].map((key) => [key, keys.keyOf(key)]));
  const gates = gated.map(({ head }) => [head, keys.keyOf(head.key)] as const);
  const gateOf = new Map(gates.map(([head, key]) => [head.key, key]));
  const add = (key: number, name: number, to: (successor: number) => number | undefined) => {
    const node = skeleton.get(key) as SkeletonNode;
    const successors = [...node.successors].map(([offset, successor]) =>
      [offset, to(successor) ?? gateOf.get(successor) ?? successor] as const
    );
    out.set(name, { ...node, successors: new Map(successors) });
  };
  for (const key of skeleton.keys()) add(key, key, () => undefined);
  for (const [key, name] of names) add(key, name, (successor) => names.get(successor));
  gates.forEach(([head, key], i) => {
    const inwards = gates[i + 1]?.[1] ?? names.get(entry) ?? entry;
    out.set(key, gate(head, inwards));
  });
  return { entry: gates[0]?.[1] ?? names.get(entry) ?? entry, skeleton: out };
}

/** The loops to be gone into on the way to `entry`, the outermost first, and the nodes that are left of a turn of the next. */
function waysInto(
  entry: number,
  { nodes, loops }: Connected,
): { readonly gated: readonly Loop[]; readonly left: ReadonlySet<number> } {
  const at = nodes.get(entry) as Node;
  const around = loops.filter(({ body }) => body.has(at))
    .toSorted((a, b) => b.body.size - a.body.size);
  const last = around.at(-1);
  const outer = { gated: around.slice(0, -1), left: new Set<number>() };
  if (last === undefined || last.head === at) return outer;
  const inside = new Map([...last.body].map((node) => [node.key, node]));
  const left = reached([entry], (key) => inside.has(key) && key !== last.head.key, inside);
  const hasLoops = [...left].some((key) => nodes.get(key)?.isLoop);
  return hasLoops ? { ...outer, gated: around } : { ...outer, left };
}

/** A gate before the loop of `head`: `inwards` is where the way to the entry goes on. */
function gate({ key, block: { start } }: Node, inwards: number): SkeletonNode {
  return {
    block: { start, steps: [], fallsTo: start, branchesTo: undefined },
    successors: new Map([[start, key], [ENTERING, inwards]]),
    calls: false,
    returnsTo: undefined,
    isSwitch: false,
    isGate: true,
  };
}

/** Loops entered at several places that are made to be entered at one. */
const MAX_SPLITS = 8;

/**
 * The skeleton with loops that are entered at one place only: what is between another entry and that place is a
 * copy. Where that were more than `limit` instructions it stays as it is.
 */
export function reducible(
  entry: number,
  skeleton: Skeleton,
  limit: number,
  keys: Copies,
): Skeleton {
  let out = skeleton;
  for (let splits = 0; splits < MAX_SPLITS; splits++) {
    const { nodes } = connected(entry, out);
    const loop = enteredTwice(nodes);
    if (loop === undefined) return out;
    const copied = [...loop.others].map((key) => [key, keys.keyOf(key)] as const);
    let insns = 0;
    for (const { block } of nodes.values()) insns += block.steps.length;
    for (const [key] of copied) insns += out.get(key)?.block.steps.length ?? 0;
    if (insns > 2 * limit) return out;
    const names = new Map(copied);
    const next = new Map(out);
    const rename = (node: SkeletonNode) => {
      const successors = [...node.successors].map(([offset, to]) =>
        [offset, names.get(to) ?? to] as const
      );
      return { ...node, successors: new Map(successors) };
    };
    for (const [key, node] of out) {
      if (!loop.body.has(key)) next.set(key, rename(node));
      const name = names.get(key);
      if (name !== undefined) next.set(name, rename(node));
    }
    out = next;
  }
  return out;
}

/**
 * A loop that is entered at several places: its nodes, and those that are reached from its entries before the one
 * that is first in memory.
 */
function enteredTwice(
  nodes: ReadonlyMap<number, Node>,
): { readonly body: ReadonlySet<number>; readonly others: ReadonlySet<number> } | undefined {
  for (const from of nodes.values()) {
    for (const key of from.successors.values()) {
      const to = nodes.get(key) as Node;
      if (to.order > from.order || dominates(to, from)) continue;
      const above = intersect(from, to).key;
      const inside = new Map([...nodes].filter(([key]) => key !== above));
      const back = reaching(to.key, inside);
      const body = reached([to.key], (key) => back.has(key), inside);
      const entries = new Set<number>();
      for (const node of nodes.values()) {
        if (body.has(node.key)) continue;
        for (const to of node.successors.values()) if (body.has(to)) entries.add(to);
      }
      const start = (key: number) => nodes.get(key)?.block.start ?? 0;
      const head = [...entries].reduce((a, b) => start(b) < start(a) ? b : a);
      const others = [...entries].filter((key) => key !== head);
      return { body, others: reached(others, (key) => body.has(key) && key !== head, inside) };
    }
  }
  return undefined;
}

/** The skeleton with loops that have none within them, and no calls, written several times in a row. */
export function unroll(
  skeleton: Skeleton,
  loops: readonly Loop[],
  copies: number,
  keys: Copies,
): Skeleton {
  let out: Map<number, SkeletonNode> | undefined;
  for (const { head, body } of loops) {
    const count = copiesOf(head, body, copies);
    if (count < 2) continue;
    out ??= new Map(skeleton);
    const inside = [...body];
    const names = Array.from(
      { length: count },
      (_, copy) =>
        new Map(inside.map(({ key }) => [key, copy === 0 ? key : keys.keyOf(key)] as const)),
    );
    names.forEach((name, copy) => {
      const next = names[(copy + 1) % count];
      for (const { key, block, successors, calls, returnsTo, isSwitch, isGate } of inside) {
        const moved = [...successors].map(([offset, to]) =>
          [offset, (to === head.key ? next : name)?.get(to) ?? to] as const
        );
        const node = {
          block,
          successors: new Map(moved),
          calls,
          returnsTo,
          isSwitch,
          isGate,
        };
        out?.set(name.get(key) as number, node);
      }
    });
  }
  return out ?? skeleton;
}

function copiesOf(head: Node, body: ReadonlySet<Node>, copies: number): number {
  let insns = 0;
  for (const node of body) {
    const { steps } = node.block;
    if (node !== head && (node.isLoop || !dominates(head, node))) return 1;
    if (node.calls || node.isSwitch || node.isGate) return 1;
    for (const { effects } of steps) insns += effects.result ? CHECKED : 1;
  }
  return Math.min(copies, Math.floor(MAX_UNROLLED / insns));
}
