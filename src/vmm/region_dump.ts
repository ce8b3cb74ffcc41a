/**
 * `--dump-regions`: a text file for each region as it is translated, so that what has been written is
 * there even when the program breaks; at the end each file gets how often its region was entered, and
 * the directory a list of all, the most entered first.
 */
import { RegionCounts } from "../arm/engine/region_counts.ts";
import { instructionsOf, regionText } from "../arm/engine/region_text.ts";
import type { TranslatedRegion } from "../arm/engine/regions.ts";
import { appendText, requireEmptyDirectory, writeText } from "./files.ts";
import type { Guest } from "./guest.ts";

/** Regions that get files: a run of hours must not fill a disk. */
const MAX_FILES = 20_000;

interface Dumped {
  readonly file: string;
  readonly number: number;
  readonly va: bigint;
  readonly insns: number;
}

export class RegionDump {
  readonly #counts = new RegionCounts();
  readonly #dumped: Dumped[] = [];
  #more = 0;

  /** Writes what `guest` translates from now on into `directory`. UserError unless that is empty or new. */
  constructor(readonly guest: Guest, readonly directory: string) {
    requireEmptyDirectory(directory);
    guest.machine.interpreter.regions.onTranslated = (region) => this.#take(region);
  }

  #take(region: TranslatedRegion): CallableFunction {
    if (this.#dumped.length === MAX_FILES) {
      this.#more++;
      return region.run;
    }
    const { run, number } = this.#counts.counted(region.run);
    const { va, pa } = region;
    const file = `${`${this.#dumped.length}`.padStart(5, "0")}-${va.toString(16)}.txt`;
    this.#dumped.push({ file, number, va, insns: instructionsOf(region) });
    writeText(`${this.directory}/${file}`, regionText(region, this.guest.guestPhysical(pa)));
    return run;
  }

  /** Writes the counts. To be called once, at the end. */
  finish(): void {
    const rows = this.#dumped.map((it) => ({ ...it, entered: this.#counts.of(it.number) }));
    for (const { file, entered } of rows) {
      appendText(`${this.directory}/${file}`, `entered ${entered} times\n`);
    }
    const lines = rows.toSorted((a, b) => b.entered - a.entered).map((
      { file, va, insns, entered },
    ) => `${entered}\t${insns}\t0x${va.toString(16)}\t${file}`);
    if (this.#more > 0) lines.push(`and ${this.#more} more that were not written`);
    const head = "entered\tinstructions\tvirtual address\tfile";
    writeText(`${this.directory}/regions.tsv`, [head, ...lines, ""].join("\n"));
  }
}
