/**
 * A physical CPU: what its instructions do to the machine beyond registers and arithmetic, and the
 * execution of the single instructions that generated code leaves. It knows nothing of KVM.
 */
import * as cpuState from "./arch/cpu_state.ts";
import { type Cpu, CpuLayout, RegisterFile } from "./arch/cpu_state.ts";
import * as syndrome from "./arch/syndrome.ts";
import { ABORT } from "./arch/syndrome.ts";
import * as tlbLayout from "./arch/tlb_layout.ts";
import * as aborts from "./aborts.ts";
import { DataAccess } from "./data_access.ts";
import * as debug from "./debug.ts";
import * as directExecution from "./direct_execution.ts";
import * as environment from "./engine/environment.ts";
import type { Environment } from "./engine/environment.ts";
import { Evaluator } from "./engine/evaluator.ts";
import * as interpreterModule from "./engine/interpreter_module.ts";
import * as recordsModule from "./engine/records.ts";
import * as exceptionCalls from "./exception_calls.ts";
import * as exceptions from "./exceptions.ts";
import type { Firmware } from "./firmware.ts";
import type { AccessOptions, AccessSize, Barrier, ExceptionCall, Hint } from "./isa/builder.ts";
import type { Core, Platform } from "./parts.ts";
import * as pstate from "./pstate.ts";
import { SysregAccess } from "./sysreg_access.ts";
import * as systemOperationAccess from "./system_operation_access.ts";
import * as waiting from "./waiting.ts";

// Of the module itself: what is imported V8 looks up and checks at each use.
const { SINGLE, wordsOf } = cpuState;
const { abortIss, EC } = syndrome;
const { CODE_TLB, CODE_TLB_ENTRIES, CODE_TLB_ENTRY, ramOffset } = tlbLayout;
const { takeDataAbort, takeExternalFetchAbort, takeInstructionAbort, takePcAlignment } = aborts;
const { advanceStep, meetsBreakpoint, takeBreakpoint, takeSoftwareStep } = debug;
const { DIRECT, executeDirectly } = directExecution;
const { EXCEPTION_TAKEN } = environment;
const { HANDLER } = interpreterModule;
const { RECORD_SIZE, RECORD_WORDS } = recordsModule;
const { callException } = exceptionCalls;
const {
  contextSynchronised,
  defaultTarget,
  exceptionReturn,
  FP_TRAP,
  fpTrap,
  takeFpTrap,
  takeSync,
  takeUndefined,
  untagPc,
} = exceptions;
const { pcHi, pcLo } = pstate;
const { executeSystemOperation } = systemOperationAccess;
const { sendEvent, waitForEvent, waitForInterrupt } = waiting;

// V8 folds what it knows of a constant of the module itself, and has to look up imported ones.
const TLB_MASK = CODE_TLB_ENTRIES - 1, TLB_ENTRY_WORDS = CODE_TLB_ENTRY >>> 2;
const TLB_TAG = CODE_TLB.TAG >>> 2, TLB_RECORDS = CODE_TLB.RECORDS >>> 2;
/** Words of records for a byte of a page; bytes from a page's records to its instructions. */
const RECORD_WORDS_PER_BYTE = RECORD_SIZE / 4 / 4, WORDS_AT = RECORD_WORDS;
/** Words of a CPU's state. */
const WORD = {
  PC: CpuLayout.offset.pc >>> 2,
  IL: CpuLayout.offset.il >>> 2,
  SINGLE: CpuLayout.offset.single >>> 2,
  ARMED: CpuLayout.offset.debugArmed >>> 2,
  CODE_TLB: CpuLayout.offset.codeTlb >>> 2,
} as const;
const NOT_DECODED = HANDLER.DECODE, STEP = SINGLE.STEP, NO = DIRECT.NO, DONE = DIRECT.DONE;

/** Leaves the instruction unless `done`: the exception has been taken. */
function orLeave(done: boolean): void {
  if (!done) throw EXCEPTION_TAKEN;
}

/** One physical CPU of a machine; `firmware` answers its SMC or HVC in `--bare`. */
export class CpuCore implements Environment, Core {
  readonly regs: RegisterFile;
  readonly words: Int32Array;
  readonly sysregs: SysregAccess;
  readonly data: DataAccess;
  readonly #evaluator: Evaluator;
  readonly #memory: Int32Array;
  /** The instruction word being executed. */
  #word = 0;
  /** It was a Load-Exclusive. */
  #exclusive = false;

  constructor(readonly platform: Platform, readonly cpu: Cpu, readonly firmware?: Firmware) {
    this.regs = new RegisterFile(platform.memory, cpu.base);
    this.words = wordsOf(cpu);
    this.#memory = platform.memory.i32;
    this.sysregs = new SysregAccess(this);
    this.data = new DataAccess(this);
    this.#evaluator = new Evaluator(cpu, this);
  }

