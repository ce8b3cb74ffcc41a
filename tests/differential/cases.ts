/**
 * Makes the cases of a row: random instructions of every shape, with base registers moved so that
 * every access lies in the data page, and indirect branches kept where nothing is mapped.
 */
import { CpuLayout, SLOT } from "../../src/arm/arch/cpu_state.ts";
import { sysreg } from "../../src/arm/arch/sysregs.ts";
import type { AccessOptions, AccessSize } from "../../src/arm/isa/builder.ts";
import {
  Random,
  type RandomInstruction,
  randomInstruction,
  shapeKey,
  shapesOf,
} from "../../src/arm/isa/random.ts";
import { encode, extractFields, type Row } from "../../src/arm/isa/row.ts";
import { DECODER, ROWS } from "../../src/arm/isa/table.ts";
import { FlatEnvironment } from "../support/flat_environment.ts";
import { EvaluatorDriver } from "./driver.ts";
import {
  CODE,
  CODE_PAGE,
  DATA,
  DATA_SIZE,
  emptyState,
  type Operands,
  RESERVED,
  RESERVED_END,
  resetState,
  SP,
} from "./state.ts";
import { type Case, REGISTER, type RegisterValue, setRegister } from "./vector.ts";

/** Rows that a program at EL0 under Linux cannot execute, or whose effect is not in its registers. */
const PRIVILEGED = /^(SVC|HVC|SMC|BRK|HLT|ERET|SYSL?|MSR_imm_\w+|SB)$/;

/** System registers that EL0 has and that have no environment: with the bits that are written. */
const REGISTERS: readonly { readonly key: number; readonly bits: bigint }[] = [
  { key: sysreg("NZCV").key, bits: 0xf000_0000n },
  // AHP, DN, FZ, RMode: what every implementation of Armv8.0 has.
  { key: sysreg("FPCR").key, bits: 0x07c0_0000n },
  // QC and the cumulative exception bits.
  { key: sysreg("FPSR").key, bits: 0x0800_009fn },
];

/** Whether `row` can be recorded. */
export function isRecorded(row: Row): boolean {
  return !PRIVILEGED.test(row.name);
}

/** Notes what an instruction accesses instead of failing outside of the data page. */
class Probe extends FlatEnvironment {
  lowest = 0n;
  bytes = 0;
  alignment = 1;

  reset(): void {
    this.bytes = 0;
    this.alignment = 1;
  }
  protected override at(va: bigint, size: number): number {
    if (this.bytes === 0) this.lowest = va;
    this.bytes += size;
    return this.range.at;
  }
  override load(va: bigint, size: AccessSize, options: AccessOptions): bigint {
    if (options.ordered) this.alignment = size;
    return super.load(va, size, options);
  }
  override store(va: bigint, size: AccessSize, value: bigint, options: AccessOptions): void {
    if (options.ordered) this.alignment = size;
    super.store(va, size, value, options);
  }
  override loadExclusive(va: bigint, size: AccessSize, count: 1 | 2, o: AccessOptions): bigint[] {
    this.alignment = size * count;
    return super.loadExclusive(va, size, count, o);
  }
  override atomic(
    va: bigint,
    size: AccessSize,
    count: 1 | 2,
    update: (old: readonly bigint[]) => readonly bigint[] | undefined,
  ): readonly bigint[] {
    this.alignment = size * count;
    return super.atomic(va, size, count, update);
  }
  override storeExclusive(va: bigint, size: AccessSize, v: bigint[], o: AccessOptions): 0 | 1 {
    this.alignment = size * v.length;
    return super.storeExclusive(va, size, v, o);
  }
}

/** The register (31: SP) behind a slot, or null for the zero register and vector registers. */
function registerOfSlot(offset: number | undefined): number | null {
  if (offset === undefined) return null;
  const slot = (offset - CpuLayout.offset.gpr) / 8;
  if (slot === SLOT.SP) return SP;
  return slot >= 0 && slot < 31 ? slot : null;
}

