/**
 * `deno task bench [NAME...] [--rounds N] [--json FILE]`: prints what things cost, of which benchmark
 * the names say. All figures of a table are of one run, medians of interleaved rounds: compare ratios,
 * not milliseconds. With `--json` all figures go to the file as well, as `BenchJson` (harness.ts); with
 * `--json -` to standard output, and the tables to standard error. The exit code is 1 when a benchmark
 * could not be run to its end, and has nothing to do with what it found. To add a benchmark write a file that
 * exports a `Bench` and put it into the list.
 */
import { dashboard } from "./dashboard.ts";
import { engine } from "./engine.ts";
import { exits } from "./exits.ts";
import { type Bench, type BenchJson, Report } from "./harness.ts";
import { hostFacts } from "./host_facts.ts";
import { linux } from "./linux.ts";
import { parallel } from "./parallel.ts";
import { programs } from "./programs.ts";
import { state } from "./state.ts";

const BENCHES: readonly Bench[] = [programs, linux, exits, parallel, dashboard, engine, state];

interface Arguments {
  readonly names: readonly string[];
  readonly rounds: number | undefined;
  readonly json: string | undefined;
}

function fail(why: string): never {
  console.error(why);
  Deno.exit(2);
}

function parse(args: readonly string[]): Arguments {
  const names: string[] = [];
  let rounds: number | undefined, json: string | undefined;
  for (let i = 0; i < args.length; i++) {
    const arg = args[i] ?? "";
    if (arg === "--rounds") {
      rounds = Number(args[++i]);
      if (!Number.isInteger(rounds) || rounds < 1) fail("--rounds: a whole number from 1");
    } else if (arg === "--json") {
      json = args[++i];
      if (json === undefined) fail("--json: a file, or - for standard output");
    } else if (BENCHES.some((bench) => bench.name === arg)) names.push(arg);
    else fail(`no benchmark ${arg}: ${BENCHES.map((b) => b.name).join(", ")}`);
  }
  return { names, rounds, json };
}

const { names, rounds, json } = parse(Deno.args);
const print = json === "-" ? console.error : console.log;
const report = new Report((line) => print(line), rounds);
const host = await hostFacts();
print(
  `${host.cores} cores, Deno ${host.deno}, QEMU ${host.qemu ?? "none"}, commit ${
    host.commit ?? "unknown"
  }${host.modified ? " and changes" : ""}`,
);
let failed = false;
for (const bench of BENCHES) {
  if (names.length > 0 && !names.includes(bench.name)) continue;
  report.begin(bench.name);
  try {
    await bench.run(report);
  } catch (error) {
    // The others' figures are not to be lost.
    failed = true;
    report.note(`failed: ${error instanceof Error ? error.message : error}`);
  }
}
const all: BenchJson = { schema: 1, host, benches: report.results };
const text = JSON.stringify(all, null, 2);
if (json === "-") console.log(text);
else if (json !== undefined) Deno.writeTextFileSync(json, text + "\n");
if (failed) Deno.exit(1);
