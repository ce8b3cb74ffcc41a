/** The rows by the file that has them: one file of vectors each, with how it is recorded. */
import { atomicMemoryOperations } from "../../src/arm/isa/atomic_memory_operations.ts";
import { branches } from "../../src/arm/isa/branches.ts";
import { crc32AndFlags } from "../../src/arm/isa/crc32_and_flags.ts";
import { dataProcessingImmediate } from "../../src/arm/isa/data_processing_immediate.ts";
import { dataProcessingRegister } from "../../src/arm/isa/data_processing_register.ts";
import { exceptionsAndSystem } from "../../src/arm/isa/exceptions_and_system.ts";
import { floatingPoint } from "../../src/arm/isa/floating_point.ts";
import { floatingPointInteger } from "../../src/arm/isa/floating_point_integer.ts";
import { loadsAndStores } from "../../src/arm/isa/loads_and_stores.ts";
import { loadsAndStoresExclusive } from "../../src/arm/isa/loads_and_stores_exclusive.ts";
import { loadsAndStoresPair } from "../../src/arm/isa/loads_and_stores_pair.ts";
import { loadsAndStoresStructures } from "../../src/arm/isa/loads_and_stores_structures.ts";
import { loadsAndStoresVector } from "../../src/arm/isa/loads_and_stores_vector.ts";
import type { Row } from "../../src/arm/isa/row.ts";
import { simdByElement } from "../../src/arm/isa/simd_by_element.ts";
import { simdCopy } from "../../src/arm/isa/simd_copy.ts";
import { simdCrypto } from "../../src/arm/isa/simd_crypto.ts";
import { simdFpByElement } from "../../src/arm/isa/simd_fp_by_element.ts";
import { simdFpMisc } from "../../src/arm/isa/simd_fp_misc.ts";
import { simdFpThreeSame } from "../../src/arm/isa/simd_fp_three_same.ts";
import { simdModifiedImmediate } from "../../src/arm/isa/simd_modified_immediate.ts";
import { simdPermute } from "../../src/arm/isa/simd_permute.ts";
import { simdShiftImmediate } from "../../src/arm/isa/simd_shift_immediate.ts";
import { simdThreeDifferent } from "../../src/arm/isa/simd_three_different.ts";
import { simdThreeSame } from "../../src/arm/isa/simd_three_same.ts";
import { simdTwoRegister } from "../../src/arm/isa/simd_two_register.ts";
import type { Operands } from "./state.ts";

/** A family of rows and how its cases are made. */
export interface FamilySpec {
  readonly rows: readonly Row[];
  readonly operands: Operands;
  /** Cases for each shape of each row. */
  readonly cases: number;
  /** What qemu-aarch64 is told to be. */
  readonly cpu: "cortex-a57" | "max";
}

function general(rows: readonly Row[]): FamilySpec {
  return { rows, operands: "general", cases: 200, cpu: "cortex-a57" };
}

function vector(rows: readonly Row[]): FamilySpec {
  return { rows, operands: "vector", cases: 200, cpu: "max" };
}

function float(rows: readonly Row[]): FamilySpec {
  return { rows, operands: "float", cases: 200, cpu: "max" };
}

export const FAMILIES = {
  data_processing_immediate: general(dataProcessingImmediate),
  data_processing_register: general(dataProcessingRegister),
  branches: general(branches),
  exceptions_and_system: general(exceptionsAndSystem),
  loads_and_stores: general(loadsAndStores),
  loads_and_stores_pair: general(loadsAndStoresPair),
  loads_and_stores_exclusive: general(loadsAndStoresExclusive),
  loads_and_stores_vector: general(loadsAndStoresVector),
  loads_and_stores_structures: vector(loadsAndStoresStructures),
  atomic_memory_operations: { ...general(atomicMemoryOperations), cpu: "max" },
  crc32_and_flags: { ...general(crc32AndFlags), cpu: "max" },
  floating_point: float(floatingPoint),
  floating_point_integer: float(floatingPointInteger),
  simd_three_same: vector(simdThreeSame),
  simd_three_different: vector(simdThreeDifferent),
  simd_two_register: vector(simdTwoRegister),
  simd_by_element: vector(simdByElement),
  simd_shift_immediate: vector(simdShiftImmediate),
  simd_copy: vector(simdCopy),
  simd_permute: vector(simdPermute),
  simd_modified_immediate: vector(simdModifiedImmediate),
  simd_crypto: vector(simdCrypto),
  simd_fp_three_same: float(simdFpThreeSame),
  simd_fp_by_element: float(simdFpByElement),
  simd_fp_misc: float(simdFpMisc),
} as const satisfies Record<string, FamilySpec>;

export type Family = keyof typeof FAMILIES;
