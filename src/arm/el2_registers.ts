/**
 * The port's registers (el2_port.ts): system registers and X0 to X30, one by one and in sequences, with the
 * counters of all that passes through the port.
 */
import type { Arena } from "../base/arena.ts";
import { TWO32 } from "../base/bits.ts";
import { InternalError } from "../base/errors.ts";
import { addSmall, type SharedMemory } from "../base/memory.ts";
import type { ViewOf } from "../base/struct.ts";
import { CpuLayout, DAIF, sysregOffset } from "./arch/cpu_state.ts";
import { HCR } from "./arch/fields.ts";
import { R, SYSREGS } from "./arch/sysregs.ts";
import type { CpuCore } from "./cpu.ts";
import { ALL_DONE, compileSequence, REARM, SIGNALS } from "./el2_sequence.ts";
import { El2Storage } from "./el2_storage.ts";
import type { Gic } from "./gic/controller.ts";
import type { Hooks } from "./parts.ts";
import { PortMeter } from "./port_meter.ts";
import {
  COSTS,
  K,
  PORT_KINDS,
  type PortKind,
  PortLayout,
  type PortLog,
  READ,
  RESTORE,
  SAVE,
  WRITE,
} from "./port_operations.ts";
import type { Half, Sequence, SequenceStep } from "./port_sequence.ts";
import { type RunSequence, SequenceTable } from "./sequence_table.ts";
import { VERDICT } from "./sysreg_traps.ts";

// V8 folds what it knows of a constant of the module itself, and nothing of an imported one.
const COST = COSTS, READING = READ, WRITING = WRITE, SAVING = SAVE, RESTORING = RESTORE;
const add = addSmall, DONE = ALL_DONE, REARMS = REARM, SIGNALLED = SIGNALS;
/** The word behind the first counter that sums times. */
const NS = PortLayout.offset.ns >>> 2;
const GPR_BYTES = 31 * 8;
/** The word of a CPU's `told`. */
const TOLD = CpuLayout.offset.told >>> 2;
const EL = CpuLayout.offset.el >>> 2, HCR_WORD = sysregOffset(R.HCR_EL2) >>> 2, VM = HCR.VM;
const IRQS_OFF = DAIF.I | DAIF.F;
type Unless = SequenceStep & { readonly step: "saveUnless" };
/** Runs of a sequence one by one before it gets a function. */
const HOT = 100;

/** Registers of one physical CPU as its EL2 software reaches them, and the counters. InternalError for what EL2 itself could not do. */
export class El2Registers {
  // V8 knows what a field holds, if that is the first it has held: without "declare" that were undefined.
  declare readonly core: CpuCore;
  declare readonly counters: ViewOf<typeof PortLayout>;
  declare readonly memory: SharedMemory;
  declare readonly cpuIndex: number;
  /** Measures what passes through the port. */
  declare readonly meter: PortMeter;
  /** The CPU's words. */
  declare protected readonly cpuWords: Int32Array;
  declare private readonly words: Uint32Array;
  /** The same as signed numbers, which V8 need not box. */
  declare private readonly signed: Int32Array;
  /** The words of {@link counters}. */
  declare private readonly own: Int32Array;
  /** The two words where the clock has its time; with the host's clock of no use to anybody. */
  declare private readonly time: Int32Array;
  declare private readonly storage: El2Storage;
  /** The address of X0. */
  declare private readonly gpr: number;
  declare private readonly gic: Gic;
  declare private readonly hooks: Hooks;
  /** Where the sequences' functions are: the port's row of the table, and that in use. */
  declare private readonly table: SequenceTable;
  declare private readonly fast: RunSequence;
  declare private readonly ownRow: number;
  declare private row: number;
  /** By the sequences' ids: how often they were done without. */
  readonly #runs: number[] = [];
  #log: PortLog | undefined = undefined;

