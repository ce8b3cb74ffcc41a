/**
 * WebAssembly as text, for people: what `--dump-regions` writes and what golden tests compare. One
 * instruction to a line, indented by nesting, in the words of the text format; locals and labels are
 * numbered (`$0` is the first parameter, `@0` the first label of a function). Left out is what our
 * modules never vary: alignments, and memory 0. The names come from the assembler's own tables, so an
 * instruction that it can emit and that is not listed here throws, which a test would see.
 */
import { F32, F64, I32, I64, MEM, OP, V128, type ValType } from "./wasm_assembler.ts";
import {
  type FunctionType,
  type ModuleContents,
  type ModuleFunction,
  readModule,
  type WasmReader,
} from "./wasm_reader.ts";
import { SIMD, SIMD_LANE, SIMD_MEM, SIMD_NUMBER, SIMD_OP } from "./wasm_simd.ts";

/** What follows an opcode, as text. */
type Operands = (r: WasmReader, text: FunctionText) => string;
type Form = readonly [name: string, operands: Operands];
type Forms = ReadonlyMap<number, Form>;

const TYPE_NAMES: Readonly<Record<ValType, string>> = {
  [I32]: "i32",
  [I64]: "i64",
  [F32]: "f32",
  [F64]: "f64",
  [V128]: "v128",
};
const typeName = (type: number): string => {
  const name = TYPE_NAMES[type as ValType];
  if (name === undefined) throw new RangeError(`value type 0x${type.toString(16)}`);
  return name;
};

const none: Operands = () => "";
const local: Operands = (r) => `$${r.unsigned()}`;
const index: Operands = (r) => `${r.unsigned()}`;
const constant: Operands = (r) => `${r.signed()}`;
const lane: Operands = (r) => `${r.byte()}`;
const label: Operands = (r, text) => text.label(r.unsigned());
const access: Operands = (r) => {
  r.unsigned();
  const offset = r.unsigned();
  return offset === 0 ? "" : `offset=${offset}`;
};
const branch: Operands = (r, text) => text.label(r.unsigned()) + text.hint();
const callee: Operands = (r, text) => text.functionName(r.unsigned());
const indirect: Operands = (r, text) => {
  const type = text.type(r.unsigned());
  const table = r.unsigned();
  return `${table === 0 ? "" : `table=${table} `}${signature(type)}`;
};
const table: Operands = (r, text) => r.list(() => label(r, text)).concat(label(r, text)).join(" ");
const opening: Operands = (r, text) => text.open(r);
const hexadecimal = (r: WasmReader): string => `0x${r.fixed(8).toString(16).padStart(16, "0")}`;
/** Floating-point numbers by value; NaNs by their bits, which JavaScript does not keep. */
const float = (bytes: 4 | 8): Operands => (r) => {
  const raw = r.fixed(bytes);
  const view = new DataView(new ArrayBuffer(8));
  view.setBigUint64(0, bytes === 8 ? raw : raw << 32n);
  const value = bytes === 8 ? view.getFloat64(0) : view.getFloat32(0);
  if (Number.isNaN(value)) return `nan:0x${raw.toString(16)}`;
  return Object.is(value, -0) ? "-0" : `${value}`;
};

const plain = (table: Readonly<Record<string, number>>): [number, Form][] =>
  Object.entries(table).map(([name, code]) => [code, [name, none]]);

const FORMS: Forms = new Map<number, Form>([
  ...plain(OP),
  ...Object.entries(MEM).map(([name, [code]]): [number, Form] => [code, [name, access]]),
  [0x00, ["unreachable", none]],
  [0x01, ["nop", none]],
  [0x02, ["block", opening]],
  [0x03, ["loop", opening]],
  [0x04, ["if", opening]],
  [0x05, ["else", none]],
  [0x0b, ["end", none]],
  [0x0c, ["br", label]],
  [0x0d, ["br_if", branch]],
  [0x0e, ["br_table", table]],
  [0x0f, ["return", none]],
  [0x10, ["call", callee]],
  [0x11, ["call_indirect", indirect]],
  [0x12, ["return_call", callee]],
  [0x13, ["return_call_indirect", indirect]],
  [0x1a, ["drop", none]],
  [0x1c, ["select", (r) => r.list(() => typeName(r.byte())).join(" ")]],
  [0x20, ["local.get", local]],
  [0x21, ["local.set", local]],
  [0x22, ["local.tee", local]],
  [0x23, ["global.get", index]],
  [0x24, ["global.set", index]],
  [0x41, ["i32.const", constant]],
  [0x42, ["i64.const", constant]],
  [0x43, ["f32.const", float(4)]],
  [0x44, ["f64.const", float(8)]],
]);

