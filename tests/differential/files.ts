/** The recorded vectors (see recorder/record.ts). */
import branches from "../../fixtures/vectors/branches.bin" with { type: "bytes" };
import dataProcessingImmediate from "../../fixtures/vectors/data_processing_immediate.bin" with {
  type: "bytes",
};
import dataProcessingRegister from "../../fixtures/vectors/data_processing_register.bin" with {
  type: "bytes",
};
import exceptionsAndSystem from "../../fixtures/vectors/exceptions_and_system.bin" with {
  type: "bytes",
};
import loadsAndStores from "../../fixtures/vectors/loads_and_stores.bin" with { type: "bytes" };
import loadsAndStoresExclusive from "../../fixtures/vectors/loads_and_stores_exclusive.bin" with {
  type: "bytes",
};
import loadsAndStoresPair from "../../fixtures/vectors/loads_and_stores_pair.bin" with {
  type: "bytes",
};
import simdSubset from "../../fixtures/vectors/simd_subset.bin" with { type: "bytes" };
import type { Family } from "./families.ts";

export const VECTOR_FILES: Readonly<Record<Family, Uint8Array>> = {
  branches,
  data_processing_immediate: dataProcessingImmediate,
  data_processing_register: dataProcessingRegister,
  exceptions_and_system: exceptionsAndSystem,
  loads_and_stores: loadsAndStores,
  loads_and_stores_exclusive: loadsAndStoresExclusive,
  loads_and_stores_pair: loadsAndStoresPair,
  simd_subset: simdSubset,
};
