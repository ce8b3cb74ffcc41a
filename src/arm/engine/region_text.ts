/** A translated region as text, for people: where it is, its blocks disassembled, its WebAssembly. */
import { disassemble } from "../isa/table.ts";
import type { Block } from "./region_blocks.ts";
import type { Node } from "./region_nodes.ts";
import type { TranslatedRegion } from "./regions.ts";
import { exportedText } from "./wasm_text.ts";

const PAGE = 4096;
/** Addresses from here on belong to the upper half, whose top bits are all ones. */
const UPPER_HALF = 1n << 63n;

const hex = (value: number | bigint, digits = 0): string =>
  `0x${value.toString(16).padStart(digits, "0")}`;

/** The text of an instruction at a virtual address of which all 64 bits matter. */
function instructionText(word: number, va: bigint): string {
  const text = disassemble(word, Number(BigInt.asUintN(48, va))) ?? `.inst\t${hex(word, 8)}`;
  if (va < UPPER_HALF) return text;
  // The disassembler's addresses are numbers, which 64 bits do not fit into; immediates have a # before them.
  return text.replace(/(?<![#\w])0x([89a-f][0-9a-f]{11})\b/g, "0xffff$1");
}

/** What is known of a block besides its instructions. */
function blockHead({ block, isLoop, isJoin }: Node): string {
  const facts: string[] = [];
  if (isLoop) facts.push("loop");
  if (isJoin) facts.push("join");
  if (block.branchesTo !== undefined) facts.push(`branches to ${hex(block.branchesTo)}`);
  if (block.fallsTo !== undefined) facts.push(`goes on at ${hex(block.fallsTo)}`);
  return [`block ${hex(block.start)}:`, facts.join(", ")].join(" ").trimEnd();
}

function blockLines(block: Block, region: TranslatedRegion): string[] {
  const page = region.va - region.va % BigInt(PAGE);
  return block.steps.map((_, i) => {
    const offset = block.start + 4 * i;
    const va = page + BigInt(offset);
    const word = region.wordAt(offset);
    const text = instructionText(word, va).replaceAll("\t", " ");
    return `  ${va.toString(16)}  ${word.toString(16).padStart(8, "0")}  ${text}`;
  });
}

/** Each block once: copies of loops, and functions in the place of their calls, have the same instructions. */
function nodesOf({ graph }: TranslatedRegion): Node[] {
  const seen = new Set<number>();
  const nodes = [...graph.nodes.values()].filter(({ block, isGate, looksUp }) =>
    !isGate && !looksUp && !seen.has(block.start) && seen.add(block.start)
  );
  return nodes.toSorted((a, b) => a.block.start - b.block.start);
}

/** Instructions of the guest that the region has, each counted once. */
export function instructionsOf(region: TranslatedRegion): number {
  return nodesOf(region).reduce((sum, { block }) => sum + block.steps.length, 0);
}

/**
 * The region in lines. `ipa`: the guest's physical address of its first instruction, where there is a
 * guest that has it.
 */
export function regionText(region: TranslatedRegion, ipa: number | undefined): string {
  const { pa, va, graph, module, exported } = region;
  const offset = pa % PAGE;
  return [
    `region at ${hex(va)}`,
    `physical page ${hex(pa - offset)}, offset ${hex(offset)}`,
    ipa === undefined ? "no guest's memory" : `guest physical page ${hex(ipa - offset)}`,
    `${instructionsOf(region)} instructions in ${
      nodesOf(region).length
    } blocks, written as ${graph.nodes.size}`,
    `function ${exported} of a module of ${module.length} bytes`,
    "",
    ...nodesOf(region).flatMap((node) => [blockHead(node), ...blockLines(node.block, region)]),
    "",
    exportedText(module, exported),
    "",
  ].join("\n");
}
