/**
 * Generates the interpreter: one WebAssembly function with the hot handlers in a `br_table` loop, and
 * one function per other handler behind `call_indirect`, in the same module or one of its own. Every
 * handler is a row's semantics for one shape (ENGINE: two tiers, interpreter layout).
 */
import { CpuLayout } from "../arch/cpu_state.ts";
import { CODE_TLB, CODE_TLB_ENTRIES, CODE_TLB_ENTRY } from "../arch/tlb_layout.ts";
import type { Row, Shape } from "../isa/row.ts";
import { giveFlagsToRegion, packFunction, pushFlagsOfRegion } from "./region_flags.ts";
import { RECORD, RECORD_REGIONS, RECORD_SIZE, type RecordPlan, REGION_ENTRY } from "./records.ts";
import { sameBytes } from "./same_bytes.ts";
import { turnLoop } from "./turn_loop.ts";
import { F32, F64, FunctionBody, I32, I64, V128, type ValType } from "./wasm_assembler.ts";
import { ModuleAssembler } from "./wasm_module.ts";
import { WasmBuilder } from "./wasm_builder.ts";
import { type BranchOffset, EXIT, type Frame, missAtOnce, recordRegisters } from "./wasm_frame.ts";

/** One compiled combination of row and shape. */
export interface HandlerSpec {
  readonly row: Row;
  readonly shape: Shape;
  readonly plan: RecordPlan;
}

/** Handler numbers that are not rows. */
export const HANDLER = {
  /** Not decoded yet. A fresh record is all zero. */
  DECODE: 0,
  /** The record after a page's last: go on at the next page. */
  NEXT_PAGE: 1,
  /** The evaluator's. */
  SLOW: 2,
  /** The entry of a translated region. */
  REGION: 3,
  /** First row handler. */
  FIRST: 4,
} as const;

/** A region: (CPU, budget, virtual address of the page, bytes of stack that its callers take) -> EXIT. */
export const REGION_TYPE = { params: [I32, I32, I64, I32], results: [I32] } as const;

const O = CpuLayout.offset;
const PAGE_RECORDS_BYTES = 1024 * RECORD_SIZE;
/** From a byte offset within a page of code to the offset of its record. */
const RECORD_SHIFT = Math.log2(RECORD_SIZE / 4);

function perType<T>(make: () => T): Record<ValType, T> {
  return { [I32]: make(), [I64]: make(), [F32]: make(), [F64]: make(), [V128]: make() };
}

/** Locals of each type handed out per handler and reused by the next. */
class TemporaryPool {
  readonly #locals = perType<number[]>(() => []);
  #used = perType(() => 0);
  constructor(readonly asm: FunctionBody) {}
  reset(): void {
    this.#used = perType(() => 0);
  }
  take(type: ValType): number {
    const locals = this.#locals[type];
    const n = this.#used[type]++;
    if (n === locals.length) locals.push(this.asm.local(type));
    return locals[n] as number;
  }
}

/** The main loop's frame: everything is in locals, control goes to labels. */
class LoopFrame implements Frame {
  readonly asm = new FunctionBody([I32, I32], [I32]);
  readonly cpu = 0;
  readonly budget = 1;
  readonly rec = this.asm.local(I32);
  readonly base = this.asm.local(I32);
  readonly tlb = this.asm.local(I32);
  readonly code = this.asm.local(I32);
  readonly next32 = this.asm.local(I32);
  readonly pageVa = this.asm.local(I64);
  readonly pc = this.asm.local(I64);
  readonly alignMask = this.asm.local(I64);
  readonly handler = this.asm.local(I32);
  /** Not 0: where the run begins was not branched to. */
  readonly resumed = this.asm.local(I32);
  /** Not 0: the budget is too small for the region at hand. */
  readonly short = this.asm.local(I32);
  readonly pool = new TemporaryPool(this.asm);
  readonly registers = recordRegisters(this);