  constructor(core: CpuCore, arena: Arena) {
    const { clock, gic, hooks, memory } = core.platform, { buffer } = memory.i32;
    this.core = core;
    this.counters = arena.make(PortLayout);
    this.memory = memory;
    this.cpuIndex = core.cpu.index;
    this.meter = new PortMeter(memory, clock, this.counters.base | 0);
    this.cpuWords = core.words;
    this.words = memory.u32;
    this.signed = memory.i32;
    this.own = new Int32Array(buffer, this.counters.base, PortLayout.size >>> 2);
    const { addedNsAt } = clock;
    this.time = addedNsAt === undefined ? new Int32Array(2) : new Int32Array(buffer, addedNsAt, 2);
    this.storage = new El2Storage(core);
    this.gpr = core.cpu.gpr;
    this.gic = gic;
    this.hooks = hooks;
    this.table = SequenceTable.of(memory);
    this.fast = this.table.run;
    this.ownRow = this.table.addRow();
    this.row = this.ownRow;
  }

  /** Is told each operation before it is done. */
  get log(): PortLog | undefined {
    return this.#log;
  }
  set log(log: PortLog | undefined) {
    this.#log = log;
    this.row = log === undefined ? this.ownRow : this.table.empty;
  }

  /** Counts an operation: its kind, and what the log says of it. */
  protected count(kind: number, operand: number | string): void {
    const { own, time } = this, cost = COST[kind] as number, at = kind << 1;
    const times = ((own[at] as number) + 1) | 0;
    own[at] = times;
    if (times === 0) own[at + 1] = (own[at + 1] as number) + 1;
    add(own, NS, cost);
    add(time, 0, cost);
    if (this.#log !== undefined) this.#tell(kind, operand);
  }

  #tell(kind: number, operand: number | string): void {
    this.#log?.(PORT_KINDS[kind] as PortKind, operand);
  }

