/**
 * A machine for fuzzing in which everything is mapped: every virtual page is one of a few pages of
 * memory, code and data apart, so that random programs with random registers go on for ever. An
 * exception jumps to an address made from the pc. The same state executes either on the interpreter
 * or, instruction by instruction, on the reference evaluator.
 */
import { Arena } from "../../../src/base/arena.ts";
import { SharedMemory } from "../../../src/base/memory.ts";
import { rangesOf } from "../../../src/base/struct.ts";
import {
  type Cpu,
  CpuLayout,
  SLOT,
  sysregOffset,
  wordsOf,
} from "../../../src/arm/arch/cpu_state.ts";
import { HCR } from "../../../src/arm/arch/fields.ts";
import { sysreg, sysregByKey, sysregKey, type SysregName } from "../../../src/arm/arch/sysregs.ts";
import {
  ACCESS,
  CODE_TLB_SIZE,
  DATA_TLB,
  DATA_TLB_ENTRIES,
  DATA_TLB_ENTRY,
  DATA_TLB_SIZE,
} from "../../../src/arm/arch/tlb_layout.ts";
import { type Environment, EXCEPTION_TAKEN } from "../../../src/arm/engine/environment.ts";
import { Evaluator } from "../../../src/arm/engine/evaluator.ts";
import {
  type ExecutionHost,
  Interpreter,
  type InterpreterCode,
} from "../../../src/arm/engine/interpreter.ts";
import { FPSR_MASK } from "../../../src/arm/fp/format.ts";
import type { RegionOptions } from "../../../src/arm/engine/regions.ts";
import { UNPRIVILEGED_ACCESS } from "../../../src/arm/engine/wasm_frame.ts";
import type { AccessOptions, AccessSize } from "../../../src/arm/isa/builder.ts";
import type { Random } from "../../../src/arm/isa/random.ts";
import { DECODER, type Decoder } from "../../../src/arm/isa/table.ts";

const PAGE = 4096;
/** Pages of code, and of data for each kind of access (ordinary, unprivileged). */
export const CODE_PAGES = 4;
const DATA_PAGES = 2;
const CONTROL = 1 << 20;
const CODE_AT = CONTROL;
const DATA_AT = CODE_AT + CODE_PAGES * PAGE;
const END = DATA_AT + 2 * DATA_PAGES * PAGE;
/** WebAssembly pages that interpreter code for the lab has to be made for. */
export const LAB_MEMORY_PAGES = Math.ceil(END / 65536);

const KEY = {
  NZCV: sysreg("NZCV").key,
  DAIF: sysreg("DAIF").key,
  CurrentEL: sysreg("CurrentEL").key,
  FPCR: sysreg("FPCR").key,
  FPSR: sysreg("FPSR").key,
  DC_ZVA: sysregKey(1, 3, 7, 4, 1),
} as const;
const HCR_AT = sysregOffset(sysreg("HCR_EL2").index);

/** Registers that are storage, from the exception level on at which they can be read and written. */
const STORED: ReadonlyMap<SysregName, readonly [read: number, write: number]> = new Map([
  ["TPIDR_EL0", [0, 0]],
  ["TPIDRRO_EL0", [0, 1]],
  ["TPIDR_EL1", [1, 1]],
  ["SP_EL0", [1, 1]],
  ["ELR_EL1", [1, 1]],
  ["SPSR_EL1", [1, 1]],
  ["ESR_EL1", [1, 3]],
  ["FAR_EL1", [1, 3]],
  ["CTR_EL0", [1, 3]],
  ["DCZID_EL0", [1, 3]],
]);
/** Bits of HCR_EL2 that trap some of them. */
const HCR_TRAPS: ReadonlyMap<SysregName, number> = new Map([
  ["CTR_EL0", HCR.TID2],
  ["DCZID_EL0", HCR.TDZ],
  ["ESR_EL1", HCR.TRVM],
  ["FAR_EL1", HCR.TRVM],
]);
/** DC CVAC, CVAU and CIVAC, and what traps them. */
const CLEANING: ReadonlyMap<number, number> = new Map([
  [sysregKey(1, 3, 7, 10, 1), HCR.TPCP],
  [sysregKey(1, 3, 7, 11, 1), HCR.TPU],
  [sysregKey(1, 3, 7, 14, 1), HCR.TPCP],
]);

