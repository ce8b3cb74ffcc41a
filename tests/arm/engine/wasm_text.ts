/** The functions of a module in a compact text form, one instruction per line, for golden tests. */
import { MEM, OP } from "../../../src/arm/engine/wasm_assembler.ts";
import { SIMD, SIMD_LANE, SIMD_OP } from "../../../src/arm/engine/wasm_simd.ts";

const NAMES = new Map<number, string>(Object.entries(OP).map(([name, code]) => [code, name]));
const ACCESSES = new Map<number, string>(Object.entries(MEM).map(([name, [code]]) => [code, name]));
/** Control and the like: name, and how many unsigned operands follow. */
const OTHERS = new Map<number, readonly [string, number]>([
  [0x00, ["unreachable", 0]],
  [0x0c, ["br", 1]],
  [0x0d, ["br_if", 1]],
  [0x0f, ["return", 0]],
  [0x11, ["call_indirect", 2]],
  [0x1a, ["drop", 0]],
  [0x20, ["local.get", 1]],
  [0x21, ["local.set", 1]],
  [0x22, ["local.tee", 1]],
]);
const OPENERS = new Map([[0x02, "block"], [0x03, "loop"], [0x04, "if"]]);

const VECTOR_NAMES = new Map<number, string>([
  ...Object.entries(SIMD_OP).map(([name, code]): [number, string] => [code, name]),
  [SIMD.LOAD, "v128.load"],
  [SIMD.STORE, "v128.store"],
  [SIMD.CONST, "v128.const"],
  [SIMD.SHUFFLE, "i8x16.shuffle"],
]);
const LANES = { 8: "i8x16", 16: "i16x8", 32: "i32x4", 64: "i64x2" } as const;
const LANE_INDEXED = new Set<number>();
for (const bits of [8, 16, 32, 64] as const) {
  const { splat, extract, replace } = SIMD_LANE[bits];
  VECTOR_NAMES.set(splat, `${LANES[bits]}.splat`);
  VECTOR_NAMES.set(extract, `${LANES[bits]}.extract_lane`);
  VECTOR_NAMES.set(replace, `${LANES[bits]}.replace_lane`);
  LANE_INDEXED.add(extract).add(replace);
}

/** An instruction of 128-bit SIMD, after its prefix. */
function vectorInstruction(r: Reader): string {
  const code = r.unsigned();
  const name = VECTOR_NAMES.get(code) ?? `simd 0x${code.toString(16)}`;
  if (code === SIMD.LOAD || code === SIMD.STORE) {
    r.unsigned();
    return `${name} offset=${r.unsigned()}`;
  }
  if (code === SIMD.CONST) return `${name} ${r.long()} ${r.long()}`;
  if (code === SIMD.SHUFFLE) return [name, ...Array.from({ length: 16 }, () => r.byte())].join(" ");
  return LANE_INDEXED.has(code) ? `${name} ${r.byte()}` : name;
}

class Reader {
  at = 0;
  constructor(readonly bytes: Uint8Array) {}
  byte(): number {
    return this.bytes[this.at++] as number;
  }
  unsigned(): number {
    let value = 0, scale = 1;
    for (;;) {
      const byte = this.byte();
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) return value;
      scale *= 128;
    }
  }
  /** Eight bytes. */
  long(): bigint {
    let value = 0n;
    for (let i = 0n; i < 64n; i += 8n) value |= BigInt(this.byte()) << i;
    return value;
  }
  signed(): bigint {
    let value = 0n, shift = 0n;
    for (;;) {
      const byte = BigInt(this.byte());
      value |= (byte & 0x7fn) << shift;
      shift += 7n;
      if (byte < 0x80n) return BigInt.asIntN(Number(shift), value);
    }
  }
}

function instruction(r: Reader, depth: number): { text: string; depth: number } {
  const code = r.byte();
  const name = NAMES.get(code);
  const here = "  ".repeat(depth);
  if (name) return { text: here + name, depth };
  const access = ACCESSES.get(code);
  if (access) {
    r.unsigned();
    return { text: `${here}${access} offset=${r.unsigned()}`, depth };
  }
  const opener = OPENERS.get(code);
  if (opener) {
    r.byte();
    return { text: here + opener, depth: depth + 1 };
  }
  if (code === 0x0b) return { text: "  ".repeat(depth - 1) + "end", depth: depth - 1 };
  if (code === 0x41 || code === 0x42) {
    return { text: `${here}${code === 0x41 ? "i32" : "i64"}.const ${r.signed()}`, depth };
  }
  if (code === 0x0e) {
    const labels = Array.from({ length: r.unsigned() + 1 }, () => r.unsigned());
    return { text: `${here}br_table ${labels.join(" ")}`, depth };
  }
  if (code === 0xfe) {
    const what = r.unsigned().toString(16);
    r.unsigned();
    return { text: `${here}atomic ${what} offset=${r.unsigned()}`, depth };
  }
  if (code === 0xfd) return { text: here + vectorInstruction(r), depth };
  if (code === 0x1c) {
    r.byte();
    r.byte();
    return { text: `${here}select v128`, depth };
  }
  const other = OTHERS.get(code);
  if (!other) throw new RangeError(`opcode 0x${code.toString(16)}`);
  const operands = Array.from({ length: other[1] }, () => r.unsigned());
  return { text: [here + other[0], ...operands].join(" "), depth };
}

function functionText(body: Uint8Array): string[] {
  const r = new Reader(body);
  for (let n = r.unsigned(); n > 0; n--) {
    r.unsigned();
    r.byte();
  }
  const lines: string[] = [];
  for (let depth = 1; r.at < body.length;) {
    const { text, depth: next } = instruction(r, depth);
    lines.push(text.slice(2));
    depth = next;
  }
  // The end of the function itself.
  return lines.slice(0, -1);
}

/** Each function of `module`, as lines indented by their nesting. */
export function moduleText(module: Uint8Array): string[][] {
  const r = new Reader(module);
  r.at = 8;
  while (r.at < module.length) {
    const id = r.byte();
    const end = r.unsigned() + r.at;
    if (id === 10) {
      return Array.from({ length: r.unsigned() }, () => {
        const length = r.unsigned();
        r.at += length;
        return functionText(module.subarray(r.at - length, r.at));
      });
    }
    r.at = end;
  }
  return [];
}
