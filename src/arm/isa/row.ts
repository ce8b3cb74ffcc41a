/**
 * What an instruction row is. Each A64 encoding is described once, here and nowhere else; the
 * interpreter, the evaluator, the disassembler, the test encoder and the random generator are all
 * made from its row.
 *
 * A row's `predecode` is pure: from the encoding's fields it makes a {@link Decoded} of three kinds of
 * things, or null where the encoding is UNDEFINED:
 *
 * - `shape`: known whenever the semantics runs. Plain JavaScript values; `if` on them freely. There is
 *   one compiled handler per row and distinct shape, so keep shapes few (sizes, sf, S, kind), and put
 *   everything else into constants.
 * - `slots`: byte offsets of registers in the CPU state (at most 6).
 * - `consts`: numbers (32-bit) or bigints (64-bit) (at most two bigints and one number, or one bigint
 *   and three numbers, or five numbers; with more than 4 slots, one number less).
 *
 * `semantics` describes what the instruction does, against a {@link Builder}: nothing there may depend
 * on the value behind a {@link V32} or {@link V64} except through `select`, `when` and the branches.
 * All memory accesses come before any register write, and write-back last: a faulting instruction is
 * restarted from the beginning.
 */
import type { Builder, Slot, V32, V64 } from "./builder.ts";
import type { FeatureName } from "../arch/features.ts";
import { gprOffset, SLOT, vregOffset } from "../arch/cpu_state.ts";

type LettersOf<P extends string> = P extends `${infer C}${infer Rest}`
  ? (C extends "0" | "1" ? never : C) | LettersOf<Rest>
  : never;

/** The fields of a pattern: one number per letter, its bits taken from the top down. */
export type FieldsOf<P extends string> = { readonly [K in LettersOf<P>]: number };

export type Shape = Readonly<Record<string, number | boolean | string>>;
export type Slots = Readonly<Record<string, number>>;
export type Consts = Readonly<Record<string, number | bigint>>;

export interface Decoded<S extends Shape, L extends Slots, C extends Consts> {
  readonly shape: S;
  readonly slots: L;
  readonly consts: C;
}

/** What the semantics sees of `slots` and `consts`. */
export type Operands<L extends Slots, C extends Consts> =
  & { readonly [K in keyof L]: Slot }
  & { readonly [K in keyof C]: C[K] extends bigint ? V64 : V32 };

/** Where an instruction lies, for the disassembler: `address` is that of the instruction itself. */
export interface DisassemblyContext {
  readonly address: number;
}

export interface RowSpec<
  P extends string,
  S extends Shape,
  L extends Slots,
  C extends Consts,
> {
  /** Unique, the manual's name of the encoding: `ADD_addsub_imm`. */
  readonly name: string;
  /** 32 characters: `0`, `1`, or a letter naming a field. */
  readonly pattern: P;
  /** The FEAT_ name without which the encoding is UNDEFINED. */
  readonly feature?: FeatureName;
  /**
   * Not compiled: the interpreter leaves to the evaluator. For what changes the machine as a whole
   * (exceptions, translation, interrupts), and arithmetic that generated code does not have (half
   * precision).
   */
  readonly slow?: boolean;
  /** Assembly text as objdump prints it: mnemonic, tab, operands; null where UNDEFINED. */
  readonly disassemble: (f: FieldsOf<P>, at: DisassemblyContext) => string | null;
  /** Fields to operands; null where the encoding is UNDEFINED (UNALLOCATED). */
  readonly predecode: (f: FieldsOf<P>) => Decoded<S, L, C> | null;
  readonly semantics: (b: Builder, o: Operands<L, C>, shape: S) => void;
}

/** A row as everything else sees it. */
export interface Row {
  readonly name: string;
  readonly pattern: string;
  readonly feature: FeatureName | undefined;
  readonly slow: boolean;
  /** Fixed bits and their mask, from the pattern. */
  readonly mask: number;
  readonly value: number;
  readonly fields: readonly FieldBits[];
  readonly disassemble: (f: Readonly<Record<string, number>>, at: DisassemblyContext) =>
    | string
    | null;
  readonly predecode: (f: Readonly<Record<string, number>>) => Decoded<Shape, Slots, Consts> | null;
  readonly semantics: (
    b: Builder,
    o: Readonly<Record<string, Slot | V32 | V64>>,
    shape: Shape,
  ) => void;
}

