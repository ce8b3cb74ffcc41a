/**
 * A faulting instruction is restarted, so whatever may fault must come before anything is written;
 * and shapes decide everything but values, so the semantics must run without any values.
 */
import assert from "node:assert/strict";
import type { Builder, Slot, V128, V32, V64 } from "../../../src/arm/isa/builder.ts";
import { shapesOf } from "../../../src/arm/isa/random.ts";
import { type Row, row, xw } from "../../../src/arm/isa/row.ts";
import { ROWS } from "../../../src/arm/isa/table.ts";

const I32 = { type: "i32" } as V32;
const I64 = { type: "i64" } as V64;
const Q = { type: "v128" } as V128;

const ACCESSES = new Set([
  "checkSp",
  "load",
  "store",
  "loadExclusive",
  "loadExclusivePair",
  "storeExclusive",
  "storeExclusivePair",
  "loadQ",
  "storeQ",
  "atomic",
  "compareAndSwap",
  "compareAndSwapPair",
  "fpAccess",
  "fp",
  "fpVector",
  "exceptionCall",
  "mrs",
  "sysl",
]);
const WRITES = new Set([
  "setX",
  "setW",
  "setV",
  "setQ",
  "raiseFpsr",
  "setNzcv",
  "addFlags",
  "subFlags",
  "adcFlags",
  "logicFlags",
]);
const NARROW = new Set([
  "c32",
  "w",
  "wrap",
  "eq",
  "ne",
  "ltU",
  "ltS",
  "isZero",
  "nzcv",
  "condition",
  "storeExclusive",
  "storeExclusivePair",
  "fpcr",
  "fpsr",
  "vectorTest",
]);
const WIDE = new Set(["c64", "x", "zext", "sext", "pc", "load", "loadExclusive", "umulh", "v"])
  .add("lane").add("fp").add("atomic").add("compareAndSwap");
const VECTOR = new Set(["q", "c128", "v128", "vector", "bitselect", "shuffle", "splat", "withLane"])
  .add("loadQ").add("fpVector");
const VECTOR_STATE = new Set(["v", "setV", "q", "setQ", "fpcr", "fpsr", "raiseFpsr"])
  .add("fp").add("fpVector");
const PAIRS = new Set(["loadExclusivePair", "compareAndSwapPair", "xPair"]);
const LAST_OPERAND = new Set(["select"]);

/** What a builder's method returns when there are no values: only the type. */
function resultOf(name: string, operands: readonly unknown[]): unknown {
  if (NARROW.has(name)) return I32;
  if (WIDE.has(name)) return I64;
  if (VECTOR.has(name)) return Q;
  if (PAIRS.has(name)) return [I64, I64];
  return LAST_OPERAND.has(name) ? operands.at(-1) : operands[0];
}

/** The names of the builder's methods that the semantics calls, in order. */
function callsOf(row: Row, decoded: ReturnType<Row["predecode"]>): string[] {
  const calls: string[] = [];
  const builder = new Proxy({}, {
    get: (_, name: string) => (...operands: unknown[]) => {
      calls.push(name);
      if (name === "when") (operands[1] as () => void)();
      return resultOf(name, operands);
    },
  }) as Builder;
  const operands: Record<string, Slot | V32 | V64> = {};
  for (const slot of Object.keys(decoded?.slots ?? {})) operands[slot] = { slot: true };
  for (const [name, value] of Object.entries(decoded?.consts ?? {})) {
    operands[name] = typeof value === "bigint" ? I64 : I32;
  }
  row.semantics(builder, operands, decoded?.shape ?? {});
  return calls;
}

function writesBeforeAccess(calls: readonly string[]): boolean {
  const firstWrite = calls.findIndex((c) => WRITES.has(c));
  return firstWrite >= 0 && calls.slice(firstWrite).some((c) => ACCESSES.has(c));
}

Deno.test("everything that may fault comes before the first write", () => {
  for (const row of ROWS) {
    for (const [key, { decoded }] of shapesOf(row)) {
      assert.ok(!writesBeforeAccess(callsOf(row, decoded)), `${row.name} ${key}`);
    }
  }
});

Deno.test("a row that writes before it loads is found", () => {
  const wrong = row({
    name: "WRONG",
    pattern: "000000000000000000000000000ddddd",
    disassemble: () => "",
    predecode: (f) => ({ shape: {}, slots: { d: xw(f.d) }, consts: {} }),
    semantics: (b, o) => {
      b.setX(o.d, b.c64(0));
      b.setX(o.d, b.load(b.c64(0), 8));
    },
  });
  assert.ok(writesBeforeAccess(callsOf(wrong, wrong.predecode({ d: 0 }))));
});

Deno.test("what touches vector registers asks for access to them before any other fault", () => {
  let touching = 0;
  for (const row of ROWS) {
    for (const [key, { decoded }] of shapesOf(row)) {
      const calls = callsOf(row, decoded);
      if (!calls.some((c) => VECTOR_STATE.has(c))) continue;
      touching++;
      const first = calls.find((c) => ACCESSES.has(c) || VECTOR_STATE.has(c));
      assert.equal(first, "fpAccess", `${row.name} ${key}`);
    }
  }
  assert.ok(touching > 100);
});
