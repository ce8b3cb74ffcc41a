/** The recorded vectors (see recorder/record.ts). */
import atomicMemoryOperations from "../../fixtures/vectors/atomic_memory_operations.bin.gz" with {
  type: "bytes",
};
import crc32AndFlags from "../../fixtures/vectors/crc32_and_flags.bin.gz" with { type: "bytes" };
import branches from "../../fixtures/vectors/branches.bin.gz" with { type: "bytes" };
import dataProcessingImmediate from "../../fixtures/vectors/data_processing_immediate.bin.gz" with {
  type: "bytes",
};
import dataProcessingRegister from "../../fixtures/vectors/data_processing_register.bin.gz" with {
  type: "bytes",
};
import exceptionsAndSystem from "../../fixtures/vectors/exceptions_and_system.bin.gz" with {
  type: "bytes",
};
import floatingPoint from "../../fixtures/vectors/floating_point.bin.gz" with { type: "bytes" };
import floatingPointInteger from "../../fixtures/vectors/floating_point_integer.bin.gz" with {
  type: "bytes",
};
import loadsAndStores from "../../fixtures/vectors/loads_and_stores.bin.gz" with { type: "bytes" };
import loadsAndStoresExclusive from "../../fixtures/vectors/loads_and_stores_exclusive.bin.gz" with {
  type: "bytes",
};
import loadsAndStoresPair from "../../fixtures/vectors/loads_and_stores_pair.bin.gz" with {
  type: "bytes",
};
import simdFpByElement from "../../fixtures/vectors/simd_fp_by_element.bin.gz" with {
  type: "bytes",
};
import simdFpMisc from "../../fixtures/vectors/simd_fp_misc.bin.gz" with { type: "bytes" };
import simdFpThreeSame from "../../fixtures/vectors/simd_fp_three_same.bin.gz" with {
  type: "bytes",
};
import loadsAndStoresVector from "../../fixtures/vectors/loads_and_stores_vector.bin.gz" with {
  type: "bytes",
};
import simdThreeSame from "../../fixtures/vectors/simd_three_same.bin.gz" with { type: "bytes" };
import simdThreeDifferent from "../../fixtures/vectors/simd_three_different.bin.gz" with {
  type: "bytes",
};
import simdTwoRegister from "../../fixtures/vectors/simd_two_register.bin.gz" with {
  type: "bytes",
};
import simdShiftImmediate from "../../fixtures/vectors/simd_shift_immediate.bin.gz" with {
  type: "bytes",
};
import simdByElement from "../../fixtures/vectors/simd_by_element.bin.gz" with { type: "bytes" };
import simdCopy from "../../fixtures/vectors/simd_copy.bin.gz" with { type: "bytes" };
import simdPermute from "../../fixtures/vectors/simd_permute.bin.gz" with { type: "bytes" };
import simdModifiedImmediate from "../../fixtures/vectors/simd_modified_immediate.bin.gz" with {
  type: "bytes",
};
import loadsAndStoresStructures from "../../fixtures/vectors/loads_and_stores_structures.bin.gz" with {
  type: "bytes",
};
import simdCrypto from "../../fixtures/vectors/simd_crypto.bin.gz" with { type: "bytes" };
import type { Family } from "./families.ts";

const FILES: Readonly<Record<Family, Uint8Array<ArrayBuffer>>> = {
  data_processing_immediate: dataProcessingImmediate,
  data_processing_register: dataProcessingRegister,
  branches,
  exceptions_and_system: exceptionsAndSystem,
  loads_and_stores: loadsAndStores,
  loads_and_stores_pair: loadsAndStoresPair,
  loads_and_stores_exclusive: loadsAndStoresExclusive,
  loads_and_stores_vector: loadsAndStoresVector,
  loads_and_stores_structures: loadsAndStoresStructures,
  atomic_memory_operations: atomicMemoryOperations,
  crc32_and_flags: crc32AndFlags,
  floating_point: floatingPoint,
  floating_point_integer: floatingPointInteger,
  simd_three_same: simdThreeSame,
  simd_three_different: simdThreeDifferent,
  simd_two_register: simdTwoRegister,
  simd_by_element: simdByElement,
  simd_shift_immediate: simdShiftImmediate,
  simd_copy: simdCopy,
  simd_permute: simdPermute,
  simd_modified_immediate: simdModifiedImmediate,
  simd_crypto: simdCrypto,
  simd_fp_three_same: simdFpThreeSame,
  simd_fp_by_element: simdFpByElement,
  simd_fp_misc: simdFpMisc,
};

/** The bytes of a family's file. */
export async function vectorFile(family: Family): Promise<Uint8Array> {
  const stream = new Blob([FILES[family]]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}
