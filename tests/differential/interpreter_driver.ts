/** The WebAssembly interpreter over flat memory, as a driver of vectors. */
import { FlatInterpreter } from "../support/flat_interpreter.ts";
import { FlatEnvironment } from "../support/flat_environment.ts";
import { type Driver, enterState, leaveState } from "./driver.ts";
import { CODE, DATA, type MachineState } from "./state.ts";

const START = CODE - (CODE % 4096);
const PAGE = 4096;

/** Instructions that generated code does not execute go to the evaluator over the same memory. */
export class InterpreterDriver implements Driver {
  readonly name = "interpreter";
  readonly flat: FlatInterpreter = new FlatInterpreter(START, 2 * PAGE);

  constructor() {
    const { flat } = this;
    const range = { va: START, size: 2 * PAGE, at: flat.flatAt };
    flat.useEnvironment(new FlatEnvironment(flat.cpu, flat.memory, range));
  }

  run(words: readonly number[], state: MachineState): void {
    const { flat } = this;
    const dataAt = flat.offsetOf(DATA);
    enterState(flat.cpu, flat.memory, dataAt, state);
    flat.memory.u8.fill(0, flat.offsetOf(START), flat.offsetOf(START) + PAGE);
    words.forEach((word, i) => flat.memory.st32(flat.offsetOf(state.pc + 4 * i), word));
    flat.interpreter.invalidateAll();
    flat.run(words.length);
    leaveState(flat.cpu, flat.memory, dataAt, state);
  }
}
