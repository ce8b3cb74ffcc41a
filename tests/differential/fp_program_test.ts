/** A compiled program full of floating point: its result is qemu-aarch64's, and generated code executes nearly all of it. */
import assert from "node:assert/strict";
import program from "../../fixtures/floating_point/program.bin" with { type: "bytes" };
import expected from "../../fixtures/floating_point/program.json" with { type: "json" };
import { gprOffset, SLOT } from "../../src/arm/arch/cpu_state.ts";
import { FlatEnvironment } from "../support/flat_environment.ts";
import { FlatInterpreter } from "../support/flat_interpreter.ts";

const START = 0x10_0000;
const SIZE = 0x1_0000;
/** Where the function returns to: nothing is there, so the interpreter stops. */
const RETURN = START + SIZE - 4096;
const BRK = 0xd420_0000;

class Program extends FlatInterpreter {
  constructor() {
    super(START, SIZE);
    const range = { va: START, size: SIZE, at: this.flatAt };
    this.useEnvironment(new FlatEnvironment(this.cpu, this.memory, range));
    this.memory.u8.set(program, this.flatAt);
    this.memory.st32(this.offsetOf(RETURN), BRK);
  }

  override executeSlow(): void {
    if (this.cpu.pc === BigInt(RETURN)) this.stopped = true;
    else super.executeSlow();
  }

  /** The function's result, and how many instructions it took. */
  call(scale: number): { result: bigint; insns: number } {
    const { cpu, memory } = this;
    const set = (slot: number, value: number) =>
      memory.st64(cpu.base + gprOffset(slot), BigInt(value));
    set(0, scale);
    set(30, RETURN);
    set(SLOT.SP, RETURN - 64);
    cpu.pc = BigInt(START);
    cpu.fpcr = cpu.fpsr = 0;
    let insns = 0;
    do insns += this.run(100_000); while (!this.stopped);
    return { result: memory.ld64(cpu.base + gprOffset(0)), insns };
  }
}

Deno.test("a compiled program computes what it computes under QEMU, by generated code", () => {
  const machine = new Program();
  expected.forEach((hash, i) => {
    machine.slow = 0;
    const { result, insns } = machine.call(i + 1);
    assert.equal(result.toString(16).padStart(16, "0"), hash);
    assert.ok(insns > 100_000);
    // The first inexact operation, which sets FPSR.IXC.
    assert.ok(machine.slow <= 2, `${machine.slow} instructions went to the evaluator`);
  });
});
