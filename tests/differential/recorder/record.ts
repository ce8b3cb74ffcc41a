/**
 * Records fixtures/vectors: makes cases from the instruction rows, runs them with recorder.c under
 * qemu-aarch64, and writes what changed.
 *
 *   aarch64-linux-gnu-gcc -O2 -static -o recorder tests/differential/recorder/recorder.c
 *   deno run --allow-run --allow-read --allow-write tests/differential/recorder/record.ts ./recorder
 *
 * The files were made with qemu-user 7.2 of Debian 12.
 */
import { CaseMaker, isRecorded } from "../cases.ts";
import { FAMILIES, type FamilySpec } from "../families.ts";
import {
  CODE,
  emptyState,
  INITIAL_DATA,
  type MachineState,
  type Operands,
  resetState,
  SP,
} from "../state.ts";
import { type Case, differences, encodeVectors, setRegister, type Vector } from "../vector.ts";

const INPUT_SIZE = 6 * 4 + 32 * 8 + 64 * 8;
const OUTPUT_SIZE = 4 * 4 + 8 + 32 * 8 + 64 * 8 + 8 + 64 * 4;
const SIGNALS: Readonly<Record<number, string>> = { 4: "SIGILL", 5: "SIGTRAP", 7: "SIGBUS" };

/** A case with what its initial state is made from. */
interface Numbered {
  readonly number: number;
  readonly operands: Operands;
  readonly made: Case;
}

function startOf({ number, operands, made }: Numbered): MachineState {
  const state = emptyState();
  resetState(state, number, operands);
  for (const override of made.overrides) setRegister(state, override);
  return state;
}

function writeInput(file: DataView, at: number, numbered: Numbered): void {
  const state = startOf(numbered);
  const { made } = numbered;
  const head = [made.words[0] ?? 0, made.words[1] ?? 0, made.words.length];
  [...head, state.nzcv, state.fpcr, state.fpsr].forEach((value, i) =>
    file.setUint32(at + 4 * i, value, true)
  );
  [...state.gpr, ...state.v].forEach((value, i) => file.setBigUint64(at + 24 + 8 * i, value, true));
}

function readOutput(file: DataView, at: number, numbered: Numbered): Vector {
  const { number, made } = numbered;
  const after = emptyState();
  const word = (offset: number) => file.getUint32(at + offset, true);
  const long = (offset: number) => file.getBigUint64(at + offset, true);
  const signal = word(0);
  after.pc = Number(long(16));
  if (SIGNALS[signal] !== "SIGTRAP" && after.pc >= CODE && after.pc < CODE + 8) {
    const words = made.words.map((w) => w.toString(16)).join(" ");
    throw new Error(`case ${number} (${words}): ${SIGNALS[signal] ?? `signal ${signal}`}`);
  }
  [after.nzcv, after.fpcr, after.fpsr] = [word(4), word(8), word(12)];
  for (let i = 0; i < 31; i++) after.gpr[i] = long(24 + 8 * i);
  after.gpr[SP] = long(24 + 8 * 31);
  for (let i = 0; i < 64; i++) after.v[i] = long(280 + 8 * i);
  after.data.set(INITIAL_DATA);
  for (let i = 0; i < word(792); i++) {
    after.data[file.getUint16(at + 800 + 4 * i, true)] = file.getUint8(at + 802 + 4 * i);
  }
  return { ...made, pc: after.pc, ...differences(startOf(numbered), after) };
}

/** Runs the cases; `recorder` is the path of the compiled recorder.c. */
async function run(recorder: string, cpu: string, cases: readonly Numbered[]): Promise<Vector[]> {
  const input = new Uint8Array(4096 + INPUT_SIZE * cases.length);
  input.set(INITIAL_DATA);
  const inputView = new DataView(input.buffer);
  cases.forEach((made, i) => writeInput(inputView, 4096 + INPUT_SIZE * i, made));
  const child = new Deno.Command("qemu-aarch64", {
    // With SVE the vector registers of a signal frame are not where recorder.c puts them.
    args: ["-cpu", cpu === "max" ? "max,sve=off" : cpu, recorder],
    stdin: "piped",
    stdout: "piped",
  }).spawn();
  const output = child.output();
  const writer = child.stdin.getWriter();
  await writer.write(input);
  await writer.close();
  const { stdout } = await output;
  if (stdout.length !== OUTPUT_SIZE * cases.length) {
    throw new Error(`${stdout.length / OUTPUT_SIZE} results of ${cases.length} cases`);
  }
  const view = new DataView(stdout.buffer, stdout.byteOffset);
  return cases.map((made, i) => readOutput(view, OUTPUT_SIZE * i, made));
}

/** Cases in one run of the recorder: each takes 2 KB of memory on the way. */
const BATCH = 20_000;

async function record(recorder: string, name: string, spec: FamilySpec): Promise<void> {
  const { rows, operands, cases, cpu } = spec;
  const maker = new CaseMaker(name.length, operands);
  const made = rows.filter(isRecorded).flatMap((row) => [...maker.ofRow(row, cases)])
    .map((made, number): Numbered => ({ number, operands, made }));
  const vectors: Vector[] = [];
  for (let from = 0; from < made.length; from += BATCH) {
    vectors.push(...await run(recorder, cpu, made.slice(from, from + BATCH)));
  }
  const stream = new Blob([encodeVectors(vectors)]).stream()
    .pipeThrough(new CompressionStream("gzip"));
  const file = new Uint8Array(await new Response(stream).arrayBuffer());
  await Deno.writeFile(
    new URL(`../../../fixtures/vectors/${name}.bin.gz`, import.meta.url),
    file,
  );
  console.log(`${name}: ${made.length} cases, ${file.length} bytes`);
}

const [recorder, ...only] = Deno.args;
if (recorder === undefined) throw new Error("usage: record.ts RECORDER [FAMILY...]");
for (const [name, spec] of Object.entries(FAMILIES)) {
  if (only.length === 0 || only.includes(name)) await record(recorder, name, spec);
}
