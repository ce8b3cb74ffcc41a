/**
 * The blocks of a region and how control goes between them: what is reached by direct branches from an
 * entry within one page, in reverse postorder, with dominators, so that it can be written as structured
 * control flow (N. Ramsey, "Beyond Relooper", ICFP 2022). An edge into the middle of a loop, which
 * cannot be written so, leaves the region instead.
 */
import type { Effects, Instruction } from "./region_probe.ts";

/** An instruction with what it does, or undefined where there is none to be executed by a region. */
export interface Step {
  readonly instruction: Instruction;
  readonly effects: Effects;
}

/** Gives the instruction at byte `offset` of the page, or undefined: the region is left there. */
export type StepAt = (offset: number) => Step | undefined;

/** A run of instructions entered only at its first. */
export interface Block {
  /** Byte offset in the page. */
  readonly start: number;
  readonly steps: readonly Step[];
  /** Where control goes on without a branch, as a byte offset; undefined: it does not. */
  readonly fallsTo: number | undefined;
  /** Where its branch goes within the page; undefined: nowhere in it. */
  readonly branchesTo: number | undefined;
}

/** A block with its place among the others. */
export interface Node {
  readonly block: Block;
  /** Position in reverse postorder. */
  readonly order: number;
  /** Starts of the blocks of the region that control can go to. */
  readonly successors: readonly number[];
  /** A successor of its own comes back to it. */
  isLoop: boolean;
  /** More than one edge leads forward to it. */
  isJoin: boolean;
  /** Joins that this block dominates immediately, the last in order first. */
  readonly joins: Node[];
  /** Something reads the flags that are there when it is entered. */
  readsFlags: boolean;
  idom: Node | undefined;
}

/** The region's blocks by their start. */
export interface Graph {
  readonly entry: Node;
  readonly nodes: ReadonlyMap<number, Node>;
  /** Instructions in all blocks. */
  readonly count: number;
}

const PAGE = 4096;
/** Instructions of a block: an exit says in ten bits how many were left. */
const MAX_BLOCK = 1000;

function targetOf(at: number, step: Step): number | undefined {
  const { branch } = step.effects;
  if (branch?.offset === undefined || branch.kind !== "jump") return undefined;
  const target = at + branch.offset;
  return target >= 0 && target < PAGE ? target : undefined;
}

/** Where in the page the region's calls lead. */
export function callsOf({ nodes }: Graph): Set<number> {
  const out = new Set<number>();
  for (const { block: { start, steps } } of nodes.values()) {
    const branch = steps.at(-1)?.effects.branch;
    if (branch?.kind !== "call" || branch.offset === undefined) continue;
    const target = start + 4 * (steps.length - 1) + branch.offset;
    if (target >= 0 && target < PAGE) out.add(target);
  }
  return out;
}

/** Whether control goes on behind the instruction: a call comes back. */
function goesOn({ effects: { closed, branch } }: Step): boolean {
  return !closed || branch?.kind === "call";
}

/** Starts of blocks that are reached from `entry`, up to `limit` instructions. */
function leaders(entry: number, stepAt: StepAt, limit: number): Set<number> {
  const starts = new Set([entry]);
  const seen = new Set<number>();
  const work = [entry];
  const lead = (to: number) => {
    starts.add(to);
    if (!seen.has(to)) work.push(to);
  };
  for (let at = work.shift(); at !== undefined; at = work.shift()) {
    while (at < PAGE && !seen.has(at) && seen.size < limit) {
      const step = stepAt(at);
      if (step === undefined) break;
      seen.add(at);
      const target = targetOf(at, step);
      if (target !== undefined) lead(target);
      if (!goesOn(step)) break;
      if (step.effects.branch !== undefined) {
        if (at + 4 < PAGE) lead(at + 4);
        break;
      }
      at += 4;
    }
  }
  return new Set([...starts].filter((start) => seen.has(start)));
}

