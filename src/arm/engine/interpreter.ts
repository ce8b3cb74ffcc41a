/**
 * The interpreter as the machine uses it: compiled once for all CPUs, with the cache of predecoded
 * pages. Executes until the budget is used up or the environment says that the slice has ended.
 */
import type { Arena } from "../../base/arena.ts";
import { alignUp } from "../../base/bits.ts";
import type { SharedMemory } from "../../base/memory.ts";
import { type Cpu, CpuLayout } from "../arch/cpu_state.ts";
import { FPSR } from "../fp/format.ts";
import { CODE_TLB, CODE_TLB_ENTRIES, CODE_TLB_ENTRY } from "../arch/tlb_layout.ts";
import { type Consts, type Decoded, type Row, type Shape, type Slots } from "../isa/row.ts";
import { shapeKey } from "../isa/shapes.ts";
import { Decoder } from "../isa/table.ts";
import { HOT_WORDS } from "./hot_words.ts";
import {
  HANDLER,
  handlerModule,
  type HandlerSpec,
  interpreterModule,
} from "./interpreter_module.ts";
import type { Instruction } from "./region_probe.ts";
import { type RegionOptions, Regions } from "./regions.ts";
import { Templates } from "./templates.ts";
import {
  planRecord,
  RECORD_PAGE_SIZE,
  RECORD_SIZE,
  RECORD_WORDS,
  recordAt,
  type RecordPlan,
  RECORDS_PER_PAGE,
  writeHandler,
  writeRecord,
} from "./records.ts";
import { SAME_BYTES_STEP, type SameBytes } from "./same_bytes.ts";
import type { TurnLoop } from "./turn_loop.ts";
import { EXIT } from "./wasm_frame.ts";
import { reachedInline } from "./inline_registers.ts";

/**
 * What the interpreter leaves to its surroundings. `cpu.budget` is what is left of the slice, the
 * instruction at hand already taken off; setting it to 0 ends the slice after this instruction.
 */
export interface ExecutionHost {
  /** The words of the CPU's state. */
  readonly words: Int32Array;
  /** The CPU is no longer where generated code may run: halted, or in the hands of the host. */
  readonly stopped: boolean;
  /** Physical address of the instruction at pc if it is in RAM, or -1: `executeSlow` then takes the fault. */
  fetch(): number;
  /**
   * A data access missed. True: the TLB has been filled and the instruction is to be executed again, or the
   * instruction has been executed and taken off the budget.
   */
  dataMiss(): boolean;
  /** Executes the instruction at pc by the evaluator, taking its exception if it raises one. */
  executeSlow(): void;
  /** The same of one that generated code has come to and left for that: it is decoded, and in the code TLB. */
  executeLeft(): void;
  /** An interrupt may have become deliverable. */
  checkInterrupts(): void;
}

/** What surrounds generated code where CPUs run in parallel: called when it is entered and when it has been left. */
export interface Gate {
  goIn(): void;
  comeOut(): void;
}

/** A system register access is compiled only where the builder reaches the register inline. */
function worthCompiling(shape: Shape): boolean {
  return typeof shape["key"] !== "number" || reachedInline(shape["key"]);
}

function specOf(row: Row, { shape, slots, consts }: Decoded<Shape, Slots, Consts>): HandlerSpec {
  return { row, shape, plan: planRecord(slots, consts) };
}

/**
 * The handlers' numbers and modules, made once per set of rows. Those that are not in the loop are
 * compiled when their row and shape are first met, each into a module of its own: there are thousands,
 * of which a run needs a few.
 */
export class InterpreterCode {
  readonly decoder: Decoder;
  /** The main loop with the handlers of what {@link HOT_WORDS} are. */
  readonly module: WebAssembly.Module;
  /** Handlers in the loop. */
  readonly hotCount: number;
  /** Size of the module. */
  readonly bytes: number;
  readonly #numbers = new Map<Row, Map<string, number>>();
  readonly #specs: HandlerSpec[] = [];
  readonly #rare: WebAssembly.Module[] = [];

