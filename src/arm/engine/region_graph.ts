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

/** What a computed jump has for an offset among its successors: the node that looks where it goes. */
export const SWITCH = -1;
/** What a gate has for an offset among its successors: where the way to the region's entry goes on. */
export const ENTERING = -2;

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

/** The region's nodes by their keys. */
export interface Graph {
  readonly entry: Node;
  /** Where in the page the region begins. */
  readonly offset: number;
  readonly nodes: ReadonlyMap<number, Node>;
  /** Instructions in all blocks, those of copies counted once. */
  readonly count: number;
}

/** Blocks and where control goes from them, by key. */
type Skeleton = ReadonlyMap<number, SkeletonNode>;
type SkeletonNode = Pick<
  Node,
  "block" | "successors" | "calls" | "returnsTo" | "isSwitch" | "isGate"
>;

/** Numbers for copies of blocks. */
class Copies {
  #last = 0;
  /** A key of its own for a copy of the block with `key`. */
  keyOf(key: number): number {
    return key % PAGE + PAGE * ++this.#last;
  }
}

/** Bytes of a page, and what the keys of a loop's copies are apart. */
export const PAGE = 4096;
/** Instructions of a block, and of one with its heirs: an exit says in ten bits how many were left. */
const MAX_BLOCK = 500;
const MAX_CHARGE = 1000;
/** Instructions that an unrolled loop may come to. */
const MAX_UNROLLED = 160;
/** Places where computed jumps may lead within a region. */
const MAX_TARGETS = 64;
/** Functions that are written in the place of a computed call. */
const MAX_CALLEES = 32;
/** Instructions of a function that is written in the place of its call. */
const MAX_INLINED = 40;

function targetOf(at: number, step: Step): number | undefined {
  const { branch } = step.effects;
  if (branch?.offset === undefined || branch.kind !== "jump") return undefined;
  const target = at + branch.offset;
  return target >= 0 && target < PAGE ? target : undefined;
}

/** Where in the page the call leads that the block ends in; undefined: there is none, or not in the page. */
function calleeOf({ start, steps }: Block): number | undefined {
  const branch = steps.at(-1)?.effects.branch;
  if (branch?.kind !== "call" || branch.offset === undefined) return undefined;
  const target = start + 4 * (steps.length - 1) + branch.offset;
  return target >= 0 && target < PAGE ? target : undefined;
}

/** Where in the page the calls lead that the region makes. */
export function callsOf({ nodes }: Graph): Set<number> {
  const out = new Set<number>();
  for (const { block, calls } of nodes.values()) {
    const target = calls ? calleeOf(block) : undefined;
    if (target !== undefined) out.add(target);
  }
  return out;
}

/** Whether control goes on behind the instruction: a call comes back. */
function goesOn({ effects: { closed, branch } }: Step): boolean {
  return !closed || branch?.kind === "call";
}

function isComputedJump({ effects: { branch } }: Step): boolean {
  return branch?.kind === "jump" && branch.offset === undefined;
}