const ARCH_RANGES = rangesOf(CpuLayout as unknown as Parameters<typeof rangesOf>[0], "arch");

/** One CPU with its memory. */
export class FoldedLab implements ExecutionHost, Environment {
  readonly memory = SharedMemory.create(END);
  readonly arena = new Arena("lab", this.memory, 64, CONTROL);
  readonly cpu: Cpu = this.arena.make(CpuLayout);
  readonly words = wordsOf(this.cpu);
  readonly #evaluator = new Evaluator(this.cpu, this);
  readonly #interpreter: Interpreter | undefined;
  readonly stopped = false;
  /** How often each row was executed by the evaluator, and how many instructions that was. */
  readonly evaluated = new Map<string, number>();
  interruptChecks = 0;

  /** `code`: for an interpreter over this lab's memory; without it only {@link evaluate} works, with `decoder`'s rows. */
  constructor(
    code?: InterpreterCode,
    readonly decoder: Decoder = code?.decoder ?? DECODER,
    regions: Partial<RegionOptions> = { hotAfter: 0 },
  ) {
    const { cpu, arena } = this;
    cpu.tlb = arena.reserve(DATA_TLB_SIZE, 64);
    cpu.tlbUnprivileged = arena.reserve(DATA_TLB_SIZE, 64);
    cpu.codeTlb = arena.reserve(CODE_TLB_SIZE, 64);
    this.dropTlbs();
    if (!code) return;
    this.#interpreter = new Interpreter(code, this.memory, arena, CODE_PAGES, regions);
  }

  dropTlbs(): void {
    const { u8 } = this.memory;
    const { tlb, tlbUnprivileged, codeTlb } = this.cpu;
    for (const at of [tlb, tlbUnprivileged]) u8.fill(0xff, at, at + DATA_TLB_SIZE);
    u8.fill(0xff, codeTlb, codeTlb + CODE_TLB_SIZE);
  }

  /** Puts `words` where the code is, from its first page on. */
  loadCode(words: readonly number[]): void {
    this.memory.u32.set(words, CODE_AT >>> 2);
    this.#interpreter?.invalidateAll();
    this.dropTlbs();
  }

  /** Random registers, flags, data and controls. */
  randomize(random: Random): void {
    const { cpu, memory } = this;
    const { offset } = CpuLayout;
    for (let n = 0; n < 33; n++) memory.st64(cpu.base + offset.gpr + 8 * n, random.value());
    memory.st64(cpu.base + offset.gpr + 8 * SLOT.ZR, 0n);
    // Some registers point to just before the end of a page.
    for (let i = 0; i < 6; i++) {
      const at = (BigInt(random.below(64)) << 12n) + BigInt(PAGE - random.below(20));
      memory.st64(cpu.base + offset.gpr + 8 * random.below(SLOT.ZR), at);
    }
    for (let n = 0; n < 64; n++) memory.st64(cpu.base + offset.vreg + 8 * n, random.u64());
    for (let at = DATA_AT; at < END; at += 4) memory.st32(at, random.u32());
    for (const name of STORED.keys()) {
      memory.st64(cpu.base + sysregOffset(sysreg(name).index), random.value());
    }
    memory.st64(cpu.base + HCR_AT, random.u64());
    cpu.nzcv = random.below(16);
    cpu.daif = random.below(16);
    cpu.fpcr = random.u32();
    cpu.fpsr = random.u32();
    cpu.el = random.below(3);
    cpu.spsel = random.below(2);
    cpu.monitorOpen = 0;
    cpu.alignMask = random.below(4) === 0 ? 0xffff_ffff : 0;
    cpu.spAlignMask = random.below(2) * 15;
    cpu.fpEnabled = random.below(4) !== 0;
    cpu.checkIrq = random.below(2);
    cpu.pc = (random.value() << 12n) + BigInt(4 * random.below(1024));
  }

