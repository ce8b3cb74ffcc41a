/** The interrupt lines of one CPU, as the controller drives them. */
import { type Cpu, CpuLayout, LINE, wordsOf } from "../arch/cpu_state.ts";

/** Who is told of changes. */
export interface LinesListener {
  /** Called when the lines of a CPU changed, after `cpu.irqLines` is set. */
  linesChanged: (cpuIndex: number) => void;
}

/** The word of a CPU's `irqLines`. */
const LINES = CpuLayout.offset.irqLines >>> 2;
const PHYSICAL = LINE.IRQ | LINE.FIQ;
const VIRTUAL = LINE.VIRQ | LINE.VFIQ;

/** A CPU's IRQ, FIQ, VIRQ and VFIQ. */
export class CpuLines {
  // V8 knows what a field holds, if that is the first it has held: without "declare" that were undefined.
  declare readonly cpuIndex: number;
  declare readonly listener: LinesListener;
  declare private readonly words: Int32Array;

  constructor(cpu: Cpu, cpuIndex: number, listener: LinesListener) {
    this.cpuIndex = cpuIndex;
    this.listener = listener;
    this.words = wordsOf(cpu);
  }

  /** LINE.IRQ, LINE.FIQ or 0: what the physical interface signals. */
  drivePhysical(line: number): void {
    const before = this.words[LINES] as number;
    const after = (before & ~PHYSICAL) | line;
    if (after !== before) this.#change(after);
  }

  /** LINE.VIRQ, LINE.VFIQ or 0: what the virtual interface signals. */
  driveVirtual(line: number): void {
    const before = this.words[LINES] as number;
    const after = (before & ~VIRTUAL) | line;
    if (after !== before) this.#change(after);
  }

  #change(lines: number): void {
    this.words[LINES] = lines;
    this.listener.linesChanged(this.cpuIndex);
  }
}