const LANES = { 8: "i8x16", 16: "i16x8", 32: "i32x4", 64: "i64x2" } as const;
const BITS = [8, 16, 32, 64] as const;
const laneForms = BITS.flatMap((bits): [number, Form][] => {
  const { splat, extract, replace } = SIMD_LANE[bits];
  const unsigned = bits < 32 ? "_u" : "";
  return [
    [splat, [`${LANES[bits]}.splat`, none]],
    [extract, [`${LANES[bits]}.extract_lane${unsigned}`, lane]],
    [replace, [`${LANES[bits]}.replace_lane`, lane]],
  ];
});

/** After the prefix 0xfd. */
const VECTOR_FORMS: Forms = new Map<number, Form>([
  ...plain(SIMD_OP),
  ...laneForms,
  ...(["f32", "f64"] as const).flatMap((type): [number, Form][] => [
    [SIMD_NUMBER[type].extract, [`${type}x${type === "f32" ? 4 : 2}.extract_lane`, lane]],
    [SIMD_NUMBER[type].replace, [`${type}x${type === "f32" ? 4 : 2}.replace_lane`, lane]],
  ]),
  ...Object.entries(SIMD_MEM).map((
    [name, code],
  ): [number, Form] => [code, [`v128.${name}`, access]]),
  [SIMD.CONST, ["v128.const", (r) => `i64x2 ${hexadecimal(r)} ${hexadecimal(r)}`]],
  [SIMD.SHUFFLE, ["i8x16.shuffle", (r) => Array.from({ length: 16 }, () => r.byte()).join(" ")]],
]);
/** The seven forms of each atomic read-modify-write, in the order of their opcodes. */
const ATOMIC_SHAPES = [
  ["i32", ""],
  ["i64", ""],
  ["i32", "8"],
  ["i32", "16"],
  ["i64", "8"],
  ["i64", "16"],
  ["i64", "32"],
] as const;
const atomicForms = (first: number, name: string): [number, Form][] =>
  ATOMIC_SHAPES.map(([type, bits], i) => {
    const unsigned = bits === "" || name === "store" ? "" : "_u";
    const modified = name === "load" || name === "store"
      ? `${type}.atomic.${name}${bits}${unsigned}`
      : `${type}.atomic.rmw${bits}.${name}${unsigned}`;
    return [first + i, [modified, access]];
  });

/** After the prefix 0xfe (threads proposal). */
const ATOMIC_FORMS: Forms = new Map<number, Form>([
  [0x00, ["memory.atomic.notify", access]],
  [0x01, ["memory.atomic.wait32", access]],
  [0x02, ["memory.atomic.wait64", access]],
  [0x03, ["atomic.fence", (r) => r.byte() === 0 ? "" : "?"]],
  ...["load", "store", "add", "sub", "and", "or", "xor", "xchg", "cmpxchg"].flatMap((name, i) =>
    atomicForms(0x10 + 7 * i, name)
  ),
]);
/** After the prefix 0xfc. */
const BULK_FORMS: Forms = new Map<number, Form>([
  [10, ["memory.copy", (r) => `${r.byte()} ${r.byte()}`]],
  [11, ["memory.fill", index]],
]);

const PREFIXED: ReadonlyMap<number, Forms> = new Map([
  [0xfc, BULK_FORMS],
  [0xfd, VECTOR_FORMS],
  [0xfe, ATOMIC_FORMS],
]);

