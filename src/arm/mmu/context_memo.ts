/**
 * What the last change of context came to, by CPU and exception level. A guest that is left and entered
 * again has the registers that it had: then the context and the masks that follow from them are those of
 * last time, as long as no context has been given to another key since ({@link Contexts.generation}).
 */
import type { SharedMemory } from "../../base/memory.ts";
import { type Cpu, CpuLayout, sysregOffset } from "../arch/cpu_state.ts";
import { R } from "../arch/sysregs.ts";
import type { Contexts } from "./contexts.ts";

const wordOf = (offset: number): number => offset >>> 2;
const low = (reg: number): number => wordOf(sysregOffset(reg));
const high = (reg: number): number => low(reg) + 1;

const { pan, uao, countsAccesses } = CpuLayout.offset;

/** Words of a CPU's state that decide at every level; TTBR and VTTBR count by ASID and VMID only. */
const COMMON = [
  wordOf(pan),
  wordOf(uao),
  wordOf(countsAccesses),
  low(R.HCR_EL2),
  high(R.HCR_EL2),
];
const EL1 = [
  low(R.SCTLR_EL1),
  low(R.TCR_EL1),
  high(R.TCR_EL1),
  high(R.TTBR0_EL1),
  high(R.TTBR1_EL1),
  low(R.MAIR_EL1),
  high(R.MAIR_EL1),
  low(R.VTCR_EL2),
  high(R.VTTBR_EL2),
];
const EL2 = [
  low(R.SCTLR_EL2),
  low(R.TCR_EL2),
  high(R.TCR_EL2),
  high(R.TTBR0_EL2),
  high(R.TTBR1_EL2),
  low(R.MAIR_EL2),
  high(R.MAIR_EL2),
];

/** EL0 may be of either regime. */
const DECIDING = [[...COMMON, ...EL1, ...EL2], [...COMMON, ...EL1], [...COMMON, ...EL2]].map((of) =>
  Uint16Array.from(of)
);

const { tlb, tlbUnprivileged, codeTlb, alignMask, spAlignMask, fetchUncached } = CpuLayout.offset;
/** Words that follow. */
const FOLLOWING = Uint16Array.of(
  wordOf(tlb),
  wordOf(tlbUnprivileged),
  wordOf(codeTlb),
  wordOf(alignMask),
  wordOf(spAlignMask),
  wordOf(fetchUncached),
);

type Comparison = (words: Int32Array, cpu: number, kept: Int32Array, at: number) => boolean;

/** Compares the deciding words with those kept, without a loop: made from text, as a layout's views are. */
function comparison(deciding: Uint16Array): Comparison {
  const equal = [...deciding].map((word, i) =>
    `words[(cpu + ${word}) | 0] === kept[(at + ${i}) | 0]`
  );
  const text = `"use strict"; return ${equal.join(" && ")};`;
  return new Function("words", "cpu", "kept", "at", text) as Comparison;
}

const SAME = DECIDING.map(comparison);

const LEVELS = DECIDING.length;
const LONGEST = Math.max(...DECIDING.map((of) => of.length));

export class ContextMemo {
  readonly #words: Int32Array;
  /** For each CPU and level: the deciding words, then what followed. */
  readonly #kept: Int32Array;
  /** The contexts that were selected, -1 for none, and the generation that it is true of. */
  readonly #selected: Int32Array;
  readonly #unprivileged: Int32Array;
  readonly #generations: Float64Array;
  /** For each CPU, the entry whose following words it has. */
  readonly #current: Int32Array;

  constructor(memory: SharedMemory, readonly contexts: Contexts, cpuCount: number) {
    this.#words = memory.i32;
    const entries = cpuCount * LEVELS;
    this.#kept = new Int32Array(entries * (LONGEST + FOLLOWING.length));
    this.#selected = new Int32Array(entries);
    this.#unprivileged = new Int32Array(entries);
    this.#generations = new Float64Array(entries).fill(-1);
    this.#current = new Int32Array(cpuCount).fill(-1);
  }

  /** Gives the CPU what it had the last time at this level, if everything is as it was then. */
  recall(cpuIndex: number, base: number, el: number): boolean {
    const entry = cpuIndex * LEVELS + el;
    const { contexts } = this;
    const selected = this.#selected[entry] as number;
    if (this.#generations[entry] !== contexts.generation || !contexts.isUsed(selected)) {
      return false;
    }
    const words = this.#words, kept = this.#kept;
    const cpu = base >>> 2, at = entry * (LONGEST + FOLLOWING.length);
    if (!(SAME[el] as Comparison)(words, cpu, kept, at)) return false;
    // Nothing else was selected meanwhile: it is the one selected last, too.
    if (this.#current[cpuIndex] === entry) return true;
    this.#current[cpuIndex] = entry;
    for (let i = 0; i < FOLLOWING.length; i++) {
      words[cpu + (FOLLOWING[i] as number)] = kept[at + LONGEST + i] as number;
    }
    contexts.touch(selected);
    const unprivileged = this.#unprivileged[entry] as number;
    if (unprivileged >= 0) contexts.touch(unprivileged);
    return true;
  }

  /** The CPU is about to get what is not kept here. */
  forget(cpuIndex: number): void {
    this.#current[cpuIndex] = -1;
  }

  /** Remembers what the CPU has now, with the contexts that were selected for it, in that order. */
  keep(cpu: Cpu, selected: number, unprivileged: number): void {
    const { el, index } = cpu;
    const entry = index * LEVELS + el;
    const deciding = DECIDING[el] as Uint16Array;
    const base = cpu.base >>> 2, at = entry * (LONGEST + FOLLOWING.length);
    const words = this.#words;
    deciding.forEach((word, i) => this.#kept[at + i] = words[base + word] as number);
    FOLLOWING.forEach((word, i) => this.#kept[at + LONGEST + i] = words[base + word] as number);
    this.#selected[entry] = selected;
    this.#unprivileged[entry] = unprivileged;
    this.#generations[entry] = this.contexts.generation;
    this.#current[index] = entry;
  }
}
