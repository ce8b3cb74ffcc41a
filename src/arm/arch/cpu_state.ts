/**
 * The state of one physical CPU as it lies in the shared memory. Generated code, the run loop, the
 * MMU, the interrupt controller and the dashboard all read this one layout.
 */
import type { SharedMemory } from "../../base/memory.ts";
import { array, bool, layout, u32, u53, u64, type ViewOf } from "../../base/struct.ts";
import { R, type SysregName, SYSREGS } from "./sysregs.ts";

/** Slot numbers in `gpr`: 64-bit words at `gpr + 8 * slot`. */
export const SLOT = {
  /** Reads as zero; never written. */
  ZR: 31,
  /** The stack pointer in use. `SP_EL<n>` in the register file is stale while it is the one in use. */
  SP: 32,
  /** Written where the destination is XZR; never read. */
  SINK: 33,
} as const;

/** PSTATE.DAIF in the low four bits of `daif`. */
export const DAIF = { F: 1, I: 2, A: 4, D: 8 } as const;

/** Why a CPU is not executing. */
export const HALT = { RUNNING: 0, WFI: 1, WFE: 2, OFF: 3, STOPPED: 4 } as const;

/** Why a CPU executes one instruction at a time: PSTATE.IL, or software step is active. */
export const SINGLE = { IL: 1, STEP: 2 } as const;

/** What a CPU's `stepped` says of the last instruction: it was stepped, and was a Load-Exclusive. */
export const STEPPED = { YES: 1, EXCLUSIVE: 2 } as const;

/** Bits of `checkIrq`. */
export const CHECK = { INTERRUPT: 1, STEP: 2 } as const;

/** Where an `irqLines` bit comes from; a bit is the level at the CPU's input now. */
export const LINE = {
  /** Physical IRQ from the GIC CPU interface. */
  IRQ: 1,
  /** Physical FIQ. */
  FIQ: 2,
  /** Virtual IRQ from the GIC virtual CPU interface (HCR_EL2.VI is added by the CPU). */
  VIRQ: 4,
  /** Virtual FIQ. */
  VFIQ: 8,
  /** A physical SError pending. */
  SERROR: 16,
} as const;

/** One physical CPU. Register slots come first so that their offsets are small. */
export const CpuLayout = layout("pcpu", {
  /** X0 to X30, then the slots of {@link SLOT}. */
  gpr: array("u64", 33),
  /** {@link SLOT.SINK}. */
  sink: u64("cache"),
  pc: u64(),
  /** V0 to V31, 16 bytes each: low half first. */
  vreg: array("u64", 64),
  fpcr: u32(),
  fpsr: u32(),
  /** N, Z, C, V in bits 3 to 0. */
  nzcv: u32(),
  /** D, A, I, F in bits 3 to 0 (see {@link DAIF}). */
  daif: u32(),
  /** Current exception level, 0 to 2 (3 while the built-in firmware runs). */
  el: u32(),
  /** PSTATE.SP: 0 selects SP_EL0. */
  spsel: u32(),
  pan: u32(),
  uao: u32(),
  dit: u32(),
  /** PSTATE.IL: the next instruction is an Illegal Execution state exception. */
  il: u32(),
  /** PSTATE.SS. */
  ss: u32(),
  /** Bits of {@link STEPPED}: what a Software Step exception's syndrome is to say. */
  stepped: u32(),
  /** One of {@link HALT}. */
  halt: u32(),
  /** The event register of WFE. */
  eventRegister: u32(),
  /** Levels at the CPU's interrupt inputs, bits of {@link LINE}. */
  irqLines: u32(),
  /** Exclusive monitor: open or not, byte offset in the shared memory, size in bytes (1 to 16), value seen. */
  monitorOpen: u32(),
  monitorSize: u32(),
  monitorAt: u53(),
  monitorLo: u64(),
  monitorHi: u64(),
  /** Number of this CPU, from 0. */
  index: u32(),
  /** MPIDR_EL1 of the physical CPU. */
  mpidr: u53(),
  /** Instructions retired since the start. */
  insns: u53(),
  /** Of these, those that translated code has executed. */
  regionInsns: u53("observe"),
  /** How often generated code was left because the data TLB, or the code TLB, did not have the page. */
  dataMisses: u53("observe"),
  codeMisses: u53("observe"),
  /**
   * Of the regions of the worker that runs this CPU, at the first of its CPUs and nowhere else: those in use, bytes
   * of WebAssembly they have, modules made so far, regions that had to go for others.
   */
  regions: u32("observe"),
  codeBytes: u53("observe"),
  regionModules: u53("observe"),
  regionsEvicted: u53("observe"),
  /** Of the instructions begun, those that ended in an exception of their own. */
  aborted: u53(),
  /** Up to which instruction begun, and which of those aborted, the performance monitors have counted. */
  pmuAt: u53(),
  pmuAbortedAt: u53(),
  /** The level of the monitors' interrupt. */
  pmuLine: u32(),
  /** The system register file, one 64-bit word at `sysregs + 8 * index`. */
  sysregs: array("u64", SYSREGS.length),

  /** Instructions left in this slice, as of the last leave of generated code. */
  budget: u32("cache"),
  /** Address of the data TLB of the current context, and of the one unprivileged accesses use. */
  tlb: u32("cache"),
  tlbUnprivileged: u32("cache"),
  /** Address of the code TLB of the current context. */
  codeTlb: u32("cache"),
  /** 0xffffffff when every access must be aligned (SCTLR.A, MMU off), else 0. */
  alignMask: u32("cache"),
  /** 15 when SP alignment is checked at this EL (SCTLR.SA/SA0), else 0. */
  spAlignMask: u32("cache"),
  /**
   * 1 while instructions are not cached (SCTLR_ELx.I clear): software owes no maintenance then, so code is
   * compared with memory after each context synchronisation. And 1 when that is due.
   */
  fetchUncached: u32("cache"),
  codeUnsure: u32("cache"),
  /** Whether FP/SIMD instructions do not trap now. */
  fpEnabled: bool("cache"),
  /** Bits of {@link CHECK}: an interrupt or a step may become due if DAIF is opened. Leave generated code to look. */
  checkIrq: u32("cache"),
  /** Bits of {@link SINGLE}: not 0 while instructions go through the evaluator one by one. */
  single: u32("cache"),
  /** Enabled breakpoints and watchpoints, as bits of `ARMED` in debug_registers.ts; 0 while debug exceptions are off. */
  debugArmed: u32("cache"),
  /** Not 0 while the performance monitors count instructions or exceptions (pmu.ts). */
  pmuActive: u32("cache"),
  /** 1 while they count accesses: no access may hit a TLB. */
  countsAccesses: u32("cache"),
  /** The flags between two regions, not computed yet: see region_flags.ts. */
  flagA: u64("cache"),
  flagB: u64("cache"),
  flagKind: u32("cache"),
  /** Why generated code left: the access that missed. */
  faultVa: u64("cache"),
  faultAccess: u32("cache"),
  faultSize: u32("cache"),
  /** CPUs in parallel: not 0 from a broadcast TLBI or IC to the DSB that waits for its completion. */
  maintenance: u32("cache"),
  /** What the last "tell" of a port's sequence has read. */
  told: u32("cache"),
  /** Another each time that generated code is entered: the pages that it remembers are of one such time. */
  epoch: u64("cache"),
});

