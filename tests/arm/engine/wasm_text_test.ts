/** The text of modules: every instruction that the assembler has, and the modules of the interpreter and of regions. */
import assert from "node:assert/strict";
import {
  handlerModule,
  type HandlerSpec,
  interpreterModule,
} from "../../../src/arm/engine/interpreter_module.ts";
import { planRecord } from "../../../src/arm/engine/records.ts";
import {
  CMPXCHG,
  F64,
  FunctionBody,
  I32,
  I64,
  MEM,
  type MemName,
  OP,
  type OpName,
  V128,
} from "../../../src/arm/engine/wasm_assembler.ts";
import { ModuleAssembler } from "../../../src/arm/engine/wasm_module.ts";
import { SIMD_LANE, SIMD_OP } from "../../../src/arm/engine/wasm_simd.ts";
import { readModule } from "../../../src/arm/engine/wasm_reader.ts";
import { exportedText, moduleText } from "../../../src/arm/engine/wasm_text.ts";
import type { LaneBits, VectorOp } from "../../../src/arm/isa/vector_ops.ts";
import { ROWS } from "../../../src/arm/isa/table.ts";
import { examplesOf } from "../../../src/arm/isa/shapes.ts";
import { reachedInline } from "../../../src/arm/engine/inline_registers.ts";

/** The text of one function with an i32 parameter. */
function text(build: (asm: FunctionBody) => void): string[] {
  const asm = new FunctionBody([I32], [I32]);
  build(asm);
  const module = new ModuleAssembler(1);
  module.add(asm, "f");
  return moduleText(module.bytes())[0] ?? [];
}

Deno.test("structure is indented, locals and labels are numbered", () => {
  const lines = text((asm) => {
    asm.block("a").get(0).if("if", false).i32(-5).drop().br("a").else().loop("again");
    asm.get(0).brIf("again", true).end().end().end().get(0).mem("i32.load", 300);
    asm.get(0).mem("i64.load", 0).drop().block("x").block("y").get(0).brTable(["x", "y"], "x");
    asm.end().end();
  });
  assert.deepEqual(lines, [
    "block @0",
    "  local.get $0",
    "  if @1 ;; unlikely",
    "    i32.const -5",
    "    drop",
    "    br @0",
    "  else",
    "    loop @2",
    "      local.get $0",
    "      br_if @2 ;; likely",
    "    end",
    "  end",
    "end",
    "local.get $0",
    "i32.load offset=300",
    "local.get $0",
    "i64.load",
    "drop",
    "block @3",
    "  block @4",
    "    local.get $0",
    "    br_table @3 @4 @3",
    "  end",
    "end",
  ]);
});

Deno.test("every operation without operands has its own name", () => {
  for (const name of Object.keys(OP)) {
    assert.deepEqual(text((asm) => asm.op(name as OpName)), [name]);
  }
  for (const name of Object.keys(SIMD_OP)) {
    assert.deepEqual(text((asm) => asm.vector(name as VectorOp)), [name]);
  }
});

Deno.test("every memory access has its own name, and its offset", () => {
  for (const name of Object.keys(MEM)) {
    assert.deepEqual(text((asm) => asm.mem(name as MemName, 70_000)), [`${name} offset=70000`]);
  }
  assert.deepEqual(text((asm) => asm.vectorMem("load", 16).vectorMem("store", 0)), [
    "v128.load offset=16",
    "v128.store",
  ]);
});

Deno.test("atomics and the fence", () => {
  const names = ([1, 2, 4, 8] as const).map((size) => text((asm) => asm.cmpxchg(size))[0]);
  assert.deepEqual(names, [
    "i64.atomic.rmw8.cmpxchg_u",
    "i64.atomic.rmw16.cmpxchg_u",
    "i64.atomic.rmw32.cmpxchg_u",
    "i64.atomic.rmw.cmpxchg",
  ]);
  assert.equal(CMPXCHG[8][0], 0x49);
  assert.deepEqual(text((asm) => asm.atomic(0x10, 2).atomic(0x19, 0).atomic(0x1f, 3).fence()), [
    "i32.atomic.load",
    "i32.atomic.store8",
    "i64.atomic.rmw.add",
    "atomic.fence",
  ]);
});

