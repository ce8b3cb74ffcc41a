/** What the engine has done on one machine, for the dashboard and for `--stats`. */
import type { Machine } from "../arm/machine.ts";

export interface EngineCounts {
  /** Instructions that ran as translated code, on all physical CPUs. */
  readonly translatedInsns: number;
  /** Regions in use, the modules made so far, and the regions that had to go for others. */
  readonly regions: number;
  readonly regionModules: number;
  readonly regionsEvicted: number;
  /** Bytes of WebAssembly of the modules with regions in use, and as many as there may be. */
  readonly codeBytes: number;
  readonly codeBytesMax: number;
  /** How often generated code was left for a page that a data TLB or a code TLB did not have. */
  readonly dataMisses: number;
  readonly codeMisses: number;
}

export function engineCounts({ interpreter: { regions }, cores }: Machine): EngineCounts {
  const sum = (of: "regionInsns" | "dataMisses" | "codeMisses"): number =>
    cores.reduce((total, { cpu }) => total + cpu[of], 0);
  return {
    translatedInsns: sum("regionInsns"),
    regions: regions.live,
    regionModules: regions.modules,
    regionsEvicted: regions.evicted,
    codeBytes: regions.codeBytes,
    codeBytesMax: regions.options.maxBytes,
    dataMisses: sum("dataMisses"),
    codeMisses: sum("codeMisses"),
  };
}
