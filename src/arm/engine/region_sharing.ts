/**
 * Accesses of a loop that are a constant apart, whatever the turn: they are looked up together, once for as many
 * turns as the loop is written in a row. Where that fails, because they are not in one page or that is not known yet,
 * a turn is made in which each access is looked up by itself.
 */
import { before, isSame, type Linear, type Moves, termsKey } from "./linear.ts";
import { dominates, type Loop, type Node } from "./region_nodes.ts";

/** Bytes in a row of one page that are accessed in one way, looked up together. */
export interface SharedBytes {
  /** Where they begin, in terms of registers at the loop's head. */
  readonly first: Linear;
  readonly span: number;
  readonly access: 0 | 1;
}

/** An access: which of the bytes it is of, and where in them. */
export interface Share {
  readonly bytes: number;
  readonly offset: number;
}

/** The shares of a block's accesses, by instruction and by the order in it. */
export type Shares = ReadonlyMap<string, Share>;
export const shareKey = (step: number, nth: number): string => `${step} ${nth}`;

/** What of a loop is looked up together, and the shares by turn and block. */
export interface Sharing {
  readonly bytes: readonly SharedBytes[];
  readonly shares: readonly ReadonlyMap<number, Shares>[];
}

/** Bytes between accesses that are looked up together, and bytes of all of them. */
const MAX_GAP = 64, MAX_BYTES = 256;
/** Look-ups that are saved at least. */
const LEAST_SAVED = 2;

interface Found {
  readonly turn: number;
  readonly node: Node;
  readonly step: number;
  readonly nth: number;
  readonly address: Linear;
  readonly access: 0 | 1;
  readonly span: number;
  /** It is made in each turn. */
  readonly always: boolean;
}

/** What of the loop is worth looking up together if it is written `turns` times in a row. */
export function sharing({ head, body }: Loop, turns: number): Sharing | undefined {
  const found = accessesOf(head, body, turns);
  const clusters = [...byTerms(found).values()].flatMap(clustersOf);
  const saved = clusters.reduce((sum, cluster) => sum + cluster.length - 1, 0);
  if (saved < LEAST_SAVED) return undefined;
  const bytes = clusters.map(bytesOf);
  const shares = Array.from({ length: turns }, () => new Map<number, Map<string, Share>>());
  for (const one of found) {
    const at = bytes.findIndex((shared) => isWithin(one, shared));
    if (at < 0) continue;
    const ofTurn = shares[one.turn] as Map<number, Map<string, Share>>;
    const ofBlock = ofTurn.get(one.node.key) ?? new Map<string, Share>();
    ofTurn.set(one.node.key, ofBlock);
    const offset = one.address.offset - (bytes[at] as SharedBytes).first.offset;
    ofBlock.set(shareKey(one.step, one.nth), { bytes: at, offset });
  }
  return { bytes, shares };
}

/** The accesses of several turns whose addresses are known in terms of the registers at the first turn's beginning. */
function accessesOf(head: Node, body: ReadonlySet<Node>, turns: number): Found[] {
  const nodes = [...body].toSorted((a, b) => a.order - b.order);
  const latches = nodes.filter((node) => leadsTo(node, head));
  const found: Found[] = [];
  let entering: Moves = new Map();
  for (let turn = 0; turn < turns; turn++) {
    const after = new Map<Node, Moves>();
    for (const node of nodes) {
      const from = nodes.filter((other) => other.order < node.order && leadsTo(other, node));
      const moves = node === head ? entering : meet(from.map((f) => after.get(f) as Moves));
      const always = latches.every((latch) => dominates(node, latch));
      after.set(node, through(node, moves, turn, always, found));
    }
    entering = meet(latches.map((latch) => after.get(latch) as Moves));
  }
  return found;
}

function leadsTo(from: Node, to: Node): boolean {
  return [...from.successors.values()].includes(to.key);
}

/** What holds on all ways. */
function meet(ways: readonly Moves[]): Moves {
  const [first, ...rest] = ways;
  if (first === undefined) return new Map();
  const out = new Map(first);
  for (const way of rest) {
    for (const slot of new Set([...out.keys(), ...way.keys()])) {
      const same = out.has(slot) && way.has(slot) && isSame(out.get(slot), way.get(slot));
      if (!same) out.set(slot, undefined);
    }
  }
  return out;
}

/** Adds the block's accesses to `found`; the registers behind it. */
function through(
  node: Node,
  entering: Moves,
  turn: number,
  always: boolean,
  found: Found[],
): Moves {
  const now = new Map(entering);
  node.block.steps.forEach(({ effects: { accesses, moves } }, step) => {
    accesses.forEach(({ address, access, span }, nth) => {
      const known = address && before(address, now);
      if (known) found.push({ turn, node, step, nth, address: known, access, span, always });
    });
    const after = [...moves].map(([slot, value]) => [slot, value && before(value, now)] as const);
    for (const [slot, value] of after) now.set(slot, value);
  });
  return now;
}

function byTerms(found: readonly Found[]): Map<string, Found[]> {
  const out = new Map<string, Found[]>();
  for (const one of found) {
    if (!one.always) continue;
    const key = `${one.access} ${termsKey(one.address)}`;
    const others = out.get(key);
    if (others) others.push(one);
    else out.set(key, [one]);
  }
  return out;
}

/** Accesses near each other, at least two. */
function clustersOf(found: readonly Found[]): Found[][] {
  const clusters: Found[][] = [];
  let end = -Infinity;
  for (const one of found.toSorted((a, b) => a.address.offset - b.address.offset)) {
    const { address: { offset }, span } = one;
    const last = clusters.at(-1);
    const first = last?.[0]?.address.offset ?? 0;
    if (last && offset <= end + MAX_GAP && offset + span - first <= MAX_BYTES) last.push(one);
    else clusters.push([one]);
    end = Math.max(end, offset + span);
  }
  return clusters.filter((cluster) => cluster.length > 1);
}

function bytesOf(cluster: readonly Found[]): SharedBytes {
  const [{ address: first, access }] = cluster as [Found];
  const end = Math.max(...cluster.map(({ address, span }) => address.offset + span));
  return { first, span: end - first.offset, access };
}

function isWithin({ address, access, span }: Found, bytes: SharedBytes): boolean {
  const at = address.offset - bytes.first.offset;
  return access === bytes.access && termsKey(address) === termsKey(bytes.first) &&
    at >= 0 && at + span <= bytes.span;
}
