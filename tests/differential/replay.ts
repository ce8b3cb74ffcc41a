/** Replays recorded vectors on a driver. */
import type { Driver } from "./driver.ts";
import {
  CODE,
  copyState,
  emptyState,
  type MachineState,
  type Operands,
  resetState,
} from "./state.ts";
import {
  applyResult,
  type Case,
  decodeVectors,
  REGISTER,
  setRegister,
  type Vector,
} from "./vector.ts";

/** How many cases failed, and what the first ones were. */
export interface Replay {
  readonly cases: number;
  readonly failures: number;
  readonly first: readonly string[];
}

const MAX_REPORTS = 10;

function registerName(register: number): string {
  if (register < 31) return `x${register}`;
  if (register === 31) return "sp";
  if (register >= REGISTER.NZCV) return ["nzcv", "fpcr", "fpsr"][register - REGISTER.NZCV] ?? "?";
  return `v${(register - REGISTER.V) >> 1}.d[${register & 1}]`;
}

function sameBytes(a: ArrayBufferView, b: ArrayBufferView): boolean {
  const [x, y] = [a, b].map((v) => new Int32Array(v.buffer, v.byteOffset, v.byteLength / 4)) as [
    Int32Array,
    Int32Array,
  ];
  for (let i = 0; i < x.length; i++) if (x[i] !== y[i]) return false;
  return true;
}

/** What is not as expected: `x1 is 0x5, not 0x6`. */
export function mismatches(expected: MachineState, actual: MachineState): string[] {
  const out: string[] = [];
  const compare = (name: string, is: bigint | number, not: bigint | number) => {
    if (is !== not) out.push(`${name} is 0x${is.toString(16)}, not 0x${not.toString(16)}`);
  };
  compare("pc", actual.pc, expected.pc);
  compare("nzcv", actual.nzcv, expected.nzcv);
  compare("fpcr", actual.fpcr, expected.fpcr);
  compare("fpsr", actual.fpsr, expected.fpsr);
  for (const [kind, from] of [["gpr", 0], ["v", REGISTER.V]] as const) {
    if (sameBytes(actual[kind], expected[kind])) continue;
    expected[kind].forEach((value, i) =>
      compare(registerName(from + i), actual[kind][i] as bigint, value)
    );
  }
  if (sameBytes(actual.data, expected.data)) return out;
  for (let i = 0; i < expected.data.length; i++) {
    if (actual.data[i] !== expected.data[i]) {
      compare(`byte ${i}`, actual.data[i] as number, expected.data[i] as number);
    }
  }
  return out;
}

/** Puts the state that case `number` starts from into `state`. */
export function prepare(
  state: MachineState,
  number: number,
  operands: Operands,
  made: Case,
): void {
  resetState(state, number, operands);
  for (const override of made.overrides) setRegister(state, override);
}

function check(
  driver: Driver,
  vector: Vector,
  actual: MachineState,
  expected: MachineState,
): string[] {
  try {
    driver.run(vector.words, actual);
  } catch (e) {
    return [String(e)];
  }
  applyResult(expected, vector);
  return mismatches(expected, actual);
}

/** Replays all cases of `file`, made with `operands`, of which `accept` (if given) says so, looking at the state before. */
export function replay(
  driver: Driver,
  file: Uint8Array,
  operands: Operands,
  accept: (vector: Vector, before: MachineState) => boolean = () => true,
): Replay {
  const [actual, expected] = [emptyState(), emptyState()];
  const first: string[] = [];
  let cases = 0, failures = 0, number = 0;
  for (const vector of decodeVectors(file)) {
    const current = number++;
    prepare(actual, current, operands, vector);
    if (!accept(vector, actual)) continue;
    cases++;
    copyState(actual, expected);
    const wrong = check(driver, vector, actual, expected);
    if (wrong.length === 0) continue;
    failures++;
    if (first.length < MAX_REPORTS) {
      const words = vector.words.map((w) => w.toString(16).padStart(8, "0")).join(" ");
      first.push(`case ${current} (${words} at 0x${CODE.toString(16)}): ${wrong.join("; ")}`);
    }
  }
  return { cases, failures, first };
}
