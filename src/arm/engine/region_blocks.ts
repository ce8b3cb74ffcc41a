/**
 * The blocks of a region: runs of instructions that direct branches reach from an entry within one page, and
 * where control goes from each.
 */
import type { Effects, Instruction } from "./region_probe.ts";
import type { Node } from "./region_nodes.ts";

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

/** What a look-up has among its successors: where control goes on if all was found, or not. */
export const FOUND = -3, NOT_FOUND = -4;

/** Blocks and where control goes from them, by key. */
export type Skeleton = ReadonlyMap<number, SkeletonNode>;

export type SkeletonNode = Pick<
  Node,
  | "block"
  | "successors"
  | "calls"
  | "returnsTo"
  | "isSwitch"
  | "isGate"
  | "looksUp"
  | "shares"
  | "wholes"
>;

/** Numbers for copies of blocks. */
export class Copies {
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

function targetOf(at: number, step: Step): number | undefined {
  const { branch } = step.effects;
  if (branch?.offset === undefined || branch.kind !== "jump") return undefined;
  const target = at + branch.offset;
  return target >= 0 && target < PAGE ? target : undefined;
}

/** Where in the page the call leads that the block ends in; undefined: there is none, or not in the page. */
export function calleeOf({ start, steps }: Block): number | undefined {
  const branch = steps.at(-1)?.effects.branch;
  if (branch?.kind !== "call" || branch.offset === undefined) return undefined;
  const target = start + 4 * (steps.length - 1) + branch.offset;
  return target >= 0 && target < PAGE ? target : undefined;
}

/** Whether control goes on behind the instruction: a call comes back. */
function goesOn({ effects: { closed, branch } }: Step): boolean {
  return !closed || branch?.kind === "call";
}

function isComputedJump({ effects: { branch } }: Step): boolean {
  return branch?.kind === "jump" && branch.offset === undefined;
}

/** Starts of blocks that are reached from `entries`, up to `limit` instructions. */
export function leaders(entries: readonly number[], stepAt: StepAt, limit: number): Set<number> {
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

export function endsInJump({ block }: SkeletonNode): boolean {
  const last = block.steps.at(-1);
  return last !== undefined && isComputedJump(last);
}

/** The skeleton with a node between all its computed jumps and where they may lead. */
export function withSwitch(
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

export function skeletonOf(starts: ReadonlySet<number>, stepAt: StepAt): Skeleton {
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

/** Offset behind a block's last instruction. */
export function behind({ start, steps }: Block): number {
  return start + 4 * steps.length;
}