  /** `parallel`: other threads access the memory meanwhile. */
  constructor(rows: readonly Row[], readonly memoryPages: number, readonly parallel = false) {
    this.decoder = new Decoder(rows);
    this.#addHot();
    this.hotCount = this.#specs.length;
    const bytes = interpreterModule(this.#specs, this.hotCount, memoryPages, parallel);
    this.bytes = bytes.length;
    this.module = new WebAssembly.Module(bytes);
  }

  /** The instruction that `word` is, or undefined where it is UNDEFINED. */
  instruction(word: number): Instruction | undefined {
    return this.decoder.decode(word);
  }

  /** Handlers known so far. */
  get handlerCount(): number {
    return this.#specs.length;
  }

  /** What a core without the instruction's feature does not decode is left out. */
  #addHot(): void {
    for (const word of HOT_WORDS) {
      const found = this.decoder.decode(word);
      if (found) this.handler(found.row, found.decoded);
    }
  }

  #add(row: Row, decoded: Decoded<Shape, Slots, Consts>): number {
    const number = HANDLER.FIRST + this.#specs.length;
    this.#specs.push(specOf(row, decoded));
    const ofRow = this.#numbers.get(row) ?? new Map<string, number>();
    this.#numbers.set(row, ofRow.set(shapeKey(decoded.shape), number));
    return number;
  }

  /** Handler number of a decoded instruction: HANDLER.SLOW when it is not compiled. */
  handler(row: Row, decoded: Decoded<Shape, Slots, Consts>): number {
    const known = this.#numbers.get(row)?.get(shapeKey(decoded.shape));
    if (known !== undefined) return known;
    return row.slow || !worthCompiling(decoded.shape) ? HANDLER.SLOW : this.#add(row, decoded);
  }

  /** Where a handler's operands lie in its records. */
  plan(handler: number): RecordPlan | undefined {
    return this.#specs[handler - HANDLER.FIRST]?.plan;
  }

  /** The place in the function table of a handler that is not in the loop; negative for one that is. */
  rareIndex(handler: number): number {
    return handler - HANDLER.FIRST - this.hotCount;
  }

  /** The module of such a handler. */
  rareModule(handler: number): WebAssembly.Module {
    const known = this.#rare[handler];
    if (known) return known;
    const spec = this.#specs[handler - HANDLER.FIRST] as HandlerSpec;
    const module = new WebAssembly.Module(handlerModule(spec, this.memoryPages, this.parallel));
    this.#rare[handler] = module;
    return module;
  }
}

// V8 folds what it knows of a constant of the module itself, and has to look up imported ones.
const { HOT, IRQ, NEXT, SLOW } = EXIT;
/** Not an exit of generated code: the instruction at pc is the evaluator's, and to be fetched by it, too. */
const ANEW = -1;
/** Words of a CPU's state. */
const WORD = {
  BUDGET: CpuLayout.offset.budget >>> 2,
  UNSURE: CpuLayout.offset.codeUnsure >>> 2,
  SINGLE: CpuLayout.offset.single >>> 2,
} as const;

/** Bytes of an instruction cache line (CTR_EL0.IminLine). */
export const CACHE_LINE = 64;

/** A predecoded page: its records and its bytes in the memory, and the invalidation it was last compared after. */
interface CodePage {
  readonly records: number;
  readonly code: number;
  checked: number;
}

/** By how much the function table grows. */
const TABLE_STEP = 256;

/** The interpreter over one machine's memory. */
export class Interpreter {
  readonly #run: (cpu: number, budget: number) => number;
  readonly #sameBytes: SameBytes;
  /** Turns of CPUs for as long as they are nothing but generated code. */
  readonly turns: TurnLoop;
  readonly #pages = new Map<number, CodePage>();
  readonly #poolStart: number;
  readonly #poolPages: number;
  readonly #templates: Templates;
  readonly #table: WebAssembly.Table;
  #poolNext = 0;
  /** Pages of the pool that have been written: those behind them are zero, and have not been touched. */
  #poolUsed = 0;
  #checks = 0;
  /** The first CPU that was run here: has the counts of the regions. */
  #countsAt: Cpu | undefined;
  /** Told when pages must be looked up again: every code TLB must be emptied. */
  onCheckAll: () => void = () => {};
  /** Told when all predecoded pages go: every code TLB must be emptied. */
  onDropAll: () => void = () => {};
  readonly regions: Regions;
  gate: Gate | undefined;