  /**
   * Executes the one instruction at the PC with the reference evaluator: fetched through the MMU, with
   * every exception taken. Interrupts are the caller's, and so is counting the instruction.
   */
  executeSlow(): void {
    const stepping = ((this.words[WORD.SINGLE] as number) & STEP) !== 0;
    if (stepping && this.cpu.ss === 0) return takeSoftwareStep(this);
    this.#exclusive = false;
    if (this.#executeOne() && stepping) advanceStep(this, this.#exclusive);
  }

  /** {@link executeSlow} of an instruction that generated code has come to, which has fetched it: nothing steps. */
  executeLeft(): void {
    const lo = this.words[WORD.PC] as number;
    const word = this.#memory[this.#decodedAt(lo)] as number;
    this.data.word = word;
    if (executeDirectly(this, word) === NO) this.#evaluate(word >>> 0);
  }

  /** {@link executeSlow} by the evaluator alone, and without stepping: to compare with. */
  executeByEvaluator(): void {
    const at = this.#fetch();
    if (at < 0) return;
    const word = this.platform.memory.ld32(at);
    this.data.word = word | 0;
    this.#evaluate(word);
  }

  /**
   * The instruction at the PC, in generated code, has met the stage 2 fault that `mmu.fault` describes:
   * takes it, if it is a load or store that makes this one access and nothing before it. False:
   * nothing is done.
   */
  takeStage2Fault(): boolean {
    const at = this.#fetchDecoded(this.words[WORD.PC] as number);
    if (at < 0) return false;
    const word = this.platform.memory.ldi32(at);
    // What orders its accesses checks their alignment before all else.
    if ((abortIss(word) & (ABORT.ISV | ABORT.AR)) !== ABORT.ISV) return false;
    takeDataAbort(this, word);
    return true;
  }

  /** Executes the instruction at the PC; false if it ended in an exception. */
  #executeOne(): boolean {
    const at = this.#fetch();
    if (at < 0) return false;
    // Signed: V8 boxes numbers from 2^31 on, which most instruction words are.
    const word = this.#memory[at >>> 2] as number;
    this.data.word = word;
    const direct = executeDirectly(this, word);
    return direct === NO ? this.#evaluate(word >>> 0) : direct === DONE;
  }