  pushOperand(type: "i32" | "i64", offset: number): void {
    this.asm.get(this.rec).mem(`${type}.load`, offset);
  }
  temporary(type: ValType): number {
    return this.pool.take(type);
  }
  pushTlb(): void {
    this.asm.get(this.tlb);
  }
  pushAlignMask(): void {
    this.asm.get(this.alignMask);
  }
  pushPc(): void {
    this.asm.get(this.pageVa).get(this.rec).get(this.base).op("i32.sub").i32(RECORD_SHIFT)
      .op("i32.shr_u").op("i64.extend_i32_u").op("i64.add");
  }
  next(): void {
    this.asm.get(this.rec).i32(RECORD_SIZE).op("i32.add").set(this.rec).br("next");
  }
  branchBy(push: BranchOffset): void {
    const asm = this.asm;
    asm.get(this.rec);
    push.offset32();
    asm.i32(RECORD_SHIFT).op("i32.shl").op("i32.add").tee(this.next32);
    asm.get(this.base).op("i32.sub").i32(PAGE_RECORDS_BYTES).op("i32.lt_u").if();
    asm.get(this.next32).set(this.rec).br("taken");
    asm.end();
    this.pushPc();
    push.offset64();
    asm.op("i64.add").set(this.pc).br("fetch");
  }
  branchTo(target: number): void {
    const asm = this.asm;
    asm.get(target).get(this.pageVa).op("i64.xor").i64(~0xffcn).op("i64.and").op("i64.eqz").if();
    asm.get(this.base).get(target).op("i32.wrap_i64").i32(0xffc).op("i32.and").i32(RECORD_SHIFT)
      .op("i32.shl").op("i32.add").set(this.rec).br("taken");
    asm.end();
    asm.get(target).set(this.pc).br("fetch");
  }
  leave(code: number): void {
    this.asm.i32(code).set(this.code).br("leave");
  }
  leaveRetired(code: number): void {
    this.asm.get(this.rec).i32(RECORD_SIZE).op("i32.add").set(this.rec);
    this.asm.i32(code).set(this.code).br("leaveRetired");
  }
  miss(va: number, faultAccess: number, size: number): void {
    missAtOnce(this, va, faultAccess, size);
  }
}

/** A function of its own: `(cpu, record, pc) -> EXIT`. */
class FunctionFrame implements Frame {
  readonly asm = new FunctionBody(...HANDLER_TYPE);
  readonly cpu = 0;
  readonly rec = 1;
  readonly registers = recordRegisters(this);

  pushOperand(type: "i32" | "i64", offset: number): void {
    this.asm.get(this.rec).mem(`${type}.load`, offset);
  }
  temporary(type: ValType): number {
    return this.asm.local(type);
  }
  pushTlb(): void {
    this.asm.get(this.cpu).mem("i32.load", O.tlb);
  }
  pushAlignMask(): void {
    this.asm.get(this.cpu).mem("i32.load", O.alignMask).op("i64.extend_i32_u");
  }
  pushPc(): void {
    this.asm.get(2);
  }
  next(): void {
    this.leave(EXIT.NEXT);
  }
  branchBy(push: BranchOffset): void {
    this.asm.get(this.cpu);
    this.pushPc();
    push.offset64();
    this.asm.op("i64.add").mem("i64.store", O.pc);
    this.leave(EXIT.BRANCH);
  }
  branchTo(target: number): void {
    this.asm.get(this.cpu).get(target).mem("i64.store", O.pc);
    this.leave(EXIT.BRANCH);
  }
  leave(code: number): void {
    this.asm.i32(code).return();
  }
  leaveRetired(code: number): void {
    this.leave(code);
  }
  miss(va: number, faultAccess: number, size: number): void {
    missAtOnce(this, va, faultAccess, size);
  }
}

function compile(frame: Frame, spec: HandlerSpec, parallel: boolean): void {
  const builder = new WasmBuilder(frame, parallel);
  spec.row.semantics(builder, builder.operands(spec.plan), spec.shape);
  builder.emit();
}

/** Looks `pc` up in the code TLB: sets rec, base and pageVa, or leaves with EXIT.FETCH. */
function emitFetch(f: LoopFrame): void {
  const asm = f.asm;
  asm.get(f.pc).i64(-4096n).op("i64.and").set(f.pageVa);
  asm.get(f.cpu).mem("i32.load", O.codeTlb);
  asm.get(f.pc).i64(12n).op("i64.shr_u").op("i32.wrap_i64").i32(CODE_TLB_ENTRIES - 1).op("i32.and")
    .i32(Math.log2(CODE_TLB_ENTRY)).op("i32.shl").op("i32.add").tee(f.next32);
  asm.mem("i64.load", CODE_TLB.TAG).get(f.pc).i64(-4093n).op("i64.and").op("i64.ne").if();
  asm.get(f.cpu).get(f.pc).mem("i64.store", O.pc);
  asm.i32(EXIT.FETCH).set(f.code).br("out");
  asm.end();
  asm.get(f.next32).mem("i32.load", CODE_TLB.RECORDS).tee(f.base);
  asm.get(f.pc).op("i32.wrap_i64").i32(0xfff).op("i32.and").i32(RECORD_SHIFT).op("i32.shl")
    .op("i32.add").set(f.rec);
}

