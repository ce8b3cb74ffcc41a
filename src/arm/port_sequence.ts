/**
 * Sequences of operations at the port that software at EL2 always does together, between registers and
 * memory, as data: `El2Port.run` does them one by one, or, once they are hot, by WebAssembly made of them
 * (el2_sequence.ts). They count, cost and are logged as the same operations done alone.
 */
import { assert } from "../base/errors.ts";
import { K, READ, RESTORE, SAVE, WRITE } from "./port_operations.ts";

/** A place in memory: byte `offset` from the address that argument `arg` of the run is. */
export interface At {
  readonly arg: number;
  readonly offset: number;
}

/** Half of a register's value: a constant, or an argument of the run. */
export type Half = number | { readonly arg: number };

type Out = "save" | "readLow" | "readWord";
type In = "restore" | "load";

interface OfKind {
  /** How it counts: a number of port_operations.ts. */
  readonly kind: number;
}
interface OfRegister extends OfKind {
  readonly reg: number;
}

/** An operation that reads a register. */
export type ReadStep =
  | OfRegister & { readonly step: Out; readonly at: At }
  | OfRegister & {
    readonly step: "saveUnless";
    readonly bit: number;
    readonly at: At;
    readonly clear: number;
  }
  | OfRegister & { readonly step: "look" }
  | OfRegister & { readonly step: "tell"; readonly mask: number };

/** An operation that writes one; "change" follows the "look" at its register. */
export type WriteStep =
  | OfRegister & { readonly step: In; readonly at: At }
  | OfRegister & { readonly step: "loadWord"; readonly at: At; readonly clear: number }
  | OfRegister & { readonly step: "write"; readonly lo: Half; readonly hi: Half }
  | OfRegister & { readonly step: "change"; readonly clear: number; readonly set: number };

/** One operation. */
export type SequenceStep =
  | OfKind & { readonly step: "trap" | "isb" | "irqDisable" }
  | OfKind & { readonly step: "saveGprs" | "restoreGprs"; readonly at: At }
  | ReadStep
  | WriteStep;

/** Arguments of a run, at most. */
export const SEQUENCE_ARGS = 4;

/** Operations in their order, at most {@link SEQUENCE_ARGS} arguments. */
export interface Sequence {
  /** Numbers all sequences there are. */
  readonly id: number;
  readonly steps: readonly SequenceStep[];
}

/** Sequences there can be. */
export const MAX_SEQUENCES = 512;
let sequences = 0;

/** Makes a sequence: once for each there is, never while a machine runs. */
export function sequence(...steps: readonly (SequenceStep | readonly SequenceStep[])[]): Sequence {
  assert(sequences < MAX_SEQUENCES, "sequences are made once for each there is");
  return { id: sequences++, steps: steps.flat() };
}

/** The place `offset` bytes from argument `arg`, or from argument 0. */
export function at(offset: number, arg = 0): At {
  return { arg, offset };
}

function read(step: Out, kinds: Uint8Array, reg: number, at: At): SequenceStep {
  return { step, kind: kinds[reg] as number, reg, at };
}

function write(step: In, kinds: Uint8Array, reg: number, at: At): SequenceStep {
  return { step, kind: kinds[reg] as number, reg, at };
}

/** The operations there are. */
export const STEP = {
  /** The CPU has arrived from a guest. */
  trap: (): SequenceStep => ({ step: "trap", kind: K.trap }),
  isb: (): SequenceStep => ({ step: "isb", kind: K.isb }),
  /** Masks interrupts. */
  irqDisable: (): SequenceStep => ({ step: "irqDisable", kind: K.interruptMask }),
  /** X0 to X30 to 31 words, and from there. */
  saveGprs: (at: At): SequenceStep => ({ step: "saveGprs", kind: K.gprSave, at }),
  restoreGprs: (at: At): SequenceStep => ({ step: "restoreGprs", kind: K.gprRestore, at }),
  /** A register to a 64-bit word, and from there. */
  save: (reg: number, at: At): SequenceStep => read("save", SAVE, reg, at),
  restore: (reg: number, at: At): SequenceStep => write("restore", RESTORE, reg, at),
  /**
   * The same to a 64-bit word, unless bit `bit` of what was told last is set: then nothing is read, and the word
   * only loses bits `clear` of its bits 63 to 32.
   */
  saveUnless: (bit: number, reg: number, at: At, clear: number): SequenceStep => (
    { step: "saveUnless", kind: SAVE[reg] as number, reg, bit, at, clear }
  ),
  /** A write of what a 64-bit word holds: it counts as a write of a value at hand. */
  load: (reg: number, at: At): SequenceStep => write("load", WRITE, reg, at),
  /** The same of what a 32-bit word holds, without bits `clear`, and a read into one. */
  loadWord: (reg: number, at: At, clear = 0): SequenceStep => (
    { step: "loadWord", kind: WRITE[reg] as number, reg, at, clear }
  ),
  readWord: (reg: number, at: At): SequenceStep => read("readWord", READ, reg, at),
  /** A read of what need not be kept. */
  look: (reg: number): SequenceStep => ({ step: "look", kind: READ[reg] as number, reg }),
  /** A read of bits 31 to 0 of which those of `mask` are for {@link STEP.saveUnless} to know. */
  tell: (reg: number, mask: number): SequenceStep => (
    { step: "tell", kind: READ[reg] as number, reg, mask }
  ),
  /** A read of a register of 32 bits, and a write of that without bits `clear` and with `set`. */
  change: (reg: number, clear: number, set: number): readonly SequenceStep[] => [
    { step: "look", kind: READ[reg] as number, reg },
    { step: "change", kind: WRITE[reg] as number, reg, clear, set },
  ],
  /** A read of bits 31 to 0, into a 64-bit word. */
  readLow: (reg: number, at: At): SequenceStep => read("readLow", READ, reg, at),
  /** A write of a value by its halves. */
  write: (reg: number, lo: Half, hi: Half = 0): SequenceStep => (
    { step: "write", kind: WRITE[reg] as number, reg, lo, hi }
  ),
} as const;
