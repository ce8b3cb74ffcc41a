/**
 * What the last change of context came to, by CPU and exception level. A guest that is left and entered
 * again has the registers that it had: then the context and the masks that follow from them are those of
 * last time, as long as no context has been given to another key since ({@link Contexts.generation}).
 */
import { CpuLayout, sysregOffset } from "../arch/cpu_state.ts";
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

type Comparison = (words: Int32Array, kept: Int32Array) => boolean;
type Copy = (words: Int32Array, kept: Int32Array) => void;

/** Compares the deciding words with those kept, without a loop: made from text, as a layout's views are. */
function comparison(deciding: Uint16Array): Comparison {
  const equal = [...deciding].map((word, i) => `words[${word}] === kept[${i}]`);
  return new Function("words", "kept", `"use strict"; return ${equal.join(" && ")};`) as Comparison;
}

const LONGEST = Math.max(...DECIDING.map((of) => of.length));

/** Gives the CPU the words that follow, which are kept behind the deciding ones. */
function copying(): Copy {
  const copies = [...FOLLOWING].map((word, i) => `words[${word}] = kept[${LONGEST + i}];`);
  return new Function("words", "kept", `"use strict"; ${copies.join(" ")}`) as Copy;
}

// Each by its own name: V8 calls what it knows to be always the same without a detour.
const [SAME_EL0, SAME_EL1, SAME_EL2] = DECIDING.map(comparison) as [
  Comparison,
  Comparison,
  Comparison,
];
const giveFollowing = copying();

/** What a CPU had the last time at one level. */
class Entry {
  /** The deciding words, then what followed. */
  readonly kept = new Int32Array(LONGEST + FOLLOWING.length);
  /** The contexts that were selected, -1 for none, and the generation that it is true of. */
  selected = 0;
  unprivileged = -1;
  generation = -1;
}

/** One CPU's. */
export class ContextMemo {
  readonly #el0 = new Entry();
  readonly #el1 = new Entry();
  readonly #el2 = new Entry();
  /** The one whose following words the CPU has. */
  #current: Entry | undefined;

  /** `words`: the CPU's, as of `wordsOf`. */
  constructor(readonly words: Int32Array, readonly contexts: Contexts) {}

  #entryOf(el: number): Entry {
    return el === 1 ? this.#el1 : el === 2 ? this.#el2 : this.#el0;
  }

  /** Gives the CPU what it had the last time at this level, if everything is as it was then. */
  recall(el: number): boolean {
    const entry = this.#entryOf(el);
    const { contexts, words } = this;
    if (entry.generation !== contexts.generation || !contexts.isUsed(entry.selected)) return false;
    const { kept } = entry;
    const same = el === 1
      ? SAME_EL1(words, kept)
      : el === 2
      ? SAME_EL2(words, kept)
      : SAME_EL0(words, kept);
    if (!same) return false;
    // Nothing else was selected meanwhile: it is the one selected last, too.
    if (this.#current === entry) return true;
    this.#current = entry;
    giveFollowing(words, kept);
    contexts.touch(entry.selected);
    if (entry.unprivileged >= 0) contexts.touch(entry.unprivileged);
    return true;
  }

  /** The CPU is about to get what is not kept here. */
  forget(): void {
    this.#current = undefined;
  }

  /** Remembers what the CPU has now at level `el`, with the contexts that were selected for it, in that order. */
  keep(el: number, selected: number, unprivileged: number): void {
    const entry = this.#entryOf(el);
    const { words } = this, { kept } = entry;
    (DECIDING[el] as Uint16Array).forEach((word, i) => kept[i] = words[word] as number);
    FOLLOWING.forEach((word, i) => kept[LONGEST + i] = words[word] as number);
    entry.selected = selected;
    entry.unprivileged = unprivileged;
    entry.generation = this.contexts.generation;
    this.#current = entry;
  }
}
