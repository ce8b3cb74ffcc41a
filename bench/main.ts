/**
 * `deno task bench [NAME...]`: prints what things cost. All figures of a table are of one run, medians
 * of interleaved rounds, as ratios to the table's first line; compare ratios, not milliseconds. To add
 * a benchmark write a file that exports a `Bench` and put it into the list.
 */
import { dashboard } from "./dashboard.ts";
import { engine } from "./engine.ts";
import { exits } from "./exits.ts";
import { type Bench, Report } from "./harness.ts";
import { programs } from "./programs.ts";
import { state } from "./state.ts";

const BENCHES: readonly Bench[] = [engine, exits, state, programs, dashboard];

const names = Deno.args;
const unknown = names.filter((name) => BENCHES.every((bench) => bench.name !== name));
if (unknown.length > 0) {
  console.error(`no benchmark ${unknown[0]}: ${BENCHES.map((b) => b.name).join(", ")}`);
  Deno.exit(2);
}
const report = new Report((line) => console.log(line));
for (const bench of BENCHES) {
  if (names.length === 0 || names.includes(bench.name)) await bench.run(report);
}
