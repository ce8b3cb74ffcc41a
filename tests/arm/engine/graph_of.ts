/** The graph of a piece of code, without a machine. */
import assert from "node:assert/strict";
import { type Graph, regionGraph } from "../../../src/arm/engine/region_graph.ts";
import { effectsOf } from "../../../src/arm/engine/region_probe.ts";
import { DECODER } from "../../../src/arm/isa/table.ts";
import { Asm } from "../../support/asm.ts";

/** Of code at the beginning of a page, entered at the offset `entry`, of `limit` instructions about. */
export function graphOf(make: (asm: Asm) => void, limit = 400, entry = 0): Graph {
  const asm = new Asm(0);
  make(asm);
  const words = asm.words();
  const graph = regionGraph(
    entry,
    (offset) => {
      const instruction = DECODER.decode(words[offset / 4] ?? 0);
      return instruction && { instruction, effects: effectsOf(instruction) };
    },
    limit,
    1,
    () => [],
  );
  assert.ok(graph);
  return graph;
}