Deno.test("lanes, shuffles and constants", () => {
  for (const bits of [8, 16, 32, 64] as const satisfies LaneBits[]) {
    const shape = `i${bits}x${128 / bits}`;
    const unsigned = bits < 32 ? "_u" : "";
    const lines = text((asm) => asm.splat(bits).extractLane(bits, 1).replaceLane(bits, 0));
    assert.deepEqual(lines, [
      `${shape}.splat`,
      `${shape}.extract_lane${unsigned} 1`,
      `${shape}.replace_lane 0`,
    ]);
    assert.notEqual(SIMD_LANE[bits].splat, SIMD_LANE[bits].extract);
  }
  const lines = text((asm) => {
    asm.v128(1n, -1n).shuffle(Array(16).fill(3)).selectVector();
    asm.i64(-(2n ** 63n)).f32(-0).f64(1.5).f64(NaN).f32(Infinity);
  });
  assert.deepEqual(lines, [
    "v128.const i64x2 0x0000000000000001 0xffffffffffffffff",
    "i8x16.shuffle 3 3 3 3 3 3 3 3 3 3 3 3 3 3 3 3",
    "select v128",
    "i64.const -9223372036854775808",
    "f32.const -0",
    "f64.const 1.5",
    "f64.const nan:0x7ff8000000000000",
    "f32.const Infinity",
  ]);
});

Deno.test("calls name functions and say types; a function comes with its parameters and locals", () => {
  const module = new ModuleAssembler(1, true);
  const callee = module.add(new FunctionBody([I64], []));
  const asm = new FunctionBody([I32, I64], [I32]);
  for (const type of [V128, V128, I32, F64] as const) asm.local(type);
  const type = module.type([I32, I64], [I32]);
  asm.get(1).call(callee).get(0).get(1).get(0).callIndirect(type, 1).drop();
  asm.get(0).get(1).returnCall(1);
  module.add(asm, "main");
  assert.equal(
    exportedText(module.bytes(), "main"),
    `(func $main (param $0 i32) (param $1 i64) (result i32)
  (local $2..$3 v128)
  (local $4 i32)
  (local $5 f64)
  local.get $1
  call $0
  local.get $0
  local.get $1
  local.get $0
  call_indirect table=1 (param i32 i64) (result i32)
  drop
  local.get $0
  local.get $1
  return_call $main
)`,
  );
  assert.throws(() => exportedText(module.bytes(), "other"), /no function other/);
});

Deno.test("what is unknown, cut off or left over throws", () => {
  const asm = () => new FunctionBody([], []);
  const moduleOf = (body: FunctionBody) => {
    const module = new ModuleAssembler(1);
    module.add(body);
    return module.bytes();
  };
  const unknown = asm();
  unknown.code.byte(0x27);
  assert.throws(() => moduleText(moduleOf(unknown)), /unknown instruction 0x27/);
  const vector = asm();
  vector.code.byte(0xfd).unsigned(0x1ff);
  assert.throws(() => moduleText(moduleOf(vector)), /unknown instruction 0xfd 0x1ff/);
  assert.throws(() => moduleText(moduleOf(asm().end().op("i32.add"))), /behind a function's end/);
  assert.throws(() => moduleText(moduleOf(asm().block("open"))), /too early/);
  const whole = moduleOf(asm().i32(1).drop());
  assert.throws(() => moduleText(whole.subarray(0, -1)), /too early/);
  assert.throws(() => readModule(new Uint8Array(8)), /not a WebAssembly module/);
  const typed = asm();
  typed.code.push(0x02, I32, 0x41, 1, 0x0b, 0x1a);
  assert.deepEqual(moduleText(moduleOf(typed))[0], [
    "block @0 (result i32)",
    "  i32.const 1",
    "end",
    "drop",
  ]);
});

/** A handler of each shape of the rows that are compiled, up to `limit` of a row. */
function specs(limit: number): HandlerSpec[] {
  return ROWS.filter((row) => !row.slow).flatMap((row) =>
    [...examplesOf(row).values()].slice(0, limit).map(({ decoded }) => ({
      row,
      shape: decoded.shape,
      plan: planRecord(decoded.slots, decoded.consts),
    })).filter(({ shape: { key } }) => typeof key !== "number" || reachedInline(key))
  );
}

/** Every byte of the code is an instruction's, and as many blocks are closed as are opened. */
function assertWhole(module: Uint8Array): number {
  let lines = 0;
  for (const body of moduleText(module)) {
    const trimmed = body.map((line) => line.trimStart());
    const opened = trimmed.filter((line) => /^(block|loop|if)\b/.test(line)).length;
    assert.equal(trimmed.filter((line) => line === "end").length, opened);
    lines += body.length;
  }
  return lines;
}

Deno.test("the interpreter's handlers, thousands of modules, are decoded to their last byte", () => {
  const all = specs(3);
  assert.ok(all.length > 900, `${all.length}`);
  for (const spec of all) {
    const module = handlerModule(spec, 1);
    assert.ok(WebAssembly.validate(module));
    assert.ok(assertWhole(module) > 0, spec.row.name);
    assertWhole(handlerModule(spec, 1, true));
  }
});

Deno.test("the interpreter's main module is decoded to its last byte", () => {
  const all = specs(1);
  assert.ok(assertWhole(interpreterModule(all, 200, 1)) > 20_000);
});
