/** Small functions that call nothing are written in the place of their calls. */
import {
  behind,
  calleeOf,
  Copies,
  leaders,
  type Skeleton,
  type SkeletonNode,
  skeletonOf,
  type StepAt,
  SWITCH,
} from "./region_blocks.ts";

/** Functions that are written in the place of a computed call. */
const MAX_CALLEES = 32;

/** Instructions of a function that is written in the place of its call. */
const MAX_INLINED = 40;

/** Writes small functions that call nothing in the place of their calls. */
export class Inliner {
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
