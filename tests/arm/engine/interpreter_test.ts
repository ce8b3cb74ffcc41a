/** The interpreter is made of the rows, all of them, and of nothing else. */
import assert from "node:assert/strict";
import { CpuLayout } from "../../../src/arm/arch/cpu_state.ts";
import {
  HANDLER,
  handlerModule,
  type HandlerSpec,
} from "../../../src/arm/engine/interpreter_module.ts";
import { HOT_WORDS } from "../../../src/arm/engine/hot_words.ts";
import { InterpreterCode } from "../../../src/arm/engine/interpreter.ts";
import { planRecord } from "../../../src/arm/engine/records.ts";
import { moduleText } from "../../../src/arm/engine/wasm_text.ts";
import { EXIT } from "../../../src/arm/engine/wasm_frame.ts";
import { reachedInline } from "../../../src/arm/engine/inline_registers.ts";
import type { Builder } from "../../../src/arm/isa/builder.ts";
import { Random, randomInstruction, shapesOf } from "../../../src/arm/isa/random.ts";
import { type Row, type Shape } from "../../../src/arm/isa/row.ts";
import { DECODER, Decoder, ROWS } from "../../../src/arm/isa/table.ts";
import { FoldedLab, LAB_MEMORY_PAGES } from "./folded_lab.ts";

const O = CpuLayout.offset;

/** Rows with the semantics of some of them replaced. */
function mutated(change: (row: Row) => Row["semantics"] | undefined): Row[] {
  return ROWS.map((row) => ({ ...row, semantics: change(row) ?? row.semantics }));
}

/** `b` with the methods `from` and `to` exchanged. */
function exchanged(b: Builder, from: keyof Builder, to: keyof Builder): Builder {
  return new Proxy(b, {
    get(target, name) {
      const actual = name === from ? to : name === to ? from : name;
      const method = Reflect.get(target, actual, target);
      return typeof method === "function" ? method.bind(target) : method;
    },
  });
}

/** Executes one instruction from equal states on the interpreter and on the evaluator made of `rows`. */
function both(rows: readonly Row[], word: number, prepare: (lab: FoldedLab) => void): FoldedLab[] {
  const code = new InterpreterCode(rows, LAB_MEMORY_PAGES);
  const labs = [new FoldedLab(code), new FoldedLab(undefined, new Decoder(rows))];
  for (const lab of labs) {
    lab.loadCode([word]);
    prepare(lab);
  }
  labs[0]?.run(1);
  labs[1]?.evaluate();
  return labs;
}

Deno.test("one source of truth: a row's semantics changed changes interpreter and evaluator", () => {
  // add x0, x1, #5
  const word = 0x91001420;
  const prepare = (lab: FoldedLab) => lab.memory.st64(lab.cpu.gpr + 8, 100n);
  const x0 = (lab: FoldedLab) => lab.memory.ld64(lab.cpu.gpr);
  const name = DECODER.row(word)?.name;
  const changed = mutated((row) =>
    row.name === name ? (b, o, s) => row.semantics(exchanged(b, "add", "sub"), o, s) : undefined
  );
  assert.deepEqual(both(ROWS, word, prepare).map(x0), [105n, 105n]);
  const labs = both(changed, word, prepare);
  assert.deepEqual(labs.map(x0), [95n, 95n]);
  assert.equal(labs[0]?.evaluated.size, 0, "the interpreter did it itself");
});

Deno.test("no row is implemented a second time anywhere", () => {
  const changed = mutated((row) => row.slow ? undefined : (b) => b.setNzcv(b.c32(5)));
  const code = new InterpreterCode(changed, LAB_MEMORY_PAGES);
  const fast = new FoldedLab(code), reference = new FoldedLab(undefined, new Decoder(changed));
  const random = new Random(7);
  for (const row of ROWS.filter((r) => !r.slow)) {
    const { word } = randomInstruction(row, random);
    for (const lab of [fast, reference]) {
      lab.loadCode([word]);
      lab.cpu.pc = 0n;
      lab.cpu.nzcv = 0;
    }
    fast.run(1);
    reference.evaluate();
    assert.deepEqual([fast.cpu.nzcv, fast.cpu.pc], [5, 4n], row.name);
    assert.equal(fast.difference(reference), undefined, row.name);
  }
});