  /** All pages of data. */
  data(): Uint8Array {
    return this.memory.u8.subarray(DATA_AT, END);
  }

  /** All that instructions can change, as bytes. */
  state(): Uint8Array[] {
    const { u8 } = this.memory;
    return [
      ...ARCH_RANGES.map((r) => {
        const at = this.cpu.base + r.offset;
        return u8.subarray(at, at + r.length);
      }),
      this.data(),
    ];
  }

  /** Takes over another lab's state, controls included. */
  copyFrom(other: FoldedLab): void {
    const from = other.state();
    this.state().forEach((bytes, i) => bytes.set(from[i] as Uint8Array));
    for (const name of ["alignMask", "spAlignMask", "checkIrq", "fpEnabled"] as const) {
      (this.cpu as Record<typeof name, unknown>)[name] = other.cpu[name];
    }
    this.dropTlbs();
  }

  /** First byte that differs, as text; undefined where the states are equal. */
  difference(other: FoldedLab): string | undefined {
    const theirs = other.state();
    for (const [i, bytes] of this.state().entries()) {
      const their = theirs[i] as Uint8Array;
      const at = bytes.findIndex((b, n) => b !== their[n]);
      if (at < 0) continue;
      const offset = (ARCH_RANGES[i]?.offset ?? 0) + at;
      const field = ARCH_RANGES[i]
        ? CpuLayout.places.findLast((p) => p.offset <= offset)
        : undefined;
      const name = field ? `${field.name}+${offset - field.offset}` : `data byte ${at}`;
      return `${name}: ${bytes[at]?.toString(16)} against ${their[at]?.toString(16)}`;
    }
    return undefined;
  }

  /** Instruction word at the pc, or -1 when the pc is misaligned. */
  word(): number {
    const pc = this.cpu.pc;
    return pc & 3n ? -1 : this.memory.ld32(CODE_AT + Number(pc & 0x3fffn));
  }

  /** Executes one instruction on the evaluator. */
  evaluate(): void {
    const word = this.word();
    const found = word < 0 ? undefined : this.decoder.decode(word);
    try {
      if (!found) this.fault();
      this.evaluated.set(found.row.name, (this.evaluated.get(found.row.name) ?? 0) + 1);
      this.#evaluator.execute(found.row, found.decoded);
    } catch (error) {
      if (error !== EXCEPTION_TAKEN) throw error;
    }
  }

  /** Instructions translated into regions so far. */
  get translated(): number {
    return this.#interpreter?.regions.translated ?? 0;
  }

  /** Runs `count` instructions on the interpreter and returns how many it says it took. */
  run(count: number): number {
    this.cpu.budget = count;
    this.#interpreter?.run(this.cpu, this, (pa) => CODE_AT + pa);
    return count - this.cpu.budget;
  }

  // ExecutionHost

  fetch(): number {
    return this.cpu.pc & 3n ? -1 : Number(this.cpu.pc & 0x3fffn);
  }

