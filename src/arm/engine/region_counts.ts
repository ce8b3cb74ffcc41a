/**
 * Counts how often regions are entered, for who wants to see them: between the table and a region stands
 * a function that counts and goes on. What a module's own functions call directly is not counted.
 */
import { REGION_TYPE } from "./interpreter_module.ts";
import { FunctionBody } from "./wasm_assembler.ts";
import { ModuleAssembler } from "./wasm_module.ts";

/** Counters, 8 bytes each. */
const MEMORY_PAGES = 64;
const MAX_COUNTED = MEMORY_PAGES * 65536 / 8;

export class RegionCounts {
  readonly #memory = new WebAssembly.Memory({
    initial: MEMORY_PAGES,
    maximum: MEMORY_PAGES,
    shared: true,
  });
  readonly #counts = new BigUint64Array(this.#memory.buffer);
  readonly #regions = new WebAssembly.Table({ element: "anyfunc", initial: 0 });

  /** A function that counts and then runs the region `run`; its number for {@link of}. */
  counted(run: CallableFunction): { readonly run: CallableFunction; readonly number: number } {
    const number = this.#regions.length;
    if (number === MAX_COUNTED) return { run, number };
    this.#regions.grow(1);
    this.#regions.set(number, run);
    const env = { memory: this.#memory, table: this.#regions };
    const module = new WebAssembly.Module(countingModule(number));
    const counting = new WebAssembly.Instance(module, { env }).exports["counted"];
    return { run: typeof counting === "function" ? counting : run, number };
  }

  /** How often the region of this number has been entered. */
  of(number: number): number {
    return Number(this.#counts[number] ?? 0n);
  }
}

function countingModule(number: number): Uint8Array<ArrayBuffer> {
  const module = new ModuleAssembler(MEMORY_PAGES, true);
  const { params, results } = REGION_TYPE;
  const asm = new FunctionBody(params, results);
  asm.i32(8 * number).i32(8 * number).mem("i64.load", 0).i64(1n).op("i64.add").mem("i64.store", 0);
  params.forEach((_, param) => asm.get(param));
  asm.i32(number).returnCallIndirect(module.type(params, results), 0);
  module.add(asm, "counted");
  return module.bytes();
}