/** The handler of {@link HANDLER.NEXT_PAGE}: not an instruction, so its budget is given back. */
function emitNextPage(f: LoopFrame): void {
  const asm = f.asm;
  asm.get(f.budget).i32(1).op("i32.add").set(f.budget);
  asm.get(f.pageVa).i64(4096n).op("i64.add").set(f.pc).br("fetch");
}

/** Counts that the record was branched to; leaves with EXIT.HOT when it was often enough. */
function emitCount(f: LoopFrame): void {
  const asm = f.asm;
  asm.get(f.resumed).op("i32.eqz").if();
  asm.get(f.rec).get(f.rec).mem("i32.load16_u", RECORD.COUNT).i32(1).op("i32.sub").tee(f.next32)
    .mem("i32.store16", RECORD.COUNT);
  asm.get(f.next32).op("i32.eqz").if().i32(EXIT.HOT).set(f.code).br("leaveRetired").end();
  asm.end();
  asm.i32(0).set(f.resumed);
}

/** Pushes a half of the word behind the region entry at `rec`. */
function pushRegionEntry(f: LoopFrame, half: number): void {
  f.asm.get(f.base).get(f.rec).get(f.base).op("i32.sub").i32(RECORD_SHIFT).op("i32.shr_u")
    .op("i32.add").mem("i32.load16_u", RECORD_REGIONS + half);
}

/** The handler of {@link HANDLER.REGION}: runs the region, or its first instruction when the budget is too small. */
function emitRegion(f: LoopFrame, type: number, packer: number): void {
  const asm = f.asm;
  asm.get(f.short).if();
  pushRegionEntry(f, REGION_ENTRY.HANDLER);
  asm.set(f.handler).i32(0).set(f.short).br("dispatch");
  asm.end();
  giveFlagsToRegion(asm, f.cpu);
  asm.get(f.cpu).get(f.budget).i32(1).op("i32.add").tee(f.next32).get(f.pageVa).i32(0);
  pushRegionEntry(f, REGION_ENTRY.PLACE);
  asm.callIndirect(type, 0).set(f.code);
  asm.get(f.cpu);
  pushFlagsOfRegion(asm, f.cpu, packer);
  asm.mem("i32.store", O.nzcv);
  asm.get(f.cpu).mem("i32.load", O.budget).set(f.budget);
  asm.get(f.cpu).get(f.cpu).mem("i64.load", O.regionInsns);
  asm.get(f.next32).get(f.budget).op("i32.sub").op("i64.extend_i32_u").op("i64.add")
    .mem("i64.store", O.regionInsns);
  asm.get(f.cpu).mem("i64.load", O.pc).set(f.pc);
  asm.get(f.code).i32(EXIT.BRANCH).op("i32.eq").if().br("fetch").end();
  asm.get(f.code).i32(EXIT.SHORT).op("i32.eq").if();
  asm.i32(1).set(f.short).i32(1).set(f.resumed).br("fetch");
  asm.end();
  asm.br("out");
}

/** Calls the handler's function and acts on its answer. */
function emitCold(f: LoopFrame, type: number, table: number, hotEnd: number): void {
  const asm = f.asm;
  asm.get(f.cpu).get(f.rec);
  f.pushPc();
  asm.get(f.handler).i32(hotEnd).op("i32.sub").callIndirect(type, table)
    .tee(f.code).op("i32.eqz").if();
  f.next();
  asm.end();
  asm.get(f.code).i32(EXIT.BRANCH).op("i32.eq").if();
  asm.get(f.cpu).mem("i64.load", O.pc).set(f.pc).br("fetch");
  asm.end();
  asm.get(f.code).i32(EXIT.IRQ).op("i32.eq").if();
  f.leaveRetired(EXIT.IRQ);
  asm.end();
  asm.br("leave");
}

/** Type of a handler's own function. */
const HANDLER_TYPE = [[I32, I32, I64], [I32]] as const;

