/**
 * Recorded instructions as translated code. Many cases are put side by side: all lie at the virtual
 * address they were recorded at, each in a physical page of its own, so that they are translated a
 * few at a time. A case becomes a loop: its instructions and a branch back to them, entered by a
 * branch at the start of the page.
 */
import { InterpreterCode } from "../../src/arm/engine/interpreter.ts";
import type { Instruction } from "../../src/arm/engine/region_probe.ts";
import type { Row } from "../../src/arm/isa/row.ts";
import { CODE_TLB_SIZE } from "../../src/arm/arch/tlb_layout.ts";
import { FlatEnvironment } from "../support/flat_environment.ts";
import { FlatInterpreter } from "../support/flat_interpreter.ts";
import { enterState, leaveState } from "./driver.ts";
import { CODE, CODE_PAGE, copyState, DATA, emptyState, type MachineState } from "./state.ts";

const PAGE = 4096;
/** Cases side by side, and how many of them are translated into one module. */
export const BATCH = 96;
const MODULE = 24;
/** Slices after which the last ones have been translated too. */
const MAX_SLICES = 100;
/** B from byte `from` to byte `to`. */
const branch = (from: number, to: number): number =>
  (0x1400_0000 | (((to - from) / 4) & 0x3ff_ffff)) >>> 0;

/** What a word is, for whoever translates it; the interpreter is not asked. */
export type Translated = (code: InterpreterCode, word: number) => Instruction | undefined;

/** Code in which regions are made of something else than what is interpreted. */
class OtherCode extends InterpreterCode {
  translated: Translated | undefined;
  override instruction(word: number): Instruction | undefined {
    return this.translated ? this.translated(this, word) : super.instruction(word);
  }
}

/** The flat interpreter with many physical pages at the address of the code. */
class Pages extends FlatInterpreter {
  current = 0;
  protected override makeCode(rows: readonly Row[], memoryPages: number): InterpreterCode {
    return new OtherCode(rows, memoryPages);
  }
  /** Physical addresses: the flat range, of which the third page and those behind are code. */
  pageOf(index: number): number {
    return CODE_PAGE + (2 + index) * PAGE;
  }
  select(index: number): void {
    this.current = index;
    this.memory.u8.fill(0xff, this.cpu.codeTlb, this.cpu.codeTlb + CODE_TLB_SIZE);
  }
  /** -1 outside of the page of code: a branch has gone there, and that is all. */
  override fetch(): number {
    const pc = Number(this.cpu.pc);
    return pc - (pc % PAGE) === CODE_PAGE ? this.pageOf(this.current) + (pc % PAGE) : -1;
  }
  override executeSlow(): void {
    if (this.fetch() < 0) this.stopped = true;
    else super.executeSlow();
  }
}

export class RegionDriver {
  readonly #flat = new Pages(CODE_PAGE, (2 + BATCH) * PAGE, undefined, {
    hotAfter: 1,
    // The budgets are just enough for one turn.
    copies: 1,
    batch: MODULE,
  }, BATCH + 8);
  #size = 0;
  readonly #state = emptyState();

  constructor(translated?: Translated) {
    const flat = this.#flat;
    flat.useEnvironment(
      new FlatEnvironment(flat.cpu, flat.memory, {
        va: CODE_PAGE,
        size: 2 * PAGE,
        at: flat.flatAt,
      }),
    );
    (flat.interpreter.code as OtherCode).translated = translated;
  }

  /** Cases at hand, regions in use, and words that neither tier executed. */
  get size(): number {
    return this.#size;
  }
  get live(): number {
    return this.#flat.interpreter.regions.live;
  }
  /** Instructions that regions have executed. */
  get regionInsns(): number {
    return this.#flat.cpu.regionInsns;
  }
  get slow(): number {
    return this.#flat.slow;
  }

  /** Forgets all cases. */
  clear(): void {
    this.#size = 0;
    this.#flat.interpreter.dropAll();
  }

  /** Takes a case and executes it twice from `state`, so that it is hot. Returns its number. */
  add(words: readonly number[], state: MachineState): number {
    const flat = this.#flat;
    const index = this.#size++;
    const at = flat.offsetOf(flat.pageOf(index));
    flat.memory.u8.fill(0, at, at + PAGE);
    const put = (va: number, word: number) => flat.memory.st32(at + va - CODE_PAGE, word);
    put(CODE_PAGE, branch(CODE_PAGE, CODE));
    words.forEach((word, i) => put(CODE + 4 * i, word));
    put(CODE + 4 * words.length, branch(CODE + 4 * words.length, CODE));
    for (let i = 0; i < 2; i++) {
      copyState(state, this.#state);
      this.run(index, words.length, this.#state);
    }
    return index;
  }

  /** Lets everything that is hot be translated. */
  settle(): void {
    const flat = this.#flat;
    for (let i = 0; i < MAX_SLICES; i++) {
      flat.cpu.pc = BigInt(CODE_PAGE);
      flat.run(1);
    }
  }

  /**
   * Executes `count` instructions from the beginning of a case on, or `ahead` more if it goes that far without
   * leaving the page, and changes `state` in place. Error where something cannot be executed here.
   */
  run(index: number, count: number, state: MachineState, ahead = 0): void {
    const flat = this.#flat;
    const dataAt = flat.offsetOf(DATA);
    flat.select(index);
    enterState(flat.cpu, flat.memory, dataAt, state);
    flat.cpu.pc = BigInt(CODE_PAGE);
    const wanted = 1 + count + ahead;
    if ((flat.run(wanted) !== wanted || flat.stopped) && ahead === 0) throw new Error("stopped");
    leaveState(flat.cpu, flat.memory, dataAt, state);
  }
}
