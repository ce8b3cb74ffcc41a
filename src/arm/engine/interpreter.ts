/**
 * The interpreter as the machine uses it: compiled once for all CPUs, with the cache of predecoded
 * pages. Executes until the budget is used up or the environment says that the slice has ended.
 */
import type { Arena } from "../../base/arena.ts";
import { alignUp } from "../../base/bits.ts";
import type { SharedMemory } from "../../base/memory.ts";
import { type Cpu, CpuLayout } from "../arch/cpu_state.ts";
import { CODE_TLB, CODE_TLB_ENTRIES, CODE_TLB_ENTRY } from "../arch/tlb_layout.ts";
import {
  type Consts,
  type Decoded,
  extractFields,
  type FieldBits,
  type Row,
  type Shape,
  type Slots,
} from "../isa/row.ts";
import { Decoder } from "../isa/table.ts";
import { HANDLER, type HandlerSpec, interpreterModule } from "./interpreter_module.ts";
import {
  planRecord,
  RECORD_PAGE_SIZE,
  RECORD_SIZE,
  RECORD_WORDS,
  type RecordPlan,
  RECORDS_PER_PAGE,
  writeRecord,
} from "./records.ts";
import { EXIT, reachedInline } from "./wasm_builder.ts";

/**
 * What the interpreter leaves to its surroundings. `cpu.budget` is what is left of the slice, the
 * instruction at hand already taken off; setting it to 0 ends the slice after this instruction.
 */
export interface ExecutionHost {
  /** The CPU is no longer where generated code may run: halted, or in the hands of the host. */
  readonly stopped: boolean;
  /** Physical address of the instruction at pc if it is in RAM, or -1: `executeSlow` then takes the fault. */
  fetch(): number;
  /** A data access missed. True: the TLB has been filled, the instruction is to be executed again. */
  dataMiss(): boolean;
  /** Executes the instruction at pc by the evaluator, taking its exception if it raises one. */
  executeSlow(): void;
  /** An interrupt may have become deliverable. */
  checkInterrupts(): void;
}

function shapeKey(row: Row, shape: Shape): string {
  return `${row.name} ${JSON.stringify(shape)}`;
}

/** Values of a field worth trying: all of small ones, the edges and a few others of large ones. */
function trialValues(bits: number): number[] {
  if (bits <= 4) return Array.from({ length: 1 << bits }, (_, i) => i);
  const top = 2 ** bits - 1;
  return [...new Set([0, 1, 2, 3, 5, top - 1, top >>> 1, top])];
}

/** Every combination of the trial values of `fields`, each given to `visit` as changes to `into`. */
function combine(
  fields: readonly FieldBits[],
  into: Record<string, number>,
  visit: () => void,
): void {
  const [first, ...rest] = fields;
  if (!first) return visit();
  for (const value of trialValues(first.bits.length)) {
    into[first.letter] = value;
    combine(rest, into, visit);
  }
}

/** A system register access is compiled only where the builder reaches the register inline. */
function worthCompiling(shape: Shape): boolean {
  return typeof shape["key"] !== "number" || reachedInline(shape["key"]);
}

/**
 * Distinct shapes of a row: small fields in all combinations, large ones each on its own; all fields
 * of a row that names a system register. A shape that is missed is executed by the evaluator.
 */
export function shapesOf(row: Row): Decoded<Shape, Slots, Consts>[] {
  const found = new Map<string, Decoded<Shape, Slots, Consts>>();
  const fields: Record<string, number> = {};
  const visit = (): void => {
    const decoded = row.predecode(fields);
    if (decoded && worthCompiling(decoded.shape)) {
      found.set(JSON.stringify(decoded.shape), decoded);
    }
  };
  const named = row.fields.length > 0 && "key" in (row.predecode(zeroFields(row))?.shape ?? {});
  const isSmall = (f: FieldBits) => f.bits.length <= (named ? 4 : 3);
  const small = row.fields.filter(isSmall);
  const large = row.fields.filter((f) => !isSmall(f));
  // An odd register number is UNDEFINED in some rows.
  for (const usual of [1, 2]) {
    if (found.size > 0) break;
    for (const f of large) fields[f.letter] = usual;
    combine(small, fields, visit);
    for (const f of named ? [] : large) {
      combine([f, ...small], fields, visit);
      fields[f.letter] = usual;
    }
  }
  return [...found.values()];
}

function zeroFields(row: Row): Record<string, number> {
  return Object.fromEntries(row.fields.map((f) => [f.letter, 0]));
}