const CODE = new InterpreterCode(ROWS, LAB_MEMORY_PAGES);

function expectCompiled(row: Row, shape: Shape): boolean {
  if (row.slow) return false;
  return typeof shape["key"] !== "number" || reachedInline(shape["key"]);
}

Deno.test("every shape of every row is compiled, unless the row or the register is the evaluator's", () => {
  const random = new Random(11);
  for (const row of ROWS) {
    const found = [
      ...shapesOf(row).values(),
      ...Array.from({ length: 400 }, () => randomInstruction(row, random)),
    ];
    for (const { word, decoded } of found) {
      const handler = CODE.handler(row, decoded);
      const compiled = handler !== HANDLER.SLOW;
      assert.equal(
        compiled,
        expectCompiled(row, decoded.shape),
        `${row.name} ${word.toString(16)} ${JSON.stringify(decoded.shape)}`,
      );
      const plan = CODE.plan(handler);
      assert.equal(plan !== undefined, compiled);
      if (!plan) continue;
      assert.deepEqual([...plan.slots.keys()].sort(), Object.keys(decoded.slots).sort());
      assert.deepEqual([...plan.consts.keys()].sort(), Object.keys(decoded.consts).sort());
    }
  }
});

Deno.test("a row's records have one plan: constants keep their types in all encodings", () => {
  const random = new Random(12);
  for (const row of ROWS.filter((r) => !r.slow)) {
    for (let i = 0; i < 200; i++) {
      const { decoded } = randomInstruction(row, random);
      const plan = CODE.plan(CODE.handler(row, decoded));
      if (!plan) continue;
      assert.deepEqual(planRecord(decoded.slots, decoded.consts), plan, row.name);
    }
  }
});

/** The handler of `word` as a function of its own: (cpu, record, pc) -> EXIT. */
function handlerText(word: number): string[] {
  const found = DECODER.decode(word);
  assert.ok(found);
  const { row, decoded: { shape, slots, consts } } = found;
  const spec: HandlerSpec = { row, shape, plan: planRecord(slots, consts) };
  return moduleText(handlerModule(spec, 1))[0] ?? [];
}

Deno.test("golden: add x0, x1, #5", () => {
  assert.deepEqual(handlerText(0x91001420), [
    // x[d] = x[n] + imm, the slots' offsets and the immediate from the record
    "local.get $0",
    "local.get $1",
    "i32.load16_u offset=6",
    "i32.add",
    "i64.load",
    "local.set $3",
    "local.get $0",
    "local.get $1",
    "i32.load16_u offset=4",
    "i32.add",
    "local.get $3",
    "local.get $1",
    "i64.load offset=16",
    "i64.add",
    "i64.store",
    `i32.const ${EXIT.NEXT}`,
    "return",
    "unreachable",
  ]);
});

Deno.test("golden: ldr x0, [x1, #8]", () => {
  assert.deepEqual(handlerText(0xf9400420), [
    // x[n] is read first, then the address is made
    "local.get $0",
    "local.get $1",
    "i32.load16_u offset=6",
    "i32.add",
    "i64.load",
    "local.set $3",
    "local.get $3",
    "local.get $1",
    "i64.load offset=16",
    "i64.add",
    "local.set $4",
    // the TLB entry, and its tag against the last byte's page and the bits that must be zero
    "local.get $0",
    `i32.load offset=${O.tlb}`,
    "local.get $4",
    "i64.const 12",
    "i64.shr_u",
    "i32.wrap_i64",
    "i32.const 4095",
    "i32.and",
    "i32.const 5",
    "i32.shl",
    "i32.add",
    "local.tee $5",
    "i64.load",
    "local.get $4",
    "i64.const 7",
    "i64.add",
    "i64.const -4096",
    "i64.and",
    "local.get $4",
    "i64.const 7",
    "i64.and",
    "local.get $0",
    `i32.load offset=${O.alignMask}`,
    "i64.extend_i32_u",
    "i64.and",
    "i64.or",
    "i64.ne",
    "if @0 ;; unlikely",
    "  local.get $0",
    "  local.get $4",
    `  i64.store offset=${O.faultVa}`,
    "  local.get $0",
    "  i32.const 0",
    `  i32.store offset=${O.faultAccess}`,
    "  local.get $0",
    "  i32.const 8",
    `  i32.store offset=${O.faultSize}`,
    `  i32.const ${EXIT.DATA_MISS}`,
    "  return",
    "end",
    // low 32 bits of the address plus the entry's addend
    "local.get $4",
    "i32.wrap_i64",
    "local.get $5",
    "i32.load offset=16",
    "i32.add",
    "local.set $6",
    "local.get $6",
    "i64.load",
    "local.set $7",
    "local.get $0",
    "local.get $1",
    "i32.load16_u offset=4",
    "i32.add",
    "local.get $7",
    "i64.store",
    `i32.const ${EXIT.NEXT}`,
    "return",
    "unreachable",
  ]);
});

