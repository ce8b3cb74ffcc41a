import assert from "node:assert/strict";
import {
  FunctionBody,
  I32,
  I64,
  V128,
  type ValType,
} from "../../../src/arm/engine/wasm_assembler.ts";
import { ModuleAssembler } from "../../../src/arm/engine/wasm_module.ts";

type Export = (...args: (number | bigint)[]) => number | bigint;

/** Builds and instantiates one function. */
function compile(
  params: ValType[],
  results: ValType[],
  build: (asm: FunctionBody) => void,
): Export {
  const asm = new FunctionBody(params, results);
  build(asm);
  const module = new ModuleAssembler(1);
  module.add(asm, "f");
  return instantiate(module)["f"] as Export;
}

function instantiate(module: ModuleAssembler): WebAssembly.Exports {
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true });
  const compiled = new WebAssembly.Module(module.bytes());
  return new WebAssembly.Instance(compiled, { env: { memory } }).exports;
}

/** Where the length of a LEB128 number changes, and the limits. */
function edges(width: number): bigint[] {
  const out = new Set<bigint>([0n, -1n]);
  for (let shift = 6n; shift < width; shift++) {
    for (const near of [-1n, 0n, 1n]) {
      out.add(BigInt.asIntN(width, (1n << shift) + near));
      out.add(BigInt.asIntN(width, -(1n << shift) + near));
    }
  }
  return [...out];
}

Deno.test("i32 constants of every length", () => {
  for (const value of edges(32)) {
    const f = compile([], [I32], (asm) => asm.i32(Number(value)));
    assert.equal(f(), Number(value));
  }
});

Deno.test("i32 takes unsigned numbers too", () => {
  assert.equal(compile([], [I32], (asm) => asm.i32(0xffff_fffe))(), -2);
});

Deno.test("i64 constants of every length", () => {
  for (const value of edges(64)) {
    assert.equal(compile([], [I64], (asm) => asm.i64(value))(), value);
  }
});

Deno.test("i64 takes unsigned bigints too", () => {
  assert.equal(compile([], [I64], (asm) => asm.i64(0xffff_ffff_ffff_fffen))(), -2n);
});

Deno.test("the encoding of the numbers", () => {
  const code = (build: (asm: FunctionBody) => void): number[] => {
    const asm = new FunctionBody([], []);
    build(asm);
    return [...asm.code.view()];
  };
  assert.deepEqual(code((a) => a.i32(63)), [0x41, 0x3f]);
  assert.deepEqual(code((a) => a.i32(64)), [0x41, 0xc0, 0x00]);
  assert.deepEqual(code((a) => a.i32(-64)), [0x41, 0x40]);
  assert.deepEqual(code((a) => a.i32(-65)), [0x41, 0xbf, 0x7f]);
  assert.deepEqual(code((a) => a.get(127)), [0x20, 0x7f]);
  assert.deepEqual(code((a) => a.get(128)), [0x20, 0x80, 0x01]);
  assert.deepEqual(code((a) => a.mem("i32.load", 16383)), [0x28, 0, 0xff, 0x7f]);
  assert.deepEqual(code((a) => a.mem("i32.load", 16384)), [0x28, 0, 0x80, 0x80, 0x01]);
  // Offsets are unsigned 32-bit numbers.
  assert.deepEqual(code((a) => a.mem("i32.load", 0xffff_ffff)).slice(2), [
    0xff,
    0xff,
    0xff,
    0xff,
    0x0f,
  ]);
});

Deno.test("more than 127 locals of both types", () => {
  const f = compile([I32], [I64], (asm) => {
    const locals = Array.from({ length: 300 }, (_, i) => asm.local(i % 2 ? I64 : I32));
    assert.equal(locals[0], 1);
    assert.equal(locals[299], 300);
    asm.get(0).op("i64.extend_i32_u").set(300).get(300);
  });
  assert.equal(f(7), 7n);
});

Deno.test("branches find their labels through the nesting", () => {
  // Counts down in a loop, adding, and leaves two blocks at once.
  const sum = compile([I32], [I32], (asm) => {
    const total = asm.local(I32);
    asm.block("out").block("unused").loop("again");
    asm.get(0).op("i32.eqz").brIf("out");
    asm.get(total).get(0).op("i32.add").set(total);
    asm.get(0).i32(1).op("i32.sub").set(0);
    asm.br("again").end().end().end().get(total);
  });
  assert.equal(sum(10), 55);
});

Deno.test("the innermost label of a name is meant", () => {
  const f = compile([], [I32], (asm) => {
    const n = asm.local(I32);
    asm.block("x").block("x").br("x").end().i32(5).set(n).end().get(n);
  });
  assert.equal(f(), 5);
});

