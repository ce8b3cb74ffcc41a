/**
 * Counters of the vgic, `observe` state: per interrupt (how often, how fast) and per vCPU (what its
 * flushes touched). No kernel file: real KVM does not count these.
 */
import { addSmall, type SharedMemory } from "../../base/memory.ts";
import { array, layout, u53, type ViewOf } from "../../base/struct.ts";
import { ViewsByBase } from "../../base/views.ts";

// As a constant of this module, V8 knows it.
const add = addSmall;

/** Latencies below this many nanoseconds share the first bucket; four buckets per doubling follow. */
const FIRST_OCTAVE = 6;
/** Buckets of the latency histogram: up to 2^33 ns (8.5 s); the last one is open. */
export const LATENCY_BUCKETS = 4 * 27 + 2;

/** Counters of one virtual interrupt. */
export const VgicIrqStatLayout = layout("vgic_irq_stat", {
  /** Rising edges and levels that were accepted, SGIs and ISPENDR writes included. */
  injected: u53("observe"),
  /** Acknowledged by the guest. */
  acked: u53("observe"),
  /** Deactivated by the guest. */
  eoied: u53("observe"),
  /** Virtual time of the last of these; 0: none yet. */
  lastEventNs: u53("observe"),
  /** Latencies from line raised to the guest's vector, virtual nanoseconds. */
  latencyCount: u53("observe"),
  latencySumNs: u53("observe"),
  latencyMaxNs: u53("observe"),
  latencyBuckets: array("u32", LATENCY_BUCKETS, "observe"),
});
export type VgicIrqStat = ViewOf<typeof VgicIrqStatLayout>;

/** Counters of one vCPU's side of the vgic. */
export const VgicCpuStatLayout = layout("vgic_cpu_stat", {
  /** Flushes that found a non-empty ap_list. */
  flushes: u53("observe"),
  /** `vgic_irq`s touched by all flushes, and by the last one. */
  flushedIrqs: u53("observe"),
  lastFlushedIrqs: u53("observe"),
  /** Flushes that had more interrupts than list registers. */
  overflows: u53("observe"),
  /** Interrupts this vCPU took off its ap_list, and those it moved to another one. */
  pruned: u53("observe"),
  migrated: u53("observe"),
});

/** The histogram bucket of a latency. */
export function latencyBucket(ns: number): number {
  if (ns < 2 ** FIRST_OCTAVE) return 0;
  const small = ns | 0;
  if (small === ns) {
    const octave = 31 - Math.clz32(small);
    return 1 + 4 * (octave - FIRST_OCTAVE) + ((small >>> (octave - 2)) & 3);
  }
  const octave = Math.floor(Math.log2(ns));
  const quarter = Math.floor(ns / 2 ** (octave - 2)) - 4;
  return Math.min(1 + 4 * (octave - FIRST_OCTAVE) + quarter, LATENCY_BUCKETS - 1);
}

/** The first latency, in nanoseconds, that no longer belongs to the bucket; Infinity for the last. */
export function latencyBucketEnd(bucket: number): number {
  if (bucket === 0) return 2 ** FIRST_OCTAVE;
  if (bucket >= LATENCY_BUCKETS - 1) return Infinity;
  const octave = FIRST_OCTAVE + Math.floor((bucket - 1) / 4);
  return 2 ** (octave - 2) * (5 + ((bucket - 1) % 4));
}

const STAT = VgicIrqStatLayout.offset;
const WORD = {
  COUNT: STAT.latencyCount >>> 2,
  SUM: STAT.latencySumNs >>> 2,
  MAX: STAT.latencyMaxNs >>> 2,
  BUCKETS: STAT.latencyBuckets >>> 2,
} as const;

/** Enters one latency into the counters of an interrupt at address `stat`. */
export function recordLatency(memory: SharedMemory, stat: number, ns: number): void {
  const words = memory.i32, at = stat >>> 2, small = ns | 0;
  add(words, at + WORD.COUNT, 1);
  if (small === ns && small >= 0) {
    add(words, at + WORD.SUM, small);
    const isMost = words[at + WORD.MAX + 1] === 0 && (words[at + WORD.MAX] as number) >>> 0 < small;
    if (isMost) words[at + WORD.MAX] = small;
  } else {
    memory.st53(stat + STAT.latencySumNs, memory.ld53(stat + STAT.latencySumNs) + ns);
    if (ns > memory.ld53(stat + STAT.latencyMaxNs)) memory.st53(stat + STAT.latencyMaxNs, ns);
  }
  const bucket = at + WORD.BUCKETS + latencyBucket(ns);
  words[bucket] = (words[bucket] as number) + 1;
}

/** Adds a histogram's buckets into `into` (of {@link LATENCY_BUCKETS} counts): several interrupts as one. */
export function addLatencies(into: number[], stat: VgicIrqStat): void {
  for (let i = 0; i < LATENCY_BUCKETS; i++) {
    into[i] = (into[i] ?? 0) + stat.memory.ld32(stat.latencyBuckets + 4 * i);
  }
}

/**
 * The latency that a share `p` (0 to 1) of the samples does not exceed, in nanoseconds, at most a
 * quarter of an octave too high and never above the maximum; undefined without samples.
 */
export function latencyPercentile(stat: VgicIrqStat, p: number): number | undefined {
  if (stat.latencyCount === 0) return undefined;
  const want = Math.max(1, Math.ceil(p * stat.latencyCount));
  let seen = 0;
  for (let i = 0; i < LATENCY_BUCKETS; i++) {
    seen += stat.memory.ld32(stat.latencyBuckets + 4 * i);
    if (seen >= want) return Math.min(latencyBucketEnd(i) - 1, stat.latencyMaxNs);
  }
  return undefined;
}

const IRQ_STATS = new ViewsByBase(VgicIrqStatLayout);

/** The counters at `base`; the same view each time. */
export function irqStatAt(memory: SharedMemory, base: number): VgicIrqStat {
  return IRQ_STATS.at(memory, base);
}
