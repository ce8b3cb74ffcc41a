/** The rows by the file that has them: one file of vectors each. */
import { branches } from "../../src/arm/isa/branches.ts";
import { dataProcessingImmediate } from "../../src/arm/isa/data_processing_immediate.ts";
import { dataProcessingRegister } from "../../src/arm/isa/data_processing_register.ts";
import { exceptionsAndSystem } from "../../src/arm/isa/exceptions_and_system.ts";
import { loadsAndStores } from "../../src/arm/isa/loads_and_stores.ts";
import { loadsAndStoresExclusive } from "../../src/arm/isa/loads_and_stores_exclusive.ts";
import { loadsAndStoresPair } from "../../src/arm/isa/loads_and_stores_pair.ts";
import type { Row } from "../../src/arm/isa/row.ts";
import { simdSubset } from "../../src/arm/isa/simd_subset.ts";

export const FAMILIES = {
  data_processing_immediate: dataProcessingImmediate,
  data_processing_register: dataProcessingRegister,
  branches,
  exceptions_and_system: exceptionsAndSystem,
  loads_and_stores: loadsAndStores,
  loads_and_stores_pair: loadsAndStoresPair,
  loads_and_stores_exclusive: loadsAndStoresExclusive,
  simd_subset: simdSubset,
} as const satisfies Record<string, readonly Row[]>;

export type Family = keyof typeof FAMILIES;