function handlerFunction(spec: HandlerSpec, parallel: boolean): FunctionBody {
  const frame = new FunctionFrame();
  compile(frame, spec, parallel);
  return frame.asm.unreachable();
}

/**
 * The module's bytes of one handler alone: exports `handler(cpu, record, pc) -> EXIT`. `parallel`: other
 * threads access the memory meanwhile.
 */
export function handlerModule(
  spec: HandlerSpec,
  memoryPages: number,
  parallel = false,
): Uint8Array<ArrayBuffer> {
  const module = new ModuleAssembler(memoryPages);
  module.add(handlerFunction(spec, parallel), "handler");
  return module.bytes();
}

/**
 * The module's bytes for `handlers`, hot ones first: handler number `HANDLER.FIRST + i` is
 * `handlers[i]`, of which the first `hotCount` are in the loop; the others, and all beyond them, are
 * called through the table. Exports `run(cpu, budget) -> EXIT`, the `table`, which may be grown, `turns`
 * (turn_loop.ts) and `sameBytes` (same_bytes.ts).
 */
export function interpreterModule(
  handlers: readonly HandlerSpec[],
  hotCount: number,
  memoryPages: number,
  parallel = false,
): Uint8Array<ArrayBuffer> {
  const module = new ModuleAssembler(memoryPages, true);
  const f = new LoopFrame();
  const asm = f.asm;
  const hotEnd = HANDLER.FIRST + hotCount;
  const labels = Array.from({ length: hotEnd }, (_, i) => `h${i}`);
  const coldType = module.type(...HANDLER_TYPE);
  const regionType = module.type(REGION_TYPE.params, REGION_TYPE.results);
  const packer = module.add(packFunction());
  const epoch = module.global(I64);

  asm.getGlobal(epoch).i64(1n).op("i64.add").setGlobal(epoch);
  asm.get(f.cpu).getGlobal(epoch).mem("i64.store", O.epoch);
  asm.get(f.cpu).mem("i32.load", O.tlb).set(f.tlb);
  asm.get(f.cpu).mem("i32.load", O.alignMask).op("i64.extend_i32_u").set(f.alignMask);
  asm.get(f.cpu).mem("i64.load", O.pc).set(f.pc);
  asm.i32(1).set(f.resumed);
  asm.block("out").block("leaveRetired").block("leave");
  asm.loop("fetch");
  emitFetch(f);
  asm.loop("taken");
  emitCount(f);
  asm.loop("next");
  asm.get(f.budget).op("i32.eqz").if().i32(EXIT.NEXT).set(f.code).br("leaveRetired").end();
  asm.get(f.budget).i32(1).op("i32.sub").set(f.budget);
  asm.get(f.rec).mem("i32.load16_u", RECORD.HANDLER).set(f.handler);
  asm.loop("dispatch");
  asm.block("cold");
  for (let i = hotEnd - 1; i >= 0; i--) asm.block(labels[i] as string);
  asm.get(f.handler).brTable(labels, "cold");
  for (let i = 0; i < hotEnd; i++) {
    asm.end();
    f.pool.reset();
    if (i === HANDLER.DECODE) f.leave(EXIT.DECODE);
    else if (i === HANDLER.NEXT_PAGE) emitNextPage(f);
    else if (i === HANDLER.SLOW) f.leave(EXIT.SLOW);
    else if (i === HANDLER.REGION) emitRegion(f, regionType, packer);
    else compile(f, handlers[i - HANDLER.FIRST] as HandlerSpec, parallel);
  }
  asm.end();
  emitCold(f, coldType, module.ownTable, hotEnd);
  asm.end().end().end().end();
  asm.unreachable();
  asm.end();
  // leave: the instruction at rec was not executed.
  asm.get(f.budget).i32(1).op("i32.add").set(f.budget);
  asm.end();
  // leaveRetired: rec is the next instruction to execute.
  asm.get(f.cpu);
  f.pushPc();
  asm.mem("i64.store", O.pc);
  asm.end();
  // out: pc is stored.
  asm.get(f.cpu).get(f.budget).mem("i32.store", O.budget);
  asm.get(f.code);
  const cold = handlers.slice(hotCount).map((spec) => handlerFunction(spec, parallel));
  module.table(cold.map((body) => module.add(body)), "table");
  module.add(turnLoop(module.add(asm, "run")), "turns");
  module.add(sameBytes(), "sameBytes");
  return module.bytes();
}