function formAt(r: WasmReader): Form {
  const prefix = r.byte();
  const forms = PREFIXED.get(prefix);
  const code = forms ? r.unsigned() : prefix;
  const form = (forms ?? FORMS).get(code);
  if (form) return form;
  const of = forms ? `0x${prefix.toString(16)} ` : "";
  throw new RangeError(`unknown instruction ${of}0x${code.toString(16)}`);
}

function signature({ params, results }: FunctionType): string {
  const list = (word: string, types: readonly ValType[]) =>
    types.length === 0 ? "" : `(${word} ${types.map(typeName).join(" ")})`;
  return [list("param", params), list("result", results)].filter((s) => s !== "").join(" ");
}

/** The state of writing one function. */
class FunctionText {
  readonly lines: string[] = [];
  /** Numbers of the labels that are open; the function itself is the outermost and has none. */
  readonly #open: number[] = [];
  #labels = 0;
  #at = 0;

  constructor(readonly module: ModuleContents, readonly of: ModuleFunction) {}

  /** Opens a block; its type, if it has one, stands behind the label. */
  open(r: WasmReader): string {
    const type = Number(r.signed());
    this.#open.push(this.#labels);
    const result = type >= 0
      ? ` ${signature(this.type(type))}`
      : type === -64
      ? ""
      : ` (result ${typeName(type + 128)})`;
    return `@${this.#labels++}${result}${this.hint()}`;
  }
  label(depth: number): string {
    if (depth === this.#open.length) return "return";
    const at = this.#open.at(-1 - depth);
    if (at === undefined || depth > this.#open.length) throw new RangeError(`no label ${depth}`);
    return `@${at}`;
  }
  /** What is known of the branch at hand. */
  hint(): string {
    const likely = this.of.hints.get(this.#at);
    return likely === undefined ? "" : likely ? " ;; likely" : " ;; unlikely";
  }
  functionName(index: number): string {
    return `$${this.module.names.get(index) ?? index}`;
  }
  type(index: number): FunctionType {
    const type = this.module.types[index];
    if (type === undefined) throw new RangeError(`no type ${index}`);
    return type;
  }

  /** All lines of the body, without the function's own end. */
  write(): string[] {
    const r = this.of.code();
    while (this.#instruction(r));
    if (!r.done) throw new RangeError("code behind a function's end");
    return this.lines;
  }

  /** False at the function's end. */
  #instruction(r: WasmReader): boolean {
    this.#at = r.at;
    const [name, operands] = formAt(r);
    if (name === "end" && this.#open.pop() === undefined) return false;
    const depth = name === "else" ? this.#open.length - 1 : this.#open.length;
    const text = operands(r, this);
    this.lines.push("  ".repeat(depth) + (text === "" ? name : `${name} ${text}`.trimEnd()));
    return true;
  }
}

/** The instructions of each function of `module`. RangeError for what our assembler does not write. */
export function moduleText(module: Uint8Array): string[][] {
  const contents = readModule(module);
  return contents.functions.map((of) => new FunctionText(contents, of).write());
}

/** The locals behind the parameters, in runs of a type. */
function localLines({ type, locals }: ModuleFunction): string[] {
  const lines: string[] = [];
  for (let from = 0; from < locals.length;) {
    const of = locals[from] as ValType;
    let to = from;
    while (locals[to] === of) to++;
    const [first, last] = [type.params.length + from, type.params.length + to - 1];
    const names = first === last ? `$${first}` : `$${first}..$${last}`;
    lines.push(`(local ${names} ${typeName(of)})`);
    from = to;
  }
  return lines;
}

/** The function that `module` exports as `name`, with its parameters and locals. RangeError if there is none. */
export function exportedText(module: Uint8Array, name: string): string {
  const contents = readModule(module);
  const of = contents.functions.find(({ index }) => contents.names.get(index) === name);
  if (of === undefined) throw new RangeError(`no function ${name}`);
  const params = of.type.params.map((type, i) => ` (param $${i} ${typeName(type)})`).join("");
  const results = of.type.results.map((type) => ` (result ${typeName(type)})`).join("");
  const body = [...localLines(of), ...new FunctionText(contents, of).write()];
  return [`(func $${name}${params}${results}`, ...body.map((line) => `  ${line}`), ")"].join("\n");
}
