/** Blocks, loops and joins of small pieces of code, and what leaves the region instead. */
import assert from "node:assert/strict";
import { ENTERING } from "../../../src/arm/engine/region_blocks.ts";
import { type Graph, regionGraph } from "../../../src/arm/engine/region_graph.ts";
import { isInside } from "../../../src/arm/engine/region_nodes.ts";
import { type Asm, COND } from "../../support/asm.ts";
import { graphOf } from "./graph_of.ts";

/** Starts of the blocks with what they are, and where they go. */
function outline(graph: Graph): Record<string, string> {
  return Object.fromEntries(
    [...graph.nodes].map(([start, { isLoop, isJoin, successors }]) => [
      start,
      `${isLoop ? "loop " : ""}${isJoin ? "join " : ""}to ${[...successors.values()].join()}`,
    ]),
  );
}

const RET = 0xd65f_03c0;
/** subs x0, x0, #1 */
const COUNT_DOWN = 0xf100_0400;

Deno.test("straight-line code to a return is one block", () => {
  const graph = graphOf((a) => a.nop().nop().word(RET));
  assert.deepEqual(outline(graph), { 0: "to " });
  assert.equal(graph.count, 3);
});

Deno.test("a loop: its head dominates the branch back", () => {
  const graph = graphOf((a) =>
    a.nop().label("head").word(COUNT_DOWN).bCond(COND.NE, "head").word(RET)
  );
  assert.deepEqual(outline(graph), { 0: "to 4", 4: "loop to 4,12", 12: "join to " });
  assert.deepEqual(graph.nodes.get(4)?.exits.map((exit) => exit.key), [12]);
  assert.equal(graph.nodes.get(4)?.idom, graph.entry);
});

Deno.test("two ways that meet: the join belongs to the block that parts them", () => {
  const graph = graphOf((a) =>
    a.word(COUNT_DOWN).bCond(COND.EQ, "other").nop().b("end").label("other").nop().label("end")
      .word(RET)
  );
  assert.equal(outline(graph)[20], "join to ");
  assert.deepEqual(graph.entry.joins.map((join) => join.block.start), [20]);
});

Deno.test("flags count as read where a block, or one behind it, uses them before it sets them", () => {
  const graph = graphOf((a) =>
    a.word(COUNT_DOWN).bCond(COND.EQ, "reads").label("passes").nop().label("reads").bCond(
      COND.HI,
      "sets",
    ).label("sets").word(COUNT_DOWN).word(RET)
  );
  const reads = (start: number) => graph.nodes.get(start)?.readsFlags;
  assert.deepEqual([0, 8, 12, 16].map(reads), [false, true, true, false]);
});

Deno.test("a call comes back behind it; a branch out of the page leaves the region", () => {
  const graph = graphOf((a) => a.word(0x9400_1000).nop().word(0x1400_2000));
  assert.deepEqual(outline(graph), { 0: "to 4", 4: "to " });
  assert.equal(graph.nodes.get(4)?.block.branchesTo, undefined);
});

Deno.test("the limit bounds the region, and what is beyond is left to others", () => {
  const graph = graphOf((a) => {
    for (let i = 0; i < 50; i++) a.word(COUNT_DOWN).bCond(COND.EQ, "end").nop();
    a.label("end").word(RET);
  }, 20);
  assert.ok(graph.count <= 24, `${graph.count} instructions`);
});

/** Whether every edge of the region can be written as structure. */
const isReducible = ({ nodes }: Graph): boolean =>
  [...nodes.values()].every((from) =>
    [...from.successors.values()].every((key) => {
      const to = nodes.get(key);
      return to !== undefined && isInside(from, to);
    })
  );

/** A loop at 4 within one at 0. */
const nest = (a: Asm) =>
  a.label("outer").nop().label("inner").nop().word(COUNT_DOWN).bCond(COND.NE, "inner")
    .word(COUNT_DOWN).bCond(COND.NE, "outer").word(RET);

Deno.test("a region that begins at an inner loop has a gate before the outer one, and no copies", () => {
  const graph = graphOf(nest, 400, 4);
  assert.equal(graph.offset, 4);
  assert.ok(graph.entry.isGate && graph.entry.isLoop);
  assert.equal(graph.entry.successors.get(ENTERING), 4);
  assert.deepEqual([0, 4, 16].map((key) => graph.nodes.get(key)?.depth), [1, 2, 1]);
  assert.equal(graph.nodes.size, 5);
  assert.ok(isReducible(graph));
});

Deno.test("a region that begins in the middle of an inner loop has a copy of what is left of its turn", () => {
  const graph = graphOf(nest, 400, 8);
  const first = graph.nodes.get(graph.entry.successors.get(ENTERING) ?? -1);
  assert.deepEqual([first?.block.start, first?.isLoop, first?.depth], [8, false, 1]);
  assert.deepEqual([...first?.successors.values() ?? []], [4, 16]);
  assert.deepEqual([0, 4].map((key) => graph.nodes.get(key)?.isLoop), [false, true]);
  assert.ok(isReducible(graph));
});

Deno.test("a loop that is entered at two places: what is between them is a copy", () => {
  const graph = graphOf((a) =>
    a.word(COUNT_DOWN).bCond(COND.EQ, "middle").label("head").nop().label("middle")
      .word(COUNT_DOWN).bCond(COND.NE, "head").word(RET)
  );
  const copies = [...graph.nodes.values()].filter(({ block }) => block.start === 12);
  assert.deepEqual(copies.map(({ depth }) => depth).toSorted(), [0, 1]);
  assert.ok(graph.nodes.get(8)?.isLoop);
  assert.ok(isReducible(graph));
});

Deno.test("where nothing is decoded there is no region", () => {
  assert.equal(regionGraph(0, () => undefined, 100, 1, () => []), undefined);
});