  #fail(what: string, reg: number): never {
    const name = SYSREGS[reg]?.name ?? reg;
    throw new InternalError(`${what} ${name}: not possible at EL${this.core.cpu.el} now`);
  }

  /** Whether the CPU executes host software: at EL2, or a host kernel's at EL1. */
  get inHost(): boolean {
    const { el } = this;
    return el === 2 || (el === 1 && ((this.cpuWords[HCR_WORD] as number) & VM) === 0);
  }

  /** CurrentEL. */
  get el(): number {
    return this.cpuWords[EL] as number;
  }

  /** Reads a register that is no plain storage. */
  #read(reg: number): void {
    if (this.storage.readOther(reg, this.core.sysregs)) return;
    const done = this.inHost && this.core.sysregs.tryRead(reg) === VERDICT.OK;
    if (!done) this.#fail("read of", reg);
  }

  #write(reg: number, lo: number, hi: number): void {
    if (this.storage.write(reg, lo, hi)) return;
    const done = this.inHost && this.core.sysregs.tryWrite(reg, lo, hi) === VERDICT.OK;
    if (!done) this.#fail("write of", reg);
  }

  // System registers

  /** Bits 31 to 0. */
  readLo(reg: number): number {
    this.count(READING[reg] as number, reg);
    return this.#low(reg);
  }

  #low(reg: number): number {
    const at = this.storage.at(reg);
    if (at !== 0) return this.words[at] as number;
    this.#read(reg);
    return this.core.sysregs.lo >>> 0;
  }

  /** Bits 63 to 32. */
  readHi(reg: number): number {
    this.count(READING[reg] as number, reg);
    const at = this.storage.at(reg);
    if (at !== 0) return this.words[at + 1] as number;
    this.#read(reg);
    return this.core.sysregs.hi >>> 0;
  }

  /** The register as a number: exact below 2^53. */
  readNum(reg: number): number {
    this.count(READING[reg] as number, reg);
    const at = this.storage.at(reg);
    if (at !== 0) return this.memory.ld53(4 * at);
    this.#read(reg);
    const { lo, hi } = this.core.sysregs;
    return (lo >>> 0) + (hi >>> 0) * TWO32;
  }

  /** The register as a bigint: cold paths only. */
  read64(reg: number): bigint {
    this.count(READING[reg] as number, reg);
    this.#read(reg);
    const { lo, hi } = this.core.sysregs;
    return (BigInt(hi >>> 0) << 32n) | BigInt(lo >>> 0);
  }

  write(reg: number, lo: number, hi: number): void {
    this.count(WRITING[reg] as number, reg);
    this.#write(reg, lo, hi);
  }

  /** Reads an ICC register, of 32 bits; reading ICC_IAR1_EL1 acknowledges an interrupt. */
  readIcc(reg: number): number {
    if (!this.storage.atEl2) return this.readLo(reg);
    this.count(READING[reg] as number, reg);
    return this.gic.iccRead(this.cpuIndex, reg);
  }

  /** Writes one. */
  writeIcc(reg: number, lo: number, hi: number): void {
    if (!this.storage.atEl2) return this.write(reg, lo, hi);
    this.count(WRITING[reg] as number, reg);
    this.gic.iccWrite(this.cpuIndex, reg, lo, hi);
    this.hooks.onEndSlice(this.core.cpu, true);
  }

  /** Writes a number from 0 to 2^53 - 1. */
  writeNum(reg: number, value: number): void {
    this.write(reg, value >>> 0, (value / TWO32) >>> 0);
  }

  /** Writes a bigint: cold paths only. */
  write64(reg: number, value: bigint): void {
    const word = BigInt.asUintN(64, value);
    this.write(reg, Number(word & 0xffff_ffffn), Number(word >> 32n));
  }

  /** Copies a register to the 64-bit word at byte address `to`. */
  save(reg: number, to: number): void {
    this.count(SAVING[reg] as number, reg);
    this.#save(reg, to);
  }

  #save(reg: number, to: number): void {
    if (this.storage.save(reg, to >>> 2)) return;
    this.#read(reg);
    this.memory.st32(to, this.core.sysregs.lo);
    this.memory.st32(to + 4, this.core.sysregs.hi);
  }

  /** Copies the 64-bit word at byte address `from` to a register. */
  restore(reg: number, from: number): void {
    this.count(RESTORING[reg] as number, reg);
    this.#restore(reg, from);
  }

  #restore(reg: number, from: number): void {
    const at = from >>> 2;
    this.#write(reg, this.signed[at] as number, this.signed[at + 1] as number);
  }

  // General registers

  /** X0 to X30 to 31 words at `to`. */
  saveGprs(to: number): void {
    this.count(K.gprSave, "");
    this.#copyGprs(to, this.gpr);
  }

  #copyGprs(to: number, from: number): void {
    this.memory.u8.copyWithin(to, from, from + GPR_BYTES);
  }

  restoreGprs(from: number): void {
    this.count(K.gprRestore, "");
    this.#copyGprs(this.gpr, from);
  }

  // Sequences

  /**
   * Does the operations of a sequence in their order, `a` being its argument: what its places and values name.
   * Hot ones by WebAssembly, unless they are logged.
   */
  run(sequence: Sequence, a: number): void {
    const answer = this.fast(this.row + sequence.id, a, 0, 0, 0);
    if (answer !== DONE) this.#complete(sequence, answer, a, 0, 0, 0);
  }

  /** The same with more than one argument. */
  runWith(sequence: Sequence, a: number, b: number, c = 0, d = 0): void {
    const answer = this.fast(this.row + sequence.id, a, b, c, d);
    if (answer !== DONE) this.#complete(sequence, answer, a, b, c, d);
  }

  /** The function of a sequence has not done all that is to be done, or there is none. */
  #complete(
    sequence: Sequence,
    answer: number,
    a: number,
    b: number,
    c: number,
    d: number,
  ): void {
    if (answer >= 0) return this.#runRest(sequence, answer, a, b, c, d);
    const more = DONE - answer;
    if ((more & REARMS) !== 0) this.#rearm();
    if ((more & SIGNALLED) !== 0) this.#signal();
  }

  #rearm(): void {
    this.hooks.onEndSlice(this.core.cpu);
  }

  #signal(): void {
    this.gic.virtualChanged(this.cpuIndex);
  }

  /** The first `done` steps are done. */
  #runRest(sequence: Sequence, done: number, ...args: readonly number[]): void {
    // One of them may be of a timer, or of the virtual CPU interface.
    if (done > 0) {
      this.#rearm();
      this.#signal();
    }
    this.#runSteps(sequence, done, args);
  }

  /** The first `done` are done, but not counted. */
  #runSteps(sequence: Sequence, done: number, args: readonly number[]): void {
    const { steps } = sequence;
    for (let i = 0; i < steps.length; i++) {
      const step = steps[i] as SequenceStep;
      if (step.step === "saveUnless" && this.#isTold(step.bit)) {
        if (i >= done) this.#clear(step, args);
        continue;
      }
      this.count(step.kind, "reg" in step ? step.reg : "");
      if (i >= done) this.#step(step, args);
    }
    this.#warm(sequence);
  }

  /** What the last "tell" of a sequence has read. */
  #isTold(bit: number): boolean {
    return ((this.cpuWords[TOLD] as number) & (1 << bit)) !== 0;
  }

  #clear({ at, clear }: Unless, args: readonly number[]): void {
    const words = this.signed, hi = ((args[at.arg] as number) + at.offset + 4) >>> 2;
    words[hi] = (words[hi] as number) & ~clear;
  }

  /** What the last step of that kind has read, signed. */
  #looked = 0;

  #step(step: SequenceStep, args: readonly number[]): void {
    const half = (h: Half) => typeof h === "number" ? h : args[h.arg] as number;
    const place = "at" in step ? (args[step.at.arg] as number) + step.at.offset : 0;
    switch (step.step) {
      case "trap":
      case "isb":
        return;
      case "irqDisable":
        this.core.cpu.daif |= IRQS_OFF;
        return;
      case "saveGprs":
        return this.#copyGprs(place, this.gpr);
      case "restoreGprs":
        return this.#copyGprs(this.gpr, place);
      case "save":
      case "saveUnless":
        return this.#save(step.reg, place);
      case "readLow":
        return this.memory.st53(place, this.#low(step.reg));
      case "readWord":
        return this.memory.st32(place, this.#low(step.reg));
      case "look":
        this.#looked = this.#low(step.reg) | 0;
        return;
      case "tell":
        this.cpuWords[TOLD] = this.#low(step.reg) & step.mask;
        return;
      case "change":
        return this.#write(step.reg, (this.#looked & ~step.clear) | step.set, 0);
      case "loadWord":
        return this.#write(step.reg, (this.signed[place >>> 2] as number) & ~step.clear, 0);
      case "write":
        return this.#write(step.reg, half(step.lo), half(step.hi));
      default:
        return this.#restore(step.reg, place);
    }
  }

  /** A sequence that was done so often one by one gets its function, once the CPU is at EL2. */
  #warm(sequence: Sequence): void {
    const { id } = sequence;
    const times = this.#runs[id] ?? 0;
    this.#runs[id] = times + 1;
    const { e2h } = this.storage;
    if (times < HOT || e2h === undefined || this.table.has(this.ownRow, id)) return;
    const { base } = this.counters, { addedNsAt } = this.core.platform.clock;
    const fast = compileSequence(this.storage, sequence, e2h, {
      kinds: base,
      sums: [base + 4 * NS, ...(addedNsAt === undefined ? [] : [addedNsAt])],
    });
    this.table.set(this.ownRow, id, fast);
  }
}