/** All handlers of `rows`, hot ones first. Register-access rows have a handler per register that is reached inline. */
function handlersOf(rows: readonly Row[]): { handlers: HandlerSpec[]; hotCount: number } {
  const all = rows.filter((r) => !r.slow).flatMap((row) =>
    shapesOf(row).map(({ shape, slots, consts }) => ({
      row,
      shape,
      plan: planRecord(slots, consts),
    }))
  );
  const hot = all.filter((h) => h.row.hot);
  return { handlers: [...hot, ...all.filter((h) => !h.row.hot)], hotCount: hot.length };
}

/** The compiled module and the handler numbers; made once per set of rows. */
export class InterpreterCode {
  readonly decoder: Decoder;
  readonly module: WebAssembly.Module;
  readonly handlerCount: number;
  readonly hotCount: number;
  readonly bytes: number;
  readonly #numbers = new Map<string, number>();
  readonly #specs: HandlerSpec[];

  constructor(rows: readonly Row[], readonly memoryPages: number) {
    this.decoder = new Decoder(rows);
    const { handlers, hotCount } = handlersOf(rows);
    this.#specs = handlers;
    this.handlerCount = handlers.length;
    this.hotCount = hotCount;
    handlers.forEach((h, i) => this.#numbers.set(shapeKey(h.row, h.shape), HANDLER.FIRST + i));
    const bytes = interpreterModule(handlers, hotCount, memoryPages);
    this.bytes = bytes.length;
    this.module = new WebAssembly.Module(bytes);
  }

  /** Handler number of a decoded instruction: HANDLER.SLOW when it is not compiled. */
  handler(row: Row, shape: Shape): number {
    return this.#numbers.get(shapeKey(row, shape)) ?? HANDLER.SLOW;
  }

  /** Where a handler's operands lie in its records. */
  plan(handler: number): RecordPlan | undefined {
    return this.#specs[handler - HANDLER.FIRST]?.plan;
  }
}

/** Bytes of an instruction cache line (CTR_EL0.IminLine). */
const CACHE_LINE = 64;

/** A predecoded page: its records and its bytes in the memory, and the invalidation it was last compared after. */
interface CodePage {
  readonly records: number;
  readonly code: number;
  checked: number;
}

interface Template {
  readonly handler: number;
  readonly plan: RecordPlan | undefined;
  readonly slots: Slots;
  readonly consts: Consts;
  readonly endsBlock: boolean;
}

const UNDECODABLE: Template = {
  handler: HANDLER.SLOW,
  plan: undefined,
  slots: {},
  consts: {},
  endsBlock: true,
};

/** The interpreter over one machine's memory. */
export class Interpreter {
  readonly #run: (cpu: number, budget: number) => number;
  readonly #pages = new Map<number, CodePage>();
  readonly #poolStart: number;
  readonly #poolPages: number;
  readonly #templates = new Map<number, Template>();
  #poolNext = 0;
  #checks = 0;
  /** Told when pages must be looked up again: every code TLB must be emptied. */
  onCheckAll: () => void = () => {};
  /** Told when all predecoded pages go: every code TLB must be emptied. */
  onDropAll: () => void = () => {};

  /** `pool`: pages of code kept predecoded at a time. */
  constructor(
    readonly code: InterpreterCode,
    readonly memory: SharedMemory,
    arena: Arena,
    pool: number,
  ) {
    const instance = new WebAssembly.Instance(code.module, { env: { memory: memory.memory } });
    this.#run = instance.exports["run"] as (cpu: number, budget: number) => number;
    this.#poolPages = pool;
    this.#poolStart = arena.reserve(pool * RECORD_PAGE_SIZE, 64);
  }