Deno.test("golden: add v0.4s, v1.4s, v2.4s", () => {
  assert.deepEqual(handlerText(0x4ea28420), [
    // trapped? The evaluator takes the exception
    "local.get $0",
    `i32.load offset=${O.fpEnabled}`,
    "local.set $3",
    "local.get $3",
    "i32.eqz",
    "if @0 ;; unlikely",
    `  i32.const ${EXIT.SLOW}`,
    "  return",
    "end",
    "local.get $0",
    "local.get $1",
    "i32.load16_u offset=6",
    "i32.add",
    "v128.load",
    "local.set $4",
    "local.get $0",
    "local.get $1",
    "i32.load16_u offset=8",
    "i32.add",
    "v128.load",
    "local.set $5",
    "local.get $0",
    "local.get $1",
    "i32.load16_u offset=4",
    "i32.add",
    "local.get $4",
    "local.get $5",
    "i32x4.add",
    "v128.store",
    `i32.const ${EXIT.NEXT}`,
    "return",
    "unreachable",
  ]);
});

Deno.test("handlers that are not in the loop are made when they are met, once", () => {
  const code = new InterpreterCode(ROWS, LAB_MEMORY_PAGES);
  const before = code.handlerCount;
  assert.equal(before, code.hotCount);
  const number = (word: number) => {
    const found = DECODER.decode(word);
    assert.ok(found);
    return code.handler(found.row, found.decoded);
  };
  const [words, others] = [number(0x4ea28420), number(0x4e628420)];
  assert.equal(number(0x4ea58483), words);
  assert.equal(code.handlerCount, before + 2);
  assert.notEqual(code.rareIndex(words), code.rareIndex(others));
  assert.equal(code.rareModule(words), code.rareModule(words));
  assert.ok(code.rareIndex(number(0x9100_0421)) < 0, "add is in the loop");
  assert.ok(code.rareIndex(number(0xf860_6822)) < 0, "ldr x2, [x1, x0] is in the loop");
  assert.ok(code.rareIndex(number(0xf860_6be2)) >= 0, "ldr x2, [sp, x0] is not");
});

Deno.test("the words of the loop are instructions of different shapes, which generated code can execute", () => {
  const code = new InterpreterCode(ROWS, LAB_MEMORY_PAGES);
  assert.equal(code.hotCount, HOT_WORDS.length);
  HOT_WORDS.forEach((word, i) => {
    const found = DECODER.decode(word);
    assert.ok(found && !found.row.slow, word.toString(16));
    assert.equal(code.handler(found.row, found.decoded), HANDLER.FIRST + i, word.toString(16));
  });
});

Deno.test("golden: b.eq, two instructions on", () => {
  assert.deepEqual(handlerText(0x54000040), [
    // bit NZCV of the condition's mask
    "local.get $0",
    `i32.load offset=${O.nzcv}`,
    "local.set $3",
    "local.get $1",
    "i32.load offset=12",
    "local.get $3",
    "i32.shr_u",
    "i32.const 1",
    "i32.and",
    "if @0",
    "  local.get $0",
    "  local.get $2",
    "  local.get $1",
    "  i64.load offset=16",
    "  i64.add",
    `  i64.store offset=${O.pc}`,
    `  i32.const ${EXIT.BRANCH}`,
    "  return",
    "end",
    `i32.const ${EXIT.NEXT}`,
    "return",
    "unreachable",
  ]);
});
