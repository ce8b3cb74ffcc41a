/**
 * The interpreter over flat memory: virtual addresses are offsets into one range, every page is
 * readable, writable and executable. What the interpreter leaves goes to the evaluator over the same
 * environment.
 */
import { Arena } from "../../src/base/arena.ts";
import { alignUp } from "../../src/base/bits.ts";
import { SharedMemory } from "../../src/base/memory.ts";
import { type Cpu, CpuLayout, sysregOffset, wordsOf } from "../../src/arm/arch/cpu_state.ts";
import {
  CODE_TLB_SIZE,
  DATA_TLB,
  DATA_TLB_ENTRIES,
  DATA_TLB_ENTRY,
  DATA_TLB_SIZE,
} from "../../src/arm/arch/tlb_layout.ts";
import { type Environment, ExceptionTaken } from "../../src/arm/engine/environment.ts";
import { Evaluator } from "../../src/arm/engine/evaluator.ts";
import {
  type ExecutionHost,
  Interpreter,
  InterpreterCode,
} from "../../src/arm/engine/interpreter.ts";
import { RECORD_PAGE_SIZE } from "../../src/arm/engine/records.ts";
import type { RegionOptions } from "../../src/arm/engine/regions.ts";
import { DECODER, ROWS } from "../../src/arm/isa/table.ts";
import type { Row } from "../../src/arm/isa/row.ts";

/** Bytes of memory in front of the flat range for the CPU and its TLBs, without the predecoded code. */
const CONTROL = 1 << 18;

/** One CPU and `size` bytes of memory at virtual address `va`; `codePages` of code are kept predecoded. */
export class FlatInterpreter implements ExecutionHost {
  readonly memory: SharedMemory;
  readonly arena: Arena;
  readonly cpu: Cpu;
  readonly words: Int32Array;
  readonly interpreter: Interpreter;
  readonly flatAt: number;
  stopped = false;
  /** Words that went to the evaluator. */
  slow = 0;
  /** Data TLB misses. */
  misses = 0;
  #missVa = -1;
  #missAt = -1;
  #evaluator: Evaluator | undefined;

  constructor(
    readonly va: number,
    readonly size: number,
    rows: readonly Row[] = ROWS,
    regions: Partial<RegionOptions> = { hotAfter: 0 },
    codePages = 16,
  ) {
    this.flatAt = alignUp(CONTROL + codePages * RECORD_PAGE_SIZE, 65536);
    this.memory = SharedMemory.create(this.flatAt + size);
    this.arena = new Arena("control", this.memory, 64, this.flatAt);
    this.cpu = this.arena.make(CpuLayout);
    this.words = wordsOf(this.cpu);
    this.cpu.tlb = this.cpu.tlbUnprivileged = this.arena.reserve(DATA_TLB_SIZE, 64);
    this.cpu.codeTlb = this.arena.reserve(CODE_TLB_SIZE, 64);
    this.cpu.fpEnabled = true;
    this.memory.u8.fill(0xff, this.cpu.tlb, this.cpu.tlb + DATA_TLB_SIZE);
    this.memory.u8.fill(0xff, this.cpu.codeTlb, this.cpu.codeTlb + CODE_TLB_SIZE);
    const code = this.makeCode(rows, this.memory.memory.buffer.byteLength / 65536);
    this.interpreter = new Interpreter(code, this.memory, this.arena, codePages, regions);
    this.interpreter.onCheckAll =
      this.interpreter.onDropAll =
        () => this.memory.u8.fill(0xff, this.cpu.codeTlb, this.cpu.codeTlb + CODE_TLB_SIZE);
  }

  /** The interpreter's code; for who wants another. */
  protected makeCode(rows: readonly Row[], memoryPages: number): InterpreterCode {
    return new InterpreterCode(rows, memoryPages);
  }

  /** What executes the instructions that are not compiled. */
  useEnvironment(environment: Environment): void {
    this.#evaluator = new Evaluator(this.cpu, environment);
  }

  /** Byte offset in the memory of virtual address `va`. */
  offsetOf(va: number): number {
    return this.flatAt + (va - this.va);
  }

  /** Runs at most `count` instructions from the CPU's pc and returns how many it took. */
  run(count: number): number {
    this.stopped = false;
    this.cpu.budget = count;
    this.interpreter.run(this.cpu, this, (pa) => this.offsetOf(pa));
    return count - this.cpu.budget;
  }

  /** Physical address of the instruction at the pc; {@link offsetOf} says where it lies. */
  fetch(): number {
    return Number(this.cpu.pc);
  }
  dataMiss(): boolean {
    this.misses++;
    const va = Number(this.cpu.faultVa);
    // What misses again right after it was filled is the evaluator's, as on the machine.
    const again = va === this.#missVa && this.cpu.budget === this.#missAt;
    this.#missVa = again ? -1 : va;
    this.#missAt = this.cpu.budget;
    if (again) return false;
    const inside = va >= this.va && va + this.cpu.faultSize <= this.va + this.size;
    const crosses = (va % 4096) + this.cpu.faultSize > 4096;
    if (!inside || crosses) {
      return false;
    }
    const page = va - (va % 4096);
    const entry = this.cpu.tlb + ((page / 4096) % DATA_TLB_ENTRIES) * DATA_TLB_ENTRY;
    this.memory.st53(entry + DATA_TLB.READ_TAG, page);
    this.memory.st53(entry + DATA_TLB.WRITE_TAG, page);
    this.memory.st32(entry + DATA_TLB.ADDEND, this.flatAt - this.va);
    return true;
  }
  executeLeft(): void {
    this.executeSlow();
  }
  executeSlow(): void {
    this.slow++;
    this.#missVa = -1;
    const word = this.memory.ld32(this.offsetOf(this.fetch()));
    const found = DECODER.decode(word);
    if (!found || !this.#evaluator) {
      this.stopped = true;
      return;
    }
    try {
      this.#evaluator.execute(found.row, found.decoded);
    } catch (e) {
      if (!(e instanceof ExceptionTaken)) throw e;
      this.stopped = true;
    }
  }
  checkInterrupts(): void {}
}

/** Register-file byte offset, for tests that set system registers directly. */
export { sysregOffset };
