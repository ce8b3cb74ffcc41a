/**
 * Records fixtures/vectors: makes cases from the instruction rows, runs them with recorder.c under
 * qemu-aarch64, and writes what changed.
 *
 *   aarch64-linux-gnu-gcc -O2 -static -o /tmp/recorder tests/differential/recorder/recorder.c
 *   deno run --allow-run --allow-read --allow-write tests/differential/recorder/record.ts /tmp/recorder
 *
 * The files were made with qemu-user 7.2 of Debian 12.
 */
import type { Row } from "../../../src/arm/isa/row.ts";
import { CaseMaker, isRecorded } from "../cases.ts";
import { FAMILIES } from "../families.ts";
import { CODE, emptyState, INITIAL_DATA, type MachineState, resetState, SP } from "../state.ts";
import { type Case, differences, encodeVectors, setRegister, type Vector } from "../vector.ts";

const INPUT_SIZE = 6 * 4 + 32 * 8 + 64 * 8;
const OUTPUT_SIZE = 4 * 4 + 8 + 32 * 8 + 64 * 8 + 8 + 64 * 4;
const SIGNALS: Readonly<Record<number, string>> = { 4: "SIGILL", 5: "SIGTRAP", 7: "SIGBUS" };

function startOf(number: number, made: Case): MachineState {
  const state = emptyState();
  resetState(state, number);
  for (const override of made.overrides) setRegister(state, override);
  return state;
}

function writeInput(file: DataView, at: number, number: number, made: Case): void {
  const state = startOf(number, made);
  const head = [made.words[0] ?? 0, made.words[1] ?? 0, made.words.length];
  [...head, state.nzcv, state.fpcr, state.fpsr].forEach((value, i) =>
    file.setUint32(at + 4 * i, value, true)
  );
  [...state.gpr, ...state.v].forEach((value, i) => file.setBigUint64(at + 24 + 8 * i, value, true));
}

function readOutput(file: DataView, at: number, number: number, made: Case): Vector {
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
  return { ...made, pc: after.pc, ...differences(startOf(number, made), after) };
}

/** Runs the cases; `recorder` is the path of the compiled recorder.c. */
async function run(recorder: string, cases: readonly Case[]): Promise<Vector[]> {
  const input = new Uint8Array(4096 + INPUT_SIZE * cases.length);
  input.set(INITIAL_DATA);
  const inputView = new DataView(input.buffer);
  cases.forEach((made, i) => writeInput(inputView, 4096 + INPUT_SIZE * i, i, made));
  const child = new Deno.Command("qemu-aarch64", {
    args: ["-cpu", "cortex-a57", recorder],
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
  return cases.map((made, i) => readOutput(view, OUTPUT_SIZE * i, i, made));
}

async function record(recorder: string, name: string, rows: readonly Row[]): Promise<void> {
  const maker = new CaseMaker(name.length);
  const cases = rows.filter(isRecorded).flatMap((row) => [...maker.ofRow(row)]);
  const file = encodeVectors(await run(recorder, cases));
  const path = new URL(`../../../fixtures/vectors/${name}.bin`, import.meta.url);
  await Deno.writeFile(path, file);
  console.log(`${name}: ${cases.length} cases, ${file.length} bytes`);
}

const [recorder, only] = Deno.args;
if (recorder === undefined) throw new Error("usage: record.ts RECORDER [FAMILY]");
for (const [name, rows] of Object.entries(FAMILIES)) {
  if (only === undefined || only === name) await record(recorder, name, rows);
}
