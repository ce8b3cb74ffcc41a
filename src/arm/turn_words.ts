/** What a turn looks at, as words: of a CPU's state, of a {@link TurnLayout}, of the machine. */
import { TWO32 } from "../base/bits.ts";
import { layout, u32, u53 } from "../base/struct.ts";
import { CpuLayout, sysregOffset } from "./arch/cpu_state.ts";
import { R } from "./arch/sysregs.ts";
import { TurnLayout } from "./engine/turn_loop.ts";

/** Words of a CPU's state. */
export const WORD = {
  PC: CpuLayout.offset.pc >>> 2,
  EL: CpuLayout.offset.el >>> 2,
  HALT: CpuLayout.offset.halt >>> 2,
  LINES: CpuLayout.offset.irqLines >>> 2,
  CHECK: CpuLayout.offset.checkIrq >>> 2,
  MONITOR: CpuLayout.offset.monitorOpen >>> 2,
  EVENT: CpuLayout.offset.eventRegister >>> 2,
  PMU: CpuLayout.offset.pmuActive >>> 2,
  INSNS: CpuLayout.offset.insns >>> 2,
  BUDGET: CpuLayout.offset.budget >>> 2,
  MAINTENANCE: CpuLayout.offset.maintenance >>> 2,
  HCR: sysregOffset(R.HCR_EL2) >>> 2,
} as const;

/** Words of a {@link TurnLayout}. */
export const BLOCK = {
  SLICE_CPU: TurnLayout.offset.sliceCpu >>> 2,
  SLICE_BUDGET: TurnLayout.offset.sliceBudget >>> 2,
  COUNT: TurnLayout.offset.count >>> 2,
  CPUS: TurnLayout.offset.cpus >>> 2,
  INSNS: TurnLayout.offset.insns >>> 2,
  TURNS: TurnLayout.offset.turns >>> 2,
  POWER: TurnLayout.offset.power >>> 2,
  NS: TurnLayout.offset.ns >>> 2,
  QUANTUM: TurnLayout.offset.quantum >>> 2,
  HOST_EL: TurnLayout.offset.hostEl >>> 2,
  SEVERAL: TurnLayout.offset.several >>> 2,
  PAUSE: TurnLayout.offset.pause >>> 2,
  PROGRESS: TurnLayout.offset.progress >>> 2,
  GIVEN: TurnLayout.offset.given >>> 2,
  EXIT: TurnLayout.offset.exit >>> 2,
  LIMIT: TurnLayout.offset.limit >>> 2,
  DEADLINE: TurnLayout.offset.deadline >>> 2,
  END: TurnLayout.offset.end >>> 2,
  TURN_OF: TurnLayout.offset.turnOf >>> 2,
  TURN_END: TurnLayout.offset.turnEnd >>> 2,
  BEFORE: TurnLayout.offset.before >>> 2,
  OVER: TurnLayout.offset.over >>> 2,
  OVER_AT_FIRST: TurnLayout.offset.overAtFirst >>> 2,
} as const;

/** What the machine counts, and what ends its run. */
export const MachineLayout = layout("machine", {
  /** Instructions retired by all CPUs. */
  insns: u53(),
  /** Turns taken; inputs from outside are stamped with it. */
  turns: u53(),
  /** The power event that nobody has taken yet: its position in the machine's list; 0: there is none. */
  power: u32(),
});

/** Words of a {@link MachineLayout}. */
export const MACHINE = {
  INSNS: MachineLayout.offset.insns >>> 2,
  TURNS: MachineLayout.offset.turns >>> 2,
  POWER: MachineLayout.offset.power >>> 2,
} as const;

/** Notes a moment of virtual time in whole ns, or a count, as the two words from `at` on; Infinity: never. */
export function setMoment(block: Int32Array, at: number, value: number): void {
  const whole = Math.ceil(value);
  block[at] = value === Infinity ? -1 : whole | 0;
  block[at + 1] = value === Infinity ? 0x7fff_ffff : Math.floor(whole / TWO32) | 0;
}
