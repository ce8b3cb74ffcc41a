/** What the interpreter asks for of a CPU: fetching, filling the data TLB, and all it does not do itself. */
import type { Arena } from "../base/arena.ts";
import * as cpuState from "./arch/cpu_state.ts";
import { CpuLayout } from "./arch/cpu_state.ts";
import * as tlbLayout from "./arch/tlb_layout.ts";
import type { Access } from "./arch/tlb_layout.ts";
import type { CpuCore } from "./cpu.ts";
import { CrossingAccess } from "./crossing_access.ts";
import * as debugEnable from "./debug_enable.ts";
import type { ExecutionHost, Interpreter } from "./engine/interpreter.ts";
import * as wasmFrame from "./engine/wasm_frame.ts";
import * as exceptions from "./exceptions.ts";
import * as debugPages from "./mmu/debug_pages.ts";
import * as mmuModule from "./mmu/mmu.ts";
import * as pstate from "./pstate.ts";

// Of the module itself: what is imported V8 looks up and checks at each use.
const { HALT } = cpuState;
const { ACCESS, ramOffset } = tlbLayout;
const { refreshSingle } = debugEnable;
const { UNPRIVILEGED_ACCESS } = wasmFrame;
const { pollInterrupts, untagPc } = exceptions;
const { isBreakpointPage } = debugPages;
const { FILL } = mmuModule;
const { pcHi, pcLo } = pstate;

// As a constant of this module, V8 knows it.
const RUNNING = HALT.RUNNING;

/** Words of a CPU's state. */
const WORD = {
  EL: CpuLayout.offset.el >>> 2,
  HALT: CpuLayout.offset.halt >>> 2,
  CHECK: CpuLayout.offset.checkIrq >>> 2,
} as const;

/** One CPU as the interpreter runs it. */
export class Executor implements ExecutionHost {
  #missVaLo = 0;
  #missAt = -1;
  /** The last miss was a stage 2 fault, which the MMU still describes. */
  #faulted = false;

  readonly #crossing: CrossingAccess;
  readonly words: Int32Array;

  constructor(readonly core: CpuCore, cacheArena: Arena, interpreter: Interpreter) {
    this.words = core.words;
    this.#crossing = new CrossingAccess(cacheArena, core.cpu, core.platform.mmu, interpreter);
  }

  get stopped(): boolean {
    const { words } = this;
    if (words[WORD.HALT] !== RUNNING) return true;
    return words[WORD.EL] === 2 && this.core.platform.hostAtEl2 === true;
  }

  fetch(): number {
    const { cpu, platform } = this.core;
    untagPc(this.core);
    const lo = pcLo(cpu);
    if (cpu.debugArmed !== 0 && isBreakpointPage(cpu.memory, cpu, lo, pcHi(cpu))) return -1;
    if (lo & 3 || !platform.mmu.translateCode(cpu, lo, pcHi(cpu))) return -1;
    const { pa } = platform.mmu;
    return ramOffset(platform.ram, pa, 4) < 0 ? -1 : pa;
  }

  dataMiss(): boolean {
    const { cpu, platform } = this.core;
    const at = cpu.base + CpuLayout.offset.faultVa;
    const lo = cpu.memory.ld32(at);
    // What misses again right after it was filled is misaligned.
    if (lo === this.#missVaLo && this.#missAt === cpu.budget) return this.#missAgain();
    const size = cpu.faultSize;
    if ((lo & 0xfff) + size > 0x1000) return this.#crossing.make();
    this.#missVaLo = lo;
    this.#missAt = cpu.budget;
    const access = (cpu.faultAccess & ACCESS.WRITE) as Access;
    const unprivileged = (cpu.faultAccess & UNPRIVILEGED_ACCESS) !== 0;
    const hi = cpu.memory.ld32(at + 4);
    const fill = platform.mmu.fillData(cpu, lo, hi, access, size, unprivileged);
    this.#faulted = fill === FILL.FAULT && platform.mmu.fault.stage2;
    return fill === FILL.RAM;
  }

  #missAgain(): boolean {
    this.#missAt = -1;
    return false;
  }

  executeSlow(): void {
    this.#missAt = -1;
    const faulted = this.#faulted;
    this.#faulted = false;
    // Most often what the guest is to find there is a device, and the walk is not to be made twice.
    if (!faulted || !this.core.takeStage2Fault()) this.core.executeSlow();
    // ERET, MSR and the like may have opened the way for what was pending.
    if (this.words[WORD.CHECK] !== 0) pollInterrupts(this.core);
  }

  executeLeft(): void {
    this.#missAt = -1;
    this.core.executeLeft();
    if (this.words[WORD.CHECK] !== 0) pollInterrupts(this.core);
  }

  checkInterrupts(): void {
    refreshSingle(this.core);
    pollInterrupts(this.core);
  }
}
