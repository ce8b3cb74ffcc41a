/** Random instructions made from the rows, for tests: the same seed gives the same words. */
import { type Consts, type Decoded, encode, type Row, type Shape, type Slots } from "./row.ts";
import { examplesOf, shapeKey } from "./shapes.ts";
import { DECODER } from "./table.ts";

/** A small deterministic generator (sfc32, public domain). */
export class Random {
  #a = 0x9e3779b9;
  #b = 0x243f6a88;
  #c = 0xb7e15162;
  #counter = 1;

  /** `seed`: its low 32 bits. */
  constructor(seed: number) {
    this.#a ^= seed | 0;
    for (let i = 0; i < 12; i++) this.u32();
  }

  /** An unsigned 32-bit number. */
  u32(): number {
    const result = (this.#a + this.#b + this.#counter) | 0;
    this.#counter = (this.#counter + 1) | 0;
    this.#a = this.#b ^ (this.#b >>> 9);
    this.#b = (this.#c + (this.#c << 3)) | 0;
    this.#c = (((this.#c << 21) | (this.#c >>> 11)) + result) | 0;
    return result >>> 0;
  }

  /** An integer from 0 to `limit` - 1. */
  below(limit: number): number {
    return Math.floor((this.u32() / 0x1_0000_0000) * limit);
  }

  /** One of `items`, which must not be empty. */
  pick<T>(items: readonly T[]): T {
    return items[this.below(items.length)] as T;
  }

  /** 64 random bits. */
  u64(): bigint {
    return (BigInt(this.u32()) << 32n) | BigInt(this.u32());
  }

  /**
   * A 64-bit value of the kinds that find mistakes: small, small negative, around the limits of 8 to
   * 64 bits, single bits and runs of bits, and anything.
   */
  value(): bigint {
    const width = BigInt(this.pick([8, 16, 31, 32, 63, 64]));
    const near = BigInt(this.below(5)) - 2n;
    switch (this.below(7)) {
      case 0:
        return BigInt(this.below(16));
      case 1:
        return BigInt.asUintN(64, -BigInt(this.below(16)));
      case 2:
        return BigInt.asUintN(64, (1n << width) + near);
      case 3:
        return BigInt.asUintN(64, (1n << (width - 1n)) + near);
      case 4:
        return 1n << BigInt(this.below(64));
      case 5:
        return BigInt.asUintN(64, -1n << BigInt(this.below(64))) >> BigInt(this.below(32));
      default:
        return this.u64();
    }
  }
}

/** An instruction of a row with its operands. */
export interface RandomInstruction {
  readonly word: number;
  readonly row: Row;
  readonly decoded: Decoded<Shape, Slots, Consts>;
}

/** One field's value: registers are often equal or 31, immediates often at a limit. */
function randomField(random: Random, width: number): number {
  const limit = 2 ** width;
  const kind = random.below(8);
  if (width >= 5 && kind === 0) return limit - 1;
  if (width >= 5 && kind === 1) return 0;
  if (width === 5 && kind === 2) return random.below(3);
  return random.below(limit);
}

/** Fields at random, or null when they make no instruction of the row: try again. */
function attempt(row: Row, random: Random): RandomInstruction | null {
  const fields: Record<string, number> = {};
  for (const { letter, bits } of row.fields) fields[letter] = randomField(random, bits.length);
  const decoded = row.predecode(fields);
  const word = encode(row, fields);
  // A more special row may own the word.
  return decoded && DECODER.row(word) === row ? { word, row, decoded } : null;
}

const ATTEMPTS = 10_000;

/**
 * A random instruction of `row` whose operands satisfy `accept`, if given.
 * RangeError when none is found in 10,000 attempts.
 */
export function randomInstruction(
  row: Row,
  random: Random,
  accept: (decoded: Decoded<Shape, Slots, Consts>) => boolean = () => true,
): RandomInstruction {
  for (let i = 0; i < ATTEMPTS; i++) {
    const instruction = attempt(row, random);
    if (instruction && accept(instruction.decoded)) return instruction;
  }
  throw new RangeError(`${row.name}: no instruction found`);
}

export { shapeKey };

/** The shapes of `row` (see {@link examplesOf}), each by its key with an instruction that is its own. */
export function shapesOf(row: Row): Map<string, RandomInstruction> {
  const examples = examplesOf(row, (fields) => DECODER.row(encode(row, fields)) === row);
  return new Map(
    [...examples].map(([key, { fields, decoded }]) => [
      key,
      { word: encode(row, fields), row, decoded },
    ]),
  );
}
