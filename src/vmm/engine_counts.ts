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

/** The fields of CPUs that are summed up, by the names they have here. */
const COUNTERS = {
  translatedInsns: "regionInsns",
  regions: "regions",
  regionModules: "regionModules",
  regionsEvicted: "regionsEvicted",
  codeBytes: "codeBytes",
  dataMisses: "dataMisses",
  codeMisses: "codeMisses",
} as const;

/** Of all the workers that run the machine. What a worker translates and drops is seen when its next slice begins. */
export function engineCounts({ interpreter, cores, team }: Machine): EngineCounts {
  const sum = (of: keyof typeof COUNTERS): number =>
    cores.reduce((total, { cpu }) => total + cpu[COUNTERS[of]], 0);
  const names = Object.keys(COUNTERS) as (keyof typeof COUNTERS)[];
  const sums = Object.fromEntries(names.map((name) => [name, sum(name)])) as Record<
    keyof typeof COUNTERS,
    number
  >;
  const codeBytesMax = interpreter.regions.options.maxBytes * (team?.workers ?? 1);
  return { ...sums, codeBytesMax };
}
