/** A physical CPU as the host kernel has it: its port, and what each step of the host asks of it. */
import * as cpuState from "../arm/arch/cpu_state.ts";
import type { El2Port } from "../arm/el2_port.ts";
import type { HostHardware } from "./hardware.ts";

// Of the module itself: what is imported V8 looks up and checks at each use.
const { CpuLayout, DAIF, LINE } = cpuState;
const LINES = CpuLayout.offset.irqLines >>> 2, MASK = CpuLayout.offset.daif >>> 2;

export class HostCpu {
  readonly port: El2Port;
  readonly #words: Int32Array | undefined;

  constructor(readonly hardware: HostHardware, readonly index: number) {
    this.port = hardware.port(index);
    this.#words = hardware.cpuWords?.(index);
  }

  /** Whether an interrupt waits at its input ({@link HostHardware.irqPending}). */
  get irqPending(): boolean {
    const words = this.#words;
    if (words === undefined) return this.hardware.irqPending(this.index);
    return ((words[LINES] as number) & LINE.IRQ) !== 0;
  }

  /** Whether it masks interrupts: no operation. */
  get irqsOff(): boolean {
    const words = this.#words;
    return words === undefined
      ? this.port.irqsDisabled()
      : ((words[MASK] as number) & DAIF.I) !== 0;
  }
}