Deno.test("a label that is not open is an error, also after its end", () => {
  const asm = new FunctionBody([], []);
  assert.throws(() => asm.br("nowhere"), RangeError);
  asm.block("gone").end();
  assert.throws(() => asm.brIf("gone"), RangeError);
  assert.throws(() => asm.brTable(["gone"], "gone"), RangeError);
});

Deno.test("br_table selects, and falls back", () => {
  const f = compile([I32], [I32], (asm) => {
    asm.block("other").block("b").block("a");
    asm.get(0).brTable(["a", "b"], "other");
    asm.end().i32(10).return().end().i32(11).return().end().i32(99);
  });
  assert.deepEqual([0, 1, 2, -1].map((n) => f(n)), [10, 11, 99, 99]);
});

Deno.test("if and else", () => {
  const f = compile([I32], [I32], (asm) => {
    const n = asm.local(I32);
    asm.get(0).if().i32(1).set(n).else().i32(2).set(n).end().get(n);
  });
  assert.deepEqual([f(5), f(0)], [1, 2]);
});

Deno.test("memory accesses by width, sign and offset; compare-exchange", () => {
  const f = compile([I32, I64], [I64], (asm) => {
    asm.get(0).get(1).mem("i64.store", 9);
    asm.get(0).i64(-1n).mem("i64.store8", 9);
    asm.get(0).mem("i64.load16_u", 9);
  });
  assert.equal(f(100, 0x1234n), 0x12ffn);
  for (const size of [1, 2, 4, 8] as const) {
    const exchange = compile([I64, I64], [I64], (asm) => {
      asm.i32(8).i64(0x1111_1111_1111_1111n).mem("i64.store", 0);
      asm.i32(8).get(0).get(1).cmpxchg(size).op("i64.eqz").drop();
      asm.i32(8).mem("i64.load", 0);
    });
    const ones = BigInt.asUintN(8 * size, 0x1111_1111_1111_1111n);
    const twos = BigInt.asUintN(8 * size, 0x2222_2222_2222_2222n);
    const rest = 0x1111_1111_1111_1111n - ones;
    assert.equal(exchange(ones, twos), rest + twos);
    assert.equal(exchange(ones + 1n, twos), 0x1111_1111_1111_1111n);
  }
});

Deno.test("a table of functions, called by index; equal types are shared", () => {
  const module = new ModuleAssembler(1);
  const type = module.type([I32], [I32]);
  assert.equal(module.type([I32], [I32]), type);
  assert.notEqual(module.type([I64], [I32]), type);
  const add = (n: number): number => {
    const asm = new FunctionBody([I32], [I32]);
    asm.get(0).i32(n).op("i32.add");
    return module.add(asm);
  };
  const functions = [add(1), add(2)];
  const caller = new FunctionBody([I32, I32], [I32]);
  caller.get(0).get(1).callIndirect(type);
  module.add(caller, "call");
  module.table(functions.reverse());
  const call = instantiate(module)["call"] as Export;
  assert.deepEqual([call(10, 0), call(10, 1)], [12, 11]);
  assert.throws(() => call(10, 2), WebAssembly.RuntimeError);
});

Deno.test("an exported table grows and takes functions of other modules", () => {
  const module = new ModuleAssembler(1);
  const caller = new FunctionBody([I32, I32], [I32]);
  caller.get(0).get(1).callIndirect(module.type([I32], [I32]));
  module.add(caller, "call");
  module.table([], "table");
  const exports = instantiate(module);
  const table = exports["table"] as WebAssembly.Table;
  assert.equal(table.length, 0);
  table.grow(3);
  table.set(2, compile([I32], [I32], (asm) => asm.get(0).i32(5).op("i32.mul")));
  assert.equal((exports["call"] as Export)(7, 2), 35);
});

Deno.test("vectors: constants, lanes, shuffles, memory, the typed select", () => {
  const f = compile([I32], [I64], (asm) => {
    const v = asm.local(V128);
    asm.v128(0x0706_0504_0302_0100n, 0x0f0e_0d0c_0b0a_0908n).set(v);
    // The bytes in reverse, stored and loaded again.
    asm.i32(64).get(v).get(v).shuffle(Array.from({ length: 16 }, (_, i) => 15 - i));
    asm.vectorMem("store", 16).i32(80).vectorMem("load", 0).set(v);
    asm.get(v).i32(0x1aa).replaceLane(8, 0).i32(0x3_bbbb).replaceLane(16, 3);
    asm.i64(1n).splat(64).get(0).selectVector().extractLane(64, 0);
  });
  assert.equal(f(1), BigInt.asIntN(64, 0xbbbb_0a0b_0c0d_0eaan));
  assert.equal(f(0), 1n);
  const unsigned = compile([], [I32], (asm) => asm.v128(-1n, -1n).extractLane(8, 15));
  assert.equal(unsigned(), 255);
});
