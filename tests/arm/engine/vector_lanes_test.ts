/** The evaluator's vector operations, written by lanes, against what WebAssembly makes of their names. */
import assert from "node:assert/strict";
import { FunctionBody, I32, V128 } from "../../../src/arm/engine/wasm_assembler.ts";
import { ModuleAssembler } from "../../../src/arm/engine/wasm_module.ts";
import {
  applyVector,
  Lanes,
  lanes,
  shiftVector,
  testVector,
} from "../../../src/arm/engine/vector_lanes.ts";
import { SIMD_OP } from "../../../src/arm/engine/wasm_simd.ts";
import { Random } from "../../../src/arm/isa/random.ts";
import type { LaneBits, VectorOp } from "../../../src/arm/isa/vector_ops.ts";

const OPS = Object.keys(SIMD_OP).filter((op) => op !== "v128.bitselect") as VectorOp[];
const isShift = (op: string) => /\.(shl|shr_[su])$/.test(op);
const isTest = (op: string) => /\.(any_true|all_true|bitmask)$/.test(op);
const UNARY =
  /\.(not|abs|neg|popcnt|extadd|extend|sqrt|ceil|floor|trunc|nearest|demote|promote|convert)/;

const memory = new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true });
const view = new DataView(memory.buffer);

/** One function per operation: operands at 0 and 16, the shift amount its argument, the result at 32. */
function compiled(): Map<VectorOp, (by: number) => number> {
  const module = new ModuleAssembler(1);
  for (const op of OPS) {
    const asm = new FunctionBody([I32], [I32]);
    const result = asm.local(V128);
    asm.i32(0).vectorMem("load", 0);
    if (isShift(op)) asm.get(0);
    else if (!isTest(op) && !UNARY.test(op)) asm.i32(0).vectorMem("load", 16);
    asm.vector(op);
    if (!isTest(op)) asm.set(result).i32(0).get(result).vectorMem("store", 32).i32(0);
    module.add(asm, op);
  }
  const instance = new WebAssembly.Instance(new WebAssembly.Module(module.bytes()), {
    env: { memory },
  });
  return new Map(OPS.map((op) => [op, instance.exports[op] as (by: number) => number]));
}

/** Numbers at the limits of floating-point and integer ranges. */
const FLOATS = [0, -0, 0.5, -0.5, 1.5, 2.5, -2.5, 1e-40, 2 ** 31, 2 ** 32, -(2 ** 31), 3e38, 1e300]
  .concat([Infinity, -Infinity, NaN, 16777217, 4503599627370497.5]);

function operand(random: Random): Lanes {
  const out = new Lanes();
  const kind = random.below(4);
  for (let i = 0; i < 4 && kind === 0; i++) out.setFloat(32, i, random.pick(FLOATS));
  for (let i = 0; i < 2 && kind === 1; i++) out.setFloat(64, i, random.pick(FLOATS));
  if (kind < 2) return out;
  const bits = random.pick([8, 16, 32, 64] as const);
  return lanes(bits, () => kind === 2 ? random.value() : random.u64());
}

function put(at: number, v: Lanes): void {
  for (let i = 0; i < 2; i++) view.setBigUint64(at + 8 * i, v.get(64, i), true);
}

/** Lanes as text; a NaN is any NaN where the operation makes floating-point lanes. */
function text(op: string, v: Lanes): string {
  const float = /^f(32|64)x\d\.(?!abs|neg|pm|eq|ne$|lt|gt|le|ge)/.exec(op);
  const bits = Number(float?.[1] ?? 8) as LaneBits;
  return Array.from({ length: 128 / bits }, (_, i) => {
    if (float && Number.isNaN(v.float(bits as 32 | 64, i))) return "nan";
    return v.get(bits, i).toString(16);
  }).join(" ");
}

function expected(op: VectorOp, a: Lanes, b: Lanes, by: number): string {
  if (isTest(op)) return String(testVector(op, a));
  return text(op, isShift(op) ? shiftVector(op, a, BigInt(by)) : applyVector(op, a, b));
}

Deno.test("every vector operation is what WebAssembly says it is", () => {
  const random = new Random(1);
  const functions = compiled();
  // 236 instructions of the specification, less memory, constants, shuffle, bitselect and lanes.
  assert.equal(functions.size, 191);
  for (const [op, run] of functions) {
    for (let i = 0; i < 200; i++) {
      const [a, b, by] = [operand(random), operand(random), random.below(130)];
      put(0, a);
      put(16, b);
      const answer = run(by);
      const result = lanes(64, (n) => view.getBigUint64(32 + 8 * n, true));
      const got = isTest(op) ? String(answer >>> 0) : text(op, result);
      assert.equal(got, expected(op, a, b, by), `${op} of ${text("", a)} and ${text("", b)}`);
    }
  }
});

Deno.test("a name that is no operation is an error", () => {
  assert.throws(() => applyVector("i8x16.rol" as VectorOp, new Lanes()), RangeError);
  assert.throws(() => applyVector("i8x16.relaxed_swizzle" as VectorOp, new Lanes()), RangeError);
  assert.throws(() => shiftVector("i8x16.add", new Lanes(), 1n), RangeError);
});
