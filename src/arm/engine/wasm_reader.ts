/** Reading of WebAssembly's binary format: numbers, and the sections of a module (core specification 2.0, 5). */
import type { ValType } from "./wasm_assembler.ts";

/** Reads forwards through bytes. RangeError where they end too early. */
export class WasmReader {
  constructor(readonly bytes: Uint8Array, public at = 0, readonly end: number = bytes.length) {}

  get done(): boolean {
    return this.at >= this.end;
  }
  byte(): number {
    const byte = this.at < this.end ? this.bytes[this.at++] : undefined;
    if (byte === undefined) throw new RangeError("a module ends too early");
    return byte;
  }
  unsigned(): number {
    for (let value = 0, scale = 1;; scale *= 128) {
      const byte = this.byte();
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) return value;
    }
  }
  signed(): bigint {
    for (let value = 0n, shift = 0n;;) {
      const byte = BigInt(this.byte());
      value |= (byte & 0x7fn) << shift;
      shift += 7n;
      if (byte < 0x80n) return BigInt.asIntN(Number(shift), value);
    }
  }
  /** `count` bytes as an unsigned number, low byte first. */
  fixed(count: number): bigint {
    let value = 0n;
    for (let i = 0; i < count; i++) value |= BigInt(this.byte()) << BigInt(8 * i);
    return value;
  }
  text(): string {
    const length = this.unsigned();
    this.at += length;
    return new TextDecoder().decode(this.bytes.subarray(this.at - length, this.at));
  }
  /** A vector: its length, then so many times what `read` reads. */
  list<T>(read: () => T): T[] {
    return Array.from({ length: this.unsigned() }, read);
  }
  /** A reader of the next `length` bytes, which are skipped here. */
  part(length: number): WasmReader {
    if (this.at + length > this.end) throw new RangeError("a module ends too early");
    this.at += length;
    return new WasmReader(this.bytes, this.at - length, this.at);
  }
}

export interface FunctionType {
  readonly params: readonly ValType[];
  readonly results: readonly ValType[];
}

/** A function of a module. */
export interface ModuleFunction {
  /** Number among all functions of the module, imported ones first. */
  readonly index: number;
  readonly type: FunctionType;
  /** The types of its locals, parameters not among them. */
  readonly locals: readonly ValType[];
  /** Reads its instructions, the last `end` included. */
  code(): WasmReader;
  /** By the position of a branch in the module: whether it is likely to be taken. */
  readonly hints: ReadonlyMap<number, boolean>;
}

/** What a module holds, as far as its text needs it. */
export interface ModuleContents {
  readonly types: readonly FunctionType[];
  readonly functions: readonly ModuleFunction[];
  /** Names of functions, by number: of exports, and of imports as `module.name`. */
  readonly names: ReadonlyMap<number, string>;
}

const SECTION = { CUSTOM: 0, TYPE: 1, IMPORT: 2, FUNCTION: 3, EXPORT: 7, CODE: 10 } as const;
const HINTS = "metadata.code.branch_hint";

function limits(r: WasmReader): void {
  const flags = r.byte();
  r.unsigned();
  if (flags & 1) r.unsigned();
}

/** Names of the imported functions. */
function readImports(r: WasmReader): string[] {
  const names: string[] = [];
  r.list(() => {
    const name = `${r.text()}.${r.text()}`;
    const kind = r.byte();
    if (kind === 0) {
      r.unsigned();
      names.push(name);
    } else if (kind === 1) {
      r.byte();
      limits(r);
    } else if (kind === 2) limits(r);
    else {
      r.byte();
      r.byte();
    }
  });
  return names;
}

/** Per function: offsets from the beginning of its body, and whether the branch there is likely. */
function readHints(r: WasmReader): Map<number, [number, boolean][]> {
  return new Map(r.list(() => [
    r.unsigned(),
    r.list((): [number, boolean] => {
      const offset = r.unsigned();
      r.unsigned();
      return [offset, r.byte() === 1];
    }),
  ]));
}

function readBody(
  r: WasmReader,
  index: number,
  type: FunctionType,
  hints: readonly [number, boolean][],
): ModuleFunction {
  const body = r.part(r.unsigned());
  const start = body.at;
  const locals = body.list(() => {
    const count = body.unsigned();
    return Array.from<ValType>({ length: count }).fill(body.byte() as ValType);
  }).flat();
  const { bytes, at, end } = body;
  return {
    index,
    type,
    locals,
    code: () => new WasmReader(bytes, at, end),
    hints: new Map(hints.map(([offset, likely]) => [start + offset, likely])),
  };
}

/** Reads a module. RangeError for bytes that are none. */
export function readModule(bytes: Uint8Array): ModuleContents {
  const r = new WasmReader(bytes);
  if (r.fixed(8) !== 0x1_6d73_6100n) throw new RangeError("not a WebAssembly module");
  const names = new Map<number, string>();
  let types: FunctionType[] = [], typeOf: number[] = [], functions: ModuleFunction[] = [];
  let hints = new Map<number, [number, boolean][]>();
  while (!r.done) {
    const id = r.byte();
    const part = r.part(r.unsigned());
    const valtypes = () => part.list(() => part.byte() as ValType);
    if (id === SECTION.CUSTOM && part.text() === HINTS) hints = readHints(part);
    else if (id === SECTION.TYPE) {
      types = part.list(() => {
        part.byte();
        return { params: valtypes(), results: valtypes() };
      });
    } else if (id === SECTION.IMPORT) readImports(part).forEach((name, i) => names.set(i, name));
    else if (id === SECTION.FUNCTION) typeOf = part.list(() => part.unsigned());
    else if (id === SECTION.EXPORT) {
      part.list(() => {
        const name = part.text();
        const kind = part.byte();
        const index = part.unsigned();
        if (kind === 0) names.set(index, name);
      });
    } else if (id === SECTION.CODE) {
      const first = [...names.values()].filter((name) => name.includes(".")).length;
      let next = 0;
      functions = part.list(() => {
        const type = types[typeOf[next] ?? -1];
        if (type === undefined) throw new RangeError("a function without a type");
        const index = first + next++;
        return readBody(part, index, type, hints.get(index) ?? []);
      });
    }
  }
  return { types, functions, names };
}
