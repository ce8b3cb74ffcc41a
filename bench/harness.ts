/**
 * Measuring by interleaved rounds: every contender runs once in each round, so that what else the
 * computer does hits all of them alike, and the medians are given as ratios to the first.
 */

/** One thing to be timed. */
export interface Contender {
  readonly name: string;
  /** How much work one run does, counted in `unit`: gives a rate. 0 for none. */
  readonly work?: number;
  readonly unit?: string;
  /** Does the work once. Preparation that is not to be timed is the caller's, before. */
  run(): void | Promise<void>;
}

/** A file of benchmarks. */
export interface Bench {
  /** As it is named on the command line. */
  readonly name: string;
  run(report: Report): void | Promise<void>;
}

/** Median time of a contender in ms. */
export interface Timing {
  readonly contender: Contender;
  readonly ms: number;
}

/** The middle of the values, the upper one of two. NaN for none. */
export function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1] ?? NaN;
}

function rate({ contender, ms }: Timing): string {
  if (!contender.work) return "";
  const perSecond = contender.work / (ms / 1000);
  const [scale, prefix] = perSecond >= 1e9
    ? [1e9, "G"]
    : perSecond >= 1e6
    ? [1e6, "M"]
    : perSecond >= 1e3
    ? [1e3, "k"]
    : [1, ""];
  return `${(perSecond / scale).toPrecision(3)} ${prefix}${contender.unit ?? ""}/s`;
}

/** Prints tables of timings. */
export class Report {
  constructor(readonly print: (line: string) => void) {}

  /** Times the contenders in `rounds` rounds, prints a table with ratios to the first, and returns the medians. */
  async compare(
    title: string,
    rounds: number,
    contenders: readonly Contender[],
  ): Promise<Timing[]> {
    const times = contenders.map((): number[] => []);
    for (let round = 0; round < rounds; round++) {
      for (const [i, contender] of contenders.entries()) {
        const start = performance.now();
        await contender.run();
        times[i]?.push(performance.now() - start);
      }
    }
    const timings = contenders.map((contender, i) => ({ contender, ms: median(times[i] ?? []) }));
    this.#table(`${title} (median of ${rounds})`, timings);
    return timings;
  }

  note(text: string): void {
    this.print(`  ${text}`);
  }

  #table(title: string, timings: readonly Timing[]): void {
    const first = timings[0]?.ms ?? NaN;
    this.print("");
    this.print(title);
    for (const timing of timings) {
      const { contender, ms } = timing;
      const ratio = (ms / first).toPrecision(3);
      this.print(
        `  ${contender.name.padEnd(44)} ${ms.toFixed(2).padStart(10)} ms ${ratio.padStart(8)} x  ${
          rate(timing)
        }`,
      );
    }
  }
}

/** Steps of {@link yardstick} in one run. */
const STEPS = 10_000_000;

/** A fixed loop of integer arithmetic in JavaScript: what other timings are ratios of where there is nothing else. */
export function yardstick(): Contender {
  return {
    name: "yardstick: 10 M steps of integer arithmetic",
    run: () => {
      let x = 1;
      for (let i = 0; i < STEPS; i++) x = Math.imul(x ^ (x >>> 15), 0x735a2d97) + i | 0;
      if (x === 0x1234567) throw new Error("never");
    },
  };
}
