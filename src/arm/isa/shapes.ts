/** Which shapes a row has: for what compiles all of them, and for tests. */
import type { Consts, Decoded, FieldBits, Row, Shape, Slots } from "./row.ts";

/** Fields of a row with what they decode to. */
export interface ShapeExample {
  readonly fields: Readonly<Record<string, number>>;
  readonly decoded: Decoded<Shape, Slots, Consts>;
}

/** A shape as text: equal for equal shapes of one row. */
export function shapeKey(shape: Shape): string {
  let key = "";
  for (const name in shape) key += `${key === "" ? "" : " "}${name}=${shape[name]}`;
  return key;
}

/** Values of a field worth trying: all of small ones, the edges and a few others of large ones. */
function trialValues(bits: number): readonly number[] {
  return TRIALS[bits] ??= bits <= 4
    ? Array.from({ length: 1 << bits }, (_, i) => i)
    : [0, 1, 2, 3, 5, 8, 2 ** bits - 2, (2 ** bits - 1) >>> 1, 2 ** bits - 1];
}
const TRIALS: (readonly number[])[] = [];

/** Of a row whose shape is the encoding of a register, no more than a sample can be listed. */
function sampleValues(bits: number): readonly number[] {
  return bits <= 3 ? trialValues(bits) : [0, 1, 7, 8, 2 ** bits - 1];
}

/** Every combination of the trial values of `fields`, each given to `visit` as changes to `into`. */
function combine(
  fields: readonly FieldBits[],
  values: (bits: number) => readonly number[],
  into: Record<string, number>,
  visit: () => void,
  from = 0,
): void {
  const first = fields[from];
  if (!first) return visit();
  for (const value of values(first.bits.length)) {
    into[first.letter] = value;
    combine(fields, values, into, visit, from + 1);
  }
}

/** What large fields hold while others are tried: the next where one makes no instruction. */
const USUAL: readonly ((bits: number) => number)[] = [() => 1, () => 2, (bits) => 2 ** bits - 2];

/** Whether the shapes of `row` are encodings of system registers or operations. */
function isShapedByKey(row: Row): boolean {
  const zeros = Object.fromEntries(row.fields.map((f) => [f.letter, 0]));
  return row.fields.length > 0 && "key" in (row.predecode(zeros)?.shape ?? {});
}

/** Gathers the shapes of one row. */
class Search {
  /** Fields of what is tried. */
  readonly fields: Record<string, number> = {};
  readonly shapes = new Map<string, ShapeExample>();
  /** Fields of one of each shape, accepted or not. */
  readonly found = new Map<string, Readonly<Record<string, number>>>();

  constructor(readonly row: Row, readonly accept: Accept) {}

  /** Tries `fields`: the key of their shape, or undefined where they are no instruction. */
  readonly visit = (): string | undefined => {
    const { fields, shapes, found } = this;
    const decoded = this.row.predecode(fields);
    if (!decoded) return undefined;
    const key = shapeKey(decoded.shape);
    if (!found.has(key)) found.set(key, { ...fields });
    if (!shapes.has(key) && this.accept(fields)) {
      shapes.set(key, { fields: { ...fields }, decoded });
    }
    return key;
  };

  /** Tries a value of a field with the example of each shape known, up to one that it does not matter to. */
  tryValue(letter: string, value: number): void {
    for (const [key, example] of [...this.found]) {
      Object.assign(this.fields, example);
      this.fields[letter] = value;
      if (this.visit() === key) return;
    }
  }
}

type Accept = (fields: Readonly<Record<string, number>>) => boolean;

/** Bits of the fields of which all combinations are tried. */
const SMALL_BITS = 7;

/** The fields of which all combinations are tried: of up to 3 bits, the smallest first. */
function smallFields({ fields }: Row, named: boolean): readonly FieldBits[] {
  if (named) return fields.filter(({ bits }) => bits.length <= 4);
  let left = SMALL_BITS;
  return fields.filter(({ bits }) => bits.length <= 3)
    .sort((a, b) => a.bits.length - b.bits.length)
    .filter(({ bits }) => (left -= bits.length) >= 0);
}

/**
 * The shapes of `row`, each by its key with an example: small fields in all combinations, then each large
 * one by itself. Of rows shaped by a key it is a sample. `accept` can reject an example.
 */
export function examplesOf(row: Row, accept: Accept = () => true): Map<string, ShapeExample> {
  const search = new Search(row, accept);
  const { fields } = search;
  const named = isShapedByKey(row);
  const small = smallFields(row, named);
  const large = row.fields.filter((f) => !small.includes(f));
  combine(small, named ? sampleValues : trialValues, fields, () => {
    USUAL.some((usual) => {
      for (const { letter, bits } of large) fields[letter] = usual(bits.length);
      return search.visit() !== undefined;
    });
  });
  for (const { letter, bits } of named ? [] : large) {
    for (const value of trialValues(bits.length)) search.tryValue(letter, value);
  }
  return search.shapes;
}