/** Starts of blocks that are reached from `entries`, up to `limit` instructions. */
function leaders(entries: readonly number[], stepAt: StepAt, limit: number): Set<number> {
  const starts = new Set(entries);
  const seen = new Set<number>();
  const work = [...entries];
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

function successorsOf(block: Block, starts: ReadonlySet<number>): Map<number, number> {
  const out = new Map<number, number>();
  for (const to of [block.branchesTo, block.fallsTo]) {
    if (to !== undefined && starts.has(to)) out.set(to, to);
  }
  return out;
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

/** Whether a computed jump within the region leads to `offset`. */
export function isSwitched({ nodes }: Graph, offset: number): boolean {
  return [...nodes.values()].some((node) => node.isSwitch && node.successors.has(offset));
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
  const unrolled = unroll(from.skeleton, started.loops, copies, keys);
  const { nodes } = unrolled === from.skeleton ? started : connected(from.entry, unrolled);
  markFlags(nodes);
  share([...nodes.values()], nodes);
  return { entry: nodes.get(from.entry) as Node, offset: entry, nodes, count };
}

/**
 * Where a region begins in the middle of loops within loops, they would be found inside out. Then it begins at the
 * first of them in memory, and each loop on the way has a gate before it that leads on to where the region
 * begins, once. What is left there of a loop's turn is a copy. Undefined: it does not begin so.
 */
function startedInside(
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
function reducible(entry: number, skeleton: Skeleton, limit: number, keys: Copies): Skeleton {
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

/** Keys of the nodes that are reached from some by way of such that are `wanted`. */
function reached(
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
function reaching(entry: number, nodes: ReadonlyMap<number, Node>): Set<number> {
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

function endsInJump({ block }: SkeletonNode): boolean {
  const last = block.steps.at(-1);
  return last !== undefined && isComputedJump(last);
}

/** The skeleton with a node between all its computed jumps and where they may lead. */
function withSwitch(
  blocks: Skeleton,
  targets: readonly number[],
  keys: Copies,
): Map<number, SkeletonNode> {
  const key = keys.keyOf(0);
  const block = { start: 0, steps: [], fallsTo: undefined, branchesTo: undefined };
  const inside = targets.filter((target) => blocks.has(target));
  const out = new Map(blocks);
  for (const [start, node] of blocks) {
    if (endsInJump(node)) out.set(start, { ...node, successors: new Map([[SWITCH, key]]) });
  }
  const successors = new Map(inside.map((target) => [target, target]));
  return out.set(key, {
    block,
    successors,
    calls: false,
    returnsTo: undefined,
    isSwitch: true,
    isGate: false,
  });
}

function skeletonOf(starts: ReadonlySet<number>, stepAt: StepAt): Skeleton {
  return new Map([...starts].map((start) => {
    const block = blockAt(start, stepAt, starts);
    const calls = block.steps.at(-1)?.effects.branch?.kind === "call";
    return [start, {
      block,
      successors: successorsOf(block, starts),
      calls,
      returnsTo: undefined,
      isSwitch: false,
      isGate: false,
    }];
  }));
}

/** Writes small functions that call nothing in the place of their calls. */
class Inliner {
  readonly out: Map<number, SkeletonNode>;
  readonly #leaves = new Map<number, Skeleton | undefined>();
  /** Instructions that there is room for. */
  #room: number;

  constructor(
    readonly skeleton: Skeleton,
    readonly stepAt: StepAt,
    limit: number,
    readonly keys: Copies,
    readonly branchTargets: () => readonly number[],
  ) {
    this.out = new Map(skeleton);
    this.#room = limit;
    for (const node of skeleton.values()) this.#room -= node.block.steps.length;
  }

  run(): Skeleton {
    for (const [key, node] of this.skeleton) {
      const target = calleeOf(node.block);
      if (target !== undefined) this.#direct(key, node, target);
      else if (node.calls && node.block.steps.at(-1)?.effects.branch?.offset === undefined) {
        this.#computed(key, node);
      }
    }
    return this.out;
  }

  #leaf(target: number): Skeleton | undefined {
    if (!this.#leaves.has(target)) this.#leaves.set(target, leaf(target, this.stepAt));
    return this.#leaves.get(target);
  }

  #insnsOf(target: number): number {
    let insns = 0;
    for (const { block } of this.#leaf(target)?.values() ?? []) insns += block.steps.length;
    return insns;
  }

  #direct(key: number, node: SkeletonNode, target: number): void {
    const callee = this.#leaf(target);
    if (callee === undefined || this.#room < MAX_INLINED) return;
    const successors = new Map([[target, this.#copy(callee, target, node)]]);
    this.out.set(key, { ...node, successors, calls: false });
  }

  /** A call of what a register says: a switch goes to the copies of what it may be, or makes the call. */
  #computed(key: number, node: SkeletonNode): void {
    const callees = this.branchTargets().filter((target) =>
      !this.skeleton.has(target) && this.#leaf(target) !== undefined
    );
    const insns = callees.reduce((sum, target) => sum + this.#insnsOf(target), 0);
    const fits = callees.length <= MAX_CALLEES && insns <= this.#room;
    if (callees.length === 0 || !fits) return;
    const back = behind(node.block);
    const successors = new Map(node.successors);
    for (const target of callees) {
      successors.set(target, this.#copy(this.#leaf(target) as Skeleton, target, node));
    }
    const at = this.keys.keyOf(0);
    const block = { start: 0, steps: [], fallsTo: undefined, branchesTo: undefined };
    this.out.set(at, {
      block,
      successors,
      calls: true,
      returnsTo: back,
      isSwitch: true,
      isGate: false,
    });
    this.out.set(key, { ...node, successors: new Map([[SWITCH, at]]) });
  }

  /** Adds a copy of a function that returns behind `caller`; the key of its entry. */
  #copy(callee: Skeleton, target: number, caller: SkeletonNode): number {
    const back = behind(caller.block);
    const returned = caller.successors.get(back);
    const names = new Map([...callee.keys()].map((start) => [start, this.keys.keyOf(start)]));
    for (const [start, node] of callee) {
      const returns = node.block.steps.at(-1)?.effects.branch?.kind === "return";
      const inside = [...node.successors].map(([offset, to]) =>
        [offset, names.get(to) as number] as const
      );
      const out = returned === undefined ? [] : [[back, returned] as const];
      this.out.set(names.get(start) as number, {
        ...node,
        successors: new Map(returns ? out : inside),
        returnsTo: returns ? back : undefined,
      });
      this.#room -= node.block.steps.length;
    }
    return names.get(target) as number;
  }
}

/** Offset behind a block's last instruction. */
function behind({ start, steps }: Block): number {
  return start + 4 * steps.length;
}

/** The blocks of the function at `target` if it is small, calls nothing and returns. */
function leaf(target: number, stepAt: StepAt): Skeleton | undefined {
  const starts = leaders([target], stepAt, MAX_INLINED + 1);
  if (!starts.has(target)) return undefined;
  const skeleton = skeletonOf(starts, stepAt);
  let insns = 0;
  let returns = false;
  for (const { block: { steps }, calls } of skeleton.values()) {
    insns += steps.length;
    const branch = steps.at(-1)?.effects.branch;
    if (calls || (branch?.kind === "jump" && branch.offset === undefined)) return undefined;
    returns ||= branch?.kind === "return";
  }
  return returns && insns <= MAX_INLINED ? skeleton : undefined;
}

/** A loop: the block that it begins with, and all its blocks. */
interface Loop {
  readonly head: Node;
  readonly body: ReadonlySet<Node>;
}

/** The skeleton with loops that have none within them, and no calls, written several times in a row. */
function unroll(
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
    insns += steps.length;
  }
  return Math.min(copies, Math.floor(MAX_UNROLLED / insns));
}

/** Finds the heirs: from the last node to the first, since a charge has those of the heirs in it. */
function share(inOrder: readonly Node[], nodes: ReadonlyMap<number, Node>): void {
  for (const node of inOrder.toReversed()) {
    if (node.calls || node.isSwitch || node.isGate) continue;
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

interface Connected {
  readonly nodes: ReadonlyMap<number, Node>;
  readonly loops: readonly Loop[];
}

/** The nodes of a skeleton with all that is known of them, and its loops. */
function connected(entry: number, skeleton: Skeleton): Connected {
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
