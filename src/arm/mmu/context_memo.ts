/**
 * What the last change of context came to, by CPU and exception level. A guest that is left and entered
 * again has the registers that it had: then the context and the masks that follow from them are those of
 * last time, as long as no context has been given to another key since ({@link Contexts.generation}).
 *
 * It lies in memory, and WebAssembly compares: at each exception and each return, the look at all of these
 * words costs a third of what it does in TypeScript.
 */
import type { SharedMemory } from "../../base/memory.ts";
import { array, layout, structs, u32 } from "../../base/struct.ts";
import { type Cpu, CpuLayout, sysregOffset } from "../arch/cpu_state.ts";
import { R } from "../arch/sysregs.ts";
import { FunctionBody, I32 } from "../engine/wasm_assembler.ts";
import { instantiate, ModuleAssembler } from "../engine/wasm_module.ts";
import type { Contexts } from "./contexts.ts";

const low = sysregOffset;
const high = (reg: number): number => low(reg) + 4;

const { pan, uao, countsAccesses } = CpuLayout.offset;

/** Offsets of a CPU's state that decide at every level; TTBR and VTTBR count by ASID and VMID only. */
const COMMON = [pan, uao, countsAccesses, low(R.HCR_EL2), high(R.HCR_EL2)];
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

/** By level; EL0 may be of either regime. */
const DECIDING: readonly (readonly number[])[] = [
  [...COMMON, ...EL1, ...EL2],
  [...COMMON, ...EL1],
  [...COMMON, ...EL2],
];
const LONGEST = Math.max(...DECIDING.map((of) => of.length));

const { tlb, tlbUnprivileged, codeTlb, alignMask, spAlignMask, fetchUncached } = CpuLayout.offset;
/** Offsets of what follows. */
const FOLLOWING = [tlb, tlbUnprivileged, codeTlb, alignMask, spAlignMask, fetchUncached];

/** What a CPU had the last time at one level. */
const EntryLayout = layout("context_entry", {
  deciding: array("u32", LONGEST, "cache"),
  following: array("u32", FOLLOWING.length, "cache"),
  /** The generation that it is true of. */
  generation: u32("cache"),
  /** Addresses of the selected context's flags and stamp, and of the stamp of that of unprivileged accesses; 0: there is none. */
  flagsAt: u32("cache"),
  stampAt: u32("cache"),
  unprivilegedAt: u32("cache"),
});
const E = EntryLayout.offset;

/** One CPU's: all zeros before the first is kept, when {@link Contexts.generation} is not. */
export const ContextMemoLayout = layout("context_memo", {
  /** The level of the entry whose following words the CPU has, and 1; 0: of none. */
  current: u32("cache"),
  entries: structs(EntryLayout, DECIDING.length, "cache"),
});
const M = ContextMemoLayout.offset;

const entryOf = (level: number): number => M.entries + level * EntryLayout.size;

/** Remembers at `memo` what the CPU has now, with the contexts that were selected for it, in that order; -1 for none. */
export function keepContext(
  memory: SharedMemory,
  memo: number,
  cpu: Cpu,
  contexts: Contexts,
  selected: number,
  unprivileged: number,
): void {
  const entry = memo + entryOf(cpu.el);
  const copy = (from: number, to: number) => memory.st32(to, memory.ld32(cpu.base + from));
  (DECIDING[cpu.el] as number[]).forEach((offset, i) => copy(offset, entry + E.deciding + 4 * i));
  FOLLOWING.forEach((offset, i) => copy(offset, entry + E.following + 4 * i));
  memory.st32(entry + E.generation, contexts.generation);
  memory.st32(entry + E.flagsAt, contexts.flagsAt(selected));
  memory.st32(entry + E.stampAt, contexts.stampAt(selected));
  memory.st32(entry + E.unprivilegedAt, unprivileged < 0 ? 0 : contexts.stampAt(unprivileged));
  memory.st32(memo + M.current, cpu.el + 1);
}

/** Where a CPU's state and its {@link ContextMemoLayout} are: addresses. */
export interface MemoPlace {
  readonly cpu: number;
  readonly memo: number;
}
/** The same of what contexts are stamped from, and of their generation. */
export interface ContextClock {
  readonly clockAt: number;
  readonly generationAt: number;
}

