/** The functions of a module in a compact text form, one instruction per line, for golden tests. */
import { MEM, OP } from "../../../src/arm/engine/wasm_assembler.ts";

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
