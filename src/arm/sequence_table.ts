/**
 * The functions of all ports' sequences (el2_sequence.ts) behind one: V8 inlines the way into WebAssembly where
 * a call always has the same target, and each function called by itself cost a wrapper and two builtins, three
 * times what some of them do.
 */
import { InternalError } from "../base/errors.ts";
import { type SharedMemory, WASM_PAGE } from "../base/memory.ts";
import type { FastSequence } from "./el2_sequence.ts";
import { FunctionBody, I32 } from "./engine/wasm_assembler.ts";
import { ModuleAssembler } from "./engine/wasm_module.ts";
import { MAX_SEQUENCES, SEQUENCE_ARGS } from "./port_sequence.ts";

/** Calls the function in place `index` of the table. */
export type RunSequence = (index: number, a: number, b: number, c: number, d: number) => number;

const INDEX = 0;
const ARGS = Array.from({ length: SEQUENCE_ARGS }, (_, n) => n + 1);

/** The table of one memory: a row for each port, in the order of the sequences' ids. */
export class SequenceTable {
  readonly run: RunSequence;
  readonly #table = new WebAssembly.Table({ element: "anyfunc", initial: 0 });
  /** What stands for a function that there is none of: it has done no step. */
  readonly #none: FastSequence;
  /** A row in which no sequence has a function. */
  readonly empty: number;

  private constructor({ memory }: SharedMemory) {
    const module = new ModuleAssembler(memory.buffer.byteLength / WASM_PAGE, true);
    const args = ARGS.map((): typeof I32 => I32);
    module.add(new FunctionBody(args, [I32]).i32(0), "none");
    const run = new FunctionBody([I32, ...args], [I32]);
    for (const arg of ARGS) run.get(arg);
    run.get(INDEX).returnCallIndirect(module.type(args, [I32]));
    module.add(run, "run");
    const { exports } = new WebAssembly.Instance(new WebAssembly.Module(module.bytes()), {
      env: { memory, table: this.#table },
    });
    this.run = exports["run"] as RunSequence;
    this.#none = exports["none"] as FastSequence;
    this.empty = this.addRow();
  }

  static readonly #tables = new WeakMap<SharedMemory, SequenceTable>();

  /** The one of `memory`. */
  static of(memory: SharedMemory): SequenceTable {
    const known = SequenceTable.#tables.get(memory);
    if (known !== undefined) return known;
    const made = new SequenceTable(memory);
    SequenceTable.#tables.set(memory, made);
    return made;
  }

  /** The place of the first sequence in a new row, which has no functions yet. */
  addRow(): number {
    const row = this.#table.grow(MAX_SEQUENCES);
    for (let id = 0; id < MAX_SEQUENCES; id++) this.#table.set(row + id, this.#none);
    return row;
  }

  /** Puts the function of sequence `id` into a row. InternalError: there is one. */
  set(row: number, id: number, fast: FastSequence): void {
    if (this.has(row, id)) throw new InternalError(`sequence ${id} has a function`);
    this.#table.set(row + id, fast);
  }

  has(row: number, id: number): boolean {
    return this.#table.get(row + id) !== this.#none;
  }
}
