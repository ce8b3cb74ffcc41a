/**
 * The recorded vectors: for each case its instructions, what of its initial state is not made from
 * its number, and what was different afterwards.
 *
 * File: u32 number of cases, then the cases in order, little-endian. A case: u8 count of words, u8
 * count of overrides, u8 count of changed registers, u8 count of changed bytes, i32 pc afterwards
 * from CODE, the words (u32), the overrides and changed registers (u8 register, u64 value), the
 * changed bytes (u16 offset, u8 value).
 */
import { CODE, fillFloats, type FloatBits, type MachineState } from "./state.ts";

/**
 * Register numbers in a vector: 0 to 30, 31 is SP, then the halves of V0 to V31, then these. FLOATS as
 * an override fills all V registers with special numbers: of the width in its low 8 bits, made from
 * what is above them.
 */
export const REGISTER = { V: 32, NZCV: 96, FPCR: 97, FPSR: 98, FLOATS: 99 } as const;

export type RegisterValue = readonly [register: number, value: bigint];
export type ByteValue = readonly [offset: number, value: number];

/** A case without its results. Its number is its position in the file. */
export interface Case {
  readonly words: readonly number[];
  readonly overrides: readonly RegisterValue[];
}

/** A case with its results: what differs from the initial state. */
export interface Vector extends Case {
  readonly pc: number;
  readonly registers: readonly RegisterValue[];
  readonly bytes: readonly ByteValue[];
}

/** Sets one register of `state` by its number in a vector. */
export function setRegister(state: MachineState, [register, value]: RegisterValue): void {
  if (register < REGISTER.V) state.gpr[register] = value;
  else if (register < REGISTER.NZCV) state.v[register - REGISTER.V] = value;
  else if (register === REGISTER.NZCV) state.nzcv = Number(value);
  else if (register === REGISTER.FPCR) state.fpcr = Number(value);
  else if (register === REGISTER.FLOATS) {
    fillFloats(state.v, Number(value & 0xffn) as FloatBits, Number(value >> 8n));
  } else state.fpsr = Number(value);
}

/** Makes `state` what it must be after the case, from what it was before it. */
export function applyResult(state: MachineState, vector: Vector): void {
  for (const register of vector.registers) setRegister(state, register);
  for (const [offset, value] of vector.bytes) state.data[offset] = value;
  state.pc = vector.pc;
}

/** The differences between two states, as a vector holds them. */
export function differences(
  before: MachineState,
  after: MachineState,
): Pick<Vector, "registers" | "bytes"> {
  const registers: RegisterValue[] = [];
  const note = (register: number, was: bigint | number, is: bigint | number) => {
    if (was !== is) registers.push([register, BigInt(is)]);
  };
  before.gpr.forEach((value, i) => note(i, value, after.gpr[i] as bigint));
  before.v.forEach((value, i) => note(REGISTER.V + i, value, after.v[i] as bigint));
  note(REGISTER.NZCV, before.nzcv, after.nzcv);
  note(REGISTER.FPCR, before.fpcr, after.fpcr);
  note(REGISTER.FPSR, before.fpsr, after.fpsr);
  const bytes: ByteValue[] = [];
  before.data.forEach((value, i) => {
    if (value !== after.data[i]) bytes.push([i, after.data[i] as number]);
  });
  return { registers, bytes };
}

/** The file's bytes. */
export function encodeVectors(vectors: readonly Vector[]): Uint8Array<ArrayBuffer> {
  const size = vectors.reduce(
    (sum, v) =>
      sum + 8 + 4 * v.words.length + 9 * (v.overrides.length + v.registers.length) +
      3 * v.bytes.length,
    4,
  );
  const out = new Uint8Array(size);
  const view = new DataView(out.buffer);
  let at = 4;
  view.setUint32(0, vectors.length, true);
  for (const v of vectors) {
    out.set([v.words.length, v.overrides.length, v.registers.length, v.bytes.length], at);
    view.setInt32(at + 4, v.pc - CODE, true);
    at += 8;
    for (const word of v.words) {
      view.setUint32(at, word, true);
      at += 4;
    }
    for (const [register, value] of [...v.overrides, ...v.registers]) {
      out[at] = register;
      view.setBigUint64(at + 1, value, true);
      at += 9;
    }
    for (const [offset, value] of v.bytes) {
      view.setUint16(at, offset, true);
      out[at + 2] = value;
      at += 3;
    }
  }
  return out;
}

/** The cases of a file, in order. */
export function* decodeVectors(file: Uint8Array): Generator<Vector> {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  let at = 4;
  const byte = () => view.getUint8(at++);
  const word = () => view.getUint32((at += 4) - 4, true);
  const register = (): RegisterValue => [byte(), view.getBigUint64((at += 8) - 8, true)];
  const changed = (): ByteValue => [view.getUint16((at += 2) - 2, true), byte()];
  const list = <T>(count: number, item: () => T): T[] => {
    const items: T[] = [];
    for (let i = 0; i < count; i++) items.push(item());
    return items;
  };
  for (let left = view.getUint32(0, true); left > 0; left--) {
    const [words, overrides, registers, bytes] = [byte(), byte(), byte(), byte()];
    const pc = CODE + (word() | 0);
    yield {
      words: list(words, word),
      overrides: list(overrides, register),
      pc,
      registers: list(registers, register),
      bytes: list(bytes, changed),
    };
  }
}