function blockAt(start: number, stepAt: StepAt, starts: ReadonlySet<number>): Block {
  const steps: Step[] = [];
  for (let at = start;; at += 4) {
    if (at >= PAGE || (at > start && starts.has(at))) {
      return { start, steps, fallsTo: at, branchesTo: undefined };
    }
    const step = steps.length < MAX_BLOCK ? stepAt(at) : undefined;
    if (step === undefined) return { start, steps, fallsTo: at, branchesTo: undefined };
    steps.push(step);
    if (step.effects.branch === undefined && !step.effects.closed) continue;
    return {
      start,
      steps,
      fallsTo: goesOn(step) ? at + 4 : undefined,
      branchesTo: targetOf(at, step),
    };
  }
}

function successorsOf(block: Block, starts: ReadonlySet<number>): number[] {
  const out = [block.branchesTo, block.fallsTo].filter((to): to is number =>
    to !== undefined && starts.has(to)
  );
  return [...new Set(out)];
}

/** Starts in reverse postorder. */
function reversePostorder(
  entry: number,
  successors: ReadonlyMap<number, readonly number[]>,
): number[] {
  const order: number[] = [];
  const seen = new Set([entry]);
  const stack: { at: number; next: number }[] = [{ at: entry, next: 0 }];
  for (let top = stack.at(-1); top !== undefined; top = stack.at(-1)) {
    const to = successors.get(top.at)?.[top.next++];
    if (to === undefined) {
      order.push(top.at);
      stack.pop();
    } else if (!seen.has(to)) {
      seen.add(to);
      stack.push({ at: to, next: 0 });
    }
  }
  return order.reverse();
}

function intersect(a: Node, b: Node): Node {
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

function dominates(a: Node, b: Node): boolean {
  for (let node = b;; node = node.idom as Node) {
    if (node === a) return true;
    if (node.idom === node) return false;
  }
}

/** Whether control that goes from one node to another within the region can be written as structure. */
export function isInside(from: Node, to: Node): boolean {
  return to.order > from.order || dominates(to, from);
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
      if (node.successors.some((to) => nodes.get(to)?.readsFlags)) node.readsFlags = changed = true;
    }
  }
}

/** The region entered at `entry`, of about `limit` instructions at most; undefined where there is none. */
export function regionGraph(entry: number, stepAt: StepAt, limit: number): Graph | undefined {
  const starts = leaders(entry, stepAt, limit);
  if (!starts.has(entry)) return undefined;
  const blocks = new Map([...starts].map((start) => [start, blockAt(start, stepAt, starts)]));
  const successors = new Map(
    [...blocks].map(([start, block]) => [start, successorsOf(block, starts)]),
  );
  const order = reversePostorder(entry, successors);
  const nodes = new Map<number, Node>(order.map((start, i) => [start, {
    block: blocks.get(start) as Block,
    order: i,
    successors: successors.get(start) ?? [],
    isLoop: false,
    isJoin: false,
    joins: [],
    readsFlags: false,
    idom: undefined,
  }]));
  connect([...nodes.values()], nodes);
  markFlags(nodes);
  let count = 0;
  for (const { block } of nodes.values()) count += block.steps.length;
  return { entry: nodes.get(entry) as Node, nodes, count };
}

function connect(inOrder: readonly Node[], nodes: ReadonlyMap<number, Node>): void {
  const edges = inOrder.flatMap((from) =>
    from.successors.map((to) => [from, nodes.get(to) as Node] as const)
  );
  const predecessors = new Map<Node, Node[]>();
  for (const [from, to] of edges) predecessors.set(to, [...predecessors.get(to) ?? [], from]);
  dominate(inOrder, predecessors);
  const forward = new Map<Node, number>();
  for (const [from, to] of edges) {
    if (to.order > from.order) forward.set(to, (forward.get(to) ?? 0) + 1);
    else if (dominates(to, from)) to.isLoop = true;
  }
  for (const node of inOrder.toReversed()) {
    node.isJoin = (forward.get(node) ?? 0) > 1;
    if (node.isJoin) (node.idom as Node).joins.push(node);
  }
}
