/**
 * Recordings: every input from outside with the moment at which it took effect. The machine being
 * deterministic, the same configuration and the same inputs at the same moments give the same run.
 *
 * A file is lines of JSON: first `{"worldswitch": 1, "config": {...}}`, then one line for each
 * input, last `{"end": {"turns": t, "insns": n, "stateHash": "..."}}`.
 */
import { UserError } from "../base/errors.ts";
import { type Command, COMMAND_ARGS, COMMAND_NAMES } from "./command_ring.ts";

/** Bytes for the guest's console. */
export interface ConsoleBytes {
  readonly op: "consoleBytes";
  readonly vm: number;
  /** Two hexadecimal digits a byte. */
  readonly hex: string;
}

/** The bytes of a string of hexadecimal digit pairs. */
export function bytesOfHex(hex: string): Uint8Array {
  return Uint8Array.from(hex.match(/../g) ?? [], (pair) => parseInt(pair, 16));
}

/** Bytes as a string of hexadecimal digit pairs. */
export function hexOfBytes(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export type Input = Command | ConsoleBytes;

/** An input and when it took effect: turns taken and instructions retired by then. */
export interface RecordedInput {
  readonly turns: number;
  readonly insns: number;
  readonly input: Input;
}

/** How the recorded run ended. */
export interface RecordedEnd {
  readonly turns: number;
  readonly insns: number;
  readonly stateHash: string;
}

export interface Recording {
  /** The options that decide the run, as `name: value`. */
  readonly config: Readonly<Record<string, string | number>>;
  readonly inputs: readonly RecordedInput[];
  readonly end: RecordedEnd | undefined;
}

const VERSION = 1;

/** A recording as the text of its file. */
export function writeRecording({ config, inputs, end }: Recording): string {
  const lines: unknown[] = [{ worldswitch: VERSION, config }, ...inputs];
  if (end) lines.push({ end });
  return lines.map((line) => JSON.stringify(line) + "\n").join("");
}

type Json = Readonly<Record<string, unknown>>;

function parseLine(line: string, number: number): Json {
  try {
    const value: unknown = JSON.parse(line);
    if (typeof value === "object" && value !== null) return value as Json;
  } catch {
    // Reported below, as for every other line that is not an object.
  }
  throw new UserError(`recording, line ${number}: not a JSON object`);
}

const isCount = (v: unknown): v is number => Number.isSafeInteger(v) && (v as number) >= 0;

function isInput(v: unknown): v is Input {
  if (typeof v !== "object" || v === null) return false;
  const input = v as Json;
  if (input["op"] === "consoleBytes") {
    return isCount(input["vm"]) && typeof input["hex"] === "string" &&
      /^([0-9a-f]{2})*$/.test(input["hex"]);
  }
  const name = COMMAND_NAMES.find((n) => n === input["op"]);
  return name !== undefined && COMMAND_ARGS[name].every((arg) => isCount(input[arg]));
}

function parseInput(line: Json, number: number): RecordedInput {
  const { turns, insns, input } = line;
  if (!isCount(turns) || !isCount(insns) || !isInput(input)) {
    throw new UserError(`recording, line ${number}: not an input`);
  }
  return { turns, insns, input };
}

function parseEnd(value: unknown, number: number): RecordedEnd {
  const { turns, insns, stateHash } = (value ?? {}) as Json;
  if (!isCount(turns) || !isCount(insns) || typeof stateHash !== "string") {
    throw new UserError(`recording, line ${number}: not an end`);
  }
  return { turns, insns, stateHash };
}

/** The recording in a file's text. UserError naming the line for anything else. */
export function parseRecording(text: string): Recording {
  const [first, ...rest] = text.split("\n").filter((line) => line !== "").map((line, i) =>
    parseLine(line, i + 1)
  );
  if (first?.["worldswitch"] !== VERSION || typeof first["config"] !== "object") {
    throw new UserError(`not a recording of version ${VERSION}`);
  }
  const last = rest.at(-1);
  const end = last && "end" in last ? parseEnd(last["end"], rest.length + 1) : undefined;
  const inputs = (end ? rest.slice(0, -1) : rest).map((line, i) => parseInput(line, i + 2));
  return { config: first["config"] as Recording["config"], inputs, end };
}
