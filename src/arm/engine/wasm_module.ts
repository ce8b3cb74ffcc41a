/** Modules of WebAssembly, section by section. */
import { type FunctionBody, I32, I64, type ValType } from "./wasm_assembler.ts";
import { Bytes } from "./wasm_bytes.ts";

type SectionWriter = (id: number, count: number, write: (body: Bytes) => void) => void;

/**
 * A module that imports one shared memory (`env.memory`) and, if it wants, functions and a function table
 * (`env.table`: table 0 then) and fills a function table of its own (the next table).
 */
export class ModuleAssembler {
  readonly #types: { params: readonly ValType[]; results: readonly ValType[] }[] = [];
  readonly #functions: { type: number; body: FunctionBody; exported: string | undefined }[] = [];
  readonly #imports: { name: string; type: number }[] = [];
  readonly #globals: (typeof I32 | typeof I64)[] = [];
  #table: number[] | undefined;
  #tableName: string | undefined;

  constructor(readonly memoryPages: number, readonly importsTable = false) {}

  /** The number of the module's own table. */
  get ownTable(): number {
    return this.importsTable ? 1 : 0;
  }

  type(params: readonly ValType[], results: readonly ValType[]): number {
    const same = this.#types.findIndex((t) =>
      t.params.join() === params.join() && t.results.join() === results.join()
    );
    return same >= 0 ? same : this.#types.push({ params, results }) - 1;
  }

  /** Declares a variable of the module, at first 0, and returns its index. */
  global(type: typeof I32 | typeof I64): number {
    return this.#globals.push(type) - 1;
  }

  /** Imports function `env.name` and returns its index. Only before anything is added. */
  import(name: string, params: readonly ValType[], results: readonly ValType[]): number {
    if (this.#functions.length > 0) throw new RangeError("imported functions come first");
    return this.#imports.push({ name, type: this.type(params, results) }) - 1;
  }

  /** Adds a finished function and returns its index. */
  add(body: FunctionBody, exported?: string): number {
    const type = this.type(body.params, body.results);
    return this.#imports.length + this.#functions.push({ type, body, exported }) - 1;
  }

  /** The function indices of the module's own table, which may grow. */
  table(functions: number[], exported?: string): void {
    this.#table = functions;
    this.#tableName = exported;
  }

  #exports(section: SectionWriter): void {
    const exported = this.#functions.filter((f) => f.exported !== undefined);
    section(7, exported.length + (this.#tableName === undefined ? 0 : 1), (body) => {
      for (const f of exported) {
        const index = this.#imports.length + this.#functions.indexOf(f);
        body.text(f.exported ?? "").byte(0).unsigned(index);
      }
      if (this.#tableName !== undefined) body.text(this.#tableName).push(1, this.ownTable);
    });
  }

  /** With a table number, the kind of the elements (functions) is stated. */
  #elements(body: Bytes, table: readonly number[]): void {
    if (this.ownTable === 0) body.push(0, 0x41, 0, 0x0b);
    else body.push(2, this.ownTable, 0x41, 0, 0x0b, 0);
    body.unsigned(table.length);
    for (const index of table) body.unsigned(index);
  }

  /** The custom section that tells which branches are likely, before the code that it is about. */
  #branchHints(out: Bytes): void {
    const functions = new Bytes();
    const first = this.#imports.length;
    const hinted = this.#functions.filter((f, i) => f.body.writeHints(first + i, functions));
    const count = hinted.length;
    if (count === 0) return;
    const body = new Bytes().text("metadata.code.branch_hint").unsigned(count).append(functions);
    out.byte(0).unsigned(body.length).append(body);
  }

  bytes(): Uint8Array<ArrayBuffer> {
    const out = new Bytes().push(0, 0x61, 0x73, 0x6d, 1, 0, 0, 0);
    const section: SectionWriter = (id, count, write) => {
      const body = new Bytes().unsigned(count);
      write(body);
      out.byte(id).unsigned(body.length).append(body);
    };
    section(1, this.#types.length, (body) => {
      for (const { params, results } of this.#types) {
        body.byte(0x60).unsigned(params.length).push(...params);
        body.unsigned(results.length).push(...results);
      }
    });
    section(2, this.#imports.length + (this.importsTable ? 2 : 1), (body) => {
      for (const { name, type } of this.#imports) {
        body.text("env").text(name).byte(0).unsigned(type);
      }
      body.text("env").text("memory").push(2, 3).unsigned(this.memoryPages);
      body.unsigned(this.memoryPages);
      if (this.importsTable) body.text("env").text("table").push(1, 0x70, 0, 0);
    });
    section(3, this.#functions.length, (body) => {
      for (const { type } of this.#functions) body.unsigned(type);
    });
    const table = this.#table;
    if (table) section(4, 1, (body) => body.push(0x70, 0).unsigned(table.length));
    section(6, this.#globals.length, (body) => {
      for (const type of this.#globals) body.push(type, 1, type === I32 ? 0x41 : 0x42, 0, 0x0b);
    });
    this.#exports(section);
    if (table) section(9, 1, (body) => this.#elements(body, table));
    this.#branchHints(out);
    section(10, this.#functions.length, (body) => {
      for (const f of this.#functions) f.body.writeTo(body);
    });
    return out.view().slice();
  }
}