/** One field: its letter and the bits it takes, highest first. */
export interface FieldBits {
  readonly letter: string;
  readonly bits: readonly number[];
}

/** What a pattern says: the fixed bits, their mask, and the fields in the order of their first bits. */
function partsOf(pattern: string): Pick<Row, "mask" | "value" | "fields"> {
  const bits: Record<string, number[]> = {};
  let mask = 0, value = 0;
  for (let i = 0; i < 32; i++) {
    const letter = pattern[i] as string;
    mask *= 2;
    value *= 2;
    if (letter === "0" || letter === "1") {
      mask++;
      if (letter === "1") value++;
    } else (bits[letter] ??= []).push(31 - i);
  }
  const fields = Object.keys(bits).map((letter) => ({ letter, bits: bits[letter] as number[] }));
  return { mask, value, fields };
}

/** Makes a {@link Row}. RangeError for a pattern that is not 32 characters of 0, 1 and letters. */
export function row<
  const P extends string,
  S extends Shape,
  L extends Slots,
  C extends Consts,
>(spec: RowSpec<P, S, L, C>): Row {
  if (!/^[01A-Za-z]{32}$/.test(spec.pattern)) {
    throw new RangeError(`${spec.name}: pattern of ${spec.pattern.length} characters`);
  }
  return {
    name: spec.name,
    pattern: spec.pattern,
    feature: spec.feature,
    slow: spec.slow ?? false,
    ...partsOf(spec.pattern),
    // The letters of the pattern are exactly the record's keys, which the general type cannot say.
    disassemble: spec.disassemble as Row["disassemble"],
    predecode: spec.predecode as Row["predecode"],
    semantics: spec.semantics as unknown as Row["semantics"],
  };
}

/** The fields of `word` under `row`'s pattern. */
export function extractFields(row: Row, word: number): Record<string, number> {
  const out: Record<string, number> = {};
  for (const { letter, bits } of row.fields) out[letter] = fieldOf(word, bits);
  return out;
}

/** The bits of `word` at `bits`, the first the highest: most fields are bits in a row. */
function fieldOf(word: number, bits: readonly number[]): number {
  const count = bits.length;
  const low = bits[count - 1] as number;
  if (count < 32 && bits[0] === low + count - 1) return (word >>> low) & ((1 << count) - 1);
  let value = 0;
  for (const bit of bits) value = value * 2 + ((word >>> bit) & 1);
  return value;
}

/** The word with `fields` placed into `row`'s pattern (missing ones are 0); unsigned 32-bit. */
export function encode(row: Row, fields: Readonly<Record<string, number>>): number {
  let word = row.value;
  for (const { letter, bits } of row.fields) {
    const value = fields[letter] ?? 0;
    bits.forEach((bit, i) => {
      if (Math.floor(value / 2 ** (bits.length - 1 - i)) % 2 === 1) word |= 1 << bit;
    });
  }
  return word >>> 0;
}

/** Slot offset of Xn/Wn as a source: 31 reads zero. */
export const xr = (n: number): number => gprOffset(n === 31 ? SLOT.ZR : n);
/** Slot offset of Xn/Wn as a destination: 31 is discarded. */
export const xw = (n: number): number => gprOffset(n === 31 ? SLOT.SINK : n);
/** Slot offset where 31 means the stack pointer, source or destination. */
export const xsp = (n: number): number => gprOffset(n === 31 ? SLOT.SP : n);
/** Slot offset of Vn. */
export const vr = (n: number): number => vregOffset(n);

/**
 * A condition code (0 to 15) as the set of NZCV values it holds for: bit `nzcv` is set when it holds.
 * The constant that {@link Builder.condition} takes.
 */
export function conditionMask(cond: number): number {
  let mask = 0;
  for (let nzcv = 0; nzcv < 16; nzcv++) {
    if (conditionHolds(cond, nzcv)) mask |= 1 << nzcv;
  }
  return mask;
}

/** Whether condition `cond` holds under `nzcv` (N is bit 3). Manual: ConditionHolds(). */
function conditionHolds(cond: number, nzcv: number): boolean {
  const n = (nzcv & 8) !== 0, z = (nzcv & 4) !== 0, c = (nzcv & 2) !== 0, v = (nzcv & 1) !== 0;
  const base = [z, c, n, v, c && !z, n === v, n === v && !z, true][cond >> 1] as boolean;
  return (cond & 1) === 1 && cond !== 15 ? !base : base;
}