export type Cpu = ViewOf<typeof CpuLayout>;

/**
 * The words of a CPU's state and of nothing else: a field is at its offset / 4. V8 reads a word at a constant
 * place with three instructions, and one at a place to be computed with seven.
 */
export function wordsOf(cpu: Cpu): Int32Array {
  return new Int32Array(cpu.memory.i32.buffer, cpu.base, CpuLayout.size >>> 2);
}

/** Byte offset of register-file entry `index` from the CPU's base. */
export function sysregOffset(index: number): number {
  return CpuLayout.offset.sysregs + 8 * index;
}

/** Byte offset of general register slot `slot` from the CPU's base. */
export function gprOffset(slot: number): number {
  return CpuLayout.offset.gpr + 8 * slot;
}

/** Byte offset of V register `n` from the CPU's base. */
export function vregOffset(n: number): number {
  return CpuLayout.offset.vreg + 16 * n;
}

/** The raw register file: storage only, no access rules, redirection or side effects. */
export class RegisterFile {
  readonly #base: number;
  constructor(readonly memory: SharedMemory, cpuBase: number) {
    this.#base = cpuBase + CpuLayout.offset.sysregs;
  }
  /** Bits 31 to 0. */
  lo(index: number): number {
    return this.memory.ld32(this.#base + 8 * index);
  }
  /** Bits 63 to 32. */
  hi(index: number): number {
    return this.memory.ld32(this.#base + 8 * index + 4);
  }
  /** The whole register as a number: exact below 2^53 (addresses, ticks). */
  num(index: number): number {
    return this.memory.ld53(this.#base + 8 * index);
  }
  set(index: number, lo: number, hi: number): void {
    this.memory.st32(this.#base + 8 * index, lo);
    this.memory.st32(this.#base + 8 * index + 4, hi);
  }
  setNum(index: number, value: number): void {
    this.memory.st53(this.#base + 8 * index, value);
  }
  /** Cold paths: by name, as a bigint. */
  get(name: SysregName): bigint {
    return this.memory.ld64(this.#base + 8 * R[name]);
  }
  put(name: SysregName, value: bigint): void {
    this.memory.st64(this.#base + 8 * R[name], value);
  }
  /** Byte address of a register's storage. */
  addressOf(index: number): number {
    return this.#base + 8 * index;
  }
}
