/**
 * How a region is left: an exit is one constant, from which the two ends that all exits share find the pc, the budget
 * and how the flags are held.
 */
import { CpuLayout } from "../arch/cpu_state.ts";
import { REGION_TYPE } from "./interpreter_module.ts";
import { type FlagState, RegionFlags } from "./region_flags.ts";
import type { Graph } from "./region_graph.ts";
import { BUDGET, CPU, LocalRegisters, PAGE, union } from "./region_registers.ts";
import type { UppersOf } from "./region_uppers.ts";
import { FunctionBody, I32, I64 } from "./wasm_assembler.ts";

const O = CpuLayout.offset;

/** An exit's word: the code in its low bits, instructions of the block not executed, offset of the pc, kind of the flags. */
const WORD_UNEXECUTED = 4, WORD_OFFSET = 14, WORD_KIND = 27;

interface Held {
  readonly state: FlagState;
  readonly uppers: UppersOf;
}

/** The state of a region's function, and its exits. */
export abstract class RegionExits {
  readonly asm = new FunctionBody(REGION_TYPE.params, REGION_TYPE.results);
  readonly cpu = CPU;
  readonly registers: LocalRegisters;
  readonly flags: RegionFlags;
  protected readonly pc = this.asm.local(I64);
  /** What an exit has to do, in one word: see {@link exitWord}. Then its code. */
  protected readonly code = this.asm.local(I32);
  protected readonly kind = this.asm.local(I32);
  protected readonly missVa = this.asm.local(I64);
  protected readonly missInfo = this.asm.local(I32);
  /** See {@link LocalRegisters.junkMask}: there when it is wanted. */
  #junk: number | undefined;

  constructor(readonly graph: Graph, packer: number) {
    const [a, b] = [this.asm.local(I64), this.asm.local(I64)];
    this.flags = new RegionFlags(this.asm, { a, b, kind: this.asm.local(I32) }, packer);
    this.registers = new LocalRegisters(this.asm, union(graph, "touched"), union(graph, "written"));
  }

  /** How flags and upper lanes are held at the code at hand. */
  protected get held(): Held {
    return { state: this.flags.state, uppers: this.registers.uppers };
  }
  protected set held({ state, uppers }: Held) {
    this.flags.state = state;
    this.registers.uppers = uppers;
  }

  protected reload(): void {
    this.registers.load();
    this.flags.load(CPU);
  }

  /** Registers, flags, pc and budget to the CPU state: at the two ends that all exits share. */
  protected storeAll(): void {
    const { asm } = this;
    this.registers.store();
    if (this.#junk !== undefined) this.registers.storeUppersOf(this.#junk);
    this.flags.store(CPU);
    asm.get(CPU).get(this.pc).mem("i64.store", O.pc);
    asm.get(CPU).get(BUDGET).mem("i32.store", O.budget);
  }

  /** The access that missed, for whoever fills the TLB. */
  protected noteMiss(): void {
    const { asm } = this;
    asm.get(CPU).get(this.missVa).mem("i64.store", O.faultVa);
    asm.get(CPU).get(this.missInfo).i32(7).op("i32.and").mem("i32.store", O.faultAccess);
    asm.get(CPU).get(this.missInfo).i32(3).op("i32.shr_u").mem("i32.store", O.faultSize);
  }

  protected readExitWord(): void {
    const { asm } = this;
    const word = this.code;
    const field = (shift: number, bits: number) => {
      asm.get(word).i32(shift).op("i32.shr_u").i32((1 << bits) - 1).op("i32.and");
    };
    field(WORD_KIND, 3);
    asm.set(this.kind);
    this.flags.joinNumber(this.kind);
    asm.get(PAGE);
    field(WORD_OFFSET, 13);
    asm.op("i64.extend_i32_u").op("i64.add").set(this.pc);
    asm.get(BUDGET);
    field(WORD_UNEXECUTED, 10);
    asm.op("i32.add").set(BUDGET);
    field(0, 4);
    asm.set(word);
  }

  /** What the ends that all exits share are to make 0. */
  protected noteJunk(): void {
    const mask = this.registers.junkMask();
    if (mask === 0n) return;
    this.#junk ??= this.asm.local(I64);
    this.asm.i64(mask).set(this.#junk);
  }

  /** At `offset`, with the budget of `unexecuted` instructions of the block taken back. */
  protected exitWord(offset: number, unexecuted: number, code: number): number {
    return code | (unexecuted << WORD_UNEXECUTED) | (offset << WORD_OFFSET) |
      (this.flags.number << WORD_KIND);
  }
  protected leaveAt(offset: number, unexecuted: number, code: number, end = "exit"): void {
    const { state } = this.flags;
    this.flags.settle();
    this.noteJunk();
    this.asm.i32(this.exitWord(offset, unexecuted, code)).set(this.code).br(end);
    this.flags.state = state;
  }
}
