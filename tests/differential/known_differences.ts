/** Recorded cases in which QEMU 7.2 is not right: each with what the manual (DDI 0487) says. */
import { DECODER } from "../../src/arm/isa/table.ts";
import { FPCR } from "../../src/arm/fp/format.ts";
import type { MachineState } from "./state.ts";
import { REGISTER, type Vector } from "./vector.ts";

export interface KnownDifference {
  readonly row: string;
  /** What is right. */
  readonly manual: string;
  /** Whether the recorded case has it; `before` is the state it starts from. */
  readonly applies: (vector: Vector, before: MachineState) => boolean;
}

/** The operand in the low half of Vn. */
function operand(vector: Vector, before: MachineState): bigint {
  return before.v[2 * (((vector.words.at(-1) ?? 0) >>> 5) & 31)] as bigint;
}

export const KNOWN_DIFFERENCES: readonly KnownDifference[] = [
  {
    row: "FJCVTZS",
    manual: "FPToFixedJS: PSTATE.Z is 0 for a number that FPCR.FZ makes zero; QEMU sets it",
    applies: (vector, before) => {
      const magnitude = operand(vector, before) & ((1n << 63n) - 1n);
      return (before.fpcr & FPCR.FZ) !== 0 && magnitude !== 0n && magnitude < 1n << 52n;
    },
  },
  {
    row: "FP_fixed_s_h",
    manual:
      "FCVTZS of half precision with fraction bits writes 16 bits and clears the rest of the " +
      "register; QEMU extends the sign to 32",
    applies: (vector) =>
      vector.registers.some(([register, value]) =>
        register >= REGISTER.V && register < REGISTER.NZCV && value >> 16n === 0xffffn
      ),
  },
];

/** The known difference that a case has, if any. */
export function knownDifference(
  vector: Vector,
  before: MachineState,
): KnownDifference | undefined {
  const row = DECODER.row(vector.words.at(-1) ?? 0);
  return KNOWN_DIFFERENCES.find((d) => d.row === row?.name && d.applies(vector, before));
}
