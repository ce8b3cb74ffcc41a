/**
 * Whole programs: the image under our KVM with both stages of translation on, QEMU's TCG running the same
 * image, and the same source compiled for this computer. Times are of whole processes, from the command
 * to its end: start-up and translation are in them. Start-up alone is what an image takes that powers off
 * at once.
 */
import expected from "../fixtures/bench/expected.json" with { type: "json" };
import { type CommandLine, hasQemu, mustPrint, ours, outputOf, qemu } from "./commands.ts";
import {
  type Bound,
  type Contender,
  geometricMean,
  measure,
  type Report,
  type Timing,
  verdict,
} from "./harness.ts";
import type { Bench } from "./harness.ts";

const FIXTURES = new URL("../fixtures/bench/", import.meta.url).pathname;

/** By the names of their sources. */
const PROGRAMS = ["sieve", "sha256", "calls", "dispatch", "bytes", "lists", "floats", "vectors"];
/** Powers off at once. */
const NOTHING = "nothing";

const TO_QEMU = { must: { most: 0.9 }, aim: { most: 0.4 } } as const;
const TO_QEMU_MEAN = { must: { most: 0.6 }, aim: { most: 0.4 } } as const;
const TO_NATIVE_MEAN = { must: { most: 3.5 }, aim: { most: 2 } } as const;

const SIDES = ["ours", "QEMU", "native"] as const;
type Side = (typeof SIDES)[number];

/** Runs the command and sees to it that it printed the program's result. */
function contender(name: string, side: Side, command: CommandLine): Contender {
  const wanted = expected[`${name}.bin` as keyof typeof expected];
  return {
    name: `${name}, ${side}`,
    run: async () => {
      const output = await mustPrint(command);
      if (!output.includes(wanted)) throw new Error(`${name}, ${side}: printed ${output}`);
    },
  };
}

const image = (name: string): string => `${FIXTURES}${name}.bin`;

const onOurs = (name: string): Contender =>
  contender(
    name,
    "ours",
    ours("--kernel", image(name), "--vcpus", "1", "--pcpus", "1", "--memory", "128M"),
  );
const onQemu = (name: string): Contender =>
  contender(name, "QEMU", qemu("-m", "128", "-kernel", image(name)));

/** The program compiled for this computer in `folder`, or undefined without a compiler. */
async function onHost(name: string, folder: string): Promise<Contender | undefined> {
  const file = `${folder}/${name}`;
  const flags = ["-O2", "-ffp-contract=off", "-fno-math-errno"];
  const sources = [`${FIXTURES}host.c`, `${FIXTURES}${name}.c`];
  const built = await outputOf("gcc", [...flags, "-o", file, ...sources]);
  return built === undefined ? undefined : contender(name, "native", [file]);
}

/** Median times of a program; undefined of what is not installed. */
type Row = { readonly name: string } & Readonly<Record<Side, number | undefined>>;

function rowOf(name: string, timings: readonly Timing[]): Row {
  const of = (side: Side) => timings.find((t) => t.contender.name === `${name}, ${side}`)?.ms;
  return { name, ours: of("ours"), QEMU: of("QEMU"), native: of("native") };
}

const ratio = (row: Row, to: Side): number | undefined =>
  row.ours === undefined || row[to] === undefined ? undefined : row.ours / row[to];

const cell = (value: number | undefined, digits: number, width: number): string =>
  (value?.toFixed(digits) ?? "-").padStart(width);

function printRow(report: Report, row: Row): void {
  const [qemuRatio, nativeRatio] = [ratio(row, "QEMU"), ratio(row, "native")];
  const judge = (bound: Bound) => qemuRatio === undefined ? "" : verdict(qemuRatio, bound);
  const cells = [
    `  ${row.name.padEnd(10)}`,
    ...SIDES.map((side) => cell(row[side], 0, 8)),
    cell(qemuRatio, 3, 8),
    judge(TO_QEMU.must).padEnd(12),
    judge(TO_QEMU.aim).padEnd(12),
    cell(nativeRatio, 2, 8),
  ];
  report.print(cells.join("  "));
  if (qemuRatio !== undefined) {
    report.record({ name: `${row.name} / QEMU`, value: qemuRatio, unit: "", ...TO_QEMU });
  }
  if (nativeRatio !== undefined) {
    report.record({ name: `${row.name} / native`, value: nativeRatio, unit: "" });
  }
}

function means(report: Report, rows: readonly Row[]): void {
  const mean = (to: Side) =>
    geometricMean(rows.map((row) => ratio(row, to)).filter((r) => r !== undefined));
  if (rows.some((row) => row.QEMU !== undefined)) {
    const name = "geometric mean / QEMU";
    report.figure({ name, value: mean("QEMU"), unit: "", ...TO_QEMU_MEAN });
  }
  if (rows.some((row) => row.native !== undefined)) {
    const name = "geometric mean / native gcc -O2";
    report.figure({ name, value: mean("native"), unit: "", ...TO_NATIVE_MEAN });
  }
}

/** The same with the time to start taken off: what longer programs come near to. */
function withoutStart(report: Report, rows: readonly Row[], start: Row): void {
  for (const side of ["QEMU", "native"] as const) {
    const ratios = rows.map((row) => {
      const [own, other] = [row.ours, row[side]];
      if (own === undefined || other === undefined) return undefined;
      return (own - (start.ours ?? NaN)) / (other - (start[side] ?? 0));
    }).filter((r) => r !== undefined);
    if (ratios.length === 0) continue;
    const name = `geometric mean / ${side} without start-up`;
    report.figure({ name, value: geometricMean(ratios), unit: "" });
  }
}

async function contenders(folder: string): Promise<Contender[]> {
  const besides = await hasQemu();
  const all: (Contender | undefined)[] = [onOurs(NOTHING)];
  if (besides) all.push(onQemu(NOTHING));
  for (const name of PROGRAMS) {
    all.push(onOurs(name));
    if (besides) all.push(onQemu(name));
    all.push(await onHost(name, folder));
  }
  return all.filter((c) => c !== undefined);
}

export const programs: Bench = {
  name: "programs",
  run: async (report) => {
    const { rounds } = report;
    const title = "programs, whole processes, ms";
    const folder = (await outputOf("mktemp", ["-d"]))?.trim() ?? "";
    const timings = await measure(rounds, await contenders(folder));
    if (folder !== "") await outputOf("rm", ["-r", folder]);
    report.keep(title, rounds, timings);
    report.print(`\n${title} (medians of ${rounds} interleaved rounds)`);
    const heads = ["ours", "QEMU", "native", "/ QEMU"].map((head) => head.padStart(8));
    report.print(
      ["  program   ", ...heads, "must        ", "aim         ", "/ native"].join("  "),
    );
    const rows = PROGRAMS.map((name) => rowOf(name, timings));
    for (const row of rows) printRow(report, row);
    means(report, rows);
    const start = rowOf(NOTHING, timings);
    withoutStart(report, rows, start);
    report.figure({ name: "start-up of ours", value: start.ours ?? NaN, unit: "ms" });
    if (start.QEMU !== undefined) {
      report.figure({ name: "start-up of QEMU", value: start.QEMU, unit: "ms" });
    }
  },
};