/** The function of {@link recallCode} under construction. */
class RecallCode {
  readonly asm: FunctionBody;
  readonly #now: number;
  /** Offsets of the CPU's state and of its memo from what {@link #cpu} and {@link #memo} push. */
  readonly #cpuAt: number;
  readonly #memoAt: number;

  constructor(readonly clock: ContextClock, readonly place: MemoPlace | undefined) {
    this.asm = new FunctionBody(place === undefined ? [I32, I32] : [], [I32]);
    this.#now = this.asm.local(I32);
    this.#cpuAt = place?.cpu ?? 0;
    this.#memoAt = place?.memo ?? 0;
  }

  #cpu(): FunctionBody {
    return this.place === undefined ? this.asm.get(0) : this.asm.i32(0);
  }
  #memo(): FunctionBody {
    return this.place === undefined ? this.asm.get(1) : this.asm.i32(0);
  }
  #cpuWord(offset: number): FunctionBody {
    return this.#cpu().mem("i32.load", this.#cpuAt + offset);
  }
  #memoWord(offset: number): FunctionBody {
    return this.#memo().mem("i32.load", this.#memoAt + offset);
  }
  #clockWord(at: number): FunctionBody {
    return this.asm.i32(0).mem("i32.load", at);
  }

  write(): FunctionBody {
    const { asm } = this;
    asm.block("other").block("EL2").block("EL1").block("EL0");
    this.#cpuWord(CpuLayout.offset.el).brTable(["EL0", "EL1", "EL2"], "other");
    DECIDING.forEach((deciding, level) => {
      asm.end();
      this.#requireValid(entryOf(level));
      deciding.forEach((offset, i) => {
        this.#cpuWord(offset);
        this.#memoWord(entryOf(level) + E.deciding + 4 * i).op("i32.ne").brIf("other", false);
      });
      // Where nothing else was selected meanwhile, it is the one selected last, too.
      this.#memoWord(M.current).i32(level + 1).op("i32.ne").if("back");
      this.#give(level);
      asm.end().i32(1).return();
    });
    return asm.end().i32(0);
  }

  /** A CPU of another thread may have had all contexts forgotten: then they have no flags. */
  #requireValid(entry: number): void {
    const { asm } = this;
    this.#memoWord(entry + E.generation);
    this.#clockWord(this.clock.generationAt).op("i32.ne").brIf("other", false);
    this.#memoWord(entry + E.flagsAt).mem("i32.load", 0).op("i32.eqz");
    asm.brIf("other", false);
  }

  #give(level: number): void {
    const { asm } = this, entry = entryOf(level);
    FOLLOWING.forEach((offset, i) => {
      this.#cpu();
      this.#memoWord(entry + E.following + 4 * i).mem("i32.store", this.#cpuAt + offset);
    });
    this.#memo().i32(level + 1).mem("i32.store", this.#memoAt + M.current);
    this.#stamp(entry + E.stampAt);
    this.#memoWord(entry + E.unprivilegedAt).if("unprivileged");
    this.#stamp(entry + E.unprivilegedAt);
    asm.end();
  }

  /** The context whose stamp's address is at the offset is selected again, as by {@link Contexts.select}. */
  #stamp(at: number): void {
    const { asm } = this, { clockAt } = this.clock;
    this.#clockWord(clockAt).i32(1).op("i32.add").set(this.#now);
    asm.i32(0).get(this.#now).mem("i32.store", clockAt);
    this.#memoWord(at).get(this.#now).mem("i32.store", 0);
  }
}

/**
 * A function for a module that gives a CPU what it had the last time at its level, if everything is as it was then;
 * its answer is 0 where it is not. With a `place` it is for that CPU, and has no parameters: between constant
 * addresses V8 need not look whether they are in the memory.
 */
export function recallCode(clock: ContextClock, place: MemoPlace): FunctionBody {
  return new RecallCode(clock, place).write();
}

/** The same for CPUs whose state and memo are at the addresses that it is given. */
export type Recall = (cpu: number, memo: number) => number;

/** {@link Recall}, compiled. */
export function compileRecall({ memory }: SharedMemory, clock: ContextClock): Recall {
  const exports = instantiate(`recall ${clock.clockAt}`, memory, (pages) => {
    const module = new ModuleAssembler(pages);
    module.add(new RecallCode(clock, undefined).write(), "recall");
    return module;
  });
  return exports["recall"] as Recall;
}