/** Makes cases, with numbers that go up from 0. */
export class CaseMaker {
  readonly #random: Random;
  readonly #state = emptyState();
  #probe!: Probe;
  readonly #driver = new EvaluatorDriver((cpu, memory) =>
    this.#probe = new Probe(cpu, memory, { va: DATA, size: DATA_SIZE, at: 65536 })
  );
  #number = 0;

  constructor(seed: number, readonly operands: Operands) {
    this.#random = new Random(seed);
  }

  /** `count` cases of every shape of `row`. */
  *ofRow(row: Row, count: number): Generator<Case> {
    for (const key of this.#shapes(row)) {
      for (let i = 0; i < count; i++) yield this.#next(row, key);
    }
  }

  #shapes(row: Row): string[] {
    if (row.name === "MRS" || row.name === "MSR_reg") {
      return REGISTERS.map(({ key }) => shapeKey({ key }));
    }
    return [...shapesOf(row).keys()];
  }

  #next(row: Row, key: string): Case {
    for (let i = 0; i < 1000; i++) {
      const made = this.#make(this.#instruction(row, key));
      if (made === null) continue;
      this.#number++;
      return made;
    }
    throw new RangeError(`${row.name} ${key}: no case found`);
  }

  #instruction(row: Row, key: string): RandomInstruction {
    if (row.name === "MRS" || row.name === "MSR_reg") return this.#system(row, key);
    const found = randomInstruction(row, this.#random, (d) => shapeKey(d.shape) === key);
    return row.name.includes("literal") ? this.#literal(found) : found;
  }

  #system(row: Row, shape: string): RandomInstruction {
    const key = REGISTERS.find((r) => shapeKey({ key: r.key }) === shape)?.key ?? 0;
    const top = row.name === "MRS" ? 0xd5200000 : 0xd5000000;
    const word = (top | (key << 5) | this.#random.below(32)) >>> 0;
    const found = DECODER.decode(word);
    if (found?.row !== row) throw new RangeError(`0x${word.toString(16)} is not of ${row.name}`);
    return { word, ...found };
  }

  /** A literal load whose address lies in the data page. */
  #literal({ row, word }: RandomInstruction): RandomInstruction {
    const first = (DATA - CODE) / 4;
    const fields = { ...extractFields(row, word), i: first + this.#random.below(1020) };
    const changed = encode(row, fields);
    const found = DECODER.decode(changed);
    if (!found) throw new RangeError(`${row.name}: no literal`);
    return { word: changed, ...found };
  }

  /** A case of this instruction, or null when none is found for it. */
  #make(instruction: RandomInstruction): Case | null {
    const overrides = new Map<number, bigint>(this.#special(instruction));
    const words = [...this.#prefix(instruction), instruction.word];
    const base = registerOfSlot(instruction.decoded.slots.n);
    for (let i = 0; i < 4; i++) {
      const wanted = this.#run(words, [...overrides]);
      if (wanted === 0n) return { words, overrides: [...overrides] };
      if (base === null) return null;
      const from = overrides.get(base) ?? this.#initial(base);
      overrides.set(base, BigInt.asUintN(64, from + (base === SP ? wanted & ~15n : wanted)));
    }
    return null;
  }

  #initial(register: number): bigint {
    resetState(this.#state, this.#number, this.operands);
    return this.#state.gpr[register] as bigint;
  }

  /** By how much the accessed address must move: 0 when it is where it may be. */
  #run(words: readonly number[], overrides: readonly RegisterValue[]): bigint {
    const probe = this.#probe;
    resetState(this.#state, this.#number, this.operands);
    for (const override of overrides) setRegister(this.#state, override);
    probe.reset();
    this.#driver.run(words, this.#state);
    const { pc } = this.#state;
    // A branch to itself would never end.
    if (pc === CODE) return 1n << 63n;
    if (probe.bytes === 0) return 0n;
    const offset = probe.lowest - BigInt(DATA);
    const inside = offset >= 0n && offset + BigInt(probe.bytes) <= BigInt(DATA_SIZE);
    if (inside && offset % BigInt(probe.alignment) === 0n) return 0n;
    const target = this.#random.below((DATA_SIZE - 64) / probe.alignment) * probe.alignment;
    return BigInt(DATA + 16 + target) - probe.lowest;
  }

  /** Registers that the instruction needs to hold something in particular. */
  #special({ row, decoded }: RandomInstruction): RegisterValue[] {
    if (this.operands === "float") {
      const { size, from, elements } = decoded.shape;
      const bits = Number(elements ?? size ?? from ?? 64);
      return [[REGISTER.FLOATS, (BigInt(this.#number) << 8n) | BigInt(bits)]];
    }
    if (row.name === "BR" || row.name === "BLR" || row.name === "RET") {
      const register = registerOfSlot(decoded.slots.n);
      return register === null ? [] : [[register, BigInt(this.#branchTarget())]];
    }
    if (row.name === "MSR_reg") {
      const bits = REGISTERS.find((r) => r.key === decoded.shape.key)?.bits ?? 0n;
      const register = registerOfSlot(decoded.slots.t);
      return register === null ? [] : [[register, this.#random.u64() & bits]];
    }
    if (row.name === "MRS") {
      const at = REGISTERS.findIndex((r) => r.key === decoded.shape.key);
      if (at === 0) return [];
      return [[REGISTER.NZCV + at, this.#random.u64() & (REGISTERS[at]?.bits ?? 0n)]];
    }
    return [];
  }

  #branchTarget(): number {
    for (;;) {
      const at = RESERVED + 4 * this.#random.below((RESERVED_END - RESERVED) / 4);
      if (at < CODE_PAGE || at >= DATA + DATA_SIZE) return at;
    }
  }

  /** Mostly, what CAS expects is what is there: its registers are loaded from there. */
  #expected(name: string, f: Readonly<Record<string, number>>): number[] {
    const { w = 0, n = 0, s = 0 } = f;
    const overwritten = w === 31 || w === n || (name === "CASP" && (w === 30 || w + 1 === n));
    if (overwritten || this.#random.below(4) === 0) return [];
    const load = ROWS.find((r) => r.name === (name === "CAS" ? "LDST_uimm" : "LDP_STP_offset"));
    if (load === undefined) throw new RangeError(`no load before ${name}`);
    const fields = name === "CAS"
      ? { s, o: 1, n, t: w }
      : { o: s ? 2 : 0, l: 1, n, t: w, u: w + 1 };
    return [encode(load, fields)];
  }

  /** Mostly, a store-exclusive follows the load-exclusive of its kind and address. */
  #prefix({ row, word, decoded }: RandomInstruction): number[] {
    if (row.name === "CAS" || row.name === "CASP") {
      return this.#expected(row.name, extractFields(row, word));
    }
    const load = ROWS.find((r) =>
      (row.name === "STXR" && r.name === "LDXR") || (row.name === "STXP" && r.name === "LDXP")
    );
    if (load === undefined || this.#random.below(4) === 0) return [];
    const fields = extractFields(row, word);
    const used = ["w", "t", "u", "n"].map((slot) => registerOfSlot(decoded.slots[slot]));
    const free = Array.from({ length: 30 }, (_, i) => i).filter((i) => !used.includes(i));
    const [t, u] = [this.#random.pick(free), this.#random.pick(free)];
    return [encode(load, { s: fields.s ?? 0, n: fields.n ?? 0, t, u, w: 31 })];
  }
}
