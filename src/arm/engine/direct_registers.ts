/**
 * System registers that a region reaches without being left, though they are more than storage: the counter, which
 * it computes itself, and those of the interrupt controller and of the timers, for which it calls TypeScript with
 * its registers where they are. None of them changes what memory an address means, or how anything is compiled.
 */
import { type SysregName, SYSREGS } from "../arch/sysregs.ts";
import type { Instruction } from "./region_probe.ts";

/** What surrounds regions, as far as they reach it themselves. */
export interface Surroundings {
  /**
   * MRS of the register with file index `named`, at EL1, into the word `to` of the CPU's state and the next: one
   * of {@link ACCESS_END}. The CPU's budget and pc are as they are behind and at the instruction.
   */
  readRegister(cpuIndex: number, named: number, to: number): number;
  /** MSR of what is in the word `from` and the next. */
  writeRegister(cpuIndex: number, named: number, from: number): number;
  readonly time: VirtualTime;
}

/** Where virtual time lies: byte addresses of the memory. */
export interface VirtualTime {
  /** ns when the slice that runs began, 64 bits. */
  readonly nsAt: number;
  /** The instructions that it was given, 32 bits. */
  readonly givenAt: number;
  /** A tick of the counter is 2 to the power of that in ns. */
  readonly tickShift: number;
}

/** What became of an access. */
export const ACCESS_END = {
  DONE: 0,
  /** It is done, and the budget is another. */
  BUDGET: 1,
  /** It is done, and an interrupt is to be taken. */
  IRQ: 2,
  /** Nothing is done: it traps, or is not for the level. */
  LEFT: 3,
} as const;

/** An access that is not a compiled one's, nor the evaluator's. */
export interface DirectAccess {
  readonly kind: "count" | "read" | "write";
  /** The register's file index. */
  readonly named: number;
  /** The general register's offset in the CPU's state. */
  readonly slot: number;
}

/** A guest's SGI always traps, and ICC_SRE_EL1 is written once. */
const CALLED = /^(ICC_(?!SGI|ASGI|SRE)\w+_EL1|CNT[PV]_(CTL|CVAL|TVAL)_EL0|CNTPCT_EL0)$/;
const COUNTER: SysregName = "CNTVCT_EL0";

const NAMED = new Map(
  SYSREGS.filter(({ name }) => name === COUNTER || CALLED.test(name)).map((r) => [r.key, r]),
);

/** How a region executes the instruction if it is such an access. */
export function directAccess({ row, decoded }: Instruction): DirectAccess | undefined {
  const { key } = decoded.shape;
  const register = typeof key === "number" ? NAMED.get(key) : undefined;
  const slot = decoded.slots["t"];
  if (register === undefined || slot === undefined) return undefined;
  const { name, access, index: named } = register;
  if (row.name === "MRS" && access !== "wo") {
    return { kind: name === COUNTER ? "count" : "read", named, slot };
  }
  const writes = row.name === "MSR_reg" && access !== "ro" && name !== COUNTER;
  return writes ? { kind: "write", named, slot } : undefined;
}
