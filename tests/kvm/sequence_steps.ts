/** Sequences of port operations at ports that are not a machine's. */
import type { Sequence, SequenceStep } from "../../src/arm/el2_port.ts";
import type { SharedMemory } from "../../src/base/memory.ts";

/** What stands for a port; `told` and `looked` are what steps of these kinds have read last. */
export interface StepPort {
  readonly memory: SharedMemory;
  told: number;
  looked: number;
  readLo(reg: number): number;
  write(reg: number, lo: number, hi: number): void;
  save(reg: number, to: number): void;
  restore(reg: number, from: number): void;
}

function doStep(port: StepPort, step: SequenceStep, argument: number): void {
  const place = "at" in step ? argument + step.at.offset : 0;
  switch (step.step) {
    case "look":
      port.looked = port.readLo(step.reg);
      return;
    case "tell":
      port.told = port.readLo(step.reg);
      return;
    case "change":
      return port.write(step.reg, (port.looked & ~step.clear) | step.set, 0);
    case "readWord":
      return port.memory.st32(place, port.readLo(step.reg));
    case "loadWord":
      return port.write(step.reg, port.memory.ld32(place) & ~step.clear, 0);
    case "saveUnless":
      if ((port.told & (1 << step.bit)) === 0) return port.save(step.reg, place);
      return port.memory.st32(place + 4, port.memory.ld32(place + 4) & ~step.clear);
    case "save":
      return port.save(step.reg, place);
    case "restore":
      return port.restore(step.reg, place);
    case "write":
      return port.write(step.reg, typeof step.lo === "number" ? step.lo : argument, 0);
    default:
      throw new Error(`no step ${step.step}`);
  }
}

/** Does the steps of a sequence that has one argument. */
export function doSteps(port: StepPort, { steps }: Sequence, argument: number): void {
  for (const step of steps) doStep(port, step, argument);
}
