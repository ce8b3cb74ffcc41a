/**
 * Measuring by interleaved rounds: every contender runs once in each round, so that what else the
 * computer does hits all of them alike, and the medians are compared. Figures that have something to
 * reach are printed with it and with a verdict. Everything is kept for `--json` as well.
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

/** Median time of a contender in ms, and the times of all rounds. */
export interface Timing {
  readonly contender: Contender;
  readonly ms: number;
  readonly all: readonly number[];
}

/** A bound that a figure is to keep: at most, or at least. */
export interface Bound {
  readonly most?: number;
  readonly least?: number;
}

/** A figure with what it must and what it is to reach. */
export interface Figure {
  readonly name: string;
  readonly value: number;
  readonly unit: string;
  readonly must?: Bound;
  readonly aim?: Bound;
}

/** `--json`: all that was measured. Schema version 1. */
export interface BenchJson {
  readonly schema: 1;
  readonly host: HostFacts;
  readonly benches: readonly BenchResult[];
}

/** The computer and the programs. `null` where it could not be found out. */
export interface HostFacts {
  /** Start of the run, ISO 8601. */
  readonly date: string;
  readonly cores: number;
  readonly cpu: string | null;
  readonly os: string;
  readonly deno: string;
  readonly v8: string;
  readonly qemu: string | null;
  readonly gcc: string | null;
  readonly commit: string | null;
  /** Whether the work tree had changes that are not in the commit. */
  readonly modified: boolean | null;
}

export interface BenchResult {
  readonly name: string;
  readonly tables: readonly {
    readonly title: string;
    readonly rounds: number;
    /** `ms`: the median; `all`: each round's. `work` in `unit`, if there is any, is what one run did. */
    readonly rows: readonly {
      readonly name: string;
      readonly ms: number;
      readonly all: readonly number[];
      readonly work?: number;
      readonly unit?: string;
    }[];
  }[];
  readonly figures: readonly (Figure & {
    /** Absent where there is nothing to reach. */
    readonly mustReached?: boolean;
    readonly aimReached?: boolean;
  })[];
  readonly notes: readonly string[];
}

type Open<T> = { -readonly [K in keyof T]: T[K] extends readonly (infer E)[] ? E[] : T[K] };

/** The middle of the values, the upper one of two. NaN for none. */
export function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1] ?? NaN;
}

/** NaN for none. */
export function geometricMean(values: readonly number[]): number {
  return Math.exp(values.reduce((sum, v) => sum + Math.log(v), 0) / values.length);
}

/** Whether `value` keeps the bound; undefined without one. A value that is not a number keeps none. */
export function keeps(value: number, bound: Bound | undefined): boolean | undefined {
  if (bound === undefined) return undefined;
  const { most = Infinity, least = -Infinity } = bound;
  return value <= most && value >= least;
}

/** Three digits, or all of a whole number that has more. */
function threeDigits(value: number): string {
  return Math.abs(value) >= 1000 ? value.toFixed(0) : value.toPrecision(3);
}

function boundText(word: string, value: number, bound: Bound | undefined): string {
  if (bound === undefined) return "";
  const wanted = bound.most === undefined ? `>= ${bound.least}` : `<= ${bound.most}`;
  return `${word} ${wanted} ${keeps(value, bound) ? "reached" : "MISSED"}`;
}

/** A bound and its verdict, for a cell: `0.9 MISSED`. */
export function verdict(value: number, bound: Bound): string {
  return `${bound.most ?? bound.least} ${keeps(value, bound) ? "reached" : "MISSED"}`;
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

/** Runs the contenders in interleaved rounds and returns their times, in the contenders' order. */
export async function measure(
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
  return contenders.map((contender, i) => {
    const all = times[i] ?? [];
    return { contender, ms: median(all), all };
  });
}

/** Prints tables and figures, and keeps them. */
export class Report {
  readonly results: BenchResult[] = [];
  #current: Open<BenchResult> = { name: "", tables: [], figures: [], notes: [] };

  /** `rounds`: of tables that do not need more or fewer. */
  constructor(readonly print: (line: string) => void, readonly rounds = 5) {}

  /** What comes next belongs to the benchmark `name`. */
  begin(name: string): void {
    this.#current = { name, tables: [], figures: [], notes: [] };
    this.results.push(this.#current);
  }

  /** Times the contenders in `rounds` rounds, prints a table with ratios to the first, and returns the medians. */
  async compare(
    title: string,
    rounds: number,
    contenders: readonly Contender[],
  ): Promise<Timing[]> {
    const timings = await measure(rounds, contenders);
    this.keep(title, rounds, timings);
    this.#table(`${title} (median of ${rounds})`, timings);
    return timings;
  }

  /** Keeps timings for `--json` that the caller prints in a form of its own. */
  keep(title: string, rounds: number, timings: readonly Timing[]): void {
    const rows = timings.map(({ contender: { name, work, unit }, ms, all }) => ({
      name,
      ms,
      all,
      ...(work ? { work, unit: unit ?? "" } : {}),
    }));
    this.#current.tables.push({ title, rounds, rows });
  }

  /** Prints a figure beside what it must and is to reach. */
  figure(figure: Figure): void {
    const { name, value, unit, must, aim } = figure;
    this.record(figure);
    const got = `${threeDigits(value)} ${unit.padEnd(4)}`.padStart(16);
    const line = [
      `  ${name.padEnd(52)} ${got}`,
      boundText("must", value, must).padEnd(24),
      boundText("aim", value, aim),
    ];
    this.print(line.join("   ").trimEnd());
  }

  /** Keeps a figure for `--json` that the caller prints in a form of its own. */
  record(figure: Figure): void {
    const mustReached = keeps(figure.value, figure.must);
    const aimReached = keeps(figure.value, figure.aim);
    this.#current.figures.push({
      ...figure,
      ...(mustReached === undefined ? {} : { mustReached }),
      ...(aimReached === undefined ? {} : { aimReached }),
    });
  }

  note(text: string): void {
    this.#current.notes.push(text);
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