  dataMiss(): boolean {
    const { cpu, memory } = this;
    const va = cpu.faultVa;
    const page = va & ~0xfffn;
    if (((va + BigInt(cpu.faultSize) - 1n) & ~0xfffn) !== page) return false;
    const unprivileged = (cpu.faultAccess & UNPRIVILEGED_ACCESS) !== 0;
    const table = unprivileged ? cpu.tlbUnprivileged : cpu.tlb;
    const entry = table + (Number((va >> 12n) & 0xffffn) % DATA_TLB_ENTRIES) * DATA_TLB_ENTRY;
    const write = (cpu.faultAccess & 3) === ACCESS.WRITE;
    const [tag, other] = write
      ? [DATA_TLB.WRITE_TAG, DATA_TLB.READ_TAG]
      : [DATA_TLB.READ_TAG, DATA_TLB.WRITE_TAG];
    // It missed although it is there: misaligned.
    if (memory.ld64(entry + tag) === BigInt.asUintN(64, page)) return false;
    if (memory.ld64(entry + other) !== BigInt.asUintN(64, page)) memory.st64(entry + other, ~0n);
    memory.st64(entry + tag, page);
    memory.st32(entry + DATA_TLB.ADDEND, this.#at(page, unprivileged) - Number(page & 0xffffffffn));
    return true;
  }

  executeLeft(): void {
    this.executeSlow();
  }
  executeSlow(): void {
    this.evaluate();
  }
  checkInterrupts(): void {
    this.interruptChecks++;
  }

  // Environment

  /** "Takes an exception": goes somewhere else, in another page. */
  fault(): never {
    this.cpu.pc = BigInt.asUintN(64, this.cpu.pc * 0x9e37_79b9_7f4a_7c15n + 0x5000n) & ~3n;
    throw EXCEPTION_TAKEN;
  }

  #at(va: bigint, unprivileged: boolean): number {
    const fold = Number(va & BigInt(DATA_PAGES * PAGE - 1));
    return DATA_AT + (unprivileged ? DATA_PAGES * PAGE : 0) + fold;
  }
  #check(va: bigint, size: number, options: AccessOptions): void {
    const always = options.ordered === true;
    const align = always || this.cpu.alignMask ? options.aligned ?? size : 1;
    if (va & BigInt(align - 1)) this.fault();
  }
  load(va: bigint, size: AccessSize, options: AccessOptions): bigint {
    this.#check(va, size, options);
    let value = 0n;
    for (let i = 0n; i < size; i++) {
      const at = this.#at(va + i, options.unprivileged ?? false);
      value |= BigInt(this.memory.ld8(at)) << (8n * i);
    }
    return value;
  }
  store(va: bigint, size: AccessSize, value: bigint, options: AccessOptions): void {
    this.#check(va, size, options);
    for (let i = 0n; i < size; i++) {
      const at = this.#at(va + i, options.unprivileged ?? false);
      this.memory.st8(at, Number((value >> (8n * i)) & 0xffn));
    }
  }

  #seen(at: number, bytes: number): [bigint, bigint] {
    return bytes === 16
      ? [this.memory.get64(at), this.memory.get64(at + 8)]
      : [this.memory.getUnsigned(at, bytes), 0n];
  }
  loadExclusive(va: bigint, size: AccessSize, count: 1 | 2): bigint[] {
    const { cpu, memory } = this;
    const bytes = size * count;
    this.#check(va, bytes, { ordered: true });
    const at = this.#at(va, false);
    cpu.monitorOpen = 1;
    cpu.monitorAt = at;
    cpu.monitorSize = bytes;
    [cpu.monitorLo, cpu.monitorHi] = this.#seen(at, bytes);
    return Array.from({ length: count }, (_, i) => memory.getUnsigned(at + i * size, size));
  }
  storeExclusive(va: bigint, size: AccessSize, values: bigint[]): 0 | 1 {
    const { cpu, memory } = this;
    const bytes = size * values.length;
    this.#check(va, bytes, { ordered: true });
    const at = this.#at(va, false);
    const [lo, hi] = this.#seen(at, bytes);
    const mine = cpu.monitorOpen === 1 && cpu.monitorAt === at && cpu.monitorSize === bytes &&
      cpu.monitorLo === lo && cpu.monitorHi === hi;
    cpu.monitorOpen = 0;
    if (!mine) return 1;
    values.forEach((value, i) => memory.setUnsigned(at + i * size, size, value));
    return 0;
  }
  atomic(
    va: bigint,
    size: AccessSize,
    count: 1 | 2,
    update: (old: readonly bigint[]) => readonly bigint[] | undefined,
  ): readonly bigint[] {
    const { memory } = this;
    this.#check(va, size * count, { ordered: true });
    const at = this.#at(va, false);
    const old = Array.from({ length: count }, (_, i) => memory.getUnsigned(at + i * size, size));
    update(old)?.forEach((value, i) => memory.setUnsigned(at + i * size, size, value));
    return old;
  }
  clearExclusive(): void {
    this.cpu.monitorOpen = 0;
  }
  checkSp(base: bigint): void {
    if (Number(base & 15n) & this.cpu.spAlignMask) this.fault();
  }
  fpAccess(): void {
    if (!this.cpu.fpEnabled) this.fault();
  }

  #storage(key: number, write: boolean): number {
    const { cpu } = this;
    const register = sysregByKey(key);
    const levels = register && STORED.get(register.name);
    if (!register || !levels || cpu.el < levels[write ? 1 : 0]) this.fault();
    if (register.name === "SP_EL0" && !cpu.spsel) this.fault();
    if (this.memory.ld32(cpu.base + HCR_AT) & (HCR_TRAPS.get(register.name) ?? 0)) this.fault();
    return cpu.base + sysregOffset(register.index);
  }
  mrs(key: number): bigint {
    const { cpu } = this;
    if (key === KEY.NZCV) return BigInt(cpu.nzcv << 28 >>> 0);
    if (key === KEY.FPCR || key === KEY.FPSR) this.fpAccess();
    if (key === KEY.FPCR) return BigInt(cpu.fpcr);
    if (key === KEY.FPSR) return BigInt(cpu.fpsr);
    if (key === KEY.DAIF && cpu.el > 0) return BigInt(cpu.daif << 6);
    if (key === KEY.CurrentEL && cpu.el > 0) return BigInt(cpu.el << 2);
    return this.memory.ld64(this.#storage(key, false));
  }
  msr(key: number, value: bigint): void {
    const { cpu } = this;
    if (key === KEY.FPCR || key === KEY.FPSR) this.fpAccess();
    if (key === KEY.NZCV) cpu.nzcv = Number((value >> 28n) & 15n);
    else if (key === KEY.FPCR) cpu.fpcr = Number(value & 0xffffffffn);
    else if (key === KEY.FPSR) cpu.fpsr = Number(value & BigInt(FPSR_MASK));
    else if (key === KEY.DAIF && cpu.el > 0) cpu.daif = Number((value >> 6n) & 15n);
    else this.memory.st64(this.#storage(key, true), value);
  }
  msrImmediate(op1: number, op2: number, immediate: number): void {
    const { cpu } = this;
    if (op1 !== 3 || (op2 !== 6 && op2 !== 7) || cpu.el === 0) this.fault();
    cpu.daif = op2 === 6 ? cpu.daif | immediate : cpu.daif & ~immediate;
  }
  /** DC ZVA of 64 bytes, above EL0 where nothing traps it. */
  sys(key: number, value: bigint): void {
    const { cpu, memory } = this;
    const cleaningTrap = CLEANING.get(key);
    if (cleaningTrap !== undefined) {
      if (cpu.el === 0 || memory.ld32(cpu.base + HCR_AT) & cleaningTrap) this.fault();
      return;
    }
    const trapped = memory.ld32(cpu.base + HCR_AT) & HCR.TDZ;
    if (key !== KEY.DC_ZVA || cpu.el === 0 || cpu.alignMask || trapped) this.fault();
    const at = this.#at(value & ~63n, false);
    memory.u8.fill(0, at, at + 64);
  }
  sysl(): bigint {
    return this.fault();
  }
  exceptionCall(): never {
    this.fault();
  }
  barrier(): void {}
  hint(): void {}
  eret(): void {
    this.fault();
  }
  undefined(): never {
    this.fault();
  }
}
