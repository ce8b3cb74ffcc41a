/**
 * What a region knows of the upper lanes of vector registers. A scalar result makes them 0; the local that
 * holds the register need not have these zeros while only its lowest number is read, so that arithmetic on
 * numbers is one instruction on vectors whose upper lanes hold anything. They are made 0 when something
 * reads them, where control meets code that has them so, and at the ends.
 */
import type { Graph } from "./region_graph.ts";
import type { Node } from "./region_nodes.ts";
import type { VectorWrite } from "./region_probe.ts";

/**
 * "full": the local has all of the register. "zero64": and from bit 64 on it is 0. "junk64": from there on the
 * register is 0, the local anything.
 */
export type Uppers = "full" | "zero64" | "zero32" | "junk64" | "junk32";
/** By the registers' slots; those that are not there are full. */
export type UppersOf = ReadonlyMap<number, Uppers>;

export const isJunk = (uppers: Uppers): uppers is "junk64" | "junk32" => uppers.startsWith("junk");

/** What is left when the local's upper lanes are made what the register's are. */
export function cleaned(uppers: Uppers): Uppers {
  if (uppers === "junk64") return "zero64";
  return uppers === "junk32" ? "zero32" : uppers;
}

/** Each may be made what comes behind it, without knowing more than it says. */
const ORDER: readonly Uppers[] = ["zero32", "junk32", "zero64", "junk64", "full"];

/** What both may be made. */
export function meet(a: Uppers, b: Uppers): Uppers {
  return ORDER[Math.max(ORDER.indexOf(a), ORDER.indexOf(b))] as Uppers;
}

/** What a register is after it was written, by what those are that the result has zeros from. */
export function written({ part, zeroFrom }: VectorWrite, before: (slot: number) => Uppers): Uppers {
  switch (part) {
    case "f32":
    case "q32":
      return "zero32";
    case "f64":
    case "q64":
      return "zero64";
    case "s":
    case "d": {
      const bits = part === "s" ? 32 : 64;
      const zero = zeroFrom?.every((slot) => {
        const uppers = before(slot);
        return uppers === "zero32" || (bits === 64 && uppers === "zero64");
      });
      return `${zero ? "zero" : "junk"}${bits}`;
    }
    default:
      return "full";
  }
}

function after(node: Node, before: UppersOf): UppersOf {
  // Registers are read anew behind a call.
  if (node.calls || node.returnsTo !== undefined && node.isSwitch) return new Map();
  if (node.isSwitch) return new Map([...before].map(([slot, uppers]) => [slot, cleaned(uppers)]));
  const out = new Map(before);
  for (const { effects } of node.block.steps) {
    for (const write of effects.vectorWrites) {
      out.set(write.slot, written(write, (slot) => out.get(slot) ?? "full"));
    }
  }
  return out;
}

function meetAll(a: UppersOf, b: UppersOf): UppersOf {
  const out = new Map<number, Uppers>();
  for (const [slot, uppers] of a) {
    const both = meet(uppers, b.get(slot) ?? "full");
    if (both !== "full") out.set(slot, both);
  }
  return out;
}

const isSame = (a: UppersOf, b: UppersOf): boolean =>
  a.size === b.size && [...a].every(([slot, uppers]) => b.get(slot) === uppers);

/** What is known where each node begins. At the region's entry nothing is. */
export function uppersOf({ entry, nodes }: Graph): ReadonlyMap<Node, UppersOf> {
  const known = new Map<Node, UppersOf>([[entry, new Map()]]);
  for (let changed = true; changed;) {
    changed = false;
    for (const node of nodes.values()) {
      const before = known.get(node);
      if (before === undefined) continue;
      const behind = after(node, before);
      for (const key of new Set(node.successors.values())) {
        const to = nodes.get(key) as Node;
        const old = known.get(to);
        const met = old === undefined ? behind : meetAll(old, behind);
        if (old !== undefined && isSame(old, met)) continue;
        known.set(to, met);
        changed = true;
      }
    }
  }
  return known;
}
