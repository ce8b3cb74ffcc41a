/**
 * Sequences of operations at the port that software at EL2 always does together, between registers and
 * memory, as data: `El2Port.run` does them one by one, or, once they are hot, by WebAssembly made of them
 * (el2_sequence.ts). They count, cost and are logged as the same operations done alone.
 */
import { K, READ, RESTORE, SAVE, WRITE } from "./port_operations.ts";

/** A place in memory: byte `offset` from the address that argument `arg` of the run is. */
export interface At {
  readonly arg: number;
  readonly offset: number;
}

/** Half of a register's value: a constant, or an argument of the run. */
export type Half = number | { readonly arg: number };

type Move = "save" | "restore" | "load" | "readLow";

/** One operation. `kind`: how it counts, a number of port_operations.ts. */
export type SequenceStep =
  & { readonly kind: number }
  & (
    | { readonly step: "trap" }
    | { readonly step: "saveGprs" | "restoreGprs"; readonly at: At }
    | { readonly step: Move; readonly reg: number; readonly at: At }
    | { readonly step: "write"; readonly reg: number; readonly lo: Half; readonly hi: Half }
  );

/** Arguments of a run, at most. */
export const SEQUENCE_ARGS = 4;

/** Operations in their order, at most {@link SEQUENCE_ARGS} arguments. */
export interface Sequence {
  /** Numbers all sequences there are. */
  readonly id: number;
  readonly steps: readonly SequenceStep[];
}

let sequences = 0;

/** Makes a sequence: once for each there is, never while a machine runs. */
export function sequence(...steps: readonly (SequenceStep | readonly SequenceStep[])[]): Sequence {
  return { id: sequences++, steps: steps.flat() };
}

/** The place `offset` bytes from argument `arg`, or from argument 0. */
export function at(offset: number, arg = 0): At {
  return { arg, offset };
}

function move(step: Move, kinds: Uint8Array, reg: number, at: At): SequenceStep {
  return { step, kind: kinds[reg] as number, reg, at };
}

/** The operations there are. */
export const STEP = {
  /** The CPU has arrived from a guest. */
  trap: (): SequenceStep => ({ step: "trap", kind: K.trap }),
  /** X0 to X30 to 31 words, and from there. */
  saveGprs: (at: At): SequenceStep => ({ step: "saveGprs", kind: K.gprSave, at }),
  restoreGprs: (at: At): SequenceStep => ({ step: "restoreGprs", kind: K.gprRestore, at }),
  /** A register to a 64-bit word, and from there. */
  save: (reg: number, at: At): SequenceStep => move("save", SAVE, reg, at),
  restore: (reg: number, at: At): SequenceStep => move("restore", RESTORE, reg, at),
  /** A write of what a 64-bit word holds: it counts as a write of a value at hand. */
  load: (reg: number, at: At): SequenceStep => move("load", WRITE, reg, at),
  /** A read of bits 31 to 0, into a 64-bit word. */
  readLow: (reg: number, at: At): SequenceStep => move("readLow", READ, reg, at),
  /** A write of a value by its halves. */
  write: (reg: number, lo: Half, hi: Half = 0): SequenceStep => (
    { step: "write", kind: WRITE[reg] as number, reg, lo, hi }
  ),
} as const;
