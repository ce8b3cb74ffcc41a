/** What the vectors are replayed on. */
import { SharedMemory } from "../../src/base/memory.ts";
import { type Cpu, CpuLayout, SLOT } from "../../src/arm/arch/cpu_state.ts";
import { Evaluator } from "../../src/arm/engine/evaluator.ts";
import { DECODER } from "../../src/arm/isa/table.ts";
import { FlatEnvironment, NotFlat } from "../support/flat_environment.ts";
import { DATA, DATA_SIZE, type MachineState, SP } from "./state.ts";

/** Something that executes instructions. */
export interface Driver {
  readonly name: string;
  /** Executes `words`, which lie one after the other at `state.pc`, and changes `state` in place. */
  run(words: readonly number[], state: MachineState): void;
}

/** Puts `state` into a CPU; its data page goes to byte `dataAt` of the memory. Closes the monitor. */
export function enterState(
  cpu: Cpu,
  memory: SharedMemory,
  dataAt: number,
  state: MachineState,
): void {
  memory.u64.set(state.gpr.subarray(0, SP), (cpu.base + CpuLayout.offset.gpr) / 8);
  memory.st64(cpu.base + CpuLayout.offset.gpr + 8 * SLOT.SP, state.gpr[SP] as bigint);
  memory.u64.set(state.v, (cpu.base + CpuLayout.offset.vreg) / 8);
  memory.u8.set(state.data, dataAt);
  cpu.pc = BigInt(state.pc);
  cpu.nzcv = state.nzcv;
  cpu.fpcr = state.fpcr;
  cpu.fpsr = state.fpsr;
  cpu.monitorOpen = 0;
}

/** Takes the state back from a CPU. */
export function leaveState(
  cpu: Cpu,
  memory: SharedMemory,
  dataAt: number,
  state: MachineState,
): void {
  const gpr = (cpu.base + CpuLayout.offset.gpr) / 8;
  state.gpr.set(memory.u64.subarray(gpr, gpr + SP));
  state.gpr[SP] = memory.ld64(cpu.base + CpuLayout.offset.gpr + 8 * SLOT.SP);
  const v = (cpu.base + CpuLayout.offset.vreg) / 8;
  state.v.set(memory.u64.subarray(v, v + 64));
  state.data.set(memory.u8.subarray(dataAt, dataAt + DATA_SIZE));
  state.pc = Number(cpu.pc);
  state.nzcv = cpu.nzcv;
  state.fpcr = cpu.fpcr;
  state.fpsr = cpu.fpsr;
}

const DATA_AT = 65536;

/** The reference evaluator over flat memory. */
export class EvaluatorDriver implements Driver {
  readonly name: string = "evaluator";
  readonly memory: SharedMemory = SharedMemory.create(2 * DATA_AT);
  readonly cpu: Cpu = CpuLayout.at(this.memory, 0);
  readonly #evaluator: Evaluator;

  constructor(environment?: (cpu: Cpu, memory: SharedMemory) => FlatEnvironment) {
    const range = { va: DATA, size: DATA_SIZE, at: DATA_AT };
    this.#evaluator = new Evaluator(
      this.cpu,
      environment?.(this.cpu, this.memory) ?? new FlatEnvironment(this.cpu, this.memory, range),
    );
  }

  run(words: readonly number[], state: MachineState): void {
    enterState(this.cpu, this.memory, DATA_AT, state);
    for (const word of words) {
      const found = DECODER.decode(word);
      if (!found) throw new NotFlat(`0x${word.toString(16)} is UNDEFINED`);
      this.#evaluator.execute(found.row, found.decoded);
    }
    leaveState(this.cpu, this.memory, DATA_AT, state);
  }
}