  /** `pool`: pages of code kept predecoded at a time. */
  constructor(
    readonly code: InterpreterCode,
    readonly memory: SharedMemory,
    arena: Arena,
    pool: number,
    options: Partial<RegionOptions> = {},
  ) {
    this.regions = new Regions(memory, (word) => code.instruction(word), code.memoryPages, {
      ...options,
      parallel: code.parallel,
    });
    this.#templates = new Templates(memory);
    const env = { memory: memory.memory, table: this.regions.table };
    const instance = new WebAssembly.Instance(code.module, { env });
    this.#table = instance.exports["table"] as WebAssembly.Table;
    this.#run = instance.exports["run"] as (cpu: number, budget: number) => number;
    this.turns = instance.exports["turns"] as TurnLoop;
    this.#sameBytes = instance.exports["sameBytes"] as SameBytes;
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
    const records = this.#poolStart + this.#poolNext * RECORD_PAGE_SIZE;
    const { u8 } = this.memory;
    if (this.#poolNext++ < this.#poolUsed) u8.fill(0, records, records + RECORD_PAGE_SIZE);
    else this.#poolUsed = this.#poolNext;
    // All of them, decoded or not, so that the page can be compared as a whole.
    u8.copyWithin(records + RECORD_WORDS, code, code + 4096);
    this.memory.st32(records + RECORDS_PER_PAGE * RECORD_SIZE, HANDLER.NEXT_PAGE);
    this.#pages.set(pa, { records, code, checked: this.#checks });
    return records;
  }

  /** Forgets the records from byte `from` to `to` of a page whose instruction is not what it was. */
  #validate({ records, code }: CodePage, from: number, to: number): void {
    const first = from - (from % SAME_BYTES_STEP), known = records + RECORD_WORDS;
    const bytes = alignUp(to, SAME_BYTES_STEP) - first;
    if (this.#sameBytes(known + first, code + first, bytes) !== 0) return;
    const { u32 } = this.memory;
    let changed = false;
    for (let at = from >>> 2; at < to >>> 2; at++) {
      const word = u32[(code >>> 2) + at] as number;
      if (u32[(known >>> 2) + at] === word) continue;
      u32[(known >>> 2) + at] = word;
      const record = (records + at * RECORD_SIZE) >>> 2;
      if (((u32[record] as number) & 0xffff) === HANDLER.DECODE) continue;
      if (!changed) this.regions.dropPage(records);
      changed = true;
      u32[record] = HANDLER.DECODE;
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
    this.regions.dropAll();
    this.#pages.clear();
    this.#poolNext = 0;
    this.onDropAll();
  }

  /** Puts the function of a rare handler into the table, unless it is there. */
  #install(handler: number): void {
    const at = this.code.rareIndex(handler);
    if (at < 0) return;
    if (at >= this.#table.length) this.#table.grow(at + TABLE_STEP - this.#table.length);
    if (this.#table.get(at) !== null) return;
    const env = { memory: this.memory.memory };
    const { exports } = new WebAssembly.Instance(this.code.rareModule(handler), { env });
    this.#table.set(at, exports["handler"] as CallableFunction);
  }

  /** Writes the record of `word` at `record`; false where it is no instruction. */
  #writeNew(word: number, record: number): boolean {
    const { memory, regions: { options: { hotAfter } } } = this;
    const found = this.code.instruction(word);
    if (found === undefined) {
      writeHandler(memory, record, HANDLER.SLOW, hotAfter);
      return false;
    }
    const { row, decoded } = found;
    const handler = this.code.handler(row, decoded);
    this.#install(handler);
    const plan = this.code.plan(handler);
    if (plan === undefined) writeHandler(memory, record, handler, hotAfter);
    else writeRecord(memory, record, handler, plan, decoded.slots, decoded.consts, hotAfter);
    this.#templates.add(word, record);
    return true;
  }

  /** Decodes from offset `offset` of a page on, up to a handful of instructions. */
  #decode(records: number, code: number, offset: number): void {
    const end = Math.min(4096, offset + 16 * 4);
    for (let at = offset; at < end; at += 4) {
      const record = recordAt(records, at);
      if (this.memory.ld16(record) !== HANDLER.DECODE) return;
      const word = this.memory.ld32(code + at);
      this.memory.st32(records + RECORD_WORDS + at, word);
      if (!this.#templates.write(word, record) && !this.#writeNew(word, record)) return;
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

  /** Where the dashboard sees it, from whatever worker it looks. */
  #publish(cpu: Cpu): void {
    const { regions } = this;
    const at = this.#countsAt ??= cpu;
    at.regions = regions.live;
    at.codeBytes = regions.codeBytes;
    at.regionModules = regions.modules;
    at.regionsEvicted = regions.evicted;
    regions.changed = false;
  }

  /**
   * Runs `cpu` until its budget (`cpu.budget`, at least 1) is used up or it stops. An instruction that
   * ends in an exception counts as one. `toOffset` gives the byte offset in the memory of a physical
   * address of code.
   */
  run(cpu: Cpu, host: ExecutionHost, toOffset: (pa: number) => number): void {
    this.settle(cpu);
    this.#goOn(cpu, host, toOffset);
  }

  /** The rest of a slice that {@link turns} has left with the answer `exit` of generated code. */
  finish(
    exit: number,
    cpu: Cpu,
    host: ExecutionHost,
    toOffset: (pa: number) => number,
  ): void {
    this.#serve(exit, cpu, host, toOffset);
    this.#goOn(cpu, host, toOffset);
    this.settle(cpu);
  }

  #goOn(cpu: Cpu, host: ExecutionHost, toOffset: (pa: number) => number): void {
    const { words } = host;
    while ((words[WORD.BUDGET] as number) > 0 && !host.stopped) {
      if (words[WORD.UNSURE] !== 0) {
        words[WORD.UNSURE] = 0;
        this.invalidateAll();
      }
      const exit = words[WORD.SINGLE] !== 0
        ? ANEW
        : this.#execute(cpu.base, words[WORD.BUDGET] as number);
      if (exit === NEXT) return;
      this.#serve(exit, cpu, host, toOffset);
    }
  }

  /** Does what generated code was left for. */
  #serve(
    exit: number,
    cpu: Cpu,
    host: ExecutionHost,
    toOffset: (pa: number) => number,
  ): void {
    if (exit === IRQ) return host.checkInterrupts();
    const { words } = host;
    const left = words[WORD.BUDGET] as number;
    // A branch that was the last of the budget may leave with a fetch that is not to be made yet.
    if (left <= 0 && exit !== HOT) return;
    if (exit === SLOW) {
      words[WORD.BUDGET] = left - 1;
      host.executeLeft();
      return;
    }
    if (exit !== ANEW && this.#resume(exit, cpu, host, toOffset)) return;
    words[WORD.BUDGET] = (words[WORD.BUDGET] as number) - 1;
    host.executeSlow();
  }

  /** What {@link run} does at the beginning of each slice, for those of {@link turns}. */
  settle(cpu: Cpu): void {
    const { regions } = this;
    regions.settle();
    if (regions.changed) this.#publish(cpu);
  }

  /**
   * Executes the one instruction at pc, a load or store, and takes it off the budget. False: generated code
   * left before that, and nothing has changed.
   */
  step(cpu: Cpu): boolean {
    const { budget } = cpu;
    this.#run(cpu.base, 1);
    const done = cpu.budget === 0;
    cpu.budget = done ? budget - 1 : budget;
    return done;
  }

  #execute(base: number, budget: number): number {
    const { gate } = this;
    if (gate === undefined) return this.#run(base, budget);
    gate.goIn();
    try {
      const exit = this.#run(base, budget);
      // Others may have invalidated what was fetched before this worker has the machine again.
      return exit === SLOW ? ANEW : exit;
    } finally {
      gate.comeOut();
    }
  }

  /** Fills what was missing for the instruction at pc. False: the evaluator has to execute it. */
  #resume(
    exit: number,
    cpu: Cpu,
    host: ExecutionHost,
    toOffset: (pa: number) => number,
  ): boolean {
    if (exit === EXIT.DATA_MISS) {
      cpu.dataMisses++;
      return host.dataMiss();
    }
    const pa = host.fetch();
    if (pa < 0) return false;
    const page = pa - (pa % 4096);
    const code = toOffset(page);
    const records = this.recordsOf(page, code);
    if (exit === EXIT.FETCH) {
      cpu.codeMisses++;
      this.#fill(cpu, records);
    } else if (exit === EXIT.HOT) {
      const aligned = cpu.alignMask !== 0;
      const usualFp = cpu.fpEnabled && cpu.fpcr === 0 && (cpu.fpsr & FPSR.IXC) !== 0;
      this.regions.hot({ records, offset: pa % 4096, aligned, usualFp, va: cpu.pc, pa });
    } else if (exit === EXIT.UNFIT) this.regions.unfit(records, pa % 4096);
    else if (exit === EXIT.MISALIGNED) this.regions.misaligned(records);
    else this.#decode(records, code, pa % 4096);
    return true;
  }
}