  /** Records of the code page at physical address `pa` (page aligned) whose bytes lie at `code` of the memory. */
  recordsOf(pa: number, code: number): number {
    const known = this.#pages.get(pa);
    if (known !== undefined) {
      if (known.checked !== this.#checks) this.#validate(known, 0, 4096);
      known.checked = this.#checks;
      return known.records;
    }
    if (this.#poolNext === this.#poolPages) this.dropAll();
    const records = this.#poolStart + this.#poolNext++ * RECORD_PAGE_SIZE;
    this.memory.u8.fill(0, records, records + RECORD_PAGE_SIZE);
    this.memory.st32(records + RECORDS_PER_PAGE * RECORD_SIZE, HANDLER.NEXT_PAGE);
    this.#pages.set(pa, { records, code, checked: this.#checks });
    return records;
  }

  /** Forgets the records from byte `from` to `to` of a page whose instruction is not what it was. */
  #validate({ records, code }: CodePage, from: number, to: number): void {
    const { u32 } = this.memory;
    const words = (records + RECORD_WORDS) >>> 2;
    for (let at = from >>> 2; at < to >>> 2; at++) {
      if (u32[words + at] !== u32[(code >>> 2) + at]) {
        u32[(records + at * RECORD_SIZE) >>> 2] = HANDLER.DECODE;
      }
    }
  }

  /** The instruction cache line at `pa` was invalidated. */
  invalidateLine(pa: number): void {
    const offset = pa % 4096;
    const page = this.#pages.get(pa - offset);
    const from = offset - (offset % CACHE_LINE);
    if (page !== undefined) this.#validate(page, from, from + CACHE_LINE);
  }

  /** `length` bytes of RAM at `pa` were written from outside. */
  invalidateRange(pa: number, length: number): void {
    for (let here = pa; here < pa + length;) {
      const offset = here % 4096;
      const size = Math.min(4096 - offset, pa + length - here);
      const page = this.#pages.get(here - offset);
      if (page !== undefined) this.#validate(page, offset, alignUp(offset + size, 4));
      here += size;
    }
  }

  /** The whole instruction cache was invalidated: every page is compared with memory before it is used again. */
  invalidateAll(): void {
    this.#checks++;
    this.onCheckAll();
  }

  /** Drops everything predecoded: RAM itself was replaced. */
  dropAll(): void {
    this.#pages.clear();
    this.#poolNext = 0;
    this.onDropAll();
  }

  #template(word: number): Template {
    const known = this.#templates.get(word);
    if (known) return known;
    const row = this.code.decoder.row(word);
    const decoded = row?.predecode(extractFields(row, word));
    let template = UNDECODABLE;
    if (row && decoded) {
      const handler = row.slow ? HANDLER.SLOW : this.code.handler(row, decoded.shape);
      const plan = this.code.plan(handler);
      template = { handler, plan, slots: decoded.slots, consts: decoded.consts, endsBlock: false };
    }
    if (this.#templates.size > 1_000_000) this.#templates.clear();
    this.#templates.set(word, template);
    return template;
  }

  /** Decodes from offset `offset` of a page on, up to a handful of instructions. */
  #decode(records: number, code: number, offset: number): void {
    const end = Math.min(4096, offset + 16 * 4);
    for (let at = offset; at < end; at += 4) {
      const record = records + at * (RECORD_SIZE / 4);
      if (this.memory.ld32(record) !== HANDLER.DECODE) return;
      const word = this.memory.ld32(code + at);
      this.memory.st32(records + RECORD_WORDS + at, word);
      const t = this.#template(word);
      if (t.plan) writeRecord(this.memory, record, t.handler, t.plan, t.slots, t.consts);
      else this.memory.st32(record, t.handler);
      if (t.endsBlock) return;
    }
  }

  /** Enters pc's page into the current code TLB. */
  #fill(cpu: Cpu, records: number): void {
    const m = this.memory;
    const pc = cpu.base + CpuLayout.offset.pc;
    const lo = m.ld32(pc);
    const at = cpu.codeTlb + ((lo >>> 12) & (CODE_TLB_ENTRIES - 1)) * CODE_TLB_ENTRY;
    m.st32(at + CODE_TLB.TAG, lo & ~0xfff);
    m.st32(at + CODE_TLB.TAG + 4, m.ld32(pc + 4));
    m.st32(at + CODE_TLB.RECORDS, records);
  }

  /**
   * Runs `cpu` until its budget (`cpu.budget`, at least 1) is used up or it stops. An instruction that
   * ends in an exception counts as one. `toOffset` gives the byte offset in the memory of a physical
   * address of code.
   */
  run(cpu: Cpu, host: ExecutionHost, toOffset: (pa: number) => number): void {
    while (cpu.budget > 0 && !host.stopped) {
      if (cpu.codeUnsure !== 0) {
        cpu.codeUnsure = 0;
        this.invalidateAll();
      }
      const exit = cpu.single ? EXIT.SLOW : this.#run(cpu.base, cpu.budget);
      if (exit === EXIT.NEXT) return;
      if (exit === EXIT.IRQ) host.checkInterrupts();
      // A branch that was the last of the budget may leave with a fetch that is not to be made yet.
      else if (cpu.budget > 0 && !this.#resume(exit, cpu, host, toOffset)) {
        cpu.budget--;
        host.executeSlow();
      }
    }
  }

  /** Fills what was missing for the instruction at pc. False: the evaluator has to execute it. */
  #resume(
    exit: number,
    cpu: Cpu,
    host: ExecutionHost,
    toOffset: (pa: number) => number,
  ): boolean {
    if (exit === EXIT.DATA_MISS) return host.dataMiss();
    if (exit === EXIT.SLOW) return false;
    const pa = host.fetch();
    if (pa < 0) return false;
    const page = pa - (pa % 4096);
    const code = toOffset(page);
    const records = this.recordsOf(page, code);
    if (exit === EXIT.FETCH) this.#fill(cpu, records);
    else this.#decode(records, code, pa % 4096);
    return true;
  }
}
