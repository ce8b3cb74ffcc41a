/**
 * Accesses to system registers that regions make by a call, see engine/direct_registers.ts: by the functions that
 * MRS and MSR outside of regions go by, unless they trap.
 */
import { CpuLayout } from "./arch/cpu_state.ts";
import { type Clock, NS_PER_TICK } from "./clock.ts";
import type { CpuCore } from "./cpu.ts";
import * as directRegisters from "./engine/direct_registers.ts";
import type { Surroundings, VirtualTime } from "./engine/direct_registers.ts";
import { SliceLayout } from "./engine/turn_loop.ts";
import * as exceptions from "./exceptions.ts";
import * as sysregTraps from "./sysreg_traps.ts";

// Of the module itself: what is imported V8 looks up and checks at each use.
const { DONE, BUDGET, IRQ, LEFT } = directRegisters.ACCESS_END;
const { pendingInterrupt } = exceptions;
const { OK } = sysregTraps.VERDICT;

/** Words of a CPU's state. */
const WORD = {
  EL: CpuLayout.offset.el >>> 2,
  CHECK: CpuLayout.offset.checkIrq >>> 2,
  BUDGET: CpuLayout.offset.budget >>> 2,
  REGION_INSNS: CpuLayout.offset.regionInsns >>> 2,
} as const;

/** The accesses of a machine's CPUs, which take turns in one worker. */
export class RegisterCalls implements Surroundings {
  readonly time: VirtualTime;
  readonly #cores: readonly CpuCore[];

  constructor(cores: readonly CpuCore[], { nsAt, sliceAt }: Clock) {
    this.#cores = cores;
    const givenAt = sliceAt + SliceLayout.offset.budget;
    this.time = { nsAt, givenAt, tickShift: Math.log2(NS_PER_TICK) };
  }

  readRegister(cpuIndex: number, named: number, to: number): number {
    const core = this.#cores[cpuIndex] as CpuCore;
    const { words, sysregs } = core;
    if (words[WORD.EL] !== 1) return LEFT;
    const left = words[WORD.BUDGET] as number;
    if (sysregs.tryRead(named) !== OK) return LEFT;
    words[to] = sysregs.lo;
    words[to + 1] = sysregs.hi;
    return end(core, left);
  }

  writeRegister(cpuIndex: number, named: number, from: number): number {
    const core = this.#cores[cpuIndex] as CpuCore;
    const { words, sysregs } = core;
    if (words[WORD.EL] !== 1) return LEFT;
    const left = words[WORD.BUDGET] as number;
    const lo = words[from] as number, hi = words[from + 1] as number;
    return sysregs.tryWrite(named, lo, hi) === OK ? end(core, left) : LEFT;
  }
}

/** What comes behind an access that is done, before which the budget was `left`. */
function end(core: CpuCore, left: number): number {
  const { words } = core;
  const cut = left - (words[WORD.BUDGET] as number);
  if (cut !== 0) notExecuted(words, cut);
  if (words[WORD.CHECK] !== 0 && pendingInterrupt(core) !== 0) return IRQ;
  return cut === 0 ? DONE : BUDGET;
}

/** What is gone from the budget counts as executed by the region when that is left: so many instructions are not. */
function notExecuted(words: Int32Array, insns: number): void {
  const at = WORD.REGION_INSNS, before = words[at] as number;
  words[at] = before - insns;
  if (before >>> 0 < insns) words[at + 1] = (words[at + 1] as number) - 1;
}
