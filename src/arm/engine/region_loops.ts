/**
 * Loops made ready to be written as structure: entered at one place only, in the order they have in memory wherever
 * the region begins, and the small ones several times in a row.
 */
import {
  Copies,
  ENTERING,
  FOUND,
  NOT_FOUND,
  type Skeleton,
  type SkeletonNode,
} from "./region_blocks.ts";
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
import { wholeVectors } from "./region_lanes.ts";
import { type SharedBytes, type Shares, sharing } from "./region_sharing.ts";

/** Instructions that an unrolled loop may come to. */
const MAX_UNROLLED = 160;
/** What an instruction whose result is checked counts for: it is written twice, with its checks. */
const CHECKED = 6;

/** Where a region begins, and its blocks. */
interface Started {
  readonly entry: number;
  readonly skeleton: Skeleton;
}

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
): Started | undefined {
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

/**
 * The skeleton with loops that have none within them, and no calls, written several times in a row. Where accesses
 * of theirs can be looked up together, a look-up is in front of the loop, and one more copy for where it fails.
 */
export function unroll(
  from: Started,
  loops: readonly Loop[],
  copies: number,
  keys: Copies,
): Started {
  const out = new Map(from.skeleton);
  const lookUps = new Map<number, SkeletonNode>();
  /** By the keys of the loops' first blocks: what goes there goes to the look-up. */
  const inFront = new Map<number, number>();
  let changed = false;
  for (const loop of loops) {
    if (!isSimple(loop)) continue;
    const { head, body } = loop;
    const count = copiesOf(body, copies);
    const shared = sharing(loop, count);
    if (count < 2 && shared === undefined) continue;
    changed = true;
    const names = Array.from({ length: count }, (_, turn) => namesOf(body, keys, turn === 0));
    names.forEach((name, turn) => {
      const next = names[(turn + 1) % count] as Names;
      copy(loop, name, next, out, shared?.shares[turn]);
    });
    if (shared === undefined) continue;
    const alone = namesOf(body, keys, false);
    copy(loop, alone, names[0] as Names, out);
    const key = keys.keyOf(head.key);
    inFront.set(head.key, key);
    lookUps.set(key, lookUp(head, alone.get(head.key) as number, shared.bytes));
  }
  if (!changed) return from;
  for (const [key, node] of out) out.set(key, redirected(node, inFront));
  const skeleton = new Map([...out, ...lookUps]);
  return { entry: inFront.get(from.entry) ?? from.entry, skeleton };
}

/** Keys of the copies of a loop's blocks by those of the blocks. */
type Names = ReadonlyMap<number, number>;

function namesOf(body: ReadonlySet<Node>, keys: Copies, same: boolean): Names {
  return new Map([...body].map(({ key }) => [key, same ? key : keys.keyOf(key)] as const));
}

/** Adds a copy of a loop's turn, after which control goes on in the `next`. */
function copy(
  { head, body }: Loop,
  name: Names,
  next: Names,
  out: Map<number, SkeletonNode>,
  shares?: ReadonlyMap<number, Shares>,
): void {
  for (const { key, block, successors, calls, returnsTo, isSwitch, isGate } of body) {
    const moved = [...successors].map(([offset, to]) =>
      [offset, (to === head.key ? next : name).get(to) ?? to] as const
    );
    const node = { block, successors: new Map(moved), calls, returnsTo, isSwitch, isGate };
    const ofBlock = shares?.get(key);
    const more = ofBlock && { shares: ofBlock, wholes: wholeVectors(block.steps, ofBlock) };
    out.set(name.get(key) as number, { ...node, ...more });
  }
}

function redirected(node: SkeletonNode, inFront: Names): SkeletonNode {
  const to = [...node.successors.values()];
  if (!to.some((key) => inFront.has(key))) return node;
  const successors = [...node.successors].map(([offset, key]) =>
    [offset, inFront.get(key) ?? key] as const
  );
  return { ...node, successors: new Map(successors) };
}

/** What is in front of the loop of `head`: it goes on to `alone` where something was not found. */
function lookUp(
  { key, block: { start } }: Node,
  alone: number,
  looksUp: readonly SharedBytes[],
): SkeletonNode {
  return {
    block: { start, steps: [], fallsTo: undefined, branchesTo: undefined },
    successors: new Map([[FOUND, key], [NOT_FOUND, alone]]),
    calls: false,
    returnsTo: undefined,
    isSwitch: false,
    isGate: false,
    looksUp,
  };
}

/** Whether the loop has no others within it, and leads nowhere but by branches. */
function isSimple({ head, body }: Loop): boolean {
  return [...body].every((node) =>
    (node === head || (!node.isLoop && dominates(head, node))) &&
    !node.calls && !node.isSwitch && !node.isGate
  );
}

function copiesOf(body: ReadonlySet<Node>, copies: number): number {
  let insns = 0;
  for (const { block } of body) {
    for (const { effects } of block.steps) insns += effects.result ? CHECKED : 1;
  }
  return Math.max(1, Math.min(copies, Math.floor(MAX_UNROLLED / insns)));
}