  #evaluate(word: number): boolean {
    const found = this.platform.model.decode(word);
    if (found === null) {
      takeUndefined(this);
      return false;
    }
    this.#word = word;
    try {
      this.#evaluator.execute(found.row, found.decoded);
      return true;
    } catch (error) {
      if (error !== EXCEPTION_TAKEN) throw error;
      return false;
    }
  }

  /** Where the instruction word at the PC is, or -1 after an exception: in the order of their priorities. */
  #fetch(): number {
    const { words } = this;
    untagPc(this);
    const lo = words[WORD.PC] as number;
    if ((lo & 3) !== 0) return this.#failedFetch(takePcAlignment);
    const known = this.#fetchDecoded(lo);
    const at = known >= 0 ? known : this.#fetchAnew();
    if (at < 0) return at;
    if (words[WORD.ARMED] !== 0 && meetsBreakpoint(this, lo >>> 0, pcHi(this.cpu))) {
      return this.#failedFetch(takeBreakpoint);
    }
    return words[WORD.IL] !== 0 ? this.#failedFetch(takeIllegalState) : at;
  }

  #fetchAnew(): number {
    const { cpu } = this;
    const { mmu, ram } = this.platform;
    if (!mmu.translateCode(cpu, pcLo(cpu), pcHi(cpu))) {
      return this.#failedFetch(takeInstructionAbort);
    }
    const at = ramOffset(ram, mmu.pa, 4);
    return at < 0 ? this.#failedFetch(takeExternalFetchAbort) : at;
  }

  /** Where the word is that the interpreter has decoded for this PC, without a walk; -1 if it has none at hand. */
  #fetchDecoded(lo: number): number {
    const { words } = this, memory = this.#memory;
    const codeTlb = words[WORD.CODE_TLB] as number;
    if (codeTlb === 0) return -1;
    const at = (codeTlb >>> 2) + ((lo >>> 12) & TLB_MASK) * TLB_ENTRY_WORDS;
    if (
      memory[(at + TLB_TAG) | 0] !== (lo & ~0xfff) ||
      memory[(at + TLB_TAG + 1) | 0] !== words[WORD.PC + 1]
    ) return -1;
    const records = (memory[(at + TLB_RECORDS) | 0] as number) >>> 2;
    const offset = lo & 0xfff;
    const handler = (memory[(records + offset * RECORD_WORDS_PER_BYTE) | 0] as number) & 0xffff;
    return handler === NOT_DECODED ? -1 : 4 * records + WORDS_AT + offset;
  }

  /** The word where that is, if the code TLB has the PC's page and the instruction is decoded. */
  #decodedAt(lo: number): number {
    const at = ((this.words[WORD.CODE_TLB] as number) >>> 2) +
      ((lo >>> 12) & TLB_MASK) * TLB_ENTRY_WORDS;
    const records = this.#memory[(at + TLB_RECORDS) | 0] as number;
    return (records + WORDS_AT + (lo & 0xfff)) >>> 2;
  }

  #failedFetch(take: (core: Core) => void): -1 {
    take(this);
    return -1;
  }

  // Memory

  load(va: bigint, size: AccessSize, options: AccessOptions): bigint {
    orLeave(this.data.load(va, size, options));
    return this.data.value;
  }

  store(va: bigint, size: AccessSize, value: bigint, options: AccessOptions): void {
    orLeave(this.data.store(va, size, value, options));
  }

  loadExclusive(va: bigint, size: AccessSize, count: 1 | 2): bigint[] {
    this.#exclusive = true;
    const values = this.data.loadExclusive(va, size, count);
    if (values === undefined) throw EXCEPTION_TAKEN;
    return values;
  }

  storeExclusive(va: bigint, size: AccessSize, values: bigint[]): 0 | 1 {
    const status = this.data.storeExclusive(va, size, values);
    if (status === undefined) throw EXCEPTION_TAKEN;
    return status;
  }

  clearExclusive(): void {
    this.cpu.monitorOpen = 0;
  }

  atomic(
    va: bigint,
    size: AccessSize,
    count: 1 | 2,
    update: (old: readonly bigint[]) => readonly bigint[] | undefined,
  ): readonly bigint[] {
    const old = this.data.atomic(va, size, count, update);
    if (old === undefined) throw EXCEPTION_TAKEN;
    return old;
  }

  checkSp(base: bigint): void {
    if ((Number(base & 15n) & this.cpu.spAlignMask) === 0) return;
    takeSync(this, defaultTarget(this), EC.SP_ALIGN, 0);
    throw EXCEPTION_TAKEN;
  }

  fpAccess(): void {
    const trap = fpTrap(this);
    if (trap === FP_TRAP.NONE) return;
    takeFpTrap(this, trap);
    throw EXCEPTION_TAKEN;
  }

  // System registers and operations

  /** Rt of the instruction being executed, for syndromes. */
  get #rt(): number {
    return this.#word & 31;
  }

  mrs(key: number): bigint {
    const { sysregs } = this;
    orLeave(sysregs.read(key, this.#rt));
    return (BigInt(sysregs.hi >>> 0) << 32n) | BigInt(sysregs.lo >>> 0);
  }

  msr(key: number, value: bigint): void {
    const lo = Number(value & 0xffff_ffffn), hi = Number(value >> 32n);
    orLeave(this.sysregs.write(key, this.#rt, lo, hi));
  }

  msrImmediate(op1: number, op2: number, immediate: number): void {
    orLeave(this.sysregs.writeImmediate(op1, op2, immediate));
  }

  sys(key: number, value: bigint): void {
    const lo = Number(value & 0xffff_ffffn), hi = Number(value >> 32n);
    orLeave(executeSystemOperation(this.sysregs, key, this.#rt, lo, hi));
  }

  sysl(key: number): bigint {
    this.sysregs.unnamedOperation(key, this.#rt, true);
    throw EXCEPTION_TAKEN;
  }

  // Exceptions

  exceptionCall(call: ExceptionCall, immediate: number): never {
    callException(this, call, immediate);
    throw EXCEPTION_TAKEN;
  }

  barrier(kind: Barrier): void {
    if (kind === "isb") contextSynchronised(this);
    else if (kind === "dsb" && this.cpu.maintenance !== 0) {
      this.platform.hooks.onDsb?.(this.cpu, false);
    }
  }

  hint(kind: Hint): void {
    if (kind === "wfi") orLeave(waitForInterrupt(this));
    else if (kind === "wfe") orLeave(waitForEvent(this));
    else if (kind === "sev") sendEvent(this);
    else if (kind === "sevl") this.cpu.eventRegister = 1;
  }

  eret(): void {
    if (this.cpu.el === 0) this.undefined();
    exceptionReturn(this);
  }

  undefined(): never {
    takeUndefined(this);
    throw EXCEPTION_TAKEN;
  }
}

function takeIllegalState(core: Core): void {
  takeSync(core, defaultTarget(core), EC.ILL, 0);
}
