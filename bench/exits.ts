/**
 * What an exit costs in wall time, start-up left out: from the guest's instruction through the world
 * switch to what handles it, and back. Every guest runs until V8 has compiled what it will; then, by
 * turns, each runs through so many exits, and the median of its times is what counts.
 */
import {
  besideIdleVms,
  type ExitName,
  hypercalls,
  stretch,
  type Subject,
} from "./exit_subjects.ts";
import { type Bench, median, type Report } from "./harness.ts";

const WARM_UP_MS = 1500;
const ROUNDS = 25;
const ROUND_MS = 40;

/** Interrupts of a controller, private ones included: the least and the most that KVM gives. */
const FEW_IRQS = 64, MANY_IRQS = 992;
const FEW_VMS = 1, MANY_VMS = 64;

/** Runs something for so many ms: microseconds for each time. */
type Stretch = (ms: number) => number | Promise<number>;

/** Microseconds for each time, medians in the stretches' order. */
async function measure(stretches: readonly Stretch[]): Promise<number[]> {
  for (const run of stretches) await run(WARM_UP_MS);
  const times = stretches.map((): number[] => []);
  for (let round = 0; round < ROUNDS; round++) {
    for (const [i, run] of stretches.entries()) times[i]?.push(await run(ROUND_MS));
  }
  return times.map(median);
}

/** A guest in a worker, as a user's is alone in its process. */
class Isolated {
  readonly #worker = new Worker(new URL("exit_worker.ts", import.meta.url), { type: "module" });

  constructor(exit: ExitName) {
    this.#worker.postMessage(exit);
  }

  stretch(ms: number): Promise<number> {
    const { promise, resolve, reject } = Promise.withResolvers<number>();
    this.#worker.onmessage = ({ data }: MessageEvent<number>) => resolve(data);
    this.#worker.onerror = ({ message }) => reject(new Error(message));
    this.#worker.postMessage(ms);
    return promise;
  }

  end(): void {
    this.#worker.terminate();
  }
}

/** A kind of exit with the microseconds that it may take, and those that are aimed at. */
type Limit = readonly [name: string, exit: ExitName, atMost: number, aim: number];
const LIMITS: readonly Limit[] = [
  ["HVC: exit, world switch, handler, entry", "hypercall", 1.5, 0.5],
  ["read of an in-kernel device", "inKernel", 3, 1],
  ["read of a user-space device", "userSpace", 3, 1],
  ["SGI between two vCPUs", "sgi", 3, 1],
];

async function costs(report: Report): Promise<void> {
  report.print(`\nwhat an exit costs (median of ${ROUNDS})`);
  const guests = LIMITS.map(([, exit]) => new Isolated(exit));
  try {
    const times = await measure(guests.map((it) => (ms) => it.stretch(ms)));
    LIMITS.forEach(([name, , atMost, aim], i) => {
      const value = times[i] as number;
      report.figure({ name, value, unit: "us", must: { most: atMost }, aim: { most: aim } });
    });
  } finally {
    guests.forEach((it) => it.end());
  }
}

/** The same code for all of them: in one engine. */
async function growth(report: Report): Promise<void> {
  const subjects: readonly Subject[] = [
    hypercalls({ irqs: FEW_IRQS }),
    hypercalls({ irqs: MANY_IRQS }),
    besideIdleVms(FEW_VMS),
    besideIdleVms(MANY_VMS),
  ];
  report.print(`\nan HVC, which enters and leaves the vgic with nothing in flight`);
  for (const { guest } of subjects) guest.boot();
  const times = await measure(subjects.map((it) => (ms) => stretch(it, ms)));
  const [few, many, one, all] = times as [number, number, number, number];
  const row = (name: string, ratio: number) =>
    report.figure({ name, value: ratio, unit: "x", must: { most: 1.05 } });
  row("960 shared interrupts to 32", many / few);
  row(`beside ${MANY_VMS} idle VMs to beside ${FEW_VMS}`, all / one);
}

export const exits: Bench = {
  name: "exits",
  run: async (report: Report) => {
    await costs(report);
    await growth(report);
  },
};
