/** All rows, and the decoder made from them. */
import {
  type Consts,
  type Decoded,
  extractFields,
  type Row,
  type Shape,
  type Slots,
} from "./row.ts";
import { atomicMemoryOperations } from "./atomic_memory_operations.ts";
import { branches } from "./branches.ts";
import { crc32AndFlags } from "./crc32_and_flags.ts";
import { dataProcessingImmediate } from "./data_processing_immediate.ts";
import { dataProcessingRegister } from "./data_processing_register.ts";
import { exceptionsAndSystem } from "./exceptions_and_system.ts";
import { floatingPoint } from "./floating_point.ts";
import { floatingPointInteger } from "./floating_point_integer.ts";
import { loadsAndStores } from "./loads_and_stores.ts";
import { loadsAndStoresExclusive } from "./loads_and_stores_exclusive.ts";
import { loadsAndStoresPair } from "./loads_and_stores_pair.ts";
import { loadsAndStoresStructures } from "./loads_and_stores_structures.ts";
import { loadsAndStoresVector } from "./loads_and_stores_vector.ts";
import { simdByElement } from "./simd_by_element.ts";
import { simdCopy } from "./simd_copy.ts";
import { simdCrypto } from "./simd_crypto.ts";
import { simdFpByElement } from "./simd_fp_by_element.ts";
import { simdFpMisc } from "./simd_fp_misc.ts";
import { simdFpThreeSame } from "./simd_fp_three_same.ts";
import { simdModifiedImmediate } from "./simd_modified_immediate.ts";
import { simdPermute } from "./simd_permute.ts";
import { simdShiftImmediate } from "./simd_shift_immediate.ts";
import { simdThreeDifferent } from "./simd_three_different.ts";
import { simdThreeSame } from "./simd_three_same.ts";
import { simdTwoRegister } from "./simd_two_register.ts";

const COMMON: readonly Row[] = [
  ...dataProcessingImmediate,
  ...dataProcessingRegister,
  ...branches,
  ...exceptionsAndSystem,
  ...loadsAndStores,
  ...loadsAndStoresPair,
  ...loadsAndStoresExclusive,
  ...loadsAndStoresVector,
  ...atomicMemoryOperations,
  ...crc32AndFlags,
];

/** With many shapes, of which a run needs few. */
const RARE: readonly Row[] = [
  ...loadsAndStoresStructures,
  ...floatingPoint,
  ...floatingPointInteger,
  ...simdThreeSame,
  ...simdThreeDifferent,
  ...simdTwoRegister,
  ...simdByElement,
  ...simdShiftImmediate,
  ...simdCopy,
  ...simdPermute,
  ...simdModifiedImmediate,
  ...simdCrypto,
  ...simdFpThreeSame,
  ...simdFpByElement,
  ...simdFpMisc,
];

/** Every row, in decode order. */
export const ROWS: readonly Row[] = [...COMMON, ...RARE];

/** The rows that agree with `word` in the bits of `mask`, as far as these are fixed. */
function agreeing(rows: readonly Row[], word: number, mask: number): readonly Row[] {
  return rows.filter((r) => ((word ^ r.value) & r.mask & mask) === 0);
}

/**
 * Decodes by the top 11 bits (31 to 21) to the few rows that can match, found when first needed among those of
 * the encoding's main group (bits 28 to 25, C4.1).
 */
export class Decoder {
  readonly #groups: (readonly Row[] | undefined)[] = Array(16).fill(undefined);
  readonly #buckets: (readonly Row[] | undefined)[] = Array(2048).fill(undefined);

  constructor(readonly rows: readonly Row[]) {}

  #bucket(word: number): readonly Row[] {
    const group = this.#groups[(word >>> 25) & 15] ??= agreeing(this.rows, word, 0x1e00_0000);
    return agreeing(group, word, 0xffe0_0000);
  }

  /** The row that `word` (unsigned 32-bit) belongs to, or undefined: UNDEFINED. */
  row(word: number): Row | undefined {
    const bucket = this.#buckets[word >>> 21] ??= this.#bucket(word);
    return bucket.find((r) => ((word ^ r.value) & r.mask) === 0);
  }

  /** Row and operands, or undefined where `word` is UNDEFINED. */
  decode(word: number): { row: Row; decoded: Decoded<Shape, Slots, Consts> } | undefined {
    const row = this.row(word);
    const decoded = row?.predecode(extractFields(row, word));
    return row && decoded ? { row, decoded } : undefined;
  }
}

/** The decoder of all rows. */
export const DECODER = new Decoder(ROWS);

/** Assembly text of `word` at `address`, or null where UNDEFINED. */
export function disassemble(word: number, address: number): string | null {
  const row = DECODER.row(word);
  if (!row) return null;
  const fields = extractFields(row, word);
  return row.predecode(fields) ? row.disassemble(fields, { address }) : null;
}
